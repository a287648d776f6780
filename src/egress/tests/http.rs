//! Tests of redirects, bodies, timeouts and retries.

use super::rig::Captured;
use super::rig::{Reply, Server, World, answer, get};
use crate::egress::{HttpRequest, Method};
use crate::model::{Class, Failure};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

async fn failure(world: &World, request: HttpRequest) -> Failure {
    world.session().http(request).await.unwrap_err()
}

#[tokio::test]
async fn an_answer_comes_back_whole_and_is_counted() {
    let world = World::new();
    let server = Server::start(vec![answer(404, &[("X-Thing", "Yes")], b"no such thing")]).await;
    let session = world.session();
    let got = session.http(get(&server.url("/a?b=c"))).await.unwrap();
    assert_eq!((got.status, got.header("x-thing"), &got.body[..]), (404, Some("Yes"), &b"no such thing"[..]));
    assert_eq!((session.traffic().calls, session.traffic().bytes), (1, 13));
    let head = server.heads.lock().unwrap()[0].to_lowercase();
    assert!(head.starts_with("get /a?b=c http/1.1\r\n"), "{head}");
    assert!(head.contains(concat!("user-agent: aam/", env!("CARGO_PKG_VERSION"))), "{head}");
    let head = HttpRequest { method: Method::Head, ..get(&server.url("/h")) };
    assert_eq!(session.http(head).await.unwrap().body.len(), 0);
    assert!(server.heads.lock().unwrap()[1].starts_with("HEAD /h"));
}

#[tokio::test]
async fn redirects_stay_on_their_origin() {
    let world = World::new();
    let other = Server::start(vec![answer(200, &[], b"gotcha")]).await;
    for place in
        [other.url("/"), "http://169.254.169.254/latest/meta-data/".to_string(), "http://metadata.google.internal/".to_string()]
    {
        let server = Server::start(vec![answer(302, &[("location", &place)], b"")]).await;
        let failure = failure(&world, get(&server.url("/start"))).await;
        assert_eq!(failure.class, Class::EgressRefused);
        assert!(failure.title.contains(&format!("http://127.0.0.1:{}", server.port)), "{}", failure.title);
        assert!(failure.title.contains(place.trim_end_matches("latest/meta-data/").trim_end_matches('/')), "{}", failure.title);
        assert_eq!(server.count(), 1);
    }
    assert_eq!(other.count(), 0);
    assert!(world.lookup.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_at_home_is_followed_with_the_credential_but_not_for_ever() {
    let world = World::new();
    let server = Server::start(vec![answer(301, &[("location", "/there")], b""), answer(200, &[], b"here")]).await;
    let got = world.session().http(get(&server.url("/start"))).await.unwrap();
    assert_eq!((got.url.path(), &got.body[..]), ("/there", &b"here"[..]));
    assert!(server.heads.lock().unwrap().iter().all(|head| head.contains("of-the-canary-7777")));
    let circle = Server::start(vec![answer(302, &[("location", "/")], b"")]).await;
    assert_eq!(failure(&world, get(&circle.url("/"))).await.title, "127.0.0.1 redirected more than 5 times");
    assert_eq!(circle.count(), 6);
    let request = HttpRequest { follow_redirects: false, ..get(&circle.url("/")) };
    assert_eq!(world.session().http(request).await.unwrap().status, 302);
}

#[tokio::test]
async fn a_cut_answer_says_how_much_came() {
    let world = World::new();
    let server = Server::start(vec![Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789".to_vec())]).await;
    let failure = failure(&world, get(&server.url("/"))).await;
    assert_eq!(failure.class, Class::Remote);
    assert_eq!(failure.title, format!("the response of 127.0.0.1:{} was cut off after 10 of 100 bytes", server.port));
}

#[tokio::test]
async fn a_long_answer_is_not_read_to_its_end() {
    let world = World::new();
    let server = Server::start(vec![answer(200, &[], &vec![b'x'; 3000])]).await;
    let request = HttpRequest { max_bytes: 2000, ..get(&server.url("/")) };
    let failure = failure(&world, request).await;
    assert_eq!((failure.class, failure.title.contains("is longer than 2000 bytes")), (Class::Remote, true), "{failure:?}");
    let exact = HttpRequest { max_bytes: 3000, ..get(&server.url("/")) };
    assert_eq!(world.session().http(exact).await.unwrap().body.len(), 3000);
}

#[tokio::test]
async fn a_small_answer_cannot_become_a_large_one() {
    let world = World::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(&vec![0; 64 << 20]).unwrap();
    let bomb = gz.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let server = Server::start(vec![answer(200, &[("content-encoding", "gzip")], &bomb)]).await;
    let session = world.session();
    let failure = session.http(get(&server.url("/"))).await.unwrap_err();
    assert!(failure.title.contains("is longer than 1048576 bytes"), "{failure:?}");
    assert!(session.traffic().bytes <= 1 << 20);
}

#[tokio::test]
async fn a_hanging_server_ends_with_the_caller_and_counts_as_failing() {
    let mut world = World::new();
    world.policy.breaker.failures = 1;
    let server = Server::start(vec![Reply::Hang]).await;
    let session = world.session();
    let mut call = Box::pin(session.http(get(&server.url("/"))));
    tokio::select! {
        _ = &mut call => panic!("a hanging server answered"),
        () = server.seen(1) => {}
    }
    drop(call);
    let failure = failure(&world, get(&server.url("/"))).await;
    assert_eq!((failure.class, failure.retry_after_ms), (Class::BreakerOpen, Some(30_000)));
    assert!(failure.detail.contains("did not answer before the step ended"), "{failure:?}");
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_hanging_server_is_named_before_the_step_ends() {
    let mut world = World::new();
    world.policy.safe_mode.step_timeout = Duration::from_secs(2);
    let server = Server::start(vec![Reply::Hang]).await;
    let failure = failure(&world, get(&server.url("/"))).await;
    assert_eq!(
        (failure.class, failure.title),
        (Class::Network, format!("127.0.0.1:{} did not answer within 1.5 s", server.port))
    );
    assert_eq!(server.count(), 1, "a timeout is not retried");
}

#[tokio::test]
async fn passing_trouble_is_retried_twice_and_each_try_is_charged() {
    let mut world = World::new();
    world.cap.per_day = 40;
    let server = Server::start(vec![answer(502, &[], b""), Reply::Close, answer(200, &[], b"well")]).await;
    let session = world.session();
    assert_eq!(&session.http(get(&server.url("/"))).await.unwrap().body[..], b"well");
    assert_eq!((server.count(), session.traffic().calls, world.budget.total()), (3, 3, 3));
    let down = Server::start(vec![answer(503, &[], b"down")]).await;
    assert_eq!(world.session().http(get(&down.url("/"))).await.unwrap().status, 503);
    assert_eq!(down.count(), 3);
    let closing = Server::start(vec![Reply::Close]).await;
    let failure = failure(&world, get(&closing.url("/"))).await;
    assert!(failure.title.ends_with("closed the connection before it answered"), "{failure:?}");
    assert_eq!(closing.count(), 3);
    let broken = Server::start(vec![answer(500, &[], b"")]).await;
    assert_eq!(world.session().http(get(&broken.url("/"))).await.unwrap().status, 500);
    assert_eq!(broken.count(), 1, "500 is not a passing trouble");
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(text).unwrap();
    gz.finish().unwrap()
}

#[tokio::test]
async fn packed_answers_are_unpacked_and_broken_ones_told() {
    let world = World::new();
    let gzip = |body: &[u8]| answer(200, &[("Content-Encoding", "GZIP")], body);
    let text = b"a line, and the next line of a body\n".repeat(3000);
    let whole = packed(&text);
    let two = [packed(b"one "), packed(b"two")].concat();
    let garbage = b"no such thing as gzip".to_vec();
    let script = vec![gzip(&whole), gzip(&two), gzip(b""), gzip(&whole[..whole.len() / 2]), gzip(&garbage)];
    let server = Server::start(script).await;
    let got = world.session().http(get(&server.url("/"))).await.unwrap();
    assert_eq!(got.body, text);
    assert_eq!((got.header("content-encoding"), got.header("content-length")), (None, None), "{got:?}");
    assert_eq!(&world.session().http(get(&server.url("/"))).await.unwrap().body[..], b"one two");
    assert_eq!(&world.session().http(get(&server.url("/"))).await.unwrap().body[..], b"");
    let at = format!("the response of 127.0.0.1:{}", server.port);
    let cut = failure(&world, get(&server.url("/"))).await;
    assert!(cut.title.starts_with(&format!("{at} was cut off after ")), "{cut:?}");
    let broken = failure(&world, get(&server.url("/"))).await;
    assert_eq!((broken.class, broken.title), (Class::Remote, format!("{at} cannot be read")));
}

#[tokio::test]
async fn packed_answers_are_asked_for_but_never_a_part_of_one() {
    let world = World::new();
    let server = Server::start(vec![answer(200, &[], b"")]).await;
    world.session().http(get(&server.url("/"))).await.unwrap();
    let mut part = get(&server.url("/"));
    part.headers.push(("Range".to_string(), crate::credentials::Secret::new("bytes=0-99".to_string())));
    world.session().http(part).await.unwrap();
    let heads = server.heads.lock().unwrap();
    assert!(heads[0].contains("accept-encoding: gzip") && heads[0].contains("accept: */*"), "{}", heads[0]);
    assert!(heads[1].contains("range: bytes=0-99") && !heads[1].contains("accept-encoding"), "{}", heads[1]);
}

#[tokio::test]
async fn a_connection_that_the_server_dropped_is_dialled_anew() {
    let world = World::new();
    // The response implies that the connection stays open, but the server closes it.
    let server = Server::start(vec![Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell".to_vec())]).await;
    for _ in 0..5 {
        assert_eq!(&world.session().http(get(&server.url("/"))).await.unwrap().body[..], b"well");
    }
}

#[tokio::test]
async fn an_address_that_is_too_long_for_http_is_told() {
    let world = World::new();
    let server = Server::start(vec![answer(200, &[], b"")]).await;
    let failure = failure(&world, get(&server.url(&format!("/?{}", "x".repeat(70_000))))).await;
    assert_eq!((failure.class, failure.title.as_str()), (Class::Remote, "a URL of 127.0.0.1 is not valid in HTTP"));
    assert!(failure.detail.len() < 200, "{failure:?}");
    assert_eq!((server.count(), world.budget.total()), (0, 0));
}

#[tokio::test]
async fn no_log_line_holds_a_secret_or_a_query() {
    let world = World::new();
    let out = Arc::new(Mutex::new(Vec::new()));
    let writer = Captured(Arc::clone(&out));
    let subscriber =
        tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::start(vec![answer(200, &[], b"fine"), Reply::Close]).await;
    let session = world.session();
    session.http(get(&server.url("/some/path?key=of-the-query-8888"))).await.unwrap();
    session.http(get(&server.url("/other?key=of-the-query-8888"))).await.unwrap_err();
    let denied = Failure::new(Class::CredentialRejected, "said of-the-canary-7777", "");
    session.settle("postgres", "db.example", 12, Duration::from_millis(3), Some(&denied));
    let text = String::from_utf8(out.lock().unwrap().clone()).unwrap();
    let calls: Vec<&str> = text.lines().filter(|line| line.contains("aam::egress")).collect();
    assert_eq!(calls.len(), 5, "{text}");
    let port = url::Url::parse(&server.url("/")).unwrap().port().unwrap();
    let call = format!(r#""method":"GET","host":"127.0.0.1:{port}","path":"/some/path","#);
    assert!(calls[0].contains(&(call.clone() + r#""status":200,"bytes":4,"#)), "{}", calls[0]);
    let begun: Vec<&str> = text.lines().filter(|line| line.contains("aam::begun")).collect();
    assert!(begun.len() == 4 && begun[0].contains(&call), "each try is logged before it is sent, too: {text}");
    assert!(calls[0].contains(r#""family":"openapi""#) && calls[1].contains(r#""error":"network""#), "{text}");
    let settled = r#""method":"postgres","host":"db.example","path":"","status":0,"bytes":12,"ms":3,"#;
    assert!(calls[4].contains(settled), "{}", calls[4]);
    assert!(!text.contains("canary-7777"), "{text}");
    assert!(calls.iter().all(|line| !line.contains("8888")), "{text}");
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_names_itself_and_not_its_value() {
    let world = World::new();
    let server = Server::start(vec![answer(200, &[], b"")]).await;
    let mut request = get(&server.url("/"));
    request.headers = vec![("x-api-key".to_string(), crate::credentials::Secret::new("with-a-break\n".to_string()))];
    let failure = failure(&world, request).await;
    assert_eq!(failure.class, Class::CredentialMissing);
    assert!(failure.title.contains("x-api-key") && !format!("{failure:?}").contains("with-a-break"), "{failure:?}");
    assert_eq!((server.count(), world.budget.total()), (0, 0));
}

#[test]
fn what_connectors_hold_may_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    fn runs_anywhere<T: Send>(_: T) {}
    crosses::<crate::egress::Session>();
    crosses::<crate::egress::AdmittedConnection>();
    let world = World::new();
    let session = world.session();
    runs_anywhere(session.http(get("http://127.0.0.1/")));
    runs_anywhere(session.admit("127.0.0.1", 1));
    runs_anywhere(session.local("x"));
}
