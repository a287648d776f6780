//! Checks the sizes that a Parquet file claims before the Parquet library acts on them.
//!
//! The library builds the schema recursively and reserves memory for the lists and pages that the
//! footer announces, so a file of one kilobyte could exhaust the stack or the memory of the process.
//! The Thrift compact protocol is small, so this module parses it before the library does:
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>. The numbers of the fields are
//! from <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

use super::parquet::Fault;
use bytes::Bytes;

/// Limit on the levels of nested groups in a schema.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Limit on the levels of nested structures in the footer.
const MAX_STRUCT_DEPTH: usize = 32;
/// Limit on the elements of a schema. The library takes about a kilobyte for each column.
const MAX_SCHEMA_ELEMENTS: usize = 50_000;
/// Limit on the column chunks of all row groups that the library decodes.
const MAX_COLUMN_CHUNKS: usize = 20_000;
/// Limit on the row groups that the library decodes. A sample needs the first ones.
const MAX_ROW_GROUPS: usize = 64;

/// Reads the compact protocol.
pub struct CompactReader<'a> {
    rest: &'a [u8],
}

const STRUCT: u8 = 12;

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

    fn signed(&mut self) -> Result<i64, String> {
        let raw = self.unsigned()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Returns the number and type of the next field, or `None` at the end of the structure.
    fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>, String> {
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

    /// Returns the size and element type of a list. Every element takes at least one byte, so a size
    /// beyond the remaining bytes is an error.
    fn list(&mut self) -> Result<(usize, u8), String> {
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

    fn skip(&mut self, kind: u8, nesting: usize, element: bool) -> Result<(), String> {
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
    fn children(&mut self) -> Result<i64, String> {
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

/// A footer that is safe to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedFooter {
    /// The schema and the first row groups, which a sample needs.
    pub bytes: Bytes,
    /// The number of row groups of the file.
    pub row_groups: usize,
    /// Whether the file says how its columns are encrypted.
    pub encrypted: bool,
}

/// What is kept of a field.
enum Keep {
    Value,
    /// The structure with these fields.
    Struct(&'static [KeptField]),
    /// The list of structures with these fields.
    List(&'static [KeptField]),
}

/// Number and type of a field, and what is kept of it.
type KeptField = (i64, u8, Keep);

// Statistics, indexes and key-value pairs are left out: a sample does not need them, they are large, and a file is not
// refused because a writer had its own idea of them.
const COLUMN_METADATA: &[KeptField] = &[
    (1, 5, Keep::Value),
    (2, 9, Keep::Value),
    (3, 9, Keep::Value),
    (4, 5, Keep::Value),
    (5, 6, Keep::Value),
    (6, 6, Keep::Value),
    (7, 6, Keep::Value),
    (9, 6, Keep::Value),
    (11, 6, Keep::Value),
];
const COLUMN_CHUNK: &[KeptField] = &[(1, 8, Keep::Value), (2, 6, Keep::Value), (3, STRUCT, Keep::Struct(COLUMN_METADATA))];
const ROW_GROUP: &[KeptField] = &[(1, 9, Keep::List(COLUMN_CHUNK)), (2, 6, Keep::Value), (3, 6, Keep::Value)];

/// Checks that all lists of a footer (`FileMetaData`) fit in it and that the schema is not nested too deeply, and copies
/// what a sample needs: the schema and the first row groups.
///
/// # Errors
/// `Damaged` or `Limit`.
pub fn check_footer(bytes: &Bytes) -> Result<CheckedFooter, Fault> {
    let mut reader = CompactReader::new(bytes);
    let mut copy = Copy { bytes: Vec::new(), last: 0 };
    let (mut last, mut leaves, mut row_groups, mut encrypted) = (0, 1, 0, false);
    while let Some((number, kind)) = reader.field(&mut last).map_err(Fault::Damaged)? {
        let before = reader.rest;
        match (number, kind) {
            (2, 9) => leaves = schema(&mut reader)?,
            (4, 9) => {
                let keep = (MAX_COLUMN_CHUNKS / leaves.max(1)).clamp(1, MAX_ROW_GROUPS);
                copy.header(number, kind);
                row_groups = copy.list(&mut reader, ROW_GROUP, keep).map_err(Fault::Damaged)?;
                continue;
            }
            (_, kind) => reader.skip(kind, MAX_STRUCT_DEPTH, false).map_err(Fault::Damaged)?,
        }
        encrypted |= number == 8;
        if matches!((number, kind), (1, 5) | (2, 9) | (3, 6) | (6, 8)) {
            copy.header(number, kind);
            copy.value(before, &reader);
        }
    }
    copy.bytes.push(0);
    Ok(CheckedFooter { bytes: copy.bytes.into(), row_groups, encrypted })
}

/// A copy of a structure without some of its fields.
struct Copy {
    bytes: Vec<u8>,
    /// The number of the last field that was written.
    last: i64,
}

impl Copy {
    /// Writes the header of a field. The kept fields are less than 16 apart.
    fn header(&mut self, number: i64, kind: u8) {
        let delta = u8::try_from(number - self.last).unwrap_or(0);
        self.bytes.push(delta << 4 | kind);
        self.last = number;
    }

    /// Writes what `reader` has read since it had `before` left.
    fn value(&mut self, before: &[u8], reader: &CompactReader<'_>) {
        self.bytes.extend_from_slice(before.get(..before.len() - reader.left()).unwrap_or_default());
    }

    /// Copies the first `most` structures of a list with these fields, and returns the size of the whole list.
    fn list(&mut self, reader: &mut CompactReader<'_>, fields: &[KeptField], most: usize) -> Result<usize, String> {
        let (size, kind) = reader.list()?;
        if kind != STRUCT {
            return Err("a list of structures has elements of another type".to_owned());
        }
        let kept = size.min(most);
        match u8::try_from(kept) {
            Ok(small @ 0..15) => self.bytes.push(small << 4 | STRUCT),
            _ => {
                self.bytes.push(0xF0 | STRUCT);
                self.unsigned(kept);
            }
        }
        for index in 0..size {
            match index < kept {
                true => self.structure(reader, fields)?,
                false => reader.skip(STRUCT, MAX_STRUCT_DEPTH, true)?,
            }
        }
        Ok(size)
    }

    fn structure(&mut self, reader: &mut CompactReader<'_>, fields: &[KeptField]) -> Result<(), String> {
        let outer = std::mem::take(&mut self.last);
        let mut last = 0;
        while let Some((number, kind)) = reader.field(&mut last)? {
            let before = reader.rest;
            match fields.iter().find(|(kept, kept_kind, _)| (*kept, *kept_kind) == (number, kind) && number > self.last) {
                Some((_, _, Keep::Value)) => {
                    reader.skip(kind, MAX_STRUCT_DEPTH, false)?;
                    self.header(number, kind);
                    self.value(before, reader);
                }
                Some((_, _, Keep::Struct(inner))) => {
                    self.header(number, kind);
                    self.structure(reader, inner)?;
                }
                Some((_, _, Keep::List(inner))) => {
                    self.header(number, kind);
                    self.list(reader, inner, usize::MAX)?;
                }
                None => reader.skip(kind, MAX_STRUCT_DEPTH, false)?,
            }
        }
        self.bytes.push(0);
        self.last = outer;
        Ok(())
    }

    fn unsigned(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Checks the schema and returns the number of its columns.
fn schema(reader: &mut CompactReader<'_>) -> Result<usize, Fault> {
    let damaged = Fault::Damaged;
    let (size, kind) = reader.list().map_err(damaged)?;
    if kind != STRUCT {
        return Err(Fault::Damaged("the schema is not a list of structures".to_owned()));
    }
    if size > MAX_SCHEMA_ELEMENTS {
        return Err(Fault::Limit(format!("its schema has {size} elements, and the limit is {MAX_SCHEMA_ELEMENTS}")));
    }
    let mut leaves = 0;
    // For every open group, the number of its children that have not been read yet.
    let mut open: Vec<i64> = Vec::new();
    for _ in 0..size {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        let children = reader.children().map_err(damaged)?;
        leaves += usize::from(children == 0);
        if children < 0 || usize::try_from(children).is_ok_and(|children| children > size) {
            let why = format!("a schema group announces {children} children, but the schema has {size} elements");
            return Err(Fault::Damaged(why));
        }
        if children > 0 {
            open.push(children);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err(Fault::Limit(format!("its schema is nested deeper than {MAX_SCHEMA_DEPTH} groups")));
        }
    }
    Ok(leaves)
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

    /// A schema of `depth` nested groups in the compact protocol.
    pub fn deep_footer(depth: u8) -> Vec<u8> {
        let mut bytes = vec![0x15, 0x02, 0x19, 0xFC];
        bytes.push(depth);
        for _ in 0..depth {
            // Field 4 (name) "g", field 5 (num_children) 1, end.
            bytes.extend([0x48, 0x01, b'g', 0x15, 0x02, 0x00]);
        }
        bytes.push(0x00);
        bytes
    }

    fn fault(bytes: &[u8]) -> Option<Fault> {
        check_footer(&Bytes::copy_from_slice(bytes)).err()
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(fault(&deep_footer(60)), None);
        assert!(matches!(fault(&deep_footer(100)), Some(Fault::Limit(why)) if why.contains("deeper")));
    }

    #[test]
    fn announced_sizes_are_checked_against_the_bytes() {
        // A list that announces 2^31 structures and has no bytes for them.
        let list = [0x15, 0x02, 0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00];
        assert!(matches!(fault(&list), Some(Fault::Damaged(why)) if why.contains("announces")));
        assert!(matches!(fault(&[0x15]), Some(Fault::Damaged(why)) if why.contains("truncated")));
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

    #[test]
    fn only_the_first_row_groups_are_decoded() {
        for (groups, keep) in [(3u8, 3usize), (64, 64), (65, 64), (100, 64)] {
            // FileMetaData: version 1, the row groups as structures with total size, number of rows and a field that is
            // left out, and `created_by`.
            let mut bytes = vec![0x15, 0x02];
            if groups < 15 {
                bytes.extend([0x39, groups << 4 | STRUCT])
            } else {
                bytes.extend([0x39, 0xFC, groups])
            }
            (0..groups).for_each(|index| bytes.extend([0x26, index, 0x16, 0x02, 0x25, 0x00, 0x00]));
            bytes.extend([0x28, 0x01, b'w', 0x00]);
            let footer = check_footer(&Bytes::from(bytes.clone())).unwrap();
            let shorter = 2 * keep + 7 * (usize::from(groups) - keep);
            assert_eq!((footer.row_groups, footer.bytes.len()), (usize::from(groups), bytes.len() - shorter));
            let again = check_footer(&footer.bytes).unwrap();
            assert_eq!((again.row_groups, again.bytes), (keep, footer.bytes));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let _ = (fault(&bytes), check_page(&bytes));
        }

        #[test]
        fn a_cut_footer_is_refused(cut in 1usize..60) {
            let whole = deep_footer(10);
            prop_assert!(fault(&whole[..whole.len() - cut]).is_some());
        }
    }
}
