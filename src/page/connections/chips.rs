//! The chips of the filters: each is a link that adds a value to the list or removes it.

use super::filter::{PATH, toggle};
use super::{ConnectionsPage, Filter, MAX_CAUSE_CHARS, TextFacet, grouped, short};
use crate::page::parts::{self, readable};
use maud::{Markup, html};

/// The number of characters that a chip shows.
const MAX_CHIP_CHARS: usize = 60;

/// A link that adds a value to a filter or removes it.
struct Chip {
    label: String,
    href: String,
    is_set: bool,
}

/// The chips. Those of the states are always visible.
pub(super) fn filters(page: &ConnectionsPage) -> Markup {
    let (filter, facets) = (&page.filter, &page.facets);
    let states = facets.states.iter().map(|(state, count)| {
        let label = format!("{} {} {}", parts::symbol(*state).0, readable(state.as_str()), grouped(*count));
        chip(page, label, filter.states.contains(state), |filter| toggle(&mut filter.states, *state))
    });
    let risks = facets.risks.iter().map(|(risk, count)| {
        let label = format!("{risk} {}", grouped(*count));
        chip(page, label, filter.risks.contains(risk), |filter| toggle(&mut filter.risks, *risk))
    });
    let warnings = facets.warnings.iter().map(|(class, count)| {
        let label = format!("{} {}", readable(class.as_str()), grouped(*count));
        chip(page, label, filter.warnings.contains(class), |filter| toggle(&mut filter.warnings, *class))
    });
    html! {
        (facet("State", &states.collect::<Vec<Chip>>(), 0))
        (facet("Only", &removable(page), 0))
        details.filters #filters open[filter.has_more()] {
            summary { "More filters: family, owner, risk, warning" }
            (facet("Family", &text_chips(page, &facets.families, &filter.families, |filter| &mut filter.families), facets.families.more))
            (facet("Owner", &text_chips(page, &facets.owners, &filter.owners, |filter| &mut filter.owners), facets.owners.more))
            (facet("Risk", &risks.collect::<Vec<Chip>>(), 0))
            (facet("Warning", &warnings.collect::<Vec<Chip>>(), 0))
        }
    }
}

/// The chip that applies `change` to the filter.
fn chip(page: &ConnectionsPage, label: String, is_set: bool, change: impl FnOnce(&mut Filter)) -> Chip {
    let mut filter = page.filter.clone();
    change(&mut filter);
    Chip { label, href: filter.address(&page.links, PATH, 1), is_set }
}

fn text_chips(page: &ConnectionsPage, facet: &TextFacet, set: &[String], list: fn(&mut Filter) -> &mut Vec<String>) -> Vec<Chip> {
    let chips = facet.values.iter().map(|(value, count)| {
        let label = format!("{} {}", short(value, MAX_CHIP_CHARS), grouped(*count));
        chip(page, label, set.contains(value), |filter| toggle(list(filter), value.clone()))
    });
    chips.collect()
}

/// The filters that other pages link to. They are shown only where they are set.
fn removable(page: &ConnectionsPage) -> Vec<Chip> {
    let causes = page
        .causes
        .iter()
        .map(|(key, label)| chip(page, short(label, MAX_CAUSE_CHARS), true, |filter| toggle(&mut filter.causes, key.clone())));
    let stages = page.filter.stages.iter().map(|stage| {
        let label = format!("Funnel: {}", stage.label());
        chip(page, label, true, |filter| toggle(&mut filter.stages, *stage))
    });
    let unreachable = page
        .filter
        .is_unreachable
        .then(|| chip(page, "Funnel: eligible, not reachable".to_string(), true, |filter| filter.is_unreachable = false));
    causes.chain(stages).chain(unreachable).collect()
}

fn facet(title: &str, chips: &[Chip], more: usize) -> Markup {
    html! {
        @if !chips.is_empty() {
            div.facet {
                span.quiet { (title) }
                ul.chips aria-label=(title) {
                    @for chip in chips { li { (parts::chip(&chip.label, &chip.href, chip.is_set)) } }
                    @if more > 0 { li.quiet { "and " (grouped(more)) " more; search for them" } }
                }
            }
        }
    }
}
