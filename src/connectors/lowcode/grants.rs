//! Reads what the vendor says about the grants of the credential, from the sources that the family names.
//!
//! A source that the credential may not read never makes the verdict better: the verdict is then unknown, with the vendor's
//! own reason, unless another source names the grants.

use super::family_spec::{self, GrantSource};
use super::host::KeptResponse;
use super::open::{Resource, json, reason};
use super::privilege::{self, RecordedGrants};
use crate::model::{Class, Failure, Privilege};
use serde_json::Value as Json;
use std::sync::atomic::Ordering;

/// The maximum number of records of a stream of grants. The grants of a credential that has more are not known.
const MAX_GRANT_RECORDS: usize = 400;

/// The identity response and its first record, in which grants may be named.
#[derive(Clone, Copy)]
pub(super) struct IdentityResponse<'a> {
    pub response: Option<&'a KeptResponse>,
    pub record: &'a Json,
}

/// What one source yields.
enum Yielded {
    Grants(Vec<String>),
    /// Only some of the grants, and why.
    Part(Vec<String>, String),
    /// The source does not exist for this credential.
    Absent,
    /// The source exists and does not say it; why.
    Unreadable(String),
}

impl Resource {
    /// Returns the verdict, and the grants that it is based on. `granted` are the grants that the login named.
    ///
    /// # Errors
    /// Returns the failure of a call that says nothing about the grants: a rate limit, a network failure.
    pub(super) async fn privilege(
        &self,
        rules: &family_spec::Privilege,
        granted: Option<Vec<String>>,
        identity: IdentityResponse<'_>,
    ) -> Result<(Privilege, Vec<String>), Failure> {
        let unknown = |reason: String| (Privilege::Unknown { reason }, Vec::new());
        if self.binding.token.read_only {
            return Ok((Privilege::Ok, Vec::new()));
        }
        let method = rules.by_auth.get(&self.binding.auth);
        if let Some(method) = method.filter(|method| !method.over.is_empty()) {
            return Ok((Privilege::Over { grants: method.over.clone() }, Vec::new()));
        }
        if let Some(method) = method.filter(|method| !method.unknown.is_empty()) {
            return Ok(unknown(method.unknown.trim().to_string()));
        }
        if let Some(granted) = granted {
            return Ok((privilege::verdict(rules, &granted), granted));
        }
        let simple = [GrantSource { header: rules.header.clone(), field: rules.field.clone(), ..GrantSource::default() }];
        let own = method.map(|method| method.sources.as_slice()).filter(|sources| !sources.is_empty());
        let sources = own.or(Some(rules.sources.as_slice()).filter(|sources| !sources.is_empty())).unwrap_or(&simple);
        let mut reasons: Vec<String> = Vec::new();
        for source in sources {
            let (mut grants, mut complete) = (Vec::new(), true);
            for (at, part) in std::iter::once(source).chain(&source.and).enumerate() {
                match self.yielded(rules, part, identity).await? {
                    Yielded::Grants(more) => {
                        grants.extend(more);
                        if !part.partial.is_empty() {
                            complete = false;
                            reasons.push(part.partial.trim().to_string());
                        }
                    }
                    Yielded::Part(more, reason) => {
                        grants.extend(more);
                        complete = false;
                        reasons.push(reason);
                    }
                    Yielded::Absent => {
                        complete = false;
                        if at == 0 {
                            break;
                        }
                    }
                    Yielded::Unreadable(reason) => {
                        complete = false;
                        reasons.push(reason);
                    }
                }
            }
            // Grants that are too much are too much whatever the others are.
            let verdict = privilege::verdict(rules, &grants);
            if complete || matches!(verdict, Privilege::Over { .. }) {
                return Ok((verdict, grants));
            }
        }
        reasons.dedup();
        Ok(unknown(if reasons.is_empty() { rules.absent.trim().to_string() } else { reasons.join("; ") }))
    }

    async fn yielded(
        &self,
        rules: &family_spec::Privilege,
        source: &GrantSource,
        identity: IdentityResponse<'_>,
    ) -> Result<Yielded, Failure> {
        let separator = |default: &str| if source.separator.is_empty() { default.to_string() } else { source.separator.clone() };
        let comma = separator(if rules.separator.is_empty() { "," } else { &rules.separator });
        let token = &self.binding.token;
        let grants = if !source.header.is_empty() {
            let header = identity.response.and_then(|kept| kept.response.header(&source.header));
            header.map(|text| privilege::split(text, &comma))
        } else if !source.field.is_empty() {
            privilege::listed(identity.record.pointer(&source.field), &comma)
        } else if !source.claim.is_empty() {
            privilege::listed(token.claims.pointer(&source.claim), &separator(""))
        } else if source.granted {
            token.granted.clone()
        } else if !source.stream.is_empty() {
            return self.recorded(source).await;
        } else {
            None
        };
        Ok(grants.map_or(Yielded::Absent, |grants| Yielded::Grants(prefixed(source, grants))))
    }

    /// Reads the stream of a source.
    async fn recorded(&self, source: &GrantSource) -> Result<Yielded, Failure> {
        let named = self.named(std::slice::from_ref(&source.stream))?;
        let Some(stream) = named.streams.first() else { return Ok(Yielded::Absent) };
        let run = self.run();
        let records = match self.read(&run, stream, MAX_GRANT_RECORDS + 1, false).await {
            Ok(records) => records,
            // The verdict is optional: a call that egress does not send, or a server that the family can do without, does not
            // end the attempt.
            Err(failure)
                if is_about_the_stream(&failure)
                    || failure.class == Class::EgressRefused
                    || !source.partial.is_empty() && is_unreachable(&failure) =>
            {
                return Ok(Yielded::Unreadable(format!("{} cannot be read: {}", source.stream, reason(&failure))));
            }
            Err(failure) => return Err(failure),
        };
        let is_cut = records.len() > MAX_GRANT_RECORDS;
        let last = self.last_response(&source.stream);
        let last = last.and_then(|kept| serde_json::from_slice::<Json>(&kept.response.body).ok()).unwrap_or_default();
        let is_part = run.cut.load(Ordering::Relaxed) || source.is_cut(&last);
        let records: Vec<Json> = records.iter().map(json).collect();
        Ok(match privilege::of_records(source, &records) {
            Some(RecordedGrants { grants, is_partial }) => {
                // One record may name several grants, as a token's scopes do.
                let grants = match source.separator.is_empty() {
                    true => grants,
                    false => grants.iter().flat_map(|text| privilege::split(text, &source.separator)).collect(),
                };
                let (stream, grants) = (&source.stream, prefixed(source, grants));
                match (is_cut, is_partial) {
                    (true, _) => Yielded::Part(grants, format!("{stream} names more than {MAX_GRANT_RECORDS} grants")),
                    _ if is_part => Yielded::Part(grants, format!("{stream} has more pages than AAM reads")),
                    (_, true) => Yielded::Part(grants, format!("a record of {stream} does not have {}", source.grants)),
                    _ => Yielded::Grants(grants),
                }
            }
            None if is_part => Yielded::Unreadable(format!("{} has more pages than AAM reads", source.stream)),
            None if source.may_be_empty => Yielded::Grants(Vec::new()),
            None => Yielded::Unreadable(format!(
                "{} is empty: the credential has no such grants, or it is not allowed to see them",
                source.stream
            )),
        })
    }
}

fn prefixed(source: &GrantSource, grants: Vec<String>) -> Vec<String> {
    grants.into_iter().map(|grant| format!("{}{grant}", source.prefix)).collect()
}

/// Returns true if the server of a source that can do without did not answer.
fn is_unreachable(failure: &Failure) -> bool {
    matches!(failure.class, Class::Network | Class::EgressRefused | Class::BreakerOpen)
}

/// Returns true if the failure only means that this stream cannot be read. The identity is proven by then, so a rejection
/// does not mean that the credential is wrong.
fn is_about_the_stream(failure: &Failure) -> bool {
    super::open::skippable(failure) || failure.class == Class::CredentialRejected
}
