//! Resolves `$ref`. Local references are JSON pointers. Remote references are followed only on the same origin, over a limited
//! number of documents.

use super::address::{host_of, same_origin};
use super::side_effects;
use crate::credentials::redact;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use url::Url;

/// Limit on the documents of one description, including the description itself.
pub const MAX_DOCUMENTS: usize = 16;
/// Limit on the length of a chain of `$ref`s. A longer chain is treated as a cycle.
const MAX_HOPS: usize = 16;
/// Limit on the values that [`DocumentSet::missing`] visits. Real descriptions have fewer.
const MAX_VISITS: usize = 2_000_000;

/// A value and the document that contains it. The `$ref`s of the value are relative to this document.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub document: usize,
    pub value: &'a Value,
}

impl<'a> Node<'a> {
    /// A field of this value, in the same document.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Node<'a>> {
        self.value.get(name).map(|value| Node { document: self.document, value })
    }

    /// The items, in the same document. Empty if the value is not an array.
    pub fn items(self) -> impl Iterator<Item = Node<'a>> {
        self.value.as_array().into_iter().flatten().map(move |value| Node { document: self.document, value })
    }

    /// The fields, in the same document. Empty if the value is not an object.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let document = self.document;
        self.value.as_object().into_iter().flatten().map(move |(name, value)| (name.as_str(), Node { document, value }))
    }

    /// The text of a field.
    #[must_use]
    pub fn text(self, name: &str) -> Option<&'a str> {
        self.value.get(name).and_then(Value::as_str)
    }

    /// The address in memory. It identifies the value as long as the document set is alive.
    #[must_use]
    pub fn identity(self) -> usize {
        std::ptr::from_ref(self.value) as usize
    }
}

/// The description and the documents that it refers to.
#[derive(Debug)]
pub struct DocumentSet {
    home: Url,
    documents: Vec<(Url, Value)>,
    index: BTreeMap<String, usize>,
    /// Documents that could not be loaded, with the reason.
    refused: BTreeMap<String, String>,
}

impl DocumentSet {
    /// Creates a set that contains only the description.
    #[must_use]
    pub fn new(url: Url, root: Value) -> DocumentSet {
        let mut set = DocumentSet { home: url.clone(), documents: Vec::new(), index: BTreeMap::new(), refused: BTreeMap::new() };
        set.add(url, root);
        set
    }

    /// Adds a document under the URL with which it was requested.
    pub fn add(&mut self, mut url: Url, value: Value) {
        url.set_fragment(None);
        self.index.insert(url.to_string(), self.documents.len());
        self.documents.push((url, value));
    }

    /// Records why a document could not be loaded.
    pub fn refuse(&mut self, mut url: Url, reason: impl Into<String>) {
        url.set_fragment(None);
        self.refused.insert(url.to_string(), reason.into());
    }

    /// Drops what is not needed once the operations have been read: everything but the top level of the description and
    /// its security schemes. Nothing is dropped if a security scheme refers to another place.
    pub fn keep_security(&mut self) {
        const SCHEMES: &str = "securitySchemes";
        let Some((_, Value::Object(root))) = self.documents.first_mut() else { return };
        let components = root.get_mut("components").and_then(Value::as_object_mut);
        let elsewhere = |scheme: &Value| scheme.get("$ref").and_then(Value::as_str).is_some_and(|text| !text.contains(SCHEMES));
        let schemes = components.as_ref().and_then(|components| components.get(SCHEMES)).and_then(Value::as_object);
        if schemes.is_some_and(|schemes| schemes.values().any(|scheme| elsewhere(scheme) || is_remote(scheme))) {
            return;
        }
        if let Some(components) = components {
            components.retain(|name, _| name == SCHEMES);
        }
        root.remove("paths");
        self.documents.iter_mut().skip(1).for_each(|(_, value)| *value = Value::Null);
    }

    /// The URL of the description.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.home
    }

    /// The number of loaded documents.
    #[must_use]
    pub fn count(&self) -> usize {
        self.documents.len()
    }

    /// The description itself.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        static NOTHING: Value = Value::Null;
        Node { document: 0, value: self.documents.first().map_or(&NOTHING, |(_, value)| value) }
    }

    /// Returns the target of the `$ref`s of `node`, or `node` itself if it has none.
    ///
    /// # Errors
    /// The reason why the reference cannot be resolved.
    pub fn follow<'a>(&'a self, node: Node<'a>) -> Result<Node<'a>, String> {
        let mut at = node;
        for _ in 0..MAX_HOPS {
            match at.text("$ref") {
                None => return Ok(at),
                Some(text) => at = self.resolve(at.document, text)?,
            }
        }
        Err("a $ref leads back to itself".into())
    }

    fn resolve(&self, document: usize, text: &str) -> Result<Node<'_>, String> {
        let short = || redact::scrub_and_cut(text, 120);
        let (document, fragment) = match text.strip_prefix('#') {
            Some(fragment) => (document, fragment),
            None if is_bare_name(text) => {
                if let Some(schema) = self.schema_named(text) {
                    return Ok(schema);
                }
                return Err(format!("the $ref {} is neither a JSON pointer nor the name of a schema", short()));
            }
            None => {
                let target = self.target(document, text)?;
                let mut key = target.clone();
                key.set_fragment(None);
                let key = key.to_string();
                let Some(found) = self.index.get(&key) else {
                    return Err(self
                        .refused
                        .get(&key)
                        .cloned()
                        .unwrap_or_else(|| format!("the document of $ref {} was not read", short())));
                };
                (*found, text.split_once('#').map_or("", |(_, fragment)| fragment))
            }
        };
        let pointer = percent_decode_str(fragment).decode_utf8().map_err(|_| format!("$ref {} is not UTF-8", short()))?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(format!("$ref {} is an anchor, but only JSON pointers are supported", short()));
        }
        let (_, root) = self.documents.get(document).ok_or("the document is not loaded")?;
        let value = resolve_pointer(root, &pointer).ok_or_else(|| format!("the target of $ref {} does not exist", short()))?;
        Ok(Node { document, value })
    }

    /// The schema of this name in the description. A bare name in a `$ref` is not valid in OpenAPI 3, but tools write it.
    fn schema_named(&self, name: &str) -> Option<Node<'_>> {
        self.root().get("components")?.get("schemas")?.get(name)
    }

    /// The absolute URL of a remote reference, if AAM is allowed to read it.
    fn target(&self, document: usize, text: &str) -> Result<Url, String> {
        let (base, _) = self.documents.get(document).ok_or("the document is not loaded")?;
        let target = base.join(text).map_err(|_| "a $ref is not a URL".to_string())?;
        let (home, _) = self.documents.first().ok_or("the document is not loaded")?;
        if !same_origin(&target, home) {
            return Err(format!(
                "a $ref leads to {}, but only documents of {} are read",
                if host_of(&target).is_empty() { target.scheme().to_string() } else { host_of(&target) },
                host_of(home)
            ));
        }
        if !target.username().is_empty() || target.password().is_some() {
            return Err("a $ref contains a user name".into());
        }
        // A reference is a request like any other: the description could name an operation of the service as a document.
        let is_file = [".json", ".yaml", ".yml"].iter().any(|end| target.path().to_ascii_lowercase().ends_with(end));
        let action = if is_file { side_effects::query_action(&target) } else { side_effects::redirect_action(&target, home) };
        if let Some(name) = action {
            return Err(format!("a $ref leads to {}, which is not read because of its name ({name})", target.path()));
        }
        Ok(target)
    }

    /// The documents on the same origin that the GET operations reference and that are not loaded yet.
    ///
    /// Every value is visited once, so the cost grows with the size of the description.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<Url> {
        let mut found = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut todo: Vec<Node<'_>> = self.get_operations();
        while let Some(node) = todo.pop() {
            if seen.len() >= MAX_VISITS {
                break;
            }
            if !(node.value.is_object() || node.value.is_array()) || !seen.insert(node.identity()) {
                continue;
            }
            if let Some(text) = node.text("$ref") {
                match self.resolve(node.document, text) {
                    Ok(next) => todo.push(next),
                    Err(_) => found.extend(self.wanted(node.document, text)),
                }
            }
            todo.extend(node.items());
            todo.extend(node.fields().filter(|(name, _)| !matches!(*name, "example" | "examples")).map(|(_, value)| value));
        }
        found
    }

    /// The document that a `$ref` needs, if AAM is allowed to request it and has not tried yet.
    fn wanted(&self, document: usize, text: &str) -> Option<Url> {
        if text.starts_with('#') || is_bare_name(text) {
            return None;
        }
        let mut url = self.target(document, text).ok()?;
        url.set_fragment(None);
        let key = url.to_string();
        (!self.index.contains_key(&key) && !self.refused.contains_key(&key)).then_some(url)
    }

    fn get_operations(&self) -> Vec<Node<'_>> {
        let Some(paths) = self.root().get("paths") else {
            return Vec::new();
        };
        let mut nodes = Vec::new();
        for (_, item) in paths.fields() {
            nodes.extend(item.get("get"));
            nodes.extend(item.get("parameters"));
            if item.value.get("$ref").is_some() {
                match self.follow(item) {
                    Ok(item) => nodes.extend(item.get("get").into_iter().chain(item.get("parameters"))),
                    Err(_) => nodes.push(item),
                }
            }
        }
        nodes
    }
}

/// Whether the value refers to another document.
fn is_remote(value: &Value) -> bool {
    value.get("$ref").and_then(Value::as_str).is_some_and(|text| !text.starts_with('#'))
}

/// Whether a `$ref` is a name alone, without a path, an extension or a fragment: `Pet`.
fn is_bare_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '))
}

/// The value at a JSON pointer (RFC 6901). A description can have tens of thousands of pointers, and hardly any needs
/// unescaping, so a copy is made only if one does.
fn resolve_pointer<'a>(root: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(root, |value, token| {
        let token =
            if token.contains('~') { Cow::Owned(token.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(token) };
        match value {
            Value::Object(map) => map.get(token.as_ref()),
            Value::Array(list) => list.get(token.parse::<usize>().ok()?),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn documents(root: Value) -> DocumentSet {
        DocumentSet::new(Url::parse("https://a.example/v1/openapi.json").unwrap(), root)
    }

    fn follow(documents: &DocumentSet, reference: &str) -> Result<Value, String> {
        let node = json!({"$ref": reference});
        documents.follow(Node { document: 0, value: &node }).map(|found| found.value.clone())
    }

    #[test]
    fn pointers_are_unescaped() {
        let documents = documents(json!({"paths": {"/a/{id}": {"x~y": 1}}, "with space": 2}));
        assert_eq!(follow(&documents, "#/paths/~1a~1{id}/x~0y"), Ok(json!(1)));
        assert_eq!(follow(&documents, "#/paths/~1a~1%7Bid%7D/x~0y"), Ok(json!(1)));
        assert_eq!(follow(&documents, "#/with%20space"), Ok(json!(2)));
        assert!(follow(&documents, "#/nowhere").unwrap_err().contains("does not exist"));
        assert!(follow(&documents, "#anchor").unwrap_err().contains("anchor"));
    }

    #[test]
    fn only_the_security_schemes_stay_once_the_operations_are_read() {
        let root = |scheme: Value| json!({"security": [], "paths": {"/a": {}}, "components": {"schemas": {"S": {}}, "securitySchemes": {"k": scheme}}});
        let mut plain = documents(root(json!({"type": "http"})));
        plain.keep_security();
        assert_eq!(plain.root().value, &json!({"security": [], "components": {"securitySchemes": {"k": {"type": "http"}}}}));
        for reference in ["#/components/x-more/k", "other.json#/components/securitySchemes/k"] {
            let mut whole = documents(root(json!({"$ref": reference})));
            whole.keep_security();
            assert_eq!(whole.root().value, &root(json!({"$ref": reference})));
        }
    }

    #[test]
    fn reference_cycles_end() {
        let documents = documents(json!({"a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}));
        assert!(follow(&documents, "#/a").unwrap_err().contains("back to itself"));
    }

    #[test]
    fn a_bare_name_is_a_schema_and_never_a_request() {
        let documents = documents(json!({
            "paths": {"/a": {"get": {"x": [{"$ref": "Pet"}, {"$ref": "Gone"}, {"$ref": "/auth/logout"}]}}},
            "components": {"schemas": {"Pet": {"type": "array"}}}
        }));
        assert_eq!(follow(&documents, "Pet"), Ok(json!({"type": "array"})));
        assert!(follow(&documents, "Gone").unwrap_err().contains("nor the name of a schema"));
        assert!(follow(&documents, "/auth/logout").unwrap_err().contains("not read because of its name"));
        assert!(documents.missing().is_empty());
    }

    #[test]
    fn only_the_same_origin_is_requested() {
        let mut documents = documents(json!({"paths": {"/a": {"get": {"x": [
            {"$ref": "common.yaml#/S"},
            {"$ref": "/v2/more.json"},
            {"$ref": "https://b.example/evil.json"},
            {"$ref": "http://a.example/plain.json"},
            {"$ref": "file:///etc/passwd"}
        ]}, "post": {"$ref": "never.json"}}}}));
        let wanted: Vec<String> = documents.missing().iter().map(Url::to_string).collect();
        assert_eq!(wanted, ["https://a.example/v1/common.yaml", "https://a.example/v2/more.json"]);
        assert!(follow(&documents, "https://b.example/evil.json#/S").unwrap_err().contains("b.example"));
        documents.add(Url::parse("https://a.example/v1/common.yaml").unwrap(), json!({"S": {"$ref": "deep/er.json#/T"}}));
        documents.refuse(Url::parse("https://a.example/v2/more.json").unwrap(), "HTTP 404");
        let wanted: Vec<String> = documents.missing().iter().map(Url::to_string).collect();
        assert_eq!(wanted, ["https://a.example/v1/deep/er.json"]);
        assert_eq!(follow(&documents, "/v2/more.json").unwrap_err(), "HTTP 404");
    }
}
