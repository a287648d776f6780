//! Problems of a manifest, displayed the way a compiler displays them.

use std::fmt::Write;
use std::sync::Arc;

/// How severe a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The manifest can run despite the problem.
    Warning,
    /// The manifest is valid, but this engine does not run it.
    Unsupported,
    /// The manifest is not valid.
    Error,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Unsupported => "unsupported",
            Severity::Error => "error",
        }
    }
}

pub use positioned_yaml::Place;

/// One step from a node to one of its children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(Arc<str>),
    Index(usize),
}

/// Returns the JSON pointer of a path.
#[must_use]
pub fn pointer(path: &[Step]) -> String {
    path.iter().fold(String::new(), |mut all, step| {
        let _ = match step {
            Step::Key(key) => write!(all, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Step::Index(index) => write!(all, "/{index}"),
        };
        all
    })
}

/// One problem of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// One sentence that describes the problem.
    pub message: String,
    /// The file name as the user gave it.
    pub file: String,
    /// The place in the text. Absent if the problem has no place, for example in an empty file.
    pub place: Option<Place>,
    /// The line of the text at that place, truncated to 160 characters.
    pub line: String,
    /// JSON pointer into the manifest after references were resolved, for example `/streams/0/retriever`.
    pub path: String,
    /// The value that was found, shortened.
    pub found: Option<String>,
    /// The values that would be accepted.
    pub allowed: Vec<String>,
    /// The accepted name that is most similar to the one found.
    pub nearest: Option<String>,
    /// The class of a custom component.
    pub class: Option<String>,
}

impl Problem {
    /// Creates a problem that does not have a place in a file yet.
    #[must_use]
    pub fn new(severity: Severity, path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            severity,
            message: message.into(),
            file: String::new(),
            place: None,
            line: String::new(),
            path: path.into(),
            found: None,
            allowed: Vec::new(),
            nearest: None,
            class: None,
        }
    }

    /// Creates an error that does not have a place in a file yet.
    #[must_use]
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem::new(Severity::Error, path, message)
    }

    /// Returns the same problem with the value that was found.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Problem {
        self.found = Some(cut(&found.into(), 80));
        self
    }

    /// Returns the same problem with the accepted values and with the one that is most similar to `name`.
    #[must_use]
    pub fn allowed(mut self, allowed: Vec<String>, name: Option<&str>) -> Problem {
        self.nearest = name.and_then(|name| nearest(name, allowed.iter().map(String::as_str)).map(str::to_owned));
        self.allowed = allowed;
        self
    }

    /// Sets the file and the place, and stores the line of `text` for display.
    pub fn locate(&mut self, file: &str, text: &str, place: Option<Place>) {
        file.clone_into(&mut self.file);
        self.place = place.or(self.place);
        if let Some(place) = self.place {
            self.line = cut(text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default(), 160);
        }
    }

    /// Formats the problem in several lines, the way a compiler does.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!("{}: {}\n", self.severity.as_str(), self.message);
        let width = self.place.map_or(1, |place| place.line.to_string().len());
        let pad = " ".repeat(width);
        if let Some(place) = self.place {
            let _ = writeln!(out, "{pad}--> {}:{}:{}", self.file, place.line, place.column);
            let _ = writeln!(out, "{pad} |\n{} | {}", place.line, self.line);
            let shift = " ".repeat(place.column.saturating_sub(1).min(self.line.chars().count()));
            let _ = writeln!(out, "{pad} | {shift}^");
        } else {
            let _ = writeln!(out, "{pad}--> {}", self.file);
        }
        if !self.path.is_empty() {
            let _ = writeln!(out, "{pad} = at: {}", self.path);
        }
        if let Some(found) = &self.found {
            let _ = writeln!(out, "{pad} = found: {found}");
        }
        if !self.allowed.is_empty() {
            let _ = writeln!(out, "{pad} = allowed: {}", self.allowed.join(", "));
        }
        if let Some(nearest) = &self.nearest {
            let _ = writeln!(out, "{pad} = help: did you mean `{nearest}`?");
        }
        out
    }
}

impl std::fmt::Display for Problem {
    /// Formats the problem in one line: `file:line:column: message`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}: {}", self.severity.as_str(), self.message)
    }
}

/// Formats all problems the way a compiler does, most severe first and then in the order of the text.
#[must_use]
pub fn render(problems: &[Problem]) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| (std::cmp::Reverse(problem.severity), problem.place));
    sorted.iter().map(|problem| problem.render()).collect::<Vec<_>>().join("\n")
}

/// Returns the first `limit` characters of a text, on one line.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    let text: String = text.chars().take(limit + 1).map(|char| if char.is_control() { ' ' } else { char }).collect();
    match text.char_indices().nth(limit) {
        Some((index, _)) => format!("{}...", text.get(..index).unwrap_or_default()),
        None => text,
    }
}

/// Returns the name with the smallest edit distance to the given one, if that distance is at most a third of its length.
#[must_use]
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.chars().count() > 64 {
        return None;
    }
    let best = names.map(|other| (distance(name, other), other)).min_by_key(|(distance, _)| *distance)?;
    (best.0 > 0 && best.0 <= best.1.chars().count().max(3) / 3).then_some(best.1)
}

/// Returns the Levenshtein distance in characters, ignoring case.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.to_lowercase().chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(index + 1);
        for (at, b) in right.iter().enumerate() {
            let replace = row.get(at).copied().unwrap_or(usize::MAX - 1) + usize::from(a != *b);
            let insert = next.last().copied().unwrap_or_default() + 1;
            let delete = row.get(at + 1).copied().unwrap_or(usize::MAX - 1) + 1;
            next.push(replace.min(insert).min(delete));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["DpathExtractor", "CustomRecordExtractor", "CombinedExtractor"];
        assert_eq!(nearest("DpathExtracter", names.into_iter()), Some("DpathExtractor"));
        assert_eq!(nearest("Banana", names.into_iter()), None);
        assert_eq!(nearest("DpathExtractor", names.into_iter()), None, "the name itself is not a suggestion");
    }

    #[test]
    fn a_problem_reads_like_a_compilers() {
        let mut problem = Problem::error("/check/type", "no such component")
            .found("\"ChekStream\"")
            .allowed(vec!["CheckStream".into(), "CheckDynamicStream".into()], Some("ChekStream"));
        problem.locate("m.yaml", "check:\n  type: ChekStream\n", Some(Place { line: 2, column: 9 }));
        let lines: Vec<String> = problem.render().lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(
            lines,
            [
                "error: no such component",
                " --> m.yaml:2:9",
                "  |",
                "2 |   type: ChekStream",
                "  |         ^",
                "  = at: /check/type",
                "  = found: \"ChekStream\"",
                "  = allowed: CheckStream, CheckDynamicStream",
                "  = help: did you mean `CheckStream`?",
            ]
        );
        assert_eq!(problem.to_string(), "m.yaml:2:9: error: no such component");
    }

    #[test]
    fn long_and_strange_text_is_cut() {
        assert_eq!(cut("a\nb", 10), "a b");
        assert_eq!(cut("äöüß", 2), "äö...");
    }
}
