//! Accepts a server certificate that is listed itself in the policy's `ca_file`.
//!
//! A self-signed certificate, as section 19.9.5 of the PostgreSQL manual creates one, is marked as an authority and often
//! has its name only in the subject, so the usual verification refuses it even where the policy lists exactly this
//! certificate. Libpq accepts it. Being listed byte for byte proves more than a chain does; the name and the validity are
//! checked all the same.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::{rfc4519, rfc5280};

/// Verifies as `inner` does, and accepts the listed certificates themselves.
#[derive(Debug)]
pub struct PinnedCertificates {
    pub listed: Vec<CertificateDer<'static>>,
    pub inner: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for PinnedCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(_) if self.listed.iter().any(|listed| listed == end_entity) => verify_listed(end_entity, server_name, now),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Checks the validity and the name of a listed certificate.
fn verify_listed(listed: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
    let certificate = Certificate::from_der(listed).map_err(|_| Error::from(CertificateError::BadEncoding))?;
    let validity = &certificate.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    let by_alternative_name = verify_server_name(&ParsedCertificate::try_from(listed)?, name);
    if by_alternative_name.is_err() && !has_alternative_name(&certificate) && is_common_name(&certificate, name) {
        return Ok(ServerCertVerified::assertion());
    }
    by_alternative_name.map(|()| ServerCertVerified::assertion())
}

fn has_alternative_name(certificate: &Certificate) -> bool {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    extensions.iter().any(|extension| extension.extn_id == rfc5280::ID_CE_SUBJECT_ALT_NAME)
}

/// Whether the subject names the server. Like libpq, this looks at the common name only if the certificate has no alternative
/// names (manual, "SSL Support"). Wildcards are not accepted.
fn is_common_name(certificate: &Certificate, name: &ServerName<'_>) -> bool {
    let wanted = name.to_str();
    let attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|names| names.0.iter());
    attributes.filter(|attribute| attribute.oid == rfc4519::CN).any(|attribute| {
        let utf8 = attribute.value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_string());
        let text =
            utf8.or_else(|| attribute.value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_string()));
        text.is_some_and(|text| text.eq_ignore_ascii_case(&wanted))
    })
}
