//! An edge: reads one file, bounded, and never waits for a pipe.

use super::listing::Stamp;
use super::wire::Limits;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The bytes of a file and the stamp they were read under.
#[derive(Debug)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub stamp: Stamp,
    /// The file changed while it was read: its stamp must not be trusted.
    pub moved: bool,
}

/// Reads the file at `path`, if it is a regular one of at most `limits.bytes`.
///
/// # Errors
/// One sentence that says why it cannot be read.
pub fn read(path: &Path, limits: &Limits) -> Result<Content, String> {
    // Between the listing and this open the name may have become a pipe: do not block on it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let failed = |error: rustix::io::Errno| {
        let full = std::io::Error::from(error).to_string();
        format!("cannot be read: {}", full.split(" (os error").next().unwrap_or_default())
    };
    let mut file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(failed)?);
    let before = rustix::fs::fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Err("is no regular file and is not read".to_string());
    }
    let stamp = Stamp::of(&before);
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
    Ok(Content { moved: Stamp::of(&after) != stamp, bytes, stamp })
}

fn too_large(size: u64, limit: u64) -> String {
    format!("holds {size} bytes, more than the {limit} that are read")
}
