//! Step 4: discovers the schema of all resources and how it differs from the previous version.

use super::denied::DENIED;
use super::run::{self, StepOutput};
use super::{AttemptOutput, Job, OpenResource, denied};
use crate::connectors::Bounds;
use crate::connectors::concurrent::{self, Limits};
use crate::families;
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, Drift, Evidence, Failure};
use crate::policy::SafeMode;

/// Returns the limits of discovery. Its time limit is shorter than the step timeout, so that a slow source yields a
/// truncated catalog instead of no catalog.
pub(super) fn bounds(safe_mode: &SafeMode) -> Bounds {
    let time = safe_mode.step_timeout.mul_f64(0.75);
    Bounds { time, ..Bounds::default() }
}

/// Discovers the resources concurrently. The catalog is stored in `output` even if its changes are breaking.
pub(super) async fn discover(
    resources: &mut [OpenResource],
    job: &Job,
    (bounds, limits): (Bounds, Limits),
    output: &mut AttemptOutput,
) -> Result<StepOutput<()>, Failure> {
    let several = resources.len() > 1;
    let mut whole = Catalog::default();
    let mut evidence = Evidence::new();
    let mut warning = None;
    let calls = resources.iter().map(|resource| resource.connector.discover(bounds)).collect();
    let discoveries = concurrent::all(limits, calls).await?;
    for (resource, mut discovery) in resources.iter_mut().zip(discoveries) {
        let mut found = std::mem::take(&mut discovery.evidence);
        found.insert("streams".to_string(), discovery.catalog.streams.len().into());
        if discovery.catalog.truncated {
            found.insert("truncated".to_string(), true.into());
        }
        run::note_traffic(&mut found, resource.connector.traffic());
        evidence.insert(resource.resource_id.clone(), found.into());
        warning = warning.or_else(|| discovery.warning.take());
        join(&mut whole, &discovery.catalog, several.then_some(resource.resource_id.as_str()));
        resource.discovery = Some(discovery);
    }
    let mut evidence = run::flat(evidence);
    let denied = denied::warning(&whole.skipped, whole.streams.len() + whole.skipped.len(), job);
    if denied.is_some() {
        evidence.insert(DENIED.to_string(), denied::evidence(&whole.skipped));
    }
    let warning = denied.or(warning);
    let whole = match &job.known {
        Some(known) => keep_unreadable(whole, known),
        None => whole,
    }
    .sorted();
    let drift = job.known.as_ref().map(|known| whole.drift_from(known)).unwrap_or_default();
    output.catalog = Some(whole);
    if drift != Drift::default() {
        evidence.insert("drift".to_string(), serde_json::json!(drift));
    }
    output.drift = drift;
    match output.drift.breaking.is_empty() {
        true => Ok(StepOutput { value: (), evidence, warning }),
        false => Err(broken(&output.drift, &job.intent.source_type)),
    }
}

/// Adds the streams of one resource to `whole`. If the connection has several resources, the resource id becomes part
/// of the namespace, so that names do not collide.
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

/// Keeps the last known description of a stream that cannot be read now, because an unreadable stream may still exist.
fn keep_unreadable(mut whole: Catalog, known: &Catalog) -> Catalog {
    for stream in &known.streams {
        let present = whole.streams.iter().any(|now| now.name == stream.name && now.namespace == stream.namespace);
        if whole.skips(stream) && !present {
            whole.streams.push(stream.clone());
        }
    }
    whole
}

fn broken(drift: &Drift, family: &str) -> Failure {
    let count = drift.breaking.len();
    let fix = "tell this source's consumers; the new schema is recorded, and the next check or aam heal verifies against it";
    let hidden = families::find(family).and_then(|family| family.hidden_fields.as_deref());
    let fix = hidden.map_or(fix.to_string(), |hidden| format!("{}; otherwise {fix}", hidden.trim()));
    Failure::new(Class::Drift, format!("{count} breaking schema change{}", if count == 1 { "" } else { "s" }), fix)
        .detail(drift.breaking.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_gone_may_be_hidden_where_the_vendor_hides_fields() {
        let drift = Drift { breaking: vec!["Account.Industry is gone".to_string()], ..Drift::default() };
        assert!(broken(&drift, "salesforce").fix.contains("Set Field-Level Security"));
        assert!(broken(&drift, "servicenow").fix.contains("read ACLs of sys_dictionary"));
        assert!(broken(&drift, "github").fix.starts_with("tell this source's consumers"));
    }
}
