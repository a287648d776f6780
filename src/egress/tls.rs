//! Sets up TLS to trust the certificate authorities of the machine and those in the files that the policy names.

use super::pinned::PinnedCertificates;
use crate::model::{Class, Failure};
use crate::operator_file;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use std::path::Path;
use std::sync::Arc;

/// The maximum size of a file with certificate authorities in bytes. The authorities of a whole operating system are about 250 KB.
const MAX_CA_BYTES: u64 = 4 << 20;

/// Returns a client configuration that trusts the authorities of the machine and those in `network.ca_file`.
///
/// # Errors
/// As [`config_with`].
pub fn config(ca_file: Option<&Path>) -> Result<ClientConfig, Failure> {
    let files: Vec<(&Path, &str)> = ca_file.map(|file| (file, "network.ca_file")).into_iter().collect();
    config_with(&files)
}

/// Returns a client configuration that trusts the authorities of the machine and those in `files`. Each file is given with
/// the key of the policy that names it.
///
/// # Errors
/// Returns `Misconfigured` if a file cannot be used or TLS cannot be set up.
pub fn config_with(files: &[(&Path, &str)]) -> Result<ClientConfig, Failure> {
    let mut own = Vec::new();
    for (file, policy_key) in files {
        own.extend(authorities(file, policy_key)?);
    }
    trusting(own, None).map_err(unusable)
}

/// Returns a client configuration as [`config`] does, which also proves with `chain` and `key` who AAM is.
///
/// # Errors
/// As [`config_with`], and `Misconfigured` if the key does not belong to the certificate.
pub fn config_with_client_certificate(
    ca_file: Option<&Path>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Failure> {
    let own = ca_file.map_or(Ok(Vec::new()), |file| authorities(file, "network.ca_file"))?;
    trusting(own, Some((chain, key))).map_err(|error| {
        let fix = "store a certificate and the private key that belongs to it, both in PEM form";
        Failure::new(Class::Misconfigured, "could not set up TLS with the client certificate", fix).detail(error.to_string())
    })
}

fn unusable(error: rustls::Error) -> Failure {
    let fix = "check network.ca_file in the policy";
    Failure::new(Class::Misconfigured, "could not set up TLS", fix).detail(error.to_string())
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// A certificate chain and its private key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn trusting(own: Vec<CertificateDer<'static>>, identity: Option<Identity>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let inner: Arc<dyn ServerCertVerifier> = match Verifier::new_with_extra_roots(own.iter().cloned(), Arc::clone(&provider)) {
        Ok(verifier) => Arc::new(verifier),
        // On a machine without certificate authorities, `http:` still works, and `https:` works with the authorities in
        // `ca_file`.
        Err(_) => {
            let mut roots = RootCertStore::empty();
            own.iter().cloned().try_for_each(|certificate| roots.add(certificate))?;
            if roots.is_empty() {
                return Ok(builder()?.with_root_certificates(roots).with_no_client_auth());
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
            verifier.map_err(|error| rustls::Error::General(error.to_string()))?
        }
    };
    let verifier = Arc::new(PinnedCertificates { listed: own, inner });
    let builder = builder()?.dangerous().with_custom_certificate_verifier(verifier);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key),
    }
}

fn authorities(file: &Path, policy_key: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let invalid = |reason: String| {
        let title = format!("could not use {policy_key} {}", file.display());
        Failure::new(
            Class::Misconfigured,
            title,
            "name a readable file with certificates in PEM form (-----BEGIN CERTIFICATE-----)",
        )
        .detail(reason)
    };
    let bytes = operator_file::read(file, MAX_CA_BYTES).map_err(|error| invalid(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| invalid(error.to_string()))?;
    if found.is_empty() { Err(invalid("it does not hold a certificate".to_string())) } else { Ok(found) }
}
