//! Changes in who may call the API.

use super::super::grants::summary;
use super::super::{Policy, Token, TokenScope};
use super::change::{Changes, Effect};
use crate::model::{Digest, Timestamp};
use std::collections::BTreeSet;

const KEY: &str = "api.tokens";

/// Who may call the API, with which scopes, in which namespaces and until when. `admin` is the digest of the admin token,
/// if it is known: an entry of the policy may list it.
pub fn tokens(old: &Policy, new: &Policy, admin: Option<&Digest>, out: &mut Changes) {
    fn find<'a>(policy: &'a Policy, name: &str) -> Option<&'a Token> {
        policy.api.tokens.iter().find(|token| token.name == name)
    }
    admin_token(old, new, admin, out);
    for was in &old.api.tokens {
        match find(new, &was.name) {
            None => out.add(KEY, Effect::Narrower, format!("token {} removed; it can no longer call the API", was.name)),
            Some(is) => one_token(was, is, out),
        }
    }
    for is in new.api.tokens.iter().filter(|token| find(old, &token.name).is_none()) {
        let (scopes, namespaces) = (scopes(&is.scopes), joined(&is.namespaces));
        let end = is.expires.map(|end| format!("; expires: {end}")).unwrap_or_default();
        let credentials = summary::of_token(is);
        let text =
            format!("token {} added; scopes: {scopes}; namespaces: {namespaces}{end}; credentials: {credentials}", is.name);
        out.add(KEY, Effect::Wider, text);
    }
}

/// The admin token counts only while the policy lists no tokens (decision record 16).
fn admin_token(old: &Policy, new: &Policy, admin: Option<&Digest>, out: &mut Changes) {
    match (old.api.tokens.is_empty(), new.api.tokens.is_empty()) {
        (true, false) => {
            let kept = new.api.tokens.iter().find(|token| Some(&token.sha256) == admin);
            let text = match kept {
                Some(token) => format!(
                    "the policy lists its first tokens; the admin token is one of them and stays valid as {} with the rights of its entry",
                    token.name
                ),
                None => "the policy lists its first tokens, so the admin token ends: aam heal, confirm and mcp need AAM_TOKEN with a token of the policy; aam token new --keep-admin prints an entry that keeps it".to_string(),
            };
            out.add(KEY, Effect::Narrower, text);
        }
        (false, true) => {
            let text =
                "the policy lists no tokens any more, so the admin token is accepted again, with every scope in every namespace";
            out.add(KEY, Effect::Wider, text);
        }
        _ => {}
    }
}

fn one_token(was: &Token, is: &Token, out: &mut Changes) {
    let name = &is.name;
    if was.sha256 != is.sha256 {
        out.add(
            KEY,
            Effect::Wider,
            format!("token {name} replaced; another secret is accepted, and the old one no longer works"),
        );
    }
    let (gained, lost) = (&is.scopes - &was.scopes, &was.scopes - &is.scopes);
    let (entered, left) = (&is.namespaces - &was.namespaces, &was.namespaces - &is.namespaces);
    for (effect, change, set) in [
        (Effect::Wider, "scopes added", scopes(&gained)),
        (Effect::Narrower, "scopes removed", scopes(&lost)),
        (Effect::Wider, "namespaces added", joined(&entered)),
        (Effect::Narrower, "namespaces removed", joined(&left)),
    ] {
        if !set.is_empty() {
            out.add(KEY, effect, format!("token {name}: {change}: {set}"));
        }
    }
    if was.expires != is.expires {
        let end = |end: Option<Timestamp>| end.map_or("never".to_string(), |end| end.to_string());
        // A token that never expires is valid longer than every other.
        let until = |end: Option<Timestamp>| end.map_or(i64::MAX, |end| end.0);
        let effect = Effect::raised(&until(was.expires), &until(is.expires));
        out.add(KEY, effect, format!("token {name}: expires changes from {} to {}", end(was.expires), end(is.expires)));
    }
    grant(was, is, out);
}

/// The credentials that the intents of a token may name.
fn grant(was: &Token, is: &Token, out: &mut Changes) {
    let name = &is.name;
    for added in is.grant.locators.iter().filter(|pattern| !was.grant.locators.contains(pattern)) {
        let covered = was.grant.locators.iter().any(|wide| wide.covers(added));
        let effect = if covered { Effect::Neutral } else { Effect::Wider };
        out.add(KEY, effect, format!("token {name} may now use {added}"));
    }
    for removed in was.grant.locators.iter().filter(|pattern| !is.grant.locators.contains(pattern)) {
        let text = format!("token {name} may no longer use {removed}, unless another of its locators covers it");
        out.add(KEY, Effect::Narrower, text);
    }
    for added in is.grant.hosts.iter().filter(|host| !was.grant.hosts.contains(host)) {
        out.add(KEY, Effect::Wider, format!("token {name} may now send its credentials to {added}"));
    }
    for removed in was.grant.hosts.iter().filter(|host| !is.grant.hosts.contains(host)) {
        let text = format!("token {name} may no longer send its credentials to {removed}, unless another of its hosts covers it");
        out.add(KEY, Effect::Narrower, text);
    }
}

fn scopes(scopes: &BTreeSet<TokenScope>) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
