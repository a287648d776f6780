//! The planning gate: declared debt, and debt that nobody declared. Pure; `cli::gate` reads the files.
//!
//! DEBT.md holds one Markdown table: `| id | severity | what | rationale | payoff plan | ETA |`.
//! A Blocker or High stops a run until somebody says the approval token. What the sentinel finds and no
//! row of DEBT.md names (by its place, `file:line` or `file`) counts as High.

pub mod sentinel;

use crate::model::problem::nearest;
use sentinel::Finding;
use std::fmt;

/// What lets a stopped run pass.
pub const APPROVAL: &str = "CONTINUE 90 RUN";

/// How much a piece of debt weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Severity {
    Low,
    Medium,
    High,
    Blocker,
}

impl Severity {
    const WORDS: [(&'static str, Severity); 4] =
        [("Blocker", Severity::Blocker), ("High", Severity::High), ("Medium", Severity::Medium), ("Low", Severity::Low)];

    /// Whether it stops a run.
    #[must_use]
    pub fn stops(self) -> bool {
        self >= Severity::High
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One row of DEBT.md.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Debt {
    pub id: String,
    pub severity: Severity,
    pub what: String,
    /// The whole row, where a finding's place may be named.
    #[serde(skip)]
    pub row: String,
}

/// What the gate says.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Verdict {
    pub declared: Vec<Debt>,
    /// Found by the sentinel and named by no row.
    pub undeclared: Vec<Finding>,
    /// Rows that cannot be read: they count as Blocker.
    pub unreadable: Vec<String>,
}

impl Verdict {
    /// Whether a run may go on without approval.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.undeclared.is_empty() && self.unreadable.is_empty() && !self.declared.iter().any(|debt| debt.severity.stops())
    }

    fn count(&self, severity: Severity) -> usize {
        self.declared.iter().filter(|debt| debt.severity == severity).count()
    }

    /// Five lines, as the requirement asks: counts, what stops the run, and how to go on.
    #[must_use]
    pub fn summary(&self) -> [String; 5] {
        let stopping: Vec<String> = self
            .unreadable
            .iter()
            .cloned()
            .chain(
                self.declared
                    .iter()
                    .filter(|debt| debt.severity.stops())
                    .map(|debt| format!("{} {}: {}", debt.severity, debt.id, debt.what)),
            )
            .chain(self.undeclared.iter().map(|finding| format!("undeclared {finding}")))
            .collect();
        let first = stopping.first().cloned().unwrap_or_else(|| "nothing stops this run".to_string());
        let more = match stopping.len() {
            0 | 1 => "no further reason".to_string(),
            2 => stopping[1].clone(),
            more => format!("{}; and {} more (aam gate --format json lists all)", stopping[1], more - 2),
        };
        [
            format!(
                "Debt: {} Blocker, {} High, {} Medium, {} Low declared in DEBT.md",
                self.count(Severity::Blocker),
                self.count(Severity::High),
                self.count(Severity::Medium),
                self.count(Severity::Low)
            ),
            format!(
                "Undeclared: {} found by the sentinel, {} row(s) of DEBT.md unreadable",
                self.undeclared.len(),
                self.unreadable.len()
            ),
            format!("First: {first}"),
            format!("Then: {more}"),
            format!("Approve with: aam gate --approve \"{APPROVAL}\" (make: APPROVE=\"{APPROVAL}\"), or pay the debt"),
        ]
    }
}

/// Judges the text of DEBT.md and the sentinel's findings.
#[must_use]
pub fn judge(debt: &str, findings: Vec<Finding>) -> Verdict {
    let (declared, unreadable) = read(debt);
    let undeclared = findings.into_iter().filter(|finding| !declared.iter().any(|debt| finding.named_by(&debt.row))).collect();
    Verdict { declared, undeclared, unreadable }
}

/// The rows of the table, and what is wrong with those that cannot be read.
fn read(text: &str) -> (Vec<Debt>, Vec<String>) {
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some(inner) = line.strip_prefix('|') else { continue };
        let cells: Vec<&str> = inner.trim_end_matches('|').split('|').map(str::trim).collect();
        let rule = cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')));
        if rule || cells.first().is_some_and(|cell| cell.eq_ignore_ascii_case("id")) {
            continue;
        }
        let Some((id, severity, what)) = cells.first().zip(cells.get(1)).zip(cells.get(2)).map(|((a, b), c)| (*a, *b, *c)) else {
            unreadable.push(format!("DEBT.md line {}: a row has id, severity, what, rationale, payoff plan, ETA", number + 1));
            continue;
        };
        let plain = severity.trim_matches('*');
        match Severity::WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(plain)) {
            Some((_, severity)) if cells.len() == 6 && cells.iter().all(|cell| !cell.is_empty()) => {
                rows.push(Debt { id: id.to_string(), severity: *severity, what: what.to_string(), row: line.to_string() });
            }
            Some(_) => unreadable
                .push(format!("DEBT.md line {}: {id} needs all of severity, what, rationale, payoff plan, ETA", number + 1)),
            None => {
                let near = nearest(plain, Severity::WORDS.iter().map(|(word, _)| *word)).unwrap_or("High");
                unreadable.push(format!(
                    "DEBT.md line {}: severity {plain:?} is none of Blocker, High, Medium, Low (did you mean {near}?)",
                    number + 1
                ));
            }
        }
    }
    (rows, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(severity: &str) -> String {
        format!(
            "| id | severity | what | rationale | payoff plan | ETA |\n|---|---|---|---|---|---|\n| D1 | {severity} | x | y | z | soon |\n"
        )
    }

    #[test]
    fn blocker_and_high_stop_and_the_rest_pass() {
        for (word, passes) in [("Blocker", false), ("High", false), ("**high**", false), ("Medium", true), ("Low", true)] {
            assert_eq!(judge(&row(word), Vec::new()).passes(), passes, "{word}");
        }
    }

    #[test]
    fn a_severity_nobody_knows_stops() {
        let verdict = judge(&row("Hihg"), Vec::new());
        assert!(!verdict.passes());
        assert!(verdict.summary()[2].contains("did you mean High?"), "{:?}", verdict.summary());
    }

    #[test]
    fn a_row_without_a_plan_stops() {
        assert!(!judge("| D1 | Low | x | y | | soon |", Vec::new()).passes());
    }

    #[test]
    fn a_finding_stops_unless_a_row_names_its_place() {
        let finding = || sentinel::scan("tests/a.rs", "#[ignore]\nfn a() {}\n");
        assert_eq!(finding().len(), 1);
        assert!(!judge("", finding()).passes());
        assert!(judge("| D1 | Low | ignored test in tests/a.rs:1 | y | z | soon |", finding()).passes());
        assert!(!judge("| D1 | Low | ignored test in tests/a.rs:12 | y | z | soon |", finding()).passes());
    }
}
