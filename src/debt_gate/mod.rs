//! The gate that stops a run on technical debt. Pure; `cli::gate` reads the files.
//!
//! DEBT.md holds one Markdown table: `| id | severity | what | rationale | payoff plan | ETA |`. A row of severity
//! Blocker or High stops a run until the approval token is given. So does debt that the scan finds in the sources and
//! that no row of DEBT.md declares by its position (`file:line`).

pub mod scan;

use crate::model::problem::nearest;
use crate::model::text::counted;
use scan::UndeclaredDebt;
use std::fmt;

/// The token that lets a stopped run go on.
pub const APPROVAL: &str = "CONTINUE 90 RUN";

/// The severity of a debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Severity {
    Low,
    Medium,
    High,
    Blocker,
}

impl Severity {
    const NAMES: [(&'static str, Severity); 4] =
        [("Blocker", Severity::Blocker), ("High", Severity::High), ("Medium", Severity::Medium), ("Low", Severity::Low)];

    /// Whether a debt of this severity stops a run.
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
pub struct DeclaredDebt {
    pub id: String,
    pub severity: Severity,
    pub what: String,
    /// The whole row, which may contain the position of a finding.
    #[serde(skip)]
    pub row: String,
}

/// The debt that was found, and whether it stops a run.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct DebtGate {
    pub declared: Vec<DeclaredDebt>,
    /// Debt that the scan found and that no row declares. It stops a run.
    pub undeclared: Vec<UndeclaredDebt>,
    /// Rows that are not valid. They stop a run.
    pub unreadable: Vec<String>,
}

impl DebtGate {
    /// Evaluates the text of DEBT.md and the findings of the scan.
    #[must_use]
    pub fn new(debt: &str, findings: Vec<UndeclaredDebt>) -> DebtGate {
        let (declared, unreadable) = read(debt);
        let undeclared =
            findings.into_iter().filter(|finding| !declared.iter().any(|debt| finding.declared_by(&debt.row))).collect();
        DebtGate { declared, undeclared, unreadable }
    }

    /// Whether a run may go on without approval.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.undeclared.is_empty() && self.unreadable.is_empty() && !self.declared.iter().any(|debt| debt.severity.stops())
    }

    fn count(&self, severity: Severity) -> usize {
        self.declared.iter().filter(|debt| debt.severity == severity).count()
    }

    /// Five lines: the counts, what stops the run, and how to go on.
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
            0 | 1 => "no further reasons".to_string(),
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
                "Undeclared: {} found by the scan; {} of DEBT.md not valid",
                self.undeclared.len(),
                counted(self.unreadable.len(), "row")
            ),
            format!("First: {first}"),
            format!("Next: {more}"),
            format!("Approve with: aam gate --approve \"{APPROVAL}\" (make: APPROVE=\"{APPROVAL}\"), or pay off the debt"),
        ]
    }
}

/// Parses the rows of the table. Returns the valid ones, and the problems of the others.
fn read(text: &str) -> (Vec<DeclaredDebt>, Vec<String>) {
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        // Markdown allows a row without its first `|`; a Blocker must not hide in one.
        let without_bar = line.matches('|').count() >= 4;
        let Some(inner) = line.strip_prefix('|').or(without_bar.then_some(line)) else {
            continue;
        };
        let cells: Vec<&str> = inner.trim_end_matches('|').split('|').map(str::trim).collect();
        let rule = cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')));
        if rule || cells.first().is_some_and(|cell| cell.eq_ignore_ascii_case("id")) {
            continue;
        }
        let Some((id, severity, what)) = cells.first().zip(cells.get(1)).zip(cells.get(2)).map(|((a, b), c)| (*a, *b, *c)) else {
            unreadable
                .push(format!("DEBT.md line {}: a row needs id, severity, what, rationale, payoff plan and ETA", number + 1));
            continue;
        };
        let plain = severity.trim_matches('*');
        match Severity::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(plain)) {
            Some((_, severity)) if cells.len() == 6 && cells.iter().all(|cell| !cell.is_empty()) => {
                rows.push(DeclaredDebt {
                    id: id.to_string(),
                    severity: *severity,
                    what: what.to_string(),
                    row: line.to_string(),
                });
            }
            Some(_) => {
                unreadable.push(format!("DEBT.md line {}: {id} needs severity, what, rationale, payoff plan and ETA", number + 1))
            }
            None => {
                let near = nearest(plain, Severity::NAMES.iter().map(|(name, _)| *name)).unwrap_or("High");
                unreadable.push(format!(
                    "DEBT.md line {}: severity {plain:?} is not valid; use Blocker, High, Medium or Low (did you mean {near}?)",
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
            assert_eq!(DebtGate::new(&row(word), Vec::new()).passes(), passes, "{word}");
        }
    }

    #[test]
    fn an_unknown_severity_stops() {
        let verdict = DebtGate::new(&row("Hihg"), Vec::new());
        assert!(!verdict.passes());
        assert!(verdict.summary()[2].contains("did you mean High?"), "{:?}", verdict.summary());
    }

    #[test]
    fn a_row_without_its_first_bar_is_read() {
        let verdict = DebtGate::new("D1 | Blocker | x | y | z | soon\n", Vec::new());
        assert!(!verdict.passes() && verdict.declared.len() == 1, "{verdict:?}");
    }

    #[test]
    fn a_row_without_a_plan_stops() {
        assert!(!DebtGate::new("| D1 | Low | x | y | | soon |", Vec::new()).passes());
    }

    #[test]
    fn a_finding_stops_unless_a_row_names_its_place() {
        let finding = || scan::scan("tests/a.rs", concat!("#[ign", "ore]\nfn a() {}\n"));
        assert_eq!(finding().len(), 1);
        assert!(!DebtGate::new("", finding()).passes());
        assert!(DebtGate::new("| D1 | Low | ignored test in tests/a.rs:1 | y | z | soon |", finding()).passes());
        assert!(!DebtGate::new("| D1 | Low | ignored test in tests/a.rs:12 | y | z | soon |", finding()).passes());
    }
}
