//! Reads YAML as a stream of events, each with the line and column where it begins. A text has one document, unless the
//! caller asks for all of them.
//!
//! All YAML in this workspace is read through [`Reader`]. The caller interprets the scalars, because the callers have
//! three different needs: a policy reads scalars as text and refuses anchors and tags, a declarative manifest follows
//! YAML 1.1 like Python's PyYAML, and everything else is read by [`json::parse`] under the core schema of YAML 1.2.

pub mod json;

use saphyr_parser::{Event as Parsed, Parser, ScalarStyle, ScanError, StrInput};
use std::borrow::Cow;
use std::fmt;

pub use saphyr_parser::Tag;

/// A position in the text. Lines and columns count from 1, and columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// The anchor and the tag of a value.
#[derive(Debug, Default)]
pub struct Properties<'t> {
    /// The number of the anchor, counted from 1, or 0 if the value has no anchor.
    pub anchor: usize,
    pub tag: Option<Cow<'t, Tag>>,
}

/// One event in the document.
#[derive(Debug)]
pub enum Event<'t> {
    /// `plain` is true if the scalar is written without quotes and not as a block.
    Scalar {
        text: Cow<'t, str>,
        plain: bool,
        properties: Properties<'t>,
    },
    ListStart(Properties<'t>),
    ListEnd,
    MapStart(Properties<'t>),
    MapEnd,
    /// A reference to the value with this anchor. The value may still be incomplete, as in `&a [*a]`.
    Alias(usize),
}

/// The reason why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    Syntax {
        message: String,
        place: Place,
    },
    /// A second document begins here.
    SecondDocument(Place),
    /// [`json::parse`] found a value that JSON does not have.
    Value {
        message: String,
        place: Place,
    },
    /// [`json::parse`] reached one of its limits, which says nothing about the text being wrong.
    Limit {
        message: String,
        place: Place,
    },
}

impl Error {
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Error::Syntax { place, .. }
            | Error::SecondDocument(place)
            | Error::Value { place, .. }
            | Error::Limit { place, .. } => *place,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Syntax { message, .. } | Error::Value { message, .. } | Error::Limit { message, .. } => {
                f.write_str(message)?
            }
            Error::SecondDocument(_) => f.write_str("the text holds more than one document")?,
        }
        let Place { line, column } = self.place();
        write!(f, " at line {line} column {column}")
    }
}

impl std::error::Error for Error {}

/// Reads the events of one document after the other.
pub struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    documents: usize,
    /// Whether further documents may follow the first.
    is_stream: bool,
    has_ended: bool,
}

impl<'t> Reader<'t> {
    /// Creates a reader of `text`. A byte order mark at the start is skipped.
    #[must_use]
    pub fn new(text: &'t str) -> Reader<'t> {
        let parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        Reader { parser, documents: 0, is_stream: false, has_ended: false }
    }

    /// Creates a reader of all documents of `text`. [`Reader::next_event`] returns `None` at the end of each.
    #[must_use]
    pub fn stream(text: &'t str) -> Reader<'t> {
        Reader { is_stream: true, ..Reader::new(text) }
    }

    /// Whether the text has ended, and not only the current document.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the next event and the place where it begins, or `None` after the end of the document. A `---` that nothing
    /// follows ends the text too, because programs that write lists of documents leave one.
    ///
    /// # Errors
    /// Fails if the text is not valid YAML, or if a second document begins.
    pub fn next_event(&mut self) -> Result<Option<(Event<'t>, Place)>, Error> {
        while let Some(next) = self.parser.next_event() {
            let (event, span) = next.map_err(|error| syntax_error(&error))?;
            let place = Place { line: span.start.line(), column: span.start.col() + 1 };
            let event = match event {
                Parsed::DocumentStart(_) => {
                    self.documents += 1;
                    if self.documents == 1 {
                        continue;
                    }
                    if self.is_stream {
                        return Ok(None);
                    }
                    return if self.rest_is_empty()? { Ok(None) } else { Err(Error::SecondDocument(place)) };
                }
                Parsed::Nothing | Parsed::StreamStart | Parsed::DocumentEnd => continue,
                Parsed::StreamEnd => {
                    self.has_ended = true;
                    return Ok(None);
                }
                Parsed::Alias(anchor) => Event::Alias(anchor),
                Parsed::Scalar(text, style, anchor, tag) => {
                    Event::Scalar { text, plain: style == ScalarStyle::Plain, properties: Properties { anchor, tag } }
                }
                Parsed::SequenceStart(anchor, tag) => Event::ListStart(Properties { anchor, tag }),
                Parsed::SequenceEnd => Event::ListEnd,
                Parsed::MappingStart(anchor, tag) => Event::MapStart(Properties { anchor, tag }),
                Parsed::MappingEnd => Event::MapEnd,
            };
            return Ok(Some((event, place)));
        }
        self.has_ended = true;
        Ok(None)
    }
}

impl Reader<'_> {
    /// Reads on after the start of a document, and returns whether the text ends without a value. The parser sends `~` for a
    /// missing value, at the place of what follows: the end of the text, or `...`. Only a written `~` has the width 1.
    fn rest_is_empty(&mut self) -> Result<bool, Error> {
        while let Some(next) = self.parser.next_event() {
            let (event, span) = next.map_err(|error| syntax_error(&error))?;
            match event {
                Parsed::Scalar(text, ScalarStyle::Plain, 0, None)
                    if text == "~" && span.end.index() - span.start.index() != 1 => {}
                Parsed::Nothing | Parsed::DocumentEnd => {}
                Parsed::StreamEnd => return Ok(true),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Whether the tag is `!`, which makes any scalar a string.
#[must_use]
pub fn is_non_specific(tag: &Tag) -> bool {
    matches!((tag.handle.as_str(), tag.suffix.as_str()), ("", "!") | ("!", ""))
}

fn syntax_error(error: &ScanError) -> Error {
    // The parser counts lines from one and columns from zero.
    let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
    Error::Syntax { message: error.info().to_owned(), place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Result<Vec<(String, usize, usize)>, Error> {
        let mut reader = Reader::new(text);
        let mut events = Vec::new();
        while let Some((event, place)) = reader.next_event()? {
            let name = match event {
                Event::Scalar { text, plain, .. } => format!("{text}{}", if plain { "" } else { " (quoted)" }),
                Event::Alias(anchor) => format!("*{anchor}"),
                other => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
            };
            events.push((name, place.line, place.column));
        }
        Ok(events)
    }

    #[test]
    fn places_count_from_one_and_in_characters() {
        let expected =
            [("MapStart", 1, 1), ("ä", 1, 1), ("ListStart", 1, 4), ("1", 1, 5), ("2 (quoted)", 1, 8), ("ListEnd", 1, 11)];
        let found = events("\u{feff}ä: [1, '2']\n").unwrap();
        let found: Vec<(&str, usize, usize)> = found.iter().map(|(name, line, column)| (name.as_str(), *line, *column)).collect();
        assert_eq!(found[..6], expected);
        assert_eq!(found[6].0, "MapEnd");
    }

    #[test]
    fn a_second_document_is_an_error() {
        assert_eq!(events("a: 1\n---\nb: 2\n"), Err(Error::SecondDocument(Place { line: 2, column: 1 })));
        assert!(events("---\na: 1\n...\n").is_ok());
        for second in ["---\n~\n", "--- ''\n", "--- !!str\n", "--- &a\n", "---\n---\nb: 2\n", "---\n- 1\n", "...\n---\nb: 2\n"] {
            assert!(matches!(events(&format!("a: 1\n{second}")), Err(Error::SecondDocument(_))), "{second:?}");
        }
    }

    #[test]
    fn a_stream_has_an_end_after_each_document() {
        let mut reader = Reader::stream("a: 1\n---\n# nothing\n---\n- b\n...\n");
        let mut documents = Vec::new();
        while !reader.has_ended() {
            let mut events = 0;
            while reader.next_event().unwrap().is_some() {
                events += 1;
            }
            documents.push(events);
        }
        assert_eq!(documents, [4, 1, 3], "an empty document is one scalar");
        let mut broken = Reader::stream("a: 1\n---\nb: [\n");
        while broken.next_event().is_ok_and(|event| event.is_some()) {}
        assert!(broken.next_event().is_ok_and(|event| event.is_some()));
    }

    #[test]
    fn a_marker_that_nothing_follows_is_the_end() {
        let expected = events("a: 1\n").unwrap();
        for end in ["---", "---\n", "--- \n\n", "--- # end\n", "...\n", "...\n---\n", "---\n...\n", "---\n# end\n"] {
            assert_eq!(events(&format!("a: 1\n{end}")), Ok(expected.clone()), "{end:?}");
        }
    }

    #[test]
    fn syntax_errors_name_their_place() {
        let error = events("a: [1").unwrap_err();
        assert!(matches!(&error, Error::Syntax { .. }) && error.to_string().contains(" at line "), "{error}");
    }
}
