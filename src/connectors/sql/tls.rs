//! TLS to a database server: chain and host name are always verified.

use super::uri::{Server, Tls, misconfigured};
use crate::model::{Class, Failure};
use std::net::SocketAddr;

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
