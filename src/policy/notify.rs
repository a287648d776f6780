//! The webhooks of the policy: who is notified of what.

use super::diff::{Changes, Effect, Parts};
use crate::model::{Digest, EventType, Locator};
use serde::Serialize;
use std::fmt;
use url::Url;

/// The maximum number of webhooks. Each of them has its own series in the metrics.
pub const MAX_WEBHOOKS: usize = 16;

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// The name under which the registry remembers what the webhook has received.
    pub name: String,
    pub address: WebhookAddress,
    pub form: WebhookForm,
    /// The secret that messages are signed with. Only the form `standard` has one.
    pub secret: Option<Locator>,
    /// The types of events that it receives. What ends an event of these types is included, see [`EventType::end`].
    pub on: Vec<EventType>,
    /// Only events of these namespaces. If the list is empty, events of all namespaces and of the whole registry.
    pub namespaces: Vec<String>,
}

/// Where the messages of a webhook are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookAddress {
    Url(#[serde(serialize_with = "as_text")] Url),
    /// The URL is a secret. Its host is not, so that it can be reviewed.
    Stored {
        url_locator: Locator,
        host: String,
    },
}

fn as_text<S: serde::Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(url.as_str())
}

/// The form of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookForm {
    /// JSON with all fields of the events, signed as Standard Webhooks.
    Standard,
    /// A text for an incoming webhook of Slack.
    Slack,
    /// An adaptive card for an incoming webhook or a workflow of Microsoft Teams.
    Teams,
}

impl WebhookForm {
    /// All forms.
    pub const ALL: [WebhookForm; 3] = [WebhookForm::Standard, WebhookForm::Slack, WebhookForm::Teams];

    /// Returns the name of the form in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WebhookForm::Standard => "standard",
            WebhookForm::Slack => "slack",
            WebhookForm::Teams => "teams",
        }
    }
}

impl WebhookAddress {
    /// Returns the host, with the port if it is not 443.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            WebhookAddress::Url(url) => {
                let host = url.host_str().unwrap_or_default();
                url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
            }
            WebhookAddress::Stored { host, .. } => host.clone(),
        }
    }

    /// Returns the name of a webhook at this address to which the policy gives none. It changes with the address.
    #[must_use]
    pub fn default_name(&self) -> String {
        let (host, text) = match self {
            WebhookAddress::Url(url) => (url.host_str().unwrap_or_default(), url.to_string()),
            WebhookAddress::Stored { url_locator, host } => (host.as_str(), url_locator.to_string()),
        };
        let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(50).collect();
        format!("{}-{}", host.trim_matches('-'), Digest::from_bytes(text.as_bytes()).short())
    }
}

impl fmt::Display for WebhookAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WebhookAddress::Url(url) => write!(f, "{url}"),
            WebhookAddress::Stored { url_locator, host } => write!(f, "{host} (the URL is in {url_locator})"),
        }
    }
}

impl Webhook {
    /// Returns all types of events that the webhook receives.
    #[must_use]
    pub fn types(&self) -> Vec<EventType> {
        let ends = self.on.iter().filter_map(|kind| kind.end()).filter(|end| !self.on.contains(end));
        self.on.iter().copied().chain(ends).collect()
    }

    fn scope(&self) -> String {
        match self.namespaces.as_slice() {
            [] => "all namespaces".to_string(),
            [one] => format!("the namespace {one}"),
            more => format!("the namespaces {}", more.join(", ")),
        }
    }

    fn events(&self) -> String {
        self.on.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Adds one line for each webhook that changed.
pub fn diff(was: &[Webhook], is: &[Webhook], out: &mut Changes) {
    let find = |list: &'_ [Webhook], name: &str| list.iter().find(|webhook| webhook.name == name).cloned();
    for gone in was.iter().filter(|webhook| find(is, &webhook.name).is_none()) {
        out.add("notify", Effect::Narrower, format!("webhook {} removed; it receives nothing any more", gone.name));
    }
    for webhook in is {
        match find(was, &webhook.name) {
            None => {
                let (events, scope) = (webhook.events(), webhook.scope());
                let text = format!("webhook {} added: AAM sends {events} of {scope} to {}", webhook.name, webhook.address);
                out.add("notify", Effect::Wider, text);
            }
            Some(before) => {
                let title = format!("webhook {}", webhook.name);
                out.add_parts("notify", &title, &changed(&before, webhook), ", ", None);
            }
        }
    }
}

/// What changed, with a mark where more is sent, or something is sent elsewhere.
fn changed(was: &Webhook, is: &Webhook) -> Parts {
    let mut parts = Parts::default();
    if was.address != is.address {
        parts.add(Effect::Wider, format!("its messages go to {} instead of {}", is.address, was.address));
    }
    for added in is.on.iter().filter(|kind| !was.on.contains(kind)) {
        parts.add(Effect::Wider, format!("it also receives {}", added.as_str()));
    }
    for gone in was.on.iter().filter(|kind| !is.on.contains(kind)) {
        parts.add(Effect::Narrower, format!("it no longer receives {}", gone.as_str()));
    }
    if was.namespaces != is.namespaces {
        let wider = is.namespaces.is_empty()
            || !was.namespaces.is_empty() && is.namespaces.iter().any(|name| !was.namespaces.contains(name));
        let text = format!("it receives events of {} instead of {}", is.scope(), was.scope());
        parts.add(Effect::wider_if(wider), text);
    }
    parts.changed("form", Effect::Neutral, was.form.as_str(), is.form.as_str());
    let shown = |secret: &Option<Locator>| secret.as_ref().map_or("(not set)".to_string(), ToString::to_string);
    // AAM reads another secret, and signs with it.
    parts.changed("secret", Effect::wider_if(is.secret.is_some()), &shown(&was.secret), &shown(&is.secret));
    parts
}

#[cfg(test)]
#[path = "notify_tests.rs"]
mod tests;
