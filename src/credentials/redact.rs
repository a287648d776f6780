//! Removes secrets from texts, by value and in every form in which they are likely to appear.
//!
//! A text that came from a source is scrubbed with the secrets of the attempt that read it: [`AttemptSecrets`] is the
//! set of them, [`scrub`] uses the set of the running attempt, and the secrets are forgotten when the attempt ends. What
//! the caller wrote (resource ids, owner, locator) is never changed, because a caller could otherwise find a secret by
//! guessing it: a guess that is replaced is right. Logs and the output of commands are for the operator, and are
//! scrubbed with all secrets in use.
//!
//! Scrub a text before you shorten it, because a part of a secret is not recognized: [`scrub_and_cut`] does both.

use super::forms;
use super::known::{self, KnownSecret, Store};
use super::secret::Credential;
use crate::model::{Failure, text};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::future::Future;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use tracing_subscriber::fmt::MakeWriter;
use zeroize::Zeroizing;

/// The text that replaces a secret.
pub const MARK: &str = "[redacted]";

static STORE: LazyLock<Arc<Store>> = LazyLock::new(Arc::default);
/// The secrets that do not belong to an attempt: those of a command. They stay known until the process ends.
static OF_PROCESS: LazyLock<Mutex<Vec<Arc<KnownSecret>>>> = LazyLock::new(Mutex::default);

tokio::task_local! {
    static ATTEMPT: Arc<AttemptSecrets>;
}

/// The secrets of one attempt. They are forgotten when this is dropped.
pub struct AttemptSecrets {
    secrets: Mutex<Vec<Arc<KnownSecret>>>,
    /// What the caller wrote, and what a manifest publishes.
    own_texts: Vec<String>,
    /// Finds what the caller wrote. It is built when a text with a secret is scrubbed for the first time, because that takes
    /// longer than everything else that an attempt without a credential does.
    own_finder: OnceLock<Option<AhoCorasick>>,
}

impl AttemptSecrets {
    /// Creates a set without secrets. `own_texts` are the texts that the caller wrote, which are never changed.
    #[must_use]
    pub fn new(own_texts: &[String]) -> Arc<AttemptSecrets> {
        Arc::new(AttemptSecrets { secrets: Mutex::default(), own_texts: own_texts.to_vec(), own_finder: OnceLock::new() })
    }

    fn own_finder(&self) -> Option<&AhoCorasick> {
        let build = || {
            let parts: BTreeSet<String> = self.own_texts.iter().flat_map(|text| parts(text)).collect();
            // The automaton is used for a few texts and lives as long as the attempt, so it should be quick to build and small:
            // a DFA of the same parts takes 100 kB for each of the attempts in flight. Building fails only if it needs more than
            // four billion states.
            let mut builder = AhoCorasick::builder();
            builder.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::NoncontiguousNFA));
            builder.build(&parts).ok().filter(|_| !parts.is_empty())
        };
        self.own_finder.get_or_init(build).as_ref()
    }

    /// Runs the work of the attempt: what it learns belongs to this set, and [`scrub`] uses this set.
    pub async fn run<T>(self: Arc<AttemptSecrets>, work: impl Future<Output = T>) -> T {
        ATTEMPT.scope(self, work).await
    }

    fn add(&self, secret: Option<Arc<KnownSecret>>) {
        let mut secrets = lock(&self.secrets);
        if let Some(secret) = secret.filter(|secret| !secrets.iter().any(|known| Arc::ptr_eq(known, secret))) {
            secrets.push(secret);
        }
    }

    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let secrets: Vec<Arc<KnownSecret>> = lock(&self.secrets).clone();
        let mut found = known::find(text, secrets.iter());
        found.extend(secrets.iter().filter_map(|secret| secret.cut_off_at_end(text)));
        if found.is_empty() {
            return found;
        }
        if let Some(texts) = self.own_finder() {
            let own: Vec<Range<usize>> = texts.find_overlapping_iter(text).map(|hit| hit.range()).collect();
            found.retain(|secret| !own.iter().any(|own| own.start <= secret.start && secret.end <= own.end));
        }
        found
    }

    fn longest_form(&self) -> usize {
        lock(&self.secrets).iter().map(|secret| secret.longest_form()).max().unwrap_or(0)
    }
}

/// Returns a text and its parts as they occur in messages: what follows the scheme of a URL, its path, and the pieces
/// between separators, also without percent encoding and with it.
fn parts(text: &str) -> BTreeSet<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
    let pieces = text.split(['/', ':', '?', '&', '=', '@', ';', ',', '#', ' ']);
    let whole = [text, rest, path, path.trim_start_matches('/')].into_iter().chain(pieces);
    let mut parts = BTreeSet::new();
    for part in whole.filter(|part| !part.is_empty()) {
        parts.insert(percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned());
        parts.insert(percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string());
        parts.insert(part.to_string());
    }
    parts
}

/// Returns the secrets of the running attempt, to pass them to a thread with [`with_attempt`].
#[must_use]
pub fn attempt() -> Option<Arc<AttemptSecrets>> {
    ATTEMPT.try_with(Arc::clone).ok()
}

/// Runs `work` on this thread as part of `attempt`.
pub fn with_attempt<T>(attempt: Option<Arc<AttemptSecrets>>, work: impl FnOnce() -> T) -> T {
    match attempt {
        Some(attempt) => ATTEMPT.sync_scope(attempt, work),
        None => work(),
    }
}

/// Remembers the secret values of `credential`. Fields that are known not to be secret (`user`, `host`, `region` and the
/// like) are left out. The values are forgotten when the running attempt ends.
pub fn learn(credential: &Credential) {
    for value in forms::of_credential(credential) {
        remember(&value);
    }
    if let Some(signer) = credential.signer() {
        signer.secrets().iter().for_each(|secret| learn_value(secret.expose()));
    }
}

/// Remembers one secret that did not come through a locator, for example a minted token.
pub fn learn_value(value: &str) {
    for value in forms::values(value) {
        remember(&value);
    }
}

/// As [`learn_value`], for values that count only from `min_bytes` bytes. Shorter parts of `value` are not learned.
pub fn learn_long(value: &str, min_bytes: usize) {
    forms::values(value).iter().filter(|value| value.len() >= min_bytes).for_each(remember);
}

/// Whether the name of a field says that its value is a secret.
#[must_use]
pub fn is_secret_field(name: &str) -> bool {
    forms::is_secret_name(name)
}

fn remember(value: &Zeroizing<String>) {
    let lines = forms::many_lines(value).and_then(|lines| STORE.learn_lines(&lines));
    for secret in [STORE.learn(value), lines] {
        match attempt() {
            Some(attempt) => attempt.add(secret),
            None => lock(&OF_PROCESS).extend(secret),
        }
    }
}

/// Returns `text` without the secrets of the running attempt, in any known encoding. Outside an attempt, all secrets in
/// use are removed.
#[must_use]
pub fn scrub(text: &str) -> Cow<'_, str> {
    replaced(text, find(text))
}

/// Returns `text` without any secret in use. For logs, which only the operator reads.
#[must_use]
pub fn scrub_all(text: &str) -> Cow<'_, str> {
    replaced(text, STORE.find(text))
}

/// As [`scrub`], but returns `None` for a text that does not contain a secret.
#[must_use]
pub fn scrub_if_secret(text: &str) -> Option<String> {
    match scrub(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(clean) => Some(clean),
    }
}

/// The number of bytes from which a secret is removed from the name of a field.
const MIN_NAME_BYTES: usize = 16;

/// Scrubs the name of a field, or returns `None` if it stays as it is. Names are structure: readers look for them, and a
/// secret such as `created_at` would rename a field. Only a long secret with a digit is removed, which is not a name.
#[must_use]
pub fn scrub_name(name: &str) -> Option<String> {
    if name.len() < MIN_NAME_BYTES {
        return None;
    }
    let is_token = |range: &Range<usize>| {
        let secret = name.get(range.clone()).unwrap_or_default();
        secret.len() >= MIN_NAME_BYTES && secret.bytes().any(|byte| byte.is_ascii_digit())
    };
    let found: Vec<Range<usize>> = find(name).into_iter().filter(is_token).collect();
    (!found.is_empty()).then(|| replace(name, found))
}

/// Scrubs `text`, puts it on one line, and cuts it to at most `max_chars` characters. Control characters are left out.
#[must_use]
pub fn scrub_and_cut(text: &str, max_chars: usize) -> String {
    // A long text is not searched to its end. The rest of the search is longer than the longest form of a secret, so that
    // no secret which begins in the result is cut.
    let margin = attempt().map_or(MAX_SEARCH_BYTES, |attempt| attempt.longest_form()).clamp(1 << 10, MAX_SEARCH_BYTES);
    let shown = floor(text, max_chars.saturating_mul(MAX_BYTES_PER_CHAR).max(MIN_SHOWN_BYTES));
    let searched = floor(text, shown.saturating_add(margin));
    let found = find(text.get(..searched).unwrap_or_default());
    let in_part = |range: Range<usize>| (range.start < shown).then(|| range.start..range.end.min(shown));
    let found: Vec<Range<usize>> = found.into_iter().filter_map(in_part).collect();
    let clean = replaced(text.get(..shown).unwrap_or_default(), found);
    let mut line = String::new();
    for word in clean.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !text::is_unprintable(*c)));
    }
    line.chars().take(max_chars).collect()
}

/// Scrubs `text` and cuts it to at most `max_chars` characters. Other than with [`scrub_and_cut`], white space stays, because
/// the text is a name.
#[must_use]
pub fn shortened(text: &str, max_chars: usize) -> String {
    scrub(text).chars().take(max_chars).collect()
}

/// Cuts a text without secrets to `max_chars` characters and a note that it was cut.
pub fn cut(clean: &str, max_chars: usize) -> String {
    match clean.char_indices().nth(max_chars) {
        None => clean.to_string(),
        Some((end, _)) => {
            format!("{}… (cut, {} characters)", clean.get(..end).unwrap_or_default(), clean.chars().count())
        }
    }
}

/// The bytes that are searched behind the shown part, at most.
const MAX_SEARCH_BYTES: usize = 64 << 10;
/// The bytes of a character and of the white space around it that are looked at.
const MAX_BYTES_PER_CHAR: usize = 8;
/// The part of a text that is looked at, at least.
const MIN_SHOWN_BYTES: usize = 4 << 10;

/// The largest character boundary of `text` that is at most `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn find(text: &str) -> Vec<Range<usize>> {
    attempt().map_or_else(|| STORE.find(text), |attempt| attempt.find(text))
}

fn replaced(text: &str, found: Vec<Range<usize>>) -> Cow<'_, str> {
    if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(replace(text, found)) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scrubs every string in `value`, and every key as [`scrub_name`] does.
pub fn scrub_json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if let Cow::Owned(clean) = scrub(text) {
                *text = clean;
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(scrub_json),
        serde_json::Value::Object(object) => {
            scrub_keys(object);
            object.values_mut().for_each(scrub_json);
        }
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) | serde_json::Value::Null => {}
    }
}

/// Scrubs the keys of `object` as [`scrub_name`] does.
pub fn scrub_keys(object: &mut serde_json::Map<String, serde_json::Value>) {
    if object.keys().any(|key| scrub_name(key).is_some()) {
        let renamed = std::mem::take(object).into_iter();
        *object = renamed.map(|(key, value)| (scrub_name(&key).unwrap_or(key), value)).collect();
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
        let (start, end) = (floor(text, range.start).max(at), ceil(text, range.end));
        clean.push_str(text.get(at..start).unwrap_or_default());
        clean.push_str(MARK);
        at = end;
    }
    clean.push_str(text.get(at..).unwrap_or_default());
    clean
}

/// The smallest character boundary of `text` that is at least `at`.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// Scrubs all secrets in use from the events that are written to `W`, which is a maker of writers for `tracing_subscriber`,
/// and escapes what would steer a terminal or look like another event.
pub struct ScrubbingWriter<W> {
    pub inner: W,
    /// Whether the events contain the colour sequences of `tracing_subscriber`.
    pub colour: bool,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for ScrubbingWriter<M> {
    type Writer = ScrubbedEvent<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ScrubbedEvent { inner: self.inner.make_writer(), colour: self.colour, held: Vec::new() }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        ScrubbedEvent { inner: self.inner.make_writer_for(meta), colour: self.colour, held: Vec::new() }
    }
}

/// A writer for one event. The text is held back until the event is complete, so that a secret which is written in two
/// pieces is recognized.
pub struct ScrubbedEvent<W: Write> {
    inner: W,
    colour: bool,
    held: Vec<u8>,
}

/// The maximum length of an event in bytes. A longer one is written in pieces.
const MAX_EVENT_BYTES: usize = 1 << 20;

impl<W: Write> ScrubbedEvent<W> {
    fn write_held(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        let text = String::from_utf8_lossy(&held);
        let text = scrub_all(&text);
        let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
        let line = if self.colour { printable_styled(line) } else { text::printable(line, &[]).into_owned() };
        self.inner.write_all(format!("{line}{end}").as_bytes())
    }
}

/// As [`text::printable`], but keeps the sequences that set a colour or weight, which `tracing_subscriber` writes itself.
fn printable_styled(line: &str) -> String {
    const STYLES: [&str; 13] = ["0", "1", "2", "3", "4", "7", "31", "32", "33", "34", "35", "36", "37"];
    let mut parts = line.split("\u{1b}[");
    let mut out = text::printable(parts.next().unwrap_or_default(), &[]).into_owned();
    for part in parts {
        match part.split_once('m').filter(|(style, _)| STYLES.contains(style)) {
            Some((style, rest)) => out.push_str(&format!("\u{1b}[{style}m{}", text::printable(rest, &[]))),
            None => out.push_str(&format!("\\u{{1b}}[{}", text::printable(part, &[]))),
        }
    }
    out
}

impl<W: Write> Write for ScrubbedEvent<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() > MAX_EVENT_BYTES {
            self.write_held()?;
        }
        Ok(bytes.len())
    }

    /// Flushes what was written. An incomplete event is still held back.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for ScrubbedEvent<W> {
    fn drop(&mut self) {
        // A destructor cannot report an error.
        let _ = self.write_held().and_then(|()| self.inner.flush());
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
