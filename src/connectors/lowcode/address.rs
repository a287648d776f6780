//! Maps a resource id to the URL of an API, and extracts the parts of the id that the family's templates use. Pure.

use super::credential_url::PLACEHOLDER;
use super::family_spec::{FamilySpec, PartValue, ResourceKind};
use super::privilege::fits;
use super::spelling::{self, SpelledId};
use crate::model::{Class, Failure};
use crate::policy::ListedServer;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;
use std::collections::BTreeMap;
use url::Url;

/// The compiled patterns of a family's resource kinds.
#[derive(Debug)]
pub struct Patterns(Vec<Vec<Regex>>);

/// What the policy and the family say about the addresses of a family.
#[derive(Clone, Copy)]
pub struct AddressPolicy<'a> {
    /// The id of the family.
    pub family: &'a str,
    pub title: &'a str,
    /// `families.NAME.base_url` of the policy.
    pub base_url: Option<&'a str>,
    /// `families.NAME.hosts` of the policy.
    pub hosts: &'a [ListedServer],
}

/// The API that serves a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceLocation {
    /// The base URL, without a trailing slash.
    pub base_url: String,
    /// The host, followed by the port if it is not the default port of the scheme.
    pub host: String,
    /// The account whose quota the calls use.
    pub account: String,
    /// True if the family's file or the policy names the host; otherwise the resource id chose it.
    pub reviewed: bool,
    /// The base URLs of the vendor's other servers by name.
    pub servers: BTreeMap<String, String>,
    /// The parts of the resource id by name, plus `host`, `base_url`, and `server.NAME` for each of `servers`.
    pub parts: BTreeMap<String, String>,
}

/// A kind that a resource id matches, with the captured parts and the server of the policy that it names.
struct MatchedKind<'f, 'p> {
    kind: &'f ResourceKind,
    parts: BTreeMap<String, String>,
    server: Option<&'p ListedServer>,
}

/// Stands for a listed server while an id is matched, because the server's own name may have a path.
const SERVER_PLACEHOLDER: &str = "listed.invalid";

/// The characters to percent-encode in a path segment: everything except the unreserved characters of RFC 3986.
const SEGMENT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Patterns {
    /// Compiles the patterns of `form`.
    ///
    /// # Errors
    /// Returns a message that names the id if one of its parts does not have a pattern, or if the pattern is not valid; or
    /// the kind, if it does not have a base URL.
    pub fn compile(form: &FamilySpec) -> Result<Patterns, String> {
        // Only the host of the base URL may depend on the resource id, because only that one is checked as a recipient.
        let servers = form.address.servers.values().filter(|url| !form.fixes_parts(authority(url)));
        let methods = form.auth.iter().filter_map(|method| method.base_url.as_ref());
        if let Some(url) = servers.chain(methods.filter(|url| authority(url).contains('{'))).next() {
            return Err(format!("the host of {url} must not depend on the resource id"));
        }
        let one = |kind: &ResourceKind| {
            let base_url = kind.base_url(form);
            if base_url.is_empty() {
                return Err(format!("the kind {} does not have a base_url", kind.name));
            }
            if kind.is_listed() && kind.server_part(base_url).is_none() {
                return Err(format!(
                    "the base_url of the kind {} must begin with https://{{PART}}, its listed server",
                    kind.name
                ));
            }
            kind.ids.iter().map(|id| spelling::pattern(id, kind, base_url)).collect::<Result<Vec<_>, _>>()
        };
        form.address.kinds.iter().map(one).collect::<Result<Vec<_>, _>>().map(Patterns)
    }

    /// Finds the kind and the parts of `id`.
    ///
    /// # Errors
    /// Returns `NotMappable` if `id` has none of the accepted forms, which the failure lists; and `Misconfigured` if the base
    /// URL is not valid, or if the id names a server that the policy has to list.
    pub fn locate<'f>(
        &self,
        form: &'f FamilySpec,
        id: &str,
        policy: &AddressPolicy<'_>,
    ) -> Result<(ResourceLocation, &'f ResourceKind), Failure> {
        let spelled = SpelledId::new(id);
        let found = self.match_listed(form, &spelled, policy.hosts).or_else(|| self.match_id(form, &spelled));
        let Some(MatchedKind { kind, mut parts, server }) = found else {
            let has_listed = form.address.kinds.iter().any(ResourceKind::is_listed);
            let unlisted = if has_listed { spelling::leading_server(&spelled) } else { None };
            return Err(match unlisted {
                Some(server) => not_listed(&server, policy),
                None => {
                    let title = format!("{} is not a resource id of {}", quoted(id), policy.title);
                    Failure::new(Class::NotMappable, title, format!("write it like {}", forms(form)))
                }
            });
        };
        kind.add_parts(&mut parts).map_err(|part| unknown_part(&part))?;
        let template = kind.base_url(form);
        if let Some(part) = kind.server_part(template).filter(|_| server.is_none() && policy.base_url.is_none()) {
            let named = parts.get(part).map(String::as_str).unwrap_or_default();
            // The vendor's own hosts have no other port than that of the protocol.
            let lower = named.to_lowercase();
            if !form.address.vendor_hosts.iter().any(|glob| fits(glob, &lower)) {
                return Err(not_listed(&spelling::server_text(named, spelled.plain_http), policy));
            }
        }
        let location = location(form, kind, parts, server, policy)?;
        Ok((location, kind))
    }

    /// Matches an id that begins with a server of the policy. Other kinds might match the server's name by chance, so this
    /// comes first.
    fn match_listed<'f, 'p>(
        &self,
        form: &'f FamilySpec,
        id: &SpelledId<'_>,
        hosts: &'p [ListedServer],
    ) -> Option<MatchedKind<'f, 'p>> {
        let (server, rest) = ListedServer::find(hosts, &id.bare)?;
        let text = format!("{SERVER_PLACEHOLDER}{rest}");
        let mut kinds = form.address.kinds.iter().zip(&self.0).filter(|(kind, _)| kind.is_listed());
        kinds.find_map(|(kind, patterns)| {
            let mut parts = captured(patterns, &text)?;
            let part = kind.server_part(kind.base_url(form)).filter(|part| parts.contains_key(*part))?;
            parts.insert(part.to_string(), server.name().to_string());
            Some(MatchedKind { kind, parts, server: Some(server) })
        })
    }

    fn match_id<'f, 'p>(&self, form: &'f FamilySpec, id: &SpelledId<'_>) -> Option<MatchedKind<'f, 'p>> {
        let mut kinds = form.address.kinds.iter().zip(&self.0);
        let matched = |kind: &ResourceKind, patterns: &[Regex]| {
            let by_fragment = || {
                let with_fragment = patterns.iter().filter(|pattern| pattern.as_str().contains('#'));
                captured(with_fragment, id.fragment_of_kind(kind)?)
            };
            captured(patterns, id.of_kind(kind)).or_else(by_fragment)
        };
        let (kind, parts) = kinds.find_map(|(kind, patterns)| Some((kind, matched(kind, patterns)?)))?;
        Some(MatchedKind { kind, parts, server: None })
    }
}

impl FamilySpec {
    /// Returns true if every kind sets each part of `text` to a fixed value, or does not have it.
    fn fixes_parts(&self, text: &str) -> bool {
        let is_fixed = |kind: &ResourceKind, part: &str| match kind.set.get(part) {
            Some(PartValue::Template(value)) => !value.contains('{'),
            Some(PartValue::Changed(_)) => false,
            None => !kind.parts.contains_key(part),
        };
        let parts = text.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        parts.into_iter().all(|part| self.address.kinds.iter().all(|kind| is_fixed(kind, part)))
    }
}

impl ResourceKind {
    /// Returns the template of the base URL.
    #[must_use]
    pub fn base_url<'f>(&'f self, form: &'f FamilySpec) -> &'f str {
        match (&self.base_url, &form.address.credential_url) {
            (Some(own), _) => own,
            (None, Some(_)) if form.address.base_url.is_empty() => PLACEHOLDER,
            (None, _) => &form.address.base_url,
        }
    }
}

/// Returns the parts of `text` by the first pattern that matches it.
fn captured<'r>(patterns: impl IntoIterator<Item = &'r Regex>, text: &str) -> Option<BTreeMap<String, String>> {
    let (pattern, captures) = patterns.into_iter().find_map(|pattern| Some((pattern, pattern.captures(text)?)))?;
    let named = pattern.capture_names().flatten().filter_map(|name| Some((name, captures.name(name)?.as_str())));
    let parts: BTreeMap<String, String> = named.map(|(name, part)| (name.to_string(), part.to_string())).collect();
    (!parts.values().any(|part| is_dots(part))).then_some(parts)
}

/// Returns the location of a resource of `kind`, whose parts are complete.
fn location(
    form: &FamilySpec,
    kind: &ResourceKind,
    mut parts: BTreeMap<String, String>,
    server: Option<&ListedServer>,
    policy: &AddressPolicy<'_>,
) -> Result<ResourceLocation, Failure> {
    let template = kind.base_url(form);
    let invalid = |reason: String| {
        let title = format!("the base URL of {} is not valid", policy.title);
        Failure::new(Class::Misconfigured, title, "correct base_url in the policy's families").detail(reason)
    };
    let address = match (policy.base_url, server) {
        (Some(text), _) => {
            let whole = with_path(text, template);
            fill(&whole, &parts)
                .map_err(|part| invalid(format!("a resource of the kind {} has no part {{{part}}}", kind.name)))?
        }
        (None, Some(server)) if server.base_url().starts_with("http://") => {
            fill(template, &parts).map_err(|part| unknown_part(&part))?.replacen("https://", "http://", 1)
        }
        (None, _) => fill(template, &parts).map_err(|part| unknown_part(&part))?,
    };
    let url = Url::parse(&address).map_err(|error| invalid(error.to_string()))?;
    let host = host_of(&url).ok_or_else(|| invalid("it has no host".to_string()))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("it has a user name, a query or a fragment".to_string()));
    }
    let base_url = url.as_str().trim_end_matches('/').to_string();
    parts.insert("host".to_string(), host.clone());
    parts.insert("base_url".to_string(), base_url.clone());
    let servers = servers(form, &parts, policy.base_url.is_some().then_some(&url));
    parts.extend(servers.iter().map(|(name, url)| (format!("server.{name}"), url.clone())));
    let account = fill(kind.account.as_ref().unwrap_or(&form.address.account), &parts).map_err(|part| unknown_part(&part))?;
    let reviewed = policy.base_url.is_some() || server.is_some() || !authority(template).contains('{');
    Ok(ResourceLocation { base_url, host, account, reviewed, servers, parts })
}

/// Returns the vendor's other servers. If the policy replaces the base URL, they keep their paths on its host. A server that
/// needs a part that this resource does not have is left out.
fn servers(form: &FamilySpec, parts: &BTreeMap<String, String>, replaced: Option<&Url>) -> BTreeMap<String, String> {
    let address = |template: &String| {
        let url = Url::parse(&fill(template, parts).ok()?).ok()?;
        let url = match replaced {
            Some(base) => base.join(url.path()).ok()?,
            None => url,
        };
        Some(url.as_str().trim_end_matches('/').to_string())
    };
    form.address.servers.iter().filter_map(|(name, template)| Some((name.clone(), address(template)?))).collect()
}

/// Returns the base URL of the policy. If it does not have a path, a path of `template` that names the resource is kept.
#[must_use]
pub fn with_path(base_url: &str, template: &str) -> String {
    let base = base_url.trim_end_matches('/');
    let path = template.split_once("://").and_then(|(_, rest)| Some(rest.split_at(rest.find('/')?).1)).unwrap_or_default();
    let has_path = base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if path.contains('{') && !has_path { format!("{base}{path}") } else { base.to_string() }
}

/// Returns the part of a URL template between its scheme and its path.
fn authority(template: &str) -> &str {
    let rest = template.split_once("://").map_or(template, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// Returns the failure for an id that names a server that the policy has to list first.
fn not_listed(server: &str, policy: &AddressPolicy<'_>) -> Failure {
    let AddressPolicy { family, title, hosts, .. } = policy;
    let quoted = |text: String| if text.contains([':', '[']) { format!("\"{text}\"") } else { text };
    let listed = hosts.iter().map(ToString::to_string).chain([server.to_string()]).map(quoted).collect::<Vec<_>>().join(", ");
    Failure::new(
        Class::Misconfigured,
        format!("the policy does not list {server} as a server of {title}"),
        format!(
            "if it is a server of your company, write into the policy: families: {{{family}: {{hosts: [{listed}]}}}}; \
             if it is not, correct resource_ids, because the credential would be sent to it"
        ),
    )
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

/// Like [`fill`], but for a URL: every part except `base_url` and `server.NAME` is percent-encoded as one path segment.
///
/// # Errors
/// Returns the name of the first part that does not exist.
pub fn fill_address(text: &str, parts: &BTreeMap<String, String>) -> Result<String, String> {
    replaced(text, &|name| {
        let value = parts.get(name)?;
        Some(if name == "base_url" || name.starts_with("server.") {
            value.clone()
        } else {
            utf8_percent_encode(value, SEGMENT).to_string()
        })
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
#[path = "address_tests.rs"]
mod tests;
