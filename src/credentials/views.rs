//! Decoded views of a text, in which a secret is found although the text escapes it, once or several times. This module is
//! pure.
//!
//! Percent encoding, the escapes of JSON and of programming languages, and HTML entities are undone in rounds, so that
//! nested encodings are seen through. Line breaks are left out, because encoders wrap long lines.

use std::ops::Range;

/// The number of nested encodings that are undone.
const MAX_ROUNDS: usize = 4;

/// A decoded text. Each of its bytes knows the bytes of the original text that it stands for.
struct View {
    bytes: Vec<u8>,
    origin: Vec<(u32, u32)>,
}

/// Calls `search` with each view of `text` and returns the ranges that it finds, as ranges of `text`.
pub fn find(text: &str, mut search: impl FnMut(&[u8], &mut Vec<Range<usize>>)) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    search(text.as_bytes(), &mut found);
    if !text.bytes().any(is_special) || u32::try_from(text.len()).is_err() {
        return found;
    }
    let mut view = View::new(text);
    for round in 0..=MAX_ROUNDS {
        if round > 0 {
            let Some(next) = view.decoded() else { break };
            view = next;
            view.search(&mut search, &mut found);
        }
        if let Some(joined) = view.without_line_breaks() {
            joined.search(&mut search, &mut found);
        }
    }
    found
}

/// Whether a text with this byte has other views than itself.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&' | b'\n' | b'\r')
}

impl View {
    fn new(text: &str) -> View {
        let origin = (0..text.len()).map(|at| (at as u32, at as u32 + 1)).collect();
        View { bytes: text.as_bytes().to_vec(), origin }
    }

    fn search(&self, search: &mut impl FnMut(&[u8], &mut Vec<Range<usize>>), found: &mut Vec<Range<usize>>) {
        let mut here = Vec::new();
        search(&self.bytes, &mut here);
        found.extend(here.into_iter().filter_map(|range| {
            let first = self.origin.get(range.start)?;
            let last = self.origin.get(range.end.checked_sub(1)?)?;
            Some(first.0 as usize..last.1 as usize)
        }));
    }

    fn with_capacity(capacity: usize) -> View {
        View { bytes: Vec::with_capacity(capacity), origin: Vec::with_capacity(capacity) }
    }

    fn push(&mut self, bytes: &[u8], origin: (u32, u32)) {
        self.bytes.extend_from_slice(bytes);
        self.origin.extend(bytes.iter().map(|_| origin));
    }

    /// The range of the original text that the bytes `range` stand for.
    fn origin_of(&self, range: Range<usize>) -> (u32, u32) {
        let first = self.origin.get(range.start).map_or(0, |origin| origin.0);
        let last = self.origin.get(range.end.saturating_sub(1)).map_or(first, |origin| origin.1);
        (first, last)
    }

    /// Undoes one level of escapes. Returns `None` if there is none.
    fn decoded(&self) -> Option<View> {
        let mut out = View::with_capacity(self.bytes.len());
        let (mut at, mut changed) = (0, false);
        while let Some(byte) = self.bytes.get(at) {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let escape = match byte {
                b'%' => percent(rest),
                b'\\' => backslash(rest),
                b'&' => entity(rest),
                _ => None,
            };
            match escape {
                Some((length, decoded)) => {
                    let origin = self.origin_of(at..at + length);
                    out.push(decoded.as_bytes(), origin);
                    (at, changed) = (at + length, true);
                }
                None => {
                    out.push(&[*byte], self.origin_of(at..at + 1));
                    at += 1;
                }
            }
        }
        changed.then_some(out)
    }

    /// Leaves out line breaks, escaped line breaks and the spaces after them. Returns `None` if there is none.
    fn without_line_breaks(&self) -> Option<View> {
        let mut out = View::with_capacity(self.bytes.len());
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            let next = self.bytes.get(at + 1);
            let length = match byte {
                b'\n' | b'\r' => 1,
                b'\\' if matches!(next, Some(b'n' | b'r')) => 2,
                _ => 0,
            };
            if length == 0 {
                out.push(&[*byte], self.origin_of(at..at + 1));
                at += 1;
                continue;
            }
            at += length;
            while matches!(self.bytes.get(at), Some(b' ' | b'\t')) {
                at += 1;
            }
        }
        (out.bytes.len() < self.bytes.len()).then_some(out)
    }
}

/// What an escape decodes to: at most the four bytes of a character.
struct Decoded([u8; 4], usize);

impl Decoded {
    fn byte(byte: u8) -> Decoded {
        Decoded([byte, 0, 0, 0], 1)
    }

    fn character(c: char) -> Decoded {
        let mut bytes = [0; 4];
        let length = c.encode_utf8(&mut bytes).len();
        Decoded(bytes, length)
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

fn hex(digits: &[u8], length: usize) -> Option<u32> {
    let digits = digits.get(..length)?;
    digits.iter().try_fold(0u32, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

/// `%41`.
fn percent(text: &[u8]) -> Option<(usize, Decoded)> {
    let value = hex(text.get(1..)?, 2)?;
    Some((3, Decoded::byte(u8::try_from(value).ok()?)))
}

/// `\u0041`, `\u{41}`, `\x41`, and a backslash before a character that it escapes.
fn backslash(text: &[u8]) -> Option<(usize, Decoded)> {
    match text.get(1)? {
        b'u' if text.get(2) == Some(&b'{') => {
            let digits = text.get(3..)?.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let c = char::from_u32(hex(text.get(3..)?, digits.min(7))?)?;
            (digits > 0 && text.get(3 + digits) == Some(&b'}')).then(|| (4 + digits, Decoded::character(c)))
        }
        b'u' | b'U' => {
            let first = hex(text.get(2..)?, 4)?;
            // A character beyond the basic plane is written as two escapes.
            if (0xD800..0xDC00).contains(&first) && text.get(6..8).is_some_and(|next| next.eq_ignore_ascii_case(b"\\u")) {
                let second = hex(text.get(8..)?, 4)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                let c = char::from_u32(0x10000 + ((first - 0xD800) << 10) + second)?;
                return Some((12, Decoded::character(c)));
            }
            Some((6, Decoded::character(char::from_u32(first)?)))
        }
        b'x' => Some((4, Decoded::byte(u8::try_from(hex(text.get(2..)?, 2)?).ok()?))),
        byte @ (b'\\' | b'"' | b'\'' | b'/') => Some((2, Decoded::byte(*byte))),
        b't' => Some((2, Decoded::byte(b'\t'))),
        _ => None,
    }
}

/// `&#65;`, `&#x41;` and the named entities that encoders write.
fn entity(text: &[u8]) -> Option<(usize, Decoded)> {
    const NAMED: [(&[u8], u8); 7] = [
        (b"&amp;", b'&'),
        (b"&lt;", b'<'),
        (b"&gt;", b'>'),
        (b"&quot;", b'"'),
        (b"&apos;", b'\''),
        (b"&sol;", b'/'),
        (b"&plus;", b'+'),
    ];
    if text.get(1) != Some(&b'#') {
        let starts = |name: &[u8]| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        return NAMED.iter().find(|(name, _)| starts(name)).map(|(name, byte)| (name.len(), Decoded::byte(*byte)));
    }
    let is_hex = matches!(text.get(2), Some(b'x' | b'X'));
    let start = if is_hex { 3 } else { 2 };
    let digits = text.get(start..)?.iter().take(8).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let number = std::str::from_utf8(text.get(start..start + digits)?).ok()?;
    let value = u32::from_str_radix(number, if is_hex { 16 } else { 10 }).ok()?;
    let semicolon = usize::from(text.get(start + digits) == Some(&b';'));
    Some((start + digits + semicolon, Decoded::character(char::from_u32(value)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn positions(text: &str, secret: &str) -> Vec<String> {
        let find_in = |view: &[u8], found: &mut Vec<Range<usize>>| {
            let hits = view.windows(secret.len()).enumerate().filter(|(_, window)| *window == secret.as_bytes());
            found.extend(hits.map(|(at, _)| at..at + secret.len()));
        };
        find(text, find_in).into_iter().map(|range| text[range].to_string()).collect()
    }

    #[test]
    fn nested_escapes_are_undone() {
        for (text, part) in [
            ("x%2Fpass%20word!", "pass%20word"),
            ("x%2Fpass%2520word!", "pass%2520word"),
            ("x%2Fpass%252520word!", "pass%252520word"),
            (r"a\u0070ass wordz", r"\u0070ass word"),
            (r"a\\u0070ass wordz", r"\\u0070ass word"),
            (r"a\x70ass\u{20}wordz", r"\x70ass\u{20}word"),
            ("&#112;ass&#x20;wor&#100", "&#112;ass&#x20;wor&#100"),
            ("&amp;#112;ass word", "&amp;#112;ass word"),
            ("a pass\r\n  wor\n\td", "pass\r\n  wor\n\td"),
        ] {
            let secret = if text.contains("\r\n") { "password" } else { "pass word" };
            assert!(positions(text, secret).contains(&part.to_string()), "{text}: {:?}", positions(text, secret));
        }
        assert_eq!(positions(r"\uD83D\uDE00 smile", "\u{1F600} smile"), [r"\uD83D\uDE00 smile"]);
        assert!(positions(r"100% of it & more \ \u0zzz &#; &#x;", "zzzzz").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "(\\PC|%|&#?x?|\\\\u?|[0-9a-fA-F;]|\n){0,60}") {
            find(&text, |view, found| found.push(0..view.len()));
        }
    }
}
