//! Ledger: its head, its newest entries, and how to prove that nothing in it was changed.

use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult};
use super::{Page, View, respond};
use crate::model::ledger::Entry;
use crate::model::{ConnectionId, Digest, Intent, Timestamp};
use crate::page::Place;
use crate::page::ledger::{EntryLine, LedgerHeadLine, LedgerPage, NewestCheck, render, sentence};
use crate::policy::Policy;
use crate::registry::RecentEntries;
use std::collections::{BTreeMap, BTreeSet};

/// The number of entries on one page.
const PAGE_SIZE: usize = 50;
/// The number of entries that are looked at for one page, because most may belong to other namespaces.
const MAX_ROWS: usize = 5000;
/// The number of entries and of bytes that are checked for one page.
const MAX_CHECKED_ROWS: usize = 500;
const MAX_CHECKED_BYTES: u64 = 8 << 20;
/// The size of an intent up to which it is read for the name of its connection.
const MAX_INTENT_BYTES: usize = 64 << 10;
const THIRTY_DAYS_MS: i64 = 30 * 86_400_000;
/// The registry that commands read if they name none.
const DEFAULT_REGISTRY: &str = "var/aam.db";

/// `GET /ui/ledger`
///
/// # Errors
/// 400, 403, 503.
pub async fn page(request: ApiRequest) -> ApiResult {
    respond(request, |view| {
        let main = render(&collect(view)?);
        Ok(Page { title: "Ledger".to_string(), place: Place::Ledger, main })
    })
    .await
}

fn collect(view: &View) -> Result<LedgerPage, ApiProblem> {
    let before = view.query.entry("before")?;
    let is_all = match view.query.get("all") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiProblem::bad_request("all must be true or false.")),
    };
    let last = view.snapshot(|snapshot| snapshot.seq);
    let found = entries(view, before.unwrap_or(u64::MAX).min(last.saturating_add(1)), is_all)?;
    let names = names(view, &found)?;
    let line = |(entry, hash): &(Entry, Digest)| EntryLine {
        seq: entry.seq,
        at: entry.at,
        kind: entry.fact.kind().to_string(),
        text: sentence(entry),
        namespace: entry.namespace.clone(),
        connection: entry.connection.map(|id| (id.to_string(), names.get(&id).cloned().unwrap_or_else(|| id.to_string()))),
        hash: hash.to_string(),
    };
    Ok(LedgerPage {
        links: view.links.clone(),
        as_of: view.as_of(),
        namespace: view.namespace.clone(),
        head: if view.sees_registry() { Some(head(view, last)?) } else { None },
        entries: found.entries.iter().map(line).collect(),
        earlier: Some(found.reached).filter(|reached| *reached > 1),
        is_newest: before.is_none(),
        is_all,
    })
}

/// Reads the entries before entry `before` of the namespace of the page, or of all that the reader may read.
fn entries(view: &View, before: u64, is_all: bool) -> Result<RecentEntries, ApiProblem> {
    let reader = view.app.handle.registry.reader();
    let of_registry = view.sees_registry() && (is_all || view.namespace == view.app.handle.policy().namespace);
    let wanted = |namespace: &str| match (namespace.is_empty(), is_all) {
        (true, _) => of_registry,
        (false, true) => view.caller().may_read(namespace),
        (false, false) => namespace == view.namespace,
    };
    // Nothing follows the seal of a namespace, so the search begins there.
    let seal = if is_all { None } else { reader.seal_of(&view.namespace)? };
    let before = seal.map_or(before, |seal| before.min(seal.seq.saturating_add(1)));
    Ok(reader.recent_entries(before, PAGE_SIZE, MAX_ROWS, wanted)?)
}

/// The names of the connections of these entries: the source type and the first resource id.
fn names(view: &View, found: &RecentEntries) -> Result<BTreeMap<ConnectionId, String>, ApiProblem> {
    let ids: BTreeSet<ConnectionId> = found.entries.iter().filter_map(|(entry, _)| entry.connection).collect();
    let known: Vec<(ConnectionId, String, u64)> = view.snapshot(|snapshot| {
        let known = |id: ConnectionId| {
            let known = snapshot.connections.get(&id)?;
            Some((id, known.source_type.to_string(), known.document))
        };
        ids.into_iter().filter_map(known).collect()
    });
    let documents: Vec<u64> = known.iter().map(|(_, _, document)| *document).collect();
    let bodies = view.app.handle.registry.reader().bodies(&documents, MAX_INTENT_BYTES)?;
    let name = |((id, source_type, _), body): ((ConnectionId, String, u64), Option<String>)| {
        let intent = body.and_then(|body| serde_json::from_str::<Intent>(&body).ok());
        let resource = intent.and_then(|intent| intent.resource_ids.into_iter().next()).unwrap_or_default();
        (id, format!("{source_type} {resource}").trim_end().to_string())
    };
    Ok(known.into_iter().zip(bodies).map(name).collect())
}

fn head(view: &View, last: u64) -> Result<LedgerHeadLine, ApiProblem> {
    let reader = view.app.handle.registry.reader();
    let hash = reader.hash_of(last)?.map(|hash| hash.to_string()).unwrap_or_default();
    let verdict = reader.verify_newest(last, MAX_CHECKED_ROWS, MAX_CHECKED_BYTES)?;
    Ok(LedgerHeadLine {
        seq: last,
        at: reader.entry_at(last)?,
        check: NewestCheck { first: verdict.first, last: verdict.last, broken: verdict.broken },
        kept: kept(&view.app.handle.policy()),
        commands: commands(view, last, &hash),
        hash,
    })
}

/// Says where heads are kept. Without one that is kept elsewhere, a registry whose end was cut off looks intact.
fn kept(policy: &Policy) -> Vec<String> {
    let mut kept = vec![
        "A registry whose end was cut off looks intact, unless a head was kept elsewhere. AAM writes the head to its log at every start, stop and hour.".to_string(),
    ];
    if let Some(file) = &policy.evidence.head_file {
        kept.push(format!("It also appends the head to {} (evidence.head_file).", file.display()));
    }
    if let Some(webhook) = &policy.evidence.head_webhook {
        kept.push(format!("It also sends the head to the webhook {webhook} (evidence.head_webhook)."));
    }
    kept
}

fn commands(view: &View, last: u64, hash: &str) -> Vec<(String, String)> {
    let registry = match view.app.info.registry.as_str() {
        DEFAULT_REGISTRY => String::new(),
        path => format!(" --registry '{}'", path.replace('\'', r"'\''")),
    };
    let as_of = view.as_of().rfc3339();
    let day = as_of.get(..10).unwrap_or("now").to_string();
    let period = match view.is_past() {
        true => format!("--since {} --until {as_of}", Timestamp(view.as_of().0.saturating_sub(THIRTY_DAYS_MS)).rfc3339()),
        false => "--since 30d".to_string(),
    };
    let mut commands =
        vec![("The whole ledger, the recorded calls and the file are checked by".to_string(), format!("aam verify{registry}"))];
    if last > 0 {
        let about = "Keep this head elsewhere. Later, whether it is still part of the ledger is checked by";
        commands.push((about.to_string(), format!("aam verify{registry} --expect {last}:{hash}")));
    }
    let about = "A bundle of evidence, which an auditor can verify on another machine, is written by (--key FILE signs it)";
    commands.push((about.to_string(), format!("aam evidence{registry} {period} --out evidence-{day}")));
    commands
}
