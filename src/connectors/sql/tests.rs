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
    let work = Stage::Work("list the tables");
    let mut all = String::new();
    for (code, stage, message, class) in [
        ("28P01", Stage::Open, "", Class::CredentialRejected),
        ("28000", Stage::Open, "", Class::CredentialRejected),
        ("3D000", Stage::Open, "", Class::NotFound),
        ("42501", Stage::Open, "", Class::PermissionDenied),
        ("42501", work, "", Class::PermissionDenied),
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

/// Each message is as the server or the pooler sends it.
#[test]
fn every_refused_login_says_what_the_server_said() {
    use super::postgres::errors::{Stage, classify_code};
    let server = server("postgresql://db.example/shop");
    let hba = |rest: &str| {
        format!("FATAL 28000: no pg_hba.conf entry for host \"10.0.0.5\", user \"reader\", database \"shop\", {rest}")
    };
    let mut all = String::new();
    for (code, message, class) in [
        ("28000", hba("no encryption"), Class::CredentialRejected),
        ("28000", hba("SSL encryption"), Class::CredentialRejected),
        (
            "28000",
            "FATAL 28000: pg_hba.conf rejects connection for host \"::1\", user \"reader\", database \"shop\", SSL encryption".to_string(),
            Class::CredentialRejected,
        ),
        ("28000", "FATAL 28000: connection requires a valid client certificate".to_string(), Class::Misconfigured),
        ("28000", "FATAL 28000: role \"reader\" is not permitted to log in".to_string(), Class::CredentialRejected),
        ("28000", "FATAL 28000: role \"reader\" does not exist".to_string(), Class::CredentialRejected),
        ("28000", "FATAL 28000: LDAP authentication failed for user \"reader\"".to_string(), Class::CredentialRejected),
        ("08P01", "FATAL 08P01: SASL authentication failed".to_string(), Class::CredentialRejected),
        ("08P01", "FATAL 08P01: no such user: reader".to_string(), Class::CredentialRejected),
        ("08P01", "FATAL 08P01: no such database: shop".to_string(), Class::NotFound),
        ("08P01", "FATAL 08P01: database \"shop\" is disabled".to_string(), Class::NotFound),
        ("08P01", "FATAL 08P01: no more connections allowed (max_client_conn)".to_string(), Class::Throttled),
        ("08P01", "FATAL 08P01: SSL required".to_string(), Class::Misconfigured),
        (
            "08P01",
            "FATAL 08P01: server login has been failing, cached error: connect failed (server_login_retry)".to_string(),
            Class::Remote,
        ),
        (
            "08P01",
            "FATAL 08P01: server login has been failing, cached error: password authentication failed for user \"reader\" (server_login_retry)".to_string(),
            Class::CredentialRejected,
        ),
        (
            "XX000",
            "FATAL XX000: SCRAM authentication failed; detail: pool_passwd file does not contain an entry for \"reader\"".to_string(),
            Class::CredentialRejected,
        ),
        ("XX000", "ERROR XX000: backend authentication failed; detail: backend response with kind 'E' when expecting 'R'".to_string(), Class::CredentialRejected),
        ("XX000", "FATAL XX000: Tenant or user not found".to_string(), Class::CredentialRejected),
        ("XX000", "FATAL XX000: MaxClientsInSessionMode: max clients reached".to_string(), Class::Throttled),
        ("XX000", "FATAL XX000: something else".to_string(), Class::Remote),
        ("58000", "FATAL 58000: No pool configured for database: \"shop\", user: \"reader\"".to_string(), Class::NotFound),
        ("53300", "FATAL 53300: Sorry, too many clients already".to_string(), Class::Throttled),
    ] {
        let failure = classify_code(&server, "reader", Stage::Open, code, &message);
        assert_eq!(failure.class, class, "{message}: {failure:?}");
        assert_eq!(failure.detail, format!("the server said: {message}"));
        all.push_str(&text(&message, &failure));
    }
    snapshot("sql_postgres_refused_logins", &all);
}

/// The line for pg_hba.conf is pasted into a file that decides who may log in, so the server must not write it.
#[test]
fn a_server_cannot_put_its_own_text_into_a_line_to_paste() {
    use super::postgres::errors::{Stage, classify_code};
    let fix = |id: &str, user: &str, host: &str| {
        let message =
            format!("FATAL 28000: no pg_hba.conf entry for host \"{host}\", user \"evil\", database \"evil\", no encryption");
        let failure = classify_code(&server(id), user, Stage::Open, "28000", &message);
        assert!(!failure.title.contains("0.0.0.0") && !failure.fix.contains("evil"), "{failure:?}");
        failure.fix
    };
    let shop = "postgresql://db.example/shop";
    for (host, range) in [("10.0.0.5", "10.0.0.5/32"), ("2001:db8::1", "2001:db8::1/128")] {
        let line = format!("host \"shop\" \"reader\" {range} scram-sha-256 and");
        assert!(fix(shop, "reader", host).contains(&line), "{host}");
    }
    for host in ["all trust\nhost all all 0.0.0.0/0 trust #", "all", "0.0.0.0/0", "10.0.0.5 trust", "samenet", "fe80::1%eth0", ""]
    {
        let fix = fix(shop, "reader", host);
        assert!(!fix.contains("scram-sha-256") && !fix.contains('\n') && !fix.contains("0.0.0.0"), "{host:?}: {fix}");
    }
    for user in ["/^.*$", "a\nhost all all all trust", "a\u{202e}b"] {
        let fix = fix(shop, user, "10.0.0.5");
        assert!(!fix.contains("scram-sha-256") && !fix.contains('\n'), "{user:?}: {fix}");
    }
}

/// Every reason why one table or view cannot be read.
#[test]
fn every_unreadable_relation_has_its_own_sentence() {
    use super::postgres::errors::{Stage, classify_code};
    let server = server("postgresql://db.example/shop");
    let mut all = String::new();
    for (code, message) in [
        ("42501", "permission denied for table other"),
        ("25006", "cannot execute INSERT in a read-only transaction"),
        ("57014", "canceling statement due to statement timeout"),
        ("55P03", "canceling statement due to lock timeout"),
        ("55000", "materialized view \"aa\" has not been populated"),
        ("0A000", "cannot access temporary or unlogged relations during recovery"),
        ("42704", "unrecognized configuration parameter \"app.tenant\""),
        ("42P01", "relation \"mem\" does not exist"),
        ("42P01", "relation \"sales.mem\" does not exist"),
        ("42883", "function cur() does not exist"),
        ("42883", "operator does not exist: text = integer"),
        ("42704", "user mapping not found for \"super\""),
        ("22021", "invalid byte sequence for encoding \"UTF8\": 0xe9"),
        ("54000", "out of memory; detail: Cannot enlarge string buffer"),
        ("XX000", "invalid memory alloc request size 1073741824"),
        ("XX001", "invalid page in block 0 of relation base/5/16384"),
        ("40001", "canceling statement due to conflict with recovery"),
        ("42P17", "infinite recursion detected in policy for relation \"aa\""),
        ("P0001", "no tenant"),
        ("08001", "could not connect to server \"far\""),
        ("HV00N", "unable to establish connection"),
        ("22012", "division by zero"),
        ("XX000", "something else"),
    ] {
        let failure = classify_code(&server, "reader", Stage::Read("\"public\".\"aa\""), code, message);
        assert!(failure.title.contains("\"aa\"") && !failure.fix.is_empty(), "{code}: {failure:?}");
        all.push_str(&text(&format!("{code} {message}"), &failure));
    }
    snapshot("sql_postgres_unreadable", &all);
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
