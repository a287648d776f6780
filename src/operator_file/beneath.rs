//! Opens what is below a folder, whatever symbolic links its path contains.
//!
//! The kernel resolves the path itself (`openat2` with `RESOLVE_BENEATH`), so a link that is swapped between the check and
//! the open cannot lead out of the folder. Where the kernel has no `openat2`, the path is resolved first and then opened
//! component by component without following links.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// A folder, opened only for lookups (`O_PATH`).
#[derive(Debug)]
pub struct BaseFolder {
    pub path: PathBuf,
    dir: OwnedFd,
    use_openat2: bool,
}

impl BaseFolder {
    /// Opens the folder at `path`. Symbolic links in `path` itself are followed.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn open(path: &Path) -> Result<BaseFolder, Errno> {
        BaseFolder::open_with(path, true)
    }

    /// Does what [`BaseFolder::open`] does; without `use_openat2` as on a kernel that does not have the call.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn open_with(path: &Path, use_openat2: bool) -> Result<BaseFolder, Errno> {
        let dir = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(BaseFolder { path: path.to_owned(), dir, use_openat2 })
    }

    /// The open folder.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Opens `relative`, which must stay below the folder.
    ///
    /// # Errors
    /// `XDEV` if a link leads out of the folder, and the other errors of the operating system.
    pub fn resolve(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
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
}

/// `openat` needs `.` if the relative path is empty.
pub fn or_dot(relative: &Path) -> &Path {
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
