//! Moves old step reports and calls into archive files. A reader writes a file; then the writer names it in the ledger, and only
//! then deletes what it holds, a bounded number of rows in each transaction. A file that is left by a process that was killed before
//! the ledger named it is written again.

use super::file::{self, ArchiveWriter};
use super::steps::StepsLine;
use super::{ArchiveKind, ONLY_FILES, folder, folder_of, last, named};
use crate::model::ledger::{Archived, Fact};
use crate::model::{Digest, Timestamp};
use crate::registry::command::Command;
use crate::registry::evidence_reader::{self, CallBatch};
use crate::registry::writer::Writer;
use crate::registry::{Location, Reader, Registry, RegistryError, call_heads, calls};
use sqlstore::{Connection, OptionalExtension};
use std::path::Path;

const DAY_MS: i64 = 86_400_000;
/// The number of step reports, and of batches of calls, that one transaction deletes.
const MAX_DELETED: u64 = 2000;

impl Reader {
    /// Writes the next archive file with what was recorded on one UTC day before that of `before`. Returns the fact that names it,
    /// or `None` if nothing is old enough.
    ///
    /// # Errors
    /// If the registry cannot be read or the file cannot be written.
    pub(in super::super) fn write_archive(&self, before: Timestamp) -> Result<Option<Fact>, RegistryError> {
        self.with(|db| {
            let transaction = db.read_transaction()?;
            let db = &*transaction;
            if let Some(archived) = next_steps(db, self.location(), before)? {
                return Ok(Some(Fact::StepsArchived(archived)));
            }
            Ok(next_calls(db, self.location(), before)?.map(Fact::CallsArchived))
        })
    }

    /// Deletes the archive files whose calls were all dropped because of their age.
    ///
    /// # Errors
    /// If the registry cannot be read or a file cannot be deleted.
    pub(in super::super) fn remove_dropped_archives(&self) -> Result<(), RegistryError> {
        self.with(|db| {
            let dropped = call_heads::newest(&call_heads::dropped(db)?).map_or(0, |dropped| dropped.batch);
            for archived in named(db, ArchiveKind::Calls)?.into_iter().filter(|archived| archived.last <= dropped) {
                let path = folder_of(self.location()).join(&archived.file);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(RegistryError::Io { path, error }),
                    _ => {}
                }
            }
            Ok(())
        })
    }
}

/// The end of the day of `at`, if that day is before the one of `before`.
fn end_of_day(at: i64, before: Timestamp) -> Option<i64> {
    let day = Timestamp(at).day();
    (day < before.day()).then(|| day.saturating_add(1).saturating_mul(DAY_MS))
}

/// The name of the file with the rows from number `first` on.
fn name(what: &str, end: i64, first: u64) -> String {
    let day = Timestamp(end.saturating_sub(1)).rfc3339();
    format!("{what}-{}-{first}.jsonl.gz", day.get(..10).unwrap_or_default())
}

fn cannot_write(location: &Location, error: std::io::Error) -> RegistryError {
    RegistryError::Io { path: folder_of(location), error }
}

fn next_steps(db: &Connection, location: &Location, before: Timestamp) -> Result<Option<Archived>, RegistryError> {
    let archived = last(db, ArchiveKind::Steps)?.map_or(0, |archived| archived.last);
    let sql = "SELECT bodies.seq, ledger.at, bodies.body FROM bodies CROSS JOIN ledger
               WHERE ledger.seq = bodies.seq AND bodies.seq > ?1 ORDER BY bodies.seq";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([archived])?;
    let mut open: Option<(ArchiveWriter, i64)> = None;
    while let Some(row) = rows.next()? {
        let (seq, at): (u64, i64) = (row.get(0)?, row.get(1)?);
        let (mut writer, end) = match open.take() {
            Some(open) => open,
            None => {
                let Some(end) = end_of_day(at, before) else { return Ok(None) };
                let name = name("steps", end, seq);
                (ArchiveWriter::create(&folder_of(location), &name).map_err(|error| cannot_write(location, error))?, end)
            }
        };
        let is_later = at >= end;
        if !is_later {
            writer.add(seq, &StepsLine { seq, body: row.get(2)? }).map_err(|error| cannot_write(location, error))?;
        }
        open = Some((writer, end));
        if is_later {
            break;
        }
    }
    finish(location, open, None)
}

fn next_calls(db: &Connection, location: &Location, before: Timestamp) -> Result<Option<Archived>, RegistryError> {
    let mut head = calls::gone(db)?;
    let sql = "SELECT batch, at, connection, namespace, family, begun_at, why, policy, attempt, cut, hash, calls
               FROM call_batches NOT INDEXED WHERE batch > ?1 ORDER BY batch";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([head.batch])?;
    let mut open: Option<(ArchiveWriter, i64)> = None;
    while let Some(row) = rows.next()? {
        let batch: CallBatch = evidence_reader::batch(db, row, head.hash)?;
        let (mut writer, end) = match open.take() {
            Some(open) => open,
            None => {
                let Some(end) = end_of_day(batch.at, before) else { return Ok(None) };
                let name = name("calls", end, batch.batch);
                (ArchiveWriter::create(&folder_of(location), &name).map_err(|error| cannot_write(location, error))?, end)
            }
        };
        if batch.at >= end {
            open = Some((writer, end));
            break;
        }
        if batch.batch != head.batch + 1 || batch.computed_hash(&head.hash) != batch.hash {
            return Err(RegistryError::Other(format!(
                "batch {} of the recorded calls is not intact, so nothing is archived; run aam verify",
                batch.batch
            )));
        }
        writer.add(batch.batch, &batch).map_err(|error| cannot_write(location, error))?;
        (head.batch, head.hash) = (batch.batch, batch.hash);
        open = Some((writer, end));
    }
    finish(location, open, Some(head.hash))
}

/// Completes the file and compares it with its digest, as a reader of it would later.
fn finish(
    location: &Location,
    open: Option<(ArchiveWriter, i64)>,
    hash: Option<Digest>,
) -> Result<Option<Archived>, RegistryError> {
    let Some((writer, end)) = open else { return Ok(None) };
    let archived = writer.finish().map_err(|error| cannot_write(location, error))?;
    let archived = Archived { hash, before: Timestamp(end), ..archived };
    file::check(&folder_of(location), &archived)?;
    Ok(Some(archived))
}

impl Registry {
    /// Moves calls and step reports that were recorded before the UTC day of `before` into archive files beside the registry, and
    /// deletes the files whose calls were dropped. Without `before`, only the latter.
    ///
    /// # Errors
    /// If the registry is in PostgreSQL, a file cannot be written, or the registry cannot write.
    pub async fn archive(&self, before: Option<Timestamp>) -> Result<(), RegistryError> {
        if self.location.postgres().is_some() {
            return match before {
                None => Ok(()),
                Some(_) => Err(RegistryError::Other(ONLY_FILES.to_string())),
            };
        }
        let stopped = |error: tokio::task::JoinError| RegistryError::Other(format!("archiving was stopped: {error}"));
        while let Some(before) = before {
            let reader = self.reader.clone();
            let written = tokio::task::spawn_blocking(move || reader.write_archive(before)).await.map_err(stopped)??;
            let Some(fact) = written else { break };
            self.send(|reply| Command::NameArchive { fact: Box::new(fact), reply }).await?;
        }
        while self.send(|reply| Command::RemoveArchived { reply }).await? {}
        let reader = self.reader.clone();
        tokio::task::spawn_blocking(move || reader.remove_dropped_archives()).await.map_err(stopped)?
    }
}

impl Writer {
    /// Names an archive file in the ledger, unless a file names what it holds already.
    pub(in super::super) fn name_archive(&mut self, fact: Fact) -> Result<(), RegistryError> {
        let (kind, first) = match &fact {
            Fact::CallsArchived(archived) => (ArchiveKind::Calls, archived.first),
            Fact::StepsArchived(archived) => (ArchiveKind::Steps, archived.first),
            _ => return Ok(()),
        };
        if last(&self.db, kind)?.is_none_or(|archived| archived.last < first) {
            if let Fact::CallsArchived(archived) = &fact {
                self.calls_head.anchored = self.calls_head.anchored.max(archived.last);
            }
            self.append("", None, fact, None)?;
        }
        Ok(())
    }

    /// Deletes rows that archive files hold. Returns whether there are more.
    pub(in super::super) fn remove_archived(&mut self) -> Result<bool, RegistryError> {
        if self.db.is_postgres() {
            return Ok(false);
        }
        let steps = last(&self.db, ArchiveKind::Steps)?.map_or(0, |archived| archived.last);
        let deleted = self.db.execute(
            "DELETE FROM bodies WHERE seq IN (SELECT seq FROM bodies WHERE seq <= ?1 ORDER BY seq LIMIT ?2)",
            [steps, MAX_DELETED],
        )?;
        let calls = last(&self.db, ArchiveKind::Calls)?;
        let Some(calls) = calls else { return Ok(deleted > 0) };
        let first: Option<u64> =
            self.db.query_row("SELECT min(batch) FROM call_batches", [], |row| row.get(0)).optional()?.flatten();
        let Some(first) = first.filter(|first| *first <= calls.last) else {
            self.db.execute("DELETE FROM call_targets WHERE month < ?1", [calls::month(calls.before) - 1])?;
            return Ok(deleted > 0);
        };
        let end = calls.last.min(first.saturating_add(MAX_DELETED - 1));
        self.db.execute("DELETE FROM call_rows WHERE batch <= ?1", [end])?;
        self.db.execute("DELETE FROM call_batches WHERE batch <= ?1", [end])?;
        Ok(true)
    }
}

/// The files that the ledger names, except those whose calls were all dropped.
///
/// # Errors
/// If the registry cannot be read.
pub(in super::super) fn in_use(db: &Connection) -> Result<Vec<Archived>, RegistryError> {
    let dropped = call_heads::newest(&call_heads::dropped(db)?).map_or(0, |dropped| dropped.batch);
    let mut files = named(db, ArchiveKind::Steps)?;
    files.extend(named(db, ArchiveKind::Calls)?.into_iter().filter(|archived| archived.last > dropped));
    Ok(files)
}

/// Copies the archive files that a registry names from beside `from` to beside `to`, for a backup or its way back. Returns what is
/// wrong with each file that is damaged or missing, which is left out.
///
/// # Errors
/// If a file cannot be written.
pub(in super::super) fn copy(db: &Connection, from: &Path, to: &Path) -> Result<Vec<String>, RegistryError> {
    let (from, to, mut problems) = (folder(from), folder(to), Vec::new());
    for archived in in_use(db)? {
        match file::copy(&from, &to, &archived) {
            Err(RegistryError::Archive(problem)) => problems.push(problem.to_string()),
            copied => copied?,
        }
    }
    Ok(problems)
}
