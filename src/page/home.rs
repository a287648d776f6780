//! Home: whether the target is reached, where connections are lost, and what to do next.

use super::attention::{self, Attention};
use super::funnel_picture::{self, FunnelPicture};
use super::parts::copy;
use super::{Links, connections};
use crate::funnel::Coverage;
use crate::funnel::coverage::target_percent;
use crate::model::Timestamp;
use crate::model::text::counted;
use maud::{Markup, html};

/// The content of the page.
#[derive(Clone, Debug)]
pub struct Home {
    pub links: Links,
    /// The instant that the page shows.
    pub as_of: Timestamp,
    pub answer: Answer,
    pub holds: Vec<HeldChange>,
    pub picture: FunnelPicture,
    pub attention: Attention,
    pub numbers: Vec<Number>,
    /// The connections whose structure changed within 7 days.
    pub drift: DriftList,
    /// The section with the trend.
    pub trend: Markup,
    /// Whether the page shows the past, of which not everything is known.
    pub is_past: bool,
}

/// How far the namespace is.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub received: u64,
    pub coverage: Coverage,
    /// Between 0 and 1.
    pub target: f64,
    /// The number of attempts that run.
    pub attempts: usize,
    /// A command that writes a first intent, for a namespace that received none. Empty if the reader cannot use it.
    pub recipe: String,
}

/// A change that is held until a person confirms it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldChange {
    /// The first digits of its digest.
    pub digest: String,
    pub count: usize,
    pub message: String,
    pub fix: String,
    /// The first connections with the reason why they would leave.
    pub examples: Vec<HeldExample>,
}

/// A connection that would leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldExample {
    pub id: String,
    pub name: String,
    pub reason: String,
}

/// A number that leads to its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    pub label: &'static str,
    pub count: u64,
    pub href: String,
    /// The class of the number if it is not 0.
    pub tone: &'static str,
}

/// Connections whose structure changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriftList {
    /// The first ones.
    pub lines: Vec<DriftLine>,
    /// The number of all.
    pub total: usize,
}

/// A connection whose structure changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftLine {
    pub id: String,
    pub family: String,
    pub name: String,
    /// The version of the newest catalog.
    pub version: u32,
}

/// Renders the page.
#[must_use]
pub fn render(home: &Home) -> Markup {
    html! {
        (answer(&home.answer))
        (holds(home))
        @if home.answer.received > 0 {
            div.home-top {
                section.card aria-labelledby="funnel" { h2 #funnel { "Funnel" } (funnel_picture::render(&home.picture)) }
                div.card.home-attention { (attention::render(&home.attention, &home.links, home.as_of)) }
                div.home-also { (numbers(home)) (drift(home)) }
            }
        } @else {
            (numbers(home))
            (drift(home))
        }
        (home.trend)
    }
}

/// The title of the page, which the tab of the browser shows.
#[must_use]
pub fn title(answer: &Answer) -> String {
    match answer.coverage.eligible {
        0 => "Home".to_string(),
        _ => format!("{} % connected", answer.coverage.percent()),
    }
}

/// The sentence that says how far the namespace is, and the class of its tone. Nothing received is not bad news.
#[must_use]
pub fn sentence(answer: &Answer) -> (String, &'static str) {
    let target = target_percent(answer.target);
    let missing = answer.coverage.missing(answer.target);
    match (answer.received, answer.coverage.eligible) {
        (0, _) => ("No connection was received yet".to_string(), "calm"),
        (_, 0) => (format!("Nothing is eligible yet · target {target} %"), "calm"),
        _ if missing == 0 => (format!("{} % connected · target {target} % · target met", answer.coverage.percent()), "good"),
        _ => {
            let more = if missing == 1 { "1 more connection".to_string() } else { format!("{missing} more connections") };
            (format!("{} % connected · target {target} % · {more} needed", answer.coverage.percent()), "warn")
        }
    }
}

fn answer(answer: &Answer) -> Markup {
    let (text, tone) = sentence(answer);
    let Coverage { active, eligible } = answer.coverage;
    html! {
        section.answer #answer {
            h1 aria-live="polite" { span.(tone) aria-hidden="true" { (sign(tone)) " " } (text) }
            @if eligible > 0 { (bar(answer, tone)) }
            @if answer.received > 0 {
                p.quiet {
                    (active) " of " (eligible) " eligible connections are active; " (counted(usize::try_from(answer.received).unwrap_or(usize::MAX), "connection")) " received"
                    @if answer.attempts > 0 { "; " (counted(answer.attempts, "attempt")) " in progress" }
                }
            } @else {
                (first_steps(&answer.recipe))
            }
        }
    }
}

fn sign(tone: &str) -> &'static str {
    match tone {
        "good" => "✓",
        "warn" => "!",
        _ => "○",
    }
}

/// A bar of the width of the page with the coverage, and a mark at the target. Its geometry is in percent, so that it has no
/// distorted text.
fn bar(answer: &Answer, tone: &str) -> Markup {
    let share = percent_of(answer.coverage);
    let target = format!("{:.2}%", (answer.target * 100.0).clamp(0.0, 100.0));
    let anchor = if answer.target > 0.5 { "end" } else { "start" };
    let label = format!(
        "{} % of the eligible connections are active; the target is {} %",
        answer.coverage.percent(),
        target_percent(answer.target)
    );
    html! {
        svg.coverage width="100%" height="40" role="img" aria-label=(label) {
            rect.track x="0" y="0" width="100%" height="20" rx="3" {}
            rect.(tone) x="0" y="0" width=(share) height="20" rx="3" {}
            line.target x1=(target) x2=(target) y1="0" y2="26" {}
            text.target x=(target) y="38" text-anchor=(anchor) { "target " (target_percent(answer.target)) " %" }
        }
    }
}

/// The coverage as a length, truncated to hundredths of a percent.
fn percent_of(coverage: Coverage) -> String {
    let gain = Coverage::default().gain(coverage);
    format!("{}.{:02}%", gain / 100, gain % 100)
}

fn first_steps(recipe: &str) -> Markup {
    html! {
        p { "A discovery tool, or you, writes down what to connect. AAM connects it within seconds and shows the result here." }
        @if recipe.is_empty() {
            p { "Push a connection_intent to " code { "POST /connections/onboard" } "." }
        } @else {
            p { "A first intent, to paste and to adapt:" }
            pre #recipe { (recipe) }
            p { (copy("Copy the command", recipe)) }
        }
    }
}

/// The changes that are held, first among what a person should decide.
fn holds(home: &Home) -> Markup {
    html! {
        // The number of held changes leads here, also if it is 0.
        div #holds {
            @for hold in &home.holds {
                section.banner role="alert" id=(format!("hold-{}", hold.digest)) {
                    h2 { "! Held: " (counted(hold.count, "connection")) " would leave at once" }
                    p { (hold.message) "." }
                    ul {
                        @for held in &hold.examples {
                            li { a href=(home.links.connection(&held.id)) { (held.name) } " " span.quiet { (held.reason) } }
                        }
                        @if hold.count > hold.examples.len() {
                            li.quiet { "and " (hold.count - hold.examples.len()) " more; " code { "GET /holds" } " lists them" }
                        }
                    }
                    div.fix { p { (hold.fix) } (copy("Copy the command", &format!("aam confirm {}", hold.digest))) }
                }
            }
        }
    }
}

fn numbers(home: &Home) -> Markup {
    html! {
        section aria-labelledby="numbers" {
            h2 #numbers { "Also" }
            ul.numbers {
                @for number in &home.numbers {
                    @let tone = if number.count == 0 { "zero" } else { number.tone };
                    li { a href=(number.href) { strong.(tone) { (number.count) } span { (number.label) } } }
                }
            }
            @if home.is_past { p.quiet { "Problems of files, of the policy and of webhooks, and held changes are not recorded, so a page of the past does not show them." } }
        }
    }
}

fn drift(home: &Home) -> Markup {
    let DriftList { lines, total } = &home.drift;
    html! {
        details #drift {
            summary { (counted(*total, "connection")) " whose structure changed within 7 days" }
            ul #drift-list.plainlist.members {
                @for line in lines {
                    li id=(format!("drift-{}", line.id)) {
                        a href=(home.links.connection(&line.id)) { (line.family) " " (if line.name.is_empty() { &line.id } else { &line.name }) }
                        span.quiet { " catalog version " (line.version) }
                    }
                }
                @if *total > lines.len() { li.quiet { "and " (*total - lines.len()) " more; " code { "aam drift" } " lists all changes" } }
            }
        }
    }
}

/// A command that writes a first intent into `folder`.
#[must_use]
pub fn recipe(folder: &str, example: &ExampleIntent, at: Timestamp) -> String {
    let document = serde_json::json!({
        "source_type": example.source_type,
        "resource_ids": [example.resource_id],
        "credential_locator": format!("env:{}", example.variable),
        "risk_level": "low",
        "evidence": {"status": example.evidence, "source": "CMDB", "ts": at.rfc3339()},
        "owner": {"user": "you@acme.example", "confidence": 0.9, "why": "admin"},
    });
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    format!(
        "cat > {} <<'END'\n{text}\nEND\naam secret set {}\naam status",
        shell_text(&format!("{}/first.json", folder.trim_end_matches('/'))),
        example.variable
    )
}

/// What the recipe asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleIntent {
    pub source_type: String,
    pub resource_id: String,
    /// The environment variable of the credential.
    pub variable: String,
    /// A status that the policy accepts.
    pub evidence: String,
}

/// `text` as one argument of a shell command.
fn shell_text(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    if is_plain && !text.is_empty() { text.to_string() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The numbers about connections, which lead to the filtered list.
#[must_use]
pub fn warning_number(links: &Links, label: &'static str, count: u64, warning: &str) -> Number {
    Number { label, count, href: connections::filter::link(links, "warning", warning), tone: "warn" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(received: u64, active: u64, eligible: u64) -> Answer {
        Answer { received, coverage: Coverage { active, eligible }, target: 0.9, attempts: 0, recipe: String::new() }
    }

    #[test]
    fn the_sentence_is_exact_and_never_bad_news_for_an_empty_installation() {
        let said = |answer: &Answer| sentence(answer);
        assert_eq!(said(&answered(0, 0, 0)), ("No connection was received yet".to_string(), "calm"));
        assert_eq!(said(&answered(3, 0, 0)).1, "calm");
        assert_eq!(said(&answered(214, 167, 214)).0, "78 % connected · target 90 % · 26 more connections needed");
        assert_eq!(said(&answered(10, 8, 10)).0, "80 % connected · target 90 % · 1 more connection needed");
        assert_eq!(said(&answered(10, 9, 10)), ("90 % connected · target 90 % · target met".to_string(), "good"));
        assert_eq!(title(&answered(1000, 896, 1000)), "89 % connected");
    }

    #[test]
    fn the_bar_has_the_coverage_and_the_mark_of_the_target() {
        let text = bar(&answered(214, 167, 214), "warn").into_string();
        assert!(text.contains("width=\"78.03%\"") && text.contains("x1=\"90.00%\""), "{text}");
        assert!(text.contains("78 % of the eligible connections are active; the target is 90 %"), "{text}");
    }

    #[test]
    fn the_recipe_can_be_pasted() {
        let example = ExampleIntent {
            source_type: "jdbc".to_string(),
            resource_id: "jdbc:postgresql://db.acme.example/shop".to_string(),
            variable: "SHOP_READER".to_string(),
            evidence: "Sanctioned".to_string(),
        };
        let text = recipe("/etc/aam/it's here", &example, Timestamp(0));
        assert!(text.starts_with("cat > '/etc/aam/it'\\''s here/first.json' <<'END'\n{"), "{text}");
        let json = text.split_once("<<'END'\n").and_then(|(_, rest)| rest.split_once("\nEND\n")).map_or("", |(json, _)| json);
        let parsed = crate::intake::wire::parse(json.as_bytes(), &crate::intake::wire::Limits::default());
        assert!(parsed.is_ok_and(|batch| batch.items.iter().all(|item| item.outcome.is_ok())), "{json}");
    }
}
