//! Reads the fields of one packet. Every function returns `None` if the packet ends too early, and nothing is allocated
//! from a length that the server announces.
//!
//! The data types are described in the MySQL Internals Manual, "Protocol Basics".

/// The unread part of one packet.
#[derive(Clone, Copy, Debug)]
pub struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    #[must_use]
    pub fn new(payload: &'a [u8]) -> FieldReader<'a> {
        FieldReader { rest: payload }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that were not read yet.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    /// An unsigned integer of `width` bytes, least significant byte first. `width` is at most 8.
    pub fn integer(&mut self, width: usize) -> Option<u64> {
        let bytes = self.bytes(width)?;
        Some(bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// A length-encoded integer. Returns `None` also for the first bytes 0xFB (NULL) and 0xFF (an error).
    pub fn length_encoded(&mut self) -> Option<u64> {
        match self.byte()? {
            byte @ 0..=0xFA => Some(u64::from(byte)),
            0xFC => self.integer(2),
            0xFD => self.integer(3),
            0xFE => self.integer(8),
            _ => None,
        }
    }

    /// The bytes up to the next NUL, which is consumed too.
    pub fn until_nul(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Some(text)
    }

    /// One value of a row. The inner `None` stands for NULL.
    pub fn value(&mut self) -> Option<Option<&'a [u8]>> {
        if self.rest.first() == Some(&0xFB) {
            self.bytes(1)?;
            return Some(None);
        }
        let length = usize::try_from(self.length_encoded()?).ok()?;
        self.bytes(length).map(Some)
    }
}

/// Appends a length-encoded integer.
pub fn put_length(out: &mut Vec<u8>, value: usize) {
    let bytes = (value as u64).to_le_bytes();
    let width = match value {
        0..=0xFA => 0,
        0xFB..=0xFFFF => 2,
        0x1_0000..=0xFF_FFFF => 3,
        _ => 8,
    };
    match width {
        0 => out.extend(bytes.iter().take(1)),
        2 => out.push(0xFC),
        3 => out.push(0xFD),
        _ => out.push(0xFE),
    }
    out.extend(bytes.iter().take(width));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_that_exceeds_the_packet_is_refused() {
        for packet in [&[0xFE, 0, 0, 0, 0, 0, 0x10, 0, 0][..], &[0xFC, 1], &[5, b'a'], &[0xFF], &[]] {
            assert_eq!(FieldReader::new(packet).value(), None, "{packet:?}");
        }
        assert_eq!(FieldReader::new(&[0xFB]).value(), Some(None));
        assert_eq!(FieldReader::new(&[0]).value(), Some(Some(&[][..])));
    }

    proptest! {
        #[test]
        fn a_written_length_is_read_again(value in 0..=usize::MAX / 2) {
            let mut out = Vec::new();
            put_length(&mut out, value);
            let mut fields = FieldReader::new(&out);
            prop_assert_eq!(fields.length_encoded(), Some(value as u64));
            prop_assert!(fields.is_empty());
        }

        #[test]
        fn any_packet_can_be_read(packet in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut fields = FieldReader::new(&packet);
            while fields.value().is_some() {}
            let mut fields = FieldReader::new(&packet);
            while fields.until_nul().is_some() {}
        }
    }
}
