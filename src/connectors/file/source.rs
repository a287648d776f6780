//! One open file of a known format: its description and its first rows.

use super::describe::Description;
use super::format::{self, Format, Head};
use super::parquet::ParquetFile;
use super::place::OpenEntry;
use super::{delimited, json, parquet};
use crate::connectors::Bounds;
use crate::memory_budget::MemoryMeter;
use crate::model::{Class, Failure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of bytes in the first read. Most small files fit in it.
pub const FIRST_READ_BYTES: usize = 64 << 10;
/// Number of bytes that suffices to recognise what a file is.
pub const SIGNATURE_BYTES: usize = 4 << 10;
/// Limit on the bytes of one record.
const MAX_RECORD_BYTES: usize = 16 << 20;
/// The memory that a byte of a delimited file may take: itself, and the end of its cell in the list of a row.
const TABLE_MEMORY_FACTOR: u64 = 6;
/// The memory that a byte of a JSON file may take: itself, and its share of the value of one record.
const RECORD_MEMORY_FACTOR: u64 = 6;
/// Number of rows from which column types are inferred.
const MAX_INFERENCE_ROWS: usize = 1000;

/// An open file and what is needed to read it. Reads are positional, so sharing it between threads is safe.
pub struct Source {
    pub file: Arc<File>,
    /// Size in bytes when the file was opened.
    pub size: u64,
    pub format: Format,
    /// The path for messages.
    pub shown: String,
    /// Bytes read so far, shared with the resource that the file belongs to.
    pub read: Arc<AtomicU64>,
    /// The first bytes, kept from when the file was opened.
    pub head: Option<Head>,
}

/// The amount of data that a sample has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleCount {
    pub rows: usize,
    pub columns: usize,
}

impl Source {
    /// Takes an open file and checks that its first and last bytes match the format. `first` is the number of bytes to read:
    /// [`FIRST_READ_BYTES`] if the file will be described, otherwise [`SIGNATURE_BYTES`].
    ///
    /// # Errors
    /// The errors of [`format::check_content`]; `Remote` if the file cannot be read.
    pub fn new(entry: OpenEntry, format: Format, shown: String, read: Arc<AtomicU64>, first: usize) -> Result<Source, Failure> {
        let mut source = Source { file: Arc::new(entry.file), size: entry.stat.size, format, shown, read, head: None };
        let limit = if format == Format::Parquet { 12 } else { first };
        let head = source.head(limit)?;
        format::check_content(format, &head.bytes, &source.tail()?, &source.shown)?;
        source.head = Some(head);
        Ok(source)
    }

    /// Columns and types from the first rows or the footer.
    ///
    /// # Errors
    /// `Remote` if the file is truncated or does not fit its format; `Misconfigured` if one record is larger
    /// than the limit.
    pub fn describe(&self, bounds: &Bounds, memory: &MemoryMeter) -> Result<Description, Failure> {
        let max_bytes = usize::try_from(bounds.bytes).unwrap_or(MAX_RECORD_BYTES).min(MAX_RECORD_BYTES);
        match self.format {
            Format::Csv | Format::Tsv => {
                let table = self.table(MAX_INFERENCE_ROWS, max_bytes, 1, memory)?;
                let mut found = delimited::describe(&table, bounds.columns);
                found.truncated |= table.cut;
                Ok(found)
            }
            Format::Json | Format::JsonLines => {
                self.records(MAX_INFERENCE_ROWS, max_bytes, 1, bounds.columns, memory).map(|(_, found)| found)
            }
            Format::Parquet => {
                parquet::describe(&self.parquet_file(memory), bounds.columns).map_err(|detail| self.damaged(&detail))
            }
        }
    }

    /// Reads at most `limit` rows from the file again and counts them.
    ///
    /// # Errors
    /// The errors of [`Source::describe`].
    pub fn count(&self, limit: usize, memory: &MemoryMeter) -> Result<SampleCount, Failure> {
        match self.format {
            Format::Csv | Format::Tsv => {
                // One more row is requested, because the table includes the header row.
                let table = self.table(limit.saturating_add(1), MAX_RECORD_BYTES, limit.saturating_add(1), memory)?;
                let Some(first) = table.rows.first() else { return Ok(SampleCount::default()) };
                let header = usize::from(delimited::has_header(first));
                Ok(SampleCount { rows: (table.rows.len() - header).min(limit), columns: first.len() })
            }
            Format::Json | Format::JsonLines => {
                let (rows, found) = self.records(limit, MAX_RECORD_BYTES, limit, usize::MAX, memory)?;
                Ok(SampleCount { rows, columns: found.columns })
            }
            Format::Parquet => {
                let (rows, columns) =
                    parquet::count(&self.parquet_file(memory), limit).map_err(|detail| self.damaged(&detail))?;
                Ok(SampleCount { rows, columns })
            }
        }
    }

    /// The first rows of a table. Reads more bytes until `min_rows` rows are complete, the file ends, or
    /// `max_bytes` have been read. Inferring types needs one row; a sample needs all of its rows.
    fn table(&self, limit: usize, max_bytes: usize, min_rows: usize, memory: &MemoryMeter) -> Result<delimited::Table, Failure> {
        let mut bytes = FIRST_READ_BYTES.min(max_bytes);
        loop {
            self.reserve(bytes, TABLE_MEMORY_FACTOR, &memory.next_input())?;
            let head = self.first_bytes(bytes, min_rows == 1)?;
            let table = delimited::rows(&head.bytes, head.whole, self.format, limit);
            if head.whole || bytes >= max_bytes || (!table.cut && table.rows.len() >= min_rows) {
                return Ok(table);
            }
            bytes = bytes.saturating_mul(8).min(max_bytes);
        }
    }

    fn records(
        &self,
        limit: usize,
        max_bytes: usize,
        min_rows: usize,
        columns: usize,
        memory: &MemoryMeter,
    ) -> Result<(usize, Description), Failure> {
        let mut bytes = FIRST_READ_BYTES.min(max_bytes);
        loop {
            self.reserve(bytes, RECORD_MEMORY_FACTOR, &memory.next_input())?;
            let head = self.first_bytes(bytes, min_rows == 1)?;
            let mut fields = json::FieldKinds::new(columns);
            let scan = json::scan(&head.bytes, head.whole, self.format, limit, &mut |record| fields.add(record));
            let scan = scan.map_err(|detail| self.damaged(&detail))?;
            let last = head.whole || bytes >= max_bytes;
            if scan.records == 0 && last && scan.cut && !head.whole {
                return Err(Failure::new(
                    Class::Misconfigured,
                    format!("the first record of {} is larger than {} MiB", self.shown, max_bytes >> 20),
                    "write smaller records, preferably as .jsonl with one record per line",
                ));
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
                return Ok((rows, fields.describe(&scan)));
            }
            bytes = bytes.saturating_mul(8).min(max_bytes);
        }
    }

    /// The first `limit` bytes. With `reuse`, the bytes kept since the file was opened are used if they suffice.
    fn first_bytes(&self, limit: usize, reuse: bool) -> Result<std::borrow::Cow<'_, Head>, Failure> {
        match &self.head {
            Some(head) if reuse && (head.whole || head.bytes.len() >= limit) => Ok(std::borrow::Cow::Borrowed(head)),
            _ => self.head(limit).map(std::borrow::Cow::Owned),
        }
    }

    fn head(&self, limit: usize) -> Result<Head, Failure> {
        let head = format::head(&self.file, self.size, limit).map_err(|error| self.unreadable(&error))?;
        self.read.fetch_add(head.bytes.len() as u64, Ordering::Relaxed);
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

    /// Takes the memory for reading and decoding the first `bytes` bytes of the file.
    fn reserve(&self, bytes: usize, factor: u64, memory: &MemoryMeter) -> Result<(), Failure> {
        let bytes = self.size.min(bytes as u64);
        memory.take(bytes.saturating_mul(factor)).map_err(|bound| bound.failure(&self.shown))
    }

    fn parquet_file(&self, memory: &MemoryMeter) -> ParquetFile {
        ParquetFile { file: Arc::clone(&self.file), size: self.size, read: Arc::clone(&self.read), memory: memory.clone() }
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        Failure::new(
            Class::Remote,
            format!("{} cannot be read", self.shown),
            "check the file system: df, mount, dmesg; aam retries automatically",
        )
        .detail(error.to_string())
    }

    fn damaged(&self, detail: &str) -> Failure {
        Failure::new(
            Class::Remote,
            format!("{} is damaged, truncated, or not valid {}", self.shown, self.format.as_str()),
            "write the file again under another name and rename it once it is complete",
        )
        .detail(detail)
    }
}
