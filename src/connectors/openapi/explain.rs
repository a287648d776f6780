//! Explains why no operation can be called, or why none of the called ones worked.

use super::operations::{Obstacle, Operations};
use super::select::callable;
use super::settings::ServiceSettings;
use crate::model::text::counted;
use crate::model::{Class, Failure};
use std::collections::BTreeMap;
use url::Url;

/// The number of operations that are named for each reason.
const MAX_NAMED: usize = 3;

/// The failure for a description without an operation that AAM can call. Its detail counts the reasons.
#[must_use]
pub fn nothing_callable(operations: &Operations, settings: &ServiceSettings) -> Failure {
    let title = match operations.reading {
        0 => "the description does not have a GET operation, and AAM only reads".to_string(),
        1 => "the only GET operation of the description cannot be called".to_string(),
        count => format!("none of the {count} GET operations of the description can be called"),
    };
    let mut fix = format!("name a path that returns JSON: {}", settings.fix("health_path: /v1/status"));
    let refused = operations.list.iter().filter_map(|operation| operation.call.as_ref().err()?.server.as_ref()).next();
    if let Some(server) = refused {
        let base = server.as_str().trim_end_matches('/');
        fix = format!("to allow the server of these operations, {}", settings.fix(&format!("base_url: \"{base}\"")));
    }
    Failure::new(Class::Misconfigured, title, fix).detail(reasons(operations, settings))
}

/// Why operations are not called, counted by the kind of reason, with the first operations of each kind by name.
#[must_use]
pub fn reasons(operations: &Operations, settings: &ServiceSettings) -> String {
    let mut by_kind: BTreeMap<Obstacle, Vec<String>> = BTreeMap::new();
    for operation in &operations.list {
        if let Err(reason) = callable(operation, settings) {
            by_kind.entry(reason.kind).or_default().push(format!("{}: {}", operation.path, reason.message));
        }
    }
    for (name, reason) in &operations.skipped {
        by_kind.entry(Obstacle::Unreadable).or_default().push(format!("{name}: {reason}"));
    }
    let sentence = |(kind, named): (&Obstacle, &Vec<String>)| {
        format!("{} {} ({})", counted(named.len(), "operation"), kind.message(named.len()), some(named))
    };
    by_kind.iter().map(sentence).collect::<Vec<_>>().join("; ")
}

/// The first texts, and how many more there are.
fn some(texts: &[String]) -> String {
    let mut shown: Vec<String> = texts.iter().take(MAX_NAMED).cloned().collect();
    if texts.len() > MAX_NAMED {
        shown.push(format!("and {} more", texts.len() - MAX_NAMED));
    }
    shown.join("; ")
}

/// An operation that was called without success.
#[derive(Clone, Debug)]
pub struct FailedCall {
    pub name: String,
    pub path: String,
    pub failure: Failure,
}

impl FailedCall {
    /// What happened, in one line: the status if the service sent one.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{}: {}", self.path, self.reason())
    }

    fn reason(&self) -> String {
        match self.failure.detail.split(';').next().filter(|status| status.starts_with("HTTP ")) {
            Some(status) if !status.starts_with("HTTP 2") => status.to_string(),
            _ => self.failure.title.clone(),
        }
    }
}

/// The base URL of the calls, and the URL of the description.
#[derive(Clone, Copy, Debug)]
pub struct CalledBase<'a> {
    pub host: &'a str,
    pub base: &'a Url,
    pub description: &'a Url,
}

impl CalledBase<'_> {
    /// Another base URL that may be the right one: the folder of the description, unless it is the present base.
    fn other(&self) -> String {
        let trimmed = |url: &Url| url.as_str().trim_end_matches('/').to_string();
        let folder = self.description.join("./").map(|url| trimmed(&url)).unwrap_or_default();
        let is_new = !folder.is_empty() && folder != trimmed(self.base);
        if is_new { folder } else { self.base.join("/api/v1").map_or_else(|_| folder, |url| trimmed(&url)) }
    }
}

/// The failure for candidates that all failed. `failed` is not empty.
#[must_use]
pub fn nothing_worked(failed: &[FailedCall], settings: &ServiceSettings, called: CalledBase<'_>) -> Failure {
    // The classes that say most about what is missing come first.
    const ORDER: [Class; 6] = [
        Class::CredentialMissing,
        Class::PermissionDenied,
        Class::Misconfigured,
        Class::Unsupported,
        Class::Remote,
        Class::NotFound,
    ];
    let rank = |call: &&FailedCall| ORDER.iter().position(|class| *class == call.failure.class).unwrap_or(ORDER.len());
    let Some(first) = failed.iter().min_by_key(rank) else {
        return nothing_callable(&Operations::default(), settings);
    };
    let foreign = failed.iter().all(|call| matches!(call.failure.class, Class::NotFound | Class::WrongService));
    let other_base = settings.fix(&format!("base_url: \"{}\"", called.other()));
    if failed.len() == 1 {
        let mut failure = first.failure.clone();
        if foreign {
            failure.fix.push_str(&format!("; if the base URL of the service is not {}, {other_base}", called.base));
        }
        return failure;
    }
    let messages: Vec<String> = failed.iter().map(FailedCall::message).collect();
    let others = counted(failed.len() - 1, "other operation");
    let (title, fix) = if failed.iter().all(|call| call.failure.class == Class::NotFound) {
        (
            format!("{} answered 404 for all {} operations that AAM called", called.host, failed.len()),
            base_fix(called.base, &other_base, settings),
        )
    } else if foreign {
        (
            format!("{} did not return what the description promises for any of {} operations", called.host, failed.len()),
            base_fix(called.base, &other_base, settings),
        )
    } else {
        let fix = format!("{}; to check an operation that works, {}", first.failure.fix, settings.fix("health_path: /v1/status"));
        (format!("{}; {others} failed too", first.failure.title), fix)
    };
    let detail = [first.failure.detail.as_str(), &messages.join("; ")]
        .iter()
        .filter(|text| !text.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join("; ");
    Failure::new(first.failure.class, title, fix).detail(detail)
}

fn base_fix(base: &Url, other_base: &str, settings: &ServiceSettings) -> String {
    format!(
        "the base URL {base} may be wrong; if the service has another one, {other_base}; to check another path, {}",
        settings.fix("health_path: /v1/status")
    )
}
