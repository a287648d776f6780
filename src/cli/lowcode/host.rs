//! The outside of the interpreter on the command line: the egress layer under the user's policy.

use crate::clock::Clock;
use crate::connectors::lowcode::host::{Call, Host, NoReply, NoReplyKind, Reply};
use crate::credentials::{Secret, redact};
use crate::egress::{Answer, Method, Post, Request, Session};
use crate::model::{Class, Failure};
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Headers that the client itself writes.
const OWN: [&str; 5] = ["user-agent", "accept-encoding", "content-length", "host", "connection"];

/// Sends through one session.
pub struct SessionHost {
    pub session: Session,
    pub clock: Arc<dyn Clock>,
    /// Where data may come from: `https://api.example.com`.
    pub origins: BTreeSet<String>,
    /// The most that is read of one answer.
    pub max_bytes: u64,
    /// A longer wait ends the command.
    pub longest_pause: Duration,
}

impl SessionHost {
    async fn sent(&self, call: Call) -> Result<Answer, Failure> {
        let url = Url::parse(&call.url).map_err(|error| {
            let title = "the manifest makes an address that is none";
            Failure::new(Class::Misconfigured, title, "see url_base and path of its requester")
                .detail(redact::scrub(&format!("{error}: {}", call.url)))
        })?;
        let own = |name: &str| OWN.iter().any(|own| name.eq_ignore_ascii_case(own));
        let headers = call
            .headers
            .into_iter()
            .filter(|(name, _)| !own(name))
            .map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value)))
            .collect();
        let body = call.body.filter(|body| !body.is_empty());
        let max_bytes = self.max_bytes;
        let method = match call.method.as_str() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => {
                let text = body.map(String::from_utf8).transpose().map_err(|_| not_read_only(&url, "POST of bytes"))?;
                return self.session.post(Post { url, headers, body: text.map(Secret::new), max_bytes }).await;
            }
            other => return Err(not_read_only(&url, other)),
        };
        if body.is_some() {
            return Err(not_read_only(&url, &format!("{} with a body", call.method)));
        }
        if !self.origins.contains(&url.origin().ascii_serialization()) {
            return Err(elsewhere(&url, &self.origins));
        }
        self.session.http(Request { method, url, headers, max_bytes, follow_redirects: true }).await
    }
}

impl Host for SessionHost {
    fn send(&self, call: Call) -> BoxFuture<'_, Result<Reply, NoReply>> {
        Box::pin(async move {
            let Answer { status, headers, body, url } = self.sent(call).await.map_err(no_reply)?;
            Ok(Reply { status, headers, body: body.into(), url: url.into() })
        })
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.clock.now().0).unwrap_or_default()
    }

    fn pause(&self, wait: Duration) -> BoxFuture<'_, Result<(), NoReply>> {
        Box::pin(async move {
            if wait > self.longest_pause {
                return Err(no_reply(self.session.later(wait, "the source asked to wait")));
            }
            tokio::time::sleep(wait).await;
            Ok(())
        })
    }

    fn uuid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

/// A host for commands that call nobody.
pub struct NoHost(pub Arc<dyn Clock>);

impl Host for NoHost {
    fn send(&self, _call: Call) -> BoxFuture<'_, Result<Reply, NoReply>> {
        let message = "this command calls nobody".to_string();
        Box::pin(std::future::ready(Err(NoReply { kind: NoReplyKind::Refused, message, source: None })))
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0.now().0).unwrap_or_default()
    }

    fn pause(&self, _wait: Duration) -> BoxFuture<'_, Result<(), NoReply>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn uuid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

/// Egress has tried what is worth another try: the command ends. Its words say what to do next.
fn no_reply(failure: Failure) -> NoReply {
    let detail = if failure.detail.is_empty() { String::new() } else { format!(" ({})", failure.detail) };
    let message = format!("{}{detail}; {}", failure.title, failure.fix);
    NoReply { kind: NoReplyKind::Refused, message, source: Some(Arc::new(failure)) }
}

fn not_read_only(url: &Url, what: &str) -> Failure {
    let what: String = what.chars().take(60).collect();
    Failure::new(
        Class::EgressRefused,
        format!("{what} {} was not sent: aam only reads", url.host_str().unwrap_or_default()),
        "take the call out of the manifest, or use GET",
    )
}

fn elsewhere(url: &Url, origins: &BTreeSet<String>) -> Failure {
    let home: Vec<&str> = origins.iter().map(String::as_str).collect();
    Failure::new(
        Class::EgressRefused,
        format!("{} was not called: the manifest is for {}", url.origin().ascii_serialization(), home.join(", ")),
        "a link or path led there; if the API really has that host, name it in a url_base of the manifest",
    )
}
