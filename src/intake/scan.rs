//! What a scan found, as values, and what is remembered of a file.

use super::listing::Stamp;
use crate::model::{Digest, Intent, Problem};
use std::sync::Arc;

/// What is remembered of a file, also across a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub stamp: Stamp,
    /// The first half of the SHA-256 of the content.
    pub content: [u8; 16],
}

impl Mark {
    /// Fits no file: whatever is found is read and reported again.
    pub const NONE: Mark = Mark { stamp: Stamp { size: 0, mtime_ns: i64::MIN, inode: 0 }, content: [0; 16] };
}

/// What one file holds now. Its content differs from what was accepted before.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Relative to the intents folder; the origin is `Origin::folder(path)`.
    pub path: Arc<str>,
    /// The good items, with their digests.
    pub intents: Vec<(Intent, Digest)>,
    pub warnings: Vec<Problem>,
    /// Why items, or the whole file, could not be read.
    pub problems: Vec<Problem>,
    pub(super) mark: Mark,
}

impl FileReport {
    /// Whether all that the file desires is known. If not, nothing it desired before may be
    /// withdrawn: a bad item cannot say which connection it meant.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.problems.is_empty()
    }

    /// The mark to store. That of a bad file fits nothing, so that its problems are found again
    /// after a restart.
    #[must_use]
    pub fn mark(&self) -> Mark {
        if self.complete() { self.mark } else { Mark::NONE }
    }
}

/// The findings of one scan.
#[derive(Debug, Default)]
pub struct Scan {
    /// Sorted by path.
    pub changed: Vec<FileReport>,
    /// Files that are certainly not there any more: withdraw what they desired.
    pub gone: Vec<Arc<str>>,
    /// Touched without a change of content: only their marks are new. The flag says "a good file".
    pub(super) touched: Vec<(Arc<str>, Mark, bool)>,
    /// All that is wrong below the folder now, also in files that did not change.
    pub problems: Vec<Problem>,
    /// The folder as a whole cannot be trusted; then nothing is gone.
    pub folder: Option<Problem>,
    /// Files listed.
    pub files: usize,
    /// More is known to come: scan again in about 25 ms, or at once if [`Scan::more`].
    pub look_again: bool,
    /// Files so young that they may change again unseen: [`super::Scanner::reread`] them in about 25 ms.
    pub fresh: Vec<Arc<str>>,
    /// A name may have been missed: all is to be looked at again.
    pub missed: bool,
    /// More files changed than one scan reads.
    pub more: bool,
    pub(super) root: Option<(u64, u64)>,
}

impl Scan {
    /// Every mark that is to be stored (`None`: removed), for `Scanner::from_marks`.
    pub fn marks(&self) -> impl Iterator<Item = (&Arc<str>, Option<Mark>)> {
        let changed = self.changed.iter().map(|report| (&report.path, Some(report.mark())));
        let touched = self.touched.iter().filter(|(_, _, good)| *good).map(|(path, mark, _)| (path, Some(*mark)));
        changed.chain(touched).chain(self.gone.iter().map(|path| (path, None)))
    }

    /// Whether there is nothing to make durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty() && self.touched.is_empty()
    }
}
