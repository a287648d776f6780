//! What people write into `credential_locator`: locations of secrets, and secrets.

use super::is_credential;
use crate::model::Locator;

/// Texts with a prefix of a vendor are put together here, so that scanners of repositories do not take them for tokens.
fn token(prefix: &str) -> String {
    format!("{prefix}{}", "9aZ0bY1cX2dW3eV4fU5gT6hS7iR8jQ9kP0".get(..28).unwrap_or_default())
}

#[test]
fn locations_are_accepted() {
    for text in [
        // The five forms.
        "env:GITHUB_TOKEN",
        "env:S3_EU_CENTRAL_1_KEY",
        "file:/run/secrets/github",
        "file:/var/lib/kubelet/pods/1b4e28ba-2fa1-11d2-883f-0016d3cca427/volumes/x/token",
        "file:creds/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "vault:aam/github",
        "vault:aam/github#token",
        "vault:github",
        "vault://secret/team-b/crm#api_key",
        "vault:database/creds/readonly",
        "vault:kv/9f86d081884c7d659a2feaa0c55ad015/x",
        "sp:entra-prod",
        "sp:1b4e28ba-2fa1-11d2-883f-0016d3cca427",
        "consent:gworkspace/acme",
        // Slips.
        "vualt:aam/github#token",
        "envs:GITHUB_TOKEN",
        "ENV:GITHUB_TOKEN",
        "Env:GITHUB_TOKEN",
        "Vault:secret/aam",
        "VAULT:secret/aam#token",
        "valut:github",
        "consnet:zoom",
        // Secret stores that AAM does not read.
        "op://vault/item/field",
        "op://Private/GitHub/credential",
        "aws-sm:prod/github",
        "awssm:github-token",
        "arn:aws:secretsmanager:eu-central-1:123456789012:secret:aam/github-9xKdQ2",
        "arn:aws:ssm:eu-central-1:123456789012:parameter/aam/github",
        "gcp-sm:projects/acme/secrets/github/versions/latest",
        "gsm:github",
        "azure-kv:acme-vault/github",
        "https://acme.vault.azure.net/secrets/github",
        "doppler:acme/prd/GITHUB_TOKEN",
        "bws:1b4e28ba-2fa1-11d2-883f-0016d3cca427",
        "k8s:aam/github/token",
        "1password:acme/github",
        "keychain:github",
        "ssm:/aam/github",
        // Unknown forms.
        "foo:bar",
        "mystore:team/github",
        "mystore:team2/github-prod",
        "carrier-pigeon:roof",
        "hsm:slot-1",
        "ref:aws:prod:github",
        "vaultwarden://acme/item#field",
        "urn:acme:secrets:github",
        "safe:GITHUB_API_TOKEN",
        "safe:our-github-read-only-token",
    ] {
        assert!(!is_credential(text), "{text}");
        assert!(Locator::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn what_could_be_a_credential_is_refused() {
    let aws = ["wJalrXUtnFEMI", "K7MDENG", "bPxRfiCYEXAMPLEKEY"].join("/");
    let mut texts: Vec<String> = [
        // A user and a password.
        "user:password",
        "admin:hunter2",
        "reader:s3cr3t",
        "alice:sunshine",
        "alice:correct-horse-battery-staple",
        "svc-aam:github",
        "aam_reader:kitten",
        "john.doe:Winter2026",
        "acme:Winter2026",
        "acme:hunter2",
        "acme:P@ssw0rd",
        "acme:correct-horse-battery-staple",
        "acme:a:hunter2",
        "postgres:postgres",
        "sa:x",
        // A label and a value.
        "token:abc",
        "password:kitten",
        "Bearer:abc",
        "bearer:abcdef",
        "Basic:dXNlcjpwYXNz",
        "api_key:kitten",
        "X-Api-Key:kitten",
        "client_secret:kitten",
        // Connection strings.
        "postgres://reader:hunter2@db.example/shop",
        "https://user:pass@host.example/",
        "jdbc:postgresql://db.example/app?user=reader&password=x",
        "jdbc:oracle:thin:scott/tiger@db.example:1521",
        "mongodb+srv://u:p@cluster.example",
        "redis://:hunter2@cache.example",
        "Server=db;Password=x:1",
        // Random values after any form.
        "vault:9f86d081884c7d659a2feaa0c55ad015",
        "foo:1b4e28ba-2fa1-11d2-883f-0016d3cca427x",
        "sp:q8R~Zk3vT1mX9bY2cL5nP7dF0gH4jK6",
        "vault:kv/q8RZk3vT1mX9bY2cL5nP",
        "env:q8RZk3vT1mX9bY2cL5nP7dF0",
        "file:q8RZk3vT1mX9bY2cL5nP7dF0",
        "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
        "foo:nfmvs7k2q9x4t8w3z6y5b1c0",
    ]
    .map(str::to_string)
    .into();
    texts.extend(["vault:", "aws:", "sp:", "foo:"].map(|scheme| format!("{scheme}{aws}")));
    texts.push(format!("{}{}:{aws}", "AKIA", "IOSFODNN7EXAMPLE"));
    for prefix in [
        "ghp_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "sk_live_",
        "sk_test_",
        "rk_live_",
        "sk-ant-",
        "sk-proj-",
        "hvs.",
        "hvb.",
        "npm_",
        "pypi-AgE",
        "SG.",
        "dop_v1_",
        "shpat_",
        "shpss_",
        "ya29.",
        "1//0",
        "AIza",
        "GOCSPX-",
        "glsa_",
        "ATATT3x",
        "NRAK-",
        "lin_api_",
        "ntn_",
        "pat-na1-",
        "xkeysib-",
        "figd_",
        "sbp_",
        "sntrys_",
        "PMAK-",
        "dp.st.",
        "ops_eyJ",
    ] {
        for scheme in ["vault:", "sp:", "consent:", "envs:", "foo:", "foo:a/", "op://a/"] {
            texts.push(format!("{scheme}{}", token(prefix)));
        }
    }
    for text in &texts {
        assert!(is_credential(text), "{text}");
    }
    // These have no form of a locator at all.
    for text in [
        "Bearer abc",
        "hunter2",
        "C:\\keys\\github",
        concat!("-----BEGIN", " PRIVATE KEY-----\nMIIE"),
        "user name:password",
        "x:y",
    ] {
        assert!(Locator::parse(text).is_err(), "{text}");
    }
    let jwt = ["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxIn0", "c2lnbmF0dXJl"].join(".");
    for scheme in ["vault:", "foo:", "Bearer:", "sp:"] {
        assert!(is_credential(&format!("{scheme}{jwt}")), "{scheme}");
    }
}
