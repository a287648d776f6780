//! Reads one file up to a size limit. It never blocks on a pipe.

use super::listing::{Stamp, os_message};
use super::wire::Limits;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The bytes of a file and the stamp that it had when they were read.
#[derive(Debug)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub stamp: Stamp,
    /// Whether the file changed while it was read. Its stamp must then not be trusted.
    pub unstable: bool,
}

/// Reads the file at `path`, if it is a regular file of at most `limits.bytes` bytes.
///
/// # Errors
/// A message that says why the file cannot be read.
pub fn read(path: &Path, limits: &Limits) -> Result<Content, String> {
    // The name may have become a pipe since it was listed. `NONBLOCK` keeps the open from waiting for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let failed = |error: rustix::io::Errno| format!("cannot be read: {}", os_message(error));
    let mut file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(failed)?);
    let before = rustix::fs::fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Err("is not a regular file and is not read".to_string());
    }
    let stamp = Stamp::from_stat(&before);
    let limit = u64::try_from(limits.bytes).unwrap_or(u64::MAX);
    if stamp.size > limit {
        return Err(too_large(stamp.size, limit));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0) + 1);
    (&mut file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {}", error.kind()))?;
    if bytes.len() > limits.bytes {
        return Err(too_large(bytes.len() as u64, limit));
    }
    let after = rustix::fs::fstat(&file).map_err(failed)?;
    Ok(Content { unstable: Stamp::from_stat(&after) != stamp, bytes, stamp })
}

fn too_large(size: u64, limit: u64) -> String {
    format!("has {size} bytes, more than the limit of {limit} bytes")
}
