//! Parquet files. Types and row count come from the footer. The library reads the rows, after every size has been checked.

use super::describe::{ColumnNames, Description};
use super::thrift;
use crate::memory_budget::MemoryMeter;
use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::schema::types::Type;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Limit on the bytes of the footer. A larger footer has many thousands of columns or row groups.
const MAX_FOOTER_BYTES: u64 = 16 << 20;
/// The memory that a byte of the footer may take once it is decoded.
const FOOTER_MEMORY_FACTOR: u64 = 7;
/// Limit on the columns that a sample reads. Each column requires reading a page of about a megabyte.
const MAX_SAMPLE_COLUMNS: usize = 16;
/// Limit on the bytes that one sample reads from the file.
const MAX_SAMPLE_BYTES: u64 = 128 << 20;
/// Number of bytes that suffices for most page headers.
const PAGE_HEADER_BYTES: usize = 256;
/// Limit on the bytes of a page header. Long statistics make a header large.
const MAX_PAGE_HEADER_BYTES: usize = 64 << 10;
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
    /// The memory that decoding may use.
    pub memory: MemoryMeter,
}

/// Reads types and row count from the footer, at most `columns` columns.
///
/// # Errors
/// The message of the library, or of the checks before it.
pub fn describe(chunks: &ParquetFile, columns: usize) -> Result<Description, String> {
    let footer = footer(chunks)?;
    let metadata = catch_panics(|| ParquetMetaDataReader::decode_metadata(&footer).map_err(|error| error.to_string()))?;
    let file = metadata.file_metadata();
    let fields = file.schema().get_fields();
    let mut names = ColumnNames::default();
    let mut found = Description {
        columns: fields.len(),
        truncated: fields.len() > columns,
        row_estimate: u64::try_from(file.num_rows()).ok(),
        ..Description::default()
    };
    for (index, field) in fields.iter().take(columns).enumerate() {
        let name = names.unique(field.name(), index);
        if repetition(field) == Repetition::REQUIRED {
            found.required.push(name.clone());
        }
        found.properties.insert(name, schema(field, MAX_TYPE_LEVELS));
    }
    let groups = metadata.num_row_groups();
    found.notes.insert("row_groups".to_owned(), json!(groups));
    if let Some(writer) = file.created_by() {
        found.notes.insert("written_by".to_owned(), json!(writer.chars().take(80).collect::<String>()));
    }
    Ok(found)
}

/// Reads at most `limit` rows and returns how many rows and columns were read.
///
/// # Errors
/// The errors of [`describe`].
pub fn count(chunks: &ParquetFile, limit: usize) -> Result<(usize, usize), String> {
    footer(chunks)?;
    let begun = chunks.read.load(Ordering::Relaxed);
    let guarded = BoundedFile { chunks: chunks.clone(), max_total_bytes: begun.saturating_add(MAX_SAMPLE_BYTES) };
    catch_panics(|| {
        let reader = SerializedFileReader::new(guarded).map_err(|error| error.to_string())?;
        let schema = reader.metadata().file_metadata().schema();
        let fields: Vec<_> = schema.get_fields().iter().take(MAX_SAMPLE_COLUMNS).cloned().collect();
        let columns = fields.len();
        if columns == 0 {
            return Ok((0, 0));
        }
        let part = Type::group_type_builder(schema.name()).with_fields(fields).build();
        let part = part.map_err(|error| error.to_string())?;
        let rows = reader.get_row_iter(Some(part)).map_err(|error| error.to_string())?.with_batch_size(64);
        let mut read = 0;
        for row in rows.take(limit) {
            row.map_err(|error| error.to_string())?;
            read += 1;
        }
        Ok((read, columns))
    })
}

/// Turns a panic of the Parquet library into an error. The library panics on some malformed files; this is a defect of the
/// file and not of AAM.
fn catch_panics<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|cause| {
        let message = cause.downcast_ref::<String>().cloned();
        let message = message.or_else(|| cause.downcast_ref::<&str>().map(|message| (*message).to_owned()));
        Err(format!("the file is inconsistent: {}", message.unwrap_or_default()))
    })
}

fn footer(chunks: &ParquetFile) -> Result<Bytes, String> {
    let tail = chunks.exactly(chunks.size.saturating_sub(8), 8)?;
    let length = tail.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    let length = u64::from(length);
    // The file begins with a signature of 4 bytes and ends with a length and a signature of 4 bytes each.
    if length.saturating_add(12) > chunks.size {
        return Err(format!("the footer claims {length} bytes, but the file has {}", chunks.size));
    }
    if length > MAX_FOOTER_BYTES {
        return Err(format!("the footer has {length} bytes; the limit is {MAX_FOOTER_BYTES} bytes"));
    }
    chunks.memory.take(length.saturating_mul(FOOTER_MEMORY_FACTOR)).map_err(|bound| format!("the footer {bound}"))?;
    let bytes = chunks.exactly(chunks.size - 8 - length, usize::try_from(length).unwrap_or(0))?;
    thrift::check_footer(&bytes)?;
    Ok(bytes)
}

impl ParquetFile {
    fn exactly(&self, start: u64, length: usize) -> Result<Bytes, String> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(format!("{length} bytes at offset {start} are beyond the end of the file"));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| format!("{length} bytes at offset {start}: {error}"))?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(bytes.into())
    }
}

/// The file as the library reads it. The total number of bytes is limited, and every page header is checked first.
struct BoundedFile {
    chunks: ParquetFile,
    max_total_bytes: u64,
}

/// A position from which the library reads a page header, or the last eight bytes of the file.
struct BoundedReader {
    chunks: ParquetFile,
    /// Where `ahead` begins in the file.
    at: u64,
    ahead: Vec<u8>,
    /// Bytes of `ahead` that the library has already read.
    used: usize,
    checked: bool,
}

impl Length for BoundedFile {
    fn len(&self) -> u64 {
        self.chunks.size
    }
}

impl ChunkReader for BoundedFile {
    type T = BoundedReader;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        // If the last eight bytes are read, the library is looking for the footer and not for a page header.
        let tail = start.saturating_add(8) == self.chunks.size;
        Ok(BoundedReader { chunks: self.chunks.clone(), at: start, ahead: Vec::new(), used: 0, checked: tail })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if self.chunks.read.load(Ordering::Relaxed).saturating_add(length as u64) > self.max_total_bytes {
            return Err(ParquetError::General(format!("the sample limit of {MAX_SAMPLE_BYTES} bytes is reached")));
        }
        self.chunks.memory.take(length as u64).map_err(|bound| ParquetError::General(bound.to_string()))?;
        self.chunks.exactly(start, length).map_err(ParquetError::EOF)
    }
}

impl Read for BoundedReader {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        if !self.checked {
            // The library reads only page headers from here. It reads page bodies with `get_bytes`.
            self.load(PAGE_HEADER_BYTES)?;
            let unpacked = match thrift::check_page(&self.ahead) {
                Ok(unpacked) => unpacked,
                Err(_) => {
                    self.load(MAX_PAGE_HEADER_BYTES)?;
                    thrift::check_page(&self.ahead).map_err(std::io::Error::other)?
                }
            };
            self.chunks.memory.take(unpacked).map_err(std::io::Error::other)?;
            self.checked = true;
        }
        let Some(left) = self.ahead.get(self.used..).filter(|left| !left.is_empty()) else {
            self.load(PAGE_HEADER_BYTES)?;
            let mut fresh = self.ahead.as_slice();
            self.used = fresh.read(room)?;
            return Ok(self.used);
        };
        let count = { left }.read(room)?;
        self.used += count;
        Ok(count)
    }
}

impl BoundedReader {
    /// Fills `ahead` with the bytes that follow those already read.
    fn load(&mut self, length: usize) -> std::io::Result<()> {
        self.at += std::mem::take(&mut self.used) as u64;
        let left = usize::try_from(self.chunks.size.saturating_sub(self.at)).unwrap_or(length);
        self.ahead.resize(left.min(length), 0);
        let count = self.chunks.file.read_at(&mut self.ahead, self.at)?;
        self.ahead.truncate(count);
        self.chunks.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn repetition(field: &Type) -> Repetition {
    let info = field.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}

fn schema(field: &Type, levels: usize) -> Value {
    let mut inner = schema_without_repetition(field, levels);
    match repetition(field) {
        Repetition::REQUIRED => inner,
        Repetition::OPTIONAL => {
            if let Some(object) = inner.as_object_mut() {
                let one = object.get("type").cloned().unwrap_or(Value::Null);
                object.insert("type".to_owned(), json!(["null", one]));
            }
            inner
        }
        // The legacy form of a list is a repeated field without a group around it:
        // https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#backward-compatibility-rules
        Repetition::REPEATED => json!({"type": "array", "items": inner}),
    }
}

fn schema_without_repetition(field: &Type, levels: usize) -> Value {
    let info = field.get_basic_info();
    if field.is_primitive() {
        return primitive(field.get_physical_type(), info.logical_type_ref(), info.converted_type());
    }
    let list = matches!(info.logical_type_ref(), Some(LogicalType::List)) || info.converted_type() == ConvertedType::LIST;
    let map = matches!(info.logical_type_ref(), Some(LogicalType::Map))
        || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
    if list {
        // The specification has three levels: list, repeated group, element.
        // https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#lists
        let element = field.get_fields().first().filter(|group| group.is_group()).and_then(|group| group.get_fields().first());
        return match element {
            Some(element) if levels > 0 => json!({"type": "array", "items": schema(element, levels - 1)}),
            _ => json!({"type": "array"}),
        };
    }
    if map || levels == 0 {
        return json!({"type": "object"});
    }
    let inner: Map<String, Value> =
        field.get_fields().iter().take(100).map(|child| (child.name().to_owned(), schema(child, levels - 1))).collect();
    json!({"type": "object", "properties": inner})
}

fn primitive(physical: Physical, logical: Option<&LogicalType>, converted: ConvertedType) -> Value {
    let stamp = |zoned: bool| {
        let kind = if zoned { "timestamp_with_timezone" } else { "timestamp_without_timezone" };
        json!({"type": "string", "format": "date-time", "airbyte_type": kind})
    };
    match logical {
        Some(LogicalType::Date) => return json!({"type": "string", "format": "date"}),
        Some(LogicalType::Time(_)) => return json!({"type": "string", "format": "time"}),
        Some(LogicalType::Timestamp(stamped)) => return stamp(stamped.is_adjusted_to_u_t_c),
        Some(LogicalType::Decimal(_) | LogicalType::Float16) => return json!({"type": "number"}),
        Some(LogicalType::Integer(_)) => return json!({"type": "integer"}),
        Some(LogicalType::Uuid) => return json!({"type": "string", "format": "uuid"}),
        Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) => return json!({"type": "string"}),
        _ => {}
    }
    match converted {
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => return json!({"type": "string"}),
        ConvertedType::DATE => return json!({"type": "string", "format": "date"}),
        ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS => return json!({"type": "string", "format": "time"}),
        // Timestamps in the legacy annotations are UTC by definition.
        ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS => return stamp(true),
        ConvertedType::DECIMAL => return json!({"type": "number"}),
        _ => {}
    }
    match physical {
        Physical::BOOLEAN => json!({"type": "boolean"}),
        Physical::INT32 | Physical::INT64 => json!({"type": "integer"}),
        Physical::INT96 => stamp(false),
        Physical::FLOAT | Physical::DOUBLE => json!({"type": "number"}),
        Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY => json!({"type": "string", "contentEncoding": "base64"}),
    }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
