//! Describes what a manifest would request, for people who are deciding whether to run it. It reads only the manifest
//! and sends nothing.

use super::load::Manifest;
use super::problem::{Problem, cut};
use super::refused::StreamProblems;
use super::value::Value;
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;

/// What a manifest would do. Templates are shown unevaluated. The config is not read, so this contains no secrets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explained {
    /// The hosts that requests go to, or the templates of their names.
    pub hosts: BTreeSet<String>,
    pub methods: BTreeSet<String>,
    pub authenticators: BTreeSet<String>,
    pub streams: Vec<ExplainedStream>,
    /// Streams that are generated at run time, described by the kind of their resolver and by the request of their template.
    pub dynamic_streams: Vec<ExplainedStream>,
    /// The streams that `check` reads.
    pub checked: Vec<String>,
    /// The config fields that the spec marks as secret.
    pub secrets: Vec<String>,
    /// The streams that the manifest names for its check but that this engine cannot read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_checked: Vec<String>,
    /// The custom classes that the manifest uses, and what this engine does about them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ExplainedClass>,
    /// The features of the manifest that this engine does not run, one line each.
    pub unsupported: Vec<String>,
    pub warnings: Vec<String>,
}

/// A custom class, and what this engine does about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExplainedClass {
    pub class: String,
    /// What happens where the class is used, in one sentence.
    pub effect: String,
    /// Where it is used: file, line and column.
    pub places: BTreeSet<String>,
    /// The streams that use it.
    pub streams: Vec<String>,
}

/// What one stream would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExplainedStream {
    pub name: String,
    pub method: String,
    /// The host and path as the manifest writes them, including templates.
    pub url: String,
    pub auth: String,
    pub pagination: String,
    pub slices: Vec<String>,
    pub cursor: Option<String>,
    /// Where the stream is not read as the CDK reads it, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
    /// The reasons why this engine cannot read the stream, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// Describes a manifest.
#[must_use]
pub fn explain(manifest: &Manifest) -> Explained {
    let root = &manifest.root;
    let mut out = Explained::default();
    for (number, stream) in items(root.get("streams")).iter().enumerate() {
        let at = format!("/streams/{number}");
        let inner =
            if kind(stream) == "ConditionalStreams" { items(stream.get("streams")) } else { std::slice::from_ref(stream) };
        for (inner, stream) in inner.iter().enumerate() {
            let mut explained = stream_of(stream.get("full_refresh_stream").unwrap_or(stream), &mut out);
            let paths = [at.as_str(), &format!("{at}/streams/{inner}")];
            explained.refused = problems(manifest.refused_streams(), &paths);
            explained.differs = problems(manifest.differing_streams(), &paths);
            out.streams.push(explained);
        }
    }
    for (number, dynamic) in items(root.get("dynamic_streams")).iter().enumerate() {
        let mut explained = stream_of(dynamic.get("stream_template").unwrap_or(&Value::None), &mut out);
        let resolver = dynamic.get("components_resolver").unwrap_or(&Value::None);
        explained.name = format!("made by {}", kind(resolver));
        let at = format!("/dynamic_streams/{number}");
        let paths = [at.as_str(), &format!("{at}/stream_template")];
        explained.refused = problems(manifest.refused_streams(), &paths);
        explained.differs = problems(manifest.differing_streams(), &paths);
        out.dynamic_streams.push(explained);
    }
    requests(root, &mut out, 0);
    let checked = manifest.checked_streams();
    (out.checked, out.not_checked) = (checked.streams, checked.left_out);
    out.classes = classes(manifest);
    if let Some(spec) = root.get("spec").and_then(|spec| spec.get("connection_specification")) {
        secrets(spec, "", &mut out.secrets, 0);
    }
    out.unsupported = manifest.unsupported.iter().map(Problem::to_string).collect();
    out.warnings = manifest.warnings.iter().map(Problem::to_string).collect();
    out
}

fn problems(streams: &[StreamProblems], paths: &[&str]) -> Vec<String> {
    let streams = streams.iter().filter(|it| paths.contains(&it.path.as_str()));
    streams.flat_map(|it| it.problems.iter().map(ToString::to_string)).collect()
}

/// Returns each class once for each thing that is done about it.
fn classes(manifest: &Manifest) -> Vec<ExplainedClass> {
    let mut all: IndexMap<(&str, &str), ExplainedClass> = IndexMap::new();
    for found in manifest.classes() {
        let (class, effect) = (found.class.as_str(), found.problem.message.as_str());
        let new = || ExplainedClass { class: class.to_owned(), effect: effect.to_owned(), ..ExplainedClass::default() };
        let explained = all.entry((class, effect)).or_insert_with(new);
        let problem = &found.problem;
        let place = problem.place.map(|at| format!("{}:{}:{}", problem.file, at.line, at.column));
        explained.places.insert(place.unwrap_or_else(|| problem.path.clone()));
        if let Some(stream) = found.stream.as_ref().filter(|name| !explained.streams.contains(name)) {
            explained.streams.push(stream.clone());
        }
    }
    all.into_values().collect()
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_list).unwrap_or_default()
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn text_of(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).map(|text| cut(text, 200)).unwrap_or_default()
}

fn stream_of(stream: &Value, out: &mut Explained) -> ExplainedStream {
    let retriever = stream.get("retriever").unwrap_or(&Value::None);
    let requester = retriever.get("requester").or_else(|| retriever.get("creation_requester")).unwrap_or(&Value::None);
    let (method, url, auth) = request(requester, out);
    let router = retriever.get("partition_router");
    let routers = match router {
        Some(Value::List(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    ExplainedStream {
        name: text_of(stream, "name"),
        method,
        url,
        auth,
        pagination: pagination(retriever.get("paginator").unwrap_or(&Value::None)),
        slices: routers.iter().filter(|router| router.truthy()).map(slice).collect(),
        cursor: stream.get("incremental_sync").filter(|sync| sync.truthy()).map(|sync| text_of(sync, "cursor_field")),
        ..ExplainedStream::default()
    }
}

/// Returns the method, URL and authenticator of a requester, and adds its host to `out`.
fn request(requester: &Value, out: &mut Explained) -> (String, String, String) {
    let method = match text_of(requester, "http_method") {
        empty if empty.is_empty() => "GET".to_owned(),
        method => method.to_uppercase(),
    };
    let base = match text_of(requester, "url_base") {
        empty if empty.is_empty() => text_of(requester, "url"),
        base => base,
    };
    let path = text_of(requester, "path");
    let url = match (base.is_empty(), path.is_empty()) {
        (_, true) => base.clone(),
        (true, false) => path,
        (false, false) => format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/')),
    };
    let auth = match requester.get("authenticator").map(kind) {
        None | Some("") => "NoAuth".to_owned(),
        Some(kind) => kind.to_owned(),
    };
    if !base.is_empty() {
        out.hosts.insert(host(&base));
        out.methods.insert(method.clone());
        out.authenticators.insert(auth.clone());
    }
    (method, url, auth)
}

/// Returns the host of a URL. In a template, that is everything before the path, unevaluated.
fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let mut depth = 0_usize;
    for (at, char) in rest.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '/' | '?' | '#' if depth == 0 => return rest.get(..at).unwrap_or(rest).to_owned(),
            _ => {}
        }
    }
    rest.to_owned()
}

/// Finds all other requests: those of token endpoints, parents, schemas and resolvers.
fn requests(node: &Value, out: &mut Explained, depth: usize) {
    if depth > 200 {
        return;
    }
    match node {
        Value::List(list) => list.iter().for_each(|item| requests(item, out, depth + 1)),
        Value::Dict(dict) => {
            match kind(node) {
                "HttpRequester" => {
                    request(node, out);
                }
                "OAuthAuthenticator" => {
                    let endpoint = text_of(node, "token_refresh_endpoint");
                    if !endpoint.is_empty() {
                        out.hosts.insert(host(&endpoint));
                        out.methods.insert("POST".to_owned());
                    }
                }
                "LegacySessionTokenAuthenticator" => {
                    out.methods.insert("POST".to_owned());
                }
                // Schemas are data and do not contain requests.
                "InlineSchemaLoader" | "object" | "Spec" => return,
                _ => {}
            }
            dict.values().for_each(|value| requests(value, out, depth + 1));
        }
        _ => {}
    }
}

fn pagination(paginator: &Value) -> String {
    match kind(paginator) {
        "" | "NoPagination" => "none".to_owned(),
        _ => paginator.get("pagination_strategy").map(|strategy| kind(strategy).to_owned()).unwrap_or_default(),
    }
}

fn slice(router: &Value) -> String {
    match kind(router) {
        "ListPartitionRouter" => format!("list by {}", text_of(router, "cursor_field")),
        "SubstreamPartitionRouter" => {
            let parents = items(router.get("parent_stream_configs")).iter();
            let names: Vec<String> =
                parents.map(|parent| text_of(parent.get("stream").unwrap_or(&Value::None), "name")).collect();
            format!("records of {}", names.join(", "))
        }
        other => other.to_owned(),
    }
}

fn secrets(schema: &Value, path: &str, out: &mut Vec<String>, depth: usize) {
    if depth > 50 || out.len() > 100 {
        return;
    }
    for (name, field) in schema.get("properties").and_then(Value::as_dict).into_iter().flatten() {
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        if field.get("airbyte_secret").is_some_and(Value::truthy) && !out.contains(&path) {
            out.push(path.clone());
        }
        secrets(field, &path, out, depth + 1);
    }
    for branch in items(schema.get("oneOf")) {
        secrets(branch, path, out, depth + 1);
    }
}

impl Explained {
    /// Formats the description as text for a terminal.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        let list = |items: &BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "hosts:    {}", list(&self.hosts));
        let _ = writeln!(out, "methods:  {}", list(&self.methods));
        let _ = writeln!(out, "auth:     {}", list(&self.authenticators));
        let _ = writeln!(out, "secrets:  {}", self.secrets.join(", "));
        let _ = writeln!(out, "check:    {}", self.checked.join(", "));
        if !self.not_checked.is_empty() {
            let _ = writeln!(out, "          not {}, which cannot be read here", self.not_checked.join(", "));
        }
        let _ = writeln!(out, "streams:  {}", self.streams.len());
        for stream in self.streams.iter().chain(&self.dynamic_streams) {
            let _ = writeln!(out, "  {}", stream.name);
            let _ = writeln!(out, "    {} {}  ({}; pages: {})", stream.method, stream.url, stream.auth, stream.pagination);
            for slice in &stream.slices {
                let _ = writeln!(out, "    for each: {slice}");
            }
            if let Some(cursor) = &stream.cursor {
                let _ = writeln!(out, "    since: {cursor}");
            }
            for line in &stream.differs {
                let _ = writeln!(out, "    {line}");
            }
            for reason in &stream.refused {
                let _ = writeln!(out, "    cannot be read: {reason}");
            }
        }
        if !self.classes.is_empty() {
            let _ = writeln!(out, "classes:  {}", self.classes.len());
        }
        for class in &self.classes {
            let _ = writeln!(out, "  {}", class.class);
            let _ = writeln!(out, "    {}", class.effect);
            let _ = writeln!(out, "    at: {}", list(&class.places));
            let streams = if class.streams.is_empty() { "outside of streams".to_owned() } else { class.streams.join(", ") };
            let _ = writeln!(out, "    streams: {streams}");
        }
        for (title, lines) in [("not supported", &self.unsupported), ("warnings", &self.warnings)] {
            if !lines.is_empty() {
                let _ = writeln!(out, "{title}:");
                for line in lines {
                    let _ = writeln!(out, "  {line}");
                }
            }
        }
        out
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
