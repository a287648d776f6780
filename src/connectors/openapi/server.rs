//! Chooses the base URL of the calls from `servers`. If its host is not the host of the description, the policy must name
//! it.

use super::address::{host_of, same_origin};
use super::refs::Node;
use crate::credentials::redact;
use crate::model::{Class, Failure};
use serde_json::Value;
use url::Url;

/// Limit on the entries of one `servers` list that are read.
const MAX_SERVERS: usize = 50;

/// The origins that calls may go to: the origin of the description and the one that the policy names.
#[derive(Clone, Debug)]
pub struct Servers {
    document: Url,
    allowed: Option<Url>,
    base: Result<Url, String>,
}

impl Servers {
    /// Reads the `servers` of the description. If it does not list any, the base is the root of its host.
    ///
    /// # Errors
    /// `EgressRefused` if every server is on a host that the policy does not name, `Misconfigured`
    /// if no server is valid.
    pub fn read(root: Node<'_>, document: &Url, base_url: Option<&str>) -> Result<Servers, Failure> {
        let allowed = base_url.and_then(|text| Url::parse(text).ok());
        let mut servers = Servers { document: document.clone(), allowed, base: Err(String::new()) };
        match servers.choose(root) {
            None => servers.base = document.join("/").map_err(|error| error.to_string()),
            Some(Ok(base)) => servers.base = Ok(base),
            Some(Err(ServerProblem::ForeignHosts(hosts))) => return Err(servers.foreign_servers(&hosts)),
            Some(Err(ServerProblem::Invalid(message))) => {
                let title = format!("the description at {} does not name a valid server", host_of(document));
                return Err(Failure::new(
                    Class::Misconfigured,
                    title,
                    "ask the owner of the service to fix `servers` in its description",
                )
                .detail(message));
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
    pub fn base_of(&self, node: Node<'_>) -> Option<Result<Url, String>> {
        let chosen = self.choose(node)?;
        Some(chosen.map_err(|problem| match problem {
            ServerProblem::ForeignHosts(hosts) => {
                format!("it is served by {}, which is not the host of the description", hosts.join(", "))
            }
            ServerProblem::Invalid(message) => message,
        }))
    }

    /// Whether calls may go to the origin of `url`.
    #[must_use]
    pub fn allows(&self, url: &Url) -> bool {
        same_origin(url, &self.document) || self.allowed.as_ref().is_some_and(|allowed| same_origin(url, allowed))
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
        let mut hosts: Vec<String> = urls.iter().map(|url| format!("{}://{}", url.scheme(), host_of(url))).collect();
        hosts.dedup();
        hosts.truncate(5);
        Some(Err(ServerProblem::ForeignHosts(hosts)))
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
        Ok(url)
    }

    fn foreign_servers(&self, hosts: &[String]) -> Failure {
        let (here, there) = (host_of(&self.document), hosts.join(", "));
        let first = hosts.first().map(String::as_str).unwrap_or_default();
        Failure::new(
            Class::EgressRefused,
            format!("the description at {here} names the server {there}, but the policy does not allow calls to it"),
            format!("to allow it, add to the policy: families: {{openapi: {{base_url: \"{first}\"}}}}"),
        )
    }
}

enum ServerProblem {
    /// There are valid servers, but only on origins that are not allowed.
    ForeignHosts(Vec<String>),
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
        let servers = Servers::read(Node { document: 0, value: root }, &url, policy)?;
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
    fn paths_stay_below_the_server() {
        let base = Url::parse("https://a.example/v1/").unwrap();
        assert_eq!(join(&base, "/x").unwrap().as_str(), "https://a.example/v1/x");
        assert_eq!(join(&base, "//b.example/x").unwrap().as_str(), "https://a.example/v1/b.example/x");
        assert_eq!(join(&base, "/x?a=1#b").unwrap().as_str(), "https://a.example/v1/x?a=1");
        assert!(join(&base, "/../admin").is_err());
        assert!(join(&base, "/%2e%2e/admin").is_err());
    }
}
