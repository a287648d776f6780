//! Decides which row of a table names the columns.

use super::rows::Row;
use super::types::{ColumnKinds, Family, ValueKind};

/// Whether a row names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// All its cells are texts, as names are.
    Named,
    /// It holds numbers, dates or booleans, but over columns of other values, so it was taken for the header.
    Guessed,
    /// It is data.
    Absent,
}

/// Decides whether `first` names the columns of `data`, the rows below it.
#[must_use]
pub fn judge(first: &Row, data: &[Row]) -> Header {
    let kinds: Vec<ValueKind> = first.cells.iter().map(|cell| ValueKind::from_text(cell)).collect();
    let texts = kinds.iter().filter(|kind| **kind == ValueKind::Text).count();
    if texts == 0 && kinds.iter().all(|kind| *kind == ValueKind::Empty) {
        return Header::Absent;
    }
    let columns: Vec<Column> = kinds.iter().enumerate().map(|(index, kind)| Column::new(first, data, index, *kind)).collect();
    let count = |verdict: Verdict| columns.iter().filter(|column| column.verdict == verdict).count();
    let (names, values) = (count(Verdict::Name), count(Verdict::Value));
    if texts + kinds.iter().filter(|kind| **kind == ValueKind::Empty).count() == kinds.len() {
        // All cells are texts. They are data if they occur again below, as the values of a column do.
        let repeated = columns.iter().filter(|column| column.repeated).count();
        let whole_row = data.iter().any(|row| row.cells == first.cells);
        return if names == 0 && repeated * 2 >= texts && repeated > 0 && !whole_row { Header::Absent } else { Header::Named };
    }
    match names > values || (values > 0 && texts > 0 && labels(first, &kinds)) {
        true => Header::Guessed,
        false => Header::Absent,
    }
}

/// Whether the numbers of a row count upwards by the same step, as the names of periods do: `country,1,2,3`.
fn labels(first: &Row, kinds: &[ValueKind]) -> bool {
    let numbers: Vec<i64> = first.cells.iter().filter_map(|cell| cell.trim().parse().ok()).collect();
    let typed = kinds.iter().filter(|kind| !matches!(kind, ValueKind::Text | ValueKind::Empty)).count();
    let step = |pair: &[i64]| pair.iter().rev().copied().reduce(i64::wrapping_sub);
    numbers.len() >= 3 && numbers.len() == typed && numbers.windows(2).all(|pair| step(pair) == Some(1))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The cell differs in kind from the values below it.
    Name,
    /// The cell is a value like those below it.
    Value,
    Unknown,
}

struct Column {
    verdict: Verdict,
    /// Whether the text of the first row occurs again in the column.
    repeated: bool,
}

impl Column {
    fn new(first: &Row, data: &[Row], index: usize, kind: ValueKind) -> Column {
        let mut kinds = ColumnKinds::default();
        let (mut filled, mut years) = (false, true);
        let name = first.cell(index);
        let mut repeated = false;
        for cell in data.iter().map(|row| row.cell(index)).filter(|cell| !cell.is_empty()) {
            kinds.add(ValueKind::from_text(cell));
            filled = true;
            years &= is_year(cell);
            repeated |= cell == name;
        }
        let verdict = match kind {
            ValueKind::Empty => Verdict::Unknown,
            // Years are the names of columns in many tables.
            _ if is_year(name) && !(filled && years) => Verdict::Name,
            _ if !filled && kind == ValueKind::Text => Verdict::Unknown,
            _ if !filled => Verdict::Value,
            ValueKind::Text if kinds.family() == Some(Family::Text) => Verdict::Unknown,
            ValueKind::Text if kinds.family().is_some() => Verdict::Name,
            ValueKind::Text => Verdict::Unknown,
            typed => match (Family::from_kind(typed), kinds.family()) {
                (ours, Some(below)) if ours != below => Verdict::Name,
                _ => Verdict::Value,
            },
        };
        Column { verdict, repeated: repeated && kind == ValueKind::Text }
    }
}

/// Whether a text of `first` stands above a column of numbers, dates or booleans, as a name does and a value does not.
#[must_use]
pub fn names_typed_column(first: &Row, data: &[Row]) -> bool {
    let kind = |index: usize| ValueKind::from_text(first.cells.get(index).map_or("", String::as_str));
    (0..first.cells.len()).any(|index| Column::new(first, data, index, kind(index)).verdict == Verdict::Name)
}

/// Whether the text is a year such as 2024, which may name a column.
#[must_use]
pub fn is_year(cell: &str) -> bool {
    cell.len() == 4 && (cell.starts_with("19") || cell.starts_with("20")) && cell.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::file::rows::{Splitting, split};

    fn verdict(text: &str) -> Header {
        let splitting = Splitting { delimiter: b',', quoting: true, max_rows: 100, max_cells: 50 };
        let rows = split(text.as_bytes(), true, splitting).rows;
        judge(&rows[0], &rows[1..])
    }

    #[test]
    fn names_are_distinguished_from_values() {
        use Header::{Absent, Guessed, Named};
        for (text, expected) in [
            ("id,name\n1,x\n", Named),
            ("id,name\n", Named),
            ("id,,id\n1,2,3\n", Named),
            ("first,last\nAda,Lovelace\n", Named),
            ("country,1,2,3\nDE,5,6,7\nFR,8,9,10\n", Guessed),
            ("country,2019,2020\nNO,1,2\n", Guessed),
            ("country,2019,2020\n", Guessed),
            ("2019,2020\n1,2\n", Guessed),
            ("name,2019-01-01,2019-02-01\nfoo,1,2\n", Guessed),
            ("id,true,false\n1,x,y\n", Guessed),
            ("region,1.5,2.5\nNorth,a,b\n", Guessed),
            ("1,x\n2,y\n", Absent),
            ("1,2,3\n4,5,6\n", Absent),
            ("alice,30,2020-01-01\nbob,25,2021-01-01\n", Absent),
            ("alice,true\nbob,false\n", Absent),
            ("alice,1,2\nbob,3,4\n", Absent),
            ("red,apple\nred,cherry\ngreen,pear\n", Absent),
            ("a,b\n1,2\na,b\n3,4\n", Named),
            (",,\n1,2,3\n", Absent),
            ("1,x\n", Absent),
        ] {
            assert_eq!(verdict(text), expected, "{text:?}");
        }
    }
}
