//! Follows the redirects of a GET request.
//!
//! The egress layer would follow every redirect within an origin. This engine must not call a path whose name suggests a side
//! effect, so it judges each target before the call.

use super::address::{host_of, same_origin};
use super::side_effects::redirect_action;
use super::wire::HttpTransport;
use crate::credentials::redact;
use crate::egress::{HttpRequest, HttpResponse};
use crate::model::{Class, Failure};
use url::Url;

/// Limit on the redirects that one call follows.
const MAX_REDIRECTS: usize = 5;

/// Sends `request` and follows redirects within its origin. A redirect to another origin is returned as the response.
///
/// # Errors
/// The errors of the transport; `WrongService` for a target whose name suggests a side effect or a secret; `Remote` for too
/// many redirects.
pub async fn get(wire: &dyn HttpTransport, request: HttpRequest) -> Result<HttpResponse, Failure> {
    let HttpRequest { method, mut url, headers, max_bytes, .. } = request;
    let first = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (method, headers) = (method.clone(), headers.clone());
        let sent = HttpRequest { method, url: url.clone(), headers, max_bytes, follow_redirects: false };
        let answer = wire.http(sent).await?;
        let Some(next) = target(&answer).filter(|next| same_origin(next, &first)) else { return Ok(answer) };
        if let Some(name) = redirect_action(&next, &url) {
            return Err(refused(&answer, &first, &next, &name));
        }
        url = next;
    }
    Err(Failure::new(
        Class::Remote,
        format!("{} redirected more than {MAX_REDIRECTS} times", host_of(&first)),
        "check whether the address is the final one of the service",
    ))
}

/// The URL to which a response redirects. Returns `None` if it is not a redirect, or if its target is not a valid URL or
/// contains a user name.
fn target(answer: &HttpResponse) -> Option<Url> {
    let location = answer.header("location").filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308))?;
    let mut to = answer.url.join(location).ok()?;
    to.set_fragment(None);
    Some(to).filter(|to| to.username().is_empty() && to.password().is_none())
}

fn refused(answer: &HttpResponse, first: &Url, next: &Url, name: &str) -> Failure {
    let target = redact::scrub_and_cut(next.path(), 100);
    Failure::new(
        Class::WrongService,
        format!(
            "{} redirects {} to {target}, which AAM does not call: its name suggests a side effect or a secret ({name})",
            host_of(first),
            first.path()
        ),
        "if this is a sign-in page, the call needs another credential; if the service has moved, name its new URL in resource_ids",
    )
    .detail(format!("HTTP {}", answer.status))
}
