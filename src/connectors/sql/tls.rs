//! TLS to a database server. The certificate chain and the host name are always verified.

use super::server::{DatabaseServer, Tls};
use crate::model::{Class, Failure};
use std::net::SocketAddr;

/// Decides whether a connection to `address` is encrypted.
///
/// Clear text requires a loopback address, or `sslmode=disable` in the resource id.
///
/// # Errors
/// `Misconfigured` for `sslmode=prefer` on an address that is not loopback.
pub fn encrypted(server: &DatabaseServer, address: SocketAddr) -> Result<bool, Failure> {
    let loopback = address.ip().to_canonical().is_loopback();
    match server.tls {
        Tls::Verify => Ok(true),
        Tls::Disable => Ok(false),
        Tls::Unspecified => Ok(!loopback),
        Tls::Prefer if loopback => Ok(false),
        Tls::Prefer => Err(Failure::new(
            Class::Misconfigured,
            format!("{server}: sslmode=prefer may fall back to clear text, so it is accepted on loopback only"),
            "write sslmode=verify-full, or sslmode=disable to connect without encryption",
        )),
    }
}

/// The failure for a TLS handshake. Its fix depends on the error message.
#[must_use]
pub fn failure(server: &DatabaseServer, message: &str) -> Failure {
    let fix = if message.contains("UnknownIssuer") {
        "name the PEM file of the issuer in the policy's network.ca_file".to_string()
    } else if message.contains("not valid for name") {
        "use a host name in the resource id that the certificate of the server contains".to_string()
    } else if message.contains("does not support TLS") || message.contains("does not have this capability") {
        "enable TLS on the server, or add ?sslmode=disable to the resource id to connect without encryption".to_string()
    } else {
        format!("check the certificate and the TLS versions of {}", server.authority())
    };
    Failure::new(Class::Network, format!("{server}: the TLS handshake failed"), fix).detail(message)
}
