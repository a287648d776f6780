//! Which rows of the index a filter lists, in which order, and how many connections each further filter would list. Pure.

use super::index::{Row, class_bit};
use crate::funnel::Stage;
use crate::funnel::causes::template::template;
use crate::model::{Class, Risk, State, Timestamp};
use crate::page::connections::{Column, Facets, Filter, PAGE_SIZE, Sort, TextFacet};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// The number of families and of owners that are offered as filters.
const MAX_CHIPS: usize = 12;
/// The size up to which a text is offered as a filter, in bytes. Each link to it repeats it.
const MAX_CHIP_BYTES: usize = 200;

/// What a filter lists.
pub struct Selection {
    /// The rows of one page, or all rows.
    pub found: Vec<Arc<Row>>,
    /// The number of rows on all pages.
    pub total: usize,
    /// The number of connections of the namespace that are not retired.
    pub all: usize,
    /// The page that `found` holds, counted from 1. It is the last one if the wanted page does not exist.
    pub page: usize,
    pub facets: Facets,
    /// The keys of the causes that are filtered by, each with a text for people.
    pub causes: Vec<(String, String)>,
}

/// Selects the rows of `namespace` that `filter` lists as of `now`. `page` is the wanted page; without it, all rows are found.
#[must_use]
pub fn select(rows: &[Arc<Row>], namespace: &str, filter: &Filter, now: Timestamp, page: Option<usize>) -> Selection {
    let matcher = Matcher::new(filter, now);
    let (mut counts, mut all, mut matches) = (Counts::default(), 0, Vec::new());
    for row in rows.iter().filter(|row| *row.namespace == *namespace) {
        all += usize::from(row.state != State::Retired);
        let Some(unsatisfied) = matcher.unsatisfied(row) else { continue };
        counts.add(row, unsatisfied, row.warnings_at(now));
        if unsatisfied == 0 {
            matches.push(row);
        }
    }
    let total = matches.len();
    let last = total.div_ceil(PAGE_SIZE).max(1);
    let page_number = page.unwrap_or(1).clamp(1, last);
    let (first, size) = match page {
        Some(_) => ((page_number - 1) * PAGE_SIZE, PAGE_SIZE),
        None => (0, total),
    };
    Selection {
        found: ordered(matches, first, size, filter.sort),
        total,
        all,
        page: page_number,
        facets: counts.facets(filter),
        causes: filter.causes.iter().map(|key| (key.clone(), cause_text(rows, namespace, key))).collect(),
    }
}

/// The filters with chips, one bit for each. The counts of the chips of a filter leave out this filter.
const STATE: u8 = 1;
const FAMILY: u8 = 2;
const OWNER: u8 = 4;
const RISK: u8 = 8;
const WARNING: u8 = 16;

/// A filter that is ready to be applied to many rows.
struct Matcher<'a> {
    filter: &'a Filter,
    terms: Vec<Term>,
    warnings: u32,
    now: Timestamp,
}

impl Matcher<'_> {
    fn new(filter: &Filter, now: Timestamp) -> Matcher<'_> {
        let terms = filter.search.split_whitespace().map(Term::new).collect();
        let warnings = filter.warnings.iter().fold(0_u32, |bits, class| bits | class_bit(*class));
        Matcher { filter, terms, warnings, now }
    }

    /// Returns the bits of the filters with chips that the row does not satisfy. Returns `None` if it counts nowhere: if it does
    /// not satisfy several of them, or one of the others.
    fn unsatisfied(&self, row: &Row) -> Option<u8> {
        let filter = self.filter;
        let is_state = match filter.states.is_empty() {
            true => row.state != State::Retired,
            false => filter.states.contains(&row.state),
        };
        let checks = [
            (STATE, is_state),
            (FAMILY, is_one_of(&filter.families, &row.family)),
            (OWNER, is_one_of(&filter.owners, &row.document.owner)),
            (RISK, filter.risks.is_empty() || row.document.risk.is_some_and(|risk| filter.risks.contains(&risk))),
            (WARNING, self.warnings == 0 || row.warnings_at(self.now) & self.warnings != 0),
        ];
        let bits = checks.into_iter().filter(|(_, is_satisfied)| !is_satisfied).fold(0_u8, |bits, (bit, _)| bits | bit);
        let others = bits.count_ones() <= 1
            && is_in_stages(row, filter)
            && (filter.causes.is_empty() || row.cause.as_ref().is_some_and(|cause| is_one_of(&filter.causes, cause)))
            && self.terms.iter().all(|term| term.occurs_in(row));
        others.then_some(bits)
    }
}

/// Whether an empty filter or one of its values allows `text`.
fn is_one_of(values: &[String], text: &str) -> bool {
    values.is_empty() || values.iter().any(|value| value == text)
}

/// Whether the row is in one of the parts of the funnel that are filtered by.
fn is_in_stages(row: &Row, filter: &Filter) -> bool {
    let is_all = filter.stages.is_empty() && !filter.is_unreachable;
    let is_lost = filter.is_unreachable
        && row.state != State::Active
        && is_in_stage(row, Stage::Eligible)
        && !is_in_stage(row, Stage::Reachable);
    is_all || is_lost || filter.stages.iter().any(|stage| is_in_stage(row, *stage))
}

/// Whether the row counts in the number of this stage of the funnel.
fn is_in_stage(row: &Row, wanted: Stage) -> bool {
    let Some(stage) = Stage::from_state(row.state) else { return false };
    if wanted == Stage::Reachable {
        return stage.part_of() == Some(Stage::Eligible) && row.is_healthy;
    }
    let mut next = Some(stage);
    while let Some(stage) = next {
        if stage == wanted {
            return true;
        }
        next = stage.part_of();
    }
    false
}

/// A term of a search, in lower case.
struct Term {
    text: String,
    /// Whether it can be the beginning of an id.
    is_hexadecimal: bool,
}

impl Term {
    fn new(term: &str) -> Term {
        let text = term.to_lowercase();
        let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        Term { text, is_hexadecimal }
    }

    fn occurs_in(&self, row: &Row) -> bool {
        let texts = [&*row.document.text, &*row.document.lower_owner, &*row.lower_title];
        texts.iter().any(|text| text.contains(&self.text)) || (self.is_hexadecimal && self.begins(row.id.0))
    }

    fn begins(&self, id: Uuid) -> bool {
        let mut buffer = Uuid::encode_buffer();
        let text: &str = id.hyphenated().encode_lower(&mut buffer);
        text.starts_with(&self.text)
    }
}

/// Returns `size` of the rows from number `first` of their order on. The other rows are not sorted.
fn ordered(mut rows: Vec<&Arc<Row>>, first: usize, size: usize, sort: Sort) -> Vec<Arc<Row>> {
    if first > 0 && first < rows.len() {
        rows.select_nth_unstable_by(first, |a, b| compare(a, b, sort));
    }
    let mut rest = rows.split_off(first.min(rows.len()));
    if size < rest.len() {
        rest.select_nth_unstable_by(size, |a, b| compare(a, b, sort));
        rest.truncate(size);
    }
    rest.sort_unstable_by(|a, b| compare(a, b, sort));
    rest.into_iter().map(Arc::clone).collect()
}

/// Compares by the column, then as the list of `aam status`: by state, family and resource. Different rows are never equal.
fn compare(a: &Row, b: &Row, sort: Sort) -> Ordering {
    let by_resource = || a.document.text.cmp(&b.document.text);
    let usual = || a.state.cmp(&b.state).then_with(|| a.family.cmp(&b.family)).then_with(by_resource);
    let order = match sort.column {
        Column::Urgency => Ordering::Equal,
        Column::Age => b.created.cmp(&a.created),
        Column::Family => a.family.cmp(&b.family),
        Column::Resource => by_resource(),
        Column::Owner => a.document.lower_owner.cmp(&b.document.lower_owner),
    };
    let order = order.then_with(usual);
    let order = if sort.is_reversed { order.reverse() } else { order };
    order.then_with(|| a.id.cmp(&b.id))
}

/// The text of a cause: the title of its connections, without their variable parts if they differ.
fn cause_text(rows: &[Arc<Row>], namespace: &str, key: &str) -> String {
    let mut titles =
        rows.iter().filter(|row| *row.namespace == *namespace && row.cause.as_deref() == Some(key)).map(|row| &row.title);
    match titles.next() {
        None => format!("cause {key}"),
        Some(first) if titles.all(|title| title == first) => first.to_string(),
        Some(first) => template(first).text,
    }
}

/// How many rows each value of a filter would list.
#[derive(Default)]
struct Counts<'a> {
    states: BTreeMap<State, usize>,
    families: HashMap<&'a str, usize>,
    owners: HashMap<&'a str, usize>,
    risks: BTreeMap<Risk, usize>,
    warnings: BTreeMap<Class, usize>,
}

impl<'a> Counts<'a> {
    /// Counts a row that does not satisfy at most one filter.
    fn add(&mut self, row: &'a Row, unsatisfied: u8, warnings: u32) {
        let counts_for = |filter: u8| unsatisfied == 0 || unsatisfied == filter;
        if counts_for(STATE) {
            *self.states.entry(row.state).or_default() += 1;
        }
        if counts_for(FAMILY) {
            *self.families.entry(&row.family).or_default() += 1;
        }
        if counts_for(OWNER) && !row.document.owner.is_empty() {
            *self.owners.entry(&row.document.owner).or_default() += 1;
        }
        if let Some(risk) = row.document.risk.filter(|_| counts_for(RISK)) {
            *self.risks.entry(risk).or_default() += 1;
        }
        if warnings != 0 && counts_for(WARNING) {
            for class in classes(warnings) {
                *self.warnings.entry(class).or_default() += 1;
            }
        }
    }

    fn facets(self, filter: &Filter) -> Facets {
        Facets {
            states: with_chosen(self.states, &filter.states),
            families: most_frequent(self.families, &filter.families),
            owners: most_frequent(self.owners, &filter.owners),
            risks: with_chosen(self.risks, &filter.risks),
            warnings: with_chosen(self.warnings, &filter.warnings),
        }
    }
}

/// The classes whose bits are set.
pub fn classes(bits: u32) -> impl Iterator<Item = Class> {
    Class::ALL.into_iter().filter(move |class| bits & class_bit(*class) != 0)
}

fn with_chosen<T: Ord + Copy>(mut counts: BTreeMap<T, usize>, chosen: &[T]) -> Vec<(T, usize)> {
    for value in chosen {
        counts.entry(*value).or_default();
    }
    counts.into_iter().collect()
}

/// The most frequent texts, and those that are chosen.
fn most_frequent(counts: HashMap<&str, usize>, chosen: &[String]) -> TextFacet {
    let is_chosen = |text: &str| chosen.iter().any(|value| value == text);
    let mut others: Vec<(&str, usize)> =
        counts.iter().filter(|(text, _)| !is_chosen(text)).map(|(text, count)| (*text, *count)).collect();
    let by_count = |a: &(&str, usize), b: &(&str, usize)| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0));
    let all = others.len();
    others.retain(|(text, _)| text.len() <= MAX_CHIP_BYTES);
    if others.len() > MAX_CHIPS {
        others.select_nth_unstable_by(MAX_CHIPS, by_count);
        others.truncate(MAX_CHIPS);
    }
    let more = all - others.len();
    let mut shown: Vec<(&str, usize)> =
        chosen.iter().map(|text| (text.as_str(), counts.get(text.as_str()).copied().unwrap_or_default())).collect();
    shown.extend(others);
    shown.sort_by(by_count);
    TextFacet { values: shown.into_iter().map(|(text, count)| (text.to_string(), count)).collect(), more }
}

#[cfg(test)]
mod tests;
