//! The tiny sync: a few rows of the first readable table that has rows.
//!
//! A relation that cannot be read is skipped with its reason. Only the end of the connection ends the search, and a server
//! that does not answer for one relation is asked about the next one over a new connection.

use super::catalog::{self, Relation, grant_for};
use super::errors::StatementFailure;
use super::relation_errors;
use super::wire::{PostgresSession, ReadLimits, RowCount};
use crate::connectors::Sample;
use crate::connectors::sql::{limits, quote};
use crate::model::text::counted;
use crate::model::{Class, Evidence, Failure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The order of relations: readable ones first, then tables before views (because reading a view runs functions that users
/// wrote) and before foreign tables (because another server must answer), then those that are not known to be empty.
const ORDER: &str = "(has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')) DESC, \
    CASE c.relkind WHEN 'v' THEN 1 WHEN 'f' THEN 2 ELSE 0 END, (c.reltuples > 0) DESC, (c.reltuples <> 0) DESC, n.nspname, c.relname";

/// Limit on the number of relations that are tried. The time is the limit that is usually reached first.
const MAX_CANDIDATES: usize = 5000;
/// A row with more bytes is not transferred.
const MAX_ROW_BYTES: usize = 1 << 20;
/// The time for one relation when it is tried first. The ones that need more are tried again after all others.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// How long the first try waits for a lock.
const FIRST_LOCK_WAIT: Duration = Duration::from_millis(300);
/// Limit on the number of new connections after relations for which the server did not answer at all.
const MAX_RECONNECTS: usize = 2;
/// Limit on the number of skipped relations that the evidence names. Further ones are only counted.
const MAX_NAMED: usize = 20;

/// A relation that could not be read.
struct Skipped {
    name: String,
    failure: Failure,
}

/// What reading one relation after the other has shown so far.
struct Search<'a> {
    wire: &'a PostgresSession,
    /// The connection that replaces `wire` after the server did not answer.
    replacement: Option<PostgresSession>,
    reconnects: usize,
    max_items: u32,
    deadline: Instant,
    empty: Vec<String>,
    /// Whether row level security may have hidden rows of an empty relation.
    filtered: bool,
    skipped: Vec<Skipped>,
    /// Relations that may be readable with more time or beyond their first row, with the failure of the first try.
    again: Vec<(&'a Relation, Failure)>,
}

/// Reads at most `max_items` rows within `time` and counts them. The values are not kept.
///
/// # Errors
/// The failure of the first relation if none can be read; `PermissionDenied` if tables exist but none may be read, because
/// reporting zero rows would be wrong; the failure of the connection.
pub async fn read(wire: &PostgresSession, max_items: u32, time: Duration) -> Result<Sample, Failure> {
    let deadline = Instant::now() + time;
    let candidates = catalog::relations(wire, ORDER, MAX_CANDIDATES).await?.relations;
    let readable: Vec<&Relation> = candidates.iter().filter(|relation| relation.readable()).collect();
    let mut search = Search {
        wire,
        replacement: None,
        reconnects: 0,
        max_items,
        deadline,
        empty: Vec::new(),
        filtered: false,
        skipped: Vec::new(),
        again: Vec::new(),
    };
    let first = ReadLimits {
        rows: max_items,
        row_bytes: MAX_ROW_BYTES,
        statement: FIRST_TRY.min(time / 6).max(Duration::from_millis(50)),
        lock: FIRST_LOCK_WAIT.min(time / 12).max(Duration::from_millis(20)),
    };
    let patient = ReadLimits { statement: limits::STATEMENT_TIMEOUT, lock: limits::LOCK_TIMEOUT, ..first };
    let mut tried = 0;
    for relation in &readable {
        if Instant::now() >= deadline {
            break;
        }
        tried += 1;
        if let Some(count) = search.first_try(relation, first).await? {
            return Ok(search.found(relation, count));
        }
    }
    let untried = readable.len() - tried;
    for (relation, failure) in std::mem::take(&mut search.again) {
        let statement = patient.statement.min(search.time_left());
        if statement < patient.lock {
            search.skip(relation, failure);
        } else if let Some(count) = search.second_try(relation, ReadLimits { statement, ..patient }).await? {
            return Ok(search.found(relation, count));
        }
    }
    search.nothing_found(&candidates, untried)
}

impl<'a> Search<'a> {
    fn session(&self) -> &PostgresSession {
        self.replacement.as_ref().unwrap_or(self.wire)
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn skip(&mut self, relation: &Relation, failure: Failure) {
        self.skipped.push(Skipped { name: relation.quoted(), failure });
    }

    /// Reads one row of `relation`, and then all of them, because a first row that is large or slow says enough. What may
    /// succeed with more time is noted for the second try. It is an error only if the connection ended and cannot be replaced.
    async fn first_try(&mut self, relation: &'a Relation, limits: ReadLimits) -> Result<Option<RowCount>, Failure> {
        let mut result = rows_of(self.session(), relation, ReadLimits { rows: 1, ..limits }).await;
        if matches!(result, Ok(count) if count.read > 0) && limits.rows > 1 {
            result = rows_of(self.session(), relation, limits).await;
        }
        match result {
            Ok(count) if count.read == 0 && count.too_large > 0 => {
                let failure = self.too_large(relation, count);
                self.again.push((relation, failure));
                Ok(None)
            }
            Err(failed) if relation_errors::may_need_more_time(failed.code.as_deref()) => {
                self.again.push((relation, failed.failure));
                Ok(None)
            }
            result => self.settle(relation, result).await,
        }
    }

    /// Reads all rows of `relation` with more time.
    async fn second_try(&mut self, relation: &'a Relation, limits: ReadLimits) -> Result<Option<RowCount>, Failure> {
        let result = rows_of(self.session(), relation, limits).await;
        self.settle(relation, result).await
    }

    /// Notes why `relation` has no rows to count, or returns their number.
    async fn settle(
        &mut self,
        relation: &Relation,
        result: Result<RowCount, StatementFailure>,
    ) -> Result<Option<RowCount>, Failure> {
        match result {
            Ok(count) if count.read > 0 => return Ok(Some(count)),
            Ok(count) if count.too_large > 0 => {
                let failure = self.too_large(relation, count);
                self.skip(relation, failure);
            }
            Ok(_) => {
                self.filtered |= relation.filtered;
                self.empty.push(relation.quoted());
            }
            Err(failed) if failed.ends_session => {
                let failure = self.replace_session(failed).await?;
                self.skip(relation, failure);
            }
            Err(failed) => self.skip(relation, failed.failure),
        }
        Ok(None)
    }

    fn too_large(&self, relation: &Relation, count: RowCount) -> Failure {
        let rows = if count.too_large == 1 { "a row".to_string() } else { counted_rows(count.too_large) };
        let why = format!("{rows} with up to {} bytes; AAM reads rows of at most {MAX_ROW_BYTES} bytes", count.largest);
        relation_errors::too_large(&self.wire.server, &relation.quoted(), &why)
    }

    /// Connects again after a relation for which the connection ended, for example because the server waits for another
    /// server. Returns the failure of the relation.
    async fn replace_session(&mut self, failed: StatementFailure) -> Result<Failure, Failure> {
        if self.reconnects >= MAX_RECONNECTS || self.time_left().is_zero() {
            return Err(failed.failure);
        }
        self.reconnects += 1;
        // If the server does not accept another connection either, the first failure says more.
        let Ok(opened) = self.session().reconnect().await else { return Err(failed.failure) };
        self.replacement = Some(opened);
        Ok(failed.failure)
    }

    fn skipped_evidence(&self) -> Vec<Value> {
        self.skipped.iter().take(MAX_NAMED).map(|one| json!({"stream": one.name, "reason": reason(&one.failure)})).collect()
    }

    /// The evidence that every result shares.
    fn evidence(&self) -> Evidence {
        let mut evidence = Evidence::new();
        if !self.empty.is_empty() {
            let named: Vec<&String> = self.empty.iter().take(MAX_NAMED).collect();
            evidence.insert("empty_streams".into(), json!(named));
            evidence.insert("empty_count".into(), json!(self.empty.len()));
        }
        if !self.skipped.is_empty() {
            evidence.insert("skipped".into(), json!(self.skipped_evidence()));
            evidence.insert("skipped_count".into(), json!(self.skipped.len()));
        }
        evidence
    }

    fn found(mut self, relation: &Relation, count: RowCount) -> Sample {
        for (relation, failure) in std::mem::take(&mut self.again) {
            self.skip(relation, failure);
        }
        let mut evidence = self.evidence();
        evidence.insert("stream".into(), json!(format!("{}.{}", relation.schema, relation.name)));
        evidence.insert("rows".into(), json!(count.read));
        if count.too_large > 0 {
            evidence.insert(
                "too_large".into(),
                json!(format!("{} not read, because of more than {MAX_ROW_BYTES} bytes", counted_rows(count.too_large))),
            );
        }
        Sample::new(count.read.min(u64::from(self.max_items)), evidence)
    }

    /// The result if no relation has rows that can be read.
    fn nothing_found(self, candidates: &[Relation], untried: usize) -> Result<Sample, Failure> {
        let mut evidence = self.evidence();
        if untried > 0 {
            evidence.insert("not_tried".into(), json!(untried));
        }
        if candidates.is_empty() {
            let place = match &self.wire.server.schema {
                Some(schema) => format!("the schema {schema}"),
                None => "the database".to_string(),
            };
            evidence.insert("note".into(), json!(format!("empty: {place} has no tables")));
            return Ok(Sample::new(0, evidence));
        }
        if self.empty.is_empty() {
            return Err(self.failure(candidates, untried));
        }
        let mut note = if self.filtered {
            "empty: row level security is active for this role and may hide rows".to_string()
        } else {
            "empty: the tables that were read have no rows".to_string()
        };
        if !self.skipped.is_empty() {
            note.push_str(&format!("; {} could not be read", counted(self.skipped.len(), "table")));
        }
        if untried > 0 {
            note.push_str(&format!("; there was no time for {} more", counted(untried, "table")));
        }
        evidence.insert("note".into(), json!(note));
        Ok(Sample::new(0, evidence))
    }

    /// The failure if not even one relation could be read: the first one that is not a missing privilege, with the reasons of
    /// the others.
    fn failure(self, candidates: &[Relation], untried: usize) -> Failure {
        let denied = |one: &Skipped| one.failure.class == Class::PermissionDenied;
        let at = self.skipped.iter().position(|one| !denied(one)).unwrap_or(0);
        let mut skipped = self.skipped;
        if skipped.is_empty() {
            return blind(self.wire, candidates);
        }
        let first = skipped.remove(at).failure;
        if skipped.is_empty() && untried == 0 {
            return first;
        }
        let others: Vec<String> =
            skipped.iter().take(MAX_NAMED).map(|one| format!("{}: {}", one.name, reason(&one.failure))).collect();
        let mut detail = format!("{}; no other table could be read: {}", first.detail, others.join("; "));
        if skipped.len() > MAX_NAMED {
            detail.push_str(&format!("; and {} more", skipped.len() - MAX_NAMED));
        }
        if untried > 0 {
            detail.push_str(&format!("; there was no time for {}", counted(untried, "table")));
        }
        first.detail(detail)
    }
}

/// Why a relation was skipped, on one line. The title names the server and the relation, which the caller shows beside it.
fn reason(failure: &Failure) -> String {
    let title = failure.title.split_once("could not read ").and_then(|(_, rest)| rest.split_once(": ")).map(|(_, why)| why);
    format!("{}; {}", title.unwrap_or(&failure.title), failure.detail).trim_end_matches("; ").to_string()
}

fn counted_rows(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "row")
}

async fn rows_of(wire: &PostgresSession, relation: &Relation, limits: ReadLimits) -> Result<RowCount, StatementFailure> {
    let columns = if relation.select { "*".to_string() } else { granted_columns(wire, relation).await? };
    wire.count_rows(&relation.quoted(), &columns, limits).await
}

/// The columns that column-level grants allow the role to read.
async fn granted_columns(wire: &PostgresSession, relation: &Relation) -> Result<String, StatementFailure> {
    let sql = format!(
        "SELECT a.attname FROM pg_attribute a WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped \
         AND has_column_privilege(a.attrelid, a.attnum, 'SELECT') ORDER BY a.attnum",
        relation.oid
    );
    let sets = wire.query("list the readable columns", &sql, &[1]).await?;
    let names: Vec<String> =
        sets.into_iter().flatten().filter_map(|row| row.into_iter().next().flatten()).map(|name| quote::double(&name)).collect();
    Ok(names.join(", "))
}

/// The failure if tables exist but the role cannot read any of them.
fn blind(wire: &PostgresSession, candidates: &[Relation]) -> Failure {
    let Some(first) = candidates.first() else {
        return Failure::new(Class::Bug, "no table to name in the failure", "report this defect");
    };
    Failure::new(
        Class::PermissionDenied,
        format!("{}: {} does not have permission to read any table, although tables exist", wire.server, wire.user),
        grant_for(&first.schema, &wire.user),
    )
    .detail(format!("permission denied for table {}: lacks {}", first.quoted(), first.missing()))
}
