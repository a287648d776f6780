//! Which operations are called: the health operation and the tiny one, and which never are.

use super::operations::{Operation, Operations};
use super::parameters::Call;
use super::server::{Servers, join};
use super::streams::Place;
use crate::model::{Class, Failure};
use crate::policy::FamilyPolicy;

/// What the policy says about operations.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub deny: Vec<String>,
    pub health_path: Option<String>,
}

impl Rules {
    /// The part of a family's policy that concerns operations.
    #[must_use]
    pub fn of(policy: &FamilyPolicy) -> Rules {
        Rules { deny: policy.deny_operations.clone(), health_path: policy.health_path.clone() }
    }

    /// The call of an operation.
    ///
    /// # Errors
    /// Why it is never made: the policy denies it, or a required parameter has no value.
    pub fn callable<'a>(&self, operation: &'a Operation) -> Result<&'a Call, String> {
        if let Some(pattern) = self.denies(&operation.name, &operation.path) {
            return Err(format!("the policy's deny_operations names {pattern}"));
        }
        operation.call.as_ref().map_err(Clone::clone)
    }

    /// The pattern that forbids an operation. A pattern is an operationId or a path; `*` stands for anything.
    #[must_use]
    pub fn denies(&self, name: &str, path: &str) -> Option<&str> {
        self.deny.iter().map(String::as_str).find(|pattern| {
            let pattern = pattern.strip_prefix("GET ").unwrap_or(pattern);
            glob(pattern, name) || glob(pattern, path)
        })
    }
}

/// Whether `text` matches `pattern`, where `*` stands for any characters. Linear in practice, never
/// worse than the product of the lengths.
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

/// How well the credential fits an operation; less is better.
///
/// An operation that takes the credential sorts first: an open call proves nothing about it. Then
/// come the open ones, and last those that want another credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    Proves,
    /// It could be sent here too, but most of the service uses another scheme.
    Guess,
    Open,
    Lacks,
}

/// The operation of the health check.
///
/// The policy's `health_path`, else the operation that the description marks with `x-aam-health`,
/// else the first GET that needs no parameter and promises JSON.
///
/// # Errors
/// `Misconfigured` when there is none, or the policy denies the one it names.
pub fn health(
    operations: &Operations,
    rules: &Rules,
    servers: &Servers,
    extension: Option<&str>,
    fit: impl Fn(&Operation) -> Fit,
) -> Result<Operation, Failure> {
    let usable = || operations.list.iter().filter(|operation| rules.callable(operation).is_ok());
    if let Some(path) = &rules.health_path {
        return by_policy(operations, rules, servers, path, fit);
    }
    let extended = extension.and_then(|path| usable().find(|operation| same_path(&operation.path, path)));
    if let Some(operation) = extended.or_else(|| usable().find(|operation| operation.marked)) {
        return Ok(operation.clone());
    }
    let json = usable().filter(|operation| operation.answer.is_some());
    json.min_by_key(|operation| fit(operation)).cloned().ok_or_else(|| nothing(operations, rules))
}

fn by_policy(
    operations: &Operations,
    rules: &Rules,
    servers: &Servers,
    path: &str,
    fit: impl Fn(&Operation) -> Fit,
) -> Result<Operation, Failure> {
    let misconfigured = |title: String, fix: &str| Failure::new(Class::Misconfigured, title, fix);
    let bare = path.split('?').next().unwrap_or_default();
    let known = operations.list.iter().find(|operation| same_path(&operation.path, bare));
    if let Some(pattern) = rules.denies(known.map_or(bare, |operation| &operation.name), bare) {
        return Err(misconfigured(
            format!("the policy names {bare} as health_path and denies it by {pattern}"),
            "change families.openapi.health_path or deny_operations in the policy",
        ));
    }
    if let Some(operation) = known.filter(|operation| operation.call.is_ok() && !path.contains('?')) {
        return Ok(operation.clone());
    }
    // A path with values, or one that the description leaves out. A person put it into the policy.
    let url = servers.base().and_then(|base| join(&base, path)).map_err(|words| {
        misconfigured(
            format!("the policy's health_path {bare} makes no address: {words}"),
            "write families.openapi.health_path as a path below the server, for example /v1/status",
        )
    })?;
    let first = known.or_else(|| operations.list.iter().min_by_key(|operation| fit(operation)));
    Ok(Operation {
        name: bare.to_string(),
        path: bare.to_string(),
        call: Ok(Call { url, headers: Vec::new() }),
        limit: None,
        security: first.map(|operation| operation.security.clone()).unwrap_or_default(),
        answer: known.and_then(|operation| operation.answer.clone()),
        marked: true,
    })
}

fn same_path(a: &str, b: &str) -> bool {
    a.trim_matches('/') == b.trim_matches('/')
}

fn nothing(operations: &Operations, rules: &Rules) -> Failure {
    let reasons: Vec<String> = operations
        .list
        .iter()
        .take(3)
        .map(|operation| match rules.callable(operation) {
            Err(reason) => format!("{}: {reason}", operation.path),
            Ok(_) => format!("{}: it promises no JSON answer", operation.path),
        })
        .collect();
    let title = match operations.reading {
        0 => "the description has no GET operation, and AAM only reads".to_string(),
        count => {
            format!("none of the {count} GET operations can be called as the description stands")
        }
    };
    let fix = "name a path that answers JSON in the policy, for example: families: {openapi: {health_path: /v1/status}}";
    Failure::new(Class::Misconfigured, title, fix).detail(reasons.join("; "))
}

/// The operation of the tiny sync: a list, and rather one whose page can be limited; else any.
#[must_use]
pub fn tiny<'a>(
    operations: &'a Operations,
    rules: &Rules,
    wanted: u32,
    fit: impl Fn(&Operation) -> Fit,
) -> Option<&'a Operation> {
    let usable = operations.list.iter().filter(|operation| operation.answer.is_some() && rules.callable(operation).is_ok());
    usable.min_by_key(|operation| {
        let place = operation.answer.as_ref().map_or(&Place::Single, |record| &record.place);
        let limited = operation.limit.as_ref().is_some_and(|limit| limit.value(wanted.into()) <= wanted.into());
        (!place.is_list(), fit(operation), !limited)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::openapi::operations::Way;
    use crate::connectors::openapi::parameters::Limit;
    use crate::connectors::openapi::streams::record;
    use serde_json::json;
    use url::Url;

    fn operation(path: &str, list: bool, limit: bool, security: Vec<Way>) -> Operation {
        let schema = if list { json!({"type": "array"}) } else { json!({"type": "object"}) };
        Operation {
            name: format!("get{path}"),
            path: path.into(),
            call: Ok(Call { url: Url::parse("https://a.example").unwrap().join(path).unwrap(), headers: vec![] }),
            limit: limit.then(|| Limit { name: "limit".into(), minimum: 1, maximum: 100, allowed: vec![] }),
            security,
            answer: Some(record(schema, path)),
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

    fn with(operation: &Operation) -> Fit {
        if operation.security.is_empty() { Fit::Open } else { Fit::Proves }
    }

    fn without(operation: &Operation) -> Fit {
        if operation.security.is_empty() { Fit::Open } else { Fit::Lacks }
    }

    fn locked() -> Vec<Way> {
        vec![vec![("bearer".into(), vec![])]]
    }

    #[test]
    fn a_credential_is_proven_on_a_locked_operation() {
        let all = operations(vec![operation("/a", false, false, vec![]), operation("/b", false, false, locked())]);
        assert_eq!(health(&all, &Rules::default(), &servers(), None, with).unwrap().path, "/b");
        assert_eq!(health(&all, &Rules::default(), &servers(), None, without).unwrap().path, "/a");
    }

    #[test]
    fn denied_operations_are_never_chosen() {
        let all = operations(vec![operation("/a", true, true, vec![]), operation("/b/c", true, true, vec![])]);
        for deny in ["get/a", "/a", "GET /a", "*a"] {
            let rules = Rules { deny: vec![deny.into()], health_path: None };
            assert_eq!(health(&all, &rules, &servers(), Some("/a"), without).unwrap().path, "/b/c", "{deny}");
            assert_eq!(tiny(&all, &rules, 20, without).unwrap().path, "/b/c", "{deny}");
        }
        let rules = Rules { deny: vec!["/*".into()], health_path: None };
        assert_eq!(health(&all, &rules, &servers(), None, without).unwrap_err().class, Class::Misconfigured);
        assert!(tiny(&all, &rules, 20, without).is_none());
        let named = Rules { deny: vec!["/b/*".into()], health_path: Some("/b/c?x=1".into()) };
        assert_eq!(health(&all, &named, &servers(), None, without).unwrap_err().class, Class::Misconfigured);
    }

    #[test]
    fn the_policy_may_name_a_path_that_the_description_leaves_out() {
        let rules = Rules { deny: vec![], health_path: Some("/status".into()) };
        let chosen = health(&operations(vec![operation("/a", true, true, locked())]), &rules, &servers(), None, with).unwrap();
        assert_eq!(chosen.call.unwrap().url.as_str(), "https://a.example/status");
        assert_eq!(chosen.security, locked());
    }

    #[test]
    fn the_tiny_sync_prefers_a_limited_list() {
        let all = operations(vec![
            operation("/a", false, false, vec![]),
            operation("/b", true, false, vec![]),
            operation("/c", true, true, vec![]),
        ]);
        assert_eq!(tiny(&all, &Rules::default(), 20, without).unwrap().path, "/c");
    }

    #[test]
    fn limits_respect_the_description() {
        let limit = |minimum, maximum, allowed: &[u64]| {
            Limit { name: "limit".into(), minimum, maximum, allowed: allowed.to_vec() }.value(20)
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
