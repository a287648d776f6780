//! Redirects are followed only to the same scheme, host and port. This module is pure.
//!
//! A credential is meant for one origin. Another origin may be a login page, a CDN or an attacker rather than the
//! source that the resource id names.

use crate::model::{Class, Failure};
use url::Url;

/// The maximum number of redirects that one call follows.
pub const MAX_REDIRECTS: usize = 5;

/// Returns the URL to which a response with `status` and `location` redirects a request for `from`, or `None` if the
/// response is not a redirect.
///
/// # Errors
/// Returns `EgressRefused` for another origin, and `Remote` for a `Location` that is not a valid URL.
pub fn target(status: u16, location: Option<&str>, from: &Url) -> Result<Option<Url>, Failure> {
    let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) else {
        return Ok(None);
    };
    let host = from.host_str().unwrap_or_default();
    let mut to = from.join(location).map_err(|error| {
        Failure::new(
            Class::Remote,
            format!("{host} redirects to an invalid URL"),
            "ask the operator of the service to correct the redirect",
        )
        .detail(format!("{status} Location: {error}"))
    })?;
    to.set_fragment(None);
    let plain = to.username().is_empty() && to.password().is_none();
    if plain && to.origin() == from.origin() && to.origin().is_tuple() {
        return Ok(Some(to));
    }
    let (here, there) = (from.origin().ascii_serialization(), shown_origin(&to));
    let title = format!("{here} redirects to {there}; AAM does not send the credential there");
    let fix = match may_be_service(&to, from) {
        true => format!(
            "if the service has moved, write {there} into resource_ids or as base_url of its family into the policy; if that is a sign-in page, the call needs another credential"
        ),
        false => format!("ask the operator of {here} why it redirects there; a service does not move to such an address"),
    };
    Err(Failure::new(Class::EgressRefused, title, fix).detail(format!("status {status}")))
}

/// Whether a service could have moved from `from` to `to`: to a name, and not from an encrypted address to a plain one.
fn may_be_service(to: &Url, from: &Url) -> bool {
    let named = to.domain().is_some() || to.host() == from.host();
    named && (to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http"))
}

/// Returns the failure for a call that was redirected more than [`MAX_REDIRECTS`] times.
#[must_use]
pub fn too_many(from: &Url) -> Failure {
    let host = from.host_str().unwrap_or_default();
    Failure::new(
        Class::Remote,
        format!("{host} redirected more than {MAX_REDIRECTS} times"),
        "check whether the address is the final one of the service",
    )
}

fn shown_origin(url: &Url) -> String {
    match url.origin().is_tuple() {
        true => url.origin().ascii_serialization(),
        false => format!("a {}: address", url.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(from: &str, location: &str) -> Result<Option<String>, Failure> {
        target(302, Some(location), &Url::parse(from).unwrap()).map(|url| url.map(String::from))
    }

    #[test]
    fn the_same_origin_is_followed() {
        assert_eq!(to("https://a.example/x/y?q=1", "../z"), Ok(Some("https://a.example/z".to_string())));
        assert_eq!(to("https://a.example/", "https://A.example:443/v2#frag"), Ok(Some("https://a.example/v2".to_string())));
        let url = Url::parse("https://a.example/").unwrap();
        assert_eq!(target(200, Some("/x"), &url), Ok(None));
        assert_eq!(target(304, Some("/x"), &url), Ok(None));
        assert_eq!(target(302, None, &url), Ok(None));
    }

    #[test]
    fn any_other_place_is_refused_by_name() {
        for location in [
            "https://b.example/",
            "//b.example/",
            "http://a.example/",
            "https://a.example:8443/",
            "https://a.example.evil/",
            "https://user@a.example/",
            "http://169.254.169.254/latest/meta-data/",
            "file:///etc/hosts",
            "data:text/plain,x",
        ] {
            let failure = to("https://a.example/x", location).unwrap_err();
            assert_eq!(failure.class, Class::EgressRefused, "{location}");
            assert!(failure.title.starts_with("https://a.example redirects to "), "{}", failure.title);
        }
        assert!(to("https://a.example/x", "https://b.example/").unwrap_err().title.contains("https://b.example;"));
        let fix = |from, location| to(from, location).unwrap_err().fix;
        assert!(fix("https://a.example/x", "https://b.example/").contains("write https://b.example into resource_ids"));
        assert!(fix("http://a.example/x", "https://a.example/x").contains("write https://a.example into resource_ids"));
        for location in
            ["http://169.254.169.254/latest/meta-data/", "https://10.0.0.1/", "http://a.example/", "file:///etc/hosts"]
        {
            assert!(fix("https://a.example/x", location).contains("ask the operator of https://a.example"), "{location}");
        }
        assert_eq!(to("https://a.example/x", "https://[").unwrap_err().class, Class::Remote);
    }
}
