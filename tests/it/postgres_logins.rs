//! Logins at a program that only pretends to be PostgreSQL. It asks for the password in forms that it could use, and records
//! what it gets.

use crate::support::daemon::{Workspace, intent};
use crate::support::network::silent_address;
use crate::support::sql::{open_at, policy};
use aam::credentials::{Credential, Secret};
use aam::model::{Class, Failure};
use aam::policy::Policy;
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PASSWORD: &str = "hunter2-hunter2-hunter2";

/// What the program sends after the startup message.
#[derive(Clone, Copy)]
enum Asks {
    /// One authentication request with this code and the bytes after it.
    For(u32, &'static [u8]),
    /// SCRAM with this number of iterations.
    Scram(u32),
    /// Nothing; every statement then gets rows with 10,000 empty values, which are larger in memory than on the network.
    NothingAndFloods,
}

/// A message of the server.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

fn request(code: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], rest].concat())
}

/// Starts the program. Returns its port, and the bytes that clients sent it after their startup message.
async fn rogue(asks: Asks) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let received = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let record = Arc::clone(&record);
            tokio::spawn(async move { serve(stream, asks, &record).await });
        }
    });
    (port, received)
}

/// Serves one connection until the client closes it.
async fn serve(mut stream: TcpStream, asks: Asks, record: &Mutex<Vec<u8>>) -> Option<()> {
    let startup = usize::try_from(stream.read_u32().await.ok()?).ok()?.checked_sub(4)?;
    stream.read_exact(&mut vec![0; startup]).await.ok()?;
    match asks {
        Asks::For(code, rest) => stream.write_all(&request(code, rest)).await.ok()?,
        Asks::Scram(iterations) => {
            stream.write_all(&request(10, b"SCRAM-SHA-256\0\0")).await.ok()?;
            let nonce = client_nonce(&mut stream).await?;
            let first = format!("r={nonce}rogue,s=c2FsdHNhbHRzYWx0c2FsdA==,i={iterations}");
            stream.write_all(&request(11, first.as_bytes())).await.ok()?;
        }
        Asks::NothingAndFloods => {}
    }
    if matches!(asks, Asks::NothingAndFloods) {
        stream.write_all(&[request(0, b""), message(b'Z', b"I")].concat()).await.ok()?;
        stream.read_exact(&mut [0; 5]).await.ok()?;
        stream.write_all(&flood()).await.ok()?;
    }
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        record.lock().expect("unpoisoned").extend_from_slice(&buffer[..read]);
    }
    Some(())
}

/// The answer to a statement: 300 rows of 10,000 empty values, 12 MB.
fn flood() -> Vec<u8> {
    const COLUMNS: u16 = 10_000;
    let column = [&b"a\0"[..], &[0; 18]].concat();
    let mut bytes = message(b'T', &[&COLUMNS.to_be_bytes()[..], &column.repeat(COLUMNS.into())].concat());
    let row = message(b'D', &[&COLUMNS.to_be_bytes()[..], &[0; 4].repeat(COLUMNS.into())].concat());
    bytes.extend(row.repeat(300));
    bytes.extend(message(b'C', b"SELECT 300\0"));
    bytes.extend(message(b'Z', b"I"));
    bytes
}

/// The nonce of the first SCRAM message of a client.
async fn client_nonce(stream: &mut TcpStream) -> Option<String> {
    stream.read_u8().await.ok()?;
    let mut body = vec![0; usize::try_from(stream.read_u32().await.ok()?).ok()?.checked_sub(4)?];
    stream.read_exact(&mut body).await.ok()?;
    Some(String::from_utf8_lossy(&body).split_once("r=")?.1.to_string())
}

async fn login(port: u16, rest: &str, policy: Policy) -> Failure {
    let credential = Credential::read(Secret::new(format!("reader:{PASSWORD}")));
    let id = format!("postgresql://127.0.0.1:{port}/shop{rest}");
    open_at(&id, &credential, policy).await.err().expect("the program is not a database")
}

/// The policy with the line that `fix` prints, written as the fix says.
fn policy_with_line_of(fix: &str) -> Policy {
    let line = fix.split_once("network.allow_weak_login: ").expect("the policy line").1;
    let list = &line[..=line.find(']').expect("a list")];
    let text =
        format!("version: 1\nallowlist: [postgres]\nnetwork: {{allow_private: [127.0.0.0/8], allow_weak_login: {list}}}\n");
    aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Waits until the program has received something.
async fn until_received(received: &Mutex<Vec<u8>>) -> Vec<u8> {
    crate::support::daemon::until("the password arrives", || async {
        let bytes = received.lock().expect("unpoisoned").len();
        (bytes > 0, format!("{bytes} bytes"))
    })
    .await;
    received.lock().expect("unpoisoned").clone()
}

#[tokio::test]
async fn an_unproven_server_that_asks_for_the_password_receives_nothing() {
    for (asks, says) in [
        (Asks::For(3, b""), "in clear text"),
        (Asks::For(5, b"salt"), "its MD5 digest"),
        (Asks::Scram(1), "1 SCRAM iterations"),
        (Asks::Scram(4095), "4095 SCRAM iterations"),
    ] {
        for rest in ["", "?sslmode=disable", "?sslmode=prefer"] {
            let (port, received) = rogue(asks).await;
            let failure = login(port, rest, policy(None)).await;
            assert_eq!(failure.class, Class::EgressRefused, "{failure:?}");
            assert!(failure.title.contains(says) && failure.title.contains("TLS does not prove"), "{failure:?}");
            assert!(failure.fix.contains("verify-full") && failure.fix.contains("scram"), "{failure:?}");
            assert!(!format!("{failure:?}").contains(PASSWORD), "{failure:?}");
            assert!(received.lock().expect("unpoisoned").is_empty(), "{says}: the password was used");
        }
    }
}

#[tokio::test]
async fn the_printed_policy_line_lets_this_server_have_the_password_and_no_other() {
    let (port, received) = rogue(Asks::For(3, b"")).await;
    let allowing = policy_with_line_of(&login(port, "", policy(None)).await.fix);
    let (other, nothing) = rogue(Asks::For(3, b"")).await;
    assert_eq!(login(other, "", allowing.clone()).await.class, Class::EgressRefused);
    assert!(nothing.lock().expect("unpoisoned").is_empty());
    // The program does not answer the password, so the login cannot succeed.
    tokio::spawn(async move { login(port, "?connectTimeout=1", allowing).await });
    let sent = until_received(&received).await;
    assert!(String::from_utf8_lossy(&sent).contains(PASSWORD), "{sent:?}");
}

#[tokio::test]
async fn scram_with_enough_iterations_is_used_and_does_not_contain_the_password() {
    let (port, received) = rogue(Asks::Scram(4096)).await;
    tokio::spawn(async move { login(port, "?connectTimeout=1", policy(None)).await });
    let sent = String::from_utf8_lossy(&until_received(&received).await).into_owned();
    assert!(sent.contains(",p=") && !sent.contains(PASSWORD), "{sent}");
}

#[tokio::test]
async fn a_method_that_the_driver_does_not_support_is_named_as_such() {
    for (asks, says) in [
        (Asks::For(7, b""), "GSSAPI"),
        (Asks::For(9, b""), "SSPI"),
        (Asks::For(13, b"0000"), "Redshift stores it as SHA-256"),
        (Asks::For(10, b"OAUTHBEARER\0\0"), "OAUTHBEARER"),
        (Asks::Scram(600_000), "600000 SCRAM iterations"),
    ] {
        let (port, received) = rogue(asks).await;
        let failure = login(port, "", policy(None)).await;
        assert_eq!(failure.class, Class::Misconfigured, "{failure:?}");
        assert!(failure.title.contains(says) && failure.fix.contains("aam heal"), "{failure:?}");
        assert!(received.lock().expect("unpoisoned").is_empty(), "{says}");
    }
}

#[tokio::test]
async fn rows_that_are_larger_in_memory_than_on_the_network_are_bounded() {
    let (port, _) = rogue(Asks::NothingAndFloods).await;
    let failure = login(port, "", policy(None)).await;
    assert_eq!(failure.class, Class::Misconfigured, "{failure:?}");
    assert!(failure.title.contains("larger than the limit of AAM"), "{failure:?}");
}

/// The built binary, with the credential in its environment.
#[tokio::test]
async fn a_rogue_server_gets_no_password_from_the_daemon_until_the_policy_lists_it() {
    let (port, received) = rogue(Asks::For(3, b"")).await;
    let mut workspace = Workspace::new();
    workspace.set("DB_LOGIN", &format!("reader:{PASSWORD}"));
    let daemon = workspace.serve().await;
    let id = format!("postgresql://127.0.0.1:{port}/shop");
    let mut document = intent("postgres", &id);
    document["credential_locator"] = json!("env:DB_LOGIN");
    let response = daemon.push(&document).await;
    assert_eq!(
        (&response.body["status"], &response.body["error"]["class"]),
        (&json!("NETWORK_BLOCKED"), &json!("egress_refused"))
    );
    assert!(received.lock().expect("unpoisoned").is_empty(), "the password was used");
    let fix = response.body["error"]["fix"].as_str().expect("a fix");
    let list = fix.split_once("network.allow_weak_login: ").expect("the policy line").1;
    workspace.write_policy(&format!("network: {{allow_private: [127.0.0.0/8], allow_weak_login: {list}}}\n"));
    let sent = until_received(&received).await;
    assert!(String::from_utf8_lossy(&sent).contains(PASSWORD), "{sent:?}");
}

#[tokio::test]
async fn a_login_that_hangs_until_the_step_timeout_counts_for_the_breaker() {
    let (address, _) = silent_address().await;
    let mut workspace = Workspace::new();
    workspace.write_policy(
        "safe_mode: {max_items: 20, step_timeout: 1s, attempt_timeout: 6s}\nbackoff: {initial: 1h, max: 2h, jitter: 0.0}\nbreaker: {failures: 2, open_for: 1h}\n",
    );
    workspace.set("DB_LOGIN", &format!("reader:{PASSWORD}"));
    let daemon = workspace.serve().await;
    for (family, scheme) in [("postgres", "postgresql"), ("jdbc", "jdbc:mariadb")] {
        let mut titles = Vec::new();
        for n in 0..3 {
            let mut document = intent(family, &format!("{scheme}://{address}/shop{n}"));
            document["credential_locator"] = json!("env:DB_LOGIN");
            let response = daemon.push(&document).await;
            titles.push(response.body["error"]["title"].as_str().unwrap_or_default().to_string());
        }
        assert!(titles[0].contains("did not finish within 1s") && titles[2].contains("circuit breaker open"), "{titles:?}");
    }
}
