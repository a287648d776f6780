//! Text encodings, found by the names that Python uses.

use crate::error::Failed;
use std::borrow::Cow;

/// A text encoding that a decoder can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    /// UTF-8 without its byte order mark.
    Utf8Sig,
    Latin1,
    Windows1252,
    /// UTF-16 in the byte order of its byte order mark, or little endian if it has none.
    Utf16,
    Utf16Le,
    Utf16Be,
    Ascii,
}

/// The characters 0x80 to 0x9f of windows-1252. 0 means that the code page does not have a character at that position.
const WINDOWS_1252: [u16; 32] = [
    0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017d, 0, 0, 0x2018,
    0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
];

impl Encoding {
    /// Finds an encoding by any of its names.
    ///
    /// # Errors
    /// LookupError, as in Python. Encodings that Python knows but this engine does not support are LookupErrors too.
    pub fn parse(name: &str) -> Result<Encoding, Failed> {
        let key: String = name.to_ascii_lowercase().chars().map(|c| if c == '-' || c == ' ' { '_' } else { c }).collect();
        Ok(match key.as_str() {
            "utf_8" | "utf8" | "u8" => Encoding::Utf8,
            "utf_8_sig" | "utf8_sig" => Encoding::Utf8Sig,
            "latin_1" | "latin1" | "latin" | "iso_8859_1" | "iso8859_1" | "8859" | "l1" => Encoding::Latin1,
            "cp1252" | "windows_1252" => Encoding::Windows1252,
            "utf_16" | "utf16" | "u16" => Encoding::Utf16,
            "utf_16_le" | "utf_16le" => Encoding::Utf16Le,
            "utf_16_be" | "utf_16be" => Encoding::Utf16Be,
            "ascii" | "us_ascii" | "646" => Encoding::Ascii,
            _ => return Err(Failed::system("LookupError", format!("unknown encoding: {name}"))),
        })
    }

    /// Decodes `bytes`.
    ///
    /// # Errors
    /// UnicodeDecodeError if the bytes are not valid in this encoding.
    pub fn decode(self, bytes: &[u8]) -> Result<Cow<'_, str>, Failed> {
        match self {
            Encoding::Utf8 => utf8(bytes).map(Cow::Borrowed),
            Encoding::Utf8Sig => utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).map(Cow::Borrowed),
            Encoding::Ascii if bytes.is_ascii() => utf8(bytes).map(Cow::Borrowed),
            Encoding::Ascii => Err(undecodable("ascii", bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(0))),
            Encoding::Latin1 => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
            Encoding::Windows1252 => windows(bytes).map(Cow::Owned),
            Encoding::Utf16 => match bytes {
                [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
                [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
                other => utf16(other, u16::from_le_bytes),
            },
            Encoding::Utf16Le => utf16(bytes, u16::from_le_bytes),
            Encoding::Utf16Be => utf16(bytes, u16::from_be_bytes),
        }
    }
}

fn windows(bytes: &[u8]) -> Result<String, Failed> {
    let char = |(at, byte): (usize, &u8)| match byte {
        0x80..=0x9f => match WINDOWS_1252.get(usize::from(*byte - 0x80)) {
            Some(0) | None => Err(undecodable("charmap", at)),
            Some(unit) => Ok(char::from_u32(u32::from(*unit)).unwrap_or('\u{fffd}')),
        },
        other => Ok(char::from(*other)),
    };
    bytes.iter().enumerate().map(char).collect()
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, str>, Failed> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(undecodable("utf-16", bytes.len() - 1));
    }
    let text = char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<String, _>>();
    text.map(Cow::Owned).map_err(|_| undecodable("utf-16", 0))
}

/// Decodes UTF-8 strictly: an invalid sequence is an error.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Failed> {
    std::str::from_utf8(bytes).map_err(|error| undecodable("utf-8", error.valid_up_to()))
}

fn undecodable(codec: &str, at: usize) -> Failed {
    Failed::system("UnicodeDecodeError", format!("'{codec}' codec can't decode the byte in position {at}"))
}

/// Python's `bytes.splitlines()`, which splits at `\n`, `\r` and `\r\n`.
pub(super) fn lines(bytes: &[u8]) -> Result<Vec<&str>, Failed> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
        let (line, tail) = rest.split_at_checked(end).unwrap_or((rest, b""));
        out.push(utf8(line)?);
        rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
    }
    Ok(out)
}
