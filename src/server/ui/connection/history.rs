//! The history of a connection: its entries in the ledger, and what is folded from them.

use super::super::View;
use crate::model::ledger::{Entry, Fact};
use crate::model::{ConnectionId, Origin, State, Timestamp};
use crate::page::connection::{CatalogVersion, Kind, OriginRow, TimelineItem, TimelineSection};
use crate::report::history::event;
use crate::report::result::bounds;
use crate::server::problem::ApiProblem;
use crate::snapshot::{Connection, Snapshot};

/// The number of entries that are read, which is the bound of the memory of one page. Few connections ever have as many.
const MAX_ENTRIES: usize = 5000;
/// The number of entries on one page of the timeline.
const MAX_ITEMS: usize = 50;
/// The number of versions of the catalog that are listed.
const MAX_VERSIONS: usize = 20;

/// The entries of one connection up to the instant of the page.
pub struct History {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// Whether there are older ones that were not read.
    pub is_cut: bool,
}

/// Reads the history of `id`, without the bodies of its entries.
///
/// # Errors
/// 503 if the registry cannot be read.
pub fn read(view: &View, id: ConnectionId) -> Result<History, ApiProblem> {
    let last = view.snapshot(|snapshot| snapshot.seq);
    let mut history = History { entries: Vec::new(), is_cut: false };
    view.app.handle.registry.reader().history(id, Some(last.saturating_add(1)), 0, |version| {
        if history.entries.len() == MAX_ENTRIES {
            history.is_cut = true;
            return false;
        }
        history.entries.push(version.entry);
        true
    })?;
    Ok(history)
}

/// Folds the history to one page of the timeline: the newest entries, or those before entry `before`. Also returns when the
/// connection got into its state, if the history says it.
pub fn timeline(history: &History, id: ConnectionId, before: Option<u64>) -> (TimelineSection, Option<Timestamp>) {
    let mut fold = Fold { snapshot: Snapshot::default(), id, is_certain: !history.is_cut, why: None };
    let (mut items, mut state_since) = (Vec::new(), None);
    for entry in history.entries.iter().rev() {
        let Some(item) = fold.apply(entry) else { continue };
        if item.change.is_some() {
            state_since = Some(item.at);
        }
        if before.is_none_or(|before| item.seq < before) {
            items.push(item);
        }
    }
    let mut section = TimelineSection { is_older: before.is_some(), is_cut: history.is_cut, ..TimelineSection::default() };
    let surplus = items.len().saturating_sub(MAX_ITEMS);
    section.items = items.split_off(surplus);
    section.items.reverse();
    section.next_before = section.items.last().filter(|_| surplus > 0).map(|item| item.seq);
    (section, state_since)
}

/// The fold of the timeline. It applies the entries to a snapshot of their own, so that a state means here what it means
/// everywhere else.
struct Fold {
    snapshot: Snapshot,
    id: ConnectionId,
    /// False while older entries that were not read may decide the state.
    is_certain: bool,
    /// Why the attempt is due that began last.
    why: Option<&'static str>,
}

impl Fold {
    /// Applies the next entry, and returns how the timeline shows it, if it does.
    fn apply(&mut self, entry: &Entry) -> Option<TimelineItem> {
        let before = self.seen();
        self.snapshot.apply(entry);
        let after = self.seen();
        let change = match (before, after) {
            (before, Some((state, _))) if before.is_none_or(|(before, _)| before != state) => {
                Some((before.map(|(state, _)| state), state))
            }
            _ => None,
        };
        let change = change.filter(|_| self.is_certain);
        self.is_certain |= self.snapshot.connections.get(&self.id).is_some_and(|known| known.proven.is_some());
        let generation = after.map(|(_, generation)| generation).filter(|now| before.is_none_or(|(_, before)| before != *now));
        if let Fact::AttemptBegun { why, .. } = &entry.fact {
            self.why = Some(why.message());
            return None;
        }
        let (kind, text) = described(entry)?;
        let mut item = TimelineItem {
            seq: entry.seq,
            at: entry.at,
            kind,
            text: bounds::text(&text),
            change,
            generation: generation.filter(|_| kind == Kind::Intent && self.is_certain),
            lasted_ms: None,
            why: None,
            catalog: None,
        };
        match &entry.fact {
            Fact::AttemptFinished(facts) => {
                item.lasted_ms = Some(entry.at.since(facts.begun_at).as_millis());
                item.why = self.why.take();
            }
            Fact::CatalogRegistered { version, .. } => item.catalog = Some(*version),
            _ => {}
        }
        Some(item)
    }

    /// The state and the generation of the connection.
    fn seen(&self) -> Option<(State, u32)> {
        self.snapshot.connections.get(&self.id).map(|known| (known.state(), known.generation))
    }
}

/// What an entry says, in one sentence.
fn described(entry: &Entry) -> Option<(Kind, String)> {
    let kind = match &entry.fact {
        Fact::IntentAccepted { .. } | Fact::IntentWithdrawn { .. } => Kind::Intent,
        Fact::AttemptFinished(facts) if facts.class.is_none() => Kind::AttemptPassed,
        Fact::AttemptFinished(_) => Kind::AttemptFailed,
        Fact::CatalogRegistered { .. } | Fact::DriftAcknowledged { .. } => Kind::Catalog,
        Fact::CredentialExpiring { title, fix, .. } => return Some((Kind::Credential, format!("{title}; {fix}"))),
        Fact::DepartureConfirmed { by, .. } => return Some((Kind::Departure, format!("departure confirmed by {by}"))),
        Fact::ConnectionRetired => Kind::Retired,
        _ => return None,
    };
    Some((kind, event(entry)?.event))
}

/// The origins that ask for the connection, the newest first, at most `max`.
pub fn origins(known: &Connection, history: &History, max: usize) -> Vec<OriginRow> {
    let newest = known.origins.iter().rev().take(max);
    newest
        .map(|desired| {
            let accepted = || {
                let by_origin =
                    |entry: &&Entry| matches!(&entry.fact, Fact::IntentAccepted { origin, .. } if *origin == desired.origin);
                history.entries.iter().filter(by_origin)
            };
            let (kind, name) = origin_name(&desired.origin);
            OriginRow {
                kind,
                name,
                first: accepted().next_back().filter(|_| !history.is_cut).map(|entry| entry.at),
                last: accepted().next().map(|entry| entry.at),
                in_force: desired.spec == known.spec,
            }
        })
        .collect()
}

/// What an origin is, and its name.
fn origin_name(origin: &Origin) -> (&'static str, String) {
    if let Some(path) = origin.folder_path() {
        return ("file", path.to_string());
    }
    if let Some(token) = origin.token() {
        return ("API token", token.to_string());
    }
    let text = origin.to_string();
    match text.split_once(':') {
        Some(("handoff", name)) => ("discovery tool with the token", name.to_string()),
        Some(("seed", name)) => ("sample data", name.to_string()),
        _ => ("origin", text),
    }
}

/// The versions of the catalog, newest first.
pub fn versions(history: &History) -> Vec<CatalogVersion> {
    let found = history.entries.iter().filter_map(|entry| match &entry.fact {
        Fact::CatalogRegistered { version, streams, breaking, additive, .. } => Some(CatalogVersion {
            version: *version,
            at: entry.at,
            streams: *streams,
            breaking: breaking.len(),
            additive: additive.len(),
        }),
        _ => None,
    });
    found.take(MAX_VERSIONS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::history::{history as any_history, id};
    use proptest::prelude::*;

    fn of_connection(entries: &[Entry], number: u8) -> History {
        let own = entries.iter().rev().filter(|entry| entry.connection == Some(id(number)));
        History { entries: own.cloned().collect(), is_cut: false }
    }

    proptest! {
        /// Every change begins where the one before ended, the last one ends at the state of the snapshot, and pages together
        /// hold what one long page would.
        #[test]
        fn the_changes_of_the_state_are_those_of_the_snapshot(entries in any_history(), number in 0..6_u8) {
            let (history, snapshot) = (of_connection(&entries, number), Snapshot::fold(&entries));
            let (mut items, mut before) = (Vec::new(), None);
            loop {
                let (section, _) = timeline(&history, id(number), before);
                items.extend(section.items);
                before = section.next_before;
                if before.is_none() {
                    break;
                }
            }
            prop_assert!(items.windows(2).all(|pair| pair[0].seq > pair[1].seq));
            let mut state = None;
            for item in items.iter().rev() {
                if let Some((from, to)) = item.change {
                    prop_assert_eq!(from, state);
                    prop_assert_ne!(from, Some(to));
                    state = Some(to);
                }
            }
            let known = snapshot.connections.get(&id(number));
            prop_assert_eq!(state, known.map(|known| known.state()));
        }
    }
}
