//! Transactions, and statements for whose answers the caller does not wait.

use sqlstore::{Connection, Error, Result, params};

crate::for_both!(
    a_transaction_is_committed_or_rolled_back,
    the_state_of_transactions_is_checked,
    later_statements_run_in_order,
    an_error_in_the_middle_is_not_lost,
    a_later_parameter_that_does_not_fit_is_not_lost,
    the_last_number_is_known,
);

fn count(db: &Connection) -> i64 {
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn table(db: &Connection) {
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY, label TEXT)").unwrap();
}

fn a_transaction_is_committed_or_rolled_back(db: &mut Connection) {
    table(db);
    let insert = |db: &Connection, id: i64| db.execute("INSERT INTO t VALUES (?1, 'a')", [id]).unwrap();
    let transaction = db.unchecked_transaction().unwrap();
    insert(&transaction, 1);
    assert!(db.is_in_transaction());
    transaction.commit().unwrap();
    assert!(!db.is_in_transaction());
    assert_eq!(count(db), 1);
    let transaction = db.unchecked_transaction().unwrap();
    insert(&transaction, 2);
    assert_eq!(count(&transaction), 2);
    drop(transaction);
    assert_eq!(count(db), 1);
    let transaction = db.unchecked_transaction().unwrap();
    insert(&transaction, 2);
    transaction.rollback().unwrap();
    assert_eq!(count(db), 1);
    db.begin_write().unwrap();
    insert(db, 3);
    db.commit().unwrap();
    db.begin_write().unwrap();
    insert(db, 4);
    db.rollback().unwrap();
    assert_eq!(count(db), 2);
    let reading = db.read_transaction().unwrap();
    assert_eq!(count(&reading), 2);
    reading.commit().unwrap();
}

fn the_state_of_transactions_is_checked(db: &mut Connection) {
    table(db);
    assert!(db.commit().is_err());
    db.rollback().unwrap();
    db.begin_write().unwrap();
    assert!(db.begin_write().is_err());
    assert!(db.read_transaction().is_err());
    assert_eq!(count(db), 0);
    db.commit().unwrap();
    assert!(db.commit().is_err());
}

fn later_statements_run_in_order(db: &mut Connection) {
    table(db);
    db.begin_write().unwrap();
    let mut insert = db.prepare_cached("INSERT INTO t VALUES (?1, ?2)").unwrap();
    for id in 0..2000 {
        insert.execute_later(params![id, "first"]).unwrap();
        db.execute_later("UPDATE t SET label = ?2 WHERE id = ?1", params![id, format!("second {id}")]).unwrap();
        if id % 500 == 0 {
            // A call that waits sees all that was sent before it.
            assert_eq!(count(db), id + 1);
            let sql = "SELECT label FROM t WHERE id = ?1";
            assert_eq!(db.query_row(sql, [id], |row| row.get::<_, String>(0)).unwrap(), format!("second {id}"));
        }
    }
    db.commit().unwrap();
    assert_eq!(count(db), 2000);
    // Outside of a transaction, it waits.
    db.execute_later("INSERT INTO t VALUES (?1, ?2)", params![5000, "alone"]).unwrap();
    assert!(db.execute_later("INSERT INTO t VALUES (?1, ?2)", params![5000, "alone"]).unwrap_err().is_unique_violation());
    assert_eq!(count(db), 2001);
}

/// Runs `work` in a transaction, as the writer of a registry does.
fn transact(db: &Connection, work: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
    db.begin_write()?;
    match work(db) {
        Ok(()) => db.commit(),
        Err(error) => {
            db.rollback()?;
            Err(error)
        }
    }
}

fn an_error_in_the_middle_is_not_lost(db: &mut Connection) {
    table(db);
    let insert = |db: &Connection, id: i64| db.execute_later("INSERT INTO t VALUES (?1, 'a')", [id]);
    // At commit, at the next call that waits, and within many.
    let at_commit = transact(db, |db| [1, 2, 2, 3].into_iter().try_for_each(|id| insert(db, id)));
    assert!(at_commit.as_ref().is_err_and(Error::is_unique_violation), "{at_commit:?}");
    let at_query = transact(db, |db| {
        [1, 2, 2, 3].into_iter().try_for_each(|id| insert(db, id))?;
        db.query_row("SELECT count(*) FROM t", [], |_| Ok(()))
    });
    assert!(at_query.as_ref().is_err_and(Error::is_unique_violation), "{at_query:?}");
    let among_many = transact(db, |db| (0..1000).try_for_each(|id| insert(db, id % 700)));
    assert!(among_many.as_ref().is_err_and(Error::is_unique_violation), "{among_many:?}");
    let bad_sql = transact(db, |db| {
        insert(db, 1)?;
        db.execute_later("INSERT INTO missing VALUES (1)", [])?;
        insert(db, 2)
    });
    assert!(bad_sql.as_ref().is_err_and(|error| error.to_string().contains("missing")), "{bad_sql:?}");
    assert_eq!(count(db), 0);
    assert!(!db.is_in_transaction());
    transact(db, |db| insert(db, 1)).unwrap();
    assert_eq!(count(db), 1);
}

fn a_later_parameter_that_does_not_fit_is_not_lost(db: &mut Connection) {
    table(db);
    let failed = transact(db, |db| {
        db.execute_later("INSERT INTO t VALUES (?1, 'a')", [1])?;
        db.execute_later("INSERT INTO t VALUES (?1, 'a')", ["2", "3"])
    });
    assert!(matches!(failed, Err(Error::Parameter { .. })), "{failed:?}");
    assert_eq!(count(db), 0);
}

fn the_last_number_is_known(db: &mut Connection) {
    let key = if db.is_postgres() { "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY" } else { "INTEGER PRIMARY KEY" };
    db.execute_batch(&format!("CREATE TABLE t (id {key}, label TEXT)")).unwrap();
    for expected in 1..4 {
        db.execute("INSERT INTO t (label) VALUES (?1)", ["a"]).unwrap();
        assert_eq!(db.last_insert_id().unwrap(), expected);
    }
}
