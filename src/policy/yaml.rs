//! From YAML text to a tree that knows where every key and value stands.
//!
//! Stricter than YAML: one document, plain string keys, each once, no anchors, aliases, tags or merge
//! keys. A reviewer reads the file top to bottom, so what it says must stand where it is read.
//! Bounded in size and depth; nothing is ever expanded.

use crate::model::{FilePlace, Problem};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

/// A policy is a page of text; more is a mistake or an attack.
pub const MAX_BYTES: usize = 1 << 20;
/// The policy's own form is five deep.
const MAX_DEPTH: usize = 16;
/// Beyond this a list of problems helps nobody.
pub const MAX_PROBLEMS: usize = 200;

/// One value and where it begins.
#[derive(Debug)]
pub struct Node {
    pub place: FilePlace,
    pub kind: Kind,
}

/// What a value is, before anybody asks for a type.
#[derive(Debug)]
pub enum Kind {
    /// `plain` is without quotes: only then it may be a number or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// Already reported; whoever meets it keeps quiet.
    Broken,
}

/// A key and where it stands.
#[derive(Debug)]
pub struct Key {
    pub text: String,
    pub place: FilePlace,
}

impl Node {
    /// `null`, `~` or no value at all.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// A JSON pointer one step deeper. A long name is cut: a secret may have been pasted as a key.
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
/// The problems may be many although the tree is usable; without a tree the text is no YAML.
#[must_use]
pub fn read(text: &str) -> (Option<Node>, Vec<Problem>) {
    if text.len() > MAX_BYTES {
        let problem = Problem::new("", format!("the file has {} bytes; a policy has at most {MAX_BYTES}", text.len()));
        return (None, vec![problem]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((offset, _)) = text.char_indices().find(|(_, c)| unseen(*c)) {
        let problem =
            Problem::new("", "a character that a reader cannot see stands here").at(FilePlace::from_offset(text, offset));
        return (None, vec![problem.hint("remove control characters and changes of writing direction")]);
    }
    let mut walk = Walk { parser: Parser::new_from_str(text), problems: Vec::new() };
    match walk.document() {
        Ok(node) => (node, walk.problems),
        Err(problem) => {
            walk.problems.push(*problem);
            (None, walk.problems)
        }
    }
}

/// What makes a reviewer see another text than the parser: NUL ends the parser's input early,
/// changes of writing direction reorder what is shown, and some characters have no width.
fn unseen(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

type Fatal = Box<Problem>;

struct Walk<'a> {
    parser: Parser<'a, StrInput<'a>>,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Result<(Event<'a>, FilePlace), Fatal> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(&span))),
            Some(Err(error)) => Err(Box::new(syntax(&error))),
            None => Ok((Event::StreamEnd, FilePlace { line: 1, column: 1 })),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Fatal> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    let problem = Problem::new("", "a second document begins here; a policy is one document");
                    return Err(Box::new(problem.at(place).hint("remove the line with ---")));
                }
                event => root = Some(self.node(event, place, "", 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, place: FilePlace, pointer: &str, depth: usize) -> Result<Node, Fatal> {
        if depth > MAX_DEPTH {
            let problem = Problem::new(pointer, format!("nested deeper than {MAX_DEPTH} levels"));
            return Err(Box::new(problem.at(place)));
        }
        let kind = match event {
            Event::Alias(_) => {
                self.complain(pointer, place, "aliases (*name) are not used in a policy", "write the value out where it is used");
                Kind::Broken
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.decorated(pointer, place, anchor, tag.is_some());
                Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(anchor, tag) => {
                self.decorated(pointer, place, anchor, tag.is_some());
                self.list(pointer, depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.decorated(pointer, place, anchor, tag.is_some());
                self.map(pointer, depth)?
            }
            // The parser never sends these where a value is due.
            _ => {
                return Err(Box::new(Problem::new(pointer, "a value is missing here").at(place)));
            }
        };
        Ok(Node { place, kind })
    }

    fn list(&mut self, pointer: &str, depth: usize) -> Result<Kind, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Kind::List(items));
            }
            let below = step(pointer, &items.len().to_string());
            items.push(self.node(event, place, &below, depth + 1)?);
        }
    }

    fn map(&mut self, pointer: &str, depth: usize) -> Result<Kind, Fatal> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Kind::Map(entries));
            }
            let key = match self.node(event, place, pointer, depth + 1)?.kind {
                Kind::Scalar { text, .. } => Some(text),
                Kind::Broken => None,
                Kind::List(_) | Kind::Map(_) => {
                    self.complain(pointer, place, "a key must be a word, not a list or a mapping", "");
                    None
                }
            };
            let below = key.as_ref().map_or_else(|| pointer.to_string(), |key| step(pointer, key));
            let (event, at) = self.next()?;
            let value = self.node(event, at, &below, depth + 1)?;
            let Some(text) = key else { continue };
            if let Some(first) = seen.insert(text.clone(), place.line) {
                let message = format!("{} is written twice; first on line {first}", super::read::shown(&text));
                self.complain(&below, place, &message, "keep one of the two");
                continue;
            }
            entries.push((Key { text, place }, value));
        }
    }

    fn decorated(&mut self, pointer: &str, place: FilePlace, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.complain(pointer, place, "anchors (&name) are not used in a policy", "write the value out where it is used");
        }
        if tagged {
            self.complain(pointer, place, "tags (!name) are not used in a policy", "remove the tag");
        }
    }

    fn complain(&mut self, pointer: &str, place: FilePlace, message: &str, hint: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem::new(pointer, message).at(place).hint(hint));
        }
    }
}

/// The parser counts columns from 0.
fn place(span: &Span) -> FilePlace {
    FilePlace { line: span.start.line(), column: span.start.col() + 1 }
}

fn syntax(error: &ScanError) -> Problem {
    let words: String = error.info().chars().take(120).collect();
    let place = FilePlace { line: error.marker().line(), column: error.marker().col() + 1 };
    Problem::new("", format!("this is not YAML: {words}"))
        .at(place)
        .hint("check indentation, brackets and quotes around this place")
}
