//! A problem in a file or a document, with its position and a hint.

use super::ids::Digest;
use super::text::printable;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A position in a file: line and column, counted from 1. Columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FilePlace {
    pub line: usize,
    pub column: usize,
}

impl FilePlace {
    /// Returns the position of byte `offset` in `text`.
    #[must_use]
    pub fn from_offset(text: &str, offset: usize) -> FilePlace {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        FilePlace { line, column }
    }
}

/// A problem in a file or a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file as the user named it; empty for a pushed document.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// JSON pointer (RFC 6901) to the invalid value.
    pub pointer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<FilePlace>,
    /// What was found and what is expected. It never repeats a value that could be a secret.
    pub message: String,
    /// What to do; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Problem {
    /// Creates a problem at a JSON pointer.
    #[must_use]
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { file: String::new(), pointer: pointer.into(), place: None, message: message.into(), hint: String::new() }
    }

    /// Adds the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = hint.into();
        self
    }

    /// Adds the position.
    #[must_use]
    pub fn at(mut self, place: FilePlace) -> Problem {
        self.place = Some(place);
        self
    }

    /// Adds the file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Problem {
        self.file = file.into();
        self
    }
}

/// Formats as `file:line:column: /pointer: message`, with the hint on a separate line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of files and fields are written by others, and could contain line feeds.
        if !self.file.is_empty() {
            write!(f, "{}:", printable(&self.file, &[]))?;
            if let Some(place) = self.place {
                write!(f, "{}:{}:", place.line, place.column)?;
            }
            f.write_str(" ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", printable(&self.pointer, &[]))?;
        }
        f.write_str(&printable(&self.message, &[]))?;
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

/// Returns the name in `allowed` that is closest to `found`, if it is close enough for `found` to be a typo: one slip, or
/// at most one for every three characters of the shorter name. A more generous rule would suggest `zoom` for `foo`.
#[must_use]
pub fn nearest<'a>(found: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found: Vec<char> = found.chars().collect();
    let is_close = |far: usize, name: &[char]| far <= 1 || far * 3 <= name.len().min(found.len());
    let far = |name: &str| {
        let name: Vec<char> = name.chars().collect();
        // A name that is much longer or shorter cannot be close.
        Some(name.len().abs_diff(found.len())).filter(|least| is_close(*least, &name))?;
        Some(distance(&found, &name)).filter(|far| is_close(*far, &name))
    };
    allowed.into_iter().filter_map(|name| Some((far(name)?, name))).min().map(|(_, name)| name)
}

/// Returns the distance in slips: a missing, added or wrong character, or two neighbours in the wrong order (optimal string
/// alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let (mut before, mut next) = (row.clone(), Vec::with_capacity(row.len()));
    for i in 0..a.len() {
        next.clear();
        next.push(i + 1);
        for j in 0..b.len() {
            let replaced = row[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        std::mem::swap(&mut before, &mut row);
        std::mem::swap(&mut row, &mut next);
    }
    row[b.len()]
}

/// The problems of one file, as they are recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedProblems {
    /// The first [`MAX_RECORDED_PROBLEMS`] of them.
    pub first: Vec<Problem>,
    /// The number of all of them.
    pub total: usize,
}

/// The number of problems of one file that an entry holds. The others are only counted.
pub const MAX_RECORDED_PROBLEMS: usize = 10;
/// The number of characters of a message, a pointer or a hint that an entry holds.
const MAX_RECORDED_CHARS: usize = 500;

impl RecordedProblems {
    /// Creates the record of `problems`, with a bounded number of bounded texts.
    #[must_use]
    pub fn new<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> RecordedProblems {
        let mut recorded = RecordedProblems::default();
        for problem in problems {
            recorded.total += 1;
            if recorded.first.len() < MAX_RECORDED_PROBLEMS {
                let cut = |text: &str| text.chars().take(MAX_RECORDED_CHARS).collect();
                recorded.first.push(Problem {
                    file: cut(&problem.file),
                    pointer: cut(&problem.pointer),
                    place: problem.place,
                    message: cut(&problem.message),
                    hint: cut(&problem.hint),
                });
            }
        }
        recorded
    }

    /// Returns a digest that is equal for equal problems.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_a_typo_and_no_other_word() {
        let families = ["box", "github", "gitlab", "jira", "okta", "s3", "salesforce", "slack", "zoom", "entra", "postgres"];
        for (found, expected) in [
            ("foo", None),
            ("zoho", None),
            ("gitea", None),
            ("sentry", None),
            ("miro", None),
            ("teams", None),
            ("slak", Some("slack")),
            ("gihtub", Some("github")),
            ("githb", Some("github")),
            ("zom", Some("zoom")),
            ("salesfroce", Some("salesforce")),
            ("postgress", Some("postgres")),
            ("postgresql", Some("postgres")),
            ("", None),
        ] {
            assert_eq!(nearest(found, families), expected, "{found}");
        }
    }
}
