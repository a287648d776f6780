//! The source families as data: one YAML file per family in this folder.
//!
//! The build script lists the files, so a new family only needs a new file. The policy, the connectors and the command
//! line get the families from here and keep no list of their own.
//!
//! Facts about vendors carry a mark: `[V]` was verified on the named page, `[K]` is known from vendor documentation,
//! `[U]` is uncertain until it is proven against a real tenant, and `[-]` follows from the format itself.

pub mod airbyte;
pub mod aliases;
mod custom;
mod login;
pub mod removal;
mod transport;

use crate::model::{Cap, Risk};
pub use custom::{CustomSources, ManifestFile, ServedSource, is_source_name};
pub use login::{CredentialField, Login};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, OnceLock};
pub use transport::{Transport, transport};

/// One family.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The source type of intents; the file is `ID.yaml`.
    pub id: Arc<str>,
    pub title: String,
    /// The name of the engine that serves the family, for example `sql`. It is empty if this build has none.
    pub engine: String,
    /// Whether the default policy allows the family.
    pub on_by_default: bool,
    /// What a `resource_id` of this family looks like.
    pub resource_ids: String,
    /// The default call budget, derived from the vendor's documented limits.
    pub cap: Cap,
    /// The source of the figures in `cap`, with its mark.
    pub cap_source: String,
    /// The least privilege to request from the administrator of the source, in the vendor's terms.
    pub least_privilege: String,
    /// The source of `least_privilege`, with its mark.
    pub privilege_source: String,
    /// The ways to log in. It is empty if sources of the family need no credential, and for a custom source, whose manifest
    /// names the fields.
    pub login: Vec<Login>,
    /// The source of `login`, with its mark.
    pub login_source: String,
    /// How an administrator of the source grants the least privilege, step by step.
    pub how_to_grant: Vec<String>,
    /// How excess permissions are taken away, by the names under which they are reported.
    pub removal: Vec<removal::RemovalRule>,
    /// Why a field may be missing although it exists, and what to do then. Messages of schema changes show it.
    pub hidden_fields: Option<String>,
    /// What was run to prove that the family works, each with the name of the test.
    pub proof: Vec<String>,
    /// The least risk of the family's sources, whatever an intent says.
    pub risk: Option<LeastRisk>,
    /// How long a step and an attempt may take, if the vendor is known to answer slowly.
    pub timeouts: Option<Timeouts>,
    /// How tokens of the family are minted and asked for. `None` if the family does not use OAuth 2.
    pub oauth: Option<OAuth>,
    /// The part of the file that only the engine reads; it parses it once, in `connectors::lowcode::spec` or
    /// `connectors::snowflake::spec`.
    pub lowcode: Option<Value>,
    /// The manifest of a custom source. Families that AAM ships have none.
    pub manifest: Option<Arc<ManifestFile>>,
}

/// The least risk of a family whose sources hold data that is always sensitive.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeastRisk {
    pub least: Risk,
    /// What the sources hold, as the end of a sentence.
    pub why: String,
}

/// The timeouts of a family whose vendor answers slowly. They replace the defaults of `safe_mode`, and no other value that a
/// policy has there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    pub step_seconds: u64,
    pub attempt_seconds: u64,
    /// How slow the vendor is, with a mark of certainty.
    pub source: String,
}

/// The OAuth 2 server of a family and the least scopes that AAM needs there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// Where an owner or administrator gives consent. In this and the other addresses, `{name}` is filled in from `values`
    /// of the consent in the policy.
    pub authorize_url: String,
    pub token_url: String,
    #[serde(default)]
    pub revoke_url: Option<String>,
    /// The issuer that the callback and the ID token name, if the vendor has one.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The names in the addresses that depend on the customer.
    #[serde(default)]
    pub values: Vec<OAuthValue>,
    /// The least scopes of a consent, with what each lets AAM read.
    pub scopes: Vec<OAuthScope>,
    /// Further scopes that only read, which a consent may ask for if the policy names them: those of another kind of account.
    #[serde(default)]
    pub more_scopes: Vec<OAuthScope>,
    /// The least scopes of a service principal, if they differ from `scopes`.
    #[serde(default)]
    pub app_scopes: Vec<String>,
    /// What stands between scopes.
    #[serde(default = "blank")]
    pub separator: String,
    /// Whether the vendor accepts PKCE.
    #[serde(default)]
    pub pkce: bool,
    /// Further parameters of the authorization request, for example `access_type: offline`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Who has to consent, if the vendor asks for somebody with more rights than the owner of the connection may have.
    #[serde(default)]
    pub given_by: Option<String>,
    /// What the scopes do not say: what else limits AAM to reading, or whom the vendor excludes.
    #[serde(default)]
    pub note: Option<String>,
    /// Whether the vendor accepts a refresh token again if the response to it was lost: it does not rotate refresh tokens,
    /// or it documents a time in which the earlier one still works.
    #[serde(default)]
    pub resend: bool,
    /// The source of these facts, with its mark.
    pub source: String,
}

/// One scope, and what it lets AAM read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthScope {
    pub name: String,
    /// In plain language, for the page on which the owner consents.
    pub about: String,
}

/// A name in the addresses of an OAuth 2 server that depends on the customer, for example the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthValue {
    pub name: String,
    pub example: String,
    pub about: String,
}

/// The scopes with which a vendor issues refresh tokens. Only a consent has such a token.
const OFFLINE_SCOPES: [&str; 2] = ["offline_access", "refresh_token"];

fn blank() -> String {
    " ".to_string()
}

impl OAuth {
    /// Returns the least scopes of a service principal: `app_scopes`, or the scopes of a consent without those that only
    /// ask for a refresh token.
    #[must_use]
    pub fn principal_scopes(&self) -> Vec<String> {
        if self.app_scopes.is_empty() {
            let names = self.scopes.iter().map(|scope| &scope.name);
            names.filter(|name| !OFFLINE_SCOPES.contains(&name.as_str())).cloned().collect()
        } else {
            self.app_scopes.clone()
        }
    }

    /// Returns one of the addresses with the examples of `values` filled in.
    #[must_use]
    pub fn example(&self, address: &str) -> String {
        let fill = |text: String, value: &OAuthValue| text.replace(&format!("{{{}}}", value.name), &value.example);
        self.values.iter().fold(address.to_string(), fill)
    }
}

impl Family {
    /// Returns the risk of a source: that of its intent, or the least of the family if that is higher.
    #[must_use]
    pub fn risk(&self, of_intent: Risk) -> Risk {
        self.risk.as_ref().map_or(of_intent, |risk| of_intent.max(risk.least))
    }

    /// Whether some resource ids of the family name a server that the policy has to list in `families.NAME.hosts`.
    #[must_use]
    pub fn lists_hosts(&self) -> bool {
        let kinds = self.lowcode.as_ref().and_then(|keys| keys.pointer("/address/kinds")).and_then(Value::as_array);
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind.get("hosts").is_some_and(|hosts| hosts == "listed")))
    }

    /// A custom source, which a company defines with its own manifest. Its vendor's limits are not known, so the budget is
    /// low.
    #[must_use]
    pub fn custom(id: &str) -> Family {
        Family {
            id: id.into(),
            title: id.to_string(),
            engine: "lowcode".to_string(),
            on_by_default: false,
            resource_ids: "the host of its API, or NAME=VALUE of its config, joined by &".to_string(),
            cap: Cap { per_second: 0.333, burst: 24, per_day: 500, concurrency: 1 },
            cap_source: "[-] the limits of a custom source are not documented; same as openapi".to_string(),
            least_privilege: "a credential that may only read what the manifest reads".to_string(),
            privilege_source: "[-] the manifest names what is read".to_string(),
            login: Vec::new(),
            login_source: "[-] the spec of the manifest names the fields".to_string(),
            how_to_grant: Vec::new(),
            removal: Vec::new(),
            hidden_fields: None,
            proof: Vec::new(),
            risk: None,
            timeouts: None,
            oauth: None,
            lowcode: None,
            manifest: None,
        }
    }
}

/// Returns the risk of a source of the type `source_type`. See [`Family::risk`].
#[must_use]
pub fn risk(source_type: &str, of_intent: Risk) -> Risk {
    find(source_type).map_or(of_intent, |family| family.risk(of_intent))
}

/// The family called `id`.
#[must_use]
pub fn find(id: &str) -> Option<&'static Arc<Family>> {
    let families = all();
    families.binary_search_by(|family| (*family.id).cmp(id)).ok().and_then(|at| families.get(at))
}

/// All families, ordered by their ids.
#[must_use]
pub fn all() -> &'static [Arc<Family>] {
    &FAMILIES
}

/// The ids of all families, ordered. They are the names of the files, so this parses no family.
pub fn ids() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().chain(TEST_TEXTS).map(|(id, _)| *id).collect::<BTreeSet<_>>().into_iter()
}

/// Whether there is a family called `id`. Like [`ids`], this parses no family.
#[must_use]
pub fn exists(id: &str) -> bool {
    TEXTS.iter().chain(TEST_TEXTS).any(|(name, _)| *name == id)
}

/// The default budget of each family, for `policy::effective`.
#[must_use]
pub fn caps() -> Vec<(&'static str, &'static Cap)> {
    all().iter().map(|family| (&*family.id, &family.cap)).collect()
}

/// The name of each file without `.yaml`, and its text.
type Texts = &'static [(&'static str, &'static str)];

const TEXTS: Texts = include!(concat!(env!("OUT_DIR"), "/families.rs"));

/// A family that only unit tests have. It shows that a family needs nothing but its file.
#[cfg(test)]
const TEST_TEXTS: Texts = include!(concat!(env!("OUT_DIR"), "/test_families.rs"));
#[cfg(not(test))]
const TEST_TEXTS: Texts = &[];

/// Texts that replace built-in ones; only debug builds set them.
static DRAFTS: OnceLock<Vec<Family>> = OnceLock::new();

/// Replaces built-in families by these until the process ends. It has no effect once a family has been read.
pub fn replace_by_drafts(drafts: Vec<Family>) {
    let _ = DRAFTS.set(drafts);
}

/// A file that cannot be parsed is skipped here; a test parses every file.
static FAMILIES: LazyLock<Vec<Arc<Family>>> = LazyLock::new(|| {
    let drafts = DRAFTS.get().map(Vec::as_slice).unwrap_or_default();
    let texts = TEXTS.iter().chain(TEST_TEXTS).filter(|(id, _)| !drafts.iter().any(|draft| &*draft.id == *id));
    let mut families: Vec<Arc<Family>> = texts.filter_map(|(_, text)| parse(text).ok()).map(Arc::new).collect();
    families.extend(drafts.iter().cloned().map(Arc::new));
    families.sort_by(|a, b| a.id.cmp(&b.id));
    families
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    title: String,
    engine: String,
    on_by_default: bool,
    resource_ids: String,
    cap: Cap,
    cap_source: String,
    least_privilege: String,
    privilege_source: String,
    login: Vec<Login>,
    login_source: String,
    #[serde(default)]
    how_to_grant: Vec<String>,
    #[serde(default)]
    removal: Vec<removal::RemovalRule>,
    #[serde(default)]
    hidden_fields: Option<String>,
    #[serde(default)]
    proof: Vec<String>,
    #[serde(default)]
    risk: Option<LeastRisk>,
    #[serde(default)]
    timeouts: Option<Timeouts>,
    #[serde(default)]
    oauth: Option<OAuth>,
}

/// The engines that read further keys of a family file.
pub(crate) const DESCRIBED_ENGINES: [&str; 4] = ["lowcode", "redshift", "snowflake", "supabase"];

/// The engines whose families contain a manifest.
pub(crate) const MANIFEST_ENGINES: [&str; 3] = ["lowcode", "redshift", "supabase"];

/// The keys that only families of these engines have.
pub(crate) const LOWCODE_KEYS: [&str; 16] = [
    "address",
    "auth",
    "identity",
    "privilege",
    "errors",
    "wrong_kinds",
    "limits",
    "posts",
    "signing",
    "calls",
    "schemas",
    "blind",
    "empty",
    "ends",
    "user_agent",
    "source",
];

/// Reads the text of one family file.
///
/// # Errors
/// Why the text does not describe a family.
pub fn parse(text: &str) -> Result<Family, String> {
    // A `serde_yaml` value rejects duplicate keys, which reading straight into JSON would not.
    let yaml: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(mut keys) = serde_json::to_value(yaml).map_err(|error| error.to_string())? else {
        return Err("a family file is a mapping".to_owned());
    };
    let engine_keys: Map<String, Value> =
        LOWCODE_KEYS.iter().filter_map(|key| Some(((*key).to_string(), keys.remove(*key)?))).collect();
    let file: File = serde_json::from_value(Value::Object(keys)).map_err(|error| error.to_string())?;
    if DESCRIBED_ENGINES.contains(&file.engine.as_str()) == engine_keys.is_empty() {
        return Err(format!(
            "the engines {} need some of the keys {}; other engines do not have them",
            DESCRIBED_ENGINES.join(" and "),
            LOWCODE_KEYS.join(", ")
        ));
    }
    Ok(Family {
        id: file.id.into(),
        title: file.title,
        engine: file.engine,
        on_by_default: file.on_by_default,
        resource_ids: file.resource_ids,
        cap: file.cap,
        cap_source: file.cap_source,
        least_privilege: file.least_privilege,
        privilege_source: file.privilege_source,
        login: file.login,
        login_source: file.login_source,
        how_to_grant: file.how_to_grant,
        removal: file.removal,
        hidden_fields: file.hidden_fields,
        proof: file.proof,
        risk: file.risk,
        timeouts: file.timeouts,
        oauth: file.oauth,
        lowcode: Some(engine_keys).filter(|keys| !keys.is_empty()).map(Value::Object),
        manifest: None,
    })
}

#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod tests;
