//! Parses the policy file into a [`Policy`], or reports all of its problems.

mod airbyte;
mod consents;
mod credentials;
mod evidence;
mod grants;
mod handoff;
mod listener;
mod notify;
mod oidc;
mod principals;
mod reach;
mod registry;
mod retire;
mod services;
mod tokens;

use super::airbyte::Airbyte;
use super::credentials::Credentials;
use super::manifests::{Manifests, manifests};
use super::read::{Fields, Reader, Spot};
use super::{Api, Backoff, Breaker, Caps, Eligibility, Files, MaxRetire, Policy, Recheck, Reconcile, SafeMode, Slo, yaml};
use crate::model::{DEMO_NAMESPACE, Digest, Problem, Risk};
pub use listener::host_and_port;
pub use notify::has_host;
use reach::{caps, default_cap, families, files, network};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokens::api;
pub use tokens::token_end;

const KEYS: [&str; 22] = [
    "version",
    "namespace",
    "slo",
    "eligibility",
    "safe_mode",
    "allowlist",
    "network",
    "files",
    "caps",
    "backoff",
    "breaker",
    "recheck",
    "reconcile",
    "families",
    "manifests",
    "airbyte",
    "credentials",
    "handoff",
    "notify",
    "evidence",
    "registry",
    "api",
];

/// Parses a policy. `file` is the file name for problems. Only `version` and `allowlist` are required.
///
/// # Errors
/// All problems, in the order of the file.
pub fn parse(text: &str, file: &str) -> Result<Policy, Vec<Problem>> {
    let (root, problems) = yaml::read(text);
    // Without a root and without a problem, the file is empty or holds only comments.
    let readable = root.is_some() || problems.is_empty();
    let empty = yaml::Node { place: crate::model::FilePlace { line: 1, column: 1 }, kind: yaml::NodeKind::Map(Vec::new()) };
    let root = root.unwrap_or(empty);
    let mut reader = Reader { problems, ..Reader::default() };
    let policy = if readable { top(&mut reader, &root, Digest::from_bytes(text.as_bytes())) } else { None };
    let mut problems = reader.problems;
    match policy {
        Some(policy) if problems.is_empty() => Ok(policy),
        _ => {
            problems.sort_by_key(|problem| problem.place);
            Err(problems.into_iter().map(|problem| problem.in_file(file)).collect())
        }
    }
}

/// The mappings and lists that are read from a policy without problems.
#[cfg(test)]
pub(super) fn seen(text: &str) -> Vec<super::read::Seen> {
    let (root, problems) = yaml::read(text);
    let mut reader = Reader { problems, ..Reader::default() };
    let policy = root.and_then(|root| top(&mut reader, &root, Digest::default()));
    assert!(policy.is_some() && reader.problems.is_empty(), "{:#?}", reader.problems);
    reader.seen
}

fn top(r: &mut Reader, root: &yaml::Node, digest: Digest) -> Option<Policy> {
    let fields = r.fields(&Spot { node: root, pointer: String::new() }, &KEYS)?;
    // Read first, because custom sources may be named wherever a family may.
    let manifests = r.field(&fields, "manifests", Manifests::default(), manifests);
    (r.custom_sources, r.allows_custom_sources) = (manifests.sources.keys().cloned().collect(), manifests.dir.is_some());
    let airbyte = r.field(&fields, "airbyte", Airbyte::default(), airbyte::airbyte);
    r.custom_sources.extend(airbyte.connectors.keys().cloned());
    let version = r.required(&fields, "version", "write version: 1").and_then(|spot| r.whole32(&spot, 1..=1)).unwrap_or(1);
    let allowlist = r
        .required(&fields, "allowlist", "list the families that may be connected, for example allowlist: [github, slack]")
        .map(|spot| allowlist(r, &spot))
        .unwrap_or_default();
    let credentials = r.field(&fields, "credentials", Credentials::default(), credentials::credentials);
    let notify = r.field(&fields, "notify", Vec::new(), notify::notify);
    let api = r.field(&fields, "api", Api::default(), api);
    let families = fields.get("families").map(|spot| families(r, &spot)).unwrap_or_default();
    airbyte::check_engines(r, &fields, &airbyte, &manifests, &families);
    credentials::check_secrets(r, &credentials);
    Some(Policy {
        version,
        namespace: r.field(&fields, "namespace", "autonomy".to_string(), namespace),
        slo: r.field(&fields, "slo", slo_default(), slo),
        eligibility: eligibility(r, &fields),
        safe_mode: safe_mode(r, &fields),
        allowlist,
        network: network(r, &fields),
        files: r.field(&fields, "files", Files { roots: Vec::new() }, files),
        caps: r.field(&fields, "caps", Caps { default: default_cap(), families: BTreeMap::new() }, caps),
        backoff: backoff(r, &fields),
        breaker: breaker(r, &fields),
        recheck: recheck(r, &fields),
        reconcile: reconcile(r, &fields),
        families,
        manifests,
        airbyte,
        credentials,
        handoff: handoff::handoff(r, &fields),
        evidence: evidence::evidence(r, &fields, &notify),
        notify,
        registry: registry::registry(r, &fields),
        api,
        digest,
    })
}

/// The namespace of new connections. `demo` is read-only once its seed is loaded.
fn namespace(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let name = r.namespace(spot)?;
    if name == DEMO_NAMESPACE {
        r.report(spot, "the namespace demo is read-only", "write namespace: autonomy, or another name");
        return None;
    }
    Some(name)
}

fn allowlist(r: &mut Reader, spot: &Spot<'_>) -> BTreeSet<String> {
    let family = |r: &mut Reader, item: &Spot<'_>| {
        let name = r.text(item, "the name of a family")?.to_string();
        r.known_family(&name, &item.pointer, item.node.place).then_some(name)
    };
    r.unique(spot, "families", family).unwrap_or_default().into_iter().collect()
}

/// The fields of the section `name`, if it exists and is a mapping.
fn section<'a>(r: &mut Reader, fields: &Fields<'a>, name: &str, keys: &[&str]) -> Option<Fields<'a>> {
    fields.get(name).and_then(|spot| r.fields(&spot, keys))
}

/// Reads a duration of a section that may be missing.
fn wait(r: &mut Reader, fields: Option<&Fields<'_>>, name: &str, default: Duration) -> Duration {
    fields.map_or(default, |fields| r.field(fields, name, default, Reader::duration))
}

fn slo_default() -> Slo {
    Slo { coverage: 0.9 }
}

fn slo(r: &mut Reader, spot: &Spot<'_>) -> Option<Slo> {
    let fields = r.fields(spot, &["coverage"])?;
    Some(Slo { coverage: r.field(&fields, "coverage", slo_default().coverage, |r, spot| r.number(spot, 0.0..=1.0, false)) })
}

fn eligibility(r: &mut Reader, fields: &Fields<'_>) -> Eligibility {
    let default = Eligibility { evidence: vec!["Sanctioned".to_string()], max_risk: Risk::High, min_confidence: 0.0 };
    let Some(fields) = section(r, fields, "eligibility", &["evidence", "max_risk", "min_confidence"]) else {
        return default;
    };
    let statuses = |r: &mut Reader, spot: &Spot<'_>| {
        let values = r.unique(spot, "values of evidence.status", |r, item| {
            r.text(item, "a value of evidence.status").map(str::to_string)
        })?;
        if values.is_empty() {
            r.report(spot, "the list is empty, so no intent would be eligible", "write [Sanctioned]");
        }
        Some(values)
    };
    let risk = |r: &mut Reader, spot: &Spot<'_>| {
        Some(match r.one_of(spot, "risk level", &["low", "med", "high"])? {
            "low" => Risk::Low,
            "med" => Risk::Med,
            _ => Risk::High,
        })
    };
    Eligibility {
        evidence: r.field(&fields, "evidence", default.evidence, statuses),
        max_risk: r.field(&fields, "max_risk", default.max_risk, risk),
        min_confidence: r.field(&fields, "min_confidence", default.min_confidence, |r, spot| r.number(spot, 0.0..=1.0, false)),
    }
}

fn safe_mode(r: &mut Reader, fields: &Fields<'_>) -> SafeMode {
    let fields = section(r, fields, "safe_mode", &["max_items", "step_timeout", "attempt_timeout"]);
    let mode = SafeMode {
        max_items: fields.as_ref().map_or(20, |fields| r.field(fields, "max_items", 20, |r, spot| r.whole32(spot, 1..=20))),
        step_timeout: wait(r, fields.as_ref(), "step_timeout", SafeMode::STEP_TIMEOUT),
        attempt_timeout: wait(r, fields.as_ref(), "attempt_timeout", SafeMode::ATTEMPT_TIMEOUT),
    };
    if let Some(fields) = fields.filter(|_| mode.attempt_timeout < mode.step_timeout) {
        let message = "attempt_timeout is shorter than step_timeout";
        r.report_at(
            &fields.pointer,
            fields.place,
            message,
            "an attempt consists of several steps; give it more time than one step",
        );
    }
    mode
}

fn backoff(r: &mut Reader, fields: &Fields<'_>) -> Backoff {
    let fields = section(r, fields, "backoff", &["initial", "max", "jitter"]);
    let backoff = Backoff {
        initial: wait(r, fields.as_ref(), "initial", Duration::from_secs(5)),
        max: wait(r, fields.as_ref(), "max", Duration::from_secs(900)),
        jitter: fields.as_ref().map_or(0.2, |fields| r.field(fields, "jitter", 0.2, |r, spot| r.number(spot, 0.0..=1.0, false))),
    };
    if let Some(fields) = fields.filter(|_| backoff.max < backoff.initial) {
        r.report_at(
            &fields.pointer,
            fields.place,
            "max is shorter than initial",
            "the backoff grows from initial to max; make max the longer one",
        );
    }
    backoff
}

fn breaker(r: &mut Reader, fields: &Fields<'_>) -> Breaker {
    let fields = section(r, fields, "breaker", &["failures", "open_for"]);
    Breaker {
        failures: fields.as_ref().map_or(5, |fields| r.field(fields, "failures", 5, |r, spot| r.whole32(spot, 1..=1000))),
        open_for: wait(r, fields.as_ref(), "open_for", Duration::from_secs(30)),
    }
}

fn recheck(r: &mut Reader, fields: &Fields<'_>) -> Recheck {
    let fields = section(r, fields, "recheck", &["health", "drift", "awaiting_credentials"]);
    Recheck {
        health: wait(r, fields.as_ref(), "health", Duration::from_secs(6 * 3600)),
        drift: wait(r, fields.as_ref(), "drift", Duration::from_secs(24 * 3600)),
        awaiting_credentials: wait(r, fields.as_ref(), "awaiting_credentials", Duration::from_secs(300)),
    }
}

/// Attempts in flight if the policy does not say. An attempt waits for its source nearly all of the time and takes less
/// than 100 kB, so 2,000 of them stay below 200 MB. What one vendor sees is bounded by `caps`.
const DEFAULT_CONCURRENCY: usize = 2000;
/// The bytes that all attempts may hold together if the policy does not say.
const DEFAULT_MEMORY_BYTES: u64 = 256 << 20;

fn reconcile(r: &mut Reader, fields: &Fields<'_>) -> Reconcile {
    let fields = section(r, fields, "reconcile", &["concurrency", "resync", "memory", "max_retire", "confirm"]);
    let attempts = |r: &mut Reader, spot: &Spot<'_>| r.whole(spot, 1..=10_000).and_then(|value| usize::try_from(value).ok());
    Reconcile {
        concurrency: fields
            .as_ref()
            .map_or(DEFAULT_CONCURRENCY, |fields| r.field(fields, "concurrency", DEFAULT_CONCURRENCY, attempts)),
        resync: wait(r, fields.as_ref(), "resync", Duration::from_secs(30)),
        memory: fields
            .as_ref()
            .map_or(DEFAULT_MEMORY_BYTES, |fields| r.field(fields, "memory", DEFAULT_MEMORY_BYTES, Reader::size)),
        max_retire: fields.as_ref().map_or(Some(MaxRetire::default()), |fields| retire::max_retire(r, fields)),
        confirm: fields.as_ref().map_or(Vec::new(), |fields| r.field(fields, "confirm", Vec::new(), retire::confirm)),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(super) mod tests;
