//! TLS and client certificates of the engine `mongo`, with an authority of the test.

use crate::support::mongo::{Behavior, FakeMongo, PASSWORD};
use crate::support::mongo_session::{Names, credential, open_with};
use crate::support::sql::policy;
use aam::connectors::Opened;
use aam::credentials::{Credential, Secret};
use aam::model::{Class, Failure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority, and a folder with its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        Authority { issuer: Issuer::new(parameters, key), pem, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for `name` and its key, both as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::new(vec![name.to_string()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A server with a certificate for `name`; it demands client certificates of this authority if `mutual`.
    async fn serve(&self, name: &str, mutual: bool) -> FakeMongo {
        let (certificate, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
            )
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        FakeMongo::serve(listener, Behavior::default(), Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Opens the server on `port` by the name `db.acme.example`.
async fn opened(port: u16, options: &str, credential: &Credential, ca_file: Option<PathBuf>) -> Result<Opened, Failure> {
    let names = Names { hosts: HashMap::from([("db.acme.example".into(), "127.0.0.1".parse().unwrap())]), ..Names::default() };
    let id = format!("mongodb://db.acme.example:{port}/shop{options}");
    open_with(&id, Some(credential), policy(ca_file), Arc::new(names)).await
}

async fn failure(port: u16, options: &str, credential: &Credential, ca_file: Option<PathBuf>) -> Failure {
    opened(port, options, credential, ca_file).await.err().expect("a failure")
}

fn with_certificate((certificate, key): (String, String)) -> serde_json::Value {
    json!({"certificate": certificate, "private_key": key})
}

fn stored(value: &serde_json::Value) -> Credential {
    Credential::read(Secret::new(value.to_string()))
}

#[tokio::test]
async fn the_certificate_and_the_name_are_verified() {
    let authority = Authority::new();
    let server = authority.serve("db.acme.example", false).await;
    let login = credential(PASSWORD);
    let good = opened(server.port, "?tls=true", &login, Some(authority.file())).await;
    assert_eq!(good.unwrap_or_else(|failure| panic!("{failure:?}")).identity["encrypted"], json!(true));
    let unknown = failure(server.port, "?tls=true", &login, None).await;
    assert!(unknown.class == Class::Network && unknown.fix.contains("network.ca_file"), "{unknown:?}");
    let other = authority.serve("other.acme.example", false).await;
    let wrong_name = failure(other.port, "?tls=true", &login, Some(authority.file())).await;
    assert!(wrong_name.fix.contains("host name"), "{wrong_name:?}");
    let plain = FakeMongo::start(Behavior::default()).await;
    let without_tls = failure(plain.port, "?tls=true&connectTimeoutMS=500", &login, Some(authority.file())).await;
    assert_eq!(without_tls.class, Class::Network);
}

#[tokio::test]
async fn a_client_certificate_is_a_login_or_goes_with_one() {
    let authority = Authority::new();
    let server = authority.serve("db.acme.example", true).await;
    let identity = with_certificate(authority.issue("reader"));
    let by_certificate = opened(server.port, "?tls=true", &stored(&identity), Some(authority.file())).await;
    let by_certificate = by_certificate.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(by_certificate.identity["mechanism"], json!("MONGODB-X509"));
    assert!(by_certificate.connector.accepted_credential());
    let mut both = identity.clone();
    (both["user"], both["password"]) = (json!("reader"), json!(PASSWORD));
    let both = opened(server.port, "?tls=true", &stored(&both), Some(authority.file())).await;
    assert_eq!(both.unwrap_or_else(|failure| panic!("{failure:?}")).identity["mechanism"], json!("SCRAM-SHA-256"));
    let missing = failure(server.port, "?tls=true", &credential(PASSWORD), Some(authority.file())).await;
    assert!(missing.class == Class::CredentialMissing && missing.title.contains("requires a client certificate"), "{missing:?}");
    let foreign = stored(&with_certificate(Authority::new().issue("reader")));
    let foreign = failure(server.port, "?tls=true", &foreign, Some(authority.file())).await;
    assert!(foreign.class == Class::CredentialRejected, "{foreign:?}");
    // Without TLS the certificate cannot be presented.
    let plain = FakeMongo::start(Behavior::default()).await;
    let in_clear = failure(plain.port, "?tls=false", &stored(&identity), None).await;
    assert!(in_clear.class == Class::Misconfigured && in_clear.fix.contains("tls=true"), "{in_clear:?}");
}

/// Atlas ends the handshake with alert 80 if the address of the client is not on the access list.
#[tokio::test]
async fn an_address_that_atlas_does_not_know_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            // A record of the type alert, TLS 1.2, two bytes: fatal, internal_error.
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 80]).await;
        }
    });
    let host = "shard-00.ab12c.mongodb.net";
    let names = Names { hosts: HashMap::from([(host.into(), "127.0.0.1".parse().unwrap())]), ..Names::default() };
    let id = format!("mongodb://{host}:{port}/shop?tls=true");
    let opened = open_with(&id, Some(&credential(PASSWORD)), policy(None), Arc::new(names)).await;
    let failure = opened.err().unwrap();
    assert!(failure.class == Class::Network && failure.title.contains("alert 80"), "{failure:?}");
    assert!(failure.fix.contains("IP access list") && failure.fix.contains("connects from 127.0.0.1"), "{failure:?}");
}
