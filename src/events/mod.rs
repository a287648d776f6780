//! Events: what happened, for readers who want to be notified. They are computed from the ledger, so the same rows give the
//! same events at any time, and a reader that remembers the id of the last event misses none. Pure.

mod fold;

pub use fold::EventFold;

pub use crate::model::EventType;
use crate::model::{ConnectionId, Timestamp};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// The version of the form of an event. It changes only if a field changes its meaning or is removed.
pub const SCHEMA_VERSION: u32 = 1;

/// The place of an event in the ledger: the number of its entry, and its number among the events of that entry, counted
/// from 1. It is also a position between events: everything up to and including this event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    pub seq: u64,
    pub index: u32,
}

impl EventId {
    /// The position after all events of entry `seq`.
    #[must_use]
    pub fn after_entry(seq: u64) -> EventId {
        EventId { seq, index: u32::MAX }
    }

    /// Parses `SEQ`, which is the position after all events of an entry, or `SEQ-INDEX`.
    #[must_use]
    pub fn parse(text: &str) -> Option<EventId> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        match text.split_once('-') {
            None if number(text) => Some(EventId::after_entry(text.parse().ok()?)),
            Some((seq, index)) if number(seq) && number(index) => {
                Some(EventId { seq: seq.parse().ok()?, index: index.parse().ok()? })
            }
            _ => None,
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            u32::MAX => write!(f, "{}", self.seq),
            index => write!(f, "{}-{index}", self.seq),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: EventId,
    pub kind: EventType,
    pub at: Timestamp,
    /// Empty for an event of the whole registry.
    pub namespace: Arc<str>,
    pub connection: Option<EventConnection>,
    /// What depends on the type.
    pub data: Map<String, Value>,
}

/// The connection of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventConnection {
    pub id: ConnectionId,
    pub source_type: Arc<str>,
    /// The entry that holds an intent of the connection. All of them have the same resource ids.
    pub document: u64,
}

impl Event {
    /// Returns the event as JSON. `resource_ids` are those of its connection, if it has one.
    #[must_use]
    pub fn to_json(&self, resource_ids: Option<&[String]>) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_string(), value);
        put("id", self.id.to_string().into());
        put("seq", self.id.seq.into());
        put("type", self.kind.as_str().into());
        put("at", self.at.rfc3339().into());
        put("schema_version", SCHEMA_VERSION.into());
        put("namespace", if self.namespace.is_empty() { Value::Null } else { (*self.namespace).into() });
        if let Some(connection) = &self.connection {
            put("connection_id", connection.id.to_string().into());
            put("source_type", (*connection.source_type).into());
            put("resource_ids", resource_ids.unwrap_or_default().into());
        }
        put("data", Value::Object(self.data.clone()));
        Value::Object(fields)
    }
}

/// Which events a reader wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only events of these namespaces, if there are any.
    pub namespaces: Vec<String>,
    /// Only events of these types, if there are any.
    pub types: Vec<EventType>,
}

impl EventFilter {
    /// Whether the reader wants `event`. With namespaces, events of the whole registry are left out.
    #[must_use]
    pub fn accepts(&self, event: &Event) -> bool {
        (self.namespaces.is_empty() || self.namespaces.iter().any(|name| **name == *event.namespace))
            && (self.types.is_empty() || self.types.contains(&event.kind))
    }
}
