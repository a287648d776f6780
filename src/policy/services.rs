//! `families.openapi.services`: settings of single services of the family `openapi`, which do not share a vendor.

use super::diff::{Effect, Parts};
use crate::model::text::matches_glob;
use serde::{Serialize, Serializer};
use url::Url;

/// The settings of the services that match a pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServicePolicy {
    /// A pattern of the URL that is the resource id, or of the URL of the description. See [`ServicePolicy::matches`].
    #[serde(rename = "match")]
    pub pattern: String,
    /// The base URL of the calls. It replaces the `servers` of the description.
    pub base_url: Option<String>,
    /// The path of the health call, relative to the server. The tiny sync reads it too.
    pub health_path: Option<String>,
    /// Operations that are never called, besides those of the family.
    pub deny_operations: Vec<String>,
    /// How the credential is sent. It replaces what the description says.
    pub auth: Option<ServiceAuth>,
}

/// How a credential is sent: always in a header, because URLs are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAuth {
    /// No credential is sent, although the description requires one.
    None,
    Bearer,
    Basic,
    /// The value of the header with this name.
    Header(String),
}

impl ServiceAuth {
    /// The name of the kind in the policy.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            ServiceAuth::None => "none",
            ServiceAuth::Bearer => "bearer",
            ServiceAuth::Basic => "basic",
            ServiceAuth::Header(_) => "header",
        }
    }

    /// For people: `bearer`, `basic`, `header X-Api-Key`.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            ServiceAuth::Header(name) => format!("header {name}"),
            other => other.as_str().to_string(),
        }
    }
}

impl Serialize for ServiceAuth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.message())
    }
}

impl ServicePolicy {
    /// Whether the settings apply to the service at `url`.
    ///
    /// Scheme, host and port must be equal, except that a host that begins with `*.` matches every subdomain. Only the
    /// path is compared as a pattern, in which `*` matches any characters: otherwise `https://a.example*` would match
    /// `https://a.example.evil.example/` too. A slash at the end makes no difference.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        let (Some((origin, path)), Some((pattern_origin, pattern_path))) = (split(url.as_str()), split(&self.pattern)) else {
            return false;
        };
        let same_origin = match (pattern_origin.split_once("://*."), origin.split_once("://")) {
            (Some((pattern_scheme, parent)), Some((scheme, host))) => {
                pattern_scheme == scheme && host.strip_suffix(parent).is_some_and(|label| label.ends_with('.') && label.len() > 1)
            }
            _ => pattern_origin == origin,
        };
        same_origin
            && (matches_glob(&pattern_path, &path)
                || matches_glob(pattern_path.trim_end_matches('/'), path.trim_end_matches('/')))
    }

    /// Whether the settings may apply to the resource id: they match it, or it is the base URL of a service whose
    /// description may be at a URL that they match.
    fn may_match(&self, resource_id: &str) -> bool {
        let Ok(url) = Url::parse(resource_id.trim()) else { return false };
        let base = url.as_str().trim_end_matches('/');
        self.matches(&url) || self.pattern.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// The lower-case origin without the default port, and the path with the query.
fn split(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
    let port = if scheme == "https" { ":443" } else { ":80" };
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    Some((format!("{scheme}://{}", host.strip_suffix(port).unwrap_or(&host)), path))
}

/// The changes from `was` to `is`, for people.
#[must_use]
pub fn diff(was: &[ServicePolicy], is: &[ServicePolicy]) -> Parts {
    let find = |list: &[ServicePolicy], pattern: &str| list.iter().position(|service| service.pattern == pattern);
    let mut changes = Parts::default();
    for gone in was.iter().filter(|service| find(is, &service.pattern).is_none()) {
        // Without its settings, a service has those of the family.
        let effect = fields(gone, &ServicePolicy::default()).effect();
        changes.add(effect, format!("the settings of the service {} removed", gone.pattern));
    }
    for service in is {
        let before = find(was, &service.pattern).and_then(|at| was.get(at));
        let new = before.is_none();
        let parts = fields(before.unwrap_or(&ServicePolicy::default()), service);
        match (new, parts.0.is_empty()) {
            (true, _) => changes.add_nested(&format!("service {} added", service.pattern), &parts),
            (false, false) => changes.add_nested(&format!("service {}", service.pattern), &parts),
            (false, true) => {}
        }
    }
    let order = |list: &[ServicePolicy], other: &[ServicePolicy]| -> Vec<String> {
        let patterns = list.iter().map(|service| service.pattern.clone());
        patterns.filter(|pattern| find(other, pattern).is_some()).collect()
    };
    if order(was, is) != order(is, was) {
        changes.add(Effect::Wider, "the order of the services changes, and the first that matches applies");
    }
    changes
}

fn fields(was: &ServicePolicy, is: &ServicePolicy) -> Parts {
    let shown = |value: Option<String>| value.unwrap_or("(not set)".to_string());
    let auth = |service: &ServicePolicy| shown(service.auth.as_ref().map(ServiceAuth::message));
    let mut parts = Parts::default();
    parts.changed("base_url", Effect::Wider, &shown(was.base_url.clone()), &shown(is.base_url.clone()));
    let calls_more = Effect::wider_if(is.health_path.is_some());
    parts.changed("health_path", calls_more, &shown(was.health_path.clone()), &shown(is.health_path.clone()));
    let denied = Effect::wider_if(was.deny_operations.iter().any(|name| !is.deny_operations.contains(name)));
    parts.changed("deny_operations", denied, &was.deny_operations.join(", "), &is.deny_operations.join(", "));
    // Without a credential, less is sent than the description asks for.
    parts.changed("auth", Effect::wider_if(is.auth != Some(ServiceAuth::None)), &auth(was), &auth(is));
    parts
}

/// Whether a connection to `resource_ids` may get other settings.
#[must_use]
pub fn affects(was: &[ServicePolicy], is: &[ServicePolicy], resource_ids: &[String]) -> bool {
    let candidates = |list: &[ServicePolicy], id: &str| -> Vec<ServicePolicy> {
        list.iter().filter(|service| service.may_match(id)).cloned().collect()
    };
    resource_ids.iter().any(|id| candidates(was, id) != candidates(is, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, url: &str) -> bool {
        ServicePolicy { pattern: pattern.to_string(), ..ServicePolicy::default() }.matches(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_pattern_covers_paths_and_never_another_host() {
        for (pattern, url, expected) in [
            ("https://a.example/openapi.json", "https://a.example/openapi.json", true),
            ("https://a.example/*", "https://a.example/v1/openapi.json", true),
            ("https://a.example/*", "https://a.example", true),
            ("https://a.example", "https://a.example/", true),
            ("https://a.example/v1", "https://a.example/v1/", true),
            ("https://A.example:443/x", "https://a.example/x", true),
            ("https://a.example/x?format=*", "https://a.example/x?format=json", true),
            ("https://*.acme.example/*", "https://crm.acme.example/x", true),
            ("https://*.acme.example/*", "https://acme.example/x", false),
            ("https://*.acme.example/*", "https://evil.example/.acme.example/x", false),
            ("https://a.example/*", "https://a.example.evil.example/x", false),
            ("https://a.example/*", "http://a.example/x", false),
            ("https://a.example/*", "https://a.example:8443/x", false),
            ("https://a.example/v1/*", "https://a.example/v2/x", false),
        ] {
            assert_eq!(matches(pattern, url), expected, "{pattern} {url}");
        }
    }

    #[test]
    fn changes_name_the_service_and_whom_they_affect() {
        let service = |pattern: &str, path: &str| ServicePolicy {
            pattern: pattern.to_string(),
            health_path: Some(path.to_string()),
            ..ServicePolicy::default()
        };
        let was = [service("https://a.example/*", "/x"), service("https://b.example/*", "/x")];
        let is = [service("https://b.example/*", "/y"), service("https://c.example/openapi.json", "/x")];
        assert_eq!(
            diff(&was, &is).joined("\n"),
            "the settings of the service https://a.example/* removed\n\
             service https://b.example/*: health_path changes from /x to /y (wider)\n\
             service https://c.example/openapi.json added: health_path changes from (not set) to /x (wider)"
        );
        assert_eq!((diff(&was, &is).effect(), diff(&was, &was[..1]).effect()), (Effect::Wider, Effect::Narrower));
        let affected = |id: &str| affects(&was, &is, &[id.to_string()]);
        assert!(affected("https://a.example/openapi.json") && affected("https://b.example/") && affected("https://c.example"));
        assert!(!affected("https://d.example/openapi.json"));
        assert!(diff(&was, &was).0.is_empty());
        let turned = [was[1].clone(), was[0].clone()];
        let expected = "the order of the services changes, and the first that matches applies (wider)";
        assert_eq!(diff(&was, &turned).joined(", "), expected);
    }
}
