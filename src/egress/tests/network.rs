//! Tests of addresses, host names, the proxy and TLS.

use super::rig::{Reply, Server, World, answer, closed_port, get};
use crate::egress::{HttpRequest, Method};
use crate::model::Class;

#[tokio::test]
async fn literals_are_refused_before_anything_is_sent_or_charged() {
    let mut world = World::new();
    let server = Server::start(vec![answer(200, &[], b"inside")]).await;
    world.policy.network.allow_private.clear();
    let port = server.port;
    for host in ["0x7f000001", "127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "127.1"] {
        let failure = world.session().http(get(&format!("http://{host}:{port}/"))).await.unwrap_err();
        assert_eq!(failure.class, Class::EgressRefused, "{host}");
        assert!(failure.fix.ends_with("network.allow_private: [127.0.0.1/32]"), "{host}: {}", failure.fix);
    }
    assert!(world.session().admit("127.0.0.1", port).await.is_err());
    assert_eq!((server.count(), world.budget.total()), (0, 0));
}

#[tokio::test]
async fn a_name_is_judged_by_its_address_and_dialled_there() {
    let names: &[(&str, &[&str])] = &[
        ("inside.acme.example", &["10.1.2.3", "fd00::7"]),
        ("mixed.acme.example", &["10.1.2.3", "127.0.0.1"]),
        ("meta.acme.example", &["169.254.169.254"]),
    ];
    let world = World::with_names(names);
    let server = Server::start(vec![answer(200, &[], b"well")]).await;
    let failure = world.session().http(get("https://inside.acme.example/")).await.unwrap_err();
    assert_eq!(failure.title, "Not called: inside.acme.example is 10.1.2.3, a private address, and the policy does not allow it");
    assert_eq!(failure.fix, "if this address is intended, add it to the policy: network.allow_private: [10.1.2.3/32]");
    let failure = world.session().http(get("http://meta.acme.example/")).await.unwrap_err();
    assert!(failure.title.contains("169.254.169.254, a cloud metadata address"), "{failure:?}");
    // The client connects only to the allowed address, and uses the port of the URL.
    let got = world.session().http(get(&format!("http://mixed.acme.example:{}/", server.port))).await.unwrap();
    assert_eq!(&got.body[..], b"well");
    assert!(server.heads.lock().unwrap()[0].contains(&format!("host: mixed.acme.example:{}", server.port)));
    let session = world.session();
    assert_eq!(session.admit("mixed.acme.example", 5432).await.unwrap().address.to_string(), "127.0.0.1:5432");
    assert_eq!(session.admit("inside.acme.example", 5432).await.err().unwrap().class, Class::EgressRefused);
    let failure = session.admit("nowhere.acme.example", 5432).await.err().unwrap();
    assert_eq!((failure.class, failure.title.as_str()), (Class::Network, "the host nowhere.acme.example was not found"));
    let failure = session.http(get("http://nowhere.acme.example/")).await.unwrap_err();
    assert_eq!((failure.class, failure.title.as_str()), (Class::Network, "the host nowhere.acme.example was not found"));
    assert!(failure.detail.contains("Name or service not known"), "{failure:?}");
}

#[tokio::test]
async fn only_a_session_of_a_metadata_service_reaches_its_address_and_nothing_else() {
    let world = World::with_names(&[("meta.acme.example", &["169.254.169.254"])]);
    let url = |text: &str| url::Url::parse(text).unwrap();
    let class = |result: Result<(), crate::model::Failure>| result.err().map(|failure| failure.class);
    for base in [
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
        "http://169.254.170.2",
        "http://169.254.170.23",
        "http://[fd00:ec2::23]",
    ] {
        let path = url(&format!("{base}/latest/meta-data/"));
        assert_eq!(class(world.session().check_metadata(&path)), Some(Class::EgressRefused), "{base}");
        let session = world.session().with_metadata_service(&url(base));
        assert_eq!(class(session.check_metadata(&path)), None, "{base}");
        for other in ["http://169.254.169.254:81/", "https://169.254.169.254/", "http://169.254.1.1/", "https://example.com/"] {
            assert_eq!(class(session.check_metadata(&url(other))), Some(Class::EgressRefused), "{base} {other}");
        }
    }
    // Only the addresses that AWS documents are opened, whatever the base is.
    for base in ["http://169.254.1.1", "http://10.0.0.1", "http://100.100.100.200", "http://168.63.129.16"] {
        let session = world.session().with_metadata_service(&url(base));
        assert_eq!(class(session.check_metadata(&url(base))), Some(Class::EgressRefused), "{base}");
    }
    // A name that leads to the address is refused even for such a session.
    let session = world.session().with_metadata_service(&url("http://meta.acme.example"));
    let failure = session.http(get("http://meta.acme.example/")).await.unwrap_err();
    assert!(failure.class == Class::EgressRefused && failure.title.contains("169.254.169.254"), "{failure:?}");
}

#[tokio::test]
async fn a_source_reaches_a_metadata_service_neither_by_a_redirect_nor_by_a_put() {
    let world = World::new();
    let redirect = answer(302, &[("location", "http://169.254.169.254/latest/api/token")], b"");
    let server = Server::start(vec![redirect, answer(200, &[], b"a token")]).await;
    let failure = world.session().http(get(&server.url("/"))).await.unwrap_err();
    assert!(failure.class == Class::EgressRefused && failure.title.contains("169.254.169.254"), "{failure:?}");
    let put = |at: String| HttpRequest { method: Method::MetadataToken, ..get(&at) };
    for path in ["/latest/api/token", "/"] {
        let failure = world.session().http(put(server.url(path))).await.unwrap_err();
        assert_eq!(failure.class, Class::EgressRefused, "{failure:?}");
    }
    // The session of the service may send this PUT, and no other one.
    let session = || world.session().with_metadata_service(&url::Url::parse(&server.url("/")).unwrap());
    for path in ["/latest/api/token?x=1", "/latest/api/tokens", "/latest/meta-data/", "/"] {
        assert_eq!(session().http(put(server.url(path))).await.unwrap_err().class, Class::EgressRefused, "{path}");
    }
    assert_eq!(server.count(), 1);
    assert_eq!(&session().http(put(server.url("/latest/api/token"))).await.unwrap().body[..], b"a token");
    assert!(server.heads.lock().unwrap()[1].starts_with("PUT /latest/api/token "));
}

#[tokio::test]
async fn trouble_below_http_is_named() {
    let world = World::new();
    let (_socket, gone) = closed_port();
    let failure = world.session().http(get(&format!("http://127.0.0.1:{gone}/"))).await.unwrap_err();
    assert_eq!((failure.class, failure.title), (Class::Network, format!("connection refused by 127.0.0.1:{gone}")));
    let ssh = Server::start(vec![Reply::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())]).await;
    let failure = world.session().http(get(&ssh.url("/"))).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.title),
        (Class::WrongService, format!("the response of 127.0.0.1:{} is not HTTP", ssh.port))
    );
    // A server without TLS listens on the port of an `https:` URL.
    let tls = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tls.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tls.accept().await {
            use tokio::io::AsyncWriteExt;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let failure = world.session().http(get(&format!("https://127.0.0.1:{port}/"))).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.title),
        (Class::Network, format!("could not establish a TLS connection to 127.0.0.1:{port}"))
    );
}

#[tokio::test]
async fn a_proxy_is_used_but_opens_no_hole() {
    let mut world = World::with_names(&[("proxy.acme.example", &["127.0.0.1"])]);
    let proxy = Server::start(vec![answer(200, &[], b"by proxy")]).await;
    world.policy.network.allow_private.clear();
    world.policy.network.proxy = Some(format!("http://proxy.acme.example:{}", proxy.port));
    let got = world.session().http(get("http://far.example/x")).await.unwrap();
    assert_eq!(&got.body[..], b"by proxy");
    assert!(proxy.heads.lock().unwrap()[0].starts_with("GET http://far.example/x HTTP/1.1"));
    for url in ["http://169.254.169.254/", "http://10.0.0.1/", "http://metadata.google.internal/", "http://localhost/"] {
        assert_eq!(world.session().http(get(url)).await.unwrap_err().class, Class::EgressRefused, "{url}");
    }
    assert_eq!(proxy.count(), 1);
    // Private addresses that the policy allows are reached without the proxy.
    let inside = Server::start(vec![answer(200, &[], b"inside")]).await;
    world.policy.network.allow_private.push("127.0.0.1/32".parse().unwrap());
    assert_eq!(&world.session().http(get(&inside.url("/"))).await.unwrap().body[..], b"inside");
    assert_eq!(proxy.count(), 1);
}

#[tokio::test]
async fn a_network_entry_that_cannot_be_used_says_so() {
    let mut world = World::new();
    world.policy.network.ca_file = Some("does/not/exist.pem".into());
    let failure = world.session().http(get("https://127.0.0.1/")).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.title.as_str()),
        (Class::Misconfigured, "could not use network.ca_file does/not/exist.pem")
    );
    world.policy.network.ca_file = None;
    world.policy.network.proxy = Some("socks5://user:pw-of-proxy@proxy.acme.example".to_string());
    let failure = world.session().http(get("https://127.0.0.1/")).await.unwrap_err();
    assert_eq!(failure.class, Class::Misconfigured);
    assert!(!format!("{failure:?}").contains("pw-of-proxy"), "{failure:?}");
}

#[tokio::test]
async fn a_policy_that_closes_an_address_holds_for_open_connections_too() {
    let mut world = World::with_names(&[("app.acme.example", &["127.0.0.1"])]);
    let kept = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell".to_vec();
    let server = Server::start(vec![Reply::Bytes(kept)]).await;
    let url = format!("http://app.acme.example:{}/", server.port);
    world.session().http(get(&url)).await.unwrap();
    world.policy.network.allow_private.clear();
    let failure = world.session().http(get(&url)).await.unwrap_err();
    assert_eq!(failure.class, Class::EgressRefused);
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_driver_gets_the_address_that_is_routed_everywhere() {
    let world = World::with_names(&[("db.acme.example", &["2606:4700::1111", "1.1.1.1"])]);
    let admitted = world.session().admit("db.acme.example", 5432).await.unwrap();
    assert_eq!(admitted.address.to_string(), "1.1.1.1:5432");
    let failure = world.session().admit("[::1]", 5432).await.err().unwrap();
    assert_eq!(failure.title, "Not called: ::1 is a loopback address and the policy does not allow it");
}

#[tokio::test]
async fn a_port_that_drops_packets_is_not_called_slow() {
    let mut world = World::new();
    world.policy.safe_mode.step_timeout = std::time::Duration::from_secs(2);
    // The socket never accepts connections. When its queue is full, the kernel drops further connection requests.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    let soon = std::time::Duration::from_millis(100);
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, soon) {
        held.push(stream);
    }
    let failure = world.session().http(get(&format!("http://{address}/"))).await.unwrap_err();
    assert_eq!(failure.class, Class::Network);
    assert_eq!(failure.title, format!("{address} did not accept a connection within 1 s"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(5000))]

    /// The guard parses addresses as `Url`, and the client connects to them as `Uri`. Both must agree.
    #[test]
    fn what_is_judged_is_what_is_dialled(text in "https?:[/\\\\]{0,3}([a-c0-9.:@%?#/\\\\\\[\\]ß_-]|127\\.0\\.0\\.1|\\[::1\\]|%2e|a\\.b){0,9}") {
        let Ok(url) = url::Url::parse(&text) else { return Ok(()) };
        let Ok(target) = url.as_str().parse::<hyper::Uri>() else { return Ok(()) };
        proptest::prop_assert_eq!(target.host(), url.host_str());
        proptest::prop_assert_eq!(target.port_u16(), url.port());
        proptest::prop_assert_eq!(target.path(), url.path());
        proptest::prop_assert_eq!(target.query(), url.query());
    }
}
