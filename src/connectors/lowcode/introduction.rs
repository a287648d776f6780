//! The first step of an open resource: proves whose account the credential belongs to, and asks what it may do.

use super::address;
use super::binding::{Binding, with_base_url};
use super::family_spec::{ClaimIdentity, EndSource, FirstStream, Identity};
use super::grants::IdentityResponse;
use super::host::KeptResponse;
use super::identity::{self, Proof};
use super::open::{Resource, json, reason};
use super::privilege;
use crate::model::attempt::ENDS_AT;
use crate::model::{Class, Evidence, Failure, Privilege, Timestamp};
use ::lowcode::value::{Dict, Value};
use serde_json::Value as Json;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// What proved the identity of a resource.
struct Proven {
    record: Json,
    kept: Option<Arc<KeptResponse>>,
    evidence: Evidence,
}

impl Resource {
    /// Reads what the authentication method needs, and proves the identity.
    pub(super) async fn introduced(&mut self) -> Result<(Evidence, Privilege), Failure> {
        let granted = self.read_first().await?;
        if let Some(template) = self.binding.then_base_url.take() {
            let base_url = address::fill_address(&template, &self.binding.parts).map_err(|part| address::unknown_part(&part))?;
            self.set_config(with_base_url(&self.binding.config, &base_url));
        }
        let met = self.met(granted).await?;
        // Only the call that proved the identity is known to be allowed, so the health step repeats it.
        if let Some(call) = self.proven_by.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.binding.health.retain(|name| self.binding.keeps_health && *name != call.stream);
            self.binding.health.push(call.stream);
            if !call.streams.is_empty() {
                self.binding.streams = call.streams;
            }
        }
        Ok(met)
    }

    /// Switches to the authentication method that is tried after this one. Returns false if this is the last one.
    pub(super) fn use_other_method(&mut self) -> bool {
        let Some(other) = self.binding.otherwise.take() else { return false };
        let config = other.config.clone();
        self.binding = *other;
        self.accepted.store(false, Ordering::Relaxed);
        self.set_config(config);
        true
    }

    fn set_config(&mut self, config: Value) {
        self.binding.config = config;
        // The sources that were built so far have the old config.
        self.built.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Reads the stream that the authentication method needs before all others, and puts its record into the config.
    /// Returns the grants that the record names.
    async fn read_first(&mut self) -> Result<Option<Vec<String>>, Failure> {
        let Some(FirstStream { stream, config, grants, matches, parts, differs }) = self.binding.first.clone() else {
            return Ok(None);
        };
        let record = self.probe(&stream, 1).await?.0.into_iter().next().unwrap_or_default();
        // A login that names no place for grants yields none, so that the sources of the family are asked.
        let granted = if grants.is_empty() { None } else { privilege::levels(json(&record).pointer(&grants)) };
        if let Some(rule) = matches.get(&self.binding.kind) {
            identity::same_account(rule, &json(&record), &self.binding.parts, &self.binding.title)?;
        }
        let found = json(&record);
        let mut whole = self.binding.config.as_dict().cloned().unwrap_or_else(Dict::default);
        whole.insert(config.into(), record);
        for (name, pointer) in parts {
            let value = identity::text(found.pointer(&pointer)).ok_or_else(|| self.no_part(&stream, &pointer))?;
            whole.insert(name.as_str().into(), Value::str(value.as_str()));
            self.binding.parts.insert(name, value);
        }
        let is_left_out =
            |name: &String| differs.get(name).is_some_and(|(one, other)| found.pointer(one) == found.pointer(other));
        self.binding.streams.retain(|name| !is_left_out(name));
        self.set_config(Value::Dict(whole));
        Ok(granted)
    }

    fn no_part(&self, stream: &str, pointer: &str) -> Failure {
        let Binding { title, base_url, .. } = &self.binding;
        Failure::new(
            Class::WrongService,
            format!("the response of {title} for {stream} does not have {pointer}"),
            format!("check that {base_url} is the address of {title}"),
        )
    }

    async fn met(&self, granted: Option<Vec<String>>) -> Result<(Evidence, Privilege), Failure> {
        let binding = &self.binding;
        let mut evidence = Evidence::new();
        let hosts: Vec<&str> = binding.origins.iter().map(String::as_str).collect();
        evidence.insert("hosts".into(), hosts.join(", ").into());
        if !binding.auth.is_empty() {
            evidence.insert("auth".into(), binding.auth.clone().into());
        }
        let Some(rule) = &binding.identity else {
            evidence.extend(self.checked().await?);
            let note = format!(
                "matched: host and check; no call proves whose data it is (manifests.sources.{}.identity in the policy names one)",
                binding.title
            );
            evidence.insert("identity".into(), note.into());
            let reason = "a custom manifest does not say how to read the grants".to_string();
            return Ok((evidence, Privilege::Unknown { reason }));
        };
        let Proven { record, kept, evidence: proven } = self.prove(rule).await?;
        evidence.extend(proven);
        self.proven.store(true, Ordering::Relaxed);
        let note = binding.empty.and_then(|empty| privilege::filled(&empty.note, &record));
        *self.empty_note.lock().unwrap_or_else(PoisonError::into_inner) = note;
        let Some(rules) = binding.privilege else {
            let reason = "a custom manifest does not say how to read the grants".to_string();
            return Ok((evidence, Privilege::Unknown { reason }));
        };
        let identity = IdentityResponse { response: kept.as_deref(), record: &record };
        let (verdict, grants) = self.privilege(rules, granted, identity).await?;
        let content = privilege::content(rules, &grants);
        if !content.is_empty() {
            evidence.insert("reads_content".into(), content.into());
        }
        let ends = [binding.ends.and_then(|source| self.named_end(source)), binding.method_ends];
        if let Some(end) = ends.into_iter().flatten().min() {
            evidence.insert(ENDS_AT.to_string(), end.rfc3339().into());
        }
        Ok((evidence, verdict))
    }

    /// Makes the calls of `rule` until one of them is allowed, and compares its response with the resource id.
    async fn prove(&self, rule: &Identity) -> Result<Proven, Failure> {
        let claims = &self.binding.token.claims;
        if let Some(claim) = rule.claim.as_ref().filter(|claim| claim.first && identity::names_account(claimed(claim), claims)) {
            return Ok(Proven { record: Json::Null, kept: None, evidence: self.accepted(claim).await? });
        }
        let mut refused = Vec::new();
        // A response that does not name the account, at a host that is the account's own.
        let mut unnamed: Option<(&Identity, Proven)> = None;
        // Why the responses that name no account prove nothing.
        let mut undecided = Vec::new();
        for call in rule.calls() {
            let (records, kept) = match self.probe(&call.stream, usize::from(call.only) + 1).await {
                Ok(read) => read,
                Err(failure) if matches!(failure.class, Class::PermissionDenied | Class::NotFound) => {
                    refused.push(failure);
                    continue;
                }
                // What is proven already does not become unproven, because a further call fails.
                Err(_) if unnamed.is_some() => continue,
                Err(failure) => return Err(failure),
            };
            let total = kept.as_deref().and_then(|kept| identity::total(call, &kept.response)).unwrap_or_default();
            if call.only && (records.len() > 1 || total > 1) {
                return Err(self.ambiguous(&call.stream));
            }
            // A list that does not have the resource says less than the refusal of the call for the resource itself, unless the
            // family gives it a class of its own.
            if records.is_empty()
                && !call.host
                && call.mismatch.as_ref().is_none_or(|it| it.class.is_none())
                && !refused.is_empty()
            {
                continue;
            }
            let record = records.first().map(json).unwrap_or(Json::Null);
            let evidence = match self.compared(call, &record, kept.as_deref()) {
                Ok(evidence) => evidence,
                // A response that names no account says less than the next call may say.
                Err(failure) if !self.accepted.load(Ordering::Relaxed) => {
                    undecided.push(failure);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let proven = Proven { record, kept, evidence };
            if call.host && !self.accepted.load(Ordering::Relaxed) {
                // The next call may name the account, which may be another one.
                unnamed.get_or_insert((call, proven));
                continue;
            }
            return Ok(self.proven_by(rule, call, proven));
        }
        if let Some((call, proven)) = unnamed {
            return Ok(self.proven_by(rule, call, proven));
        }
        if let Some(failure) = undecided.into_iter().next() {
            return Err(failure);
        }
        let failure = most_useful(refused).unwrap_or_else(no_call);
        match failure.class {
            Class::PermissionDenied if rule.claim.is_some() => {
                Ok(Proven { record: Json::Null, kept: None, evidence: self.claims_instead(rule, failure).await? })
            }
            _ => Err(failure),
        }
    }

    /// Remembers that `call` of `rule` proved the identity.
    fn proven_by(&self, rule: &Identity, call: &Identity, proven: Proven) -> Proven {
        if !rule.or.is_empty() || self.binding.health.iter().any(String::is_empty) {
            *self.proven_by.lock().unwrap_or_else(PoisonError::into_inner) = Some(call.clone());
        }
        proven
    }

    /// Returns the end of the credential that the last response of a stream names.
    fn named_end(&self, source: &EndSource) -> Option<Timestamp> {
        let kept = self.last_response(&source.stream).filter(|kept| kept.response.status == 200)?;
        let body: Json = serde_json::from_slice(&kept.response.body).ok()?;
        identity::end(body.pointer(&source.field)?.as_str()?)
    }

    fn compared(&self, rule: &Identity, record: &Json, kept: Option<&KeptResponse>) -> Result<Evidence, Failure> {
        let Binding { parts, title, base_url, .. } = &self.binding;
        let proof = Proof { matches: &rule.matches, any: &rule.any, show: &rule.show };
        let seen = identity::with_links(record, kept.map(|kept| &kept.response));
        let names_account = identity::names_account(proof, &seen);
        self.accepted.store(names_account, Ordering::Relaxed);
        if rule.host && !names_account && !identity::has_mark(&rule.marks, &seen, kept.map(|kept| &kept.response)) {
            return Err(identity::unmarked(rule, parts, title, base_url));
        }
        let mut evidence = match rule.host && !names_account {
            true => identity::by_host(rule, parts, title),
            false => identity::prove(proof, &seen, parts, title, base_url)
                .map_err(|failure| identity::explained(rule, record, failure))?,
        };
        evidence.extend(identity::shown(proof, &seen));
        Ok(evidence)
    }

    /// Proves the identity by the claims of the token. `denied` is the failure of the identity call.
    async fn claims_instead(&self, rule: &Identity, denied: Failure) -> Result<Evidence, Failure> {
        let named = |claim: &&ClaimIdentity| identity::names_account(claimed(claim), &self.binding.token.claims);
        let Some(claim) = rule.claim.as_ref().filter(named) else { return Err(denied) };
        let mut evidence = self.accepted(claim).await?;
        evidence.insert("not_readable".into(), serde_json::json!({rule.stream.as_str(): reason(&denied)}));
        Ok(evidence)
    }

    /// Compares the claims of the token with the resource id, and then lets the vendor say whether it accepts the token. The
    /// claims are compared first, so that nothing of another account is read.
    async fn accepted(&self, claim: &ClaimIdentity) -> Result<Evidence, Failure> {
        let Binding { token, parts, title, base_url, .. } = &self.binding;
        let mut evidence = identity::prove(claimed(claim), &token.claims, parts, title, base_url)?;
        self.probe(&claim.stream, 1).await?;
        let note = match token.confirmed {
            false => format!("by the claims of the access token, which {title} accepted for {}", claim.stream),
            true => format!("by the account for which {title} issued the access token, which it accepted for {}", claim.stream),
        };
        evidence.insert("identity".into(), note.into());
        Ok(evidence)
    }

    fn ambiguous(&self, stream: &str) -> Failure {
        let Binding { title, least_privilege, .. } = &self.binding;
        Failure::new(
            Class::PermissionDenied,
            format!("{title} returns several records for {stream}, so it does not say whose credential this is"),
            format!("let the credential read the fields that the call filters by; least privilege: {least_privilege}"),
        )
    }
}

/// Returns what the claims have to name.
fn claimed(claim: &ClaimIdentity) -> Proof<'_> {
    Proof { matches: &claim.matches, any: &[], show: &claim.show }
}

/// Returns the failure to show if no call was allowed. A missing permission can be granted, so it is shown before a resource
/// that was not found; and the calls after the first one need less.
fn most_useful(refused: Vec<Failure>) -> Option<Failure> {
    let (denied, others): (Vec<_>, Vec<_>) = refused.into_iter().partition(|failure| failure.class == Class::PermissionDenied);
    denied.into_iter().take(2).next_back().or(others.into_iter().next())
}

fn no_call() -> Failure {
    Failure::new(Class::Bug, "the family has no identity call", "report this as a defect of AAM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_of_the_call_that_needs_least_is_shown() {
        let shown = |failures: &[(Class, &'static str)]| {
            let failures = failures.iter().map(|(class, title)| Failure::new(*class, *title, "fix")).collect();
            most_useful(failures).map(|failure| failure.title.to_string())
        };
        assert_eq!(shown(&[]), None);
        let (denied, absent) = (Class::PermissionDenied, Class::NotFound);
        assert_eq!(shown(&[(denied, "org"), (denied, "users"), (denied, "groups")]).as_deref(), Some("users"));
        assert_eq!(shown(&[(absent, "project"), (absent, "group")]).as_deref(), Some("project"));
        assert_eq!(shown(&[(absent, "project"), (denied, "group")]).as_deref(), Some("group"));
    }
}
