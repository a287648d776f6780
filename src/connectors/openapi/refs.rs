//! `$ref`: local by JSON pointer, remote on the same origin only, a bounded number of documents.

use super::address::{host_of, same_origin};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use url::Url;

/// Documents of one description, the first included.
pub const MAX_DOCUMENTS: usize = 16;
/// `$ref`s that may lead to one another before it is called a circle.
const MAX_HOPS: usize = 16;
/// Values that [`Library::missing`] visits; a description has fewer.
const MAX_VISITS: usize = 2_000_000;

/// A value and the document it stands in, which its own `$ref`s are relative to.
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

    /// The items, in the same document; empty for what is no array.
    pub fn items(self) -> impl Iterator<Item = Node<'a>> {
        self.value.as_array().into_iter().flatten().map(move |value| Node { document: self.document, value })
    }

    /// The fields, in the same document; empty for what is no object.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let document = self.document;
        self.value.as_object().into_iter().flatten().map(move |(name, value)| (name.as_str(), Node { document, value }))
    }

    /// The text of a field.
    #[must_use]
    pub fn text(self, name: &str) -> Option<&'a str> {
        self.value.get(name).and_then(Value::as_str)
    }

    /// The place in memory, which names the value as long as its library lives.
    #[must_use]
    pub fn identity(self) -> usize {
        std::ptr::from_ref(self.value) as usize
    }
}

/// The description and the documents that it refers to.
#[derive(Debug)]
pub struct Library {
    documents: Vec<(Url, Value)>,
    index: BTreeMap<String, usize>,
    /// Documents that could not be had, and why.
    refused: BTreeMap<String, String>,
}

impl Library {
    /// A library of one description.
    #[must_use]
    pub fn new(url: Url, root: Value) -> Library {
        let mut library = Library { documents: Vec::new(), index: BTreeMap::new(), refused: BTreeMap::new() };
        library.add(url, root);
        library
    }

    /// Adds a document under the URL by which it was asked for.
    pub fn add(&mut self, mut url: Url, value: Value) {
        url.set_fragment(None);
        self.index.insert(url.to_string(), self.documents.len());
        self.documents.push((url, value));
    }

    /// Remembers why a document cannot be had.
    pub fn refuse(&mut self, mut url: Url, reason: impl Into<String>) {
        url.set_fragment(None);
        self.refused.insert(url.to_string(), reason.into());
    }

    /// How many documents there are.
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

    /// What `node` stands for: itself, or what its `$ref`s lead to.
    ///
    /// # Errors
    /// Why the reference leads nowhere, in words.
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
        let short = || text.chars().take(120).collect::<String>();
        let (document, fragment) = match text.strip_prefix('#') {
            Some(fragment) => (document, fragment),
            None => {
                let target = self.target(document, text)?;
                let mut key = target.clone();
                key.set_fragment(None);
                let key = key.to_string();
                let Some(found) = self.index.get(&key) else {
                    return Err(self.refused.get(&key).cloned().unwrap_or_else(|| format!("$ref {} was not read", short())));
                };
                (*found, text.split_once('#').map_or("", |(_, fragment)| fragment))
            }
        };
        let pointer = percent_decode_str(fragment).decode_utf8().map_err(|_| format!("$ref {} is no UTF-8", short()))?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(format!("$ref {} names an anchor; only JSON pointers are followed", short()));
        }
        let (_, root) = self.documents.get(document).ok_or("the document is gone")?;
        let value = walk(root, &pointer).ok_or_else(|| format!("$ref {} leads to nothing", short()))?;
        Ok(Node { document, value })
    }

    /// The absolute URL of a remote reference, if it may be read at all.
    fn target(&self, document: usize, text: &str) -> Result<Url, String> {
        let (base, _) = self.documents.get(document).ok_or("the document is gone")?;
        let target = base.join(text).map_err(|_| "a $ref is no URL".to_string())?;
        let (home, _) = self.documents.first().ok_or("the document is gone")?;
        if !same_origin(&target, home) {
            return Err(format!(
                "a $ref leads to {}, and only documents of {} itself are read",
                if host_of(&target).is_empty() { target.scheme().to_string() } else { host_of(&target) },
                host_of(home)
            ));
        }
        if !target.username().is_empty() || target.password().is_some() {
            return Err("a $ref holds a user name".into());
        }
        Ok(target)
    }

    /// The documents of the same origin that the GET operations refer to and that are not here yet.
    ///
    /// Every value is visited once, so the cost is that of the description's size.
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

    /// The document that a `$ref` needs, if it may be asked for and was not asked for yet.
    fn wanted(&self, document: usize, text: &str) -> Option<Url> {
        if text.starts_with('#') {
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

/// The value at a JSON pointer (RFC 6901). A description holds tens of thousands of them, and nearly
/// none needs unescaping.
fn walk<'a>(root: &'a Value, pointer: &str) -> Option<&'a Value> {
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

    fn library(root: Value) -> Library {
        Library::new(Url::parse("https://a.example/v1/openapi.json").unwrap(), root)
    }

    fn follow(library: &Library, reference: &str) -> Result<Value, String> {
        let node = json!({"$ref": reference});
        library.follow(Node { document: 0, value: &node }).map(|found| found.value.clone())
    }

    #[test]
    fn pointers_are_unescaped() {
        let library = library(json!({"paths": {"/a/{id}": {"x~y": 1}}, "with space": 2}));
        assert_eq!(follow(&library, "#/paths/~1a~1{id}/x~0y"), Ok(json!(1)));
        assert_eq!(follow(&library, "#/paths/~1a~1%7Bid%7D/x~0y"), Ok(json!(1)));
        assert_eq!(follow(&library, "#/with%20space"), Ok(json!(2)));
        assert!(follow(&library, "#/nowhere").unwrap_err().contains("leads to nothing"));
        assert!(follow(&library, "#anchor").unwrap_err().contains("anchor"));
    }

    #[test]
    fn circles_end() {
        let library = library(json!({"a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}));
        assert!(follow(&library, "#/a").unwrap_err().contains("back to itself"));
    }

    #[test]
    fn only_the_same_origin_is_wanted() {
        let mut library = library(json!({"paths": {"/a": {"get": {"x": [
            {"$ref": "common.yaml#/S"},
            {"$ref": "/v2/more.json"},
            {"$ref": "https://b.example/evil.json"},
            {"$ref": "http://a.example/plain.json"},
            {"$ref": "file:///etc/passwd"}
        ]}, "post": {"$ref": "never.json"}}}}));
        let wanted: Vec<String> = library.missing().iter().map(Url::to_string).collect();
        assert_eq!(wanted, ["https://a.example/v1/common.yaml", "https://a.example/v2/more.json"]);
        assert!(follow(&library, "https://b.example/evil.json#/S").unwrap_err().contains("b.example"));
        library.add(Url::parse("https://a.example/v1/common.yaml").unwrap(), json!({"S": {"$ref": "deep/er.json#/T"}}));
        library.refuse(Url::parse("https://a.example/v2/more.json").unwrap(), "it answered 404");
        let wanted: Vec<String> = library.missing().iter().map(Url::to_string).collect();
        assert_eq!(wanted, ["https://a.example/v1/deep/er.json"]);
        assert_eq!(follow(&library, "/v2/more.json").unwrap_err(), "it answered 404");
    }
}
