use super::super::tests::rig::{Rig, accepted, attempt, outcome};
use super::super::{Location, Reader, Registry};
use super::*;
use crate::model::ledger::Why;
use crate::model::{Class, Scope};
use std::os::unix::fs::PermissionsExt;

/// A registry with some history and its stored fold, which lacks the last row.
async fn stored(rig: &Rig) -> Registry {
    let registry = open(rig);
    let first = accepted(&registry, "one").await;
    accepted(&registry, "two").await;
    attempt(&registry, first, Why::New, &outcome(None, Scope::Full, &["people"])).await;
    // A re-check that finds nothing new is in no row of the ledger.
    attempt(&registry, first, Why::Health, &outcome(None, Scope::Health, &[])).await;
    store(rig, &registry);
    attempt(&registry, first, Why::Health, &outcome(Some(Class::Network), Scope::Health, &[])).await;
    registry
}

fn open(rig: &Rig) -> Registry {
    Registry::open_within(&registry_of(rig), "test", rig.clock.clone(), None).unwrap()
}

fn store(rig: &Rig, registry: &Registry) {
    let hash = |seq| Ok(registry.reader().hash_of(seq).unwrap().unwrap());
    file::write(&path_of(&registry_of(rig)), &registry.snapshot, hash).unwrap();
}

/// The stored fold is for registries in a file, so these tests are always about one.
fn registry_of(rig: &Rig) -> Location {
    Location::file(rig.path())
}

/// The last row of the stored fold that the registry would be opened with, and whether the result is the fold of all rows.
fn opened(rig: &Rig) -> (u64, bool) {
    let db: Connection = rig.raw().into();
    let (snapshot, stored) = folded(&db, &registry_of(rig)).unwrap();
    let mut full = Snapshot::default();
    fold_rows(&db, &mut full, i64::MAX).unwrap();
    (stored, snapshot == full)
}

fn problem(rig: &Rig) -> Option<String> {
    Reader::open(registry_of(rig)).unwrap().verify().unwrap().stored_fold
}

#[tokio::test]
async fn a_start_folds_only_the_rows_after_the_stored_fold() {
    let rig = Rig::new();
    let registry = stored(&rig).await;
    let (live, rows) = (registry.snapshot().clone(), registry.snapshot().seq);
    registry.close().await;
    assert_eq!(opened(&rig), (rows - 2, true), "the last attempt has two rows");
    assert_eq!(problem(&rig), None);
    assert_eq!(Reader::open(registry_of(&rig)).unwrap().snapshot().unwrap(), live);
    assert_eq!(*open(&rig).snapshot(), live);
    let mode = std::fs::metadata(path_of(&registry_of(&rig))).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_that_does_not_fit_is_not_used() {
    let rig = Rig::new();
    stored(&rig).await.close().await;
    let file = path_of(&registry_of(&rig));
    let good = std::fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(11) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        assert_eq!(opened(&rig), (0, true), "byte {at}");
    }
    for length in (0..good.len()).step_by(11) {
        std::fs::write(&file, &good[..length]).unwrap();
        assert_eq!(opened(&rig), (0, true), "the first {length} bytes");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(opened(&rig), (0, true), "a folder");
}

#[tokio::test]
async fn verify_names_a_stored_fold_that_is_damaged_or_differs() {
    let rig = Rig::new();
    let registry = stored(&rig).await;
    let file = path_of(&registry_of(&rig));
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
    stored(&rig).await.close().await;
    let registry = open(&other);
    for number in 0..9 {
        accepted(&registry, &format!("other {number}")).await;
    }
    registry.close().await;
    std::fs::copy(path_of(&registry_of(&rig)), path_of(&registry_of(&other))).unwrap();
    assert_eq!(opened(&other), (0, true));
    assert_eq!(problem(&other), None, "it is not used, so nothing is wrong");
}

#[tokio::test]
async fn a_fold_that_cannot_be_written_leaves_the_one_before() {
    let rig = Rig::new();
    let registry = stored(&rig).await;
    let file = path_of(&registry_of(&rig));
    let before = std::fs::read(&file).unwrap();
    let failed = file::write(&file, &registry.snapshot, |_| Err("the row cannot be read".to_string()));
    assert_eq!(failed.unwrap_err(), "the row cannot be read");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(!file.with_extension("fold.partial").exists());
    registry.close().await;
}

#[tokio::test]
async fn commands_go_on_while_the_fold_is_stored() {
    let rig = Rig::new();
    let registry = std::sync::Arc::new(stored(&rig).await);
    let (writing, snapshot) = (std::sync::Arc::clone(&registry), std::sync::Arc::clone(&registry.snapshot));
    let file = path_of(&registry_of(&rig));
    let storing = std::thread::spawn(move || {
        let hash = |seq| Ok(writing.reader().hash_of(seq).unwrap().unwrap());
        for _ in 0..20 {
            file::write(&file, &snapshot, hash).unwrap();
        }
    });
    let mut number = 0;
    while !storing.is_finished() {
        accepted(&registry, &format!("new {number}")).await;
        number += 1;
    }
    storing.join().unwrap();
    registry.close().await;
    let (stored, same) = opened(&rig);
    assert!(same && stored > 0, "stored up to row {stored}");
    assert_eq!(problem(&rig), None);
}
