//! The patterns of the policy for locators and hosts.

use super::super::credentials::{file_path, vault_path};
use crate::model::recipient::{is_loopback, normal_host};
use crate::model::{Locator, Recipient};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

/// A locator, or the beginning of one followed by `*`. The `*` stands for one or more characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocatorPattern(String);

impl LocatorPattern {
    /// Parses `env:NAME`, `env:PREFIX_*`, `vault:path/*` and so on.
    ///
    /// # Errors
    /// Returns why the text is not a pattern, and what to write instead.
    pub fn parse(text: &str) -> Result<LocatorPattern, (String, String)> {
        let fail = |message: &str, hint: &str| Err((message.to_string(), hint.to_string()));
        let stem = text.strip_suffix('*').unwrap_or(text);
        if stem.contains('*') {
            return fail("a * is allowed only at the end", "write env:NAME, env:PREFIX_*, file:/folder/* or vault:path/*");
        }
        if stem.len() < text.len() && !stem.ends_with([':', '_', '/']) {
            return fail(
                "a * must follow :, _ or /, so that it cannot match the rest of a longer name",
                "write env:PREFIX_*, file:/folder/* or vault:path/*, or the whole locator",
            );
        }
        // The character in place of the * makes every pattern a locator of its scheme.
        let sample = if stem.len() < text.len() { format!("{stem}x") } else { text.to_string() };
        match Locator::parse(&sample) {
            Ok(Locator::Unknown(_)) => fail(
                "this is not a form of a locator",
                "write env:NAME, env:PREFIX_*, file:path/*, vault:path/*, sp:NAME or consent:NAME",
            ),
            Ok(locator) => match spelling(&locator) {
                Ok(spelled) if spelled == sample => Ok(LocatorPattern(text.to_string())),
                Ok(spelled) => {
                    let spelled = if stem.len() < text.len() {
                        format!("{}*", spelled.strip_suffix('x').unwrap_or(&spelled))
                    } else {
                        spelled
                    };
                    fail("this is not the spelling under which the policy judges the locator", &format!("write {spelled}"))
                }
                Err((message, hint)) => Err((message, hint)),
            },
            Err(message) => Err((message, "write env:NAME, env:PREFIX_*, file:/folder/* or vault:path/*".to_string())),
        }
    }

    /// Returns the pattern with the path of the vault that a bare name stands for; `base` is `credentials.vault.path`.
    #[must_use]
    pub fn spelled(&self, base: Option<&str>) -> Cow<'_, LocatorPattern> {
        match (self.0.strip_prefix("vault:"), base) {
            (Some(name), Some(base)) if !name.contains('/') && name != "*" => {
                Cow::Owned(LocatorPattern(format!("vault:{base}/{name}")))
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Whether the pattern matches `locator`, which has its canonical spelling. Case counts. A secret of the vault without
    /// `#FIELD` stands for all its fields.
    #[must_use]
    pub fn matches(&self, locator: &Locator) -> bool {
        let text = locator.to_string();
        match self.0.strip_suffix('*') {
            None => text == self.0 || without_field(&text) == self.0,
            Some(stem) => text.strip_prefix(stem).is_some_and(|rest| !rest.is_empty()) && is_plain_path(&text),
        }
    }

    /// Whether the pattern matches `locator` or another field of the same secret of the vault. Who reads a secret receives
    /// all its fields, so a pattern for one field reserves the whole secret.
    #[must_use]
    pub fn concerns(&self, locator: &Locator) -> bool {
        self.matches(locator) || without_field(&self.0) == without_field(&locator.to_string())
    }

    /// Whether everything that `other` matches is matched by this pattern too.
    #[must_use]
    pub fn covers(&self, other: &LocatorPattern) -> bool {
        self == other
            || self.0 == without_field(&other.0)
            || self.0.strip_suffix('*').is_some_and(|stem| other.0.starts_with(stem))
    }

    /// The text in the policy.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the spelling of `locator` that does not depend on the folders of the policy.
fn spelling(locator: &Locator) -> Result<String, (String, String)> {
    match locator {
        // The path of a pattern such as `file:*` is `x` alone, and `file:/*` stands for every absolute path.
        Locator::File(path) => Ok(format!("file:{}", file_path::normal(path)?)),
        Locator::Vault(rest) if rest.contains('/') => match vault_path::canonical(locator, None) {
            Ok(spelled) => Ok(spelled.to_string()),
            Err(invalid) => Err((format!("{locator} {}", invalid.reason), invalid.fix)),
        },
        other => Ok(other.to_string()),
    }
}

/// A locator of the vault without `#FIELD`; other locators as they are.
fn without_field(locator: &str) -> &str {
    match locator.strip_prefix("vault:") {
        Some(rest) => rest.split_once('#').map_or(locator, |(path, _)| locator.get(..6 + path.len()).unwrap_or(locator)),
        None => locator,
    }
}

/// Whether a store cannot read the path of the locator as another path. `vault:aam/../billing` begins with `vault:aam/`
/// and is not below it.
fn is_plain_path(locator: &str) -> bool {
    let path = locator.split_once(':').map_or("", |(_, path)| path);
    if locator.starts_with("file:") {
        // The path of a canonical locator may be absolute, and no character in the name of a file has a meaning.
        return path.trim_start_matches('/').split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    }
    // A locator of the vault may name a field of the secret.
    let path = if locator.starts_with("vault:") { path.split_once('#').map_or(path, |(path, _)| path) } else { path };
    !path.contains(['%', '\\', '?', '#']) && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

impl fmt::Display for LocatorPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for LocatorPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A host that a credential may be sent to: `HOST`, `HOST:PORT` or `HOST:*`, with `http://` before it if plain HTTP is
/// allowed. `HOST` may begin with `*.`, or be `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern {
    /// As written in the policy.
    text: String,
    plain: bool,
    /// True if `host` stands for all names that end with `.host`; with an empty `host`, for all hosts.
    below: bool,
    host: String,
    port: PortPattern,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PortPattern {
    /// The default port of the protocol.
    Default,
    Only(u16),
    Any,
}

impl HostPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Returns why the text is not a pattern, and what to write instead.
    pub fn parse(text: &str) -> Result<HostPattern, (String, String)> {
        let fail = |message: &str, hint: &str| Err((message.to_string(), hint.to_string()));
        let (plain, rest) = match text.split_once("://") {
            Some(("http", rest)) => (true, rest),
            Some(("https", rest)) => (false, rest),
            Some(_) => return fail("the scheme of a host must be https or http", FORM),
            None => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let Some((name, port)) = split_port(rest) else {
            return fail("the port is not a number from 1 to 65535", FORM);
        };
        let (below, name) = match name {
            "*" => (true, ""),
            _ => name.strip_prefix("*.").map_or((false, name), |name| (true, name)),
        };
        if name.contains('*') {
            return fail(
                "a * is allowed only in place of the first labels of a host",
                "write *.acme.example, or * for every host",
            );
        }
        let host = match (below, name) {
            (true, "") => String::new(),
            _ => match canonical(name) {
                Some(host) => host,
                None => return fail("this is not a host", FORM),
            },
        };
        if below && host.parse::<IpAddr>().is_ok() {
            return fail("*. cannot stand before an IP address", "write the address itself");
        }
        Ok(HostPattern { text: text.to_string(), plain, below, host, port })
    }

    /// Whether the credential may be sent to `recipient`. Case and a final dot do not count.
    #[must_use]
    pub fn matches(&self, recipient: &Recipient) -> bool {
        let Recipient { host, port, default_port, plain } = recipient;
        // What is sent to this machine does not cross a network.
        let encrypted = !plain || self.plain || is_loopback(host);
        let port_matches = match self.port {
            // The pattern means the encrypted protocol, so a plain URL needs its port.
            PortPattern::Default => port == default_port && (!plain || self.plain),
            PortPattern::Only(only) => *port == only,
            PortPattern::Any => true,
        };
        let host_matches = match self.below {
            false => *host == self.host,
            true if self.host.is_empty() => true,
            true => host.strip_suffix(self.host.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        };
        encrypted && port_matches && host_matches
    }

    /// The text in the policy.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern stands for every host.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.below && self.host.is_empty()
    }
}

const FORM: &str = "write api.acme.example, *.acme.example:8443 or http://10.0.0.7:8080; no user and no path";

/// Splits `HOST`, `HOST:PORT`, `HOST:*` and the same with an IPv6 address in brackets.
fn split_port(text: &str) -> Option<(&str, PortPattern)> {
    let (name, port) = match text.rfind(']') {
        Some(end) => (text.get(..=end)?, text.get(end + 1..)?.strip_prefix(':')),
        None => text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = match port {
        None => PortPattern::Default,
        Some("*") => PortPattern::Any,
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            PortPattern::Only(number.parse().ok().filter(|number| *number > 0)?)
        }
        Some(_) => return None,
    };
    Some((name, port))
}

/// The host as a URL would name it: in lower case, an international name in its ASCII form. A name with an underscore,
/// which URLs allow and DNS hosts of containers have, stays as it is.
fn canonical(name: &str) -> Option<String> {
    if name.contains(['/', '@', '?', '#', ' ']) || name.is_empty() {
        return None;
    }
    let url = url::Url::parse(&format!("https://{name}/")).ok()?;
    (url.path() == "/" && url.port().is_none()).then(|| url.host_str().map(normal_host)).flatten()
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
