//! Fetches the description and the documents it refers to.

use super::address::{Address, host_of, same_origin};
use super::auth;
use super::classify::{self, ErrorContext};
use super::document::{Description, MAX_BYTES};
use super::parse;
use super::refs::{Library, MAX_DOCUMENTS};
use super::wire::Wire;
use crate::credentials::{Credential, Secret};
use crate::egress::{HttpRequest, HttpResponse, Method};
use crate::model::{Class, Failure};
use serde_json::Value;
use url::Url;

/// Bytes of a description and its parts; past this, no further part is asked for.
const MAX_TOTAL: usize = 12 << 20;

/// A description with everything that could be read of what it refers to.
pub struct Loaded {
    pub description: Description,
    pub library: Library,
    /// The description itself was asked for with the credential.
    pub protected: bool,
}

/// Asks the candidates in turn; the first that is a description is taken.
///
/// # Errors
/// Those of the wire; `CredentialRejected` and the like when the description is protected;
/// `WrongService` or `NotFound` when no candidate holds one.
pub async fn load(wire: &dyn Wire, address: &Address, credential: Option<&Credential>) -> Result<Loaded, Failure> {
    let mut best: Option<Failure> = None;
    for candidate in &address.candidates {
        let (answer, protected) = fetch(wire, candidate, credential).await?;
        let asked = ErrorContext { url: candidate, what: "the description", scopes: &[], schemes: &sent_as(protected.as_ref()) };
        if let Err(failure) = classify::status(&answer, asked) {
            if matches!(answer.status, 401 | 403 | 429 | 500..) {
                return Err(failure);
            }
            if !matches!(failure.class, Class::NotFound | Class::Misconfigured) {
                best.get_or_insert(failure);
            }
            continue;
        }
        if !same_origin(&answer.url, candidate) {
            let fix = "name the URL where the description is really served in resource_ids";
            return Err(Failure::new(
                Class::EgressRefused,
                format!("{} sends the description on to {}", host_of(candidate), host_of(&answer.url)),
                fix,
            ));
        }
        let HttpResponse { body, url, .. } = answer;
        let read = offload(move || Description::read(&body, url)).await?;
        match read {
            Ok(mut description) => {
                let root = std::mem::take(&mut description.root);
                let library = Library::new(description.url.clone(), root);
                let library = complete(wire, library, description.bytes, protected.as_ref()).await?;
                return Ok(Loaded { description, library, protected: protected.is_some() });
            }
            Err(unusable) if unusable.look_on => {
                best.get_or_insert(unusable.failure);
            }
            Err(unusable) => return Err(unusable.failure),
        }
    }
    Err(best.unwrap_or_else(|| nowhere(address)))
}

fn nowhere(address: &Address) -> Failure {
    let asked: Vec<&str> = address.candidates.iter().map(Url::path).collect();
    Failure::new(
        Class::NotFound,
        format!("{} serves no OpenAPI description", address.host()),
        "name the URL of the description itself in resource_ids, for example https://api.example.com/openapi.json",
    )
    .detail(format!("asked for {}, and nothing was there", asked.join(", ")))
}

/// Reads the remote documents of the same origin. One that cannot be had is remembered with the
/// reason: it takes its streams with it and nothing else.
async fn complete(
    wire: &dyn Wire,
    mut library: Library,
    mut bytes: usize,
    header: Option<&(String, Secret)>,
) -> Result<Library, Failure> {
    loop {
        let missing;
        (library, missing) = offload(move || {
            let missing = library.missing();
            (library, missing)
        })
        .await?;
        if missing.is_empty() {
            return Ok(library);
        }
        for url in missing {
            if library.count() >= MAX_DOCUMENTS {
                library
                    .refuse(url, format!("the description refers to more than {MAX_DOCUMENTS} documents; the rest is not read"));
                continue;
            }
            if bytes >= MAX_TOTAL {
                library.refuse(
                    url,
                    format!("the description and its parts are longer than {} MiB; the rest is not read", MAX_TOTAL >> 20),
                );
                continue;
            }
            match fetch_part(wire, &url, header).await {
                Ok((value, length)) => {
                    bytes += length;
                    library.add(url, value);
                }
                // A throttle or a broken line says nothing about the document.
                Err(failure) if matches!(failure.class, Class::Throttled | Class::Network | Class::BreakerOpen) => {
                    return Err(failure);
                }
                Err(failure) => library.refuse(url, failure.title),
            }
        }
    }
}

async fn fetch_part(wire: &dyn Wire, url: &Url, header: Option<&(String, Secret)>) -> Result<(Value, usize), Failure> {
    let answer = wire.http(request(url, header.cloned().into_iter().collect())).await?;
    classify::status(&answer, ErrorContext { url, what: "a part of the description", scopes: &[], schemes: &sent_as(header) })?;
    let body = answer.body;
    let length = body.len();
    let path = url.path().to_string();
    let parsed = offload(move || std::str::from_utf8(&body).map_err(|error| error.to_string()).and_then(parse::parse)).await?;
    parsed.map(|value| (value, length)).map_err(|words| {
        Failure::new(Class::Remote, format!("{path} cannot be read: {words}"), "have the service mend its description")
    })
}

/// Asks openly first: most descriptions are open, and a secret that need not be sent is not sent.
/// The second value is the header that was needed.
async fn fetch(
    wire: &dyn Wire,
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

/// Words for a failure: no scheme is known before the description is read.
fn sent_as(header: Option<&(String, Secret)>) -> Vec<String> {
    header.map(|(name, _)| name.clone()).into_iter().collect()
}

fn request(url: &Url, mut headers: Vec<(String, Secret)>) -> HttpRequest {
    headers.push(("accept".into(), Secret::new("application/json, application/yaml;q=0.9, */*;q=0.5".into())));
    HttpRequest { method: Method::Get, url: url.clone(), headers, max_bytes: MAX_BYTES, follow_redirects: true }
}

/// Runs bounded but long work where it does not hold up other connections.
///
/// # Errors
/// `Bug` when it panics.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Failure::new(Class::Bug, "reading a description failed inside AAM", "report it with the description")
            .detail(error.to_string())
    })
}
