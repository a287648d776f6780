//! Policy: what is in force, what it allows, what changed, and when.

use super::super::auth;
use super::super::problem::ApiProblem;
use super::super::request::{ApiRequest, ApiResult};
use super::{Page, View, respond};
use crate::model::{ConnectionId, Digest, Timestamp};
use crate::page::Place;
use crate::page::policy::{Difference, InForce, PolicyLines, PolicyPage, Summary, VersionLine, render};
use crate::policy::diff::{self, ConnectionLine};
use crate::policy::parse::parse;
use crate::policy::{LoadedPolicy, Policy};
use crate::registry::PolicyText;
use crate::snapshot::{AcceptedPolicy, Connection};
use std::sync::Arc;

/// The number of policies on one page of the history.
const PAGE_SIZE: usize = 50;
/// The number of lines and of bytes of the text that a page shows.
const MAX_LINES: usize = 2000;
const MAX_TEXT_BYTES: usize = 256 << 10;
/// The number of connections up to which the effects of a change are computed, because the intent of each is read.
const MAX_CONNECTIONS: usize = 1000;

/// The policy at the instant of a page.
pub struct PolicyOfPage {
    /// `None` if no policy was in force, or if this version cannot read it.
    pub policy: Option<Arc<Policy>>,
    /// The entry that accepted it, and when. `None` if it is not recorded.
    pub accepted: Option<(u64, Timestamp)>,
    pub digest: Option<Digest>,
    /// Why the policy cannot be read; empty if it can.
    pub unreadable: String,
}

/// Returns the policy that was in force at the instant of the page.
///
/// # Errors
/// 503 if the registry cannot be read.
pub fn of_page(view: &View) -> Result<PolicyOfPage, ApiProblem> {
    let (recorded, at) = view.snapshot(|snapshot| (snapshot.policy, snapshot.policy_at));
    let active = view.app.handle.policy();
    let current = recorded.filter(|(digest, _)| *digest == active.digest).map(|(_, seq)| (seq, at));
    if !view.is_past() || current.is_some() {
        let digest = Some(active.digest);
        return Ok(PolicyOfPage { policy: Some(active), accepted: current, digest, unreadable: String::new() });
    }
    let Some((digest, seq)) = recorded else {
        return Ok(PolicyOfPage { policy: None, accepted: None, digest: None, unreadable: String::new() });
    };
    let text = view.app.handle.registry.reader().policy_text(seq)?.map(|policy| policy.text).unwrap_or_default();
    let (policy, unreadable) = match read(seq, &text) {
        Ok(policy) => (Some(Arc::new(policy)), String::new()),
        Err(reason) => (None, reason),
    };
    Ok(PolicyOfPage { policy, accepted: Some((seq, at)), digest: Some(digest), unreadable })
}

/// Parses the policy of entry `seq`.
fn read(seq: u64, text: &str) -> Result<Policy, String> {
    parse(text, "policy.yaml").map_err(|problems| {
        let first = problems.first().map(|problem| format!(" ({})", problem.message)).unwrap_or_default();
        format!("This version of AAM cannot read the policy of entry {seq}{first}, so only its text is shown.")
    })
}

/// `GET /ui/policy`
///
/// # Errors
/// 400, 403, 404, 503.
pub async fn page(request: ApiRequest) -> ApiResult {
    respond(request, |view| {
        let main = render(&collect(view)?);
        Ok(Page { title: "Policy".to_string(), place: Place::Policy, main })
    })
    .await
}

fn collect(view: &View) -> Result<PolicyPage, ApiProblem> {
    let (PolicyOfPage { policy, accepted, digest, unreadable }, handle) = (of_page(view)?, &view.app.handle);
    let sees_registry = view.sees_registry();
    let (history, earlier) = history(view)?;
    let text = accepted.filter(|_| sees_registry).map(|(seq, _)| lines(view, seq)).transpose()?.flatten();
    let summary = policy.as_deref().map(Summary::new);
    Ok(PolicyPage {
        links: view.links.clone(),
        as_of: view.as_of(),
        sees_registry,
        in_force: digest.map(|digest| InForce {
            file: (sees_registry && !view.is_past()).then(|| handle.policy_file.display().to_string()),
            digest: digest.to_string(),
            accepted,
        }),
        is_rejected: !view.is_past() && handle.policy.load().rejected.is_some(),
        summary: summary.map(|summary| if sees_registry { summary } else { summary.without_registry() }),
        unreadable,
        difference: if sees_registry { difference(view)? } else { None },
        history: if sees_registry { history } else { Vec::new() },
        earlier: earlier.filter(|_| sees_registry),
        text,
    })
}

/// Returns one page of the history, and the entry before which the next one begins.
fn history(view: &View) -> Result<(Vec<VersionLine>, Option<u64>), ApiProblem> {
    let before = view.query.entry("before")?.unwrap_or(u64::MAX);
    let found: Vec<AcceptedPolicy> = view.snapshot(|snapshot| {
        let newest = snapshot.policies.iter().rev().filter(|policy| policy.seq < before);
        newest.take(PAGE_SIZE + 1).copied().collect()
    });
    let line = |(at, policy): (usize, &AcceptedPolicy)| VersionLine {
        seq: policy.seq,
        at: policy.at,
        digest: policy.digest.to_string(),
        before: found.get(at + 1).map(|earlier| earlier.seq),
    };
    let lines: Vec<VersionLine> = found.iter().enumerate().take(PAGE_SIZE).map(line).collect();
    let earlier = lines.last().map(|line| line.seq).filter(|_| found.len() > PAGE_SIZE);
    Ok((lines, earlier))
}

/// Compares the policies of the query, or the last two.
fn difference(view: &View) -> Result<Option<Difference>, ApiProblem> {
    let (from, to) = (view.query.entry("from")?, view.query.entry("to")?);
    let seqs: Vec<u64> = view.snapshot(|snapshot| snapshot.policies.iter().rev().map(|policy| policy.seq).collect());
    let Some(to) = to.or_else(|| seqs.first().copied()) else { return Ok(None) };
    let Some(from) = from.or_else(|| seqs.iter().find(|seq| **seq < to).copied()) else { return Ok(None) };
    let (was, is) = (accepted_policy(view, "from", from)?, accepted_policy(view, "to", to)?);
    let policies = read(from, &was.text).and_then(|old| Ok((old, read(to, &is.text)?)));
    let (changes, note) = match policies {
        Ok((old, new)) => {
            let connections = connections(view);
            let admin = auth::read_admin(view.app.handle.registry.path()).ok();
            let admin = admin.as_ref().map(|admin| admin.digest());
            let (old, new) = (LoadedPolicy::new(old), LoadedPolicy::new(new));
            (Ok(diff::diff(&old, &new, connections.as_deref(), admin)), note(view, connections.is_some(), &new.policy))
        }
        Err(reason) => (Err(reason), String::new()),
    };
    Ok(Some(Difference { from: (from, was.at), to: (to, is.at), changes, note }))
}

/// Says for which connections the effects were computed, and what was not compared.
fn note(view: &View, known: bool, policy: &Policy) -> String {
    let effects = match known {
        true => {
            format!("Effects are those on the connections of the namespaces that you may read, as of {}.", view.as_of().rfc3339())
        }
        false => format!(
            "Effects on connections were not computed, because there are more than {MAX_CONNECTIONS}; aam policy diff computes them."
        ),
    };
    match policy.manifests.dir {
        Some(_) => {
            format!("{effects} The files of the folder of manifests are not recorded with the policy, so they were not compared.")
        }
        None => effects,
    }
}

fn accepted_policy(view: &View, name: &str, seq: u64) -> Result<PolicyText, ApiProblem> {
    let last = view.snapshot(|snapshot| snapshot.seq);
    let found = if seq <= last { view.app.handle.registry.reader().policy_text(seq)? } else { None };
    found.ok_or_else(|| {
        ApiProblem::not_found(format!(
            "{name}={seq} does not name an accepted policy. The history on /ui/policy lists them with their entries."
        ))
    })
}

/// The connections that a policy applies to, in the namespaces that the reader may read. `None` if there are too many.
fn connections(view: &View) -> Option<Vec<ConnectionLine>> {
    let caller = view.caller();
    let known: Vec<(ConnectionId, Connection)> = view.snapshot(|snapshot| {
        let applies = |known: &Connection| {
            known.retired.is_none() && !snapshot.is_closed(&known.namespace) && caller.may_read(&known.namespace)
        };
        let live = snapshot.connections.iter().filter(|(_, known)| applies(known));
        live.take(MAX_CONNECTIONS + 1).map(|(id, known)| (id, known.into_owned())).collect()
    });
    let reader = view.app.handle.registry.reader();
    (known.len() <= MAX_CONNECTIONS).then(|| known.iter().filter_map(|(id, known)| reader.policy_line(*id, known)).collect())
}

/// The first lines of the text of the policy that entry `seq` accepted.
fn lines(view: &View, seq: u64) -> Result<Option<PolicyLines>, ApiProblem> {
    let Some(PolicyText { text, .. }) = view.app.handle.registry.reader().policy_text(seq)? else { return Ok(None) };
    let (mut shown, mut bytes, mut total) = (Vec::new(), 0, 0);
    for line in text.lines() {
        total += 1;
        bytes += line.len();
        // A gap in the text would be misleading, so the first line that does not fit is also the end.
        if shown.len() + 1 == total && total <= MAX_LINES && bytes <= MAX_TEXT_BYTES {
            shown.push(line.to_string());
        }
    }
    let more = total - shown.len();
    Ok(Some(PolicyLines { seq, lines: shown, more }))
}
