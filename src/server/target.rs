//! The path that a request is routed by. Pure.
//!
//! Clients of the predecessor call every endpoint below `/api/v1/aam`, and some clients write a slash at the end. Both are
//! removed before the request is routed, so the route table has each path once.

use axum::http::{Request, Uri};

/// The path below which every endpoint is served too.
pub const PREFIX: &str = "/api/v1/aam";

/// The prefix that was removed from the path of a request: [`PREFIX`] or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathPrefix(&'static str);

impl PathPrefix {
    /// Returns `path`, which begins with a slash, as the client of this request has to write it.
    #[must_use]
    pub fn join(self, path: &str) -> String {
        match (self.0, path) {
            ("", _) => path.to_string(),
            (prefix, "/") => prefix.to_string(),
            (prefix, _) => format!("{prefix}{path}"),
        }
    }
}

/// Removes the prefix and slashes at the end from the path of `request`, and records the prefix in its extensions.
pub fn normalize<B>(request: &mut Request<B>) {
    let (path, prefix) = split(request.uri().path());
    if path != request.uri().path() {
        let target = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_string(),
        };
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = target.parse().ok();
        // A part of a valid URI is valid, so this does not fail.
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request.extensions_mut().insert(prefix);
}

/// Splits a path into the path of the route table and the prefix.
fn split(path: &str) -> (&str, PathPrefix) {
    let (path, prefix) = match path.strip_prefix(PREFIX) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => (rest, PathPrefix(PREFIX)),
        _ => (path, PathPrefix::default()),
    };
    match path.trim_end_matches('/') {
        "" => ("/", prefix),
        path => (path, prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_has_no_slash_at_its_end_and_keeps_its_query(path in "(/[a-z0-9/]{0,20}|/api/v1/aam[a-z/]{0,20})", query in "(\\?[a-z=&/]{0,10})?") {
            let (target, prefix) = normalized(&format!("{path}{query}"));
            let split = target.find('?').unwrap_or(target.len());
            prop_assert!(target.starts_with('/') && (split == 1 || !target[..split].ends_with('/')), "{}", target);
            prop_assert_eq!(&target[split..], query.as_str());
            let rest = path.trim_end_matches('/');
            prop_assert_eq!(prefix.join(&target[..split]), if rest.is_empty() { "/" } else { rest });
        }
    }

    fn normalized(target: &str) -> (String, PathPrefix) {
        let mut request = Request::builder().uri(target).body(()).expect("a request");
        normalize(&mut request);
        let prefix = request.extensions().get::<PathPrefix>().copied().expect("a prefix");
        (request.uri().to_string(), prefix)
    }

    #[test]
    fn the_prefix_and_slashes_at_the_end_are_removed() {
        for (target, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/connections", "/connections"),
            ("/connections/", "/connections"),
            ("/connections///?state=ACTIVE", "/connections?state=ACTIVE"),
            ("/connections/a/health/", "/connections/a/health"),
            ("/api/v1/aam", "/"),
            ("/api/v1/aam/", "/"),
            ("/api/v1/aam?namespace=a", "/?namespace=a"),
            ("/api/v1/aam/metrics/funnel?enforce=slo", "/metrics/funnel?enforce=slo"),
            ("/api/v1/aam/api/v1/aam/connections", "/api/v1/aam/connections"),
            ("/api/v1/aamx/connections", "/api/v1/aamx/connections"),
            ("/api/v1", "/api/v1"),
            ("http://localhost:5000/api/v1/aam/connections/", "http://localhost:5000/connections"),
        ] {
            assert_eq!(normalized(target).0, expected, "{target}");
        }
    }

    #[test]
    fn addresses_in_answers_keep_the_prefix() {
        let (_, prefix) = normalized("/api/v1/aam/connections");
        assert_eq!(prefix.join("/connections/a"), "/api/v1/aam/connections/a");
        assert_eq!(prefix.join("/"), "/api/v1/aam");
        assert_eq!(PathPrefix::default().join("/connections/a"), "/connections/a");
    }
}
