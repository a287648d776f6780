//! The list `notify`.

use super::super::notify::{MAX_WEBHOOKS, Webhook, WebhookAddress, WebhookForm};
use super::super::read::{Fields, Reader, Spot};
use super::super::yaml::shown;
use super::credentials::locator;
use super::listener::{host, host_and_port};
use super::reach::secret_address;
use crate::model::{EventType, Locator};
use url::Url;

/// The host of Slack's incoming webhooks (docs.slack.dev, "Sending messages using incoming webhooks").
const SLACK_HOST: &str = "hooks.slack.com";

pub fn notify(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<Webhook>> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    let items = r.list(spot, "webhooks")?;
    if items.len() > MAX_WEBHOOKS {
        r.report(spot, format!("the list has {} webhooks, the limit is {MAX_WEBHOOKS}", items.len()), "shorten the list");
        return None;
    }
    for item in items {
        let Some(webhook) = webhook(r, &item) else { continue };
        if webhooks.iter().any(|known| known.name == webhook.name) {
            let message = format!("the name {} is used by two webhooks", shown(&webhook.name));
            r.report(&item, message, "give each webhook a name of its own, or merge entries with the same address");
        } else {
            webhooks.push(webhook);
        }
    }
    Some(webhooks)
}

fn webhook(r: &mut Reader, spot: &Spot<'_>) -> Option<Webhook> {
    let fields = r.fields(spot, &["name", "url", "url_locator", "host", "form", "secret", "on", "namespaces"])?;
    let forms = WebhookForm::ALL.map(WebhookForm::as_str);
    let form = r.field(&fields, "form", "standard", |r, spot| r.one_of(spot, "form", &forms));
    let form = WebhookForm::ALL.into_iter().find(|known| known.as_str() == form).unwrap_or(WebhookForm::Standard);
    let address = address(r, &fields, form);
    let secret = secret(r, &fields, form);
    let on = r.required(&fields, "on", "list the events, for example on: [state_changed, slo_missed, drift]");
    let on = on.and_then(|spot| types(r, &spot));
    let namespaces = |r: &mut Reader, spot: &Spot<'_>| r.unique(spot, "namespaces", |r, item| r.name(item, "a namespace"));
    let namespaces = r.field(&fields, "namespaces", Vec::new(), namespaces);
    let name = r.optional(&fields, "name", |r, spot| r.name(spot, "the name of a webhook"));
    let (address, secret) = (address?, secret?);
    let name = name.unwrap_or_else(|| address.default_name());
    Some(Webhook { name, address, form, secret, on: on?, namespaces })
}

fn address(r: &mut Reader, fields: &Fields<'_>, form: WebhookForm) -> Option<WebhookAddress> {
    match (fields.get("url"), fields.get("url_locator")) {
        (Some(url), None) => {
            if let Some(host) = fields.get("host") {
                r.report(&host, "host belongs to url_locator", "remove it; the host is part of url");
            }
            plain_address(r, &url)
        }
        (None, Some(stored)) => {
            let url_locator = locator(r, &stored);
            let host = match (fields.get("host"), form) {
                (Some(spot), _) => host(r, &spot),
                (None, WebhookForm::Slack) => Some(SLACK_HOST.to_string()),
                (None, _) => {
                    let hint = "write the host of the URL, so that it can be reviewed, for example host: hooks.acme.example";
                    r.report_at(&fields.pointer, fields.place, "the key host is missing", hint);
                    None
                }
            };
            Some(WebhookAddress::Stored { url_locator: url_locator?, host: host? })
        }
        (Some(url), Some(_)) => {
            r.report(&url, "a webhook has url or url_locator, not both", "remove one of the two");
            None
        }
        (None, None) => {
            let hint = "write url: https://hooks.acme.example/aam, or url_locator: env:NAME if the URL is a secret";
            r.report_at(&fields.pointer, fields.place, "the key url is missing", hint);
            None
        }
    }
}

/// Messages do not repeat the URL, because it may hold a secret.
fn plain_address(r: &mut Reader, spot: &Spot<'_>) -> Option<WebhookAddress> {
    let text = r.text(spot, "the URL of a webhook")?;
    let parsed = Url::parse(text).ok();
    let has_secret = parsed.as_ref().is_some_and(|url| url.query().is_some() || url.host_str() == Some(SLACK_HOST));
    if has_secret {
        r.report(
            spot,
            "this URL is a secret: with it, anyone can send messages",
            "store it with aam secret set NAME, write url_locator: env:NAME instead, and its host as host:",
        );
        return None;
    }
    let text = secret_address(r, spot, "the URL of a webhook, for example https://hooks.acme.example/aam", false)?;
    Url::parse(&text).ok().map(WebhookAddress::Url)
}

/// Returns `None` after a problem, and `Some(None)` for a form without a signature.
fn secret(r: &mut Reader, fields: &Fields<'_>, form: WebhookForm) -> Option<Option<Locator>> {
    match (form, fields.get("secret")) {
        (WebhookForm::Standard, Some(spot)) => locator(r, &spot).map(Some),
        (WebhookForm::Standard, None) => {
            let hint = "write where the secret for the signatures is stored, for example secret: env:WEBHOOK_SECRET";
            r.report_at(&fields.pointer, fields.place, "the key secret is missing", hint);
            None
        }
        (_, Some(spot)) => {
            let message = format!("messages of the form {} are not signed", form.as_str());
            r.report(&spot, message, "remove secret; the URL itself is the secret");
            None
        }
        (_, None) => Some(None),
    }
}

fn types(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<EventType>> {
    let names = EventType::ALL.map(EventType::as_str);
    let types = r.unique(spot, "events", |r, item| r.one_of(item, "event", &names).and_then(EventType::parse))?;
    if types.is_empty() && r.list(spot, "events").is_some_and(|items| items.is_empty()) {
        r.report(spot, "a webhook without events receives nothing", "list at least one, or remove the webhook");
        return None;
    }
    Some(types)
}

/// Whether `url`, which was read from a locator, has the host that the policy names, and TLS unless it is on this machine.
#[must_use]
pub fn has_host(url: &Url, named: &str) -> bool {
    let Some((host, port)) = host_and_port(named) else { return false };
    let same_host = url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(host));
    let loopback = crate::model::recipient::is_loopback(&crate::model::recipient::normal_host(host));
    let same_port = match port {
        Some(port) => url.port_or_known_default() == Some(port),
        None => url.port().is_none(),
    };
    same_host && same_port && (url.scheme() == "https" || url.scheme() == "http" && loopback)
}
