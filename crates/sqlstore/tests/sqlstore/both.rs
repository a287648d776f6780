//! Values, parameters and errors.

use sqlstore::{Connection, Error, Null, OptionalExtension, Value, ValueRef, params, params_from_iter};

crate::for_both!(
    values_come_back_as_they_were,
    a_value_of_another_type_is_an_error,
    parameters_have_all_forms,
    a_number_beyond_64_bits_is_refused,
    a_wrong_number_of_parameters_is_refused,
    errors_have_kinds,
    statements_are_kept,
    counts_and_sums_are_integers,
    writes_return_rows,
    question_marks_in_texts_stay,
);

fn one<T: sqlstore::FromSql>(db: &Connection, sql: &str, value: impl sqlstore::ToSql) -> T {
    db.query_row(sql, [value], |row| row.get(0)).unwrap()
}

fn values_come_back_as_they_were(db: &mut Connection) {
    for number in [0, 1, -1, i64::MIN, i64::MAX] {
        assert_eq!(one::<i64>(db, "SELECT CAST(?1 AS BIGINT)", number), number);
    }
    assert_eq!(one::<u64>(db, "SELECT CAST(?1 AS BIGINT)", u64::MAX / 2), u64::MAX / 2);
    assert_eq!(one::<u32>(db, "SELECT CAST(?1 AS BIGINT)", u32::MAX), u32::MAX);
    assert_eq!(one::<i32>(db, "SELECT CAST(?1 AS INTEGER)", i32::MIN), i32::MIN);
    assert_eq!(one::<u16>(db, "SELECT CAST(?1 AS INTEGER)", u16::MAX), u16::MAX);
    assert_eq!(one::<usize>(db, "SELECT CAST(?1 AS SMALLINT)", 7_usize), 7);
    assert!(one::<bool>(db, "SELECT CAST(?1 AS INTEGER)", true));
    assert!(one::<bool>(db, "SELECT ?1 = 1", true));
    assert_eq!(one::<f64>(db, "SELECT CAST(?1 AS DOUBLE PRECISION)", 0.1).to_bits(), 0.1_f64.to_bits());
    for text in ["", "a", "Grüße, 你好, 🦀", "'; DROP TABLE t; --", "line\nline\ttab"] {
        assert_eq!(one::<String>(db, "SELECT CAST(?1 AS TEXT)", text), text);
    }
    let bytes: Vec<u8> = (0..=255).collect();
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY, data BYTEA, label TEXT, seen INTEGER, part DOUBLE PRECISION)")
        .unwrap();
    db.execute("INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5)", params![1, bytes, "x".repeat(100_000), false, 2.5]).unwrap();
    db.execute("INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5)", params![2, [7_u8; 32], None::<String>, Null, Value::Null]).unwrap();
    let mut statement = db.prepare("SELECT data, label, seen, part FROM t ORDER BY id").unwrap();
    let mut rows = statement.query([]).unwrap();
    let row = rows.next().unwrap().unwrap();
    assert_eq!(row.get::<_, Vec<u8>>(0).unwrap(), bytes);
    assert_eq!(row.get_ref(0).unwrap().as_blob().unwrap(), bytes);
    assert_eq!(row.text(1).unwrap().unwrap().len(), 100_000);
    assert_eq!(row.get::<_, Value>(2).unwrap(), Value::Integer(0));
    assert_eq!(row.get::<_, Value>(3).unwrap(), Value::Real(2.5));
    let row = rows.next().unwrap().unwrap();
    assert_eq!(row.get::<_, [u8; 32]>(0).unwrap(), [7; 32]);
    assert_eq!((row.get::<_, Option<String>>(1).unwrap(), row.text(1).unwrap()), (None, None));
    assert_eq!(row.get::<_, Option<i64>>(2).unwrap(), None);
    assert_eq!((row.value_ref(3), row.get::<_, Value>(3).unwrap()), (ValueRef::Null, Value::Null));
    assert!(rows.next().unwrap().is_none());
}

fn a_value_of_another_type_is_an_error(db: &mut Connection) {
    let sql = "SELECT CAST('a' AS TEXT), CAST(NULL AS TEXT), CAST(-1 AS BIGINT), CAST(70000 AS BIGINT)";
    db.query_row(sql, [], |row| {
        for (column, error) in [
            (0, row.get::<_, i64>(0).unwrap_err()),
            (0, row.get::<_, Vec<u8>>(0).unwrap_err()),
            (1, row.get::<_, String>(1).unwrap_err()),
            (2, row.get::<_, u64>(2).unwrap_err()),
            (2, row.get::<_, Option<u64>>(2).unwrap_err()),
            (3, row.get::<_, u16>(3).unwrap_err()),
            (3, row.text(3).unwrap_err()),
            (9, row.get::<_, Value>(9).unwrap_err()),
            (9, row.get_ref(9).unwrap_err()),
        ] {
            assert!(error.is_value(), "{error}");
            assert!(matches!(error, Error::Column { column: found, .. } if found == column), "{error}");
        }
        Ok(())
    })
    .unwrap();
    // The error of the function is passed on.
    let error = db.query_row(sql, [], |row| row.get::<_, u8>(3)).unwrap_err();
    assert_eq!(error.to_string(), "column 3: 70000 is outside of the range of u8");
}

fn parameters_have_all_forms(db: &mut Connection) {
    let numbers = |sql: &str, params: &[&dyn sqlstore::ToSql]| -> i64 { db.query_row(sql, params, |row| row.get(0)).unwrap() };
    assert_eq!(numbers("SELECT CAST(?2 AS BIGINT) * 10 + ?1", params![1_i64, 2_i64]), 21);
    assert_eq!(numbers("SELECT CAST(? AS BIGINT) * 10 + ?", params![&1_u32, Some(2_u64)]), 12);
    assert_eq!(numbers("SELECT CAST(?1 AS BIGINT) * ?1 + ?", params![3, 1]), 10);
    assert_eq!(numbers("SELECT 5", params![]), 5);
    let sql = "SELECT CAST(?1 AS BIGINT) - CAST(?2 AS BIGINT)";
    let mut statement = db.prepare_cached(sql).unwrap();
    assert_eq!(statement.query_row([5, 3], |row| row.get::<_, i64>(0)).unwrap(), 2);
    let borrowed = &[5, 3];
    assert_eq!(statement.query_row(borrowed, |row| row.get::<_, i64>(0)).unwrap(), 2);
    assert_eq!(statement.query_row((5_u8, 3_i64), |row| row.get::<_, i64>(0)).unwrap(), 2);
    assert_eq!(statement.query_row(params_from_iter([5, 3]), |row| row.get::<_, i64>(0)).unwrap(), 2);
    let values = vec![Value::Integer(5), Value::Integer(3)];
    assert_eq!(statement.query_row(params_from_iter(&values), |row| row.get::<_, i64>(0)).unwrap(), 2);
    assert_eq!(db.query_row("SELECT 4", (), |row| row.get::<_, i64>(0)).unwrap(), 4);
}

fn a_number_beyond_64_bits_is_refused(db: &mut Connection) {
    let error = db.query_row("SELECT CAST(?1 AS BIGINT) + CAST(?2 AS BIGINT)", params![1, u64::MAX], |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Parameter { parameter: 2, .. }), "{error}");
    assert_eq!(one::<i64>(db, "SELECT CAST(?1 AS BIGINT)", 1), 1);
}

fn a_wrong_number_of_parameters_is_refused(db: &mut Connection) {
    for result in [
        db.query_row("SELECT CAST(?1 AS BIGINT)", [], |_| Ok(())),
        db.query_row("SELECT CAST(?1 AS BIGINT)", [1, 2], |_| Ok(())),
        db.execute("SELECT 1", [1]).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Parameter { parameter: 0, .. }), "{error}");
    }
}

fn errors_have_kinds(db: &mut Connection) {
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY, label TEXT UNIQUE NOT NULL)").unwrap();
    assert_eq!(db.execute("INSERT INTO t VALUES (?1, ?2)", params![1, "a"]).unwrap(), 1);
    for (id, label) in [(1, "b"), (2, "a")] {
        let error = db.execute("INSERT INTO t VALUES (?1, ?2)", params![id, label]).unwrap_err();
        assert!(error.is_unique_violation(), "{error}");
        assert!(!error.is_connection_lost() && !error.is_disk_full() && !error.is_read_only() && !error.is_value(), "{error}");
        assert!(error.copy().is_unique_violation());
    }
    let missing = db.execute("INSERT INTO t VALUES (?1, ?2)", params![3, None::<&str>]).unwrap_err();
    assert!(!missing.is_unique_violation(), "{missing}");
    assert!(db.query_row("SELECT nonsense FROM t", [], |_| Ok(())).unwrap_err().to_string().contains("nonsense"));
    assert!(db.execute_batch("CREATE GARBAGE; SELECT 1").is_err());
    let none = db.query_row("SELECT label FROM t WHERE id = 9", [], |row| row.get::<_, String>(0));
    assert!(matches!(none, Err(Error::NoRows)), "{none:?}");
    assert_eq!(none.optional().unwrap(), None);
    assert_eq!(db.execute("UPDATE t SET label = 'c'", []).unwrap(), 1);
}

fn statements_are_kept(db: &mut Connection) {
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY)").unwrap();
    let mut insert = db.prepare_cached("INSERT INTO t VALUES (?1)").unwrap();
    for id in 0..500 {
        assert_eq!(insert.execute([id]).unwrap(), 1);
    }
    // More statements than are kept.
    for number in 0..400 {
        let sql = format!("SELECT count(*) + {number} FROM t WHERE id >= ?1");
        assert_eq!(db.prepare_cached(&sql).unwrap().query_row([100], |row| row.get::<_, i64>(0)).unwrap(), 400 + number);
    }
    // A table that changes does not make them fail.
    let all = |expected: usize| {
        let mut statement = db.prepare_cached("SELECT * FROM t WHERE id = 1").unwrap();
        let mut rows = statement.query([]).unwrap();
        assert!(rows.next().unwrap().unwrap().get_ref(expected).is_err());
        assert!(rows.next().unwrap().is_none());
    };
    all(1);
    db.execute_batch("ALTER TABLE t ADD COLUMN label TEXT").unwrap();
    all(2);
}

fn counts_and_sums_are_integers(db: &mut Connection) {
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").unwrap();
    db.execute("INSERT INTO t VALUES (1, ?1), (2, ?2), (3, NULL)", [9_000_000_000_000_i64, -4]).unwrap();
    let read = db.query_row("SELECT count(*), sum(n), max(n), coalesce(min(n), 0), avg(id) FROM t", [], |row| {
        Ok((row.get::<_, usize>(0)?, row.get::<_, i64>(1)?, row.get::<_, u64>(2)?, row.get::<_, i64>(3)?, row.get::<_, f64>(4)?))
    });
    let (count, sum, max, min, average) = read.unwrap();
    assert_eq!((count, sum, max, min), (3, 8_999_999_999_996, 9_000_000_000_000, -4));
    assert!((average - 2.0).abs() < 1e-9);
    let real: f64 = db.query_row("SELECT avg(id) FROM t WHERE id < 3", [], |row| row.get(0)).unwrap();
    assert!((real - 1.5).abs() < 1e-9);
}

fn writes_return_rows(db: &mut Connection) {
    db.execute_batch("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").unwrap();
    let upsert = "INSERT INTO t VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET n = t.n + ?2 RETURNING n";
    let add = |id: i64, n: i64| db.query_row(upsert, [id, n], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((add(1, 5), add(1, 6), add(2, 1)), (5, 11, 1));
    let mut statement = db.prepare_cached("DELETE FROM t WHERE n > ?1 RETURNING id").unwrap();
    let deleted: Vec<i64> = statement.query_map([0], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(deleted.len(), 2);
    assert_eq!(db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

fn question_marks_in_texts_stay(db: &mut Connection) {
    let sql = "SELECT '?1' || ?1 || '?' /* ? */ -- ?2\n || ?2";
    assert_eq!(db.query_row(sql, ["a", "b"], |row| row.get::<_, String>(0)).unwrap(), "?1a?b");
}
