//! The result of a scan, and what is remembered of each file.

use super::listing::{Identity, Stamp};
use crate::model::{Digest, Intent, Problem};
use std::sync::Arc;

/// What is remembered of a file. Marks are stored in the registry, so that a restart does not read unchanged files
/// and recognizes a sub-folder that is not the same as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub stamp: Stamp,
    /// The first half of the SHA-256 of the content.
    pub content: [u8; 16],
}

impl Mark {
    /// Matches no file, so that a file with this mark is read and reported again.
    pub const NONE: Mark = Mark { stamp: Stamp { size: 0, mtime_ns: i64::MIN, inode: 0 }, content: [0; 16] };

    /// The mark of a sub-folder, whose path ends with `/`. It holds the device in place of the size.
    #[must_use]
    pub fn from_folder((device, inode): Identity) -> Mark {
        Mark { stamp: Stamp { size: device, mtime_ns: 0, inode }, content: [0; 16] }
    }
}

/// The content of a file that is new or has changed since the last accepted scan.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// The path relative to the intents folder. The origin is `Origin::folder(path)`.
    pub path: Arc<str>,
    /// The valid intents with their digests.
    pub intents: Vec<(Intent, Digest)>,
    pub warnings: Vec<Problem>,
    /// Why some intents, or the whole file, could not be read.
    pub problems: Vec<Problem>,
    /// Whether an intent, or the whole file, could not be read. An intent that was read and is in a namespace that
    /// accepts none is a problem too, but it hides nothing.
    pub(super) unreadable: bool,
    pub(super) mark: Mark,
}

impl FileReport {
    /// Whether every intent of the file could be read. If not, nothing that the file desired before may be withdrawn,
    /// because the intent that could not be read may stand for any of those connections.
    #[must_use]
    pub fn complete(&self) -> bool {
        !self.unreadable
    }

    /// The mark to store. The mark of a file with problems is [`Mark::NONE`], so that its problems are found again after a
    /// restart.
    #[must_use]
    pub fn mark(&self) -> Mark {
        if self.problems.is_empty() { self.mark } else { Mark::NONE }
    }
}

/// The result of one scan.
#[derive(Debug, Default)]
pub struct Scan {
    /// New and changed files, sorted by path.
    pub changed: Vec<FileReport>,
    /// Files that no longer exist. The caller withdraws what they desired.
    pub gone: Vec<Arc<str>>,
    /// Files whose stamp changed but not their content, with their new marks. The flag is true for a file without
    /// problems.
    pub(super) touched: Vec<(Arc<str>, Mark, bool)>,
    /// All current problems of the folder, including those of files that did not change.
    pub problems: Vec<Problem>,
    /// Set if the folder as a whole cannot be trusted. No file counts as gone then.
    pub folder: Option<Problem>,
    /// The number of files that were listed.
    pub files: usize,
    /// Whether another scan is needed: immediately if [`Scan::more`] is set, otherwise in about 25 ms.
    pub needs_scan: bool,
    /// Files that were modified so recently that another write may leave their stamp unchanged. Pass them to
    /// [`super::Scanner::reread`] in about 25 ms.
    pub fresh: Vec<Arc<str>>,
    /// A file name may have been missed, so that another scan is needed.
    pub missed: bool,
    /// More files changed than one scan reads.
    pub more: bool,
    /// Names that are not read because of their form, the first of them in order, and how many there are.
    pub ignored: (Vec<String>, usize),
    pub(super) root: Option<Identity>,
    /// The sub-folders whose device or inode is new or changed, with `None` for one that is gone.
    pub(super) folders: Vec<(Arc<str>, Option<Identity>)>,
}

impl Scan {
    /// The marks to store for `Scanner::from_marks`. `None` stands for a file whose mark is to be deleted.
    pub fn marks(&self) -> impl Iterator<Item = (&Arc<str>, Option<Mark>)> {
        let changed = self.changed.iter().map(|report| (&report.path, Some(report.mark())));
        let touched = self.touched.iter().filter(|(_, _, good)| *good).map(|(path, mark, _)| (path, Some(*mark)));
        let folders = self.folders.iter().map(|(path, identity)| (path, identity.map(Mark::from_folder)));
        changed.chain(touched).chain(self.gone.iter().map(|path| (path, None))).chain(folders)
    }

    /// Whether the scan found nothing that must be stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty() && self.touched.is_empty() && self.folders.is_empty()
    }
}
