//! The steps before the first call. The intent is checked against the policy, its resource ids are bound, and the
//! credential is resolved.

use super::run::StepOutput;
use super::{Env, Job};
use crate::connectors::concurrent::Limits;
use crate::connectors::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engines};
use crate::credentials::Credential;
use crate::egress::Caller;
use crate::families::{CustomSources, Family, aliases};
use crate::model::attempt::{ENDING_SECRET, ENDS_AT};
use crate::model::failure::DID_YOU_MEAN;
use crate::model::problem::nearest;
use crate::model::{Class, Evidence, Failure, Intent, Locator, Origin, Posts, Privilege, Recipient};
use crate::policy::Policy;
use crate::policy::grants::{self, CredentialUse};
use crate::providers::{CredentialRequest, ProvidedCredential, Reading, foreseen};
use std::sync::Arc;

/// The resources of an eligible intent, each bound once. Resource ids are parsed only here.
pub struct BoundConnection {
    pub family: Arc<Family>,
    /// The bound resources in the order of `resource_ids`, or `None` if this version does not have a connector for the
    /// family.
    resources: Option<Vec<Box<dyn BoundResource>>>,
}

impl BoundConnection {
    /// Returns the bound resources in the order of `resource_ids`.
    ///
    /// # Errors
    /// Returns `Unsupported` if this version does not have a connector for the family.
    pub fn resources(&self) -> Result<&[Box<dyn BoundResource>], Failure> {
        self.resources.as_deref().ok_or_else(|| no_connector(&self.family))
    }

    /// Like [`BoundConnection::resources`], but returns the resources by value, because opening consumes them.
    pub(super) fn into_resources(self) -> Result<Vec<Box<dyn BoundResource>>, Failure> {
        self.resources.ok_or_else(|| no_connector(&self.family))
    }

    /// Returns the hosts that the resource ids chose and that the credential would be sent to.
    #[must_use]
    pub fn free_hosts(&self) -> Vec<Recipient> {
        let mut hosts: Vec<Recipient> = self.resources.iter().flatten().flat_map(|resource| resource.free_hosts()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    fn needs_credential(&self) -> bool {
        let Some(resources) = &self.resources else { return true };
        resources.iter().any(|resource| resource.credential_need() == CredentialNeed::Required)
    }
}

/// Step 1: checks that the family is known and on the allowlist, that the intent is eligible, and that the engine
/// accepts the resource ids.
pub(super) fn allowlist(job: &Job, bound: Result<BoundConnection, Failure>) -> Result<StepOutput<BoundConnection>, Failure> {
    let bound = bound?;
    let mut evidence = Evidence::new();
    evidence.insert("family".to_string(), bound.family.title.as_str().into());
    evidence.insert("policy".to_string(), job.policy.digest.short().into());
    Ok(StepOutput::new(bound, evidence))
}

/// The pure part of step 1: checks the intent against the policy and binds its resource ids.
///
/// # Errors
/// Returns the failure that ends the attempt at step 1.
pub fn bind(
    engines: &Engines,
    policy: &Arc<Policy>,
    sources: &CustomSources,
    intent: &Intent,
) -> Result<BoundConnection, Failure> {
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
    eligible(policy, intent, family)?;
    let resources = match engines.in_force(family, policy) {
        Some(engine) => {
            let bind = |id: &String| engine.bind(BindRequest { family, policy, resource_id: id });
            Some(intent.resource_ids.iter().map(bind).collect::<Result<Vec<_>, _>>()?)
        }
        None => None,
    };
    Ok(BoundConnection { family: Arc::clone(family), resources })
}

fn unknown(source_type: &str, policy: &Policy, sources: &CustomSources) -> Failure {
    // Intents of earlier versions were stored as they were sent.
    let near = aliases::alias(source_type).or_else(|| nearest(source_type, sources.ids()));
    let fix = match (near, &policy.manifests.dir) {
        (None, Some(dir)) => {
            format!("put its manifest into {}/{source_type}.yaml; aam families lists the source types of aam", dir.display())
        }
        (near, _) => near_or_list(near),
    };
    Failure::unknown_source_type(source_type, fix)
}

fn near_or_list(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("{DID_YOU_MEAN}{near}? aam families lists all source types"),
        None => "aam families lists all source types".to_string(),
    }
}

fn eligible(policy: &Policy, intent: &Intent, family: &Family) -> Result<(), Failure> {
    let rules = &policy.eligibility;
    let refuse = |title: String, fix: String| Err(Failure::new(Class::NotEligible, title, fix));
    let unknown = aliases::not_understood(intent);
    if !unknown.is_empty() {
        let values: Vec<String> = unknown.iter().map(|(field, text)| format!("{} {text:?}", field.as_str())).collect();
        let accepted: Vec<String> =
            unknown.iter().map(|(field, _)| format!("{} as {}", field.accepted(), field.as_str())).collect();
        return refuse(
            format!("AAM does not know {}", values.join(" and ")),
            format!("write {}, and send the intent again", accepted.join("; ")),
        );
    }
    if !rules.accepts(&intent.evidence.status) {
        return refuse(
            format!("evidence.status is {}; the policy accepts {}", intent.evidence.status, rules.evidence.join(", ")),
            "have this source sanctioned, then send the intent again with the new status".to_string(),
        );
    }
    let stated = intent.risk_level.risk();
    let risk = family.risk(stated);
    if let Some(least) = family.risk.as_ref().filter(|_| risk > rules.max_risk && risk > stated) {
        return refuse(
            format!(
                "the risk of {} is {risk} at least, because {}; the policy accepts {} at most",
                family.title, least.why, rules.max_risk
            ),
            "have the policy accept the risk (eligibility.max_risk), or remove the intent".to_string(),
        );
    }
    if risk > rules.max_risk {
        return refuse(
            format!("risk_level is {}; the policy accepts {} at most", intent.risk_level, rules.max_risk),
            "lower the risk at its source, or raise eligibility.max_risk in the policy".to_string(),
        );
    }
    if intent.owner.confidence < rules.min_confidence {
        return refuse(
            format!("owner.confidence is {}; the policy requires {} at least", intent.owner.confidence, rules.min_confidence),
            "confirm the owner, or lower eligibility.min_confidence in the policy".to_string(),
        );
    }
    Ok(())
}

/// The part of an attempt that makes no call and reads no credential: steps 1 and 2 without resolving the locator.
/// `aam check` and `aam plan` use it, so that they agree with the daemon.
///
/// # Errors
/// Returns the failure that ends the attempt.
pub fn assess(
    engines: &Engines,
    policy: &Arc<Policy>,
    sources: &CustomSources,
    intent: &Intent,
    origins: &[Origin],
) -> Result<BoundConnection, Failure> {
    let bound = bind(engines, policy, sources, intent)?;
    check_credential(policy, intent, origins, &bound)?;
    Ok(bound)
}

/// Checks that the policy lets `origins` send the credential of the intent to the hosts that it chose, or that no
/// credential is needed.
fn check_credential(policy: &Policy, intent: &Intent, origins: &[Origin], bound: &BoundConnection) -> Result<(), Failure> {
    if let Some(locator) = &intent.credential_locator {
        may_use_credential(policy, intent, origins, &bound.free_hosts())?;
        return foreseen::check(policy, locator, &bound.family);
    }
    if bound.needs_credential() {
        let family = &bound.family;
        return Err(Failure::new(
            Class::CredentialMissing,
            format!("{} needs a credential and the intent has no credential_locator", family.title),
            format!(
                "set credential_locator, for example env:{}; least privilege: {}",
                grants::example_variable(&family.id),
                family.least_privilege
            ),
        ));
    }
    Ok(())
}

fn may_use_credential(policy: &Policy, intent: &Intent, origins: &[Origin], recipients: &[Recipient]) -> Result<(), Failure> {
    let Some(locator) = &intent.credential_locator else { return Ok(()) };
    let wanted = CredentialUse { origins, namespace: &intent.namespace, source_type: &intent.source_type, locator, recipients };
    grants::judge(policy, &wanted)
}

/// Step 2: checks that the credential may be used and resolves it, or checks that the source does not need a credential.
/// See [`crate::providers`] for which credentials are cached, and how long.
pub(super) async fn credential(
    env: &Env,
    job: &Job,
    bound: &BoundConnection,
    reading: Reading,
) -> Result<StepOutput<Option<ProvidedCredential>>, Failure> {
    check_credential(&job.policy, &job.intent, &job.origins, bound)?;
    let mut evidence = Evidence::new();
    let Some(locator) = &job.intent.credential_locator else {
        evidence.insert("locator".to_string(), "none needed".into());
        return Ok(StepOutput::new(None, evidence));
    };
    let mut provided = env.providers.provide(&credential_request(job, bound, locator, reading)).await?;
    let facts = &mut provided.facts;
    evidence.append(&mut facts.evidence);
    evidence.insert("locator".to_string(), locator.to_string().into());
    evidence.insert("provider".to_string(), facts.provider.into());
    for (name, at) in [("valid_until", facts.valid_until), (ENDS_AT, facts.ends_at)] {
        if let Some(at) = at {
            evidence.insert(name.to_string(), at.rfc3339().into());
        }
    }
    if let Some(Ok(secret)) = facts.ending_secret.as_ref().map(serde_json::to_value) {
        evidence.insert(ENDING_SECRET.to_string(), secret);
    }
    let warning = facts.warning.take();
    Ok(StepOutput { value: Some(provided), evidence, warning })
}

fn no_connector(family: &Family) -> Failure {
    Failure::without_connector(&family.title)
}

/// How an attempt divides the concurrent calls that the account's cap allows.
#[derive(Clone, Copy)]
pub(super) struct Concurrency {
    /// Limits the resources that a step works on at the same time.
    pub resources: Limits,
    /// The number of concurrent calls for one resource.
    pub calls: usize,
}

impl Concurrency {
    pub(super) fn new(job: &Job, family: &Family) -> Concurrency {
        let slots = job.policy.cap(&family.id, Some(&family.cap)).concurrency.max(1) as usize;
        let resources = job.intent.resource_ids.len().clamp(1, slots);
        let step = job.policy.safe_mode(&family.id).step_timeout;
        Concurrency { resources: Limits::in_step(resources, step), calls: slots / resources }
    }
}

fn caller(job: &Job, family: &Family, account: &str, posts: Posts) -> Caller {
    Caller {
        connection: job.connection,
        family: Arc::clone(&family.id),
        purpose: crate::model::CallPurpose::Source,
        account: account.to_string(),
        cap: job.policy.cap(&family.id, Some(&family.cap)).clone(),
        policy: Arc::clone(&job.policy),
        posts: Arc::new(posts),
    }
}

fn credential_request(job: &Job, bound: &BoundConnection, locator: &Locator, reading: Reading) -> CredentialRequest {
    CredentialRequest {
        locator: locator.clone(),
        connection: job.connection,
        namespace: job.intent.namespace.clone(),
        owner: job.intent.owner.user.clone(),
        family: Arc::clone(&bound.family),
        resource_ids: job.intent.resource_ids.clone().into(),
        policy: Arc::clone(&job.policy),
        reading,
    }
}

/// Returns whether the attempt is going to end without a call to the source, because it has no credential. Only a credential of
/// this machine is looked for, because this must not cost a call.
pub(super) async fn lacks_credential(env: &Env, job: &Job, bound: &BoundConnection) -> bool {
    if check_credential(&job.policy, &job.intent, &job.origins, bound).is_err() {
        return true;
    }
    match &job.intent.credential_locator {
        None => bound.resources.iter().flatten().any(|resource| resource.credential_need() == CredentialNeed::Required),
        Some(locator @ (Locator::Env(_) | Locator::File(_))) => {
            env.providers.provide(&credential_request(job, bound, locator, Reading::Cached)).await.is_err()
        }
        Some(_) => false,
    }
}

/// Returns the callers whose number of calls is known, with that number.
pub(super) fn planned_callers(job: &Job, bound: &BoundConnection) -> Vec<(Caller, u32)> {
    let mut planned: Vec<(Caller, u32)> = Vec::new();
    for resource in bound.resources.iter().flatten() {
        let (calls, account) = (resource.calls(job.scope), resource.account());
        match planned.iter_mut().find(|(caller, _)| caller.account == account) {
            _ if calls == 0 => {}
            Some((_, known)) => *known = known.saturating_add(calls),
            None => planned.push((caller(job, &bound.family, account, Posts::default()), calls)),
        }
    }
    planned
}

/// Returns the callers that are certain to make calls. If the intent does not name a credential, these are the
/// resources that can be used without one. If it does, none is certain, because the credential may fail to resolve.
pub(super) fn certain_callers(job: &Job, bound: &BoundConnection) -> Vec<Caller> {
    if job.intent.credential_locator.is_some() {
        return Vec::new();
    }
    let resources = bound.resources.iter().flatten();
    let free = resources.filter(|resource| resource.credential_need() == CredentialNeed::Optional);
    free.map(|resource| caller(job, &bound.family, resource.account(), Posts::default())).collect()
}

/// Gives the credential to a resource and creates the caller for its session.
pub(super) fn authorize(
    job: &Job,
    family: &Family,
    resource: Box<dyn BoundResource>,
    credential: Option<Credential>,
) -> Result<(AuthorizedResource, Caller), Failure> {
    let account = resource.account().to_string();
    let mut authorized = resource.authorize(credential)?;
    // A custom source may know its hosts only now that the credential is part of its config.
    may_use_credential(&job.policy, &job.intent, &job.origins, &authorized.free_hosts)?;
    let caller = caller(job, family, &account, std::mem::take(&mut authorized.posts));
    Ok((authorized, caller))
}

/// Returns the verdict as evidence, with the statements that take the excess away.
pub(super) fn privilege_evidence(privilege: &Privilege, removal: &[String]) -> serde_json::Value {
    let mut evidence = serde_json::json!(privilege);
    if let (Privilege::Over { .. }, Some(evidence), false) = (privilege, evidence.as_object_mut(), removal.is_empty()) {
        evidence.insert("statements".to_string(), removal.into());
    }
    evidence
}

/// Returns a warning if the credential can do more than read. Without a credential, for example for a local file, the
/// permissions are those of the AAM process: the evidence shows them, and there is no credential to replace.
pub(super) fn over_privileged(family: &Family, resource_id: &str, privilege: &Privilege, credential: bool) -> Option<Failure> {
    let Privilege::Over { grants } = privilege else { return None };
    if !credential {
        return None;
    }
    let title = format!("the credential of {resource_id} can do more than read");
    let fix = format!(
        "give aam a credential with least privilege: {}; or take the excess away, aam privileges shows how",
        family.least_privilege.trim()
    );
    Some(Failure::new(Class::OverPrivileged, title, fix).detail(grants.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::super::doubles::{job, policy};
    use super::*;
    use crate::families;

    #[test]
    fn the_risk_of_a_family_counts_whatever_an_intent_says() {
        let intent = job(&["a"]).intent;
        assert_eq!(intent.risk_level, crate::model::Risk::Low.into());
        let (workday, github) = (families::find("workday").unwrap(), families::find("github").unwrap());
        let careful = policy("eligibility: {max_risk: med}");
        let refused = eligible(&careful, &intent, workday).unwrap_err();
        assert_eq!(refused.class, Class::NotEligible);
        assert!(
            refused.title.starts_with("the risk of Workday is high at least, because Workday holds personal data"),
            "{refused:?}"
        );
        assert!(eligible(&careful, &intent, github).is_ok());
        assert!(eligible(&policy(""), &intent, workday).is_ok(), "the default policy accepts every risk");
    }
}
