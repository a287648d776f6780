//! From a resource id to an address and the parts that the connection fixes. Pure.

use super::family_spec::{FamilySpec, Kind};
use crate::model::{Class, Failure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;
use std::collections::BTreeMap;
use url::Url;

/// The patterns of a form's kinds, compiled once.
#[derive(Debug)]
pub struct Patterns(Vec<Vec<Regex>>);

/// Where a resource lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The place of its kind in the form.
    pub kind: usize,
    /// Without a slash at its end.
    pub base_url: String,
    /// Host, with the port where it is not the scheme's own.
    pub host: String,
    pub parts: BTreeMap<String, String>,
}

/// What may stand in a path segment as it is (RFC 3986, unreserved).
const SEGMENT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Patterns {
    /// Compiles the patterns of `form`.
    ///
    /// # Errors
    /// Words naming the id whose part has no pattern, or whose pattern is none.
    pub fn read(form: &FamilySpec) -> Result<Patterns, String> {
        let one = |kind: &Kind| kind.ids.iter().map(|id| pattern(id, &kind.parts)).collect::<Result<Vec<_>, _>>();
        form.address.kinds.iter().map(one).collect::<Result<Vec<_>, _>>().map(Patterns)
    }

    /// Finds the kind and the parts of `id`. `base_url` is the policy's word for this family.
    ///
    /// # Errors
    /// `Misconfigured` with the forms there are, or for a base address that is none.
    pub fn place(&self, form: &FamilySpec, id: &str, base_url: Option<&str>, title: &str) -> Result<Place, Failure> {
        let found = self
            .0
            .iter()
            .enumerate()
            .find_map(|(kind, ids)| ids.iter().find_map(|id_of| Some((kind, id_of.captures(id)?, id_of))));
        let Some((kind, captures, names)) = found else {
            let forms: Vec<String> = form.address.kinds.iter().flat_map(|kind| kind.ids.iter().map(|id| readable(id))).collect();
            let title = format!("{} is no resource id of {title}", shown(id));
            return Err(Failure::new(Class::Misconfigured, title, format!("write {}", forms.join(" or "))));
        };
        let mut parts: BTreeMap<String, String> = names
            .capture_names()
            .flatten()
            .filter_map(|name| Some((name.to_string(), captures.name(name)?.as_str().to_string())))
            .collect();
        let address = match base_url {
            Some(text) => text.to_string(),
            None => fill(&form.address.base_url, &parts).map_err(|part| unfillable(&part))?,
        };
        let wrong = |words: String| {
            Failure::new(
                Class::Misconfigured,
                format!("the address of {title} cannot be used"),
                "correct base_url in the policy's families",
            )
            .detail(words)
        };
        let url = Url::parse(&address).map_err(|error| wrong(error.to_string()))?;
        let host = host_of(&url).ok_or_else(|| wrong("it has no host".to_string()))?;
        let base_url = url.as_str().trim_end_matches('/').to_string();
        parts.insert("host".to_string(), host.clone());
        parts.insert("base_url".to_string(), base_url.clone());
        Ok(Place { kind, base_url, host, parts })
    }
}

/// `host` or `host:port`.
#[must_use]
pub fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some(url.port().map_or(host.to_string(), |port| format!("{host}:{port}")))
}

/// The failure for a form that names a part nobody gives: a defect of the file.
#[must_use]
pub fn unfillable(part: &str) -> Failure {
    Failure::new(
        Class::Bug,
        format!("the family file names the part {{{part}}}, which is not known"),
        "report this as a defect of AAM",
    )
}

/// `text` with every `{part}` replaced.
///
/// # Errors
/// The part that is not known.
pub fn fill(text: &str, parts: &BTreeMap<String, String>) -> Result<String, String> {
    replaced(text, &|name| parts.get(name).cloned())
}

/// As [`fill`], for an address: every part but `base_url` becomes one segment.
///
/// # Errors
/// The part that is not known.
pub fn fill_address(text: &str, parts: &BTreeMap<String, String>) -> Result<String, String> {
    replaced(text, &|name| {
        let value = parts.get(name)?;
        Some(if name == "base_url" { value.clone() } else { utf8_percent_encode(value, SEGMENT).to_string() })
    })
}

fn replaced(text: &str, part: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}').filter(|(name, _)| is_name(name)) {
            Some((name, behind)) => {
                out.push_str(&part(name).ok_or_else(|| name.to_string())?);
                rest = behind;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'))
}

/// The pattern of one id: its text as it is, each part by its own pattern, anchored at both ends.
fn pattern(id: &str, parts: &BTreeMap<String, String>) -> Result<Regex, String> {
    let mut text = "^(?:".to_string();
    let mut rest = id;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or_else(|| format!("{id}: a brace is not closed"))?;
        let own = parts.get(name).ok_or_else(|| format!("{id}: the part {name} has no pattern"))?;
        text.push_str(&format!("{}(?P<{name}>{own})", regex::escape(before)));
        rest = behind;
    }
    text.push_str(&regex::escape(rest));
    Regex::new(&format!("{text})$")).map_err(|error| format!("{id}: {error}"))
}

/// `{owner}/{repo}` for people: `OWNER/REPO`.
fn readable(id: &str) -> String {
    id.split('{')
        .enumerate()
        .map(|(at, piece)| match piece.split_once('}') {
            Some((name, rest)) if at > 0 => format!("{}{rest}", name.to_uppercase()),
            _ => piece.to_string(),
        })
        .collect()
}

/// A resource id, short enough for one line.
fn shown(id: &str) -> String {
    let text: String = id.chars().filter(|c| !c.is_control()).take(80).collect();
    if text.is_empty() { "an empty text".to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;

    fn place(family: &str, id: &str, base: Option<&str>) -> Result<(String, Place), Failure> {
        let spec = spec::find(family).unwrap();
        let place = spec.patterns.place(&spec.form, id, base, "X")?;
        Ok((spec.form.address.kinds[place.kind].name.clone(), place))
    }

    #[test]
    fn ids_become_kinds_parts_and_addresses() {
        let (kind, at) = place("github", "Acme-Corp", None).unwrap();
        assert_eq!(
            (kind.as_str(), at.base_url.as_str(), at.host.as_str()),
            ("organization", "https://api.github.com", "api.github.com")
        );
        assert_eq!(at.parts["org"], "Acme-Corp");
        let (kind, at) = place("github", "acme/widgets.js", Some("https://ghe.acme.example:8443/api/v3/")).unwrap();
        assert_eq!((kind.as_str(), at.host.as_str()), ("repository", "ghe.acme.example:8443"));
        assert_eq!(
            (at.parts["base_url"].as_str(), at.parts["repo"].as_str()),
            ("https://ghe.acme.example:8443/api/v3", "widgets.js")
        );
        let (kind, at) = place("slack", "workspace_T0123", None).unwrap();
        assert_eq!((kind.as_str(), at.parts["team"].as_str()), ("workspace", "T0123"));
        assert_eq!(place("slack", "T0123", None).unwrap().0, "workspace");
        assert_eq!(place("slack", "E0123", None).unwrap().0, "enterprise");
    }

    #[test]
    fn other_ids_are_refused_with_the_forms_there_are() {
        for (family, id) in [
            ("github", "acme/"),
            ("github", "a/b/c"),
            ("github", "-acme"),
            ("github", "acme\n"),
            ("github", "a?b"),
            ("slack", "acme"),
            ("slack", "C0123"),
            ("slack", ""),
        ] {
            let failure = place(family, id, None).unwrap_err();
            assert_eq!(failure.class, Class::Misconfigured, "{family} {id:?}");
        }
        assert_eq!(place("github", "a/b/c", None).unwrap_err().fix, "write OWNER/REPO or ORG");
        assert_eq!(place("slack", "x", None).unwrap_err().fix, "write workspace_TEAM or TEAM or enterprise_TEAM or TEAM");
    }

    #[test]
    fn parts_are_filled_and_stay_one_segment_of_an_address() {
        let parts = [("base_url", "https://a.example/v1"), ("p", "a/b ?#é")].map(|(k, v)| (k.to_string(), v.to_string())).into();
        assert_eq!(fill("x {p} {} { {P}", &parts).unwrap(), "x a/b ?#é {} { {P}");
        assert_eq!(fill_address("{base_url}/{p}/z", &parts).unwrap(), "https://a.example/v1/a%2Fb%20%3F%23%C3%A9/z");
        assert_eq!(fill("{q}", &parts), Err("q".to_string()));
    }
}
