//! Checks a request of the interpreter against the rules of the host, and converts it to one of egress.

use super::{CallerMode, Rules, SessionHost};
use crate::credentials::{Secret, redact};
use crate::egress::{HttpRequest, Method};
use crate::model::{Class, Failure};
use ::lowcode::host::HostRequest;
use url::{Position, Url};

/// Headers that the HTTP client sets itself.
const CLIENT_HEADERS: [&str; 5] = ["user-agent", "accept-encoding", "content-length", "host", "connection"];

impl SessionHost {
    /// Checks the request and converts it to one of egress.
    pub(super) fn http_request(&self, request: HostRequest) -> Result<HttpRequest, Failure> {
        let known = self.origin_urls.iter().find_map(|origin| parse_below(origin, &request.url));
        let url = known.map_or_else(|| Url::parse(&request.url), Ok).map_err(|error| {
            Failure::new(Class::Misconfigured, "the manifest produced an invalid URL", "see url_base and path of its requester")
                .detail(redact::scrub(&format!("{error}: {}", request.url)))
        })?;
        let has_known_secret = !self.rules.secrets_by_spec && redact::scrub(url.as_str()) != url.as_str();
        if self.rules.mode == CallerMode::Daemon && (request.secret_in_url || has_known_secret) {
            return Err(secret_in_url(&url));
        }
        let own = Some(&self.rules.user_agent).filter(|text| !text.is_empty());
        let own = own.map(|text| ("user-agent".to_string(), Secret::new(text.clone())));
        let headers = request
            .headers
            .into_iter()
            .filter(|(name, _)| !CLIENT_HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header)))
            .map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value)))
            .chain(own)
            .collect();
        let max_bytes = self.rules.max_bytes;
        let method = match request.method.as_str() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => {
                let body = request
                    .body
                    .map(String::from_utf8)
                    .transpose()
                    .map_err(|_| not_read_only(&url, "POST with a body that is not text"))?;
                let method = Method::ListedPost(body.map(Secret::new));
                return Ok(HttpRequest { method, url, headers, max_bytes, follow_redirects: false });
            }
            other => return Err(not_read_only(&url, other)),
        };
        if request.body.is_some_and(|body| !body.is_empty()) {
            return Err(not_read_only(&url, &format!("{} with a body", request.method)));
        }
        if !self.is_allowed_origin(&url) {
            return Err(other_origin(&url, &self.rules));
        }
        Ok(HttpRequest { method, url, headers, max_bytes, follow_redirects: true })
    }

    /// Returns true if data may be read from `url`.
    fn is_allowed_origin(&self, url: &Url) -> bool {
        let origins = &self.rules.origins;
        // If the URL has neither user name nor password, everything before the path is the origin.
        let plain = url.username().is_empty() && url.password().is_none();
        (plain && origins.contains(&url[..Position::BeforePath])) || origins.contains(&url.origin().ascii_serialization())
    }
}

/// Parses a `url` that starts with `origin` without parsing its host again. Returns `None` if the result might differ
/// from the result of `Url::parse`.
fn parse_below(origin: &Url, url: &str) -> Option<Url> {
    let path = url.strip_prefix(&origin[..Position::BeforePath])?;
    let mut bytes = path.bytes();
    // A path that starts with `//`, or with characters that the parser treats as `//`, could name another host.
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\';
    let is_path = bytes.next() == Some(b'/') && bytes.next().is_none_or(plain);
    if is_path { origin.join(path).ok() } else { None }
}

fn secret_in_url(url: &Url) -> Failure {
    Failure::new(
        Class::EgressRefused,
        format!("{} was not called: the manifest puts a secret into the URL", url.host_str().unwrap_or_default()),
        "logs and proxies record URLs: change the manifest so that it sends the secret in a header or a body",
    )
}

fn not_read_only(url: &Url, what: &str) -> Failure {
    Failure::new(
        Class::EgressRefused,
        format!("{} {} was not sent: AAM only reads", redact::scrub_and_cut(what, 60), url.host_str().unwrap_or_default()),
        "remove the call from the manifest, or use GET",
    )
}

fn other_origin(url: &Url, rules: &Rules) -> Failure {
    let allowed: Vec<&str> = rules.origins.iter().map(String::as_str).collect();
    Failure::new(
        Class::EgressRefused,
        format!("{} was not called: the credential is only for {}", url.origin().ascii_serialization(), allowed.join(", ")),
        rules.hosts_fix.as_str(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// `parse_below` returns the same result as `Url::parse`.
        #[test]
        fn a_url_below_an_origin_is_parsed_as_a_whole_one(
            origin in "https?://(a\\.b|127\\.0\\.0\\.1|\\[::1\\])(:[0-9]{2})?",
            path in "(/|\\\\|[a-z0-9.%?#@: \t\n]|\\.\\.){0,8}",
        ) {
            let origin = Url::parse(&origin).unwrap();
            let whole = format!("{}{path}", &origin[..Position::BeforePath]);
            if let Some(url) = parse_below(&origin, &whole) {
                prop_assert_eq!(Ok(url), Url::parse(&whole));
            }
        }
    }

    #[test]
    fn another_host_is_not_below() {
        let origin = Url::parse("https://api.acme.example").unwrap();
        assert_eq!(
            parse_below(&origin, "https://api.acme.example/v1/x?y=1#z").unwrap().as_str(),
            "https://api.acme.example/v1/x?y=1#z"
        );
        assert_eq!(parse_below(&origin, "https://api.acme.example/").unwrap().as_str(), "https://api.acme.example/");
        for other in
            ["//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil", ".evil.example/", "@evil.example/", ":81/x", ""]
        {
            assert_eq!(parse_below(&origin, &format!("https://api.acme.example{other}")), None, "{other:?}");
        }
    }
}
