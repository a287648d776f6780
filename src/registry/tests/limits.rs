use super::super::{Location, RegistryError, lock};
use super::rig::{Rig, accepted, context, document, intent, outcome};
use crate::egress::{BudgetReservation, DayBudget};
use crate::model::ledger::Why;
use crate::model::{Origin, Scope};
use futures_util::future::join_all;

#[tokio::test]
async fn with_a_full_disk_nothing_begins_and_nothing_is_recorded_until_there_is_space() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    let before = registry.snapshot().clone();
    // SQLite does not accept a limit below the current size, so this limits the file to its current size.
    std::fs::write(rig.limit(), "1").unwrap();
    let mut full = 0;
    for number in 0..50 {
        let long = document("big", &format!("{number}{}", "x".repeat(9000)));
        full += usize::from(matches!(registry.accept(vec![long]).await, Err(RegistryError::Full)));
    }
    assert!(full >= 49, "{full} of 50");
    assert!(matches!(registry.probe().await, Err(RegistryError::Full)));
    let mut begun = Vec::new();
    // Small rows may still fit into the last page.
    while begun.len() < 100 {
        match registry.begin(id, context(Why::Heal, Scope::Full, 1)).await {
            Ok(ticket) => begun.push(ticket),
            Err(error) => {
                assert!(matches!(error, RegistryError::Full), "{error}");
                break;
            }
        }
    }
    assert!(begun.len() < 100, "begin answers that the disk is full");
    if full == 50 && begun.is_empty() {
        assert_eq!(*registry.snapshot(), before);
    }
    assert_eq!(registry.reader().snapshot().unwrap(), *registry.snapshot());
    std::fs::write(rig.limit(), "1000000").unwrap();
    registry.probe().await.unwrap();
    accepted(&registry, "later").await;
    let ticket = registry.begin(id, context(Why::Heal, Scope::Full, 1)).await.unwrap();
    assert!(registry.finish(&ticket, &outcome(None, Scope::Full, &["t"])).await.unwrap().appended);
    assert_eq!(registry.reader().snapshot().unwrap(), *registry.snapshot());
    rig.rows();
}

#[tokio::test]
async fn a_refused_command_leaves_its_transaction_whole() {
    let rig = Rig::new();
    let registry = rig.open();
    assert!(registry.seal("demo", vec![(intent("demo", "seed", ""), Origin("seed:a".into()))]).await.unwrap());
    let answers = join_all((0..20).map(|number| {
        let namespace = if number % 2 == 0 { "demo" } else { "autonomy" };
        registry.accept(vec![
            document(&format!("before{number}"), ""),
            (intent(namespace, &format!("db{number}"), ""), Origin::api("aod")),
        ])
    }))
    .await;
    for (number, answer) in answers.into_iter().enumerate() {
        match answer {
            Err(RegistryError::Sealed(namespace)) => {
                assert!(number % 2 == 0 && namespace == "demo")
            }
            other => assert!(number % 2 == 1 && other.is_ok()),
        }
    }
    assert_eq!(rig.rows(), 2 + 20);
}

#[tokio::test]
async fn nothing_writes_to_a_sealed_namespace() {
    let rig = Rig::new();
    let registry = rig.open();
    let seed = (intent("demo", "seed", ""), Origin("seed:a".into()));
    let other = document("not-of-demo", "");
    assert!(registry.seal("demo", vec![seed.clone(), other]).await.unwrap());
    assert!(!registry.seal("demo", vec![(intent("demo", "more", ""), Origin("seed:b".into()))]).await.unwrap());
    assert_eq!(rig.rows(), 2, "the document and the seal");
    let id = seed.0.connection_id();
    let sealed = |error: RegistryError| assert!(matches!(&error, RegistryError::Sealed(name) if name == "demo"), "{error}");
    sealed(registry.accept(vec![(intent("demo", "db", ""), Origin::api("aod"))]).await.unwrap_err());
    sealed(registry.withdraw(vec![(id, seed.1)], "gone").await.unwrap_err());
    sealed(registry.begin(id, context(Why::Heal, Scope::Full, 1)).await.unwrap_err());
    assert_eq!(rig.rows(), 2);
    let sql =
        "INSERT INTO ledger SELECT seq + 2, at, kind, namespace, connection, facts, body, prev, hash FROM ledger WHERE seq = 1";
    let error = rig.raw().execute(sql, []).unwrap_err().to_string();
    assert!(error.contains("sealed: nothing writes to this namespace"), "{error}");
    registry.close().await;
    let registry = rig.open();
    assert!(registry.snapshot().sealed.contains("demo"));
    accepted(&registry, "db").await;
}

#[tokio::test]
async fn the_namespace_demo_accepts_nothing_but_its_seed_also_before_it_is_loaded() {
    let rig = Rig::new();
    let registry = rig.open();
    let error = registry.accept(vec![(intent("demo", "db", ""), Origin::folder("a.json"))]).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Sealed(name) if name == "demo"), "{error}");
    let autonomy = accepted(&registry, "db").await;
    assert_eq!(rig.rows(), 1);
    // The database itself refuses what the code does not write.
    for (kind, facts) in [
        ("intent_accepted", r#"{"origin":"folder:a.json"}"#),
        ("intent_accepted", r#"{"origin":"api:admin"}"#),
        ("intent_accepted", "{}"),
        ("attempt_begun", r#"{"origin":"seed:a"}"#),
    ] {
        let sql = "INSERT INTO ledger SELECT seq + 1, at, ?1, 'demo', connection, ?2, body, prev, hash FROM ledger WHERE seq = 1";
        let error = rig.raw().execute(sql, [kind, facts]).unwrap_err().to_string();
        assert!(error.contains("accepts nothing but its seed"), "{kind} {facts}: {error}");
    }
    assert!(registry.seal("demo", vec![(intent("demo", "seed", ""), Origin("seed:a".into()))]).await.unwrap());
    assert!(registry.snapshot().connections.contains_key(&autonomy));
    assert_eq!(rig.rows(), 3);
}

#[tokio::test]
async fn takers_at_once_never_get_more_than_the_day_allows() {
    let rig = Rig::new();
    let registry = rig.open();
    let takes = (0..100).map(|number| registry.take("api.acme.example", 20_000, 1 + number % 3, 70));
    let granted: u64 = join_all(takes).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(granted, 70);
    registry.close().await;
    let registry = rig.open();
    assert_eq!(registry.take("api.acme.example", 20_000, 5, 70).await, Ok(0), "a restart gives nothing back");
    assert_eq!(registry.take("api.acme.example", 20_000, 5, 72).await, Ok(2), "a raised limit gives the rest");
    assert_eq!(registry.take("api.acme.example", 20_000, 5, 10).await, Ok(0), "a lowered limit takes nothing back");
    assert_eq!(registry.take("other.acme.example", 20_000, 5, 70).await, Ok(5));
    assert_eq!(registry.take("api.acme.example", 20_001, 80, 70).await, Ok(70), "the next day starts from zero");
    assert_eq!(registry.take("api.acme.example", 20_001, u64::MAX, u64::MAX).await, Ok(i64::MAX as u64 - 70));
}

#[tokio::test]
async fn beginnings_at_once_are_never_granted_more_than_the_day_allows() {
    let rig = Rig::new();
    let registry = rig.open();
    let names: Vec<String> = (0..20).map(|number| format!("db{number}")).collect();
    let ids = join_all(names.iter().map(|name| accepted(&registry, name))).await;
    let reservation = |account: &str| BudgetReservation { account: account.to_string(), day: 20_000, wanted: 10, limit: 55 };
    let budget_reservations = || vec![reservation("api.acme.example"), reservation("other.acme.example")];
    let begin = |id| registry.begin_with_budget(id, context(Why::New, Scope::Full, 1), budget_reservations());
    let granted: Vec<Vec<u64>> = join_all(ids.iter().map(|id| begin(*id))).await.into_iter().map(|one| one.unwrap().1).collect();
    for account in 0..2 {
        assert_eq!(granted.iter().map(|one| one[account]).sum::<u64>(), 55);
    }
    assert_eq!(registry.take("api.acme.example", 20_000, 1, 55).await, Ok(0), "what a beginning was granted is spent");
    registry.close().await;
    let registry = rig.open();
    assert_eq!(registry.take("other.acme.example", 20_000, 1, 55).await, Ok(0), "also after a restart");
}

/// A connection that ignores the write-ahead log sees only what was copied into the file.
#[tokio::test]
async fn an_idle_log_is_merged_into_the_file() {
    let rig = Rig::new();
    let registry = rig.open();
    let documents = (0..400).map(|number| document(&format!("db{number}"), "")).collect();
    registry.accept(documents).await.unwrap();
    let uri = format!("file:{}?immutable=1", rig.path().display());
    let merged = || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
        let rows = rusqlite::Connection::open_with_flags(&uri, flags)
            .and_then(|db| db.query_row("SELECT count(*) FROM ledger", [], |row| row.get::<_, u64>(0)));
        rows.unwrap_or(0)
    };
    assert!(merged() < 400, "the rows are in the log at first");
    let since = std::time::Instant::now();
    while merged() < 400 {
        assert!(since.elapsed() < std::time::Duration::from_secs(30), "{} rows were merged", merged());
        std::thread::yield_now();
    }
    assert_eq!(rig.rows(), 400);
}

#[tokio::test]
async fn a_second_writer_learns_who_holds_the_registry_and_gets_it_afterwards() {
    let rig = Rig::new();
    let registry = rig.open();
    let error = rig.try_open().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains(&format!("process {}", std::process::id())) && error.contains("test"), "{error}");
    assert!(super::super::Reader::open(&rig.path()).unwrap().snapshot().is_ok(), "readers need no lock");
    registry.close().await;
    let registry = rig.open();
    assert!(matches!(registry.accept(Vec::new()).await, Ok(answers) if answers.is_empty()));
    drop(registry);
    // The writer thread notices that all senders are dropped, and ends.
    let freed = (0..5000).any(|_| {
        std::thread::yield_now();
        let probe = rusqlite::Connection::open(rig.path())
            .and_then(|db| db.query_row("SELECT count(*) FROM ledger", [], |row| row.get::<_, i64>(0)));
        probe.is_ok() && lock::take(&rig.path(), "probe").is_ok()
    });
    assert!(freed);
}

#[tokio::test]
async fn what_is_asked_of_a_closed_registry_is_refused() {
    let rig = Rig::new();
    let registry = rig.open();
    registry.close().await;
    registry.close().await;
    assert!(matches!(registry.accept(vec![document("db", "")]).await, Err(RegistryError::Closed)));
}

#[tokio::test]
async fn a_file_in_the_place_of_the_folder_is_named_and_can_be_removed() {
    let rig = Rig::of_file();
    let file = rig.path().with_file_name("data");
    for below in ["aam.db", "deeper/aam.db"] {
        std::fs::write(&file, "").unwrap();
        let other = rig.with_location(Location::file(file.join(below)));
        let error = other.try_open().err().unwrap().to_string();
        assert!(error.contains(&file.display().to_string()) && error.contains("remove the file that is in its place"), "{error}");
        std::fs::remove_file(&file).unwrap();
        other.open().close().await;
        std::fs::remove_dir_all(&file).unwrap();
    }
}
