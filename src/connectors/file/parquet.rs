//! Parquet files. Types and row count come from the footer. The library reads the rows, after every size has been checked.

use super::describe::{ColumnNames, Description};
use super::parquet_footer::{CheckedFooter, check_footer};
use super::parquet_pages::{BoundedFile, CheckedPages};
use super::parquet_types::{repetition, schema};
use super::source::SampleCount;
use crate::credentials::redact;
use crate::memory_budget::MemoryMeter;
use crate::model::{Class, Failure};
use bytes::Bytes;
use parquet::basic::{Compression, Repetition};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::properties::ReaderProperties;
use parquet::file::serialized_reader::SerializedPageReader;
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Limit on the bytes of the footer. A larger footer has many thousands of columns or row groups.
const MAX_FOOTER_BYTES: u64 = 16 << 20;
/// The memory that a byte of the checked footer may take once it is decoded.
const FOOTER_MEMORY_FACTOR: u64 = 12;
/// Limit on the columns that a sample reads. Each column requires reading a page of about a megabyte.
const MAX_SAMPLE_COLUMNS: usize = 16;
/// Limit on the columns that a sample tries to read.
const MAX_TRIED_COLUMNS: usize = 32;
/// The bytes by which old writers made a column with a dictionary too short at most.
const DICTIONARY_HEADER_BYTES: i64 = 100;
/// Limit on the levels of nested types that a schema describes.
const MAX_TYPE_LEVELS: usize = 4;

/// An open Parquet file. Reads are positional, so several readers can share one descriptor.
#[derive(Clone)]
pub struct ParquetFile {
    pub file: Arc<File>,
    /// Size in bytes when the file was opened.
    pub size: u64,
    /// Bytes read so far.
    pub read: Arc<AtomicU64>,
    /// Limit on the bytes of one page after unpacking. A column needs about three times as much memory: the packed page,
    /// the unpacked page and the dictionary.
    pub max_page_bytes: usize,
    /// The memory that decoding may use.
    pub memory: MemoryMeter,
}

/// Why a file, or one of its columns, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file contradicts itself or the format.
    Damaged(String),
    /// The file is valid, but exceeds a limit of AAM.
    Limit(String),
    /// The file uses a feature that AAM does not have.
    Missing(String),
    /// The columns are encrypted.
    Encrypted,
}

impl Fault {
    /// What is wrong, for a note about one column.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Fault::Damaged(why) | Fault::Limit(why) | Fault::Missing(why) => why.clone(),
            Fault::Encrypted => "it is encrypted".to_owned(),
        }
    }

    /// The failure if the file named `shown` cannot be read for this reason.
    #[must_use]
    pub fn failure(self, shown: &str) -> Failure {
        match self {
            Fault::Damaged(why) => Failure::new(
                Class::Remote,
                format!("{shown} is damaged, truncated, or not valid parquet"),
                "write the file again under another name and rename it once it is complete",
            )
            .detail(why),
            Fault::Limit(why) => Failure::new(
                Class::Misconfigured,
                format!("{shown} exceeds a limit of aam: {why}"),
                "write it with smaller row groups, pages and footers (in pyarrow: row_group_size and write_batch_size), then run aam heal",
            ),
            Fault::Missing(why) => Failure::new(
                Class::Unsupported,
                format!("aam cannot read {shown}: {why}"),
                "write it with the compression zstd, snappy, gzip, brotli or lz4_raw, then run aam heal",
            ),
            Fault::Encrypted => encrypted(shown),
        }
    }
}

/// The failure for a file that is encrypted altogether or in all the columns that a sample would read.
#[must_use]
pub fn encrypted(shown: &str) -> Failure {
    Failure::new(
        Class::Unsupported,
        format!("{shown} is an encrypted Parquet file, and this version of aam cannot decrypt it"),
        "write the file without Parquet encryption, or put it in an object store that encrypts at rest; then run aam heal",
    )
}

/// Reads types and row count from the footer, at most `columns` columns.
///
/// # Errors
/// A [`Fault`] of the footer.
pub fn describe(file: &ParquetFile, columns: usize) -> Result<Description, Fault> {
    let (footer, metadata) = metadata(file)?;
    let described = metadata.file_metadata();
    let fields = described.schema().get_fields();
    let mut names = ColumnNames::default();
    let mut found = Description {
        columns: fields.len(),
        truncated: fields.len() > columns,
        row_estimate: u64::try_from(described.num_rows()).ok(),
        ..Description::default()
    };
    for (index, field) in fields.iter().take(columns).enumerate() {
        let name = names.unique(field.name(), index);
        if repetition(field) == Repetition::REQUIRED {
            found.required.push(name.clone());
        }
        found.properties.insert(name, schema(field, MAX_TYPE_LEVELS));
    }
    found.notes.insert("row_groups".to_owned(), json!(footer.row_groups));
    if let Some(writer) = described.created_by() {
        found.notes.insert("written_by".to_owned(), json!(redact::scrub_and_cut(writer, 80)));
    }
    if footer.encrypted {
        found.warnings.push("columns of the file are encrypted, which aam cannot decrypt".to_owned());
    }
    Ok(found)
}

/// Reads at most `limit` rows of up to [`MAX_SAMPLE_COLUMNS`] columns, one column after the other. A column that cannot be
/// read is left out if another can.
///
/// # Errors
/// A [`Fault`] of the footer, or of the first column if no column can be read.
pub fn count(file: &ParquetFile, limit: usize) -> Result<SampleCount, Fault> {
    let (footer, metadata) = metadata(file)?;
    let columns = metadata.file_metadata().schema_descr().num_columns();
    let mut counted = SampleCount::default();
    let mut first_fault = None;
    for index in 0..columns.min(MAX_TRIED_COLUMNS) {
        match column(file, &metadata, index, limit) {
            Ok(rows) => {
                counted.rows = rows;
                counted.columns += 1;
            }
            Err(fault) => {
                let fault = if footer.encrypted { Fault::Encrypted } else { fault };
                let path = metadata.file_metadata().schema_descr().column(index).path().string();
                counted.not_read.push(format!("{}: {}", redact::scrub_and_cut(&path, 80), fault.message()));
                first_fault = first_fault.or(Some(fault));
            }
        }
        if counted.columns == MAX_SAMPLE_COLUMNS {
            break;
        }
    }
    match first_fault {
        Some(fault) if counted.columns == 0 => Err(fault),
        _ => Ok(counted),
    }
}

/// Reads at most `limit` rows of the column at `index`.
fn column(file: &ParquetFile, metadata: &ParquetMetaData, index: usize, limit: usize) -> Result<usize, Fault> {
    let mut read = 0;
    for group in metadata.row_groups() {
        if read >= limit {
            break;
        }
        let wanted = usize::try_from(group.num_rows()).unwrap_or(0).min(limit - read);
        let rows = if wanted == 0 { 0 } else { chunk(file, group, index, wanted)? };
        if rows < wanted {
            return Err(Fault::Damaged(format!("a row group announces {} rows, but the column has {rows}", group.num_rows())));
        }
        read += rows;
    }
    Ok(read)
}

/// Reads `wanted` rows of one column of one row group.
fn chunk(file: &ParquetFile, group: &RowGroupMetaData, index: usize, wanted: usize) -> Result<usize, Fault> {
    let meta =
        group.columns().get(index).ok_or_else(|| Fault::Damaged("a row group has fewer columns than the schema".to_owned()))?;
    if meta.file_path().is_some() {
        return Err(Fault::Missing("its columns are in another file".to_owned()));
    }
    if meta.compression() == Compression::LZO {
        return Err(Fault::Missing("it is compressed with LZO".to_owned()));
    }
    // Some writers write zero for "no dictionary page" (PARQUET-816).
    let no_dictionary = meta.dictionary_page_offset().is_some_and(|offset| offset <= 0);
    let meta = match no_dictionary {
        true => meta
            .clone()
            .into_builder()
            .set_dictionary_page_offset(None)
            .build()
            .map_err(|error| Fault::Damaged(error.to_string()))?,
        false => meta.clone(),
    };
    let read = pages(file, &meta, wanted);
    // Writers before parquet-mr 1.2.9 left the header of the dictionary out of the size of the column (PARQUET-816).
    if matches!(read, Err(Fault::Damaged(_))) {
        let padded = meta.compressed_size().saturating_add(DICTIONARY_HEADER_BYTES);
        let padded = meta.into_builder().set_total_compressed_size(padded).build();
        return padded.ok().and_then(|meta| pages(file, &meta, wanted).ok()).map_or(read, Ok);
    }
    read
}

/// Reads `wanted` rows from the pages of one column.
fn pages(file: &ParquetFile, meta: &ColumnChunkMetaData, wanted: usize) -> Result<usize, Fault> {
    // The pages of one column are freed before those of the next are read.
    let file = ParquetFile { memory: file.memory.next_input(), ..file.clone() };
    let bounded = Arc::new(BoundedFile::new(file, meta.compression()));
    let read = catch_panics(|| {
        let damaged = |error: ParquetError| Fault::Damaged(error.to_string());
        let properties = Arc::new(ReaderProperties::builder().build());
        let pages =
            SerializedPageReader::new_with_properties(Arc::clone(&bounded), meta, wanted, None, properties).map_err(damaged)?;
        let pages = CheckedPages::new(pages, &bounded, meta.column_descr());
        rows(get_column_reader(meta.column_descr_ptr(), Box::new(pages)), wanted).map_err(damaged)
    });
    read.map_err(|fault| bounded.exceeded().map_or(fault, Fault::Limit))
}

fn rows(reader: ColumnReader, wanted: usize) -> Result<usize, ParquetError> {
    match reader {
        ColumnReader::BoolColumnReader(reader) => typed_rows(reader, wanted),
        ColumnReader::Int32ColumnReader(reader) => typed_rows(reader, wanted),
        ColumnReader::Int64ColumnReader(reader) => typed_rows(reader, wanted),
        ColumnReader::Int96ColumnReader(reader) => typed_rows(reader, wanted),
        ColumnReader::FloatColumnReader(reader) => typed_rows(reader, wanted),
        ColumnReader::DoubleColumnReader(reader) => typed_rows(reader, wanted),
        ColumnReader::ByteArrayColumnReader(reader) => typed_rows(reader, wanted),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => typed_rows(reader, wanted),
    }
}

/// Reads one row at a time, so that only the values of one row are in memory.
fn typed_rows<T: DataType>(mut reader: ColumnReaderImpl<T>, wanted: usize) -> Result<usize, ParquetError> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = 0;
    while read < wanted {
        definitions.clear();
        repetitions.clear();
        values.clear();
        let (records, _, _) = reader.read_records(1, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    Ok(read)
}

/// Turns a panic of the Parquet library into an error. The library panics on some malformed files; this is a defect of the
/// file and not of AAM.
fn catch_panics<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|cause| {
        let message = cause.downcast_ref::<String>().cloned();
        let message = message.or_else(|| cause.downcast_ref::<&str>().map(|message| (*message).to_owned()));
        Err(Fault::Damaged(format!("the file is inconsistent: {}", message.unwrap_or_default())))
    })
}

/// Reads the footer and decodes its first row groups.
fn metadata(file: &ParquetFile) -> Result<(CheckedFooter, ParquetMetaData), Fault> {
    let memory = file.memory.next_input();
    let take = |bytes: u64| memory.take(bytes).map_err(|bound| Fault::Limit(format!("its footer {bound}")));
    let footer = check_footer(&footer(file, &take)?)?;
    take((footer.bytes.len() as u64).saturating_mul(FOOTER_MEMORY_FACTOR))?;
    let decoded = catch_panics(|| {
        ParquetMetaDataReader::decode_metadata(&footer.bytes).map_err(|error| match footer.encrypted {
            true => Fault::Encrypted,
            false => Fault::Damaged(error.to_string()),
        })
    })?;
    Ok((footer, decoded))
}

fn footer(file: &ParquetFile, take: &dyn Fn(u64) -> Result<(), Fault>) -> Result<Bytes, Fault> {
    let tail = file.exactly(file.size.saturating_sub(8), 8).map_err(Fault::Damaged)?;
    let length = tail.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    let length = u64::from(length);
    // The file begins with a signature of 4 bytes and ends with a length and a signature of 4 bytes each.
    if length.saturating_add(12) > file.size {
        return Err(Fault::Damaged(format!("the footer claims {length} bytes, but the file has {}", file.size)));
    }
    if length > MAX_FOOTER_BYTES {
        let limit = MAX_FOOTER_BYTES >> 20;
        return Err(Fault::Limit(format!("its footer has {} MiB, and the limit is {limit} MiB", length >> 20)));
    }
    take(length)?;
    file.exactly(file.size - 8 - length, usize::try_from(length).unwrap_or(0)).map_err(Fault::Damaged)
}

impl ParquetFile {
    /// Reads exactly `length` bytes at `start`.
    ///
    /// # Errors
    /// A message if the file is shorter or cannot be read.
    pub fn exactly(&self, start: u64, length: usize) -> Result<Bytes, String> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(format!("{length} bytes at offset {start} are beyond the end of the file"));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| format!("{length} bytes at offset {start}: {error}"))?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(bytes.into())
    }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
