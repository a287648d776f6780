//! An engine whose sources are a script: what it says instead of a call is the outcome.

use aam::connectors::{
    AuthorizedResource, BindRequest, BoundResource, Bounds, Connector, CredentialNeed, Discovery, Engine, Opened, Sample,
};
use aam::credentials::Credential;
use aam::egress::{PlannedCall, Traffic};
use aam::model::{Catalog, Evidence, Failure, Privilege, Recipient, Stream, SyncMode};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The sources of all connections.
pub trait Source: Send + Sync {
    /// Opens the source of connection `number` with the secret that its locator gave.
    ///
    /// # Errors
    /// The failure that ends the attempt.
    fn open(&self, number: usize, secret: Option<&str>) -> Result<(), Failure>;

    /// The catalog of the source as it is now.
    fn catalog(&self, number: usize) -> Catalog;
}

/// The engine of a [`Source`].
pub struct ScriptedEngine(pub Arc<dyn Source>);

struct Resource {
    source: Arc<dyn Source>,
    resource_id: String,
    number: usize,
}

/// The number of a connection is at the end of its resource id.
fn number(resource_id: &str) -> usize {
    let digits = resource_id.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or_default()
}

impl Engine for ScriptedEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        let resource_id = request.resource_id.to_string();
        Ok(Box::new(Resource { source: Arc::clone(&self.0), number: number(&resource_id), resource_id }))
    }
}

impl BoundResource for Resource {
    fn credential_need(&self) -> CredentialNeed {
        CredentialNeed::Optional
    }

    fn account(&self) -> &str {
        &self.resource_id
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        Vec::new()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        Vec::new()
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        Ok(AuthorizedResource::new(move |_| {
            Box::pin(async move {
                let secret = credential.as_ref().and_then(Credential::plain).map(|secret| secret.expose());
                self.source.open(self.number, secret)?;
                let identity = evidence("source", self.number);
                Ok(Opened { connector: self, identity, privilege: Privilege::Ok, removal: Vec::new() })
            })
        }))
    }
}

impl Connector for Resource {
    fn discover(&self, _: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        let catalog = self.source.catalog(self.number);
        Box::pin(async move { Ok(Discovery { catalog, evidence: Evidence::new(), warning: None }) })
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(async { Ok(evidence("status", 200)) })
    }

    fn tiny_sync<'a>(&'a self, _: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(async move { Ok(Sample::new(u64::from(max_items), Evidence::new())) })
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

fn evidence(name: &str, value: usize) -> Evidence {
    Evidence::from_iter([(name.to_string(), value.into())])
}

/// A catalog of four streams whose first one has these columns.
pub fn catalog(columns: &[String]) -> Catalog {
    let stream = |name: &str, columns: &[String]| {
        let properties: serde_json::Map<String, serde_json::Value> =
            columns.iter().map(|column| (column.clone(), serde_json::json!({"type": "string"}))).collect();
        Stream {
            name: name.to_string(),
            namespace: None,
            json_schema: serde_json::json!({"type": "object", "properties": properties}),
            supported_sync_modes: vec![SyncMode::FullRefresh],
            source_defined_primary_key: Vec::new(),
            row_estimate: None,
        }
    };
    let fixed = ["id".to_string(), "name".to_string()];
    let streams =
        vec![stream("records", columns), stream("stream_1", &fixed), stream("stream_2", &fixed), stream("stream_3", &fixed)];
    Catalog { streams, ..Catalog::default() }
}
