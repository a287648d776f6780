//! The ways to give AAM a credential of a family: an example for each form of a credential locator.

use crate::families::{self, Family, Login};
use crate::model::Locator;
use crate::policy::credentials::{KindSpec, PrincipalExample, kind_examples};
use crate::policy::parse::parse;
use crate::providers::Providers;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// The examples of one form of a locator.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FormGuide {
    pub form: &'static str,
    /// Where such a locator finds the credential.
    pub about: &'static str,
    pub examples: Vec<FormExample>,
}

/// One example, which can be pasted.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FormExample {
    /// The name of the way to log in.
    pub login: String,
    /// Which alternative of the kind of service principal the example shows; empty for other forms.
    pub about: String,
    /// The value of `credential_locator`.
    pub locator: String,
    /// The commands that store the credential.
    pub commands: Vec<String>,
    /// The entry of the policy, as YAML; empty if none is needed.
    pub policy: String,
    /// Every call that is made before the source is called, as method, host and path.
    pub calls: Vec<String>,
    /// Keys that the entry can have besides those of the example, with what they are.
    pub other_keys: Vec<String>,
}

/// The token endpoint in examples for families that do not have one of their own.
const TOKEN_URL: &str = "https://login.acme.example/oauth2/token";

/// Returns the JSON object of a way to log in, with placeholders for the values.
#[must_use]
pub fn json_credential(login: &Login) -> String {
    let fields: Map<String, Value> = login.required().map(|name| (name.to_string(), name.to_ascii_uppercase().into())).collect();
    Value::Object(fields).to_string()
}

/// Returns the examples for all forms that fit the family.
#[must_use]
pub fn forms(family: &Family, providers: &Providers) -> Vec<FormGuide> {
    let stored: Vec<StoredLogin> = family.login.iter().map(|login| StoredLogin { family, login }).collect();
    let env = stored.iter().map(StoredLogin::env).collect();
    let file = stored.iter().map(StoredLogin::file).collect();
    let vault = stored.iter().map(StoredLogin::vault).collect();
    let principals = family.login.iter().flat_map(|login| principals(family, login)).collect();
    let consents = family.login.iter().filter(|login| login.consent).map(|login| consent(family, login)).collect();
    let all: [(&str, &str, Vec<FormExample>); 5] = [
        (
            "env:NAME",
            "the environment variable NAME, or what aam secret set NAME stored: it asks for the JSON or the text above",
            env,
        ),
        ("file:PATH", "a file below a folder that the policy names", file),
        (
            "vault:PATH",
            "a secret of the OpenBao or HashiCorp Vault that the policy names; with Vault, the command is vault instead of bao",
            vault,
        ),
        ("sp:NAME", "a service principal that the policy describes", principals),
        ("consent:NAME", "an OAuth grant that the owner of the connection gives once, by a link that AAM shows", consents),
    ];
    let mut forms: Vec<FormGuide> = all.map(|(form, about, examples)| FormGuide { form, about, examples }).into();
    forms.retain(|form| !form.examples.is_empty());
    for example in forms.iter_mut().flat_map(|form| &mut form.examples) {
        example.calls = calls(example, family, providers);
    }
    forms
}

/// Returns the calls that `aam plan` lists for the locator under the policy of the example.
fn calls(example: &FormExample, family: &Family, providers: &Providers) -> Vec<String> {
    let policy = parse(&policy_text(family, &example.policy), "example");
    let (Ok(policy), Ok(locator)) = (policy, Locator::parse(&example.locator)) else { return Vec::new() };
    let planned = providers.planned_calls(&policy, &locator, family);
    planned.into_iter().map(|call| format!("{} {}{}", call.method, call.host, call.path)).collect()
}

/// Returns a policy that consists of the entry, and of the declaration of a custom source that the entry may name.
#[must_use]
pub fn policy_text(family: &Family, entry: &str) -> String {
    let source = match families::exists(&family.id) {
        true => String::new(),
        false => format!("manifests:\n  dir: policy/manifests\n  sources: {{{}: {{}}}}\n", family.id),
    };
    format!("version: 1\nallowlist: []\n{source}{entry}")
}

/// A way to log in whose credential is stored as it is.
struct StoredLogin<'a> {
    family: &'a Family,
    login: &'a Login,
}

impl StoredLogin<'_> {
    fn name(&self) -> String {
        format!("{}_{}", self.family.id, self.login.name)
    }

    fn example(&self, locator: String, command: String, policy: &str) -> FormExample {
        FormExample {
            login: self.login.name.clone(),
            about: String::new(),
            locator,
            commands: vec![command],
            policy: policy.to_string(),
            calls: Vec::new(),
            other_keys: Vec::new(),
        }
    }

    fn env(&self) -> FormExample {
        let name = self.name().to_ascii_uppercase();
        self.example(format!("env:{name}"), format!("aam secret set {name}"), "")
    }

    fn file(&self) -> FormExample {
        let file = if self.login.plain.is_some() { self.name() } else { format!("{}.json", self.name()) };
        let path = format!("/etc/aam/credentials/{file}");
        let policy = "credentials:\n  files: [/etc/aam/credentials]\n";
        self.example(format!("file:{path}"), format!("install -m 0600 {file} {path}"), policy)
    }

    /// The values are read from a file or from the keyboard, so that no secret is in the history of the shell.
    fn vault(&self) -> FormExample {
        let policy = "credentials:\n  vault:\n    address: https://vault.acme.example:8200\n    path: secret/aam\n    \
                      login: {method: approle, role_id: env:APPROLE_ROLE_ID, secret_id: env:APPROLE_SECRET_ID}\n";
        let name = self.name();
        match self.login.required().collect::<Vec<_>>().as_slice() {
            [field] => self.example(format!("vault:{name}#{field}"), format!("bao kv put secret/aam/{name} {field}=-"), policy),
            _ => self.example(format!("vault:{name}"), format!("bao kv put secret/aam/{name} @{name}.json"), policy),
        }
    }
}

/// Returns the examples of all kinds of service principals that yield a credential of the way to log in.
fn principals(family: &Family, login: &Login) -> Vec<FormExample> {
    let kinds = login.principals.iter().filter_map(|kind| kind_examples(kind));
    let all = kinds.flat_map(|(kind, examples)| examples.iter().map(move |example| (kind, example)));
    let fitting = all.filter(|(kind, example)| example.agrees(kind, &login.settings));
    fitting.map(|(kind, example)| principal(family, login, kind, example)).collect()
}

fn principal(family: &Family, login: &Login, kind: &KindSpec, example: &PrincipalExample) -> FormExample {
    let token_url = family.oauth.as_ref().map_or(TOKEN_URL.to_string(), |oauth| oauth.example(&oauth.token_url));
    // The alternatives of a kind have examples of their own.
    let is_alternative = |key: &str| kind.one_of.iter().copied().flatten().any(|name| *name == key);
    let others = kind.keys.iter().filter(|key| !example.shows(key.name) && !is_alternative(key.name));
    let others = others.filter(|key| !login.settings.contains_key(key.name));
    FormExample {
        login: login.name.clone(),
        about: format!("kind {}, {}", kind.name, example.about),
        locator: format!("sp:{}", family.id),
        commands: Vec::new(),
        policy: example.entry(kind, &family.id, &token_url, &login.settings),
        calls: Vec::new(),
        other_keys: others.map(|key| format!("{}: {}", key.name, key.about)).collect(),
    }
}

fn consent(family: &Family, login: &Login) -> FormExample {
    let (id, upper) = (&family.id, family.id.to_ascii_uppercase());
    let mut policy = format!(
        "credentials:\n  consents:\n    {id}:\n      family: {id}\n      client_id: CLIENT_ID\n      \
         client_secret: env:{upper}_CLIENT_SECRET\n      redirect: https://aam.acme.example/consent/callback\n"
    );
    match &family.oauth {
        None => {
            policy += &format!(
                "      authorize_url: https://login.acme.example/oauth2/authorize\n      token_url: {TOKEN_URL}\n      \
                 scopes: [read]\n"
            );
        }
        Some(oauth) if !oauth.values.is_empty() => {
            let values = oauth.values.iter().map(|value| format!("{}: \"{}\"", value.name, value.example));
            policy += &format!("      values: {{{}}}\n", values.collect::<Vec<_>>().join(", "));
        }
        Some(_) => {}
    }
    policy += "  consent_store: {key: env:CONSENT_STORE_KEY}\n";
    FormExample {
        login: login.name.clone(),
        about: String::new(),
        locator: format!("consent:{id}"),
        commands: vec![
            "openssl rand -base64 32 | aam secret set CONSENT_STORE_KEY".to_string(),
            format!("aam secret set {upper}_CLIENT_SECRET"),
        ],
        policy,
        calls: Vec::new(),
        other_keys: family
            .oauth
            .iter()
            .map(|_| "scopes: the scopes to ask for, if fewer than the family's".to_string())
            .collect(),
    }
}
