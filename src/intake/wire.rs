//! Parses intents: JSON from the API, JSON and YAML from the folder.
//!
//! A text holds one intent or an array of them. Each item has its own result, so an invalid item does not affect the
//! others. A text that cannot be parsed at all is one [`Refusal`].

use super::document::item;
pub use super::item::{Fault, Item, Refusal};
use super::{json, locate, schema, yaml};
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
    Yaml,
}

/// The rule for the names of files in the intents folder, for people.
pub const INTENT_FILE_NAMES: &str = "intents are in files whose names end in .json, .yaml or .yml and do not begin with a dot";

impl Format {
    /// The format of a file by the end of its name, without regard to case: `.json`, `.yaml` or `.yml`. Returns `None` for
    /// other names, which do not hold intents.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Format> {
        let (_, end) = path.rsplit_once('.')?;
        match end.to_ascii_lowercase().as_str() {
            "json" => Some(Format::Json),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }
}

/// A text that could be parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// In the order of the text.
    pub items: Vec<Item>,
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

/// Parses one intent or an array of them, as JSON.
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
    let text = Text { text: text(bytes, limits)?, format };
    match text.read(limits)? {
        (Value::Array(items), twice) => many(text, "", items, twice, limits),
        (document @ Value::Object(_), twice) => Ok(judge(text, vec![(String::new(), document)], twice, limits)),
        (other, _) => {
            let problem =
                Problem::new("", format!("expected an object or an array of objects, found {}", schema::shown("", &other)));
            Err(Refusal::new(Fault::Invalid, problem.hint("write a connection_intent as a JSON object: {\"source_type\": …}")))
        }
    }
}

/// Parses `{"intents": […]}`, the body of a batch.
///
/// # Errors
/// As [`parse`], and if the envelope is not valid.
pub fn parse_batch(bytes: &[u8], limits: &Limits) -> Result<Parsed, Refusal> {
    let text = Text { text: text(bytes, limits)?, format: Format::Json };
    let (value, twice) = text.read(limits)?;
    let hint = "send a batch as {\"intents\": [ … ]}";
    let Value::Object(mut envelope) = value else {
        return Err(Refusal::new(
            Fault::Invalid,
            Problem::new("", format!("expected an object, found {}", schema::shown("", &value))).hint(hint),
        ));
    };
    match envelope.remove("intents") {
        Some(Value::Array(items)) => many(text, "/intents", items, twice, limits),
        Some(other) => {
            let problem = Problem::new("/intents", format!("expected an array, found {}", schema::shown("", &other)));
            Err(Refusal::new(Fault::Invalid, problem.hint(hint)))
        }
        None => Err(Refusal::new(Fault::Invalid, Problem::new("/intents", "the required field intents is missing").hint(hint))),
    }
}

/// Validates one document that is not part of a text, so that its problems have no positions.
#[must_use]
pub fn validate(document: Value) -> Item {
    item(document, false)
}

/// A text whose size and encoding were checked.
#[derive(Clone, Copy)]
struct Text<'t> {
    text: &'t str,
    format: Format,
}

impl Text<'_> {
    /// The value, and whether an object contains a key twice. In YAML, such a key is an error.
    fn read(self, limits: &Limits) -> Result<(Value, bool), Refusal> {
        match self.format {
            Format::Json => json::read(self.text, limits.depth),
            Format::Yaml => yaml::read(self.text, limits).map(|value| (value, false)),
        }
        .map_err(|syntax| not_readable(self, limits, syntax))
    }
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
        let problem = Problem::new("", "is empty").hint("write one intent or an array of them; [] stands for no intents");
        return Err(Refusal::new(Fault::NotJson, problem));
    }
    Ok(text)
}

fn not_readable(text: Text<'_>, limits: &Limits, syntax: json::Syntax) -> Refusal {
    if syntax.too_deep {
        let message = format!("is nested deeper than {} levels", limits.depth);
        return Refusal::new(
            Fault::Invalid,
            Problem::new("", message).at(syntax.place).hint("an intent has no nesting except evidence and owner"),
        );
    }
    if text.format == Format::Yaml {
        let problem = Problem::new("", format!("is not valid YAML: {}", syntax.message)).at(syntax.place);
        let hint = "check indentation, brackets and quotes here; a file holds one intent or one list of intents";
        return Refusal::new(Fault::NotJson, problem.hint(hint));
    }
    let cut = syntax.message.starts_with("EOF");
    let hint = match (cut, text.text.contains('\0')) {
        (_, true) => "the text contains NUL characters; save it as UTF-8, not as UTF-16",
        (true, _) => "the text ends too early; close the last bracket or quote, or wait until the file is written",
        _ => "JSON does not allow comments, trailing commas or single quotes",
    };
    Refusal::new(Fault::NotJson, Problem::new("", format!("is not valid JSON: {}", syntax.message)).at(syntax.place).hint(hint))
}

fn many(text: Text<'_>, base: &str, items: Vec<Value>, twice: bool, limits: &Limits) -> Result<Parsed, Refusal> {
    if items.len() > limits.items {
        let message = format!("has {} intents, more than the limit of {}", items.len(), limits.items);
        return Err(Refusal::new(Fault::TooLarge, Problem::new(base, message).hint("split it into several files or pushes")));
    }
    let items = items.into_iter().enumerate().map(|(index, item)| (format!("{base}/{index}"), item)).collect();
    Ok(judge(text, items, twice, limits))
}

/// Validates every item. If there are problems or warnings, a second pass finds their positions.
fn judge(text: Text<'_>, items: Vec<(String, Value)>, twice: bool, limits: &Limits) -> Parsed {
    let (bases, mut items): (Vec<String>, Vec<Item>) =
        items.into_iter().map(|(base, value)| (base, item(value, limits.demo))).unzip();
    let fine = |item: &Item| item.outcome.is_ok() && item.warnings.is_empty();
    if !twice && items.iter().all(fine) {
        return Parsed { items };
    }
    for (base, item) in bases.iter().zip(&mut items) {
        findings(item).for_each(|problem| problem.pointer.insert_str(0, base));
    }
    let wanted: Vec<String> = items.iter_mut().flat_map(findings).map(|problem| problem.pointer.clone()).collect();
    let wanted = wanted.iter().map(String::as_str);
    let located = match text.format {
        Format::Json => Positions::Json(locate::locate(text.text, wanted)),
        Format::Yaml => Positions::Yaml(yaml::locate(text.text, wanted)),
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
    Parsed { items }
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

fn findings(item: &mut Item) -> impl Iterator<Item = &mut Problem> {
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
