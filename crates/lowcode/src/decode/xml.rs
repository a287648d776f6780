//! Converts XML to dicts as `xmltodict.parse` does. Attributes become `@name`, and text beside other content becomes `#text`.

use crate::bounds::Bounds;
use crate::error::Failed;
use crate::value::{Dict, Value};
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Converts the document to one dict. As in `xml_decoder.py`, the result is `{}` if the document is not well-formed.
pub(super) fn parse(text: &str, bounds: &Bounds) -> Result<Value, Failed> {
    match Document::default().read(text, bounds.depth) {
        Ok(value) => Ok(value),
        Err(ParseError::Malformed) => Ok(Value::Dict(Dict::default())),
        Err(ParseError::Failed(failed)) => Err(failed),
    }
}

enum ParseError {
    /// The error for a document that Expat, Python's parser, would reject.
    Malformed,
    Failed(Failed),
}

/// An element whose end tag has not been read yet.
#[derive(Default)]
struct OpenElement {
    name: String,
    item: Option<Dict>,
    text: String,
}

#[derive(Default)]
struct Document {
    open: Vec<OpenElement>,
    root: Option<(String, Value)>,
    /// Whether the document has a document type declaration. As in xmltodict, entities that it may define are left out.
    declared: bool,
}

impl Document {
    fn read(mut self, text: &str, depth: usize) -> Result<Value, ParseError> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_end_names = true;
        loop {
            match reader.read_event().map_err(|_| ParseError::Malformed)? {
                Event::Start(start) => self.start(&start, depth)?,
                Event::Empty(start) => {
                    self.start(&start, depth)?;
                    self.end()?;
                }
                Event::End(_) => self.end()?,
                Event::Text(text) if text.contains("]]>") => return Err(ParseError::Malformed),
                Event::Text(text) => self.text(&text)?,
                Event::CData(data) => self.text(&data)?,
                Event::GeneralRef(entity) => self.entity(&entity)?,
                Event::DocType(_) => self.declared = true,
                // Expat accepts the XML declaration only at the very start.
                Event::Decl(_) if !text.trim_start_matches('\u{feff}').starts_with("<?xml") => return Err(ParseError::Malformed),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        match self.root {
            Some((name, value)) if self.open.is_empty() => Ok(Value::Dict(Dict::from_iter([(name.into(), value)]))),
            _ => Err(ParseError::Malformed),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>, depth: usize) -> Result<(), ParseError> {
        if self.open.len() >= depth {
            return Err(ParseError::Failed(Failed::bound("levels of an XML body", depth)));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(ParseError::Malformed);
        }
        let name = start.name().as_ref().to_owned();
        let mut item = Dict::default();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|_| ParseError::Malformed)?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| ParseError::Malformed)?;
            item.insert(format!("@{}", attribute.key.as_ref()).into(), Value::str(&*value));
        }
        self.open.push(OpenElement { name, item: (!item.is_empty()).then_some(item), text: String::new() });
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), ParseError> {
        match self.open.last_mut() {
            Some(open) => {
                // Expat reports every line break as "\n".
                open.text.push_str(&text.replace("\r\n", "\n").replace('\r', "\n"));
                Ok(())
            }
            None if text.trim_matches(['\u{feff}', ' ', '\t', '\r', '\n']).is_empty() => Ok(()),
            None => Err(ParseError::Malformed),
        }
    }

    fn entity(&mut self, entity: &BytesRef<'_>) -> Result<(), ParseError> {
        if let Some(char) = entity.resolve_char_ref().map_err(|_| ParseError::Malformed)? {
            return self.push(char);
        }
        let char = match &**entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ if self.declared => return Ok(()),
            _ => return Err(ParseError::Malformed),
        };
        self.push(char)
    }

    fn push(&mut self, char: char) -> Result<(), ParseError> {
        self.open.last_mut().map(|open| open.text.push(char)).ok_or(ParseError::Malformed)
    }

    fn end(&mut self) -> Result<(), ParseError> {
        let Some(open) = self.open.pop() else { return Err(ParseError::Malformed) };
        let text = Some(open.text.trim()).filter(|it| !it.is_empty());
        let value = match (open.item, text) {
            (Some(mut item), text) => {
                if let Some(text) = text {
                    push(&mut item, "#text", Value::str(text));
                }
                Value::Dict(item)
            }
            (None, Some(text)) => Value::str(text),
            (None, None) => Value::None,
        };
        match self.open.last_mut() {
            Some(parent) => push(parent.item.get_or_insert_default(), &open.name, value),
            None => self.root = Some((open.name, value)),
        }
        Ok(())
    }
}

/// Adds a child. If its name occurs again, the value becomes a list.
fn push(item: &mut Dict, key: &str, value: Value) {
    match item.get_mut(key) {
        None => drop(item.insert(key.into(), value)),
        Some(Value::List(list)) => list.push(value),
        Some(there) => {
            let first = std::mem::take(there);
            *there = Value::List(vec![first, value]);
        }
    }
}
