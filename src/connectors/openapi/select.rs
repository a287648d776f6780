//! Selects the operations for the health check and the tiny sync, and excludes those that the policy denies.

use super::operations::{Operation, Operations};
use super::parameters::GetRequest;
use super::records::RecordPath;
use super::server::{Servers, join};

use crate::model::{Class, Failure};
use crate::policy::FamilyPolicy;

/// The policy's rules for operations.
#[derive(Clone, Debug, Default)]
pub struct OperationRules {
    pub deny: Vec<String>,
    pub health_path: Option<String>,
}

impl OperationRules {
    /// Reads the rules for operations from the family's entry in the policy.
    #[must_use]
    pub fn from_policy(policy: &FamilyPolicy) -> OperationRules {
        OperationRules { deny: policy.deny_operations.clone(), health_path: policy.health_path.clone() }
    }

    /// Returns the request of an operation.
    ///
    /// # Errors
    /// The reason why the operation is never called: the policy denies it, or a required parameter does not have a value.
    pub fn callable<'a>(&self, operation: &'a Operation) -> Result<&'a GetRequest, String> {
        if let Some(pattern) = self.denies(&operation.name, &operation.path) {
            return Err(format!("the policy denies it (deny_operations: {pattern})"));
        }
        operation.call.as_ref().map_err(Clone::clone)
    }

    /// Returns the pattern that denies an operation. A pattern is an operationId or a path; `*` matches any characters.
    #[must_use]
    pub fn denies(&self, name: &str, path: &str) -> Option<&str> {
        self.deny.iter().map(String::as_str).find(|pattern| {
            let pattern = pattern.strip_prefix("GET ").unwrap_or(pattern);
            glob(pattern, name) || glob(pattern, path)
        })
    }
}

/// Whether `text` matches `pattern`, where `*` matches any characters. The time is at most proportional to the product of
/// both lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|c| *c == '*')
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

/// Selects the operation of the health check.
///
/// This is the policy's `health_path`. If the policy does not set it, it is the operation that the description marks with
/// `x-aam-health`, otherwise the first GET operation that needs no parameter and describes a JSON response.
///
/// # Errors
/// `Misconfigured` if there is no such operation, or if the policy denies its own `health_path`.
pub fn health_operation(
    operations: &Operations,
    rules: &OperationRules,
    servers: &Servers,
    extension: Option<&str>,
    fit: impl Fn(&Operation) -> CredentialFit,
) -> Result<Operation, Failure> {
    let usable = || operations.list.iter().filter(|operation| rules.callable(operation).is_ok());
    if let Some(path) = &rules.health_path {
        return policy_health_operation(operations, rules, servers, path, fit);
    }
    let extended = extension.and_then(|path| usable().find(|operation| same_path(&operation.path, path)));
    if let Some(operation) = extended.or_else(|| usable().find(|operation| operation.marked)) {
        return Ok(operation.clone());
    }
    let json = usable().filter(|operation| operation.answer.is_some());
    json.min_by_key(|operation| fit(operation)).cloned().ok_or_else(|| no_callable_operation(operations, rules))
}

fn policy_health_operation(
    operations: &Operations,
    rules: &OperationRules,
    servers: &Servers,
    path: &str,
    fit: impl Fn(&Operation) -> CredentialFit,
) -> Result<Operation, Failure> {
    let misconfigured = |title: String, fix: &str| Failure::new(Class::Misconfigured, title, fix);
    let bare = path.split('?').next().unwrap_or_default();
    let known = operations.list.iter().find(|operation| same_path(&operation.path, bare));
    if let Some(pattern) = rules.denies(known.map_or(bare, |operation| &operation.name), bare) {
        return Err(misconfigured(
            format!("the policy names {bare} as health_path but denies it with deny_operations: {pattern}"),
            "change families.openapi.health_path or families.openapi.deny_operations in the policy",
        ));
    }
    if let Some(operation) = known.filter(|operation| operation.call.is_ok() && !path.contains('?')) {
        return Ok(operation.clone());
    }
    // The path contains parameter values, or the description does not list it. The policy is reviewed, so it is used.
    let url = servers.base().and_then(|base| join(&base, path)).map_err(|message| {
        misconfigured(
            format!("the policy's health_path {bare} does not produce a valid URL: {message}"),
            "write families.openapi.health_path as a path below the server, for example /v1/status",
        )
    })?;
    let first = known.or_else(|| operations.list.iter().min_by_key(|operation| fit(operation)));
    Ok(Operation {
        name: bare.to_string(),
        path: bare.to_string(),
        call: Ok(GetRequest { url, headers: Vec::new() }),
        limit: None,
        security: first.map(|operation| operation.security.clone()).unwrap_or_default(),
        answer: known.and_then(|operation| operation.answer.clone()),
        marked: true,
    })
}

fn same_path(a: &str, b: &str) -> bool {
    a.trim_matches('/') == b.trim_matches('/')
}

fn no_callable_operation(operations: &Operations, rules: &OperationRules) -> Failure {
    let reasons: Vec<String> = operations
        .list
        .iter()
        .take(3)
        .map(|operation| match rules.callable(operation) {
            Err(reason) => format!("{}: {reason}", operation.path),
            Ok(_) => format!("{}: the description does not describe a JSON response for it", operation.path),
        })
        .collect();
    let title = match operations.reading {
        0 => "the description does not have a GET operation, and AAM only reads".to_string(),
        1 => "the only GET operation of the description cannot be called".to_string(),
        count => format!("none of the {count} GET operations of the description can be called"),
    };
    let fix = "name a path that returns JSON in the policy, for example: families: {openapi: {health_path: /v1/status}}";
    Failure::new(Class::Misconfigured, title, fix).detail(reasons.join("; "))
}

/// Selects the operation of the tiny sync: preferably a list, and preferably one whose page size can be limited.
#[must_use]
pub fn sample_operation<'a>(
    operations: &'a Operations,
    rules: &OperationRules,
    max_items: u32,
    fit: impl Fn(&Operation) -> CredentialFit,
) -> Option<&'a Operation> {
    let usable = operations.list.iter().filter(|operation| operation.answer.is_some() && rules.callable(operation).is_ok());
    usable.min_by_key(|operation| {
        let records = operation.answer.as_ref().map_or(&RecordPath::Single, |response| &response.path);
        let limited = operation.limit.as_ref().is_some_and(|limit| limit.value(max_items.into()) <= max_items.into());
        (!records.is_list(), fit(operation), !limited)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::openapi::operations::{ResponseSchema, SecurityRequirement};
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
            answer: Some(ResponseSchema::new(&locate_records(schema, path))),
            marked: false,
        }
    }

    fn operations(list: Vec<Operation>) -> Operations {
        Operations { reading: list.len(), list, ..Operations::default() }
    }

    fn servers() -> Servers {
        let root = json!({});
        Servers::read(
            super::super::refs::Node { document: 0, value: &root },
            &Url::parse("https://a.example/openapi.json").unwrap(),
            None,
        )
        .unwrap()
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

    #[test]
    fn a_credential_is_proven_on_a_secured_operation() {
        let all = operations(vec![operation("/a", false, false, vec![]), operation("/b", false, false, secured())]);
        assert_eq!(health_operation(&all, &OperationRules::default(), &servers(), None, with_credential).unwrap().path, "/b");
        assert_eq!(health_operation(&all, &OperationRules::default(), &servers(), None, without_credential).unwrap().path, "/a");
    }

    #[test]
    fn denied_operations_are_never_chosen() {
        let all = operations(vec![operation("/a", true, true, vec![]), operation("/b/c", true, true, vec![])]);
        for deny in ["get/a", "/a", "GET /a", "*a"] {
            let rules = OperationRules { deny: vec![deny.into()], health_path: None };
            assert_eq!(
                health_operation(&all, &rules, &servers(), Some("/a"), without_credential).unwrap().path,
                "/b/c",
                "{deny}"
            );
            assert_eq!(sample_operation(&all, &rules, 20, without_credential).unwrap().path, "/b/c", "{deny}");
        }
        let rules = OperationRules { deny: vec!["/*".into()], health_path: None };
        assert_eq!(health_operation(&all, &rules, &servers(), None, without_credential).unwrap_err().class, Class::Misconfigured);
        assert!(sample_operation(&all, &rules, 20, without_credential).is_none());
        let named = OperationRules { deny: vec!["/b/*".into()], health_path: Some("/b/c?x=1".into()) };
        assert_eq!(health_operation(&all, &named, &servers(), None, without_credential).unwrap_err().class, Class::Misconfigured);
    }

    #[test]
    fn the_policy_may_name_a_path_that_the_description_does_not_list() {
        let rules = OperationRules { deny: vec![], health_path: Some("/status".into()) };
        let chosen = health_operation(
            &operations(vec![operation("/a", true, true, secured())]),
            &rules,
            &servers(),
            None,
            with_credential,
        )
        .unwrap();
        assert_eq!(chosen.call.unwrap().url.as_str(), "https://a.example/status");
        assert_eq!(chosen.security, secured());
    }

    #[test]
    fn the_tiny_sync_prefers_a_limited_list() {
        let all = operations(vec![
            operation("/a", false, false, vec![]),
            operation("/b", true, false, vec![]),
            operation("/c", true, true, vec![]),
        ]);
        assert_eq!(sample_operation(&all, &OperationRules::default(), 20, without_credential).unwrap().path, "/c");
    }

    #[test]
    fn limits_respect_the_description() {
        let limit = |minimum, maximum, allowed: &[u64]| {
            PageLimit { name: "limit".into(), minimum, maximum, allowed: allowed.to_vec() }.value(20)
        };
        assert_eq!((limit(1, 100, &[]), limit(1, 5, &[]), limit(50, 100, &[])), (20, 5, 50));
        assert_eq!((limit(1, 100, &[10, 25, 50]), limit(1, 100, &[25, 50])), (10, 25));
    }

    #[test]
    fn globs() {
        for (pattern, text, yes) in [
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c*", "abc", true),
            ("abc", "abc", true),
            ("ab", "abc", false),
            ("*", "", true),
            ("", "a", false),
            ("a*b", "acb", true),
            ("a*b", "acbx", false),
        ] {
            assert_eq!(glob(pattern, text), yes, "{pattern} {text}");
        }
    }
}
