//! Opens the path of an intent below one of the roots that the policy lists in `files.roots`.
//!
//! The kernel resolves the path itself (`openat2` with `RESOLVE_BENEATH`), so a link that is swapped
//! between the check and the open cannot lead out of the root. Where the kernel has no `openat2`, the
//! path is resolved first and then opened component by component without following links.

use super::format::Format;
use crate::connectors::roots::{self, absolute, is_unexpanded};
use crate::model::{Class, Failure};
use crate::policy::Files;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// One root of the policy, opened only for lookups (`O_PATH`).
#[derive(Debug)]
pub struct Root {
    /// The root as the policy writes it, for messages.
    pub configured: String,
    path: PathBuf,
    dir: OwnedFd,
    use_openat2: bool,
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
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(dir) => Ok(Root { configured, path: path.to_owned(), dir, use_openat2 }),
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
        let probe = self.resolve(relative, OFlags::PATH | OFlags::CLOEXEC).map_err(failed)?;
        stat(probe.as_fd(), &shown)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = self.resolve(relative, flags).map_err(failed)?;
        let stat = stat(fd.as_fd(), &shown)?;
        Ok(OpenEntry { file: File::from(fd), stat })
    }

    /// Whether the process may write `relative`.
    ///
    /// # Errors
    /// The kernel's message if the access check itself fails.
    pub fn writable(&self, relative: &Path) -> Result<bool, String> {
        use rustix::fs::{Access, AtFlags};
        match rustix::fs::accessat(&self.dir, or_dot(relative), Access::WRITE_OK, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::ACCESS | Errno::ROFS | Errno::PERM | Errno::TXTBSY) => Ok(false),
            Err(errno) => Err(errno_message(errno)),
        }
    }

    /// The absolute path of `relative`, for messages and evidence.
    #[must_use]
    pub fn display_path(&self, relative: &Path) -> String {
        match relative == Path::new("") {
            true => self.path.display().to_string(),
            false => self.path.join(relative).display().to_string(),
        }
    }

    fn resolve(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let first = match self.use_openat2 {
            true => open_beneath(self.dir.as_fd(), or_dot(relative), flags),
            false => Err(Errno::NOSYS),
        };
        match first {
            // `openat2` also refuses an absolute link whose target is below the root. Resolve the link, then
            // try once more without following links.
            Err(Errno::XDEV) => match self.resolved(relative)? {
                real if real == relative => Err(Errno::XDEV),
                real => open_beneath(self.dir.as_fd(), or_dot(&real), flags | OFlags::NOFOLLOW),
            },
            // The kernel is old, or a seccomp filter does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.open_without_links(&self.resolved(relative)?, flags),
            other => other,
        }
    }

    /// Resolves the links in `relative` without following one out of the root. The result is still relative to the root.
    /// A link that leads out is refused before its target is looked up, so the answer does not show whether the target exists.
    fn resolved(&self, relative: &Path) -> Result<PathBuf, Errno> {
        const MAX_LINKS: usize = 40;
        let names = |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
        let canonical = self.path.canonicalize().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let (mut left, mut real, mut links) = (names(relative), PathBuf::new(), 0);
        while let Some(name) = left.pop() {
            match Path::new(&name).components().next() {
                Some(Component::CurDir) => continue,
                Some(Component::ParentDir) => {
                    if !real.pop() {
                        return Err(Errno::XDEV);
                    }
                    continue;
                }
                _ => {}
            }
            let target = match rustix::fs::readlinkat(&self.dir, real.join(&name), Vec::new()) {
                Ok(target) => PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())),
                // The entry is not a link.
                Err(Errno::INVAL) => {
                    real.push(name);
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            if !target.is_absolute() {
                left.extend(names(&target));
                continue;
            }
            let below = target.strip_prefix(&self.path).or_else(|_| target.strip_prefix(&canonical)).map_err(|_| Errno::XDEV)?;
            real.clear();
            left.extend(names(below));
        }
        Ok(real)
    }

    /// Opens `relative` one component at a time, refusing every link, for kernels without `openat2`.
    fn open_without_links(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut at = rustix::fs::openat(&self.dir, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let mut parts = relative.components().peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else { return Err(Errno::XDEV) };
            let how = match parts.peek() {
                Some(_) => OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                None => flags,
            };
            let next = rustix::fs::openat(&at, name, how | OFlags::NOFOLLOW, Mode::empty())?;
            if parts.peek().is_none() {
                return Ok(next);
            }
            at = next;
        }
        rustix::fs::openat(&at, ".", flags, Mode::empty())
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

/// `openat` needs `.` if the relative path is empty.
fn or_dot(relative: &Path) -> &Path {
    if relative == Path::new("") { Path::new(".") } else { relative }
}

#[cfg(target_os = "linux")]
fn open_beneath(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut last = Errno::AGAIN;
    // EAGAIN means that a rename happened during the lookup and the kernel could not rule out an escape.
    for _ in 0..8 {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), how) {
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => last = errno,
            other => return other,
        }
    }
    Err(last)
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(_: BorrowedFd<'_>, _: &Path, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
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
