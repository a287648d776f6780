//! From the path in a document to an open file below a root that the policy names.
//!
//! The kernel resolves the path itself (`openat2` with `RESOLVE_BENEATH`), so that a link which is
//! swapped between check and use cannot lead out of the root. Where the kernel has no `openat2`, the
//! path is resolved first and then walked component by component without following links.

use crate::model::{Class, Failure};
use crate::policy::Files;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

/// One root of the policy, open for lookups only.
#[derive(Debug)]
pub struct Root {
    /// As the policy writes it, for messages.
    pub words: String,
    path: PathBuf,
    dir: OwnedFd,
    modern: bool,
}

/// An open regular file or directory.
#[derive(Debug)]
pub struct Held {
    pub file: File,
    pub facts: Facts,
}

/// What the file system says about it; two equal ones are the same unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub directory: bool,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified: i64,
    pub device: u64,
    pub inode: u64,
}

/// A root, and a path relative to it that was open there.
#[derive(Debug)]
pub struct Found {
    pub root: Root,
    pub relative: PathBuf,
    pub held: Held,
}

/// The absolute path of `text`, by its letters alone: links are not looked at.
///
/// # Errors
/// The words for a person when `..` follows a name: through a link that means another place.
pub fn absolute(text: &Path) -> Result<PathBuf, String> {
    let mut path = match text.is_absolute() {
        true => PathBuf::new(),
        false => std::env::current_dir().map_err(|error| format!("no working directory: {error}"))?,
    };
    let mut named = false;
    for part in text.components() {
        match part {
            Component::ParentDir if named => return Err("`..` after a name is not followed".to_owned()),
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            Component::Normal(name) => {
                named = true;
                path.push(name);
            }
            Component::RootDir | Component::Prefix(_) => path.push(part),
        }
    }
    Ok(path)
}

/// Opens what `id` names below one of the roots.
///
/// # Errors
/// `Misconfigured` outside all roots, also through a link; `NotFound`; `PermissionDenied`; `Remote`.
pub fn find(id: &str, files: &Files) -> Result<Found, Failure> {
    find_with(id, files, true)
}

/// As [`find`]; `modern` is whether `openat2` may be used.
fn find_with(id: &str, files: &Files, modern: bool) -> Result<Found, Failure> {
    if files.roots.is_empty() {
        return Err(outside(id, "the policy names no directory to read files from"));
    }
    let path = absolute(Path::new(id)).map_err(|words| {
        Failure::new(Class::Misconfigured, format!("{id} is no plain path"), "write the path without `..`").detail(words)
    })?;
    let mut places = by_letters(&path, files);
    if places.is_empty() {
        places = by_links(&path, files);
    }
    if places.is_empty() {
        return Err(outside(id, "it lies below none of the policy's files.roots"));
    }
    places.sort_by_key(|(root, _, _)| std::cmp::Reverse(root.components().count()));
    let mut refused = None;
    for (root_path, words, relative) in places {
        let root = Root::open(&root_path, words, modern)?;
        match root.open_below(&relative) {
            Ok(held) => return Ok(Found { root, relative, held }),
            // A root around this one may hold the link's target.
            Err(failure) if failure.class == Class::Misconfigured => refused = refused.or(Some(failure)),
            Err(failure) => return Err(failure),
        }
    }
    Err(refused.unwrap_or_else(|| outside(id, "no root holds it")))
}

type Place = (PathBuf, String, PathBuf);

fn by_letters(path: &Path, files: &Files) -> Vec<Place> {
    let below = |root: &PathBuf| {
        let whole = absolute(root).ok()?;
        let relative = path.strip_prefix(&whole).ok()?.to_owned();
        Some((whole, root.display().to_string(), relative))
    };
    files.roots.iter().filter_map(below).collect()
}

/// The slow way, for paths that reach a root by another name.
fn by_links(path: &Path, files: &Files) -> Vec<Place> {
    let real = match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        // The file is missing: its directory decides whether that may be said.
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

fn outside(id: &str, why: &str) -> Failure {
    let path = Path::new(id);
    let directory = match (path.extension(), path.parent()) {
        (Some(_), Some(parent)) if parent != Path::new("") => parent,
        (Some(_), _) => Path::new("."),
        (None, _) => path,
    };
    Failure::new(
        Class::Misconfigured,
        format!("{id} may not be read: {why}"),
        format!("if it may be read, add its directory to policy.yaml: files.roots: [{}]", directory.display()),
    )
}

impl Root {
    fn open(path: &Path, words: String, modern: bool) -> Result<Root, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(dir) => Ok(Root { words, path: path.to_owned(), dir, modern }),
            Err(errno) => Err(Failure::new(
                Class::NotFound,
                format!("the root {words} of files.roots cannot be opened"),
                format!("make the directory, mount it, or correct files.roots in policy.yaml: mkdir -p {words}"),
            )
            .detail(said(errno))),
        }
    }

    /// Opens `relative` for reading if it stays below this root and is a regular file or directory.
    ///
    /// # Errors
    /// As [`find`].
    pub fn open_below(&self, relative: &Path) -> Result<Held, Failure> {
        let shown = self.shown(relative);
        let failed = |errno: Errno| self.failure(errno, &shown);
        // Looked at before it is opened: opening a device can already do something.
        let probe = self.resolve(relative, OFlags::PATH | OFlags::CLOEXEC).map_err(failed)?;
        facts(probe.as_fd(), &shown)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = self.resolve(relative, flags).map_err(failed)?;
        let facts = facts(fd.as_fd(), &shown)?;
        Ok(Held { file: File::from(fd), facts })
    }

    /// Whether the process may write `relative`.
    ///
    /// # Errors
    /// The kernel's own words when it cannot say.
    pub fn writable(&self, relative: &Path) -> Result<bool, String> {
        use rustix::fs::{Access, AtFlags};
        match rustix::fs::accessat(&self.dir, named(relative), Access::WRITE_OK, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::ACCESS | Errno::ROFS | Errno::PERM | Errno::TXTBSY) => Ok(false),
            Err(errno) => Err(said(errno)),
        }
    }

    /// The whole path of `relative`, for messages and evidence.
    #[must_use]
    pub fn shown(&self, relative: &Path) -> String {
        match relative == Path::new("") {
            true => self.path.display().to_string(),
            false => self.path.join(relative).display().to_string(),
        }
    }

    fn resolve(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let first = match self.modern {
            true => beneath(self.dir.as_fd(), named(relative), flags),
            false => Err(Errno::NOSYS),
        };
        match first {
            // An absolute link that points below the root is refused as well: resolve it, then look again.
            Err(Errno::XDEV) => match self.resolved(relative)? {
                real if real == relative => Err(Errno::XDEV),
                real => beneath(self.dir.as_fd(), named(&real), flags | OFlags::NOFOLLOW),
            },
            // An old kernel, or a filter that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.walk(&self.resolved(relative)?, flags),
            other => other,
        }
    }

    /// `relative` without links, still relative to the root.
    fn resolved(&self, relative: &Path) -> Result<PathBuf, Errno> {
        let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let root = self.path.canonicalize().map_err(errno)?;
        let real = self.path.join(relative).canonicalize().map_err(errno)?;
        real.strip_prefix(&root).map(Path::to_owned).map_err(|_| Errno::XDEV)
    }

    fn walk(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
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
        let root = &self.words;
        let (class, title, fix) = match errno {
            Errno::XDEV | Errno::LOOP => (
                Class::Misconfigured,
                format!("{shown} is a link that leads out of the root {root}, or in a circle"),
                format!("name the file itself, or add the directory it lies in to files.roots in policy.yaml (now: {root})"),
            ),
            Errno::NOENT | Errno::NOTDIR => {
                (Class::NotFound, format!("there is no file {shown}"), "put the file there or correct resource_ids".to_owned())
            }
            Errno::ACCESS | Errno::PERM => (
                Class::PermissionDenied,
                format!("the daemon's user may not read {shown}"),
                format!("let it read the file and enter its directories: setfacl -m u:<user of aam>:r {shown}"),
            ),
            Errno::NAMETOOLONG | Errno::INVAL => {
                (Class::Misconfigured, format!("{shown} is no usable path"), "correct resource_ids".to_owned())
            }
            Errno::NXIO | Errno::NODEV => return irregular(shown, "a socket or device"),
            _ => (
                Class::Remote,
                format!("{shown} cannot be opened"),
                "look at the file system: df, mount, dmesg; aam tries again by itself".to_owned(),
            ),
        };
        Failure::new(class, title, fix).detail(said(errno))
    }
}

fn named(relative: &Path) -> &Path {
    if relative == Path::new("") { Path::new(".") } else { relative }
}

#[cfg(target_os = "linux")]
fn beneath(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut last = Errno::AGAIN;
    // AGAIN: something was renamed meanwhile, and the kernel could not be sure.
    for _ in 0..8 {
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), how) {
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => last = errno,
            other => return other,
        }
    }
    Err(last)
}

#[cfg(not(target_os = "linux"))]
fn beneath(_: BorrowedFd<'_>, _: &Path, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

fn facts(fd: BorrowedFd<'_>, shown: &str) -> Result<Facts, Failure> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| {
        Failure::new(Class::Remote, format!("{shown} cannot be examined"), "look at the file system").detail(said(errno))
    })?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => None,
        FileType::Fifo => Some("a named pipe"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Unknown => Some("something unknown"),
    };
    if let Some(kind) = kind {
        return Err(irregular(shown, kind));
    }
    Ok(Facts {
        directory: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat.st_mtime.saturating_mul(1000).saturating_add(i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0)),
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

fn irregular(shown: &str, kind: &str) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("{shown} is {kind}, not a regular file"),
        "name a regular file or a directory in resource_ids",
    )
}

/// The kernel's words for an error number.
fn said(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
