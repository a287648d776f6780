//! A database server that `network.allow_weak_login` lists.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;

/// A host with an optional port. Without a port, every port of the host is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginHost {
    /// A name in lower case, or an IP address in its shortest form and without brackets.
    host: String,
    port: Option<u16>,
}

impl LoginHost {
    /// Parses `db.example`, `db.example:5432`, `10.1.2.3:5432`, `::1` or `[::1]:5432`. Returns `None` for everything else,
    /// also for a URL.
    #[must_use]
    pub fn parse(text: &str) -> Option<LoginHost> {
        if text.parse::<IpAddr>().is_ok() {
            return Some(LoginHost { host: canonical(text), port: None });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(inside) => {
                let (host, rest) = inside.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => {
                let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
                    return None;
                }
                (host, port)
            }
        };
        let port = match port {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|port| *port > 0)?)
            }
            Some(_) => return None,
            None => None,
        };
        Some(LoginHost { host: canonical(host), port })
    }

    /// Whether this entry means the server `host:port`. `host` has no brackets.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.host == canonical(host) && self.port.is_none_or(|own| own == port)
    }
}

/// Names are compared in lower case and addresses by value, because `0:0::1` and `::1` are the same address.
fn canonical(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string())
}

/// Formats as the policy writes it, for example `db.example:5432` or `[::1]:5432`.
impl fmt::Display for LoginHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

impl Serialize for LoginHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_means_its_host_and_port_only() {
        for (entry, host, port, expected) in [
            ("db.example", "db.example", 5432, true),
            ("DB.example", "db.example", 3306, true),
            ("db.example:5432", "db.example", 5432, true),
            ("db.example:5432", "db.example", 5433, false),
            ("db.example", "evil.db.example", 5432, false),
            ("db.example", "db.example.evil", 5432, false),
            ("10.1.2.3:5432", "10.1.2.3", 5432, true),
            ("10.1.2.3", "10.1.2.30", 5432, false),
            ("::1", "0:0::1", 5432, true),
            ("[::1]:5432", "::1", 5432, true),
            ("[::1]:5432", "::1", 5433, false),
        ] {
            let entry = LoginHost::parse(entry).unwrap_or_else(|| panic!("{entry} was refused"));
            assert_eq!(entry.matches(host, port), expected, "{entry} {host}:{port}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again_and_other_texts_are_refused() {
        for text in ["db.example", "db.example:5432", "10.1.2.3:1", "::1", "[::1]:5432"] {
            assert_eq!(LoginHost::parse(text).map(|entry| entry.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            ":5432",
            "db.example:",
            "db.example:0",
            "db.example:65536",
            "db.example:+5",
            "*",
            "*.example",
            "10.0.0.0/8",
            "postgresql://db.example",
            "db.example/shop",
            "db example",
            "[::1",
            "[::1]x",
            "[db]:1",
            "::1:x",
            "user@db.example",
        ] {
            assert_eq!(LoginHost::parse(text), None, "{text}");
        }
    }
}
