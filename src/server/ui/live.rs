//! `GET /ui/live`: says to an open page that something changed, as server-sent events. The page then fetches itself again.
//!
//! The events carry the version of what pages show. A page that was rendered for another version is outdated, also if an event
//! was lost or sent while the page was being fetched.

use super::super::app::App;
use super::super::events::{ReaderRights, stream_response};
use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult};
use axum::body::Body;
use axum::http::{HeaderMap, Method, header};
use bytes::Bytes;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a page is asked to fetch itself at most.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a page hears that the daemon is alive.
const CONTACT_INTERVAL: Duration = Duration::from_secs(3);
/// How long changes are collected before they are announced, so that a burst of commits is announced once.
const COALESCE: Duration = Duration::from_millis(50);

/// `GET /ui/live`
///
/// # Errors
/// 400, 403, 503.
pub async fn events(request: ApiRequest) -> ApiResult {
    let namespace = request.namespace()?;
    let caller = request.caller()?.clone();
    if request.client.reserved {
        return Err(ApiProblem::busy("All connections are being served; try again later."));
    }
    if request.method != Method::GET {
        return Ok(stream_response(Body::empty()));
    }
    let place = request.app.open_pages.enter(caller.rate_key(), &request.client)?;
    let by_session = request.session.as_ref().is_some_and(|session| session.by_session);
    let stream = LiveStream {
        rights: ReaderRights::new(&request.app, caller, vec![namespace]),
        cookies: by_session.then(|| cookies(&request.headers)),
        changes: request.app.handle.registry.changes(),
        stopping: request.app.handle.stopping.subscribe(),
        announced: request.app.page_version(),
        next_change: Instant::now(),
        next_contact: Instant::now(),
        app: Arc::clone(&request.app),
    };
    let parts = futures_util::stream::unfold((stream, place), |(mut stream, place)| async move {
        let part = stream.next().await?;
        Some((Ok::<Bytes, Infallible>(part), (stream, place)))
    });
    Ok(stream_response(Body::from_stream(parts)))
}

/// The headers from which the session of a request is found.
fn cookies(headers: &HeaderMap) -> HeaderMap {
    headers.get_all(header::COOKIE).iter().map(|value| (header::COOKIE, value.clone())).collect()
}

/// The stream of one open page.
struct LiveStream {
    app: Arc<App>,
    rights: ReaderRights,
    /// The cookies of a reader who signed in on the page, because the session may end before the token does.
    cookies: Option<HeaderMap>,
    changes: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// The version of the last announced change, or that of the beginning.
    announced: String,
    /// When the next change may be announced.
    next_change: Instant,
    next_contact: Instant,
}

impl LiveStream {
    /// Returns the next event, or `None` if the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.stopping.borrow() || !self.is_allowed() {
                return None;
            }
            // Seen before the version is read, so that a commit after that is noticed.
            self.changes.mark_unchanged();
            let (version, now) = (self.app.page_version(), Instant::now());
            // The first event is a contact, so a page that changed before the stream began fetches itself.
            if now >= self.next_contact {
                self.next_contact = now + CONTACT_INTERVAL;
                return Some(self.event("contact", &version));
            }
            if version != self.announced && now >= self.next_change {
                self.next_change = now + CHANGE_INTERVAL;
                self.announced.clone_from(&version);
                return Some(self.event("changed", &version));
            }
            self.wait(now).await;
        }
    }

    /// Waits until something may have changed. Not everything that a page shows is in the registry, so the version is compared
    /// once a second as well.
    async fn wait(&mut self, now: Instant) {
        let is_early = now < self.next_change;
        let until = self.next_contact.min(if is_early { self.next_change } else { now + CHANGE_INTERVAL });
        tokio::select! {
            changed = self.changes.changed(), if !is_early => {
                if changed.is_err() {
                    // The registry is closed, so the process is about to stop.
                    let _ = self.stopping.wait_for(|stopping| *stopping).await;
                }
                tokio::time::sleep(COALESCE).await;
            }
            _ = self.stopping.changed() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Whether the reader may still see the page.
    fn is_allowed(&mut self) -> bool {
        let handle = &self.app.handle;
        let session_goes_on = match &self.cookies {
            Some(cookies) => self.app.sessions.find(cookies, &handle.policy(), handle.clock.now()).is_some(),
            None => true,
        };
        session_goes_on && self.rights.is_allowed()
    }

    /// Formats an event with the time, the last entry of the ledger, and the version.
    fn event(&self, kind: &str, version: &str) -> Bytes {
        let at = self.app.handle.clock.now().rfc3339();
        let seq = *self.changes.borrow();
        let data = serde_json::json!({"at": at, "seq": seq, "version": version});
        format!("event: {kind}\ndata: {data}\n\n").into()
    }
}
