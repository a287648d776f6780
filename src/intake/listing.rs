//! Lists the `*.json`, `*.yaml` and `*.yml` files below a folder, with one stat per file.
//!
//! A file that could not be listed is distinguished from one that does not exist, because only a file that does not
//! exist withdraws its intents.

use super::wire::Format;
use crate::model::Problem;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The depth up to which sub-folders are listed. A deeper tree is a mistake or an attack.
const MAX_DEPTH: usize = 32;

/// The number of entries of one listing. A folder with more is a mistake, for example a wrong mount.
const MAX_ENTRIES: usize = 1_000_000;

/// The number of ignored names that are listed.
const MAX_IGNORED: usize = 20;

/// The device and inode of a folder.
pub type Identity = (u64, u64);

/// The size of the buffer for directory entries, in bytes.
const BUFFER: usize = 64 << 10;

/// The size, time and inode of a file. If they are unchanged, its content is assumed to be unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub size: u64,
    /// The modification time in nanoseconds since 1970 UTC.
    pub mtime_ns: i64,
    pub inode: u64,
}

impl Stamp {
    /// The stamp in the result of a `stat` call.
    #[must_use]
    #[allow(clippy::unnecessary_cast, reason = "the field types differ between platforms")]
    pub fn from_stat(stat: &Stat) -> Stamp {
        let nanos = (stat.st_mtime as i64).saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64);
        Stamp { size: u64::try_from(stat.st_size).unwrap_or(0), mtime_ns: nanos, inode: stat.st_ino as u64 }
    }
}

/// One document of the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedFile {
    Readable(Stamp),
    /// The entry exists but cannot be read, and why.
    Unusable(String),
}

/// What was learned about the folder as a whole. Paths are relative to the root and separated by `/`.
#[derive(Debug, Default)]
pub struct Listing {
    /// The device and inode of the root, or `None` if it could not be opened.
    pub root: Option<Identity>,
    /// The sub-folders that were listed, with the number of documents in each of them, without those further below.
    pub folders: BTreeMap<String, (Identity, usize)>,
    /// Set if the root is missing or unreadable.
    pub folder: Option<Problem>,
    /// Folders that were not listed completely, so that files below them may still exist. `""` is the root.
    pub failed: Vec<String>,
    /// Those of `failed` that are broken links. They are not in `problems`.
    pub broken_links: Vec<String>,
    /// Folders that changed while they were listed, so that a name may have been missed.
    pub changing: HashSet<String>,
    /// Problems of sub-folders and of file names.
    pub problems: Vec<Problem>,
    /// The first names, in order, that are not read because of their form, and how many there are.
    pub ignored: (Vec<String>, usize),
}

impl Listing {
    /// Whether a path that was not listed may exist nevertheless.
    #[must_use]
    pub fn may_hide(&self, path: &str) -> bool {
        let below = |folder: &String| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
        self.failed.iter().any(|folder| folder.is_empty() || below(folder))
    }

    fn ignore(&mut self, path: String) {
        let (names, count) = &mut self.ignored;
        *count += 1;
        if let Err(at) = names.binary_search(&path) {
            names.insert(at, path);
            names.truncate(MAX_IGNORED);
        }
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

/// Lists `root` and its sub-folders, and calls `each` for every document. Names that start with `.` are skipped: the
/// `..data` of a ConfigMap, editors' swap files, `.git`.
///
/// A link to a folder is followed if the folder is below `root`, as in a ConfigMap, whose names are links below `..data`.
/// A link to any other folder is a problem, because it could lead to the whole file system. A folder that can be reached
/// by several paths is listed once. Real folders come before links to them, and links come in the order of their names,
/// so that a file always has the same path.
pub fn list(root: &Path, each: &mut dyn FnMut(&str, ListedFile)) -> Listing {
    list_up_to(MAX_ENTRIES, root, each)
}

/// As [`list`], with another limit on the number of entries.
pub fn list_up_to(max_entries: usize, root: &Path, each: &mut dyn FnMut(&str, ListedFile)) -> Listing {
    let (folders, links) = (vec![String::new()], BTreeSet::new());
    let mut walk = Walk { root, listing: Listing::default(), visited: HashSet::new(), folders, links, left: max_entries };
    let mut buffer = Vec::with_capacity(BUFFER);
    while let Some(folder) = walk.folders.pop().or_else(|| walk.next_link()) {
        walk.folder(&folder, buffer.spare_capacity_mut(), each);
        if walk.left == 0 {
            let message = format!("has more than {max_entries} files and folders; the rest is not read and nothing is withdrawn");
            walk.listing.fail(
                root,
                "",
                message,
                "check that the right folder is mounted, or move files that are not intents away",
            );
            break;
        }
    }
    walk.listing
}

struct Walk<'r> {
    root: &'r Path,
    listing: Listing,
    visited: HashSet<Identity>,
    folders: Vec<String>,
    links: BTreeSet<String>,
    /// The number of entries that may still be listed.
    left: usize,
}

impl Walk<'_> {
    /// The next link to a folder that is below the root.
    fn next_link(&mut self) -> Option<String> {
        while let Some(link) = self.links.pop_first() {
            let target = self.root.join(&link).canonicalize();
            let inside = self.root.canonicalize().ok().zip(target.ok()).is_some_and(|(root, target)| target.starts_with(root));
            if inside {
                return Some(link);
            }
            let message = "is a link to a folder outside the intents folder and is not followed".to_string();
            let hint = "mount or copy that folder here; a link to a single file is followed";
            self.listing.fail(self.root, &link, message, hint);
        }
        None
    }

    fn folder(&mut self, path: &str, buffer: &mut [MaybeUninit<u8>], each: &mut dyn FnMut(&str, ListedFile)) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, self.root.join(path), flags, Mode::empty());
        let (folder, before) = match opened.and_then(|folder| rustix::fs::fstat(&folder).map(|stat| (folder, stat))) {
            Ok(opened) => opened,
            Err(error) => return self.report_unlistable(path, error),
        };
        let identity = identity(&before);
        if path.is_empty() {
            self.listing.root = Some(identity);
        }
        if !self.visited.insert(identity) {
            return;
        }
        if !path.is_empty() {
            self.listing.folders.insert(path.to_string(), (identity, 0));
        }
        if path.matches('/').count() >= MAX_DEPTH {
            let message = format!("is more than {MAX_DEPTH} folders deep and is not read");
            return self.listing.fail(self.root, path, message, "move the intents closer to the top of the intents folder");
        }
        if let Err(error) = self.entries(path, &folder, buffer, each) {
            self.report_unlistable(path, error);
        }
        let same = rustix::fs::fstat(&folder).is_ok_and(|after| Stamp::from_stat(&after) == Stamp::from_stat(&before));
        if !same {
            self.listing.changing.insert(path.to_string());
        }
    }

    fn entries(
        &mut self,
        path: &str,
        folder: &OwnedFd,
        buffer: &mut [MaybeUninit<u8>],
        each: &mut dyn FnMut(&str, ListedFile),
    ) -> rustix::io::Result<()> {
        let mut full = String::with_capacity(path.len() + 64);
        let mut entries = RawDir::new(folder, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if self.left == 0 {
                return Ok(());
            }
            if name.to_bytes().first() == Some(&b'.') {
                // A ConfigMap has `..data` and `..2026_11_28` in every folder.
                if !name.to_bytes().starts_with(b"..") && name.to_bytes() != b"." {
                    self.listing.ignore(below(path, &name.to_string_lossy()));
                }
                continue;
            }
            self.left -= 1;
            full.clear();
            full.push_str(path);
            if !path.is_empty() {
                full.push('/');
            }
            match name.to_str() {
                Ok(text) => full.push_str(text),
                Err(_) => {
                    self.report_unnamed(path, name);
                    continue;
                }
            }
            self.entry(&full, folder, name, entry.file_type(), each);
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, folder: &OwnedFd, name: &CStr, kind: FileType, each: &mut dyn FnMut(&str, ListedFile)) {
        let wanted = Format::from_path(path).is_some();
        let (kind, link) = match kind {
            FileType::RegularFile if !wanted => return self.listing.ignore(path.to_string()),
            FileType::Symlink => (None, true),
            FileType::Unknown | FileType::RegularFile => (None, false),
            known => (Some(known), false),
        };
        // Links, files and entries of unknown type need a stat, which follows links. Folders and devices do not.
        let (kind, stamp) = match kind {
            Some(kind) => (kind, None),
            None => match rustix::fs::statat(folder, name, AtFlags::empty()) {
                Ok(stat) => (FileType::from_raw_mode(stat.st_mode), Some(Stamp::from_stat(&stat))),
                Err(error) => return self.broken(path, folder, name, error, each),
            },
        };
        match (kind, stamp) {
            (FileType::Directory, _) if wanted => {
                each(path, ListedFile::Unusable("is a folder with the name of a file".to_string()))
            }
            (FileType::Directory, _) if link || is_link(folder, name, stamp) => self.links.extend([path.to_string()]),
            (FileType::Directory, _) => self.folders.push(path.to_string()),
            (FileType::RegularFile, Some(stamp)) if wanted => {
                if let Some((_, documents)) = self.listing.folders.get_mut(parent(path)) {
                    *documents += 1;
                }
                each(path, ListedFile::Readable(stamp));
            }
            _ if wanted => each(
                path,
                ListedFile::Unusable("is not a regular file (a pipe, socket or device) and is never opened".to_string()),
            ),
            _ => {}
        }
    }

    /// Handles a name whose stat failed: it was removed meanwhile, or it is a broken link.
    fn broken(
        &mut self,
        path: &str,
        folder: &OwnedFd,
        name: &CStr,
        error: rustix::io::Errno,
        each: &mut dyn FnMut(&str, ListedFile),
    ) {
        if rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|error| error == rustix::io::Errno::NOENT) {
            return;
        }
        if Format::from_path(path).is_some() {
            let dangling = error == rustix::io::Errno::NOENT;
            let message = if dangling {
                "is a link to a file that does not exist".to_string()
            } else {
                format!("cannot be read: {}", os_message(error))
            };
            each(path, ListedFile::Unusable(message));
        } else {
            // It may be a link to a folder, whose files are then unreachable but not removed.
            self.listing.failed.push(path.to_string());
            self.listing.broken_links.push(path.to_string());
        }
    }

    fn report_unlistable(&mut self, path: &str, error: rustix::io::Errno) {
        // The sub-folder was removed after its parent was listed. The next scan sees the parent without it.
        if !path.is_empty() && error == rustix::io::Errno::NOENT {
            self.listing.changing.insert(parent(path).to_string());
            self.listing.failed.push(path.to_string());
            return;
        }
        let hint = match error {
            rustix::io::Errno::NOENT => {
                "create the folder or set another one with --intents; connections stay as they are until then"
            }
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
                "allow the user that runs aam to list and read it: chmod o+rx, or change its owner"
            }
            _ => "connections of its files stay as they are until it can be listed",
        };
        let what = if path.is_empty() { "the intents folder" } else { "the folder" };
        self.listing.fail(self.root, path, format!("{what} cannot be listed: {}", os_message(error)), hint);
    }

    fn report_unnamed(&mut self, path: &str, name: &CStr) {
        let bytes = name.to_bytes();
        if Format::from_path(&String::from_utf8_lossy(bytes)).is_some() {
            let shown = self.root.join(path).join(String::from_utf8_lossy(bytes).as_ref()).display().to_string();
            self.listing.problems.push(
                Problem::new("", "has a name that is not valid UTF-8 and is not read").hint("rename the file").in_file(shown),
            );
        }
    }
}

/// Whether an entry of a file system that does not report entry types (`Unknown`) is a link. It takes one more stat.
fn is_link(folder: &OwnedFd, name: &CStr, stamp: Option<Stamp>) -> bool {
    let stat = || rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    stamp.is_some() && stat().is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// The path of `name` in the folder `path`.
fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}/{name}") }
}

/// The folder part of a relative path, or `""` for a name at the top.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[allow(clippy::unnecessary_cast, reason = "the field types differ between platforms")]
fn identity(stat: &Stat) -> Identity {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// The device and inode of the file or folder that `path` refers to. Links are followed.
#[must_use]
pub fn identity_of(path: &Path) -> Option<Identity> {
    rustix::fs::stat(path).ok().map(|stat| identity(&stat))
}

/// Whether something of this name exists. Links are not followed.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    !rustix::fs::lstat(path).is_err_and(|error| matches!(error, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
}

/// The operating system's message for an error, without the error number.
pub(super) fn os_message(error: rustix::io::Errno) -> String {
    let full = std::io::Error::from(error).to_string();
    full.split(" (os error").next().unwrap_or_default().to_string()
}
