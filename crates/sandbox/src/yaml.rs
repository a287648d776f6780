//! Reads a vendor's file as JSON values that know where they stand in the text, and collects every problem of the file.

use positioned_yaml::json::{Limits, parse};
use positioned_yaml::{Event, Place, Reader};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

const LIMITS: Limits = Limits { values: 500_000, text_bytes: 16 << 20, depth: 60 };

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub place: Option<Place>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// The problems of one file. Values are named by their JSON pointer.
#[derive(Debug, Default)]
pub struct Problems {
    file: String,
    places: HashMap<String, Place>,
    pub list: Vec<Problem>,
}

impl Problems {
    pub fn add(&mut self, pointer: &str, message: impl Into<String>) {
        // A value that came through an alias or a merge has no place of its own; its parent has.
        let mut at = pointer;
        let place = loop {
            if let Some(place) = self.places.get(at) {
                break Some(*place);
            }
            match at.rsplit_once('/') {
                Some((parent, _)) => at = parent,
                None => break None,
            }
        };
        self.list.push(Problem { file: self.file.clone(), place, message: message.into() });
    }
}

/// Reads the text of the file `file`. `None` if it is not valid YAML; the problem is then in the list.
pub fn read(file: &str, text: &str) -> (Option<Value>, Problems) {
    let mut problems = Problems { file: file.to_owned(), ..Problems::default() };
    match parse(text, LIMITS) {
        Ok(value) => {
            problems.places = places(text);
            (Some(value), problems)
        }
        Err(error) => {
            let place = Some(error.place());
            problems.list.push(Problem { file: file.to_owned(), place, message: format!("not valid YAML: {error}") });
            (None, problems)
        }
    }
}

enum Level {
    List(usize),
    Map(Option<String>),
}

/// The place of each value of a text that is valid.
fn places(text: &str) -> HashMap<String, Place> {
    let mut reader = Reader::new(text);
    let mut places = HashMap::new();
    let mut levels: Vec<(String, Level)> = Vec::new();
    while let Ok(Some((event, place))) = reader.next_event() {
        if matches!(event, Event::ListEnd | Event::MapEnd) {
            levels.pop();
            continue;
        }
        let pointer = match levels.last_mut() {
            None => String::new(),
            Some((parent, Level::List(index))) => {
                *index += 1;
                format!("{parent}/{}", *index - 1)
            }
            Some((parent, Level::Map(key))) => match key.take() {
                Some(key) => format!("{parent}/{}", escaped(&key)),
                None => {
                    if let Event::Scalar { text, .. } = &event {
                        places.insert(format!("{parent}/{}", escaped(text)), place);
                        *key = Some(text.to_string());
                    } else {
                        *key = Some(String::new());
                    }
                    continue;
                }
            },
        };
        match event {
            Event::ListStart(_) => levels.push((pointer.clone(), Level::List(0))),
            Event::MapStart(_) => levels.push((pointer.clone(), Level::Map(None))),
            _ => {}
        }
        places.entry(pointer).or_insert(place);
    }
    places
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A value and its JSON pointer.
#[derive(Clone, Debug)]
pub struct Node<'v> {
    pub value: &'v Value,
    pub pointer: String,
}

impl<'v> Node<'v> {
    pub fn root(value: &'v Value) -> Node<'v> {
        Node { value, pointer: String::new() }
    }

    /// A scalar as text.
    pub fn text(&self, problems: &mut Problems) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => {
                problems.add(&self.pointer, "expected a text");
                None
            }
        }
    }

    pub fn number(&self, problems: &mut Problems) -> Option<u64> {
        let number = self.value.as_u64();
        if number.is_none() {
            problems.add(&self.pointer, "expected a number that is not negative");
        }
        number
    }

    pub fn flag(&self, problems: &mut Problems) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            problems.add(&self.pointer, "expected true or false");
        }
        flag
    }

    pub fn list(&self, problems: &mut Problems) -> Vec<Node<'v>> {
        match self.value {
            Value::Array(list) => {
                let item = |(index, value)| Node { value, pointer: format!("{}/{index}", self.pointer) };
                list.iter().enumerate().map(item).collect()
            }
            _ => {
                problems.add(&self.pointer, "expected a list");
                Vec::new()
            }
        }
    }

    /// The items of a list, or a single value as a list of one.
    pub fn one_or_more(&self, problems: &mut Problems) -> Vec<Node<'v>> {
        if self.value.is_array() { self.list(problems) } else { vec![self.clone()] }
    }

    pub fn texts(&self, problems: &mut Problems) -> Vec<String> {
        self.one_or_more(problems).iter().filter_map(|node| node.text(problems)).collect()
    }

    /// The entries of a mapping whose keys are free names.
    pub fn entries(&self, problems: &mut Problems) -> Vec<(&'v str, Node<'v>)> {
        match self.value {
            Value::Object(map) => {
                let entry = |(key, value)| {
                    let key: &'v String = key;
                    (key.as_str(), Node { value, pointer: format!("{}/{}", self.pointer, escaped(key)) })
                };
                map.iter().map(entry).collect()
            }
            _ => {
                problems.add(&self.pointer, "expected a mapping");
                Vec::new()
            }
        }
    }

    /// The mapping, whose keys have to be taken one by one.
    pub fn fields(&self, problems: &mut Problems) -> Option<Fields<'v>> {
        match self.value {
            Value::Object(map) => Some(Fields { map, pointer: self.pointer.clone(), known: BTreeSet::new() }),
            _ => {
                problems.add(&self.pointer, "expected a mapping");
                None
            }
        }
    }
}

/// A mapping with known keys. [`Fields::finish`] reports those that were never asked for.
pub struct Fields<'v> {
    map: &'v Map<String, Value>,
    pub pointer: String,
    known: BTreeSet<&'static str>,
}

impl<'v> Fields<'v> {
    pub fn get(&mut self, key: &'static str) -> Option<Node<'v>> {
        self.known.insert(key);
        self.map.get(key).map(|value| Node { value, pointer: format!("{}/{}", self.pointer, escaped(key)) })
    }

    pub fn required(&mut self, key: &'static str, problems: &mut Problems) -> Option<Node<'v>> {
        let node = self.get(key);
        if node.is_none() {
            problems.add(&self.pointer, format!("the key {key} is missing"));
        }
        node
    }

    pub fn text(&mut self, key: &'static str, problems: &mut Problems) -> Option<String> {
        self.get(key)?.text(problems)
    }

    pub fn texts(&mut self, key: &'static str, problems: &mut Problems) -> Vec<String> {
        self.get(key).map(|node| node.texts(problems)).unwrap_or_default()
    }

    pub fn number(&mut self, key: &'static str, problems: &mut Problems) -> Option<u64> {
        self.get(key)?.number(problems)
    }

    pub fn flag(&mut self, key: &'static str, problems: &mut Problems) -> bool {
        self.get(key).and_then(|node| node.flag(problems)).unwrap_or(false)
    }

    /// Reports the keys that are not known.
    pub fn finish(self, problems: &mut Problems) {
        for key in self.map.keys().filter(|key| !self.known.contains(key.as_str())) {
            let known: Vec<&str> = self.known.iter().copied().collect();
            let pointer = format!("{}/{}", self.pointer, escaped(key));
            problems.add(&pointer, format!("unknown key {key:?}; the keys here are {}", known.join(", ")));
        }
    }
}
