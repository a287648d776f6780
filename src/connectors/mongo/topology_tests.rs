use super::super::uri;
use super::*;

fn member(text: &str) -> Member {
    uri::member(text, "").unwrap()
}

#[test]
fn only_hosts_that_the_resource_id_vouches_for_are_called() {
    for (seed, other, expected) in [
        ("db1.acme.example", "db1.acme.example:27018", true),
        ("db1.acme.example", "db2.acme.example", true),
        ("db1.acme.example", "db2.eu.acme.example", true),
        ("db1.acme.example", "db1.evil.example", false),
        ("db1.acme.example", "evilacme.example", false),
        ("db1.example", "db2.example", false),
        ("mongo1", "mongo2", false),
        ("10.0.0.1", "10.0.0.2", false),
        ("10.0.0.1", "10.0.0.1:27018", true),
        ("127.0.0.1", "evil.0.0.1", false),
    ] {
        assert_eq!(vouches(&member(seed), &member(other)), expected, "{seed} {other}");
    }
}

#[test]
fn hosts_of_srv_records_belong_to_the_domain_of_the_cluster() {
    assert_eq!(service_domain("cluster0.ab12c.mongodb.net"), "ab12c.mongodb.net");
    assert_eq!(service_domain("acme.example"), "acme.example");
}

#[test]
fn the_search_asks_few_members_and_each_once() {
    let location = uri::parse("mongodb://a.x.example,b.x.example,c.x.example/shop").unwrap();
    let seeds = [member("a.x.example"), member("b.x.example"), member("c.x.example")];
    let mut search = Search::new(&location, &seeds);
    assert!(search.announce(vec![member("d.x.example"), member("a.x.example"), member("e.other.example")]));
    assert!(!search.announce(vec![member("d.x.example")]));
    assert_eq!(search.passed_over.len(), 1);
    let asked: Vec<Member> = std::iter::from_fn(|| search.next()).collect();
    assert_eq!(asked.len(), 4);
    let mut search = Search::new(&location, &seeds);
    search.fallback = search.next();
    assert_eq!(std::iter::from_fn(|| search.next()).count(), limits::MAX_SECONDARIES_TRIED);
}

#[test]
fn a_wrong_replica_set_is_more_important_than_a_member_that_does_not_answer() {
    let location = uri::parse("mongodb://a,b/shop?replicaSet=rs0").unwrap();
    let mut search = Search::new(&location, &[member("a"), member("b")]);
    search.failed(&member("a"), Failure::new(Class::Network, "connection refused by a:27017", ""));
    let wrong = search.wrong_set(&member("b"), Some("rs1")).unwrap();
    assert!(wrong.fix.contains("replicaSet=rs1"), "{wrong:?}");
    search.failed(&member("b"), wrong);
    assert!(search.wrong_set(&member("b"), Some("rs0")).is_none() && search.wrong_set(&member("b"), None).is_some());
    let failure = search.failure();
    assert!(failure.class == Class::WrongService && failure.detail.contains("connection refused"), "{failure:?}");
}
