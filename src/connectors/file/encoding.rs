//! Recognises the encoding of a text file and converts it to UTF-8.
//!
//! A byte order mark decides. Without one, the positions of the zero bytes show UTF-16 and UTF-32. Bytes that are not
//! UTF-8 are in an older encoding, which `chardetng`, the detector of Firefox, guesses from the frequency of letters.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use std::borrow::Cow;

/// The number of bytes that the decision is based on.
const MAX_DETECTION_BYTES: usize = 64 << 10;

/// How characters are written as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    Utf8,
    Utf16Le,
    Utf16Be,
    Utf32Le,
    Utf32Be,
    /// One of the encodings of the WHATWG standard, for example windows-1252.
    Legacy(&'static encoding_rs::Encoding),
}

/// The encoding of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextEncoding {
    pub charset: Charset,
    /// The bytes of the byte order mark.
    pub mark: usize,
    /// Whether the encoding was guessed, because nothing in the file proves it.
    pub guessed: bool,
}

impl Charset {
    /// The name of the encoding for evidence and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Charset::Utf8 => "UTF-8",
            Charset::Utf16Le => "UTF-16LE",
            Charset::Utf16Be => "UTF-16BE",
            Charset::Utf32Le => "UTF-32LE",
            Charset::Utf32Be => "UTF-32BE",
            Charset::Legacy(encoding) => encoding.name(),
        }
    }

    /// The bytes of UTF-8 that one byte may become at most.
    #[must_use]
    pub fn growth(self) -> u64 {
        match self {
            // Only a byte that is not valid grows, to a replacement character.
            Charset::Utf8 | Charset::Legacy(_) => 3,
            Charset::Utf16Le | Charset::Utf16Be => 2,
            Charset::Utf32Le | Charset::Utf32Be => 1,
        }
    }

    /// The number of bytes of the smallest unit.
    fn unit(self) -> usize {
        match self {
            Charset::Utf16Le | Charset::Utf16Be => 2,
            Charset::Utf32Le | Charset::Utf32Be => 4,
            Charset::Utf8 | Charset::Legacy(_) => 1,
        }
    }
}

/// Determines the encoding of a file that begins with `head`. Returns `None` if the bytes are not text.
#[must_use]
pub fn detect(head: &[u8]) -> Option<TextEncoding> {
    // The mark of UTF-32LE begins with the mark of UTF-16LE, so the longer marks come first.
    const MARKS: [(&[u8], Charset); 5] = [
        (b"\xFF\xFE\0\0", Charset::Utf32Le),
        (b"\0\0\xFE\xFF", Charset::Utf32Be),
        (b"\xEF\xBB\xBF", Charset::Utf8),
        (b"\xFF\xFE", Charset::Utf16Le),
        (b"\xFE\xFF", Charset::Utf16Be),
    ];
    if let Some((mark, charset)) = MARKS.iter().find(|(mark, _)| head.starts_with(mark)) {
        return Some(TextEncoding { charset: *charset, mark: mark.len(), guessed: false });
    }
    let head = head.get(..MAX_DETECTION_BYTES).unwrap_or(head);
    let unmarked = |charset, guessed| Some(TextEncoding { charset, mark: 0, guessed });
    if head.contains(&0)
        && let Some(charset) = wide(head)
    {
        return unmarked(charset, true);
    }
    let controls = head.iter().filter(|byte| is_binary_control(**byte)).count();
    let utf8 = Utf8Count::new(head);
    if head.contains(&0) && (controls > 0 || utf8.invalid > 0) || controls.saturating_mul(20) > head.len() {
        return None;
    }
    // A file that is mostly UTF-8 is read as UTF-8, with replacement characters where it is damaged.
    if utf8.invalid == 0 || utf8.sequences > utf8.invalid {
        return unmarked(Charset::Utf8, false);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(head, true);
    unmarked(Charset::Legacy(detector.guess(None, Utf8Detection::Deny)), true)
}

/// Whether the control character does not occur in text files. Tabs, line ends, form feeds, the end mark of DOS (0x1A)
/// and escape do; a zero is judged separately.
fn is_binary_control(byte: u8) -> bool {
    matches!(byte, 1..=8 | 0x0E..=0x19 | 0x1C..=0x1F | 0x7F)
}

/// How much of a text is UTF-8 beyond ASCII, and how much is not UTF-8.
struct Utf8Count {
    sequences: usize,
    invalid: usize,
}

impl Utf8Count {
    fn new(bytes: &[u8]) -> Utf8Count {
        let mut count = Utf8Count { sequences: 0, invalid: 0 };
        let chunks = bytes.utf8_chunks();
        for chunk in chunks {
            count.sequences += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
            // A character that the end of `bytes` cuts is the beginning of a valid one.
            let cut = chunk.invalid().as_ptr_range().end == bytes.as_ptr_range().end
                && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            count.invalid += usize::from(!chunk.invalid().is_empty() && !cut);
        }
        count
    }
}

/// Recognises UTF-16 and UTF-32 without a byte order mark. ASCII characters leave zeros in fixed positions.
fn wide(head: &[u8]) -> Option<Charset> {
    let mut zeros = [0usize; 4];
    for (at, _) in head.iter().enumerate().filter(|(_, byte)| **byte == 0) {
        if let Some(count) = zeros.get_mut(at % 4) {
            *count += 1;
        }
    }
    let [a, b, c, d] = zeros;
    let characters = head.len() / 4;
    // The highest byte of every UTF-32 character is zero, and the next one is zero in all but a few.
    let mostly = |zeros: usize| zeros * 10 >= characters * 9;
    if characters > 0 && d >= characters && mostly(c) {
        return Some(Charset::Utf32Le);
    }
    if characters > 0 && a >= characters && mostly(b) {
        return Some(Charset::Utf32Be);
    }
    let total = a + b + c + d;
    // Text in UTF-8 with some zeros in its cells has fewer of them than a text whose every second byte is zero. A text
    // that is not UTF-8 either needs only as many as its delimiters and line ends leave.
    let utf8 = Utf8Count::new(head).invalid == 0;
    let enough = if utf8 { total * 5 >= head.len() * 2 } else { total * 40 >= head.len() };
    // Characters such as U+4E00 have their zero at the other position.
    let charset = match (a + c, b + d) {
        (even, odd) if odd > even * 3 => Charset::Utf16Le,
        (even, odd) if even > odd * 3 => Charset::Utf16Be,
        _ => return None,
    };
    let (text, replaced) = decode(head, TextEncoding { charset, mark: 0, guessed: true });
    let clean = !replaced && !text.iter().any(|byte| *byte == 0 || is_binary_control(*byte));
    (enough && clean).then_some(charset)
}

/// Converts `bytes`, which begin at the start of the file, to UTF-8 without a byte order mark. A character that the end
/// of `bytes` cuts is left out. The flag says whether a character had to be replaced by U+FFFD.
#[must_use]
pub fn decode(bytes: &[u8], encoding: TextEncoding) -> (Cow<'_, [u8]>, bool) {
    let bytes = bytes.get(encoding.mark..).unwrap_or_default();
    let bytes = bytes.get(..bytes.len() - bytes.len() % encoding.charset.unit()).unwrap_or_default();
    let with = |encoding: &'static encoding_rs::Encoding| {
        let (text, replaced) = encoding.decode_without_bom_handling(bytes);
        (Cow::Owned(text.into_owned().into_bytes()), replaced)
    };
    match encoding.charset {
        Charset::Utf8 => {
            let cut = std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none());
            let whole = bytes.len() - if cut { bytes.len() - valid_up_to(bytes) } else { 0 };
            let bytes = bytes.get(..whole).unwrap_or_default();
            match String::from_utf8_lossy(bytes) {
                Cow::Borrowed(text) => (Cow::Borrowed(text.as_bytes()), false),
                Cow::Owned(text) => (Cow::Owned(text.into_bytes()), true),
            }
        }
        Charset::Utf16Le => {
            // Half of a surrogate pair at the end is a cut character.
            let high = bytes.last().is_some_and(|byte| (0xD8..0xDC).contains(byte));
            let keep = bytes.len() - if high { 2 } else { 0 };
            let (text, replaced) = encoding_rs::UTF_16LE.decode_without_bom_handling(bytes.get(..keep).unwrap_or_default());
            (Cow::Owned(text.into_owned().into_bytes()), replaced)
        }
        Charset::Utf16Be => with(encoding_rs::UTF_16BE),
        Charset::Utf32Le | Charset::Utf32Be => utf32(bytes, encoding.charset == Charset::Utf32Le),
        Charset::Legacy(encoding) => with(encoding),
    }
}

fn valid_up_to(bytes: &[u8]) -> usize {
    std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len)
}

/// `encoding_rs` implements the WHATWG standard, which does not include UTF-32.
fn utf32(bytes: &[u8], little_endian: bool) -> (Cow<'_, [u8]>, bool) {
    let mut text = String::with_capacity(bytes.len() / 4);
    let mut replaced = false;
    for unit in bytes.as_chunks::<4>().0 {
        let code = if little_endian { u32::from_le_bytes(*unit) } else { u32::from_be_bytes(*unit) };
        let character = char::from_u32(code);
        replaced |= character.is_none();
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    (Cow::Owned(text.into_bytes()), replaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utf16(text: &str, little_endian: bool) -> Vec<u8> {
        let units = text.encode_utf16();
        units.flat_map(|unit| if little_endian { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    }

    fn utf32(text: &str, little_endian: bool) -> Vec<u8> {
        let codes = text.chars().map(u32::from);
        codes.flat_map(|code| if little_endian { code.to_le_bytes() } else { code.to_be_bytes() }).collect()
    }

    fn read(bytes: &[u8]) -> (String, &'static str, bool) {
        let encoding = detect(bytes).unwrap();
        let (text, _) = decode(bytes, encoding);
        (String::from_utf8(text.into_owned()).unwrap(), encoding.charset.as_str(), encoding.guessed)
    }

    #[test]
    fn encodings_are_recognised_with_and_without_a_mark() {
        let text = "id,stadt\n1,Köln\n2,Łódź 🙂\n";
        for (little, name16, name32) in [(true, "UTF-16LE", "UTF-32LE"), (false, "UTF-16BE", "UTF-32BE")] {
            let marked = format!("\u{FEFF}{text}");
            assert_eq!(read(&utf16(&marked, little)), (text.to_owned(), name16, false));
            assert_eq!(read(&utf16(text, little)), (text.to_owned(), name16, true));
            assert_eq!(read(&utf32(&marked, little)), (text.to_owned(), name32, false));
            assert_eq!(read(&utf32(text, little)), (text.to_owned(), name32, true));
        }
        assert_eq!(read(text.as_bytes()), (text.to_owned(), "UTF-8", false));
        assert_eq!(read(format!("\u{FEFF}{text}").as_bytes()), (text.to_owned(), "UTF-8", false));
        let chinese = "姓名,年龄\n张三丰,二十\n李四,三十一\n";
        assert_eq!(read(&utf16(chinese, true)), (chinese.to_owned(), "UTF-16LE", true));
    }

    #[test]
    fn older_encodings_are_guessed() {
        assert_eq!(read(b"id;stra\xDFe;gr\xF6\xDFe\n1;a;2\n").0, "id;straße;größe\n1;a;2\n");
        assert_eq!(read(b"name,price\ncaf\xE9,5 \x80\n").0, "name,price\ncafé,5 €\n");
        let (russian, _, _) = encoding_rs::WINDOWS_1251.encode("имя,город\nАлексей,Москва\nОльга,Новосибирск\n");
        assert_eq!(read(&russian).1, "windows-1251");
        let (japanese, _, _) = encoding_rs::SHIFT_JIS.encode("名前,都市\n山田太郎,東京都千代田区\n鈴木花子,大阪府大阪市\n");
        assert_eq!(read(&japanese).1, "Shift_JIS");
        assert_eq!(read("Köln, Düsseldorf, Göttingen \u{FFFD}".as_bytes()).1, "UTF-8");
        let damaged = ["Köln, Düsseldorf, ".as_bytes(), b"G\xF6ttingen"].concat();
        assert_eq!(read(&damaged), ("Köln, Düsseldorf, G\u{FFFD}ttingen".to_owned(), "UTF-8", false));
    }

    #[test]
    fn zeros_in_cells_are_text_and_binary_data_is_not() {
        assert_eq!(read(b"x,y\ntest,Reg\n\0\0\0,Reg\nI,Swp\n").1, "UTF-8");
        assert_eq!(read(b"a\0b,c\nd,e\n").1, "UTF-8");
        assert_eq!(detect(b"\x7FELF\x02\x01\x01\0\0\0\0\0"), None);
        assert_eq!(detect(&[7, 0, 200, 3, 1, 0, 0, 90, 255, 4]), None);
        assert_eq!(detect(&[1, 2, 3, 4, b'a']), None);
    }

    #[test]
    fn a_character_that_is_cut_is_left_out() {
        let text = "a,ü";
        let utf8 = TextEncoding { charset: Charset::Utf8, mark: 0, guessed: false };
        assert_eq!(decode(&text.as_bytes()[..3], utf8), (Cow::Borrowed(b"a,".as_slice()), false));
        assert_eq!(detect(&"stadt,straße".as_bytes()[..11]).unwrap().charset, Charset::Utf8);
        let utf16le = TextEncoding { charset: Charset::Utf16Le, mark: 0, guessed: true };
        let bytes = utf16("a🙂", true);
        for cut in [3, 4, 5] {
            assert_eq!(decode(&bytes[..cut], utf16le), (Cow::Borrowed(b"a".as_slice()), false), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_become_utf8(bytes: Vec<u8>) {
            if let Some(encoding) = detect(&bytes) {
                prop_assert!(String::from_utf8(decode(&bytes, encoding).0.into_owned()).is_ok());
            }
        }

        #[test]
        fn utf8_is_read_as_it_is(text in "[a-zA-Z0-9äöüß,;\"\n ]{0,60}") {
            prop_assert_eq!(read(text.as_bytes()).0, text);
        }
    }
}
