//! The responses of one attempt that are used again, so that the steps of the attempt send an equal request only once.
//!
//! Two requests are equal if method, URL, headers and body are equal. The headers include the authorization, so a
//! response is never used for another credential. Only a response with status 200 is stored, and its reader can remove
//! it: a vendor may report an error with status 200 too. The responses are dropped with the attempt.

use super::super::json_memory::OBJECT_BYTES;
use ::lowcode::host::{HostRequest, HostResponse};
use ring::digest::{self, SHA256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// The maximum number of bytes of stored responses. An attempt never stores more than an eighth of the memory that it
/// may use.
const MAX_BYTES: u64 = 4 << 20;
/// The part of the attempt's memory that stored responses may take.
const MEMORY_PART: u64 = 8;

/// Stands for a request without containing its secrets: a SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey([u8; 32]);

impl RequestKey {
    /// Returns the key of `request`. The order of the headers and the case of their names do not matter.
    #[must_use]
    pub fn new(request: &HostRequest) -> RequestKey {
        let mut context = digest::Context::new(&SHA256);
        // Each text is preceded by its length, so that two different requests cannot have the same digest input.
        let mut add = |text: &[u8]| {
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text);
        };
        let mut headers: Vec<(String, &str)> =
            request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())).collect();
        headers.sort_unstable();
        add(request.method.as_bytes());
        add(request.url.as_bytes());
        add(request.body.as_deref().unwrap_or_default());
        for (name, value) in headers {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        RequestKey(key)
    }
}

/// A response, and how long the source took to send it.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    pub response: HostResponse,
    pub took: Duration,
}

/// What was used again so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reused {
    pub responses: u64,
    /// The time that the source took for these responses when they were received.
    pub took: Duration,
}

/// The stored responses of one attempt.
pub struct ReusableResponses {
    max_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    stored: VecDeque<(RequestKey, StoredResponse)>,
    bytes: u64,
    reused: Reused,
    /// One lock for each request, so that equal requests of concurrent reads are not sent at the same time.
    locks: HashMap<RequestKey, Arc<tokio::sync::Mutex<()>>>,
}

impl ReusableResponses {
    /// Creates an empty store for an attempt that may use `memory` bytes.
    #[must_use]
    pub fn new(memory: u64) -> ReusableResponses {
        ReusableResponses { max_bytes: MAX_BYTES.min(memory / MEMORY_PART), state: Mutex::default() }
    }

    /// Waits until no other read of the attempt sends the request `key`. The lock is released when the guard is dropped.
    pub async fn lock(&self, key: RequestKey) -> OwnedMutexGuard<()> {
        let lock = Arc::clone(self.state().locks.entry(key).or_default());
        lock.lock_owned().await
    }

    /// Returns the stored response to the request `key`, and counts its use.
    pub fn reuse(&self, key: &RequestKey) -> Option<HostResponse> {
        let mut state = self.state();
        let StoredResponse { response, took } = state.stored.iter().find(|(stored, _)| stored == key)?.1.clone();
        state.reused.responses += 1;
        state.reused.took += took;
        Some(response)
    }

    /// Stores a response with status 200, in place of the oldest ones if there is not enough room. The body of the
    /// response holds the reservation of its memory.
    pub fn store(&self, key: RequestKey, stored: StoredResponse) {
        self.remove(&key);
        let bytes = size(&stored);
        if stored.response.status != 200 || bytes > self.max_bytes {
            return;
        }
        let mut state = self.state();
        while state.bytes + bytes > self.max_bytes
            && let Some((_, oldest)) = state.stored.pop_front()
        {
            state.bytes = state.bytes.saturating_sub(size(&oldest));
        }
        state.bytes += bytes;
        state.stored.push_back((key, stored));
    }

    /// Removes the response to the request `key`, because it is not data.
    pub fn remove(&self, key: &RequestKey) {
        let mut state = self.state();
        if let Some(at) = state.stored.iter().position(|(stored, _)| stored == key)
            && let Some((_, removed)) = state.stored.remove(at)
        {
            state.bytes = state.bytes.saturating_sub(size(&removed));
        }
    }

    /// Removes all responses, because the attempt needs their memory. Returns false if there were none.
    pub fn clear(&self) -> bool {
        let mut state = self.state();
        state.bytes = 0;
        !std::mem::take(&mut state.stored).is_empty()
    }

    /// Returns what was used again so far.
    #[must_use]
    pub fn reused(&self) -> Reused {
        self.state().reused
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the memory of a response: its body, its headers and its place in the store.
fn size(stored: &StoredResponse) -> u64 {
    let HostResponse { headers, body, url, .. } = &stored.response;
    let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    OBJECT_BYTES + (headers + body.len() + url.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::lowcode::host::Purpose;
    use bytes::Bytes;

    fn request(url: &str, headers: &[(&str, &str)]) -> HostRequest {
        HostRequest {
            purpose: Purpose::Data,
            method: "GET".to_string(),
            url: url.to_string(),
            headers: headers.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect(),
            body: None,
            stream: "users".to_string(),
            secret_in_url: false,
            is_retry: false,
            expects_json: true,
        }
    }

    fn key(number: usize) -> RequestKey {
        RequestKey::new(&request(&format!("https://h.example/{number}"), &[]))
    }

    fn response(status: u16, length: usize) -> StoredResponse {
        let body = Bytes::from(vec![b'x'; length]);
        let response = HostResponse { status, headers: Vec::new().into(), body, url: String::new() };
        StoredResponse { response, took: Duration::from_millis(20) }
    }

    #[test]
    fn requests_are_equal_if_everything_that_is_sent_is_equal() {
        let plain = request("https://h.example/a", &[("Authorization", "Bearer 1"), ("Accept", "x")]);
        let same = request("https://h.example/a", &[("accept", "x"), ("authorization", "Bearer 1")]);
        assert_eq!(RequestKey::new(&plain), RequestKey::new(&same));
        for other in [
            request("https://h.example/a", &[("Authorization", "Bearer 2"), ("Accept", "x")]),
            request("https://h.example/a", &[("Authorization", "Bearer 1")]),
            request("https://h.example/a?b", &[("Authorization", "Bearer 1"), ("Accept", "x")]),
            HostRequest { method: "POST".to_string(), ..plain.clone() },
            HostRequest { body: Some(b"x".to_vec()), ..plain.clone() },
            request("https://h.example/a", &[("Authorization", "Bearer 1Accept"), ("", "x")]),
        ] {
            assert_ne!(RequestKey::new(&plain), RequestKey::new(&other), "{other:?}");
        }
    }

    #[test]
    fn only_complete_successes_are_stored_and_uses_are_counted() {
        let responses = ReusableResponses::new(1 << 20);
        for status in [201, 202, 204, 206, 301, 304, 400, 401, 403, 404, 429, 500, 503] {
            responses.store(key(1), response(status, 10));
            assert!(responses.reuse(&key(1)).is_none(), "{status}");
        }
        responses.store(key(1), response(200, 10));
        assert!(responses.reuse(&key(1)).is_some() && responses.reuse(&key(2)).is_none());
        assert_eq!(responses.reused(), Reused { responses: 1, took: Duration::from_millis(20) });
        // A failed response to the same request replaces the one before.
        responses.store(key(1), response(503, 10));
        assert!(responses.reuse(&key(1)).is_none());
        responses.store(key(1), response(200, 10));
        responses.remove(&key(1));
        assert!(responses.reuse(&key(1)).is_none());
    }

    #[test]
    fn the_oldest_responses_make_room_and_nothing_exceeds_the_bound() {
        let responses = ReusableResponses::new(8 * 10_000);
        for number in 0..10 {
            responses.store(key(number), response(200, 2_000));
        }
        let there: Vec<usize> = (0..10).filter(|number| responses.reuse(&key(*number)).is_some()).collect();
        assert_eq!(there, [7, 8, 9], "3 responses of 2,700 bytes fit into 10,000 bytes");
        responses.store(key(10), response(200, 10_000));
        assert!(responses.reuse(&key(10)).is_none() && responses.reuse(&key(9)).is_some(), "too large alone");
        assert!(responses.clear() && !responses.clear());
        assert_eq!(responses.state().bytes, 0);
    }
}
