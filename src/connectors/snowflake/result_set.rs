//! The result of a statement: named columns, and rows of texts.

use crate::memory_budget::Reservation;
use serde_json::Value;

/// The result of a statement. SHOW can get new columns at any time, and an administrator can leave some out, so values are
/// found by the names of their columns (docs.snowflake.com, "Handling new columns in SHOW command output" \[V\]).
#[derive(Default)]
pub struct ResultSet {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    /// Whether Snowflake has further rows that were not read.
    pub truncated: bool,
    /// The memory of the rows.
    pub memory: Vec<Reservation>,
}

/// One row.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl ResultSet {
    /// Reads `resultSetMetaData` and `data` of a response. Returns `None` if the response is not a result.
    #[must_use]
    pub fn parse(body: &Value) -> Option<ResultSet> {
        let named = |column: &Value| column.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
        let columns = body.pointer("/resultSetMetaData/rowType")?.as_array()?.iter().map(named).collect();
        Some(ResultSet { columns, rows: rows(body)?, ..ResultSet::default() })
    }

    /// Adds the rows of a further partition. Returns `None` if the response has no rows.
    #[must_use]
    pub fn extend(&mut self, body: &Value) -> Option<()> {
        self.rows.extend(rows(body)?);
        Some(())
    }

    /// Whether the result has the column `name`, whatever its case.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.eq_ignore_ascii_case(name))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: &self.columns, values })
    }
}

/// The number of partitions of a result.
#[must_use]
pub fn partitions(body: &Value) -> usize {
    body.pointer("/resultSetMetaData/partitionInfo").and_then(Value::as_array).map_or(1, Vec::len).max(1)
}

fn rows(body: &Value) -> Option<Vec<Vec<Option<String>>>> {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let rows = body.get("data")?.as_array()?;
    rows.iter().map(|row| Some(row.as_array()?.iter().map(text).collect())).collect()
}

impl<'a> Row<'a> {
    /// Returns the value of the column `name`, whatever its case. Returns `None` for NULL, an empty text and a column that
    /// does not exist.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let at = self.columns.iter().position(|column| column.eq_ignore_ascii_case(name))?;
        self.at(at)
    }

    /// Returns the value of the column at this place.
    #[must_use]
    pub fn at(&self, at: usize) -> Option<&'a str> {
        self.values.get(at)?.as_deref().filter(|text| !text.is_empty())
    }

    /// The number of values.
    #[must_use]
    pub fn width(&self) -> usize {
        self.values.len()
    }
}
