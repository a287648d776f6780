//! Reads step reports in archive files.

use super::file::ArchiveFile;
use super::{ArchiveKind, ArchiveProblem, body_sql, folder_of, named};
use crate::model::ledger::Archived;
use crate::registry::{Location, Reader, RegistryError};
use serde::{Deserialize, Serialize};
use sqlstore::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// One line of a file with step reports.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StepsLine {
    pub(super) seq: u64,
    pub(super) body: String,
}

/// The body of an entry, or what is wrong with the archive file that it is in.
pub(in super::super) type ReadBody = Result<Option<String>, Box<ArchiveProblem>>;

/// Finds step reports in the archive files. The part of a file that was read last is kept, so reading them in order is fast.
#[derive(Default)]
pub(in super::super) struct ArchivedSteps {
    folder: PathBuf,
    files: Vec<Archived>,
    /// Files that are known to be damaged or missing.
    bad: BTreeSet<String>,
    open: Option<(usize, ArchiveFile)>,
    /// The file, the member and its lines.
    lines: Option<(usize, usize, Vec<StepsLine>)>,
}

impl ArchivedSteps {
    /// The archive files of the registry.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub(in super::super) fn new(db: &Connection, location: &Location) -> Result<ArchivedSteps, RegistryError> {
        let files = named(db, ArchiveKind::Steps)?;
        Ok(ArchivedSteps { folder: folder_of(location), files, ..ArchivedSteps::default() })
    }

    /// The same, without the files of `bad`, whose reports are missing then.
    pub(in super::super) fn without(self, bad: &BTreeSet<String>) -> ArchivedSteps {
        ArchivedSteps { bad: bad.clone(), ..self }
    }

    /// The report of entry `seq`, or `None` if it is not archived.
    ///
    /// # Errors
    /// If the file is damaged or missing.
    pub(in super::super) fn body(&mut self, seq: u64) -> Result<Option<String>, RegistryError> {
        let index = self.files.partition_point(|file| file.last < seq);
        let Some(archived) = self.files.get(index).filter(|file| file.first <= seq).cloned() else { return Ok(None) };
        if self.bad.contains(&archived.file) {
            return Err(super::file::damaged(&self.folder.join(&archived.file), &archived, "is damaged or missing"));
        }
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            self.open = Some((index, ArchiveFile::open(&self.folder, &archived)?));
        }
        let Some((_, file)) = &mut self.open else { return Ok(None) };
        let member = file.member_of(seq);
        if self.lines.as_ref().is_none_or(|(file, read, _)| (*file, *read) != (index, member)) {
            self.lines = Some((index, member, file.lines(member)?));
        }
        let lines = self.lines.as_ref().map(|(_, _, lines)| lines.as_slice()).unwrap_or_default();
        let found = lines.binary_search_by_key(&seq, |line| line.seq).ok().and_then(|at| lines.get(at));
        Ok(found.map(|line| line.body.clone()))
    }
}

impl Reader {
    /// The bodies of several entries, also those in archive files. One whose file cannot be read is an error of its own.
    pub(in super::super) fn bodies_of(
        &self,
        db: &Connection,
        seqs: &[u64],
        max_bytes: usize,
    ) -> Result<Vec<ReadBody>, RegistryError> {
        let body = body_sql(db);
        let sql = format!(
            "SELECT CASE WHEN CAST(octet_length({body}) AS BIGINT) <= ?2 THEN {body} END, CAST(octet_length({body}) AS BIGINT), kind
             FROM ledger WHERE seq = ?1"
        );
        let mut statement = db.prepare_cached(&sql)?;
        let (mut archived, mut bodies) = (None, Vec::with_capacity(seqs.len()));
        let max = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        for seq in seqs {
            let row = statement.query_row(params![seq, max], |row| {
                let is_report = row.get::<_, String>(2)? == "attempt_finished";
                Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<u64>>(1)?, is_report))
            });
            bodies.push(match row.optional()? {
                Some((None, None, true)) => match archived_body(db, self.location(), &mut archived, *seq) {
                    Err(RegistryError::Archive(problem)) => Err(problem),
                    found => Ok(found?.filter(|body| body.len() <= max_bytes)),
                },
                Some((body, _, _)) => Ok(body),
                None => Ok(None),
            });
        }
        Ok(bodies)
    }
}

/// The step report of entry `seq` in an archive file. `archived` is opened when it is first needed.
pub(in super::super) fn archived_body(
    db: &Connection,
    location: &Location,
    archived: &mut Option<ArchivedSteps>,
    seq: u64,
) -> Result<Option<String>, RegistryError> {
    if archived.is_none() {
        *archived = Some(ArchivedSteps::new(db, location)?);
    }
    archived.as_mut().map_or(Ok(None), |archived| archived.body(seq))
}
