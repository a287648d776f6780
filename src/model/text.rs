//! Helpers for texts that people read.

/// Returns a count with its noun: `1 connection`, `2 connections`. The plural is formed by appending `s`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
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
    use super::{counted, matches_glob};

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
