//! The sandbox's own certificate authority.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Certificates of this many hosts are kept.
const MAX_HOSTS: usize = 1000;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// One key for all hosts.
    key: KeyPair,
    hosts: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    /// Makes an authority that is trusted by those who read its certificate.
    ///
    /// # Errors
    /// Fails if the system gives no random numbers.
    pub fn new() -> Result<Authority, String> {
        let text = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "AAM sandbox");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(text)?).map_err(text)?;
        Ok(Authority { issuer, key: KeyPair::generate().map_err(text)?, hosts: Mutex::default() })
    }

    /// The certificate of the authority as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server that is `host`.
    ///
    /// # Errors
    /// Fails if the host is not a name that a certificate can have.
    pub fn server(&self, host: &str) -> Result<Arc<ServerConfig>, String> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = hosts.get(host) {
            return Ok(Arc::clone(config));
        }
        let params = CertificateParams::new(vec![host.to_owned()]).map_err(|error| error.to_string())?;
        let certificate = params.signed_by(&self.key, &self.issuer).map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone(), self.issuer.der().clone()], key)
            .map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        if hosts.len() >= MAX_HOSTS {
            hosts.clear();
        }
        hosts.insert(host.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}
