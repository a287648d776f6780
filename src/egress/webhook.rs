//! Messages to the webhooks of the policy.
//!
//! They are the only requests of AAM whose purpose is to be acted on, so they do not use the list of read-only POSTs, and no
//! value of [`Method`](super::Method) stands for them: a connector, which has nothing but a [`Session`](super::Session),
//! cannot send one. `tests/tidy.rs` checks that only the notifier does.

use super::{Caller, Egress, HttpResponse, send};
use crate::credentials::Secret;
use crate::model::{CallPurpose, Class, ConnectionId, Failure, Posts};
use crate::policy::parse::has_host;
use crate::policy::{Cap, Policy, Webhook, WebhookAddress};
use bytes::Bytes;
use std::sync::Arc;
use url::Url;

/// The messages that one host receives. Slack accepts one message per second (docs.slack.dev, "Rate limits").
const CAP: Cap = Cap { per_second: 1.0, burst: 10, per_day: 20_000, concurrency: 2 };

/// The maximum size of the response of a webhook in bytes. Only an excerpt of it is ever shown.
pub(super) const MAX_RESPONSE_BYTES: u64 = 64 << 10;

/// A message to a webhook.
pub struct WebhookPost {
    /// The URL of the webhook. It may hold a secret.
    pub url: Url,
    pub headers: Vec<(String, Secret)>,
    /// JSON.
    pub body: Bytes,
}

impl Egress {
    /// Sends a message to `webhook`, which the policy must name. The address guard, the proxy, the circuit breaker, the limits
    /// and the call log apply as to every other call. A redirect is returned and never followed, and nothing is repeated.
    ///
    /// # Errors
    /// Returns `EgressRefused` if the policy does not name the webhook with this address, or if the guard refuses the
    /// address; otherwise the errors of [`Session::http`](super::Session::http).
    pub async fn post_webhook(
        self: &Arc<Egress>,
        policy: &Arc<Policy>,
        webhook: &Webhook,
        post: WebhookPost,
    ) -> Result<HttpResponse, Failure> {
        let named = policy.notify.contains(webhook)
            && match &webhook.address {
                WebhookAddress::Url(url) => *url == post.url,
                WebhookAddress::Stored { host, .. } => has_host(&post.url, host),
            };
        if !named {
            let title = format!("Not sent: the policy does not name this address for the webhook {}", webhook.name);
            let fix = format!(
                "check that the stored URL begins with https://{}/, or correct host in the entry of notify",
                webhook.address.host()
            );
            return Err(Failure::new(Class::EgressRefused, title, fix));
        }
        let session = self.session(Caller {
            connection: ConnectionId::derive("", "webhook", std::slice::from_ref(&webhook.name)),
            family: "webhook".into(),
            purpose: CallPurpose::Webhook,
            account: post.url.origin().ascii_serialization(),
            cap: CAP,
            policy: Arc::clone(policy),
            posts: Arc::new(Posts::default()),
        });
        send::webhook(&session.without_status_retries(), post, &webhook.name).await
    }
}
