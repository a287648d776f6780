//! Certificates: real handshakes with authorities made on the spot.

use super::rig::{World, get};
use crate::model::{Class, Failure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server of `name` on 127.0.0.1 that answers everything with `well`; its port.
    async fn serve(&self, name: &str, last_year: i32) -> u16 {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        start(certificate.der().clone(), &key).await
    }
}

async fn start(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    port
}

async fn failure(world: &World, port: u16) -> Failure {
    let failure = world.session().http(get(&format!("https://127.0.0.1:{port}/"))).await.unwrap_err();
    assert_eq!(failure.class, Class::Network);
    failure
}

#[tokio::test]
async fn certificates_are_judged_and_the_file_of_authorities_counts() {
    let mut world = World::new();
    let authority = Authority::new();
    let good = authority.serve("127.0.0.1", 2100).await;
    let unknown = failure(&world, good).await;
    assert!(unknown.title.ends_with("comes from an authority that is not trusted here"), "{unknown:?}");
    assert!(unknown.fix.contains("network.ca_file"), "{unknown:?}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, Authority::new().0.pem()).unwrap();
    world.policy.network.ca_file = Some(file.clone());
    let other = failure(&world, good).await;
    assert!(other.title.ends_with("is not trusted here"), "another authority does not help: {other:?}");

    // A changed file holds without a restart.
    std::fs::write(&file, format!("{}\n# ours\n", authority.0.pem())).unwrap();
    let got = world.session().http(get(&format!("https://127.0.0.1:{good}/"))).await.unwrap();
    assert_eq!(&got.body[..], b"well");

    let misnamed = failure(&world, authority.serve("db.acme.example", 2100).await).await;
    assert!(misnamed.title.ends_with("is for another name"), "{misnamed:?}");
    let expired = failure(&world, authority.serve("127.0.0.1", 2021).await).await;
    assert!(expired.title.ends_with("is not valid at this time"), "{expired:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_from_an_unknown_authority() {
    let world = World::new();
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap();
        params.is_ca = is_ca;
        let port = start(params.self_signed(&key).unwrap().der().clone(), &key).await;
        let failure = failure(&world, port).await;
        assert!(failure.title.ends_with("is not trusted here"), "{failure:?}");
    }
}
