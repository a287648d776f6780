//! Tests of the session policy, of the rules for container URIs, and of the table of refusals.

use super::container::endpoint;
use super::refusals::listed_codes;
use super::sts::{REDSHIFT_SESSION_POLICY, SESSION_POLICY};
use crate::model::Class;
use serde_json::Value;
use std::collections::BTreeSet;

/// The limit of the parameter Policy of AssumeRole and AssumeRoleWithWebIdentity in characters (API reference).
const MAX_SESSION_POLICY_CHARS: usize = 2048;

fn statements() -> Vec<Value> {
    let policy: Value = serde_json::from_str(&SESSION_POLICY).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    policy["Statement"].as_array().unwrap().clone()
}

#[test]
fn the_session_policy_fits_into_the_parameter() {
    assert!(SESSION_POLICY.chars().count() <= MAX_SESSION_POLICY_CHARS, "{} characters", SESSION_POLICY.chars().count());
    // The parameter allows tab, line feed, carriage return and the characters from space to U+00FF.
    assert!(SESSION_POLICY.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
}

#[test]
fn the_session_policy_allows_reads_and_denies_everything_else() {
    let statements = statements();
    let [allow, deny] = statements.as_slice() else { panic!("{statements:?}") };
    assert_eq!((&allow["Effect"], &allow["Resource"]), (&"Allow".into(), &"*".into()));
    assert_eq!((&deny["Effect"], &deny["Resource"]), (&"Deny".into(), &"*".into()));
    assert_eq!(allow["Action"], deny["NotAction"], "what is not allowed must be denied");
    let names: Vec<&str> = allow["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap()).collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len());
    for name in names {
        let (service, action) = name.split_once(':').unwrap();
        assert!(!service.contains('*'), "{name}");
        // Names that begin with these are reads in the Service Authorization Reference, with the exceptions below.
        assert!(["Get", "List", "Describe", "Simulate"].iter().any(|verb| action.starts_with(verb)), "{name}");
        // Credentials of a database, of a session or of a secret would let their holder do more than this policy.
        assert!(
            !["Credentials", "Token", "Secret", "GetObject", "ExecuteStatement"].iter().any(|part| action.contains(part)),
            "{name}"
        );
    }
}

#[test]
fn the_session_policy_of_redshift_adds_the_login_and_nothing_else() {
    assert!(REDSHIFT_SESSION_POLICY.chars().count() <= MAX_SESSION_POLICY_CHARS);
    let policy: Value = serde_json::from_str(&REDSHIFT_SESSION_POLICY).unwrap();
    let [allow, deny] = policy["Statement"].as_array().unwrap().as_slice() else { panic!("{policy}") };
    assert_eq!(allow["Action"], deny["NotAction"]);
    let actions = allow["Action"].as_array().unwrap();
    let general = statements()[0]["Action"].as_array().unwrap().clone();
    let added: Vec<&str> = actions.iter().filter(|action| !general.contains(action)).filter_map(Value::as_str).collect();
    assert_eq!(added, ["redshift:GetClusterCredentialsWithIAM", "redshift-serverless:GetCredentials"]);
    assert_eq!(actions.len(), general.len() + added.len());
}

#[test]
fn container_uris_are_those_that_the_sdks_accept() {
    let relative = |path: &'static str, base| endpoint(base, &|name| (name.ends_with("RELATIVE_URI")).then(|| path.to_string()));
    let full = |uri: &'static str| endpoint(None, &|name| (name.ends_with("FULL_URI")).then(|| uri.to_string()));
    assert_eq!(relative("/v2/credentials/1-2", None).unwrap().as_str(), "http://169.254.170.2/v2/credentials/1-2");
    assert_eq!(relative("/v2/x?y=z", Some("http://127.0.0.1:9")).unwrap().as_str(), "http://127.0.0.1:9/v2/x?y=z");
    for path in ["@evil.example/x", ".evil.example/", "v2/x", ":81/x", "http://evil.example/"] {
        assert_eq!(relative(path, None).unwrap_err().class, Class::Misconfigured, "{path}");
    }
    for uri in [
        "https://anything.example/x",
        "http://127.0.0.1:80/x",
        "http://127.9.9.9/x",
        "http://[::1]/x",
        "http://169.254.170.2/x",
        "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials",
    ] {
        assert!(full(uri).is_ok(), "{uri}");
    }
    for uri in
        ["http://evil.example/x", "http://localhost/x", "http://10.0.0.1/x", "http://169.254.1.1/", "ftp://127.0.0.1/", "/v2/x"]
    {
        assert_eq!(full(uri).unwrap_err().class, Class::Misconfigured, "{uri}");
    }
    let both = endpoint(None, &|name| match name {
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" => Some("/first".to_string()),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some("https://second.example/".to_string()),
        _ => None,
    });
    assert_eq!(both.unwrap().path(), "/first");
    let failure = endpoint(None, &|_| None).unwrap_err();
    assert_eq!(failure.class, Class::CredentialMissing);
    assert!(failure.fix.contains("source: instance"), "{failure:?}");
}

#[test]
fn every_documented_refusal_is_listed() {
    let listed = listed_codes();
    for code in [
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "MalformedPolicyDocument",
        "PackedPolicyTooLarge",
        "RegionDisabledException",
        "InvalidIdentityToken",
        "IDPCommunicationError",
        "IDPRejectedClaim",
        "ValidationError",
    ] {
        assert!(listed.contains(&code), "{code}");
    }
}
