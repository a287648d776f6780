//! TLS to a database server: chain and host name are always verified.

use super::uri::{Server, Tls, misconfigured};
use crate::model::{Class, Failure};
use crate::policy::Network;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::sync::Arc;

/// Whether this connection is encrypted, once the address is known.
///
/// Clear text needs either a loopback address or `sslmode=disable` in the resource id.
///
/// # Errors
/// `Misconfigured` for `prefer` on an address that is not loopback.
pub fn encrypted(server: &Server, address: SocketAddr) -> Result<bool, Failure> {
    let loopback = address.ip().to_canonical().is_loopback();
    match server.tls {
        Tls::Verify => Ok(true),
        Tls::Disable => Ok(false),
        Tls::Unsaid => Ok(!loopback),
        Tls::Prefer if loopback => Ok(false),
        Tls::Prefer => Err(misconfigured(
            format!("{server}: sslmode=prefer may fall back to clear text and is accepted on loopback only"),
            "write sslmode=verify-full, or sslmode=disable to go without encryption",
        )),
    }
}

/// A client configuration with the machine's certificate authorities and those of `network.ca_file`.
///
/// # Errors
/// `Misconfigured` when the file cannot be read, `Network` when the machine has no authorities at all.
pub fn client(network: &Network) -> Result<rustls::ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let extra = extra_roots(network)?;
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(|error| {
        Failure::new(
            Class::Network,
            "no certificate authorities are known on this machine",
            "install the package ca-certificates, or name a PEM file in the policy's network.ca_file",
        )
        .detail(error.to_string())
    })?;
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Class::Bug, "TLS cannot be set up", "report this").detail(error.to_string()))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// The certificates of `network.ca_file`.
fn extra_roots(network: &Network) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let Some(path) = &network.ca_file else {
        return Ok(Vec::new());
    };
    let unreadable = |words: String| {
        misconfigured(
            format!("the policy's network.ca_file {} cannot be read", path.display()),
            "name a readable file of PEM certificates in network.ca_file",
        )
        .detail(words)
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?.collect();
    let all = all.map_err(|error| unreadable(error.to_string()))?;
    if all.is_empty() {
        return Err(unreadable("it holds no PEM certificate".to_string()));
    }
    Ok(all)
}

/// The failure of a TLS handshake, from the error's words.
#[must_use]
pub fn failure(server: &Server, words: &str) -> Failure {
    let fix = if words.contains("UnknownIssuer") {
        "name the issuer's PEM file in the policy's network.ca_file".to_string()
    } else if words.contains("not valid for name") {
        "use the host name that the server's certificate carries in the resource id".to_string()
    } else if words.contains("does not support TLS") || words.contains("does not have this capability") {
        "switch TLS on at the server, or write ?sslmode=disable into the resource id to go without encryption".to_string()
    } else {
        format!("check the certificate and the TLS versions of {}", server.authority())
    };
    Failure::new(Class::Network, format!("{server}: TLS failed"), fix).detail(words)
}
