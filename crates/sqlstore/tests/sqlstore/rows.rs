//! Large results, which are read in parts.

use sqlstore::{Connection, params};
use std::sync::Mutex;

crate::for_both!(many_rows_take_little_memory, rows_can_be_left_unread, statements_run_while_rows_are_read, large_rows_are_read,);

const ROWS: i64 = 100_000;

/// The tests that look at the memory of the process run one after the other.
static MEMORY: Mutex<()> = Mutex::new(());

fn fill(db: &Connection, rows: i64) {
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY, label TEXT)").unwrap();
    let sql = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
               INSERT INTO t SELECT i, CAST(?2 AS TEXT) || i FROM n";
    assert_eq!(db.execute(sql, params![rows, "x".repeat(1000)]).unwrap(), usize::try_from(rows).unwrap());
}

/// The memory of this process in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn read_all(db: &Connection) -> (i64, u64) {
    let (mut sum, mut most) = (0, 0);
    let mut statement = db.prepare("SELECT id, label FROM t ORDER BY id").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut expected = 0;
    while let Some(row) = rows.next().unwrap() {
        expected += 1;
        let id: i64 = row.get(0).unwrap();
        assert_eq!(id, expected);
        sum += i64::try_from(row.text(1).unwrap().unwrap().len()).unwrap();
        if id % 1000 == 0 {
            most = most.max(memory());
        }
    }
    assert_eq!(expected, ROWS);
    (sum, most)
}

fn many_rows_take_little_memory(db: &mut Connection) {
    let _alone = MEMORY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    fill(db, ROWS);
    let before = memory();
    let (sum, most) = read_all(db);
    // All rows together have 100 MB.
    assert!(sum > 100_000_000);
    assert!(most < before + 30_000, "{before} KiB before, {most} KiB while the rows were read");
    let transaction = db.read_transaction().unwrap();
    let (_, most) = read_all(&transaction);
    assert!(most < before + 30_000, "{before} KiB before, {most} KiB while the rows were read in a transaction");
}

fn rows_can_be_left_unread(db: &mut Connection) {
    fill(db, 5000);
    let first = |db: &Connection| {
        let mut statement = db.prepare_cached("SELECT id FROM t ORDER BY id").unwrap();
        let mut rows = statement.query([]).unwrap();
        for expected in 1..=40 {
            assert_eq!(rows.next().unwrap().unwrap().get::<_, i64>(0).unwrap(), expected);
        }
        drop(rows);
        let firsts: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().take(3).collect::<Result<_, _>>().unwrap();
        assert_eq!(firsts, [1, 2, 3]);
    };
    first(db);
    // Nothing is left open, so that a transaction can begin and write.
    db.begin_write().unwrap();
    first(db);
    db.execute("DELETE FROM t WHERE id <= 10", []).unwrap();
    db.commit().unwrap();
    assert_eq!(db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 4990);
}

fn statements_run_while_rows_are_read(db: &mut Connection) {
    fill(db, 600);
    let nested = |db: &Connection| {
        let mut outer = db.prepare("SELECT id FROM t ORDER BY id").unwrap();
        let mut rows = outer.query([]).unwrap();
        let mut seen = 0;
        while let Some(row) = rows.next().unwrap() {
            seen += 1;
            let id: i64 = row.get(0).unwrap();
            let mut inner = db.prepare_cached("SELECT id FROM t WHERE id >= ?1 ORDER BY id LIMIT 50").unwrap();
            let found: Vec<i64> = inner.query_map([id], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(found.first(), Some(&id));
            let next = db.query_row("SELECT min(id) FROM t WHERE id > ?1", [id], |row| row.get::<_, Option<i64>>(0)).unwrap();
            assert_eq!(next, Some(id + 1).filter(|next| *next <= 600));
        }
        assert_eq!(seen, 600);
    };
    nested(db);
    nested(&db.read_transaction().unwrap());
    nested(&db.unchecked_transaction().unwrap());
}

fn large_rows_are_read(db: &mut Connection) {
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY, data BYTEA)").unwrap();
    for id in 0..40_usize {
        db.execute("INSERT INTO t VALUES (?1, ?2)", params![id, vec![7_u8; id * 50_000]]).unwrap();
    }
    let mut statement = db.prepare("SELECT id, data FROM t ORDER BY id").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut seen = 0;
    while let Some(row) = rows.next().unwrap() {
        assert_eq!(row.get_ref(1).unwrap().as_blob().unwrap().len(), seen * 50_000);
        seen += 1;
    }
    assert_eq!(seen, 40);
}
