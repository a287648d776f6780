//! Recognizes credentials of the wrong kind before any call is made. Pure.
//!
//! A vendor refuses such a credential just as a wrong one, so a person would look for the mistake in the wrong
//! place; and a secret of one vendor would be sent to another.

use super::family_spec::{WholePattern, WrongKind};
use super::login::TokenFacts;
use crate::credentials::Credential;
use crate::families::{Family, Login};
use crate::model::{Class, Failure};
use regex::Regex;
use std::sync::LazyLock;

/// A form of credential that only one vendor issues.
struct IssuedForm {
    pattern: Regex,
    name: &'static str,
    /// The families that such a credential can be used for.
    families: &'static [&'static str],
}

/// The fields whose values are compared with the forms of other vendors.
const TOKEN_FIELDS: [&str; 5] = ["token", "access_token", "api_token", "api_key", "password"];

/// The vendors document these prefixes for secret scanners: docs.github.com "GitHub's token formats", docs.slack.dev "Tokens",
/// docs.gitlab.com "Token prefixes", docs.aws.amazon.com "IAM identifiers" \[V\]; the others are known from gitleaks' and
/// trufflehog's rules \[K\].
static FORMS: LazyLock<Vec<IssuedForm>> = LazyLock::new(|| {
    const GOOGLE: &[&str] = &["bigquery", "gcp_org", "gworkspace_drive"];
    const AWS: &[&str] = &["aws_org", "redshift", "s3", "s3_compat"];
    let forms: [(&str, &str, &[&str]); 16] = [
        ("(gh[pousr]_[A-Za-z0-9_]{20,}|github_pat_[A-Za-z0-9_]{20,})", "a GitHub token", &["github"]),
        ("(xox[a-z]|xapp|xoxe\\.xox[a-z])-[A-Za-z0-9-]{6,}", "a Slack token", &["slack"]),
        ("gl(pat|dt|rt|cbt|ptt|ft|soat|agent|oas|ffct|imt)-[A-Za-z0-9_.=-]{16,}", "a GitLab token", &["gitlab"]),
        ("AT(ATT3|CTT3)[A-Za-z0-9_=-]{20,}", "an Atlassian API token", &["confluence", "jira"]),
        ("AIza[A-Za-z0-9_-]{35}", "a Google API key", &[]),
        ("ya29\\.[A-Za-z0-9._-]{20,}", "a Google access token", GOOGLE),
        ("1//0[A-Za-z0-9_-]{30,}", "a Google refresh token", &[]),
        ("GOCSPX-[A-Za-z0-9_-]{20,}", "a Google OAuth client secret", &[]),
        ("(AKIA|ASIA)[A-Z2-7]{16}", "an AWS access key id", AWS),
        ("-----BEGIN [A-Z0-9 ]*KEY-----.*", "a private key", &[]),
        ("00D[A-Za-z0-9]{12}([A-Za-z0-9]{3})?![A-Za-z0-9._]{20,}", "a Salesforce access token", &["salesforce"]),
        ("5Aep861[A-Za-z0-9._]{20,}", "a Salesforce refresh token", &[]),
        ("[srp]k_(live|test)_[A-Za-z0-9]{16,}", "a Stripe key", &[]),
        ("pat-(na|eu|ap)[0-9]-[0-9a-f-]{36}", "a HubSpot access token", &[]),
        ("(npm|dop_v1|dckr_pat|hf|sntrys)_[A-Za-z0-9_-]{20,}", "a token of a developer service", &[]),
        ("https?://[^ ]+", "an address", &[]),
    ];
    let compiled = |(pattern, name, families): (&str, &'static str, &'static [&'static str])| {
        let pattern = WholePattern::try_from(pattern.to_string()).ok()?.0;
        Some(IssuedForm { pattern, name, families })
    };
    forms.into_iter().filter_map(compiled).collect()
});

/// Returns the failure for a credential of another kind, which names both kinds; or `None` if nothing is known against it.
#[must_use]
pub fn check(kinds: &[WrongKind], credential: &Credential, family: &Family) -> Option<Failure> {
    if let Some(kind) = kinds.iter().find(|kind| fits(kind, credential, family)) {
        return Some(failure(&kind.name, &kind.fix, family));
    }
    let stored = || credential.plain().into_iter().chain(TOKEN_FIELDS.iter().filter_map(|name| credential.field(name)));
    let foreign = |form: &&IssuedForm| {
        !form.families.contains(&&*family.id) && stored().any(|secret| form.pattern.is_match(secret.expose().trim()))
    };
    if let Some(form) = FORMS.iter().find(foreign) {
        return Some(failure(form.name, &expected(family), family));
    }
    // A key file of Google Cloud says itself what it is.
    let kind = credential.field("type").map(|kind| kind.expose());
    let name = match kind {
        Some("service_account") => "the key of a Google service account",
        Some("authorized_user") => "the login of a person at Google (gcloud)",
        Some("external_account") => "a configuration of Google's workload identity federation",
        _ => return None,
    };
    (!reads_any_field(credential, family)).then(|| failure(name, &expected(family), family))
}

fn fits(kind: &WrongKind, credential: &Credential, family: &Family) -> bool {
    let matches = |pattern: &WholePattern, text: &str| pattern.0.is_match(text.trim());
    let named =
        |pattern: &WholePattern, name: &str| credential.field(name).is_some_and(|secret| matches(pattern, secret.expose()));
    let pattern = kind.pattern.as_ref().is_none_or(|pattern| {
        let plain = credential.plain().is_some_and(|secret| matches(pattern, secret.expose()));
        plain
            || match kind.field.as_str() {
                "" => family.credential_fields().any(|field| named(pattern, &field.name)),
                name => named(pattern, name),
            }
    });
    let claims = if kind.claims.is_empty() {
        serde_json::Value::Null
    } else {
        let texts: Vec<String> = credential.values().map(|secret| secret.expose().trim().to_string()).collect();
        TokenFacts::new(texts.iter(), None).claims
    };
    let claim = |(pointer, pattern): (&String, &WholePattern)| match claims.pointer(pointer) {
        Some(serde_json::Value::String(text)) => matches(pattern, text),
        _ => false,
    };
    pattern
        && kind.claims.iter().all(claim)
        && kind.fields.iter().all(|name| credential.field(name).is_some())
        && !kind.without.iter().any(|name| credential.field(name).is_some())
        && kind.values.iter().all(|(name, pattern)| named(pattern, name))
}

/// Returns true if the credential has all fields of a way to log in.
fn reads_any_field(credential: &Credential, family: &Family) -> bool {
    family.login.iter().any(|login| login.required().all(|name| credential.field(name).is_some()))
}

fn failure(name: &str, fix: &str, family: &Family) -> Failure {
    let ways: Vec<&str> = family.login.iter().map(|login| login.about.as_str()).collect();
    Failure::new(
        Class::CredentialMissing,
        format!("the credential is {name}, and {} needs {}", family.title, ways.join(", or ")),
        fix.trim().to_string(),
    )
}

/// Returns what to store for a family, by its ways to log in.
fn expected(family: &Family) -> String {
    let one = |login: &Login| {
        let names: Vec<&str> = login.required().collect();
        match (&login.plain, names.as_slice()) {
            (Some(_), [only]) => format!("the {only}"),
            (_, names) => format!("a JSON object with {}", names.join(" and ")),
        }
    };
    let ways: Vec<String> = family.login.iter().map(one).collect();
    format!("store {} behind credential_locator; aam families {} explains each way to log in", ways.join(", or "), family.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    fn judged(family: &str, text: &str) -> Option<Failure> {
        let kinds: Vec<WrongKind> = serde_json::from_value(serde_json::json!([
            {"name": "an API token without its e-mail address", "pattern": "dsk_[a-z0-9]{8,}", "field": "token",
             "fix": "store {\"username\": \"E-MAIL\", \"password\": \"TOKEN\"}"},
            {"name": "an OAuth client", "fields": ["client_id", "client_secret"], "without": ["token"],
             "fix": "declare credentials.principals.NAME: {kind: oauth2_client}, and write sp:NAME into the intent"},
        ]))
        .unwrap();
        check(&kinds, &Credential::read(Secret::new(text.to_string())), crate::families::find(family).unwrap())
    }

    /// Texts of the forms that vendors issue. They are put together here, because scanners of source code look for them.
    fn issued(prefix: &str, length: usize) -> String {
        prefix.chars().chain("abcdefghijklmnopqrstuvwxyz".chars().cycle()).take(length).collect()
    }

    #[test]
    fn a_credential_of_another_kind_is_named() {
        let key = format!("-----BEGIN {}-----\nMIIE\n", "RSA PRIVATE KEY");
        let (slack, gitlab, github) = (issued("xoxb-", 30), issued("glpat-", 26), issued("ghp_", 40));
        let access_key = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
        for (family, text, title) in [
            ("acme_desk", "dsk_0123456789".to_string(), "an API token without its e-mail address"),
            ("acme_desk", r#"{"token": "dsk_0123456789"}"#.to_string(), "an API token without its e-mail address"),
            ("acme_desk", r#"{"client_id": "a", "client_secret": "b"}"#.to_string(), "an OAuth client"),
            ("acme_desk", slack.clone(), "a Slack token"),
            ("acme_desk", format!(r#"{{"username": "a@b.example", "password": "{gitlab}"}}"#), "a GitLab token"),
            ("acme_desk", key, "a private key"),
            (
                "acme_desk",
                r#"{"type": "service_account", "client_email": "x"}"#.to_string(),
                "the key of a Google service account",
            ),
            ("acme_desk", "https://vault.acme.example/secret".to_string(), "an address"),
            ("slack", github, "a GitHub token"),
            ("github", access_key, "an AWS access key id"),
        ] {
            let failure = judged(family, &text).unwrap_or_else(|| panic!("{family} {text}"));
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(failure.title.starts_with(&format!("the credential is {title}, and ")), "{failure:?}");
            assert!(!text.split('"').any(|piece| piece.len() > 13 && format!("{failure:?}").contains(piece)), "{failure:?}");
        }
        let failure = judged("acme_desk", &slack).unwrap();
        assert_eq!(
            failure.title,
            "the credential is a Slack token, and Acme Desk needs an account with an API token, or a bearer token"
        );
        assert_eq!(
            failure.fix,
            "store a JSON object with username and password, or the token behind credential_locator; \
             aam families acme_desk explains each way to log in"
        );
    }

    #[test]
    fn what_may_be_right_is_not_refused() {
        for (family, text) in [
            ("slack", issued("xoxb-", 30).as_str()),
            ("github", issued("ghs_", 40).as_str()),
            ("acme_desk", "a@b.example:dsk_0123456789"),
            ("acme_desk", r#"{"username": "a@b.example", "password": "dsk_0123456789"}"#),
            ("acme_desk", "eyJh.eyJhIjoxfQ."),
            ("acme_desk", r#"{"type": "service_account", "token": "x"}"#),
            ("acme_desk", ""),
        ] {
            assert_eq!(judged(family, text), None, "{family} {text}");
        }
        assert_eq!(FORMS.len(), 16, "every pattern is valid");
    }
}
