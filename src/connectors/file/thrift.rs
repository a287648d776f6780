//! A guard before the Parquet library: it reads the sizes that a file claims, before anybody believes them.
//!
//! The library builds the schema by recursion and reserves memory for the lists and pages that the
//! footer announces. A file of a kilobyte could so end the process. The compact protocol is small
//! enough to be walked here first: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

/// Groups in groups of the schema.
const DEPTH: usize = 64;
/// Structures in structures of the footer.
const NESTING: usize = 32;
/// Bytes that one page may unpack to. Writers make pages of about a megabyte.
const PAGE_BYTES: i64 = 64 << 20;
/// Values that one page may announce.
const PAGE_VALUES: i64 = 16 << 20;

struct Reader<'a> {
    rest: &'a [u8],
}

const STRUCT: u8 = 12;

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let (first, rest) = self.rest.split_first().ok_or("the structure is cut")?;
        self.rest = rest;
        Ok(*first)
    }

    fn skip_bytes(&mut self, count: u64) -> Result<(), String> {
        let count = usize::try_from(count).map_err(|_| "a length is absurd")?;
        self.rest = self.rest.get(count..).ok_or("a length points behind the end")?;
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
        Err("a number has too many bytes".to_owned())
    }

    fn signed(&mut self) -> Result<i64, String> {
        let raw = self.unsigned()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// The next field: its number and type; `None` at the end of the structure.
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

    /// The size and element type of a list. Every element takes a byte at least.
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
            return Err("structures are nested too deep".to_owned());
        }
        match kind {
            // A boolean field has its value in the type; as a list element it takes a byte.
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

    /// One schema element: how many children it announces.
    fn children(&mut self) -> Result<i64, String> {
        let (mut last, mut children) = (0, 0);
        while let Some((number, kind)) = self.field(&mut last)? {
            match (number, kind) {
                (5, 5) => children = self.signed()?,
                (_, kind) => self.skip(kind, NESTING, false)?,
            }
        }
        Ok(children)
    }
}

/// Walks a footer (`FileMetaData`): all lists fit, and the schema is not deep.
///
/// # Errors
/// What is wrong, for the detail of a failure.
pub fn check_footer(bytes: &[u8]) -> Result<(), String> {
    let mut reader = Reader { rest: bytes };
    let mut last = 0;
    while let Some((number, kind)) = reader.field(&mut last)? {
        match (number, kind) {
            (2, 9) => schema(&mut reader)?,
            (_, kind) => reader.skip(kind, NESTING, false)?,
        }
    }
    Ok(())
}

fn schema(reader: &mut Reader<'_>) -> Result<(), String> {
    let (size, kind) = reader.list()?;
    if kind != STRUCT {
        return Err("the schema is no list of structures".to_owned());
    }
    // What every open group still waits for.
    let mut open: Vec<i64> = Vec::new();
    for _ in 0..size {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        let children = reader.children()?;
        if children < 0 || usize::try_from(children).is_ok_and(|children| children > size) {
            return Err(format!("a schema group announces {children} children, the schema has {size} elements"));
        }
        if children > 0 {
            open.push(children);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > DEPTH {
            return Err(format!("the schema is nested deeper than {DEPTH} groups"));
        }
    }
    Ok(())
}

/// Looks at a page header before the page is unpacked.
///
/// # Errors
/// What is wrong, for the detail of a failure.
pub fn check_page(bytes: &[u8]) -> Result<(), String> {
    let mut reader = Reader { rest: bytes };
    let mut last = 0;
    while let Some((number, kind)) = reader.field(&mut last)? {
        match (number, kind) {
            (2, 5) => {
                let size = reader.signed()?;
                if !(0..=PAGE_BYTES).contains(&size) {
                    return Err(format!("a page would unpack to {size} bytes; at most {PAGE_BYTES} are unpacked"));
                }
            }
            (5 | 7 | 8, STRUCT) => values(&mut reader)?,
            (_, kind) => reader.skip(kind, NESTING, false)?,
        }
    }
    Ok(())
}

/// The counts of a page header are its first fields; all of them are held to the bound.
fn values(reader: &mut Reader<'_>) -> Result<(), String> {
    let mut last = 0;
    while let Some((number, kind)) = reader.field(&mut last)? {
        match (number, kind) {
            (1..=3, 5) => {
                let count = reader.signed()?;
                if !(0..=PAGE_VALUES).contains(&count) {
                    return Err(format!("a page announces {count} values; at most {PAGE_VALUES} are read"));
                }
            }
            (_, kind) => reader.skip(kind, NESTING, false)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A schema of `depth` groups in each other, as the compact protocol writes it.
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
    fn announced_sizes_are_held_against_what_is_there() {
        // A list of 2^31 structures in no bytes.
        let list = [0x15, 0x02, 0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00];
        assert!(check_footer(&list).unwrap_err().contains("announces"));
        assert!(check_footer(&[0x15]).unwrap_err().contains("cut"));
        // Page header: type 0, uncompressed size 2^30, compressed 10.
        let page = [0x15, 0x00, 0x15, 0x80, 0x80, 0x80, 0x80, 0x08, 0x15, 0x14, 0x00];
        assert!(check_page(&page).unwrap_err().contains("unpack"));
        assert_eq!(check_page(&[0x15, 0x00, 0x15, 0x14, 0x15, 0x14, 0x00]), Ok(()));
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
