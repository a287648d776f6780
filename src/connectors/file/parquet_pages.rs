//! The pages of one Parquet column, with limits on what they may unpack to.
//!
//! The library trusts the sizes in a page: it reserves memory for the values that a page announces, and some of its
//! decompressors write everything that the packed bytes expand to, whatever the page header says. So the header is
//! checked before the page is read, the expansion is measured before the library unpacks it, and the counts inside
//! delta-encoded pages are checked before the library reserves memory for them.

use super::parquet::ParquetFile;
use super::thrift::{self, PageSizes};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Limit on the bytes that the sample of one column reads from the file.
const MAX_COLUMN_BYTES: u64 = 64 << 20;
/// Number of bytes that suffices for most page headers.
const PAGE_HEADER_BYTES: usize = 256;
/// Limit on the bytes of a page header. Long statistics make a header large.
const MAX_PAGE_HEADER_BYTES: usize = 64 << 10;
/// The memory that the library takes for one value of a dictionary or of a repeated column.
const VALUE_BYTES: usize = 48;
/// Limit on the blocks into which a delta-encoded page divides its values. Writers use four.
const MAX_MINI_BLOCKS: u64 = 4096;
/// The first bytes of an LZ4 frame, which old writers used in place of LZ4 blocks.
const LZ4_FRAME: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];

/// The file as the library reads it for one column.
pub struct BoundedFile(Arc<Column>);

struct Column {
    file: ParquetFile,
    compression: Compression,
    /// Bytes that were read before this column.
    begun: u64,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The sizes of the page whose header was read last.
    page: PageSizes,
    /// The first limit that was exceeded.
    exceeded: Option<String>,
}

impl BoundedFile {
    /// Prepares reading a column with this compression.
    #[must_use]
    pub fn new(file: ParquetFile, compression: Compression) -> BoundedFile {
        let begun = file.read.load(Ordering::Relaxed);
        BoundedFile(Arc::new(Column { file, compression, begun, shared: Mutex::default() }))
    }

    /// The limit that was exceeded, if reading failed for this reason.
    #[must_use]
    pub fn exceeded(&self) -> Option<String> {
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner).exceeded.clone()
    }
}

impl Column {
    fn exceed(&self, why: String) -> ParquetError {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.exceeded.get_or_insert_with(|| why.clone());
        ParquetError::General(why)
    }

    /// Takes `bytes` before they are allocated.
    fn take(&self, bytes: usize) -> ParquetResult<()> {
        self.file.memory.take(bytes as u64).map_err(|bound| self.exceed(format!("a page {bound}")))
    }

    /// Checks the sizes of a page header and keeps them for the body of the page.
    fn check_header(&self, page: PageSizes) -> ParquetResult<()> {
        let limit = self.file.max_page_bytes;
        let (mib, size) = (limit >> 20, page.unpacked);
        if size > limit {
            return Err(self.exceed(format!("a page unpacks to {} MiB, and the limit is {mib} MiB", size.div_ceil(1 << 20))));
        }
        if page.is_dictionary && page.values > limit / VALUE_BYTES {
            let most = limit / VALUE_BYTES;
            return Err(self.exceed(format!("a dictionary has {} values, and the limit is {most}", page.values)));
        }
        let values = if page.is_dictionary { page.values.saturating_mul(VALUE_BYTES) } else { 0 };
        self.take(size.saturating_add(values))?;
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).page = page;
        Ok(())
    }

    /// Checks that the body of a page does not expand to more than its header says.
    fn check_expansion(&self, body: &[u8]) -> ParquetResult<()> {
        let page = self.shared.lock().unwrap_or_else(PoisonError::into_inner).page;
        let packed = body.get(page.levels..).unwrap_or_default();
        if !page.is_compressed || packed.is_empty() {
            return Ok(());
        }
        let announced = page.unpacked.saturating_sub(page.levels);
        // The other decompressors write into a buffer of the announced size.
        let measured = match self.compression {
            Compression::GZIP(_) => measure(flate2::read::MultiGzDecoder::new(packed), announced),
            Compression::BROTLI(_) => measure(brotli::Decompressor::new(packed, 4096), announced),
            Compression::LZ4 if packed.starts_with(&LZ4_FRAME) => measure(lz4_flex::frame::FrameDecoder::new(packed), announced),
            _ => Ok(true),
        };
        match measured {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(ParquetError::General(format!("a page expands to more than the {announced} bytes that it announces")))
            }
            Err(error) => Err(ParquetError::General(format!("a page cannot be unpacked: {error}"))),
        }
    }
}

/// Whether the decompressed text has at most `limit` bytes. The text is not kept.
fn measure(unpacked: impl Read, limit: usize) -> std::io::Result<bool> {
    let mut bounded = unpacked.take(limit as u64 + 1);
    Ok(std::io::copy(&mut bounded, &mut std::io::sink())? <= limit as u64)
}

/// A position from which the library reads a page header.
pub struct BoundedReader {
    column: Arc<Column>,
    /// Where `ahead` begins in the file.
    at: u64,
    ahead: Vec<u8>,
    /// Bytes of `ahead` that the library has already read.
    used: usize,
    checked: bool,
}

impl Length for BoundedFile {
    fn len(&self) -> u64 {
        self.0.file.size
    }
}

impl ChunkReader for BoundedFile {
    type T = BoundedReader;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BoundedReader { column: Arc::clone(&self.0), at: start, ahead: Vec::new(), used: 0, checked: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let Column { file, begun, .. } = &*self.0;
        let read = file.read.load(Ordering::Relaxed).saturating_sub(*begun);
        if length > file.max_page_bytes || read.saturating_add(length as u64) > MAX_COLUMN_BYTES {
            let limit = (file.max_page_bytes as u64).min(MAX_COLUMN_BYTES) >> 20;
            return Err(self.0.exceed(format!("the pages before the end of its first rows have more than {limit} MiB")));
        }
        self.0.take(length)?;
        let body = file.exactly(start, length).map_err(ParquetError::EOF)?;
        self.0.check_expansion(&body)?;
        Ok(body)
    }
}

impl Read for BoundedReader {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        if !self.checked {
            // The library reads only page headers from here. It reads page bodies with `get_bytes`.
            self.load(PAGE_HEADER_BYTES)?;
            let page = match thrift::check_page(&self.ahead) {
                Ok(page) => page,
                Err(_) => {
                    self.load(MAX_PAGE_HEADER_BYTES)?;
                    thrift::check_page(&self.ahead).map_err(std::io::Error::other)?
                }
            };
            self.column.check_header(page).map_err(std::io::Error::other)?;
            self.checked = true;
        }
        if self.ahead.get(self.used..).unwrap_or_default().is_empty() {
            self.load(PAGE_HEADER_BYTES)?;
        }
        let count = self.ahead.get(self.used..).unwrap_or_default().read(room)?;
        self.used += count;
        Ok(count)
    }
}

impl BoundedReader {
    /// Fills `ahead` with the bytes that follow those already read.
    fn load(&mut self, length: usize) -> std::io::Result<()> {
        let file = &self.column.file;
        self.at += std::mem::take(&mut self.used) as u64;
        let left = usize::try_from(file.size.saturating_sub(self.at)).unwrap_or(length);
        self.ahead.resize(left.min(length), 0);
        let count = file.file.read_at(&mut self.ahead, self.at)?;
        self.ahead.truncate(count);
        file.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// The pages of a column. Each is checked before the library decodes its values.
pub struct CheckedPages {
    pages: SerializedPageReader<BoundedFile>,
    column: Arc<Column>,
    max_repetition: i16,
    max_definition: i16,
    /// The values of all pages so far, counted for a repeated column, whose rows may extend over several pages.
    values: usize,
}

impl CheckedPages {
    /// Wraps the pages of the column that `column` describes.
    #[must_use]
    pub fn new(pages: SerializedPageReader<BoundedFile>, file: &BoundedFile, column: &ColumnDescriptor) -> CheckedPages {
        let (max_repetition, max_definition) = (column.max_rep_level(), column.max_def_level());
        CheckedPages { pages, column: Arc::clone(&file.0), max_repetition, max_definition, values: 0 }
    }

    fn check(&mut self, page: &Page) -> ParquetResult<()> {
        if page.is_dictionary_page() {
            return Ok(());
        }
        let count = usize::try_from(page.num_values()).unwrap_or(usize::MAX);
        let limit = self.column.file.max_page_bytes;
        if self.max_repetition > 0 {
            self.values = self.values.saturating_add(count);
            // Each value of this encoding may repeat the text before it, so a page of a megabyte may hold terabytes.
            let repeats = page.encoding() == Encoding::DELTA_BYTE_ARRAY && count.saturating_mul(page.buffer().len()) > limit;
            if self.values > limit / VALUE_BYTES || repeats {
                let most = limit / VALUE_BYTES;
                return Err(self.column.exceed(format!("a page has {count} values in lists, and the limit is {most}")));
            }
        }
        if self.max_repetition > 0 {
            self.column.take(count.saturating_mul(VALUE_BYTES))?;
        }
        let counts = match page.encoding() {
            Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            Encoding::DELTA_BYTE_ARRAY => 2,
            _ => return Ok(()),
        };
        let mut values = self.values_of(page).ok_or_else(|| ParquetError::EOF("a page ends inside its levels".to_owned()))?;
        for _ in 0..counts {
            let used = delta_length(values, count as u64)
                .ok_or_else(|| ParquetError::General("the counts in a delta-encoded page contradict its header".to_owned()))?;
            values = values.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// The bytes of a page behind its levels.
    fn values_of<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        match page {
            Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
                let rest = skip_levels(buf, self.max_repetition, *rep_level_encoding, *num_values)?;
                skip_levels(rest, self.max_definition, *def_level_encoding, *num_values)
            }
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                buf.get(usize::try_from(def_levels_byte_len.checked_add(*rep_levels_byte_len)?).ok()?..)
            }
            Page::DictionaryPage { buf, .. } => Some(buf),
        }
    }
}

/// Skips the levels of a page of version 1: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.
#[expect(deprecated, reason = "old files have bit-packed levels")]
fn skip_levels(bytes: &[u8], max_level: i16, encoding: Encoding, values: u32) -> Option<&[u8]> {
    if max_level == 0 {
        return Some(bytes);
    }
    if encoding == Encoding::BIT_PACKED {
        let width = u64::from(16 - max_level.unsigned_abs().leading_zeros());
        return bytes.get(usize::try_from((u64::from(values) * width).div_ceil(8)).ok()?..);
    }
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
}

/// The length of a delta-encoded sequence of integers at the start of `bytes`. Returns `None` if it announces more than
/// `max_values` values or ends early. See "Delta Encoding" in the specification of the encodings.
fn delta_length(bytes: &[u8], max_values: u64) -> Option<usize> {
    let mut reader = thrift::CompactReader::new(bytes);
    let block = reader.unsigned().ok()?;
    let mini_blocks = reader.unsigned().ok().filter(|count| (1..=MAX_MINI_BLOCKS).contains(count))?;
    let values = reader.unsigned().ok().filter(|count| *count <= max_values)?;
    reader.unsigned().ok()?;
    let per_mini_block = block.checked_div(mini_blocks).filter(|count| *count > 0)?;
    let mut left = values.saturating_sub(1);
    while left > 0 {
        reader.unsigned().ok()?;
        let widths = reader.take(mini_blocks).ok()?;
        for width in widths {
            if left == 0 {
                break;
            }
            reader.take(u64::from(*width).checked_mul(per_mini_block)?.div_ceil(8)).ok()?;
            left = left.saturating_sub(per_mini_block);
        }
    }
    Some(bytes.len() - reader.left())
}

impl Iterator for CheckedPages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            self.check(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        self.pages.at_record_boundary()
    }
}
