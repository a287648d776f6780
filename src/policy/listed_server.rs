//! A server of the company that `families.NAME.hosts` lists, for vendors whose product companies run themselves.

use serde::{Serialize, Serializer};
use std::fmt;
use url::Url;

/// A server, for example `gitlab.acme.example`, `jira.acme.example:8443/jira` or `http://10.0.0.7:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedServer {
    /// The base URL, whose path does not end with a slash.
    url: Url,
}

/// How much of a server a resource id names: whether its path, its port. A longer match is better.
type Match = (usize, bool);

impl ListedServer {
    /// Parses a host with an optional port and path. Without a scheme, `https` is meant. Returns `None` for everything else,
    /// also for patterns and for a URL with a user name, a query or a fragment.
    #[must_use]
    pub fn parse(text: &str) -> Option<ListedServer> {
        if text.starts_with('/') || text.contains(['{', '}', '*', '\\', ' ', '%']) {
            return None;
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        // A URL parser would take the first segment of a path for the host.
        let url = if rest.starts_with('/') { return None } else { Url::parse(&format!("{scheme}://{rest}")) };
        let mut url = url.ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        let path = url.path().trim_end_matches('/').to_string();
        url.set_path(&path);
        bare.then_some(ListedServer { url })
    }

    /// The base URL, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Host, port and path, without the scheme.
    #[must_use]
    pub fn name(&self) -> &str {
        self.base_url().split_once("://").map_or("", |(_, name)| name)
    }

    /// Returns the entry of `servers` that `id` begins with, and the rest of the id. The id has no scheme; it may leave out
    /// the port and the path of the server.
    #[must_use]
    pub fn find<'s, 'i>(servers: &'s [ListedServer], id: &'i str) -> Option<(&'s ListedServer, &'i str)> {
        let matching = servers.iter().filter_map(|server| Some((server, server.matches(id)?)));
        // Of equally good matches, the first is used.
        let (server, (_, rest)) = matching.rev().max_by_key(|(_, (quality, _))| *quality)?;
        Some((server, rest))
    }

    fn matches<'i>(&self, id: &'i str) -> Option<(Match, &'i str)> {
        let (authority, tail) = id.split_at(id.find('/').unwrap_or(id.len()));
        let named = Url::parse(&format!("{}://{authority}", self.url.scheme())).ok()?;
        let port = named.port_or_known_default();
        let names_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        if named.host() != self.url.host() || (names_port && port != self.url.port_or_known_default()) {
            return None;
        }
        let path = self.url.path().trim_end_matches('/');
        let behind = tail.strip_prefix(path).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        Some(match behind {
            Some(rest) => ((path.len() + 1, names_port), rest),
            None => ((0, names_port), tail),
        })
    }
}

/// Formats as the policy writes it.
impl fmt::Display for ListedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.url.scheme() == "http" { self.base_url() } else { self.name() })
    }
}

impl Serialize for ListedServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_with_port_and_path() {
        for (text, base, shown) in [
            ("GitLab.acme.example", "https://gitlab.acme.example", "gitlab.acme.example"),
            ("jira.acme.example:8443/jira/", "https://jira.acme.example:8443/jira", "jira.acme.example:8443/jira"),
            ("https://a.example:443/", "https://a.example", "a.example"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "https://[::1]:8080", "[::1]:8080"),
        ] {
            let server = ListedServer::parse(text).unwrap();
            assert_eq!((server.base_url(), server.to_string().as_str()), (base, shown), "{text}");
            assert_eq!(ListedServer::parse(shown), Some(server), "{shown}");
        }
        for text in
            ["", "*.acme.example", "user@a.example", "a.example?x=1", "a.example#x", "ftp://a.example", "a b", "{host}", "/x"]
        {
            assert_eq!(ListedServer::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_id_names_the_server_with_or_without_port_and_path() {
        let servers: Vec<ListedServer> =
            ["a.example", "a.example:8443/jira", "a.example/wiki"].iter().filter_map(|text| ListedServer::parse(text)).collect();
        for (id, server, rest) in [
            ("a.example", "a.example", ""),
            ("A.example/group/sub", "a.example", "/group/sub"),
            ("a.example:8443", "a.example:8443/jira", ""),
            ("a.example:8443/jira", "a.example:8443/jira", ""),
            ("a.example:8443/jira/x", "a.example:8443/jira", "/x"),
            ("a.example/wiki", "a.example/wiki", ""),
            ("a.example/wikis", "a.example", "/wikis"),
            ("a.example:443", "a.example", ""),
        ] {
            let found = ListedServer::find(&servers, id).map(|(server, rest)| (server.to_string(), rest));
            assert_eq!(found, Some((server.to_string(), rest)), "{id}");
        }
        for id in ["b.a.example", "a.example.evil", "a.example:9", "a.example@evil.example", ""] {
            assert!(ListedServer::find(&servers, id).is_none(), "{id}");
        }
    }
}
