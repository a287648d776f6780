//! Reads the YAML of a policy into a tree that records the place of every key and value.
//!
//! A policy is stricter than YAML, because a reviewer reads it from top to bottom and must see what it says: it is one
//! document with unique plain keys, without anchors, aliases, tags or merge keys. It also reports all problems with
//! their places at once and leaves scalars as text, so that `read` can name the type that it expects. That is why it
//! has a tree of its own next to the JSON values of `positioned_yaml::json`.

use crate::model::{FilePlace, Problem};
use positioned_yaml::{Error, Event, Properties, Reader};

/// A policy is about a page of text; a larger file is a mistake or an attack.
pub const MAX_BYTES: usize = 1 << 20;
/// A valid policy has at most five levels.
const MAX_DEPTH: usize = 16;
/// Limit for the number of reported problems.
pub const MAX_PROBLEMS: usize = 200;

/// A value and the place where it begins.
#[derive(Debug)]
pub struct Node {
    pub place: FilePlace,
    pub kind: NodeKind,
}

/// The kind of a value, before its type is checked.
#[derive(Debug)]
pub enum NodeKind {
    /// `plain` says that the scalar has no quotes; only then can it be a number or null.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// A problem of this value is reported already.
    Broken,
}

/// A key and its place.
#[derive(Debug)]
pub struct Key {
    pub text: String,
    pub place: FilePlace,
}

impl Node {
    /// Whether the value is `null`, `~` or missing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Extends a JSON pointer by one step. A long name is shortened, because a secret may have been pasted as a key.
#[must_use]
pub fn step(pointer: &str, name: &str) -> String {
    let mut short: String = name.chars().take(40).collect();
    if short.len() < name.len() {
        short = format!("{}...", name.chars().take(6).collect::<String>());
    }
    format!("{pointer}/{}", short.replace('~', "~0").replace('/', "~1"))
}

/// Reads one document.
///
/// There may be problems although the tree is usable; without a tree, the text is not a YAML document.
#[must_use]
pub fn read(text: &str) -> (Option<Node>, Vec<Problem>) {
    if text.len() > MAX_BYTES {
        let problem = Problem::new("", format!("the file has {} bytes, more than the limit of {MAX_BYTES} bytes", text.len()));
        return (None, vec![problem]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((offset, _)) = text.char_indices().find(|(_, c)| is_invisible(*c)) {
        let problem = Problem::new("", "invisible character").at(FilePlace::from_offset(text, offset));
        return (None, vec![problem.hint("remove control characters and characters that change the writing direction")]);
    }
    let mut walk = Walk { reader: Reader::new(text), problems: Vec::new() };
    match walk.document() {
        Ok(node) => (node, walk.problems),
        Err(problem) => {
            walk.problems.push(*problem);
            (None, walk.problems)
        }
    }
}

/// Characters that make a reviewer see a different text than the parser: NUL ends the input of the parser,
/// changes of writing direction reorder what is shown, and some characters have no width.
fn is_invisible(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

type Fatal = Box<Problem>;

struct Walk<'a> {
    reader: Reader<'a>,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, FilePlace)>, Fatal> {
        let next = self.reader.next_event().map_err(|error| Box::new(unreadable(&error)))?;
        Ok(next.map(|(event, at)| (event, place(at))))
    }

    /// The next event inside a list or a mapping.
    fn next_inside(&mut self, pointer: &str) -> Result<(Event<'a>, FilePlace), Fatal> {
        self.next()?.ok_or_else(|| Box::new(Problem::new(pointer, "the file ends inside a list or a mapping")))
    }

    fn document(&mut self) -> Result<Option<Node>, Fatal> {
        let Some((event, place)) = self.next()? else { return Ok(None) };
        let root = self.node(event, place, "", 0)?;
        // What follows can only be the end or a second document, which is an error.
        self.next()?;
        Ok(Some(root))
    }

    fn node(&mut self, event: Event<'a>, place: FilePlace, pointer: &str, depth: usize) -> Result<Node, Fatal> {
        if depth > MAX_DEPTH {
            let problem = Problem::new(pointer, format!("nested deeper than {MAX_DEPTH} levels"));
            return Err(Box::new(problem.at(place)));
        }
        let kind = match event {
            Event::Alias(_) => {
                self.report(pointer, place, "aliases (*name) are not supported in a policy", "write the value itself instead");
                NodeKind::Broken
            }
            Event::Scalar { text, plain, properties } => {
                self.check_properties(pointer, place, &properties);
                NodeKind::Scalar { text: text.into_owned(), plain }
            }
            Event::ListStart(properties) => {
                self.check_properties(pointer, place, &properties);
                self.list(pointer, depth)?
            }
            Event::MapStart(properties) => {
                self.check_properties(pointer, place, &properties);
                self.map(pointer, depth)?
            }
            // The parser does not send these where a value is expected.
            Event::ListEnd | Event::MapEnd => {
                return Err(Box::new(Problem::new(pointer, "a value is missing here").at(place)));
            }
        };
        Ok(Node { place, kind })
    }

    fn list(&mut self, pointer: &str, depth: usize) -> Result<NodeKind, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next_inside(pointer)?;
            if matches!(event, Event::ListEnd) {
                return Ok(NodeKind::List(items));
            }
            let below = step(pointer, &items.len().to_string());
            items.push(self.node(event, place, &below, depth + 1)?);
        }
    }

    fn map(&mut self, pointer: &str, depth: usize) -> Result<NodeKind, Fatal> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut first_lines = std::collections::HashMap::new();
        loop {
            let (event, place) = self.next_inside(pointer)?;
            if matches!(event, Event::MapEnd) {
                return Ok(NodeKind::Map(entries));
            }
            let key = match self.node(event, place, pointer, depth + 1)?.kind {
                NodeKind::Scalar { text, .. } => Some(text),
                NodeKind::Broken => None,
                NodeKind::List(_) | NodeKind::Map(_) => {
                    self.report(pointer, place, "a key must be a scalar, not a list or a mapping", "");
                    None
                }
            };
            let below = key.as_ref().map_or_else(|| pointer.to_string(), |key| step(pointer, key));
            let (event, at) = self.next_inside(&below)?;
            let value = self.node(event, at, &below, depth + 1)?;
            let Some(text) = key else { continue };
            if let Some(first) = first_lines.insert(text.clone(), place.line) {
                let message = format!("{} occurs twice, first on line {first}", shown(&text));
                self.report(&below, place, &message, "remove one of the two");
                continue;
            }
            entries.push((Key { text, place }, value));
        }
    }

    fn check_properties(&mut self, pointer: &str, place: FilePlace, properties: &Properties<'_>) {
        if properties.anchor != 0 {
            self.report(pointer, place, "anchors (&name) are not supported in a policy", "write the value itself instead");
        }
        if properties.tag.is_some() {
            self.report(pointer, place, "tags (!name) are not supported in a policy", "remove the tag");
        }
    }

    fn report(&mut self, pointer: &str, place: FilePlace, message: &str, hint: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem::new(pointer, message).at(place).hint(hint));
        }
    }
}

fn place(at: positioned_yaml::Place) -> FilePlace {
    FilePlace { line: at.line, column: at.column }
}

fn unreadable(error: &Error) -> Problem {
    let problem = match error {
        Error::SecondDocument(_) => {
            Problem::new("", "a second YAML document begins here; a policy is one document").hint("remove the line with ---")
        }
        Error::Syntax { message, .. } | Error::Value { message, .. } | Error::Limit { message, .. } => {
            let message: String = message.chars().take(120).collect();
            Problem::new("", format!("this is not valid YAML: {message}"))
                .hint("check indentation, brackets and quotes around this place")
        }
    };
    problem.at(place(error.place()))
}

/// Messages do not repeat a longer text, because it may be a secret.
pub const MAX_SHOWN_CHARS: usize = 24;

/// `text` in backquotes, or only its length if it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    let length = text.chars().count();
    if length > MAX_SHOWN_CHARS || text.chars().any(char::is_control) {
        format!("({length} characters, not shown)")
    } else {
        format!("`{text}`")
    }
}
