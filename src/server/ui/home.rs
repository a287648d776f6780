//! Home: coverage, funnel, trend, and what needs attention.

use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult, insert_header, response};
use super::connections::CSV;
use super::policy::of_page;
use super::{Page, View, respond};
use crate::families::CustomSources;
use crate::family_guide::FamilySummary;
use crate::funnel::causes::{Blocked, Cause, Causes, causes};
use crate::funnel::{Coverage, Funnel, funnel};
use crate::model::{ConnectionId, Timestamp};
use crate::page::attention::{self, Attention, CauseCard, CauseList, CauseMember};
use crate::page::chart::Series;
use crate::page::connections::filter;
use crate::page::funnel_picture::FunnelPicture;
use crate::page::home::{self, Answer, DriftLine, DriftList, ExampleIntent, HeldChange, HeldExample, Home, Number};
use crate::page::trend::{TrendData, trend};
use crate::page::{Place, csv};
use crate::policy::Policy;
use crate::policy::grants::example_variable;
use crate::report::holds::{fix, message};
use crate::snapshot::trend::TrendRange;
use crate::snapshot::{Connection, Snapshot};
use axum::http::{StatusCode, header};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The number of causes of each list, of connections of a cause, and of connections of all causes that the page shows. The
/// intent of each of these connections is read.
const MAX_RAISING: usize = 20;
const MAX_OTHERS: usize = 10;
const MAX_OF_CAUSE: usize = 50;
const MAX_MEMBERS: usize = 400;
/// The number of connections that the page shows of those whose structure changed, and of a held change.
const MAX_DRIFT: usize = 50;
const MAX_HELD: usize = 5;
/// The number of intents that are read together, and the maximum size of one. Larger ones count as unreadable.
const READ_TOGETHER: usize = 16;
const MAX_INTENT_BYTES: usize = 256 << 10;
/// The number of resource ids, and of characters of them, that stand for a connection.
const MAX_RESOURCES: usize = 3;
const MAX_NAME_CHARS: usize = 200;
/// The bounds of the CSV. What does not fit is counted in its last line.
const MAX_CSV_LINES: usize = 10_000;
const MAX_CSV_BYTES: usize = 8 << 20;
/// How long a change of structure is listed, in milliseconds.
const DRIFT_MS: i64 = 7 * 24 * 3600 * 1000;

/// `GET /`
///
/// # Errors
/// 400, 403, 503.
pub async fn page(request: ApiRequest) -> ApiResult {
    respond(request, |view| {
        let home = collect(view)?;
        Ok(Page { title: home::title(&home.answer), place: Place::Home, main: home::render(&home) })
    })
    .await
}

/// `GET /ui/attention.csv`: every connection that is not ACTIVE, by cause.
///
/// # Errors
/// 400, 403, 503.
pub async fn attention_csv(request: ApiRequest) -> ApiResult {
    let view = View::new(&request).await?;
    let text = request.app.blocking(move |_| lines_of_attention(&view)).await?;
    let mut answer = response(StatusCode::OK, CSV, text.into());
    insert_header(&mut answer, header::CONTENT_DISPOSITION, "attachment; filename=\"attention.csv\"");
    Ok(answer)
}

/// What the page shows of the snapshot, collected while it is locked.
struct Folded {
    funnel: Funnel,
    blocked: Vec<Blocked>,
    /// The connections whose newest catalog replaced another one within 7 days: the first ones, and the number of all.
    drift: Vec<Changed>,
    drift_total: usize,
    series: Series,
}

/// A connection with a new version of its catalog.
struct Changed {
    id: ConnectionId,
    family: Arc<str>,
    document: u64,
    version: u32,
}

fn collect(view: &View) -> Result<Home, ApiProblem> {
    let handle = &view.app.handle;
    let active = handle.policy.load_full();
    let Folded { funnel, blocked, drift, drift_total, mut series } = folded(view, target(view)?)?;
    if !view.sees_registry() {
        series.policies.clear();
    }
    let picture = FunnelPicture::new(&funnel, &blocked, &view.links);
    let found = causes(blocked, Coverage::from(&funnel));
    let holds = holds(view)?;
    let answer = Answer {
        received: funnel.received,
        coverage: Coverage::from(&funnel),
        target: funnel.target,
        attempts: if view.is_past() { 0 } else { handle.attempts_in_flight() },
        recipe: if funnel.received == 0 { recipe(view, &active.policy, &active.sources) } else { String::new() },
    };
    Ok(Home {
        links: view.links.clone(),
        as_of: view.as_of(),
        answer,
        numbers: numbers(view, &funnel, drift_total, holds.len()),
        holds,
        picture,
        attention: attention(view, &found)?,
        drift: DriftList { lines: drift_lines(view, &drift)?, total: drift_total },
        trend: trend(&TrendData { series, links: view.links.clone() }),
        is_past: view.is_past(),
    })
}

/// The target of the policy that was in force at the instant of the page. A policy of the past that this version cannot read has
/// the target of today.
fn target(view: &View) -> Result<f64, ApiProblem> {
    let then = of_page(view)?.policy;
    Ok(then.unwrap_or_else(|| view.app.handle.policy()).slo.coverage)
}

fn folded(view: &View, target: f64) -> Result<Folded, ApiProblem> {
    let range = match view.query.get("range") {
        None => TrendRange::default(),
        Some(text) => TrendRange::parse(text).ok_or_else(|| ApiProblem::bad_request("range must be 24h, 7d or 30d."))?,
    };
    let as_of = view.as_of();
    let week_ago = Timestamp(as_of.0.saturating_sub(DRIFT_MS));
    let since = view.app.handle.registry.reader().last_seq_at(week_ago)?;
    // The policy concerns all namespaces.
    let sees_policy = view.sees_registry();
    Ok(view.snapshot(|snapshot| {
        let mut series = Series::new(snapshot, &view.namespace, range, as_of, target);
        if !sees_policy {
            series.policies.clear();
        }
        let (drift, drift_total) = changed(snapshot, &view.namespace, since);
        Folded {
            funnel: funnel(snapshot, &view.namespace, target, as_of),
            blocked: blocked(snapshot, &view.namespace),
            drift,
            drift_total,
            series,
        }
    }))
}

fn blocked(snapshot: &Snapshot, namespace: &str) -> Vec<Blocked> {
    snapshot.of_namespace(namespace).filter_map(|(id, connection)| Blocked::new(id, &connection)).collect()
}

/// The connections whose newest catalog replaced another one after entry `since`: the first ones, and the number of all.
fn changed(snapshot: &Snapshot, namespace: &str, since: u64) -> (Vec<Changed>, usize) {
    let new_version = |connection: &Connection| {
        let (version, seq, _) = connection.catalog.filter(|_| connection.retired.is_none())?;
        (version > 1 && seq > since).then_some(version)
    };
    let mut first = Vec::new();
    let mut total = 0;
    for (id, connection) in snapshot.of_namespace(namespace) {
        let Some(version) = new_version(&connection) else { continue };
        total += 1;
        if first.len() < MAX_DRIFT {
            let family = Arc::clone(&connection.source_type);
            first.push(Changed { id, family, document: connection.document, version });
        }
    }
    (first, total)
}

/// What an intent says about whose connection it is.
#[derive(Debug, Default)]
struct Named {
    /// The first resource ids; empty if the intent cannot be read.
    name: String,
    owner: String,
}

/// The part of an intent that is read.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    resource_ids: Vec<String>,
    owner: DocumentOwner,
}

#[derive(Deserialize)]
struct DocumentOwner {
    user: String,
}

impl Named {
    fn new(body: Option<String>) -> Named {
        let document = body.and_then(|text| serde_json::from_str::<Document>(&text).ok());
        let Some(Document { resource_ids, owner }) = document else { return Named::default() };
        let mut name: String = resource_ids.iter().take(MAX_RESOURCES).map(String::as_str).collect::<Vec<&str>>().join(", ");
        if resource_ids.len() > MAX_RESOURCES {
            name.push_str(&format!(" and {} more", resource_ids.len() - MAX_RESOURCES));
        }
        Named { name: cut(&name), owner: cut(&owner.user) }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_NAME_CHARS).collect()
}

/// Reads the intents of the entries `documents`, in their order.
fn named(view: &View, documents: &[u64]) -> Result<Vec<Named>, ApiProblem> {
    let reader = view.app.handle.registry.reader();
    let mut all = Vec::with_capacity(documents.len());
    for chunk in documents.chunks(READ_TOGETHER) {
        all.extend(reader.bodies(chunk, MAX_INTENT_BYTES)?.into_iter().map(Named::new));
    }
    Ok(all)
}

fn attention(view: &View, found: &Causes) -> Result<Attention, ApiProblem> {
    let mut room = MAX_MEMBERS;
    let raising = cause_list(view, &found.raising, MAX_RAISING, &mut room)?;
    Ok(Attention { raising, others: cause_list(view, &found.others, MAX_OTHERS, &mut room)? })
}

/// The first `max` causes with their first connections. `room` is the number of connections that may still be read.
fn cause_list(view: &View, causes: &[Cause], max: usize, room: &mut usize) -> Result<CauseList, ApiProblem> {
    let mut list = CauseList::default();
    for cause in causes.iter().take(max) {
        let shown = cause.members.len().min(MAX_OF_CAUSE).min(*room);
        *room -= shown;
        let members = members(view, cause.members.get(..shown).unwrap_or_default())?;
        list.causes.push(CauseCard::new(cause, members));
    }
    list.more = causes.len().saturating_sub(max);
    list.more_connections = causes.iter().skip(max).map(|cause| cause.members.len()).sum();
    Ok(list)
}

fn members(view: &View, blocked: &[Blocked]) -> Result<Vec<CauseMember>, ApiProblem> {
    let documents: Vec<u64> = blocked.iter().map(|one| one.document).collect();
    let members = blocked.iter().zip(named(view, &documents)?).map(|(one, named)| CauseMember {
        id: one.id.to_string(),
        state: one.state,
        family: one.source_type.to_string(),
        name: named.name,
        owner: named.owner,
        updated: one.updated,
    });
    Ok(members.collect())
}

fn drift_lines(view: &View, drift: &[Changed]) -> Result<Vec<DriftLine>, ApiProblem> {
    let documents: Vec<u64> = drift.iter().map(|one| one.document).collect();
    let lines = drift.iter().zip(named(view, &documents)?).map(|(one, named)| DriftLine {
        id: one.id.to_string(),
        family: one.family.to_string(),
        name: named.name,
        version: one.version,
    });
    Ok(lines.collect())
}

/// The changes of the namespace that are held. They are not known for the past.
fn holds(view: &View) -> Result<Vec<HeldChange>, ApiProblem> {
    if view.is_past() {
        return Ok(Vec::new());
    }
    let all = view.app.handle.holds.load_full();
    let mut held = Vec::new();
    for hold in all.holds.iter().filter(|hold| hold.namespace == view.namespace) {
        let first: Vec<(ConnectionId, String)> =
            hold.departures.iter().take(MAX_HELD).map(|(id, departure)| (*id, departure.reason.clone())).collect();
        let known: Vec<(u64, String)> = view.snapshot(|snapshot| {
            let known = first.iter().map(|(id, _)| {
                let connection = snapshot.connections.get(id);
                connection.map_or((0, String::new()), |connection| (connection.document, connection.source_type.to_string()))
            });
            known.collect()
        });
        let documents: Vec<u64> = known.iter().map(|(document, _)| *document).collect();
        let names = known.iter().zip(named(view, &documents)?).map(|((_, family), named)| format!("{family} {}", named.name));
        let examples = first.into_iter().zip(names);
        held.push(HeldChange {
            digest: hold.digest.short(),
            count: hold.departures.len(),
            message: message(hold),
            fix: fix(hold),
            examples: examples.map(|((id, reason), name)| HeldExample { id: id.to_string(), name, reason }).collect(),
        });
    }
    Ok(held)
}

/// The numbers that lead to their lists. Of the past, only what the ledger records is known.
fn numbers(view: &View, funnel: &Funnel, drift: usize, holds: usize) -> Vec<Number> {
    let links = &view.links;
    let partly = links.to(filter::PATH, &[("state", "ACTIVE"), ("warning", "permission_denied")]);
    let mut numbers = vec![
        home::warning_number(links, "over-privileged", funnel.over_privileged, "over_privileged"),
        Number { label: "partly readable", count: funnel.partly_readable, href: partly, tone: "warn" },
        Number { label: "changed structure in 7 days", count: number(drift), href: "#drift-list".to_string(), tone: "warn" },
        home::warning_number(links, "credentials end within 14 days", funnel.credentials_ending, "credential_ending"),
    ];
    if view.is_past() {
        return numbers;
    }
    let handle = &view.app.handle;
    let problems = |anchor: &str| format!("{}#{anchor}", links.to("/ui/problems", &[]));
    numbers.push(Number { label: "held changes", count: number(holds), href: "#holds".to_string(), tone: "bad" });
    let is_in_trouble = !handle.trouble.load().is_empty();
    let trouble = |label: &'static str, count: usize, anchor: &str| Number {
        label,
        count: number(count),
        href: problems(anchor),
        tone: "bad",
    };
    numbers.push(trouble("registry in trouble", usize::from(is_in_trouble), "registry"));
    numbers.push(trouble("policy file rejected", usize::from(handle.policy.load().rejected.is_some()), "policy"));
    if view.sees_registry() {
        let (all, webhooks) = (handle.problems.load_full(), handle.webhooks.load_full());
        let files: BTreeSet<&str> = all.iter().map(|problem| problem.file.as_str()).collect();
        numbers.push(trouble("broken intent files", files.len(), "files"));
        let failing = webhooks.iter().filter(|webhook| !webhook.problem.is_empty()).count();
        numbers.push(trouble("failing webhooks", failing, "webhooks"));
    }
    numbers
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A command that writes a first intent, for a reader who may know where the intents folder is.
fn recipe(view: &View, policy: &Policy, sources: &CustomSources) -> String {
    if view.is_past() || !view.sees_registry() || view.namespace != policy.namespace {
        return String::new();
    }
    home::recipe(&view.app.handle.intents.display().to_string(), &example(policy, sources), view.now)
}

/// An example that the policy allows, if one of its families has one.
fn example(policy: &Policy, sources: &CustomSources) -> ExampleIntent {
    let evidence = policy.eligibility.evidence.first().cloned().unwrap_or_else(|| "Sanctioned".to_string());
    let listed = policy.allowlist.iter().filter(|_| !policy.allowlist.contains("jdbc")).find_map(|name| {
        let resource = FamilySummary::new(sources.family(name)?).examples.into_iter().next()?;
        Some((name.clone(), resource, example_variable(name)))
    });
    let (source_type, resource_id, variable) = listed
        .unwrap_or_else(|| ("jdbc".to_string(), "jdbc:postgresql://db.acme.example/shop".to_string(), "SHOP_READER".to_string()));
    ExampleIntent { source_type, resource_id, variable, evidence }
}

/// The CSV of all causes, or of the one that the address names.
fn lines_of_attention(view: &View) -> Result<String, ApiProblem> {
    let target = target(view)?;
    let (today, all) = view.snapshot(|snapshot| {
        let today = Coverage::from(&funnel(snapshot, &view.namespace, target, view.as_of()));
        (today, blocked(snapshot, &view.namespace))
    });
    let Causes { raising, others } = causes(all, today);
    let marked = raising.iter().map(|cause| (cause, true)).chain(others.iter().map(|cause| (cause, false)));
    let wanted = view.query.get("cause");
    let (mut text, mut lines, mut left_out) = (attention::csv_head(), 0_usize, 0_usize);
    for (cause, gains) in marked.filter(|(cause, _)| wanted.is_none_or(|key| cause.key == key)) {
        for chunk in cause.members.chunks(READ_TOGETHER) {
            if lines >= MAX_CSV_LINES || text.len() >= MAX_CSV_BYTES {
                left_out += chunk.len();
                continue;
            }
            for (one, member) in chunk.iter().zip(members(view, chunk)?) {
                text.push_str(&attention::csv_line(cause, gains, &member, &one.title, &one.fix));
            }
            lines += chunk.len();
        }
    }
    if left_out > 0 {
        let note = format!("{left_out} further connections are left out; export one cause, or the list of connections");
        let mut cells = [""; attention::CSV_COLUMNS];
        if let Some(first) = cells.first_mut() {
            *first = &note;
        }
        text.push_str(&csv::line(&cells));
    }
    Ok(text)
}
