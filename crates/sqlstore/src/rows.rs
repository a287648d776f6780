//! The rows that a query returns.

use crate::postgres::{self, PostgresRows};
use crate::value::wrong;
use crate::{Error, FromSql, Result, ValueRef};

/// One row of a result.
pub struct Row<'stmt> {
    data: RowData<'stmt>,
}

enum RowData<'stmt> {
    /// The row at which the statement of SQLite is.
    Borrowed(&'stmt rusqlite::Row<'stmt>),
    /// A copy of such a row.
    Copied(CopiedRow),
    Postgres(tokio_postgres::Row),
}

/// A copy of a row of SQLite. Its memory is used again for the next row.
#[derive(Default)]
struct CopiedRow {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
}

/// A value, or the place of its bytes.
#[derive(Clone, Copy)]
enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text { start: usize, end: usize },
    Blob { start: usize, end: usize },
}

/// The number of a column, from 0.
pub trait ColumnIndex: Copy {
    /// The number.
    fn column(self) -> usize;
}

impl ColumnIndex for usize {
    fn column(self) -> usize {
        self
    }
}

impl<'stmt> Row<'stmt> {
    pub(crate) fn borrowed(row: &'stmt rusqlite::Row<'stmt>) -> Row<'stmt> {
        Row { data: RowData::Borrowed(row) }
    }

    pub(crate) fn postgres(row: tokio_postgres::Row) -> Row<'stmt> {
        Row { data: RowData::Postgres(row) }
    }

    /// The value of a column.
    ///
    /// # Errors
    /// [`Error::Column`] if the column does not exist, or if its value does not have this type or is out of its range.
    pub fn get<I: ColumnIndex, T: FromSql>(&self, column: I) -> Result<T> {
        let column = column.column();
        self.read(column).and_then(T::from_sql).map_err(|error| numbered(error, column))
    }

    /// The text of a column, or `None` for NULL, without a copy.
    ///
    /// # Errors
    /// As [`Row::get`].
    pub fn text(&self, column: usize) -> Result<Option<&str>> {
        self.read(column).and_then(|value| value.as_str_or_null()).map_err(|error| numbered(error, column))
    }

    /// The value of a column without a copy.
    ///
    /// # Errors
    /// [`Error::Column`] if the column does not exist or has a type that this crate does not read.
    pub fn get_ref(&self, column: usize) -> Result<ValueRef<'_>> {
        self.read(column).map_err(|error| numbered(error, column))
    }

    /// The value of a column without a copy, or NULL if the row does not have the column or its type cannot be read.
    #[must_use]
    pub fn value_ref(&self, column: usize) -> ValueRef<'_> {
        self.read(column).unwrap_or_default()
    }

    fn read(&self, column: usize) -> Result<ValueRef<'_>> {
        match &self.data {
            RowData::Borrowed(row) => Ok(row.get_ref(column).map_err(|error| wrong(error.to_string()))?.into()),
            RowData::Copied(row) => row.read(column),
            RowData::Postgres(row) => postgres::read(row, column),
        }
    }
}

fn numbered(error: Error, column: usize) -> Error {
    match error {
        Error::Column { message, .. } => Error::Column { column, message },
        other => other,
    }
}

impl CopiedRow {
    /// Takes the values of `row` instead of those of the row before.
    fn take(&mut self, row: &rusqlite::Row<'_>, columns: usize) -> Result<()> {
        self.bytes.clear();
        self.cells.clear();
        for column in 0..columns {
            let cell = match row.get_ref(column)? {
                rusqlite::types::ValueRef::Null => Cell::Null,
                rusqlite::types::ValueRef::Integer(number) => Cell::Integer(number),
                rusqlite::types::ValueRef::Real(number) => Cell::Real(number),
                rusqlite::types::ValueRef::Text(bytes) => {
                    let (start, end) = self.add(bytes);
                    Cell::Text { start, end }
                }
                rusqlite::types::ValueRef::Blob(bytes) => {
                    let (start, end) = self.add(bytes);
                    Cell::Blob { start, end }
                }
            };
            self.cells.push(cell);
        }
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        (start, self.bytes.len())
    }

    fn read(&self, column: usize) -> Result<ValueRef<'_>> {
        let bytes = |start, end| self.bytes.get(start..end).unwrap_or_default();
        match self.cells.get(column).copied() {
            None => Err(wrong(format!("the row has {} columns", self.cells.len()))),
            Some(Cell::Null) => Ok(ValueRef::Null),
            Some(Cell::Integer(number)) => Ok(ValueRef::Integer(number)),
            Some(Cell::Real(number)) => Ok(ValueRef::Real(number)),
            Some(Cell::Text { start, end }) => Ok(ValueRef::Text(bytes(start, end))),
            Some(Cell::Blob { start, end }) => Ok(ValueRef::Blob(bytes(start, end))),
        }
    }
}

/// The rows of a query, which are read as they are needed.
pub struct Rows<'stmt> {
    source: Source<'stmt>,
    current: Row<'stmt>,
}

enum Source<'stmt> {
    Sqlite { rows: rusqlite::Rows<'stmt>, columns: usize },
    Postgres(PostgresRows<'stmt>),
}

impl<'stmt> Rows<'stmt> {
    pub(crate) fn sqlite(rows: rusqlite::Rows<'stmt>, columns: usize) -> Rows<'stmt> {
        let current = Row { data: RowData::Copied(CopiedRow::default()) };
        Rows { source: Source::Sqlite { rows, columns }, current }
    }

    pub(crate) fn postgres(rows: PostgresRows<'stmt>) -> Rows<'stmt> {
        let current = Row { data: RowData::Copied(CopiedRow::default()) };
        Rows { source: Source::Postgres(rows), current }
    }

    /// The next row, or `None` after the last one.
    ///
    /// # Errors
    /// If the database cannot read it.
    #[allow(clippy::should_implement_trait, reason = "as in rusqlite; a row borrows from the rows")]
    pub fn next(&mut self) -> Result<Option<&Row<'stmt>>> {
        match &mut self.source {
            Source::Sqlite { rows, columns } => {
                let Some(row) = rows.next()? else { return Ok(None) };
                if let RowData::Copied(copied) = &mut self.current.data {
                    copied.take(row, *columns)?;
                }
            }
            Source::Postgres(rows) => {
                let Some(row) = rows.next()? else { return Ok(None) };
                self.current.data = RowData::Postgres(row);
            }
        }
        Ok(Some(&self.current))
    }
}

/// The rows of a query, each passed through a function.
pub struct MappedRows<'stmt, F> {
    rows: Rows<'stmt>,
    map: F,
}

impl<'stmt, F> MappedRows<'stmt, F> {
    pub(crate) fn new(rows: Rows<'stmt>, map: F) -> MappedRows<'stmt, F> {
        MappedRows { rows, map }
    }
}

impl<T, F: FnMut(&Row<'_>) -> Result<T>> Iterator for MappedRows<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.rows.next() {
            Ok(row) => row.map(&mut self.map),
            Err(error) => Some(Err(error)),
        }
    }
}
