//! The hash chain of the ledger: each row contains the hash of the row before it.

use crate::model::Digest;

/// The columns of a row that its hash covers.
#[derive(Clone, Copy, Debug)]
pub struct LedgerRow<'a> {
    pub seq: u64,
    pub at: i64,
    pub kind: &'a str,
    pub namespace: &'a str,
    pub connection: Option<&'a str>,
    pub facts: &'a str,
    pub body: Option<&'a str>,
}

/// The hash that the first row is chained to.
pub const GENESIS: Digest = Digest([0; 32]);

/// The hash of `row` after a row with the hash `prev`. Every text is prefixed with its length, and a missing text differs
/// from an empty one, so that no two different rows are hashed as the same bytes.
#[must_use]
pub fn hash(prev: &Digest, row: &LedgerRow<'_>) -> Digest {
    let mut bytes = Vec::with_capacity(256 + row.facts.len() + row.body.map_or(0, str::len));
    bytes.extend_from_slice(&prev.0);
    bytes.extend_from_slice(&row.seq.to_be_bytes());
    bytes.extend_from_slice(&row.at.to_be_bytes());
    for text in [Some(row.kind), Some(row.namespace), row.connection, Some(row.facts), row.body] {
        bytes.push(u8::from(text.is_some()));
        let text = text.unwrap_or_default();
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    Digest::from_bytes(&bytes)
}
