//! Decoders: the records of a body (`declarative/decoders/`).
//!
//! Each works on the whole body, which is bounded before and after decompression.

mod csv;
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

/// What reads a body.
#[derive(Clone, Debug)]
pub enum Decoder {
    Json,
    Iterable,
    Xml,
    Zip(Parser),
    /// A parser upon the body as it came; the CDK reads it as a stream.
    Raw(Parser),
}

/// What reads the bytes inside.
#[derive(Clone, Debug)]
pub enum Parser {
    Json,
    JsonLines,
    JsonItems { path: String, encoding: Encoding },
    Csv(CsvParser),
    Gzip(Box<Parser>),
}

impl Decoder {
    /// Reads a decoder; none is JSON.
    ///
    /// # Errors
    /// A decoder inside that has no parser, or an encoding that is not known.
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

    /// Whether the CDK reads the answer as a stream: then the paginator sees `{}` instead of the body.
    #[must_use]
    pub fn streams(&self) -> bool {
        matches!(self, Decoder::Iterable | Decoder::Raw(_))
    }

    /// All elements of the body, in order.
    ///
    /// # Errors
    /// What the CDK raises, and a bound that was met.
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

    /// The first element, as the paginator and the session token take it; `{}` where the answer is a stream.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn first<'r>(&self, response: &'r Response, bounds: &Bounds) -> Result<Option<Cow<'r, Value>>, Failed> {
        Ok(match self.decode(response, bounds)? {
            Cow::Borrowed(all) => all.first().map(Cow::Borrowed),
            Cow::Owned(all) => all.into_iter().next().map(Cow::Owned),
        })
    }
}

/// `JsonDecoder` never fails. It gives an empty record for an empty list, and two for what it cannot read: one as it
/// catches the error, one as nothing was given (json_decoder.py).
fn json_records(response: &Response) -> Cow<'_, [Value]> {
    let empty = || Value::Dict(Dict::default());
    match response_json(response) {
        Some(Value::List(items)) if items.is_empty() => Cow::Owned(vec![empty()]),
        Some(Value::List(items)) => Cow::Borrowed(items),
        None | Some(Value::None) => Cow::Owned(vec![empty(), empty()]),
        Some(other) => Cow::Borrowed(std::slice::from_ref(other)),
    }
}

/// The JSON of a body, without the forgiveness of [`Response::json`] for a byte order mark.
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
        let encoding = |default: &str| Encoding::of(node.get("encoding").and_then(Value::as_str).unwrap_or(default));
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

    /// The depth of recursion is that of the manifest.
    fn parse(&self, bytes: &[u8], bounds: &Bounds) -> Result<Vec<Value>, Failed> {
        match self {
            Parser::Json => parse_json(bytes, bounds),
            Parser::JsonLines => json_lines(bytes, bounds),
            Parser::JsonItems { path, encoding } => json_items(bytes, path, *encoding, bounds),
            Parser::Csv(parser) => parser.parse(bytes),
            Parser::Gzip(inner) if inflate::is_gzip(bytes) => inner.parse(&inflate::gunzip(bytes, bounds.body_bytes)?, bounds),
            // What is not compressed passes.
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

/// One document a line; a line that is none is left out.
fn json_lines(bytes: &[u8], bounds: &Bounds) -> Result<Vec<Value>, Failed> {
    let mut out = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = json::parse(text::utf8(line)?, bounds.depth) {
            out.push(value);
        }
    }
    Ok(out)
}

/// The items of the list at a dotted path.
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
