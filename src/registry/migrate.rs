//! Copies a registry from an SQLite file into a database of PostgreSQL.

use super::all_partitions::AllPartitions;
use super::archive::{self, ArchiveKind};
use super::call_heads::ONE_CHAIN;
use super::chain::{self, LedgerRow};
use super::chains::{self, ChainHead};
use super::consents::{self, ConsentCopy, ConsentRow};
use super::lease::{Leases, PARTITIONS, Partitions};
use super::{Location, Reader, RegistryError, lock, reader};
use crate::model::ledger::Fact;
use crate::model::{ConnectionId, Digest, Timestamp};
use sqlstore::{Connection, Value, params, params_from_iter};
use std::collections::BTreeMap;
use std::path::Path;

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MigrationSummary {
    /// Where the registry is now.
    pub registry: String,
    /// The number of rows of the ledger that were copied.
    pub rows: u64,
    /// The number of batches of calls that were copied.
    pub batches: u64,
    /// The number of connections in both registries.
    pub connections: usize,
    /// The number of grants of owners that were copied.
    pub grants: usize,
    /// The number of links for owners that were copied.
    pub links: usize,
    /// The hash of the last row of the file, which the ledger of the database names.
    pub head: Digest,
}

/// Tables of the working state with their columns. They are copied as they are.
const WORKING_STATE: [(&str, &[&str]); 7] = [
    ("account_marks", &["subject", "key", "kind", "set_at", "ends_at", "reason", "version"]),
    ("tickets", &["connection", "under", "in_ledger"]),
    ("checked", &["connection", "at", "failures", "full_at", "generation"]),
    ("budget", &["account", "day", "used"]),
    ("folder_marks", &["path", "size", "mtime_ns", "inode", "content"]),
    ("idempotency_keys", &["caller", "key", "at", "request", "status", "headers", "body"]),
    ("webhook_messages", &["webhook", "up_to", "tries", "next_at", "problem"]),
];

const BATCH_COLUMNS: &[&str] =
    &["batch", "at", "connection", "namespace", "family", "begun_at", "why", "policy", "attempt", "calls", "cut", "hash"];
/// The columns that only PostgreSQL has. The batches of a file are all in chain 64.
const BATCH_PLACE: &[&str] = &["chain", "place"];
const TARGET_COLUMNS: &[&str] = &["digest", "month", "purpose", "method", "host", "path", "statement", "rule"];
const CALL_COLUMNS: &[&str] = &["batch", "call", "target", "at", "status", "sent", "bytes", "ms", "error"];

/// Copies the registry at `file` and the consents that `read_consents` returns into the empty registry at `to`, in one transaction,
/// and verifies what was written. The files stay as they are; nothing must write to them afterwards.
///
/// # Errors
/// [`RegistryError::Held`] while a daemon runs, and if the file is not intact, the database has a registry with entries already,
/// or a row cannot be written. The database is unchanged then.
pub fn migrate(
    file: &Path,
    to: &Location,
    read_consents: impl FnOnce() -> Result<ConsentCopy, RegistryError>,
    now: Timestamp,
) -> Result<MigrationSummary, RegistryError> {
    if to.postgres().is_none() {
        return Err(RegistryError::Other("--to names a database: postgres://ROLE@HOST/DATABASE?credential=env:NAME".to_string()));
    }
    let source = Reader::open(file)?;
    let _lock = lock::take(file, "registry migrate")?;
    let verdict = source.verify()?;
    if !verdict.is_intact() {
        return Err(RegistryError::Other(format!(
            "{} is not intact, so it was not copied; aam verify says what is wrong; restore a backup first",
            file.display()
        )));
    }
    if source
        .with(|db| Ok(archive::last(db, ArchiveKind::Steps)?.is_some() || archive::last(db, ArchiveKind::Calls)?.is_some()))?
    {
        return Err(RegistryError::Other(format!(
            "{} has moved old calls and step reports into archive files, which a registry in PostgreSQL cannot have, so it was not copied; start with a new registry in PostgreSQL, and keep this one and its archive files for reviews",
            file.display()
        )));
    }
    // A daemon that ran until the lock was taken may have refreshed grants.
    let consents = read_consents()?;
    let held = AllPartitions::take(to, "registry migrate")?;
    let copied = source.with(|from| copy_all(from, (&held.db, &held.leases), &consents, (verdict.head, now)));
    if copied.is_err() {
        let _ = held.db.rollback();
    }
    drop(held);
    let (rows, batches) = copied?;
    compare(&source, to, verdict.rows)?;
    let connections = source.snapshot()?.connections.len();
    let (grants, links) = (consents.count(ConsentRow::GRANT), consents.count(ConsentRow::LINK));
    Ok(MigrationSummary { registry: to.to_string(), rows, batches, connections, grants, links, head: verdict.head })
}

/// Copies all tables in one transaction. Returns the numbers of rows and of batches.
fn copy_all(
    from: &Connection,
    (to, leases): (&Connection, &Leases),
    consents: &ConsentCopy,
    (head, now): (Digest, Timestamp),
) -> Result<(u64, u64), RegistryError> {
    to.begin_write()?;
    let chains = Partitions::ALL.iter().map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let mine = "SELECT count(*) FROM lock_chains(?1) WHERE holder = ?2 AND is_valid = 1";
    if to.query_row(mine, [&chains, &leases.facts.name], |row| row.get::<_, usize>(0))? != PARTITIONS {
        return Err(RegistryError::Other("another process took the registry in the database meanwhile; try again".to_string()));
    }
    let existing: i64 = to.query_row("SELECT count(*) FROM ledger", [], |row| row.get(0))?;
    if existing > 0 {
        return Err(RegistryError::Other(format!(
            "the registry in the database has {existing} entries already, and a file is copied into an empty one only; name another schema with schema=NAME"
        )));
    }
    let rows = copy_ledger(from, to, (head, now))?;
    let batches = copy_batches(from, to)?;
    let targets = copy_targets(from, to)?;
    copy_table(from, to, "call_rows", CALL_COLUMNS, "batch, call", |values| {
        if let Some(target) = values.get_mut(2)
            && let Value::Integer(old) = target
        {
            *target = Value::Integer(targets.get(old).copied().unwrap_or(*old));
        }
        Ok(())
    })?;
    for (table, columns) in WORKING_STATE {
        copy_table(from, to, table, columns, columns.first().copied().unwrap_or("rowid"), |_| Ok(()))?;
    }
    consents::copy(to, consents)?;
    to.execute_batch("SELECT continue_numbers()")?;
    to.commit()?;
    Ok((rows, batches))
}

/// Copies the ledger into its chains, and adds an entry that names the last row of the file, and an anchor.
fn copy_ledger(from: &Connection, to: &Connection, (head, now): (Digest, Timestamp)) -> Result<u64, RegistryError> {
    let mut end = chains::head(to)?;
    let mut insert = to.prepare_cached(chains::INSERT)?;
    let body = archive::body_sql(from);
    let sql = format!("SELECT seq, at, kind, namespace, connection, facts, {body} FROM ledger ORDER BY seq");
    let mut statement = from.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut copied = 0;
    let mut append = |end: &mut chains::Head, row: &LedgerRow<'_>| -> Result<(), RegistryError> {
        let id = row.connection.map(ConnectionId::parse).transpose();
        let id = id.map_err(|why| RegistryError::Row { seq: row.seq, why })?;
        let chain = end.chain_of(id);
        let ChainHead { place, hash: prev } = end.chain(chain);
        let last = ChainHead { place: place + 1, hash: chain::hash(&prev, row) };
        let LedgerRow { seq, at, kind, namespace, connection, facts, body } = *row;
        insert.execute_later(params![
            seq,
            at,
            kind,
            namespace,
            connection,
            facts,
            body,
            prev.0,
            last.hash.0,
            chain,
            last.place
        ])?;
        end.advance(seq, Timestamp(at), chain, last);
        Ok(())
    };
    while let Some(row) = rows.next()? {
        let text = |column| Ok::<_, RegistryError>(row.text(column)?.unwrap_or_default());
        let row = LedgerRow {
            seq: row.get(0)?,
            at: row.get(1)?,
            kind: text(2)?,
            namespace: text(3)?,
            connection: row.text(4)?,
            facts: text(5)?,
            body: row.text(6)?,
        };
        append(&mut end, &row)?;
        copied += 1;
    }
    let copied_from = Fact::RegistryCopied { rows: copied, head };
    for fact in [copied_from, Fact::ChainsAnchored { chains: end.anchors() }] {
        let facts = serde_json::to_string(&fact).unwrap_or_default();
        let (seq, at) = (end.seq + 1, now.max(end.at).0);
        append(&mut end, &LedgerRow { seq, at, kind: fact.kind(), namespace: "", connection: None, facts: &facts, body: None })?;
    }
    Ok(copied)
}

/// Copies the batches of calls as one chain. Returns their number.
fn copy_batches(from: &Connection, to: &Connection) -> Result<u64, RegistryError> {
    copy_table_into(from, to, "call_batches", (BATCH_COLUMNS, BATCH_PLACE), "batch", |values| {
        let batch = values.first().cloned().unwrap_or_default();
        values.extend([Value::Integer(i64::from(ONE_CHAIN)), batch]);
        Ok(())
    })
}

/// Copies what calls have in common. Returns the new number of each row by its old one.
fn copy_targets(from: &Connection, to: &Connection) -> Result<BTreeMap<i64, i64>, RegistryError> {
    let columns = TARGET_COLUMNS.join(", ");
    let mut statement = from.prepare(&format!("SELECT {columns}, target FROM call_targets ORDER BY target"))?;
    let mut insert = to.prepare_cached(&format!(
        "INSERT INTO call_targets ({columns}) VALUES ({}) RETURNING target",
        marks(TARGET_COLUMNS.len())
    ))?;
    let mut rows = statement.query([])?;
    let mut targets = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let values = (0..TARGET_COLUMNS.len()).map(|column| row.get(column)).collect::<sqlstore::Result<Vec<Value>>>()?;
        let new = insert.query_row(params_from_iter(values), |row| row.get(0))?;
        targets.insert(row.get(TARGET_COLUMNS.len())?, new);
    }
    Ok(targets)
}

/// Copies a table in the order of `order`, after `change` changed each row. Returns the number of rows.
fn copy_table(
    from: &Connection,
    to: &Connection,
    table: &str,
    columns: &[&str],
    order: &str,
    change: impl Fn(&mut Vec<Value>) -> Result<(), RegistryError>,
) -> Result<u64, RegistryError> {
    copy_table_into(from, to, table, (columns, &[]), order, change)
}

/// As [`copy_table`]. `change` adds the values of the columns `more`, which only the table in PostgreSQL has.
fn copy_table_into(
    from: &Connection,
    to: &Connection,
    table: &str,
    (columns, more): (&[&str], &[&str]),
    order: &str,
    change: impl Fn(&mut Vec<Value>) -> Result<(), RegistryError>,
) -> Result<u64, RegistryError> {
    let mut statement = from.prepare(&format!("SELECT {} FROM {table} ORDER BY {order}", columns.join(", ")))?;
    let (names, marks) = ([columns, more].concat().join(", "), marks(columns.len() + more.len()));
    let mut insert = to.prepare_cached(&format!("INSERT INTO {table} ({names}) VALUES ({marks})"))?;
    let mut rows = statement.query([])?;
    let mut copied = 0;
    while let Some(row) = rows.next()? {
        let mut values = (0..columns.len()).map(|column| row.get(column)).collect::<sqlstore::Result<Vec<Value>>>()?;
        change(&mut values)?;
        insert.execute_later(params_from_iter(values))?;
        copied += 1;
    }
    Ok(copied)
}

/// Parameters for `count` columns.
fn marks(count: usize) -> String {
    (1..=count).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ")
}

/// Checks that the chains of the copy are intact and that both registries fold to the same connections.
fn compare(source: &Reader, to: &Location, rows: u64) -> Result<(), RegistryError> {
    let copy = Reader::open(to)?;
    let verdict = copy.verify()?;
    let differs = match (&verdict.broken, verdict.damage.first()) {
        (Some((seq, why)), _) => Some(format!("row {seq}: {why}")),
        (None, Some(damage)) => Some(damage.clone()),
        // Two entries were added.
        (None, None) if verdict.rows != rows + 2 => Some(format!("it has {} rows, and the file has {rows}", verdict.rows)),
        (None, None) => verdict.calls.broken.map(|(batch, why)| format!("batch {batch} of the calls: {why}")),
    };
    let fold = |reader: &Reader| reader.with(|db| reader::fold(db, i64::MAX));
    let differs = match differs {
        None if fold(source)?.connections != fold(&copy)?.connections => Some("its connections differ".to_string()),
        other => other,
    };
    match differs {
        None => Ok(()),
        Some(what) => {
            Err(RegistryError::Other(format!("the copy in the database is not the same as the file: {what}; do not use it")))
        }
    }
}
