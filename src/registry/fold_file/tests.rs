use super::super::tests::rig::{Rig, accepted, attempt, outcome};
use super::super::{Reader, Registry};
use super::*;
use crate::model::ledger::Why;
use crate::model::{Class, Scope};
use std::os::unix::fs::PermissionsExt;

/// A registry with some history and its stored fold, which lacks the last rows, and the last row that the fold has.
async fn stored(rig: &Rig) -> (Registry, u64) {
    let registry = rig.open();
    let first = accepted(&registry, "one").await;
    accepted(&registry, "two").await;
    attempt(&registry, first, Why::New, &outcome(None, Scope::Full, &["people"])).await;
    // A re-check that finds nothing new is in no row of the ledger.
    attempt(&registry, first, Why::Health, &outcome(None, Scope::Health, &[])).await;
    store(rig, &registry);
    let last = registry.snapshot().seq;
    attempt(&registry, first, Why::Health, &outcome(Some(Class::Network), Scope::Health, &[])).await;
    (registry, last)
}

fn store(rig: &Rig, registry: &Registry) {
    let end = |seq, rows: &ChainRows| Ok(registry.reader().end_of_fold(seq, rows).unwrap());
    file::write(&path_of(rig.location()), &registry.snapshot, end).unwrap();
}

/// A session of the database, or a connection to the file.
fn database(rig: &Rig) -> Connection {
    match rig.location().postgres() {
        Some(place) => Connection::postgres(place.options().unwrap()).unwrap(),
        None => rig.raw().into(),
    }
}

/// The last row of the stored fold that the registry would be opened with, and whether the result is the fold of all rows.
fn opened(db: &Connection, rig: &Rig) -> (u64, bool) {
    let (snapshot, stored) = folded(db, rig.location()).unwrap();
    let mut full = Snapshot::default();
    match db.is_postgres() {
        true => chains::each_row(db, Rows::All, |entry, _, _| full.apply(&entry)).unwrap(),
        false => fold_rows(db, &mut full, i64::MAX).unwrap(),
    }
    (stored, snapshot == full)
}

fn problem(rig: &Rig) -> Option<String> {
    Reader::open(rig.location()).unwrap().verify().unwrap().stored_fold
}

#[tokio::test]
async fn a_start_folds_only_the_rows_after_the_stored_fold() {
    let rig = Rig::new();
    let (registry, last) = stored(&rig).await;
    let live = registry.snapshot().clone();
    assert!(live.seq > last, "the last attempt has two rows");
    registry.close().await;
    assert_eq!(opened(&database(&rig), &rig), (last, true));
    assert_eq!(problem(&rig), None);
    assert_eq!(Reader::open(rig.location()).unwrap().snapshot().unwrap(), live);
    assert_eq!(*rig.open().snapshot(), live);
    let mode = std::fs::metadata(path_of(rig.location())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_that_does_not_fit_is_not_used() {
    let rig = Rig::new();
    stored(&rig).await.0.close().await;
    let (file, db) = (path_of(rig.location()), database(&rig));
    let good = std::fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(11) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        assert_eq!(opened(&db, &rig), (0, true), "byte {at}");
    }
    for length in (0..good.len()).step_by(11) {
        std::fs::write(&file, &good[..length]).unwrap();
        assert_eq!(opened(&db, &rig), (0, true), "the first {length} bytes");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(opened(&db, &rig), (0, true), "a folder");
}

#[tokio::test]
async fn verify_names_a_stored_fold_that_is_damaged_or_differs() {
    let rig = Rig::new();
    let (registry, _) = stored(&rig).await;
    let file = path_of(rig.location());
    let mut bad = std::fs::read(&file).unwrap();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let found = problem(&rig).unwrap();
    assert!(found.contains("is damaged") && found.contains(&format!("delete {}", file.display())), "{found}");
    // A fold that holds something else, with a digest that fits.
    registry.snapshot.write().unwrap().sealed.insert("somewhere".to_string());
    store(&rig, &registry);
    let found = problem(&rig).unwrap();
    assert!(found.contains("differs from the fold of the ledger up to row"), "{found}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(problem(&rig), None);
}

#[tokio::test]
async fn the_fold_of_another_registry_is_not_used() {
    let (rig, other) = (Rig::new(), Rig::new());
    stored(&rig).await.0.close().await;
    let registry = other.open();
    for number in 0..9 {
        accepted(&registry, &format!("other {number}")).await;
    }
    registry.close().await;
    std::fs::copy(path_of(rig.location()), path_of(other.location())).unwrap();
    assert_eq!(opened(&database(&other), &other), (0, true));
    assert_eq!(problem(&other), None, "it is not used, so nothing is wrong");
    let unused = Reader::open(other.location()).unwrap().verify().unwrap().unused_fold.unwrap();
    assert!(unused.contains("is not used") && unused.contains("belongs to another registry"), "{unused}");
}

#[tokio::test]
async fn a_fold_that_cannot_be_written_leaves_the_one_before() {
    let rig = Rig::new();
    let (registry, _) = stored(&rig).await;
    let file = path_of(rig.location());
    let before = std::fs::read(&file).unwrap();
    let failed = file::write(&file, &registry.snapshot, |_, _| Err("the row cannot be read".to_string()));
    assert_eq!(failed.unwrap_err(), "the row cannot be read");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(!file.with_extension("fold.partial").exists());
    registry.close().await;
}

#[tokio::test]
async fn commands_go_on_while_the_fold_is_stored() {
    let rig = Rig::new();
    let registry = std::sync::Arc::new(stored(&rig).await.0);
    let (writing, snapshot) = (std::sync::Arc::clone(&registry), std::sync::Arc::clone(&registry.snapshot));
    let file = path_of(rig.location());
    let storing = std::thread::spawn(move || {
        let end = |seq, rows: &ChainRows| Ok(writing.reader().end_of_fold(seq, rows).unwrap());
        for _ in 0..20 {
            file::write(&file, &snapshot, end).unwrap();
        }
    });
    let mut number = 0;
    while !storing.is_finished() {
        accepted(&registry, &format!("new {number}")).await;
        number += 1;
    }
    storing.join().unwrap();
    registry.close().await;
    let (stored, same) = opened(&database(&rig), &rig);
    assert!(same && stored > 0, "stored up to row {stored}");
    assert_eq!(problem(&rig), None);
}

/// Only a registry in PostgreSQL can have two writers.
#[tokio::test]
async fn a_replica_stores_what_it_and_others_appended() {
    let rig = Rig::new();
    if rig.location().postgres().is_none() {
        return;
    }
    let other = rig.with_location(rig.location().clone().at(rig.dir.path().join("other")));
    let (mine, theirs) = (rig.open(), other.open());
    for number in 0..20 {
        accepted(if number % 2 == 0 { &mine } else { &theirs }, &format!("before {number}")).await;
    }
    while mine.snapshot().connections.len() < 20 {
        tokio::task::yield_now().await;
    }
    store(&rig, &mine);
    for number in 0..20 {
        accepted(if number % 2 == 0 { &mine } else { &theirs }, &format!("after {number}")).await;
    }
    mine.close().await;
    theirs.close().await;
    let (found, stored) = folded(&database(&rig), rig.location()).unwrap();
    let mut full = Snapshot::default();
    chains::each_row(&database(&rig), Rows::All, |entry, _, _| full.apply(&entry)).unwrap();
    assert!(stored > 0);
    assert_eq!((found.connections.len(), found.without_order()), (40, full.without_order()));
    assert_eq!(problem(&rig), None);
    assert_eq!(rig.open().snapshot().connections.len(), 40);
}
