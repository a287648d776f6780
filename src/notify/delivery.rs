//! Sends one message and judges the response.

use super::message::Bundle;
use super::signature;
use crate::credentials::redact::{self, AttemptSecrets};
use crate::credentials::{Credential, Secret};
use crate::egress::{HttpResponse, WebhookPost, excerpt};
use crate::families;
use crate::model::{Class, ConnectionId, Failure, Locator};
use crate::pipeline::Env;
use crate::policy::{Policy, Webhook, WebhookAddress, WebhookForm};
use crate::providers::{CredentialRequest, Reading};
use bytes::Bytes;
use std::sync::Arc;
use url::Url;

/// The family under which the provider of a credential counts what it reads for a webhook.
const FAMILY: &str = "openapi";

/// What became of a message.
#[derive(Debug)]
pub enum Delivered {
    /// The webhook has it.
    Accepted,
    /// The webhook does not want any messages again (410).
    Gone,
    /// It has to be sent again.
    Failed(Failure),
}

/// Returns the body of the message. It holds no secret that AAM knows.
pub fn body(bundle: &Bundle, webhook: &Webhook) -> Bytes {
    let mut value = bundle.body(&webhook.name, webhook.form);
    redact::scrub_json(&mut value);
    Bytes::from(value.to_string())
}

/// Sends the message `id` once.
pub async fn send(env: &Env, policy: &Arc<Policy>, webhook: &Webhook, id: &str, body: &Bytes) -> Delivered {
    // What is read for the message is forgotten afterwards.
    let secrets = AttemptSecrets::new(&[]);
    let sent = secrets.run(async {
        let result = try_send(env, policy, webhook, id, body).await;
        result.map_err(redact::scrub_failure)
    });
    match sent.await {
        Ok(delivered) => delivered,
        Err(failure) => Delivered::Failed(failure),
    }
}

async fn try_send(env: &Env, policy: &Arc<Policy>, webhook: &Webhook, id: &str, body: &Bytes) -> Result<Delivered, Failure> {
    let url = url(env, policy, webhook).await?;
    let headers = match &webhook.secret {
        Some(locator) => {
            let secret = secret(env, policy, webhook, locator).await?;
            signature::headers(&secret, &locator.to_string(), id, env.providers.clock.now(), body)?
        }
        None => Vec::new(),
    };
    let response = env.egress.post_webhook(policy, webhook, WebhookPost { url, headers, body: body.clone() }).await?;
    Ok(judge(webhook, &response))
}

/// The answer that Teams gives with status 200 if it did not post the message (learn.microsoft.com, "Create incoming
/// webhooks", section on rate limiting).
const TEAMS_REFUSAL: &[u8] = b"Webhook message delivery failed";

fn judge(webhook: &Webhook, response: &HttpResponse) -> Delivered {
    let host = webhook.address.host();
    let refused_by_teams =
        webhook.form == WebhookForm::Teams && response.body.windows(TEAMS_REFUSAL.len()).any(|part| part == TEAMS_REFUSAL);
    let fix = match response.status {
        200..300 if !refused_by_teams => return Delivered::Accepted,
        410 => return Delivered::Gone,
        300..=399 => "AAM does not follow redirects of a message: write the final address into the entry of notify",
        401 | 403 => "check that the secret of the entry of notify is the one that the receiver expects",
        _ => "look for the reason at the receiver; AAM sends the message again",
    };
    let title = format!("{host} answered {}", response.status);
    Delivered::Failed(Failure::new(Class::Remote, title, fix).detail(redact::scrub(&excerpt(&response.body)).into_owned()))
}

async fn url(env: &Env, policy: &Arc<Policy>, webhook: &Webhook) -> Result<Url, Failure> {
    let locator = match &webhook.address {
        WebhookAddress::Url(url) => return Ok(url.clone()),
        WebhookAddress::Stored { url_locator, .. } => url_locator,
    };
    let text = secret(env, policy, webhook, locator).await?;
    let url = Url::parse(text.expose().trim()).map_err(|_| {
        let fix = format!("store the whole URL, which begins with https://{}/", webhook.address.host());
        Failure::new(Class::CredentialMissing, format!("the value of {locator} is not a URL"), fix)
    })?;
    // The call log writes the path, and error texts may repeat it.
    redact::learn_value(url.as_str());
    redact::learn_value(url.path());
    if let Some(query) = url.query() {
        redact::learn_value(query);
    }
    Ok(url)
}

async fn secret(env: &Env, policy: &Arc<Policy>, webhook: &Webhook, locator: &Locator) -> Result<Secret, Failure> {
    let Some(family) = families::find(FAMILY) else {
        return Err(Failure::new(Class::Bug, format!("the family {FAMILY} is missing"), "report this as a defect of AAM"));
    };
    let request = CredentialRequest {
        locator: locator.clone(),
        connection: ConnectionId::derive("", "webhook", std::slice::from_ref(&webhook.name)),
        namespace: policy.namespace.clone(),
        owner: String::new(),
        family: Arc::clone(family),
        resource_ids: Arc::default(),
        policy: Arc::clone(policy),
        reading: Reading::Cached,
    };
    let credential = env.providers.provide_setting(&request, locator).await?.credential;
    text(&credential).cloned().ok_or_else(|| {
        let fix = "store the text alone, or name its field: vault:PATH#FIELD";
        Failure::new(Class::CredentialMissing, format!("{locator} has several fields, and none of them is called secret"), fix)
    })
}

fn text(credential: &Credential) -> Option<&Secret> {
    credential.plain().or_else(|| credential.any(&["secret", "value", "url"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;

    fn judged(form: &str, status: u16, body: &'static str) -> String {
        let secret = if form == "standard" { ", secret: \"env:S\"" } else { "" };
        let text = format!(
            "version: 1\nallowlist: []\nnotify: [{{url: \"https://hooks.acme.example/x\", form: {form}{secret}, on: [drift]}}]\n"
        );
        let policy = parse(&text, "policy.yaml").expect("valid");
        let url = Url::parse("https://hooks.acme.example/x").expect("a URL");
        let response = HttpResponse { status, headers: Vec::new(), body: Bytes::from_static(body.as_bytes()), url };
        match judge(&policy.notify[0], &response) {
            Delivered::Accepted => "accepted".to_string(),
            Delivered::Gone => "gone".to_string(),
            Delivered::Failed(failure) => format!("{}; {}", failure.title, failure.fix),
        }
    }

    #[test]
    fn only_a_success_is_one() {
        for (form, status, body, expected) in [
            ("standard", 200, "", "accepted"),
            ("slack", 200, "ok", "accepted"),
            ("standard", 204, "", "accepted"),
            ("teams", 202, "", "accepted"),
            ("standard", 410, "", "gone"),
            (
                "standard",
                302,
                "",
                "hooks.acme.example answered 302; AAM does not follow redirects of a message: write the final address into the entry of notify",
            ),
            (
                "standard",
                401,
                "",
                "hooks.acme.example answered 401; check that the secret of the entry of notify is the one that the receiver expects",
            ),
            (
                "standard",
                500,
                "",
                "hooks.acme.example answered 500; look for the reason at the receiver; AAM sends the message again",
            ),
            (
                "teams",
                200,
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429",
                "hooks.acme.example answered 200; look for the reason at the receiver; AAM sends the message again",
            ),
        ] {
            assert_eq!(judged(form, status, body), expected, "{form} {status}");
        }
    }
}
