//! CSV and TSV files: columns and types of a table, and what is unusual about it.

use super::describe::{ColumnNames, Description};
use super::dialect::{DelimiterSource, Table, is_decimal_comma};
use super::header::Header;
use super::types::{ColumnKinds, ValueKind};
use crate::model::{Evidence, text::counted};
use serde_json::json;

/// Columns and types of a table, at most `columns` of them.
#[must_use]
pub fn describe(table: &Table, columns: usize) -> Description {
    let mut notes = dialect(table);
    if table.names.is_none() && table.data.is_empty() {
        notes.insert("note".to_owned(), json!("empty"));
        return Description { notes, ..Description::default() };
    }
    let all = column_count(table);
    let mut kinds = vec![ColumnKinds::default(); all.min(columns)];
    let mut decimal_commas = vec![false; kinds.len()];
    for row in &table.data {
        for ((cell, column), comma) in row.cells.iter().zip(kinds.iter_mut()).zip(decimal_commas.iter_mut()) {
            column.add(ValueKind::from_text(cell));
            *comma |= is_decimal_comma(cell.trim());
        }
    }
    let mut names = ColumnNames::default();
    let mut properties = serde_json::Map::new();
    let mut commas = Vec::new();
    for (index, (column, comma)) in kinds.iter().zip(decimal_commas).enumerate() {
        let name = names.unique(table.names.as_ref().map_or("", |row| row.cell(index)), index);
        if comma && commas.len() < 10 {
            commas.push(name.clone());
        }
        properties.insert(name, column.text_schema());
    }
    if !commas.is_empty() {
        notes.insert("columns_with_decimal_commas".to_owned(), json!(commas));
    }
    if names.changed > 0 {
        notes.insert("column_names_made_unique".to_owned(), json!(names.changed));
    }
    let warnings = irregularities(table, all, &mut notes);
    Description {
        properties,
        columns: all,
        truncated: all > columns,
        rows_seen: table.data.len(),
        row_estimate: None,
        required: Vec::new(),
        notes,
        warnings,
    }
}

/// How the file is written, for the evidence.
fn dialect(table: &Table) -> Evidence {
    let mut notes = Evidence::new();
    notes.insert("delimiter".to_owned(), json!(char::from(table.delimiter).to_string()));
    let source = match table.delimiter_source {
        DelimiterSource::SepLine => "the line sep= at the top",
        DelimiterSource::Extension => "the extension",
        DelimiterSource::Agreement => "guessed: it gives most rows the same number of cells",
        DelimiterSource::OneColumn => "guessed: the rows have one cell",
    };
    notes.insert("delimiter_from".to_owned(), json!(source));
    if !table.quoting {
        notes.insert("quotes".to_owned(), json!("taken literally"));
    }
    notes.insert("header".to_owned(), json!(table.names.is_some()));
    if table.titles > 0 {
        notes.insert("lines_above_the_table".to_owned(), json!(table.titles));
    }
    notes
}

/// The number of columns: those of the header, and further ones if most rows have them and one of their cells is filled.
fn column_count(table: &Table) -> usize {
    let named = table.names.as_ref().map_or(table.width, |row| row.width);
    let filled = |index: usize| table.data.iter().any(|row| !row.cell(index).is_empty());
    (named..table.width).rev().find(|index| filled(*index)).map_or(named, |index| index + 1)
}

/// What a person should look at, as sentences. The counts are also added to the evidence.
fn irregularities(table: &Table, columns: usize, notes: &mut Evidence) -> Vec<String> {
    let mut warnings = Vec::new();
    match table.header {
        Header::Absent if !table.data.is_empty() => {
            warnings.push(format!(
                "the first row does not look like a header, so the {} named by position",
                if columns == 1 { "column is".to_owned() } else { format!("{columns} columns are") }
            ));
        }
        Header::Guessed => {
            warnings.push("the first row of the table holds numbers, dates or booleans and was taken for the header".to_owned());
        }
        _ => {}
    }
    if table.titles > 0 {
        warnings.push(format!("{} above the table {} left out", counted(table.titles, "line"), was(table.titles)));
    }
    let named = table.names.as_ref().map_or(0, |row| row.width);
    if named > 0 && named < columns {
        warnings.push(format!("the header names {} of {columns} columns", named));
    }
    let mut add = |count: usize, key: &str, sentence: String| {
        if count > 0 {
            notes.insert(key.to_owned(), json!(count));
            warnings.push(sentence);
        }
    };
    let seen = table.data.len();
    let rows = || table.names.iter().chain(&table.data);
    let ragged = table.data.iter().filter(|row| row.width != columns && row.width != table.width).count();
    add(ragged, "ragged_rows", format!("{ragged} of {} not have {}", row_verb(seen, ragged), counted(columns, "cell")));
    let open = rows().filter(|row| row.open_quote).count();
    add(open, "quotes_left_open", format!("{} a quote that is not closed, which was taken literally", has(open)));
    let nul = rows().filter(|row| row.has_nul).count();
    add(nul, "rows_with_nul", format!("{} NUL characters", has(nul)));
    let replaced = rows().filter(|row| row.cells.iter().any(|cell| cell.contains(char::REPLACEMENT_CHARACTER))).count();
    add(
        replaced,
        "rows_with_replacement_characters",
        format!("{} bytes that are not valid in the encoding of the file", has(replaced)),
    );
    warnings
}

fn was(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

fn has(rows: usize) -> String {
    format!("{} {}", counted(rows, "row"), if rows == 1 { "has" } else { "have" })
}

fn row_verb(rows: usize, ragged: usize) -> String {
    format!("{} {}", counted(rows, "row"), if ragged == 1 { "does" } else { "do" })
}

#[cfg(test)]
#[path = "delimited_tests.rs"]
mod tests;
