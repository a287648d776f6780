//! The messages of webhooks. Pure: the same events give the same message.

use crate::events::{Event, EventType, SCHEMA_VERSION};
use crate::model::text::counted;
use crate::model::{Digest, Timestamp};
use crate::policy::{Webhook, WebhookForm};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The number of events that a message for people describes. The others are only counted.
const MAX_LINES: usize = 15;
/// The number of characters that describe one event. Slack and Teams accept messages of at least 20 such lines.
const MAX_LINE_CHARS: usize = 400;

/// The events of one message, in order, with the resource ids of their connections by document.
pub struct Bundle {
    pub events: Vec<Arc<Event>>,
    pub resource_ids: HashMap<u64, Vec<String>>,
}

impl Bundle {
    /// Returns the id of the message to `webhook`. It is the same whenever the same events are sent again.
    #[must_use]
    pub fn id(&self, webhook: &str) -> String {
        let ends = [self.events.first(), self.events.last()];
        let name = ends.iter().flatten().fold(webhook.to_string(), |name, event| format!("{name}|{}|{}", event.id, event.at.0));
        let digest = Digest::from_bytes(name.as_bytes()).to_string();
        format!("msg_{}", digest.chars().take(32).collect::<String>())
    }

    /// Returns the body of the message in `form`.
    #[must_use]
    pub fn body(&self, webhook: &str, form: WebhookForm) -> Value {
        match form {
            WebhookForm::Standard => self.standard(webhook),
            WebhookForm::Slack => self.slack(),
            WebhookForm::Teams => self.teams(),
        }
    }

    fn standard(&self, webhook: &str) -> Value {
        let event = |event: &Arc<Event>| event.to_json(self.ids(event));
        let id = |event: Option<&Arc<Event>>| event.map(|event| event.id.to_string());
        json!({
            "type": "aam.events",
            "timestamp": self.events.last().map(|event| event.at.rfc3339()),
            "data": {
                "schema_version": SCHEMA_VERSION,
                "webhook": webhook,
                "first": id(self.events.first()),
                "last": id(self.events.last()),
                "total": self.events.len(),
                "counts": self.counts().into_iter().map(|(kind, count)| (kind.as_str().to_string(), count.into())).collect::<Map<_, _>>(),
                "events": self.events.iter().map(event).collect::<Vec<_>>(),
            },
        })
    }

    /// Slack reads `&`, `<` and `>` as its own (docs.slack.dev, "Formatting message text"), so they are escaped: a text of a
    /// source cannot mention a channel or show a link.
    fn slack(&self) -> Value {
        let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (title, lines) = self.lines();
        let text = lines.iter().fold(format!("*{}*", escape(&title)), |text, line| format!("{text}\n• {}", escape(line)));
        json!({ "text": text })
    }

    fn teams(&self) -> Value {
        let (title, lines) = self.lines();
        let lines = lines.iter().map(|line| run(line, "Default"));
        card(std::iter::once(run(&title, "Bolder")).chain(lines).collect())
    }

    /// Returns the title and the lines of a message for people: first what needs attention, then the rest, in order of time.
    fn lines(&self) -> (String, Vec<String>) {
        let counts: Vec<String> = self.counts().iter().map(|(kind, count)| format!("{count} {}", kind.as_str())).collect();
        let title = match self.events.len() {
            1 => "AAM: 1 event".to_string(),
            many => format!("AAM: {} ({})", counted(many, "event"), counts.join(", ")),
        };
        let mut ordered: Vec<&Arc<Event>> = self.events.iter().collect();
        ordered.sort_by_key(|event| !needs_attention(event));
        let mut lines: Vec<String> = ordered.iter().take(MAX_LINES).map(|event| cut(&describe(event, self.ids(event)))).collect();
        if ordered.len() > MAX_LINES {
            lines.push(format!("and {} more", ordered.len() - MAX_LINES));
        }
        (title, lines)
    }

    fn counts(&self) -> BTreeMap<EventType, usize> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            *counts.entry(event.kind).or_insert(0) += 1;
        }
        counts
    }

    fn ids(&self, event: &Event) -> Option<&[String]> {
        event.connection.as_ref().and_then(|connection| self.resource_ids.get(&connection.document)).map(Vec::as_slice)
    }
}

/// The message with the head of the ledger.
#[must_use]
pub fn head(webhook: &Webhook, at: Timestamp, moment: &str, head: &str) -> Value {
    let text = format!("AAM: the head of the ledger is {head} ({moment}, {})", at.rfc3339());
    match webhook.form {
        WebhookForm::Standard => json!({
            "type": "aam.ledger_head",
            "timestamp": at.rfc3339(),
            "data": { "schema_version": SCHEMA_VERSION, "webhook": webhook.name, "moment": moment, "head": head },
        }),
        WebhookForm::Slack => json!({ "text": text }),
        WebhookForm::Teams => card(vec![run(&text, "Default")]),
    }
}

/// A paragraph of an adaptive card. A `TextRun` shows its text as it is, unlike a `TextBlock`, which would read links in it.
fn run(text: &str, weight: &str) -> Value {
    json!({ "type": "RichTextBlock", "inlines": [{ "type": "TextRun", "text": text, "weight": weight }] })
}

/// An adaptive card.
fn card(body: Vec<Value>) -> Value {
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body,
    });
    let attachment = json!({ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card });
    json!({ "type": "message", "attachments": [attachment] })
}

fn needs_attention(event: &Event) -> bool {
    match event.kind {
        EventType::StateChanged => event.data.contains_key("title"),
        EventType::Drift
        | EventType::CredentialExpiring
        | EventType::SloMissed
        | EventType::PolicyRejected
        | EventType::IntentProblem => true,
        EventType::IntentAccepted
        | EventType::Retired
        | EventType::SloMet
        | EventType::PolicyAccepted
        | EventType::IntentProblemResolved => false,
    }
}

/// One sentence about an event.
fn describe(event: &Event, resource_ids: Option<&[String]>) -> String {
    let data = |name: &str| event.data.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| event.data.get(name).and_then(Value::as_u64).unwrap_or_default();
    let count = |name: &str| usize::try_from(number(name)).unwrap_or(usize::MAX);
    let source = event.connection.as_ref().map_or_else(String::new, |connection| {
        format!("{} {} ({})", connection.source_type, resource_ids.unwrap_or_default().join(" "), event.namespace)
    });
    let fix = if data("fix").is_empty() { String::new() } else { format!("; fix: {}", data("fix")) };
    match event.kind {
        EventType::IntentAccepted => format!("{source}: intent {} by {}", data("change"), data("origin")),
        EventType::StateChanged if data("title").is_empty() => format!("{source} is {}, was {}", data("to"), data("from")),
        EventType::StateChanged => format!("{source} is {}, was {}: {}{fix}", data("to"), data("from"), data("title")),
        EventType::Retired => format!("{source} was retired, because no intent asks for it any more"),
        EventType::Drift => {
            let breaking = count("breaking_total");
            let (kind, total, list) = match breaking {
                0 => ("additive", count("additive_total"), "additive"),
                _ => ("breaking", breaking, "breaking"),
            };
            let changes = event.data.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let changes: Vec<&str> = changes.take(3).collect();
            format!("{source}: {}: {}", counted(total, &format!("{kind} schema change")), changes.join("; "))
        }
        EventType::CredentialExpiring => format!("{source}: {}{fix}", data("title")),
        EventType::SloMissed | EventType::SloMet => {
            let coverage = |name: &str| event.data.get(name).and_then(Value::as_f64).unwrap_or_default();
            let is = if event.kind == EventType::SloMet { "at least" } else { "below" };
            format!(
                "{}: {} of {} eligible connections are ACTIVE; coverage {:.2} is {is} the target {:.2}",
                event.namespace,
                number("active"),
                number("eligible"),
                coverage("coverage"),
                coverage("target")
            )
        }
        EventType::PolicyAccepted => format!("policy {} is in force", data("policy").chars().take(12).collect::<String>()),
        EventType::PolicyRejected => {
            format!("the policy file is not valid, the last accepted policy stays in force: {}", first_problem(event))
        }
        EventType::IntentProblem => {
            format!("{} of {}: {}", counted(count("problems_total"), "problem"), data("file"), first_problem(event))
        }
        EventType::IntentProblemResolved => format!("{} has no problems any more", data("file")),
    }
}

fn first_problem(event: &Event) -> String {
    let problem = event.data.get("problems").and_then(|problems| problems.get(0));
    let text = |name: &str| problem.and_then(|problem| problem.get(name)).and_then(Value::as_str).unwrap_or_default();
    let hint = if text("hint").is_empty() { String::new() } else { format!("; hint: {}", text("hint")) };
    format!("{} {}{hint}", text("pointer"), text("message")).trim().to_string()
}

/// Puts the text on one line and cuts it.
fn cut(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE_CHARS).collect();
    if text.chars().count() > MAX_LINE_CHARS { format!("{line}…") } else { line }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
