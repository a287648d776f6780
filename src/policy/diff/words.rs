//! The wording of a difference, and the parts of it that concern no single connection.

use super::super::duration_text::format as duration;
use super::super::{Policy, Token, TokenScope};
use super::ConnectionLine;
use std::collections::BTreeSet;
use std::fmt::Display;

/// More names than this are counted, not listed.
const LISTED: usize = 10;

/// `1 connection`, `3 connections`.
pub fn counted(count: usize) -> String {
    match count {
        1 => "1 connection".to_string(),
        count => format!("{count} connections"),
    }
}

/// `2 connections become X: <id> (autonomy/slack/acme), ...`.
pub fn connections(hit: &[&ConnectionLine], one: &str, many: &str) -> String {
    if hit.is_empty() {
        return "no connection is concerned".to_string();
    }
    let verb = if hit.len() == 1 { one } else { many };
    let name =
        |line: &&ConnectionLine| format!("{} ({}/{}/{})", line.id, line.namespace, line.source_type, line.resource_ids.join("+"));
    let mut names: Vec<String> = hit.iter().take(LISTED).map(name).collect();
    if hit.len() > LISTED {
        names.push(format!("and {} more", hit.len() - LISTED));
    }
    format!("{} {verb}: {}", counted(hit.len()), names.join(", "))
}

/// The values that change how AAM works, not what it may do.
pub fn settings(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    let mut put = |name: &str, was: &dyn Display, is: &dyn Display| {
        let (was, is) = (was.to_string(), is.to_string());
        if was != is {
            out.push(format!("{name} goes from {was} to {is}"));
        }
    };
    put("the namespace of new work", &old.namespace, &new.namespace);
    put("slo.coverage", &old.slo.coverage, &new.slo.coverage);
    let (was, is) = (&old.safe_mode, &new.safe_mode);
    put("safe_mode.max_items", &was.max_items, &is.max_items);
    put("safe_mode.step_timeout", &duration(&was.step_timeout), &duration(&is.step_timeout));
    put("safe_mode.attempt_timeout", &duration(&was.attempt_timeout), &duration(&is.attempt_timeout));
    let (was, is) = (&old.backoff, &new.backoff);
    put("backoff.initial", &duration(&was.initial), &duration(&is.initial));
    put("backoff.max", &duration(&was.max), &duration(&is.max));
    put("backoff.jitter", &was.jitter, &is.jitter);
    put("breaker.failures", &old.breaker.failures, &new.breaker.failures);
    put("breaker.open_for", &duration(&old.breaker.open_for), &duration(&new.breaker.open_for));
    let (was, is) = (&old.recheck, &new.recheck);
    put("recheck.health", &duration(&was.health), &duration(&is.health));
    put("recheck.drift", &duration(&was.drift), &duration(&is.drift));
    put("recheck.awaiting_credentials", &duration(&was.awaiting_credentials), &duration(&is.awaiting_credentials));
    put("reconcile.concurrency", &old.reconcile.concurrency, &new.reconcile.concurrency);
    put("reconcile.resync", &duration(&old.reconcile.resync), &duration(&new.reconcile.resync));
}

/// Who may call the API, and what for.
pub fn tokens(old: &Policy, new: &Policy, out: &mut Vec<String>) {
    fn find<'a>(policy: &'a Policy, name: &str) -> Option<&'a Token> {
        policy.api.tokens.iter().find(|token| token.name == name)
    }
    for was in &old.api.tokens {
        match find(new, &was.name) {
            None => out.push(format!("token {} is removed: its bearer can no longer call the API", was.name)),
            Some(is) => one_token(was, is, out),
        }
    }
    for is in new.api.tokens.iter().filter(|token| find(old, &token.name).is_none()) {
        let (scopes, namespaces) = (scopes(&is.scopes), joined(&is.namespaces));
        out.push(format!("token {} is new: it may {scopes} in {namespaces}", is.name));
    }
}

fn one_token(was: &Token, is: &Token, out: &mut Vec<String>) {
    let name = &is.name;
    if was.sha256 != is.sha256 {
        out.push(format!("token {name} is replaced: the old secret no longer works"));
    }
    let (gained, lost) = (&is.scopes - &was.scopes, &was.scopes - &is.scopes);
    let (entered, left) = (&is.namespaces - &was.namespaces, &was.namespaces - &is.namespaces);
    for (set, text) in [(scopes(&gained), "may now"), (scopes(&lost), "may no longer")] {
        if !set.is_empty() {
            out.push(format!("token {name} {text} {set}"));
        }
    }
    for (set, text) in [(joined(&entered), "may now work in"), (joined(&left), "may no longer work in")] {
        if !set.is_empty() {
            out.push(format!("token {name} {text} {set}"));
        }
    }
}

fn scopes(scopes: &BTreeSet<TokenScope>) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
