//! What a discovery and a tiny sync report of a file that can be read in part.

use super::tests::DatabaseLocation;
use super::*;

/// The damaged page of a file with tables aa and zz is the leaf of aa.
fn damage_second_page(place: &DatabaseLocation, name: &str) {
    let mut bytes = std::fs::read(place.path(name)).unwrap();
    bytes[4096..8192].fill(0xA5);
    std::fs::write(place.path(name), bytes).unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_is_skipped_with_its_reason_and_named_in_a_warning() {
    const TABLES: &str =
        "PRAGMA page_size = 4096; CREATE TABLE aa(x); CREATE TABLE zz(x); INSERT INTO aa VALUES (1); INSERT INTO zz VALUES (2);";
    const VIEWS: &str = "CREATE VIEW gone1 AS SELECT * FROM gone; CREATE VIEW gone2(x) AS SELECT x FROM gone; CREATE VIEW gone3 AS SELECT y FROM aa;";
    let place = DatabaseLocation::new();
    for (name, views, damaged, expected, class) in [
        ("whole.db", "", false, vec![], None),
        ("page.db", "", true, vec!["aa"], Some(Class::Remote)),
        ("views.db", VIEWS, false, vec!["gone1", "gone2", "gone3"], Some(Class::Misconfigured)),
        ("both.db", VIEWS, true, vec!["aa", "gone1", "gone2", "gone3"], Some(Class::Remote)),
    ] {
        drop(place.make(name, &format!("{TABLES}{views}")));
        if damaged {
            damage_second_page(&place, name);
        }
        let opened = place.open(name).await.unwrap();
        let found = opened.connector.discover(Bounds::default()).await.unwrap();
        let skipped: Vec<&str> = found.catalog.skipped.iter().map(|skipped| skipped.name.as_str()).collect();
        assert_eq!(skipped, expected, "{name}");
        assert!(
            found.catalog.skipped.iter().all(|skipped| skipped.reason.starts_with("SQLite code ")),
            "{:?}",
            found.catalog.skipped
        );
        assert!(found.catalog.streams.iter().any(|stream| stream.name == "zz"), "{name}");
        assert_eq!(found.warning.as_ref().map(|warning| warning.class), class, "{name}: {:?}", found.warning);
        let titled =
            |warning: &Failure| expected.iter().all(|name| warning.title.contains(name) && warning.detail.contains(name));
        assert!(found.warning.iter().all(titled), "{:?}", found.warning);
        // The discovery has named them, so the tiny sync does not name them again. Without it, it does.
        let sample = opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
        assert!(sample.rows == 1 && sample.warning.is_none(), "{name}: {:?}", sample.warning);
        let alone = opened.connector.tiny_sync(&Catalog::default(), 20).await.unwrap();
        assert_eq!(alone.warning.is_some(), damaged, "{name}: {:?}", alone.warning);
    }
}

#[tokio::test]
async fn a_limit_of_aam_is_not_a_fault_of_the_table() {
    let place = DatabaseLocation::new();
    drop(place.make("blob.db", "CREATE TABLE t(b BLOB); INSERT INTO t VALUES (zeroblob(900000000))"));
    let opened = place.open("blob.db").await.unwrap();
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    assert!(found.warning.is_none() && found.catalog.streams.len() == 1, "{:?}", found.catalog.skipped);
}
