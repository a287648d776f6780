//! Reads files that an operator names: the policy, manifests, certificate authorities, the arguments of commands.
//!
//! Such a path can lead to anything. Opening a FIFO without a writer would block its reader forever, a device may never
//! end, and a file of many gigabytes would not fit into memory. So the file is opened without blocking, it must be a
//! regular file, and it is read only up to a limit.

pub mod beneath;
pub mod schema_files;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Error, Read, Result};
use std::path::Path;

/// Flags that open a file for reading without waiting for a writer.
pub const READ_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// What is said of everything that is neither a file nor a folder.
const NOT_REGULAR: &str = "it is not a regular file";

/// Reads a regular file of at most `max_bytes` bytes. Follows symbolic links, as in a mounted ConfigMap.
///
/// # Errors
/// Returns the error of the operating system, or one that says that the file is not a regular file or is too large.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    read_open(opened(path)?, max_bytes)
}

fn opened(path: &Path) -> Result<File> {
    match rustix::fs::openat(CWD, path, READ_FLAGS, Mode::empty()) {
        Ok(file) => Ok(File::from(file)),
        // A socket, or a device that is not there.
        Err(Errno::NXIO | Errno::NODEV) => Err(Error::other(NOT_REGULAR)),
        Err(error) => Err(error.into()),
    }
}

/// Opens a regular file for reading. Follows symbolic links.
///
/// # Errors
/// Returns the error of the operating system, or one that says what is there instead of a regular file.
pub fn open(path: &Path) -> Result<File> {
    let file = opened(path)?;
    refuse_other(FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode))?;
    Ok(file)
}

fn refuse_other(kind: FileType) -> Result<()> {
    match kind {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Error::other("it is a folder, not a file")),
        _ => Err(Error::other(NOT_REGULAR)),
    }
}

/// Like [`read`], for a file that is open already.
///
/// # Errors
/// As [`read`].
pub fn read_open(file: File, max_bytes: u64) -> Result<Vec<u8>> {
    let stat = rustix::fs::fstat(&file)?;
    refuse_other(FileType::from_raw_mode(stat.st_mode))?;
    let too_large = || Error::other(format!("it is larger than {}", size(max_bytes)));
    if u64::try_from(stat.st_size).is_ok_and(|size| size > max_bytes) {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).saturating_add(1));
    // The file may grow while it is read.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes { Err(too_large()) } else { Ok(bytes) }
}

/// Like [`read`], for a file that must be UTF-8.
///
/// # Errors
/// As [`read`], and if the file is not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    String::from_utf8(read(path, max_bytes)?).map_err(|_| Error::other("it is not valid UTF-8"))
}

/// A size for people, for example `64 KiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_within_the_limit_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let error = |path: &Path, max| read_text(path, max).expect_err("refused").to_string();
        std::fs::write(path("four"), "four").expect("written");
        std::os::unix::fs::symlink("four", path("link")).expect("linked");
        rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        assert_eq!(read_text(&path("link"), 4).ok().as_deref(), Some("four"));
        assert_eq!(error(&path("four"), 3), "it is larger than 3 bytes");
        assert_eq!(error(&path("fifo"), 4), "it is not a regular file");
        assert_eq!(error(Path::new("/dev/zero"), 4), "it is not a regular file");
        assert_eq!(error(folder.path(), 4), "it is a folder, not a file");
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("a socket");
        assert_eq!(error(&path("socket"), 4), "it is not a regular file");
        for name in ["fifo", "socket"] {
            assert_eq!(open(&path(name)).expect_err("refused").to_string(), "it is not a regular file", "{name}");
        }
        assert!(open(&path("link")).is_ok());
        File::create(path("huge")).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
        assert_eq!(error(&path("huge"), 4 << 20), "it is larger than 4 MiB");
        std::fs::write(path("latin"), b"\xe4").expect("written");
        assert_eq!(error(&path("latin"), 4), "it is not valid UTF-8");
        assert!(error(&path("absent"), 4).contains("No such file"));
    }
}
