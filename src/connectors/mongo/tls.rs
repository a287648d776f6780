//! TLS to a server. The certificate chain and the host name are always verified.

use super::errors::Parties;
use super::login::ClientCertificate;
use super::options::Tls;
use crate::egress::tls as trust;
use crate::model::{Class, Failure};
use rustls::{AlertDescription, ClientConfig};
use std::net::SocketAddr;
use std::path::Path;

/// Whether a connection to `address` is encrypted: always, except on loopback without an option, and with `tls=false`.
#[must_use]
pub fn encrypted(tls: Tls, address: SocketAddr) -> bool {
    match tls {
        Tls::Verify => true,
        Tls::Disable => false,
        Tls::Unspecified => !address.ip().to_canonical().is_loopback(),
    }
}

/// The configuration of TLS, with the client certificate if there is one.
///
/// # Errors
/// `Misconfigured` if `network.ca_file` cannot be used or the key does not fit the certificate.
pub fn config(ca_file: Option<&Path>, certificate: Option<&ClientCertificate>) -> Result<ClientConfig, Failure> {
    match certificate {
        None => trust::config(ca_file),
        Some(certificate) => {
            let certificate = certificate.clone();
            trust::config_with_client_certificate(ca_file, certificate.chain, certificate.key)
        }
    }
}

/// The error of TLS in an error of the stream.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The failure for an alert of the server, or `None` if the error is another one.
#[must_use]
pub fn alert(parties: &Parties, error: &std::io::Error) -> Option<Failure> {
    let location = &parties.location;
    let rustls::Error::AlertReceived(alert) = tls_error(error)? else { return None };
    let failure = match alert {
        AlertDescription::InternalError => {
            let address = match parties.local {
                Some(address) => format!("this machine connects from {address}; behind NAT the public address counts"),
                None => "the public address of this machine counts".to_string(),
            };
            let title = format!("{location}: {} ended the TLS handshake with alert 80 (internal error)", parties.member);
            let fix = if parties.is_atlas() {
                format!(
                    "Atlas does this if the address is not on the IP access list of the project ({address}): add it in Atlas under \
                     Security, Network Access, or: atlas accessLists create ADDRESS --type ipAddress"
                )
            } else {
                format!("check the log of the server and its list of allowed addresses ({address})")
            };
            Failure::new(Class::Network, title, fix)
        }
        AlertDescription::CertificateRequired => Failure::new(
            Class::CredentialMissing,
            format!("{location}: the server requires a client certificate"),
            "store it beside the login where credential_locator points: {\"certificate\":\"PEM\",\"private_key\":\"PEM\"}, with user and \
             password if the user has one",
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError
            if parties.certificate =>
        {
            Failure::new(
                Class::CredentialRejected,
                format!("{location}: the server does not accept the client certificate"),
                "store a certificate that the authority of the server (net.tls.CAFile) issued and that is still valid",
            )
        }
        _ => Failure::new(
            Class::Network,
            format!("{location}: the TLS handshake failed"),
            format!("check the certificate and the TLS versions of {}", parties.member),
        ),
    };
    Some(failure.detail(error.to_string()))
}

/// The failure for a TLS handshake.
#[must_use]
pub fn failure(parties: &Parties, error: &std::io::Error) -> Failure {
    if let Some(failure) = alert(parties, error) {
        return failure;
    }
    let (location, member) = (&parties.location, &parties.member);
    let message = error.to_string();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    let not_tls = tls_error(error).is_none() || matches!(tls_error(error), Some(rustls::Error::InvalidMessage(_)));
    let fix = if says(&["UnknownIssuer"]) {
        "name the PEM file of the issuer in the policy's network.ca_file; for a self-signed certificate, that of the certificate itself"
            .to_string()
    } else if says(&["CaUsedAsEndEntity"]) {
        format!(
            "the certificate is self-signed: have its fingerprint confirmed, write it to a file and name the file in the policy's \
             network.ca_file: openssl s_client -connect {member} </dev/null | openssl x509 -out server.crt"
        )
    } else if says(&["Expired", "NotValidYet", "expired", "not valid yet"]) {
        "renew the certificate of the server, and check the clocks of both machines".to_string()
    } else if says(&["not valid for name"]) {
        "use a host name in the resource id that the certificate of the server contains; the members of a replica set are called by the \
         names that it announces"
            .to_string()
    } else if not_tls {
        "enable TLS on the server (net.tls.mode), or add tls=false to the resource id to connect without encryption".to_string()
    } else {
        format!("check the certificate and the TLS versions of {member}")
    };
    Failure::new(Class::Network, format!("{location}: the TLS handshake with {member} failed"), fix).detail(message)
}
