//! What all pages have in common.

use super::Links;
use super::parts::{self, csrf};
use crate::model::text::printable;
use crate::model::{DEMO_NAMESPACE, Digest, Timestamp};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::sync::LazyLock;

/// The styles of all pages, in this order.
const STYLE: &str = concat!(
    include_str!("css/base.css"),
    include_str!("css/home.css"),
    include_str!("css/trend.css"),
    include_str!("css/connections.css"),
    include_str!("css/connection.css"),
    include_str!("css/reference.css"),
    include_str!("css/sign_in.css"),
    include_str!("css/print.css"),
);

/// The script without its comments and its indentation, which browsers do not need.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("script.js").lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).collect::<Vec<_>>().join("\n")
});

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Digest::from_bytes(text.as_bytes()).0);
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        hash(STYLE),
        hash(&SCRIPT)
    )
});

/// Returns a policy that allows only the page's own style and script (by their hashes), and requests and forms to its own
/// origin.
#[must_use]
pub fn content_security_policy() -> &'static str {
    &POLICY
}

/// The pages of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Home,
    Connections,
    Policy,
    Families,
    Problems,
    Ledger,
    About,
}

impl Place {
    /// All of them, in the order of the navigation.
    pub const ALL: [Place; 7] =
        [Place::Home, Place::Connections, Place::Policy, Place::Families, Place::Problems, Place::Ledger, Place::About];

    /// The label of the link.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Place::Home => "Home",
            Place::Connections => "Connections",
            Place::Policy => "Policy",
            Place::Families => "Families",
            Place::Problems => "Problems",
            Place::Ledger => "Ledger",
            Place::About => "About",
        }
    }

    /// The path of the page.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Place::Home => "/",
            Place::Connections => "/ui/connections",
            Place::Policy => "/ui/policy",
            Place::Families => "/ui/families",
            Place::Problems => "/ui/problems",
            Place::Ledger => "/ui/ledger",
            Place::About => "/ui/about",
        }
    }
}

/// Who reads the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The name of the token or of the person.
    pub name: String,
    /// Whether they signed in on the page, so that they can sign out.
    pub signed_in: bool,
    /// The value that forms of this person send back, see [`parts::csrf`].
    pub csrf: String,
}

/// What every page says at its top until it is corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banner {
    /// What is wrong, in one sentence.
    pub title: String,
    pub text: String,
    /// What to do; may be empty.
    pub fix: String,
    /// The page with the details; may be empty.
    pub href: String,
}

/// That the namespace of a page accepts nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    pub at: Timestamp,
    /// Whether it holds sample data.
    pub is_demo: bool,
}

/// The frame around the main part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The title of the page, which the browser shows on its tab.
    pub title: String,
    /// The entry of the navigation that the page belongs to.
    pub place: Place,
    pub links: Links,
    /// The path of the page, without the prefix.
    pub path: String,
    /// What the address of the page selects, for example the filters of a list. Links to the same page of another time keep it.
    pub filters: Vec<(String, String)>,
    pub namespace: String,
    /// The namespaces that the reader may read, in order.
    pub namespaces: Vec<String>,
    /// The namespace of the policy, which links do not name.
    pub policy_namespace: String,
    /// The instant that the page shows.
    pub as_of: Timestamp,
    /// Whether the page can show other instants.
    pub travels: bool,
    pub person: Option<Person>,
    pub banners: Vec<Banner>,
    /// The seal of the namespace, if it has one at the instant of the page.
    pub seal: Option<Seal>,
    /// What the script compares with the events of `/ui/live`: it changes when something changes that a page may show.
    pub page_version: String,
    pub version: String,
}

impl Frame {
    /// The address of this page with the namespace and the instant of `links`.
    fn here(&self, links: &Links) -> String {
        let pairs: Vec<(&str, &str)> = self.filters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        links.to(&self.path, &pairs)
    }

    /// The address of this page in the namespace of `links`. What belongs to one namespace, as a connection does, is left for the
    /// page of the navigation.
    fn in_namespace(&self, links: &Links) -> String {
        if self.path == self.place.path() { self.here(links) } else { links.to(self.place.path(), &[]) }
    }
}

/// Renders a page as text. Characters that would change how the text around them is shown are escaped, because names and
/// messages come from sources and callers.
#[must_use]
pub fn document(frame: &Frame, main: &Markup) -> String {
    printable(&render(frame, main).into_string(), &['\n', '\t']).into_owned()
}

fn render(frame: &Frame, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(&frame.title, &frame.namespace, frame.links.at.is_some()))
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href=(frame.links.to("/", &[])) { "AAM" }
                    (navigation(frame))
                    div.right { (namespaces(frame)) (person(frame)) }
                }
                div #freshness.freshness role="region" aria-label="Time of this page" {
                    @if let Some(at) = frame.links.at {
                        p.past role="status" { strong { "You see the past: " (parts::time(at)) } " " a href=(frame.here(&Links { at: None, ..frame.links.clone() })) { "Back to now" } }
                    } @else {
                        p.quiet { "As of " (parts::as_of(frame.as_of)) " " span #contact data-live=(frame.links.to("/ui/live", &[])) data-version=(frame.page_version) {} }
                    }
                    @if frame.travels { (instant(frame)) }
                }
                main #main tabindex="-1" {
                    @for banner in &frame.banners { (self::banner(banner)) }
                    @if let Some(seal) = frame.seal { (self::seal(&frame.namespace, seal)) }
                    (main)
                }
                footer.quiet { "AAM " (frame.version) " · AAM only reads from sources · data source: database · press " kbd { "?" } " for keys" }
                script { (PreEscaped(SCRIPT.as_str())) }
            }
        }
    }
}

/// Renders the head of a page.
#[must_use]
pub fn head(title: &str, namespace: &str, is_past: bool) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) @if !namespace.is_empty() { " · " (namespace) } " · AAM" }
            link rel="icon" href="data:,";
            @if !is_past && !namespace.is_empty() { noscript { meta http-equiv="refresh" content="30"; } }
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// Renders a page without navigation, for a reader who is not signed in.
#[must_use]
pub fn bare_document(title: &str, main: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, "", false))
            body.bare {
                header.top { span.brand { "AAM" } }
                main #main tabindex="-1" { (main) }
                script { (PreEscaped(SCRIPT.as_str())) }
            }
        }
    };
    printable(&page.into_string(), &['\n', '\t']).into_owned()
}

fn navigation(frame: &Frame) -> Markup {
    html! {
        nav aria-label="Pages" {
            @for place in Place::ALL {
                a href=(frame.links.to(place.path(), &[])) aria-current=[(place == frame.place).then_some("page")] { (place.label()) }
            }
        }
    }
}

/// The switch between namespaces, as links in an opening part, so that it works without a script.
fn namespaces(frame: &Frame) -> Markup {
    html! {
        details.menu #namespaces {
            summary { span.quiet { "Namespace " } (frame.namespace) }
            ul {
                @for name in &frame.namespaces {
                    @let links = Links { namespace: (*name != frame.policy_namespace).then(|| name.clone()), ..frame.links.clone() };
                    li { a href=(frame.in_namespace(&links)) aria-current=[(*name == frame.namespace).then_some("true")] { (name) @if name == DEMO_NAMESPACE { " (sample data)" } } }
                }
            }
        }
    }
}

fn person(frame: &Frame) -> Markup {
    html! {
        @if let Some(person) = &frame.person {
            span.person title="You are signed in as" { (person.name) }
            @if person.signed_in {
                form method="post" action=(frame.links.to("/ui/sign-out", &[])) { (csrf(&person.csrf)) button.plain { "Sign out" } }
            }
        }
    }
}

/// The form that shows the page as of another instant. A date and a time in UTC.
fn instant(frame: &Frame) -> Markup {
    let shown = frame.as_of.rfc3339();
    let value = shown.get(..16).unwrap_or_default().to_string();
    html! {
        details.menu #instant {
            summary { "Go to another time" }
            form method="get" {
                @if let Some(namespace) = &frame.links.namespace { input type="hidden" name="namespace" value=(namespace); }
                @for (name, value) in &frame.filters { input type="hidden" name=(name) value=(value); }
                label { "Time (UTC) " input type="datetime-local" name="at" value=(value) required; }
                button { "Show" }
            }
        }
    }
}

fn seal(namespace: &str, seal: Seal) -> Markup {
    html! {
        p #seal.seal {
            strong { "Namespace " (namespace) " is sealed" } " since " (parts::time(seal.at)) ": it accepts no intents."
            @if seal.is_demo { " It holds sample data, and AAM never calls its sources." }
        }
    }
}

fn banner(banner: &Banner) -> Markup {
    html! {
        section.banner role="alert" {
            h2 { "✕ " (banner.title) }
            @if !banner.text.is_empty() { p { (banner.text) } }
            @if !banner.fix.is_empty() { (parts::fix(&banner.fix)) }
            @if !banner.href.is_empty() { p { a href=(banner.href) { "Details" } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(path: &str, at: Option<Timestamp>) -> Frame {
        Frame {
            title: "Connections".to_string(),
            place: Place::Connections,
            links: Links { prefix: "/api/v1/aam".to_string(), namespace: None, at },
            path: path.to_string(),
            filters: vec![("state".to_string(), "ERROR,HEALING".to_string()), ("q".to_string(), "a&\"b".to_string())],
            namespace: "autonomy".to_string(),
            namespaces: vec!["autonomy".to_string(), "other".to_string()],
            policy_namespace: "autonomy".to_string(),
            as_of: Timestamp(0),
            travels: true,
            person: None,
            banners: Vec::new(),
            seal: None,
            page_version: String::new(),
            version: "1".to_string(),
        }
    }

    /// Each way to the same page of another time or namespace keeps what the reader has selected.
    #[test]
    fn another_time_and_another_namespace_keep_the_filters() {
        let text = document(&frame("/ui/connections", Some(Timestamp(0))), &html! {});
        for shown in [
            "<input type=\"hidden\" name=\"state\" value=\"ERROR,HEALING\">",
            "<input type=\"hidden\" name=\"q\" value=\"a&amp;&quot;b\">",
            "href=\"/api/v1/aam/ui/connections?state=ERROR%2CHEALING&amp;q=a%26%22b\">Back to now",
            "href=\"/api/v1/aam/ui/connections?state=ERROR%2CHEALING&amp;q=a%26%22b&amp;namespace=other&amp;at=1970",
        ] {
            assert!(text.contains(shown), "{shown} is not in {text}");
        }
        let one = document(&frame("/ui/connections/7", Some(Timestamp(0))), &html! {});
        assert!(one.contains("href=\"/api/v1/aam/ui/connections/7?state="), "back to now stays on the page: {one}");
        assert!(one.contains("href=\"/api/v1/aam/ui/connections?namespace=other"), "a connection is in one namespace: {one}");
    }
}
