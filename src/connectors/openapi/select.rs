//! Selects the operations for the health check and the tiny sync, and excludes those that must not be called.

use super::explain;
use super::operations::{Obstacle, Operation, Operations, Uncallable};
use super::parameters::GetRequest;
use super::records::ResponseRecords;
use super::server::{Servers, join};
use super::settings::ServiceSettings;
use super::side_effects::NameRisk;
use crate::model::text::matches_glob;
use crate::model::{Class, Failure};
use std::borrow::Cow;

/// Returns the request of an operation.
///
/// # Errors
/// The reason why the operation is never called.
pub fn callable<'a>(operation: &'a Operation, settings: &ServiceSettings) -> Result<&'a GetRequest, Uncallable> {
    if let Some(pattern) = denies(settings, &operation.name, &operation.path) {
        return Err(Uncallable::new(Obstacle::Denied, format!("the policy denies it (deny_operations: {pattern})")));
    }
    if let NameRisk::SideEffect(name) = &operation.risk {
        return Err(Uncallable::new(Obstacle::SideEffect, format!("its name suggests a side effect or a secret ({name})")));
    }
    operation.call.as_ref().map_err(Clone::clone)
}

/// Returns the pattern of the policy that denies an operation. A pattern is an operationId or a path; `*` matches any
/// characters.
#[must_use]
pub fn denies<'a>(settings: &'a ServiceSettings, name: &str, path: &str) -> Option<&'a str> {
    settings.deny.iter().map(String::as_str).find(|pattern| {
        let pattern = pattern.strip_prefix("GET ").unwrap_or(pattern);
        matches_glob(pattern, name) || matches_glob(pattern, path)
    })
}

/// How well the credential fits an operation. Smaller values are better.
///
/// Operations that use the credential come first, because a call without it proves nothing about it.
/// Operations without security follow, and then those that need another credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CredentialFit {
    /// The operation uses the scheme that most operations accept this credential for.
    MainScheme,
    /// The credential can be sent, but most operations use another scheme.
    OtherScheme,
    /// The operation does not need a credential.
    NoCredential,
    /// The operation needs another credential.
    Unsatisfied,
}

/// The operations to call, in this order, until one works. Never empty.
pub type Candidates<'a> = Vec<Cow<'a, Operation>>;

/// Selects the operations of the health check.
///
/// If the policy sets `health_path`, or the description marks an operation with `x-aam-health`, that operation alone decides.
///
/// # Errors
/// `Misconfigured` if there is no such operation, or if the policy denies its own `health_path`.
pub fn health_candidates<'a>(
    operations: &'a Operations,
    settings: &ServiceSettings,
    servers: &Servers,
    extension: Option<&str>,
    fit: impl Fn(&Operation) -> CredentialFit,
) -> Result<Candidates<'a>, Failure> {
    if let Some(path) = &settings.health_path {
        return Ok(vec![Cow::Owned(policy_operation(operations, settings, servers, path, fit)?)]);
    }
    let usable = || operations.list.iter().filter(|operation| callable(operation, settings).is_ok());
    let extended = extension.and_then(|path| usable().find(|operation| same_path(&operation.path, path)));
    if let Some(operation) = extended.or_else(|| usable().find(|operation| operation.marked)) {
        return Ok(vec![Cow::Borrowed(operation)]);
    }
    let found = described_candidates(operations, settings, 1, fit);
    if found.is_empty() { Err(explain::nothing_callable(operations, settings)) } else { Ok(found) }
}

/// Selects the operations of the tiny sync. The `health_path` of the policy is one of them: it comes first if it may return
/// a list, otherwise last.
///
/// # Errors
/// `Misconfigured` if there is no such operation.
pub fn sample_candidates<'a>(
    operations: &'a Operations,
    settings: &ServiceSettings,
    servers: &Servers,
    max_items: u32,
    fit: impl Fn(&Operation) -> CredentialFit,
) -> Result<Candidates<'a>, Failure> {
    let mut found = described_candidates(operations, settings, max_items, &fit);
    if let Some(path) = &settings.health_path {
        let named = policy_operation(operations, settings, servers, path, &fit)?;
        found.retain(|operation| operation.path != named.path);
        let at = if named.is_list() || !named.is_described() { 0 } else { found.len() };
        found.insert(at, Cow::Owned(named));
    }
    if found.is_empty() { Err(explain::nothing_callable(operations, settings)) } else { Ok(found) }
}

/// The operations of the description that can be called and may return JSON, the best first: deprecated and sensitive ones
/// come last, lists first, and among them those whose response is described and whose page size can be limited.
///
/// Only operations that the credential fits best are candidates. A response of an operation without security would not prove
/// that the credential works, and another scheme would refuse it although the service accepts it.
fn described_candidates<'a>(
    operations: &'a Operations,
    settings: &ServiceSettings,
    max_items: u32,
    fit: impl Fn(&Operation) -> CredentialFit,
) -> Candidates<'a> {
    let usable = operations.list.iter().filter(|operation| operation.answer.is_some() && callable(operation, settings).is_ok());
    let mut found: Vec<(CredentialFit, &Operation)> = usable.map(|operation| (fit(operation), operation)).collect();
    let best = found.iter().map(|(fit, _)| *fit).min().unwrap_or(CredentialFit::Unsatisfied);
    found.retain(|(fit, _)| *fit == best);
    found.sort_by_key(|(_, operation)| {
        let last = operation.deprecated || operation.risk != NameRisk::Harmless;
        let limited = operation.limit.as_ref().is_some_and(|limit| limit.value(max_items.into()) <= max_items.into());
        (last, !operation.is_list(), !operation.is_described(), !limited)
    });
    found.into_iter().map(|(_, operation)| Cow::Borrowed(operation)).collect()
}

/// The operation at the `health_path` of the policy. The policy is reviewed, so the names of the path do not matter.
fn policy_operation(
    operations: &Operations,
    settings: &ServiceSettings,
    servers: &Servers,
    path: &str,
    fit: impl Fn(&Operation) -> CredentialFit,
) -> Result<Operation, Failure> {
    let bare = path.split('?').next().unwrap_or_default();
    let known = operations.list.iter().find(|operation| same_path(&operation.path, bare));
    if let Some(pattern) = denies(settings, known.map_or(bare, |operation| &operation.name), bare) {
        return Err(Failure::new(
            Class::Misconfigured,
            format!("the policy names {bare} as health_path but denies it with deny_operations: {pattern}"),
            format!("name another path: {}", settings.fix("health_path: /v1/status")),
        ));
    }
    if let Some(operation) = known.filter(|operation| operation.call.is_ok() && !path.contains('?')) {
        return Ok(Operation { risk: NameRisk::Harmless, ..operation.clone() });
    }
    // The path contains parameter values, or the description does not list it.
    let url = servers.base().and_then(|base| join(&base, path)).map_err(|message| {
        Failure::new(
            Class::Misconfigured,
            format!("the policy's health_path {bare} does not produce a valid URL: {message}"),
            format!("name a path below the server: {}", settings.fix("health_path: /v1/status")),
        )
    })?;
    let template = known.or_else(|| operations.list.iter().find(|operation| fits_template(&operation.path, bare)));
    let first = template.or_else(|| operations.list.iter().min_by_key(|operation| fit(operation)));
    Ok(Operation {
        name: bare.to_string(),
        path: bare.to_string(),
        call: Ok(GetRequest { url, headers: Vec::new() }),
        limit: None,
        security: first.map(|operation| operation.security.clone()).unwrap_or_default(),
        answer: template.and_then(|operation| operation.answer.clone()).or_else(|| Some(ResponseRecords::unknown())),
        marked: true,
        deprecated: false,
        named_like_a_list: false,
        risk: NameRisk::Harmless,
    })
}

fn same_path(a: &str, b: &str) -> bool {
    a.trim_matches('/') == b.trim_matches('/')
}

/// Whether `path` is the templated path with values: `/teams/7/members` for `/teams/{id}/members`.
fn fits_template(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.trim_matches('/').split('/'), path.trim_matches('/').split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(part), Some(value)) if part == value || (part.starts_with('{') && part.ends_with('}')) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::openapi::operations::SecurityRequirement;
    use crate::connectors::openapi::parameters::PageLimit;
    use crate::connectors::openapi::records::locate_records;
    use serde_json::json;
    use url::Url;

    fn operation(path: &str, list: bool, limit: bool, security: Vec<SecurityRequirement>) -> Operation {
        let schema = if list { json!({"type": "array"}) } else { json!({"type": "object"}) };
        Operation {
            name: format!("get{path}"),
            path: path.into(),
            call: Ok(GetRequest { url: Url::parse("https://a.example").unwrap().join(path).unwrap(), headers: vec![] }),
            limit: limit.then(|| PageLimit { name: "limit".into(), minimum: 1, maximum: 100, allowed: vec![] }),
            security,
            answer: Some(locate_records(schema, path)),
            marked: false,
            deprecated: false,
            named_like_a_list: false,
            risk: NameRisk::Harmless,
        }
    }

    fn operations(list: Vec<Operation>) -> Operations {
        Operations { reading: list.len(), list, ..Operations::default() }
    }

    fn servers() -> Servers {
        let root = json!({});
        let node = super::super::refs::Node { document: 0, value: &root };
        let url = Url::parse("https://a.example/openapi.json").unwrap();
        Servers::read(node, &url, &ServiceSettings::default()).unwrap()
    }

    fn with_credential(operation: &Operation) -> CredentialFit {
        if operation.security.is_empty() { CredentialFit::NoCredential } else { CredentialFit::MainScheme }
    }

    fn without_credential(operation: &Operation) -> CredentialFit {
        if operation.security.is_empty() { CredentialFit::NoCredential } else { CredentialFit::Unsatisfied }
    }

    fn secured() -> Vec<SecurityRequirement> {
        vec![vec![("bearer".into(), vec![])]]
    }

    fn settings(deny: &[&str], health_path: Option<&str>) -> ServiceSettings {
        ServiceSettings {
            deny: deny.iter().map(ToString::to_string).collect(),
            health_path: health_path.map(str::to_string),
            ..ServiceSettings::default()
        }
    }

    fn paths(candidates: Result<Candidates<'_>, Failure>) -> Vec<String> {
        candidates.unwrap().iter().map(|operation| operation.path.clone()).collect()
    }

    fn health(all: &Operations, settings: &ServiceSettings, fit: fn(&Operation) -> CredentialFit) -> Vec<String> {
        paths(health_candidates(all, settings, &servers(), None, fit))
    }

    fn sample(all: &Operations, settings: &ServiceSettings) -> Vec<String> {
        paths(sample_candidates(all, settings, &servers(), 20, without_credential))
    }

    #[test]
    fn a_credential_is_proven_on_a_secured_operation() {
        let all = operations(vec![operation("/a", false, false, vec![]), operation("/b", false, false, secured())]);
        assert_eq!(health(&all, &settings(&[], None), with_credential), ["/b"]);
        assert_eq!(health(&all, &settings(&[], None), without_credential), ["/a"]);
    }

    #[test]
    fn denied_operations_are_never_chosen() {
        let all = operations(vec![operation("/a", true, true, vec![]), operation("/b/c", true, true, vec![])]);
        for deny in ["get/a", "/a", "GET /a", "*a"] {
            let settings = settings(&[deny], None);
            let found = health_candidates(&all, &settings, &servers(), Some("/a"), without_credential);
            assert_eq!(paths(found), ["/b/c"], "{deny}");
            assert_eq!(sample(&all, &settings), ["/b/c"], "{deny}");
        }
        for rules in [settings(&["/*"], None), settings(&["/b/*"], Some("/b/c?x=1"))] {
            let failure = health_candidates(&all, &rules, &servers(), None, without_credential).unwrap_err();
            assert_eq!(failure.class, Class::Misconfigured);
            assert!(sample_candidates(&all, &rules, &servers(), 20, without_credential).is_err());
        }
    }

    #[test]
    fn names_with_side_effects_are_never_chosen_unless_the_policy_names_them() {
        let mut logout = operation("/logout", true, true, vec![]);
        (logout.risk, logout.marked) = (NameRisk::SideEffect("logout".into()), true);
        let all = operations(vec![logout, operation("/things", false, false, vec![])]);
        assert_eq!(health(&all, &settings(&[], None), without_credential), ["/things"]);
        assert_eq!(sample(&all, &settings(&[], None)), ["/things"]);
        assert_eq!(health(&all, &settings(&[], Some("/logout")), without_credential), ["/logout"]);
    }

    #[test]
    fn lists_come_first_and_deprecated_and_sensitive_operations_last() {
        let mut all = operations(vec![
            operation("/a", false, false, vec![]),
            operation("/b", true, false, vec![]),
            operation("/c", true, true, vec![]),
            operation("/d", true, true, vec![]),
            operation("/e", true, true, vec![]),
            operation("/f", false, false, vec![]),
        ]);
        all.list[2].deprecated = true;
        all.list[3].risk = NameRisk::Sensitive("tokens".into());
        (all.list[5].answer, all.list[5].named_like_a_list) = (Some(ResponseRecords::unknown()), true);
        assert_eq!(sample(&all, &settings(&[], None)), ["/e", "/b", "/f", "/a", "/c", "/d"]);
        assert_eq!(health(&all, &settings(&[], None), without_credential), ["/e", "/b", "/f", "/a", "/c", "/d"]);
    }

    #[test]
    fn the_policy_may_name_a_path_that_the_description_does_not_list() {
        let all = operations(vec![operation("/a", true, true, secured()), operation("/teams/{id}/users", true, true, vec![])]);
        let find = |path: &str| {
            let settings = settings(&[], Some(path));
            let found = sample_candidates(&all, &settings, &servers(), 20, with_credential).unwrap();
            found[0].clone().into_owned()
        };
        let chosen = find("/status");
        assert_eq!(chosen.call.unwrap().url.as_str(), "https://a.example/status");
        assert_eq!(chosen.security, secured());
        let chosen = find("/teams/7/users?x=1");
        assert_eq!(chosen.call.as_ref().unwrap().url.as_str(), "https://a.example/teams/7/users?x=1");
        assert!(chosen.is_list() && chosen.security.is_empty());
    }

    #[test]
    fn limits_respect_the_description() {
        let limit = |minimum, maximum, allowed: &[u64]| {
            PageLimit { name: "limit".into(), minimum, maximum, allowed: allowed.to_vec() }.value(20)
        };
        assert_eq!((limit(1, 100, &[]), limit(1, 5, &[]), limit(50, 100, &[])), (20, 5, 50));
        assert_eq!((limit(1, 100, &[10, 25, 50]), limit(1, 100, &[25, 50])), (10, 25));
    }
}
