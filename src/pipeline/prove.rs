//! Proves whose data a credential reads, before the credential is stored.

use super::preflight::{self, BoundConnection, Concurrency};
use super::run::{self, Runner};
use super::{Env, Job, OpenResource, StepOutput, health, remedy, upsert};
use crate::connectors::concurrent::Limits;
use crate::credentials::Credential;
use crate::credentials::redact::{self, AttemptSecrets};
use crate::model::{Class, Evidence, Failure, Step};
use crate::policy::airbyte::PROCESS_ENGINE;
use std::panic::AssertUnwindSafe;

/// Opens the resources of the connection with `credential`, as the step `upsert` does, sends the authenticated probe of the
/// step `health`, because opening may read only what is public, and returns how the source identifies itself. No attempt is
/// recorded; the calls are logged and count in the caps as always. The result contains no secret. Inside an attempt, the
/// secrets of that attempt are used; otherwise they are forgotten at the end.
///
/// # Errors
/// Returns the failure of the step, for example `WrongService` with the name of the account that the credential belongs to,
/// `Misconfigured` if the source accepted no call with the credential, or the failure of [`provable`].
pub async fn prove(env: &Env, job: &Job, credential: Credential) -> Result<Evidence, Failure> {
    let secrets = redact::attempt().unwrap_or_else(|| AttemptSecrets::new(&job.public_texts()));
    let proof = async {
        redact::learn(&credential);
        open(env, job, credential).await.map_err(|failure| run::clean_failure(remedy::adapted(failure, job)))
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
    if bound.family.engine == PROCESS_ENGINE {
        return Err(Failure::new(
            Class::Misconfigured,
            format!("a connector of Airbyte does not prove whose data a credential of {id} reads"),
            format!("write families.{id}.engine: native into the policy, or store the credential itself: env:NAME"),
        ));
    }
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
    let mut runner = Runner::new(&job.policy.safe_mode(&job.intent.source_type), &memory);
    let concurrency = Concurrency::new(job, &bound.family);
    let limits = concurrency.resources;
    let opened = runner.step(Step::Upsert, upsert(env, job, (bound, Some(credential)), (concurrency, &memory))).await;
    if let Some(resources) = &opened {
        runner.step(Step::Health, accepted(resources, limits)).await;
    }
    let reports = runner.finish();
    if let Some(failure) = reports.iter().find_map(|report| report.failure()) {
        return Err(failure.clone());
    }
    let Some(report) = reports.into_iter().find(|report| report.step == Step::Upsert) else { return Ok(Evidence::new()) };
    let mut evidence = serde_json::Value::Object(report.evidence);
    redact::scrub_json(&mut evidence);
    Ok(match evidence {
        serde_json::Value::Object(evidence) => evidence,
        _ => Evidence::new(),
    })
}

/// Sends the probes of the health check. It fails unless each source accepted a call with the credential.
async fn accepted(resources: &[OpenResource], limits: Limits) -> Result<StepOutput<()>, Failure> {
    let checked = health(resources, limits).await?;
    match resources.iter().find(|resource| !resource.connector.accepted_credential()) {
        None => Ok(checked),
        Some(resource) => Err(Failure::new(
            Class::Misconfigured,
            format!(
                "no call of the health check of {} needs a credential, so none proves that it is valid",
                resource.resource_id
            ),
            "leave credential_locator out of the intent if the source does not need a credential; otherwise name a path that needs one as health_path of the source in the policy",
        )),
    }
}
