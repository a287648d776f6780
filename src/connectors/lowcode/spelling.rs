//! The spellings of a resource id: as a URL, in upper case, with or without the parts that follow from the others. Pure.

use super::address::fill;
use super::family_spec::{HostRule, PartValue, ResourceKind};
use percent_encoding::percent_decode_str;
use regex::Regex;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The host of a server, as far as a resource id names it: a name with a dot, `localhost` or an IP address, with an optional
/// port.
const SERVER: &str =
    r"(?:(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9-]+|localhost|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?";

/// A resource id that may be a URL.
pub struct SpelledId<'i> {
    /// The id as it was written.
    pub written: &'i str,
    /// The id without its scheme, its query, its fragment, its default port and the slashes at its end.
    pub bare: String,
    /// The same with the fragment, if the id is a URL that has one. The portals of some vendors keep the path there.
    pub with_fragment: Option<String>,
    /// True if the id begins with `http://`.
    pub plain_http: bool,
}

impl SpelledId<'_> {
    #[must_use]
    pub fn new(id: &str) -> SpelledId<'_> {
        let scheme = |name: &str| id.get(..name.len()).filter(|text| text.eq_ignore_ascii_case(name)).and(id.get(name.len()..));
        let (rest, default_port) = match (scheme("https://"), scheme("http://")) {
            (Some(rest), _) => (rest, ":443"),
            (None, Some(rest)) => (rest, ":80"),
            (None, None) => {
                let bare = id.trim_end_matches('/').to_string();
                return SpelledId { written: id, bare, with_fragment: None, plain_http: false };
            }
        };
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        let rest = rest.split('?').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.strip_suffix(default_port).unwrap_or(authority).to_lowercase();
        let whole = format!("{authority}{}", decoded(path));
        let with_fragment = fragment.map(|fragment| {
            let fragment = decoded(fragment.split('?').next().unwrap_or_default());
            let slash = if path.is_empty() { "/" } else { "" };
            format!("{whole}{slash}#{fragment}").trim_end_matches('/').to_string()
        });
        let bare = whole.trim_end_matches('/').to_string();
        SpelledId { written: id, bare, with_fragment, plain_http: default_port == ":80" }
    }

    /// Returns the spelling that is matched against the ids of `kind`.
    #[must_use]
    pub fn of_kind(&self, kind: &ResourceKind) -> &str {
        if kind.is_url() { &self.bare } else { self.written }
    }

    /// Returns the spelling that is matched against those ids of `kind` that contain a fragment.
    #[must_use]
    pub fn fragment_of_kind(&self, kind: &ResourceKind) -> Option<&str> {
        self.with_fragment.as_deref().filter(|_| kind.is_url())
    }
}

/// Undoes the percent-encoding of a path that was copied from a browser, unless that would change its segments.
fn decoded(path: &str) -> Cow<'_, str> {
    let whole = percent_decode_str(path).decode_utf8().unwrap_or(Cow::Borrowed(path));
    let same_segments = whole.matches('/').count() == path.matches('/').count();
    if same_segments && !whole.chars().any(char::is_control) { whole } else { Cow::Borrowed(path) }
}

impl ResourceKind {
    /// Returns true if an id of this kind may be written as a URL.
    #[must_use]
    pub fn is_url(&self) -> bool {
        self.url || self.is_listed()
    }

    /// Returns true if the policy has to list the servers of this kind.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.hosts == HostRule::Listed
    }

    /// Returns the part that names the server in `base_url`, for a kind with `hosts: listed`.
    #[must_use]
    pub fn server_part<'k>(&'k self, base_url: &'k str) -> Option<&'k str> {
        let (name, _) = base_url.strip_prefix("https://{")?.split_once('}')?;
        self.is_listed().then_some(name)
    }

    /// Adds the parts that the id did not name.
    ///
    /// # Errors
    /// Returns the name of a part that does not exist.
    pub fn add_parts(&self, parts: &mut BTreeMap<String, String>) -> Result<(), String> {
        for name in &self.lower {
            if let Some(value) = parts.get_mut(name) {
                *value = value.to_lowercase();
            }
        }
        let mut open: Vec<(&String, &PartValue)> = self.set.iter().filter(|(name, _)| !parts.contains_key(*name)).collect();
        // The value of a part may name parts that are set later in the order of their names.
        while !open.is_empty() {
            let (mut waiting, mut missing) = (Vec::new(), None);
            for (name, value) in open.iter().copied() {
                match value.filled(parts) {
                    Ok(text) => drop(parts.insert(name.clone(), text)),
                    Err(part) => {
                        missing = Some(part);
                        waiting.push((name, value));
                    }
                }
            }
            if waiting.len() == open.len() {
                return missing.map_or(Ok(()), Err);
            }
            open = waiting;
        }
        Ok(())
    }
}

impl PartValue {
    fn filled(&self, parts: &BTreeMap<String, String>) -> Result<String, String> {
        let changed = match self {
            PartValue::Template(text) => return fill(text, parts),
            PartValue::Changed(changed) => changed,
        };
        let filled = fill(&changed.value, parts)?;
        let replaced = changed.replace.iter().fold(filled, |text, (from, to)| text.replace(from, to));
        Ok(match (changed.lower, changed.upper) {
            (true, _) => replaced.to_lowercase(),
            (false, true) => replaced.to_uppercase(),
            (false, false) => replaced,
        })
    }
}

/// Compiles one id template to an anchored pattern: fixed text matches literally, and each part matches its own pattern.
///
/// # Errors
/// Returns a message that names the id and what is wrong with it.
pub fn pattern(id: &str, kind: &ResourceKind, base_url: &str) -> Result<Regex, String> {
    let literal = |text: &str| match kind.is_url() {
        true => format!("(?i:{})", regex::escape(text)),
        false => regex::escape(text),
    };
    let mut text = "^(?:".to_string();
    let mut rest = id;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or_else(|| format!("{id}: a brace is not closed"))?;
        let part = match kind.parts.get(name) {
            _ if kind.server_part(base_url) == Some(name) => SERVER,
            Some(part) => part,
            None => return Err(format!("{id}: the part {name} has no pattern")),
        };
        let flags = if kind.lower.iter().any(|lower| lower == name) { "(?i)" } else { "" };
        text.push_str(&format!("{}(?P<{name}>{flags}{part})", literal(before)));
        rest = behind;
    }
    text.push_str(&literal(rest));
    Regex::new(&format!("{text})$")).map_err(|error| format!("{id}: {error}"))
}

/// Returns the server that `id` names if it begins with one, for the message that it is not listed.
#[must_use]
pub fn leading_server(id: &SpelledId<'_>) -> Option<String> {
    let server = Regex::new(&format!("^{SERVER}(?:/[A-Za-z0-9._~/-]*)?$")).ok()?;
    server.is_match(&id.bare).then(|| server_text(&id.bare, id.plain_http))
}

/// Returns how the policy lists `server`.
#[must_use]
pub fn server_text(server: &str, plain_http: bool) -> String {
    if plain_http { format!("http://{server}") } else { server.to_string() }
}
