//! What the credentials may do beyond reading, as the latest attempts found it, and what takes the excess away.
//!
//! The verdict is evidence of the upsert step. It is recorded with the attempt and read from there, so nothing is asked of a
//! source here.

use crate::families::{self, removal::Removal};
use crate::model::{ConnectionId, Evidence, Intent, State, Step, StepReport, Timestamp};
use crate::snapshot::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// The number of different reasons that are listed.
pub const MAX_REASONS: usize = 100;

/// What is known about the privileges of a credential, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum PrivilegeVerdict {
    /// It can do more than read.
    Over,
    /// The source does not say what it may do.
    Unknown,
    /// No attempt has asked yet, or none got that far.
    NotChecked,
    /// It only reads, as the source says.
    Ok,
}

impl PrivilegeVerdict {
    /// All verdicts.
    pub const ALL: [PrivilegeVerdict; 4] =
        [PrivilegeVerdict::Over, PrivilegeVerdict::Unknown, PrivilegeVerdict::NotChecked, PrivilegeVerdict::Ok];

    /// Returns the name in the API and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PrivilegeVerdict::Over => "over",
            PrivilegeVerdict::Unknown => "unknown",
            PrivilegeVerdict::NotChecked => "not_checked",
            PrivilegeVerdict::Ok => "ok",
        }
    }

    /// Parses the name.
    #[must_use]
    pub fn parse(text: &str) -> Option<PrivilegeVerdict> {
        PrivilegeVerdict::ALL.into_iter().find(|verdict| verdict.as_str() == text.trim().to_ascii_lowercase())
    }
}

/// The privileges of a connection's credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionPrivilege {
    pub connection_id: String,
    pub namespace: String,
    pub source_type: String,
    #[schema(value_type = State)]
    pub status: String,
    /// `owner.user` of the intent; empty if the intent cannot be read.
    pub owner: String,
    /// Where the credential is stored; null if the source needs none. Without a credential, the rights are those of the user
    /// that runs AAM.
    pub credential_locator: Option<String>,
    /// The most important verdict of the resources.
    pub verdict: PrivilegeVerdict,
    /// When the verdict was recorded. A later check that found the same has no entry of its own.
    pub found_at: Option<String>,
    /// When the connection was last checked.
    pub checked_at: Option<String>,
    /// The least privilege that AAM needs, in the vendor's terms.
    pub least_privilege: String,
    pub resources: Vec<ResourcePrivilege>,
}

/// The privileges on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourcePrivilege {
    pub resource_id: String,
    pub verdict: PrivilegeVerdict,
    /// The excess permissions, as the source names them.
    pub grants: Vec<String>,
    /// Statements that an administrator pastes into the source to take the excess away.
    pub statements: Vec<String>,
    /// What an administrator does where no statement can do it.
    pub steps: Vec<String>,
    /// Why the verdict is unknown or missing; empty otherwise.
    pub reason: String,
}

/// The number of connections with each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrivilegeTotals {
    /// Those whose credential can do more than read.
    pub over: usize,
    pub unknown: usize,
    pub not_checked: usize,
    /// Those whose credential only reads, as the source says.
    pub ok: usize,
}

/// Why verdicts are unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnknownReason {
    pub source_type: String,
    pub reason: String,
    /// The number of connections.
    pub connections: usize,
}

/// Which connections are listed.
#[derive(Clone, Debug, Default)]
pub struct PrivilegeFilter {
    /// Empty for every state.
    pub states: Vec<State>,
    /// Empty for every family.
    pub families: Vec<String>,
    /// A part of the owner's name, without regard to case.
    pub owner: Option<String>,
    /// Leaves out verdicts that were found before.
    pub since: Option<Timestamp>,
    /// Empty for every verdict. The totals count all of them.
    pub verdicts: Vec<PrivilegeVerdict>,
}

/// What was collected.
#[derive(Clone, Debug, Default)]
pub struct Privileges {
    pub totals: PrivilegeTotals,
    /// The most frequent first, at most [`MAX_REASONS`].
    pub unknown: Vec<UnknownReason>,
    /// In order of verdict, source type and id.
    pub connections: Vec<ConnectionPrivilege>,
}

/// Collects the privileges of those `connections` that are not retired. `body` returns the body of a ledger entry.
#[must_use]
pub fn collect(
    connections: &[(ConnectionId, Connection)],
    filter: &PrivilegeFilter,
    mut body: impl FnMut(u64) -> Option<String>,
) -> Privileges {
    let mut all = Privileges::default();
    let mut reasons: BTreeMap<(String, String), usize> = BTreeMap::new();
    let owner = filter.owner.as_ref().map(|owner| owner.to_lowercase());
    for (id, connection) in connections {
        let (state, family) = (connection.state(), &connection.source_type);
        if state == State::Retired
            || !(filter.states.is_empty() || filter.states.contains(&state))
            || !(filter.families.is_empty() || filter.families.iter().any(|wanted| wanted.eq_ignore_ascii_case(family)))
        {
            continue;
        }
        let intent = body(connection.document).and_then(|text| serde_json::from_str::<Intent>(&text).ok());
        if let Some(owner) = &owner
            && !intent.as_ref().is_some_and(|intent| intent.owner.user.to_lowercase().contains(owner))
        {
            continue;
        }
        let (found, at) = of_connection(*id, connection, intent.as_ref(), &mut body);
        if filter.since.is_some_and(|since| at.is_none_or(|at| at < since)) {
            continue;
        }
        all.totals.count(found.verdict);
        if found.verdict == PrivilegeVerdict::Unknown {
            let why: BTreeSet<&str> = found.resources.iter().map(|resource| resource.reason.as_str()).collect();
            for reason in why.into_iter().filter(|reason| !reason.is_empty()) {
                *reasons.entry((found.source_type.clone(), reason.to_string())).or_default() += 1;
            }
        }
        if filter.verdicts.is_empty() || filter.verdicts.contains(&found.verdict) {
            all.connections.push(found);
        }
    }
    all.connections
        .sort_by(|a, b| (a.verdict, &a.source_type, &a.connection_id).cmp(&(b.verdict, &b.source_type, &b.connection_id)));
    all.unknown = most_frequent(reasons);
    all
}

fn most_frequent(reasons: BTreeMap<(String, String), usize>) -> Vec<UnknownReason> {
    let mut all: Vec<UnknownReason> = reasons
        .into_iter()
        .map(|((source_type, reason), connections)| UnknownReason { source_type, reason, connections })
        .collect();
    all.sort_by_key(|reason| std::cmp::Reverse(reason.connections));
    all.truncate(MAX_REASONS);
    all
}

impl PrivilegeTotals {
    fn count(&mut self, verdict: PrivilegeVerdict) {
        match verdict {
            PrivilegeVerdict::Over => self.over += 1,
            PrivilegeVerdict::Unknown => self.unknown += 1,
            PrivilegeVerdict::NotChecked => self.not_checked += 1,
            PrivilegeVerdict::Ok => self.ok += 1,
        }
    }
}

/// Returns the privileges of one connection, and when they were found.
fn of_connection(
    id: ConnectionId,
    connection: &Connection,
    intent: Option<&Intent>,
    mut body: impl FnMut(u64) -> Option<String>,
) -> (ConnectionPrivilege, Option<Timestamp>) {
    // The latest attempt may have ended before it asked the source.
    let attempts = [&connection.last, &connection.conclusive, &connection.proven].map(Option::as_ref);
    let mut seen = BTreeSet::new();
    let evidence = attempts.into_iter().flatten().filter(|attempt| seen.insert(attempt.seq)).find_map(|attempt| {
        let steps: Vec<StepReport> = serde_json::from_str(&body(attempt.seq)?).ok()?;
        let upsert = steps.into_iter().find(|report| report.step == Step::Upsert && !report.evidence.is_empty())?;
        Some((attempt.at, upsert.evidence))
    });
    let ids: &[String] = intent.map(|intent| intent.resource_ids.as_slice()).unwrap_or_default();
    let resources: Vec<ResourcePrivilege> = match &evidence {
        Some((_, evidence)) => of_evidence(&connection.source_type, ids, evidence),
        None => Vec::new(),
    };
    let verdict = resources.iter().map(|resource| resource.verdict).min().unwrap_or(PrivilegeVerdict::NotChecked);
    let at = evidence.map(|(at, _)| at);
    let family = families::find(&connection.source_type);
    let privilege = ConnectionPrivilege {
        connection_id: id.to_string(),
        namespace: connection.namespace.to_string(),
        source_type: connection.source_type.to_string(),
        status: connection.state().as_str().to_string(),
        owner: intent.map(|intent| intent.owner.user.clone()).unwrap_or_default(),
        credential_locator: intent.and_then(|intent| Some(intent.credential_locator.as_ref()?.to_string())),
        verdict,
        found_at: at.map(Timestamp::rfc3339),
        checked_at: connection.last_checked().map(Timestamp::rfc3339),
        least_privilege: family.map(|family| family.least_privilege.trim().to_string()).unwrap_or_default(),
        resources,
    };
    (privilege, at)
}

/// Returns the verdicts in the evidence of the upsert step: of one resource, or of several by their ids.
fn of_evidence(source_type: &str, ids: &[String], evidence: &Evidence) -> Vec<ResourcePrivilege> {
    if evidence.contains_key("privilege") {
        return vec![of_resource(source_type, ids.first().map(String::as_str).unwrap_or_default(), evidence)];
    }
    let each = evidence.iter().filter_map(|(id, value)| Some((id, value.as_object()?)));
    each.filter(|(_, identity)| identity.contains_key("privilege"))
        .map(|(id, identity)| of_resource(source_type, id, identity))
        .collect()
}

fn of_resource(source_type: &str, resource_id: &str, identity: &Evidence) -> ResourcePrivilege {
    let recorded = identity.get("privilege").unwrap_or(&Value::Null);
    let texts = |key: &str| -> Vec<String> {
        let list = recorded.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_string).collect()
    };
    let mut found = ResourcePrivilege {
        resource_id: resource_id.to_string(),
        verdict: recorded
            .get("verdict")
            .and_then(Value::as_str)
            .and_then(PrivilegeVerdict::parse)
            .unwrap_or(PrivilegeVerdict::Unknown),
        grants: texts("grants"),
        statements: texts("statements"),
        steps: Vec::new(),
        reason: recorded.get("reason").and_then(Value::as_str).unwrap_or_default().to_string(),
    };
    if found.verdict == PrivilegeVerdict::Over && found.statements.is_empty() {
        add_removal(source_type, &mut found, identity);
    }
    found
}

/// Adds what the family says about the grants. What it does not say is taken away by another credential.
fn add_removal(source_type: &str, found: &mut ResourcePrivilege, identity: &Evidence) {
    let family = families::find(source_type);
    let rules = family.map(|family| family.removal.as_slice()).unwrap_or_default();
    let removal = Removal::new(rules, &found.grants, identity, &found.resource_id);
    found.statements = removal.statements;
    found.steps = removal.steps;
    if !removal.others.is_empty() || (found.statements.is_empty() && found.steps.is_empty()) {
        let others = removal.others.join(", ");
        let what = if others.is_empty() { String::new() } else { format!(", which takes {others} away") };
        found.steps.push(match family {
            Some(family) => format!(
                "replace the credential by one with the least privilege{what}: {}; aam families {source_type} says how to grant it",
                family.least_privilege.trim()
            ),
            None => format!("replace the credential by one that may only read what the manifest reads{what}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn evidence(value: Value) -> Evidence {
        value.as_object().cloned().unwrap_or_default()
    }

    fn over(grants: &[&str]) -> Value {
        json!({"verdict": "over", "grants": grants})
    }

    #[test]
    fn recorded_statements_come_first_and_rules_fill_the_gap() {
        let ids = ["a".to_string()];
        let recorded = json!({"user": "aam", "privilege": {"verdict": "over", "grants": ["CREATEDB"], "statements": ["X;"]}});
        let found = of_evidence("postgres", &ids, &evidence(recorded));
        assert_eq!((found[0].statements.as_slice(), found[0].steps.len()), (["X;".to_string()].as_slice(), 0));
        let earlier = json!({"user": "aam", "privilege": over(&["CREATEDB", "INSERT on table \"s\".\"t\"", "and write access to 3 more tables"])});
        let found = of_evidence("postgres", &ids, &evidence(earlier));
        assert_eq!(found[0].statements, ["ALTER ROLE \"aam\" NOCREATEDB;", "REVOKE INSERT ON TABLE \"s\".\"t\" FROM \"aam\";"]);
        let custom = of_evidence("my_source", &ids, &evidence(json!({"privilege": over(&["admin"])})));
        assert!(custom[0].steps[0].contains("takes admin away"), "{custom:?}");
    }

    #[test]
    fn each_resource_has_its_verdict() {
        let several = json!({
            "one": {"privilege": {"verdict": "ok"}},
            "two": {"privilege": {"verdict": "unknown", "reason": "no scopes"}},
            "odd": "text",
        });
        let found = of_evidence("github", &[], &evidence(several));
        let verdicts: Vec<_> = found.iter().map(|found| (found.resource_id.as_str(), found.verdict)).collect();
        assert_eq!(verdicts, [("one", PrivilegeVerdict::Ok), ("two", PrivilegeVerdict::Unknown)]);
        assert_eq!(found[1].reason, "no scopes");
    }

    /// Every family whose verdict can be over has a step or statement for whatever it reports.
    #[test]
    fn every_family_says_how_its_excess_is_taken_away() {
        for family in families::all() {
            let found = of_evidence(&family.id, &[], &evidence(json!({"privilege": over(&["everything"])})));
            assert!(!found[0].steps.is_empty() || !found[0].statements.is_empty(), "{}", family.id);
        }
    }
}
