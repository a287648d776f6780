//! Long secrets, such as keys and tokens, in a text. This module is pure.
//!
//! An automaton of all forms of a secret of many kilobytes takes seconds to build. Only the beginning of a long secret is
//! prepared. Where it is found, the rest is compared step by step with the forms of the parts that follow.

use super::forms;

/// From this length on, in bytes, a secret is long.
pub const LONG_BYTES: usize = 512;

/// The length of a part in bytes. It is a multiple of the groups of base64 (three bytes) and base32 (five bytes), so that all
/// parts of a secret begin at the same place of a group.
const PART_BYTES: usize = 60;

/// The number of characters between two parts that belong to both, in base64 and base32.
const MAX_SHARED_CHARS: usize = 2;

/// The number of equal characters from which on a text shows the next part.
const MIN_COMMON_CHARS: usize = 4;

/// Returns the beginning of a long secret, by which it is found, or the whole of a short one.
#[must_use]
pub fn head(value: &str) -> &str {
    if value.len() < LONG_BYTES { value } else { split(value).0 }
}

/// Returns where the text that shows a secret ends, if `text` shows its head up to `end`, in any form. `rest` is what follows
/// the head in the secret. A secret that was cut is followed to where it was cut.
#[must_use]
pub fn end_of(text: &[u8], mut end: usize, mut rest: &str) -> usize {
    while !rest.is_empty() {
        let (part, after) = split(rest);
        let forms = forms::all(part);
        let shown = |shared: usize| {
            let text = text.get(end + shared..).unwrap_or_default();
            let longest = forms.iter().map(|form| common(text, form.as_bytes())).max().unwrap_or(0);
            (longest >= MIN_COMMON_CHARS).then_some((longest, shared))
        };
        let best = (0..=MAX_SHARED_CHARS).filter_map(shown).max_by_key(|(length, shared)| (*length, MAX_SHARED_CHARS - shared));
        let Some((length, shared)) = best else { break };
        end += shared + length;
        // Every form is at least as long as the part, except for characters that it shares with the next one.
        if length + MAX_SHARED_CHARS < part.len() {
            break;
        }
        rest = after;
    }
    end.min(text.len())
}

/// Splits off the first part, at the boundary of a character. The last part may be longer, so that no part is too short to be
/// recognized.
fn split(value: &str) -> (&str, &str) {
    if value.len() < 2 * PART_BYTES {
        return (value, "");
    }
    let at = (0..=PART_BYTES.min(value.len())).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
    value.split_at(at)
}

/// The number of bytes that are equal, without regard to case.
fn common(text: &[u8], form: &[u8]) -> usize {
    text.iter().zip(form).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    /// A secret of `length` bytes whose parts differ.
    fn secret(length: usize) -> String {
        (0..).map(|n| format!("{n:x}~Zq/")).flat_map(|text| text.chars().collect::<Vec<_>>()).take(length).collect()
    }

    fn scrubbed(value: &str, text: &str) -> String {
        let store = std::sync::Arc::<super::super::known::Store>::default();
        let known = store.learn(value);
        assert!(known.is_some());
        let mut clean = text.to_string();
        let mut found = store.find(text);
        found.sort_by_key(|range| std::cmp::Reverse(range.start));
        let mut last = usize::MAX;
        for range in found {
            let end = range.end.min(last);
            if range.start < end {
                clean.replace_range(range.start..end, "*");
                last = range.start;
            }
        }
        clean
    }

    #[test]
    fn a_long_secret_is_found_as_a_whole_in_every_form() {
        for length in [512, 513, 600, 640, 4096] {
            let value = secret(length);
            for form in forms::all(&value) {
                let clean = scrubbed(&value, &format!("<{form}>"));
                assert!(clean.len() <= form.len() / 8, "{length}: {} of {} bytes are left: {clean}", clean.len(), form.len());
                assert!(clean.starts_with('<') && clean.ends_with('>'), "{length}: {clean}");
            }
            for user in ["", "u", "us", "use"] {
                let basic = STANDARD.encode(format!("{user}:{value}:more"));
                let clean = scrubbed(&value, &basic);
                assert!(clean.len() <= 24, "{length} {user}: {clean}");
            }
            let cut = format!("said: {}...", &value[..length - 50]);
            let clean = scrubbed(&value, &cut);
            assert!(clean.starts_with("said: *") && clean.ends_with("...") && clean.len() < 16, "{clean}");
        }
    }

    #[test]
    fn what_is_prepared_for_a_secret_grows_with_its_lines_only() {
        let store = std::sync::Arc::<super::super::known::Store>::default();
        let one_line = secret(64 << 10);
        let prepared = store.learn(&one_line).map(|known| known.pattern_bytes());
        assert!(prepared.is_some_and(|bytes| bytes < 16 << 10), "{prepared:?}");
        let lines: String = (0..1090).map(|n| format!("{n:05}{}\n", "aZ09+/".repeat(9))).collect();
        assert!(forms::values(&lines).len() <= 2, "a value of many lines is not learned line by line");
        let lines = forms::many_lines(&lines).unwrap();
        let prepared = store.learn_lines(&lines).map(|known| known.pattern_bytes());
        assert!(prepared.is_some_and(|bytes| bytes <= lines.len()), "{prepared:?}");
    }
}
