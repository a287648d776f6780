//! About: the version, the process, its health, and the limits in force.

use super::{Links, parts};
use crate::model::Timestamp;
use crate::model::text::{age, counted};
use maud::{Markup, html};

/// The data of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct AboutPage {
    pub links: Links,
    /// The current time, because the page shows the process as it is.
    pub now: Timestamp,
    /// Whether the page was opened for a past instant.
    pub is_past: bool,
    pub version: String,
    pub commit: String,
    pub pid: u32,
    pub started: Timestamp,
    /// `None` for a reader who does not see what concerns all namespaces.
    pub registry: Option<RegistryFile>,
    pub health: Health,
    /// The limits in force, each group with its title.
    pub limits: Vec<(String, Vec<(String, String)>)>,
}

/// The file of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryFile {
    pub path: String,
    /// The sizes of the file and of its write-ahead log in bytes. `None` if the file cannot be read.
    pub size: Option<(u64, u64)>,
    pub entries: u64,
    pub connections: usize,
}

/// The health of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why it is not ready: a title and a reason. `None` if it is.
    pub not_ready: Option<(String, String)>,
    /// What is late, as sentences. Empty if nothing is.
    pub late: Vec<String>,
    pub attempts_in_flight: usize,
}

/// Renders the page.
#[must_use]
pub fn render(page: &AboutPage) -> Markup {
    html! {
        h1 { "About AAM" }
        @if page.is_past { p.quiet #past { "The ledger does not record the process, so this page shows it as it is now." } }
        (health(&page.health))
        (process(page))
        (limits(&page.limits))
        (documentation(&page.links))
    }
}

fn health(health: &Health) -> Markup {
    html! {
        section.card #health {
            h2 { "Health" }
            @match &health.not_ready {
                None => { p #ready { span.good { "✓ Ready" } } },
                Some((title, reason)) => { p #ready { strong.bad { "✕ " (title) } } p { (reason) } },
            }
            @for late in &health.late { p.warn { "! " (late) } }
            @if health.late.is_empty() { p { "Nothing is late." } }
            p.quiet { (counted(health.attempts_in_flight, "attempt")) " in progress" }
        }
    }
}

fn process(page: &AboutPage) -> Markup {
    html! {
        section #process {
            h2 { "Process" }
            dl.pairs.card {
                dt { "Version" } dd { (page.version) }
                dt { "Commit" } dd { code { (page.commit) } }
                dt { "Process id" } dd { (page.pid) }
                dt { "Started" } dd { (parts::time(page.started)) " · " (age(page.now.since(page.started))) " ago" }
                @if let Some(registry) = &page.registry {
                    dt { "Registry" } dd { code { (registry.path) } }
                    dt { "Size" }
                    dd {
                        @match registry.size {
                            Some((file, log)) => { (size(file)) @if log > 0 { ", and " (size(log)) " in its write-ahead log" } },
                            None => { "the file cannot be read" },
                        }
                    }
                    dt { "Holds" } dd { (registry.entries) " entries of the ledger, " (counted(registry.connections, "connection")) }
                }
            }
        }
    }
}

fn limits(groups: &[(String, Vec<(String, String)>)]) -> Markup {
    html! {
        section #limits {
            h2 { "Limits in force" }
            @for (title, limits) in groups {
                h3 { (title) }
                dl.pairs.card { @for (name, value) in limits { dt { (name) } dd { (value) } } }
            }
        }
    }
}

fn documentation(links: &Links) -> Markup {
    let all = [
        ("/openapi.json", "the API, as an OpenAPI document", true),
        ("/schemas/connection_intent.json", "the form of an intent, as a JSON Schema", true),
        ("/readyz", "whether AAM is ready, for probes", true),
        // A session opens pages only, so a link to these would not work.
        ("/metrics", "metrics for Prometheus; needs a token", false),
        ("/dashboard.json", "the numbers of the first page; needs a token", false),
    ];
    html! {
        section #documentation {
            h2 { "For programs" }
            ul.plainlist {
                @for (path, about, is_open) in all {
                    @let address = format!("{}{path}", links.prefix);
                    li.ref-row { @if is_open { a href=(address) { code { (address) } } } @else { code { (address) } } " " (about) }
                }
            }
        }
    }
}

/// Formats a number of bytes in the largest unit of which it has at least one, with one digit.
#[must_use]
pub fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift {
            // Whole tenths, so that no floating point number is needed.
            let tenths = (u128::from(bytes) * 10) >> shift;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        let expected = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 30, "3.0 GiB"),
        ];
        for (bytes, text) in expected {
            assert_eq!(size(bytes), text);
        }
        assert!(size(u64::MAX).ends_with(" GiB"));
    }
}
