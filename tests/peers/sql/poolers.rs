//! PostgreSQL behind PgBouncer and Pgpool-II, a second major version of PostgreSQL, and a self-signed certificate.

use super::relations::login;
use super::server::*;
use crate::harness::variable;
use crate::support::sql::{open_at, policy};
use aam::connectors::{Bounds, Opened};
use aam::credentials::Credential;
use aam::model::{Class, Failure, Privilege};
use serde_json::json;
use std::path::PathBuf;

peer_tests! {
    [Postgres]: poolers_refuse_logins_with_the_state_that_they_mean, a_database_of_pgbouncer_may_be_an_alias,
        a_database_behind_pgpool_is_read, a_self_signed_certificate_is_accepted_if_it_is_listed_itself,
        a_server_that_asks_for_the_password_in_clear_text_does_not_get_it, pg_hba_is_blamed_with_what_it_lacks,
        the_fix_of_a_refused_login_works;
    [Postgres18]: postgresql_18_is_read, the_fix_for_scram_iterations_works, a_server_without_tls_says_how_to_connect;
}

/// Opens `database` through the pooler on the port in the variable `pooler`.
async fn through(pooler: &str, database: &str, credential: &Credential) -> Result<Opened, Failure> {
    let port = Postgres.variable(pooler).parse().unwrap();
    open_at(&Postgres.id_at("127.0.0.1", port, database), credential, policy(None)).await
}

async fn every_step(opened: &Opened) {
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    assert_eq!(found.catalog.streams.len(), 4);
    assert_eq!(opened.connector.health().await.unwrap()["read_only"], json!(true));
    assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 20);
}

async fn poolers_refuse_logins_with_the_state_that_they_mean() {
    let reader = Postgres.credential("reader");
    for pooler in ["POOLER_PORT", "PGPOOL_PORT"] {
        for (what, database, credential, class) in [
            ("a wrong password", "shop", login("reader", "not-the-password"), Class::CredentialRejected),
            ("an unknown user", "shop", login("nobody-knows", "x"), Class::CredentialRejected),
            ("a password that only the pooler accepts", "shop", login("stale", "old"), Class::CredentialRejected),
            ("no such database", "nodb", reader.clone(), Class::NotFound),
        ] {
            let failure =
                through(pooler, database, &credential).await.err().unwrap_or_else(|| panic!("{pooler}: {what} was accepted"));
            assert_eq!(failure.class, class, "{pooler}, {what}: {failure:?}");
            assert!(
                !format!("{failure:?}").contains("not-the-password") && failure.detail.contains("the server said"),
                "{failure:?}"
            );
        }
    }
    // PgBouncer knows the database, and the server behind it does not.
    let gone = through("POOLER_PORT", "gone", &reader).await.err().unwrap();
    assert_eq!(gone.class, Class::NotFound, "{gone:?}");
}

/// `alias = host=... dbname=shop`.
async fn a_database_of_pgbouncer_may_be_an_alias() {
    let opened = through("POOLER_PORT", "alias", &Postgres.credential("reader")).await.unwrap();
    assert_eq!((&opened.identity["database"], &opened.identity["behind_pooler"]), (&json!("shop"), &json!(true)));
    assert_eq!(opened.identity["alias"], json!("the pooler serves the database shop as alias"));
    every_step(&opened).await;
    let direct = open(Postgres, "reader", "shop").await.unwrap();
    assert_eq!((&direct.identity["behind_pooler"], direct.identity.get("alias")), (&json!(false), None));
}

async fn a_database_behind_pgpool_is_read() {
    let credential = Postgres.credential("reader");
    let opened = through("PGPOOL_PORT", "shop", &credential).await.unwrap();
    every_step(&opened).await;
    let second = through("PGPOOL_PORT", "shop", &credential).await.unwrap();
    every_step(&second).await;
    every_step(&opened).await;
}

async fn postgresql_18_is_read() {
    let id = Postgres.id_at("127.0.0.1", variable("POSTGRES18", "PORT").parse().unwrap(), "shop");
    let password = variable("POSTGRES18", "READER_PASSWORD");
    let opened = open_at(&id, &login("reader", &password), policy(None)).await.unwrap();
    assert!(opened.identity["server_version"].as_str().unwrap().starts_with("18."), "{:?}", opened.identity);
    assert_eq!((&opened.identity["behind_pooler"], &opened.privilege), (&json!(false), &Privilege::Ok));
    every_step(&opened).await;
    let wrong = open_at(&id, &login("reader", "not-the-password"), policy(None)).await.err().unwrap();
    assert_eq!(wrong.class, Class::CredentialRejected, "{wrong:?}");
    let writer = login("writer", &variable("POSTGRES18", "WRITER_PASSWORD"));
    let opened = open_at(&id, &writer, policy(None)).await.unwrap();
    assert!(matches!(opened.privilege, Privilege::Over { .. }), "{:?}", opened.privilege);
}

/// The certificate of the standby is the one of section 19.9.5 of the PostgreSQL manual: self-signed, an authority, and with
/// its name in the subject only.
async fn a_self_signed_certificate_is_accepted_if_it_is_listed_itself() {
    let port = Postgres.variable("STANDBY_PORT").parse().unwrap();
    let id = |host: &str| Postgres.id_at(host, port, "shop?sslmode=verify-full");
    let listing = || policy(Some(PathBuf::from(Postgres.variable("STANDBY_CA_FILE"))));
    let credential = Postgres.credential("reader");
    let opened = open_at(&id("localhost"), &credential, listing()).await.unwrap();
    assert_eq!(opened.identity["encrypted"], json!(true));
    every_step(&opened).await;
    // The name counts, and so does the list: another certificate in the file proves nothing.
    let other = open_at(&id("127.0.0.1"), &credential, listing()).await.err().unwrap();
    assert!(other.class == Class::Network && other.fix.contains("host name"), "{other:?}");
    for trusting in [policy(None), policy(Some(PathBuf::from(Postgres.variable("CA_FILE"))))] {
        let unknown = open_at(&id("localhost"), &credential, trusting).await.err().unwrap();
        assert!(unknown.class == Class::Network && unknown.fix.contains("network.ca_file"), "{unknown:?}");
        assert!(unknown.fix.contains("openssl s_client -starttls postgres"), "{unknown:?}");
        // The command of the fix writes the certificate that makes the login work.
        let folder = tempfile::tempdir().unwrap();
        let command = &unknown.fix[unknown.fix.find("openssl").unwrap()..];
        let status = std::process::Command::new("sh").args(["-c", command]).current_dir(folder.path()).output().unwrap().status;
        assert!(status.success(), "{command}");
        open_at(&id("localhost"), &credential, policy(Some(folder.path().join("server.crt")))).await.unwrap();
    }
}

/// Puts `lines`, which concern the database `name` only, above the others in pg_hba.conf, and creates the database.
async fn with_hba(name: &str, lines: &str) {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let server = superuser("postgres").await;
    let file: String = server.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
    {
        let _editing = ONE_AT_A_TIME.lock().unwrap();
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{lines}\n{before}")).unwrap();
    }
    server.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
    server.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
}

async fn a_server_that_asks_for_the_password_in_clear_text_does_not_get_it() {
    with_hba("hba_clear", "host hba_clear all all password").await;
    let id = |host: &str, rest: &str| Postgres.id_at(host, Postgres.port(), &format!("hba_clear{rest}"));
    let credential = Postgres.credential("reader");
    let refused = |rest: &'static str| {
        let id = id("127.0.0.1", rest);
        let credential = credential.clone();
        async move { open_at(&id, &credential, policy(None)).await.err() }
    };
    crate::support::daemon::until("the server has read its configuration", || async {
        let failure = refused("").await;
        (failure.as_ref().is_some_and(|failure| failure.class == Class::EgressRefused), format!("{failure:?}"))
    })
    .await;
    // With verified TLS, the server has proven which one it is.
    let trusting = policy(Some(PathBuf::from(Postgres.variable("CA_FILE"))));
    open_at(&id("localhost", "?sslmode=verify-full"), &credential, trusting).await.unwrap();
    // The policy may list the server.
    let failure = refused("?sslmode=disable").await.unwrap();
    let listed = failure.fix.split_once("network.allow_weak_login: [\"").unwrap().1.split_once('"').unwrap().0.to_string();
    let mut allowing = policy(None);
    allowing.network.allow_weak_login = vec![aam::policy::LoginHost::parse(&listed).unwrap()];
    open_at(&id("127.0.0.1", ""), &credential, allowing).await.unwrap();
}

async fn pg_hba_is_blamed_with_what_it_lacks() {
    with_hba("hba_none", "host hba_none all all reject\nhostssl hba_ssl all all scram-sha-256\nhost hba_ssl all all reject")
        .await;
    let credential = Postgres.credential("reader");
    crate::support::daemon::until("the server has read its configuration", || async {
        let failure = open(Postgres, "reader", "hba_none").await.err();
        (failure.as_ref().is_some_and(|failure| failure.detail.contains("pg_hba.conf")), format!("{failure:?}"))
    })
    .await;
    let clear = refused(Postgres, "reader", "hba_none").await;
    assert_eq!(clear.class, Class::CredentialRejected);
    assert!(
        clear.title.contains("without encryption") && clear.fix.contains("host \"hba_none\" \"reader\" 127.0.0.1/32"),
        "{clear:?}"
    );
    let trusting = || policy(Some(PathBuf::from(Postgres.variable("CA_FILE"))));
    let id = |name: &str| Postgres.id_at("localhost", Postgres.port(), &format!("{name}?sslmode=verify-full"));
    let encrypted = open_at(&id("hba_none"), &credential, trusting()).await.err().unwrap();
    assert!(encrypted.title.contains("over TLS") && !encrypted.fix.contains("sslmode"), "{encrypted:?}");
    // The printed line, put above the others, lets the reader in.
    let line = encrypted.fix.split_once("reject it: ").unwrap().1.split_once(" and reload").unwrap().0;
    with_hba("hba_none", line).await;
    crate::support::daemon::until("the line is in force", || async {
        let outcome = open_at(&id("hba_none"), &credential, trusting()).await.err();
        (outcome.is_none(), format!("{outcome:?}"))
    })
    .await;
}

/// The statements that a fix prints, from `start` to the last semicolon, with `password` for what they leave open.
fn statements(fix: &str, start: &str, password: &str) -> String {
    let from = &fix[fix.find(start).unwrap_or_else(|| panic!("no {start} in {fix}"))..];
    from[..=from.rfind(';').map_or(from.len() - 1, |end| end)].replace("'...'", &format!("'{password}'"))
}

async fn the_fix_of_a_refused_login_works() {
    let server = superuser("postgres").await;
    let refusal = async |database: &str, user: &str| {
        open_at(&Postgres.id(database), &login(user, "right"), policy(None))
            .await
            .err()
            .unwrap_or_else(|| panic!("{user} was let in"))
    };
    for (user, create, database, start, class) in [
        ("fix_nologin", "CREATE ROLE fix_nologin NOLOGIN PASSWORD 'right'", "postgres", "ALTER ROLE", Class::CredentialRejected),
        ("fix_password", "CREATE ROLE fix_password LOGIN PASSWORD 'wrong'", "postgres", "ALTER ROLE", Class::CredentialRejected),
        (
            "fix_connect",
            "CREATE ROLE fix_connect LOGIN PASSWORD 'right'",
            "fix_connect",
            "GRANT CONNECT",
            Class::PermissionDenied,
        ),
        (
            "fix_md5",
            "SET password_encryption = 'md5'; CREATE ROLE fix_md5 LOGIN PASSWORD 'right'; RESET password_encryption",
            "fix_md5",
            "SET password_encryption",
            Class::EgressRefused,
        ),
    ] {
        server.batch_execute(&format!("DROP ROLE IF EXISTS {user}")).await.unwrap();
        server.batch_execute(create).await.unwrap();
        if database != "postgres" {
            with_hba(database, &format!("host {database} {user} all md5")).await;
            server.batch_execute(&format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")).await.unwrap();
        }
        if user == "fix_md5" {
            server.batch_execute("GRANT CONNECT ON DATABASE fix_md5 TO fix_md5").await.unwrap();
            crate::support::daemon::until("the server has read its configuration", || async {
                let failure = refusal(database, user).await;
                (failure.class == class, format!("{failure:?}"))
            })
            .await;
        }
        let failure = refusal(database, user).await;
        assert_eq!(failure.class, class, "{user}: {failure:?}");
        let fix = statements(&failure.fix, start, "right");
        server.batch_execute(&fix).await.unwrap_or_else(|error| panic!("{user}: {fix}: {error:?}"));
        let opened = open_at(&Postgres.id(database), &login(user, "right"), policy(None)).await;
        assert!(opened.is_ok(), "{user}: {fix}: {:?}", opened.err());
    }
}

/// PostgreSQL 16 and later can store a password with another number of iterations.
async fn the_fix_for_scram_iterations_works() {
    let id = Postgres.id_at("127.0.0.1", variable("POSTGRES18", "PORT").parse().unwrap(), "shop");
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(variable("POSTGRES18", "PORT").parse().unwrap()).dbname("shop");
    config.user("super").password(variable("POSTGRES18", "SUPER_PASSWORD"));
    let (server, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for (user, iterations, class) in [("few", 1000, Class::EgressRefused), ("many", 200_000, Class::Misconfigured)] {
        server.batch_execute(&format!("DROP ROLE IF EXISTS {user}; SET scram_iterations = {iterations}")).await.unwrap();
        server.batch_execute(&format!("CREATE ROLE {user} LOGIN PASSWORD 'right'; RESET scram_iterations")).await.unwrap();
        let failure = open_at(&id, &login(user, "right"), policy(None)).await.err().unwrap();
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.title.contains(&format!("{iterations} SCRAM iterations")), "{failure:?}");
        server.batch_execute(&statements(&failure.fix, "SET scram_iterations", "right")).await.unwrap();
        let opened = open_at(&id, &login(user, "right"), policy(None)).await;
        assert!(opened.is_ok(), "{:?}", opened.err());
    }
}

/// This build of PostgreSQL has no TLS.
async fn a_server_without_tls_says_how_to_connect() {
    let id = |rest: &str| Postgres.id_at("127.0.0.1", variable("POSTGRES18", "PORT").parse().unwrap(), &format!("shop{rest}"));
    let reader = login("reader", &variable("POSTGRES18", "READER_PASSWORD"));
    let failure = open_at(&id("?sslmode=verify-full"), &reader, policy(None)).await.err().unwrap();
    assert!(failure.class == Class::Network && failure.fix.contains("?sslmode=disable"), "{failure:?}");
    every_step(&open_at(&id("?sslmode=disable"), &reader, policy(None)).await.unwrap()).await;
}
