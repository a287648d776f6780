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

/// The properties of MySQL Connector/J and MariaDB Connector/J mean here what they mean there, or something stronger.
#[test]
fn the_tls_properties_of_jdbc_keep_their_meaning() {
    for (query, tls) in [
        ("useSSL=false", Tls::Disable),
        ("useSsl=FALSE", Tls::Disable),
        ("useSSL=true", Tls::Verify),
        ("useSSL=true&requireSSL=true&verifyServerCertificate=false", Tls::Verify),
        ("verifyServerCertificate=false", Tls::Unspecified),
        ("requireSSL=false", Tls::Unspecified),
        ("requireSSL=true", Tls::Verify),
        ("useSSL=false&requireSSL=true", Tls::Disable),
        ("requireSSL=true&useSSL=false", Tls::Disable),
        ("sslMode=DISABLED&useSSL=true", Tls::Disable),
        ("useSSL=false&sslMode=REQUIRED", Tls::Verify),
        ("sslMode=PREFERRED", Tls::Prefer),
        ("sslMode=VERIFY_CA", Tls::Verify),
        ("sslMode=VERIFY_IDENTITY", Tls::Verify),
        ("sslMode=disable", Tls::Disable),
        ("sslMode=trust", Tls::Verify),
        ("sslMode=verify-ca", Tls::Verify),
        ("sslMode=verify-full", Tls::Verify),
    ] {
        for scheme in ["jdbc:mysql", "jdbc:mariadb"] {
            assert_eq!(ok(&format!("{scheme}://h/db?{query}")).tls, tls, "{query}");
        }
    }
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

/// A user alone has to be removed, and no password has to be changed.
#[test]
fn a_user_without_a_password_is_named_as_such() {
    for id in ["postgres://joe@h:5432/db", "jdbc:mysql://joe@h/db", "jdbc:postgresql://h/db?user=joe", "joe@h:5432/db"] {
        let failure = refused(id);
        assert_eq!(failure.title, "the resource id contains a user", "{id}");
        assert!(!failure.fix.contains("change the password") && !format!("{failure:?}").contains("joe"), "{failure:?}");
    }
    // An @ elsewhere may belong to a password that was not percent-encoded.
    for id in
        ["postgres://joe:x@h/db", "postgres://joe:a/b@h/db", "postgres://h/db?application_name=a@b", "h/db?user=joe&sslkey=x"]
    {
        assert!(refused(id).fix.contains("change the password"), "{id}");
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
fn other_dialects_are_unsupported_and_say_what_can_be_done_today() {
    for (id, dialect) in [
        ("jdbc:sqlserver://h;databaseName=x", "sqlserver"),
        ("jdbc:oracle:thin:@h:1521/x", "oracle"),
        ("jdbc:h2:mem:x", "h2"),
        ("jdbc:frobnicate://h/x", "frobnicate"),
        ("jdbc:redshift://h/db", "redshift"),
        ("jdbc:snowflake://acme", "snowflake"),
        ("mongodb://h/x", "mongodb"),
    ] {
        let failure = refused(id);
        assert_eq!(failure.class, Class::Unsupported, "{id}");
        assert!(failure.title.contains(dialect), "{failure:?}");
        // A family without an engine would be UNSUPPORTED as well, so it is only named once this build has one.
        match crate::families::find(if dialect == "mongodb" { "mongo" } else { dialect })
            .filter(|family| !family.engine.is_empty())
        {
            Some(family) => assert!(failure.fix.contains(&format!("source_type: {}", family.id)), "{failure:?}"),
            None => assert!(failure.fix.contains("jdbc:sqlite:PATH") && parse("jdbc:sqlite:PATH").is_ok(), "{failure:?}"),
        }
    }
}

/// Each address with the address that its fix asks for, and the part of the fix that says so.
#[test]
fn the_fix_of_a_refused_address_is_accepted() {
    for (id, says, corrected) in [
        ("postgres://joe:x@h:5432/db", "remove it from the resource id", "postgres://h:5432/db"),
        ("jdbc:postgresql://h/db?user=joe&password=x", "remove it from the resource id", "jdbc:postgresql://h/db"),
        ("h:5432", "postgresql://HOST:PORT/DATABASE", "postgresql://h:5432/db"),
        ("jdbc:postgresql:shop", "jdbc:postgresql://HOST:PORT/DATABASE", "jdbc:postgresql://h:5432/shop"),
        ("jdbc:postgresql://a,b/db", "name one host per intent", "jdbc:postgresql://a/db"),
        ("jdbc:postgresql://h:0/db", "postgresql://HOST:PORT/DATABASE", "postgresql://h:5432/db"),
        ("jdbc:mysql://h", "jdbc:mysql://HOST:PORT/DATABASE", "jdbc:mysql://h:3306/db"),
        ("mysql://h/db", "jdbc:mysql://HOST:PORT/DATABASE", "jdbc:mysql://h:3306/db"),
        ("sqlite://x", "jdbc:sqlite:PATH", "jdbc:sqlite:x"),
        ("jdbc:sqlite::memory:", "jdbc:sqlite:PATH", "jdbc:sqlite:x"),
        ("jdbc:sqlite:x?cache=shared", "jdbc:sqlite:PATH", "jdbc:sqlite:x"),
        ("jdbc:postgresql://h/db?ssl=false", "sslmode=disable", "jdbc:postgresql://h/db?sslmode=disable"),
        ("jdbc:postgresql://h/db?sslmode=trust", "sslmode=verify-full", "jdbc:postgresql://h/db?sslmode=verify-full"),
        ("jdbc:postgresql://h/db?readOnly=false", "remove readOnly", "jdbc:postgresql://h/db"),
        ("jdbc:postgresql://h/db?connectTimeout=0", "a number above zero", "jdbc:postgresql://h/db?connectTimeout=1"),
        ("jdbc:postgresql://h/db?tcpKeepAlive=true&colour=blue", "remove it", "jdbc:postgresql://h/db?tcpKeepAlive=true"),
        ("jdbc:postgresql://h/db?currentSchema=a,b", "name one schema", "jdbc:postgresql://h/db?currentSchema=a"),
        ("jdbc:mysql://h/db?allowLoadLocalInfile=true", "remove `allowLoadLocalInfile`", "jdbc:mysql://h/db"),
    ] {
        let failure = refused(id);
        assert!(failure.fix.contains(says), "{id}: {failure:?}");
        assert!(parse(corrected).is_ok(), "{id}: {corrected}");
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
