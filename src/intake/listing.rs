//! An edge: lists the `*.json` below a folder, one stat a file.
//!
//! What could not be seen is told apart from what is not there: unreadable is not absent.

use crate::model::Problem;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use std::collections::{BTreeSet, HashSet};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Folders below folders, at most; deeper is a mistake or an attack.
const MAX_DEPTH: usize = 32;

/// Bytes of directory entries fetched at once.
const BUFFER: usize = 64 << 10;

/// What a stat says about a file. Two equal ones are taken for the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    pub inode: u64,
}

impl Stamp {
    /// The stamp of a stat.
    #[must_use]
    #[allow(clippy::unnecessary_cast, reason = "the field types differ between platforms")]
    pub fn of(stat: &Stat) -> Stamp {
        let nanos = (stat.st_mtime as i64).saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64);
        Stamp { size: u64::try_from(stat.st_size).unwrap_or(0), mtime_ns: nanos, inode: stat.st_ino as u64 }
    }
}

/// One `*.json` of the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    File(Stamp),
    /// There, but nothing that can be read, and why.
    Unusable(String),
}

/// What the listing as a whole says. Paths are relative to the root, `/` between parts.
#[derive(Debug, Default)]
pub struct Listing {
    /// (device, inode) of the root; `None` when it could not be opened.
    pub root: Option<(u64, u64)>,
    /// The root is missing or unreadable.
    pub folder: Option<Problem>,
    /// Folders that were not listed fully: nothing below them counts as absent. `""` is the root.
    pub failed: Vec<String>,
    /// Names among them that have no problem of their own: links to nowhere.
    pub silent: Vec<String>,
    /// Folders that changed while they were listed: a name may have been missed.
    pub unsteady: HashSet<String>,
    /// Problems of sub-folders and names.
    pub problems: Vec<Problem>,
}

impl Listing {
    /// Whether a path that was not listed may be there all the same.
    #[must_use]
    pub fn may_hide(&self, path: &str) -> bool {
        let below = |folder: &String| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
        self.failed.iter().any(|folder| folder.is_empty() || below(folder))
    }

    fn fail(&mut self, root: &Path, path: &str, message: String, hint: &str) {
        let name = root.join(path).display().to_string();
        let problem = Problem::new("", message).hint(hint).in_file(name);
        if path.is_empty() {
            self.folder = Some(problem)
        } else {
            self.problems.push(problem)
        }
        self.failed.push(path.to_string());
    }
}

/// Lists `root` and its sub-folders, following symbolic links. Names that start with `.` are skipped:
/// the `..data` of a ConfigMap, editors' swap files, `.git`.
///
/// A folder that is met twice is listed once; real folders come before links to them, links in the
/// order of their names, so that a file always has the same path.
pub fn list(root: &Path, each: &mut dyn FnMut(&str, Found)) -> Listing {
    let (folders, links) = (vec![String::new()], BTreeSet::new());
    let mut walk = Walk { root, listing: Listing::default(), met: HashSet::new(), folders, links };
    let mut buffer = Vec::with_capacity(BUFFER);
    while let Some(folder) = walk.folders.pop().or_else(|| walk.links.pop_first()) {
        walk.folder(&folder, buffer.spare_capacity_mut(), each);
    }
    walk.listing
}

struct Walk<'r> {
    root: &'r Path,
    listing: Listing,
    met: HashSet<(u64, u64)>,
    folders: Vec<String>,
    links: BTreeSet<String>,
}

impl Walk<'_> {
    fn folder(&mut self, path: &str, buffer: &mut [MaybeUninit<u8>], each: &mut dyn FnMut(&str, Found)) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, self.root.join(path), flags, Mode::empty());
        let (folder, before) = match opened.and_then(|folder| rustix::fs::fstat(&folder).map(|stat| (folder, stat))) {
            Ok(opened) => opened,
            Err(error) => return self.unlistable(path, error),
        };
        let identity = identity(&before);
        if path.is_empty() {
            self.listing.root = Some(identity);
        }
        if !self.met.insert(identity) {
            return;
        }
        if path.matches('/').count() >= MAX_DEPTH {
            let message = format!("lies more than {MAX_DEPTH} folders deep and is not read");
            return self.listing.fail(self.root, path, message, "keep intents nearer to the top");
        }
        if let Err(error) = self.entries(path, &folder, buffer, each) {
            self.unlistable(path, error);
        }
        let same = rustix::fs::fstat(&folder).is_ok_and(|after| Stamp::of(&after) == Stamp::of(&before));
        if !same {
            self.listing.unsteady.insert(path.to_string());
        }
    }

    fn entries(
        &mut self,
        path: &str,
        folder: &OwnedFd,
        buffer: &mut [MaybeUninit<u8>],
        each: &mut dyn FnMut(&str, Found),
    ) -> rustix::io::Result<()> {
        let mut full = String::with_capacity(path.len() + 64);
        let mut entries = RawDir::new(folder, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes().first() == Some(&b'.') {
                continue;
            }
            full.clear();
            full.push_str(path);
            if !path.is_empty() {
                full.push('/');
            }
            match name.to_str() {
                Ok(text) => full.push_str(text),
                Err(_) => {
                    self.unnamed(path, name);
                    continue;
                }
            }
            self.entry(&full, folder, name, entry.file_type(), each);
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, folder: &OwnedFd, name: &CStr, kind: FileType, each: &mut dyn FnMut(&str, Found)) {
        let wanted = is_document(path);
        let (kind, link) = match kind {
            FileType::RegularFile if !wanted => return,
            FileType::Symlink => (None, true),
            FileType::Unknown | FileType::RegularFile => (None, false),
            known => (Some(known), false),
        };
        // Following is right for links and harmless for files; folders and devices need no stat.
        let (kind, stamp) = match kind {
            Some(kind) => (kind, None),
            None => match rustix::fs::statat(folder, name, AtFlags::empty()) {
                Ok(stat) => (FileType::from_raw_mode(stat.st_mode), Some(Stamp::of(&stat))),
                Err(error) => return self.broken(path, folder, name, error, each),
            },
        };
        match (kind, stamp) {
            (FileType::Directory, _) if wanted => each(path, Found::Unusable("is a folder with the name of a file".to_string())),
            (FileType::Directory, _) if link || is_link(folder, name, stamp) => self.links.extend([path.to_string()]),
            (FileType::Directory, _) => self.folders.push(path.to_string()),
            (FileType::RegularFile, Some(stamp)) if wanted => each(path, Found::File(stamp)),
            _ if wanted => {
                each(path, Found::Unusable("is no regular file (a pipe, socket or device) and is never opened".to_string()))
            }
            _ => {}
        }
    }

    /// A name whose stat failed: gone by now, or a link to nowhere.
    fn broken(&mut self, path: &str, folder: &OwnedFd, name: &CStr, error: rustix::io::Errno, each: &mut dyn FnMut(&str, Found)) {
        if rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|error| error == rustix::io::Errno::NOENT) {
            return;
        }
        if is_document(path) {
            let dangling = error == rustix::io::Errno::NOENT;
            let message = if dangling {
                "is a link to a file that is not there".to_string()
            } else {
                format!("cannot be looked at: {}", words(error))
            };
            each(path, Found::Unusable(message));
        } else {
            // It may have been a link to a folder: what was below it is hidden, not gone.
            self.listing.failed.push(path.to_string());
            self.listing.silent.push(path.to_string());
        }
    }

    fn unlistable(&mut self, path: &str, error: rustix::io::Errno) {
        // A sub-folder that vanished since its parent was listed is looked at again next time.
        if !path.is_empty() && error == rustix::io::Errno::NOENT {
            self.listing.unsteady.insert(parent(path).to_string());
            self.listing.failed.push(path.to_string());
            return;
        }
        let hint = match error {
            rustix::io::Errno::NOENT => {
                "create the folder or name another one with --intents; connections stay as they are until then"
            }
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
                "let the user of aam list and read it: chmod o+rx, or another owner"
            }
            _ => "connections of its files stay as they are until it can be listed",
        };
        let what = if path.is_empty() { "the intents folder" } else { "the folder" };
        self.listing.fail(self.root, path, format!("{what} cannot be listed: {}", words(error)), hint);
    }

    fn unnamed(&mut self, path: &str, name: &CStr) {
        let bytes = name.to_bytes();
        if bytes.ends_with(b".json") {
            let shown = self.root.join(path).join(String::from_utf8_lossy(bytes).as_ref()).display().to_string();
            self.listing
                .problems
                .push(Problem::new("", "has a name that is not UTF-8 and is not read").hint("rename it").in_file(shown));
        }
    }
}

/// A file system that does not say what an entry is (`Unknown`) needs one more look at folders.
fn is_link(folder: &OwnedFd, name: &CStr, stamp: Option<Stamp>) -> bool {
    let look = || rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    stamp.is_some() && look().is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn is_document(path: &str) -> bool {
    path.ends_with(".json")
}

/// The folder part of a relative path; `""` for a name at the top.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[allow(clippy::unnecessary_cast, reason = "the field types differ between platforms")]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// (device, inode) of what `path` leads to.
#[must_use]
pub fn identity_of(path: &Path) -> Option<(u64, u64)> {
    rustix::fs::stat(path).ok().map(|stat| identity(&stat))
}

/// Whether the name is still there, whatever it is.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    !rustix::fs::lstat(path).is_err_and(|error| matches!(error, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
}

/// The operating system's words without the number behind them.
fn words(error: rustix::io::Errno) -> String {
    let full = std::io::Error::from(error).to_string();
    full.split(" (os error").next().unwrap_or_default().to_string()
}
