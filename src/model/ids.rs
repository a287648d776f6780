//! Identities that are derived from content, so that they are the same for every push and on every replica.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// The namespace of AAM's UUIDv5 ids. Changing it would change the id of every connection.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f2c_3d0e_5a1b_5c4d_9e8f_0a1b_2c3d_4e5f);

/// The id of a connection: UUIDv5 of (namespace, source type, sorted unique resource ids).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub Uuid);

/// The number of partitions of the connections. A ledger in PostgreSQL has as many chains.
pub const PARTITIONS: usize = 64;

impl ConnectionId {
    /// The partition of the connection. Changing it would put connections into other chains.
    #[must_use]
    pub fn partition(self) -> usize {
        usize::from(self.0.as_bytes().first().copied().unwrap_or_default()) % PARTITIONS
    }

    /// Sorts before all other ids.
    pub const FIRST: ConnectionId = ConnectionId(Uuid::nil());
    /// Sorts after all other ids.
    pub const LAST: ConnectionId = ConnectionId(Uuid::max());

    /// Derives the id. The order of `resource_ids` and duplicates in it do not matter.
    ///
    /// Each part is prefixed with its length, so that two different identities never yield the same bytes.
    #[must_use]
    pub fn derive(namespace: &str, source_type: &str, resource_ids: &[String]) -> ConnectionId {
        let mut sorted: Vec<&str> = resource_ids.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut name = String::new();
        for part in [namespace, source_type].into_iter().chain(sorted) {
            name.push_str(&part.len().to_string());
            name.push(':');
            name.push_str(part);
        }
        ConnectionId(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }

    /// Parses the hyphenated form.
    ///
    /// # Errors
    /// Returns the parser's message if `text` is not a UUID.
    pub fn parse(text: &str) -> Result<ConnectionId, String> {
        Uuid::parse_str(text).map(ConnectionId).map_err(|error| error.to_string())
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A SHA-256 digest, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Digest {
        Digest::from_parts(&[bytes])
    }

    /// Computes the digest of the concatenation of `parts`.
    #[must_use]
    pub fn from_parts(parts: &[&[u8]]) -> Digest {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Digest(out)
    }

    /// Parses 64 hex digits, in upper or lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Digest> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Digest)
    }

    /// Returns the first 12 hex digits, which are enough to tell two policies apart.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hex digits"))
    }
}

/// The namespace of the sample data. It is loaded once from its seed and accepts no intents.
pub const DEMO_NAMESPACE: &str = "demo";

/// The name of the admin token in origins (`api:admin`). No token of the policy may have it.
pub const ADMIN_TOKEN: &str = "admin";

/// Where an intent comes from: `folder:<path below the intents folder>`, `api:<token name>`, `handoff:<token name>` or
/// `seed:<file>`.
///
/// All intents of one file have the same origin.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(pub Arc<str>);

impl Origin {
    /// Returns the origin of the file at `path`, which is relative to the intents folder and uses `/` as the separator.
    #[must_use]
    pub fn folder(path: &str) -> Origin {
        Origin(format!("folder:{path}").into())
    }

    /// Returns the origin of everything that is pushed with the token `name`.
    #[must_use]
    pub fn api(name: &str) -> Origin {
        Origin(format!("api:{name}").into())
    }

    /// Returns the origin of the candidates that are handed over with the token `name`.
    #[must_use]
    pub fn handoff(name: &str) -> Origin {
        Origin(format!("handoff:{name}").into())
    }

    /// Whether this is the origin of candidates that were handed over.
    #[must_use]
    pub fn is_handoff(&self) -> bool {
        self.0.starts_with("handoff:")
    }

    /// Returns the name of the token if this is the origin of a push over the API.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.0.strip_prefix("api:")
    }

    /// Returns the path if this is the origin of a file.
    #[must_use]
    pub fn folder_path(&self) -> Option<&str> {
        self.0.strip_prefix("folder:")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
