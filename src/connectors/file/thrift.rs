//! Reads the Thrift compact protocol, in which a Parquet file writes its footer and its page headers.
//!
//! The Parquet library reserves memory for the lists and pages that a file announces, so a file of one kilobyte could
//! exhaust the memory of the process. The protocol is small, so this module parses it before the library does:
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>. The numbers of the fields are
//! from <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

/// Limit on the levels of nested structures in the footer.
pub const MAX_STRUCT_DEPTH: usize = 32;
/// Reads the compact protocol.
pub struct CompactReader<'a> {
    pub rest: &'a [u8],
}

/// The type of structures.
pub const STRUCT: u8 = 12;

impl<'a> CompactReader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> CompactReader<'a> {
        CompactReader { rest: bytes }
    }

    /// The number of bytes that were not read yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Returns the next `count` bytes.
    ///
    /// # Errors
    /// A message if there are fewer.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let count = usize::try_from(count).map_err(|_| "a length does not fit in memory")?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("a length points beyond the end")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (first, rest) = self.rest.split_first().ok_or("the structure is truncated")?;
        self.rest = rest;
        Ok(*first)
    }

    fn skip_bytes(&mut self, count: u64) -> Result<(), String> {
        self.take(count).map(|_| ())
    }

    /// Reads an unsigned integer of variable length.
    ///
    /// # Errors
    /// A message if it does not end within ten bytes.
    pub fn unsigned(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("an integer has too many bytes".to_owned())
    }

    /// Reads a signed integer of variable length.
    ///
    /// # Errors
    /// The errors of [`CompactReader::unsigned`].
    pub fn signed(&mut self) -> Result<i64, String> {
        let raw = self.unsigned()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Returns the number and type of the next field, or `None` at the end of the structure. `last` is the number of the
    /// field before it.
    ///
    /// # Errors
    /// A message if the structure is truncated.
    pub fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>, String> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        *last = match byte >> 4 {
            0 => self.signed()?,
            delta => last.saturating_add(i64::from(delta)),
        };
        Ok(Some((*last, byte & 0x0F)))
    }

    /// Returns the size and element type of a list.
    ///
    /// # Errors
    /// A message if the size exceeds the remaining bytes, because every element takes at least one byte.
    pub fn list(&mut self) -> Result<(usize, u8), String> {
        let byte = self.byte()?;
        let size = match byte >> 4 {
            15 => self.unsigned()?,
            small => u64::from(small),
        };
        match usize::try_from(size) {
            Ok(size) if size <= self.rest.len() => Ok((size, byte & 0x0F)),
            _ => Err(format!("a list announces {size} entries in {} bytes", self.rest.len())),
        }
    }

    /// Skips a value of type `kind`, which is an element of a list or the value of a field.
    ///
    /// # Errors
    /// A message if the value is truncated or nested deeper than `nesting`.
    pub fn skip(&mut self, kind: u8, nesting: usize, element: bool) -> Result<(), String> {
        if nesting == 0 {
            return Err("structures are nested too deeply".to_owned());
        }
        match kind {
            // The type of a boolean field contains its value; a boolean list element takes one byte.
            1 | 2 => {
                if element {
                    self.skip_bytes(1)
                } else {
                    Ok(())
                }
            }
            3 => self.skip_bytes(1),
            4..=6 => self.unsigned().map(|_| ()),
            7 => self.skip_bytes(8),
            8 => {
                let length = self.unsigned()?;
                self.skip_bytes(length)
            }
            9 | 10 => {
                let (size, kind) = self.list()?;
                (0..size).try_for_each(|_| self.skip(kind, nesting - 1, true))
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, nesting - 1, false)?;
                }
                Ok(())
            }
            other => Err(format!("type {other} does not occur in Parquet")),
        }
    }

    /// Reads one schema element and returns how many children it announces.
    ///
    /// # Errors
    /// A message if the element is truncated.
    pub fn children(&mut self) -> Result<i64, String> {
        let (mut last, mut children) = (0, 0);
        while let Some((number, kind)) = self.field(&mut last)? {
            match (number, kind) {
                (5, 5) => children = self.signed()?,
                (_, kind) => self.skip(kind, MAX_STRUCT_DEPTH, false)?,
            }
        }
        Ok(children)
    }
}

/// The sizes in a page header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageSizes {
    /// Bytes after unpacking.
    pub unpacked: usize,
    /// The number of values, including nulls.
    pub values: usize,
    pub is_dictionary: bool,
    /// Bytes of levels that are not compressed, in a data page of version 2.
    pub levels: usize,
    /// Whether the page is compressed if its column is.
    pub is_compressed: bool,
}

/// Reads the sizes of a page header (`PageHeader`) before the page is unpacked.
///
/// # Errors
/// A text for the detail of a failure that says what is wrong.
pub fn check_page(bytes: &[u8]) -> Result<PageSizes, String> {
    let mut reader = CompactReader::new(bytes);
    let mut page = PageSizes { is_compressed: true, ..PageSizes::default() };
    let mut last = 0;
    while let Some((number, kind)) = reader.field(&mut last)? {
        match (number, kind) {
            (2, 5) => page.unpacked = size(&mut reader)?,
            (3, 5) => {
                size(&mut reader)?;
            }
            (5 | 7 | 8, STRUCT) => {
                page.is_dictionary = number == 7;
                values(&mut reader, number == 8, &mut page)?;
            }
            (_, kind) => reader.skip(kind, MAX_STRUCT_DEPTH, false)?,
        }
    }
    Ok(page)
}

fn size(reader: &mut CompactReader<'_>) -> Result<usize, String> {
    let size = reader.signed()?;
    usize::try_from(size).map_err(|_| format!("a page announces a size of {size}"))
}

/// Reads the counts of a `DataPageHeader`, a `DictionaryPageHeader` or, with `second`, a `DataPageHeaderV2`.
fn values(reader: &mut CompactReader<'_>, second: bool, page: &mut PageSizes) -> Result<(), String> {
    let mut last = 0;
    while let Some((number, kind)) = reader.field(&mut last)? {
        match (number, kind) {
            (1, 5) => page.values = size(reader)?,
            (5 | 6, 5) if second => page.levels = page.levels.saturating_add(size(reader)?),
            // The type of a boolean field contains its value: 1 is true, 2 is false.
            (7, 1 | 2) if second => page.is_compressed = kind == 1,
            (_, kind) => reader.skip(kind, MAX_STRUCT_DEPTH, false)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_sizes_of_a_page_are_read() {
        // Page header: type 0, uncompressed size 2^30, compressed 10.
        let page = [0x15, 0x00, 0x15, 0x80, 0x80, 0x80, 0x80, 0x08, 0x15, 0x14, 0x00];
        assert_eq!(check_page(&page).map(|page| page.unpacked), Ok(1 << 30));
        // Size minus one.
        assert!(check_page(&[0x15, 0x00, 0x15, 0x01, 0x00]).unwrap_err().contains("a size of -1"));
        // A data page of version 2 with ten values, 3 and 4 bytes of levels, not compressed.
        let second =
            [0x15, 0x06, 0x15, 0x40, 0x15, 0x20, 0x5C, 0x15, 0x14, 0x15, 0, 0x15, 0x14, 0x15, 0, 0x15, 6, 0x15, 8, 0x12, 0, 0];
        let expected = PageSizes { unpacked: 32, values: 10, is_dictionary: false, levels: 7, is_compressed: false };
        assert_eq!(check_page(&second), Ok(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let _ = check_page(&bytes);
        }
    }
}
