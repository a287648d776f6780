//! Checks the sizes that a Parquet file claims before the Parquet library acts on them.
//!
//! The library builds the schema recursively and reserves memory for the lists and pages that the
//! footer announces, so a file of one kilobyte could exhaust the stack or the memory of the process.
//! The Thrift compact protocol is small, so this module parses it before the library does:
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

/// Limit on the levels of nested groups in a schema.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Limit on the levels of nested structures in the footer.
const MAX_STRUCT_DEPTH: usize = 32;
/// Limit on the uncompressed bytes of one page. Writers make pages of about a megabyte.
const MAX_PAGE_BYTES: i64 = 64 << 20;
/// Limit on the values that one page may announce.
const MAX_PAGE_VALUES: i64 = 16 << 20;

struct CompactReader<'a> {
    rest: &'a [u8],
}

const STRUCT: u8 = 12;

impl CompactReader<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let (first, rest) = self.rest.split_first().ok_or("the structure is truncated")?;
        self.rest = rest;
        Ok(*first)
    }

    fn skip_bytes(&mut self, count: u64) -> Result<(), String> {
        let count = usize::try_from(count).map_err(|_| "a length does not fit in memory")?;
        self.rest = self.rest.get(count..).ok_or("a length points beyond the end")?;
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64, String> {
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

/// Checks that all lists of a footer (`FileMetaData`) fit in it and that the schema is not nested too deeply.
///
/// # Errors
/// A text for the detail of a failure that says what is wrong.
pub fn check_footer(bytes: &[u8]) -> Result<(), String> {
    let mut reader = CompactReader { rest: bytes };
    let mut last = 0;
    while let Some((number, kind)) = reader.field(&mut last)? {
        match (number, kind) {
            (2, 9) => schema(&mut reader)?,
            (_, kind) => reader.skip(kind, MAX_STRUCT_DEPTH, false)?,
        }
    }
    Ok(())
}

fn schema(reader: &mut CompactReader<'_>) -> Result<(), String> {
    let (size, kind) = reader.list()?;
    if kind != STRUCT {
        return Err("the schema is not a list of structures".to_owned());
    }
    // For every open group, the number of its children that have not been read yet.
    let mut open: Vec<i64> = Vec::new();
    for _ in 0..size {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        let children = reader.children()?;
        if children < 0 || usize::try_from(children).is_ok_and(|children| children > size) {
            return Err(format!("a schema group announces {children} children, but the schema has {size} elements"));
        }
        if children > 0 {
            open.push(children);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err(format!("the schema is nested deeper than {MAX_SCHEMA_DEPTH} groups"));
        }
    }
    Ok(())
}

/// Checks a page header before the page is decompressed, and returns the bytes of the unpacked page.
///
/// # Errors
/// A text for the detail of a failure that says what is wrong.
pub fn check_page(bytes: &[u8]) -> Result<u64, String> {
    let mut reader = CompactReader { rest: bytes };
    let (mut last, mut unpacked) = (0, 0);
    while let Some((number, kind)) = reader.field(&mut last)? {
        match (number, kind) {
            (2, 5) => {
                let size = reader.signed()?;
                if !(0..=MAX_PAGE_BYTES).contains(&size) {
                    return Err(format!("a page would unpack to {size} bytes; the limit is {MAX_PAGE_BYTES} bytes"));
                }
                unpacked = size.unsigned_abs();
            }
            (5 | 7 | 8, STRUCT) => values(&mut reader)?,
            (_, kind) => reader.skip(kind, MAX_STRUCT_DEPTH, false)?,
        }
    }
    Ok(unpacked)
}

/// Checks the counts of a page header, which are its first three fields.
fn values(reader: &mut CompactReader<'_>) -> Result<(), String> {
    let mut last = 0;
    while let Some((number, kind)) = reader.field(&mut last)? {
        match (number, kind) {
            (1..=3, 5) => {
                let count = reader.signed()?;
                if !(0..=MAX_PAGE_VALUES).contains(&count) {
                    return Err(format!("a page announces {count} values; the limit is {MAX_PAGE_VALUES}"));
                }
            }
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

    #[test]
    fn depth_is_bounded() {
        assert_eq!(check_footer(&deep_footer(60)), Ok(()));
        assert!(check_footer(&deep_footer(100)).unwrap_err().contains("deeper"));
    }

    #[test]
    fn announced_sizes_are_checked_against_the_bytes() {
        // A list that announces 2^31 structures and has no bytes for them.
        let list = [0x15, 0x02, 0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00];
        assert!(check_footer(&list).unwrap_err().contains("announces"));
        assert!(check_footer(&[0x15]).unwrap_err().contains("truncated"));
        // Page header: type 0, uncompressed size 2^30, compressed 10.
        let page = [0x15, 0x00, 0x15, 0x80, 0x80, 0x80, 0x80, 0x08, 0x15, 0x14, 0x00];
        assert!(check_page(&page).unwrap_err().contains("unpack"));
        assert_eq!(check_page(&[0x15, 0x00, 0x15, 0x14, 0x15, 0x14, 0x00]), Ok(10));
        // The same with a data page header that announces 2^30 values.
        let many = [0x15, 0x00, 0x15, 0x14, 0x15, 0x14, 0x2C, 0x15, 0x80, 0x80, 0x80, 0x80, 0x08, 0x00, 0x00];
        assert!(check_page(&many).unwrap_err().contains("values"));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let _ = (check_footer(&bytes), check_page(&bytes));
        }

        #[test]
        fn a_cut_footer_is_refused(cut in 1usize..60) {
            let whole = deep_footer(10);
            prop_assert!(check_footer(&whole[..whole.len() - cut]).is_err());
        }
    }
}
