//! Signs the requests of a session, if its credential has a [`Signer`].
//!
//! This is the only place where signatures are made. Each try of a request is signed anew right before it is sent, because a
//! signature contains the time and a nonce that servers accept once. A request to another origin than the signer's, such as
//! the target of a redirect or a link in a response, is never signed.

use super::HttpResponse;
use crate::credentials::Signer;
use crate::credentials::signer::{SignedResponse, UnsignedRequest};
use crate::model::{Class, Failure, Timestamp};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use url::Url;

/// The signer of a session, and what the service said about its signatures.
pub struct Signing {
    signer: Signer,
    signed: AtomicBool,
    refusal: Mutex<Option<Failure>>,
}

impl Signing {
    /// Starts to sign with `signer`.
    #[must_use]
    pub fn new(signer: Signer) -> Arc<Signing> {
        Arc::new(Signing { signer, signed: AtomicBool::new(false), refusal: Mutex::default() })
    }

    /// Sets the headers of the signature. A header of the same name that the engine set is replaced.
    ///
    /// # Errors
    /// Returns the errors of the signer, and `Bug` for a header that is not valid.
    pub(super) fn sign(&self, headers: &mut HeaderMap, request: &UnsignedRequest<'_>) -> Result<(), Failure> {
        if !self.signer.covers(request.url) {
            return Ok(());
        }
        for (name, value) in self.signer.headers(request)? {
            let invalid = || {
                Failure::new(
                    Class::CredentialMissing,
                    format!("the {} signature cannot be sent", self.signer.scheme()),
                    "a key of the service principal contains a line break or another character that a header does not allow: remove it",
                )
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        self.signed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Notes what a response says about the signature. Returns true if the request is to be sent again with another one.
    pub(super) fn learn(&self, url: &Url, response: &HttpResponse, now: Timestamp) -> bool {
        if !self.signer.covers(url) {
            return false;
        }
        let HttpResponse { status, headers, body, .. } = response;
        let response = SignedResponse { status: *status, headers, body, now };
        let again = self.signer.wants_another(&response);
        let refusal = if again { None } else { self.signer.refusal(&response) };
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        again
    }

    /// Returns `failure` with the reason that only the signer knows: that the service refused the signature, or that nothing
    /// was signed, because no request went to the signer's origin.
    #[must_use]
    pub fn explain(&self, failure: Failure) -> Failure {
        let about_signature = matches!(
            failure.class,
            Class::CredentialRejected | Class::PermissionDenied | Class::Misconfigured | Class::Remote | Class::WrongService
        );
        let detail =
            if failure.detail.is_empty() { failure.title.clone() } else { format!("{}: {}", failure.title, failure.detail) };
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(refusal), true) = (refusal, about_signature) {
            let detail = if refusal.detail.is_empty() { detail } else { format!("{}; {detail}", refusal.detail) };
            return refusal.detail(detail);
        }
        let refused = matches!(failure.class, Class::CredentialRejected | Class::PermissionDenied | Class::CredentialMissing);
        if refused && !self.signed.load(Ordering::Relaxed) {
            let (scheme, origin) = (self.signer.scheme(), self.signer.origin());
            return Failure::new(
                Class::Misconfigured,
                format!("no request was signed: the {scheme} credential signs requests to {origin} only"),
                format!("if {origin} is the right address, correct the resource id; otherwise correct the service principal in the policy"),
            )
            .detail(detail);
        }
        failure
    }
}
