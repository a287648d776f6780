//! The bounds of the stored answers to requests with an idempotency key.

use super::super::{AnswerKey, Registry, StoredAnswer};
use super::rig::Rig;
use crate::model::{Digest, Timestamp};

fn key(caller: u8, number: usize) -> AnswerKey {
    AnswerKey { caller: Digest([caller; 32]), key: format!("key-{number}") }
}

fn answer(bytes: usize) -> StoredAnswer {
    StoredAnswer { request: Digest::default(), status: 200, headers: "{}".to_string(), body: vec![7; bytes] }
}

async fn store(registry: &Registry, caller: u8, numbers: std::ops::Range<usize>, bytes: usize) {
    let stored = numbers.map(|number| registry.store_answer(key(caller, number), answer(bytes)));
    for stored in futures_util::future::join_all(stored).await {
        stored.unwrap();
    }
}

/// Which of the answers with these numbers are stored.
fn stored(registry: &Registry, caller: u8, numbers: std::ops::Range<usize>) -> Vec<usize> {
    let is_stored =
        |number: &usize| registry.reader().stored_answer(&key(caller, *number), Timestamp(1_000_000)).unwrap().is_some();
    numbers.filter(is_stored).collect()
}

#[tokio::test]
async fn the_oldest_answers_of_a_caller_are_deleted_from_the_thousandth() {
    let rig = Rig::new();
    let registry = rig.open();
    store(&registry, 1, 0..3, 10).await;
    store(&registry, 2, 0..1003, 10).await;
    assert_eq!(stored(&registry, 2, 0..1003), (3..1003).collect::<Vec<_>>());
    assert_eq!(stored(&registry, 1, 0..3), [0, 1, 2], "those of another caller stay");
    registry.close().await;
}

/// Two replicas that share a registry may both have done a request, because neither saw the answer of the other.
#[tokio::test]
async fn a_second_answer_for_a_key_is_not_stored_and_fails_nothing() {
    let rig = Rig::new();
    let registry = rig.open();
    store(&registry, 1, 0..1, 10).await;
    let other = StoredAnswer { status: 409, ..answer(20) };
    registry.store_answer(key(1, 0), other).await.unwrap();
    let found = registry.reader().stored_answer(&key(1, 0), Timestamp(1_000_000)).unwrap();
    assert_eq!(found, Some(answer(10)), "the first one stays");
    registry.close().await;
}

#[tokio::test]
async fn the_oldest_answers_of_a_caller_are_deleted_from_64_mib() {
    let rig = Rig::new();
    let registry = rig.open();
    store(&registry, 1, 0..18, 4 << 20).await;
    assert_eq!(stored(&registry, 1, 0..18), (2..18).collect::<Vec<_>>(), "16 answers of 4 MiB");
    // The newest one is stored even if it is larger than the bound by itself.
    store(&registry, 1, 18..19, 65 << 20).await;
    assert_eq!(stored(&registry, 1, 0..19), [18]);
    registry.close().await;
}
