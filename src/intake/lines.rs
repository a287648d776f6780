//! JSON lines: one JSON value on each line. A line that is not valid does not affect the others.

use super::item::{Fault, Item, Refusal};
use super::json;
use super::wire::{Format, Limits, Parsed, Text, expand, findings, judge, not_readable, too_many};
use serde_json::Value;

/// Whether the text is one JSON value that is written on several lines.
pub(super) fn is_one_value(text: &str, depth: usize) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    json::read(first, depth).is_err() && json::read(text, depth).is_ok()
}

/// Parses every line. Pointers begin with the number of the line among those that are not blank, counted from 0.
///
/// # Errors
/// If there are more intents than the limit.
pub(super) fn parse(text: &str, limits: &Limits, is_batch: bool) -> Result<Parsed, Refusal> {
    let mut items: Vec<Item> = Vec::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (index, (number, line)) in lines.enumerate() {
        let mut parsed = parse_line(line, limits, is_batch).unwrap_or_else(|refusal| vec![refused(refusal)]);
        for problem in parsed.iter_mut().flat_map(findings) {
            problem.pointer.insert_str(0, &format!("/{index}"));
            if let Some(place) = &mut problem.place {
                place.line += number;
            }
        }
        items.append(&mut parsed);
        if items.len() > limits.items {
            return Err(too_many(items.len(), limits));
        }
    }
    Ok(Parsed { items, is_list: true })
}

fn parse_line(line: &str, limits: &Limits, is_batch: bool) -> Result<Vec<Item>, Refusal> {
    let text = Text { text: line, format: Format::Json };
    let (value, has_duplicates) = json::read(line, limits.depth).map_err(|syntax| not_readable(text, limits, syntax))?;
    let mut items: Vec<(String, Value)> = Vec::new();
    expand("", value, is_batch, &mut items)?;
    Ok(judge(text, items, false, has_duplicates, limits).items)
}

fn refused(refusal: Refusal) -> Item {
    let Refusal { fault, problems } = refusal;
    // The text as a whole is readable, so a line that is not JSON is an invalid item.
    let fault = if fault == Fault::NotJson { Fault::Invalid } else { fault };
    Item { outcome: Err(Refusal { fault, problems }), warnings: Vec::new() }
}
