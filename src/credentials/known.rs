//! The secrets that are in use, and how they are found in a text.
//!
//! A secret is known as long as its [`KnownSecret`] is held: by an attempt, or by the process for secrets that are not part of
//! an attempt. When the last holder drops it, its value is wiped. The automata that find it cannot be wiped; they are dropped when enough
//! of their secrets are forgotten.

use super::{forms, views};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use zeroize::{Zeroize, Zeroizing};

/// The forgotten secrets of the automata that are kept, at least.
const MIN_FORGOTTEN: usize = 16;

/// The beginning of a secret that is recognized at the end of a text, at least. A shorter one says little about the secret,
/// and would match too many texts.
const MIN_CUT_BYTES: usize = 6;

/// A secret that is in use. All who hold the same value share it.
pub struct KnownSecret {
    value: Zeroizing<String>,
    finder: Option<AhoCorasick>,
    digest: [u8; 32],
    store: Weak<Store>,
}

impl KnownSecret {
    /// Adds the places of `text` that show the secret.
    fn find(&self, text: &[u8], found: &mut Vec<Range<usize>>) {
        if let Some(finder) = &self.finder {
            found.extend(finder.find_overlapping_iter(text).map(|hit| hit.range()));
        }
    }

    /// The range of the beginning of the secret with which `text` ends, if it was cut in the middle of the secret, perhaps
    /// with an ellipsis or quotes behind it.
    pub fn cut_off_at_end(&self, text: &str) -> Option<Range<usize>> {
        let end = text.trim_end_matches(['.', '\u{2026}', '"', '\'', '`', ')', ']', '}', '\\', ' ']).len();
        let (text, value) = (text.as_bytes().get(..end)?, self.value.as_bytes());
        let longest = value.len().saturating_sub(1).min(text.len());
        let cut =
            (MIN_CUT_BYTES..=longest).rev().find(|length| value.get(..*length).is_some_and(|start| text.ends_with(start)))?;
        Some(end - cut..end)
    }

    /// The number of bytes that the longest form of the secret can take in a text.
    pub fn longest_form(&self) -> usize {
        // A character that is escaped twice takes up to twelve times its bytes.
        self.value.len().saturating_mul(12)
    }
}

impl Drop for KnownSecret {
    fn drop(&mut self) {
        if let Some(store) = self.store.upgrade() {
            store.forget(&self.digest);
        }
    }
}

/// Returns the ranges of `text` that show one of `secrets`, in any known form.
pub fn find<'a>(text: &str, secrets: impl Iterator<Item = &'a Arc<KnownSecret>> + Clone) -> Vec<Range<usize>> {
    views::find(text, |view, found| secrets.clone().for_each(|secret| secret.find(view, found)))
}

/// Several secrets and the automaton that finds them.
struct Tier {
    secrets: Vec<Weak<KnownSecret>>,
    finder: AhoCorasick,
}

/// All secrets that are in use.
#[derive(Default)]
pub struct Store {
    /// Tiers of decreasing size. A new secret starts a tier of size 1, which absorbs the tiers before it as long as they
    /// are not larger. So learning n secrets takes n log n steps instead of n², and a text is searched log n times.
    tiers: arc_swap::ArcSwap<Vec<Arc<Tier>>>,
    state: Mutex<StoreState>,
}

#[derive(Default)]
struct StoreState {
    /// By the SHA-256 digest of the value.
    known: HashMap<[u8; 32], Weak<KnownSecret>>,
    /// How many secrets of the tiers are forgotten.
    forgotten: usize,
}

impl Store {
    /// Makes `value` known as long as the result is held. Returns `None` for a value that is too short to be found.
    pub fn learn(self: &Arc<Store>, value: &str) -> Option<Arc<KnownSecret>> {
        if value.len() < forms::MIN_SECRET_BYTES {
            return None;
        }
        let digest = crate::model::Digest::from_bytes(value.as_bytes()).0;
        let mut state = self.lock();
        if let Some(known) = state.known.get(&digest).and_then(Weak::upgrade) {
            return Some(known);
        }
        let value = Zeroizing::new(value.to_string());
        // This automaton is small and lives only as long as the secret, so it should be quick to build.
        let finder = automaton([value.as_str()].into_iter(), AhoCorasickKind::NoncontiguousNFA);
        let secret = Arc::new(KnownSecret { value, finder, digest, store: Arc::downgrade(self) });
        state.known.insert(digest, Arc::downgrade(&secret));
        let alive = self.add(&secret);
        drop(state);
        // Dropped outside the lock, because the last copy of a secret takes the lock to be forgotten.
        drop(alive);
        Some(secret)
    }

    /// Adds the secret to the tiers. Returns the secrets that were read, which must be dropped outside the lock.
    fn add(&self, secret: &Arc<KnownSecret>) -> Vec<Arc<KnownSecret>> {
        let mut tiers: Vec<Arc<Tier>> = self.tiers.load().as_ref().clone();
        let mut merged = vec![Arc::downgrade(secret)];
        let mut kept = tiers.len();
        while let Some(last) = kept.checked_sub(1).and_then(|last| tiers.get(last)) {
            if last.secrets.len() > merged.len() {
                break;
            }
            merged.extend(last.secrets.iter().cloned());
            kept -= 1;
        }
        let alive: Vec<Arc<KnownSecret>> = merged.iter().filter_map(Weak::upgrade).collect();
        if let Some(tier) = Tier::new(&alive) {
            tiers.truncate(kept);
            tiers.push(Arc::new(tier));
        } else {
            // The merged automaton would be too large, so the secret gets a tier of its own.
            tiers.extend(Tier::new(std::slice::from_ref(secret)).map(Arc::new));
        }
        self.tiers.store(Arc::new(tiers));
        alive
    }

    /// Forgets a secret whose last holder is gone.
    fn forget(&self, digest: &[u8; 32]) {
        let mut state = self.lock();
        // The same value may have been learned again in the meantime.
        if state.known.get(digest).is_some_and(|known| known.strong_count() == 0) {
            state.known.remove(digest);
        }
        state.forgotten += 1;
        if state.forgotten < MIN_FORGOTTEN.max(state.known.len()) {
            return;
        }
        state.forgotten = 0;
        let alive: Vec<Arc<KnownSecret>> = state.known.values().filter_map(Weak::upgrade).collect();
        let tier = if alive.is_empty() { None } else { Tier::new(&alive) };
        self.tiers.store(Arc::new(tier.map(Arc::new).into_iter().collect()));
        drop(state);
        drop(alive);
    }

    /// Returns the ranges of `text` that show a secret in use.
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        let tiers = self.tiers.load();
        if tiers.is_empty() {
            return Vec::new();
        }
        views::find(text, |view, found| {
            for tier in tiers.iter() {
                found.extend(tier.finder.find_overlapping_iter(view).map(|hit| hit.range()));
            }
        })
    }

    /// The number of secrets in use.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().known.len()
    }

    /// The number of secrets in the automata, and the number of automata.
    #[cfg(test)]
    pub fn sizes(&self) -> (usize, usize) {
        let tiers = self.tiers.load();
        (tiers.iter().map(|tier| tier.secrets.len()).sum(), tiers.len())
    }

    fn lock(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tier {
    fn new(secrets: &[Arc<KnownSecret>]) -> Option<Tier> {
        let finder = automaton(secrets.iter().map(|secret| secret.value.as_str()), AhoCorasickKind::ContiguousNFA)?;
        Some(Tier { secrets: secrets.iter().map(Arc::downgrade).collect(), finder })
    }
}

/// Builds the automaton that finds every form of `values`. Case is ignored, because servers write hexadecimal digits,
/// base32 and the names of headers in either case.
fn automaton<'a>(values: impl Iterator<Item = &'a str>, kind: AhoCorasickKind) -> Option<AhoCorasick> {
    let mut patterns: Vec<String> = values.flat_map(forms::all).collect();
    // Building the automaton fails only if it needs more than four billion states.
    let mut builder = AhoCorasick::builder();
    builder.match_kind(MatchKind::Standard).ascii_case_insensitive(true).kind(Some(kind));
    let finder = builder.build(&patterns).ok();
    patterns.iter_mut().for_each(Zeroize::zeroize);
    finder
}
