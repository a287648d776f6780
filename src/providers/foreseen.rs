//! What the policy alone says about a locator, before any call: `aam check` and `aam plan` report it without network access, with
//! the failure that an attempt would have. Pure.

use super::consent::{self, ConsentSettings};
use super::{principals, vault};
use crate::families::Family;
use crate::model::{Class, Failure, Locator};
use crate::policy::Policy;
use crate::policy::credentials::Principal;
use std::sync::Arc;

/// Checks that the policy describes what `locator` names, and that a source of `family` can use it.
///
/// # Errors
/// Returns the failure with which the credential step of every attempt would end.
pub fn check(policy: &Policy, locator: &Locator, family: &Arc<Family>) -> Result<(), Failure> {
    match locator {
        Locator::Vault(_) if policy.credentials.vault.is_none() => Err(vault::no_vault(locator)),
        Locator::ServicePrincipal(name) => {
            let principal = policy.credentials.principals.get(name).ok_or_else(|| principals::unknown(name, policy))?;
            fits(name, principal, family)?;
            principals::unusable(principal).map_or(Ok(()), Err)
        }
        Locator::Consent(name) => {
            ConsentSettings::find(name, policy, family)?;
            policy.credentials.consent_store.key.as_ref().map(drop).ok_or_else(consent::no_key)
        }
        _ => Ok(()),
    }
}

/// What a kind of service principal gives to a source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    BearerToken,
    Password,
    AccessKey,
    AppKey,
    /// What is stored, in any form, or a signature that every HTTP source can carry.
    Anything,
}

fn gives(kind: &str) -> Gives {
    match kind {
        "basic" => Gives::Password,
        "aws" => Gives::AccessKey,
        "github_app" => Gives::AppKey,
        "token" | "netsuite" => Gives::Anything,
        _ => Gives::BearerToken,
    }
}

/// A family lists some kinds for each way to log in; another kind that gives the same can be used as well. A custom source
/// lists none, because its manifest decides.
fn fits(name: &str, principal: &Principal, family: &Family) -> Result<(), Failure> {
    let mut kinds: Vec<&str> = family.login.iter().flat_map(|login| &login.principals).map(String::as_str).collect();
    let given = gives(principal.kind);
    // A family that takes a stored token takes a minted one.
    let takes = |kind: &str| gives(kind) == given || kind == "token" && given == Gives::BearerToken;
    if kinds.is_empty() || given == Gives::Anything || kinds.iter().any(|kind| takes(kind)) {
        return Ok(());
    }
    kinds.dedup();
    Err(Failure::new(
        Class::CredentialMissing,
        format!("{} cannot use sp:{name}, because it is a service principal of the kind {}", family.title, principal.kind),
        format!(
            "name a service principal of the kind {}; aam families {} shows an example of each",
            kinds.join(" or "),
            family.id
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;
    use crate::policy::credentials::KIND_SPECS;
    use crate::policy::parse::parse;

    fn policy(credentials: &str) -> Policy {
        parse(&format!("version: 1\nallowlist: [github]\ncredentials: {{{credentials}}}\n"), "p").unwrap()
    }

    fn failure(policy: &Policy, locator: &str, family: &str) -> Option<Failure> {
        check(policy, &Locator::parse(locator).unwrap(), families::find(family).unwrap()).err()
    }

    const CONSENTS: &str = "consents: {gh: {family: github, client_id: x, client_secret: \"env:Q\", redirect: \"https://a.example/consent/callback\"}}";

    #[test]
    fn what_the_policy_does_not_describe_is_known_without_a_call() {
        let bare = policy("");
        for (locator, part) in [
            ("sp:nope", "does not describe a service principal nope"),
            ("consent:nope", "does not describe a consent nope"),
            ("vault:kv/a#b", "does not name a vault"),
        ] {
            let failure = failure(&bare, locator, "github").unwrap();
            assert!(failure.class == Class::CredentialMissing && failure.title.contains(part), "{failure:?}");
        }
        assert_eq!(failure(&bare, "env:X", "github"), None);
        let keyless = failure(&policy(CONSENTS), "consent:gh", "github").unwrap();
        assert!(keyless.fix.contains("consent_store: {key:"), "{keyless:?}");
        let whole = policy(&format!("{CONSENTS}, consent_store: {{key: \"env:K\"}}"));
        assert_eq!(failure(&whole, "consent:gh", "github"), None);
        assert!(failure(&whole, "consent:gh", "openapi").unwrap().title.contains("is for the family github"));
    }

    #[test]
    fn a_kind_that_a_family_cannot_use_is_known_without_a_call() {
        let policy = policy(
            "principals: {b: {kind: basic, username: u, password: \"env:P\"}, t: {kind: token, token: \"env:T\"}, \
             z: {kind: zoom, account_id: a, client_id: b, secret: \"env:S\"}, \
             shared: {kind: salesforce, domain: \"https://login.salesforce.com\", client_id: x, secret: \"env:S\"}}",
        );
        let refused = failure(&policy, "sp:b", "github").unwrap();
        assert!(refused.title.contains("kind basic") && refused.fix.contains("github_app or token"), "{refused:?}");
        for (locator, family) in
            [("sp:b", "openapi"), ("sp:t", "github"), ("sp:t", "jdbc"), ("sp:z", "openapi"), ("sp:b", "jdbc")]
        {
            assert_eq!(failure(&policy, locator, family), None, "{locator} {family}");
        }
        assert!(failure(&policy, "sp:z", "jdbc").is_some());
        let shared = failure(&policy, "sp:shared", "salesforce").unwrap();
        assert!(shared.class == Class::Misconfigured && shared.title.contains("all organizations share"), "{shared:?}");
    }

    #[test]
    fn every_kind_that_a_family_lists_fits_it() {
        for family in families::all() {
            for kind in family.login.iter().flat_map(|login| &login.principals) {
                let kind = KIND_SPECS.iter().find(|spec| spec.name == kind).unwrap().name;
                let principal = Principal { kind, settings: Default::default() };
                assert_eq!(fits("x", &principal, family), Ok(()), "{} {kind}", family.id);
            }
        }
    }
}
