//! Reads YAML under the core schema of version 1.2, as a JSON value of bounded size.
//!
//! It is stricter than YAML where JSON has no equivalent: duplicate keys, application tags, NaN and the infinities are
//! errors. The merge key `<<` of YAML 1.1 is supported, because OpenAPI documents use it.

use crate::{Error, Event, Place, Properties, Reader, Tag, is_non_specific};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;
use std::rc::Rc;

/// The limits of one document. Values that aliases repeat are counted each time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub values: usize,
    /// The maximum total size of the keys and strings, in bytes.
    pub text_bytes: usize,
    /// The maximum number of nested lists and mappings.
    pub depth: usize,
}

/// Reads one document. An empty text is read as `null`.
///
/// # Errors
/// Fails if the text is not valid YAML, contains something that JSON does not have, or exceeds a limit.
pub fn parse(text: &str, limits: Limits) -> Result<Value, Error> {
    let mut builder = Builder::new(text, limits, false);
    let root = builder.root()?;
    // The next event can only be the end of the text or a second document.
    builder.reader.next_event()?;
    Ok(root)
}

/// Reads all documents of a text, at most `max_documents`. The limits are for all of them together. A document without a
/// value, as a `---` at the end of the text begins one, is left out, and so is `null`.
///
/// # Errors
/// As [`parse`], and if there are more documents.
pub fn parse_stream(text: &str, limits: Limits, max_documents: usize) -> Result<Vec<Value>, Error> {
    let mut builder = Builder::new(text, limits, false);
    builder.reader = Reader::stream(text);
    let mut documents = Vec::new();
    loop {
        let next = builder.reader.next_event()?;
        if let Some((event, place)) = next {
            // Anchors belong to one document.
            builder.anchors.clear();
            match builder.value(event, place, 0)?.value {
                Value::Null => {}
                _ if documents.len() == max_documents => {
                    return limit(format!("more than {max_documents} documents"), place);
                }
                document => documents.push(document),
            }
            // The next event can only be the end of the document.
            builder.reader.next_event()?;
        }
        if builder.reader.has_ended() {
            return Ok(documents);
        }
    }
}

/// Reads the first document like [`parse`], but one value that JSON does not have does not lose the others: tags are
/// ignored, and infinities and NaN are text. What follows the first document is ignored too.
///
/// # Errors
/// Fails if the first document is not valid YAML or exceeds a limit.
pub fn parse_leniently(text: &str, limits: Limits) -> Result<Value, Error> {
    Builder::new(text, limits, true).root()
}

/// A complete value and the cost of repeating it through an alias.
#[derive(Clone)]
struct Node {
    value: Value,
    values: usize,
    text_bytes: usize,
    depth: usize,
}

struct Builder<'t> {
    reader: Reader<'t>,
    is_lenient: bool,
    limits: Limits,
    values: usize,
    text_bytes: usize,
    anchors: HashMap<usize, Rc<Node>>,
}

fn error<T>(message: impl Into<String>, place: Place) -> Result<T, Error> {
    Err(Error::Value { message: message.into(), place })
}

fn limit<T>(message: impl Into<String>, place: Place) -> Result<T, Error> {
    Err(Error::Limit { message: message.into(), place })
}

impl<'t> Builder<'t> {
    fn new(text: &'t str, limits: Limits, is_lenient: bool) -> Builder<'t> {
        Builder { reader: Reader::new(text), is_lenient, limits, values: 0, text_bytes: 0, anchors: HashMap::new() }
    }

    fn root(&mut self) -> Result<Value, Error> {
        match self.reader.next_event()? {
            Some((event, place)) => Ok(self.value(event, place, 0)?.value),
            None => Ok(Value::Null),
        }
    }

    fn scalar(&self, text: &str, plain: bool, tag: Option<&Tag>, place: Place) -> Result<Value, Error> {
        match scalar(text, plain, tag, place) {
            // The value of an unknown tag is what it would be without the tag, if JSON has that.
            Err(_) if self.is_lenient => Ok(scalar(text, plain, None, place).unwrap_or_else(|_| text.into())),
            read => read,
        }
    }

    fn check_tag(&self, tag: Option<&Tag>, kind: &str, place: Place) -> Result<(), Error> {
        if self.is_lenient { Ok(()) } else { check_tag(tag, kind, place) }
    }

    fn charge(&mut self, values: usize, text_bytes: usize, place: Place) -> Result<(), Error> {
        self.values = self.values.saturating_add(values);
        self.text_bytes = self.text_bytes.saturating_add(text_bytes);
        if self.values > self.limits.values {
            return limit(format!("more than {} values", self.limits.values), place);
        }
        if self.text_bytes > self.limits.text_bytes {
            return limit(format!("more than {} MiB of text", self.limits.text_bytes >> 20), place);
        }
        Ok(())
    }

    fn check_depth(&self, depth: usize, place: Place) -> Result<(), Error> {
        if depth > self.limits.depth {
            return limit(format!("nested deeper than {}", self.limits.depth), place);
        }
        Ok(())
    }

    fn next(&mut self, place: Place) -> Result<(Event<'t>, Place), Error> {
        match self.reader.next_event()? {
            Some(next) => Ok(next),
            None => error("the document ends inside a list or a mapping", place),
        }
    }

    /// Reads the value that begins with `event`, inside `depth` lists and mappings.
    fn value(&mut self, event: Event<'t>, place: Place, depth: usize) -> Result<Node, Error> {
        let (value, properties) = match event {
            Event::Alias(anchor) => return self.alias(anchor, place, depth),
            Event::Scalar { text, plain, properties } => {
                (self.scalar(&text, plain, properties.tag.as_deref(), place)?, properties)
            }
            Event::ListStart(properties) => return self.list(properties, place, depth + 1),
            Event::MapStart(properties) => return self.map(properties, place, depth + 1),
            Event::ListEnd | Event::MapEnd => return error("expected a value", place),
        };
        let text_bytes = value.as_str().map_or(0, str::len);
        self.charge(1, text_bytes, place)?;
        Ok(self.finish(Node { value, values: 1, text_bytes, depth: 0 }, properties.anchor))
    }

    fn alias(&mut self, anchor: usize, place: Place, depth: usize) -> Result<Node, Error> {
        let Some(node) = self.anchors.get(&anchor).map(Rc::clone) else {
            return error("an alias refers to the value that contains it", place);
        };
        self.check_depth(depth + node.depth, place)?;
        self.charge(node.values, node.text_bytes, place)?;
        Ok((*node).clone())
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Node {
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::new(node.clone()));
        }
        node
    }

    fn list(&mut self, properties: Properties<'t>, start: Place, depth: usize) -> Result<Node, Error> {
        self.check_tag(properties.tag.as_deref(), "seq", start)?;
        self.check_depth(depth, start)?;
        self.charge(1, 0, start)?;
        let mut all = Node { value: Value::Null, values: 1, text_bytes: 0, depth: 1 };
        let mut list = Vec::new();
        loop {
            let (event, place) = self.next(start)?;
            if matches!(event, Event::ListEnd) {
                all.value = Value::Array(list);
                return Ok(self.finish(all, properties.anchor));
            }
            let item = self.value(event, place, depth)?;
            list.push(all.add(item));
        }
    }

    fn map(&mut self, properties: Properties<'t>, start: Place, depth: usize) -> Result<Node, Error> {
        self.check_tag(properties.tag.as_deref(), "map", start)?;
        self.check_depth(depth, start)?;
        self.charge(1, 0, start)?;
        let mut all = Node { value: Value::Null, values: 1, text_bytes: 0, depth: 1 };
        let mut map = Map::new();
        loop {
            let (event, place) = self.next(start)?;
            let key = match event {
                Event::MapEnd => {
                    merge(&mut map);
                    all.value = Value::Object(map);
                    return Ok(self.finish(all, properties.anchor));
                }
                // A key is the text as it is written, because OpenAPI documents write status codes as numbers.
                Event::Scalar { text, properties, .. } => {
                    if properties.anchor > 0 {
                        let node = Node { value: text.as_ref().into(), values: 1, text_bytes: text.len(), depth: 0 };
                        self.finish(node, properties.anchor);
                    }
                    text.into_owned()
                }
                Event::Alias(anchor) => match self.anchors.get(&anchor).map(|node| &node.value) {
                    Some(Value::String(text)) => text.clone(),
                    _ => return error("a key must be text", place),
                },
                Event::ListStart(_) | Event::MapStart(_) | Event::ListEnd => return error("a key must be text", place),
            };
            self.charge(0, key.len(), place)?;
            all.text_bytes = all.text_bytes.saturating_add(key.len());
            let (event, value_place) = self.next(place)?;
            let value = self.value(event, value_place, depth)?;
            let value = all.add(value);
            if map.contains_key(&key) {
                return error(format!("duplicate key {:?}", key.chars().take(80).collect::<String>()), place);
            }
            map.insert(key, value);
        }
    }
}

impl Node {
    /// Adds the cost of `child` to that of this value.
    fn add(&mut self, child: Node) -> Value {
        self.values = self.values.saturating_add(child.values);
        self.text_bytes = self.text_bytes.saturating_add(child.text_bytes);
        self.depth = self.depth.max(child.depth + 1);
        child.value
    }
}

/// Adds the fields of the mappings under `<<` that the mapping itself does not have. If several mappings have a field,
/// the first one takes precedence.
fn merge(map: &mut Map<String, Value>) {
    let Some(merged) = map.remove("<<") else { return };
    let sources = match merged {
        Value::Array(list) => list,
        one => vec![one],
    };
    for source in sources {
        if let Value::Object(source) = source {
            for (key, value) in source {
                map.entry(key).or_insert(value);
            }
        }
    }
}

fn check_tag(tag: Option<&Tag>, kind: &str, place: Place) -> Result<(), Error> {
    match tag {
        Some(tag) if !is_non_specific(tag) => {
            if tag.is_yaml_core_schema() && tag.suffix == kind {
                Ok(())
            } else {
                unknown_tag(tag, place)
            }
        }
        _ => Ok(()),
    }
}

fn unknown_tag<T>(tag: &Tag, place: Place) -> Result<T, Error> {
    error(format!("the tag {tag} is not supported"), place)
}

fn scalar(text: &str, plain: bool, tag: Option<&Tag>, place: Place) -> Result<Value, Error> {
    let Some(tag) = tag else { return if plain { resolve(text, place) } else { Ok(text.into()) } };
    if is_non_specific(tag) {
        return Ok(text.into());
    }
    if !tag.is_yaml_core_schema() {
        return unknown_tag(tag, place);
    }
    let value = match tag.suffix.as_str() {
        "str" => return Ok(text.into()),
        "null" | "bool" | "int" | "float" => resolve(text, place)?,
        _ => return unknown_tag(tag, place),
    };
    let fits = match tag.suffix.as_str() {
        "null" => value.is_null(),
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        _ => value.is_number(),
    };
    if fits { Ok(value) } else { error(format!("{text:?} does not fit its tag {tag}"), place) }
}

/// Returns the value of a plain scalar under the core schema.
fn resolve(text: &str, place: Place) -> Result<Value, Error> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => match unsigned(text) {
            ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => return error("a number is infinite or not a number", place),
            _ => number(text).map_or_else(|| text.into(), Value::Number),
        },
    })
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

fn number(text: &str) -> Option<Number> {
    let digits = unsigned(text);
    // A number with leading zeros is text, for example a postal code.
    let is_padded = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Rust's parser also accepts `inf`, `infinity` and `nan`.
    let is_numeric = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if is_padded || !is_numeric {
        return None;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix).filter(|digits| !digits.starts_with(['+', '-'])) {
            let size = i128::from_str_radix(digits, radix).ok()?;
            return Number::from_i128(if text.starts_with('-') { -size } else { size });
        }
    }
    let positive = text.strip_prefix('+').unwrap_or(text);
    if let Ok(int) = positive.parse::<u64>() {
        return Some(int.into());
    }
    if let Ok(int) = positive.parse::<i64>() {
        return Some(int.into());
    }
    Number::from_f64(positive.parse().ok()?)
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
