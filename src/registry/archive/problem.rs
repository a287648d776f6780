//! What is wrong with an archive file, what is therefore not shown, and how to get the file back.

use crate::model::ledger::Archived;
use crate::model::{MissingFile, Timestamp};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

const DAY_MS: i64 = 86_400_000;

/// What has to be done before the file can be copied back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Copy,
    /// The folder is missing.
    CreateFolder,
    /// Something else is in the place of the folder.
    ReplaceFolder,
    /// Something else is in its place, which a copy would write into.
    Remove,
    /// The file is there, and only its rights are wrong.
    Permit,
}

/// An archive file that is missing or damaged.
#[derive(Clone, Debug)]
pub struct ArchiveProblem {
    path: PathBuf,
    /// The name that the ledger gives the file.
    name: String,
    /// What is wrong, for a sentence that begins with the file.
    why: String,
    remedy: Remedy,
    holds_calls: bool,
    /// The end of the UTC day on which what it holds was recorded.
    before: Timestamp,
}

impl ArchiveProblem {
    /// The file that the ledger names is not as AAM wrote it.
    pub(super) fn damaged(path: &Path, archived: &Archived, why: impl Into<String>) -> ArchiveProblem {
        ArchiveProblem {
            path: path.to_path_buf(),
            name: archived.file.clone(),
            why: why.into(),
            remedy: Remedy::Copy,
            // Step reports have no hash of their own.
            holds_calls: archived.hash.is_some(),
            before: archived.before,
        }
    }

    /// The file cannot be opened or read.
    pub(super) fn unreadable(path: &Path, archived: &Archived, error: &io::Error) -> ArchiveProblem {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "is missing".to_string(),
            _ => format!("cannot be read: {error}"),
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let remedy = match std::fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => Remedy::Remove,
            Err(_) if folder.symlink_metadata().is_err() => Remedy::CreateFolder,
            // Also a symbolic link that leads nowhere.
            Err(_) if folder.metadata().map_or_else(|why| why.kind() == io::ErrorKind::NotFound, |found| !found.is_dir()) => {
                Remedy::ReplaceFolder
            }
            _ if error.kind() == io::ErrorKind::PermissionDenied => Remedy::Permit,
            _ => Remedy::Copy,
        };
        ArchiveProblem { remedy, ..ArchiveProblem::damaged(path, archived, why) }
    }

    /// What is wrong, without what to do.
    pub(super) fn what(&self) -> String {
        format!("the archive file {} {}", self.path.display(), self.why)
    }

    fn fix(&self) -> String {
        let (name, path) = (&self.name, self.path.display());
        let folder = self.path.parent().unwrap_or(Path::new(".")).display();
        let first = match self.remedy {
            Remedy::Copy => String::new(),
            Remedy::CreateFolder => format!("create the folder {folder}, then "),
            Remedy::ReplaceFolder => format!("remove {folder}, create a folder with this name, then "),
            Remedy::Remove => format!("remove {path}, then "),
            Remedy::Permit => {
                return format!("make {path} readable for the user of AAM; aam verify then confirms it");
            }
        };
        format!("{first}copy {name} from the folder NAME.archive beside a backup to {path}; aam verify then confirms it")
    }

    /// The file, for an answer or a list that shows everything else.
    pub(in super::super) fn missing_file(&self) -> MissingFile {
        let since = Timestamp(self.before.0.saturating_sub(DAY_MS)).rfc3339();
        let what = if self.holds_calls { "calls" } else { "step reports" };
        let day = since.get(..10).unwrap_or_default();
        MissingFile {
            file: self.path.display().to_string(),
            message: format!("{}, so its {what} of {day} (UTC) are not shown", self.what()),
            since,
            until: self.before.rfc3339(),
            fix: self.fix(),
        }
    }
}

impl fmt::Display for ArchiveProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}; fix: {}", self.what(), self.fix())
    }
}
