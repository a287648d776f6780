//! The list of `aam status` as text: the counts by state, and a table with one line for each connection.

use super::status::{StatusLine, symbol};
use crate::model::text::{age, counted, printable};
use crate::model::{State, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Cells are padded to the widest one of their column, and to this many characters at most.
const MAX_PADDING: usize = 48;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Column {
    State,
    Id,
    Family,
    Resource,
    Owner,
    Age,
    Namespace,
    Risk,
    Credential,
    Checked,
    Changed,
    Failures,
    Cause,
    Fix,
}

/// The columns of a list for which none were chosen. Causes and fixes follow each line.
const DEFAULT_COLUMNS: [Column; 6] = [Column::State, Column::Id, Column::Family, Column::Resource, Column::Owner, Column::Age];

/// Which connections a list contains, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOptions {
    /// Empty for every state.
    pub states: Vec<State>,
    /// Empty for every family.
    pub families: Vec<String>,
    /// A part of the owner's name, without regard to case.
    pub owner: Option<String>,
    /// Leaves out connections of which nothing new was found since then.
    pub since: Option<Timestamp>,
    /// The number of lines at most.
    pub limit: Option<usize>,
    /// Empty for the default columns, with cause and fix below each line.
    pub columns: Vec<Column>,
}

impl ListOptions {
    /// Returns the lines of `all` that the options select, in the same order.
    #[must_use]
    pub fn select(&self, all: &[StatusLine]) -> Vec<StatusLine> {
        let owner = self.owner.as_ref().map(|owner| owner.to_lowercase());
        let since = self.since.map(Timestamp::rfc3339);
        let wanted = |line: &&StatusLine| {
            (self.states.is_empty() || self.states.contains(&line.status))
                && (self.families.is_empty() || self.families.iter().any(|family| family.eq_ignore_ascii_case(&line.source_type)))
                && owner.as_ref().is_none_or(|owner| line.owner.to_lowercase().contains(owner))
                && since.as_ref().is_none_or(|since| line.changed >= *since)
        };
        all.iter().filter(wanted).take(self.limit.unwrap_or(usize::MAX)).cloned().collect()
    }

    fn selects_all(&self) -> bool {
        *self == ListOptions { columns: self.columns.clone(), ..ListOptions::default() }
    }
}

/// Formats `all` connections of a namespace, and the `shown` ones of them as a table.
#[must_use]
pub fn list(all: &[StatusLine], shown: &[StatusLine], options: &ListOptions, now: Timestamp) -> String {
    if all.is_empty() {
        return "no connections yet; put an intent into the intents folder, or push one to POST /connections/onboard\n"
            .to_string();
    }
    let mut text = format!("{}: {}\n", counted(all.len(), "connection"), counts(all.iter().map(|line| line.status)));
    if !options.selects_all() {
        let _ = writeln!(text, "{} of them shown", shown.len());
    }
    if shown.is_empty() {
        return text;
    }
    text.push('\n');
    let columns = if options.columns.is_empty() { &DEFAULT_COLUMNS[..] } else { &options.columns };
    let head: Vec<String> = columns.iter().map(|column| format!("{column:?}").to_uppercase()).collect();
    let rows: Vec<Vec<String>> =
        shown.iter().map(|line| columns.iter().map(|column| cell(line, *column, now)).collect()).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|index| rows.iter().chain([&head]).map(|row| row[index].chars().count()).max().unwrap_or(0).min(MAX_PADDING))
        .collect();
    text.push_str(&row(&head, &widths));
    for (line, cells) in shown.iter().zip(&rows) {
        text.push_str(&row(cells, &widths));
        if options.columns.is_empty() {
            text.push_str(&reasons(line));
        }
    }
    text.push_str("\naam status ID shows the steps and the history of one\n");
    text
}

/// The number of connections in each state, the most urgent first.
#[must_use]
pub fn counts(states: impl IntoIterator<Item = State>) -> String {
    let mut counts: BTreeMap<State, usize> = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    counts.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

fn cell(line: &StatusLine, column: Column, now: Timestamp) -> String {
    let since = |text: &str| Timestamp::parse(text).map(|at| age(now.since(at))).unwrap_or_default();
    let text = match column {
        Column::State => format!("{} {}", symbol(line.status), line.status),
        Column::Id => line.connection_id.to_string(),
        Column::Family => line.source_type.clone(),
        Column::Resource => line.resource_ids.join(" "),
        Column::Owner => line.owner.clone(),
        Column::Age => since(&line.created),
        Column::Namespace => line.namespace.clone(),
        Column::Risk => line.risk.map(|risk| risk.to_string()).unwrap_or_default(),
        Column::Credential => line.credential_locator.clone().unwrap_or_default(),
        Column::Checked => line.checked.as_deref().map(since).unwrap_or_default(),
        Column::Changed => since(&line.changed),
        Column::Failures => line.failures.to_string(),
        Column::Cause => line.title.clone(),
        Column::Fix => line.fix.clone(),
    };
    let text = if text.is_empty() { "-".to_string() } else { text };
    printable(&text, &[]).into_owned()
}

fn row(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
}

/// The cause and the fix of what is not ACTIVE, and the warnings.
fn reasons(line: &StatusLine) -> String {
    let mut text = String::new();
    let mut reason = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "    {name:<8} {}", printable(value, &[]));
        }
    };
    reason("problem:", &line.title);
    reason("fix:", &line.fix);
    if let Some(held) = &line.held {
        reason("held:", &held.reason);
    }
    for warning in &line.warnings {
        reason("warning:", &warning.title);
        reason("fix:", &warning.fix);
    }
    text
}
