use super::super::{Reader, RegistryError, schema};
use super::rig::{Rig, accepted, attempt, outcome};
use crate::model::Scope;
use crate::model::ledger::Why;
use rusqlite::Connection;

/// The names of all tables and triggers. Their SQL is not compared, because an altered table keeps its old text.
fn objects(db: &Connection) -> Vec<String> {
    let mut statement = db.prepare("SELECT type || ' ' || name FROM sqlite_schema ORDER BY 1").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn each_earlier_version_is_migrated_with_its_data() {
    // Real rows that this build wrote.
    let source = Rig::new();
    let registry = source.open();
    let id = accepted(&registry, "db").await;
    attempt(&registry, id, Why::New, &outcome(None, Scope::Full, &["t"])).await;
    let expected = registry.snapshot().connections.clone();
    registry.close().await;
    for version in 1..schema::MIGRATIONS.len() {
        let rig = Rig::new();
        let mut db = rig.raw();
        schema::migrate_to(&mut db, version).unwrap();
        db.execute("ATTACH ?1 AS source", [source.path().display().to_string()]).unwrap();
        // Earlier versions kept the step reports in the ledger.
        let body = "coalesce(body, (SELECT b.body FROM source.bodies AS b WHERE b.seq = l.seq))";
        let rows = format!(
            "SELECT seq, at, kind, namespace, connection, facts, {body}, prev, hash FROM source.ledger AS l ORDER BY seq"
        );
        db.execute_batch(&format!("INSERT INTO ledger {rows}")).unwrap();
        let at = expected[&id].checked.unwrap().0;
        let sql = match version {
            1 | 2 => "INSERT INTO checked (connection, at, full, failures) VALUES (?1, ?2, 1, 7)",
            _ => "INSERT INTO checked (connection, at, full_at, failures, generation) VALUES (?1, ?2, ?2, 7, 1)",
        };
        db.execute(sql, (id.to_string(), at + 5)).unwrap();
        drop(db);
        let error = Reader::open(&rig.path()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("start aam serve"), "a reader cannot migrate: {error}");
        let registry = rig.open();
        let known = registry.snapshot().connections[&id].clone();
        assert_eq!(known.last, expected[&id].last);
        assert_eq!((known.checked.map(|at| at.0), known.checked_full.map(|at| at.0)), (Some(at + 5), Some(at + 5)));
        rig.rows();
        accepted(&registry, "more").await;
        assert_eq!(objects(&rig.raw()), objects(&source.raw()), "version {version}");
    }
}

#[test]
fn the_database_of_another_program_is_refused_and_not_changed() {
    let rig = Rig::new();
    rig.raw().execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)").unwrap();
    let before = std::fs::read(rig.path()).unwrap();
    assert!(matches!(rig.try_open().err(), Some(RegistryError::Foreign)));
    assert!(matches!(Reader::open(&rig.path()).err(), Some(RegistryError::Foreign)));
    assert_eq!(std::fs::read(rig.path()).unwrap(), before);
    let text = Rig::new();
    std::fs::write(text.path(), "not a database at all, and long enough to have a header of its own".repeat(20)).unwrap();
    assert!(matches!(text.try_open().err(), Some(RegistryError::Foreign)));
    let none = Rig::new();
    assert!(matches!(Reader::open(&none.path()).err(), Some(RegistryError::Missing(_))));
    assert!(!none.path().exists(), "a reader does not create a file");
}

#[tokio::test]
async fn a_newer_schema_and_a_changed_migration_are_refused() {
    for (sql, newer) in [
        ("INSERT INTO schema_migrations VALUES (99, 'later')", true),
        ("UPDATE schema_migrations SET sha256 = 'changed' WHERE version = 1", false),
    ] {
        let rig = Rig::new();
        rig.open().close().await;
        rig.raw().execute(sql, []).unwrap();
        match rig.try_open().err() {
            Some(RegistryError::Newer { found, known }) => assert!(newer && found == known + 1),
            Some(RegistryError::Migration { version }) => assert!(!newer && version == 1),
            other => panic!("{other:?}"),
        }
        assert_eq!(Reader::open(&rig.path()).is_err(), newer);
    }
}
