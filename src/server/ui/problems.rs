//! Problems: what keeps files, the policy, the registry or webhooks from working, and changes that wait for a person.

use super::super::holds;
use super::super::meta::not_ready;
use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult};
use super::{Page, View, respond};
use crate::model::{Problem, State};
use crate::page::Links;
use crate::page::Place;
use crate::page::problems::{FileProblems, NamespaceLine, PastProblems, ProblemPage, RejectedPolicy, WebhookProblem, render};
use crate::report::holds::HoldBody;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of problems of files that the page shows.
const MAX_PROBLEMS: usize = 200;
/// The number of files with problems that a page of the past shows.
const MAX_FILES: usize = 500;

/// `GET /ui/problems`
///
/// # Errors
/// 400, 403, 503.
pub async fn page(request: ApiRequest) -> ApiResult {
    respond(request, |view| {
        let main = render(&collect(view)?);
        Ok(Page { title: "Problems".to_string(), place: Place::Problems, main })
    })
    .await
}

fn collect(view: &View) -> Result<ProblemPage, ApiProblem> {
    let sees_registry = view.sees_registry();
    let empty = ProblemPage {
        links: view.links.clone(),
        as_of: view.as_of(),
        sees_registry,
        not_ready: None,
        trouble: String::new(),
        policy: None,
        holds: Vec::new(),
        files: FileProblems::default(),
        webhooks: Vec::new(),
        namespaces: Vec::new(),
        past: None,
    };
    if view.is_past() {
        return Ok(ProblemPage { past: Some(past(view, sees_registry)), namespaces: namespaces(view, &[]), ..empty });
    }
    let handle = &view.app.handle;
    let holds = held(view)?;
    let trouble = handle.trouble.load().to_string();
    let late = not_ready(handle).filter(|_| trouble.is_empty());
    let (all, webhooks) = (handle.problems.load_full(), handle.webhooks.load_full());
    let failing = webhooks.iter().filter(|webhook| sees_registry && !webhook.problem.is_empty());
    let files = if sees_registry { FileProblems { first: first(&all), total: all.len() } } else { FileProblems::default() };
    Ok(ProblemPage {
        not_ready: late.map(|(title, reason)| (title.to_string(), reason)),
        trouble,
        policy: rejected(view, sees_registry),
        files,
        webhooks: failing
            .map(|webhook| WebhookProblem {
                name: webhook.name.clone(),
                host: webhook.host.clone(),
                problem: webhook.problem.clone(),
                fix: webhook.fix.clone(),
                tries: webhook.tries,
                next_at: webhook.next_at,
            })
            .collect(),
        namespaces: namespaces(view, &holds),
        holds,
        ..empty
    })
}

fn first(problems: &[Problem]) -> Vec<Problem> {
    problems.iter().take(MAX_PROBLEMS).cloned().collect()
}

/// That the policy file is not valid concerns every reader. Its problems are only for those who may read its text.
fn rejected(view: &View, sees_registry: bool) -> Option<RejectedPolicy> {
    let active = view.app.handle.policy.load();
    let rejected = active.rejected.as_ref()?;
    let file = view.app.handle.policy_file.display().to_string();
    Some(RejectedPolicy {
        file: if sees_registry { file } else { String::new() },
        at: rejected.at,
        problems: if sees_registry { first(&rejected.problems) } else { Vec::new() },
        total: rejected.problems.len(),
    })
}

/// The held changes of all namespaces that the reader may read.
fn held(view: &View) -> Result<Vec<HoldBody>, ApiProblem> {
    let all = view.app.handle.holds.load_full();
    let names: BTreeSet<&String> = all.holds.iter().map(|hold| &hold.namespace).collect();
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| view.caller().may_read(name)) {
        found.extend(holds::of_namespace(&view.app, name)?);
    }
    Ok(found)
}

fn past(view: &View, sees_registry: bool) -> PastProblems {
    if !sees_registry {
        return PastProblems::default();
    }
    view.snapshot(|snapshot| PastProblems {
        is_policy_rejected: snapshot.policy_file.is_some_and(|(_, is_accepted)| !is_accepted),
        files: snapshot.intent_problems.keys().take(MAX_FILES).map(|file| file.to_string()).collect(),
    })
}

/// The namespaces that the reader may read, with what needs a person in them.
fn namespaces(view: &View, holds: &[HoldBody]) -> Vec<NamespaceLine> {
    let is_troubled =
        |state: State| matches!(state, State::Healing | State::Error | State::NetworkBlocked | State::AwaitingCredentials);
    let of_policy = view.app.handle.policy().namespace.clone();
    let (counts, sealed) = view.snapshot(|snapshot| {
        let mut counts: BTreeMap<Arc<str>, (usize, usize)> = BTreeMap::new();
        for known in snapshot.connections.values().filter(|known| known.state() != State::Retired) {
            let (all, troubled) = counts.entry(Arc::clone(&known.namespace)).or_default();
            *all += 1;
            *troubled += usize::from(is_troubled(known.state()));
        }
        (counts, snapshot.sealed.clone())
    });
    let mut names: Vec<String> = counts.keys().map(ToString::to_string).collect();
    names.extend([of_policy.clone(), view.namespace.clone()]);
    names.sort_unstable();
    names.dedup();
    names.retain(|name| view.caller().may_read(name));
    let line = |name: String| {
        let (connections, troubled) = counts.get(name.as_str()).copied().unwrap_or_default();
        let namespace = (name != of_policy).then(|| name.clone());
        NamespaceLine {
            links: Links { namespace, ..view.links.clone() },
            connections,
            troubled,
            held: holds.iter().filter(|hold| hold.namespace == name).count(),
            is_sealed: sealed.contains(&name),
            name,
        }
    };
    names.into_iter().map(line).collect()
}
