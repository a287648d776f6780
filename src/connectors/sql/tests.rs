//! Tests of error texts that no real server produces on demand, and of what the engine does without a network.

use super::*;
use crate::model::Class;

fn server(id: &str) -> uri::DatabaseServer {
    match uri::parse(id) {
        Ok(DatabaseLocation::Server(server)) => server,
        other => panic!("{other:?}"),
    }
}

fn text(what: &str, failure: &Failure) -> String {
    format!("# {what}\n{:?}\n  {}\n  fix: {}\n", failure.class, failure.title, failure.fix)
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn every_postgres_code_has_its_class_and_its_fix() {
    use super::postgres::errors::{Stage, classify_code};
    let server = server("postgresql://db.example/shop");
    let work = Stage::Work("read \"sales\".\"t\"");
    let mut all = String::new();
    for (code, stage, message, class) in [
        ("28P01", Stage::Open, "", Class::CredentialRejected),
        ("28000", Stage::Open, "", Class::CredentialRejected),
        ("28000", Stage::Open, "no pg_hba.conf entry for host, no encryption", Class::CredentialRejected),
        ("3D000", Stage::Open, "", Class::NotFound),
        ("42501", Stage::Open, "", Class::PermissionDenied),
        ("42501", work, "", Class::PermissionDenied),
        ("25006", work, "", Class::Remote),
        ("53300", Stage::Open, "", Class::Throttled),
        ("57014", work, "", Class::Remote),
        ("55P03", work, "", Class::Remote),
        ("57P03", Stage::Open, "", Class::Remote),
        ("57P01", work, "", Class::Remote),
        ("XX000", work, "", Class::Remote),
    ] {
        let failure = classify_code(&server, "reader", stage, code, message);
        assert_eq!(failure.class, class, "{code}");
        all.push_str(&text(code, &failure));
    }
    snapshot("sql_postgres_codes", &all);
}

#[test]
fn every_mysql_code_has_its_class_and_its_fix() {
    use super::mysql::errors::{Stage, classify_code};
    let server = server("jdbc:mysql://db.example/shop");
    let work = Stage::Work("read `t`");
    let mut all = String::new();
    for (code, stage, class) in [
        (1045, Stage::Open, Class::CredentialRejected),
        (1045, work, Class::PermissionDenied),
        (1130, Stage::Open, Class::CredentialRejected),
        (1044, Stage::Open, Class::PermissionDenied),
        (1820, Stage::Work("make the session read-only"), Class::CredentialRejected),
        (1862, Stage::Open, Class::CredentialRejected),
        (4151, Stage::Open, Class::CredentialRejected),
        (1524, Stage::Open, Class::Unsupported),
        (1064, Stage::Work("make the session read-only"), Class::Unsupported),
        (1142, work, Class::PermissionDenied),
        (1143, work, Class::PermissionDenied),
        (1049, Stage::Open, Class::NotFound),
        (1040, Stage::Open, Class::Throttled),
        (1203, Stage::Open, Class::Throttled),
        (1129, Stage::Open, Class::Remote),
        (1205, work, Class::Remote),
        (1792, work, Class::Remote),
        (1356, work, Class::Remote),
        (1017, work, Class::Remote),
        (1969, work, Class::Remote),
        (3024, work, Class::Remote),
        (1053, work, Class::Remote),
        (3159, Stage::Open, Class::Misconfigured),
        (9001, work, Class::Remote),
        (9999, work, Class::Remote),
    ] {
        let failure = classify_code(&server, "o'hara", stage, code, "");
        assert_eq!(failure.class, class, "{code}");
        all.push_str(&text(&code.to_string(), &failure));
    }
    let pooler = "ERROR 1045 (28000): ProxySQL Error: Access denied for user 'o''hara'@'10.0.0.1' (using password: YES)";
    let failure = classify_code(&server, "o'hara", Stage::Open, 1045, pooler);
    assert_eq!(failure.class, Class::CredentialRejected);
    all.push_str(&text("1045 of ProxySQL", &failure));
    snapshot("sql_mysql_codes", &all);
}

#[test]
fn every_refusal_of_a_resource_id_can_be_read() {
    let mut all = String::new();
    for id in [
        "jdbc:oracle:thin:@h:1521/x",
        "jdbc:redshift://h/db",
        "jdbc:frobnicate:x",
        "shop",
        "jdbc:postgresql:shop",
        "postgres://joe:secret@h/db",
        "jdbc:postgresql://a,b/db",
        "jdbc:mysql://h/db?allowLoadLocalInfile=true",
        "jdbc:mysql://h/db?colour=blue",
        "jdbc:postgresql://h/db?ssl=false",
        "jdbc:sqlite::memory:",
        "jdbc:sqlite:x?cache=shared",
    ] {
        let failure =
            SqlEngine.bind_database(id, Arc::new(test_policy(Vec::new()))).err().unwrap_or_else(|| panic!("{id} was accepted"));
        all.push_str(&text(id, &failure));
    }
    snapshot("sql_resource_ids", &all);
}

#[test]
fn a_plan_names_host_and_database_and_a_broken_id_is_never_shown() {
    let bind = |id: &str| SqlEngine.bind_database(id, Arc::new(test_policy(Vec::new())));
    let server = bind("jdbc:postgresql://DB.example/shop?sslmode=verify-full").unwrap_or_else(|failure| panic!("{failure:?}"));
    let planned = PlannedCall { method: "SQL READ ONLY".into(), host: "db.example:5432".into(), path: "/shop".into() };
    assert_eq!(server.planned_calls(), [planned]);
    assert_eq!((server.account(), server.credential_need()), ("db.example:5432", CredentialNeed::Required));
    let file = bind("jdbc:sqlite:a.db").unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(file.credential_need(), CredentialNeed::Optional);
    let broken = bind("postgres://joe:hunter2@h/db").err().unwrap_or_else(|| panic!("a password was accepted"));
    assert!(!format!("{broken:?}").contains("hunter2"));
}

#[test]
fn clear_text_needs_loopback_or_a_written_word() {
    let judge = |id: &str, address: &str| {
        tls::encrypted(&server(id), address.parse().unwrap_or_else(|e| panic!("{e}"))).map_err(|f| f.class)
    };
    let (loopback, remote) = ("127.0.0.1:5432", "192.0.2.1:5432");
    for (id, here, there) in [
        ("h:5432/db", Ok(false), Ok(true)),
        ("postgres://h/db?sslmode=prefer", Ok(false), Err(Class::Misconfigured)),
        ("postgres://h/db?sslmode=disable", Ok(false), Ok(false)),
        ("postgres://h/db?sslmode=require", Ok(true), Ok(true)),
        ("jdbc:mysql://h/db?useSSL=true", Ok(true), Ok(true)),
    ] {
        assert_eq!((judge(id, loopback), judge(id, remote)), (here, there), "{id}");
    }
    assert_eq!(judge("h:5432/db", "[::ffff:127.0.0.1]:5432"), Ok(false));
}
