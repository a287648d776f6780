//! Puts the data of the page of a connection together.

use super::super::{Page, View};
use super::history::{self, History};
use super::{catalog, credential};
use crate::model::ledger::{Fact, Finished};
use crate::model::text::counted;
use crate::model::{ConnectionId, Intent, MissingFiles, State, Timestamp};
use crate::page::Place;
use crate::page::connection::{
    self, Action, Actions, AttemptHead, CallsSection, ConnectionDetails, Done, IntentSection, NextCheck, StepsSection,
};
use crate::plan::{self, PlanContext};
use crate::policy::TokenScope;
use crate::registry::CallFilter;
use crate::report::calls::{CallBody, InterruptedAttemptBody};
use crate::report::holds::HeldBody;
use crate::report::privileges::{ConnectionPrivilege, PrivilegeFilter, collect};
use crate::report::result::{ConnectionResult, LedgerBodies, error_attempt, step_bodies};
use crate::server::calls;
use crate::server::problem::ApiProblem;
use crate::snapshot::{Connection, Snapshot};
use std::time::Duration;

/// The maximum size of a body that the page reads, in bytes. Larger ones are left out.
pub(super) const MAX_BODY_BYTES: usize = 8 << 20;
/// The number of calls on the page.
const MAX_CALLS: usize = 50;
/// The number of interrupted attempts that the page names.
const MAX_INTERRUPTED: usize = 5;
/// The number of characters of the intent that are shown.
const MAX_INTENT_CHARS: usize = 20_000;
/// The number of origins that are shown.
const MAX_ORIGINS: usize = 50;
/// How long the page says what the reader has done.
const DONE_IS_SAID: Duration = Duration::from_secs(60);
/// The number of files that a refusal names.
const MAX_NAMED_FILES: usize = 5;

/// The page of connection `id`.
///
/// # Errors
/// 400 for a query that is not valid, 404 if the connection or what the query names does not exist, and 503.
pub fn page(view: &View, id: ConnectionId) -> Result<Page, ApiProblem> {
    let known = view.snapshot(|snapshot| snapshot.connections.copy_of(&id));
    let known = known.ok_or_else(|| {
        let at = view.as_of().rfc3339();
        ApiProblem::not_found(format!("AAM did not have this connection yet at {at}. Open the page of a later time."))
    })?;
    let history = history::read(view, id)?;
    let details = details(view, id, &known, &history)?;
    Ok(Page { title: details.result.name.clone(), place: Place::Connections, main: connection::main(&details) })
}

fn details(view: &View, id: ConnectionId, known: &Connection, history: &History) -> Result<ConnectionDetails, ApiProblem> {
    let (result, document) = result(view, id, known)?;
    let (timeline, state_since) = history::timeline(history, id, number(view, "before")?);
    let mut missing = MissingFiles::default();
    let credential = credential::section(view, id, known, &result, &mut missing)?;
    let privilege = privilege(view, id, known, &mut missing);
    let mut steps = steps(view, known, history, &result)?;
    // One place of the page names every archive file that is missing.
    let others = missing.named().iter().filter(|file| !steps.missing.contains(file)).cloned().collect::<Vec<_>>();
    steps.missing.extend(others);
    Ok(ConnectionDetails {
        links: view.links.clone(),
        state: known.state(),
        state_since,
        as_of: view.as_of(),
        family_title: family_title(view, known),
        failures: known.failures,
        next: next_check(view, id, known),
        done: done(view, id, known, state_since, &result),
        actions: actions(view, known),
        consent_link: credential::consent_link(&result),
        steps,
        timeline,
        catalog: catalog::section(view, id, known, history)?,
        calls: calls_section(view, id)?,
        privilege,
        credential,
        intent: intent(known, history, document.as_deref()),
        result,
    })
}

/// What the reader has just done, as the address says. Anybody can write a link, and an address may be kept, so it is said only
/// while it is true and for a minute.
fn done(view: &View, id: ConnectionId, known: &Connection, since: Option<Timestamp>, result: &ConnectionResult) -> Option<Done> {
    if view.is_past() {
        return None;
    }
    let handle = &view.app.handle;
    let is_recent = |at: Option<Timestamp>| at.is_some_and(|at| view.now.since(at) < DONE_IS_SAID);
    let is_requested = handle.in_flight.heals().contains(&id) || handle.checking(id);
    match view.query.get("done").and_then(Done::parse)? {
        Done::Verify | Done::Verified if known.state() == State::Retired => None,
        Done::Verify | Done::Verified if is_requested => Some(Done::Verify),
        Done::Verify | Done::Verified => is_recent(known.last_checked()).then_some(Done::Verified),
        Done::Held => result.held.is_some().then_some(Done::Held),
        Done::Withdraw => (known.state() == State::Retired && is_recent(since)).then_some(Done::Withdraw),
    }
}

/// The name of the family, or the source type if the family is not known.
fn family_title(view: &View, known: &Connection) -> String {
    let loaded = view.app.handle.loaded();
    loaded.family(&known.source_type).map_or_else(|| known.source_type.to_string(), |family| family.title.clone())
}

/// The connection as the API describes it, and the text of its intent.
fn result(view: &View, id: ConnectionId, known: &Connection) -> Result<(ConnectionResult, Option<String>), ApiProblem> {
    // Entries are numbered from 1, so no body is read for 0.
    let error = error_attempt(known).map_or(0, |attempt| attempt.seq);
    let last = known.last.as_ref().map_or(0, |attempt| attempt.seq);
    let handle = &view.app.handle;
    let mut missing = MissingFiles::default();
    let bodies = handle.registry.reader().bodies_left(&[known.document, error, last], MAX_BODY_BYTES)?;
    let bodies: Vec<Option<String>> = bodies.into_iter().map(|body| missing.left(body)).collect();
    let text = |index: usize| bodies.get(index).and_then(Option::as_deref);
    let ledger = LedgerBodies { document: text(0), error_steps: text(1), steps: Some(text(2).unwrap_or("[]")) };
    // Running attempts and holds are not in the ledger.
    let checking = !view.is_past() && handle.checking(id);
    let result = ConnectionResult::new(id, known, ledger, checking, view.as_of());
    let held = if view.is_past() { None } else { HeldBody::new(&handle.holds.load(), id) };
    let document = text(0).map(str::to_string);
    Ok((ConnectionResult { held, missing_files: missing.named().to_vec(), ..result }, document))
}

/// When the connection is checked next, as the plan says.
fn next_check(view: &View, id: ConnectionId, known: &Connection) -> NextCheck {
    let handle = &view.app.handle;
    if view.is_past() {
        return NextCheck::Unknown;
    }
    if handle.checking(id) {
        return NextCheck::Running;
    }
    if view.snapshot(|snapshot| snapshot.is_closed(&known.namespace)) {
        return NextCheck::Never("never; the namespace holds sample data, which is not checked.".to_string());
    }
    // An empty snapshot, so that only the part of the policy is computed that concerns this connection.
    let mut context = PlanContext::new(handle.loaded(), &Snapshot::default());
    if let Some((_, departure)) = handle.holds.load().get(id) {
        context.held.insert(id, departure.checkable);
    }
    let heal = handle.in_flight.heals().contains(&id);
    match view.snapshot(|snapshot| plan::plan_one(snapshot, id, &context, heal, view.now)) {
        Some(item) => NextCheck::At { due: item.due, why: item.why },
        None if known.retired.is_some() => NextCheck::Never("none; the connection is retired.".to_string()),
        None if context.held.contains_key(&id) => {
            NextCheck::Never("none until the held change is confirmed or undone.".to_string())
        }
        None => NextCheck::Never("none until the intent or the policy changes, or until somebody verifies it.".to_string()),
    }
}

/// What the reader may do. `None` for the past.
fn actions(view: &View, known: &Connection) -> Option<Actions> {
    if view.is_past() {
        return None;
    }
    let closed = view.snapshot(|snapshot| snapshot.is_closed(&known.namespace));
    let judge = |scope: TokenScope, what: &str, retired: &str| {
        if closed {
            Some(format!("You cannot {what} it: namespace {} holds sample data, which does not change.", known.namespace))
        } else if known.state() == State::Retired {
            Some(retired.to_string())
        } else if !view.may(scope) {
            let (scope, name) = (scope.as_str(), view.caller().display_name());
            Some(format!("You cannot {what} it: that needs the scope {scope}, which {name} does not have."))
        } else {
            None
        }
    };
    let verify =
        judge(TokenScope::OpsHeal, "verify", "It cannot be verified: no intent asks for it any more. Push its intent again.");
    let withdraw = judge(TokenScope::IntentsWrite, "withdraw", "It is withdrawn already.").or_else(|| desired_by_files(known));
    let action = |refused: Option<String>| refused.map_or(Action::Allowed, Action::Refused);
    Some(Actions { csrf: view.session.csrf.clone(), verify: action(verify), withdraw: action(withdraw) })
}

/// Why a connection that files ask for cannot be withdrawn here.
fn desired_by_files(known: &Connection) -> Option<String> {
    let mut files: Vec<&str> = known.origins.iter().filter_map(|desired| desired.origin.folder_path()).collect();
    files.sort_unstable();
    let more = files.len().saturating_sub(MAX_NAMED_FILES);
    files.truncate(MAX_NAMED_FILES);
    if files.is_empty() {
        return None;
    }
    let others = if more > 0 { format!(" and {}", counted(more, "other file")) } else { String::new() };
    Some(format!(
        "It cannot be withdrawn here, because the intents folder asks for it: {}{others}. Remove the intent from the file, or the file from the folder; AAM then retires the connection.",
        files.join(", ")
    ))
}

/// The steps of the attempt that the query names, or of the latest one.
fn steps(view: &View, known: &Connection, history: &History, result: &ConnectionResult) -> Result<StepsSection, ApiProblem> {
    let latest = known.last.as_ref().map(|attempt| attempt.seq);
    let Some(seq) = number(view, "attempt")?.filter(|seq| Some(*seq) != latest) else {
        let attempt = known.last.as_ref().map(|last| head(last.seq, last.at, &last.facts));
        return Ok(StepsSection {
            attempt,
            is_latest: true,
            steps: result.steps.clone().unwrap_or_default(),
            missing: result.missing_files.clone(),
        });
    };
    let attempt = history.entries.iter().find(|entry| entry.seq == seq).and_then(|entry| match &entry.fact {
        Fact::AttemptFinished(facts) => Some(head(seq, entry.at, facts)),
        _ => None,
    });
    if attempt.is_none() {
        let detail = format!("Entry {seq} of the ledger is not the end of an attempt of this connection.");
        return Err(ApiProblem::not_found(detail));
    }
    let mut missing = MissingFiles::default();
    let body = view.app.handle.registry.reader().bodies_left(&[seq], MAX_BODY_BYTES)?.pop();
    let text = body.and_then(|body| missing.left(body)).unwrap_or_default();
    Ok(StepsSection { attempt, is_latest: false, steps: step_bodies(&text), missing: missing.named().to_vec() })
}

fn head(seq: u64, ended: Timestamp, facts: &Finished) -> AttemptHead {
    AttemptHead {
        seq,
        began: facts.begun_at,
        ended,
        scope: facts.scope,
        generation: facts.generation,
        policy: facts.policy.short(),
        passed: facts.class.is_none(),
    }
}

fn calls_section(view: &View, id: ConnectionId) -> Result<CallsSection, ApiProblem> {
    let before = view.query.get("calls").map(calls::position).transpose()?;
    let until = view.is_past().then(|| view.as_of().plus(Duration::from_millis(1)));
    let filter = CallFilter { connections: vec![id], until, without_archives: true, ..CallFilter::default() };
    let reader = view.app.handle.registry.reader();
    let mut section = CallsSection { is_older: before.is_some(), ..CallsSection::default() };
    let mut last = None;
    reader.calls(&filter, before, |call| {
        if section.calls.len() == MAX_CALLS {
            section.next_cursor = last.map(calls::cursor_of);
            return false;
        }
        last = Some(call.position);
        section.calls.push(CallBody::new(call));
        true
    })?;
    if before.is_none() {
        reader.interrupted_attempts(&filter, |attempt| {
            section.interrupted.push(InterruptedAttemptBody::new(&attempt));
            section.interrupted.len() < MAX_INTERRUPTED
        })?;
    }
    Ok(section)
}

fn privilege(view: &View, id: ConnectionId, known: &Connection, missing: &mut MissingFiles) -> Option<ConnectionPrivilege> {
    let reader = view.app.handle.registry.reader();
    let body = |seq: u64| reader.bodies_left(&[seq], MAX_BODY_BYTES).ok()?.pop().and_then(|body| missing.left(body));
    collect(&[(id, known.clone())], &PrivilegeFilter::default(), body).connections.pop()
}

fn intent(known: &Connection, history: &History, document: Option<&str>) -> IntentSection {
    // The fields keep the order of the canonical JSON.
    let intent = document.and_then(|text| serde_json::from_str::<Intent>(text).ok());
    let text = intent.and_then(|intent| serde_json::to_string_pretty(&intent).ok()).unwrap_or_default();
    let end = text.char_indices().nth(MAX_INTENT_CHARS).map(|(end, _)| end);
    let json = end.map_or_else(|| text.clone(), |end| text.get(..end).unwrap_or_default().to_string());
    IntentSection {
        json,
        is_cut: end.is_some(),
        generation: known.generation,
        origins: history::origins(known, history, MAX_ORIGINS),
        origins_total: known.origins.len(),
        is_retired: known.retired.is_some(),
    }
}

/// Returns the value of the parameter `name` as a whole number.
///
/// # Errors
/// Returns 400 for any other value.
pub(super) fn number(view: &View, name: &str) -> Result<Option<u64>, ApiProblem> {
    let parsed = view.query.get(name).map(str::parse::<u64>).transpose();
    parsed.map_err(|_| ApiProblem::bad_request(format!("{name} must be a whole number.")))
}
