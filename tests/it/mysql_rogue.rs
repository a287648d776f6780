//! A MySQL server that lies: it announces what no server sends, and asks for what no server may have.

use crate::support::daemon::{Workspace, intent, until};
use crate::support::rogue_mysql::{Answer, RogueMysql, columns, error, ok, row, switch_to};
use crate::support::sql::{open_at, policy};
use aam::credentials::{Credential, Secret};
use aam::model::{Class, Failure};
use aam::policy::LoginHost;
use serde_json::json;

const PASSWORD: &str = "hunter2-hunter2";

async fn opened(port: u16, weak_login: bool) -> Option<Failure> {
    let credential = Credential::read(Secret::new(format!("reader:{PASSWORD}")));
    let mut policy = policy(None);
    if weak_login {
        policy.network.allow_weak_login = vec![LoginHost::parse("127.0.0.1").expect("a host")];
    }
    open_at(&format!("jdbc:mysql://127.0.0.1:{port}/shop"), &credential, policy).await.err()
}

/// The server accepts the login and then sends `answer` to the first statement.
async fn after_login(answer: Answer) -> RogueMysql {
    RogueMysql::start("mysql_native_password", vec![vec![ok()], answer]).await
}

#[tokio::test]
async fn an_absurd_number_of_columns_ends_neither_the_daemon_nor_the_other_connections() {
    let mut workspace = Workspace::new();
    workspace.set("DB_LOGIN", &format!("reader:{PASSWORD}"));
    let rogue = after_login(vec![columns(1 << 44)]).await;
    let database = format!("jdbc:mysql://127.0.0.1:{}/shop", rogue.port);
    let mut login = intent("jdbc", &database);
    login["credential_locator"] = json!("env:DB_LOGIN");
    workspace.intent_file("rogue.json", &login);
    let good = workspace.csv("good.csv", 3);
    workspace.intent_file("good.json", &intent("filesource", &good));
    let daemon = workspace.serve().await;
    let pid = daemon.pid();
    let one = daemon.until_connection(&database, "it fails", |one| one["error"].is_object()).await;
    assert_eq!((&one["status"], &one["error"]["class"]), (&json!("ERROR"), &json!("remote")), "{one}");
    assert!(one["error"]["title"].as_str().is_some_and(|title| title.contains("breaks the MySQL protocol")), "{one}");
    daemon.until_state(&good, "ACTIVE").await;
    assert_eq!(daemon.pid(), pid);
    assert_eq!(daemon.stop().await, Some(0));
}

#[tokio::test]
async fn what_a_server_announces_is_refused_with_its_own_sentence() {
    for (answer, detail) in [
        (vec![columns(1 << 44)], "number of columns"),
        (vec![columns(u64::MAX)], "number of columns"),
        (vec![vec![0xFC]], "number of columns is not valid"),
        (vec![b"\xFB/etc/passwd".to_vec()], "asked for a file of this machine"),
        (vec![vec![1], b"column".to_vec(), b"not the end".to_vec()], "more columns than the server announced"),
        (vec![vec![0xFF; 5000]], "longer than 4 KiB"),
    ] {
        let rogue = after_login(answer).await;
        let failure = opened(rogue.port, false).await.expect("a rogue server");
        assert!(failure.class == Class::Remote && failure.detail.contains(detail), "{failure:?}");
        assert!(failure.title.contains("breaks the MySQL protocol"), "{failure:?}");
    }
}

/// What an old server, or one that only speaks MySQL's protocol, answers to the statements that begin a session.
fn opening(limits: [Vec<u8>; 2]) -> Vec<Answer> {
    let [lock, statement] = limits;
    let identity = row(&["shop", "reader@%", "8.0.0-other", "1"]);
    let grants = row(&["GRANT SELECT ON `shop`.* TO `reader`@`%`"]);
    let (one, ok) = (|packet| vec![packet], || vec![ok()]);
    vec![ok(), ok(), row(&["8.0.0-other"]), one(lock), one(statement), ok(), identity, ok(), ok(), grants, ok()]
}

#[tokio::test]
async fn a_server_without_a_time_limit_of_its_own_is_read_and_the_identity_says_so() {
    let unknown = |name: &str| error(1193, &format!("Unknown system variable '{name}'"));
    let answers = opening([unknown("lock_wait_timeout"), unknown("max_execution_time")]);
    let server = RogueMysql::start("mysql_native_password", answers).await;
    let credential = Credential::read(Secret::new(format!("reader:{PASSWORD}")));
    let id = format!("jdbc:mysql://127.0.0.1:{}/shop", server.port);
    let opened = open_at(&id, &credential, policy(None)).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["missing_limits"], json!(["lock_wait_timeout", "max_execution_time"]));
    // Any other refusal names what was attempted.
    let answers = opening([error(1231, "Variable 'lock_wait_timeout' can't be set to the value of '1'"), ok()]);
    let server = RogueMysql::start("mysql_native_password", answers).await;
    let failure = opened_at(server.port).await;
    assert!(failure.title.contains("refused to limit the time of the session"), "{failure:?}");
}

async fn opened_at(port: u16) -> Failure {
    opened(port, false).await.expect("a failure")
}

/// Nothing that arrived contains the password, in clear or encrypted: a response to a challenge has at most 64 bytes, and
/// a packet with an RSA ciphertext has at least 128.
fn assert_nothing_revealed(rogue: &RogueMysql, plugin: &str) {
    let received = rogue.received();
    assert!(!received.is_empty(), "{plugin}: nothing arrived");
    for packet in received {
        assert!(!packet.windows(7).any(|part| part == b"hunter2"), "{plugin}: {packet:?}");
        assert!(packet.len() < 128, "{plugin}: {packet:?}");
    }
}

#[tokio::test]
async fn an_unproven_server_receives_no_password_whatever_it_asks_for() {
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").public_key_pem();
    let more = |data: &[u8]| [&[1][..], data].concat();
    for (plugin, answers) in [
        ("mysql_clear_password", vec![vec![switch_to("mysql_clear_password")]]),
        ("sha256_password", vec![vec![switch_to("sha256_password")], vec![more(pem.as_bytes())]]),
        ("caching_sha2_password", vec![vec![more(&[4])], vec![more(pem.as_bytes())]]),
        ("caching_sha2_password", vec![vec![more(pem.as_bytes())]]),
    ] {
        let rogue = RogueMysql::start(plugin, answers).await;
        let failure = opened(rogue.port, false).await.expect("a rogue server");
        assert!(matches!(failure.class, Class::Misconfigured | Class::Remote), "{plugin}: {failure:?}");
        if failure.class == Class::Misconfigured {
            // The printed line is a valid policy, and names this server.
            let line = &failure.fix[failure.fix.find("network: {").expect("the key of the policy")..];
            let text = format!("version: 1\nallowlist: [jdbc]\n{line}\n");
            let policy =
                aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
            assert!(
                policy.network.allows_weak_login("127.0.0.1", rogue.port) && !policy.network.allows_weak_login("127.0.0.1", 1)
            );
        }
        assert_nothing_revealed(&rogue, plugin);
    }
    for plugin in ["mysql_old_password", "dialog", "auth_gssapi_client"] {
        let rogue = RogueMysql::start("mysql_native_password", vec![vec![switch_to(plugin)]]).await;
        let failure = opened(rogue.port, false).await.expect("a rogue server");
        assert!(failure.class == Class::Unsupported && failure.title.contains(plugin), "{failure:?}");
        assert_nothing_revealed(&rogue, plugin);
    }
}

#[tokio::test]
async fn the_daemon_sends_the_password_itself_only_after_the_policy_names_the_server() {
    let mut workspace = Workspace::new();
    workspace.set("DB_LOGIN", &format!("reader:{PASSWORD}"));
    let rogue = RogueMysql::start("mysql_native_password", vec![vec![switch_to("mysql_clear_password")], vec![ok()]]).await;
    let database = format!("jdbc:mysql://127.0.0.1:{}/shop", rogue.port);
    let mut login = intent("jdbc", &database);
    login["credential_locator"] = json!("env:DB_LOGIN");
    workspace.intent_file("rogue.json", &login);
    let daemon = workspace.serve().await;
    let one = daemon.until_connection(&database, "it fails", |one| one["error"].is_object()).await;
    assert_eq!((&one["status"], &one["error"]["class"]), (&json!("ERROR"), &json!("misconfigured")), "{one}");
    assert_nothing_revealed(&rogue, "mysql_clear_password");
    let entry = format!("127.0.0.1:{}", rogue.port);
    assert!(one["error"]["fix"].as_str().is_some_and(|fix| fix.contains(&format!("allow_weak_login: [\"{entry}\"]"))), "{one}");
    workspace.write_policy(&format!("network: {{allow_private: [127.0.0.0/8], allow_weak_login: [\"{entry}\"]}}\n"));
    until("the password arrives", || async {
        let arrived = rogue.received().iter().any(|packet| packet == format!("{PASSWORD}\0").as_bytes());
        (arrived, format!("{:?}", rogue.received()))
    })
    .await;
}

/// The fix of the failure above: the policy names the host.
#[tokio::test]
async fn a_host_of_the_policy_receives_the_password_that_it_asks_for() {
    let rogue = RogueMysql::start("mysql_native_password", vec![vec![switch_to("mysql_clear_password")], vec![ok()]]).await;
    let failure = opened(rogue.port, true).await.expect("the server closes the connection after the login");
    assert!(failure.title.contains("closed"), "{failure:?}");
    assert!(rogue.received().iter().any(|packet| packet == format!("{PASSWORD}\0").as_bytes()));
}
