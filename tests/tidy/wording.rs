//! Phrases that are hard to understand, and how often each may still occur.

use std::path::{Path, PathBuf};

/// The folders and files in which the phrases are counted.
const PLACES: [&str; 4] = ["src", "crates", "docs", "README.md"];

/// Copies of files that other projects wrote.
const FOREIGN: [&str; 1] = ["crates/lowcode/src/components.yaml"];

/// How a phrase is found in a line.
enum Match {
    /// Anywhere but after "there", as in "there is no header".
    NotAfterThere,
    /// Where no letter stands before or after it.
    Word,
    /// As an ending of a word in a comment or a string: `connection(s)`.
    PluralEnding,
}

/// A phrase, how it is found, and how often it may occur. The numbers only ever go down: lower them when you reword.
const BUDGETS: [(&str, Match, usize); 10] = [
    // Write "is not a …", "is not valid …", "does not have …".
    ("is no ", Match::NotAfterThere, 7),
    ("is none", Match::NotAfterThere, 2),
    // Write "text", "message" or "names"; for the parts of a grammar, write what they are.
    ("words", Match::Word, 26),
    ("told", Match::Word, 10),
    // Write "is".
    ("lies", Match::Word, 1),
    ("nobody", Match::Word, 1),
    // Write "fix".
    ("mend", Match::Word, 0),
    ("mended", Match::Word, 0),
    ("whoever", Match::Word, 0),
    // Write real plurals.
    ("(s)", Match::PluralEnding, 5),
];

#[test]
fn no_phrase_is_over_its_budget() {
    let lines = lines();
    let mut findings = String::new();
    for (phrase, how, budget) in &BUDGETS {
        let found: Vec<&String> =
            lines.iter().flat_map(|(place, line)| std::iter::repeat_n(place, occurrences(line, phrase, how))).collect();
        if found.len() > *budget {
            findings.push_str(&format!("{phrase:?}: {} times, at most {budget}\n", found.len()));
            found.iter().for_each(|place| findings.push_str(&format!("  {place}\n")));
        }
    }
    assert!(findings.is_empty(), "write these in plain English (see the comments in tests/tidy/wording.rs):\n{findings}");
}

#[test]
fn phrases_are_found() {
    let count = |line, phrase| occurrences(line, phrase, &Match::Word);
    assert_eq!(count("The families replied; it lies here, lies_there.", "lies"), 2);
    assert_eq!(count("recommended", "mend"), 0);
    assert_eq!(occurrences("this is no JSON", "is no ", &Match::NotAfterThere), 1);
    assert_eq!(occurrences("There is no JSON", "is no ", &Match::NotAfterThere), 0);
    let plural = |line| occurrences(line, "(s)", &Match::PluralEnding);
    assert_eq!(plural("let a = Some(s); // 2 connection(s)"), 1);
    assert_eq!(plural("format!(\"{n} connection(s)\", n(s))"), 1);
    assert_eq!(plural("    Ok(s) => keep(s),"), 0);
}

fn occurrences(line: &str, phrase: &str, how: &Match) -> usize {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    line.match_indices(phrase)
        .filter(|(at, _)| {
            let (before, after) = (line[..*at].chars().next_back(), line[at + phrase.len()..].chars().next());
            match how {
                Match::NotAfterThere => !line[..*at].to_lowercase().ends_with("there "),
                Match::Word => !is_letter(before) && !is_letter(after),
                Match::PluralEnding => is_letter(before) && is_prose(&line[..*at]),
            }
        })
        .count()
}

/// Whether what follows `before` in its line is inside a comment or a string.
fn is_prose(before: &str) -> bool {
    before.contains("//") || before.matches('"').count() % 2 == 1
}

/// `FILE:LINE` and the text of each line.
fn lines() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    PLACES.iter().for_each(|place| collect(&root.join(place), &mut files));
    assert!(files.len() > 100, "the sources were found");
    let mut lines = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        if FOREIGN.contains(&name.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a text file");
        // In a document the whole line is prose.
        let prefix = if name.ends_with(".md") { "// " } else { "" };
        lines.extend(text.lines().enumerate().map(|(at, line)| (format!("{name}:{}", at + 1), format!("{prefix}{line}"))));
    }
    lines
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        if path.extension().is_some_and(|extension| ["rs", "md", "yaml"].iter().any(|known| extension == *known)) {
            files.push(path.to_path_buf());
        }
    } else if let Ok(entries) = std::fs::read_dir(path) {
        entries.flatten().for_each(|entry| collect(&entry.path(), files));
    }
}
