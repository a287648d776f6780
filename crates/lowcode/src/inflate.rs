//! Decompression with a bound on the output, so that a decompression bomb ends with an error.

use crate::error::Failed;
use flate2::read::{DeflateDecoder, GzDecoder, MultiGzDecoder, ZlibDecoder};
use std::io::Read;

/// Whether the bytes begin with the gzip signature.
#[must_use]
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x1f\x8b")
}

/// Decompresses all members of a gzip file to at most `bound` bytes.
///
/// # Errors
/// Fails with Python's `BadGzipFile` or `EOFError`, or if the output exceeds `bound` bytes.
pub fn gunzip(bytes: &[u8], bound: usize) -> Result<Vec<u8>, Failed> {
    read_all(MultiGzDecoder::new(bytes), bound)?.map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Failed::system("EOFError", "Compressed file ended before the end-of-stream marker was reached")
        }
        _ => Failed::system("BadGzipFile", error.to_string()),
    })
}

/// Decompresses a body with `Content-Encoding: deflate`. Some servers send raw deflate instead of zlib, so both are
/// accepted. Returns `None` if the body is neither.
///
/// # Errors
/// Fails if the output exceeds `bound` bytes.
pub fn deflate(bytes: &[u8], bound: usize) -> Result<Option<Vec<u8>>, Failed> {
    if let Ok(plain) = read_all(ZlibDecoder::new(bytes), bound)? {
        return Ok(Some(plain));
    }
    Ok(read_all(DeflateDecoder::new(bytes), bound)?.ok())
}

/// Decompresses the first member of a gzip or zlib file, as far as it can be read. Returns `None` if the bytes are neither.
///
/// # Errors
/// Fails if the output exceeds `bound` bytes.
pub fn member(bytes: &[u8], bound: usize) -> Result<Option<Vec<u8>>, Failed> {
    let is_zlib =
        matches!(bytes, [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) * 256 + u16::from(*second)) % 31 == 0);
    let mut reader: Box<dyn Read + '_> = match () {
        () if is_gzip(bytes) => Box::new(GzDecoder::new(bytes)),
        () if is_zlib => Box::new(ZlibDecoder::new(bytes)),
        () => return Ok(None),
    };
    let mut out = Vec::new();
    let limit = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.by_ref().take(limit).read_to_end(&mut out);
    if out.len() > bound {
        return Err(Failed::bound("bytes of a decompressed body", bound));
    }
    Ok(Some(out).filter(|out| read.is_ok() || !out.is_empty()))
}

/// Reads at most `bound` bytes. The inner error is a failure of the reader.
///
/// # Errors
/// Fails if there are more than `bound` bytes.
pub fn read_all(reader: impl Read, bound: usize) -> Result<std::io::Result<Vec<u8>>, Failed> {
    let mut out = Vec::new();
    let limit = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    if let Err(error) = reader.take(limit).read_to_end(&mut out) {
        return Ok(Err(error));
    }
    if out.len() > bound {
        return Err(Failed::bound("bytes of a decompressed body", bound));
    }
    Ok(Ok(out))
}
