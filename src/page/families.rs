//! Families: which sources AAM can connect, which of them the policy allows, and how much of the day's budget is used.

mod guide;

pub use guide::{FamilyPage, GuideExample, GuideForm, GuideKind, GuideLogin, render as render_one};

use super::{Links, parts};
use crate::model::text::counted;
use crate::model::{State, Timestamp};
use crate::policy::airbyte::{PLATFORM_ENGINE, PROCESS_ENGINE};
use maud::{Markup, html};

/// The data of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyList {
    pub links: Links,
    pub families: Vec<FamilyRow>,
    /// Source types of connections that AAM does not know, the most frequent first.
    pub unknown: Vec<(String, Vec<(State, usize)>)>,
    /// The number of further such source types.
    pub more_unknown: usize,
    /// The budgets of hosts that are not sources: vaults, token endpoints and webhooks.
    pub others: Vec<(String, Budget)>,
    /// Why budgets are left out; empty if they are not.
    pub no_budgets: String,
    pub as_of: Timestamp,
}

/// A family or a custom source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyRow {
    pub id: String,
    pub title: String,
    /// False if this version cannot connect it yet.
    pub connects: bool,
    /// The engine that serves it; empty if this version cannot connect it.
    pub engine: String,
    /// Whether the allowlist names it. `None` if the policy is not known.
    pub is_allowed: Option<bool>,
    pub aliases: Vec<String>,
    /// The connections of the namespace by state, in the order of urgency.
    pub states: Vec<(State, usize)>,
    /// `None` if none of its accounts was called today, or if the reader does not see it.
    pub budget: Option<Budget>,
}

/// The calls of today of the account that was called most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub accounts: usize,
    pub most: u64,
    /// The calls of one account that are allowed on a day. `None` if the limit is not one of the policy.
    pub per_day: Option<u64>,
}

/// Renders the list.
#[must_use]
pub fn render(page: &FamilyList) -> Markup {
    let used = |row: &&FamilyRow| row.is_allowed == Some(true) || !row.states.is_empty() || row.budget.is_some();
    let (first, rest): (Vec<&FamilyRow>, Vec<&FamilyRow>) = page.families.iter().partition(used);
    html! {
        h1 { "Families " span.quiet { (page.families.len()) } }
        p.quiet { "Connections are those of this namespace. Bars show the calls of today (UTC) of the account that was called most." }
        @if !page.no_budgets.is_empty() { p.quiet #no-budgets { (page.no_budgets) } }
        (table("Allowed or in use", "used", &first, page))
        (unknown(page))
        (table("Not on the allowlist", "other", &rest, page))
        (others(page))
    }
}

fn table(title: &str, id: &str, rows: &[&FamilyRow], page: &FamilyList) -> Markup {
    html! {
        @if !rows.is_empty() {
            section {
                h2 id=(id) { (title) " " span.quiet { (rows.len()) } }
                div.scroll tabindex="0" role="region" aria-labelledby=(id) {
                    table.families {
                        thead { tr { th scope="col" { "Family" } th scope="col" { "Capability" } th scope="col" { "Policy" } th scope="col" { "Connections" } th scope="col" { "Budget used today" } } }
                        tbody { @for row in rows { (self::row(row, page)) } }
                    }
                }
            }
        }
    }
}

fn row(row: &FamilyRow, page: &FamilyList) -> Markup {
    html! {
        tr id=(format!("family-{}", row.id)) {
            td {
                a data-row href=(page.links.to(&format!("/ui/families/{}", row.id), &[])) { strong { (row.title) } } " " code.quiet { (row.id) }
                @if !row.aliases.is_empty() { p.quiet { "also " (row.aliases.join(", ")) } }
            }
            td { (capability(row.connects)) @if !row.engine.is_empty() { p.quiet { (engine(&row.engine)) } } }
            td { (allowed(row.is_allowed)) }
            td { (states(&page.links, &row.id, &row.states)) }
            td { @match row.budget { Some(budget) => { (self::budget(budget)) }, None => { span.quiet { "–" } } } }
        }
    }
}

/// Renders whether this version connects a family.
#[must_use]
pub fn capability(connects: bool) -> Markup {
    html! { @if connects { span.good { "✓ connects" } } @else { span.calm { "○ not in this version" } } }
}

/// The engine of a family, for people.
#[must_use]
pub fn engine(name: &str) -> String {
    match name {
        PROCESS_ENGINE => "engine airbyte: a connector as a process".to_string(),
        PLATFORM_ENGINE => "engine airbyte: your own Airbyte".to_string(),
        name => format!("engine {name}"),
    }
}

/// Renders whether the policy allows a family.
#[must_use]
pub fn allowed(is_allowed: Option<bool>) -> Markup {
    html! {
        @match is_allowed {
            Some(true) => { span.good { "✓ allowed" } },
            Some(false) => { span.calm { "– not allowed" } },
            None => { span.quiet { "policy unknown" } },
        }
    }
}

/// Renders the connections of a source type by state. Each number leads to its list.
#[must_use]
pub fn states(links: &Links, family: &str, states: &[(State, usize)]) -> Markup {
    // A filter is a list that is separated by commas, and anybody may name a source type.
    let family = family.replace('%', "%25").replace(',', "%2C");
    html! {
        @if states.is_empty() { span.quiet { "none" } }
        ul.plainlist.ref-inline {
            @for (state, count) in states {
                @let (symbol, tone) = parts::symbol(*state);
                li { a href=(links.to("/ui/connections", &[("family", family.as_str()), ("state", state.as_str())])) { span class=(tone) aria-hidden="true" { (symbol) } " " (count) " " (parts::readable(state.as_str())) } }
            }
        }
    }
}

fn budget(budget: Budget) -> Markup {
    html! {
        (bar(budget.most, budget.per_day))
        @if budget.accounts > 1 { p.quiet { "the most of " (counted(budget.accounts, "account")) } }
    }
}

/// Renders the calls of one account as a bar, with the numbers as text.
#[must_use]
pub fn bar(used: u64, per_day: Option<u64>) -> Markup {
    let Some(per_day) = per_day else { return html! { p { (used) " calls" } } };
    let share = (u128::from(used) * 100).checked_div(u128::from(per_day)).unwrap_or(100).min(100);
    let tone = match share {
        0..=69 => "fill-good",
        70..=89 => "fill-warn",
        _ => "fill-bad",
    };
    html! {
        div.usage {
            svg.usage-bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
                rect.fill-rest x="0" y="0" width="100" height="6" {}
                rect class=(tone) x="0" y="0" width=(share) height="6" {}
            }
            span { (used) " of " (per_day) " calls" @if used >= per_day { " " strong.bad { "✕ used up" } } @else if share >= 90 { " " strong.warn { "! nearly used up" } } }
        }
    }
}

fn unknown(page: &FamilyList) -> Markup {
    html! {
        @if !page.unknown.is_empty() {
            section {
                h2 #unknown { "Source types that AAM does not know" }
                ul.plainlist {
                    @for (name, states) in &page.unknown { li.ref-row { code { (name) } " " (self::states(&page.links, name, states)) } }
                }
                @if page.more_unknown > 0 { p.quiet { "and " (page.more_unknown) " more source types" } }
            }
        }
    }
}

fn others(page: &FamilyList) -> Markup {
    html! {
        @if !page.others.is_empty() {
            section {
                h2 #not-sources { "Calls to hosts that are not sources" }
                dl.pairs.card { @for (name, budget) in &page.others { dt { (name) } dd { (self::budget(*budget)) } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_wider_than_its_frame_and_says_when_nothing_is_left() {
        let text = |used, per_day| bar(used, per_day).into_string();
        assert!(text(120, Some(500)).contains("width=\"24\"") && text(120, Some(500)).contains("120 of 500 calls"));
        assert!(text(499, Some(500)).contains("nearly used up"));
        for (used, per_day) in [(500, 500), (510, 500), (u64::MAX, 1), (0, 0)] {
            let bar = text(used, Some(per_day));
            assert!(bar.contains("width=\"100\" height=\"6\"></rect></svg>") && bar.contains("used up"), "{bar}");
        }
        assert_eq!(text(7, None), "<p>7 calls</p>");
    }
}
