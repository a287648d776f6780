//! Reads recorded calls in archive files.

use super::file::ArchiveFile;
use super::{ArchiveKind, folder_of, named};
use crate::model::ledger::{Archived, CallChainEnd};
use crate::model::{CallPosition, MissingFiles, RecordedCall, StoredCall, Timestamp};
use crate::registry::call_heads::{self, ONE_CHAIN};
use crate::registry::{CallBatch, CallFilter, Location, RegistryError};
use sqlstore::Connection;
use std::collections::BTreeSet;
use std::path::PathBuf;

const DAY_MS: i64 = 86_400_000;
/// More than an attempt takes.
const LONGEST_ATTEMPT_MS: i64 = DAY_MS;

/// The archive files with calls that are not dropped.
#[derive(Debug, Default)]
pub(in super::super) struct CallArchives {
    folder: PathBuf,
    pub(in super::super) files: Vec<Archived>,
    pub(in super::super) bad: BTreeSet<String>,
}

/// The end of the chain after the batches of a file.
pub(in super::super) fn end(archived: &Archived) -> CallChainEnd {
    let hash = archived.hash.unwrap_or_default();
    CallChainEnd { chain: ONE_CHAIN, place: archived.last, batch: archived.last, hash }
}

impl CallArchives {
    /// The archive files of the registry. Those of `bad` are damaged or missing.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub(in super::super) fn new(
        db: &Connection,
        location: &Location,
        bad: BTreeSet<String>,
    ) -> Result<CallArchives, RegistryError> {
        let dropped = call_heads::dropped(db)?.get(&ONE_CHAIN).map_or(0, |dropped| dropped.batch);
        let mut files = named(db, ArchiveKind::Calls)?;
        files.retain(|archived| archived.last > dropped);
        Ok(CallArchives { folder: folder_of(location), files, bad })
    }

    /// Passes the batches of a file to `take`, in order, until it returns false.
    ///
    /// # Errors
    /// If the file is damaged or missing.
    pub(in super::super) fn batches(
        &self,
        archived: &Archived,
        mut take: impl FnMut(CallBatch) -> bool,
    ) -> Result<bool, RegistryError> {
        let mut file = ArchiveFile::open(&self.folder, archived)?;
        for member in 0..file.members() {
            for batch in file.lines(member)? {
                if !take(batch) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Passes the calls that `filter` selects to `take`, the newest first, until it returns false. With `before`, only those before
    /// this place. Returns the files that are damaged or missing, whose calls are left out.
    ///
    /// # Errors
    /// If something else than a file cannot be read.
    pub(in super::super) fn calls(
        &self,
        filter: &CallFilter,
        before: Option<CallPosition>,
        mut take: impl FnMut(StoredCall) -> bool,
    ) -> Result<MissingFiles, RegistryError> {
        let mut missing = MissingFiles::default();
        for archived in self.files.iter().rev() {
            // Everything in this file and those before it is older.
            if filter.since.is_some_and(|since| archived.before <= since) {
                break;
            }
            if before.is_some_and(|before| before.batch < archived.first) {
                continue;
            }
            match self.calls_of(archived, filter, before, &mut take) {
                Ok(true) => {}
                Ok(false) => break,
                Err(RegistryError::Archive(_)) if is_after(filter, archived) => {}
                Err(RegistryError::Archive(problem)) => missing.add(problem.missing_file()),
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    /// As [`CallArchives::calls`], for one file. Returns whether `take` wants more.
    fn calls_of(
        &self,
        archived: &Archived,
        filter: &CallFilter,
        before: Option<CallPosition>,
        take: &mut impl FnMut(StoredCall) -> bool,
    ) -> Result<bool, RegistryError> {
        let mut file = ArchiveFile::open(&self.folder, archived)?;
        for member in (0..file.members()).rev() {
            for batch in file.lines::<CallBatch>(member)?.into_iter().rev() {
                for (index, call) in batch.calls.iter().enumerate().rev() {
                    let position = CallPosition { batch: batch.batch, call: index as u64 + 1 };
                    let is_wanted = before.is_none_or(|before| position < before) && selects(filter, &batch, call);
                    if is_wanted && !take(stored(&batch, position, call)) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Whether nothing in the file can have begun in the period of `filter`. A call is recorded when its attempt ends, so it may have
/// begun before the day of its file.
fn is_after(filter: &CallFilter, archived: &Archived) -> bool {
    filter.until.is_some_and(|until| until.0 < archived.before.0.saturating_sub(DAY_MS).saturating_sub(LONGEST_ATTEMPT_MS))
}

/// Whether `filter` selects the call, as the condition in SQL does.
fn selects(filter: &CallFilter, batch: &CallBatch, call: &RecordedCall) -> bool {
    let is_of = |texts: &[String], text: &str| texts.is_empty() || texts.iter().any(|one| one.to_lowercase() == text);
    let is_connection = filter.connections.is_empty() || filter.connections.iter().any(|id| id.to_string() == batch.connection);
    let is_host = |host: &String| match call.target.host.strip_prefix(host.to_lowercase().as_str()) {
        Some("") => true,
        Some(rest) => {
            rest.strip_prefix(':').is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
        }
        None => false,
    };
    is_connection
        && is_of(&filter.families, &batch.family)
        && filter.purpose.is_none_or(|purpose| purpose == call.target.purpose)
        && (filter.hosts.is_empty() || filter.hosts.iter().any(is_host))
        && filter.since.is_none_or(|since| call.at >= since && Timestamp(batch.at) >= since)
        && filter.until.is_none_or(|until| call.at < until)
}

fn stored(batch: &CallBatch, position: CallPosition, call: &RecordedCall) -> StoredCall {
    StoredCall {
        position,
        at: call.at,
        connection: batch.connection.clone(),
        namespace: batch.namespace.clone(),
        family: batch.family.clone(),
        attempt: batch.attempt,
        begun_at: batch.begun_at.map(Timestamp),
        why: batch.why.clone(),
        policy: batch.policy,
        target: call.target.clone(),
        status: call.status,
        sent: call.sent,
        bytes: call.bytes,
        ms: call.ms,
        error: call.error.clone(),
        cut: batch.cut,
    }
}
