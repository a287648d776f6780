//! The certificate authority of one run.

use crate::target::Target;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use url::Host;

/// Certificates of this many hosts are kept.
const MAX_HOSTS: usize = 256;

/// Days before and after today on which the certificates are valid. A run takes minutes; the days before allow for a
/// program that reads the time in a wrong zone.
const DAYS_BEFORE: i32 = 2;
const DAYS_AFTER: i32 = 30;

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthorityError(String);

impl AuthorityError {
    fn new(error: impl fmt::Display) -> AuthorityError {
        AuthorityError(error.to_string())
    }
}

/// A certificate authority that lives in memory only. Who trusts it trusts the proxy for every host, so make one for
/// each run and give its certificate to one program.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// One key for all hosts: a key for each would protect nothing more, and costs time.
    key: KeyPair,
    hosts: Mutex<HashMap<Host<String>, Arc<ServerConfig>>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority with keys of its own.
    ///
    /// # Errors
    /// Fails if the system does not give random numbers.
    pub fn new() -> Result<Authority, AuthorityError> {
        let mut params = params()?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = name("AAM, for one run");
        let key = KeyPair::generate().map_err(AuthorityError::new)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(AuthorityError::new)?;
        let key = KeyPair::generate().map_err(AuthorityError::new)?;
        Ok(Authority { issuer, key, hosts: Mutex::default() })
    }

    /// The certificate of the authority as PEM: the whole trust store that the program needs.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The TLS settings of a server that is the host of `target`.
    pub(crate) fn server(&self, target: &Target) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = hosts.get(&target.host) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.config(self.leaf(&target.host)?)?);
        if hosts.len() >= MAX_HOSTS {
            hosts.clear();
        }
        hosts.insert(target.host.clone(), Arc::clone(&config));
        Ok(config)
    }

    /// A certificate for one host. It has what strict clients ask for: Python 3.13 wants the key identifier of the
    /// authority, Java wants the extended key usage.
    fn leaf(&self, host: &Host<String>) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = params()?;
        params.subject_alt_names = vec![match host {
            Host::Domain(domain) => SanType::DnsName(domain.as_str().try_into().map_err(AuthorityError::new)?),
            Host::Ipv4(address) => SanType::IpAddress((*address).into()),
            Host::Ipv6(address) => SanType::IpAddress((*address).into()),
        }];
        params.distinguished_name = name("AAM intercept");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.key, &self.issuer).map_err(AuthorityError::new)?;
        Ok(certificate.der().clone())
    }

    fn config(&self, leaf: CertificateDer<'static>) -> Result<ServerConfig, AuthorityError> {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(AuthorityError::new)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf, self.issuer.der().clone()], key)
            .map_err(AuthorityError::new)?;
        // curl --http1.0 offers the second one alone. HTTP/2 is left out on purpose: clients that
        // offer it offer HTTP/1.1 too.
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        // A handshake on loopback is cheap; sessions that wait to be resumed would be memory that the program fills.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// What both kinds of certificates have. Each has a serial number of its own, because clients may refuse two
/// certificates of one issuer with the same number.
fn params() -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    let mut serial = [0_u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(AuthorityError::new)?;
    // A serial number is positive and not zero, so its first byte is 64 to 127.
    serial[0] = (serial[0] & 0x3f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let shifted = |days: i32| {
        let date = today.saturating_add(jiff::Span::new().days(days));
        let part = |value: i8| u8::try_from(value).unwrap_or(1);
        date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    params.not_before = shifted(-DAYS_BEFORE);
    params.not_after = shifted(DAYS_AFTER);
    Ok(params)
}
