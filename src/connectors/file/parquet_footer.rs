//! Checks the footer of a Parquet file and keeps what a sample needs of it, before the Parquet library decodes it.
//!
//! The library builds the schema recursively and takes a kilobyte for each column of each row group, so a small file could
//! exhaust the stack or the memory of the process.

use super::parquet::Fault;
use super::thrift::{CompactReader, MAX_STRUCT_DEPTH, STRUCT};
use bytes::Bytes;

/// Limit on the levels of nested groups in a schema.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Limit on the elements of a schema. The library takes about a kilobyte for each column.
const MAX_SCHEMA_ELEMENTS: usize = 50_000;
/// Limit on the column chunks of all row groups that the library decodes.
const MAX_COLUMN_CHUNKS: usize = 20_000;
/// Limit on the row groups that the library decodes. A sample needs the first ones.
const MAX_ROW_GROUPS: usize = 64;

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

#[cfg(test)]
#[path = "parquet_footer_tests.rs"]
mod tests;
