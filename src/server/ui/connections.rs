//! The list of connections, as a page and as CSV.

use super::super::catalogs::MAX_EXPORTS;
use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult, insert_header};
use super::index::{self, Row, Rows};
use super::select::{Selection, classes, select};
use super::{Page, View, respond};
use crate::funnel::causes::Blocked;
use crate::model::ledger::Finished;
use crate::model::{Class, Intent, Scope, Step, Timestamp};
use crate::page::Place;
use crate::page::connections::{self, ConnectionRow, ConnectionsPage, Filter, StepEnd, StepMark, csv_head, csv_line};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// The media type of the list as CSV.
pub const CSV: &str = "text/csv; charset=utf-8; header=present";
/// The last page that can be asked for.
pub const MAX_PAGE: usize = 1_000_000;
/// The maximum size of the step reports of one line. The marks of larger ones come from the facts, without durations.
const MAX_STEPS_BYTES: usize = 256 << 10;
/// The number of intents that are read together for CSV, and the maximum size of one.
const READ_TOGETHER: usize = 16;
const MAX_DOCUMENT_BYTES: usize = 2 << 20;
/// The number of bytes after which lines of CSV are sent.
const CHUNK_BYTES: usize = 64 << 10;
/// The number of chunks that wait for the client.
const MAX_WAITING_CHUNKS: usize = 2;

/// `GET /ui/connections`
///
/// # Errors
/// 400, 403, 503.
pub async fn page(request: ApiRequest) -> ApiResult {
    let (filter, rows) = read(&request).await?;
    let wanted = request.query.number("page", 1, MAX_PAGE)?;
    respond(request, move |view| {
        let rows = index::rows_of(view, &rows)?;
        let selection = select(&rows, &view.namespace, &filter, view.as_of(), Some(wanted));
        let main = connections::render(&content(view, filter, selection)?);
        Ok(Page { title: "Connections".to_string(), place: Place::Connections, main })
    })
    .await
}

/// Reads the filter of a request, and the index.
async fn read(request: &ApiRequest) -> Result<(Filter, Rows), ApiProblem> {
    // Refused before anything is read.
    request.namespace()?;
    let filter = Filter::parse(|name| request.query.get(name).map(str::to_string)).map_err(ApiProblem::bad_request)?;
    Ok((filter, index::current(&request.app).await?))
}

fn content(view: &View, filter: Filter, selection: Selection) -> Result<ConnectionsPage, ApiProblem> {
    let rows = lines(view, &selection.found)?;
    Ok(ConnectionsPage {
        links: view.links.clone(),
        filter,
        all: selection.all,
        total: selection.total,
        page: selection.page,
        rows,
        facets: selection.facets,
        causes: selection.causes,
        as_of: view.as_of(),
    })
}

/// Makes the lines of one page. Only the steps are read from the ledger.
fn lines(view: &View, found: &[Arc<Row>]) -> Result<Vec<ConnectionRow>, ApiProblem> {
    let last: Vec<_> =
        view.snapshot(|snapshot| found.iter().map(|row| snapshot.connections.get(&row.id)?.last.clone()).collect());
    // Entries are numbered from 1, so no body is read for 0.
    let seqs: Vec<u64> = last.iter().map(|attempt| attempt.as_ref().map_or(0, |attempt| attempt.seq)).collect();
    let bodies = view.app.handle.registry.reader().bodies_left(&seqs, MAX_STEPS_BYTES)?;
    let handle = &view.app.handle;
    let (holds, is_now) = (handle.holds.load(), !view.is_past());
    let lines = found.iter().zip(last).zip(bodies).map(|((row, attempt), body)| ConnectionRow {
        id: row.id.to_string(),
        state: row.state,
        family: row.family.to_string(),
        resource: row.document.resource.to_string(),
        others: row.document.others,
        owner: row.document.owner.to_string(),
        cause: row.title.to_string(),
        created: row.created,
        warnings: classes(row.warnings_at(view.as_of())).collect(),
        steps: attempt.map(|attempt| steps(&attempt.facts, body.ok().flatten().as_deref())).unwrap_or_default(),
        is_checking: is_now && handle.checking(row.id),
        is_held: is_now && holds.contains(row.id),
    });
    Ok(lines.collect())
}

/// The part of a step report that the list shows.
#[derive(Deserialize)]
struct StepLine {
    step: Step,
    status: String,
    duration_ms: u64,
}

/// The marks of the steps of an attempt: from its reports, or else from its facts.
fn steps(facts: &Finished, reports: Option<&str>) -> Vec<StepMark> {
    let reports = reports.and_then(|text| serde_json::from_str::<Vec<StepLine>>(text).ok()).unwrap_or_default();
    if reports.is_empty() {
        return steps_of_facts(facts);
    }
    let marks = reports.into_iter().filter_map(|report| {
        let end = StepEnd::ALL.into_iter().find(|end| end.as_str() == report.status)?;
        Some(StepMark { step: report.step, end, duration_ms: Some(report.duration_ms) })
    });
    marks.collect()
}

/// What the facts say about the steps. Nothing is known about the steps of an attempt that was interrupted.
fn steps_of_facts(facts: &Finished) -> Vec<StepMark> {
    let is_interrupted = matches!(facts.class, Some(Class::Interrupted | Class::CrashLoop));
    if facts.class.is_some() && facts.failed_step.is_none() {
        return Vec::new();
    }
    let end = |step: Step| match (facts.failed_step, facts.scope) {
        (Some(failed), _) if step == failed => StepEnd::Failed,
        _ if is_interrupted => StepEnd::Skipped,
        _ if step == Step::Registry => StepEnd::Passed,
        (Some(failed), _) if step > failed => StepEnd::Skipped,
        (_, Scope::Health) if matches!(step, Step::Discover | Step::TinySync) => StepEnd::Skipped,
        _ if facts.warnings.iter().any(|warning| warning.step == step) => StepEnd::Warned,
        _ => StepEnd::Passed,
    };
    Step::ALL.into_iter().map(|step| StepMark { step, end: end(step), duration_ms: None }).collect()
}

/// `GET /ui/connections.csv`: all connections of the list, read while the client reads the response.
///
/// # Errors
/// 400, 403, 503.
pub async fn csv(request: ApiRequest) -> ApiResult {
    let (filter, rows) = read(&request).await?;
    let view = View::new(&request).await?;
    let permit = Arc::clone(&request.app.exports)
        .try_acquire_owned()
        .map_err(|_| ApiProblem::busy(format!("{MAX_EXPORTS} downloads are running; repeat the request when one has ended.")))?;
    let selected = request.app.blocking(move |_| {
        let rows = index::rows_of(&view, &rows)?;
        let found = select(&rows, &view.namespace, &filter, view.as_of(), None).found;
        Ok((view, found))
    });
    let (view, found) = selected.await?;
    let (chunks, mut received) = mpsc::channel::<io::Result<Bytes>>(MAX_WAITING_CHUNKS);
    tokio::task::spawn_blocking(move || send_csv(&view, &found, &chunks, &permit));
    let body = Body::from_stream(futures_util::stream::poll_fn(move |context| received.poll_recv(context)));
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CSV));
    insert_header(&mut answer, header::CONTENT_DISPOSITION, "attachment; filename=\"connections.csv\"");
    Ok(answer)
}

/// Sends the lines until the client goes away. `_permit` counts this download while it runs. If the registry cannot be read in
/// the middle, the response ends without its last chunk, which every HTTP client reports as an incomplete response.
fn send_csv(view: &View, found: &[Arc<Row>], chunks: &mpsc::Sender<io::Result<Bytes>>, _permit: &OwnedSemaphorePermit) {
    let mut chunk = csv_head();
    for together in found.chunks(READ_TOGETHER) {
        match csv_lines(view, together) {
            Ok(lines) => chunk.push_str(&lines),
            Err(problem) => {
                let _ = chunks.blocking_send(Err(io::Error::other(problem.detail.clone())));
                return;
            }
        }
        if chunk.len() >= CHUNK_BYTES && chunks.blocking_send(Ok(std::mem::take(&mut chunk).into())).is_err() {
            return;
        }
    }
    if !chunk.is_empty() {
        let _ = chunks.blocking_send(Ok(chunk.into()));
    }
}

/// The lines of a few connections, with their whole intents and fixes.
fn csv_lines(view: &View, rows: &[Arc<Row>]) -> Result<String, ApiProblem> {
    let seqs: Vec<u64> = rows.iter().map(|row| row.document.seq).collect();
    let bodies = view.app.handle.registry.reader().bodies(&seqs, MAX_DOCUMENT_BYTES)?;
    let known: Vec<_> = view.snapshot(|snapshot| {
        let known = rows.iter().map(|row| {
            let connection = snapshot.connections.get(&row.id)?;
            let fix = Blocked::new(row.id, &connection).map(|blocked| blocked.fix);
            Some((fix.unwrap_or_default(), connection.last_checked()))
        });
        known.collect()
    });
    let lines = rows.iter().zip(bodies).zip(known).map(|((row, body), known)| {
        let intent = body.and_then(|text| serde_json::from_str::<Intent>(&text).ok());
        let (fix, checked) = known.unwrap_or_default();
        let warnings: Vec<&str> = classes(row.warnings_at(view.as_of())).map(|class| class.as_str()).collect();
        csv_line(&[
            row.id.to_string(),
            row.state.to_string(),
            row.family.to_string(),
            intent.as_ref().map(|intent| intent.resource_ids.join(" ")).unwrap_or_default(),
            intent.as_ref().map(|intent| intent.owner.user.clone()).unwrap_or_default(),
            row.document.risk.map(|risk| risk.to_string()).unwrap_or_default(),
            intent.and_then(|intent| intent.credential_locator).map(|locator| locator.to_string()).unwrap_or_default(),
            row.title.to_string(),
            fix.to_string(),
            warnings.join(" "),
            row.created.rfc3339(),
            checked.map(Timestamp::rfc3339).unwrap_or_default(),
        ])
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ledger::{AttemptContext, Why};
    use crate::model::{Digest, Drift, Failure, Outcome, StepReport, StepStatus};
    use proptest::prelude::*;

    fn outcome(scope: Scope, failed: Option<Step>, warned: Option<Step>) -> Outcome {
        let failure = Failure::new(Class::Remote, "cut", "look");
        let report = |step: Step| {
            let is_left_out = scope == Scope::Health && matches!(step, Step::Discover | Step::TinySync);
            let status = match failed {
                Some(failed) if step == failed => StepStatus::Failed { failure: failure.clone() },
                Some(failed) if step > failed && step != Step::Registry => StepStatus::Skipped { reason: String::new() },
                _ if is_left_out => StepStatus::Skipped { reason: String::new() },
                _ if warned == Some(step) && step != Step::Registry => StepStatus::Warned { failure: failure.clone() },
                _ => StepStatus::Passed,
            };
            StepReport { step, status, duration_ms: 7, evidence: serde_json::Map::new() }
        };
        let steps = Step::ALL.into_iter().map(report).collect();
        Outcome { scope, steps, catalog: None, drift: Drift::default(), rows: None, latency_ms: None }
    }

    fn facts(scope: Scope, outcome: &Outcome) -> Finished {
        let (policy, slice) = (Digest::default(), Digest::default());
        let context = AttemptContext { begun_at: Timestamp(0), generation: 1, scope, why: Why::New, policy, slice };
        Finished::new(outcome, None, &context)
    }

    proptest! {
        /// The facts hold the same marks as the reports, except for the durations.
        #[test]
        fn the_facts_and_the_reports_agree(
            scope in proptest::sample::select(Scope::ALL.to_vec()),
            failed in proptest::option::of(proptest::sample::select(Step::ALL.to_vec())),
            warned in proptest::option::of(proptest::sample::select(Step::ALL.to_vec())),
        ) {
            let is_run = |step: &Step| scope == Scope::Full || !matches!(step, Step::Discover | Step::TinySync);
            let outcome = outcome(scope, failed.filter(is_run), warned);
            let facts = facts(scope, &outcome);
            let body = serde_json::to_string(&outcome.steps).expect("JSON");
            let reported = steps(&facts, Some(&body));
            prop_assert_eq!(reported.len(), 7);
            prop_assert!(reported.iter().all(|mark| mark.duration_ms == Some(7)));
            let without: Vec<StepMark> = reported.into_iter().map(|mark| StepMark { duration_ms: None, ..mark }).collect();
            prop_assert_eq!(steps(&facts, None), without.clone());
            prop_assert_eq!(steps(&facts, Some("not valid")), without);
        }
    }

    #[test]
    fn an_interrupted_attempt_has_not_passed_a_step() {
        let mut facts = facts(Scope::Full, &outcome(Scope::Full, Some(Step::Registry), None));
        facts.class = Some(Class::CrashLoop);
        let ends: Vec<StepEnd> = steps(&facts, None).into_iter().map(|mark| mark.end).collect();
        assert_eq!((ends.get(..6), ends.last()), (Some(&[StepEnd::Skipped; 6][..]), Some(&StepEnd::Failed)));
        facts.failed_step = None;
        assert_eq!(steps(&facts, Some("[]")), []);
    }
}
