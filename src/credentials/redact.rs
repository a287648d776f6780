//! Removes known secrets from any text, by value and in every form in which they are likely to appear.
//!
//! A learned value stays known for the life of the process, because a source may still echo a secret that has been
//! rotated. Values shorter than `MIN_SECRET_BYTES` are not learned, because they occur in every text. Scrub a text
//! before you shorten it, because a part of a secret is not recognized.

use super::forms::{self, MIN_SECRET_BYTES};
use super::secret::Credential;
use crate::model::Failure;
use aho_corasick::{AhoCorasick, MatchKind};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;
use zeroize::Zeroizing;

/// The text that replaces a secret.
pub const MARK: &str = "[redacted]";

static STORE: LazyLock<Store> = LazyLock::new(Store::default);

/// Remembers the values of `credential` for [`scrub`]. Fields that are known not to be secret
/// (`user`, `host`, `region` and the like) are left out.
pub fn learn(credential: &Credential) {
    let plain = credential.plain().map(|secret| forms::values(secret.expose())).unwrap_or_default();
    let fields =
        credential.field_names().into_iter().filter_map(|name| Some(forms::field_values(name, credential.field(name)?.expose())));
    for value in fields.flatten().chain(plain) {
        STORE.learn(&value);
    }
}

/// Remembers one secret that did not come through a locator, for example a minted token.
pub fn learn_value(value: &str) {
    for value in forms::values(value) {
        STORE.learn(&value);
    }
}

/// Returns `text` without any learned secret, in any known encoding.
#[must_use]
pub fn scrub(text: &str) -> Cow<'_, str> {
    STORE.scrub(text)
}

/// Scrubs every string and every key in `value`.
pub fn scrub_json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if let Cow::Owned(clean) = scrub(text) {
                *text = clean;
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(scrub_json),
        serde_json::Value::Object(object) => {
            if object.keys().any(|key| matches!(scrub(key), Cow::Owned(_))) {
                *object = std::mem::take(object).into_iter().map(|(key, value)| (scrub(&key).into_owned(), value)).collect();
            }
            object.values_mut().for_each(scrub_json);
        }
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) | serde_json::Value::Null => {}
    }
}

/// Scrubs every text in `failure`.
#[must_use]
pub fn scrub_failure(mut failure: Failure) -> Failure {
    for text in [&mut failure.title, &mut failure.fix, &mut failure.detail] {
        if let Cow::Owned(clean) = scrub(text) {
            *text = clean;
        }
    }
    failure
}

/// A group of learned values and the automaton that finds them.
struct Tier {
    values: Vec<Zeroizing<String>>,
    finder: AhoCorasick,
}

/// The learned values, in tiers of decreasing size. A new value starts a tier of size 1, which absorbs the tiers before
/// it as long as they are not larger. So learning n values takes n log n steps instead of n², and a text is searched
/// log n times.
#[derive(Default)]
struct Store {
    tiers: arc_swap::ArcSwap<Vec<Arc<Tier>>>,
    /// The SHA-256 digest of each learned value. The lock is held while a value is learned.
    known: Mutex<BTreeSet<[u8; 32]>>,
}

impl Store {
    fn learn(&self, value: &str) {
        if value.len() < MIN_SECRET_BYTES {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.insert(crate::model::Digest::from_bytes(value.as_bytes()).0) {
            return;
        }
        let mut tiers: Vec<Arc<Tier>> = self.tiers.load().as_ref().clone();
        let fresh = vec![Zeroizing::new(value.to_string())];
        let mut values = fresh.clone();
        let mut kept = tiers.len();
        while let Some(last) = kept.checked_sub(1).and_then(|last| tiers.get(last)) {
            if last.values.len() > values.len() {
                break;
            }
            values.extend(last.values.iter().cloned());
            kept -= 1;
        }
        match Tier::of(values) {
            Some(merged) => {
                tiers.truncate(kept);
                tiers.push(Arc::new(merged));
            }
            // The merged automaton would be too large. The existing tiers stay as they are, and the new value gets a
            // separate tier.
            None => tiers.extend(Tier::of(fresh).map(Arc::new)),
        }
        self.tiers.store(Arc::new(tiers));
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let tiers = self.tiers.load();
        let mut found: Vec<Range<usize>> = Vec::new();
        for tier in tiers.iter() {
            found.extend(tier.finder.find_overlapping_iter(text).map(|hit| hit.range()));
        }
        if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(replace(text, found)) }
    }
}

impl Tier {
    fn of(values: Vec<Zeroizing<String>>) -> Option<Tier> {
        let patterns: BTreeSet<String> = values.iter().flat_map(|value| forms::all(value)).collect();
        // Building the automaton fails only if it needs more than four billion states.
        let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns).ok()?;
        Some(Tier { values, finder })
    }
}

/// Replaces the union of the ranges in `found`, so that no part of overlapping secrets remains.
fn replace(text: &str, mut found: Vec<Range<usize>>) -> String {
    found.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in found {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    for range in merged {
        // Every form is valid UTF-8, so the ends of its range are character boundaries.
        clean.push_str(text.get(at..range.start).unwrap_or_default());
        clean.push_str(MARK);
        at = range.end;
    }
    clean.push_str(text.get(at..).unwrap_or_default());
    clean
}

/// Scrubs what is written to `W`, which is a maker of writers for `tracing_subscriber`. Text is held back until its
/// line is complete, so that a secret that is written in two pieces is recognized.
pub struct ScrubbingWriter<W>(pub W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for ScrubbingWriter<M> {
    type Writer = ScrubbedLines<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ScrubbedLines::new(self.0.make_writer())
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        ScrubbedLines::new(self.0.make_writer_for(meta))
    }
}

/// A writer that scrubs each line before writing it.
pub struct ScrubbedLines<W: Write> {
    inner: W,
    held: Vec<u8>,
}

/// The maximum length of a line in bytes. A longer line is written in pieces.
const LONGEST_LINE: usize = 1 << 20;

impl<W: Write> ScrubbedLines<W> {
    /// Creates a writer that scrubs what is written to `inner`.
    pub fn new(inner: W) -> ScrubbedLines<W> {
        ScrubbedLines { inner, held: Vec::new() }
    }

    fn let_go(&mut self, end: usize) -> io::Result<()> {
        let rest = self.held.split_off(end);
        let lines = std::mem::replace(&mut self.held, rest);
        self.inner.write_all(scrub(&String::from_utf8_lossy(&lines)).as_bytes())
    }
}

impl<W: Write> Write for ScrubbedLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        match self.held.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => self.let_go(end + 1)?,
            None if self.held.len() > LONGEST_LINE => self.let_go(self.held.len())?,
            None => {}
        }
        Ok(bytes.len())
    }

    /// Flushes the complete lines. An incomplete line is still held back.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for ScrubbedLines<W> {
    fn drop(&mut self) {
        // A destructor cannot report an error.
        let _ = self.let_go(self.held.len()).and_then(|()| self.inner.flush());
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
