//! Derives from a resource id where the description of a service can be.

use crate::model::{Class, Failure};
use url::Url;

/// Paths below a base URL at which web frameworks serve their description.
const WELL_KNOWN: [&str; 3] = ["openapi.json", "openapi.yaml", "swagger.json"];

/// Parts of a name that suggest that a query parameter carries a secret.
const SECRET_NAME_PARTS: [&str; 11] =
    ["token", "secret", "passw", "apikey", "auth", "signature", "credential", "session", "jwt", "bearer", "code"];

/// The URLs at which the description can be, in the order in which they are requested. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptionLocation {
    pub candidates: Vec<Url>,
}

impl DescriptionLocation {
    /// Parses a resource id, which is the URL of a description or a base URL.
    ///
    /// A URL whose path ends in `.json`, `.yaml` or `.yml`, or that has a query, is the description
    /// itself. Any other URL can be either: it is requested first, then the well-known names below it.
    ///
    /// # Errors
    /// `Misconfigured`. The failure never repeats a resource id that contains something like a secret.
    pub fn parse(resource_id: &str) -> Result<DescriptionLocation, Failure> {
        let url = parse_url(resource_id)?;
        let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let exact = [".json", ".yaml", ".yml"].iter().any(|end| last.to_ascii_lowercase().ends_with(end));
        if exact || url.query().is_some() {
            return Ok(DescriptionLocation { candidates: vec![url] });
        }
        let base = url.path().trim_end_matches('/').to_string();
        let mut candidates = Vec::new();
        if !base.is_empty() {
            candidates.push(url.clone());
        }
        for name in WELL_KNOWN {
            let mut candidate = url.clone();
            candidate.set_path(&format!("{base}/{name}"));
            candidates.push(candidate);
        }
        Ok(DescriptionLocation { candidates })
    }

    /// The host, with the port if it is not the default of the scheme.
    #[must_use]
    pub fn host(&self) -> String {
        self.candidates.first().map(host_of).unwrap_or_default()
    }
}

fn parse_url(resource_id: &str) -> Result<Url, Failure> {
    let misconfigured = |title: &str, fix: &str| Failure::new(Class::NotMappable, title, fix);
    let form = "write the URL of the description or of the service, for example https://api.example.com/openapi.json";
    // The failure does not repeat the text: text that is not a URL may still contain a password.
    let mut url = Url::parse(resource_id.trim())
        .map_err(|error| misconfigured("the resource id is not a URL", form).detail(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(misconfigured("the resource id is not an http or https URL", form));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(misconfigured("the resource id does not contain a host", form));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(misconfigured(
            "the resource id contains a user name or a password",
            "remove it from the URL and reference it with credential_locator, for example env:SERVICE_TOKEN; then rotate it, because it was stored in clear text",
        ));
    }
    if let Some(name) = secret_parameter(&url) {
        return Err(misconfigured(
            &format!("the query parameter {name} of the resource id looks like a secret"),
            "remove it from the URL and reference it with credential_locator, for example env:SERVICE_TOKEN; then rotate it, because it was stored in clear text",
        ));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The name of the first query parameter that looks like it carries a secret. A very long name is not shown, because it may
/// be the secret itself.
fn secret_parameter(url: &Url) -> Option<String> {
    url.query_pairs()
        .map(|(name, _)| name.into_owned())
        .find(|name| looks_secret(name))
        .map(|name| if name.len() > 40 { "(a long name, not shown)".to_string() } else { name })
}

/// Whether a parameter of this name usually carries a secret.
#[must_use]
pub fn looks_secret(name: &str) -> bool {
    let bare: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    matches!(bare.as_str(), "key" | "sig" | "pw" | "pwd")
        || bare.ends_with("key")
        || SECRET_NAME_PARTS.iter().any(|part| bare.contains(part) && !(*part == "code" && bare != "code"))
}

/// The host, with the port if it is not the default of the scheme.
#[must_use]
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    }
}

/// Whether scheme, host and port are the same.
#[must_use]
pub fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(id: &str) -> Vec<String> {
        DescriptionLocation::parse(id).map(|address| address.candidates.iter().map(Url::to_string).collect()).unwrap_or_default()
    }

    #[test]
    fn a_document_url_has_one_candidate() {
        assert_eq!(candidates("https://a.example/v1/openapi.json"), ["https://a.example/v1/openapi.json"]);
        assert_eq!(candidates("http://a.example/spec.YAML#x"), ["http://a.example/spec.YAML"]);
        assert_eq!(candidates("https://a.example/docs?format=openapi"), ["https://a.example/docs?format=openapi"]);
    }

    #[test]
    fn a_base_url_has_well_known_candidates() {
        let found = candidates("https://a.example");
        assert_eq!(found, ["https://a.example/openapi.json", "https://a.example/openapi.yaml", "https://a.example/swagger.json"]);
        assert_eq!(candidates("https://a.example/v3/")[..2], ["https://a.example/v3/", "https://a.example/v3/openapi.json"]);
    }

    #[test]
    fn what_looks_like_a_secret_is_refused_and_not_repeated() {
        for id in [
            "https://bob:hunter2x@a.example/openapi.json",
            "https://hunter2x@a.example/",
            "https://a.example/openapi.json?api_key=hunter2x",
            "https://a.example/openapi.json?X-Amz-Signature=hunter2x",
            "https://a.example/openapi.json?access%5Ftoken=hunter2x",
            "hunter2x",
            "ftp://a.example/hunter2x",
        ] {
            let failure = DescriptionLocation::parse(id).unwrap_err();
            assert_eq!(failure.class, Class::NotMappable, "{id}");
            assert!(!format!("{failure:?}").contains("hunter2x"), "{id}: {failure:?}");
        }
    }

    #[test]
    fn origins_compare_the_effective_port() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(same_origin(&url("https://a.example/x"), &url("https://a.example:443/y")));
        assert!(!same_origin(&url("https://a.example/"), &url("http://a.example/")));
        assert!(!same_origin(&url("https://a.example/"), &url("https://a.example:8443/")));
        assert!(!same_origin(&url("https://a.example/"), &url("https://b.a.example/")));
    }
}
