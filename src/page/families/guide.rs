//! One family: what an intent and a credential need, and what AAM reads.

use super::{FamilyRow, allowed, bar, capability, engine, states};
use crate::model::text::counted;
use crate::model::{Cap, Timestamp};
use crate::page::policy::cap_text;
use crate::page::{Links, parts};
use maud::{Markup, html};

/// The data of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyPage {
    pub links: Links,
    pub as_of: Timestamp,
    pub family: FamilyRow,
    /// The calls of today by account, the most used first.
    pub accounts: Vec<(String, u64)>,
    /// Whether there are further accounts.
    pub more_accounts: bool,
    /// Why the accounts have numbers in place of names; empty if they have names.
    pub no_names: String,
    /// Why the budget is left out; empty if it is not.
    pub no_budgets: String,
    /// The budget of one account that is in force.
    pub cap: Cap,
    pub resource_ids: String,
    pub examples: Vec<String>,
    pub least_privilege: String,
    pub how_to_grant: Vec<String>,
    pub risk: Option<String>,
    pub timeouts: Option<String>,
    /// The calls until a connection is ACTIVE, and those of each later check.
    pub calls: Option<(u64, u64)>,
    pub kinds: Vec<GuideKind>,
    pub logins: Vec<GuideLogin>,
    pub forms: Vec<GuideForm>,
    pub proof: Vec<String>,
    /// Where the facts come from.
    pub sources: Vec<(String, String)>,
    /// An intent that can be pasted.
    pub intent: String,
    /// Everything as `aam families NAME` prints it.
    pub text: String,
}

/// A kind of resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuideKind {
    pub name: String,
    pub base_url: String,
    /// Whether the policy has to list the server.
    pub is_listed: bool,
    pub streams: Vec<String>,
}

/// A way to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuideLogin {
    pub name: String,
    pub about: String,
    /// The fields of the credential with what they are, and whether they are optional.
    pub fields: Vec<(String, String, bool)>,
    /// The credential as JSON, with placeholders for the values.
    pub json: String,
    pub text: Option<String>,
}

/// A form of a credential locator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuideForm {
    pub form: String,
    pub about: String,
    pub examples: Vec<GuideExample>,
}

/// An example that can be pasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuideExample {
    pub login: String,
    pub locator: String,
    pub commands: Vec<String>,
    /// The entry of the policy; empty if none is needed.
    pub policy: String,
    pub calls: Vec<String>,
}

/// Renders the page.
#[must_use]
pub fn render(page: &FamilyPage) -> Markup {
    html! {
        p { a href=(page.links.to("/ui/families", &[])) { "Families" } }
        h1 { (page.family.title) " " code.quiet { (page.family.id) } }
        (state(page))
        (budget(page))
        (intent(page))
        (grants(page))
        (reads(page))
        (logins(page))
        (forms(page))
        (facts(page))
        section {
            details #as-text {
                summary { "All of this as text, as " code { "aam families " (page.family.id) } " prints it" }
                pre { (page.text) }
            }
        }
    }
}

fn state(page: &FamilyPage) -> Markup {
    let family = &page.family;
    let entry = format!("allowlist:\n  - {}", family.id);
    html! {
        section.card #state {
            dl.pairs {
                dt { "Capability" } dd { (capability(family.connects)) }
                @if !family.engine.is_empty() { dt { "Engine" } dd { (engine(&family.engine)) } }
                dt { "Policy" }
                dd { (allowed(family.is_allowed)) @if family.is_allowed == Some(false) && family.connects { " " code { (entry) } " " (parts::copy("Copy the line of the policy", &entry)) } }
                dt { "Connections" }
                dd { (states(&page.links, &family.id, &family.states)) @if !family.states.is_empty() { " " a href=(page.links.to("/ui/connections", &[("family", family.id.as_str())])) { "list them" } } }
                @if !family.aliases.is_empty() { dt { "Other names" } dd { (family.aliases.join(", ")) } }
            }
        }
    }
}

fn budget(page: &FamilyPage) -> Markup {
    html! {
        section #budget {
            h2 { "Budget used today" }
            p.quiet { "One account may use " (cap_text(&page.cap)) ". The count begins again at 00:00 UTC, and includes calls that are reserved in blocks before they are made." }
            @if !page.no_budgets.is_empty() { p.quiet { (page.no_budgets) } }
            @else if page.accounts.is_empty() { p { "No account of this family was called today." } }
            @else {
                @if !page.no_names.is_empty() { p.quiet { (page.no_names) } }
                ul.plainlist { @for (account, used) in &page.accounts { li.ref-row.account { code { (account) } " " (bar(*used, Some(page.cap.per_day))) } } }
                @if page.more_accounts { p.quiet { "and more accounts that were called less" } }
            }
        }
    }
}

fn intent(page: &FamilyPage) -> Markup {
    html! {
        section #intent {
            h2 { "An intent" }
            p { strong { "Resource ids: " } (page.resource_ids) }
            @if !page.examples.is_empty() {
                ul.plainlist.ref-inline { @for example in &page.examples { li { code { (example) } " " (parts::copy("Copy", example)) } } }
            }
            pre { (page.intent) }
            (parts::copy("Copy the intent", &page.intent))
        }
    }
}

fn grants(page: &FamilyPage) -> Markup {
    html! {
        section #privilege {
            h2 { "Least privilege" }
            p { (page.least_privilege) }
            @if !page.how_to_grant.is_empty() { ol { @for step in &page.how_to_grant { li { (step.trim()) } } } }
            @if let Some(risk) = &page.risk { p { strong { "Risk: " } (risk) } }
        }
    }
}

fn reads(page: &FamilyPage) -> Markup {
    html! {
        section #reads {
            h2 { "What AAM reads" }
            @if let Some((onboarding, health)) = page.calls {
                p { (onboarding) " calls until a connection is ACTIVE, " (health) " for each later check, if each list fits into one page." }
            }
            @if let Some(timeouts) = &page.timeouts { p { strong { "Timeouts: " } (timeouts) } }
            @if !page.kinds.is_empty() {
                dl.pairs.card {
                    @for kind in &page.kinds {
                        dt { (kind.name) }
                        dd {
                            (kind.streams.join(", "))
                            @if !kind.base_url.is_empty() { p.quiet { "at " code { (kind.base_url) } @if kind.is_listed { ", which families." (page.family.id) ".hosts of the policy lists" } } }
                        }
                    }
                }
            }
        }
    }
}

fn logins(page: &FamilyPage) -> Markup {
    html! {
        section #logins {
            h2 { "Ways to log in" }
            @if page.logins.is_empty() { p { "Sources of this family need no credential; leave credential_locator out." } }
            @for login in &page.logins {
                details.card id=(format!("login-{}", login.name)) {
                    summary { strong { (login.name) } " " (login.about) }
                    dl.pairs { @for (name, about, is_optional) in &login.fields { dt { code { (name) } } dd { (about) @if *is_optional { span.quiet { " (optional)" } } } } }
                    (example("The credential as JSON", &login.json))
                    @if let Some(text) = &login.text { (example("or as text", text)) }
                }
            }
        }
    }
}

fn forms(page: &FamilyPage) -> Markup {
    html! {
        @if !page.forms.is_empty() {
            section #locators {
                h2 { "Where the credential is stored" }
                @for form in &page.forms {
                    details.card id=(format!("form-{}", form.form)) {
                        summary { code { (form.form) } " " (form.about) }
                        @for one in &form.examples {
                            h3 { (one.login) }
                            (example("credential_locator", &one.locator))
                            @if !one.commands.is_empty() { (example("Store it", &one.commands.join("\n"))) }
                            @if !one.policy.is_empty() { (example("In the policy", &one.policy)) }
                            p.quiet { "Calls before the source is called: " @if one.calls.is_empty() { "none" } @else { (one.calls.join(", ")) } }
                        }
                    }
                }
            }
        }
    }
}

/// Renders a text that can be pasted.
fn example(title: &str, text: &str) -> Markup {
    html! { div.example { p.quiet { (title) " " (parts::copy("Copy", text)) } pre { (text) } } }
}

fn facts(page: &FamilyPage) -> Markup {
    html! {
        section #proof {
            h2 { "What proves it" }
            @if page.proof.is_empty() {
                p { "Its tests, against servers that AAM's authors wrote." }
            } @else {
                details #proofs { summary { (counted(page.proof.len(), "proof")) } ul { @for proof in &page.proof { li { (proof.trim()) } } } }
            }
            details #sources {
                summary { "Where these facts come from" }
                p.quiet { "[V] read there, [K] known documentation, [U] uncertain, [-] follows from the format" }
                dl.pairs { @for (what, source) in &page.sources { dt { (what) } dd { (source) } } }
            }
        }
    }
}
