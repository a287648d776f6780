//! One open file in one format: what it holds, and its first rows.

use super::describe::Description;
use super::format::{self, Format, Head};
use super::parquet::Chunks;
use super::place::Held;
use super::{delimited, json, parquet};
use crate::connectors::Bounds;
use crate::model::{Class, Failure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are read first; most small files end inside.
pub const FIRST: usize = 64 << 10;
/// Bytes that tell what a file is.
pub const GLANCE: usize = 4 << 10;
/// Bytes that one record may have.
const MOST: usize = 16 << 20;
/// Records that types are inferred from.
const RECORDS: usize = 1000;

/// A file with what is needed to read it. Reads by position: sharing it is safe.
pub struct Source {
    pub file: Arc<File>,
    /// Bytes when it was opened.
    pub size: u64,
    pub format: Format,
    /// The path for messages.
    pub shown: String,
    /// Bytes read, shared with the resource it belongs to.
    pub read: Arc<AtomicU64>,
    /// The first bytes, where they were read when it was opened.
    pub head: Option<Head>,
}

/// What a sample read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub rows: usize,
    pub columns: usize,
}

impl Source {
    /// Takes an open file and holds its first (and last) bytes against its format; `first` is [`FIRST`]
    /// where it will be described, else [`GLANCE`].
    ///
    /// # Errors
    /// Those of [`format::agree`]; `Remote` when it cannot be read.
    pub fn new(held: Held, format: Format, shown: String, read: Arc<AtomicU64>, first: usize) -> Result<Source, Failure> {
        let mut source = Source { file: Arc::new(held.file), size: held.facts.size, format, shown, read, head: None };
        let limit = if format == Format::Parquet { 12 } else { first };
        let head = source.head(limit)?;
        format::agree(format, &head.bytes, &source.tail()?, &source.shown)?;
        source.head = Some(head);
        Ok(source)
    }

    /// Columns and types from the first rows or the footer.
    ///
    /// # Errors
    /// `Remote` for a file that is cut or not in its format; `Misconfigured` for a record beyond all bounds.
    pub fn describe(&self, bounds: &Bounds) -> Result<Description, Failure> {
        let most = usize::try_from(bounds.bytes).unwrap_or(MOST).min(MOST);
        match self.format {
            Format::Csv | Format::Tsv => {
                let table = self.table(RECORDS, most, 1)?;
                let mut found = delimited::describe(&table, bounds.columns);
                found.truncated |= table.cut;
                Ok(found)
            }
            Format::Json | Format::JsonLines => self.records(RECORDS, most, 1, bounds.columns).map(|(_, found)| found),
            Format::Parquet => parquet::describe(&self.chunks(), bounds.columns).map_err(|words| self.broken(&words)),
        }
    }

    /// Reads at most `limit` rows anew and counts them.
    ///
    /// # Errors
    /// As [`Source::describe`].
    pub fn count(&self, limit: usize) -> Result<Counted, Failure> {
        match self.format {
            Format::Csv | Format::Tsv => {
                // The header is a row of the table too.
                let table = self.table(limit.saturating_add(1), MOST, limit.saturating_add(1))?;
                let Some(first) = table.rows.first() else { return Ok(Counted::default()) };
                let header = usize::from(delimited::has_header(first));
                Ok(Counted { rows: (table.rows.len() - header).min(limit), columns: first.len() })
            }
            Format::Json | Format::JsonLines => {
                let (rows, found) = self.records(limit, MOST, limit, usize::MAX)?;
                Ok(Counted { rows, columns: found.columns })
            }
            Format::Parquet => {
                let (rows, columns) = parquet::count(&self.chunks(), limit).map_err(|words| self.broken(&words))?;
                Ok(Counted { rows, columns })
            }
        }
    }

    /// The first rows of a table: more bytes are read until `wanted` rows are complete, the file ends, or
    /// `most` bytes are there. Types need one row, a sample needs all of them.
    fn table(&self, limit: usize, most: usize, wanted: usize) -> Result<delimited::Table, Failure> {
        let mut bytes = FIRST.min(most);
        loop {
            let head = self.first(bytes, wanted == 1)?;
            let table = delimited::rows(&head.bytes, head.whole, self.format, limit);
            if head.whole || bytes >= most || (!table.cut && table.rows.len() >= wanted) {
                return Ok(table);
            }
            bytes = bytes.saturating_mul(8).min(most);
        }
    }

    fn records(&self, limit: usize, most: usize, wanted: usize, columns: usize) -> Result<(usize, Description), Failure> {
        let mut bytes = FIRST.min(most);
        loop {
            let head = self.first(bytes, wanted == 1)?;
            let mut fields = json::Fields::new(columns);
            let walk = json::walk(&head.bytes, head.whole, self.format, limit, &mut |record| fields.add(record));
            let walk = walk.map_err(|words| self.broken(&words))?;
            let last = head.whole || bytes >= most;
            if walk.records == 0 && last && walk.cut && !head.whole {
                return Err(Failure::new(
                    Class::Misconfigured,
                    format!("the first record of {} is larger than {} MiB", self.shown, most >> 20),
                    "write smaller records, best as .jsonl with one record a line",
                ));
            }
            if walk.records == 0 && last && walk.odd > 0 {
                return Err(Failure::new(
                    Class::WrongService,
                    format!("{} holds JSON values, but no objects", self.shown),
                    "write a list of objects, or one object a line: [{\"id\": 1}]",
                ));
            }
            if last || walk.records >= wanted || !walk.cut {
                let rows = walk.records;
                return Ok((rows, fields.describe(&walk)));
            }
            bytes = bytes.saturating_mul(8).min(most);
        }
    }

    /// The first bytes: those kept from the opening where that is asked for and they are enough.
    fn first(&self, limit: usize, kept: bool) -> Result<std::borrow::Cow<'_, Head>, Failure> {
        match &self.head {
            Some(head) if kept && (head.whole || head.bytes.len() >= limit) => Ok(std::borrow::Cow::Borrowed(head)),
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

    fn chunks(&self) -> Chunks {
        Chunks { file: Arc::clone(&self.file), size: self.size, read: Arc::clone(&self.read) }
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        Failure::new(
            Class::Remote,
            format!("{} cannot be read", self.shown),
            "look at the file system: df, mount, dmesg; aam tries again by itself",
        )
        .detail(error.to_string())
    }

    fn broken(&self, words: &str) -> Failure {
        Failure::new(
            Class::Remote,
            format!("{} is damaged, cut, or no valid {}", self.shown, self.format.as_str()),
            "write the file anew, under another name first, and rename it when it is whole",
        )
        .detail(words)
    }
}
