//! The first step of an open resource: proves whose account the credential belongs to, and asks what it may do.

use super::address;
use super::binding::{Binding, with_base_url};
use super::family_spec::{FirstStream, Identity};
use super::grants::IdentityResponse;
use super::identity::{self, Proof};
use super::open::{Resource, json, reason};
use super::privilege;
use crate::model::{Class, Evidence, Failure, Privilege};
use ::lowcode::value::{Dict, Value};
use serde_json::Value as Json;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl Resource {
    /// Reads what the authentication method needs, and proves the identity.
    pub(super) async fn introduced(&mut self) -> Result<(Evidence, Privilege), Failure> {
        let granted = self.read_first().await?;
        if let Some(template) = self.binding.then_base_url.take() {
            let base_url = address::fill_address(&template, &self.binding.parts).map_err(|part| address::unknown_part(&part))?;
            self.set_config(with_base_url(&self.binding.config, &base_url));
        }
        self.met(granted).await
    }

    /// Changes to the authentication method that is tried after this one. Returns false if there is none.
    pub(super) fn use_other_method(&mut self) -> bool {
        let Some(other) = self.binding.otherwise.take() else { return false };
        let config = other.config.clone();
        self.binding = *other;
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
        let Some(FirstStream { stream, config, grants, matches, parts }) = self.binding.first.clone() else { return Ok(None) };
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
        let (record, kept) = match self.probe(&rule.stream, usize::from(rule.only) + 1).await {
            Err(denied) if denied.class == Class::PermissionDenied && rule.claim.is_some() => {
                evidence.extend(self.claimed(rule, denied).await?);
                (Json::Null, None)
            }
            probed => {
                let (records, kept) = probed?;
                if records.len() > 1 && rule.only {
                    return Err(self.ambiguous(&rule.stream));
                }
                let record = records.first().map(json).unwrap_or(Json::Null);
                let proof = Proof { matches: &rule.matches, any: &rule.any, show: &rule.show };
                let proven = identity::prove(proof, &record, &binding.parts, &binding.title, &binding.base_url);
                evidence.extend(proven.map_err(|failure| identity::explained(rule, &record, failure))?);
                (record, kept)
            }
        };
        self.proven.store(true, Ordering::Relaxed);
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
        Ok((evidence, verdict))
    }

    /// Proves the identity by the claims of the token, which the vendor accepted. `denied` is the failure of the identity call.
    async fn claimed(&self, rule: &Identity, denied: Failure) -> Result<Evidence, Failure> {
        let binding = &self.binding;
        let Some(claim) = rule.claim.as_ref().filter(|_| !binding.token.claims.is_null()) else { return Err(denied) };
        self.probe(&claim.stream, 1).await?;
        let proof = Proof { matches: &claim.matches, any: &[], show: &claim.show };
        let mut evidence = identity::prove(proof, &binding.token.claims, &binding.parts, &binding.title, &binding.base_url)?;
        let note = format!("by the claims of the access token, which {} accepted for {}", binding.title, claim.stream);
        evidence.insert("identity".into(), note.into());
        evidence.insert("not_readable".into(), serde_json::json!({rule.stream.as_str(): reason(&denied)}));
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
