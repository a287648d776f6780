//! Step 4: the structure of all resources, and what changed since the version before.

use super::run::{self, StepOutput};
use super::{AttemptOutput, Job, Part};
use crate::connectors::Bounds;
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, Drift, Evidence, Failure};
use crate::policy::SafeMode;

/// Discovery stops by itself, with a truncated catalog, before the step's timeout would lose it.
pub(super) fn bounds(safe_mode: &SafeMode) -> Bounds {
    let time = safe_mode.step_timeout.mul_f64(0.75);
    Bounds { time, ..Bounds::default() }
}

/// Discovers every resource. What was found is kept in `found` also when it breaks readers.
pub(super) async fn discover(
    parts: &mut [Part],
    job: &Job,
    bounds: Bounds,
    found: &mut AttemptOutput,
) -> Result<StepOutput<()>, Failure> {
    let several = parts.len() > 1;
    let mut whole = Catalog::default();
    let mut evidence = Evidence::new();
    for part in parts.iter_mut() {
        let mut discovery = part.connector.discover(bounds).await?;
        let mut seen = std::mem::take(&mut discovery.evidence);
        seen.insert("streams".to_string(), discovery.catalog.streams.len().into());
        if discovery.catalog.truncated {
            seen.insert("truncated".to_string(), true.into());
        }
        run::note_traffic(&mut seen, part.connector.traffic());
        evidence.insert(part.resource_id.clone(), seen.into());
        join(&mut whole, &discovery.catalog, several.then_some(part.resource_id.as_str()));
        part.discovery = Some(discovery);
    }
    let mut evidence = run::flat(evidence);
    let whole = match &job.known {
        Some(known) => keep_unreadable(whole, known),
        None => whole,
    }
    .sorted();
    let drift = job.known.as_ref().map(|known| whole.drift_from(known)).unwrap_or_default();
    found.catalog = Some(whole);
    if drift != Drift::default() {
        evidence.insert("drift".to_string(), serde_json::json!(drift));
    }
    found.drift = drift;
    if found.drift.breaking.is_empty() { Ok(StepOutput::new((), evidence)) } else { Err(broken(&found.drift)) }
}

/// Adds the streams of one resource; with several resources the resource id keeps names apart.
fn join(whole: &mut Catalog, part: &Catalog, resource_id: Option<&str>) {
    whole.truncated |= part.truncated;
    for skipped in &part.skipped {
        whole.skipped.push(SkippedStream { resource: resource_id.map(str::to_string), ..skipped.clone() });
    }
    for stream in &part.streams {
        let mut stream = stream.clone();
        if let Some(resource_id) = resource_id {
            stream.namespace = Some(match stream.namespace {
                Some(namespace) => format!("{resource_id}/{namespace}"),
                None => resource_id.to_string(),
            });
        }
        whole.streams.push(stream);
    }
}

/// A stream that cannot be read today keeps its last known description: unreadable is not absent.
fn keep_unreadable(mut whole: Catalog, known: &Catalog) -> Catalog {
    for stream in &known.streams {
        let present = whole.streams.iter().any(|now| now.name == stream.name && now.namespace == stream.namespace);
        if whole.skips(stream) && !present {
            whole.streams.push(stream.clone());
        }
    }
    whole
}

fn broken(drift: &Drift) -> Failure {
    Failure::new(
        Class::Drift,
        format!("the structure changed in {} way(s) that break readers", drift.breaking.len()),
        "tell those who read this source; the new structure is registered, and aam heal or the next attempt proves it",
    )
    .detail(drift.breaking.join("; "))
}
