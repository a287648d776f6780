//! Parses YAML into a tree with the position of every key and value.
//!
//! Only a strict subset of YAML is accepted: one document, string keys without duplicates, and no anchors, aliases, tags
//! or merge keys. A reviewer reads the file from top to bottom, so no value may come from another place in it. Size and
//! depth are limited, and nothing is expanded.

use crate::model::{FilePlace, Problem};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

/// The maximum size of a policy. A larger file is a mistake or an attack.
pub const MAX_BYTES: usize = 1 << 20;
/// The maximum nesting depth. A valid policy needs five levels.
const MAX_DEPTH: usize = 16;
/// The number of problems that are reported. A longer list would not help anyone.
pub const MAX_PROBLEMS: usize = 200;

/// One value and the position where it begins.
#[derive(Debug)]
pub struct Node {
    pub place: FilePlace,
    pub kind: NodeKind,
}

/// The form of a value, before it is converted to a type.
#[derive(Debug)]
pub enum NodeKind {
    /// `plain` is true for a scalar without quotes. Only such a scalar can be a number or null.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// A value whose problem was already reported. It is not reported again.
    Broken,
}

/// A key and its position.
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

/// Appends `name` to a JSON pointer. A long name is truncated, because it may be a secret that was pasted as a key.
#[must_use]
pub fn step(pointer: &str, name: &str) -> String {
    let mut short: String = name.chars().take(40).collect();
    if short.len() < name.len() {
        short = format!("{}...", name.chars().take(6).collect::<String>());
    }
    format!("{pointer}/{}", short.replace('~', "~0").replace('/', "~1"))
}

/// Parses one document and returns all problems. The tree is `None` if the text is empty or is not valid YAML.
#[must_use]
pub fn read(text: &str) -> (Option<Node>, Vec<Problem>) {
    if text.len() > MAX_BYTES {
        let problem = Problem::new("", format!("the file has {} bytes, more than the limit of {MAX_BYTES} bytes", text.len()));
        return (None, vec![problem]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((offset, _)) = text.char_indices().find(|(_, c)| is_invisible(*c)) {
        let problem = Problem::new("", "an invisible character is not allowed here").at(FilePlace::from_offset(text, offset));
        return (None, vec![problem.hint("remove control characters and characters that change the writing direction")]);
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

/// Whether a character makes a reviewer see a different text than the parser: NUL ends the parser's input early,
/// characters that change the writing direction reorder the displayed text, and some characters have no width.
fn is_invisible(c: char) -> bool {
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
                    let problem = Problem::new("", "a second YAML document begins here; a policy is one document");
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
                self.report(pointer, place, "aliases (*name) are not allowed in a policy", "write the value itself instead");
                NodeKind::Broken
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_decoration(pointer, place, anchor, tag.is_some());
                NodeKind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_decoration(pointer, place, anchor, tag.is_some());
                self.list(pointer, depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_decoration(pointer, place, anchor, tag.is_some());
                self.map(pointer, depth)?
            }
            // The parser does not send any other event where a value is expected.
            _ => {
                return Err(Box::new(Problem::new(pointer, "a value is missing here").at(place)));
            }
        };
        Ok(Node { place, kind })
    }

    fn list(&mut self, pointer: &str, depth: usize) -> Result<NodeKind, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
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
            let (event, place) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(NodeKind::Map(entries));
            }
            let key = match self.node(event, place, pointer, depth + 1)?.kind {
                NodeKind::Scalar { text, .. } => Some(text),
                NodeKind::Broken => None,
                NodeKind::List(_) | NodeKind::Map(_) => {
                    self.report(pointer, place, "a key must be a string, not a list or a mapping", "");
                    None
                }
            };
            let below = key.as_ref().map_or_else(|| pointer.to_string(), |key| step(pointer, key));
            let (event, at) = self.next()?;
            let value = self.node(event, at, &below, depth + 1)?;
            let Some(text) = key else { continue };
            if let Some(first) = first_lines.insert(text.clone(), place.line) {
                let message = format!("{} occurs twice, first on line {first}", super::read::shown(&text));
                self.report(&below, place, &message, "remove one of the two");
                continue;
            }
            entries.push((Key { text, place }, value));
        }
    }

    fn refuse_decoration(&mut self, pointer: &str, place: FilePlace, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.report(pointer, place, "anchors (&name) are not allowed in a policy", "write the value itself instead");
        }
        if tagged {
            self.report(pointer, place, "tags (!name) are not allowed in a policy", "remove the tag");
        }
    }

    fn report(&mut self, pointer: &str, place: FilePlace, message: &str, hint: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem::new(pointer, message).at(place).hint(hint));
        }
    }
}

/// The parser counts columns from 0, a `FilePlace` counts them from 1.
fn place(span: &Span) -> FilePlace {
    FilePlace { line: span.start.line(), column: span.start.col() + 1 }
}

fn syntax(error: &ScanError) -> Problem {
    let message: String = error.info().chars().take(120).collect();
    let place = FilePlace { line: error.marker().line(), column: error.marker().col() + 1 };
    Problem::new("", format!("this is not valid YAML: {message}"))
        .at(place)
        .hint("check the indentation, brackets and quotes around this position")
}
