//! The parts that several pages share.

use crate::model::text::age as age_text;
use crate::model::{State, Timestamp};
use maud::{Markup, html};

/// Renders an instant to the second, with the full timestamp in its attribute.
#[must_use]
pub fn time(at: Timestamp) -> Markup {
    time_text(&at.rfc3339())
}

/// As [`time`], for the instant that a page shows. It does not count for the tag of the page, and the script keeps it current.
#[must_use]
pub fn as_of(at: Timestamp) -> Markup {
    let full = at.rfc3339();
    let plain = full.split('.').next().unwrap_or(&full).replacen('T', " ", 1);
    html! { time.as-of datetime=(full) { (plain) " UTC" } }
}

/// As [`time`], from RFC 3339 in UTC.
#[must_use]
pub fn time_text(rfc3339: &str) -> Markup {
    let plain = rfc3339.split('.').next().unwrap_or(rfc3339).replacen('T', " ", 1);
    html! { time datetime=(rfc3339) { (plain) @if rfc3339.contains('.') { " UTC" } } }
}

/// Renders how long ago `at` was, seen from `now`. The script keeps the text current, and the full time is in the title.
#[must_use]
pub fn age(at: Timestamp, now: Timestamp) -> Markup {
    let full = at.rfc3339();
    html! { time.age datetime=(full) title=(full) { (age_text(now.since(at))) " ago" } }
}

/// Renders a state with its symbol, so that colour is never the only sign.
#[must_use]
pub fn state(state: State) -> Markup {
    let (symbol, tone) = symbol(state);
    html! { span.state.(tone) { span aria-hidden="true" { (symbol) } " " (readable(state.as_str())) } }
}

/// The symbol and the class of a state.
#[must_use]
pub fn symbol(state: State) -> (&'static str, &'static str) {
    match state {
        State::Active => ("✓", "good"),
        State::Pending => ("…", "calm"),
        State::Healing => ("↻", "warn"),
        State::AwaitingCredentials => ("?", "warn"),
        State::NetworkBlocked => ("⊘", "bad"),
        State::Error => ("✕", "bad"),
        State::Retired => ("–", "calm"),
        State::Rejected | State::Unsupported => ("○", "calm"),
    }
}

/// Formats a name for people: `AWAITING_CREDENTIALS` becomes `awaiting credentials`.
#[must_use]
pub fn readable(name: &str) -> String {
    name.to_lowercase().replace('_', " ")
}

/// Renders a fix with a button that copies it.
#[must_use]
pub fn fix(text: &str) -> Markup {
    html! { div.fix { p { (text) } (copy("Copy the fix", text)) } }
}

/// Renders a button that copies `text`. It is shown only with the script.
#[must_use]
pub fn copy(label: &str, text: &str) -> Markup {
    html! { button.copy type="button" data-copy=(text) { (label) } }
}

/// The hidden field of a form that changes something. Without its value the server refuses the form, so that a page of
/// another site cannot send it.
#[must_use]
pub fn csrf(value: &str) -> Markup {
    html! { input type="hidden" name="csrf" value=(value); }
}

/// Renders a link that sets or removes a filter.
#[must_use]
pub fn chip(label: &str, href: &str, is_set: bool) -> Markup {
    html! { a.chip href=(href) aria-current=[is_set.then_some("true")] { (label) @if is_set { span aria-hidden="true" { " ×" } } } }
}

/// Formats a share between 0 and 1 as whole percent. It is truncated, not rounded, so that 89.6 % is not shown as 90 %.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0 + 1e-9).floor())
}
