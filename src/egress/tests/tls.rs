//! Tests of certificates, with real TLS handshakes and authorities that each test generates.

use super::rig::{World, closed_port, get};
use crate::model::{Class, Failure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns an acceptor whose certificate is for `name` and expires at the start of `last_year`. It offers
    /// `protocols` through ALPN.
    fn acceptor(&self, name: &str, last_year: i32, protocols: &[&[u8]]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        acceptor(certificate.der().clone(), &key, protocols)
    }

    /// Starts a server for `name` on 127.0.0.1 that responds to every request with `well`. Returns its port.
    async fn serve(&self, name: &str, last_year: i32) -> u16 {
        start(self.acceptor(name, last_year, &[])).await
    }

    /// Writes the certificate of this authority to a file in `folder`.
    fn file(&self, folder: &tempfile::TempDir) -> PathBuf {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, self.0.pem()).unwrap();
        file
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair, protocols: &[&[u8]]) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn start(acceptor: TlsAcceptor) -> u16 {
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
    assert!(unknown.title.ends_with("was issued by an authority that is not trusted here"), "{unknown:?}");
    assert!(unknown.fix.contains("network.ca_file"), "{unknown:?}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, Authority::new().0.pem()).unwrap();
    world.policy.network.ca_file = Some(file.clone());
    let other = failure(&world, good).await;
    assert!(other.title.ends_with("is not trusted here"), "another authority does not help: {other:?}");

    // A changed file takes effect without a restart.
    std::fs::write(&file, format!("{}\n# ours\n", authority.0.pem())).unwrap();
    let got = world.session().http(get(&format!("https://127.0.0.1:{good}/"))).await.unwrap();
    assert_eq!(&got.body[..], b"well");

    let misnamed = failure(&world, authority.serve("db.acme.example", 2100).await).await;
    assert!(misnamed.title.ends_with("is for another host name"), "{misnamed:?}");
    let expired = failure(&world, authority.serve("127.0.0.1", 2021).await).await;
    assert!(expired.title.ends_with("is expired or not valid yet"), "{expired:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_from_an_unknown_authority() {
    let world = World::new();
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap();
        params.is_ca = is_ca;
        let port = start(acceptor(params.self_signed(&key).unwrap().der().clone(), &key, &[])).await;
        let failure = failure(&world, port).await;
        assert!(failure.title.ends_with("is not trusted here"), "{failure:?}");
    }
}

/// A self-signed certificate as `openssl req -x509 -subj /CN=NAME` creates it: an authority whose name is in the subject only.
/// Returns the port of a server with it, and its PEM.
async fn serve_self_signed(common_name: &str, alternative: &[&str], last_year: i32) -> (u16, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(alternative.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    (start(acceptor(certificate.der().clone(), &key, &[])).await, certificate.pem())
}

#[tokio::test]
async fn a_certificate_that_the_file_lists_itself_is_trusted_for_its_name_and_its_time() {
    let mut world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (by_subject, first) = serve_self_signed("127.0.0.1", &[], 2100).await;
    let (by_alternative, second) = serve_self_signed("other", &["127.0.0.1"], 2100).await;
    let (misnamed, third) = serve_self_signed("127.0.0.1", &["db.acme.example"], 2100).await;
    let (expired, fourth) = serve_self_signed("127.0.0.1", &[], 2021).await;
    let (not_listed, _) = serve_self_signed("127.0.0.1", &[], 2100).await;
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, [first, second, third, fourth].concat()).unwrap();
    world.policy.network.ca_file = Some(file);
    for port in [by_subject, by_alternative] {
        let got = world.session().http(get(&format!("https://127.0.0.1:{port}/"))).await.unwrap();
        assert_eq!(&got.body[..], b"well");
    }
    // A certificate with alternative names is valid for those only.
    for (port, says) in
        [(misnamed, "is for another host name"), (expired, "is expired or not valid yet"), (not_listed, "is not trusted here")]
    {
        let failure = failure(&world, port).await;
        assert!(failure.title.ends_with(says), "{failure:?}");
    }
}

/// Starts a proxy that responds to CONNECT with `answer`, and forwards bytes to `port` if that is a 200. Returns the
/// proxy's port and the requests that it received.
async fn proxy(answer: &'static str, port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut head, mut piece) = (Vec::new(), [0; 1024]);
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => head.extend_from_slice(&piece[..read]),
                }
            }
            log.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
            if answer.contains(" 200 ") {
                let mut source = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut source).await;
            }
        }
    });
    (own, heads)
}

/// A `World` that trusts `authority` and uses the proxy at `address`.
fn behind(authority: &Authority, folder: &tempfile::TempDir, address: String) -> World {
    let mut world = World::with_names(&[("proxy.acme.example", &["127.0.0.1"])]);
    world.policy.network.allow_private.clear();
    world.policy.network.ca_file = Some(authority.file(folder));
    world.policy.network.proxy = Some(address);
    world
}

#[tokio::test]
async fn a_proxy_carries_tls_and_sees_no_credential() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let source = authority.serve("far.example", 2100).await;
    let (port, heads) = proxy("HTTP/1.1 200 Connection established\r\n\r\n", source).await;
    let world = behind(&authority, &folder, format!("http://proxy.acme.example:{port}"));
    let got = world.session().http(get("https://far.example/x?y=of-the-query")).await.unwrap();
    assert_eq!(&got.body[..], b"well");
    let head = heads.lock().unwrap().join("");
    assert!(head.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains("canary") && !head.contains("of-the-query"), "{head}");
    // The certificate that does not match is the source's, not the proxy's.
    let other = world.session().http(get("https://other.example/")).await.unwrap_err();
    assert_eq!(other.title, "the certificate of other.example is for another host name");
}

#[tokio::test]
async fn a_proxy_may_be_spoken_to_by_tls() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let port = authority.serve("proxy.acme.example", 2100).await;
    let world = behind(&authority, &folder, format!("https://proxy.acme.example:{port}"));
    assert_eq!(&world.session().http(get("http://far.example/")).await.unwrap().body[..], b"well");
}

#[tokio::test]
async fn a_proxy_that_opens_no_way_is_named() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (_socket, gone) = closed_port();
    let (strict, _) = proxy("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", gone).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = mute.local_addr().unwrap().port();
    let foreign = Authority::new().serve("proxy.acme.example", 2100).await;
    for (scheme, port, target, expected) in [
        ("http", gone, "http", "Connection refused"),
        ("http", gone, "https", "Connection refused"),
        ("http", strict, "https", "proxy authorization required"),
        ("http", silent, "https", "no connection in time"),
        ("https", foreign, "http", "to network.proxy: "),
        ("https", foreign, "https", "to network.proxy: "),
    ] {
        let mut world = behind(&authority, &folder, format!("{scheme}://proxy.acme.example:{port}"));
        world.policy.safe_mode.step_timeout = Duration::from_secs(2);
        let failure = world.session().http(get(&format!("{target}://far.example/"))).await.unwrap_err();
        let title = "the proxy of the policy did not connect to far.example";
        assert_eq!((failure.class, failure.title.as_str()), (Class::Network, title), "{failure:?}");
        assert!(failure.detail.contains(expected), "{failure:?}");
    }
    // For `http:` there is no tunnel, so the proxy's response is returned like any other response.
    let world = behind(&authority, &folder, format!("http://proxy.acme.example:{strict}"));
    assert_eq!(world.session().http(get("http://far.example/")).await.unwrap().status, 407);
}

/// Starts a server that responds with the HTTP version of the request. Returns its port and a counter of accepted
/// connections.
async fn telling(acceptor: TlsAcceptor) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let stream = acceptor.accept(stream).await.unwrap();
            let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let tell = service_fn(|asked: Request<Incoming>| async move {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("{:?}", asked.version())))))
            });
            match second {
                true => {
                    drop(tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), tell)))
                }
                false => drop(tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), tell))),
            }
        }
    });
    (port, opened)
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_offered_and_a_connection_is_kept() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let mut world = World::new();
    world.policy.network.ca_file = Some(authority.file(&folder));
    let offers: [(&[&[u8]], &str); 3] = [(&[b"h2", b"http/1.1"], "HTTP/2.0"), (&[b"http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")];
    for (offer, version) in offers {
        let (port, opened) = telling(authority.acceptor("127.0.0.1", 2100, offer)).await;
        for _ in 0..3 {
            let got = world.session().http(get(&format!("https://127.0.0.1:{port}/"))).await.unwrap();
            assert_eq!(got.body, version.as_bytes());
        }
        assert_eq!(opened.load(Ordering::SeqCst), 1, "one connection carries all three calls");
    }
}
