//! What needs attention: the causes that keep connections from being ACTIVE, ordered by the coverage that a fix gains, each
//! with its fix and its connections. The same as CSV has one line for each connection.

use super::connections::filter;
use super::parts::{copy, state, symbol};
use super::{Links, csv, parts};
use crate::funnel::causes::Cause;
use crate::funnel::coverage::points;
use crate::model::text::counted;
use crate::model::{State, Timestamp};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// The path of the CSV.
pub const CSV_PATH: &str = "/ui/attention.csv";

/// The number of variable parts and of fixes that an opened cause shows.
const MAX_SHOWN: usize = 20;

/// The number of different fixes that are visible at once.
const MAX_OPEN_FIXES: usize = 3;

/// The number of causes of each list that are visible at once.
const MAX_OPEN: usize = 5;
const MAX_OPEN_OTHERS: usize = 3;

/// The causes of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    pub raising: CauseList,
    pub others: CauseList,
}

/// A list of causes, of which the first ones are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CauseList {
    pub causes: Vec<CauseCard>,
    /// The number of further causes, and of their connections.
    pub more: usize,
    pub more_connections: usize,
}

/// A cause with its first connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseCard {
    pub key: String,
    pub title: String,
    /// The number of all its connections.
    pub count: usize,
    pub states: Vec<(State, u64)>,
    /// The gain in hundredths of a point.
    pub gain: u64,
    /// What to do, without repetitions.
    pub fixes: Vec<String>,
    pub values: Vec<String>,
    pub members: Vec<CauseMember>,
}

/// A connection of a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseMember {
    pub id: String,
    pub state: State,
    pub family: String,
    /// The resource ids; empty if the intent cannot be read.
    pub name: String,
    /// Empty if the intent cannot be read.
    pub owner: String,
    pub updated: Timestamp,
}

impl CauseCard {
    /// Builds the card of a cause. `members` are its first connections.
    #[must_use]
    pub fn new(cause: &Cause, members: Vec<CauseMember>) -> CauseCard {
        CauseCard {
            key: cause.key.clone(),
            title: cause.title.clone(),
            count: cause.members.len(),
            states: cause.states.iter().map(|(state, count)| (*state, *count)).collect(),
            gain: cause.gain,
            fixes: cause.fixes.clone(),
            values: cause.values.clone(),
            members,
        }
    }

    /// The owners of the shown connections with their numbers, the most frequent first.
    fn owners(&self) -> Vec<(&str, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.iter().filter(|member| !member.owner.is_empty()) {
            *counts.entry(member.owner.as_str()).or_default() += 1;
        }
        let mut owners: Vec<(&str, usize)> = counts.into_iter().collect();
        owners.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        owners
    }
}

/// Renders the section. `now` is the instant of the page.
#[must_use]
pub fn render(attention: &Attention, links: &Links, now: Timestamp) -> Markup {
    let Attention { raising, others } = attention;
    html! {
        section.attention aria-labelledby="attention" {
            div.attention-head {
                h2 #attention { "Needs attention" }
                @if !(raising.causes.is_empty() && others.causes.is_empty()) {
                    a.button href=(links.to(CSV_PATH, &[])) download="attention.csv" { "Export CSV" }
                }
            }
            @if raising.causes.is_empty() {
                p.quiet { "No cause lowers the coverage." }
            } @else {
                (list(raising, links, now, true))
            }
            @if !others.causes.is_empty() {
                h3 #no-gain { "These do not raise coverage" }
                (list(others, links, now, false))
            }
        }
    }
}

fn list(list: &CauseList, links: &Links, now: Timestamp, gains: bool) -> Markup {
    let (open, name) = if gains { (MAX_OPEN, "more-raising") } else { (MAX_OPEN_OTHERS, "more-others") };
    let (first, rest) = list.causes.split_at(list.causes.len().min(open));
    let causes = |causes: &[CauseCard]| {
        html! {
            ol.causes { @for cause in causes { li.cause id=(format!("cause-{}", cause.key)) { (card(cause, links, now, gains)) } } }
        }
    };
    html! {
        (causes(first))
        @if !rest.is_empty() {
            details.cause-more id=(name) {
                summary { (counted(rest.len(), "further cause")) }
                (causes(rest))
            }
        }
        @if list.more > 0 {
            p.quiet {
                "and " (counted(list.more, "further cause")) " with " (counted(list.more_connections, "connection"))
                "; the CSV has all of them"
            }
        }
    }
}

fn card(cause: &CauseCard, links: &Links, now: Timestamp, gains: bool) -> Markup {
    let href = filter::link(links, "cause", &cause.key);
    html! {
        p.cause-title { strong { (cause.title) } }
        p.cause-facts {
            a data-row href=(href) { (counted(cause.count, "connection")) }
            @if gains { " · " strong.gain { (points(cause.gain)) } }
            @for (state, count) in &cause.states {
                @let (sign, tone) = symbol(*state);
                " · " span.(tone) { span aria-hidden="true" { (sign) " " } @if cause.states.len() > 1 { (count) " " } (parts::readable(state.as_str())) }
            }
        }
        (fixes(cause))
        details.cause-more id=(format!("details-{}", cause.key)) {
            summary { "Connections and owners" }
            (details(cause, links, &href, now))
        }
    }
}

/// What to do. If the connections need different things, the first ones are shown as they are, because a form with gaps is not
/// something that can be done.
fn fixes(cause: &CauseCard) -> Markup {
    let text = cause.fixes.join("\n");
    let more = cause.fixes.len().saturating_sub(MAX_OPEN_FIXES);
    html! {
        @match cause.fixes.as_slice() {
            [] => {},
            [fix] => div.fix { p.cause-fix { (fix) } (copy("Copy the fix", &text)) },
            all => div.fix {
                div.cause-fixes {
                    @for fix in all.iter().take(MAX_OPEN_FIXES) { p.cause-fix { (fix) } }
                    @if more > 0 { div.quiet { "and " (more) " more, one for each" } }
                }
                (copy(&format!("Copy the {} fixes", all.len()), &text))
            },
        }
    }
}

fn details(cause: &CauseCard, links: &Links, href: &str, now: Timestamp) -> Markup {
    let owners = cause.owners();
    let names: Vec<&str> = cause.members.iter().map(|member| member.name.as_str()).filter(|name| !name.is_empty()).collect();
    let is_cut = cause.members.len() < cause.count;
    let first = |noun: &str| match is_cut {
        true => format!("Copy the {noun} of the first {}", cause.members.len()),
        false => format!("Copy the {noun}"),
    };
    let plain: Vec<&str> = owners.iter().map(|(owner, _)| *owner).collect();
    html! {
        @if cause.values.len() > 1 { (values(&cause.values)) }
        @if cause.fixes.len() > MAX_OPEN_FIXES {
            ul.plainlist.fixes {
                @for fix in cause.fixes.iter().take(MAX_SHOWN) { li { code { (fix) } } }
                @if cause.fixes.len() > MAX_SHOWN { li.quiet { "and " (cause.fixes.len() - MAX_SHOWN) " more; the button copies them" } }
            }
        }
        @if !owners.is_empty() {
            p {
                span.quiet { "Owners: " }
                @for (index, (owner, count)) in owners.iter().take(MAX_SHOWN).enumerate() {
                    @if index > 0 { ", " }
                    a href=(filter::link(links, "owner", owner)) { (owner) } " (" (count) ")"
                }
                @if owners.len() > MAX_SHOWN { span.quiet { " and " (owners.len() - MAX_SHOWN) " more" } }
            }
        }
        p.copies { (copy(&first("names"), &names.join("\n"))) " " (copy(&first("owners"), &plain.join(", "))) }
        ul.plainlist.members {
            @for member in &cause.members { li id=(format!("blocked-{}", member.id)) { (line(member, links, now)) } }
        }
        p {
            a href=(href) { "Open the list of " (counted(cause.count, "connection")) }
            " · "
            a href=(links.to(CSV_PATH, &[("cause", &cause.key)])) download="attention.csv" { "Export CSV" }
        }
    }
}

fn values(values: &[String]) -> Markup {
    let shown: Vec<&str> = values.iter().take(MAX_SHOWN).map(String::as_str).collect();
    html! {
        p.values {
            span.quiet { "In these messages: " } code { (shown.join(", ")) }
            @if values.len() > MAX_SHOWN { span.quiet { " and more" } }
        }
    }
}

fn line(member: &CauseMember, links: &Links, now: Timestamp) -> Markup {
    html! {
        (state(member.state)) " "
        a href=(links.connection(&member.id)) { (member.family) " " (if member.name.is_empty() { &member.id } else { &member.name }) }
        span.quiet { " " (member.owner) " · checked " (parts::age(member.updated, now)) }
    }
}

/// The number of columns of the CSV.
pub const CSV_COLUMNS: usize = 11;

/// The first line of the CSV.
#[must_use]
pub fn csv_head() -> String {
    csv::line(&[
        "cause",
        "cause_key",
        "gain_points",
        "connection_id",
        "state",
        "source_type",
        "resource_ids",
        "owner",
        "problem",
        "fix",
        "updated_at",
    ])
}

/// The line of one connection. `gains` is whether a fix of its cause raises the coverage.
#[must_use]
pub fn csv_line(cause: &Cause, gains: bool, member: &CauseMember, problem: &str, fix: &str) -> String {
    let gain = if gains { format!("{}.{:02}", cause.gain / 100, cause.gain % 100) } else { "0".to_string() };
    csv::line(&[
        &cause.title,
        &cause.key,
        &gain,
        &member.id,
        member.state.as_str(),
        &member.family,
        &member.name,
        &member.owner,
        problem,
        fix,
        &member.updated.rfc3339(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::funnel::Coverage;
    use crate::funnel::causes::{Blocked, causes};
    use crate::model::{Class, ConnectionId};

    fn cause() -> Cause {
        let blocked = |number: u128, variable: &str| Blocked {
            id: ConnectionId(uuid::Uuid::from_u128(number)),
            state: State::AwaitingCredentials,
            healthy: false,
            source_type: "jdbc".into(),
            document: 1,
            updated: Timestamp(0),
            class: Some(Class::CredentialMissing),
            title: format!("environment variable {variable} is not set").into(),
            fix: format!("aam secret set {variable}").into(),
        };
        let found = causes(vec![blocked(1, "A_ONE"), blocked(2, "A_TWO")], Coverage { active: 1, eligible: 2 });
        found.raising.into_iter().next().unwrap()
    }

    fn member(number: u128, name: &str, owner: &str) -> CauseMember {
        CauseMember {
            id: ConnectionId(uuid::Uuid::from_u128(number)).to_string(),
            state: State::AwaitingCredentials,
            family: "jdbc".to_string(),
            name: name.to_string(),
            owner: owner.to_string(),
            updated: Timestamp(0),
        }
    }

    #[test]
    fn a_card_has_all_that_is_copied_and_leads_to_the_list() {
        let card = CauseCard::new(&cause(), vec![member(1, "<b>", "a@acme.example"), member(2, "y", "a@acme.example")]);
        let key = card.key.clone();
        let attention =
            Attention { raising: CauseList { causes: vec![card], more: 2, more_connections: 7 }, others: CauseList::default() };
        let text = render(&attention, &Links::default(), Timestamp(60_000)).into_string();
        for shown in [
            "environment variable … is not set".to_string(),
            "+25 points".to_string(),
            "data-copy=\"aam secret set A_ONE\naam secret set A_TWO\"".to_string(),
            "<p class=\"cause-fix\">aam secret set A_ONE</p><p class=\"cause-fix\">aam secret set A_TWO</p>".to_string(),
            "Copy the 2 fixes".to_string(),
            "data-copy=\"&lt;b&gt;\ny\"".to_string(),
            "data-copy=\"a@acme.example\"".to_string(),
            format!("href=\"/ui/connections?cause={key}\""),
            format!("id=\"details-{key}\""),
            format!("/ui/attention.csv?cause={key}"),
            "A_ONE, A_TWO".to_string(),
            "and 2 further causes with 7 connections".to_string(),
        ] {
            assert!(text.contains(&shown), "{shown} is not in {text}");
        }
        assert!(!text.contains("<b>") && !text.contains("style="));
    }

    #[test]
    fn many_fixes_are_counted_and_no_fix_has_gaps() {
        let fixes: Vec<String> = (0..9).map(|number| format!("aam secret set A_{number}")).collect();
        let card = CauseCard { fixes, ..CauseCard::new(&cause(), Vec::new()) };
        let text = super::fixes(&card).into_string();
        assert!(text.contains("and 6 more, one for each") && text.contains("Copy the 9 fixes") && !text.contains('…'), "{text}");
        assert_eq!(text.matches("cause-fix\"").count(), MAX_OPEN_FIXES, "{text}");
    }

    #[test]
    fn a_cut_list_says_what_is_copied() {
        let card = CauseCard { count: 9, ..CauseCard::new(&cause(), vec![member(1, "x", "a")]) };
        let text = details(&card, &Links::default(), "/x", Timestamp(0)).into_string();
        assert!(text.contains("Copy the names of the first 1") && text.contains("Open the list of 9 connections"), "{text}");
    }

    #[test]
    fn the_csv_has_a_line_for_each_connection() {
        let (cause, head) = (cause(), csv_head());
        let line = csv_line(&cause, true, &member(1, "=cmd|x", "a,b"), "it \"broke\"", "fix it");
        assert_eq!(head.matches(',').count(), CSV_COLUMNS - 1);
        assert!(line.contains(",25.00,00000000-0000-0000-0000-000000000001,AWAITING_CREDENTIALS,jdbc,'=cmd|x,\"a,b\",\"it \"\"broke\"\"\",fix it,1970"), "{line}");
    }
}
