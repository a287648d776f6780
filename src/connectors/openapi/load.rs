//! Fetches the description and the documents it refers to.

use super::address::{DescriptionLocation, host_of, same_origin};
use super::auth;
use super::classify::{self, ErrorContext};
use super::document::Description;
use super::memory;
use super::parse::{self, MAX_DOCUMENT_BYTES};
use super::refs::{DocumentSet, MAX_DOCUMENTS};
use super::wire::HttpTransport;
use crate::credentials::{Credential, Secret, redact};
use crate::egress::{HttpRequest, HttpResponse, Method};
use crate::memory_budget::Reservation;
use crate::model::{Class, Failure};
use serde_json::Value;
use url::Url;

/// Limit on the bytes of a description and its parts. When it is reached, no further part is requested.
const MAX_TOTAL_BYTES: usize = 12 << 20;

/// A description and those of its referenced documents that could be read.
pub struct Loaded {
    pub description: Description,
    pub documents: DocumentSet,
    /// Whether the description itself required the credential.
    pub protected: bool,
    /// The memory of the documents.
    pub memory: Reservation,
}

/// Requests the candidate URLs in order and loads the first description.
///
/// # Errors
/// The errors of the transport; `CredentialRejected` and similar if the description is protected;
/// `WrongService` or `NotFound` if no candidate is a description.
pub async fn load(
    wire: &dyn HttpTransport,
    address: &DescriptionLocation,
    credential: Option<&Credential>,
) -> Result<Loaded, Failure> {
    let mut first_failure: Option<Failure> = None;
    for candidate in &address.candidates {
        let (answer, protected) = fetch(wire, candidate, credential).await?;
        let context =
            ErrorContext { url: candidate, what: "the description", scopes: &[], schemes: &header_name(protected.as_ref()) };
        if let Err(failure) = classify::check_status(&answer, context) {
            if matches!(answer.status, 401 | 403 | 429 | 500..) {
                return Err(failure);
            }
            if !matches!(failure.class, Class::NotFound | Class::Misconfigured) {
                first_failure.get_or_insert(failure);
            }
            continue;
        }
        if !same_origin(&answer.url, candidate) {
            let fix = "name the URL that finally serves the description in resource_ids";
            return Err(Failure::new(
                Class::EgressRefused,
                format!("{} redirects the request for the description to {}", host_of(candidate), host_of(&answer.url)),
                fix,
            ));
        }
        let HttpResponse { body, url, .. } = answer;
        let what = format!("the description of {}", host_of(&url));
        let mut memory = wire.memory().reserve(memory::of_document(&body)).await.map_err(|bound| bound.failure(&what))?;
        let read = offload(move || Description::read(&body, url)).await?;
        match read {
            Ok(mut description) => {
                let root = std::mem::take(&mut description.root);
                let documents = DocumentSet::new(description.url.clone(), root);
                let documents = load_references(wire, documents, (description.bytes, &mut memory), protected.as_ref()).await?;
                return Ok(Loaded { description, documents, protected: protected.is_some(), memory });
            }
            Err(unusable) if unusable.try_next => {
                first_failure.get_or_insert(unusable.failure);
            }
            Err(unusable) => return Err(unusable.failure),
        }
    }
    Err(first_failure.unwrap_or_else(|| not_found(address)))
}

fn not_found(address: &DescriptionLocation) -> Failure {
    let requested: Vec<&str> = address.candidates.iter().map(Url::path).collect();
    Failure::new(
        Class::NotFound,
        format!("{} does not serve an OpenAPI description at a known path", address.host()),
        "name the URL of the description itself in resource_ids, for example https://api.example.com/openapi.json",
    )
    .detail(format!("requested {}; none of them was found", requested.join(", ")))
}

/// Loads the referenced documents of the same origin. If one cannot be loaded, the reason is recorded and
/// only the streams that need it are skipped.
async fn load_references(
    wire: &dyn HttpTransport,
    mut documents: DocumentSet,
    (mut bytes, memory): (usize, &mut Reservation),
    header: Option<&(String, Secret)>,
) -> Result<DocumentSet, Failure> {
    loop {
        let missing;
        (documents, missing) = offload(move || {
            let missing = documents.missing();
            (documents, missing)
        })
        .await?;
        if missing.is_empty() {
            return Ok(documents);
        }
        for url in missing {
            if documents.count() >= MAX_DOCUMENTS {
                documents.refuse(
                    url,
                    format!("the description refers to more than {MAX_DOCUMENTS} documents; the others are not read"),
                );
                continue;
            }
            if bytes >= MAX_TOTAL_BYTES {
                documents.refuse(
                    url,
                    format!(
                        "the description and its parts are larger than {} MiB; the others are not read",
                        MAX_TOTAL_BYTES >> 20
                    ),
                );
                continue;
            }
            match fetch_part(wire, &url, header, memory).await {
                Ok((value, length)) => {
                    bytes += length;
                    documents.add(url, value);
                }
                // A rate limit or a network failure says nothing about the document.
                Err(failure) if matches!(failure.class, Class::Throttled | Class::Network | Class::BreakerOpen) => {
                    return Err(failure);
                }
                Err(failure) => documents.refuse(url, failure.title),
            }
        }
    }
}

async fn fetch_part(
    wire: &dyn HttpTransport,
    url: &Url,
    header: Option<&(String, Secret)>,
    memory: &mut Reservation,
) -> Result<(Value, usize), Failure> {
    let answer = wire.http(request(url, header.cloned().into_iter().collect())).await?;
    classify::check_status(
        &answer,
        ErrorContext { url, what: "a part of the description", scopes: &[], schemes: &header_name(header) },
    )?;
    let body = answer.body;
    memory.grow(memory::of_document(&body)).await.map_err(|bound| bound.failure(&format!("the part {}", url.path())))?;
    let length = body.len();
    let path = url.path().to_string();
    let parsed = offload(move || std::str::from_utf8(&body).map_err(|error| error.to_string()).and_then(parse::parse)).await?;
    parsed.map(|value| (value, length)).map_err(|message| {
        Failure::new(
            Class::Remote,
            format!("{path} is not valid: {message}"),
            "ask the owner of the service to fix its description",
        )
    })
}

/// Requests `url`, at first without the credential: most descriptions are public, and a secret must not be sent unless it is
/// needed. The second value is the header that was needed.
async fn fetch(
    wire: &dyn HttpTransport,
    url: &Url,
    credential: Option<&Credential>,
) -> Result<(HttpResponse, Option<(String, Secret)>), Failure> {
    let answer = wire.http(request(url, Vec::new())).await?;
    if !matches!(answer.status, 401 | 403) {
        return Ok((answer, None));
    }
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    match credential.and_then(|credential| auth::for_document(credential, challenge)) {
        None => Ok((answer, None)),
        Some(header) => Ok((wire.http(request(url, vec![header.clone()])).await?, Some(header))),
    }
}

/// Describes for messages how the credential was sent, because the scheme is unknown until the description is read.
fn header_name(header: Option<&(String, Secret)>) -> Vec<String> {
    header.map(|(name, _)| name.clone()).into_iter().collect()
}

fn request(url: &Url, mut headers: Vec<(String, Secret)>) -> HttpRequest {
    headers.push(("accept".into(), Secret::new("application/json, application/yaml;q=0.9, */*;q=0.5".into())));
    HttpRequest { method: Method::Get, url: url.clone(), headers, max_bytes: MAX_DOCUMENT_BYTES, follow_redirects: true }
}

/// Runs bounded but long work on a blocking thread, so that it does not delay other connections.
///
/// # Errors
/// `Bug` if it panics.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let attempt = redact::attempt();
    tokio::task::spawn_blocking(move || redact::with_attempt(attempt, work)).await.map_err(|error| {
        Failure::new(Class::Bug, "reading the description caused a panic", "report this defect together with the description")
            .detail(error.to_string())
    })
}
