//! Parses intents: JSON, JSON lines and YAML, from the API and from the folder.
//!
//! A text holds one intent, an array of them, or `{"intents": […]}`; JSON lines and YAML hold any number of these. Each item
//! has its own result, so an invalid item does not affect the others. A text that cannot be parsed at all is one [`Refusal`].

use super::document::item;
pub use super::item::{Fault, Item, Refusal};
use super::{json, lines, locate, schema, yaml};
use crate::model::{FilePlace, Intent, Problem};
use serde_json::Value;
use std::collections::HashMap;

/// The length at which pointers are cut in messages, because a key may be as long as the document.
const MAX_POINTER: usize = 300;

/// Limits for one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub bytes: usize,
    /// The maximum nesting depth.
    pub depth: usize,
    pub items: usize,
    /// Whether documents may be in the namespace `demo`. Only its seed may.
    pub demo: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 1 << 20, depth: 64, items: 10_000, demo: false }
    }
}

/// The format of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    /// One JSON value on each line.
    JsonLines,
    /// One or more documents.
    Yaml,
}

/// The rule for the names of files in the intents folder, for people.
pub const INTENT_FILE_NAMES: &str = "intents are in files whose names end in .json, .jsonl, .ndjson, .yaml or .yml and do not \
     begin with a dot; kustomization.yaml and *.schema.json are not intents";

impl Format {
    /// The format of a file by the end of its name, without regard to case: `.json`, `.jsonl`, `.ndjson`, `.yaml` or `.yml`.
    /// Returns `None` for other names, which do not hold intents: also those of kustomize and of JSON Schemas, which people
    /// keep beside intents.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Format> {
        let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let (stem, end) = name.rsplit_once('.')?;
        match end {
            "yaml" | "yml" if stem == "kustomization" => None,
            "json" if stem.ends_with(".schema") => None,
            "json" => Some(Format::Json),
            "jsonl" | "ndjson" => Some(Format::JsonLines),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }

    /// The format of a media type, in lower case and without parameters.
    #[must_use]
    pub fn from_media_type(media_type: &str) -> Option<Format> {
        match media_type {
            "application/json" | "text/json" => Some(Format::Json),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines" => Some(Format::JsonLines),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Some(Format::Yaml),
            other if !other.starts_with("application/") => None,
            other if other.ends_with("+json") => Some(Format::Json),
            other if other.ends_with("+yaml") => Some(Format::Yaml),
            _ => None,
        }
    }
}

/// A text that could be parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// In the order of the text.
    pub items: Vec<Item>,
    /// Whether the text holds a list, even of one intent, and not a single intent.
    pub is_list: bool,
}

impl Parsed {
    /// The valid intents.
    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.items.iter().filter_map(|item| item.outcome.as_ref().ok())
    }

    /// The problems of the refused items.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.items.iter().filter_map(|item| item.outcome.as_ref().err()).flat_map(|refusal| &refusal.problems)
    }

    /// The warnings of all items.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.items.iter().flat_map(|item| &item.warnings)
    }
}

/// Parses JSON: one intent, an array of them, or `{"intents": […]}`.
///
/// # Errors
/// If the text as a whole cannot be parsed. Invalid items are part of [`Parsed`].
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Parsed, Refusal> {
    parse_as(Format::Json, bytes, limits)
}

/// As [`parse`], for a text of any format.
///
/// # Errors
/// As [`parse`].
pub fn parse_as(format: Format, bytes: &[u8], limits: &Limits) -> Result<Parsed, Refusal> {
    Text { text: text(bytes, limits)?, format }.parse(limits, false)
}

/// Parses a batch: `{"intents": […]}`, an array of intents, or one intent, as JSON.
///
/// # Errors
/// As [`parse`], and for an object that is neither a batch nor an intent.
pub fn parse_batch(bytes: &[u8], limits: &Limits) -> Result<Parsed, Refusal> {
    parse_batch_as(Format::Json, bytes, limits)
}

/// As [`parse_batch`], for a text of any format.
///
/// # Errors
/// As [`parse_batch`].
pub fn parse_batch_as(format: Format, bytes: &[u8], limits: &Limits) -> Result<Parsed, Refusal> {
    Text { text: text(bytes, limits)?, format }.parse(limits, true)
}

/// Validates one document that is not part of a text, so that its problems have no positions.
#[must_use]
pub fn validate(document: Value) -> Item {
    item(document, false)
}

/// A text whose size and encoding were checked.
#[derive(Clone, Copy)]
pub(super) struct Text<'t> {
    pub text: &'t str,
    pub format: Format,
}

/// The documents of a text.
struct Documents {
    values: Vec<Value>,
    /// Whether an object contains a key twice. In YAML, such a key is an error.
    has_duplicates: bool,
}

impl Text<'_> {
    fn parse(self, limits: &Limits, is_batch: bool) -> Result<Parsed, Refusal> {
        if self.format == Format::JsonLines && !lines::is_one_value(self.text, limits.depth) {
            return lines::parse(self.text, limits, is_batch);
        }
        let Documents { values, has_duplicates } = self.read(limits)?;
        if values.is_empty() {
            return Err(empty());
        }
        let is_list = values.len() > 1;
        let mut parsed_as_list = is_list;
        let mut items = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let base = if is_list { format!("/{index}") } else { String::new() };
            parsed_as_list |= expand(&base, value, is_batch, &mut items)?;
        }
        if items.len() > limits.items {
            return Err(too_many(items.len(), limits));
        }
        Ok(Parsed { is_list: parsed_as_list, ..judge(self, items, is_list, has_duplicates, limits) })
    }

    fn read(self, limits: &Limits) -> Result<Documents, Refusal> {
        match self.format {
            Format::Json | Format::JsonLines => json::read(self.text, limits.depth)
                .map(|(value, has_duplicates)| Documents { values: vec![value], has_duplicates }),
            Format::Yaml => yaml::read(self.text, limits).map(|values| Documents { values, has_duplicates: false }),
        }
        .map_err(|syntax| not_readable(self, limits, syntax))
    }
}

/// Adds the intents of one document, with their pointers, to `items`. Returns whether the document is a list.
pub(super) fn expand(base: &str, document: Value, is_batch: bool, items: &mut Vec<(String, Value)>) -> Result<bool, Refusal> {
    let hint = "send a batch as {\"intents\": [ … ]}";
    let refuse = |problem: Problem| Err(Refusal::new(Fault::Invalid, problem));
    let mut add = |base: &str, list: Vec<Value>| {
        items.extend(list.into_iter().enumerate().map(|(index, item)| (format!("{base}/{index}"), item)));
        Ok(true)
    };
    match document {
        Value::Array(list) => add(base, list),
        Value::Object(mut fields) if fields.contains_key("intents") && !fields.contains_key("source_type") => {
            let base = format!("{base}/intents");
            match fields.remove("intents").unwrap_or_default() {
                Value::Array(list) => add(&base, list),
                other => {
                    let message = format!("expected an array, found {}", schema::shown("", &other));
                    refuse(Problem::new(base, message).hint(hint))
                }
            }
        }
        Value::Object(fields) if is_batch && !schema::resembles_an_intent(&fields) => {
            refuse(Problem::new(format!("{base}/intents"), "the required field intents is missing").hint(hint))
        }
        document @ Value::Object(_) => {
            items.push((base.to_string(), document));
            Ok(false)
        }
        other => {
            let message = format!("expected an object or an array of objects, found {}", schema::shown("", &other));
            refuse(Problem::new(base, message).hint("write a connection_intent as a JSON object: {\"source_type\": …}"))
        }
    }
}

pub(super) fn too_many(count: usize, limits: &Limits) -> Refusal {
    let message = format!("has {count} intents, more than the limit of {}", limits.items);
    Refusal::new(Fault::TooLarge, Problem::new("", message).hint("split it into several files or pushes"))
}

fn empty() -> Refusal {
    let problem = Problem::new("", "is empty").hint("write one intent or an array of them; [] stands for no intents");
    Refusal::new(Fault::NotJson, problem)
}

fn text<'b>(bytes: &'b [u8], limits: &Limits) -> Result<&'b str, Refusal> {
    if bytes.len() > limits.bytes {
        let message = format!("has {} bytes, more than the limit of {} bytes", bytes.len(), limits.bytes);
        return Err(Refusal::new(Fault::TooLarge, Problem::new("", message).hint("split it into several files or pushes")));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default()).into_owned();
        let place = FilePlace::from_offset(&good, good.len());
        Refusal::new(Fault::NotJson, Problem::new("", "is not valid UTF-8 from here on").at(place).hint("save it as UTF-8"))
    })?;
    if text.trim().is_empty() {
        return Err(empty());
    }
    Ok(text)
}

pub(super) fn not_readable(text: Text<'_>, limits: &Limits, syntax: json::Syntax) -> Refusal {
    if syntax.too_deep {
        let message = format!("is nested deeper than {} levels", limits.depth);
        return Refusal::new(
            Fault::Invalid,
            Problem::new("", message).at(syntax.place).hint("an intent has no nesting except evidence and owner"),
        );
    }
    if text.format == Format::Yaml {
        let problem = Problem::new("", format!("is not valid YAML: {}", syntax.message)).at(syntax.place);
        let hint = "check indentation, brackets and quotes here";
        return Refusal::new(Fault::NotJson, problem.hint(hint));
    }
    let cut = syntax.message.starts_with("EOF");
    let follows = syntax.message == "trailing characters";
    let hint = match (cut, text.text.contains('\0')) {
        _ if follows => {
            "a JSON file holds one value: write several intents as one array, or name a file with one intent per line *.jsonl"
        }
        (_, true) => "the text contains NUL characters; save it as UTF-8, not as UTF-16",
        (true, _) => "the text ends too early; close the last bracket or quote, or wait until the file is written",
        _ => "JSON does not allow comments, trailing commas or single quotes",
    };
    Refusal::new(Fault::NotJson, Problem::new("", format!("is not valid JSON: {}", syntax.message)).at(syntax.place).hint(hint))
}

/// Validates every item. If there are problems or warnings, a second pass finds their positions.
pub(super) fn judge(
    text: Text<'_>,
    items: Vec<(String, Value)>,
    is_stream: bool,
    has_duplicates: bool,
    limits: &Limits,
) -> Parsed {
    let (bases, mut items): (Vec<String>, Vec<Item>) =
        items.into_iter().map(|(base, value)| (base, item(value, limits.demo))).unzip();
    let fine = |item: &Item| item.outcome.is_ok() && item.warnings.is_empty();
    if !has_duplicates && items.iter().all(fine) {
        return Parsed { items, is_list: false };
    }
    for (base, item) in bases.iter().zip(&mut items) {
        findings(item).for_each(|problem| problem.pointer.insert_str(0, base));
    }
    let wanted: Vec<String> = items.iter_mut().flat_map(findings).map(|problem| problem.pointer.clone()).collect();
    let wanted = wanted.iter().map(String::as_str);
    let located = match text.format {
        Format::Json | Format::JsonLines => Positions::Json(locate::locate(text.text, wanted)),
        Format::Yaml => Positions::Yaml(yaml::locate(text.text, is_stream, wanted)),
    };
    for (base, item) in bases.iter().zip(&mut items) {
        for problem in findings(item) {
            problem.place = located.place(&problem.pointer);
        }
        let within = |pointer: &str| pointer.strip_prefix(base.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let doubles = located.duplicates().iter().filter(|(pointer, _)| within(pointer));
        refuse(item, doubles.map(|(pointer, place)| duplicate(pointer).at(*place)).collect());
        findings(item).for_each(|problem| shorten(&mut problem.pointer));
        if let Err(refusal) = &mut item.outcome {
            refusal.problems.sort_by(|a, b| (a.place, &a.pointer).cmp(&(b.place, &b.pointer)));
        }
    }
    Parsed { items, is_list: false }
}

/// The positions of pointers.
enum Positions {
    Json(locate::Located),
    Yaml(HashMap<String, FilePlace>),
}

impl Positions {
    fn place(&self, pointer: &str) -> Option<FilePlace> {
        match self {
            Positions::Json(located) => located.place(pointer),
            Positions::Yaml(places) => yaml::place_of(places, pointer),
        }
    }

    fn duplicates(&self) -> &[(String, FilePlace)] {
        match self {
            Positions::Json(located) => &located.duplicates,
            Positions::Yaml(_) => &[],
        }
    }
}

pub(super) fn findings(item: &mut Item) -> impl Iterator<Item = &mut Problem> {
    let problems = item.outcome.as_mut().err().map(|refusal| &mut refusal.problems);
    problems.into_iter().flatten().chain(&mut item.warnings)
}

fn duplicate(pointer: &str) -> Problem {
    Problem::new(pointer, "the field occurs twice").hint("remove one of the two")
}

fn refuse(item: &mut Item, more: Vec<Problem>) {
    if more.is_empty() {
        return;
    }
    match &mut item.outcome {
        Err(refusal) => refusal.problems.extend(more),
        accepted => *accepted = Err(Refusal { fault: Fault::Invalid, problems: more }),
    }
}

fn shorten(pointer: &mut String) {
    if let Some((cut, _)) = pointer.char_indices().nth(MAX_POINTER) {
        pointer.truncate(cut);
        pointer.push('…');
    }
}
