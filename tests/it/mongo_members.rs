//! Which member of a deployment the engine `mongo` reads, and which it never calls.

use crate::support::mongo::{Behavior, FakeMongo, PASSWORD};
use crate::support::mongo_session::{Names, credential, open, open_with, refused};
use crate::support::network::closed_port;
use crate::support::sql::policy;
use aam::egress::resolve::ServiceHost;
use aam::model::{Class, Failure};
use bson::raw::{RawDocumentBuf, cstr};
use bson::rawdoc;
use serde_json::json;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a member of the replica set `rs0` says, with the members on these ports.
fn member(primary: bool, hosts: &[String]) -> RawDocumentBuf {
    let mut hello = rawdoc! { "isWritablePrimary": primary, "secondary": !primary, "setName": "rs0", "maxWireVersion": 21 };
    let mut list = bson::raw::RawArrayBuf::new();
    hosts.iter().for_each(|host| list.push(host.as_str()));
    hello.append(cstr!("hosts"), list);
    hello
}

async fn secondary() -> FakeMongo {
    FakeMongo::start(Behavior { hello: member(false, &[]), ..Behavior::default() }).await
}

async fn primary(hosts: &[String]) -> FakeMongo {
    FakeMongo::start(Behavior { hello: member(true, hosts), ..Behavior::default() }).await
}

fn on(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[tokio::test]
async fn a_secondary_is_read_although_the_primary_is_named() {
    let other = secondary().await;
    let first = primary(&[on(other.port)]).await;
    let opened = open(&first.id("?replicaSet=rs0")).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((&opened.identity["role"], &opened.identity["member"]), (&json!("secondary"), &json!(on(other.port))));
    assert_eq!(first.commands(), ["hello"], "the primary is not read");
    let listed = &other.documents("listDatabases")[0];
    assert_eq!(listed.get_document("$readPreference").unwrap().get_str("mode").unwrap(), "secondaryPreferred");
    // The resource id can ask for the primary, or for exactly one member.
    for options in ["?readPreference=primary", "?directConnection=true"] {
        let opened = open(&first.id(options)).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(opened.identity["role"], json!("primary"), "{options}");
    }
}

#[tokio::test]
async fn the_primary_is_read_if_no_other_member_answers() {
    let (_socket, closed) = closed_port();
    let first = primary(&[on(closed)]).await;
    let opened = open(&first.id("")).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["role"], json!("primary"));
    let passed_over = opened.identity["passed_over"].to_string();
    assert!(passed_over.contains("connection refused"), "{passed_over}");
}

/// A server must not choose who receives the login: neither a host of another domain nor one that the guard refuses.
#[tokio::test]
async fn a_member_that_the_resource_id_does_not_vouch_for_is_not_called() {
    let hosts = ["evil.example:27017".to_string(), "10.0.0.7:27017".to_string(), "169.254.169.254:80".to_string()];
    let first = primary(&hosts).await;
    let names = Arc::new(Names::default());
    let opened = open_with(&first.id(""), Some(&credential(PASSWORD)), policy(None), Arc::clone(&names)).await;
    let identity = opened.unwrap_or_else(|failure| panic!("{failure:?}")).identity;
    let passed_over = identity["passed_over"].as_array().unwrap();
    assert!(
        passed_over.len() == 3 && passed_over.iter().all(|entry| entry.to_string().contains("not called")),
        "{passed_over:?}"
    );
    assert!(names.asked.lock().unwrap().is_empty());
    // A host of the domain of the resource id is called through the guard, which refuses its private address.
    let first = primary(&["b.acme.example:27017".to_string()]).await;
    let hosts = HashMap::from([("a.acme.example".into(), LOOPBACK), ("b.acme.example".into(), "10.0.0.7".parse().unwrap())]);
    let names = Arc::new(Names { hosts, ..Names::default() });
    let id = format!("mongodb://a.acme.example:{}/shop", first.port);
    let opened = open_with(&id, Some(&credential(PASSWORD)), policy(None), Arc::clone(&names)).await;
    let passed_over = opened.unwrap_or_else(|failure| panic!("{failure:?}")).identity["passed_over"].to_string();
    assert!(passed_over.contains("10.0.0.7, a private address"), "{passed_over}");
}

/// Such a member does not recover: the resource id forbids it, and the other members are those that it does not name.
#[tokio::test]
async fn a_member_that_the_read_preference_forbids_is_told_from_one_that_recovers() {
    let hosts = ["db1.internal:27017".to_string(), "db2.internal:27017".to_string()];
    for (is_primary, mode, only) in [(false, "primary", "the primary"), (true, "secondary", "secondaries")] {
        let server = FakeMongo::start(Behavior { hello: member(is_primary, &hosts), ..Behavior::default() }).await;
        let failure = refused(&server.id(&format!("?readPreference={mode}"))).await;
        assert!(failure.title.contains(&format!("readPreference={mode} allows {only} only")), "{failure:?}");
        assert!(
            failure.fix.starts_with(&format!("remove readPreference={mode}")) && !failure.fix.contains("wait"),
            "{failure:?}"
        );
        assert!(hosts.iter().all(|host| failure.detail.contains(&format!("{host}: not called"))), "{failure:?}");
        assert!(open(&server.id("")).await.is_ok(), "what the fix leaves is accepted");
    }
}

#[tokio::test]
async fn another_replica_set_is_another_database() {
    let server = secondary().await;
    let failure = refused(&server.id("?replicaSet=rs1")).await;
    assert_eq!(failure.class, Class::WrongService);
    assert!(failure.fix.contains("replicaSet=rs0") && server.documents("saslStart").is_empty(), "{failure:?}");
    let alone = FakeMongo::start(Behavior::default()).await;
    let failure = refused(&alone.id("?replicaSet=rs0")).await;
    assert!(failure.class == Class::WrongService && failure.fix.contains("remove replicaSet"), "{failure:?}");
    for (hello, reason) in [
        (rawdoc! { "arbiterOnly": true, "setName": "rs0", "maxWireVersion": 21 }, "arbiter"),
        (rawdoc! { "setName": "rs0", "maxWireVersion": 21 }, "unreadable member"),
        (rawdoc! { "isreplicaset": true, "maxWireVersion": 21 }, "not initiated"),
    ] {
        let failure = refused(&FakeMongo::start(Behavior { hello, ..Behavior::default() }).await.id("")).await;
        assert!(failure.class == Class::Remote && failure.title.contains(reason), "{failure:?}");
    }
}

#[tokio::test]
async fn old_and_very_old_servers_are_told_apart() {
    let hello = rawdoc! { "ismaster": true, "maxWireVersion": 9 };
    let old = FakeMongo::start(Behavior { knows_hello: false, hello, ..Behavior::default() }).await;
    open(&old.id("")).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(old.commands().contains(&"isMaster".to_string()));
    for hello in [rawdoc! { "ismaster": true, "maxWireVersion": 5 }, rawdoc! { "ismaster": true }] {
        let server = FakeMongo::start(Behavior { knows_hello: false, hello, ..Behavior::default() }).await;
        let failure = refused(&server.id("")).await;
        assert!(failure.class == Class::Unsupported && failure.title.contains("too old"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_load_balancer_has_to_confirm_itself() {
    let id = bson::oid::ObjectId::from_bytes([1; 12]);
    let hello = rawdoc! { "isWritablePrimary": true, "msg": "isdbgrid", "serviceId": id, "maxWireVersion": 21 };
    let server = FakeMongo::start(Behavior { hello, ..Behavior::default() }).await;
    let opened = open(&server.id("?loadBalanced=true")).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["role"], json!("load balancer"));
    assert!(server.documents("hello")[0].get_bool("loadBalanced").unwrap());
    let other = FakeMongo::start(Behavior::default()).await;
    assert_eq!(refused(&other.id("?loadBalanced=true")).await.class, Class::WrongService);
}

/// Opens the cluster `cluster.acme.example`, whose SRV record names `host` on the port of `server`.
async fn by_service(server: &FakeMongo, host: &str, texts: &[&str]) -> Result<aam::connectors::Opened, Failure> {
    let record = ServiceHost { host: host.to_string(), port: server.port };
    let names = Names {
        hosts: HashMap::from([(host.to_string(), LOOPBACK)]),
        services: HashMap::from([("_mongodb._tcp.cluster.acme.example".to_string(), vec![record])]),
        texts: HashMap::from([("cluster.acme.example".to_string(), texts.iter().map(|text| (*text).to_string()).collect())]),
        ..Names::default()
    };
    let id = "mongodb+srv://cluster.acme.example/shop?tls=false";
    open_with(id, Some(&credential(PASSWORD)), policy(None), Arc::new(names)).await
}

#[tokio::test]
async fn the_records_of_a_cluster_are_followed_within_its_domain() {
    let server = secondary().await;
    let opened = by_service(&server, "db.acme.example", &["authSource=admin&replicaSet=rs0"]).await;
    let identity = opened.unwrap_or_else(|failure| panic!("{failure:?}")).identity;
    assert_eq!((&identity["auth_source"], &identity["replica_set"]), (&json!("admin"), &json!("rs0")));
    let before = server.commands().len();
    let failure = by_service(&server, "db.evil.example", &[]).await.err().unwrap();
    assert!(failure.class == Class::EgressRefused && failure.title.contains("db.evil.example"), "{failure:?}");
    for texts in [&["tls=false"][..], &["authSource=admin", "replicaSet=rs0"][..]] {
        let failure = by_service(&server, "db.acme.example", texts).await.err().unwrap();
        assert_eq!(failure.class, Class::Misconfigured, "{texts:?}");
    }
    assert_eq!(server.commands().len(), before);
    let failure = by_service(&server, "db.acme.example", &["replicaSet=rs7"]).await.err().unwrap();
    assert_eq!(failure.class, Class::WrongService);
}

#[tokio::test]
async fn a_cluster_without_records_gets_the_plain_form_as_its_fix() {
    for (host, paused) in [("cluster0.ab12c.mongodb.net", true), ("cluster.acme.example", false)] {
        let id = format!("mongodb+srv://{host}/shop");
        let failure = open_with(&id, None, policy(None), Arc::default()).await.err().unwrap();
        assert_eq!(failure.class, Class::Network);
        assert!(failure.title.ends_with(&format!("the SRV record _mongodb._tcp.{host} was not found")), "{failure:?}");
        assert!(
            failure.fix.contains("mongodb://HOST1:27017,HOST2:27017,HOST3:27017/shop?replicaSet=NAME&tls=true"),
            "{failure:?}"
        );
        assert_eq!(failure.fix.contains("paused"), paused, "{failure:?}");
    }
}
