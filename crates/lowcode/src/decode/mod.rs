//! Decoders. They read the elements of a response body (`declarative/decoders/` in the CDK).
//!
//! Each decoder works on the whole body. The size of the body is limited before and after decompression.

mod csv;
pub mod file;
mod text;
mod xml;
mod zip;

use super::bounds::Bounds;
use super::error::Failed;
use super::response::Response;
use super::value::{Dict, Value};
use super::{inflate, json};
use csv::CsvParser;
use std::borrow::Cow;
use text::Encoding;

/// The decoder of a stream.
#[derive(Clone, Debug)]
pub enum Decoder {
    Json,
    Iterable,
    Xml,
    Zip(Parser),
    /// A parser that reads the body as it was received. The CDK reads such a body as a stream.
    Raw(Parser),
}

/// Parses an XML document as the `XmlDecoder` does. Returns `None` if it is not well-formed or nested too deeply.
#[must_use]
pub fn xml_document(text: &str, bounds: &Bounds) -> Option<Value> {
    xml::parse(text, bounds).ok().filter(|value| value.as_dict().is_some_and(|dict| !dict.is_empty()))
}

/// The parser of a composite decoder.
#[derive(Clone, Debug)]
pub enum Parser {
    Json,
    JsonLines,
    JsonItems { path: String, encoding: Encoding },
    Csv(CsvParser),
    Gzip(Box<Parser>),
}

impl Decoder {
    /// Builds the decoder for `node`. If there is no decoder component, the body is JSON.
    ///
    /// # Errors
    /// A nested decoder that does not have a parser, or an unknown encoding.
    pub fn build(node: Option<&Value>) -> Result<Decoder, Failed> {
        let Some(node) = node.filter(|it| !it.is_none()) else { return Ok(Decoder::Json) };
        Ok(match kind(node) {
            "JsonDecoder" => Decoder::Json,
            "IterableDecoder" => Decoder::Iterable,
            "XmlDecoder" => Decoder::Xml,
            "ZipfileDecoder" => Decoder::Zip(Parser::build(node.get("decoder").unwrap_or(&Value::None))?),
            _ => Decoder::Raw(Parser::build(node)?),
        })
    }

    /// Returns Python's class of a decoder that the CDK refuses together with a paginator.
    #[must_use]
    pub fn refused_for_pages(&self) -> Option<&'static str> {
        match self {
            Decoder::Json | Decoder::Xml | Decoder::Raw(Parser::Json) => None,
            Decoder::Raw(Parser::Gzip(inner)) if matches!(**inner, Parser::Json) => None,
            Decoder::Raw(_) => Some("composite_raw_decoder.CompositeRawDecoder"),
            Decoder::Iterable => Some("json_decoder.IterableDecoder"),
            Decoder::Zip(_) => Some("zipfile_decoder.ZipfileDecoder"),
        }
    }

    /// Whether the CDK reads the response as a stream. The paginator then gets `{}` instead of the body.
    #[must_use]
    pub fn streams(&self) -> bool {
        matches!(self, Decoder::Iterable | Decoder::Raw(_))
    }

    /// Returns all elements of the body in order.
    ///
    /// # Errors
    /// The exception that the CDK raises, or an error for a limit that is exceeded.
    pub fn decode<'r>(&self, response: &'r Response, bounds: &Bounds) -> Result<Cow<'r, [Value]>, Failed> {
        let read = match self {
            Decoder::Json => return Ok(json_records(response)),
            Decoder::Iterable => text::lines(response.content())?.into_iter().map(record).collect(),
            Decoder::Xml => vec![xml::parse(&response.text(), bounds)?],
            Decoder::Zip(parser) => zip::parse(response.content(), parser, bounds)?,
            Decoder::Raw(parser) => parser.parse(response.content(), bounds)?,
        };
        Ok(Cow::Owned(read))
    }

    /// Returns the first element, or `{}` if the response is a stream. The paginator and the session token provider use it.
    ///
    /// # Errors
    /// Same as [`Decoder::decode`].
    pub fn first<'r>(&self, response: &'r Response, bounds: &Bounds) -> Result<Option<Cow<'r, Value>>, Failed> {
        Ok(match self.decode(response, bounds)? {
            Cow::Borrowed(all) => all.first().map(Cow::Borrowed),
            Cow::Owned(all) => all.into_iter().next().map(Cow::Owned),
        })
    }
}

/// The CDK's `JsonDecoder`, which never fails. For an empty list it yields one empty record. For a body that it cannot read
/// it yields two: one in its error handler, and one because it has not yielded anything before (json_decoder.py).
fn json_records(response: &Response) -> Cow<'_, [Value]> {
    let empty = || Value::Dict(Dict::default());
    match response_json(response) {
        Some(Value::List(items)) if items.is_empty() => Cow::Owned(vec![empty()]),
        Some(Value::List(items)) => Cow::Borrowed(items),
        None | Some(Value::None) => Cow::Owned(vec![empty(), empty()]),
        Some(other) => Cow::Borrowed(std::slice::from_ref(other)),
    }
}

/// Parses a body as JSON. Unlike [`Response::json`], this fails on a byte order mark.
fn response_json(response: &Response) -> Option<&Value> {
    if response.content().starts_with(b"\xef\xbb\xbf") {
        return None;
    }
    response.json()
}

fn record(line: &str) -> Value {
    Value::Dict(Dict::from_iter([("record".into(), Value::str(line))]))
}

fn kind(node: &Value) -> &str {
    node.get("type").and_then(Value::as_str).unwrap_or_default()
}

impl Parser {
    fn build(node: &Value) -> Result<Parser, Failed> {
        let encoding = |default: &str| Encoding::parse(node.get("encoding").and_then(Value::as_str).unwrap_or(default));
        Ok(match kind(node) {
            "JsonDecoder" => Parser::Json,
            "JsonlDecoder" => Parser::JsonLines,
            "JsonItemsDecoder" => Parser::JsonItems {
                path: node.get("items_path").map(Value::to_str).unwrap_or_default(),
                encoding: encoding("utf-8")?,
            },
            "CsvDecoder" => Parser::Csv(CsvParser::build(node, encoding("utf-8")?)?),
            "GzipDecoder" => Parser::Gzip(Box::new(Parser::build(node.get("decoder").unwrap_or(&Value::None))?)),
            other => {
                let message = format!("Decoder type {other} does not have parser associated to it");
                return Err(Failed::system("ValueError", message));
            }
        })
    }

    /// The depth of the recursion is limited, because the nesting of the manifest is limited.
    fn parse(&self, bytes: &[u8], bounds: &Bounds) -> Result<Vec<Value>, Failed> {
        match self {
            Parser::Json => parse_json(bytes, bounds),
            Parser::JsonLines => json_lines(bytes, bounds),
            Parser::JsonItems { path, encoding } => json_items(bytes, path, *encoding, bounds),
            Parser::Csv(parser) => parser.parse(bytes),
            Parser::Gzip(inner) if inflate::is_gzip(bytes) => inner.parse(&inflate::gunzip(bytes, bounds.body_bytes)?, bounds),
            // A body that is not compressed is passed on unchanged.
            Parser::Gzip(inner) => inner.parse(bytes, bounds),
        }
    }
}

fn parse_json(bytes: &[u8], bounds: &Bounds) -> Result<Vec<Value>, Failed> {
    let value = std::str::from_utf8(bytes).ok().and_then(|text| json::parse(text, bounds.depth).ok());
    match value {
        Some(Value::List(items)) => Ok(items),
        Some(Value::None) | None => Err(Failed::system(
            "AirbyteTracedException",
            "Response JSON data failed to be parsed. See logs for more information.",
        )),
        Some(other) => Ok(vec![other]),
    }
}

/// Parses one document per line. Lines that are not valid JSON are skipped.
fn json_lines(bytes: &[u8], bounds: &Bounds) -> Result<Vec<Value>, Failed> {
    let mut out = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = json::parse(text::utf8(line)?, bounds.depth) {
            out.push(value);
        }
    }
    Ok(out)
}

/// Returns the items of the list at a dotted path.
fn json_items(bytes: &[u8], path: &str, encoding: Encoding, bounds: &Bounds) -> Result<Vec<Value>, Failed> {
    if path.is_empty() {
        return Err(Failed::system("ValueError", "JsonItemsParser requires a non-empty items_path."));
    }
    let text = encoding.decode(bytes)?;
    let document = json::parse(&text, bounds.depth)
        .map_err(|error| Failed::system("IncompleteJSONError", format!("{} at byte {}", error.what, error.at)))?;
    let found = path.split('.').try_fold(&document, |value, step| value.get(step));
    Ok(found.and_then(Value::as_list).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests;
