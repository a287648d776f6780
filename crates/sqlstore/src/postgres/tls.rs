//! Which certificates of servers are trusted.

use super::failure::chain;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use std::path::Path;
use std::sync::Arc;

/// Trusts the authorities of the machine and those in `ca_file`.
///
/// # Errors
/// Why the file or the authorities cannot be used.
pub(super) fn config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let own = ca_file.map_or(Ok(Vec::new()), authorities)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match Verifier::new_with_extra_roots(own.iter().cloned(), Arc::clone(&provider)) {
        Ok(verifier) => Arc::new(verifier),
        // A machine can have no certificate authorities at all.
        Err(error) if own.is_empty() => {
            return Err(format!("could not use the certificate authorities of this machine: {error}"));
        }
        Err(_) => {
            let mut roots = RootCertStore::empty();
            own.into_iter().try_for_each(|certificate| roots.add(certificate)).map_err(|error| chain(&error))?;
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
            verifier.map_err(|error| chain(&error))?
        }
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| chain(&error))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{} does not hold a certificate in PEM form", file.display())),
        Err(error) => Err(format!("could not read the certificates in {}: {error}", file.display())),
    }
}
