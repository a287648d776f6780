//! The page of one connection: its state with the fix, and everything that AAM knows about it.
//!
//! [`main`] puts the sections together. Each section has an id, so that links can point to it, and a module of its own with the
//! data that it shows.

mod actions;
mod calls;
mod catalog;
mod credential;
mod evidence;
mod intent;
mod privilege;
mod state;
mod steps;
mod timeline;

pub use actions::{Action, Actions, Done};
pub use calls::CallsSection;
pub use catalog::{CatalogSection, CatalogVersion, FieldNode, ShownCatalog, StreamNode};
pub use credential::CredentialSection;
pub use intent::{IntentSection, OriginRow};
pub use state::NextCheck;
pub use steps::{AttemptHead, StepsSection};
pub use timeline::{Kind, TimelineItem, TimelineSection};

use super::Links;
use crate::model::{Class, State, Timestamp};
use crate::report::privileges::ConnectionPrivilege;
use crate::report::result::{ConnectionResult, ErrorBody};
use maud::{Markup, html};

/// The sections below the state, with their ids and titles, in order.
const SECTIONS: [(&str, &str); 7] = [
    ("steps", "Steps"),
    ("timeline", "Timeline"),
    ("catalog", "Catalog"),
    ("calls", "Calls"),
    ("privilege", "Privilege"),
    ("credential", "Credential"),
    ("intent", "Intent"),
];

/// Everything that the page shows.
#[derive(Clone, Debug)]
pub struct ConnectionDetails {
    pub links: Links,
    /// The connection as the API describes it.
    pub result: ConnectionResult,
    pub state: State,
    /// When the connection got into its state, if the history says it.
    pub state_since: Option<Timestamp>,
    /// The instant that the page shows.
    pub as_of: Timestamp,
    /// The name of the family, for example `GitHub`.
    pub family_title: String,
    /// The number of failed attempts in a row.
    pub failures: u32,
    pub next: NextCheck,
    /// What the reader has just done on this page.
    pub done: Option<Done>,
    /// What the reader may do. `None` on a page of the past.
    pub actions: Option<Actions>,
    /// The page on which an owner gives consent, if consent is what the connection waits for.
    pub consent_link: Option<String>,
    pub steps: StepsSection,
    pub timeline: TimelineSection,
    pub catalog: CatalogSection,
    pub calls: CallsSection,
    /// `None` for a retired connection.
    pub privilege: Option<ConnectionPrivilege>,
    pub credential: CredentialSection,
    pub intent: IntentSection,
}

impl ConnectionDetails {
    /// The path of the page.
    fn path(&self) -> String {
        format!("/ui/connections/{}", self.result.id)
    }

    /// The address of `section` of this page with the query `pairs`.
    fn section_link(&self, section: &str, pairs: &[(&str, &str)]) -> String {
        format!("{}#{section}", self.links.to(&self.path(), pairs))
    }
}

/// Renders the main part of the page.
#[must_use]
pub fn main(details: &ConnectionDetails) -> Markup {
    html! {
        (actions::done(details))
        p.quiet { a href=(details.links.to("/ui/connections", &[])) { "Connections" } " / " (details.family_title) }
        h1 { (details.result.name) }
        (state::section(details))
        (contents())
        (steps::section(details))
        (timeline::section(details))
        (catalog::section(details))
        (calls::section(details))
        (privilege::section(details))
        (credential::section(details))
        (intent::section(details))
    }
}

/// The table of contents.
fn contents() -> Markup {
    html! {
        nav.contents aria-label="On this page" {
            @for (id, title) in SECTIONS { a href={ "#" (id) } { (title) } }
        }
    }
}

/// Renders a failure: what happened in AAM's own text, what to do, and the message of the source as a quote.
fn failure(error: &ErrorBody, family_title: &str) -> Markup {
    html! {
        p.what { (error.title) }
        @if !error.fix.is_empty() { (super::parts::fix(&error.fix)) }
        (quote(error, family_title))
    }
}

/// Renders the message of the source, marked as such.
fn quote(error: &ErrorBody, family_title: &str) -> Markup {
    html! {
        @if !error.detail.is_empty() {
            figure.quote {
                @if is_of_aam(&error.class) { figcaption { "Detail" } } @else { figcaption { "Quoted from " (family_title) } }
                blockquote { (error.detail) }
            }
        }
    }
}

/// Whether the detail of a failure of this class comes from AAM, because no source was asked.
fn is_of_aam(class: &str) -> bool {
    [Class::Bug, Class::Interrupted, Class::CrashLoop, Class::NotEligible, Class::NotMappable, Class::EgressRefused]
        .iter()
        .any(|own| own.as_str() == class)
}

/// The fields of a GET form of this page that keep the namespace and the instant.
fn hidden_fields(links: &Links) -> Markup {
    html! {
        @if let Some(namespace) = &links.namespace { input type="hidden" name="namespace" value=(namespace); }
        @if let Some(at) = links.at { input type="hidden" name="at" value=(at.rfc3339()); }
    }
}
