//! Scans sources for undeclared debt: ignored tests, hard-coded secrets, relaxed TLS, unfinished code.

use serde::Serialize;
use std::fmt;

/// A suspicious line. Its text is left out, because it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UndeclaredDebt {
    pub file: String,
    pub line: usize,
    pub kind: &'static str,
}

impl fmt::Display for UndeclaredDebt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}", self.kind, self.file, self.line)
    }
}

impl UndeclaredDebt {
    /// Whether a row of DEBT.md declares this line as `file:line`.
    #[must_use]
    pub fn declared_by(&self, row: &str) -> bool {
        let position = format!("{}:{}", self.file, self.line);
        // A further digit would make it another line.
        row.match_indices(&position).any(|(at, _)| !row[at + position.len()..].starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// The patterns are split in two, so that the scan does not find them in this file.
const PATTERNS: [(&str, &str, &str); 12] = [
    ("#[ign", "ore", "ignored test"),
    ("@unittest.sk", "ip", "ignored test"),
    ("pytest.mark.sk", "ip", "ignored test"),
    ("tod", "o!(", "unfinished code"),
    ("unimple", "mented!(", "unfinished code"),
    ("danger_accept_", "invalid", "relaxed TLS"),
    ("tls_danger_", "accept", "relaxed TLS"),
    ("verify=", "False", "relaxed TLS"),
    ("rejectUnauthor", "ized: false", "relaxed TLS"),
    ("NODE_TLS_REJECT_", "UNAUTHORIZED=0", "relaxed TLS"),
    ("insecure_skip_", "verify: true", "relaxed TLS"),
    ("curl ", "-k ", "relaxed TLS"),
];

/// Prefixes of well-known secrets, and the minimum number of characters that follow.
const SECRETS: [(&str, &str, usize); 10] = [
    ("AK", "IA", 16),
    ("AS", "IA", 16),
    ("gh", "p_", 30),
    ("github_", "pat_", 30),
    ("xo", "xb-", 20),
    ("xo", "xp-", 20),
    ("gl", "pat-", 18),
    ("sk_", "live_", 16),
    ("AI", "za", 30),
    ("-----BEGIN ", "PRIVATE KEY", 0),
];

/// Scans one file; `name` is its path for the report.
#[must_use]
pub fn scan(name: &str, text: &str) -> Vec<UndeclaredDebt> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut found = |kind| findings.push(UndeclaredDebt { file: name.to_string(), line: number + 1, kind });
        for (first, second, kind) in PATTERNS {
            if contains(line, first, second) && !line.trim_start().starts_with("//") {
                found(kind);
            }
        }
        if SECRETS.iter().any(|(first, second, length)| secret(line, &format!("{first}{second}"), *length)) {
            found("hard-coded secret");
        }
    }
    findings
}

fn contains(line: &str, first: &str, second: &str) -> bool {
    line.match_indices(first).any(|(at, _)| line[at + first.len()..].starts_with(second))
}

/// Whether `line` contains `prefix` followed by at least `length` characters of a token. A placeholder that repeats
/// one letter has too few different characters and does not count.
fn secret(line: &str, prefix: &str, length: usize) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let rest: String =
            line[at + prefix.len()..].chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
        let variety: std::collections::BTreeSet<char> = rest.chars().collect();
        let starts_word = !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        starts_word && rest.len() >= length && (length == 0 || variety.len() >= 6)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_is_found() {
        for (first, second, kind) in PATTERNS {
            let findings = scan("a", &format!("  {first}{second}\n"));
            assert_eq!(findings.first().map(|finding| finding.kind), Some(kind), "{first}{second}");
        }
    }

    #[test]
    fn a_token_is_found_and_a_placeholder_is_not() {
        let token: String = "abcdefghijklmnopqrstuvwxyz0123456789".chars().collect();
        assert_eq!(scan("a", &format!("x = \"{}{}{token}\"", "gh", "p_")).len(), 1);
        assert_eq!(scan("a", &format!("x = \"{}{}{}\"", "gh", "p_", "x".repeat(36))).len(), 0);
        assert_eq!(scan("a", "the prefix alone: AKIA").len(), 0);
    }
}
