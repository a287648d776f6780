//! Opens the path of an intent below one of the roots that the policy lists in `files.roots`.
//! [`BaseFolder`] keeps the path below the root, also if a link is swapped between the check and the open.

use super::format::Format;
use crate::connectors::roots::{self, absolute, is_unexpanded};
use crate::model::{Class, Failure};
use crate::operator_file::beneath::{BaseFolder, or_dot};
use crate::policy::Files;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One root of the policy.
#[derive(Debug)]
pub struct Root {
    /// The root as the policy writes it, for messages.
    pub configured: String,
    folder: BaseFolder,
}

/// An open regular file or directory.
#[derive(Debug)]
pub struct OpenEntry {
    pub file: File,
    pub stat: FileStat,
}

/// What `fstat` reports about an open entry. Two equal values mean the same unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    pub directory: bool,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified: i64,
    pub device: u64,
    pub inode: u64,
}

/// An open entry together with the root it was found under.
#[derive(Debug)]
pub struct FilePlace {
    pub root: Root,
    /// The path of the entry relative to `root`; empty for the root itself.
    pub relative: PathBuf,
    pub entry: OpenEntry,
}

/// The failure for a path outside every root. The fix suggests the directory of a file, or the directory itself.
fn outside_roots(id: &str, why: &str, files: &Files) -> Failure {
    let path = Path::new(id);
    let directory = if Format::from_path(path).is_some() { roots::parent(path) } else { path };
    roots::outside_roots(id, directory, why, &files.roots)
}

/// Opens the file or directory that `id` names if it is below one of the roots.
///
/// # Errors
/// `Misconfigured` if it is outside every root, even if a link inside a root leads there; `NotFound`;
/// `PermissionDenied`; `Remote` if the file system fails.
pub fn open_in_roots(id: &str, files: &Files) -> Result<FilePlace, Failure> {
    open_in_roots_with(id, files, true)
}

/// Does what [`open_in_roots`] does, with or without `openat2`.
fn open_in_roots_with(id: &str, files: &Files, use_openat2: bool) -> Result<FilePlace, Failure> {
    if files.roots.is_empty() {
        return Err(outside_roots(id, roots::NO_ROOTS, files));
    }
    let path = absolute(Path::new(id)).map_err(|detail| {
        Failure::new(Class::Misconfigured, format!("{id} is not a plain path"), "write the path without `..`").detail(detail)
    })?;
    let mut candidates = lexical_candidates(&path, files);
    if candidates.is_empty() {
        candidates = resolved_candidates(&path, files);
    }
    if candidates.is_empty() {
        return Err(outside_roots(id, roots::OUTSIDE, files));
    }
    candidates.sort_by_key(|(root, _, _)| std::cmp::Reverse(root.components().count()));
    let mut refused = None;
    for (root_path, configured, relative) in candidates {
        let root = Root::open(&root_path, configured, use_openat2)?;
        match root.open_below(&relative) {
            Ok(entry) => return Ok(FilePlace { root, relative, entry }),
            // The target of the link may be below another, outer root.
            Err(failure) if failure.class == Class::Misconfigured => refused = refused.or(Some(failure)),
            Err(failure) => return Err(failure),
        }
    }
    Err(refused.unwrap_or_else(|| outside_roots(id, roots::OUTSIDE, files)))
}

/// The absolute path of a root, the root as configured, and the path of the entry relative to it.
type RootCandidate = (PathBuf, String, PathBuf);

/// The roots that contain `path`, judging only by its text.
fn lexical_candidates(path: &Path, files: &Files) -> Vec<RootCandidate> {
    let below = |root: &PathBuf| {
        let whole = absolute(root).ok()?;
        let relative = path.strip_prefix(&whole).ok()?.to_owned();
        Some((whole, root.display().to_string(), relative))
    };
    files.roots.iter().filter_map(below).collect()
}

/// The roots that contain `path` after every symbolic link is resolved. This is slower than [`lexical_candidates`] and is
/// needed only for paths that reach a root by another name.
fn resolved_candidates(path: &Path, files: &Files) -> Vec<RootCandidate> {
    let real = match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        // The file does not exist. The caller may learn this only if its directory is below a root.
        (Err(_), Some(parent), Some(name)) => match parent.canonicalize() {
            Ok(parent) => parent.join(name),
            Err(_) => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let below = |root: &PathBuf| {
        let whole = root.canonicalize().ok()?;
        let relative = real.strip_prefix(&whole).ok()?.to_owned();
        Some((whole, root.display().to_string(), relative))
    };
    files.roots.iter().filter_map(below).collect()
}

impl Root {
    fn open(path: &Path, configured: String, use_openat2: bool) -> Result<Root, Failure> {
        match BaseFolder::open_with(path, use_openat2) {
            Ok(folder) => Ok(Root { configured, folder }),
            Err(errno) => {
                let fix = match is_unexpanded(&configured) {
                    true => "write the absolute path in policy.yaml: aam does not expand ~ and $NAME in files.roots".to_owned(),
                    false => {
                        format!("create or mount the directory, or correct files.roots in policy.yaml: mkdir -p {configured}")
                    }
                };
                let title = format!("the directory {configured} of files.roots cannot be opened");
                Err(Failure::new(Class::NotFound, title, fix).detail(errno_message(errno)))
            }
        }
    }

    /// Opens `relative` for reading if it stays below this root and is a regular file or directory.
    ///
    /// # Errors
    /// The errors of [`open_in_roots`].
    pub fn open_below(&self, relative: &Path) -> Result<OpenEntry, Failure> {
        let shown = self.display_path(relative);
        let failed = |errno: Errno| self.failure(errno, &shown);
        // The type is checked before the file is opened for reading, because merely opening a device can have effects.
        let probe = self.folder.resolve(relative, OFlags::PATH | OFlags::CLOEXEC).map_err(failed)?;
        stat(probe.as_fd(), &shown)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = self.folder.resolve(relative, flags).map_err(failed)?;
        let stat = stat(fd.as_fd(), &shown)?;
        Ok(OpenEntry { file: File::from(fd), stat })
    }

    /// Whether the process may write `relative`.
    ///
    /// # Errors
    /// The kernel's message if the access check itself fails.
    pub fn writable(&self, relative: &Path) -> Result<bool, String> {
        use rustix::fs::{Access, AtFlags};
        match rustix::fs::accessat(self.folder.as_fd(), or_dot(relative), Access::WRITE_OK, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::ACCESS | Errno::ROFS | Errno::PERM | Errno::TXTBSY) => Ok(false),
            Err(errno) => Err(errno_message(errno)),
        }
    }

    /// The absolute path of `relative`, for messages and evidence.
    #[must_use]
    pub fn display_path(&self, relative: &Path) -> String {
        match relative == Path::new("") {
            true => self.folder.path.display().to_string(),
            false => self.folder.path.join(relative).display().to_string(),
        }
    }

    fn failure(&self, errno: Errno, shown: &str) -> Failure {
        let root = &self.configured;
        let uid = rustix::process::geteuid().as_raw();
        let (class, title, fix) = match errno {
            Errno::XDEV | Errno::LOOP => (
                Class::Misconfigured,
                format!("{shown} is a symbolic link that leads out of the root {root}, or is part of a link loop"),
                format!("name the target file itself, or add its directory to files.roots in policy.yaml (current root: {root})"),
            ),
            Errno::NOENT | Errno::NOTDIR => {
                (Class::NotFound, format!("{shown} was not found"), "put the file there or correct resource_ids".to_owned())
            }
            Errno::ACCESS | Errno::PERM => (
                Class::PermissionDenied,
                format!("the daemon's user (uid {uid}) does not have permission to read {shown}"),
                format!(
                    "allow that user to read it and to enter the directories above it: setfacl -m u:{uid}:rX {shown}; namei -l {shown} shows who may enter each directory"
                ),
            ),
            Errno::NAMETOOLONG | Errno::INVAL => {
                (Class::Misconfigured, format!("{shown} is not a usable path"), "correct resource_ids".to_owned())
            }
            Errno::NXIO | Errno::NODEV => return not_a_regular_file(shown, "a socket or device"),
            _ => (
                Class::Remote,
                format!("{shown} cannot be opened"),
                "check the file system: df, mount, dmesg; aam retries automatically".to_owned(),
            ),
        };
        Failure::new(class, title, fix).detail(errno_message(errno))
    }
}

fn stat(fd: BorrowedFd<'_>, shown: &str) -> Result<FileStat, Failure> {
    let raw = rustix::fs::fstat(fd).map_err(|errno| {
        Failure::new(Class::Remote, format!("{shown} cannot be examined"), "check the file system: df, mount, dmesg")
            .detail(errno_message(errno))
    })?;
    let kind = match FileType::from_raw_mode(raw.st_mode) {
        FileType::RegularFile | FileType::Directory => None,
        FileType::Fifo => Some("a named pipe"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Unknown => Some("of an unknown type"),
    };
    if let Some(kind) = kind {
        return Err(not_a_regular_file(shown, kind));
    }
    Ok(FileStat {
        directory: FileType::from_raw_mode(raw.st_mode) == FileType::Directory,
        size: u64::try_from(raw.st_size).unwrap_or(0),
        modified: raw.st_mtime.saturating_mul(1000).saturating_add(i64::try_from(raw.st_mtime_nsec / 1_000_000).unwrap_or(0)),
        device: raw.st_dev,
        inode: raw.st_ino,
    })
}

fn not_a_regular_file(shown: &str, kind: &str) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("{shown} is {kind}, not a regular file"),
        "name a regular file or a directory in resource_ids",
    )
}

/// The kernel's message for an error number.
fn errno_message(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
