//! Which requests come from where they should: the `Host` and `Origin` headers, and `Sec-Fetch-Site`. Pure.
//!
//! A web page of another site can make a browser send requests to AAM, also to an AAM on loopback. If the name of that
//! site suddenly resolves to AAM's address (DNS rebinding), the browser even lets the page read the responses. Both
//! attacks show in these headers: a browser always sends the name that it used as `Host`, and the site of the page as
//! `Origin` (Fetch standard) and its relation to AAM as `Sec-Fetch-Site` (Fetch Metadata). Programs that are not
//! browsers do not send the last two, and are not affected.

use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use crate::policy::host_and_port;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version, header};
use std::net::{IpAddr, SocketAddr};

/// The endpoints that are served under any name, because orchestrators call them by address, often through a proxy.
pub const HEALTH_PATHS: [&str; 4] = ["/healthz", "/readyz", "/health", "/api/health"];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The names under which AAM may be reached.
#[derive(Clone, Copy, Debug)]
pub struct ServedHosts<'a> {
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The address that AAM listens on, if it is known. It may be the unspecified address.
    pub bound: Option<SocketAddr>,
    /// `api.hosts` of the policy.
    pub policy: &'a [String],
}

/// Checks that the request names a host that AAM serves and does not come from a page of another site. `cross_origin` is
/// true if it comes from a page of another site that the policy allows.
///
/// # Errors
/// 400 if the Host header is missing, repeated or not valid, and 403 with the setting to change otherwise.
pub fn check(
    method: &Method,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
    served: ServedHosts<'_>,
    cross_origin: bool,
) -> Result<(), ApiProblem> {
    let host = host(version, headers)?;
    if HEALTH_PATHS.contains(&uri.path()) {
        return Ok(());
    }
    // RFC 9112, 3.2.2: the authority of an absolute request target takes precedence over the Host header.
    for name in [host, uri.authority().map(axum::http::uri::Authority::as_str)].into_iter().flatten() {
        served.check_host(name)?;
    }
    if cross_origin {
        return Ok(());
    }
    for origin in headers.get_all(header::ORIGIN) {
        served.check_origin(origin.to_str().unwrap_or("?"))?;
    }
    check_site(method, headers)
}

/// Returns the Host header. HTTP/1.0 does not require one.
fn host(version: Version, headers: &HeaderMap) -> Result<Option<&str>, ApiProblem> {
    let mut values = headers.get_all(header::HOST).iter();
    let problem = match (values.next(), values.next()) {
        (Some(host), None) => match host.to_str().ok().filter(|host| host_and_port(host).is_some()) {
            Some(host) => return Ok(Some(host)),
            None => "The Host header is not a host name or address with an optional port.",
        },
        (None, None) if version == Version::HTTP_10 => return Ok(None),
        (None, _) => "The request does not have a Host header.",
        (Some(_), Some(_)) => "The request has more than one Host header.",
    };
    Err(ApiProblem::bad_request(problem))
}

impl ServedHosts<'_> {
    fn check_host(&self, text: &str) -> Result<(), ApiProblem> {
        if host_and_port(text).is_some_and(|(host, port)| self.serves(host, port, None)) {
            return Ok(());
        }
        let name = shown(text);
        let detail = format!(
            "This AAM does not serve the host {name}. If clients reach it under this name, add it to the policy: {}. GET /healthz and GET /readyz are served under any name.",
            self.setting(&name)
        );
        Err(ApiProblem::new(StatusCode::FORBIDDEN, ProblemCode::HostNotAllowed, "Host not allowed", detail))
    }

    fn check_origin(&self, origin: &str) -> Result<(), ApiProblem> {
        let site = origin
            .split_once("://")
            .and_then(|(scheme, rest)| Some((rest, if scheme == "https" { 443 } else { (scheme == "http").then_some(80)? })));
        let Some((authority, default_port)) = site else {
            return Err(refused_origin(
                "The request comes from a page without an origin, for example a file or a frame in a sandbox.",
            ));
        };
        if host_and_port(authority).is_some_and(|(host, port)| self.serves(host, port, Some(default_port))) {
            return Ok(());
        }
        let name = shown(authority);
        Err(refused_origin(&format!(
            "The request comes from a web page of {name}, which is not a name of this AAM. If it is, add it to the policy: {}. If it is another site whose pages may call the API, add its origin under api.cors.origins.",
            self.setting(&name)
        )))
    }

    /// Whether AAM serves `host`. `default_port` is the port of a site whose URL does not contain one. Without it, a missing
    /// port is accepted: an attack never depends on it, because browsers leave out only the ports 80 and 443.
    fn serves(&self, host: &str, port: Option<u16>, default_port: Option<u16>) -> bool {
        let port = port.or(default_port);
        let listening = self.local.port();
        let is_own = is_loopback_name(host) || self.is_own_address(host);
        if is_own && port.is_none_or(|port| port == listening) {
            return true;
        }
        self.policy.iter().filter_map(|entry| host_and_port(entry)).any(|(name, wanted)| {
            let fits = match (wanted, port) {
                (_, None) => true,
                (Some(wanted), Some(port)) => wanted == port,
                (None, Some(port)) => [80, 443, listening].contains(&port),
            };
            fits && name.eq_ignore_ascii_case(host)
        })
    }

    /// Whether `host` is the address that the client connected to, or the one that AAM listens on.
    fn is_own_address(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok_and(|address| {
            let address = address.to_canonical();
            address == self.local.ip().to_canonical() || self.bound.is_some_and(|bound| bound.ip().to_canonical() == address)
        })
    }

    /// The line of the policy that makes `name` a name of AAM.
    fn setting(&self, name: &str) -> String {
        let names: Vec<String> = self.policy.iter().map(String::as_str).chain([name]).map(|name| format!("\"{name}\"")).collect();
        format!("api: {{hosts: [{}]}}", names.join(", "))
    }
}

fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

/// Refuses requests that a browser sends for a page of another site. Following a link to the dashboard is allowed.
fn check_site(method: &Method, headers: &HeaderMap) -> Result<(), ApiProblem> {
    let is_follow = method.is_safe() && headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate");
    let foreign = headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "same-origin" && site != "none");
    if foreign && !is_follow {
        return Err(refused_origin("The request comes from a web page of another site."));
    }
    Ok(())
}

fn refused_origin(detail: &str) -> ApiProblem {
    let detail = format!("{detail} Nothing was done. Programs that are not browsers send neither Origin nor Sec-Fetch-Site.");
    ApiProblem::new(StatusCode::FORBIDDEN, ProblemCode::OriginNotAllowed, "Origin not allowed", detail)
}

/// The characters of `text` that a host name may contain.
fn shown(text: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    text.chars().filter(plain).take(260).collect::<String>().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn checked(method: &str, target: &str, headers: &[(&'static str, &str)], policy: &[&str]) -> u16 {
        let policy: Vec<String> = policy.iter().map(ToString::to_string).collect();
        let served =
            ServedHosts { local: ([10, 0, 0, 9], 5000).into(), bound: Some(([0, 0, 0, 0], 5000).into()), policy: &policy };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let result = check(&method, Version::HTTP_11, &target.parse().expect("a target"), &map, served, false);
        result.err().map_or(200, |problem| problem.status)
    }

    #[test]
    fn hosts_of_the_listener_and_of_the_policy_are_served() {
        let host = |value: &str| checked("GET", "/connections", &[("host", value)], &["aam.example", "aam.example.com:8443"]);
        for good in [
            "localhost:5000",
            "LOCALHOST:5000",
            "localhost.:5000",
            "127.0.0.1:5000",
            "127.0.0.1",
            "[::1]:5000",
            "10.0.0.9:5000",
            "0.0.0.0:5000",
            "aam.example",
            "Aam.Example:443",
            "aam.example:5000",
            "aam.example.com:8443",
        ] {
            assert_eq!(host(good), 200, "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:5000",
            "localhost.evil.example:5000",
            "127.0.0.1.evil.example",
            "10.0.0.8:5000",
            "localhost:80",
            "aam.example:8080",
            "aam.example.com:443",
            "xaam.example",
        ] {
            assert_eq!(host(bad), 403, "{bad}");
        }
        for invalid in ["", "a b", "user@localhost:5000", "localhost:5000/x", "localhost:x", "http://localhost:5000"] {
            assert_eq!(host(invalid), 400, "{invalid:?}");
        }
        assert_eq!(checked("GET", "http://evil.example/connections", &[("host", "localhost:5000")], &[]), 403);
        assert_eq!(checked("GET", "http://localhost:5000/connections", &[("host", "localhost:5000")], &[]), 200);
    }

    #[test]
    fn the_host_header_is_there_once_and_health_is_served_under_any_name() {
        assert_eq!(checked("GET", "/healthz", &[], &[]), 400);
        assert_eq!(checked("GET", "/", &[("host", "localhost:5000"), ("host", "localhost:5000")], &[]), 400);
        let probe = [("host", "10.1.2.3:5000"), ("origin", "https://evil.example")];
        for path in HEALTH_PATHS {
            assert_eq!(checked("GET", path, &probe, &[]), 200);
        }
        assert_eq!(checked("GET", "/version", &probe[..1], &[]), 403);
        assert_eq!(checked("GET", "/healthz/", &probe[..1], &[]), 403);
    }

    #[test]
    fn requests_of_other_sites_are_refused_and_programs_are_not() {
        let from = |method: &str, more: &[(&'static str, &str)]| {
            checked(method, "/connections/heal", &[&[("host", "localhost:5000")], more].concat(), &["aam.example"])
        };
        for good in [
            &[][..],
            &[("origin", "http://localhost:5000")],
            &[("origin", "http://localhost:5000"), ("sec-fetch-site", "same-origin")],
            &[("origin", "https://aam.example")],
            &[("origin", "http://127.0.0.1:5000")],
            &[("sec-fetch-site", "none")],
        ] {
            assert_eq!(from("POST", good), 200, "{good:?}");
        }
        for bad in [
            &[("origin", "null")][..],
            &[("origin", "https://evil.example")],
            &[("origin", "http://localhost")],
            &[("origin", "http://localhost:3000")],
            &[("origin", "https://aam.example:8443")],
            &[("origin", "file://localhost:5000")],
            &[("origin", "http://localhost:5000"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(from("POST", bad), 403, "{bad:?}");
        }
        assert_eq!(from("GET", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]), 200, "a link");
        assert_eq!(from("GET", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]), 403, "an image");
    }
}
