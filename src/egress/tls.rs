//! Sets up TLS to trust the certificate authorities of the machine and those in the policy's `ca_file`.

use crate::model::{Class, Failure};
use crate::operator_file;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use std::path::Path;
use std::sync::Arc;

/// The maximum size of `network.ca_file` in bytes. The authorities of a whole operating system are about 250 KB.
const MAX_CA_BYTES: u64 = 4 << 20;

/// Returns a client configuration that trusts the authorities of the machine and those in `ca_file`.
///
/// # Errors
/// Returns `Misconfigured` if the file cannot be used or TLS cannot be set up.
pub fn config(ca_file: Option<&Path>) -> Result<ClientConfig, Failure> {
    let own = ca_file.map(authorities).transpose()?.unwrap_or_default();
    trusting(own).map_err(unusable)
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

fn trusting(own: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    if let Ok(verifier) = Verifier::new_with_extra_roots(own.iter().cloned(), provider) {
        let verified = builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        return Ok(verified.with_no_client_auth());
    }
    // On a machine without certificate authorities, `http:` still works, and `https:` works with the authorities in
    // `ca_file`.
    let mut roots = RootCertStore::empty();
    own.into_iter().try_for_each(|certificate| roots.add(certificate))?;
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let invalid = |reason: String| {
        let title = format!("could not use network.ca_file {}", file.display());
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
