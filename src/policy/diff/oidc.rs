//! Changes in how people sign in to the pages.

use super::super::{OidcPolicy, OidcRole, Policy, TokenScope};
use super::change::{Changes, Effect};
use super::wording::shown;
use std::collections::BTreeSet;

const KEY: &str = "api.oidc";
const ROLES: &str = "api.oidc.roles";

/// Who may sign in with OpenID Connect, and what they may do.
pub fn oidc(old: &Policy, new: &Policy, out: &mut Changes) {
    match (&old.api.oidc, &new.api.oidc) {
        (None, None) => {}
        (None, Some(is)) => {
            let text = format!("people may sign in to the pages at {}, as users of the client {}", is.issuer, is.client_id);
            out.add(KEY, Effect::Wider, text);
            is.roles.iter().for_each(|role| added(role, out));
        }
        (Some(was), None) => {
            let text = format!("people may no longer sign in at {}, and their sessions end", was.issuer);
            out.add(KEY, Effect::Narrower, text);
        }
        (Some(was), Some(is)) => changed(was, is, out),
    }
}

fn changed(was: &OidcPolicy, is: &OidcPolicy, out: &mut Changes) {
    let locator = |oidc: &OidcPolicy| oidc.client_secret.as_ref().map(ToString::to_string);
    for (key, before, after) in [
        ("api.oidc.issuer", was.issuer.clone(), is.issuer.clone()),
        ("api.oidc.client_id", was.client_id.clone(), is.client_id.clone()),
        ("api.oidc.client_secret", shown(&locator(was)), shown(&locator(is))),
        ("api.oidc.redirect", shown(&was.redirect), shown(&is.redirect)),
    ] {
        if before != after {
            out.add(key, Effect::Wider, format!("{key} changes from {before} to {after}"));
        }
    }
    for scope in is.scopes.iter().filter(|scope| !was.scopes.contains(scope)) {
        out.add("api.oidc.scopes", Effect::Wider, format!("the issuer is asked for the scope {scope} of each person"));
    }
    for scope in was.scopes.iter().filter(|scope| !is.scopes.contains(scope)) {
        out.add("api.oidc.scopes", Effect::Narrower, format!("the issuer is not asked for the scope {scope} any more"));
    }
    roles(was, is, out);
}

fn roles(was: &OidcPolicy, is: &OidcPolicy, out: &mut Changes) {
    for (at, gone) in was.roles.iter().enumerate() {
        match find(is, gone) {
            Some(role) => one_role(gone, role, out),
            None => {
                // People of the role get the next one that fits them.
                let next: Vec<&OidcRole> = was.roles.iter().skip(at + 1).filter_map(|later| find(is, later)).collect();
                let rises = next.iter().any(|later| allows_more(later, gone));
                let after = if rises { "; people who have a later role too get that one, which allows more" } else { "" };
                out.add(ROLES, Effect::wider_if(rises), format!("role {} removed{after}", name(gone)));
            }
        }
    }
    is.roles.iter().filter(|role| find(was, role).is_none()).for_each(|role| added(role, out));
    let order = |of: &OidcPolicy, other: &OidcPolicy| {
        of.roles.iter().filter(|role| find(other, role).is_some()).map(name).collect::<Vec<_>>()
    };
    let (before, after) = (order(was, is), order(is, was));
    if before != after {
        let text = format!("the order of the roles changes to {}; the first that fits a person is theirs", after.join(", "));
        out.add(ROLES, Effect::Wider, text);
    }
}

fn added(role: &OidcRole, out: &mut Changes) {
    let (scopes, namespaces) = (scopes(&role.scopes), joined(&role.namespaces));
    out.add(ROLES, Effect::Wider, format!("role {} added; scopes: {scopes}; namespaces: {namespaces}", name(role)));
}

fn one_role(was: &OidcRole, is: &OidcRole, out: &mut Changes) {
    for (key, effect, change, set) in [
        ("api.oidc.roles.scopes", Effect::Wider, "scopes added", scopes(&(&is.scopes - &was.scopes))),
        ("api.oidc.roles.scopes", Effect::Narrower, "scopes removed", scopes(&(&was.scopes - &is.scopes))),
        ("api.oidc.roles.namespaces", Effect::Wider, "namespaces added", joined(&(&is.namespaces - &was.namespaces))),
        ("api.oidc.roles.namespaces", Effect::Narrower, "namespaces removed", joined(&(&was.namespaces - &is.namespaces))),
    ] {
        if !set.is_empty() {
            out.add(key, effect, format!("role {}: {change}: {set}", name(is)));
        }
    }
}

fn find<'p>(policy: &'p OidcPolicy, role: &OidcRole) -> Option<&'p OidcRole> {
    policy.roles.iter().find(|known| (&known.claim, &known.value) == (&role.claim, &role.value))
}

fn allows_more(role: &OidcRole, other: &OidcRole) -> bool {
    !role.scopes.is_subset(&other.scopes) || !role.namespaces.is_subset(&other.namespaces)
}

/// `groups = aam-operators`.
fn name(role: &OidcRole) -> String {
    format!("{} = {}", role.claim, role.value)
}

fn scopes(scopes: &BTreeSet<TokenScope>) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Effect, diff};
    use crate::policy::LoadedPolicy;
    use crate::policy::parse::parse;

    fn loaded(api: &str) -> LoadedPolicy {
        let text = format!("version: 1\nallowlist: []\napi: {{{api}}}\n");
        LoadedPolicy::new(parse(&text, "p").unwrap_or_else(|problems| panic!("{problems:#?}")))
    }

    fn with(roles: &str) -> LoadedPolicy {
        loaded(&format!("oidc: {{issuer: \"https://login.example\", client_id: aam, roles: [{roles}]}}"))
    }

    fn lines(changes: &[Change]) -> Vec<(Effect, &str)> {
        changes.iter().map(|change| (change.effect, change.text.as_str())).collect()
    }

    const OPS: &str = "{claim: groups, value: ops, scopes: [registry:read, \"ops:heal\"], namespaces: [a, b]}";
    const STAFF: &str = "{claim: groups, value: staff, scopes: [registry:read], namespaces: [a]}";

    #[test]
    fn the_section_is_described_with_its_roles() {
        let found = diff(&loaded(""), &with(STAFF), None, None);
        assert_eq!(
            lines(&found),
            [
                (Effect::Wider, "people may sign in to the pages at https://login.example, as users of the client aam (wider)"),
                (Effect::Wider, "role groups = staff added; scopes: registry:read; namespaces: a (wider)"),
            ]
        );
        let found = diff(&with(STAFF), &loaded(""), None, None);
        let text = "people may no longer sign in at https://login.example, and their sessions end";
        assert_eq!(lines(&found), [(Effect::Narrower, text)]);
    }

    #[test]
    fn a_removed_role_is_wider_if_its_people_get_a_later_role_that_allows_more() {
        let of = |was: &str, is: &str| {
            let found = diff(&with(was), &with(is), None, None);
            found.iter().map(|change| change.effect).collect::<Vec<_>>()
        };
        assert_eq!(of(&format!("{STAFF}, {OPS}"), OPS), [Effect::Wider]);
        assert_eq!(of(&format!("{OPS}, {STAFF}"), STAFF), [Effect::Narrower]);
        assert_eq!(of(&format!("{OPS}, {STAFF}"), &format!("{STAFF}, {OPS}")), [Effect::Wider], "the order decides");
        assert_eq!(of(OPS, &OPS.replace("[a, b]", "[a]")), [Effect::Narrower]);
        assert_eq!(of(STAFF, &STAFF.replace("staff", "all")), [Effect::Narrower, Effect::Wider]);
    }
}
