//! The `snowflake` engine: accounts of Snowflake over its SQL API.
//!
//! Reading order: `resource` (what a resource id means), `login` (the credential), `statements` (everything that is ever
//! sent), `api` (`result_set`, `classify`), then the steps: `identity`, `privilege`, `catalog` (`types`).
//! `spec` is the part of the family file that this engine reads. Only metadata is read, and nothing needs a warehouse,
//! because a warehouse that wakes up costs at least a minute.

mod api;
mod catalog;
mod classify;
mod identity;
mod login;
mod privilege;
pub mod resource;
mod result_set;
pub mod spec;
pub mod statements;
mod types;

use super::{
    AuthorizedResource, BindRequest, BoundResource, Bounds, Connector, CredentialNeed, Discovery, Engine, Opened, Sample,
};
use crate::clock::Clock;
use crate::credentials::Credential;
use crate::egress::{PlannedCall, Session, Traffic};
use crate::families::Family;
use crate::model::{Allowed, BodyRule, Catalog, Class, Evidence, Failure, Posts, Recipient, Scope};
use api::SqlApi;
use classify::CallContext;
use futures_util::future::BoxFuture;
use login::Login;
use resource::AccountResource;
use serde_json::json;
use spec::SnowflakeSpec;
use std::sync::Arc;
use url::Url;

/// Serves the family `snowflake`.
pub struct SnowflakeEngine {
    clock: Arc<dyn Clock>,
}

impl SnowflakeEngine {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> SnowflakeEngine {
        SnowflakeEngine { clock }
    }
}

impl Engine for SnowflakeEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        let spec = spec::spec().ok_or_else(|| {
            Failure::new(Class::Bug, "the file of the family snowflake cannot be used", "report this as a defect of AAM")
        })?;
        let resource = AccountResource::parse(request.resource_id).ok_or_else(|| not_mappable(request.resource_id, spec))?;
        let configured = request.policy.family(&request.family.id).base_url;
        let address = configured.clone().unwrap_or_else(|| format!("https://{}", resource.host));
        let base = Url::parse(&address).ok().filter(Url::has_host).ok_or_else(|| {
            let fix = "correct base_url in the policy's families";
            Failure::new(Class::Misconfigured, "the base URL of Snowflake is not valid", fix).detail(address)
        })?;
        Ok(Box::new(BoundAccount {
            spec,
            family: Arc::clone(request.family),
            host: host_of(&base),
            configured: configured.is_some(),
            base,
            resource,
            clock: Arc::clone(&self.clock),
        }))
    }
}

fn not_mappable(id: &str, spec: &SnowflakeSpec) -> Failure {
    let shown: String = id.chars().filter(|c| !c.is_control()).take(80).collect();
    let shown = if shown.is_empty() { "an empty text".to_string() } else { format!("\"{shown}\"") };
    let title = format!("{shown} is not a resource id of Snowflake");
    Failure::new(Class::NotMappable, title, format!("write it like {}", spec.address.examples.join(", or ")))
}

/// Returns `host` or `host:port`.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_string(), |port| format!("{host}:{port}"))
}

/// A parsed resource id, bound under one policy.
struct BoundAccount {
    spec: &'static SnowflakeSpec,
    family: Arc<Family>,
    resource: AccountResource,
    base: Url,
    /// The host and the port of `base`.
    host: String,
    /// Whether the policy names the address.
    configured: bool,
    clock: Arc<dyn Clock>,
}

impl BoundAccount {
    /// Returns the list of the family with the address of this account.
    fn posts(&self, settings: &[(&'static str, String)]) -> Posts {
        let base = self.base.as_str().trim_end_matches('/');
        let filled = |is_address: bool, text: &str| -> Result<String, std::convert::Infallible> {
            Ok(if is_address { text.replace("{base_url}", base) } else { text.to_string() })
        };
        let mut rules: Vec<_> = self.spec.posts.iter().filter_map(|rule| rule.filled(&filled).ok()).collect();
        for rule in &mut rules {
            if let BodyRule::Json(shape) = &mut rule.body {
                // The role and the warehouse are those of the credential, and nothing else.
                shape.extend(settings.iter().map(|(name, value)| ((*name).to_string(), Allowed::Is(value.as_str().into()))));
            }
        }
        Posts { list: format!("posts in families/{}.yaml", self.family.id), rules }
    }

    async fn open(self, session: Session, login: Login, settings: Vec<(&'static str, String)>) -> Result<Opened, Failure> {
        let authorization = login.authorize(&self.resource, self.clock.now())?;
        let mut evidence = authorization.evidence.clone();
        evidence.insert("hosts".into(), self.base.origin().ascii_serialization().into());
        let text = |key: &str| authorization.evidence.get(key).and_then(|value| value.as_str()).map(str::to_string);
        let context = CallContext {
            host: self.host.clone(),
            account: self.resource.display(),
            user: authorization.user.clone().unwrap_or_default(),
            claims: text("issuer").zip(text("subject")),
            configured: self.configured,
            ..CallContext::default()
        };
        let api = SqlApi::new(session, self.base, authorization, settings, (self.spec, context));
        api.begin_step();
        let (values, identity) = identity::prove(&api, &self.resource).await?;
        let verdict = privilege::judge(&api, self.spec, &values).await?;
        evidence.extend(identity);
        if !verdict.content.is_empty() {
            evidence.insert("reads_content".into(), verdict.content.into());
        }
        evidence.insert("cost".into(), "only SHOW and context functions are sent, which wake no warehouse".into());
        Ok(Opened {
            connector: Box::new(OpenAccount { api }),
            identity: evidence,
            privilege: verdict.privilege,
            removal: verdict.removal,
        })
    }
}

impl BoundResource for BoundAccount {
    fn credential_need(&self) -> CredentialNeed {
        CredentialNeed::Required
    }

    fn account(&self) -> &str {
        &self.host
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        let chosen = Some(&self.base).filter(|_| !self.configured);
        chosen.and_then(Recipient::from_url).into_iter().collect()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let path = format!("{}{}", self.base.path().trim_end_matches('/'), api::PATH);
        let call = |method: &str, path: String| PlannedCall { method: method.to_string(), host: self.host.clone(), path };
        vec![call("POST", path.clone()), call("GET", format!("{path}/{{statementHandle}}"))]
    }

    fn calls(&self, scope: Scope) -> u32 {
        self.spec.calls.of_attempt(scope)
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        let login = Login::from_credential(credential.as_ref(), &self.resource)?;
        let field = |name: &'static str| {
            let value = credential.as_ref()?.field(name)?.expose().trim().to_string();
            (!value.is_empty()).then_some((name, value))
        };
        let settings: Vec<_> = ["role", "warehouse"].into_iter().filter_map(field).collect();
        let (posts, free_hosts) = (self.posts(&settings), self.free_hosts());
        let open = move |session| -> BoxFuture<'static, _> { Box::pin(self.open(session, login, settings)) };
        Ok(AuthorizedResource::new(open).with_posts(posts).with_free_hosts(free_hosts))
    }
}

/// An account that proved its identity.
struct OpenAccount {
    api: SqlApi,
}

impl Connector for OpenAccount {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        self.api.begin_step();
        Box::pin(catalog::discover(&self.api, bounds))
    }

    /// The statement that proved the identity also proved that the credential works, so it is not sent again.
    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        let mut evidence = Evidence::new();
        evidence.insert("read".into(), "context functions (200)".into());
        evidence.insert("records".into(), 1.into());
        Box::pin(async { Ok(evidence) })
    }

    /// Counts names of tables and views of the catalog, which SHOW TABLES and SHOW VIEWS have just returned. No row is read.
    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(async move {
            let rows = catalog.streams.len().min(usize::try_from(max_items).unwrap_or(usize::MAX));
            let mut evidence = Evidence::new();
            evidence.insert("streams".into(), json!({"tables": rows}));
            if rows == 0 {
                let note = "the source returns empty lists: it has no tables, or none that this role can see";
                let role = self.api.context().role.clone();
                let fix = format!(
                    "GRANT USAGE ON DATABASE d TO ROLE {role}; GRANT USAGE ON ALL SCHEMAS IN DATABASE d TO ROLE {role}; GRANT REFERENCES ON ALL TABLES IN DATABASE d TO ROLE {role}"
                );
                evidence.insert("note".into(), note.into());
                evidence.insert("grants".into(), fix.into());
            }
            Ok(Sample::new(rows as u64, evidence))
        })
    }

    fn traffic(&self) -> Traffic {
        self.api.traffic()
    }
}
