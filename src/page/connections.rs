//! The list of connections: one line for each, with search, filters, an order and pages. The address holds all of them, so a
//! list can be sent as a link.

mod chips;
pub mod filter;

pub use filter::{Column, Filter, Sort};

use super::parts::{self, readable};
use super::{Links, csv};
use crate::model::text::counted;
use crate::model::{Class, Risk, State, Step, Timestamp};
use filter::{CSV_PATH, MAX_SEARCH_CHARS, PATH};
use maud::{Markup, html};

/// The number of connections on a page.
pub const PAGE_SIZE: usize = 50;
/// The number of characters that a line shows of a resource id and of an owner.
const MAX_NAME_CHARS: usize = 80;
/// The number of characters that a line shows of a cause.
const MAX_CAUSE_CHARS: usize = 110;

/// The content of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionsPage {
    pub links: Links,
    pub filter: Filter,
    /// The number of connections of the namespace that are not retired.
    pub all: usize,
    /// The number of connections that the filter lists, on all pages.
    pub total: usize,
    /// The number of this page, counted from 1.
    pub page: usize,
    pub rows: Vec<ConnectionRow>,
    pub facets: Facets,
    /// The keys of the causes that are filtered by, each with a text for people.
    pub causes: Vec<(String, String)>,
    /// The instant that the page shows.
    pub as_of: Timestamp,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionRow {
    pub id: String,
    pub state: State,
    pub family: String,
    /// The first resource id; empty if the intent cannot be read.
    pub resource: String,
    /// The number of further resource ids.
    pub others: usize,
    pub owner: String,
    /// What keeps the connection from being ACTIVE; empty if nothing does.
    pub cause: String,
    pub created: Timestamp,
    pub warnings: Vec<Class>,
    /// The steps of the latest attempt; empty before the first attempt, or if it did not reach a step.
    pub steps: Vec<StepMark>,
    /// Whether an attempt runs.
    pub is_checking: bool,
    /// Whether the connection would leave, which is held until somebody confirms it.
    pub is_held: bool,
}

/// One step of the latest attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepMark {
    pub step: Step,
    pub end: StepEnd,
    /// The duration in milliseconds, if it is known.
    pub duration_ms: Option<u64>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    Passed,
    Warned,
    Failed,
    Skipped,
}

impl StepEnd {
    /// All of them.
    pub const ALL: [StepEnd; 4] = [StepEnd::Passed, StepEnd::Warned, StepEnd::Failed, StepEnd::Skipped];

    /// Returns the name, which is that of [`crate::model::StepStatus`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StepEnd::Passed => "passed",
            StepEnd::Warned => "warned",
            StepEnd::Failed => "failed",
            StepEnd::Skipped => "skipped",
        }
    }

    /// The symbol and the class.
    fn symbol(self) -> (&'static str, Option<&'static str>) {
        match self {
            StepEnd::Passed => ("✓", None),
            StepEnd::Warned => ("!", Some("warn")),
            StepEnd::Failed => ("✕", Some("bad")),
            StepEnd::Skipped => ("–", Some("calm")),
        }
    }
}

/// How many connections each value of a filter would list, in the order of the page. Values that are filtered by are always
/// among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets {
    pub states: Vec<(State, usize)>,
    pub families: TextFacet,
    pub owners: TextFacet,
    pub risks: Vec<(Risk, usize)>,
    pub warnings: Vec<(Class, usize)>,
}

/// The most frequent texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextFacet {
    pub values: Vec<(String, usize)>,
    /// The number of further texts.
    pub more: usize,
}

/// Renders the page.
#[must_use]
pub fn render(page: &ConnectionsPage) -> Markup {
    html! {
        div.listhead {
            h1 { "Connections " span.quiet { (count(page)) } }
            a.button href=(page.filter.address(&page.links, CSV_PATH, 1)) download="connections.csv" title="All connections of this list, with their fixes" { "Download CSV" }
        }
        (search(page))
        (chips::filters(page))
        @if page.rows.is_empty() { (nothing(page)) } @else { (table(page)) (pager(page)) }
    }
}

fn count(page: &ConnectionsPage) -> String {
    match page.filter.is_narrow() {
        true => format!("{} of {}", grouped(page.total), grouped(page.all)),
        false => grouped(page.total),
    }
}

/// Formats a number with a comma after each three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns the first `max` characters of `text`.
fn short(text: &str, max: usize) -> String {
    let cut: String = text.chars().take(max).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// The search. The other filters are hidden fields, so that a search keeps them.
fn search(page: &ConnectionsPage) -> Markup {
    let pairs = page.filter.pairs();
    let at = page.links.at.map(Timestamp::rfc3339);
    html! {
        form.search method="get" action=(format!("{}{PATH}", page.links.prefix)) role="search" {
            label.hidden for="search" { "Search connections" }
            input #search type="search" name="q" value=(page.filter.search) maxlength=(MAX_SEARCH_CHARS) autocomplete="off" placeholder="Family, resource, owner, cause, locator or id";
            @for (name, value) in pairs.iter().filter(|(name, _)| *name != "q") { input type="hidden" name=(name) value=(value); }
            @if let Some(namespace) = &page.links.namespace { input type="hidden" name="namespace" value=(namespace); }
            @if let Some(at) = &at { input type="hidden" name="at" value=(at); }
            button { "Search" }
            @if page.filter.is_narrow() { " " a href=(without_filters(page)) { "Show all" } }
        }
    }
}

fn without_filters(page: &ConnectionsPage) -> String {
    Filter { sort: page.filter.sort, ..Filter::default() }.address(&page.links, PATH, 1)
}

fn nothing(page: &ConnectionsPage) -> Markup {
    html! {
        section.card {
            @if page.filter.is_narrow() {
                p { "None of the " (counted(page.all, "connection")) " matches this search." }
                p { a href=(without_filters(page)) { "Show all connections" } }
            } @else {
                p { "This namespace does not have connections yet." }
                p.quiet { "Put an intent into the intents folder, or push one to " code { "POST /connections/onboard" } "." }
            }
        }
    }
}

/// The columns with their order. The styles refer to them by their position, because a class on each cell would make the list
/// much larger.
const COLUMNS: [(&str, Option<Column>); 8] = [
    ("State", Some(Column::Urgency)),
    ("Family", Some(Column::Family)),
    ("Resource", Some(Column::Resource)),
    ("Owner", Some(Column::Owner)),
    ("Cause", None),
    ("Age", Some(Column::Age)),
    ("Warnings", None),
    ("Steps", None),
];

fn table(page: &ConnectionsPage) -> Markup {
    html! {
        table.list #connections {
            caption.hidden { "Connections, " (order(page.filter.sort)) }
            thead { tr { @for (label, column) in COLUMNS { (head(page, label, column)) } } }
            tbody { @for row in &page.rows { (line(page, row)) } }
        }
    }
}

fn order(sort: Sort) -> &'static str {
    match (sort.column, sort.is_reversed) {
        (Column::Urgency, false) => "the most urgent first",
        (Column::Urgency, true) => "the least urgent first",
        (Column::Age, false) => "the newest first",
        (Column::Age, true) => "the oldest first",
        (Column::Family, _) => "ordered by family",
        (Column::Resource, _) => "ordered by resource",
        (Column::Owner, _) => "ordered by owner",
    }
}

fn head(page: &ConnectionsPage, label: &str, column: Option<Column>) -> Markup {
    let current = page.filter.sort;
    let is_current = column == Some(current.column);
    let direction = if current.is_reversed { ("descending", " ↓") } else { ("ascending", " ↑") };
    html! {
        th scope="col" aria-sort=[is_current.then_some(direction.0)] {
            @if let Some(column) = column {
                @let sort = Sort { column, is_reversed: is_current && !current.is_reversed };
                a href=(Filter { sort, ..page.filter.clone() }.address(&page.links, PATH, 1)) {
                    (label) @if is_current { span aria-hidden="true" { (direction.1) } }
                }
            } @else { (label) }
        }
    }
}

fn line(page: &ConnectionsPage, row: &ConnectionRow) -> Markup {
    let name = if row.resource.is_empty() { &row.id } else { &row.resource };
    html! {
        tr data-key=(row.id) {
            td { (parts::state(row.state)) }
            td { (short(&row.family, MAX_NAME_CHARS)) }
            td { a data-row href=(page.links.connection(&row.id)) { (short(name, MAX_NAME_CHARS)) } @if row.others > 0 { span.quiet { " +" (row.others) } } }
            td { (short(&row.owner, MAX_NAME_CHARS)) }
            td { (short(&row.cause, MAX_CAUSE_CHARS)) }
            td { (parts::age(row.created, page.as_of)) }
            td { (warnings(row)) }
            td { (steps(row)) }
        }
    }
}

/// The first warning, and the number of the others. On a narrow screen only the symbol is visible, with a title.
fn warnings(row: &ConnectionRow) -> Markup {
    let held = row.is_held.then(|| "held".to_string());
    let checking = row.is_checking.then(|| "checking now".to_string());
    let warnings = row.warnings.iter().map(|class| readable(class.as_str()));
    let labels: Vec<String> = held.into_iter().chain(warnings).collect();
    html! {
        @if let Some(checking) = checking { span.calm title=(checking) { "↻ " span.long { (checking) } } " " }
        @if let Some(first) = labels.first() {
            span.warn title=(labels.join(", ")) { "! " span.long { (first) @if labels.len() > 1 { " +" (labels.len() - 1) } } }
        }
    }
}

/// The seven steps, each as a symbol with a title, and all of them as one text for screen readers.
fn steps(row: &ConnectionRow) -> Markup {
    html! {
        @if row.steps.is_empty() { span.quiet { "not run yet" } } @else {
            span.dots role="img" aria-label=(steps_text(&row.steps)) {
                @for mark in &row.steps {
                    @let (symbol, class) = mark.end.symbol();
                    i class=[class] title=(mark.title()) { (symbol) }
                }
            }
        }
    }
}

impl StepMark {
    /// For example `health: failed, 120 ms`.
    fn title(self) -> String {
        let duration = match (self.end, self.duration_ms) {
            (StepEnd::Skipped, _) | (_, None) => String::new(),
            (_, Some(ms)) => format!(", {ms} ms"),
        };
        format!("{}: {}{duration}", readable(self.step.as_str()), self.end.as_str())
    }
}

/// For example `health failed, 4 passed, 2 skipped`.
fn steps_text(steps: &[StepMark]) -> String {
    let named = steps.iter().filter(|mark| matches!(mark.end, StepEnd::Failed | StepEnd::Warned));
    let named = named.map(|mark| format!("{} {}", readable(mark.step.as_str()), mark.end.as_str()));
    let counts = [StepEnd::Passed, StepEnd::Skipped].into_iter().filter_map(|end| {
        let count = steps.iter().filter(|mark| mark.end == end).count();
        (count > 0).then(|| format!("{count} {}", end.as_str()))
    });
    named.chain(counts).collect::<Vec<String>>().join(", ")
}

fn pager(page: &ConnectionsPage) -> Markup {
    let first = (page.page.saturating_sub(1)) * PAGE_SIZE;
    let last = first + page.rows.len();
    let address = |number: usize| page.filter.address(&page.links, PATH, number);
    let pages = page.total.div_ceil(PAGE_SIZE);
    html! {
        div.pager role="navigation" aria-label="Pages of the list" {
            span { (grouped(first + 1)) "–" (grouped(last)) " of " (grouped(page.total)) }
            @if page.page > 1 { a rel="first" href=(address(1)) { "First" } a rel="prev" href=(address(page.page - 1)) { "Previous" } }
            @if page.page < pages { a rel="next" href=(address(page.page + 1)) { "Next" } a rel="last" href=(address(pages)) { "Last" } }
        }
    }
}

/// The names of the cells of [`csv_line`], as a line of CSV.
#[must_use]
pub fn csv_head() -> String {
    csv::line(&CSV_COLUMNS)
}

const CSV_COLUMNS: [&str; 12] =
    ["id", "state", "family", "resources", "owner", "risk", "credential", "cause", "fix", "warnings", "created", "checked"];

/// Formats the cells of one connection, in the order of [`csv_head`], as a line of CSV.
#[must_use]
pub fn csv_line(cells: &[String; 12]) -> String {
    csv::line(&cells.each_ref().map(String::as_str))
}

#[cfg(test)]
mod tests;
