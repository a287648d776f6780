//! The `airbyte_platform` engine: connections that a company's own Airbyte serves, where the policy says `engine: airbyte` and
//! names the platform.
//!
//! AAM keeps one source for each resource in the workspace of the policy, lets Airbyte check and discover it, and makes
//! Catalog v1 from what it discovers. These are the only requests of AAM that write anything, and `rules` is the whole list of
//! them: they are for the address of the policy alone, they never make a connection that moves data, and they never delete.
//! The credential of the connection is handed to that host only, and only if it may also be sent to the hosts that the resource
//! id chose, because Airbyte sends it there.
//!
//! Reading order: `address` (the two APIs), `rules`, `login`, `client`, `sources` (`definitions`, `specification`,
//! `source_name`, `installation`, `written`), `verdict`, `catalog`, `native` (the tiny sync).

mod address;
mod catalog;
mod client;
mod definitions;
mod installation;
mod login;
mod native;
mod rules;
mod source_name;
mod sources;
mod specification;
mod verdict;
mod written;

use super::airbyte::config::fill;
use super::{
    AuthorizedResource, BindRequest, BoundResource, Bounds, Connector, CredentialNeed, Discovery, Engine, Engines, Opened, Sample,
};
use crate::credentials::Credential;
use crate::egress::{PlannedCall, Session, Traffic};
use crate::families::Family;
use crate::families::airbyte::{self, KnownConnector};
use crate::model::{Catalog, Class, Evidence, Failure, Locator, Privilege, Recipient};
use crate::policy::{ConnectorPolicy, Platform, Run};
use crate::providers::{CredentialRequest, Providers, Reading};
use address::{Address, Api, Call};
use client::PlatformApi;
use futures_util::future::BoxFuture;
pub use installation::Installation;
use login::PlatformLogin;
use native::NativeReader;
use rules::RuleScope;
use serde_json::{Map, Value, json};
use sources::SourceSetup;
use std::sync::{Arc, Mutex, PoisonError};
use written::Written;

/// The connectors of families whose name at Airbyte is not that of the family.
const OTHER_NAMES: [(&str, &str); 9] = [
    ("entra", "source-microsoft-entra-id"),
    ("filesource", "source-file"),
    ("gworkspace_drive", "source-google-drive"),
    ("m365_sharepoint", "source-microsoft-sharepoint"),
    ("mongo", "source-mongodb-v2"),
    ("s3_compat", "source-s3"),
    ("servicenow", "source-service-now"),
    ("supabase", "source-postgres"),
    ("zendesk", "source-zendesk-support"),
];

/// Serves every family for which the policy chooses the company's own Airbyte.
pub struct AirbytePlatformEngine {
    /// AAM's own engines: they understand the resource ids, and they read the tiny sync.
    native: Engines,
    /// Reads the credential of the platform. Without it, nothing can be opened.
    providers: Option<Arc<Providers>>,
    installation: Installation,
    written: Arc<Written>,
}

impl AirbytePlatformEngine {
    #[must_use]
    pub fn new(native: Engines, providers: Option<Arc<Providers>>, installation: Installation) -> AirbytePlatformEngine {
        AirbytePlatformEngine { native, providers, installation, written: Arc::default() }
    }
}

impl Engine for AirbytePlatformEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        let BindRequest { family, policy, resource_id } = request;
        // Under the policy, the family names this engine. The file of the family names its own.
        let family = crate::families::find(&family.id).unwrap_or(family);
        let Some(platform) = policy.airbyte.platform.clone() else {
            return Err(Failure::new(
                Class::Misconfigured,
                "the policy does not name an Airbyte",
                "write airbyte: {platform: {url, workspace, credential}} into the policy, or choose another engine",
            ));
        };
        let address = Address::new(&platform.url)?;
        let native = match self.native.find(family) {
            Some(engine) => Some(engine.bind(BindRequest { family, policy, resource_id })?),
            None => None,
        };
        Ok(Box::new(BoundSource {
            host: address.host(),
            address,
            platform,
            family: Arc::clone(family),
            resource_id: resource_id.to_string(),
            native,
            providers: self.providers.clone(),
            installation: self.installation.clone(),
            written: Arc::clone(&self.written),
        }))
    }
}

/// Returns the name of the connector that serves `family` at Airbyte.
fn connector_name(family: &str) -> String {
    let other = OTHER_NAMES.iter().find(|(known, _)| *known == family).map(|(_, name)| (*name).to_string());
    let known = airbyte::of_family(family).map(|known| known.name.clone());
    known.or(other).unwrap_or_else(|| format!("source-{}", family.replace('_', "-")))
}

/// Fills the config that AAM ships for a connector. The specification of the connector decides about the rest.
fn template_config(
    known: &KnownConnector,
    resource_id: &str,
    credential: Option<&Credential>,
    family: &str,
) -> Result<Map<String, Value>, Failure> {
    let template = ConnectorPolicy {
        run: Run::Package(known.name.clone()),
        version: known.version.clone(),
        sha256: None,
        config: known.config.clone(),
        hosts: Vec::new(),
        posts: Vec::new(),
        readable: Vec::new(),
        memory: 0,
        streams: Vec::new(),
    };
    let needed = |failure: Failure| {
        let fix = failure.fix.split(';').next().unwrap_or_default().to_string();
        Failure { fix: format!("{fix}; the config of {} names these fields", known.name), ..failure }
    };
    match fill(&template, resource_id, credential, family).map_err(needed)? {
        Value::Object(config) => Ok(config),
        _ => Ok(Map::new()),
    }
}

/// A resource of a connection, and the platform that serves it.
struct BoundSource {
    address: Address,
    /// The host and the port of `address`.
    host: String,
    platform: Platform,
    family: Arc<Family>,
    resource_id: String,
    /// The resource as the family's own engine binds it.
    native: Option<Box<dyn BoundResource>>,
    providers: Option<Arc<Providers>>,
    installation: Installation,
    written: Arc<Written>,
}

impl BoundResource for BoundSource {
    fn credential_need(&self) -> CredentialNeed {
        self.native.as_ref().map_or(CredentialNeed::Optional, |native| native.credential_need())
    }

    fn account(&self) -> &str {
        &self.host
    }

    /// The platform is named by the policy. It sends the credential to the hosts that the resource id chose.
    fn free_hosts(&self) -> Vec<Recipient> {
        self.native.as_ref().map(|native| native.free_hosts()).unwrap_or_default()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let calls = Call::ALL.into_iter().filter_map(|call| self.address.of_call(call, &self.platform.workspace));
        let planned = |(method, url): (&str, url::Url)| PlannedCall {
            method: method.to_string(),
            host: self.host.clone(),
            path: url.path().to_string(),
        };
        let native = self.native.iter().flat_map(|native| native.planned_calls());
        calls.map(planned).chain(native).collect()
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        let mut free_hosts = self.free_hosts();
        let BoundSource { address, platform, family, resource_id, native, providers, installation, written, .. } = *self;
        let config = match airbyte::of_family(&family.id) {
            Some(known) => template_config(known, &resource_id, credential.as_ref(), &family.id)?,
            None => Map::new(),
        };
        let native = native.map(|native| NativeReader {
            account: native.account().to_string(),
            engine: family.engine.clone(),
            authorized: native.authorize(credential.clone()),
            credential: credential.clone(),
        });
        let chosen = native.as_ref().and_then(|native| native.authorized.as_ref().ok());
        free_hosts.extend(chosen.into_iter().flat_map(|authorized| authorized.free_hosts.iter().cloned()));
        free_hosts.sort();
        free_hosts.dedup();
        let setup = SourceSetup {
            name: String::new(),
            earlier_name: None,
            search: String::new(),
            connector: connector_name(&family.id),
            resource_id,
            config,
            credential,
        };
        let opening = Opening { address, platform, family, setup, native, providers, installation, written };
        let open = move |session| -> BoxFuture<'static, _> { Box::pin(opening.open(session)) };
        Ok(AuthorizedResource::new(open).with_free_hosts(free_hosts))
    }
}

/// A resource with its credential.
struct Opening {
    address: Address,
    platform: Platform,
    family: Arc<Family>,
    setup: SourceSetup,
    native: Option<NativeReader>,
    providers: Option<Arc<Providers>>,
    installation: Installation,
    written: Arc<Written>,
}

impl Opening {
    async fn open(self, session: Session) -> Result<Opened, Failure> {
        let Opening { address, platform, family, mut setup, native, providers, installation, written } = self;
        let connection = session.caller.connection;
        let mark = installation.mark().await?;
        setup.name = source_name::source_name(&family.id, &setup.resource_id, connection, &mark.text);
        let earlier = source_name::earlier_name(&family.id, &setup.resource_id, connection);
        setup.earlier_name = mark.takes_over.then_some(earlier);
        setup.search = connection.to_string();
        let login = log_in(providers.as_ref(), &platform.credential, &family, &session).await?;
        let mut api = PlatformApi::new(session, address, platform.workspace);
        let scope = RuleScope {
            address: &api.address,
            workspace: &api.workspace,
            name: &setup.name,
            search: &setup.search,
            config: None,
        };
        let posts = rules::posts(&scope);
        api.allow(posts);
        api.log_in(login).await?;
        let source = sources::ensure(&mut api, &setup, &written).await?;
        let mut evidence = source.evidence;
        let connector = PlatformConnector {
            api,
            source: source.id,
            warning: source.warning,
            checked: Mutex::default(),
            native: Mutex::new(native),
        };
        if connector.api.address.api == Api::Configuration {
            let checked = connector.check().await?;
            *connector.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(checked);
            evidence.insert("check".into(), "succeeded".into());
        }
        let reason = format!("the Airbyte at {} does not say what the credential may do", connector.api.address.host());
        Ok(Opened {
            connector: Box::new(connector),
            identity: evidence,
            privilege: Privilege::Unknown { reason },
            removal: Vec::new(),
        })
    }
}

/// Reads the credential of the platform for this attempt.
async fn log_in(
    providers: Option<&Arc<Providers>>,
    locator: &Locator,
    family: &Arc<Family>,
    session: &Session,
) -> Result<PlatformLogin, Failure> {
    let Some(providers) = providers else {
        return Err(Failure::new(
            Class::Bug,
            "the credential of airbyte.platform cannot be read by this command",
            "report this as a defect of AAM",
        ));
    };
    let request = CredentialRequest {
        locator: locator.clone(),
        connection: session.caller.connection,
        namespace: String::new(),
        owner: String::new(),
        family: Arc::clone(family),
        resource_ids: Arc::default(),
        policy: Arc::clone(&session.caller.policy),
        reading: Reading::Cached,
    };
    let provided = providers.provide_setting(&request, locator).await?;
    PlatformLogin::from_credential(&provided.credential, locator)
}

/// A source in the workspace.
struct PlatformConnector {
    api: PlatformApi,
    /// The id of the source.
    source: String,
    warning: Option<Failure>,
    /// The evidence of the check, which runs once in an attempt.
    checked: Mutex<Option<Evidence>>,
    native: Mutex<Option<NativeReader>>,
}

impl PlatformConnector {
    /// Lets Airbyte check the source.
    async fn check(&self) -> Result<Evidence, Failure> {
        let response = self.api.call(Call::Check, &json!({"sourceId": self.source})).await?;
        verdict::check(&self.api, &response.body)?;
        let mut evidence = Evidence::new();
        evidence.insert("check".into(), format!("succeeded in the Airbyte at {}", self.api.address.host()).into());
        Ok(evidence)
    }

    /// Lets Airbyte discover the streams of the source, not from its cache.
    async fn discovered(&self, bounds: Bounds) -> Result<Catalog, Failure> {
        let parameters = match self.api.address.api {
            Api::Configuration => json!({"sourceId": self.source, "disable_cache": true}),
            Api::Public => json!({"sourceId": self.source, "ignoreCache": true}),
        };
        let response = self.api.call(Call::Discover, &parameters).await?;
        match catalog::catalog(self.api.address.api, &response.body, bounds) {
            Some(catalog) => Ok(catalog),
            None if response.body.get("jobInfo").is_some() => Err(verdict::job_failure(&self.api, "discovery", &response.body)),
            None => Err(self.api.unexpected(Call::Discover, "the response does not have a catalog")),
        }
    }
}

impl Connector for PlatformConnector {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(async move {
            let catalog = self.discovered(bounds).await?;
            let mut evidence = Evidence::new();
            evidence.insert("discovered_by".into(), format!("the Airbyte at {}", self.api.address.host()).into());
            if self.api.address.api == Api::Public {
                evidence.insert("note".into(), "the public API names fields without their types".into());
            }
            Ok(Discovery { catalog, evidence, warning: None })
        })
    }

    /// The public API does not have a check, so there Airbyte discovers the streams anew, which needs the credential too.
    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let kept = self.checked.lock().unwrap_or_else(PoisonError::into_inner).take();
            match (kept, self.api.address.api) {
                (Some(evidence), _) => Ok(evidence),
                (None, Api::Configuration) => self.check().await,
                (None, Api::Public) => {
                    let catalog = self.discovered(Bounds::default()).await?;
                    let mut evidence = Evidence::new();
                    evidence
                        .insert("check".into(), "the public API does not have a check; Airbyte discovered the streams".into());
                    evidence.insert("streams".into(), catalog.streams.len().into());
                    Ok(evidence)
                }
            }
        })
    }

    fn warning(&self) -> Option<Failure> {
        self.warning.clone()
    }

    fn tiny_sync<'a>(&'a self, _catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(async move {
            let reader = self.native.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(native::sample(reader, self.api.session(), max_items).await)
        })
    }

    fn traffic(&self) -> Traffic {
        self.api.traffic()
    }
}
