//! Reads YAML 1.1 like PyYAML's safe loader, within bounds, and on request with the place of each value.

#![expect(clippy::result_large_err, reason = "a problem ends the load, so its size does not matter")]

use super::bounds::Bounds;
use super::problem::{Place, Problem, Severity};
use super::scalar::{self, Plain};
use super::value::{Dict, Value};
use positioned_yaml::{Error, Event, Properties, Reader, Tag, is_non_specific};
use std::collections::HashMap;
use std::sync::Arc;

/// The place of a value, and the places of the values that it contains.
#[derive(Clone, Debug, Default)]
pub struct NodePlaces {
    /// `None` unless the caller requested places.
    pub place: Option<Place>,
    pub children: ChildPlaces,
}

/// The places of the values in a list or dict.
#[derive(Clone, Debug, Default)]
pub enum ChildPlaces {
    #[default]
    None,
    List(Vec<NodePlaces>),
    /// By key: the place of the key, and the places of its value.
    Dict(HashMap<Arc<str>, (Place, NodePlaces)>),
}

/// A parsed document.
#[derive(Debug, Default)]
pub struct Parsed {
    pub value: Value,
    /// Empty unless the caller requested places.
    pub places: NodePlaces,
    pub warnings: Vec<Problem>,
}

/// Reads one document. With `places`, the place of each value is recorded.
///
/// # Errors
/// Fails if PyYAML's safe loader would not read the text, or if the document exceeds a bound.
pub fn parse(text: &str, bounds: &Bounds, places: bool) -> Result<Parsed, Problem> {
    if text.len() > bounds.manifest_bytes {
        return Err(Problem::error("", format!("the manifest has more than {} bytes", bounds.manifest_bytes)));
    }
    let mut builder = Builder { bounds, places, ..Builder::new(bounds) };
    let mut reader = Reader::new(text);
    while let Some((event, place)) = reader.next_event().map_err(|error| unreadable(&error))? {
        builder.event(event, place)?;
    }
    let root = builder.root.unwrap_or_default();
    Ok(Parsed { value: root.value, places: root.places, warnings: builder.warnings })
}

fn unreadable(error: &Error) -> Problem {
    let problem = match error {
        Error::SecondDocument(_) => Problem::error("", "the file holds more than one document"),
        Error::Syntax { message, .. } | Error::Value { message, .. } | Error::Limit { message, .. } => {
            Problem::error("", format!("not valid YAML: {message}"))
        }
    };
    at(problem, error.place())
}

fn at(mut problem: Problem, place: Place) -> Problem {
    problem.place = Some(place);
    problem
}

/// A complete value and the cost of repeating it through an alias.
#[derive(Clone, Default)]
struct Node {
    value: Value,
    places: NodePlaces,
    /// The number of values that it contains, including itself.
    values: usize,
    /// The number of levels of lists and dicts, including itself.
    depth: usize,
}

/// A list or dict that is being read.
enum Partial {
    List(Vec<Value>, Vec<NodePlaces>),
    Dict { dict: Dict, merged: Vec<Value>, key: Option<(Key, Place)>, places: HashMap<Arc<str>, (Place, NodePlaces)> },
}

enum Key {
    Name(Arc<str>),
    Merge,
}

struct Frame {
    partial: Partial,
    anchor: usize,
    start: Place,
    values: usize,
    depth: usize,
}

/// How many times the bound of values the aliases may add. A dict that several aliases lead to is stored once.
const EXPANSION: usize = 16;

struct Builder<'b> {
    bounds: &'b Bounds,
    places: bool,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    names: HashMap<String, Arc<str>>,
    /// The number of values that are stored.
    values: usize,
    /// The number of values that aliases add to a walk through the result.
    expanded: usize,
    root: Option<Node>,
    warnings: Vec<Problem>,
}

impl<'b> Builder<'b> {
    fn new(bounds: &'b Bounds) -> Builder<'b> {
        Builder {
            bounds,
            places: false,
            stack: Vec::new(),
            anchors: HashMap::new(),
            names: HashMap::new(),
            values: 0,
            expanded: 0,
            root: None,
            warnings: Vec::new(),
        }
    }

    fn event(&mut self, event: Event<'_>, start: Place) -> Result<(), Problem> {
        match event {
            Event::Alias(anchor) => self.alias(anchor, start),
            Event::Scalar { text, plain, properties } => self.scalar(&text, plain, &properties, start),
            Event::ListStart(properties) => {
                check_tag(properties.tag.as_deref(), "seq", start)?;
                self.open(Partial::List(Vec::new(), Vec::new()), properties.anchor, start)
            }
            Event::MapStart(properties) => {
                check_tag(properties.tag.as_deref(), "map", start)?;
                let partial = Partial::Dict { dict: Dict::default(), merged: Vec::new(), key: None, places: HashMap::new() };
                self.open(partial, properties.anchor, start)
            }
            Event::ListEnd | Event::MapEnd => self.close(),
        }
    }

    /// Whether the next value is a key of a dict.
    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { partial: Partial::Dict { key: None, .. }, .. }))
    }

    fn open(&mut self, partial: Partial, anchor: usize, start: Place) -> Result<(), Problem> {
        if self.expects_key() {
            return Err(at(Problem::error("", "a list or an object cannot be a key"), start));
        }
        if self.stack.len() >= self.bounds.depth {
            return Err(at(Problem::error("", format!("nested deeper than {}", self.bounds.depth)), start));
        }
        self.stack.push(Frame { partial, anchor, start, values: 1, depth: 1 });
        self.count(1, start)
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), Problem> {
        self.values = self.values.saturating_add(more);
        if self.values > self.bounds.manifest_values {
            let message = format!("more than {} values once aliases are followed", self.bounds.manifest_values);
            return Err(at(Problem::error("", message), place));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Problem> {
        let Some(Node { value, values, depth, .. }) = self.anchors.get(&anchor) else {
            return Err(at(Problem::error("", "an alias refers to the value that contains it"), place));
        };
        let (values, depth) = (*values, *depth);
        if self.stack.len() + depth > self.bounds.depth {
            return Err(at(Problem::error("", format!("nested deeper than {}", self.bounds.depth)), place));
        }
        let value = value.clone();
        self.count(value.unshared(), place)?;
        self.expanded = self.expanded.saturating_add(values);
        if self.expanded > self.bounds.manifest_values.saturating_mul(EXPANSION) {
            return Err(at(Problem::error("", "too many values once aliases are followed"), place));
        }
        self.put(Node { value, places: self.leaf_place(place), values, depth }, place, false)
    }

    fn leaf_place(&self, place: Place) -> NodePlaces {
        NodePlaces { place: self.places.then_some(place), children: ChildPlaces::None }
    }

    fn scalar(&mut self, text: &str, plain: bool, properties: &Properties<'_>, place: Place) -> Result<(), Problem> {
        self.count(1, place)?;
        let is_plain = plain && properties.tag.is_none();
        let value = match properties.tag.as_deref() {
            Some(tag) => tagged(text, tag).map_err(|problem| at(problem, place))?,
            // PyYAML fails only for a plain `=` that is a value; as a key, it is text.
            None if is_plain && !(text == "=" && self.expects_key()) => match scalar::plain(text) {
                Plain::Value(value) => value,
                Plain::Wrong(why) => return Err(at(Problem::error("", why), place)),
                Plain::Timestamp => {
                    let message = "a date without quotes is read as text; the CDK reads a date object";
                    self.warnings.push(at(Problem::new(Severity::Warning, "", message).found(text), place));
                    Value::str(text)
                }
            },
            None => Value::str(text),
        };
        let node = Node { value, places: self.leaf_place(place), values: 1, depth: 1 };
        if properties.anchor > 0 {
            self.anchors.insert(properties.anchor, node.clone());
        }
        self.put(node, place, is_plain)
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let (value, children) = match frame.partial {
            Partial::List(list, places) => (Value::List(list), ChildPlaces::List(places)),
            Partial::Dict { dict, merged, places, .. } => (Value::Dict(merge(dict, merged)), ChildPlaces::Dict(places)),
        };
        let places = if self.places { NodePlaces { place: Some(frame.start), children } } else { NodePlaces::default() };
        let node = Node { value, places, values: frame.values, depth: frame.depth };
        if frame.anchor > 0 {
            self.anchors.insert(frame.anchor, node.clone());
        }
        self.put(node, frame.start, false)
    }

    /// Puts a complete value where it belongs: into the list, as a key, or as the value of the preceding key.
    fn put(&mut self, node: Node, place: Place, is_plain: bool) -> Result<(), Problem> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.values = frame.values.saturating_add(node.values);
        frame.depth = frame.depth.max(node.depth + 1);
        match &mut frame.partial {
            Partial::List(list, places) => {
                list.push(node.value);
                if self.places {
                    places.push(node.places);
                }
                Ok(())
            }
            Partial::Dict { dict, merged, key, places } => match key.take() {
                None => {
                    let name = if is_plain && node.value.as_str() == Some("<<") {
                        Key::Merge
                    } else {
                        Key::Name(key_name(node.value, &mut self.names).map_err(|problem| at(problem, place))?)
                    };
                    *key = Some((name, place));
                    Ok(())
                }
                Some((Key::Merge, _)) => merge_into(merged, node.value).map_err(|problem| at(problem, place)),
                Some((Key::Name(name), key_place)) => {
                    if self.places {
                        places.insert(name.clone(), (key_place, node.places));
                    }
                    if dict.insert(name.clone(), node.value).is_some() {
                        let message = format!("the key `{name}` appears twice; the last one counts");
                        self.warnings.push(at(Problem::new(Severity::Warning, "", message), key_place));
                    }
                    Ok(())
                }
            },
        }
    }
}

/// Keys are text. Other scalars become the text that Python's `json.dumps` writes for them.
fn key_name(value: Value, names: &mut HashMap<String, Arc<str>>) -> Result<Arc<str>, Problem> {
    let text = match &value {
        Value::Str(text) => {
            if let Some(name) = names.get(&**text) {
                return Ok(name.clone());
            }
            names.insert(text.to_string(), text.clone());
            return Ok(text.clone());
        }
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::None => "null".into(),
        Value::List(_) | Value::Dict(_) => return Err(Problem::error("", "a list or an object cannot be a key")),
        other => other.to_str(),
    };
    Ok(text.into())
}

/// Adds the value of a `<<` key: an object, or a list of objects. If several objects have a key, the first one takes precedence.
fn merge_into(merged: &mut Vec<Value>, value: Value) -> Result<(), Problem> {
    match value {
        Value::Dict(_) => merged.push(value),
        Value::List(list) if list.iter().all(|item| matches!(item, Value::Dict(_))) => merged.extend(list.into_iter().rev()),
        _ => return Err(Problem::error("", "`<<` takes an object or a list of objects")),
    }
    Ok(())
}

/// The merged keys come first, but the keys of the dict itself take precedence.
fn merge(own: Dict, merged: Vec<Value>) -> Dict {
    if merged.is_empty() {
        return own;
    }
    let mut all = Dict::default();
    for value in merged {
        if let Value::Dict(dict) = value {
            all.extend(dict);
        }
    }
    all.extend(own);
    all
}

fn check_tag(tag: Option<&Tag>, kind: &str, place: Place) -> Result<(), Problem> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == kind) && tag.handle != "!" => Err(at(unknown(tag), place)),
        _ => Ok(()),
    }
}

fn unknown(tag: &Tag) -> Problem {
    Problem::error("", format!("unknown tag `{tag}`"))
}

/// A scalar with an explicit tag.
fn tagged(text: &str, tag: &Tag) -> Result<Value, Problem> {
    if !tag.is_yaml_core_schema() {
        return if is_non_specific(tag) { Ok(Value::str(text)) } else { Err(unknown(tag)) };
    }
    let plain = match tag.suffix.as_str() {
        "str" => return Ok(Value::str(text)),
        "null" => return Ok(Value::None),
        "int" => scalar::integer(text),
        "float" => match scalar::float(text).or_else(|| scalar::integer(text)) {
            Some(Plain::Value(value)) => value.number().map(|float| Plain::Value(Value::Float(float))),
            other => other,
        },
        "bool" => Some(scalar::plain(text)).filter(|plain| matches!(plain, Plain::Value(Value::Bool(_)))),
        _ => return Err(unknown(tag)),
    };
    match plain {
        Some(Plain::Value(value)) => Ok(value),
        _ => Err(Problem::error("", format!("not a valid `{}`", tag.suffix)).found(text)),
    }
}
