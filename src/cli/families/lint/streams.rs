//! What the streams of a manifest may not leave open: how much one response has, and what its records look like.

use crate::connectors::lowcode::calls;
use crate::model::{PostRule, Problem};
use ::lowcode::load::Manifest;
use serde_json::Value;

/// Parts of the names of parameters that limit a page, without separators and in lower case.
const LIMIT_NAMES: [&str; 12] =
    ["limit", "perpage", "pagesize", "maxresults", "maxitems", "maxrecords", "top", "first", "count", "size", "take", "rows"];

/// The manifest as JSON, after its references were resolved.
fn root(manifest: &Manifest) -> Value {
    serde_json::to_value(&manifest.root).unwrap_or_default()
}

/// Which streams are checked, by their names.
pub struct CheckedStreams<'a> {
    pub is_data: &'a dyn Fn(&str) -> bool,
    /// Whether another response describes the stream, so that its own schema may be empty.
    pub is_described: &'a dyn Fn(&str) -> bool,
}

/// The findings of the `checked` streams. `prefix` is the pointer of the manifest in the file, and `written` is the manifest
/// before it was loaded, because loading empties its metadata.
pub fn findings(manifest: &Manifest, (prefix, written): (&str, &Value), checked: &CheckedStreams<'_>) -> Vec<Problem> {
    let root = root(manifest);
    let single = written.pointer("/metadata/aam/single").and_then(Value::as_array);
    let single: Vec<&str> = single.into_iter().flatten().filter_map(Value::as_str).collect();
    // The streams whose vendor cannot limit a response, with the reason.
    let whole = written.pointer("/metadata/aam/unbounded").and_then(Value::as_object);
    let is_whole = |name: &str| whole.and_then(|whole| whole.get(name)?.as_str()).is_some_and(|why| !why.trim().is_empty());
    let streams = root["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found = Vec::new();
    for name in single.iter().filter(|name| !streams.iter().any(|stream| stream["name"] == **name)) {
        let problem = Problem::new(format!("{prefix}/metadata/aam/single"), format!("the stream {name} was not found"));
        found.push(problem.hint("remove it, or correct the name"));
    }
    for (index, stream) in streams.iter().enumerate() {
        let (at, name) = (format!("{prefix}/streams/{index}"), stream["name"].as_str().unwrap_or_default());
        if !(checked.is_data)(name) {
            continue;
        }
        if !single.contains(&name) && !is_whole(name) {
            found.extend(unbounded(stream, &at, name));
        }
        if !(checked.is_described)(name) {
            found.extend(schemaless(stream, &at, name));
        }
    }
    found
}

/// The most records of a page that a family may ask for. AAM reads 20 of them.
const MAX_PAGE_SIZE: u64 = 100;

/// The data streams whose pages are much larger than what AAM reads of them.
pub fn large_pages(manifest: &Manifest, prefix: &str, is_data: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let root = root(manifest);
    let mut found = Vec::new();
    for (index, stream) in root["streams"].as_array().into_iter().flatten().enumerate() {
        let name = stream["name"].as_str().unwrap_or_default();
        let retriever = &stream["retriever"];
        let written = &retriever["paginator"]["pagination_strategy"]["page_size"];
        let parameters = retriever["requester"]["request_parameters"].as_object().into_iter().flatten();
        let in_request = parameters.filter(|(key, _)| is_limit(key)).map(|(_, value)| value);
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        let largest = std::iter::once(written).chain(in_request).filter_map(number).max().unwrap_or_default();
        if is_data(name) && largest > MAX_PAGE_SIZE {
            let message = format!("a page of {name} has up to {largest} records, of which AAM reads 20");
            found.push(Problem::new(format!("{prefix}/streams/{index}"), message).hint("write page_size: 20"));
        }
    }
    found
}

/// Returns the stream and the field that are most likely to name the account of a manifest: the first field whose name is
/// that of a key of the config, as `portalId` is that of `portal_id`, otherwise a field whose name ends with `id`.
pub fn identity_of(manifest: &Manifest) -> (String, String) {
    let root = root(manifest);
    let bare = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>();
    let properties = root.pointer("/spec/connection_specification/properties").and_then(Value::as_object);
    let keys: Vec<String> = properties.into_iter().flatten().map(|(key, _)| bare(key)).collect();
    let streams = root["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fields = |stream: &Value| -> Vec<String> {
        let properties = stream.pointer("/schema_loader/schema/properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let named = |stream: &Value| Some((name_of(stream), fields(stream).into_iter().find(|name| keys.contains(&bare(name)))?));
    let first = || {
        let stream = streams.first()?;
        let ends = |name: &String| bare(name).ends_with("id");
        Some((name_of(stream), fields(stream).into_iter().find(ends).unwrap_or_else(|| "id".to_string())))
    };
    streams.iter().find_map(named).or_else(first).unwrap_or_else(|| ("STREAM".to_string(), "id".to_string()))
}

fn name_of(stream: &Value) -> String {
    stream["name"].as_str().unwrap_or("STREAM").to_string()
}

fn unbounded(stream: &Value, at: &str, name: &str) -> Option<Problem> {
    let retriever = &stream["retriever"];
    if retriever["type"] != "SimpleRetriever" || limits(&retriever["requester"]) {
        return None;
    }
    let single = format!("if it is always one record, list it in the manifest: metadata: {{aam: {{single: [{name}]}}}}");
    let paginator = &retriever["paginator"];
    if paginator["type"] == "DefaultPaginator" {
        let strategy = &paginator["pagination_strategy"];
        let sized = strategy["page_size"].is_number() || strategy["page_size"].is_string();
        let sent = paginator["page_size_option"].is_object();
        return (!sized || !sent).then(|| {
            Problem::new(at, format!("the pages of {name} have the size that the source chooses"))
                .hint("write page_size: 20 into its pagination_strategy, and page_size_option with the name of the parameter")
        });
    }
    let hint = format!("add a paginator with a page_size, or a request parameter that limits the response; {single}");
    Some(Problem::new(at, format!("a response of {name} may have any number of records")).hint(hint))
}

/// Returns true if the request has a parameter that limits the response.
fn limits(requester: &Value) -> bool {
    let keys = |value: &Value| value.as_object().is_some_and(|keys| keys.keys().any(|key| is_limit(key)));
    let says = |value: &Value| value.to_string().to_ascii_lowercase().contains("limit");
    let query = requester["path"].as_str().and_then(|path| path.split_once('?')).map(|(_, query)| query.to_string());
    keys(&requester["request_parameters"])
        || ["request_body_json", "request_body_data", "request_body"]
            .iter()
            .any(|key| keys(&requester[*key]) || says(&requester[*key]))
        || query.is_some_and(|query| is_limit(&query))
}

/// Returns true if the parameter `key` limits a response.
fn is_limit(key: &str) -> bool {
    let bare: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    LIMIT_NAMES.iter().any(|name| bare.contains(name))
}

fn schemaless(stream: &Value, at: &str, name: &str) -> Option<Problem> {
    let loader = &stream["schema_loader"];
    let empty = match loader["type"].as_str() {
        None => true,
        Some("InlineSchemaLoader") => {
            let schema = &loader["schema"];
            schema["properties"].as_object().is_none_or(serde_json::Map::is_empty)
        }
        Some(_) => false,
    };
    empty.then(|| {
        Problem::new(format!("{at}/schema_loader"), format!("the schema of {name} is empty"))
            .hint("write the fields that the source documents into an InlineSchemaLoader, or use a DynamicSchemaLoader")
    })
}

/// The POSTs of a custom source that the policy does not list.
pub fn custom_posts(manifest: &Manifest, name: &str, rules: &[PostRule]) -> Vec<Problem> {
    let mut found = Vec::new();
    requesters(&root(manifest), "", &mut |requester, at| {
        let text = |key: &str| requester[key].as_str().unwrap_or_default();
        if !text("http_method").eq_ignore_ascii_case("post") {
            return;
        }
        let (base, path) = (format!("{}{}", text("url"), text("url_base")), text("path"));
        let url = if path.is_empty() { base } else { format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/')) };
        let call = calls::planned("POST", &url);
        if rules.iter().any(|rule| call.is_some() && calls::planned("POST", &rule.url) == call && !rule.why.trim().is_empty()) {
            return;
        }
        found.push(Problem::new(at, format!("the POST to {url} has no reason why it only reads")).hint(format!(
            "use GET; or list it in the policy: manifests: {{sources: {{{name}: {{posts: [{{url: \"{url}\", why: \"REASON\", body: none}}]}}}}}}"
        )));
    });
    found
}

/// Calls `visit` with each HTTP requester of a resolved manifest and its pointer. Definitions are left out, because the
/// streams that use them have copies.
pub fn requesters(value: &Value, pointer: &str, visit: &mut dyn FnMut(&Value, &str)) {
    match value {
        Value::Object(keys) => {
            if keys.get("type").is_some_and(|kind| kind == "HttpRequester") {
                visit(value, pointer);
            }
            for (key, child) in keys.iter().filter(|(key, _)| !pointer.is_empty() || *key != "definitions") {
                requesters(child, &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), visit);
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                requesters(child, &format!("{pointer}/{index}"), visit);
            }
        }
        _ => {}
    }
}
