//! The list of calls that were answered.

use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// When the list is full, the oldest call is forgotten.
pub const MAX_CALLS: usize = 100_000;

/// A path or query that is longer is cut.
const MAX_TEXT_BYTES: usize = 1000;

#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The port that the caller's TCP connection comes from.
    pub from_port: u16,
    pub family: String,
    /// The account that host or path name, else that of the credential.
    pub account: Option<String>,
    /// The name of the credential.
    pub credential: Option<String>,
    pub method: String,
    pub host: String,
    pub path: String,
    pub query: String,
    pub status: u16,
    /// Whether a token endpoint was called.
    pub token: bool,
    /// Why the call is not one that the vendor's file describes.
    pub violation: Option<String>,
}

#[derive(Default)]
pub struct Calls {
    list: Mutex<VecDeque<Call>>,
}

impl Calls {
    fn list(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, mut call: Call) {
        for text in [&mut call.query, &mut call.path] {
            if text.len() > MAX_TEXT_BYTES {
                *text = text.chars().take(MAX_TEXT_BYTES / 4).collect();
            }
        }
        let mut list = self.list();
        if list.len() == MAX_CALLS {
            list.pop_front();
        }
        list.push_back(call);
    }

    /// The list as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let list = self.list().clone();
        serde_json::to_vec(&list).unwrap_or_default()
    }

    /// Empties the list; returns what was in it as JSON.
    pub fn take(&self) -> Vec<u8> {
        let list = std::mem::take(&mut *self.list());
        serde_json::to_vec(&list).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.list().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
