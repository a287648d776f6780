use super::*;
use crate::model::Class;
use proptest::prelude::*;
use std::time::Duration;

fn ok(id: &str) -> DatabaseServer {
    match parse(id) {
        Ok(DatabaseLocation::Server(server)) => server,
        other => panic!("{id}: {other:?}"),
    }
}

fn refused(id: &str) -> Failure {
    parse(id).err().unwrap_or_else(|| panic!("{id} was accepted"))
}

#[test]
fn the_forms_of_both_families_are_read() {
    for (id, shown) in [
        ("jdbc:postgresql://DB.example/shop", "postgres db.example:5432/shop"),
        ("postgres://db.example:6432/shop", "postgres db.example:6432/shop"),
        ("postgresql://[::1]:5432/sh%20op", "postgres [::1]:5432/sh op"),
        ("db.example:5432/shop", "postgres db.example:5432/shop"),
        ("jdbc:mysql://db.example/shop", "mysql db.example:3306/shop"),
        ("JDBC:MariaDB://127.0.0.1:3307/shop", "mysql 127.0.0.1:3307/shop"),
    ] {
        assert_eq!(ok(id).to_string(), shown);
    }
    assert_eq!(parse("jdbc:sqlite:seeds/data/shop.db"), Ok(DatabaseLocation::Sqlite("seeds/data/shop.db".to_string())));
}

#[test]
fn properties_are_read() {
    let server = ok("jdbc:postgresql://h/db?sslmode=disable&currentSchema=sales&ApplicationName=aod&connectTimeout=2");
    assert_eq!((server.tls, server.schema.as_deref(), server.application.as_deref()), (Tls::Disable, Some("sales"), Some("aod")));
    assert_eq!(server.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(
        ok("jdbc:mysql://h/db?sslMode=VERIFY_IDENTITY&connectTimeout=900").connect_timeout,
        Some(Duration::from_millis(900))
    );
    assert_eq!(ok("jdbc:mariadb://h/db").tls, Tls::Unspecified);
}

#[test]
fn a_login_in_the_address_is_refused_and_never_echoed() {
    for id in [
        "postgres://joe:hunter2@h:5432/db",
        "jdbc:postgresql://joe:hunter2@h/db",
        "joe:hunter2@h:5432/db",
        "jdbc:postgresql://h/db?user=joe&password=hunter2",
        "jdbc:mysql://h/db?PASSWORD=hunter2",
        "jdbc:mysql://joe:hun/ter2@h/db",
        "jdbc:postgresql://h/db?sslpassword=hunter2",
    ] {
        let failure = refused(id);
        assert_eq!(failure.class, Class::NotMappable, "{id}");
        assert!(failure.fix.contains("credential_locator"), "{failure:?}");
        assert!(!format!("{failure:?}").contains("hunter2") && !format!("{failure:?}").contains("joe"), "{failure:?}");
    }
}

#[test]
fn dangerous_and_unknown_properties_are_refused_by_name() {
    for (id, name) in [
        ("jdbc:mysql://h/db?allowLoadLocalInfile=true", "allowLoadLocalInfile"),
        ("jdbc:mysql://h/db?autoDeserialize=true", "autoDeserialize"),
        ("jdbc:postgresql://h/db?socketFactory=evil.Class", "socketFactory"),
        ("jdbc:postgresql://h/db?sslfactory=org.x.NonValidating", "sslfactory"),
        ("jdbc:postgresql://h/db?INIT=RUNSCRIPT", "INIT"),
        ("jdbc:postgresql://h/db?colour=blue", "colour"),
        ("jdbc:mysql://h/db?currentSchema=x", "currentSchema"),
    ] {
        let failure = refused(id);
        assert_eq!(failure.class, Class::NotMappable, "{id}");
        assert!(failure.title.contains(name), "{failure:?}");
        assert!(!format!("{failure:?}").contains("evil.Class"), "{failure:?}");
    }
}

#[test]
fn other_dialects_are_unsupported_and_say_what_would_serve() {
    for (id, dialect, served) in [
        ("jdbc:sqlserver://h;databaseName=x", "sqlserver", "TDS"),
        ("jdbc:oracle:thin:@h:1521/x", "oracle", "source-oracle"),
        ("jdbc:redshift://h/db", "redshift", "family redshift"),
        ("jdbc:h2:mem:x", "h2", "Java process"),
        ("jdbc:snowflake://acme", "snowflake", "family snowflake"),
        ("jdbc:frobnicate://h/x", "frobnicate", "ask for a connector"),
        ("mongodb://h/x", "mongodb", "family mongo"),
    ] {
        let failure = refused(id);
        assert_eq!(failure.class, Class::Unsupported, "{id}");
        assert!(failure.title.contains(dialect) && failure.fix.contains(served), "{failure:?}");
    }
}

#[test]
fn half_written_addresses_say_what_to_write() {
    for id in [
        "",
        "h",
        "h:5432",
        "jdbc:",
        "jdbc:postgresql:shop",
        "jdbc:postgresql://h",
        "jdbc:postgresql://h/",
        "jdbc:postgresql:///db",
        "jdbc:postgresql://h:0/db",
        "jdbc:postgresql://h:99999/db",
        "jdbc:postgresql://a,b/db",
        "jdbc:postgresql://[::1/db",
        "jdbc:mysql:replication://h/db",
        "jdbc:mysql://(host=h)/db",
        "jdbc:sqlite:",
        "jdbc:sqlite::memory:",
        "jdbc:sqlite:file:x?mode=rw",
        "jdbc:sqlite:x?cache=shared",
        "jdbc:postgresql://h/a/b",
        "jdbc:postgresql://h/d\u{0}b",
        "sqlite://x",
        "mysql://h/db",
        "jdbc:postgresql://h/db?ssl=false",
        "jdbc:postgresql://h/db?sslmode=trust",
        "jdbc:postgresql://h/db?readOnly=false",
        "jdbc:postgresql://h/db?connectTimeout=0",
        "jdbc:postgresql://h/db?search_path=a,b",
    ] {
        let failure = refused(id);
        assert_eq!(failure.class, Class::NotMappable, "{id}: {failure:?}");
        assert!(!failure.fix.is_empty(), "{id}");
    }
}

proptest! {
    /// Parsing any text returns a result, and a failure does not repeat the text.
    #[test]
    fn any_text_is_answered(id in "\\PC{0,80}") {
        let _ = parse(&id);
    }

    #[test]
    fn a_secret_is_never_repeated(user in "[a-z]{1,8}", secret in "[A-Za-z0-9!/?#:]{12,20}", head in "jdbc:postgresql://|postgres://|jdbc:mysql://|") {
        let id = format!("{head}{user}:{secret}@db.example:5432/shop");
        let failure = parse(&id).err().ok_or_else(|| TestCaseError::fail("accepted"))?;
        prop_assert!(!format!("{failure:?}").contains(&secret), "{:?}", failure);
    }

    /// Formatting an address and parsing the result gives the same server.
    #[test]
    fn what_is_shown_can_be_read_again(host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., db in "[a-z_][a-z0-9_]{0,20}", mysql: bool) {
        let scheme = if mysql { "jdbc:mysql" } else { "postgresql" };
        let Ok(DatabaseLocation::Server(first)) = parse(&format!("{scheme}://{host}:{port}/{db}")) else { return Err(TestCaseError::fail("refused")) };
        let Ok(DatabaseLocation::Server(again)) = parse(&format!("{scheme}://{}/{}", first.authority(), first.database)) else {
            return Err(TestCaseError::fail("refused again"));
        };
        prop_assert_eq!(first, again);
    }
}
