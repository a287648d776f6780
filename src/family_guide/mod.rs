//! What a person needs to know about a family before the first intent: resource ids, ways to log in with examples, least
//! privilege, caps, calls, what is read, and what proves it. `aam families NAME` prints it, and `GET /families/NAME` answers
//! with it.

mod locators;
mod text;

use crate::connectors::lowcode::binding::list_of_streams;
use crate::connectors::lowcode::family_spec::{CallCounts, ResourceKind};
use crate::connectors::lowcode::spec::{self, Spec};
use crate::families::{CredentialField, Family, Login, OAuth, aliases};
use crate::model::Cap;
use crate::providers::Providers;
pub use locators::{FormExample, FormGuide, forms, json_credential, policy_text};
use serde::Serialize;
pub use text::{line, text};
use utoipa::ToSchema;

/// A family on one line.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FamilySummary {
    pub id: String,
    pub title: String,
    /// False if this version cannot connect sources of the family yet.
    pub connects: bool,
    pub engine: String,
    /// True if a new policy allows the family.
    pub on_by_default: bool,
    /// Other names that intents may have as their source type. Case, blanks, hyphens, dots and underscores do not matter.
    pub aliases: Vec<String>,
    /// What a resource id looks like.
    pub resource_ids: String,
    /// Resource ids, one for each spelling.
    pub examples: Vec<String>,
    pub least_privilege: String,
    /// The default limits on the calls to one account.
    pub cap: Cap,
    /// The fields of all credentials.
    pub credential: Vec<FieldGuide>,
    pub login: Vec<LoginGuide>,
    /// The calls of one connection at most, if each list fits into one page; absent if they were not counted.
    pub calls: Option<FamilyCalls>,
}

/// The calls of one connection.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct FamilyCalls {
    /// Until a new connection is ACTIVE.
    pub onboarding: u64,
    /// For each later check.
    pub health: u64,
}

/// A field of a credential.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldGuide {
    pub name: String,
    pub about: String,
    pub optional: bool,
}

/// A way to log in.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LoginGuide {
    pub name: String,
    pub about: String,
    pub fields: Vec<FieldGuide>,
    /// The credential as JSON, with placeholders for the values.
    pub json: String,
    /// The form of a credential that is a text.
    pub text: Option<String>,
    /// The kinds of service principals that yield such a credential.
    pub principals: Vec<String>,
    /// True if the grant of a consent is such a credential.
    pub consent: bool,
}

/// Everything about one family.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FamilyGuide {
    #[serde(flatten)]
    pub summary: FamilySummary,
    /// The kinds of resources, with what AAM reads of each.
    pub kinds: Vec<KindGuide>,
    /// How an administrator grants the least privilege, step by step.
    pub how_to_grant: Vec<String>,
    /// An example for each form of a credential locator.
    pub locators: Vec<FormGuide>,
    pub oauth: Option<OAuthGuide>,
    /// The least risk of the sources, and why; absent if the risk is that of the intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
    /// How long a step and an attempt may take, unless the policy changes the defaults of `safe_mode`; absent for these of `safe_mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<String>,
    /// What was run to prove that the family works.
    pub proof: Vec<String>,
    pub sources: FamilySources,
}

/// A kind of resource.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct KindGuide {
    pub name: String,
    pub examples: Vec<String>,
    /// The address that is called, with placeholders.
    pub base_url: String,
    /// True if the policy has to list the server in `families.NAME.hosts`.
    pub listed: bool,
    /// The streams in the order in which they are read.
    pub streams: Vec<String>,
}

/// Where the facts come from, with marks of certainty.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FamilySources {
    pub cap: String,
    pub privilege: String,
    pub login: String,
    pub oauth: Option<String>,
}

/// The OAuth 2 server of a family.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OAuthGuide {
    pub authorize_url: String,
    pub token_url: String,
    pub revoke_url: Option<String>,
    pub issuer: Option<String>,
    pub pkce: bool,
    /// Who has to consent, if not the owner of the connection.
    pub given_by: Option<String>,
    pub note: Option<String>,
    pub source: String,
    /// The least scopes of a consent.
    pub scopes: Vec<NamedText>,
    /// The least scopes of a service principal.
    pub principal_scopes: Vec<String>,
    /// The names in the addresses that depend on the customer.
    pub values: Vec<ValueGuide>,
}

/// A name and what it stands for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NamedText {
    pub name: String,
    pub about: String,
}

/// A name in the addresses of an OAuth 2 server.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ValueGuide {
    pub name: String,
    pub example: String,
    pub about: String,
}

impl FieldGuide {
    fn new(field: &CredentialField) -> FieldGuide {
        FieldGuide { name: field.name.clone(), about: field.about.clone(), optional: field.optional }
    }
}

impl LoginGuide {
    fn new(login: &Login) -> LoginGuide {
        LoginGuide {
            name: login.name.clone(),
            about: login.about.clone(),
            fields: login.fields.iter().map(FieldGuide::new).collect(),
            json: json_credential(login),
            text: login.plain.clone(),
            principals: login.principals.clone(),
            consent: login.consent,
        }
    }
}

impl OAuthGuide {
    fn new(oauth: &OAuth) -> OAuthGuide {
        let scope = |scope: &crate::families::OAuthScope| NamedText { name: scope.name.clone(), about: scope.about.clone() };
        let value = |value: &crate::families::OAuthValue| ValueGuide {
            name: value.name.clone(),
            example: value.example.clone(),
            about: value.about.clone(),
        };
        OAuthGuide {
            authorize_url: oauth.authorize_url.clone(),
            token_url: oauth.token_url.clone(),
            revoke_url: oauth.revoke_url.clone(),
            issuer: oauth.issuer.clone(),
            pkce: oauth.pkce,
            given_by: oauth.given_by.clone(),
            note: oauth.note.clone(),
            source: oauth.source.clone(),
            scopes: oauth.scopes.iter().map(scope).collect(),
            principal_scopes: oauth.principal_scopes(),
            values: oauth.values.iter().map(value).collect(),
        }
    }
}

impl FamilySummary {
    #[must_use]
    pub fn new(family: &Family) -> FamilySummary {
        let keys = family.lowcode.as_ref();
        // Each engine has its own keys, and the counts have the same form in all of them.
        let calls = keys.and_then(|keys| serde_json::from_value::<CallCounts>(keys.get("calls")?.clone()).ok());
        let listed = keys.and_then(|keys| keys.pointer("/address/examples")).and_then(serde_json::Value::as_array);
        let listed = listed.into_iter().flatten().filter_map(|example| example.as_str()).map(str::to_string);
        FamilySummary {
            id: family.id.to_string(),
            title: family.title.clone(),
            connects: !family.engine.is_empty(),
            engine: family.engine.clone(),
            on_by_default: family.on_by_default,
            aliases: aliases::of_family(&family.id).to_vec(),
            resource_ids: family.resource_ids.trim().to_string(),
            examples: kinds(family).into_iter().flat_map(|kind| kind.examples).chain(listed).collect(),
            least_privilege: family.least_privilege.trim().to_string(),
            cap: family.cap.clone(),
            credential: family.credential_fields().map(FieldGuide::new).collect(),
            login: family.login.iter().map(LoginGuide::new).collect(),
            calls: calls.map(|calls| FamilyCalls { onboarding: calls.onboarding, health: calls.health }),
        }
    }
}

impl FamilyGuide {
    /// Describes `family`. `providers` know the calls that each form of a locator makes.
    #[must_use]
    pub fn new(family: &Family, providers: &Providers) -> FamilyGuide {
        FamilyGuide {
            summary: FamilySummary::new(family),
            kinds: kinds(family),
            how_to_grant: family.how_to_grant.clone(),
            locators: forms(family, providers),
            oauth: family.oauth.as_ref().map(OAuthGuide::new),
            risk: family.risk.as_ref().map(|risk| format!("{} at least, because {}", risk.least, risk.why.trim())),
            timeouts: family.timeouts.as_ref().map(|own| {
                let (step, attempt, source) = (own.step_seconds, own.attempt_seconds, own.source.trim());
                format!("{step} s for a step and {attempt} s for an attempt, unless safe_mode in the policy has other values than the defaults; {source}")
            }),
            proof: family.proof.clone(),
            sources: FamilySources {
                cap: family.cap_source.trim().to_string(),
                privilege: family.privilege_source.trim().to_string(),
                login: family.login_source.trim().to_string(),
                oauth: family.oauth.as_ref().map(|oauth| oauth.source.trim().to_string()),
            },
        }
    }
}

/// The kinds of resources of a family whose manifest names its streams.
fn kinds(family: &Family) -> Vec<KindGuide> {
    let kind = |spec: &Spec, kind: &ResourceKind| KindGuide {
        name: kind.name.clone(),
        examples: kind.examples.clone(),
        base_url: kind.base_url(&spec.form).to_string(),
        listed: kind.is_listed(),
        streams: kind.streams.clone(),
    };
    if let Some(manifest) = &family.manifest {
        let streams = list_of_streams(&manifest.manifest).split(", ").map(str::to_string).collect();
        return vec![KindGuide {
            name: "source".to_string(),
            examples: Vec::new(),
            base_url: String::new(),
            listed: false,
            streams,
        }];
    }
    let spec = spec::find(&family.id);
    spec.iter().flat_map(|spec| spec.form.address.kinds.iter().map(|known| kind(spec, known))).collect()
}
