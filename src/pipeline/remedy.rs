//! What to do about a credential of a service principal or a consent that a source rejects.
//!
//! Connectors know only that a credential was rejected, so their fixes say to store another one where credential_locator
//! points. A minted token or a consent is not stored anywhere, so that part of the fix is replaced. Pure.

use super::Job;
use crate::model::{Failure, Locator, Outcome, Step, StepStatus};
use crate::policy::credentials::{Principal, Setting};

/// The texts with which connectors and family files refer to the place of the credential.
const PLACE: [&str; 2] = ["credential_locator points", "behind credential_locator"];

/// Adapts the fixes of the steps that used the credential.
pub(super) fn adapt(mut outcome: Outcome, job: &Job) -> Outcome {
    for report in outcome.steps.iter_mut().filter(|report| report.step > Step::Credential) {
        if let StepStatus::Failed { failure } = &mut report.status {
            *failure = adapted(failure.clone(), job);
        }
    }
    outcome
}

/// Returns `failure` with a fix that is possible for the locator of the intent. The first sentence, which says where to store
/// another credential, is replaced; sentences after it stay.
pub(super) fn adapted(failure: Failure, job: &Job) -> Failure {
    let Some(at) = PLACE.iter().filter_map(|place| failure.fix.find(place)).min() else { return failure };
    let remedy = match &job.intent.credential_locator {
        Some(Locator::Consent(name)) => consent(name, job),
        Some(Locator::ServicePrincipal(name)) => match job.policy.credentials.principals.get(name) {
            Some(principal) => service_principal(name, principal, job),
            None => return failure,
        },
        _ => return failure,
    };
    let rest = failure.fix.get(at..).and_then(|rest| rest.split_once(". ")).map(|(_, rest)| rest);
    let fix = rest.map_or_else(|| remedy.clone(), |rest| format!("{remedy}. {rest}"));
    Failure { fix, ..failure }
}

fn consent(name: &str, job: &Job) -> String {
    let (id, owner, resources) = (job.connection, &job.intent.owner.user, job.intent.resource_ids.join(", "));
    format!(
        "aam consent link {id} makes a new link: send it to {owner}, who gives consent with an account that may read {resources}; if the new token is rejected too, compare the scopes and the OAuth client of credentials.consents.{name} in the policy with what the source requires"
    )
}

fn service_principal(name: &str, principal: &Principal, job: &Job) -> String {
    let entry = format!("credentials.principals.{name}");
    let stored: Vec<String> = principal
        .settings
        .iter()
        .filter_map(|(key, setting)| match setting {
            Setting::Locator(locator) => Some(format!("{key} ({locator})")),
            _ => None,
        })
        .collect();
    let (kind, stored) = (principal.kind, stored.join(" and "));
    // With a certificate, NetSuite mints tokens; otherwise its keys sign.
    let signs = kind == "netsuite" && principal.locator("key").is_none();
    match kind {
        "basic" | "token" => {
            format!("store a valid credential behind {stored} of {entry} in the policy; AAM reads it again at every attempt")
        }
        _ if signs || matches!(kind, "aws" | "github_app" | "snowflake") => {
            let behind = if stored.is_empty() { String::new() } else { format!(", and what is stored behind {stored}") };
            format!(
                "compare {entry} (kind {kind}) in the policy with the vendor's settings{behind}; least privilege: {}",
                job_privilege(job)
            )
        }
        _ => {
            let scopes = match principal.list("scopes") {
                Some(scopes) => format!("scopes {}", scopes.join(" ")),
                None => "the scopes of the family".to_string(),
            };
            format!(
                "the token was minted by {entry} (kind {kind}, {scopes}), so a new secret does not help: check that the source accepts tokens of this issuer and client, and that the client has the permission; least privilege: {}",
                job_privilege(job)
            )
        }
    }
}

fn job_privilege(job: &Job) -> &str {
    job.sources.family(&job.intent.source_type).map_or("see aam families", |family| family.least_privilege.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::doubles::{job, policy};
    use super::*;
    use crate::model::Class;

    const STORE: &str =
        "store a valid credential where credential_locator points; AAM reads it again. If another header is expected, write auth";

    fn fix(locator: &str, fix: &str) -> String {
        let mut job = job(&["a"]);
        job.policy = policy(
            "credentials: {principals: {crm: {kind: oauth2_client, token_url: \"https://login.example/token\", client_id: a, secret: \"env:CRM\", scopes: [read]}, wiki: {kind: basic, username: reader, password: \"env:WIKI\"}}}",
        );
        job.intent.credential_locator = Some(Locator::parse(locator).unwrap());
        adapted(Failure::new(Class::CredentialRejected, "rejected", fix), &job).fix
    }

    #[test]
    fn a_rejected_token_of_a_principal_or_consent_does_not_lead_to_a_place_where_nothing_is_stored() {
        assert_eq!(fix("env:TOKEN", STORE), STORE);
        for behind in [STORE, "it is wrong: create a new one and store it behind credential_locator"] {
            let minted = fix("sp:crm", behind);
            assert!(minted.contains("credentials.principals.crm (kind oauth2_client, scopes read)"), "{minted}");
            let stored = fix("sp:wiki", behind);
            assert!(stored.contains("password (env:WIKI) of credentials.principals.wiki"), "{stored}");
            let given = fix("consent:things", behind);
            assert!(given.contains("aam consent link") && given.contains("owner@acme.example"), "{given}");
            for text in [minted, stored, given] {
                assert!(!text.contains("credential_locator"), "{text}");
                assert_eq!(text.contains("If another header is expected, write auth"), behind == STORE, "{text}");
            }
        }
        assert_eq!(fix("sp:crm", "GRANT SELECT ON a"), "GRANT SELECT ON a");
    }
}
