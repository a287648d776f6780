//! The tables of consents. These tests run against the server that `rig.rs` names. Without one, they do nothing.

use super::super::consents::{ConsentChanges, ConsentCopy, ConsentHead, ConsentRow, ConsentTables, KEPT_VERSIONS, copy};
use super::rig::Rig;
use sqlstore::Connection;
use std::time::Duration;

/// A rig with a database, and its tables as two processes have them.
fn pair() -> Option<(Rig, ConsentTables, ConsentTables)> {
    let rig = Rig::new();
    let tables = || ConsentTables::new(rig.location());
    let (first, second) = (tables()?, tables()?);
    Some((rig, first, second))
}

fn session(rig: &Rig) -> Connection {
    Connection::postgres(rig.location().postgres().unwrap().options().unwrap()).unwrap()
}

fn row(key: &str, content: Option<&str>) -> ConsentRow {
    ConsentRow { kind: ConsentRow::GRANT.to_string(), key: key.to_string(), content: content.map(str::to_string) }
}

fn write(tables: &ConsentTables, known: Option<&ConsentHead>, rows: &[ConsentRow]) -> ConsentHead {
    tables.begin(known).unwrap().commit("header".to_string(), rows).unwrap()
}

/// What is new, as `whole key=content …`.
fn text(changes: Option<ConsentChanges>) -> String {
    let Some(changes) = changes else { return "nothing".to_string() };
    let kind = if changes.is_whole { "whole" } else { "changed" };
    let rows = changes.rows.iter().map(|row| format!(" {}={}", row.key, row.content.as_deref().unwrap_or("removed")));
    format!("{kind}{}", rows.collect::<String>())
}

#[test]
fn a_process_reads_what_others_changed_and_nothing_else() {
    let Some((rig, first, second)) = pair() else { return };
    let empty = first.changes_since(None).unwrap().unwrap();
    assert!(empty.is_whole && empty.rows.is_empty() && empty.head.content.is_empty(), "{empty:?}");
    let one = write(&first, Some(&empty.head), &[row("a", Some("1")), row("b", Some("1"))]);
    assert_eq!(text(first.changes_since(Some(&one)).unwrap()), "nothing");
    assert_eq!(text(second.changes_since(None).unwrap()), "whole a=1 b=1");
    let two = write(&second, Some(&one), &[row("b", Some("2")), row("a", None)]);
    assert_eq!(two.version, one.version + 1);
    assert_eq!(text(first.changes_since(Some(&one)).unwrap()), "changed a=removed b=2");
    assert_eq!(text(first.changes_since(None).unwrap()), "whole b=2", "a row that was removed is not read");
    drop(first.begin(Some(&two)).unwrap());
    assert_eq!(text(first.changes_since(Some(&two)).unwrap()), "nothing", "a change that was dropped left nothing");
    let other = ConsentHead::of_test("header");
    assert_eq!(text(first.changes_since(Some(&other)).unwrap()), "changed a=removed b=2");
    // A database that lost its last changes has another history, which cannot be continued.
    let three = write(&first, Some(&two), &[row("c", Some("1"))]);
    session(&rig).execute("UPDATE consent_store SET version = ?1, change = 'other'", [two.version]).unwrap();
    assert_eq!(text(first.changes_since(Some(&two)).unwrap()), "whole b=2 c=1");
    assert_eq!(text(first.changes_since(Some(&three)).unwrap()), "whole b=2 c=1");
}

#[test]
fn removed_rows_are_forgotten_and_a_reader_that_knows_less_reads_everything() {
    let Some((rig, first, second)) = pair() else { return };
    let one = write(&first, None, &[row("a", Some("1")), row("b", Some("1"))]);
    let two = write(&first, Some(&one), &[row("a", None)]);
    let late = KEPT_VERSIONS * 2 - 1;
    session(&rig).execute("UPDATE consent_store SET version = ?1", [late]).unwrap();
    let last = write(&second, None, &[row("c", Some("1"))]);
    assert_eq!(last.version, late + 1);
    let kept: i64 =
        session(&rig).query_row("SELECT count(*) FROM consent_rows WHERE content IS NULL", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 0, "nothing is kept for ever");
    assert_eq!(text(first.changes_since(Some(&two)).unwrap()), "whole b=1 c=1");
}

#[test]
fn changes_of_several_processes_come_one_after_the_other() {
    let Some((rig, first, _)) = pair() else { return };
    const PROCESSES: usize = 4;
    const CHANGES: usize = 25;
    let empty = write(&first, None, &[row("count", Some("0"))]);
    std::thread::scope(|scope| {
        for _ in 0..PROCESSES {
            let (rig, known) = (&rig, empty.clone());
            scope.spawn(move || {
                let tables = ConsentTables::new(rig.location()).unwrap();
                let mut count = (known, 0);
                for _ in 0..CHANGES {
                    let update = tables.begin(Some(&count.0)).unwrap();
                    let newer = update.changes.as_ref().and_then(|changes| changes.rows.last()?.content.clone());
                    let next = newer.map_or(count.1, |text| text.parse().unwrap()) + 1;
                    let rows = [row("count", Some(&next.to_string()))];
                    count = (update.commit("header".to_string(), &rows).unwrap(), next);
                }
            });
        }
    });
    let total = (PROCESSES * CHANGES).to_string();
    assert_eq!(text(first.changes_since(None).unwrap()), format!("whole count={total}"), "no change was lost");
}

#[test]
fn a_lock_has_one_holder_until_it_ends_or_is_given_back() {
    let Some((rig, first, second)) = pair() else { return };
    let lease = Duration::from_secs(60);
    assert!(first.take_lock("c", "one", lease).unwrap());
    assert!(first.take_lock("c", "one", lease).unwrap(), "a request whose answer was lost is repeated");
    assert!(!second.take_lock("c", "two", lease).unwrap() && !second.renew_lock("c", "two", lease).unwrap());
    assert!(second.take_lock("d", "two", lease).unwrap(), "another connection has another lock");
    second.release_lock("c", "two").unwrap();
    assert!(first.renew_lock("c", "one", lease).unwrap(), "only the holder gives it back");
    session(&rig).execute("UPDATE consent_locks SET ends_at = clock_timestamp() WHERE connection = 'c'", []).unwrap();
    assert!(first.renew_lock("c", "one", lease).unwrap(), "it ended, and no other process took it");
    session(&rig).execute("UPDATE consent_locks SET ends_at = clock_timestamp() WHERE connection = 'c'", []).unwrap();
    assert!(second.take_lock("c", "two", lease).unwrap());
    assert!(!first.renew_lock("c", "one", lease).unwrap(), "the earlier holder learns that it lost the lock");
    first.release_lock("c", "one").unwrap();
    assert!(second.renew_lock("c", "two", lease).unwrap());
    second.release_lock("c", "two").unwrap();
    assert!(first.take_lock("c", "one", lease).unwrap());
}

#[test]
fn sessions_that_ended_are_replaced_and_counted() {
    let Some((rig, first, _)) = pair() else { return };
    let one = write(&first, None, &[row("a", Some("1"))]);
    let losses = first.losses();
    let end = |process: i64| {
        let sql = "SELECT CAST(CASE WHEN pg_terminate_backend(CAST(?1 AS INTEGER), 5000) THEN 1 ELSE 0 END AS BIGINT)";
        let ended: i64 = session(&rig).query_row(sql, [process], |row| row.get(0)).unwrap();
        assert_eq!(ended, 1);
    };
    // The only session of this process.
    let process = first.process_id().unwrap();
    // A change whose session ends before it is committed changes nothing.
    let update = first.begin(Some(&one)).unwrap();
    end(process);
    let error = update.commit("header".to_string(), &[row("a", Some("2"))]).unwrap_err();
    assert!(first.losses() > losses, "{error}");
    assert_eq!(text(first.changes_since(Some(&one)).unwrap()), "nothing");
    end(first.process_id().unwrap());
    let two = write(&first, Some(&one), &[row("a", Some("2"))]);
    assert_eq!(two.version, one.version + 1, "a session that ended while it was idle is replaced");
}

#[test]
fn consents_are_copied_into_an_empty_store_only() {
    let Some((rig, first, _)) = pair() else { return };
    let db = session(&rig);
    let copied = ConsentCopy { content: "header".to_string(), rows: vec![row("a", Some("1"))] };
    db.begin_write().unwrap();
    copy(&db, &ConsentCopy::default()).unwrap();
    copy(&db, &copied).unwrap();
    db.commit().unwrap();
    let changes = first.changes_since(None).unwrap().unwrap();
    assert_eq!((changes.head.content.as_str(), changes.rows.len()), ("header", 1));
    assert_eq!((copied.count(ConsentRow::GRANT), copied.count(ConsentRow::LINK)), (1, 0));
    db.begin_write().unwrap();
    let error = copy(&db, &copied).unwrap_err().to_string();
    assert!(error.contains("has consents already"), "{error}");
}
