//! Hosts and ports, read in one way only, so that two spellings of one host are equal and a check of the one holds for
//! the other.

use crate::refusal::{Reason, Refusal};
use url::{Host, Url};

/// The longest name of a host in DNS.
const MAX_HOST_BYTES: usize = 253;

/// Where a connection or a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: Host<String>,
    pub port: u16,
}

impl Target {
    /// Reads `host` or `host:port`. Without a default, the port must be there.
    pub fn parse(authority: &str, default_port: Option<u16>) -> Option<Target> {
        let (host, port) = split(authority)?;
        let port = match port {
            Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            Some(_) => return None,
            None => default_port?,
        };
        // Port 0 cannot be connected to; as a number it often means "any port".
        if port == 0 {
            return None;
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() || host.len() > MAX_HOST_BYTES {
            return None;
        }
        // What is not of these would be decoded or mapped by the next line, or makes a wildcard certificate.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let is_address = host.starts_with('[') && host.ends_with(']');
        if !is_address && !host.bytes().all(is_name) {
            return None;
        }
        Some(Target { host: Host::parse(host).ok()?, port })
    }

    /// The URL of a request for this target. `None` if the path makes a URL of another host or is not valid.
    pub fn url(&self, scheme: &str, path_and_query: &str) -> Option<Url> {
        let url = Url::parse(&format!("{scheme}://{}:{}{path_and_query}", self.host, self.port)).ok()?;
        let is_same = url.host().is_some_and(|host| host.to_owned() == self.host)
            && url.port_or_known_default() == Some(self.port)
            && url.scheme() == scheme
            && url.username().is_empty()
            && url.password().is_none();
        is_same.then_some(url)
    }

    pub fn refusal(&self, reason: Reason) -> Refusal {
        Refusal { host: Some(self.host.to_string()), port: Some(self.port), reason }
    }
}

/// The host and what follows its colon. An IPv6 address has colons inside its brackets.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = match authority.find(']') {
        Some(end) => authority.split_at_checked(end + 1)?,
        None => authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?,
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None if rest.is_empty() => Some((host, None)),
        None => None,
    }
}

/// A text of the program that may be shown: printable ASCII, and short.
pub fn shown(text: &[u8]) -> String {
    const MAX_SHOWN: usize = 40;
    let is_shown = |byte: &&u8| byte.is_ascii_graphic();
    text.iter().filter(is_shown).take(MAX_SHOWN).map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(authority: &str) -> Option<String> {
        Target::parse(authority, Some(443)).map(|target| format!("{}:{}", target.host, target.port))
    }

    #[test]
    fn two_spellings_of_one_host_are_equal() {
        for same in ["a.example", "A.Example:443", "a.example.", "a.example.:443", "a.example:0443"] {
            assert_eq!(text(same).as_deref(), Some("a.example:443"), "{same}");
        }
        assert_eq!(text("[::1]:8443").as_deref(), Some("[::1]:8443"));
        assert_eq!(text("[0:0::1]").as_deref(), Some("[::1]:443"));
        // All forms that a system would take as an address are that address.
        for same in ["127.0.0.1", "127.1", "0x7f000001", "2130706433"] {
            assert_eq!(text(same).as_deref(), Some("127.0.0.1:443"), "{same}");
        }
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        let long = "a".repeat(254);
        for wrong in [
            "",
            ":",
            ":443",
            "a:",
            "a:x",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:0",
            "a:1:2",
            "*.a.example",
            "a%2eb",
            "u@a",
            "a/b",
            "a b",
            "[::1",
            "::1",
            "[::1]x",
            "[a]",
            ".",
            "ä.example",
            long.as_str(),
        ] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        assert_eq!(Target::parse("a.example", None), None);
    }

    #[test]
    fn a_path_cannot_change_the_host() {
        let target = Target::parse("a.example", Some(443)).unwrap();
        for path in ["/", "//b.example/", "/\\b.example", "/@b.example", "/?q=http://b.example", "/../..//b.example"] {
            let url = target.url("https", path).unwrap();
            assert_eq!(url.host_str(), Some("a.example"), "{path}");
        }
        for path in ["@b.example/", "0/", ".b.example/", "x"] {
            assert_eq!(target.url("https", path), None, "{path}");
        }
    }

    #[test]
    fn shown_texts_are_short_and_plain() {
        assert_eq!(shown(b"web\x1b[31m\nsocket\xff"), "web[31msocket");
        assert_eq!(shown(&[b'a'; 100]).len(), 40);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,300}", path in ".{0,50}") {
            if let Some(target) = Target::parse(&text, Some(443)) {
                // The same host is read from what is shown of it.
                let again = Target::parse(&format!("{}:{}", target.host, target.port), None);
                proptest::prop_assert_eq!(again.as_ref(), Some(&target));
                if let Some(url) = target.url("https", &path) {
                    proptest::prop_assert_eq!(url.host().map(|host| host.to_owned()), Some(target.host));
                }
            }
        }
    }
}
