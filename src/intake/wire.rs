//! Bytes -> intents. The folder and the API push meet here.
//!
//! One text holds one object or an array of them. A bad item never costs the others: each item has
//! an outcome of its own, and a text that cannot be read at all is one [`Refusal`].

use super::json::{self, token};
use super::{leaks, schema};
use crate::model::intent::SAFE_READONLY;
use crate::model::{Intent, Problem, Timestamp};
use serde_json::{Map, Value};

/// The namespace of a document that names none.
pub const DEFAULT_NAMESPACE: &str = "autonomy";

/// Written in place of a secret that sat in an unknown field.
pub const REMOVED: &str = "[removed: looked like a secret]";

/// Unknown fields of one document that are named one by one.
const MAX_WARNINGS: usize = 20;

/// Pointers are cut here in what people read: a key may be as long as the document.
const MAX_POINTER: usize = 300;

/// How much one text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub bytes: usize,
    /// Levels of nesting.
    pub depth: usize,
    pub items: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 1 << 20, depth: 64, items: 10_000 }
    }
}

/// Why something was refused, for a machine: the HTTP status follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More bytes or items than allowed: 413.
    TooLarge,
    /// Not UTF-8 or no JSON: 400.
    NotJson,
    /// JSON, but no acceptable document: 422.
    Invalid,
    /// A `scopes_mode` other than `safe_readonly`, whatever else is wrong: 403.
    UnsafeScopes,
}

/// A refused text or item with all its problems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub fault: Fault,
    pub problems: Vec<Problem>,
}

/// One text that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// In the order of the text.
    pub items: Vec<Item>,
}

/// One document of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub outcome: Result<Intent, Refusal>,
    /// Unknown fields; also there when the item was refused.
    pub warnings: Vec<Problem>,
}

impl Parsed {
    /// The accepted documents.
    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.items.iter().filter_map(|item| item.outcome.as_ref().ok())
    }

    /// The problems of the refused ones.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.items.iter().filter_map(|item| item.outcome.as_ref().err()).flat_map(|refusal| &refusal.problems)
    }

    /// The warnings of all.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.items.iter().flat_map(|item| &item.warnings)
    }
}

impl Refusal {
    fn of(fault: Fault, problem: Problem) -> Refusal {
        Refusal { fault, problems: vec![problem] }
    }
}

/// Reads one intent or an array of them.
///
/// # Errors
/// When the text as a whole cannot be read; bad items are outcomes in [`Parsed`].
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Parsed, Refusal> {
    let text = text(bytes, limits)?;
    match json::read(text, limits.depth).map_err(|syntax| not_json(text, limits, syntax))? {
        (Value::Array(items), twice) => many(text, "", items, twice, limits),
        (document @ Value::Object(_), twice) => Ok(judge(text, vec![(String::new(), document)], twice)),
        (other, _) => {
            let problem = Problem::new("", format!("expected an object or an array of objects, found {}", schema::shown("", &other)));
            Err(Refusal::of(Fault::Invalid, problem.hint("a connection_intent is a JSON object: {\"source_type\": …}")))
        }
    }
}

/// Reads `{"intents": […]}`, the body of a batch push.
///
/// # Errors
/// As [`parse`], and when the envelope has another form.
pub fn parse_batch(bytes: &[u8], limits: &Limits) -> Result<Parsed, Refusal> {
    let text = text(bytes, limits)?;
    let (value, twice) = json::read(text, limits.depth).map_err(|syntax| not_json(text, limits, syntax))?;
    let hint = "a batch is {\"intents\": [ … ]}";
    let Value::Object(mut envelope) = value else {
        return Err(Refusal::of(Fault::Invalid, Problem::new("", format!("expected an object, found {}", schema::shown("", &value))).hint(hint)));
    };
    match envelope.remove("intents") {
        Some(Value::Array(items)) => many(text, "/intents", items, twice, limits),
        Some(other) => {
            let problem = Problem::new("/intents", format!("expected an array, found {}", schema::shown("", &other)));
            Err(Refusal::of(Fault::Invalid, problem.hint(hint)))
        }
        None => Err(Refusal::of(Fault::Invalid, Problem::new("/intents", "the required field intents is missing").hint(hint))),
    }
}

fn text<'b>(bytes: &'b [u8], limits: &Limits) -> Result<&'b str, Refusal> {
    if bytes.len() > limits.bytes {
        let message = format!("holds {} bytes, more than the {} that are read", bytes.len(), limits.bytes);
        return Err(Refusal::of(Fault::TooLarge, Problem::new("", message).hint("split it into several files or pushes")));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default()).into_owned();
        let place = crate::model::Place::of_offset(&good, good.len());
        Refusal::of(Fault::NotJson, Problem::new("", "is not UTF-8 from here on").at(place).hint("save it as UTF-8"))
    })?;
    if text.trim().is_empty() {
        let problem = Problem::new("", "is empty").hint("write one intent or an array of them; [] desires nothing");
        return Err(Refusal::of(Fault::NotJson, problem));
    }
    Ok(text)
}

fn not_json(text: &str, limits: &Limits, syntax: json::Syntax) -> Refusal {
    if syntax.too_deep {
        let message = format!("is nested deeper than {} levels", limits.depth);
        return Refusal::of(Fault::Invalid, Problem::new("", message).at(syntax.place).hint("an intent is flat: fields, evidence and owner"));
    }
    let cut = syntax.message.starts_with("EOF");
    let hint = match (cut, text.contains('\0')) {
        (_, true) => "the text holds NUL characters: save it as UTF-8, not UTF-16 or a padded block",
        (true, _) => "the text ends too early: a bracket or quote is not closed, or it is still being written",
        _ => "JSON has no comments, no trailing commas and only double quotes",
    };
    Refusal::of(Fault::NotJson, Problem::new("", format!("is no JSON: {}", syntax.message)).at(syntax.place).hint(hint))
}

fn many(text: &str, base: &str, items: Vec<Value>, twice: bool, limits: &Limits) -> Result<Parsed, Refusal> {
    if items.len() > limits.items {
        let message = format!("holds {} intents, more than the {} that are read", items.len(), limits.items);
        return Err(Refusal::of(Fault::TooLarge, Problem::new(base, message).hint("split it into several files or pushes")));
    }
    let items = items.into_iter().enumerate().map(|(index, item)| (format!("{base}/{index}"), item)).collect();
    Ok(judge(text, items, twice))
}

/// Judges every item, then gives all findings their places in one more pass, if there are any.
fn judge(text: &str, items: Vec<(String, Value)>, twice: bool) -> Parsed {
    let (bases, mut items): (Vec<String>, Vec<Item>) = items.into_iter().map(|(base, value)| (base, item(value))).unzip();
    let fine = |item: &Item| item.outcome.is_ok() && item.warnings.is_empty();
    if !twice && items.iter().all(fine) {
        return Parsed { items };
    }
    for (base, item) in bases.iter().zip(&mut items) {
        findings(item).for_each(|problem| problem.pointer.insert_str(0, base));
    }
    let wanted: Vec<String> = items.iter_mut().flat_map(findings).map(|problem| problem.pointer.clone()).collect();
    let located = json::locate(text, wanted.iter().map(String::as_str));
    for (base, item) in bases.iter().zip(&mut items) {
        for problem in findings(item) {
            problem.place = located.place(&problem.pointer);
        }
        let within = |pointer: &str| pointer.strip_prefix(base.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let doubles = located.duplicates.iter().filter(|(pointer, _)| within(pointer));
        refuse(item, doubles.map(|(pointer, place)| duplicate(pointer).at(*place)).collect());
        findings(item).for_each(|problem| shorten(&mut problem.pointer));
        if let Err(refusal) = &mut item.outcome {
            refusal.problems.sort_by(|a, b| (a.place, &a.pointer).cmp(&(b.place, &b.pointer)));
        }
    }
    Parsed { items }
}

fn findings(item: &mut Item) -> impl Iterator<Item = &mut Problem> {
    let problems = item.outcome.as_mut().err().map(|refusal| &mut refusal.problems);
    problems.into_iter().flatten().chain(&mut item.warnings)
}

fn duplicate(pointer: &str) -> Problem {
    Problem::new(pointer, "the field is there twice").hint("keep one of the two; which one is meant cannot be told")
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

/// Judges one document; pointers are relative to it and places are still open.
fn item(mut document: Value) -> Item {
    let warnings = unknown_fields(&mut document);
    let mut problems = schema::problems(&document);
    problems.extend(misplaced_secrets(&document));
    problems.extend(bad_instant(&document, &problems));
    let fault = if schema::unsafe_scopes(&document) { Fault::UnsafeScopes } else { Fault::Invalid };
    let outcome = if problems.is_empty() { accept(document) } else { Err(Refusal { fault, problems }) };
    Item { outcome, warnings }
}

/// The schema's date-time and AAM's clock must agree on every instant.
fn bad_instant(document: &Value, problems: &[Problem]) -> Option<Problem> {
    let ts = document.pointer("/evidence/ts")?.as_str()?;
    let known = problems.iter().any(|problem| problem.pointer == "/evidence/ts");
    (!known && Timestamp::parse(ts).is_err())
        .then(|| Problem::new("/evidence/ts", "is no instant that AAM can reckon with").hint("for example 2026-11-08T18:00:00Z"))
}

/// Warns of unknown fields and takes secrets out of them: documents are stored and shown.
fn unknown_fields(document: &mut Value) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for place in ["", "/evidence", "/owner"] {
        let (Some(known), Some(Value::Object(fields))) = (schema::known_fields(place), document.pointer_mut(place)) else { continue };
        for (name, value) in fields.iter_mut().filter(|(name, _)| !known.contains(&name.as_str())) {
            let removed = remove_secrets(name, value);
            let near = crate::model::problem::nearest(name, known.iter().copied());
            let hint = match near {
                _ if removed => format!("it looked like a secret and is stored as {REMOVED}; say where it lives in credential_locator"),
                Some(near) => format!("did you mean {near}?"),
                None => "it is stored with the intent and has no effect".to_string(),
            };
            warnings.push(Problem::new(format!("{place}/{}", token(name)), "is an unknown field").hint(hint));
        }
    }
    let more = warnings.len().saturating_sub(MAX_WARNINGS);
    warnings.truncate(MAX_WARNINGS);
    if more > 0 {
        warnings.push(Problem::new("", format!("there are {more} more unknown fields")));
    }
    warnings
}

/// Replaces secret strings below an unknown field; says whether there was one.
fn remove_secrets(name: &str, value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let secret = leaks::secret_name(name) || leaks::secret_value(text) || leaks::secret_in_address(text);
            if secret {
                *text = REMOVED.to_string();
            }
            secret
        }
        Value::Array(items) => items.iter_mut().fold(false, |any, item| remove_secrets(name, item) || any),
        Value::Object(map) => map.iter_mut().fold(false, |any, (key, item)| remove_secrets(key, item) || any),
        _ => false,
    }
}

/// Known fields that hold a credential. The value is not repeated.
fn misplaced_secrets(document: &Value) -> Vec<Problem> {
    let hint = "remove it and rotate it; put it into an environment variable and write \"credential_locator\": \"env:NAME\"";
    let mut problems = Vec::new();
    let ids = document.get("resource_ids").and_then(Value::as_array).into_iter().flatten().take(64).enumerate();
    for (index, id) in ids.filter_map(|(index, id)| id.as_str().map(|id| (index, id))) {
        if leaks::secret_in_address(id) || leaks::secret_value(id) {
            problems.push(Problem::new(format!("/resource_ids/{index}"), "holds a credential").hint(hint));
        }
    }
    for pointer in ["/credential_locator", "/source_type", "/namespace", "/evidence/status", "/owner/user"] {
        let text = document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let behind = text.split_once(':').filter(|_| pointer == "/credential_locator").map_or(text, |(_, rest)| rest);
        if leaks::secret_value(behind) {
            problems.push(Problem::new(pointer, "holds a credential itself").hint(hint));
        }
    }
    problems
}

/// Fills defaults and brings the document into its one form. The schema has passed.
fn accept(mut document: Value) -> Result<Intent, Refusal> {
    // Nested extras too must not depend on the order in which they were written.
    document.sort_all_objects();
    if let Some(fields) = document.as_object_mut() {
        normalise(fields);
    }
    // The parser's words are dropped on purpose: they may repeat a value.
    serde_json::from_value(document).map_err(|_| {
        let problem = Problem::new("", "passed the schema but does not fit AAM's model").hint("report this as a defect of aam");
        Refusal::of(Fault::Invalid, problem)
    })
}

fn normalise(fields: &mut Map<String, Value>) {
    fields.entry("scopes_mode").or_insert_with(|| SAFE_READONLY.into());
    fields.entry("namespace").or_insert_with(|| DEFAULT_NAMESPACE.into());
    if let Some(Value::Array(ids)) = fields.get_mut("resource_ids") {
        ids.sort_unstable_by(|a, b| a.as_str().cmp(&b.as_str()));
        ids.dedup();
    }
}
