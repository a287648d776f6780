//! Maps a resource id to the URL of an API, and extracts the parts of the id that the family's templates use. Pure.

use super::family_spec::{FamilySpec, ResourceKind};
use crate::model::{Class, Failure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;
use std::collections::BTreeMap;
use url::Url;

/// The compiled patterns of a family's resource kinds.
#[derive(Debug)]
pub struct Patterns(Vec<Vec<Regex>>);

/// The API that serves a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceLocation {
    /// The base URL, without a trailing slash.
    pub base_url: String,
    /// The host, followed by the port if it is not the default port of the scheme.
    pub host: String,
    /// The parts of the resource id by name, plus `host` and `base_url`.
    pub parts: BTreeMap<String, String>,
}

/// The characters to percent-encode in a path segment: everything except the unreserved characters of RFC 3986.
const SEGMENT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Patterns {
    /// Compiles the patterns of `form`.
    ///
    /// # Errors
    /// Returns a message that names the id if one of its parts does not have a pattern, or if the pattern is not valid.
    pub fn compile(form: &FamilySpec) -> Result<Patterns, String> {
        let one = |kind: &ResourceKind| kind.ids.iter().map(|id| pattern(id, &kind.parts)).collect::<Result<Vec<_>, _>>();
        form.address.kinds.iter().map(one).collect::<Result<Vec<_>, _>>().map(Patterns)
    }

    /// Finds the kind and the parts of `id`. `base_url` is the value that the policy sets for this family, if any.
    ///
    /// # Errors
    /// Returns `Misconfigured` if the base URL is not valid, and `NotMappable` if `id` has none of the accepted forms, which the
    /// failure lists.
    pub fn locate<'f>(
        &self,
        form: &'f FamilySpec,
        id: &str,
        base_url: Option<&str>,
        title: &str,
    ) -> Result<(ResourceLocation, &'f ResourceKind), Failure> {
        let kinds = form.address.kinds.iter().zip(&self.0);
        let mut matches =
            kinds.filter_map(|(kind, patterns)| patterns.iter().find_map(|pattern| Some((kind, pattern.captures(id)?, pattern))));
        let found =
            matches.next().filter(|(_, captures, _)| !captures.iter().skip(1).flatten().any(|part| is_dots(part.as_str())));
        let Some((kind, captures, pattern)) = found else {
            let title = format!("{} is not a resource id of {title}", quoted(id));
            return Err(Failure::new(Class::NotMappable, title, format!("write it like {}", forms(form))));
        };
        let mut parts: BTreeMap<String, String> = pattern
            .capture_names()
            .flatten()
            .filter_map(|name| Some((name.to_string(), captures.name(name)?.as_str().to_string())))
            .collect();
        let address = match base_url {
            Some(text) => text.to_string(),
            None => fill(&form.address.base_url, &parts).map_err(|part| unknown_part(&part))?,
        };
        let invalid = |reason: String| {
            Failure::new(
                Class::Misconfigured,
                format!("the base URL of {title} is not valid"),
                "correct base_url in the policy's families",
            )
            .detail(reason)
        };
        let url = Url::parse(&address).map_err(|error| invalid(error.to_string()))?;
        let host = host_of(&url).ok_or_else(|| invalid("it has no host".to_string()))?;
        let base_url = url.as_str().trim_end_matches('/').to_string();
        parts.insert("host".to_string(), host.clone());
        parts.insert("base_url".to_string(), base_url.clone());
        Ok((ResourceLocation { base_url, host, parts }, kind))
    }
}

/// Whether a part would leave its place in the path of a URL, where `.` and `..` are removed (RFC 3986, section 5.2.4).
fn is_dots(part: &str) -> bool {
    matches!(part, "." | "..")
}

/// Returns `host` or `host:port`.
#[must_use]
pub fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some(url.port().map_or(host.to_string(), |port| format!("{host}:{port}")))
}

/// Returns the failure for a template that names a part that does not exist, which is a defect in the family file.
#[must_use]
pub fn unknown_part(part: &str) -> Failure {
    Failure::new(
        Class::Bug,
        format!("the family file names the part {{{part}}}, which does not exist"),
        "report this as a defect of AAM",
    )
}

/// Replaces every `{part}` in `text`.
///
/// # Errors
/// Returns the name of the first part that does not exist.
pub fn fill(text: &str, parts: &BTreeMap<String, String>) -> Result<String, String> {
    replaced(text, &|name| parts.get(name).cloned())
}

/// Like [`fill`], but for a URL: every part except `base_url` is percent-encoded as one path segment.
///
/// # Errors
/// Returns the name of the first part that does not exist.
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

/// Compiles one id template to an anchored pattern: fixed text matches literally, and each part matches its own pattern.
fn pattern(id: &str, parts: &BTreeMap<String, String>) -> Result<Regex, String> {
    let mut text = "^(?:".to_string();
    let mut rest = id;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or_else(|| format!("{id}: a brace is not closed"))?;
        let part = parts.get(name).ok_or_else(|| format!("{id}: the part {name} has no pattern"))?;
        text.push_str(&format!("{}(?P<{name}>{part})", regex::escape(before)));
        rest = behind;
    }
    text.push_str(&regex::escape(rest));
    Regex::new(&format!("{text})$")).map_err(|error| format!("{id}: {error}"))
}

/// Returns the accepted forms as examples, by kind of resource: `acme/website (repository), acme (organization)`.
fn forms(form: &FamilySpec) -> String {
    let of_kind = |kind: &ResourceKind| format!("{} ({})", kind.examples.join(" or "), kind.name);
    form.address.kinds.iter().map(of_kind).collect::<Vec<_>>().join(", ")
}

/// Returns the resource id in quotes, cut so that it fits on one line.
fn quoted(id: &str) -> String {
    let text: String = id.chars().filter(|c| !c.is_control()).take(80).collect();
    if text.is_empty() { "an empty text".to_string() } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;

    fn locate(family: &str, id: &str, base: Option<&str>) -> Result<(String, ResourceLocation), Failure> {
        let spec = spec::find(family).unwrap();
        let (location, kind) = spec.patterns.locate(&spec.form, id, base, "X")?;
        Ok((kind.name.clone(), location))
    }

    #[test]
    fn ids_become_kinds_parts_and_addresses() {
        let (kind, at) = locate("github", "Acme-Corp", None).unwrap();
        assert_eq!(
            (kind.as_str(), at.base_url.as_str(), at.host.as_str()),
            ("organization", "https://api.github.com", "api.github.com")
        );
        assert_eq!(at.parts["org"], "Acme-Corp");
        let (kind, at) = locate("github", "acme/widgets.js", Some("https://ghe.acme.example:8443/api/v3/")).unwrap();
        assert_eq!((kind.as_str(), at.host.as_str()), ("repository", "ghe.acme.example:8443"));
        assert_eq!(
            (at.parts["base_url"].as_str(), at.parts["repo"].as_str()),
            ("https://ghe.acme.example:8443/api/v3", "widgets.js")
        );
        let (kind, at) = locate("slack", "workspace_T0123", None).unwrap();
        assert_eq!((kind.as_str(), at.parts["team"].as_str()), ("workspace", "T0123"));
        for name in ["...", ".github", "..a", "a.."] {
            assert_eq!(locate("github", &format!("acme/{name}"), None).unwrap().1.parts["repo"], name);
        }
        assert_eq!(locate("slack", "T0123", None).unwrap().0, "workspace");
        assert_eq!(locate("slack", "E0123", None).unwrap().0, "enterprise");
    }

    #[test]
    fn other_ids_are_refused_with_the_forms_there_are() {
        for (family, id) in [
            ("github", "acme/"),
            ("github", "a/b/c"),
            ("github", "-acme"),
            ("github", "acme\n"),
            ("github", "a?b"),
            ("github", "acme/."),
            ("github", "acme/.."),
            ("slack", "acme"),
            ("slack", "C0123"),
            ("slack", ""),
        ] {
            let failure = locate(family, id, None).unwrap_err();
            assert_eq!(failure.class, Class::NotMappable, "{family} {id:?}");
        }
        assert_eq!(
            locate("github", "a/b/c", None).unwrap_err().fix,
            "write it like acme/website (repository), acme (organization)"
        );
        assert_eq!(
            locate("slack", "workspace_T1", None).unwrap_err().fix,
            "write it like workspace_T0123ABCD or T0123ABCD (workspace), enterprise_E0123ABCD or E0123ABCD (enterprise)"
        );
    }

    #[test]
    fn every_form_that_a_message_shows_is_accepted() {
        for family in crate::families::all() {
            let Some(spec) = spec::find(&family.id) else { continue };
            for kind in &spec.form.address.kinds {
                assert_eq!(kind.examples.len(), kind.ids.len(), "{}: one example for each form", family.id);
                for example in &kind.examples {
                    assert_eq!(locate(&family.id, example, None).unwrap().0, kind.name, "{}: {example}", family.id);
                }
            }
        }
    }

    #[test]
    fn parts_are_filled_and_stay_one_segment_of_an_address() {
        let parts = [("base_url", "https://a.example/v1"), ("p", "a/b ?#é")].map(|(k, v)| (k.to_string(), v.to_string())).into();
        assert_eq!(fill("x {p} {} { {P}", &parts).unwrap(), "x a/b ?#é {} { {P}");
        assert_eq!(fill_address("{base_url}/{p}/z", &parts).unwrap(), "https://a.example/v1/a%2Fb%20%3F%23%C3%A9/z");
        assert_eq!(fill("{q}", &parts), Err("q".to_string()));
    }
}
