//! Proves whose data a credential reads, before the credential is stored.

use super::preflight::{self, BoundConnection, Concurrency};
use super::run::{self, Runner};
use super::{Env, Job, upsert};
use crate::credentials::Credential;
use crate::credentials::redact::{self, AttemptSecrets};
use crate::model::{Class, Evidence, Failure, Step, StepStatus};
use std::panic::AssertUnwindSafe;

/// Opens the resources of the connection with `credential`, as the step `upsert` does, and returns how the source
/// identifies itself. No attempt is recorded; the calls are logged and count in the caps as always. The result contains no
/// secret. Inside an attempt, the secrets of that attempt are used; otherwise they are forgotten at the end.
///
/// # Errors
/// Returns the failure of the step, for example `WrongService` with the name of the account that the credential belongs to,
/// or the failure of [`provable`].
pub async fn prove(env: &Env, job: &Job, credential: Credential) -> Result<Evidence, Failure> {
    let secrets = redact::attempt().unwrap_or_else(|| AttemptSecrets::new(&job.intent.texts()));
    let proof = async {
        redact::learn(&credential);
        open(env, job, credential).await.map_err(run::clean_failure)
    };
    secrets.run(proof).await
}

/// Checks that the intent is eligible, that it may use its credential, and that opening its resources proves whose data
/// they are. Makes no call.
///
/// # Errors
/// Returns the failure that an attempt would end with, or `Misconfigured` for a custom source that does not name an
/// identity call: a credential of any account would pass.
pub fn provable(env: &Env, job: &Job) -> Result<BoundConnection, Failure> {
    let bind = AssertUnwindSafe(|| preflight::assess(&env.engines, &job.policy, &job.sources, &job.intent, &job.origins));
    let bound = std::panic::catch_unwind(bind).unwrap_or_else(|panic| Err(run::panicked(Step::Allowlist, &*panic)))?;
    let id = &bound.family.id;
    if bound.family.manifest.is_some() && job.policy.manifests.source(id).identity.is_none() {
        return Err(Failure::new(
            Class::Misconfigured,
            format!("no call of {id} proves whose data a credential reads"),
            format!(
                "name one in the policy: manifests: {{sources: {{{id}: {{identity: {{stream: STREAM, field: /FIELD}}}}}}}}; FIELD is what must equal the resource id"
            ),
        ));
    }
    Ok(bound)
}

async fn open(env: &Env, job: &Job, credential: Credential) -> Result<Evidence, Failure> {
    let bound = provable(env, job)?;
    let memory = env.egress.memory.attempt(job.policy.reconcile.memory);
    let mut runner = Runner::new(&job.policy.safe_mode, &memory);
    let concurrency = Concurrency::new(job, &bound.family);
    drop(runner.step(Step::Upsert, upsert(env, job, (bound, Some(credential)), (concurrency, &memory))).await);
    let reports = runner.finish();
    let Some(report) = reports.into_iter().find(|report| report.step == Step::Upsert) else { return Ok(Evidence::new()) };
    if let StepStatus::Failed { failure } = report.status {
        return Err(failure);
    }
    let mut evidence = serde_json::Value::Object(report.evidence);
    redact::scrub_json(&mut evidence);
    Ok(match evidence {
        serde_json::Value::Object(evidence) => evidence,
        _ => Evidence::new(),
    })
}
