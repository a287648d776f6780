//! The steps that need no network: the policy's word, the credential, the choice of the engine.

use super::run::StepOutput;
use super::{Env, Job};
use crate::connectors::{Engine, Engines, Need, Serving, Target};
use crate::credentials::Credential;
use crate::egress::Caller;
use crate::families::{CustomSources, Family};
use crate::model::problem::nearest;
use crate::model::{Class, Evidence, Failure, Intent, Privilege};
use crate::policy::Policy;
use std::sync::Arc;

/// Step 1: the family is known and listed, the document is eligible, the resource ids have a form that is served.
pub(super) fn allowlist(env: &Env, job: &Job) -> Result<StepOutput<Arc<Family>>, Failure> {
    let family = judge(&env.engines, &job.policy, &job.sources, &job.intent)?;
    let mut evidence = Evidence::new();
    evidence.insert("family".to_string(), family.title.as_str().into());
    evidence.insert("policy".to_string(), job.policy.digest.short().into());
    Ok(StepOutput::new(family, evidence))
}

/// The pure part of step 1.
pub(super) fn judge(
    engines: &Engines,
    policy: &Policy,
    sources: &CustomSources,
    intent: &Intent,
) -> Result<Arc<Family>, Failure> {
    let source_type = intent.source_type.as_str();
    let Some(family) = sources.family(source_type) else {
        return Err(unknown(source_type, policy, sources));
    };
    if !policy.allowlist.contains(source_type) {
        return Err(Failure::new(
            Class::Unsupported,
            format!("source type {source_type} is not on the policy's allowlist"),
            format!("add {source_type} to allowlist in the policy and have the change reviewed"),
        ));
    }
    eligible(policy, intent)?;
    if let Some(engine) = engines.of(family, policy) {
        for resource_id in &intent.resource_ids {
            engine.accepts(resource_id)?;
        }
    }
    Ok(Arc::clone(family))
}

fn unknown(source_type: &str, policy: &Policy, sources: &CustomSources) -> Failure {
    let fix = match (nearest(source_type, sources.ids()), &policy.manifests.dir) {
        (None, Some(dir)) => {
            format!("put its manifest into {}/{source_type}.yaml; aam families lists the source types of aam", dir.display())
        }
        (near, _) => near_or_list(near),
    };
    Failure::new(Class::Unsupported, format!("source type {source_type} is not known"), fix)
}

fn near_or_list(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("did you mean {near}? aam families lists all"),
        None => "aam families lists the source types there are".to_string(),
    }
}

fn eligible(policy: &Policy, intent: &Intent) -> Result<(), Failure> {
    let rules = &policy.eligibility;
    let refuse = |title: String, fix: String| Err(Failure::new(Class::NotEligible, title, fix));
    if !rules.evidence.contains(&intent.evidence.status) {
        return refuse(
            format!("evidence.status is {}, the policy accepts {}", intent.evidence.status, rules.evidence.join(", ")),
            "have this source sanctioned, then send the intent again with the new status".to_string(),
        );
    }
    if intent.risk_level > rules.max_risk {
        return refuse(
            format!("risk_level is {}, the policy accepts {} at most", intent.risk_level, rules.max_risk),
            "lower the risk at its source, or raise eligibility.max_risk in the policy".to_string(),
        );
    }
    if intent.owner.confidence < rules.min_confidence {
        return refuse(
            format!("owner.confidence is {}, the policy asks for {} at least", intent.owner.confidence, rules.min_confidence),
            "confirm the owner, or lower eligibility.min_confidence in the policy".to_string(),
        );
    }
    Ok(())
}

/// Step 2: the locator resolves, or the source needs none. Read anew at every attempt.
pub(super) fn credential(env: &Env, job: &Job, family: &Arc<Family>) -> Result<StepOutput<Option<Credential>>, Failure> {
    let mut evidence = Evidence::new();
    if let Some(locator) = &job.intent.credential_locator {
        let credential = env.resolver.resolve(locator)?;
        evidence.insert("locator".to_string(), locator.to_string().into());
        return Ok(StepOutput::new(Some(credential), evidence));
    }
    let needed = match env.engines.of(family, &job.policy) {
        Some(engine) => job.intent.resource_ids.iter().any(|id| engine.need(id) == Need::Required),
        None => true,
    };
    if needed {
        return Err(Failure::new(
            Class::CredentialMissing,
            format!("{} needs a credential and the intent has no credential_locator", family.title),
            format!(
                "set credential_locator, for example env:{}_TOKEN; least privilege: {}",
                family.id.to_uppercase(),
                family.least_privilege
            ),
        ));
    }
    evidence.insert("locator".to_string(), "none needed".into());
    Ok(StepOutput::new(None, evidence))
}

/// The engine that serves `family` in this build.
pub(super) fn engine<'a>(env: &'a Env, job: &Job, family: &Arc<Family>) -> Result<Serving<'a>, Failure> {
    env.engines.of(family, &job.policy).ok_or_else(|| {
        Failure::new(
            Class::Unsupported,
            format!("this version of aam has no connector for {} yet", family.title),
            "nothing to do now; aam families shows what this version connects",
        )
    })
}

fn caller(job: &Job, family: &Arc<Family>, engine: &dyn Engine, resource_id: &str, credential: Option<&Credential>) -> Caller {
    Caller {
        connection: job.connection,
        family: Arc::clone(&family.id),
        account: engine.account(resource_id, &job.policy),
        cap: job.policy.cap(&family.id, Some(&family.cap)).clone(),
        policy: Arc::clone(&job.policy),
        posts: Arc::new(engine.posts(resource_id, &job.policy, credential)),
    }
}

/// Who calls for certain in an attempt: the document is eligible and needs no credential.
pub(super) fn callers(env: &Env, job: &Job) -> Vec<Caller> {
    let judged =
        judge(&env.engines, &job.policy, &job.sources, &job.intent).ok().filter(|_| job.intent.credential_locator.is_none());
    let Some((engine, family)) = judged.and_then(|family| Some((env.engines.of(&family, &job.policy)?, family))) else {
        return Vec::new();
    };
    let free = job.intent.resource_ids.iter().filter(|id| engine.need(id) == Need::Optional);
    free.map(|id| caller(job, &family, &*engine, id, None)).collect()
}

/// One resource, ready to be opened.
pub(super) fn target(
    env: &Env,
    job: &Job,
    family: &Arc<Family>,
    engine: &dyn Engine,
    resource_id: &str,
    credential: Option<Credential>,
) -> Target {
    let session = env.egress.session(caller(job, family, engine, resource_id, credential.as_ref()));
    Target {
        family: Arc::clone(family),
        resource_id: resource_id.to_string(),
        credential,
        policy: Arc::clone(&job.policy),
        session,
    }
}

/// The warning for a credential that may do more than read.
pub(super) fn over_privileged(family: &Family, resource_id: &str, privilege: &Privilege, credential: bool) -> Option<Failure> {
    let Privilege::Over { grants } = privilege else { return None };
    // A file needs no credential: then the rights are those of the process.
    let (title, fix) = match credential {
        true => (
            format!("the credential of {resource_id} may do more than read"),
            format!("give aam a credential with least privilege: {}", family.least_privilege),
        ),
        false => (
            format!("the user that runs aam could also write {resource_id}"),
            "nothing has to be done, aam only reads; to be sure, run aam as a user without write permission there".to_string(),
        ),
    };
    Some(Failure::new(Class::PermissionDenied, title, fix).detail(grants.join("; ")))
}
