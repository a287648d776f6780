//! Examples of service principals, by kind. `aam families` prints them as entries of the policy.

use super::{KeyForm, KindSpec, kind_spec};
use std::collections::BTreeMap;
use std::fmt::Write;

/// An example of a service principal. If a kind has several ways to prove itself, each has its own example.
#[derive(Debug)]
pub struct PrincipalExample {
    /// What it shows, for example `a client secret`.
    pub about: &'static str,
    /// The keys and their values. In a value, `{NAME}` stands for the name of the principal in upper case, and
    /// `{token_url}` for the token endpoint of the family.
    pub keys: &'static [(&'static str, &'static str)],
}

const fn example(about: &'static str, keys: &'static [(&'static str, &'static str)]) -> PrincipalExample {
    PrincipalExample { about, keys }
}

const TENANT: (&str, &str) = ("tenant", "00000000-0000-0000-0000-000000000000");
const CLIENT: (&str, &str) = ("client_id", "CLIENT_ID");
const ROLE: (&str, &str) = ("role_arn", "arn:aws:iam::123456789012:role/aam");
const CLIENT_SECRET: (&str, &str) = ("secret", "env:{NAME}_CLIENT_SECRET");
const PRIVATE_KEY: (&str, &str) = ("key", "env:{NAME}_PRIVATE_KEY");

/// Returns the examples of a kind. Every kind has one; tests check that the policy accepts each of them.
#[must_use]
pub fn principal_examples(kind: &str) -> &'static [PrincipalExample] {
    match kind {
        "oauth2_client" => OAUTH2_CLIENT,
        "entra" => ENTRA,
        "google" => GOOGLE,
        "aws" => AWS,
        "snowflake" => const { &[example("a key pair", &[("account", "acme-prod"), ("user", "AAM"), PRIVATE_KEY])] },
        "github_app" => {
            const { &[example("the app's private key", &[("app_id", "APP_ID"), ("installation_id", "INSTALLATION_ID"), PRIVATE_KEY])] }
        }
        "okta" => {
            const { &[example("a private key", &[("org", "https://acme.okta.com"), CLIENT, PRIVATE_KEY, ("key_id", "KEY_ID")])] }
        }
        "salesforce" => SALESFORCE,
        "box" => BOX,
        "zoom" => const { &[example("a client secret", &[("account_id", "ACCOUNT_ID"), CLIENT, CLIENT_SECRET])] },
        "netsuite" => NETSUITE,
        "basic" => const { &[example("a password", &[("username", "aam"), ("password", "env:{NAME}_PASSWORD")])] },
        "token" => const { &[example("a fixed token", &[("token", "env:{NAME}_TOKEN")])] },
        _ => &[],
    }
}

const OAUTH2_CLIENT: &[PrincipalExample] = &[
    example("a client secret", &[("token_url", "{token_url}"), CLIENT, ("auth", "client_secret_basic"), CLIENT_SECRET]),
    example(
        "a private key",
        &[("token_url", "{token_url}"), CLIENT, ("auth", "private_key_jwt"), PRIVATE_KEY, ("key_id", "KEY_ID")],
    ),
];

const ENTRA: &[PrincipalExample] = &[
    example("a certificate", &[TENANT, CLIENT, ("certificate", "env:{NAME}_CERTIFICATE")]),
    example("a client secret", &[TENANT, CLIENT, CLIENT_SECRET]),
    example(
        "a workload identity",
        &[TENANT, CLIENT, ("federated_token_file", "/var/run/secrets/azure/tokens/azure-identity-token")],
    ),
];

const GOOGLE: &[PrincipalExample] = &[
    example("workload identity federation", &[("federation", "env:{NAME}_FEDERATION")]),
    example(
        "federation that mints tokens of a service account",
        &[("federation", "env:{NAME}_FEDERATION"), ("impersonate", "aam@PROJECT.iam.gserviceaccount.com")],
    ),
    example("a service account key", &[("key", "env:{NAME}_KEY")]),
    example("a key with domain-wide delegation", &[("key", "env:{NAME}_KEY"), ("subject", "reader@acme.example")]),
];

const AWS: &[PrincipalExample] = &[
    example("an assumed role", &[("keys", "env:{NAME}_KEYS"), ROLE, ("external_id", "EXTERNAL_ID")]),
    example("static keys", &[("keys", "env:{NAME}_KEYS")]),
    example(
        "a web identity, for example of EKS",
        &[("web_identity_token_file", "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"), ROLE],
    ),
    example("the role of the instance", &[("source", "instance")]),
    example("the role of the container", &[("source", "container")]),
];

const SALESFORCE: &[PrincipalExample] = &[
    example("JWT bearer", &[("domain", "https://acme.my.salesforce.com"), CLIENT, PRIVATE_KEY, ("username", "aam@acme.example")]),
    example("client credentials", &[("domain", "https://acme.my.salesforce.com"), CLIENT, CLIENT_SECRET]),
];

const BOX: &[PrincipalExample] = &[
    example("a JWT app", &[("config", "env:{NAME}_CONFIG")]),
    example("client credentials", &[CLIENT_SECRET, CLIENT, ("enterprise_id", "ENTERPRISE_ID")]),
];

const NETSUITE: &[PrincipalExample] = &[
    example("a certificate", &[("account", "1234567_SB1"), CLIENT, PRIVATE_KEY, ("certificate_id", "CERTIFICATE_ID")]),
    example(
        "a consumer and a token",
        &[
            ("account", "1234567_SB1"),
            ("consumer_key", "env:{NAME}_CONSUMER_KEY"),
            ("consumer_secret", "env:{NAME}_CONSUMER_SECRET"),
            ("token_id", "env:{NAME}_TOKEN_ID"),
            ("token_secret", "env:{NAME}_TOKEN_SECRET"),
        ],
    ),
];

impl PrincipalExample {
    /// Returns the entry of the policy for a principal `name` of the kind, as YAML. `settings` replace or add values for the
    /// keys that the kind has; their values are YAML too.
    #[must_use]
    pub fn entry(&self, kind: &KindSpec, name: &str, token_url: &str, settings: &BTreeMap<String, String>) -> String {
        let mut out = format!("credentials:\n  principals:\n    {name}:\n      kind: {}\n", kind.name);
        let upper = name.to_ascii_uppercase();
        for (key, value) in self.keys {
            let value = value.replace("{NAME}", &upper).replace("{token_url}", token_url);
            let value = settings.get(*key).unwrap_or(&value);
            let _ = writeln!(out, "      {key}: {value}");
        }
        for (key, value) in settings.iter().filter(|(key, _)| kind.has(key) && !self.shows(key)) {
            let _ = writeln!(out, "      {key}: {value}");
        }
        out
    }

    /// Whether the settings of a family leave the example as it is meant: they do not choose another way to prove oneself.
    #[must_use]
    pub fn agrees(&self, kind: &KindSpec, settings: &BTreeMap<String, String>) -> bool {
        let chooses = |key: &str| kind.keys.iter().any(|spec| spec.name == key && matches!(spec.form, KeyForm::Choice(_)));
        // A secret is sent in a header or in the form; the example is the same.
        let by_secret = |text: &str| text.starts_with("client_secret_");
        let agrees = |setting: &str, value: &str| setting == value || by_secret(setting) && by_secret(value);
        self.keys.iter().all(|(key, value)| !chooses(key) || settings.get(*key).is_none_or(|setting| agrees(setting, value)))
    }

    /// Whether the example has the key.
    #[must_use]
    pub fn shows(&self, key: &str) -> bool {
        self.keys.iter().any(|(name, _)| *name == key)
    }
}

impl KindSpec {
    /// Whether principals of the kind have the key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|spec| spec.name == key)
    }
}

/// Returns the example of a kind with its specification, or nothing for a kind that does not exist.
#[must_use]
pub fn kind_examples(kind: &str) -> Option<(&'static KindSpec, &'static [PrincipalExample])> {
    Some((kind_spec(kind)?, principal_examples(kind)))
}

#[cfg(test)]
mod tests {
    use super::super::{KIND_SPECS, Principal};
    use super::*;
    use crate::policy::parse::parse;

    fn parsed(entry: &str) -> Principal {
        let policy = parse(&format!("version: 1\nallowlist: []\n{entry}"), "example").unwrap_or_else(|e| panic!("{entry}{e:?}"));
        policy.credentials.principals["acme"].clone()
    }

    /// Each alternative of a kind has an example, so a key that is added to `one_of` needs one too.
    #[test]
    fn every_kind_has_examples_that_the_policy_accepts() {
        for kind in KIND_SPECS {
            let examples = principal_examples(kind.name);
            assert!(!examples.is_empty(), "{} has no example", kind.name);
            for example in examples {
                let principal = parsed(&example.entry(kind, "acme", "https://login.acme.example/token", &BTreeMap::new()));
                assert_eq!(principal.kind, kind.name);
                assert_eq!(principal.settings.len(), example.keys.len(), "{}", kind.name);
            }
            for key in kind.one_of.iter().copied().flatten() {
                assert!(examples.iter().any(|example| example.shows(key)), "{}: no example shows {key}", kind.name);
            }
        }
        assert!(principal_examples("none").is_empty());
    }

    #[test]
    fn settings_of_a_family_replace_values_and_choose_the_example() {
        let (kind, examples) = kind_examples("oauth2_client").unwrap();
        let settings = [("auth", "private_key_jwt"), ("scopes", "[a, b]"), ("other", "x")];
        let settings = settings.map(|(key, value)| (key.to_string(), value.to_string())).into();
        let fitting: Vec<&PrincipalExample> = examples.iter().filter(|example| example.agrees(kind, &settings)).collect();
        assert_eq!(fitting.len(), 1);
        let principal = parsed(&fitting[0].entry(kind, "acme", "https://login.acme.example/token", &settings));
        assert_eq!(principal.text("auth"), Some("private_key_jwt"));
        assert_eq!(principal.list("scopes"), Some(["a".to_string(), "b".to_string()].as_slice()));
        assert!(!principal.settings.contains_key("other"));
        let in_form = [("auth".to_string(), "client_secret_post".to_string())].into();
        let fitting: Vec<&PrincipalExample> = examples.iter().filter(|example| example.agrees(kind, &in_form)).collect();
        assert_eq!(fitting.len(), 1);
        let principal = parsed(&fitting[0].entry(kind, "acme", "https://login.acme.example/token", &in_form));
        assert_eq!(principal.text("auth"), Some("client_secret_post"));
    }
}
