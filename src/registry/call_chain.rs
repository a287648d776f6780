//! The hash chain of the batches of calls.

use crate::model::{CallTarget, Digest};

/// The columns of a batch that its hash covers.
#[derive(Clone, Copy, Debug)]
pub struct BatchRow<'a> {
    pub batch: u64,
    pub at: i64,
    pub connection: &'a str,
    pub namespace: &'a str,
    pub family: &'a str,
    pub begun_at: Option<i64>,
    pub why: Option<&'a str>,
    pub policy: Option<Digest>,
    pub attempt: Option<u64>,
    pub cut: u64,
}

/// The columns of a call that the hash of its batch covers.
#[derive(Clone, Copy, Debug)]
pub struct CallRow<'a> {
    pub target: &'a CallTarget,
    pub at: i64,
    pub status: Option<u16>,
    pub sent: Option<u64>,
    pub bytes: u64,
    pub ms: u64,
    pub error: &'a str,
}

/// Computes the hash of a batch after one with the hash `prev`. As in the ledger, texts are prefixed with their length, and what is
/// missing differs from every value.
pub struct BatchHash(Vec<u8>);

impl BatchHash {
    #[must_use]
    pub fn new(prev: &Digest, row: &BatchRow<'_>) -> BatchHash {
        let mut hash = BatchHash(Vec::with_capacity(1024));
        hash.0.extend_from_slice(&prev.0);
        for number in
            [Some(row.batch), Some(row.at.cast_unsigned()), row.begun_at.map(i64::cast_unsigned), row.attempt, Some(row.cut)]
        {
            hash.number(number);
        }
        for text in [Some(row.connection), Some(row.namespace), Some(row.family), row.why] {
            hash.bytes(text.map(str::as_bytes));
        }
        hash.bytes(row.policy.as_ref().map(|policy| policy.0.as_slice()));
        hash
    }

    /// Adds the next call of the batch.
    pub fn call(&mut self, call: &CallRow<'_>) {
        for number in [Some(call.at.cast_unsigned()), call.status.map(u64::from), call.sent, Some(call.bytes), Some(call.ms)] {
            self.number(number);
        }
        let CallTarget { purpose, method, host, path, statement, rule } = call.target;
        for text in [purpose.as_str(), method, host, path, statement, rule, call.error] {
            self.bytes(Some(text.as_bytes()));
        }
    }

    #[must_use]
    pub fn finish(self) -> Digest {
        Digest::from_bytes(&self.0)
    }

    fn number(&mut self, number: Option<u64>) {
        self.0.push(u8::from(number.is_some()));
        self.0.extend_from_slice(&number.unwrap_or_default().to_be_bytes());
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.0.push(u8::from(bytes.is_some()));
        let bytes = bytes.unwrap_or_default();
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }
}
