//! Statements that are run once or many times.

use crate::postgres::Session;
use crate::rows::{MappedRows, Row, Rows};
use crate::{Error, Params, Result, Value, ValueRef};
use rusqlite::types::ToSqlOutput;
use std::sync::Arc;

/// A statement of a [`Connection`](crate::Connection).
pub struct Statement<'conn> {
    kind: Kind<'conn>,
}

enum Kind<'conn> {
    Sqlite(rusqlite::Statement<'conn>),
    SqliteCached(rusqlite::CachedStatement<'conn>),
    Postgres { session: &'conn Session, sql: Arc<str> },
}

impl<'conn> Statement<'conn> {
    pub(crate) fn sqlite(statement: rusqlite::Statement<'conn>) -> Statement<'conn> {
        Statement { kind: Kind::Sqlite(statement) }
    }

    pub(crate) fn sqlite_cached(statement: rusqlite::CachedStatement<'conn>) -> Statement<'conn> {
        Statement { kind: Kind::SqliteCached(statement) }
    }

    pub(crate) fn postgres(session: &'conn Session, sql: &str) -> Statement<'conn> {
        Statement { kind: Kind::Postgres { session, sql: sql.into() } }
    }

    /// Runs a statement that returns rows. They are read from the database as they are needed.
    ///
    /// # Errors
    /// If a parameter does not fit, or if the database refuses the statement.
    pub fn query(&mut self, params: impl Params) -> Result<Rows<'_>> {
        match &mut self.kind {
            Kind::Sqlite(statement) => query(statement, params),
            Kind::SqliteCached(statement) => query(statement, params),
            Kind::Postgres { session, sql } => Ok(Rows::postgres(session.query(sql, values(params)?)?)),
        }
    }

    /// As [`Statement::query`], and passes each row through `map`.
    ///
    /// # Errors
    /// As [`Statement::query`].
    pub fn query_map<T, F>(&mut self, params: impl Params, map: F) -> Result<MappedRows<'_, F>>
    where
        F: FnMut(&Row<'_>) -> Result<T>,
    {
        Ok(MappedRows::new(self.query(params)?, map))
    }

    /// Passes the first row to `read`.
    ///
    /// # Errors
    /// [`Error::NoRows`] if the query returns none, the errors of `read`, and as [`Statement::query`].
    pub fn query_row<T>(&mut self, params: impl Params, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        match &mut self.kind {
            Kind::Sqlite(statement) => first_row(statement, params, read),
            Kind::SqliteCached(statement) => first_row(statement, params, read),
            Kind::Postgres { session, sql } => {
                let row = session.query_row(sql, values(params)?)?.ok_or(Error::NoRows)?;
                read(&Row::postgres(row))
            }
        }
    }

    /// Runs a statement that returns no rows. Returns how many rows it changed.
    ///
    /// # Errors
    /// As [`Statement::query`].
    pub fn execute(&mut self, params: impl Params) -> Result<usize> {
        match &mut self.kind {
            Kind::Sqlite(statement) => execute(statement, params),
            Kind::SqliteCached(statement) => execute(statement, params),
            Kind::Postgres { session, sql } => session.execute(sql, values(params)?),
        }
    }

    /// As [`Statement::execute`], but on PostgreSQL, in a transaction, it does not wait for the answer: see
    /// [`Connection::execute_later`](crate::Connection::execute_later).
    ///
    /// # Errors
    /// As [`Statement::query`].
    pub fn execute_later(&mut self, params: impl Params) -> Result<()> {
        match &mut self.kind {
            Kind::Postgres { session, sql } => session.execute_later(sql, values(params)?),
            _ => self.execute(params).map(drop),
        }
    }
}

/// The parameters as values that another thread can have.
pub(crate) fn values(params: impl Params) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    params.visit(&mut |value| {
        values.push(value.to_value()?);
        Ok(())
    })?;
    Ok(values)
}

fn query<'a>(statement: &'a mut rusqlite::Statement<'_>, params: impl Params) -> Result<Rows<'a>> {
    bind(statement, params)?;
    let columns = statement.column_count();
    Ok(Rows::sqlite(statement.raw_query(), columns))
}

fn first_row<T>(
    statement: &mut rusqlite::Statement<'_>,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<T> {
    bind(statement, params)?;
    let mut rows = statement.raw_query();
    read(&Row::borrowed(rows.next()?.ok_or(Error::NoRows)?))
}

fn execute(statement: &mut rusqlite::Statement<'_>, params: impl Params) -> Result<usize> {
    bind(statement, params)?;
    Ok(statement.raw_execute()?)
}

/// A parameter for SQLite.
struct SqliteParam<'a>(ValueRef<'a>);

impl rusqlite::ToSql for SqliteParam<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            ValueRef::Null => rusqlite::types::ValueRef::Null,
            ValueRef::Integer(number) => rusqlite::types::ValueRef::Integer(number),
            ValueRef::Real(number) => rusqlite::types::ValueRef::Real(number),
            ValueRef::Text(bytes) => rusqlite::types::ValueRef::Text(bytes),
            ValueRef::Blob(bytes) => rusqlite::types::ValueRef::Blob(bytes),
        }))
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, params: impl Params) -> Result<()> {
    let (expected, mut count) = (statement.parameter_count(), 0);
    params.visit(&mut |value| {
        count += 1;
        if count <= expected {
            statement.raw_bind_parameter(count, SqliteParam(value))?;
        }
        Ok(())
    })?;
    if count != expected {
        return Err(wrong_count(count, expected));
    }
    Ok(())
}

/// The error for another number of parameters than the statement has.
pub(crate) fn wrong_count(given: usize, expected: usize) -> Error {
    Error::Parameter { parameter: 0, message: format!("{given} parameters were passed, and the statement has {expected}") }
}
