//! Renders the pages of a consent link. Pure; maud escapes all texts.
//!
//! The reader owns a system and does not know AAM, so the pages use no term of AAM without saying what it means.

use crate::model::text::printable;
use crate::model::{Digest, Failure, State};
use crate::page::parts::{readable, symbol, time, time_text};
use crate::providers::consent::{ConsentScope, ConsentView, LinkState};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::sync::LazyLock;

const STYLE: &str = include_str!("consent.css");
const SCRIPT: &str = include_str!("consent.js");

/// How often the page asks for the state of a connection that is being checked, in seconds.
const POLL_SECONDS: u32 = 2;
/// The same for a connection whose check failed, because AAM waits before it checks it again.
const SLOW_POLL_SECONDS: u32 = 15;

static CSP: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Digest::from_bytes(text.as_bytes()).0);
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action ",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// Returns the content security policy of a page. A page with the button names the host of the vendor, because Chromium
/// applies `form-action` to the redirects that follow a form too. The vendor may redirect further, to the login page of the
/// company, whose name AAM does not know: every https address is allowed. The only form of the page is the button.
#[must_use]
pub fn content_security_policy(vendor_host: Option<&str>) -> String {
    let Some(host) = vendor_host else { return format!("{}'none'", *CSP) };
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let host: String = host.chars().filter(plain).collect();
    format!("{}'self' https: {host}", *CSP)
}

/// What the page of an open link shows in addition to the link itself.
pub struct Request<'a> {
    pub view: &'a ConsentView,
    /// Who asked for the connection: an intent file, or the token of a program.
    pub requested_by: &'a [String],
    /// `safe_mode.max_items` of the policy.
    pub max_items: u32,
}

/// The state of the connection after the consent.
pub struct Progress<'a> {
    /// The name of the state, for example `ACTIVE`.
    pub state: &'a str,
    /// True until an attempt has ended that began after the consent.
    pub checking: bool,
    pub checked_at: Option<&'a str>,
    /// What keeps the connection from being ACTIVE: title and fix.
    pub error: Option<(&'a str, &'a str)>,
}

/// Why a page cannot show what was asked for.
pub struct Trouble<'a> {
    pub heading: &'a str,
    pub title: &'a str,
    pub fix: &'a str,
    /// What the vendor or the source said, quoted, and what AAM did; may be empty.
    pub detail: &'a str,
    /// Whether a consent was refused or failed, so that the reader wants to know what became of it.
    pub nothing_stored: bool,
    /// The id of the link with which the reader can try again.
    pub link_id: Option<&'a str>,
}

/// Renders the page with the button.
#[must_use]
pub fn request(request: &Request<'_>) -> String {
    let view = request.view;
    let account = accounts(view);
    let content = html! {
        h1 { "Let AAM read " (view.family_title) ": " (account) }
        p { "Your company uses AAM to keep track of its systems. AAM asks to read this one. Nothing happens until you press the button at the end of this page." }
        @if view.state == LinkState::InProgress {
            div.note role="status" {
                p { strong { "You pressed the button before, and " (view.vendor_host) " has not answered yet." } }
                p { "If you closed its page, press the button again." }
            }
        }
        @if let Some(who) = &view.given_by {
            div.note { p { strong { "This needs " (who) "." } } p { "If that is not you, send the address of this page to them." } }
        }
        section aria-labelledby="system" {
            h2 #system { "The system" }
            dl.facts {
                dt { "System" } dd { (view.family_title) }
                dt { "Account or tenant" } dd { ul { @for id in &view.resource_ids { li { code { (id) } } } } }
                dt { "Owner" } dd { (view.owner) }
                dt { "Requested by" } dd { ul { @for by in request.requested_by { li { (by) } } } }
                dt { "Namespace in AAM" } dd { (view.namespace) }
                dt { "This page works until" } dd { (time(view.ends)) }
            }
        }
        section aria-labelledby="rights" {
            h2 #rights { "What AAM asks for" }
            @if view.scopes.is_empty() {
                p { "The rights that your account gives to the application " (view.consent) " at " (view.vendor_host) "; that page lists them." }
            } @else {
                ul.rights { @for scope in &view.scopes { li { code { (scope.name) } (reason(scope)) } } }
            }
        }
        section aria-labelledby="never" {
            h2 #never { "What AAM never does" }
            ul.never {
                li { "It never writes, changes or deletes anything. It has no function for that." }
                li { "It never shares your data. It keeps the names of what it finds and the structure, in its own registry." }
                li { "It never reads more than a small sample: at most " (request.max_items) " items in each check. It counts them and does not keep them." }
                li { "It never sees your password. You sign in at " (view.vendor_host) "." }
            }
        }
        section aria-labelledby="next" {
            h2 #next { "What happens next" }
            ol {
                li { "The button takes you to " strong { (view.vendor_host) } ". You sign in there and agree." }
                li { "You come back here. AAM checks that the account is " strong { (account) } ". If it is another one, AAM stores nothing." }
                li { "AAM stores the permission encrypted, and this page shows the connection becoming active." }
            }
            p.quiet { "You can withdraw the permission at any time: remove the application in your account at " (view.family_title) ", or ask the people who run AAM." }
        }
        form method="post" action=(format!("/consent/{}", view.link_id)) {
            button.button type="submit" { "Continue to " (view.family_title) }
        }
    };
    page(&format!("Let AAM read {}", view.family_title), None, &content)
}

/// Renders the page after the consent.
#[must_use]
pub fn progress(view: &ConsentView, progress: &Progress<'_>) -> String {
    let active = progress.state == "ACTIVE" && !progress.checking;
    let (mark, tone) = symbol(State::parse(progress.state).unwrap_or(State::Pending));
    let account = accounts(view);
    let content = html! {
        @if active {
            h1 { span.good { span aria-hidden="true" { "✓ " } "Connected" } ": " (view.family_title) " " (account) }
            p { "AAM reads " (view.family_title) " now. There is nothing left to do; you can close this page." }
        } @else if progress.checking {
            h1 { "Thank you. AAM is checking " (view.family_title) " " (account) " …" }
            p { "The permission is stored. This page shows the result by itself; it usually takes a few seconds." }
        } @else {
            h1 { "The permission is stored, but " (view.family_title) " " (account) " is not connected yet" }
            p { "AAM checks again by itself. You can close this page." }
            @if let Some((title, fix)) = progress.error {
                div.note.bad { p { strong { (title) } } @if !fix.is_empty() { p.fix { (fix) } } }
            }
        }
        dl.facts {
            dt { "State" } dd {
                @if progress.checking { span.calm { span aria-hidden="true" { "… " } "checking now" } }
                @else { span class=(tone) { span aria-hidden="true" { (mark) " " } (readable(progress.state)) } }
            }
            dt { "Account or tenant" } dd { ul { @for id in &view.resource_ids { li { code { (id) } } } } }
            @if let Some(at) = &view.given_at { dt { "Permission given" } dd { (time(*at)) } }
            @if let Some(at) = progress.checked_at.filter(|_| !progress.checking) { dt { "Last checked" } dd { (time_text(at)) } }
        }
    };
    let poll = match (active, progress.checking) {
        (true, _) => None,
        (false, true) => Some(POLL_SECONDS),
        (false, false) => Some(SLOW_POLL_SECONDS),
    };
    let title = if active { "Connected" } else { "Checking" };
    page(&format!("{title}: {}", view.family_title), poll, &content)
}

/// Renders the page of a link that has ended or was replaced.
#[must_use]
pub fn closed(view: &ConsentView) -> String {
    let command = format!("aam consent link {}", view.connection);
    let content = html! {
        @match view.state {
            LinkState::Replaced => {
                h1 { "This link was replaced" }
                p { "There is a newer request to read " (view.family_title) " " (accounts(view)) ", and only the newest link works." }
            }
            _ => {
                h1 { "This link has ended" }
                p { "It worked until " (time(view.ends)) ". AAM was not allowed to read " (view.family_title) " " (accounts(view)) " with it." }
            }
        }
        p { "Ask the people who run AAM for a new link; they get it with " code { (command) } "." }
    };
    page("This link does not work any more", None, &content)
}

/// Renders a page for what went wrong.
#[must_use]
pub fn trouble(trouble: &Trouble<'_>) -> String {
    let content = html! {
        h1 { (trouble.heading) }
        dl.facts {
            @if !trouble.title.is_empty() { dt { "What happened" } dd { (trouble.title) } }
            @if !trouble.detail.is_empty() { dt { "Details" } dd { (trouble.detail) } }
            @if trouble.nothing_stored { dt { "What AAM stored" } dd { "nothing" } }
            @if !trouble.fix.is_empty() { dt { "What to do" } dd.fix { (trouble.fix) } }
        }
        @if let Some(id) = trouble.link_id {
            p.action { a.button href=(format!("/consent/{id}")) { "Back to the request" } }
        }
    };
    page(trouble.heading, None, &content)
}

/// Returns the trouble of a connection whose account could not be proven whatever the owner did.
#[must_use]
pub fn not_possible(failure: &Failure) -> String {
    trouble(&Trouble {
        heading: "AAM is not set up for this yet",
        title: &failure.title,
        fix: &format!("For the people who run AAM: {}", failure.fix),
        detail: "",
        nothing_stored: false,
        link_id: None,
    })
}

fn accounts(view: &ConsentView) -> String {
    match view.resource_ids.as_slice() {
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    }
}

/// Says what a scope lets AAM do. Two scopes of OpenID Connect are the same for every vendor.
fn reason(scope: &ConsentScope) -> Markup {
    let text = match (&scope.about, scope.name.as_str()) {
        (Some(about), _) => about.as_str(),
        (None, "openid") => "tells AAM which account you signed in with (OpenID Connect)",
        (None, "offline_access") => "lets AAM check again later without asking you each time (OpenID Connect)",
        (None, _) => "named by the policy of your company; the page of the vendor describes it",
    };
    html! { (text) }
}

fn page(title: &str, poll: Option<u32>, content: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · AAM" }
                link rel="icon" href="data:,";
                @if let Some(seconds) = poll { noscript { meta http-equiv="refresh" content=(seconds); } }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { p.brand { "AAM" } }
                main aria-live=[poll.map(|_| "polite")] data-poll=[poll] { (content) }
                footer { "AAM connects systems of your company, read-only." }
                @if poll.is_some() { script { (PreEscaped(SCRIPT)) } }
            }
        }
    };
    printable(&page.into_string(), &['\n', '\t']).into_owned()
}
