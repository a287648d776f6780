//! The section `api.oidc`.

use super::super::TokenScope;
use super::super::oidc::{CALLBACK_PATH, DEFAULT_SCOPES, OidcPolicy, OidcRole};
use super::super::read::{Reader, Spot};
use super::super::yaml::shown;
use super::consents::callback;
use super::credentials::{locator, text};
use super::reach::secret_address;

const KEYS: [&str; 6] = ["issuer", "client_id", "client_secret", "redirect", "scopes", "roles"];

/// The number of roles. Each sign-in compares all of them.
const MAX_ROLES: usize = 100;

pub fn oidc(r: &mut Reader, spot: &Spot<'_>) -> Option<OidcPolicy> {
    let fields = r.fields(spot, &KEYS)?;
    let issuer = r
        .required(
            &fields,
            "issuer",
            "write the address of the server on which people sign in, for example https://login.acme.example",
        )
        .and_then(|spot| secret_address(r, &spot, "the address of an issuer, for example https://login.acme.example", false));
    let client_id = text(r, &fields, "client_id", "the id of the client that is registered at the issuer for AAM");
    let client_secret = r.optional(&fields, "client_secret", locator);
    let redirect = r.optional(&fields, "redirect", |r, spot| callback(r, spot, CALLBACK_PATH));
    let default = DEFAULT_SCOPES.map(str::to_string).to_vec();
    let scopes = r.field(&fields, "scopes", default, |r, spot| r.unique(spot, "scopes", scope));
    let hint = "write who may do what, for example roles: [{claim: groups, value: aam, scopes: [registry:read], namespaces: [autonomy]}]";
    let roles = r.required(&fields, "roles", hint).and_then(|spot| roles(r, &spot));
    Some(OidcPolicy { issuer: issuer?, client_id: client_id?, client_secret, redirect, scopes, roles: roles? })
}

/// Reads a scope (RFC 6749, section 3.3).
fn scope(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "a scope")?;
    if text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\')) {
        return Some(text.to_string());
    }
    r.report(spot, "this is not one scope", "list each scope on its own, for example scopes: [email, groups]");
    None
}

fn roles(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<OidcRole>> {
    let items = r.list(spot, "roles")?;
    if items.is_empty() {
        r.report(spot, "without a role, no person can open a page", "list at least one role, or remove api.oidc");
        return None;
    }
    if items.len() > MAX_ROLES {
        r.report(spot, format!("the list has {} roles, the limit is {MAX_ROLES}", items.len()), "use groups of the issuer");
        return None;
    }
    let mut roles: Vec<OidcRole> = Vec::new();
    for item in items {
        let Some(role) = role(r, &item) else { continue };
        if roles.iter().any(|known| (&known.claim, &known.value) == (&role.claim, &role.value)) {
            let message = format!("two roles are for the value {} of {}", shown(&role.value), shown(&role.claim));
            r.report(&item, message, "merge the two; only the first would apply");
        } else {
            roles.push(role);
        }
    }
    Some(roles)
}

fn role(r: &mut Reader, spot: &Spot<'_>) -> Option<OidcRole> {
    let fields = r.fields(spot, &["claim", "value", "scopes", "namespaces"])?;
    let claim = text(r, &fields, "claim", "the name of a claim in the ID token, for example groups");
    let value = text(r, &fields, "value", "the value of the claim, for example the name or the id of a group");
    let allowed = TokenScope::ALL.map(TokenScope::as_str);
    let scopes = r.required(&fields, "scopes", "for example scopes: [registry:read]").and_then(|spot| {
        let names = r.unique(&spot, "scopes", |r, item| r.one_of(item, "scope", &allowed))?;
        let reads = names.contains(&TokenScope::RegistryRead.as_str());
        if !reads {
            r.report(&spot, "a role without registry:read cannot open a page", "add registry:read");
        }
        reads.then_some(names)
    });
    let namespaces = r.required(&fields, "namespaces", "for example namespaces: [autonomy]").and_then(|spot| {
        let names = r.unique(&spot, "namespaces", |r, item| r.namespace(item))?;
        if names.is_empty() {
            r.report(&spot, "a role without namespaces is useless", "list at least one, or remove the role");
        }
        Some(names)
    });
    let scopes = scopes?;
    Some(OidcRole {
        claim: claim?,
        value: value?,
        scopes: TokenScope::ALL.into_iter().filter(|scope| scopes.contains(&scope.as_str())).collect(),
        namespaces: namespaces?.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use crate::policy::parse::parse;
    use crate::policy::{OidcPolicy, TokenScope};

    const ROLE: &str = "{claim: groups, value: ops, scopes: [registry:read, \"ops:heal\"], namespaces: [autonomy]}";

    fn read(oidc: &str) -> Result<OidcPolicy, Vec<(String, String)>> {
        let text = format!("version: 1\nallowlist: []\napi: {{oidc: {{{oidc}}}}}\n");
        match parse(&text, "policy.yaml") {
            Ok(policy) => Ok(policy.api.oidc.expect("the section")),
            Err(problems) => Err(problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect()),
        }
    }

    #[test]
    fn three_keys_are_enough() {
        let oidc = read(&format!("issuer: \"https://login.example\", client_id: aam, roles: [{ROLE}]")).expect("valid");
        assert_eq!((oidc.scopes.as_slice(), oidc.redirect, oidc.client_secret), (&["email".to_string()][..], None, None));
        let role = &oidc.roles[0];
        assert_eq!((role.claim.as_str(), role.value.as_str()), ("groups", "ops"));
        assert!(role.scopes.contains(&TokenScope::OpsHeal) && role.scopes.len() == 2);
    }

    #[test]
    fn each_mistake_is_named_at_its_place() {
        let with = |issuer: &str, more: &str, roles: &str| {
            read(&format!("issuer: \"{issuer}\", client_id: aam{more}, roles: [{roles}]")).err().unwrap_or_default()
        };
        let issuer = "https://login.example";
        assert_eq!(with(issuer, ", client_secret: \"env:S\", redirect: \"https://aam.example/ui/oidc/callback\"", ROLE), []);
        assert_eq!(with("http://127.0.0.1:9000", "", ROLE), []);
        let second = ROLE.replace("ops:heal", "ops:confirm");
        for (found, pointer) in [
            (with("http://login.example", "", ROLE), "/api/oidc/issuer"),
            (with(issuer, ", redirect: \"http://aam.example/ui/oidc/callback\"", ROLE), "/api/oidc/redirect"),
            (with(issuer, ", redirect: \"https://aam.example/consent/callback\"", ROLE), "/api/oidc/redirect"),
            (with(issuer, ", client_secret: hunter2", ROLE), "/api/oidc/client_secret"),
            (with(issuer, ", client_secret: \"vault:secret/a#b\"", ROLE), "/api/oidc/client_secret"),
            (with(issuer, ", scopes: [\"email groups\"]", ROLE), "/api/oidc/scopes/0"),
            (with(issuer, "", ""), "/api/oidc/roles"),
            (with(issuer, "", &format!("{ROLE}, {second}")), "/api/oidc/roles/1"),
            (with(issuer, "", &ROLE.replace("registry:read, ", "")), "/api/oidc/roles/0/scopes"),
            (with(issuer, "", &ROLE.replace("ops:heal", "ops:heel")), "/api/oidc/roles/0/scopes/1"),
            (with(issuer, "", &ROLE.replace("[autonomy]", "[]")), "/api/oidc/roles/0/namespaces"),
            (with(issuer, "", &ROLE.replace("value: ops, ", "")), "/api/oidc/roles/0"),
        ] {
            assert_eq!(found.len(), 1, "{pointer}: {found:?}");
            assert_eq!(found[0].0, pointer, "{found:?}");
            assert!(!found[0].1.contains("hunter2"), "{found:?}");
        }
    }
}
