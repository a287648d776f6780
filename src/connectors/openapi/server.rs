//! Chooses the base URL of the calls from `servers`. If its host is not the host of the description, the policy must name
//! it.

use super::address::{host_of, same_origin};
use super::operations::{Obstacle, Uncallable};
use super::refs::Node;
use super::settings::ServiceSettings;
use super::side_effects::server_action;
use crate::credentials::redact;
use crate::model::{Class, Failure};
use serde_json::Value;
use url::Url;

/// Limit on the entries of one `servers` list that are read.
const MAX_SERVERS: usize = 50;

/// The origins that calls may go to: the origin of the description and those that the policy names.
#[derive(Clone, Debug)]
pub struct Servers {
    document: Url,
    allowed: Vec<Url>,
    base: Result<Url, String>,
}

impl Servers {
    /// Reads the `servers` of the description. If it does not list any, the base is the root of its host. The base URL that
    /// the policy sets for this service replaces them.
    ///
    /// # Errors
    /// `EgressRefused` if every server is on a host that the policy does not name, `Misconfigured`
    /// if no server is valid.
    pub fn read(root: Node<'_>, document: &Url, settings: &ServiceSettings) -> Result<Servers, Failure> {
        let allowed = settings.base_url.iter().chain(&settings.allowed_url).cloned().collect();
        let mut servers = Servers { document: document.clone(), allowed, base: Err(String::new()) };
        match servers.choose(root) {
            _ if settings.base_url.is_some() => servers.base = settings.base_url.clone().ok_or_else(String::new),
            None => servers.base = document.join("/").map_err(|error| error.to_string()),
            Some(Ok(base)) => servers.base = Ok(base),
            Some(Err(ServerProblem::ForeignHosts(urls))) => return Err(servers.foreign_servers(&urls, settings)),
            Some(Err(ServerProblem::Invalid(message))) => {
                let title = format!("the description at {} does not name a valid server", host_of(document));
                let fix = format!(
                    "ask the owner of the service to fix `servers` in its description; or name its base URL: {}",
                    settings.fix(&format!("base_url: \"{}\"", document.join("/v1").unwrap_or_else(|_| document.clone())))
                );
                return Err(Failure::new(Class::Misconfigured, title, fix).detail(message));
            }
        }
        Ok(servers)
    }

    /// The base URL of operations that do not set their own servers.
    ///
    /// # Errors
    /// The reason why there is no base URL.
    pub fn base(&self) -> Result<Url, String> {
        self.base.clone()
    }

    /// The base URL that a path item or an operation sets for itself.
    #[must_use]
    pub fn base_of(&self, node: Node<'_>) -> Option<Result<Url, Uncallable>> {
        let chosen = self.choose(node)?;
        Some(chosen.map_err(|problem| match problem {
            ServerProblem::ForeignHosts(urls) => {
                let hosts = hosts_of(&urls).join(", ");
                let message = format!("it is served by {hosts}, which is not the host of the description");
                Uncallable { server: urls.into_iter().next(), ..Uncallable::new(Obstacle::Server, message) }
            }
            ServerProblem::Invalid(message) => Uncallable::new(Obstacle::Server, message),
        }))
    }

    /// Whether calls may go to the origin of `url`.
    #[must_use]
    pub fn allows(&self, url: &Url) -> bool {
        same_origin(url, &self.document) || self.allowed.iter().any(|allowed| same_origin(url, allowed))
    }

    /// Chooses the first server on the origin of the description. If there is none, chooses the first server on the origin that
    /// the policy names.
    fn choose(&self, node: Node<'_>) -> Option<Result<Url, ServerProblem>> {
        let list = node.value.get("servers")?.as_array().filter(|list| !list.is_empty())?;
        let read: Vec<Result<Url, String>> = list.iter().take(MAX_SERVERS).map(|server| self.resolve(server)).collect();
        let urls: Vec<&Url> = read.iter().flatten().collect();
        let own = urls.iter().find(|url| same_origin(url, &self.document));
        if let Some(url) = own.or_else(|| urls.iter().find(|url| self.allows(url))) {
            return Some(Ok((*url).clone()));
        }
        if urls.is_empty() {
            return Some(Err(ServerProblem::Invalid(read.into_iter().find_map(Result::err).unwrap_or_default())));
        }
        Some(Err(ServerProblem::ForeignHosts(urls.into_iter().cloned().collect())))
    }

    fn resolve(&self, server: &Value) -> Result<Url, String> {
        let text = server["url"].as_str().ok_or("a server does not have a url")?;
        let url = self
            .document
            .join(&substitute_variables(text, &server["variables"])?)
            .map_err(|error| format!("the url of a server is not valid: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err("the url of a server is not http or https, or contains a user name".into());
        }
        if let Some(name) = server_action(&url, &self.document) {
            return Err(format!("the path of a server suggests a side effect or a secret ({name})"));
        }
        Ok(url)
    }

    fn foreign_servers(&self, urls: &[Url], settings: &ServiceSettings) -> Failure {
        let (here, there) = (host_of(&self.document), hosts_of(urls).join(", "));
        let first = urls.first().map(Url::to_string).unwrap_or_default();
        Failure::new(
            Class::EgressRefused,
            format!("the description at {here} names the server {there}, but the policy does not allow calls to it"),
            format!(
                "if the service is at the host of its description, its base_url is \"{}\"; to allow the server for this service, {}",
                self.document.origin().ascii_serialization(),
                settings.fix(&format!("base_url: \"{}\"", first.trim_end_matches('/')))
            ),
        )
    }
}

/// Scheme and host of the first five different ones.
fn hosts_of(urls: &[Url]) -> Vec<String> {
    let mut hosts: Vec<String> = urls.iter().map(|url| format!("{}://{}", url.scheme(), host_of(url))).collect();
    hosts.dedup();
    hosts.truncate(5);
    hosts
}

enum ServerProblem {
    /// There are valid servers, but only on origins that are not allowed.
    ForeignHosts(Vec<Url>),
    /// No server is valid. Contains the reason.
    Invalid(String),
}

/// Replaces the variables in a server URL with their defaults. A default that is not in its `enum` is an error.
fn substitute_variables(text: &str, variables: &Value) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').ok_or("the url of a server has an unclosed brace")?;
        let short = redact::scrub_and_cut(name, 60);
        let value =
            variables[name]["default"].as_str().ok_or_else(|| format!("the server variable {short} does not have a default"))?;
        if variables[name]["enum"].as_array().is_some_and(|list| !list.iter().any(|allowed| allowed == value)) {
            return Err(format!("the default of the server variable {short} is not one of its values"));
        }
        out.push_str(before);
        out.push_str(value);
        rest = tail;
        if out.len() > 4096 {
            return Err("the url of a server is too long".into());
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The URL of `path` below `base`. The result stays on the origin of `base`.
///
/// # Errors
/// A message if the path leaves the base with `..`.
pub fn join(base: &Url, path: &str) -> Result<Url, String> {
    let prefix = base.path().trim_end_matches('/');
    let path = path.split('#').next().unwrap_or_default();
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut url = base.clone();
    url.set_fragment(None);
    url.set_query(query);
    url.set_path(&format!("{prefix}/{}", path.trim_start_matches('/')));
    let inside = url.path() == prefix || url.path().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    if inside { Ok(url) } else { Err("the path leaves the server with `..`".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base(document: &str, root: &Value, policy: Option<&str>) -> Result<String, Failure> {
        let url = Url::parse(document).unwrap();
        let allowed_url = policy.map(|text| Url::parse(text).unwrap());
        let settings = ServiceSettings { allowed_url, ..ServiceSettings::default() };
        let servers = Servers::read(Node { document: 0, value: root }, &url, &settings)?;
        Ok(servers.base().unwrap().to_string())
    }

    #[test]
    fn relative_servers_and_variables_are_resolved() {
        let at = "https://a.example/docs/openapi.json";
        assert_eq!(base(at, &json!({}), None).unwrap(), "https://a.example/");
        assert_eq!(base(at, &json!({"servers": [{"url": "/v1"}]}), None).unwrap(), "https://a.example/v1");
        assert_eq!(base(at, &json!({"servers": [{"url": "../v2"}]}), None).unwrap(), "https://a.example/v2");
        let variables = json!({"servers": [{"url": "https://{h}/{v}", "variables": {"h": {"default": "a.example"}, "v": {"default": "v3", "enum": ["v3", "v4"]}}}]});
        assert_eq!(base(at, &variables, None).unwrap(), "https://a.example/v3");
        let outside = json!({"servers": [{"url": "/{v}", "variables": {"v": {"default": "v9", "enum": ["v3"]}}}]});
        assert!(base(at, &outside, None).unwrap_err().detail.contains("not one of its values"));
    }

    #[test]
    fn another_host_needs_the_policy() {
        let at = "https://a.example/openapi.json";
        let root = json!({"servers": [{"url": "https://b.example/v1"}]});
        let failure = base(at, &root, None).unwrap_err();
        assert_eq!(failure.class, Class::EgressRefused);
        assert!(failure.title.contains("a.example") && failure.title.contains("b.example"), "{failure:?}");
        assert_eq!(base(at, &root, Some("https://b.example")).unwrap(), "https://b.example/v1");
        assert!(base(at, &root, Some("http://b.example")).is_err());
        let both = json!({"servers": [{"url": "https://b.example/v1"}, {"url": "https://a.example/v1"}]});
        assert_eq!(base(at, &both, Some("https://b.example")).unwrap(), "https://a.example/v1");
    }

    #[test]
    fn the_fix_for_a_foreign_server_offers_the_host_of_the_description() {
        let root = json!({"servers": [{"url": "http://localhost:9"}]});
        let fix = base("https://a.example:8443/docs/openapi.json", &root, None).unwrap_err().fix;
        assert!(fix.contains("http://localhost:9") && fix.contains("its base_url is \"https://a.example:8443\""), "{fix}");
    }

    #[test]
    fn the_path_of_a_server_is_judged() {
        let at = "https://a.example/openapi.json";
        let failure = base(at, &json!({"servers": [{"url": "/auth/logout"}]}), None).unwrap_err();
        assert!(failure.detail.contains("(logout)"), "{failure:?}");
        let two = json!({"servers": [{"url": "/auth/logout"}, {"url": "/v1"}]});
        assert_eq!(base(at, &two, None).unwrap(), "https://a.example/v1");
    }

    #[test]
    fn the_base_url_of_a_service_replaces_its_servers() {
        let url = Url::parse("https://a.example/openapi.json").unwrap();
        let settings = ServiceSettings { base_url: Url::parse("https://c.example/v2").ok(), ..ServiceSettings::default() };
        for root in [json!({}), json!({"servers": [{"url": "https://b.example/v1"}]}), json!({"servers": [{"url": "{x}"}]})] {
            let servers = Servers::read(Node { document: 0, value: &root }, &url, &settings).unwrap();
            assert_eq!(servers.base().unwrap().as_str(), "https://c.example/v2");
            assert!(servers.allows(&Url::parse("https://c.example/x").unwrap()));
            assert!(!servers.allows(&Url::parse("https://b.example/x").unwrap()));
        }
    }

    #[test]
    fn paths_stay_below_the_server() {
        let base = Url::parse("https://a.example/v1/").unwrap();
        assert_eq!(join(&base, "/x").unwrap().as_str(), "https://a.example/v1/x");
        assert_eq!(join(&base, "//b.example/x").unwrap().as_str(), "https://a.example/v1/b.example/x");
        assert_eq!(join(&base, "/x?a=1#b").unwrap().as_str(), "https://a.example/v1/x?a=1");
        assert!(join(&base, "/../admin").is_err());
        assert!(join(&base, "/%2e%2e/admin").is_err());
    }
}
