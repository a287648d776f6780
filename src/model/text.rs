//! Helpers for texts that people read.

use std::borrow::Cow;

/// Returns a count with its noun: `1 connection`, `2 connections`. The plural is formed by appending `s`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Whether a character changes how a terminal or a page shows the text around it without being visible itself: control
/// characters, the marks and overrides of the writing direction, and characters of no width.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            // Soft hyphen, combining grapheme joiner, Arabic letter mark, Hangul and Khmer fillers.
            0xAD | 0x34F | 0x61C | 0x115F | 0x1160 | 0x17B4 | 0x17B5
            // Mongolian variation selectors; zero width space to right-to-left mark; line and paragraph separators; bidi
            // embeddings and overrides; word joiner to bidi isolates and deprecated format characters.
            | 0x180B..=0x180F | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F
            // Hangul filler, zero width no-break space, interlinear annotations, tag characters.
            | 0x3164 | 0xFEFF | 0xFFA0 | 0xFFF9..=0xFFFB | 0xE0000..=0xE007F
        )
}

/// Returns `text` with every unprintable character escaped as `\u{…}`. With `keep_lines`, line feeds stay, for texts of
/// several lines.
#[must_use]
pub fn printable(text: &str, keep_lines: bool) -> Cow<'_, str> {
    let keep = |c: char| !is_unprintable(c) || (keep_lines && c == '\n');
    if text.chars().all(keep) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if keep(c) => out.push(c),
            c => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::{counted, printable};

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(printable("zwölf 漢字 ≥ →", false), "zwölf 漢字 ≥ →");
        assert_eq!(printable("a\u{1b}[31mred\r\nb", false), "a\\u{1b}[31mred\\u{d}\\u{a}b");
        assert_eq!(printable("a\nb\u{9b}2J", true), "a\nb\\u{9b}2J");
        for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{200f}', '\u{feff}', '\u{e0041}', '\u{2028}'] {
            assert!(!printable(&hidden.to_string(), false).contains(hidden), "{hidden:?}");
        }
    }

    #[test]
    fn only_one_is_singular() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "row")), ["0 rows", "1 row", "2 rows"]);
    }
}
