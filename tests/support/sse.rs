//! A reader of server-sent events, as browsers and client libraries read them (WHATWG HTML, section 9.2).

use super::daemon::Daemon;
use serde_json::Value;
use std::time::Duration;

/// How long a test waits for the next event.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// One event as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedEvent {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

/// An open stream.
pub struct EventReader {
    response: reqwest::Response,
    buffer: String,
    /// The id that a client would send as `Last-Event-ID`.
    pub last_id: String,
    pub comments: Vec<String>,
}

/// Opens `path` with these headers. Returns the response, whatever its status is.
pub async fn open(daemon: &Daemon, path: &str, token: &str, last_id: Option<&str>) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut request = client.get(daemon.url(path)).header("accept", "text/event-stream").bearer_auth(token);
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    request.send().await.expect("a response")
}

impl EventReader {
    /// Opens the stream with the admin token.
    pub async fn new(daemon: &Daemon, path: &str, last_id: Option<&str>) -> EventReader {
        EventReader::with_token(daemon, path, daemon.token.expose(), last_id).await
    }

    /// Opens the stream with `token`.
    pub async fn with_token(daemon: &Daemon, path: &str, token: &str, last_id: Option<&str>) -> EventReader {
        let response = open(daemon, path, token, last_id).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        EventReader::from_response(response)
    }

    /// Reads the events of a response.
    pub fn from_response(response: reqwest::Response) -> EventReader {
        EventReader { response, buffer: String::new(), last_id: String::new(), comments: Vec::new() }
    }

    /// Reads until the server ends the stream, and returns the events until then.
    pub async fn until_end(&mut self) -> Vec<ReceivedEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Returns the next event, or `None` if the server ended the stream.
    pub async fn next(&mut self) -> Option<ReceivedEvent> {
        loop {
            while let Some((block, rest)) =
                self.buffer.split_once("\n\n").map(|(block, rest)| (block.to_string(), rest.to_string()))
            {
                self.buffer = rest;
                if let Some(event) = self.dispatch(&block) {
                    return Some(event);
                }
            }
            let chunk = tokio::time::timeout(MAX_WAIT, self.response.chunk()).await;
            match chunk.expect("something arrives in time") {
                Ok(Some(bytes)) => self.buffer.push_str(std::str::from_utf8(&bytes).expect("UTF-8")),
                _ => return None,
            }
        }
    }

    fn dispatch(&mut self, block: &str) -> Option<ReceivedEvent> {
        let (mut kind, mut data) = ("message".to_string(), None);
        for line in block.lines() {
            match line.split_once(':').map(|(name, value)| (name, value.strip_prefix(' ').unwrap_or(value))) {
                Some(("", comment)) => self.comments.push(comment.to_string()),
                Some(("id", id)) => self.last_id = id.to_string(),
                Some(("event", name)) => kind = name.to_string(),
                Some(("data", text)) => data = Some(serde_json::from_str(text).expect("JSON")),
                Some(("retry", ms)) => drop(ms.parse::<u64>().expect("milliseconds")),
                other => panic!("{other:?} in {block:?}"),
            }
        }
        Some(ReceivedEvent { id: self.last_id.clone(), kind, data: data? })
    }

    /// Reads until an event fits, and returns all events including that one.
    pub async fn until(&mut self, what: &str, fits: impl Fn(&ReceivedEvent) -> bool) -> Vec<ReceivedEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {what}: {events:#?}"));
            events.push(event);
            if events.last().is_some_and(&fits) {
                return events;
            }
        }
    }
}
