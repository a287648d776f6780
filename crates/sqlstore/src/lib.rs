//! One synchronous SQL interface over SQLite and PostgreSQL.
//!
//! The names and shapes are those of `rusqlite`, so that code which was written for SQLite runs on both. A [`Connection`] is a
//! SQLite connection or a PostgreSQL session. SQL is written in the dialect that both understand:
//!
//! - Parameters are `?1`, `?2`, … or `?`. For PostgreSQL they are translated to `$1`, `$2`, ….
//! - Values are 64-bit integers, floating point numbers, texts, bytes and NULL. Booleans are the integers 0 and 1.
//! - PostgreSQL infers the type of a parameter from the statement. A value that does not fit that type is an error, so a number
//!   that is compared with an `INTEGER` and may be larger is written `CAST(?1 AS BIGINT)`, which SQLite understands as well.
//!
//! Three things differ on PostgreSQL:
//!
//! - After an error in a transaction, all later statements of the transaction return that error, and [`Connection::commit`]
//!   rolls back and returns it.
//! - A statement is sent to the server when it is first used, so [`Connection::prepare`] does not find errors in it.
//! - The rows of a query outside of a transaction are read in a read-only transaction that ends with them. Until then, other
//!   statements of the connection belong to that transaction: they see the same state of the database and cannot write.

mod connection;
mod dialect;
mod error;
mod params;
mod postgres;
mod rows;
mod statement;
mod value;

pub use connection::{Connection, Transaction};
pub use error::{Error, OptionalExtension, PostgresError, Result};
pub use params::{Params, ParamsFromIter, params_from_iter};
pub use postgres::{HostPort, Notification, PostgresOptions, TargetSession, TlsMode, keeps_sessions_apart};
pub use rows::{MappedRows, Row, Rows};
pub use rusqlite;
pub use statement::Statement;
pub use value::{FromSql, Null, ToSql, Value, ValueRef};
