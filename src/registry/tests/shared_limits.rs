//! What outlives the process of the limits of accounts, and what replicas share of them.

use super::super::account_holders::holders_as;
use super::super::command::Command;
use super::super::{RegistryError, row_locks, state};
use super::rig::Rig;
use crate::egress::{AccountMark, MarkKind, MarkStore, OtherHolders};
use sqlstore::Connection;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

fn mark(kind: MarkKind, key: &str, seconds: u64) -> AccountMark {
    AccountMark {
        kind,
        key: key.to_string(),
        remaining: Duration::from_secs(seconds),
        reason: "429 from api.acme.example".to_string(),
        version: 0,
    }
}

#[tokio::test]
async fn marks_outlive_the_process_with_what_remains_of_them() -> Result<(), RegistryError> {
    let rig = Rig::new();
    let registry = rig.open();
    let marks = vec![
        mark(MarkKind::BreakerOpen, "openapi|api.acme.example:443", 30),
        mark(MarkKind::AskedToWait, "openapi|acme", 600),
        mark(MarkKind::ShareUsed, "openapi|other \0 account", 600),
    ];
    let versions = registry.store(marks).await.unwrap();
    assert!(versions[0] > 0 && versions[1] > 0);
    // A shorter wait of the same account changes nothing, and a later state of a breaker always counts.
    let again =
        vec![mark(MarkKind::ShareUsed, "openapi|acme", 5), mark(MarkKind::BreakerClosed, "openapi|api.acme.example:443", 0)];
    let later = registry.store(again).await.unwrap();
    assert_eq!(later[0], 0);
    assert!(later[1] > versions[0]);
    registry.close().await;
    let registry = rig.open();
    let mut marks = registry.account_marks().await?;
    marks.sort_by(|one, other| one.key.cmp(&other.key));
    assert_eq!(marks.iter().map(|mark| mark.kind).collect::<Vec<_>>(), [MarkKind::AskedToWait, MarkKind::BreakerClosed]);
    let remaining = marks[0].remaining;
    assert!(remaining > Duration::from_secs(590) && remaining <= Duration::from_secs(600), "{remaining:?}");
    assert_eq!(marks[0].reason, "429 from api.acme.example");
    assert_eq!((marks[1].version, marks[1].remaining), (later[1], Duration::ZERO));
    Ok(())
}

#[tokio::test]
async fn a_mark_that_ended_is_deleted_and_a_clock_that_is_set_back_prolongs_none() {
    let rig = Rig::new();
    if rig.location().postgres().is_some() {
        // The database has a clock of its own.
        return;
    }
    let registry = rig.open();
    registry.store(vec![mark(MarkKind::AskedToWait, "openapi|acme", 600)]).await.unwrap();
    rig.clock.0.fetch_add(500_000, Ordering::SeqCst);
    let remaining = registry.account_marks().await.unwrap()[0].remaining;
    assert!(remaining <= Duration::from_secs(100), "{remaining:?}");
    rig.clock.0.fetch_add(161_000, Ordering::SeqCst);
    registry.store(vec![mark(MarkKind::AskedToWait, "openapi|other", 600)]).await.unwrap();
    let marks = registry.account_marks().await.unwrap();
    assert_eq!(marks.iter().map(|mark| mark.key.as_str()).collect::<Vec<_>>(), ["openapi|other"]);
    registry.close().await;
    rig.clock.0.fetch_sub(661_000, Ordering::SeqCst);
    let remaining = rig.open().account_marks().await.unwrap()[0].remaining;
    assert!(remaining <= Duration::from_secs(600), "{remaining:?}");
}

/// The processes that use an account, by the clock of the database.
#[tokio::test]
async fn processes_know_who_uses_an_account() {
    let rig = Rig::new();
    if rig.location().postgres().is_none() {
        return;
    }
    let registry = Arc::new(rig.open());
    let [first, second, third] = ["first", "second", "third"].map(|name| holders_as(&registry, name.to_string()));
    let account = "openapi|acme's \"account\"".to_string();
    let held = first.hold(account.clone()).await.unwrap();
    assert_eq!((held.parts, held.idle), (1, None));
    let held = second.hold(account.clone()).await.unwrap();
    assert_eq!((held.parts, held.idle), (2, Some(Duration::ZERO)));
    let others = |parts: &[u32]| OtherHolders::from([(account.clone(), parts.to_vec())]);
    assert_eq!(first.others(None).await.unwrap(), others(&[2]));
    assert_eq!(second.others(Some(account.clone())).await.unwrap(), others(&[1]));
    let renewed = first.renew(vec![(account.clone(), 2), ("openapi|other".to_string(), 1)]).await.unwrap();
    assert_eq!(renewed, [true, false], "a row that does not exist is not created");
    assert_eq!(second.others(Some(account.clone())).await.unwrap(), others(&[2]));
    assert_eq!(second.others(Some("openapi|other".to_string())).await.unwrap(), OtherHolders::new());
    first.release().await.unwrap();
    assert_eq!(second.others(None).await.unwrap(), OtherHolders::new());
    assert_eq!(first.renew(vec![(account.clone(), 1)]).await.unwrap(), [false], "a row that ended is not extended");
    assert_eq!(third.hold(account.clone()).await.unwrap().parts, 2);
    second.release().await.unwrap();
    third.release().await.unwrap();
    let held = first.hold(account.clone()).await.unwrap();
    assert_eq!(held.parts, 1);
    assert!(held.idle.is_some_and(|idle| idle < Duration::from_secs(10)), "{held:?}");
}

/// Four replicas take from the same budgets at the same time, in different orders, until they are used up.
#[test]
fn replicas_that_take_at_once_never_get_more_than_the_limit_and_do_not_block_each_other() {
    let rig = Rig::new();
    if rig.location().postgres().is_none() {
        return;
    }
    const LIMIT: u64 = 101;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { rig.open().close().await });
    let take = |replica: usize| {
        let db = Connection::postgres(rig.location().postgres().unwrap().options().unwrap()).unwrap();
        let mut accounts = ["openapi|a", "openapi|b", "openapi|c"];
        accounts.rotate_left(replica % 3);
        if replica == 3 {
            accounts.reverse();
        }
        let mut granted = 0;
        for _ in 0..40 {
            let command = |account: &&str| {
                let (reply, _) = oneshot::channel();
                Command::TakeBudget { account: (*account).to_string(), day: 7, wanted: 2, limit: LIMIT, reply }
            };
            let commands: VecDeque<Command> = accounts.iter().map(command).collect();
            db.begin_write().unwrap();
            row_locks::lock(&db, &commands).unwrap();
            for account in accounts {
                granted += state::take_budget(&db, (account, 7), 2, LIMIT).unwrap();
            }
            db.commit().unwrap();
            // A single budget needs no order: its row is locked before it is read.
            db.begin_write().unwrap();
            granted += state::take_budget(&db, ("openapi|d", 7), 2, LIMIT).unwrap();
            db.commit().unwrap();
        }
        granted
    };
    let take = &take;
    let granted: u64 = std::thread::scope(|scope| {
        let replicas: Vec<_> = (0..4).map(|replica| scope.spawn(move || take(replica))).collect();
        replicas.into_iter().map(|replica| replica.join().unwrap()).sum()
    });
    assert_eq!(granted, 4 * LIMIT);
}
