//! What the list of connections is searched, filtered and sorted by, in memory.
//!
//! The snapshot does not hold resource ids, owners and risks: they are in the intents, which are bodies of the ledger. The index
//! reads each intent once and keeps a short row for each connection. It is built when the list is first opened, and each later
//! request reads only the rows whose connection changed since then. The snapshot is locked for a few connections at a time,
//! and never while bodies are read.

use super::super::app::App;
use super::super::problem::ApiProblem;
use super::View;
use crate::families;
use crate::funnel::causes::{Blocked, CauseKeys};
use crate::model::ending::nearness;
use crate::model::{Class, ConnectionId, Locator, Risk, RiskLevel, State, Timestamp};
use crate::registry::Reader;
use crate::snapshot::interner::Interner;
use crate::snapshot::{Connection, Snapshot};
use serde::Deserialize;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::OwnedMutexGuard;

/// The number of connections for which the snapshot is locked at a time.
const LOCKED_CONNECTIONS: usize = 1024;
/// The number of intents that are read together, and the maximum size of one. Larger ones count as unreadable.
const READ_TOGETHER: usize = 16;
const MAX_DOCUMENT_BYTES: usize = 2 << 20;
/// The number of characters that are kept of the resource ids of a connection, for searching.
const MAX_SEARCHED_CHARS: usize = 1000;
/// The number of characters that are kept of one name.
const MAX_NAME_CHARS: usize = 200;

/// Rows in order of their ids.
pub type Rows = Arc<Vec<Arc<Row>>>;

/// One connection.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: ConnectionId,
    /// The `seq` of the last entry that changed the connection. A row is up to date as long as it does not change.
    pub changed: u64,
    pub namespace: Arc<str>,
    pub family: Arc<str>,
    pub state: State,
    /// Whether the latest conclusive attempt passed the health step.
    pub is_healthy: bool,
    /// The key of the cause that keeps the connection from being ACTIVE, and its title; the title is empty if nothing does.
    pub cause: Option<Arc<str>>,
    pub title: Arc<str>,
    /// The title in lower case.
    pub lower_title: Arc<str>,
    /// The classes of the warnings in force, one bit for each, see [`class_bit`].
    pub warnings: u32,
    /// When the credential ends, if a person has to replace it.
    pub ends_at: Option<Timestamp>,
    /// When the connection was first asked for.
    pub created: Timestamp,
    pub document: Arc<DocumentFacts>,
}

/// What the index keeps of an intent.
#[derive(Clone, Debug, Default)]
pub struct DocumentFacts {
    /// The `seq` of the entry with the intent.
    pub seq: u64,
    /// The first resource id; empty if the intent cannot be read.
    pub resource: Box<str>,
    /// The number of further resource ids.
    pub others: usize,
    pub owner: Arc<str>,
    /// The owner in lower case.
    pub lower_owner: Arc<str>,
    pub risk: Option<Risk>,
    /// The resource ids, the locator and the family in lower case, each on a line.
    pub text: Box<str>,
}

/// The bit that stands for a class of warnings.
#[must_use]
pub fn class_bit(class: Class) -> u32 {
    Class::ALL.iter().position(|known| *known == class).map_or(0, |index| 1_u32 << index)
}

impl Row {
    fn is_current(&self, connection: &Connection) -> bool {
        self.changed == connection.changed.0 && self.document.seq == connection.document
    }

    /// The warnings in force as of `now`, one bit for each class.
    #[must_use]
    pub fn warnings_at(&self, now: Timestamp) -> u32 {
        let ends = self.ends_at.and_then(|ends_at| nearness(ends_at, now)).is_some();
        self.warnings | if ends { class_bit(Class::CredentialEnding) } else { 0 }
    }
}

/// The part of an intent that the index reads.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    resource_ids: Vec<String>,
    owner: DocumentOwner,
    risk_level: RiskLevel,
    #[serde(default)]
    credential_locator: Option<Locator>,
}

#[derive(Deserialize)]
struct DocumentOwner {
    user: String,
}

impl DocumentFacts {
    fn new(seq: u64, family: &str, body: Option<&str>, strings: &mut Interner) -> DocumentFacts {
        let Some(document) = body.and_then(|text| serde_json::from_str::<Document>(text).ok()) else {
            return DocumentFacts { seq, text: family.to_lowercase().into(), ..DocumentFacts::default() };
        };
        let owner = cut(&document.owner.user, MAX_NAME_CHARS);
        let locator = document.credential_locator.map(|locator| locator.to_string()).unwrap_or_default();
        let resources = cut(&document.resource_ids.join("\n"), MAX_SEARCHED_CHARS);
        let text = format!("{resources}\n{}\n{family}", cut(&locator, MAX_NAME_CHARS)).to_lowercase();
        DocumentFacts {
            seq,
            resource: document.resource_ids.first().map(|id| cut(id, MAX_NAME_CHARS)).unwrap_or_default().into(),
            others: document.resource_ids.len().saturating_sub(1),
            lower_owner: strings.intern(&owner.to_lowercase()),
            owner: strings.intern(&owner),
            risk: Some(families::risk(family, document.risk_level.risk())),
            text: text.into(),
        }
    }
}

/// Returns the first `max` characters of `text`.
fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

/// The index of one server.
#[derive(Default)]
pub struct ConnectionIndex {
    table: RwLock<Table>,
    /// Held during an update, so that one update runs at a time.
    strings: Arc<tokio::sync::Mutex<Interner>>,
}

#[derive(Clone, Default)]
struct Table {
    /// The rows hold everything that this revision of the snapshot holds.
    revision: u64,
    rows: Rows,
}

impl ConnectionIndex {
    fn table(&self) -> Table {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rows, if they hold everything that `revision` of the snapshot holds.
    fn up_to(&self, revision: u64) -> Option<Rows> {
        let table = self.table();
        (table.revision >= revision).then_some(table.rows)
    }
}

/// Returns the rows of all connections as they are now.
///
/// # Errors
/// 503 if the registry cannot be read.
pub async fn current(app: &Arc<App>) -> Result<Rows, ApiProblem> {
    let revision = app.handle.registry.snapshot().revision;
    if let Some(rows) = app.connection_index.up_to(revision) {
        return Ok(rows);
    }
    // Waiting requests wait here, and do not occupy a place of the blocking pool.
    let strings = Arc::clone(&app.connection_index.strings).lock_owned().await;
    if let Some(rows) = app.connection_index.up_to(revision) {
        return Ok(rows);
    }
    app.blocking(move |app| update(app, strings)).await
}

/// Returns the rows that a page shows. Those of the past are made from the snapshot of the past. The index supplies the intents
/// that it knows; the others are read and not kept.
///
/// # Errors
/// 503 if the registry cannot be read.
pub fn rows_of(view: &View, now: &Rows) -> Result<Rows, ApiProblem> {
    if !view.is_past() {
        return Ok(Arc::clone(now));
    }
    view.snapshot(|past| past_rows(view.app.handle.registry.reader(), past, &view.namespace, now))
}

/// Brings the index up to date. `strings` is held until it is.
fn update(app: &App, mut strings: OwnedMutexGuard<Interner>) -> Result<Rows, ApiProblem> {
    let revision = app.handle.registry.snapshot().revision;
    let known = app.connection_index.table().rows;
    let Changes { mut changed, gone } = changes(app, &known, &mut strings);
    drop(known);
    read_documents(app.handle.registry.reader(), &mut changed, &mut strings)?;
    let mut table = app.connection_index.table.write().unwrap_or_else(PoisonError::into_inner);
    table.revision = revision;
    if !(changed.is_empty() && gone.is_empty()) {
        // Copies the list only if another request still reads it.
        apply(Arc::make_mut(&mut table.rows), changed, &gone);
    }
    Ok(Arc::clone(&table.rows))
}

/// Puts the changed rows into the list, and removes those that are gone.
fn apply(rows: &mut Vec<Arc<Row>>, changed: Vec<Changed>, gone: &[ConnectionId]) {
    let mut added = Vec::new();
    for Changed { row, .. } in changed {
        let place = rows.binary_search_by_key(&row.id, |known| known.id).ok();
        match place.and_then(|index| rows.get_mut(index)) {
            Some(known) => *known = Arc::new(row),
            None => added.push(Arc::new(row)),
        }
    }
    if !gone.is_empty() {
        rows.retain(|row| gone.binary_search(&row.id).is_err());
    }
    if !added.is_empty() {
        rows.extend(added);
        rows.sort_by_key(|row| row.id);
    }
}

/// How the connections differ from the rows of the index.
#[derive(Default)]
struct Changes {
    changed: Vec<Changed>,
    /// The rows without a connection, in order of id.
    gone: Vec<ConnectionId>,
}

/// A new row, whose intent may have to be read yet.
struct Changed {
    row: Row,
    /// The `seq` of the entry with the intent.
    document: u64,
}

/// Compares all connections with `known`, which is in order of id.
fn changes(app: &App, known: &[Arc<Row>], strings: &mut Interner) -> Changes {
    let mut changes = Changes::default();
    let mut causes = CauseKeys::default();
    let mut rest = known.iter().peekable();
    let mut after: Option<ConnectionId> = None;
    loop {
        let mut last = None;
        let snapshot = app.handle.registry.snapshot();
        for (id, connection) in snapshot.connections.after(after).take(LOCKED_CONNECTIONS) {
            last = Some(id);
            while let Some(row) = rest.next_if(|row| row.id < id) {
                changes.gone.push(row.id);
            }
            let earlier = rest.next_if(|row| row.id == id);
            let is_current = earlier.is_some_and(|row| row.is_current(&connection));
            if !is_current {
                changes.changed.push(Changed::new(id, &connection, earlier, &mut causes, strings));
            }
        }
        drop(snapshot);
        match last {
            Some(id) => after = Some(id),
            None => break,
        }
    }
    changes.gone.extend(rest.map(|row| row.id));
    changes
}

impl Changed {
    /// Makes the row of a connection. `earlier` is its row in the index, whose intent may still be the one in force.
    fn new(
        id: ConnectionId,
        connection: &Connection,
        earlier: Option<&Arc<Row>>,
        causes: &mut CauseKeys,
        strings: &mut Interner,
    ) -> Changed {
        let same = earlier.map(|row| &row.document).filter(|document| document.seq == connection.document);
        let title = Blocked::new(id, connection).map(|blocked| blocked.title).unwrap_or_default();
        let row = Row {
            id,
            changed: connection.changed.0,
            namespace: Arc::clone(&connection.namespace),
            family: Arc::clone(&connection.source_type),
            state: connection.state(),
            is_healthy: connection.is_healthy(),
            cause: causes.key_of(connection).map(|key| strings.intern(key)),
            lower_title: strings.intern(&title.to_lowercase()),
            title: strings.intern(&title),
            warnings: connection.warnings().fold(0_u32, |bits, warning| bits | class_bit(warning.class)),
            ends_at: connection.credential_ends_at(),
            created: connection.created,
            document: same.cloned().unwrap_or_default(),
        };
        Changed { row, document: connection.document }
    }
}

/// Reads the intents that the index does not hold yet.
fn read_documents(reader: &Reader, changed: &mut [Changed], strings: &mut Interner) -> Result<(), ApiProblem> {
    let mut missing: Vec<&mut Changed> =
        changed.iter_mut().filter(|changed| changed.row.document.seq != changed.document).collect();
    for together in missing.chunks_mut(READ_TOGETHER) {
        let seqs: Vec<u64> = together.iter().map(|changed| changed.document).collect();
        let bodies = reader.bodies(&seqs, MAX_DOCUMENT_BYTES)?;
        for (changed, body) in together.iter_mut().zip(bodies) {
            let facts = DocumentFacts::new(changed.document, &changed.row.family, body.as_deref(), strings);
            changed.row.document = Arc::new(facts);
        }
    }
    Ok(())
}

/// Makes the rows of one namespace from a snapshot of the past.
fn past_rows(reader: &Reader, past: &Snapshot, namespace: &str, known: &[Arc<Row>]) -> Result<Rows, ApiProblem> {
    let (mut strings, mut causes) = (Interner::default(), CauseKeys::default());
    let (mut rows, mut changed) = (Vec::new(), Vec::new());
    for (id, connection) in past.of_namespace(namespace) {
        let index = known.binary_search_by_key(&id, |row| row.id).ok();
        let row = index.and_then(|index| known.get(index));
        match row.filter(|row| row.is_current(&connection)) {
            Some(row) => rows.push(Arc::clone(row)),
            None => changed.push(Changed::new(id, &connection, row, &mut causes, &mut strings)),
        }
    }
    read_documents(reader, &mut changed, &mut strings)?;
    rows.extend(changed.into_iter().map(|changed| Arc::new(changed.row)));
    rows.sort_by_key(|row| row.id);
    Ok(Arc::new(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(number: u128, family: &str) -> Changed {
        let row = Row {
            id: ConnectionId(uuid::Uuid::from_u128(number)),
            changed: 1,
            namespace: "a".into(),
            family: family.into(),
            state: State::Pending,
            is_healthy: false,
            cause: None,
            title: "".into(),
            lower_title: "".into(),
            warnings: 0,
            ends_at: None,
            created: Timestamp(0),
            document: Arc::default(),
        };
        Changed { row, document: 1 }
    }

    #[test]
    fn changed_rows_are_replaced_new_ones_are_put_in_their_place_and_rows_without_a_connection_are_dropped() {
        let mut rows = Vec::new();
        apply(&mut rows, vec![changed(3, "s3"), changed(1, "s3"), changed(5, "s3")], &[]);
        apply(&mut rows, vec![changed(4, "jdbc"), changed(3, "jdbc")], &[ConnectionId(uuid::Uuid::from_u128(1))]);
        let found: Vec<(u128, &str)> = rows.iter().map(|row| (row.id.0.as_u128(), &*row.family)).collect();
        assert_eq!(found, [(3, "jdbc"), (4, "jdbc"), (5, "s3")]);
    }

    #[test]
    fn an_intent_is_kept_short_and_an_unreadable_one_is_found_by_its_family() {
        let mut strings = Interner::default();
        let ids: Vec<String> = (0..64).map(|number| format!("{number}{}", "X".repeat(2000))).collect();
        let body = serde_json::json!({"resource_ids": ids, "owner": {"user": "Ann"}, "risk_level": "none", "credential_locator": "env:A"});
        let facts = DocumentFacts::new(7, "s3", Some(&body.to_string()), &mut strings);
        assert!(facts.text.len() < 1100 && facts.text.ends_with("\nenv:a\ns3") && facts.text.starts_with("0x"), "{}", facts.text);
        assert_eq!((facts.seq, facts.others, facts.resource.len()), (7, 63, 200));
        assert_eq!((&*facts.owner, &*facts.lower_owner, facts.risk), ("Ann", "ann", Some(Risk::High)));
        for unreadable in [None, Some("{}"), Some("[")] {
            let facts = DocumentFacts::new(7, "S3", unreadable, &mut strings);
            assert_eq!((facts.seq, &*facts.text, &*facts.resource, facts.risk), (7, "s3", "", None));
        }
    }

    #[test]
    fn a_credential_that_ends_soon_is_a_warning_from_then_on() {
        let Changed { mut row, .. } = changed(1, "s3");
        row.ends_at = Some(Timestamp(30 * 86_400_000));
        assert_eq!(row.warnings_at(Timestamp(0)), 0);
        assert_eq!(row.warnings_at(Timestamp(20 * 86_400_000)), class_bit(Class::CredentialEnding));
    }
}
