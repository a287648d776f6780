//! Verifies the hash chain of the ledger.

use super::archive::{self, ArchivedSteps, CallArchives};
use super::call_entries::CallEntries;
use super::chain::{self, GENESIS, LedgerRow};
use super::fold_file::FoldVerdict;
use super::{CallsVerdict, Location, Reader, RegistryError, fold_file, schema, verify_calls, verify_chains};
use crate::model::Digest;
use sqlstore::Connection;
use std::sync::atomic::{AtomicU64, Ordering};

/// The result of verifying the ledger.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// The number of rows up to the first mismatch.
    pub rows: u64,
    /// The hash of the last of these rows; in PostgreSQL, that of the last row of the first chain. A copy that is kept elsewhere also proves that no rows were removed from the end.
    pub head: Digest,
    /// The `seq` of the first row that does not match the chain, and why.
    pub broken: Option<(i64, String)>,
    /// What is wrong with the file itself: damaged pages and indexes, triggers that were dropped or changed, and rows in the tables
    /// of calls that AAM did not write.
    pub damage: Vec<String>,
    /// What verifying the recorded calls found. They are verified only if the ledger is intact.
    pub calls: CallsVerdict,
    /// What is wrong with the archive files. What they hold was not verified then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<String>,
    /// What is wrong with the stored fold, from which AAM starts. The registry itself may be intact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_fold: Option<String>,
    /// Why the stored fold is not used although it may be intact. The next start then takes longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused_fold: Option<String>,
}

impl Verdict {
    /// Whether the chains and the file are as AAM wrote them.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.is_intact_without_archives() && self.archives.is_empty()
    }

    fn add_fold(&mut self, fold: FoldVerdict) {
        (self.stored_fold, self.unused_fold) = (fold.wrong, fold.unused);
    }

    /// As [`Verdict::is_intact`], for a copy of the registry that has its archive files elsewhere.
    #[must_use]
    pub fn is_intact_without_archives(&self) -> bool {
        self.broken.is_none() && self.damage.is_empty() && self.calls.broken.is_none()
    }
}

/// How far a verification has come, for another thread to read.
#[derive(Debug, Default)]
pub struct VerifyProgress {
    /// The number of rows that matched so far.
    pub rows: AtomicU64,
    /// The `seq` of the last row. Zero while the pages of the file are checked.
    pub total: AtomicU64,
}

/// The maximum number of problems of the file that are listed.
pub(super) const MAX_DAMAGE: usize = 20;

impl Reader {
    /// Verifies the pages and the schema of the file, and the ledger from the first row.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn verify(&self) -> Result<Verdict, RegistryError> {
        self.verify_with(&VerifyProgress::default())
    }

    /// As [`Reader::verify`], and writes into `progress` how far it has come.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn verify_with(&self, progress: &VerifyProgress) -> Result<Verdict, RegistryError> {
        self.verify_beside(self.location(), progress)
    }

    /// As [`Reader::verify_with`], for a copy of a registry whose archive files are beside the registry at `beside`.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn verify_beside(&self, beside: &Location, progress: &VerifyProgress) -> Result<Verdict, RegistryError> {
        self.with_long(None, |db| {
            // One transaction, so that the ledger and the calls are those of one moment.
            let transaction = db.read_transaction()?;
            let db = &*transaction;
            let Some(file) = db.as_sqlite() else {
                let mut verdict = verify_chains::verify(db, progress)?;
                if verdict.broken.is_none() {
                    verdict.add_fold(fold_file::verify(db, self.location())?);
                }
                return Ok(verdict);
            };
            let mut entries = CallEntries::default();
            let mut damage = damaged_pages(db);
            damage.extend(schema::differences(file)?);
            // A ledger whose last page is damaged is reported below.
            let last = db.query_row("SELECT coalesce(max(seq), 0) FROM ledger", [], |row| row.get::<_, u64>(0));
            progress.total.store(last.unwrap_or_default(), Ordering::Relaxed);
            let problems = archive::check(db, beside);
            // If the entries that name the files cannot be read, the problems say so.
            let mut archived = ArchivedSteps::new(db, beside).unwrap_or_default().without(&problems.files);
            // Registries of earlier versions have all bodies in the ledger.
            let has_bodies = schema::version(file)? >= archive::SINCE_SCHEMA_VERSION;
            let body = if has_bodies { archive::body_sql(db) } else { "body" };
            let sql = format!("SELECT seq, at, kind, namespace, connection, facts, {body}, prev, hash FROM ledger ORDER BY seq");
            let mut statement = db.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let mut verdict = Verdict {
                rows: 0,
                head: GENESIS,
                broken: None,
                damage,
                calls: CallsVerdict::default(),
                archives: problems.messages,
                stored_fold: None,
                unused_fold: None,
            };
            loop {
                let row = match rows.next() {
                    Ok(Some(row)) => row,
                    Ok(None) => break,
                    Err(error) => {
                        let next = i64::try_from(verdict.rows + 1).unwrap_or(i64::MAX);
                        verdict.broken = Some((next, format!("the page that holds it cannot be read: {error}")));
                        break;
                    }
                };
                let seq: i64 = row.get(0)?;
                match step(row, &verdict, &mut archived) {
                    Ok(head) => {
                        verdict.rows += 1;
                        progress.rows.store(verdict.rows, Ordering::Relaxed);
                        verdict.head = head;
                        let (kind, facts) =
                            (row.get_ref(2)?.as_str().unwrap_or_default(), row.get_ref(5)?.as_str().unwrap_or_default());
                        if let Err(why) = entries.add(verdict.rows, row.get(1)?, kind, facts) {
                            verdict.broken = Some((seq, why));
                            break;
                        }
                    }
                    Err(why) => {
                        verdict.broken = Some((seq, why));
                        break;
                    }
                }
            }
            if verdict.broken.is_none() && schema::version(file)? >= verify_calls::SINCE_SCHEMA_VERSION {
                let files = CallArchives::new(db, beside, problems.files)?;
                let (calls, other_rows) = verify_calls::verify(db, &entries, &files)?;
                verdict.calls = calls;
                verdict.damage.extend(other_rows);
            }
            if has_bodies {
                verdict.damage.extend(archive::other_bodies(db)?);
            }
            if verdict.broken.is_none() {
                verdict.add_fold(fold_file::verify(db, self.location())?);
            }
            Ok(verdict)
        })
    }
}

/// Returns what SQLite finds wrong with the pages of the file, and which indexes do not have the content of their tables. An
/// index that leaves rows out would hide them from everything that reads by it.
fn damaged_pages(db: &Connection) -> Vec<String> {
    let found = || -> sqlstore::Result<Vec<String>> {
        let mut statement = db.prepare(&format!("PRAGMA integrity_check({MAX_DAMAGE})"))?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    match found() {
        Ok(lines) => lines.into_iter().filter(|line| line != "ok").collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// Returns the hash of `row` if it matches the rows before it.
///
/// # Errors
/// Why the row does not match.
pub(super) fn step(row: &sqlstore::Row<'_>, verdict: &Verdict, archived: &mut ArchivedSteps) -> Result<Digest, String> {
    let seq: u64 = row.get(0).map_err(|_| "a row was inserted before the first one".to_string())?;
    if seq == 0 {
        return Err("a row was inserted before the first one".to_string());
    }
    if seq != verdict.rows + 1 {
        return Err(format!("row {} is missing", verdict.rows + 1));
    }
    let is_apart = row.text(6).is_ok_and(|body| body.is_none()) && row.text(2).is_ok_and(|kind| kind == Some("attempt_finished"));
    if !is_apart {
        return step_after(row, seq, &verdict.head);
    }
    match archived.body(seq) {
        Ok(body) => step_with(row, seq, &verdict.head, body.as_deref()),
        // The archive file is reported on its own, and what is left of the row is its link.
        Err(_) => linked(row, &verdict.head),
    }
}

/// Returns the hash that the row has, if its link matches the row before.
fn linked(row: &sqlstore::Row<'_>, head: &Digest) -> Result<Digest, String> {
    if row.get::<_, [u8; 32]>(7).map_err(|error| error.to_string())? != head.0 {
        return Err("its link to the row before does not match".to_string());
    }
    Ok(Digest(row.get(8).map_err(|error| error.to_string())?))
}

/// Returns the hash of row `seq` if it follows a row with the hash `head`.
///
/// # Errors
/// Why the row does not match.
pub(super) fn step_after(row: &sqlstore::Row<'_>, seq: u64, head: &Digest) -> Result<Digest, String> {
    let body = row.get_ref(6).map_err(|error| error.to_string())?;
    step_with(row, seq, head, body.as_str_or_null().map_err(|error| error.to_string())?)
}

/// As [`step_after`], with a body that is elsewhere.
fn step_with(row: &sqlstore::Row<'_>, seq: u64, head: &Digest, body: Option<&str>) -> Result<Digest, String> {
    let text = |column: usize| row.get_ref(column).map_err(|error| error.to_string());
    let message = |error: sqlstore::Error| error.to_string();
    let read = LedgerRow {
        seq,
        at: row.get(1).map_err(|error| error.to_string())?,
        kind: text(2)?.as_str().map_err(message)?,
        namespace: text(3)?.as_str().map_err(message)?,
        connection: text(4)?.as_str_or_null().map_err(message)?,
        facts: text(5)?.as_str().map_err(message)?,
        body,
    };
    if text(7)?.as_blob().map_err(message)? != head.0 {
        return Err("its link to the row before does not match".to_string());
    }
    let hash = chain::hash(head, &read);
    if text(8)?.as_blob().map_err(message)? != hash.0 {
        return Err("its content does not match its hash: it was changed after it was written".to_string());
    }
    Ok(hash)
}
