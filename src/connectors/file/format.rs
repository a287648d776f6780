//! Determines which format the name of a file claims, and whether its content matches.

use crate::model::{Class, Failure};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The supported formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    Tsv,
    Json,
    JsonLines,
    Parquet,
}

/// The supported formats, for messages.
pub const SUPPORTED_FORMATS: &str = "csv, tsv, json, jsonl (ndjson) and parquet";

/// Extensions that always belong to a file in a format that is not supported.
const REFUSED_EXTENSIONS: [&str; 20] = [
    "gz", "zip", "bz2", "xz", "zst", "7z", "tar", "tgz", "xls", "xlsx", "ods", "avro", "orc", "xml", "html", "pdf", "txt", "db",
    "sqlite", "arrow",
];

impl Format {
    /// The format that the extension of `path` claims. A text format may have `.gz` behind it.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Format> {
        if is_gzip(path) {
            let inner = Path::new(path.file_stem()?);
            return Format::from_path(inner).filter(|format| *format != Format::Parquet && !is_gzip(inner));
        }
        match extension(path)?.as_str() {
            "csv" => Some(Format::Csv),
            "tsv" => Some(Format::Tsv),
            "json" => Some(Format::Json),
            "jsonl" | "ndjson" => Some(Format::JsonLines),
            "parquet" => Some(Format::Parquet),
            _ => None,
        }
    }

    /// The name of the format in evidence and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Json => "json",
            Format::JsonLines => "jsonl",
            Format::Parquet => "parquet",
        }
    }
}

/// Whether the name of the file ends in `.gz`.
#[must_use]
pub fn is_gzip(path: &Path) -> bool {
    extension(path).as_deref() == Some("gz")
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Returns a failure if the name alone shows that the file cannot be read. An unknown extension is not refused here,
/// because it may be part of the name of a directory.
#[must_use]
pub fn refused(path: &Path) -> Option<Failure> {
    let extension = extension(path)?;
    let is_refused = REFUSED_EXTENSIONS.contains(&extension.as_str()) && Format::from_path(path).is_none();
    is_refused.then(|| unsupported(path))
}

/// The failure for a regular file that is not in a supported format.
#[must_use]
pub fn unsupported(path: &Path) -> Failure {
    let shown = path.display();
    let (what, fix) = match extension(path).as_deref() {
        Some("gz" | "zip" | "bz2" | "xz" | "zst" | "7z" | "tar" | "tgz") => (
            "archives and compressed files are not supported, except .csv.gz, .tsv.gz, .json.gz and .jsonl.gz".to_owned(),
            "unpack it and name the file inside in resource_ids".to_owned(),
        ),
        Some("db" | "sqlite") => {
            ("a database is not a file source".to_owned(), format!("use source_type jdbc with jdbc:sqlite:{shown}"))
        }
        Some(other) => (format!("files of type .{other} are not supported"), format!("convert it to one of {SUPPORTED_FORMATS}")),
        None => (
            "its name does not have an extension".to_owned(),
            format!("give it the extension of its format: {SUPPORTED_FORMATS}"),
        ),
    };
    Failure::new(Class::Unsupported, format!("{shown}: {what}; supported formats are {SUPPORTED_FORMATS}"), fix)
}

/// The first bytes of a file.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub bytes: Vec<u8>,
    /// Whether the file ended within the limit, so that `bytes` is all of it.
    pub whole: bool,
}

/// Reads at most `limit` bytes from the start. `size` is only a hint, because a file may grow or shrink in the meantime.
///
/// # Errors
/// The errors of the file system.
pub fn head(file: &File, size: u64, limit: usize) -> std::io::Result<Head> {
    let first = usize::try_from(size.saturating_add(1)).unwrap_or(limit).min(limit);
    let mut bytes = vec![0; first];
    let mut filled = 0;
    while filled < limit {
        if filled == bytes.len() {
            bytes.resize(limit.min(filled.saturating_mul(2).max(4096)), 0);
        }
        let Some(room) = bytes.get_mut(filled..) else { break };
        match file.read_at(room, filled as u64) {
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(Head { bytes, whole: true });
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(Head { bytes, whole: false })
}

/// Reads at most `limit` unpacked bytes from the start of a gzip file.
///
/// # Errors
/// The errors of the file system; `InvalidData`, `InvalidInput` or `UnexpectedEof` if the file is not complete gzip.
pub fn gzip_head(file: &Arc<File>, limit: usize) -> std::io::Result<(Head, u64)> {
    let packed = PositionalReader { file: Arc::clone(file), at: 0 };
    let mut unpacked = flate2::read::MultiGzDecoder::new(std::io::BufReader::with_capacity(64 << 10, packed));
    let mut bytes = Vec::new();
    let count = unpacked.by_ref().take(limit as u64).read_to_end(&mut bytes)?;
    let read = unpacked.get_ref().get_ref().at;
    Ok((Head { whole: count < limit, bytes }, read))
}

/// Reads a file from a position of its own, so that several readers can share one descriptor.
struct PositionalReader {
    file: Arc<File>,
    at: u64,
}

impl Read for PositionalReader {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        // Empty members take space without unpacking to anything, so the packed bytes have a limit of their own.
        if self.at >= MAX_PACKED_BYTES {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let count = self.file.read_at(room, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Limit on the bytes of a gzip file that are unpacked.
pub const MAX_PACKED_BYTES: u64 = 64 << 20;

/// Checks that the first and last bytes fit the format that the name claims.
///
/// # Errors
/// `WrongService` if they are something else, `Remote` if a Parquet file is truncated, `Unsupported` if it is encrypted.
pub fn check_signature(format: Format, head: &[u8], tail: &[u8], shown: &str) -> Result<(), Failure> {
    if format == Format::Parquet {
        return parquet(head, tail, shown);
    }
    match detect(head) {
        Some(found) => Err(wrong_format(shown, format, found)),
        None => Ok(()),
    }
}

/// Checks the beginning of a text, which is UTF-8 without a byte order mark.
///
/// # Errors
/// `WrongService` if it is something else than the format, `Remote` if a JSON file is empty.
pub fn check_text(format: Format, text: &[u8], shown: &str) -> Result<(), Failure> {
    if let Some(found) = markup(text) {
        return Err(wrong_format(shown, format, found));
    }
    let text = text.trim_ascii_start();
    let json = matches!(text.first(), Some(b'{' | b'['));
    // Lines such as `null` are not records, but they may stand before records.
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let value = || serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
    match format {
        Format::Json if text.is_empty() => Err(Failure::new(
            Class::Remote,
            format!("{shown} is empty, which is not valid JSON"),
            "write complete JSON: an empty list is []",
        )),
        Format::Json if !json => Err(wrong_format(shown, format, "neither a JSON object nor an array")),
        Format::JsonLines if text.first() == Some(&b'[') => {
            Err(wrong_format(shown, format, "a JSON array").detail("a JSON array belongs in a file named .json"))
        }
        Format::JsonLines if !text.is_empty() && !json && !value() => {
            Err(wrong_format(shown, format, "not one JSON object per line"))
        }
        _ => Ok(()),
    }
}

/// The failure for a text file that is not text.
#[must_use]
pub fn binary(format: Format, shown: &str) -> Failure {
    wrong_format(shown, format, "binary data")
}

fn wrong_format(shown: &str, format: Format, found: &str) -> Failure {
    Failure::new(
        Class::WrongService,
        format!("{shown} is not {}: it is {found}", format.as_str()),
        "give the file the extension of its format, or name the right file in resource_ids",
    )
}

fn parquet(head: &[u8], tail: &[u8], shown: &str) -> Result<(), Failure> {
    match (head.starts_with(b"PAR1"), tail.ends_with(b"PAR1")) {
        (true, true) if head.len() >= 12 => Ok(()),
        _ if head.starts_with(b"PARE") || tail.ends_with(b"PARE") => Err(super::parquet::encrypted(shown)),
        (true, _) => Err(truncated(shown, "it begins with PAR1 but does not end with PAR1")),
        (false, _) if head.is_empty() => Err(truncated(shown, "it is empty")),
        (false, _) => Err(wrong_format(shown, Format::Parquet, detect(head).unwrap_or("a file without the PAR1 signature"))),
    }
}

/// The failure for a Parquet file whose end is missing.
fn truncated(shown: &str, detail: &str) -> Failure {
    Failure::new(
        Class::Remote,
        format!("{shown} is truncated, or is still being written"),
        "write it under another name and rename it once it is complete; aam retries automatically",
    )
    .detail(detail)
}

/// Describes content that is recognisably not a supported text format.
fn detect(head: &[u8]) -> Option<&'static str> {
    const SIGNATURES: [(&[u8], &str); 9] = [
        (b"PAR1", "a Parquet file"),
        (b"PARE", "an encrypted Parquet file"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"PK\x03\x04", "a zip archive (xlsx files are zip archives)"),
        (b"SQLite format 3\0", "a SQLite database"),
        (b"%PDF-", "a PDF document"),
        (b"\x28\xB5\x2F\xFD", "zstd compressed data"),
        (b"\x7FELF", "an executable program"),
        (b"ARROW1", "an Arrow file"),
    ];
    if let Some((_, found)) = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature)) {
        return Some(found);
    }
    None
}

/// Describes a text that is recognisably a document of another kind.
fn markup(text: &[u8]) -> Option<&'static str> {
    let start: Vec<u8> = text.trim_ascii_start().iter().take(14).map(u8::to_ascii_lowercase).collect();
    if start.starts_with(b"<!doctype html") || start.starts_with(b"<html") {
        return Some("an HTML page");
    }
    start.starts_with(b"<?xml").then_some("an XML document")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(format: Format, bytes: &[u8]) -> Option<Class> {
        let checked = check_signature(format, bytes, bytes, "x");
        let checked = if format == Format::Parquet { checked } else { checked.and_then(|()| check_text(format, bytes, "x")) };
        checked.err().map(|failure| failure.class)
    }

    #[test]
    fn content_is_checked_against_the_extension() {
        assert_eq!(class(Format::Csv, b"a,b\n1,2\n"), None);
        assert_eq!(class(Format::Csv, b""), None);
        assert_eq!(class(Format::Json, b" [1]"), None);
        assert_eq!(class(Format::Json, b"<!DOCTYPE html><p>login"), Some(Class::WrongService));
        assert_eq!(class(Format::Json, b""), Some(Class::Remote));
        assert_eq!(class(Format::Csv, b"\x1f\x8b\x08rest"), Some(Class::WrongService));
        assert_eq!(class(Format::JsonLines, b"[{}]"), Some(Class::WrongService));
        assert_eq!(class(Format::JsonLines, b"null\n{}\n"), None);
        assert_eq!(class(Format::JsonLines, b"name: x\n"), Some(Class::WrongService));
        assert_eq!(class(Format::Parquet, b"PAR1....PAR1"), None);
        assert_eq!(class(Format::Parquet, b"PAR1"), Some(Class::Remote));
        assert_eq!(class(Format::Parquet, b"PAR1.....truncated"), Some(Class::Remote));
        assert_eq!(class(Format::Parquet, b"PARE....PARE"), Some(Class::Unsupported));
        assert_eq!(class(Format::Parquet, b"id,name\n"), Some(Class::WrongService));
    }

    #[test]
    fn text_formats_may_be_gzip() {
        for (name, expected) in [
            ("a.csv.gz", Some(Format::Csv)),
            ("a.JSONL.GZ", Some(Format::JsonLines)),
            ("a.parquet.gz", None),
            ("a.gz", None),
            ("a.csv.gz.gz", None),
        ] {
            assert_eq!(Format::from_path(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_head_ends_at_its_limit_or_at_the_end() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let truncated = head(&file, 10, 4).unwrap();
        assert_eq!((truncated.bytes.as_slice(), truncated.whole), (b"0123".as_slice(), false));
        // The size is only a hint. Files that have grown or shrunk are read as they are now.
        for size in [0, 3, 10, 500] {
            let all = head(&file, size, 4096).unwrap();
            assert_eq!((all.bytes.as_slice(), all.whole), (b"0123456789".as_slice(), true));
        }
    }
}
