//! Fetches the description and the documents it refers to.

use super::address::{DescriptionLocation, host_of, same_origin};
use super::auth::{self, CallAuth};
use super::challenge;
use super::classify::{self, ErrorContext};
use super::document::{Description, over_limit};
use super::memory;
use super::parse::{self, MAX_DOCUMENT_BYTES, ParseError};
use super::redirects;
use super::refs::{DocumentSet, MAX_DOCUMENTS};
use super::settings::ServiceSettings;
use super::wire::HttpTransport;
use crate::credentials::{Credential, Secret, redact};
use crate::egress::{HttpRequest, HttpResponse, Method, is_too_long};
use crate::memory_budget::Reservation;
use crate::model::{Class, Failure};
use crate::policy::ServiceAuth;
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

/// Limit on the candidates that may refuse access or fail. The others are then not requested, because they would too.
const MAX_REFUSALS: usize = 3;

/// Requests the candidate URLs in order and loads the first description. A candidate that fails does not end the search,
/// because the description may be at the next one.
///
/// # Errors
/// The errors of the transport; otherwise, of all candidates, the failure that says most: `Unsupported` for a description
/// that AAM cannot read, `CredentialRejected` and similar if it is protected, `WrongService` or `NotFound`.
pub async fn load(
    wire: &dyn HttpTransport,
    address: &DescriptionLocation,
    credential: Option<&Credential>,
    settings: &ServiceSettings,
) -> Result<Loaded, Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    let mut refusals = 0;
    for candidate in &address.candidates {
        match load_candidate(wire, candidate, credential, settings).await {
            Ok((description, auth, memory)) => return load_parts(wire, description, auth, memory).await,
            Err(failure) if ends_search(failure.class) => return Err(failure),
            Err(failure) => {
                refusals += usize::from(!matches!(failure.class, Class::NotFound | Class::WrongService | Class::Misconfigured));
                failures.push(failure);
            }
        }
        if refusals >= MAX_REFUSALS {
            break;
        }
    }
    let says_most = failures.into_iter().min_by_key(|failure| rank(failure.class));
    Err(says_most.filter(|failure| failure.class != Class::NotFound).unwrap_or_else(|| not_found(address)))
}

/// Whether a failure concerns the whole host.
fn ends_search(class: Class) -> bool {
    matches!(class, Class::Network | Class::BreakerOpen | Class::Throttled | Class::Interrupted | Class::Bug)
}

/// How much a failure says about the description: one that was found says more than one that was not.
fn rank(class: Class) -> usize {
    const ORDER: [Class; 9] = [
        Class::Unsupported,
        Class::Misconfigured,
        Class::CredentialRejected,
        Class::CredentialMissing,
        Class::PermissionDenied,
        Class::Remote,
        Class::EgressRefused,
        Class::WrongService,
        Class::NotFound,
    ];
    ORDER.iter().position(|known| *known == class).unwrap_or(0)
}

/// Requests one candidate URL. Returns the description, the credential that it needed, and its memory.
async fn load_candidate(
    wire: &dyn HttpTransport,
    candidate: &Url,
    credential: Option<&Credential>,
    settings: &ServiceSettings,
) -> Result<(Description, CallAuth, Reservation), Failure> {
    let (answer, auth) = fetch(wire, candidate, credential, settings).await?;
    let context = ErrorContext { url: candidate, what: "the description", scopes: &[], schemes: &auth.schemes, settings };
    if let Err(failure) = classify::check_status(&answer, context) {
        // Any other status of a refused request says, like 404, that the description is not here.
        let elsewhere = matches!(failure.class, Class::Misconfigured);
        return Err(if elsewhere { Failure { class: Class::NotFound, ..failure } } else { failure });
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
    let memory = wire.memory().reserve(memory::of_document(&body)).await.map_err(|bound| bound.failure(&what))?;
    Ok((offload(move || Description::read(&body, url)).await??, auth, memory))
}

async fn load_parts(
    wire: &dyn HttpTransport,
    mut description: Description,
    auth: CallAuth,
    mut memory: Reservation,
) -> Result<Loaded, Failure> {
    let root = std::mem::take(&mut description.root);
    let documents = DocumentSet::new(description.url.clone(), root);
    let documents = load_references(wire, documents, (description.bytes, &mut memory), &auth).await?;
    Ok(Loaded { description, documents, protected: !auth.headers.is_empty(), memory })
}

fn not_found(address: &DescriptionLocation) -> Failure {
    let requested: Vec<&str> = address.candidates.iter().map(Url::path).collect();
    if let [only] = requested.as_slice() {
        let base = address.url.join("/").map_or_else(|_| address.host(), |url| url.to_string());
        return Failure::new(
            Class::NotFound,
            format!("{} answered 404 for the description at {only}", address.host()),
            format!("correct the URL in resource_ids, or write {base} there: AAM then tries the usual paths of descriptions"),
        );
    }
    Failure::new(
        Class::NotFound,
        format!("{} does not serve an OpenAPI description at a usual path", address.host()),
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
    auth: &CallAuth,
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
            match fetch_part(wire, &url, auth, memory).await {
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
    auth: &CallAuth,
    memory: &mut Reservation,
) -> Result<(Value, usize), Failure> {
    let answer = redirects::get(wire, request(url, auth.headers.clone())).await?;
    let settings = ServiceSettings::default();
    let context =
        ErrorContext { url, what: "a part of the description", scopes: &[], schemes: &auth.schemes, settings: &settings };
    classify::check_status(&answer, context)?;
    let body = answer.body;
    memory.grow(memory::of_document(&body)).await.map_err(|bound| bound.failure(&format!("the part {}", url.path())))?;
    let length = body.len();
    let path = url.path().to_string();
    let parsed = offload(move || {
        let text = std::str::from_utf8(&body).map_err(|error| ParseError::Invalid(error.to_string()))?;
        parse::parse(text)
    });
    let parsed = parsed.await?;
    parsed.map(|value| (value, length)).map_err(|error| match error {
        ParseError::Limit(limit) => over_limit(&path, &limit),
        ParseError::Invalid(message) => Failure::new(
            Class::Remote,
            format!("{path} is not valid: {message}"),
            "ask the owner of the service to fix its description",
        ),
    })
}

/// Requests `url`, at first without the credential: most descriptions are public, and a secret must not be sent unless it is
/// needed. The second value is the authentication that was needed.
async fn fetch(
    wire: &dyn HttpTransport,
    url: &Url,
    credential: Option<&Credential>,
    settings: &ServiceSettings,
) -> Result<(HttpResponse, CallAuth), Failure> {
    let long = |failure: Failure| {
        let limit = format!("more than {} MiB", MAX_DOCUMENT_BYTES >> 20);
        if is_too_long(&failure) { over_limit(&format!("{}{}", host_of(url), url.path()), &limit) } else { failure }
    };
    let answer = redirects::get(wire, request(url, Vec::new())).await.map_err(long)?;
    let (401 | 403, Some(credential)) = (answer.status, credential) else {
        return Ok((answer, CallAuth::default()));
    };
    if let Some(auth) = auth::signed(credential) {
        return Ok((answer, auth));
    }
    // A service that protects its description without naming a scheme mostly expects a bearer token.
    let bearer = || auth::by_policy(&ServiceAuth::Bearer, credential).filter(|_| challenge::named_schemes(&answer).is_empty());
    let known = match &settings.auth {
        Some(ServiceAuth::None) => return Ok((answer, CallAuth::default())),
        Some(policy) => auth::by_policy(policy, credential),
        None => challenge::by_challenge(&answer, credential).or_else(bearer),
    };
    match known {
        None => Err(challenge::unknown_way(&answer, "the description", settings)),
        Some(auth) => Ok((redirects::get(wire, request(url, auth.headers.clone())).await.map_err(long)?, auth)),
    }
}

fn request(url: &Url, mut headers: Vec<(String, Secret)>) -> HttpRequest {
    headers.push(("accept".into(), Secret::new("application/json, application/yaml;q=0.9, */*;q=0.5".into())));
    HttpRequest { method: Method::Get, url: url.clone(), headers, max_bytes: MAX_DOCUMENT_BYTES, follow_redirects: false }
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
