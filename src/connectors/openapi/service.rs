//! An open service: discovery, health check and tiny sync.

use super::address::host_of;
use super::auth::{self, CallAuth};
use super::classify::{self, ErrorContext};
use super::load::{Loaded, offload};
use super::operations::{self, Operation, Operations};
use super::privilege;
use super::records::RecordPath;
use super::refs::DocumentSet;
use super::select::{self, CredentialFit, OperationRules};
use super::server::Servers;
use super::streams;
use super::wire::HttpTransport;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample, json_memory};
use crate::credentials::{Credential, Secret};
use crate::egress::{HttpRequest, HttpResponse, Method, Traffic};
use crate::memory_budget::{MemoryMeter, Reservation};
use crate::model::{Catalog, Class, Evidence, Failure};
use crate::policy::FamilyPolicy;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Limit on the bytes of a response with data.
const MAX_RESPONSE_BYTES: u64 = 4 << 20;

/// The memory that is reserved for the operations of a description at first.
const FIRST_OPERATIONS_BYTES: u64 = 256 << 10;

fn still_read() -> Failure {
    Failure::new(Class::Bug, "the description is still being read", "report this as a defect of AAM")
}

/// A described service that can be called.
pub struct Service {
    wire: Arc<dyn HttpTransport>,
    documents: DocumentSet,
    operations: Operations,
    servers: Servers,
    rules: OperationRules,
    credential: Option<Credential>,
    /// The schemes for which most operations accept this credential. They are needed because a plain value does not show
    /// which scheme it is for.
    main_schemes: Vec<String>,
}

/// A successful response.
struct JsonResponse {
    value: Value,
    status: u16,
    bytes: usize,
    schemes: Vec<String>,
    /// The memory of `value`.
    _memory: Reservation,
}

impl Service {
    /// Reads servers and operations, and checks that the credential satisfies the operation of the health check.
    ///
    /// # Errors
    /// The errors of [`Servers::read`], [`select::health_operation`] and [`auth::authorize`].
    pub async fn open(
        wire: Arc<dyn HttpTransport>,
        loaded: Loaded,
        credential: Option<Credential>,
        policy: &FamilyPolicy,
    ) -> Result<Opened, Failure> {
        let Loaded { description, documents, protected, memory: documents_memory } = loaded;
        let servers = Servers::read(documents.root(), &description.url, policy.base_url.as_deref())?;
        let server = servers.base().unwrap_or_else(|_| description.url.clone());
        let read_from = Arc::new((documents, servers));
        let what = format!("the description of {}", host_of(&description.url));
        let read = |memory: MemoryMeter| {
            let read_from = Arc::clone(&read_from);
            offload(move || operations::read(&read_from.0, &read_from.1, &memory))
        };
        let (operations, memory) = wire.memory().metered_held(&what, FIRST_OPERATIONS_BYTES, read).await?;
        wire.memory().keep(memory);
        // No other task holds a copy, because `read` has ended.
        let (mut documents, servers) = Arc::try_unwrap(read_from).map_err(|_| still_read())?;
        documents.keep_security();
        drop(documents_memory);
        let mut service = Service {
            wire,
            documents,
            operations,
            servers,
            rules: OperationRules::from_policy(policy),
            credential,
            main_schemes: Vec::new(),
        };
        service.main_schemes = service.main_schemes();
        let auth = service.authorize(&service.health_operation()?)?;
        let mut identity = Evidence::new();
        identity.insert("title".into(), description.title.into());
        identity.insert("version".into(), description.version.into());
        identity.insert("openapi".into(), description.openapi.into());
        identity.insert("description".into(), format!("{}{}", host_of(&description.url), description.url.path()).into());
        identity.insert("description_sha256".into(), description.digest.to_string().into());
        identity.insert("description_protected".into(), protected.into());
        identity.insert("documents".into(), service.documents.count().into());
        identity.insert("server".into(), format!("{}://{}{}", server.scheme(), host_of(&server), server.path()).into());
        identity.insert("get_operations".into(), service.operations.reading.into());
        identity.insert("writing_operations".into(), service.operations.writing.len().into());
        let privilege = privilege::assess(&auth, &service.operations);
        Ok(Opened { connector: Box::new(service), identity, privilege })
    }

    fn health_operation(&self) -> Result<Operation, Failure> {
        let extension = self.documents.root().text("x-aam-health");
        select::health_operation(&self.operations, &self.rules, &self.servers, extension, |operation| self.fit(operation))
    }

    fn fit(&self, operation: &Operation) -> CredentialFit {
        match self.authorize(operation) {
            Ok(auth) if auth.schemes.is_empty() => CredentialFit::NoCredential,
            Ok(auth) if auth.schemes == self.main_schemes => CredentialFit::MainScheme,
            Ok(_) => CredentialFit::OtherScheme,
            Err(_) => CredentialFit::Unsatisfied,
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

    fn authorize(&self, operation: &Operation) -> Result<CallAuth, Failure> {
        auth::authorize(&self.documents, &operation.security, self.credential.as_ref())
    }

    /// Sends the GET request of `operation`. If the page size can be limited, it is limited to `wanted` items.
    async fn get(&self, operation: &Operation, wanted: Option<u32>) -> Result<JsonResponse, Failure> {
        let call = self.rules.callable(operation).map_err(|reason| {
            Failure::new(
                Class::Misconfigured,
                format!("{} was not called: {reason}", operation.name),
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
        // A header parameter may describe the same header as the security scheme. The secret then takes precedence.
        headers.retain(|(name, _)| !auth.headers.iter().any(|(secret, _)| secret == name));
        headers.extend(auth.headers);
        headers.push(("accept".into(), Secret::new("application/json".into())));
        let answer: HttpResponse = self
            .wire
            .http(HttpRequest {
                method: Method::Get,
                url: url.clone(),
                headers,
                max_bytes: MAX_RESPONSE_BYTES,
                follow_redirects: true,
            })
            .await?;
        let context = ErrorContext { url: &url, what: &operation.name, scopes: &auth.scopes, schemes: &auth.schemes };
        if !self.servers.allows(&answer.url) {
            let fix = "if the service has moved, name its new URL in resource_ids";
            return Err(Failure::new(
                Class::EgressRefused,
                format!("{} redirected {} to {}", host_of(&url), operation.name, host_of(&answer.url)),
                fix,
            ));
        }
        let what = format!("the response of {}", operation.name);
        let memory = self.wire.memory().reserve(json_memory::of_text(&answer.body)).await;
        let memory = memory.map_err(|bound| bound.failure(&what))?;
        let value = classify::parse_json(&answer, context)?;
        if let Some(records) = &operation.answer {
            classify::check_shape(&value, &records.schema(), context)?;
        }
        Ok(JsonResponse { value, status: answer.status, bytes: answer.body.len(), schemes: auth.schemes, _memory: memory })
    }

    fn evidence(operation: &Operation, response: &JsonResponse) -> Evidence {
        let mut evidence = Evidence::new();
        evidence.insert("operation".into(), operation.name.clone().into());
        evidence.insert("path".into(), operation.path.clone().into());
        evidence.insert("status".into(), response.status.into());
        evidence.insert("bytes".into(), response.bytes.into());
        let security = if response.schemes.is_empty() {
            "none: the call does not need a credential".to_string()
        } else {
            response.schemes.join(" and ")
        };
        evidence.insert("security".into(), security.into());
        evidence
    }

    async fn sample(&self, max_items: u32) -> Result<Sample, Failure> {
        let Some(operation) = select::sample_operation(&self.operations, &self.rules, max_items, |operation| self.fit(operation))
        else {
            let fix =
                "describe a GET operation that lists records, or remove it from families.openapi.deny_operations in the policy";
            return Err(Failure::new(
                Class::Misconfigured,
                "the description does not have a GET operation whose records AAM can read",
                fix,
            ));
        };
        let response = self.get(operation, Some(max_items)).await?;
        let path = operation.answer.as_ref().map_or(&RecordPath::Single, |records| &records.path);
        let available = count(&response.value, path).ok_or_else(|| {
            let title = format!(
                "the response of {} does not have a list at \"{}\", although the description promises one",
                operation.name,
                path.pointer()
            );
            Failure::new(Class::Remote, title, "check that the description and the service have the same version")
        })?;
        let rows = available.min(max_items.into());
        let mut evidence = Service::evidence(operation, &response);
        evidence.insert("records".into(), rows.into());
        if available > rows {
            evidence.insert("more_available".into(), true.into());
        }
        if rows == 0 {
            evidence.insert(
                "note".into(),
                "the service returned an empty list: it has no records, or does not show any to this credential".into(),
            );
        }
        Ok(Sample { rows, evidence, warning: None })
    }
}

/// The number of records in a response. Returns `None` if the value at the path is not a list.
fn count(value: &Value, path: &RecordPath) -> Option<u64> {
    let length = |list: &Vec<Value>| list.len() as u64;
    match (path, value) {
        (RecordPath::Whole | RecordPath::Single, Value::Array(list)) => Some(length(list)),
        (RecordPath::Whole, Value::Null) => Some(0),
        (RecordPath::Whole, _) => None,
        (RecordPath::Property(name), _) => match value.get(name) {
            Some(Value::Array(list)) => Some(length(list)),
            None | Some(Value::Null) => Some(0),
            Some(_) => None,
        },
        (RecordPath::Single, Value::Null) => Some(0),
        (RecordPath::Single, _) => Some(1),
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
            Ok(Discovery { catalog, evidence, warning: None })
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let operation = self.health_operation()?;
            let response = self.get(&operation, Some(1)).await?;
            Ok(Service::evidence(&operation, &response))
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
        let list = RecordPath::Property("data".into());
        assert_eq!(count(&json!({"data": [1, 2]}), &list), Some(2));
        assert_eq!(count(&json!({"data": null}), &list), Some(0));
        assert_eq!(count(&json!({"data": "no"}), &list), None);
        assert_eq!(count(&json!([1, 2, 3]), &RecordPath::Whole), Some(3));
        assert_eq!(count(&json!({}), &RecordPath::Whole), None);
        assert_eq!(count(&json!({"a": 1}), &RecordPath::Single), Some(1));
        assert_eq!(count(&json!([1, 2]), &RecordPath::Single), Some(2));
    }
}
