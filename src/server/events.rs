//! `GET /events`: what happens, as server-sent events (WHATWG HTML, section 9.2).
//!
//! A reader that was cut continues where it was: the standard header `Last-Event-ID`, or `since`. What it reads comes from
//! committed rows at its own pace, so a slow reader makes neither the writer nor other readers wait, and costs one page of
//! events.

use super::app::App;
use super::auth::Caller;
use super::connections::ClientConnection;
use super::problem::ApiProblem;
use super::request::{ApiRequest, ApiResult, insert_header, namespace_name};
use crate::event_log::{EventReader, Page};
use crate::events::{Event, EventFilter, EventId, EventType};
use crate::model::Digest;
use crate::policy::{Policy, TokenScope};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// The media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The header with which a client says which event it received last.
const LAST_EVENT_ID: &str = "last-event-id";

/// The number of readers at the same time, and a smaller one if few connections are served.
const MAX_READERS: usize = 64;
/// The number of readers with the same token.
const MAX_READERS_PER_TOKEN: usize = 16;

/// How often a reader hears something although nothing happens, so that proxies keep the connection open and a reader that
/// has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long changes are collected before they are read, so that a burst of commits is read once.
const COALESCE: Duration = Duration::from_millis(50);
/// How long a client waits before it connects again, in milliseconds.
const RECONNECT_MS: u64 = 3000;

/// The readers that are being served.
pub struct EventReaders {
    places: Arc<Semaphore>,
    by_token: Mutex<HashMap<Digest, usize>>,
}

/// The place of one reader. It is free again when this is dropped.
pub(super) struct ReaderPlace {
    readers: Arc<EventReaders>,
    token: Digest,
    client: Arc<ClientConnection>,
    _place: OwnedSemaphorePermit,
}

impl EventReaders {
    /// Creates the table for a listener that serves `connections`, of which readers take a quarter at most.
    #[must_use]
    pub fn new(connections: usize) -> Arc<EventReaders> {
        let places = MAX_READERS.min(connections / 4).max(1);
        Arc::new(EventReaders { places: Arc::new(Semaphore::new(places)), by_token: Mutex::default() })
    }

    /// Returns the number of readers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tokens().values().sum()
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, usize>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place to a reader with this token.
    ///
    /// # Errors
    /// Returns 503 if all places are taken.
    pub(super) fn enter(
        self: &Arc<EventReaders>,
        token: Digest,
        client: &Arc<ClientConnection>,
    ) -> Result<ReaderPlace, ApiProblem> {
        let busy = |who: &str, limit: usize| {
            ApiProblem::busy(format!("{who} already reads events on {limit} connections; close one of them, or try again later."))
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(ApiProblem::busy("All places for readers of events are taken; try again later."));
        };
        let mut tokens = self.tokens();
        let count = tokens.entry(token).or_insert(0);
        if *count >= MAX_READERS_PER_TOKEN {
            return Err(busy("This token", MAX_READERS_PER_TOKEN));
        }
        *count += 1;
        client.set_streaming(true);
        Ok(ReaderPlace { readers: Arc::clone(self), token, client: Arc::clone(client), _place: place })
    }
}

impl Drop for ReaderPlace {
    fn drop(&mut self) {
        self.client.set_streaming(false);
        let mut tokens = self.readers.tokens();
        if let Some(count) = tokens.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                tokens.remove(&self.token);
            }
        }
    }
}

/// `GET /events`
///
/// # Errors
/// 400, 403, 503.
pub async fn events(request: ApiRequest) -> ApiResult {
    let caller = request.caller()?.clone();
    let filter = filter(&request, &caller)?;
    let head = request.app.handle.events.head();
    let position = position(&request, head).await?;
    if request.client.reserved {
        return Err(ApiProblem::busy("All connections are being served; try again later."));
    }
    let mut body = Body::empty();
    if request.method == axum::http::Method::GET {
        let place = request.app.event_readers.enter(caller.rate_key(), &request.client)?;
        let stream = EventStream {
            rights: ReaderRights::new(&request.app, caller, filter.namespaces.clone()),
            reader: Some(request.app.handle.events.read_after(position)),
            changes: request.app.handle.events.changes(),
            stopping: request.app.handle.stopping.subscribe(),
            heartbeat: Instant::now() + HEARTBEAT,
            greeting: Some(format!("retry: {RECONNECT_MS}\n: events after {position}\nid: {position}\n\n")),
            app: request.app,
            filter,
            _place: place,
        };
        let parts = futures_util::stream::unfold(stream, |mut stream| async move {
            let part = stream.next().await?;
            Some((Ok::<Bytes, Infallible>(part), stream))
        });
        body = Body::from_stream(parts);
    }
    Ok(stream_response(body))
}

/// Builds the response with a stream of events.
pub(super) fn stream_response(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    // Proxies such as nginx would otherwise collect the events before they pass them on.
    insert_header(&mut response, header::HeaderName::from_static("x-accel-buffering"), "no");
    response
}

fn filter(request: &ApiRequest, caller: &Caller) -> Result<EventFilter, ApiProblem> {
    let list = |name| request.query.get(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>()).unwrap_or_default();
    let namespaces: Vec<String> = list("namespace").into_iter().map(namespace_name).collect();
    for namespace in &namespaces {
        caller.require_namespace(namespace)?;
    }
    let parse = |name: &str| {
        EventType::parse(&name.to_ascii_lowercase()).ok_or_else(|| {
            let all = EventType::ALL.map(EventType::as_str).join(", ");
            ApiProblem::bad_request(format!("type must be a list of these, separated by commas: {all}."))
        })
    };
    let types = list("type").into_iter().map(parse).collect::<Result<_, _>>()?;
    Ok(EventFilter { namespaces, types })
}

/// The position after which the reader begins: the header wins, because a client that connects again repeats the URL.
async fn position(request: &ApiRequest, head: u64) -> Result<EventId, ApiProblem> {
    let header = request.headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?")).filter(|text| !text.is_empty());
    let (name, text) = match (header, request.query.get("since")) {
        (Some(text), _) => ("Last-Event-ID", text),
        (None, Some(text)) => ("since", text),
        (None, None) => return Ok(EventId::after_entry(head)),
    };
    let position = EventId::parse(text).ok_or_else(|| {
        ApiProblem::bad_request(format!(
            "{name} must be the id of an event, or the number of an entry of the ledger; 0 begins with the first one."
        ))
    })?;
    if position.seq > head {
        // The client may come from another replica, which has read more than this one.
        let last = request.app.blocking(|app| Ok(app.handle.registry.reader().head()?.seq)).await?;
        if position.seq > last {
            return Err(ApiProblem::bad_request(format!(
                "{name} is after entry {last}, the last one of this registry. Begin again without it, or with 0 for all events."
            )));
        }
    }
    Ok(position)
}

/// What a reader may see while the stream goes on.
pub(super) struct ReaderRights {
    app: Arc<App>,
    /// The policy that `caller` refers to.
    policy: Arc<Policy>,
    caller: Caller,
    namespaces: Vec<String>,
}

impl ReaderRights {
    /// The rights of `caller`, whose stream is about `namespaces`.
    pub(super) fn new(app: &Arc<App>, caller: Caller, namespaces: Vec<String>) -> ReaderRights {
        ReaderRights { app: Arc::clone(app), policy: app.handle.policy(), caller, namespaces }
    }

    /// Whether the policy in force still allows the caller to read. The token may have been removed since the response began.
    pub(super) fn is_allowed(&mut self) -> bool {
        let policy = self.app.handle.policy();
        if self.caller.expires().is_some_and(|end| end <= self.app.handle.clock.now()) {
            return false;
        }
        if Arc::ptr_eq(&policy, &self.policy) {
            return true;
        }
        let Some(caller) = self.caller.under(&policy) else { return false };
        if caller.require_scope(TokenScope::RegistryRead).is_err() || !self.namespaces.iter().all(|name| caller.may_see(name)) {
            return false;
        }
        (self.caller, self.policy) = (caller, policy);
        true
    }
}

/// One reader's stream.
struct EventStream {
    app: Arc<App>,
    rights: ReaderRights,
    filter: EventFilter,
    /// `None` after an error.
    reader: Option<EventReader>,
    changes: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    heartbeat: Instant,
    greeting: Option<String>,
    _place: ReaderPlace,
}

impl EventStream {
    /// Returns the next part of the response, or `None` if the response ends.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting.into());
        }
        loop {
            if *self.stopping.borrow() || !self.rights.is_allowed() {
                return None;
            }
            // Seen before the rows are read, so that a commit after that is noticed.
            self.changes.mark_unchanged();
            let mut reader = self.reader.take()?;
            let read = self.app.blocking(move |_| Ok((reader.next_page()?, reader))).await;
            let (page, mut reader) = read.ok()?;
            let at_end = match page {
                Page::NeedsHistory => {
                    reader.begin_history().await;
                    self.reader = Some(reader);
                    continue;
                }
                Page::Folding => {
                    self.reader = Some(reader);
                    continue;
                }
                Page::End => true,
                Page::Events(events) => {
                    let text = self.text(events).await;
                    self.reader = Some(reader);
                    match text? {
                        text if text.is_empty() => continue,
                        text => {
                            self.heartbeat = Instant::now() + HEARTBEAT;
                            return Some(text.into());
                        }
                    }
                }
            };
            let position = reader.position();
            self.reader = Some(reader);
            if at_end && !self.wait().await {
                self.heartbeat = Instant::now() + HEARTBEAT;
                return Some(format!(": heartbeat\nid: {position}\n\n").into());
            }
        }
    }

    /// Waits for a commit. Returns false if it is time for a heartbeat instead.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            changed = self.changes.changed() => {
                if changed.is_err() {
                    // The registry is closed, so the process is about to stop.
                    let _ = self.stopping.wait_for(|stopping| *stopping).await;
                }
                tokio::time::sleep(COALESCE).await;
                true
            }
            _ = self.stopping.changed() => true,
            () = tokio::time::sleep_until(self.heartbeat) => false,
        }
    }

    /// Formats the events that the reader wants and may see. Returns `None` if the registry cannot be read.
    async fn text(&self, events: Vec<Arc<Event>>) -> Option<String> {
        let wanted: Vec<Arc<Event>> =
            events.into_iter().filter(|event| self.filter.accepts(event) && self.may_see(event)).collect();
        if wanted.is_empty() {
            return Some(String::new());
        }
        let format = move |app: &App| {
            let ids = app.handle.events.resource_ids(&wanted)?;
            let mut text = String::new();
            for event in &wanted {
                let resource_ids = event.connection.as_ref().and_then(|one| ids.get(&one.document));
                let json = event.to_json(resource_ids.map(Vec::as_slice));
                // JSON has no line feeds outside of strings, and in strings they are escaped. Writing to a string cannot fail.
                let _ = write!(text, "id: {}\nevent: {}\ndata: {json}\n\n", event.id, event.kind.as_str());
            }
            Ok(text)
        };
        self.app.blocking(format).await.ok()
    }

    /// Whether the token may see the event. What concerns the whole registry is for tokens of the policy's own namespace, as on
    /// the dashboard.
    fn may_see(&self, event: &Event) -> bool {
        match &*event.namespace {
            "" => self.rights.caller.may_read(&self.rights.policy.namespace),
            namespace => self.rights.caller.may_see(namespace),
        }
    }
}
