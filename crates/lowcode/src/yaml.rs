//! Text -> [`Value`]: YAML 1.1 as PyYAML's safe loader gives it, bounded, with the place of each node on demand.

#![expect(clippy::result_large_err, reason = "one problem ends the load; none is made where it would cost")]

use super::bounds::Bounds;
use super::problem::{Place, Problem, Severity};
use super::scalar::{self, Plain};
use super::value::{Dict, Value};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Where each node of a text stands.
#[derive(Clone, Debug, Default)]
pub struct Spot {
    pub place: Option<Place>,
    pub kids: Kids,
}

/// The places below a node.
#[derive(Clone, Debug, Default)]
pub enum Kids {
    #[default]
    None,
    List(Vec<Spot>),
    /// By key: the place of the key, and the value.
    Dict(HashMap<Arc<str>, (Place, Spot)>),
}

/// A text that was read.
#[derive(Debug, Default)]
pub struct Parsed {
    pub value: Value,
    /// Empty unless places were asked for.
    pub spot: Spot,
    pub warnings: Vec<Problem>,
}

/// Reads one document.
///
/// # Errors
/// What is wrong with the text, or the bound that it breaks.
pub fn parse(text: &str, bounds: &Bounds, places: bool) -> Result<Parsed, Problem> {
    if text.len() > bounds.manifest_bytes {
        return Err(Problem::error("", format!("the manifest has more than {} bytes", bounds.manifest_bytes)));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { bounds, places, ..Builder::new(bounds) };
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) =
            next.map_err(|error| at(Problem::error("", format!("not YAML: {}", error.info())), error.marker()))?;
        builder.event(event, span)?;
    }
    let (value, spot, ..) = builder.root.unwrap_or_default();
    Ok(Parsed { value, spot, warnings: builder.warnings })
}

fn at(mut problem: Problem, marker: &Marker) -> Problem {
    problem.place = Some(place(marker));
    problem
}

fn place(marker: &Marker) -> Place {
    // The parser counts lines from one and columns from zero.
    Place { line: marker.line(), column: marker.col() + 1 }
}

/// A finished node: value, place, number of values in it, nesting.
type Node = (Value, Spot, usize, usize);

enum Shape {
    List(Vec<Value>, Vec<Spot>),
    Dict { dict: Dict, merged: Vec<Value>, key: Option<(Key, Place)>, spots: HashMap<Arc<str>, (Place, Spot)> },
}

enum Key {
    Name(Arc<str>),
    Merge,
}

struct Frame {
    shape: Shape,
    anchor: usize,
    start: Marker,
    values: usize,
    depth: usize,
}

struct Builder<'b> {
    bounds: &'b Bounds,
    places: bool,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    names: HashMap<String, Arc<str>>,
    values: usize,
    documents: usize,
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
            documents: 0,
            root: None,
            warnings: Vec::new(),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let start = span.start;
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(at(Problem::error("", "the file holds more than one document"), &start));
                }
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, &start),
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), &start),
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag.as_ref(), "seq", &start)?;
                self.open(Shape::List(Vec::new(), Vec::new()), anchor, start)
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag.as_ref(), "map", &start)?;
                let shape = Shape::Dict { dict: Dict::default(), merged: Vec::new(), key: None, spots: HashMap::new() };
                self.open(shape, anchor, start)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, shape: Shape, anchor: usize, start: Marker) -> Result<(), Problem> {
        if matches!(self.stack.last(), Some(Frame { shape: Shape::Dict { key: None, .. }, .. })) {
            return Err(at(Problem::error("", "a list or an object cannot be a key"), &start));
        }
        if self.stack.len() >= self.bounds.depth {
            return Err(at(Problem::error("", format!("nested deeper than {}", self.bounds.depth)), &start));
        }
        self.stack.push(Frame { shape, anchor, start, values: 1, depth: 1 });
        self.count(1, &start)
    }

    fn count(&mut self, more: usize, marker: &Marker) -> Result<(), Problem> {
        self.values = self.values.saturating_add(more);
        if self.values > self.bounds.manifest_values {
            let message = format!("more than {} values once aliases are followed", self.bounds.manifest_values);
            return Err(at(Problem::error("", message), marker));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, marker: &Marker) -> Result<(), Problem> {
        let Some((value, _, values, depth)) = self.anchors.get(&anchor) else {
            return Err(at(Problem::error("", "an alias to the node that it stands in"), marker));
        };
        let (values, depth) = (*values, *depth);
        if self.stack.len() + depth > self.bounds.depth {
            return Err(at(Problem::error("", format!("nested deeper than {}", self.bounds.depth)), marker));
        }
        let value = value.clone();
        self.count(values, marker)?;
        self.put((value, self.spot(marker), values, depth), marker, false)
    }

    fn spot(&self, marker: &Marker) -> Spot {
        Spot { place: self.places.then(|| place(marker)), kids: Kids::None }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        marker: &Marker,
    ) -> Result<(), Problem> {
        self.count(1, marker)?;
        let is_plain = style == ScalarStyle::Plain && tag.is_none();
        let is_key = matches!(self.stack.last(), Some(Frame { shape: Shape::Dict { key: None, .. }, .. }));
        let value = match tag {
            Some(tag) => tagged(text, tag).map_err(|problem| at(problem, marker))?,
            // Only a plain `=` as a value fails in PyYAML; as a key it is text.
            None if is_plain && !(is_key && text == "=") => match scalar::plain(text) {
                Plain::Value(value) => value,
                Plain::Wrong(why) => return Err(at(Problem::error("", why), marker)),
                Plain::Timestamp => {
                    let message = "a date without quotes is taken as text; the reference makes an object of it";
                    self.warnings.push(at(Problem::new(Severity::Warning, "", message).found(text), marker));
                    Value::str(text)
                }
            },
            None => Value::str(text),
        };
        let node = (value, self.spot(marker), 1, 1);
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.put(node, marker, is_plain)
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let (value, kids) = match frame.shape {
            Shape::List(list, spots) => (Value::List(list), Kids::List(spots)),
            Shape::Dict { dict, merged, spots, .. } => (Value::Dict(merge(dict, merged)), Kids::Dict(spots)),
        };
        let spot = if self.places { Spot { place: Some(place(&frame.start)), kids } } else { Spot::default() };
        let node = (value, spot, frame.values, frame.depth);
        if frame.anchor > 0 {
            self.anchors.insert(frame.anchor, node.clone());
        }
        self.put(node, &frame.start, false)
    }

    /// Puts a finished node where it belongs: into the list, as key, or as the value of the key before it.
    fn put(&mut self, node: Node, marker: &Marker, is_plain: bool) -> Result<(), Problem> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let (value, spot, values, depth) = node;
        frame.values = frame.values.saturating_add(values);
        frame.depth = frame.depth.max(depth + 1);
        match &mut frame.shape {
            Shape::List(list, spots) => {
                list.push(value);
                if self.places {
                    spots.push(spot);
                }
                Ok(())
            }
            Shape::Dict { dict, merged, key, spots } => match key.take() {
                None => {
                    let name = if is_plain && value.as_str() == Some("<<") {
                        Key::Merge
                    } else {
                        Key::Name(key_name(value, &mut self.names).map_err(|problem| at(problem, marker))?)
                    };
                    *key = Some((name, place(marker)));
                    Ok(())
                }
                Some((Key::Merge, _)) => merge_into(merged, value).map_err(|problem| at(problem, marker)),
                Some((Key::Name(name), key_place)) => {
                    if self.places {
                        spots.insert(name.clone(), (key_place, spot));
                    }
                    if dict.insert(name.clone(), value).is_some() {
                        let message = format!("the key `{name}` stands here twice; the last one counts");
                        let mut problem = Problem::new(Severity::Warning, "", message);
                        problem.place = Some(key_place);
                        self.warnings.push(problem);
                    }
                    Ok(())
                }
            },
        }
    }
}

/// Keys are text. Other scalars become what JSON makes of them.
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

/// Takes the value of a `<<` key: an object, or a list of objects of which the first wins.
fn merge_into(merged: &mut Vec<Value>, value: Value) -> Result<(), Problem> {
    match value {
        Value::Dict(_) => merged.push(value),
        Value::List(list) if list.iter().all(|item| matches!(item, Value::Dict(_))) => merged.extend(list.into_iter().rev()),
        _ => return Err(Problem::error("", "`<<` takes an object or a list of objects")),
    }
    Ok(())
}

/// The merged keys stand first; the own ones win.
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

fn collection_tag(tag: Option<&Cow<'_, Tag>>, kind: &str, marker: &Marker) -> Result<(), Problem> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == kind) && tag.handle != "!" => Err(at(unknown(tag), marker)),
        _ => Ok(()),
    }
}

fn unknown(tag: &Tag) -> Problem {
    Problem::error("", format!("the tag `{tag}` is not known"))
}

/// A scalar with an explicit tag.
fn tagged(text: &str, tag: &Tag) -> Result<Value, Problem> {
    if !tag.is_yaml_core_schema() {
        return if tag.handle == "!" && tag.suffix.is_empty() { Ok(Value::str(text)) } else { Err(unknown(tag)) };
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
        _ => Err(Problem::error("", format!("this is no `{}`", tag.suffix)).found(text)),
    }
}
