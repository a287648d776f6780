//! The section `manifests`: a folder with Airbyte low-code manifests of custom sources, and what each source may do.

use super::diff::{Changes, Effect, Parts};
use super::read::{Fields, Reader, Spot};
use super::yaml::{Node, NodeKind};
use crate::model::{BodyRule, PostRule};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The section `manifests`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Manifests {
    /// The folder, relative to the working directory. `NAME.yaml` in it defines the source type `NAME`.
    pub dir: Option<PathBuf>,
    pub sources: BTreeMap<String, SourcePolicy>,
}

/// What one custom source may do beyond GET calls to the hosts of its manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SourcePolicy {
    /// The only origins that it may call (`https://host`). If empty, the origins that its manifest names.
    pub hosts: Vec<String>,
    /// The key of its config that is set to the resource id.
    pub resource: Option<String>,
    pub identity: Option<IdentityPolicy>,
    pub posts: Vec<PostRule>,
}

/// The call that proves that the credential belongs to the resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdentityPolicy {
    /// A stream of the manifest, of which the first record is used.
    pub stream: String,
    /// The JSON pointer of the field that must equal the resource id. Case is ignored.
    pub field: String,
}

impl Manifests {
    /// The settings of the source `name`, or defaults if the policy has none.
    #[must_use]
    pub fn source(&self, name: &str) -> SourcePolicy {
        self.sources.get(name).cloned().unwrap_or_default()
    }
}

pub(super) fn manifests(r: &mut Reader, spot: &Spot<'_>) -> Option<Manifests> {
    let fields = r.fields(spot, &["dir", "sources"])?;
    let folder = |r: &mut Reader, spot: &Spot<'_>| r.text(spot, "the path of a folder").map(PathBuf::from);
    let dir = r.optional(&fields, "dir", folder);
    let mut sources = BTreeMap::new();
    if let Some(spot) = fields.get("sources") {
        for (name, spot) in named(r, &spot) {
            if let Some(source) = source(r, &spot) {
                sources.insert(name, source);
            }
        }
        if dir.is_none() && !sources.is_empty() {
            r.report(
                &spot,
                "sources are declared, but the folder of their manifests is missing",
                "write dir: policy/manifests, the folder that contains NAME.yaml",
            );
        }
    }
    Some(Manifests { dir, sources })
}

/// The entries whose keys are valid source names and not built-in families.
fn named<'a>(r: &mut Reader, spot: &Spot<'a>) -> Vec<(String, Spot<'a>)> {
    let mut entries = Vec::new();
    for (name, spot) in r.entries(spot, "a mapping of sources") {
        if crate::families::exists(name) {
            r.report(&spot, format!("{name} is a built-in family"), "give the manifest another name");
        } else if !crate::families::is_source_name(name) {
            let hint =
                "use a lower-case letter, then lower-case letters, digits and _, at most 63 characters; the file is NAME.yaml";
            r.report(&spot, "invalid source name", hint);
        } else {
            entries.push((name.to_string(), spot));
        }
    }
    entries
}

fn source(r: &mut Reader, spot: &Spot<'_>) -> Option<SourcePolicy> {
    let fields = r.fields(spot, &["hosts", "resource", "identity", "posts"])?;
    let key = |r: &mut Reader, spot: &Spot<'_>| r.text(spot, "a key of the config").map(str::to_string);
    Some(SourcePolicy {
        hosts: r.field(&fields, "hosts", Vec::new(), |r, spot| r.unique(spot, "hosts", origin)),
        resource: r.optional(&fields, "resource", key),
        identity: r.optional(&fields, "identity", identity),
        posts: r.field(&fields, "posts", Vec::new(), posts),
    })
}

/// Reads a host, which becomes `https://host`, or an origin.
pub(super) fn origin(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "a host")?;
    let full = if text.contains("://") { text.to_string() } else { format!("https://{text}") };
    let plain = url::Url::parse(&full).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && !text.contains('*')
    });
    let Some(url) = plain else {
        r.report(spot, "invalid host", "write api.acme.example, or http://api.acme.example:8080; no path and no *");
        return None;
    };
    Some(url.origin().ascii_serialization())
}

fn identity(r: &mut Reader, spot: &Spot<'_>) -> Option<IdentityPolicy> {
    let fields = r.fields(spot, &["stream", "field"])?;
    let text = |r: &mut Reader, fields: &Fields<'_>, name: &str, what: &str| {
        let spot = r.required(fields, name, &format!("name {what}"))?;
        r.text(&spot, what).map(str::to_string)
    };
    let stream = text(r, &fields, "stream", "a stream of the manifest");
    let field = text(r, &fields, "field", "a JSON pointer, for example /login");
    if let (Some(field), Some(spot)) = (&field, fields.get("field"))
        && !field.starts_with('/')
    {
        r.report(&spot, "a JSON pointer must begin with /", format!("write /{field}"));
    }
    Some(IdentityPolicy { stream: stream?, field: field? })
}

pub(super) fn posts(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<PostRule>> {
    let mut rules = Vec::new();
    for item in r.list(spot, "POSTs that only read")? {
        const HINT: &str = "write {url, why, query, headers, body: none | {form: {...}} | {json: {...}}, idempotent}; the value of a key is any, {is: VALUE} or {one_of: [...]}";
        let rule = serde_json::from_value::<PostRule>(value(item.node, 0)).map_err(|error| error.to_string());
        match rule.and_then(validate) {
            Ok(rule) => rules.push(rule),
            Err(reason) => r.report(&item, format!("invalid POST rule: {reason}"), HINT),
        }
    }
    Some(rules)
}

fn validate(rule: PostRule) -> Result<PostRule, String> {
    let url = url::Url::parse(&rule.url).map_err(|error| format!("url: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err("url must be an http or https URL without a query".to_string());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url contains a user name or a password".to_string());
    }
    if rule.url.contains(['*', '{']) {
        return Err("url must be exact, without * and {part}".to_string());
    }
    if rule.why.trim().is_empty() {
        return Err("why is empty; explain why the call changes nothing".to_string());
    }
    match &rule.body {
        BodyRule::None | BodyRule::Null | BodyRule::Form(_) | BodyRule::Json(_) => Ok(rule),
    }
}

/// Converts a node to JSON. Depth and size are limited, because the policy's parser limits them.
pub(super) fn value(node: &Node, depth: usize) -> Value {
    match &node.kind {
        _ if node.is_null() || depth > 32 => Value::Null,
        NodeKind::Scalar { text, plain: false } => Value::String(text.clone()),
        NodeKind::Scalar { text, plain: true } => serde_json::from_str(text)
            .ok()
            .filter(|value: &Value| value.is_number() || value.is_boolean())
            .unwrap_or(Value::String(text.clone())),
        NodeKind::List(items) => Value::Array(items.iter().map(|item| value(item, depth + 1)).collect()),
        NodeKind::Map(pairs) => {
            Value::Object(pairs.iter().map(|(key, item)| (key.text.clone(), value(item, depth + 1))).collect())
        }
        NodeKind::Broken => Value::Null,
    }
}

/// The changes in what custom sources are allowed to do.
pub(super) fn diff(was: &Manifests, is: &Manifests, out: &mut Changes) {
    if was.dir != is.dir {
        let name = |dir: &Option<PathBuf>| dir.as_ref().map_or("(not set)".to_string(), |dir| dir.display().to_string());
        let text = format!("manifests.dir changes from {} to {}", name(&was.dir), name(&is.dir));
        out.add("manifests.dir", Effect::wider_if(is.dir.is_some()), text);
    }
    let names: BTreeSet<&String> = was.sources.keys().chain(is.sources.keys()).collect();
    for name in names {
        let parts = changed(&was.source(name), &is.source(name));
        out.add_parts(&format!("manifests.sources.{name}"), name, &parts, "; ", None);
    }
}

fn changed(before: &SourcePolicy, after: &SourcePolicy) -> Parts {
    let mut parts = Parts::default();
    let hosts = |source: &SourcePolicy| match source.hosts.is_empty() {
        true => "the hosts of its manifest".to_string(),
        false => source.hosts.join(", "),
    };
    if before.hosts != after.hosts {
        // Without a list, the manifest chooses the hosts.
        let more = after.hosts.iter().any(|host| !before.hosts.contains(host)) && !before.hosts.is_empty();
        let text = format!("it may call {} instead of {}", hosts(after), hosts(before));
        parts.add(Effect::wider_if(more || after.hosts.is_empty()), text);
    }
    let post = |rule: &PostRule| format!("POST {} ({})", rule.url, rule.body.as_str());
    for rule in after.posts.iter().filter(|rule| !before.posts.contains(rule)) {
        parts.add(Effect::Wider, format!("{} is now allowed, because it only reads: {}", post(rule), rule.why));
    }
    for rule in before.posts.iter().filter(|rule| !after.posts.contains(rule)) {
        parts.add(Effect::Narrower, format!("{} is not allowed any more", post(rule)));
    }
    if before.identity != after.identity {
        let (effect, text) = match &after.identity {
            Some(identity) => (
                Effect::wider_if(before.identity.is_some()),
                format!("{} of the stream {} must be the resource id", identity.field, identity.stream),
            ),
            None => (Effect::Wider, "its identity is not verified any more".to_string()),
        };
        parts.add(effect, text);
    }
    if before.resource != after.resource {
        let key = after.resource.as_deref().unwrap_or("the fields that its config needs");
        parts.add(Effect::Neutral, format!("its resource id fills {key}"));
    }
    parts
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
