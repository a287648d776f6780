//! One open file of a known format: its description and its first rows.

use super::describe::Description;
use super::dialect::{self, Table};
use super::encoding::{self, TextEncoding};
use super::format::{self, Format, Head};
use super::parquet::ParquetFile;
use super::place::OpenEntry;
use super::{delimited, json, parquet, rows};
use crate::connectors::Bounds;
use crate::memory_budget::{MemoryBound, MemoryMeter};
use crate::model::{Class, Failure};
use serde_json::json;
use std::borrow::Cow;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of bytes in the first read. Most small files fit in it.
pub const FIRST_READ_BYTES: usize = 64 << 10;
/// Number of bytes that suffices to recognise what a file is.
pub const SIGNATURE_BYTES: usize = 4 << 10;
/// Limit on the bytes of one record, and on the bytes of a JSON file that are checked behind its first records.
pub const MAX_RECORD_BYTES: usize = 16 << 20;
/// Limit on the bytes of one page of a Parquet file after unpacking. Writers make pages of about a megabyte.
const MAX_PAGE_BYTES: usize = 16 << 20;
/// Number of rows from which column types are inferred.
const MAX_INFERENCE_ROWS: usize = 1000;
/// Limit on the columns of a sample of delimited text.
const MAX_SAMPLE_CELLS: usize = 500;

/// The memory of a cell besides its text: the list of a row, and what the allocator adds.
const CELL_MEMORY_BYTES: u64 = 64;

/// An open file and what is needed to read it. Reads are positional, so sharing it between threads is safe.
pub struct Source {
    pub file: Arc<File>,
    /// Size in bytes when the file was opened.
    pub size: u64,
    /// The format of the content. It differs from the extension only if the file holds JSON under a name of delimited text.
    pub format: Format,
    /// The path for messages.
    pub shown: String,
    /// Bytes read so far, shared with the resource that the file belongs to.
    pub read: Arc<AtomicU64>,
    /// Whether the content is compressed with gzip.
    gzip: bool,
    /// Whether the extension claims delimited text, but the content is JSON.
    misnamed: bool,
    /// The encoding of a text format.
    encoding: Option<TextEncoding>,
    /// The first bytes, kept from when the file was opened.
    head: Option<Head>,
}

/// The amount of data that a sample has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleCount {
    pub rows: usize,
    pub columns: usize,
    /// Columns that could not be read, and why.
    pub not_read: Vec<String>,
}

/// An upper estimate of the memory of the rows of `text`, of which at most `columns` cells each are kept.
fn rows_memory(text: &[u8], columns: usize) -> u64 {
    let lines = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count().min(MAX_INFERENCE_ROWS) + 1;
    let cells = lines.saturating_mul(columns).min(text.len()) as u64;
    let kept = cells.saturating_mul(rows::MAX_CELL_BYTES as u64).min(text.len() as u64);
    // The best reading so far is kept beside the one that is tried.
    2 * (cells * CELL_MEMORY_BYTES + kept)
}

impl Source {
    /// Takes an open file and checks that its first and last bytes match the format. `first` is the number of bytes to read:
    /// [`FIRST_READ_BYTES`] if the file will be described, otherwise [`SIGNATURE_BYTES`].
    ///
    /// # Errors
    /// The errors of [`format::check_signature`] and [`format::check_text`]; `Remote` if the file cannot be read.
    pub fn new(entry: OpenEntry, format: Format, shown: String, read: Arc<AtomicU64>, first: usize) -> Result<Source, Failure> {
        let gzip = format::is_gzip(Path::new(&shown));
        let (file, size) = (Arc::new(entry.file), entry.stat.size);
        let mut source = Source { file, size, format, shown, read, gzip, misnamed: false, encoding: None, head: None };
        let limit = if format == Format::Parquet { 12 } else { first };
        let head = source.head(limit)?;
        format::check_signature(format, &head.bytes, &source.tail()?, &source.shown)?;
        if format != Format::Parquet {
            let encoding = encoding::detect(&head.bytes).ok_or_else(|| format::binary(format, &source.shown))?;
            let (text, _) = encoding::decode(&head.bytes, encoding);
            source.misnamed = matches!(format, Format::Csv | Format::Tsv) && json::is_json(&text, head.whole);
            if source.misnamed {
                source.format = Format::Json;
            }
            format::check_text(source.format, &text, &source.shown)?;
            source.encoding = Some(encoding);
        }
        source.head = Some(head);
        Ok(source)
    }

    /// Columns and types from the first rows or the footer. A JSON file is checked up to `judged` bytes.
    ///
    /// # Errors
    /// `Remote` if the file is truncated or does not fit its format; `Misconfigured` if one record is larger
    /// than the limit; the errors of [`parquet::describe`].
    pub fn describe(&self, bounds: &Bounds, judged: usize, memory: &MemoryMeter) -> Result<Description, Failure> {
        let max_bytes = usize::try_from(bounds.bytes).unwrap_or(MAX_RECORD_BYTES).min(MAX_RECORD_BYTES);
        let mut found = match self.format {
            Format::Csv | Format::Tsv => {
                let table = self.table(bounds.columns, max_bytes, 1, memory)?;
                delimited::describe(&table, bounds.columns)
            }
            Format::Json | Format::JsonLines => {
                let first = judged.clamp(FIRST_READ_BYTES, MAX_RECORD_BYTES);
                self.records(MAX_INFERENCE_ROWS, (first, max_bytes), 1, (bounds.columns, memory))?.1
            }
            Format::Parquet => {
                parquet::describe(&self.parquet_file(memory), bounds.columns).map_err(|fault| fault.failure(&self.shown))?
            }
        };
        self.note_reading(&mut found);
        Ok(found)
    }

    /// Adds how the bytes of the file were read.
    fn note_reading(&self, found: &mut Description) {
        if self.misnamed {
            found.notes.insert("format".to_owned(), json!("json"));
            found.warnings.push("the extension says delimited text, but the file holds JSON and was read as JSON".to_owned());
        }
        if self.gzip {
            found.notes.insert("compression".to_owned(), json!("gzip"));
        }
        let Some(encoding) = self.encoding else { return };
        found.notes.insert("encoding".to_owned(), json!(encoding.charset.as_str()));
        if encoding.guessed {
            found.notes.insert("encoding_from".to_owned(), json!("guessed"));
            let name = encoding.charset.as_str();
            found.warnings.push(format!("the encoding of the file is not marked and was guessed as {name}"));
        }
    }

    /// Reads at most `limit` rows from the file again and counts them.
    ///
    /// # Errors
    /// The errors of [`Source::describe`].
    pub fn count(&self, limit: usize, memory: &MemoryMeter) -> Result<SampleCount, Failure> {
        match self.format {
            Format::Csv | Format::Tsv => {
                // One more row is requested, because the table may include a header row.
                let table = self.table(MAX_SAMPLE_CELLS, MAX_RECORD_BYTES, limit.saturating_add(1), memory)?;
                let columns = if table.names.is_none() && table.data.is_empty() { 0 } else { table.width };
                Ok(SampleCount { rows: table.data.len().min(limit), columns, not_read: Vec::new() })
            }
            Format::Json | Format::JsonLines => {
                let (rows, found) =
                    self.records(limit, (FIRST_READ_BYTES, MAX_RECORD_BYTES), limit, (MAX_SAMPLE_CELLS, memory))?;
                Ok(SampleCount { rows: rows.min(limit), columns: found.columns, not_read: Vec::new() })
            }
            Format::Parquet => parquet::count(&self.parquet_file(memory), limit).map_err(|fault| fault.failure(&self.shown)),
        }
    }

    /// The first rows of a table. Reads more bytes until `min_rows` rows are complete, the file ends, or
    /// `max_bytes` have been read. Inferring types needs one row; a sample needs all of its rows.
    fn table(&self, columns: usize, max_bytes: usize, min_rows: usize, memory: &MemoryMeter) -> Result<Table, Failure> {
        let mut bytes = FIRST_READ_BYTES.min(max_bytes);
        loop {
            let memory = memory.next_input();
            let head = self.metered_bytes(bytes, min_rows == 1, &memory)?;
            let text = self.text(&head, &memory)?;
            self.take(&memory, rows_memory(&text, columns))?;
            // Without a line end, there is no complete row to look at.
            if !head.whole && !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
                if bytes >= max_bytes {
                    return Err(self.record_too_large("row", max_bytes));
                }
                bytes = bytes.saturating_mul(8).min(max_bytes);
                continue;
            }
            let table = dialect::analyze(&text, head.whole, self.format, MAX_INFERENCE_ROWS, columns);
            let rows = table.data.len() + usize::from(table.names.is_some());
            if head.whole || bytes >= max_bytes || (!table.cut && rows >= min_rows) {
                return if table.cut && !head.whole { Err(self.record_too_large("row", max_bytes)) } else { Ok(table) };
            }
            bytes = bytes.saturating_mul(8).min(max_bytes);
        }
    }

    /// The first records of a JSON file: at first `bounds.0` bytes, at most `bounds.1` bytes if a record needs them.
    fn records(
        &self,
        limit: usize,
        (first, max_bytes): (usize, usize),
        min_rows: usize,
        (columns, memory): (usize, &MemoryMeter),
    ) -> Result<(usize, Description), Failure> {
        let mut bytes = first.min(max_bytes);
        loop {
            let memory = memory.next_input();
            let head = self.metered_bytes(bytes, min_rows == 1, &memory)?;
            let text = self.text(&head, &memory)?;
            let mut fields = json::FieldKinds::new(columns);
            let scan = json::scan(&text, head.whole, self.format, limit, &mut |name, value| fields.add(name, value));
            let scan = scan.map_err(|detail| self.not_json(&detail))?;
            let last = head.whole || bytes >= max_bytes;
            if scan.records == 0 && last && scan.cut && !head.whole {
                return Err(self.record_too_large("record", max_bytes));
            }
            if scan.records == 0 && last && scan.odd > 0 {
                return Err(Failure::new(
                    Class::WrongService,
                    format!("{} contains JSON values but no JSON objects", self.shown),
                    "write a list of objects, or one object per line: [{\"id\": 1}]",
                ));
            }
            if last || scan.records >= min_rows || !scan.cut {
                let rows = scan.records;
                let mut found = fields.describe(&scan, limit);
                let judged = if head.whole { "the whole file".to_owned() } else { format!("the first {} KiB", bytes >> 10) };
                found.notes.insert("checked".to_owned(), json!(judged));
                return Ok((rows, found));
            }
            bytes = bytes.saturating_mul(8).min(max_bytes);
        }
    }

    /// Takes `bytes` before they are allocated.
    fn take(&self, memory: &MemoryMeter, bytes: u64) -> Result<(), Failure> {
        memory.take(bytes).map_err(|bound: MemoryBound| bound.failure(&self.shown))
    }

    /// Reads the first `bytes` bytes and takes their memory before.
    fn metered_bytes(&self, bytes: usize, reuse: bool, memory: &MemoryMeter) -> Result<Cow<'_, Head>, Failure> {
        // The size of a compressed file says nothing about its content.
        let most = if self.gzip { bytes as u64 } else { self.size.min(bytes as u64) };
        self.take(memory, most)?;
        self.first_bytes(bytes, reuse)
    }

    fn text<'a>(&self, head: &'a Head, memory: &MemoryMeter) -> Result<Cow<'a, [u8]>, Failure> {
        let Some(encoding) = self.encoding else { return Ok(Cow::Borrowed(&head.bytes)) };
        self.take(memory, (head.bytes.len() as u64).saturating_mul(encoding.charset.growth()))?;
        Ok(encoding::decode(&head.bytes, encoding).0)
    }

    /// The first `limit` bytes. With `reuse`, the bytes kept since the file was opened are used if they suffice.
    fn first_bytes(&self, limit: usize, reuse: bool) -> Result<Cow<'_, Head>, Failure> {
        match &self.head {
            Some(head) if reuse && (head.whole || head.bytes.len() >= limit) => Ok(Cow::Borrowed(head)),
            _ => self.head(limit).map(Cow::Owned),
        }
    }

    fn head(&self, limit: usize) -> Result<Head, Failure> {
        if !self.gzip {
            let head = format::head(&self.file, self.size, limit).map_err(|error| self.unreadable(&error))?;
            self.read.fetch_add(head.bytes.len() as u64, Ordering::Relaxed);
            return Ok(head);
        }
        let (head, read) = format::gzip_head(&self.file, limit).map_err(|error| match error.kind() {
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => self.not_gzip(&error),
            ErrorKind::FileTooLarge => {
                self.record_too_large("compressed block", usize::try_from(format::MAX_PACKED_BYTES).unwrap_or(usize::MAX))
            }
            _ => self.unreadable(&error),
        })?;
        self.read.fetch_add(read, Ordering::Relaxed);
        Ok(head)
    }

    fn tail(&self) -> Result<Vec<u8>, Failure> {
        if self.format != Format::Parquet {
            return Ok(Vec::new());
        }
        let mut tail = vec![0; 8];
        let count = self.file.read_at(&mut tail, self.size.saturating_sub(8)).map_err(|error| self.unreadable(&error))?;
        tail.truncate(count);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(tail)
    }

    fn parquet_file(&self, memory: &MemoryMeter) -> ParquetFile {
        let (file, read) = (Arc::clone(&self.file), Arc::clone(&self.read));
        ParquetFile { file, size: self.size, read, max_page_bytes: MAX_PAGE_BYTES, memory: memory.clone() }
    }

    fn record_too_large(&self, what: &str, max_bytes: usize) -> Failure {
        let limit = if max_bytes < 1 << 20 { format!("{} KiB", max_bytes >> 10) } else { format!("{} MiB", max_bytes >> 20) };
        Failure::new(
            Class::Misconfigured,
            format!("the first {what} of {} is larger than {limit}, the limit of aam", self.shown),
            "write smaller records, preferably as .jsonl with one record per line, then run aam heal",
        )
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        Failure::new(
            Class::Remote,
            format!("{} cannot be read", self.shown),
            "check the file system: df, mount, dmesg; aam retries automatically",
        )
        .detail(error.to_string())
    }

    fn not_gzip(&self, error: &std::io::Error) -> Failure {
        Failure::new(
            Class::Remote,
            format!("{} is not complete gzip", self.shown),
            format!("check it with gzip -t {}; write it under another name and rename it once it is complete", self.shown),
        )
        .detail(error.to_string())
    }

    fn not_json(&self, detail: &str) -> Failure {
        Failure::new(
            Class::Remote,
            format!("{} is not valid {}", self.shown, self.format.as_str()),
            "correct the file at the place that the detail names; aam retries automatically",
        )
        .detail(detail)
    }
}
