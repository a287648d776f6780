//! Random values of `api.oidc`.

use super::{name, text, unique, url};
use crate::model::Locator;
use crate::policy::{OidcPolicy, OidcRole, TokenScope};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

pub fn oidc() -> impl Strategy<Value = OidcPolicy> {
    let filled = || text().prop_filter("a text is not null", |text| text != "~");
    let scopes = btree_set(proptest::sample::select(TokenScope::ALL.to_vec()), 0..=3);
    let role = ((filled(), filled()), (scopes, btree_set(name(), 1..3)));
    let roles = vec(role, 1..4).prop_map(|roles| {
        let mut kept: Vec<OidcRole> = Vec::new();
        for ((claim, value), (mut scopes, namespaces)) in roles {
            scopes.insert(TokenScope::RegistryRead);
            if !kept.iter().any(|known| (&known.claim, &known.value) == (&claim, &value)) {
                kept.push(OidcRole { claim, value, scopes, namespaces });
            }
        }
        kept
    });
    let redirect = proptest::option::of(Just("https://aam.example/ui/oidc/callback".to_string()));
    let client = (url(), filled(), proptest::option::of(Just("env:A_TOKEN")), redirect, unique("[a-z:/]{1,8}"));
    (client, roles).prop_map(|((issuer, client_id, secret, redirect, scopes), roles)| {
        let client_secret = secret.map(|text| Locator::parse(text).unwrap());
        OidcPolicy { issuer, client_id, client_secret, redirect, scopes, roles }
    })
}
