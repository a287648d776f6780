//! The secrets that are in use, and how they are found in a text.
//!
//! A secret is known as long as its [`KnownSecret`] is held: by an attempt, or by the process for secrets that are not part of
//! an attempt. When the last holder drops it, its value is wiped. The automata that find it cannot be wiped; they are dropped when enough
//! of their secrets are forgotten.

use super::{forms, long, views};
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

/// How a secret is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appearance {
    /// As a whole, in every form.
    Whole,
    /// Each of its lines, as it is. Escapes are undone in the text.
    Lines,
}

/// A secret that is in use. All who hold the same value share it.
pub struct KnownSecret {
    value: Zeroizing<String>,
    appearance: Appearance,
    finder: Option<AhoCorasick>,
    digest: [u8; 32],
    store: Weak<Store>,
}

impl KnownSecret {
    /// Adds the places of `text` that show the secret.
    fn find(&self, text: &[u8], found: &mut Vec<Range<usize>>) {
        if let Some(finder) = &self.finder {
            found.extend(finder.find_overlapping_iter(text).map(|hit| self.whole(text, hit.range())));
        }
    }

    /// Returns what is searched for.
    fn patterns(&self) -> Vec<String> {
        match self.appearance {
            Appearance::Whole => forms::all(long::head(&self.value)).into_iter().collect(),
            Appearance::Lines => self.value.lines().map(str::to_string).collect(),
        }
    }

    /// The number of bytes of what is searched for.
    #[cfg(test)]
    pub fn pattern_bytes(&self) -> usize {
        self.patterns().iter().map(String::len).sum()
    }

    /// Returns the range in which `text` shows the secret, if a pattern of it was found in `range`.
    fn whole(&self, text: &[u8], range: Range<usize>) -> Range<usize> {
        let rest = self.value.get(long::head(&self.value).len()..).unwrap_or_default();
        match self.appearance {
            Appearance::Whole if !rest.is_empty() => range.start..long::end_of(text, range.end, rest),
            _ => range,
        }
    }

    /// The range of the beginning of the secret with which `text` ends, if it was cut in the middle of the secret, perhaps
    /// with an ellipsis or quotes behind it.
    pub fn cut_off_at_end(&self, text: &str) -> Option<Range<usize>> {
        let end = text.trim_end_matches(['.', '\u{2026}', '"', '\'', '`', ')', ']', '}', '\\', ' ']).len();
        // The head of a long secret is found as it is, with all that follows.
        let (text, value) = (text.as_bytes().get(..end)?, long::head(&self.value).as_bytes());
        let longest = value.len().saturating_sub(1).min(text.len());
        let cut =
            (MIN_CUT_BYTES..=longest).rev().find(|length| value.get(..*length).is_some_and(|start| text.ends_with(start)))?;
        // Tokens of GitHub begin with its name, and so do not make it a secret.
        let is_ordinary = value.get(..cut).and_then(|cut| std::str::from_utf8(cut).ok()).is_some_and(forms::is_common);
        (!is_ordinary).then(|| end - cut..end)
    }

    /// The number of bytes that the longest form of the secret can take in a text.
    pub fn longest_form(&self) -> usize {
        if self.appearance == Appearance::Lines {
            return self.value.lines().map(str::len).max().unwrap_or_default().saturating_mul(12);
        }
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
    /// By pattern, the place of its secret in `secrets`.
    owners: Vec<usize>,
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
        self.learn_as(value, Appearance::Whole)
    }

    /// Makes each line of `lines` known, as it is.
    pub fn learn_lines(self: &Arc<Store>, lines: &str) -> Option<Arc<KnownSecret>> {
        self.learn_as(lines, Appearance::Lines)
    }

    fn learn_as(self: &Arc<Store>, value: &str, appearance: Appearance) -> Option<Arc<KnownSecret>> {
        if value.len() < forms::MIN_SECRET_BYTES {
            return None;
        }
        let kind: &[u8] = if appearance == Appearance::Lines { b"lines" } else { b"" };
        let digest = crate::model::Digest::from_parts(&[value.as_bytes(), kind]).0;
        let mut state = self.lock();
        if let Some(known) = state.known.get(&digest).and_then(Weak::upgrade) {
            return Some(known);
        }
        let value = Zeroizing::new(value.to_string());
        let mut secret = KnownSecret { value, appearance, finder: None, digest, store: Arc::downgrade(self) };
        // This automaton is small and lives only as long as the secret, so it should be quick to build.
        secret.finder = automaton(secret.patterns(), AhoCorasickKind::NoncontiguousNFA);
        let secret = Arc::new(secret);
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
                found.extend(tier.finder.find_overlapping_iter(view).map(|hit| {
                    let owner = tier.owners.get(hit.pattern().as_usize()).and_then(|owner| tier.secrets.get(*owner));
                    // A secret that was forgotten meanwhile is not looked for any more.
                    owner.and_then(Weak::upgrade).map_or(hit.range(), |secret| secret.whole(view, hit.range()))
                }));
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
        let (mut patterns, mut owners) = (Vec::new(), Vec::new());
        for (at, secret) in secrets.iter().enumerate() {
            patterns.extend(secret.patterns());
            owners.resize(patterns.len(), at);
        }
        let finder = automaton(patterns, AhoCorasickKind::ContiguousNFA)?;
        Some(Tier { secrets: secrets.iter().map(Arc::downgrade).collect(), owners, finder })
    }
}

/// Builds the automaton that finds `patterns`. Case is ignored, because servers write hexadecimal digits, base32 and the
/// names of headers in either case.
fn automaton(mut patterns: Vec<String>, kind: AhoCorasickKind) -> Option<AhoCorasick> {
    // Building the automaton fails only if it needs more than four billion states.
    let mut builder = AhoCorasick::builder();
    builder.match_kind(MatchKind::Standard).ascii_case_insensitive(true).kind(Some(kind));
    let finder = builder.build(&patterns).ok();
    patterns.iter_mut().for_each(Zeroize::zeroize);
    finder
}
