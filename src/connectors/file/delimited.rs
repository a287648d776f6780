//! CSV and TSV files. Delimiter, header and types are derived from the first rows.

use super::describe::{ColumnNames, Description};
use super::format::{Format, without_bom};
use super::types::{ColumnKinds, ValueKind};
use crate::model::Evidence;
use csv::{ByteRecord, ReaderBuilder};
use serde_json::json;

/// Number of rows from which column types are inferred.
const MAX_INFERENCE_ROWS: usize = 1000;

/// The first rows of a table.
pub struct Table {
    pub delimiter: u8,
    pub rows: Vec<ByteRecord>,
    /// Whether the bytes end inside the only row, so that more bytes are needed.
    pub cut: bool,
}

/// Splits `bytes` into at most `limit` rows. If the bytes are not the `whole` file, the last row may be
/// incomplete and is left out.
#[must_use]
pub fn rows(bytes: &[u8], whole: bool, format: Format, limit: usize) -> Table {
    let text = without_bom(bytes);
    let delimiter = if format == Format::Tsv { b'\t' } else { sniff(text) };
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(text);
    let mut rows = Vec::new();
    let mut record = ByteRecord::new();
    // One row more than requested: the extra row proves that the rows before it are complete.
    while rows.len() <= limit {
        match reader.read_byte_record(&mut record) {
            Ok(true) => rows.push(record.clone()),
            // Reading from memory into a flexible record does not fail. If it did, the rows read so far would be kept.
            Ok(false) | Err(_) => break,
        }
    }
    let ended = rows.len() <= limit;
    let cut = ended && !whole && rows.len() <= 1;
    if ended && !whole && rows.len() > 1 {
        rows.pop();
    }
    rows.truncate(limit);
    Table { delimiter, rows, cut }
}

/// The delimiter that splits the first lines most evenly, or a comma if no candidate occurs.
fn sniff(text: &[u8]) -> u8 {
    let mut counts: [Vec<usize>; 4] = Default::default();
    const CANDIDATES: [u8; 4] = [b',', b';', b'\t', b'|'];
    let mut quoted = false;
    let mut line = [0usize; 4];
    let mut filled = false;
    for byte in text.iter().take(64 << 10) {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => {
                counts.iter_mut().zip(line).for_each(|(all, count)| all.push(count));
                (line, filled) = ([0; 4], false);
                if counts.iter().any(|all| all.len() >= 10) {
                    break;
                }
            }
            _ if quoted => {}
            _ => {
                filled = true;
                if let Some((_, count)) = CANDIDATES.iter().zip(line.iter_mut()).find(|(candidate, _)| *candidate == byte) {
                    *count += 1;
                }
            }
        }
    }
    if filled {
        counts.iter_mut().zip(line).for_each(|(all, count)| all.push(count));
    }
    let score = |all: &Vec<usize>| {
        let first = all.first().copied().unwrap_or(0);
        let even = all.iter().filter(|count| **count == first).count();
        (first > 0).then_some((even, first))
    };
    // `max_by_key` returns the last of equal elements, so the order is reversed to make the comma win ties.
    let best = CANDIDATES.iter().zip(&counts).rev().filter_map(|(candidate, all)| Some((score(all)?, *candidate)));
    best.max_by_key(|(score, _)| *score).map_or(b',', |(_, candidate)| candidate)
}

/// Columns and types of a table, at most `columns` of them.
#[must_use]
pub fn describe(table: &Table, columns: usize) -> Description {
    let mut notes = Evidence::new();
    notes.insert("delimiter".to_owned(), json!(char::from(table.delimiter).to_string()));
    let Some(first) = table.rows.first() else {
        notes.insert("note".to_owned(), json!("empty"));
        return Description { notes, ..Description::default() };
    };
    let body = table.rows.get(1..).unwrap_or_default();
    let header = has_header(first);
    let data = if header { body } else { &table.rows };
    let width = first.len().min(columns);
    let mut kinds = vec![ColumnKinds::default(); width];
    for row in data.iter().take(MAX_INFERENCE_ROWS) {
        for (cell, column) in row.iter().zip(kinds.iter_mut()) {
            column.add(ValueKind::from_text(&String::from_utf8_lossy(cell)));
        }
    }
    let mut names = ColumnNames::default();
    let mut properties = serde_json::Map::new();
    for (index, (column, cell)) in kinds.iter().zip(first.iter()).enumerate() {
        let given = if header { String::from_utf8_lossy(cell) } else { "".into() };
        properties.insert(names.unique(&given, index), column.text_schema());
    }
    notes.insert("header".to_owned(), json!(header));
    let ragged = data.iter().filter(|row| row.len() != first.len()).count();
    let mut note = |count: usize, key: &str| {
        if count > 0 {
            notes.insert(key.to_owned(), json!(count));
        }
    };
    note(ragged, "ragged_rows");
    note(names.changed, "column_names_made_unique");
    let latin = table.rows.iter().filter(|row| row.iter().any(|cell| std::str::from_utf8(cell).is_err())).count();
    note(latin, "rows_not_utf8_read_with_replacement_characters");
    Description {
        properties,
        columns: first.len(),
        truncated: first.len() > columns,
        rows_seen: data.len(),
        row_estimate: None,
        required: Vec::new(),
        notes,
    }
}

/// Whether the first row names the columns. It does not if it contains numbers, dates or booleans. Years are an exception,
/// because they are column names in many tables.
#[must_use]
pub fn has_header(first: &ByteRecord) -> bool {
    let kind = |cell: &[u8]| ValueKind::from_text(&String::from_utf8_lossy(cell));
    let year = |cell: &[u8]| cell.len() == 4 && (cell.starts_with(b"19") || cell.starts_with(b"20"));
    let named = first.iter().any(|cell| kind(cell) == ValueKind::Text);
    let value = |cell: &[u8]| !matches!(kind(cell), ValueKind::Text | ValueKind::Empty) && !year(cell);
    named && !first.iter().any(value)
}

#[cfg(test)]
#[path = "delimited_tests.rs"]
mod tests;
