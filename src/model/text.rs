//! Helpers for texts that people read.

use std::borrow::Cow;

/// Returns a count with its noun: `1 connection`, `2 connections`. The plural is formed by appending `s`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Returns a duration as its largest unit: `45s`, `12m`, `5h`, `9d`.
#[must_use]
pub fn age(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds @ 7200..=172_799 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Whether `text` consists of lower-case letters, digits and hyphens, as the names of AWS regions do: `eu-central-1`. Other
/// stores have regions such as `auto`.
#[must_use]
pub fn is_region(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 40
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
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

/// Returns `text` with every unprintable character escaped as `\u{…}`, except for those in `keep`.
#[must_use]
pub fn printable<'a>(text: &'a str, keep: &[char]) -> Cow<'a, str> {
    let shown = |c: char| !is_unprintable(c) || keep.contains(&c);
    if text.chars().all(shown) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if shown(c) => out.push(c),
            c => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// Returns a JSON text in which every unprintable character is escaped as JSON does. Such characters occur only inside the
/// strings of a valid JSON text, except for its line feeds.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let shown = |c: char| !is_unprintable(c) || c == '\n';
    if json.chars().all(shown) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            c if shown(c) => out.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    Cow::Owned(out)
}

/// Whether `text` matches `pattern`, in which `*` matches any characters. The time is at most proportional to the product
/// of both lengths.
#[must_use]
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::{counted, matches_glob, printable, printable_json};

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(printable("zwölf 漢字 ≥ →", &[]), "zwölf 漢字 ≥ →");
        assert_eq!(printable("a\u{1b}[31mred\r\nb", &[]), "a\\u{1b}[31mred\\u{d}\\u{a}b");
        assert_eq!(printable("a\nb\u{9b}2J", &['\n']), "a\nb\\u{9b}2J");
        for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{200f}', '\u{feff}', '\u{e0041}', '\u{2028}'] {
            assert!(!printable(&hidden.to_string(), &[]).contains(hidden), "{hidden:?}");
        }
    }

    #[test]
    fn json_stays_json() {
        let value = serde_json::json!({"a\u{202e}b": ["\u{e0041}", "\u{1b}[2J", "ü"]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let escaped = printable_json(&text);
        assert!(escaped.contains("a\\u202eb") && escaped.contains("\\udb40\\udc41") && escaped.contains('ü'), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn globs() {
        for (pattern, text, yes) in [
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c*", "abc", true),
            ("abc", "abc", true),
            ("ab", "abc", false),
            ("*", "", true),
            ("", "a", false),
            ("a*b", "acb", true),
            ("a*b", "acbx", false),
        ] {
            assert_eq!(matches_glob(pattern, text), yes, "{pattern} {text}");
        }
    }

    #[test]
    fn only_one_is_singular() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "row")), ["0 rows", "1 row", "2 rows"]);
    }
}
