use super::super::options::{Mechanism, ReadPreference, Tls};
use super::*;
use proptest::prelude::*;
use std::fmt::Write;
use std::time::Duration;

fn parsed(id: &str) -> Location {
    parse(id).unwrap_or_else(|failure| panic!("{id}: {failure:?}"))
}

#[test]
fn every_spelling_of_a_deployment_is_understood() {
    for (id, authority, database) in [
        ("mongodb://DB.example/shop", "db.example:27017", "shop"),
        ("mongodb://db.example:27018/shop?", "db.example:27018", "shop"),
        ("MongoDB://[::1]:27018/shop", "[::1]:27018", "shop"),
        ("mongodb://c,b:1,a./shop?replicaSet=rs0", "a:27017,b:1,c:27017", "shop"),
        ("mongodb+srv://cluster0.ab12c.mongodb.net/shop", "cluster0.ab12c.mongodb.net", "shop"),
        ("mongodb://h/caf%C3%A9", "h:27017", "café"),
    ] {
        let location = parsed(id);
        assert_eq!((location.authority().as_str(), location.database.as_str()), (authority, database), "{id}");
    }
    assert_eq!(parsed("mongodb://h/shop").to_string(), "mongodb h:27017/shop");
}

#[test]
fn the_options_that_matter_are_read() {
    let location = parsed(
        "mongodb://h/shop?replicaSet=rs0&tls=true&authSource=admin&authMechanism=SCRAM-SHA-1&readPreference=primary&appName=a%20b\
         &connectTimeoutMS=500&retryWrites=true&w=majority&maxPoolSize=1",
    );
    let options = location.options;
    assert_eq!((options.tls, options.replica_set.as_deref()), (Tls::Verify, Some("rs0")));
    assert_eq!((options.auth_source.as_deref(), options.mechanism), (Some("admin"), Some(Mechanism::ScramSha1)));
    assert_eq!((options.read_preference, options.application.as_deref()), (ReadPreference::Primary, Some("a b")));
    assert_eq!((options.connect_timeout, options.direct), (Some(Duration::from_millis(500)), None));
    let defaults = parsed("mongodb://h/shop").options;
    assert_eq!((defaults.tls, defaults.read_preference), (Tls::Unspecified, ReadPreference::SecondaryPreferred));
    assert_eq!(parsed("mongodb+srv://c.example.com/shop").options.tls, Tls::Verify);
    assert_eq!(parsed("mongodb+srv://c.example.com/shop?tls=false").options.tls, Tls::Disable);
    assert!(parsed("mongodb://h/shop?loadBalanced=true").options.load_balanced);
}

#[test]
fn every_refusal_of_a_resource_id_can_be_read_and_repeats_no_value() {
    let mut all = String::new();
    for id in [
        "shop",
        "postgres://h/hunter2",
        "mongodb://joe:hunter2@h/shop",
        "mongodb://joe@h/shop",
        "mongodb://h",
        "mongodb://h/",
        "mongodb://h/shop.orders",
        "mongodb:///shop",
        "mongodb://h:0/shop",
        "mongodb://%2Ftmp%2Fmongodb-27017.sock/shop",
        "mongodb+srv://a.example.com,b.example.com/shop",
        "mongodb+srv://a.example.com:27017/shop",
        "mongodb+srv://localhost/shop",
        "mongodb://a,b/shop?directConnection=true",
        "mongodb://a,b/shop?loadBalanced=true",
        "mongodb://h/shop?tlsInsecure=true",
        "mongodb://h/shop?tlsCAFile=hunter2",
        "mongodb://h/shop?authMechanism=MONGODB-AWS",
        "mongodb://h/shop?authMechanism=hunter2",
        "mongodb://h/shop?readPreference=hunter2",
        "mongodb://h/shop?readPreferenceTags=dc:ny",
        "mongodb://h/shop?hunter2-hunter2!=1",
        "mongodb://h/shop?srvServiceName=x",
        "mongodb://h/shop?tls=maybe",
        "mongodb://h/shop?replicaSet",
    ] {
        let failure = parse(id).err().unwrap_or_else(|| panic!("{id} was accepted"));
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        writeln!(all, "# {}\n{:?}\n  {}\n  fix: {}", id.replace("hunter2", "..."), failure.class, failure.title, failure.fix)
            .unwrap();
    }
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("mongo_resource_ids", all);
    });
}

#[test]
fn a_text_record_adds_three_options_and_no_other() {
    let mut options = parsed("mongodb+srv://c.example.com/shop").options;
    options::apply_text_record(&mut options, "authSource=admin&replicaSet=atlas-1-shard-0").unwrap();
    assert_eq!((options.auth_source.as_deref(), options.replica_set.as_deref()), (Some("admin"), Some("atlas-1-shard-0")));
    let mut own = parsed("mongodb+srv://c.example.com/shop?authSource=users").options;
    options::apply_text_record(&mut own, "authSource=admin").unwrap();
    assert_eq!(own.auth_source.as_deref(), Some("users"));
    for text in ["tls=false", "ssl=false&authSource=admin", "authSource", "loadBalanced=perhaps"] {
        let failure = options::apply_text_record(&mut options, text).unwrap_err();
        assert_eq!(failure.class, Class::Misconfigured, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,80}", query in "\\PC{0,40}") {
        let _ = parse(&text);
        let _ = parse(&format!("mongodb://{text}/shop?{query}"));
        let _ = parse(&format!("mongodb+srv://{text}?{query}"));
        let _ = member(&text, "");
    }

    #[test]
    fn what_is_accepted_names_hosts_and_one_database(host in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}", port in 1_u16.., database in "[a-z_-]{1,20}") {
        let location = parse(&format!("mongodb://{host}:{port}/{database}")).map_err(|failure| TestCaseError::fail(failure.title))?;
        prop_assert_eq!(location.seeds, Seeds::Listed(vec![Member { host, port }]));
        prop_assert_eq!(location.database, database);
    }
}
