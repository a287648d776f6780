//! An open service: discover, health, tiny sync.

use super::address::host_of;
use super::auth::{self, Auth};
use super::classify::{self, ErrorContext};
use super::load::{Loaded, offload};
use super::operations::{self, Operation, Operations};
use super::privilege;
use super::refs::Library;
use super::select::{self, Fit, Rules};
use super::server::Servers;
use super::streams::{self, Place};
use super::wire::Wire;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::credentials::{Credential, Secret};
use crate::egress::{HttpRequest, HttpResponse, Method, Traffic};
use crate::model::{Catalog, Class, Evidence, Failure};
use crate::policy::FamilyPolicy;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An answer with data that is longer is not read.
const MAX_ANSWER: u64 = 4 << 20;

/// A described service that can be called.
pub struct Service {
    wire: Arc<dyn Wire>,
    library: Library,
    operations: Operations,
    servers: Servers,
    rules: Rules,
    credential: Option<Credential>,
    /// The schemes that most operations accept this credential for. A plain value does not say
    /// which scheme it is for.
    main: Vec<String>,
}

/// What one call gave.
struct Got {
    value: Value,
    status: u16,
    bytes: usize,
    schemes: Vec<String>,
}

impl Service {
    /// Reads servers and operations, and makes sure that something can be read with this credential.
    ///
    /// # Errors
    /// See [`Servers::read`], [`select::health`] and [`auth::authorize`].
    pub async fn open(
        wire: Arc<dyn Wire>,
        loaded: Loaded,
        credential: Option<Credential>,
        policy: &FamilyPolicy,
    ) -> Result<Opened, Failure> {
        let Loaded { description, library, protected } = loaded;
        let servers = Servers::read(library.root(), &description.url, policy.base_url.as_deref())?;
        let server = servers.base().unwrap_or_else(|_| description.url.clone());
        let (library, servers, operations) = offload(move || {
            let operations = operations::read(&library, &servers);
            (library, servers, operations)
        })
        .await?;
        let mut service = Service { wire, library, operations, servers, rules: Rules::of(policy), credential, main: Vec::new() };
        service.main = service.main_schemes();
        let auth = service.authorize(&service.health_operation()?)?;
        let mut identity = Evidence::new();
        identity.insert("title".into(), description.title.into());
        identity.insert("version".into(), description.version.into());
        identity.insert("openapi".into(), description.openapi.into());
        identity.insert("description".into(), format!("{}{}", host_of(&description.url), description.url.path()).into());
        identity.insert("description_sha256".into(), description.digest.to_string().into());
        identity.insert("description_protected".into(), protected.into());
        identity.insert("documents".into(), service.library.count().into());
        identity.insert("server".into(), format!("{}://{}{}", server.scheme(), host_of(&server), server.path()).into());
        identity.insert("get_operations".into(), service.operations.reading.into());
        identity.insert("writing_operations".into(), service.operations.writing.len().into());
        let privilege = privilege::verdict(&auth, &service.operations);
        Ok(Opened { connector: Box::new(service), identity, privilege })
    }

    fn health_operation(&self) -> Result<Operation, Failure> {
        let extension = self.library.root().text("x-aam-health");
        select::health(&self.operations, &self.rules, &self.servers, extension, |operation| self.fit(operation))
    }

    fn fit(&self, operation: &Operation) -> Fit {
        match self.authorize(operation) {
            Ok(auth) if auth.schemes.is_empty() => Fit::Open,
            Ok(auth) if auth.schemes == self.main => Fit::Proves,
            Ok(_) => Fit::Guess,
            Err(_) => Fit::Lacks,
        }
    }

    fn main_schemes(&self) -> Vec<String> {
        let mut votes: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for operation in &self.operations.list {
            if let Ok(auth) = self.authorize(operation) {
                *votes.entry(auth.schemes).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .filter(|(schemes, _)| !schemes.is_empty())
            .max_by_key(|(_, count)| *count)
            .map(|(schemes, _)| schemes)
            .unwrap_or_default()
    }

    fn authorize(&self, operation: &Operation) -> Result<Auth, Failure> {
        auth::authorize(&self.library, &operation.security, self.credential.as_ref())
    }

    /// Sends the one GET of `operation`, with its page limited to `wanted` items.
    async fn get(&self, operation: &Operation, wanted: Option<u32>) -> Result<Got, Failure> {
        let call = self.rules.callable(operation).map_err(|reason| {
            Failure::new(
                Class::Misconfigured,
                format!("{} is not called: {reason}", operation.name),
                "name another path in the policy: families: {openapi: {health_path: /v1/status}}",
            )
        })?;
        let auth = self.authorize(operation)?;
        let mut url = call.url.clone();
        if let (Some(limit), Some(wanted)) = (&operation.limit, wanted) {
            let others: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(name, _)| *name != limit.name).collect();
            url.query_pairs_mut().clear().extend_pairs(others).append_pair(&limit.name, &limit.value(wanted.into()).to_string());
        }
        let mut headers: Vec<(String, Secret)> =
            call.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value.clone()))).collect();
        // A header parameter may be the described twin of the scheme's own header; the secret wins.
        headers.retain(|(name, _)| !auth.headers.iter().any(|(secret, _)| secret == name));
        headers.extend(auth.headers);
        headers.push(("accept".into(), Secret::new("application/json".into())));
        let answer: HttpResponse = self
            .wire
            .http(HttpRequest { method: Method::Get, url: url.clone(), headers, max_bytes: MAX_ANSWER, follow_redirects: true })
            .await?;
        let asked = ErrorContext { url: &url, what: &operation.name, scopes: &auth.scopes, schemes: &auth.schemes };
        if !self.servers.allows(&answer.url) {
            let fix = "if the service moved, name its new URL in resource_ids";
            return Err(Failure::new(
                Class::EgressRefused,
                format!("{} sends {} on to {}", host_of(&url), operation.name, host_of(&answer.url)),
                fix,
            ));
        }
        let value = classify::json(&answer, asked)?;
        if let Some(record) = &operation.answer {
            classify::fits(&value, &record.schema, asked)?;
        }
        Ok(Got { value, status: answer.status, bytes: answer.body.len(), schemes: auth.schemes })
    }

    fn evidence(operation: &Operation, got: &Got) -> Evidence {
        let mut evidence = Evidence::new();
        evidence.insert("operation".into(), operation.name.clone().into());
        evidence.insert("path".into(), operation.path.clone().into());
        evidence.insert("status".into(), got.status.into());
        evidence.insert("bytes".into(), got.bytes.into());
        let security =
            if got.schemes.is_empty() { "none: the call needs no credential".to_string() } else { got.schemes.join(" and ") };
        evidence.insert("security".into(), security.into());
        evidence
    }

    async fn sample(&self, max_items: u32) -> Result<Sample, Failure> {
        let Some(operation) = select::tiny(&self.operations, &self.rules, max_items, |operation| self.fit(operation)) else {
            let fix = "describe a GET that lists records, or take it off deny_operations in the policy";
            return Err(Failure::new(
                Class::Misconfigured,
                "the description has no GET operation whose records could be read",
                fix,
            ));
        };
        let got = self.get(operation, Some(max_items)).await?;
        let place = operation.answer.as_ref().map_or(&Place::Single, |record| &record.place);
        let there = count(&got.value, place).ok_or_else(|| {
            let title = format!(
                "the answer of {} has no list at {}, where the description promises one",
                operation.name,
                place.pointer()
            );
            Failure::new(Class::Remote, title, "check that description and service are of the same version")
        })?;
        let rows = there.min(max_items.into());
        let mut evidence = Service::evidence(operation, &got);
        evidence.insert("records".into(), rows.into());
        if there > rows {
            evidence.insert("answer_held_more".into(), true.into());
        }
        if rows == 0 {
            evidence.insert(
                "note".into(),
                "the service answers an empty list: it has no records, or shows this credential none".into(),
            );
        }
        Ok(Sample { rows, evidence })
    }
}

/// The records of an answer. `None`: the promised list is something else.
fn count(value: &Value, place: &Place) -> Option<u64> {
    let length = |list: &Vec<Value>| list.len() as u64;
    match (place, value) {
        (Place::Whole | Place::Single, Value::Array(list)) => Some(length(list)),
        (Place::Whole, Value::Null) => Some(0),
        (Place::Whole, _) => None,
        (Place::Property(name), _) => match value.get(name) {
            Some(Value::Array(list)) => Some(length(list)),
            None | Some(Value::Null) => Some(0),
            Some(_) => None,
        },
        (Place::Single, Value::Null) => Some(0),
        (Place::Single, _) => Some(1),
    }
}

impl Connector for Service {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(async move {
            let catalog = streams::catalog(&self.operations, &self.rules, bounds);
            let mut evidence = Evidence::new();
            evidence.insert("streams".into(), catalog.streams.len().into());
            evidence.insert("skipped".into(), catalog.skipped.len().into());
            evidence.insert(
                "callable".into(),
                self.operations.list.iter().filter(|operation| self.rules.callable(operation).is_ok()).count().into(),
            );
            Ok(Discovery { catalog, evidence })
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let operation = self.health_operation()?;
            let got = self.get(&operation, Some(1)).await?;
            Ok(Service::evidence(&operation, &got))
        })
    }

    fn tiny_sync<'a>(&'a self, _catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(self.sample(max_items))
    }

    fn traffic(&self) -> Traffic {
        self.wire.traffic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_are_counted_where_they_are() {
        let list = Place::Property("data".into());
        assert_eq!(count(&json!({"data": [1, 2]}), &list), Some(2));
        assert_eq!(count(&json!({"data": null}), &list), Some(0));
        assert_eq!(count(&json!({"data": "no"}), &list), None);
        assert_eq!(count(&json!([1, 2, 3]), &Place::Whole), Some(3));
        assert_eq!(count(&json!({}), &Place::Whole), None);
        assert_eq!(count(&json!({"a": 1}), &Place::Single), Some(1));
        assert_eq!(count(&json!([1, 2]), &Place::Single), Some(2));
    }
}
