//! Reads the recorded calls.

use super::archive::CallArchives;
use super::{Reader, RegistryError, call_heads};
use crate::model::{CallPosition, CallPurpose, CallTarget, ConnectionId, Digest, MissingFiles, StoredCall, Timestamp};
use sqlstore::{Connection, Row, Value, params_from_iter};
use std::collections::BTreeSet;

/// Which calls to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallFilter {
    pub connections: Vec<ConnectionId>,
    /// Empty for all.
    pub families: Vec<String>,
    /// The host, with or without its port. Empty for all.
    pub hosts: Vec<String>,
    pub purpose: Option<CallPurpose>,
    pub since: Option<Timestamp>,
    /// Only calls that began before this instant.
    pub until: Option<Timestamp>,
    /// Whether calls in archive files are left out. They have no index, so reading them takes as long as reading the files.
    pub without_archives: bool,
}

/// The number of batches up to which a list reads all of them instead of an index: about 25 MB.
const MAX_SCANNED_BATCHES: i64 = 100_000;

const COLUMNS: &str = "b.batch, c.call, c.at, b.connection, b.namespace, b.family, b.attempt, b.begun_at, b.why, b.policy, \
    t.purpose, t.method, t.host, t.path, t.statement, t.rule, c.status, c.sent, c.bytes, c.ms, c.error, b.cut";

impl Reader {
    /// Passes the calls that `filter` selects to `take`, the newest first, until it returns false. With `before`, only those
    /// before this place. Returns the archive files that cannot be read, whose calls are left out.
    ///
    /// # Errors
    /// If the registry itself cannot be read.
    pub fn calls(
        &self,
        filter: &CallFilter,
        before: Option<CallPosition>,
        take: impl FnMut(StoredCall) -> bool,
    ) -> Result<MissingFiles, RegistryError> {
        self.with_taker(take, |db, take| {
            let (source, values) = source(db, filter, before)?;
            let sql = format!("SELECT {COLUMNS} {source} ORDER BY b.batch DESC, c.call DESC");
            let mut statement = db.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                if !take(call(row)?) {
                    return Ok(MissingFiles::default());
                }
            }
            match filter.without_archives {
                true => Ok(MissingFiles::default()),
                false => CallArchives::new(db, self.location(), BTreeSet::new())?.calls(filter, before, take),
            }
        })
    }

    /// The number of calls that `filter` selects. Those in archive files that cannot be read are not counted.
    ///
    /// # Errors
    /// If the registry itself cannot be read.
    pub fn count_calls(&self, filter: &CallFilter) -> Result<u64, RegistryError> {
        self.with(|db| {
            let (source, values) = source(db, filter, None)?;
            let sql = format!("SELECT count(*) {source}");
            let mut count: u64 = db.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
            if !filter.without_archives {
                let add = |_| {
                    count += 1;
                    true
                };
                CallArchives::new(db, self.location(), BTreeSet::new())?.calls(filter, None, add)?;
            }
            Ok(count)
        })
    }
}

/// The tables and the condition of `filter` as SQL, with its values.
fn source(db: &Connection, filter: &CallFilter, before: Option<CallPosition>) -> Result<(String, Vec<Value>), RegistryError> {
    let (existing, dropped) = call_heads::existing(db)?;
    // An index may have been made to leave batches out, which only `aam verify` finds. The table itself cannot.
    let indexed = match dropped {
        Value::Integer(dropped) => {
            let last: Option<i64> = db.query_row("SELECT max(batch) FROM call_batches", [], |row| row.get(0))?;
            if last.unwrap_or_default().saturating_sub(dropped) > MAX_SCANNED_BATCHES { "" } else { " NOT INDEXED" }
        }
        _ => "",
    };
    let (condition, values) = condition(filter, before, (existing, dropped));
    let source = format!(
        "FROM call_batches AS b{indexed} CROSS JOIN call_rows AS c CROSS JOIN call_targets AS t
         WHERE c.batch = b.batch AND t.target = c.target AND {condition}"
    );
    Ok((source, values))
}

/// The condition on a host with or without its port, which is written after the last colon. Each parameter is the host.
const HOST: &str = "(t.host = ? OR (substr(t.host, 1, length(CAST(? AS TEXT)) + 1) = ? || ':' \
    AND ltrim(substr(t.host, length(CAST(? AS TEXT)) + 2), '0123456789') = '' AND length(t.host) > length(CAST(? AS TEXT)) + 1))";

/// The condition of `filter` as SQL with its values. `existing` is that of [`call_heads::existing`].
fn condition(filter: &CallFilter, before: Option<CallPosition>, existing: (&str, Value)) -> (String, Vec<Value>) {
    let (mut parts, mut values) = (vec![existing.0.to_string()], vec![existing.1]);
    let mut one_of = |column: &str, texts: Vec<String>| {
        if !texts.is_empty() {
            parts.push(format!("{column} IN ({})", vec!["?"; texts.len()].join(", ")));
            values.extend(texts.into_iter().map(Value::Text));
        }
    };
    one_of("b.connection", filter.connections.iter().map(ToString::to_string).collect());
    one_of("b.family", filter.families.iter().map(|family| family.to_lowercase()).collect());
    one_of("t.purpose", filter.purpose.iter().map(|purpose| purpose.as_str().to_string()).collect());
    if !filter.hosts.is_empty() {
        parts.push(format!("({})", vec![HOST; filter.hosts.len()].join(" OR ")));
        for host in &filter.hosts {
            values.extend(vec![Value::Text(host.to_lowercase()); HOST.matches('?').count()]);
        }
    }
    let mut time = |condition: &str, at: Option<Timestamp>| {
        if let Some(at) = at {
            parts.push(condition.to_string());
            values.extend(vec![Value::Integer(at.0); condition.matches('?').count()]);
        }
    };
    // A batch is recorded after its calls, so the index on its time finds all that are new enough.
    time("b.at >= ? AND c.at >= ?", filter.since);
    time("c.at < ?", filter.until);
    if let Some(before) = before {
        parts.push("(b.batch, c.call) < (?, ?) AND b.batch <= ?".to_string());
        values.extend(
            [before.batch, before.call, before.batch].map(|number| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))),
        );
    }
    (parts.join(" AND "), values)
}

fn call(row: &Row<'_>) -> Result<StoredCall, RegistryError> {
    let position = CallPosition { batch: row.get(0)?, call: row.get(1)? };
    let purpose: String = row.get(10)?;
    Ok(StoredCall {
        position,
        at: Timestamp(row.get(2)?),
        connection: row.get(3)?,
        namespace: row.get(4)?,
        family: row.get(5)?,
        attempt: row.get(6)?,
        begun_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        why: row.get(8)?,
        policy: row.get::<_, Option<[u8; 32]>>(9)?.map(Digest),
        target: CallTarget {
            purpose: CallPurpose::parse(&purpose).unwrap_or(CallPurpose::Source),
            method: row.get(11)?,
            host: row.get(12)?,
            path: row.get(13)?,
            statement: row.get(14)?,
            rule: row.get(15)?,
        },
        status: row.get(16)?,
        sent: row.get(17)?,
        bytes: row.get(18)?,
        ms: row.get(19)?,
        error: row.get(20)?,
        cut: row.get(21)?,
    })
}
