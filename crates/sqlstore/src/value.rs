//! Values, and how they become types of Rust and back.

use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// A value of a column or a parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// NULL.
    #[default]
    Null,
    /// An integer, or a boolean as 0 or 1.
    Integer(i64),
    /// A floating point number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A borrowed [`Value`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ValueRef<'a> {
    /// NULL.
    #[default]
    Null,
    /// An integer, or a boolean as 0 or 1.
    Integer(i64),
    /// A floating point number.
    Real(f64),
    /// A text. SQLite does not check that it is UTF-8.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

/// NULL as a parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Null;

impl<'a> ValueRef<'a> {
    /// The text.
    ///
    /// # Errors
    /// If this is not a text, or if the text is not UTF-8.
    pub fn as_str(&self) -> Result<&'a str> {
        match self {
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_err(|_| wrong("the text is not UTF-8".to_string())),
            other => Err(other.is_not("a text")),
        }
    }

    /// The text, or `None` for NULL.
    ///
    /// # Errors
    /// As [`ValueRef::as_str`].
    pub fn as_str_or_null(&self) -> Result<Option<&'a str>> {
        match self {
            ValueRef::Null => Ok(None),
            other => other.as_str().map(Some),
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// If these are not bytes.
    pub fn as_blob(&self) -> Result<&'a [u8]> {
        match self {
            ValueRef::Blob(bytes) => Ok(bytes),
            other => Err(other.is_not("bytes")),
        }
    }

    /// The bytes, or `None` for NULL.
    ///
    /// # Errors
    /// As [`ValueRef::as_blob`].
    pub fn as_blob_or_null(&self) -> Result<Option<&'a [u8]>> {
        match self {
            ValueRef::Null => Ok(None),
            other => other.as_blob().map(Some),
        }
    }

    /// The integer.
    ///
    /// # Errors
    /// If this is not an integer.
    pub fn as_i64(&self) -> Result<i64> {
        match self {
            ValueRef::Integer(number) => Ok(*number),
            other => Err(other.is_not("an integer")),
        }
    }

    /// The kind of the value, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            ValueRef::Null => "NULL",
            ValueRef::Integer(_) => "an integer",
            ValueRef::Real(_) => "a floating point number",
            ValueRef::Text(_) => "a text",
            ValueRef::Blob(_) => "bytes",
        }
    }

    /// A copy of the value.
    ///
    /// # Errors
    /// If a text is not UTF-8.
    pub fn to_value(&self) -> Result<Value> {
        Ok(match self {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(*number),
            ValueRef::Real(number) => Value::Real(*number),
            ValueRef::Text(_) => Value::Text(self.as_str()?.to_string()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        })
    }

    fn is_not(&self, wanted: &str) -> Error {
        wrong(format!("the value is {}, not {wanted}", self.kind()))
    }
}

/// An error about a column whose number the caller knows.
pub(crate) fn wrong(message: String) -> Error {
    Error::Column { column: 0, message }
}

impl<'a> From<rusqlite::types::ValueRef<'a>> for ValueRef<'a> {
    fn from(value: rusqlite::types::ValueRef<'a>) -> ValueRef<'a> {
        match value {
            rusqlite::types::ValueRef::Null => ValueRef::Null,
            rusqlite::types::ValueRef::Integer(number) => ValueRef::Integer(number),
            rusqlite::types::ValueRef::Real(number) => ValueRef::Real(number),
            rusqlite::types::ValueRef::Text(bytes) => ValueRef::Text(bytes),
            rusqlite::types::ValueRef::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> ValueRef<'a> {
        match value {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }
}

/// A type that can be passed as a parameter.
pub trait ToSql {
    /// The value as a parameter.
    ///
    /// # Errors
    /// If the value does not fit a type of SQL, for example a `u64` above `i64::MAX`.
    fn to_sql(&self) -> Result<ValueRef<'_>>;
}

/// A type that can be read from a column.
pub trait FromSql: Sized {
    /// Reads the value of a column.
    ///
    /// # Errors
    /// If the value has another type or is out of range.
    fn from_sql(value: ValueRef<'_>) -> Result<Self>;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl ToSql for $integer {
            fn to_sql(&self) -> Result<ValueRef<'_>> {
                match i64::try_from(*self) {
                    Ok(number) => Ok(ValueRef::Integer(number)),
                    Err(_) => {
                        let message = format!("{self} is outside of the range of a 64-bit integer");
                        Err(Error::Parameter { parameter: 0, message })
                    }
                }
            }
        }

        impl FromSql for $integer {
            fn from_sql(value: ValueRef<'_>) -> Result<Self> {
                let number = value.as_i64()?;
                <$integer>::try_from(number)
                    .map_err(|_| wrong(format!("{number} is outside of the range of {}", stringify!($integer))))
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

macro_rules! texts {
    ($($text:ty),*) => {$(
        impl ToSql for $text {
            fn to_sql(&self) -> Result<ValueRef<'_>> {
                Ok(ValueRef::Text(self.as_bytes()))
            }
        }
    )*};
}

texts!(str, String, Box<str>, Arc<str>, Cow<'_, str>);

macro_rules! owned_texts {
    ($($text:ty),*) => {$(
        impl FromSql for $text {
            fn from_sql(value: ValueRef<'_>) -> Result<Self> {
                value.as_str().map(Into::into)
            }
        }
    )*};
}

owned_texts!(String, Box<str>, Arc<str>);

impl ToSql for Null {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        Ok(ValueRef::Null)
    }
}

impl ToSql for bool {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        Ok(ValueRef::Integer(i64::from(*self)))
    }
}

impl FromSql for bool {
    fn from_sql(value: ValueRef<'_>) -> Result<Self> {
        value.as_i64().map(|number| number != 0)
    }
}

impl ToSql for f64 {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        Ok(ValueRef::Real(*self))
    }
}

impl FromSql for f64 {
    fn from_sql(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Real(number) => Ok(number),
            // As in SQL, where an integer is a number, too. Large ones are rounded.
            #[allow(clippy::cast_precision_loss)]
            ValueRef::Integer(number) => Ok(number as f64),
            other => Err(other.is_not("a number")),
        }
    }
}

impl ToSql for [u8] {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        Ok(ValueRef::Blob(self))
    }
}

impl ToSql for Vec<u8> {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        Ok(ValueRef::Blob(self))
    }
}

impl FromSql for Vec<u8> {
    fn from_sql(value: ValueRef<'_>) -> Result<Self> {
        value.as_blob().map(<[u8]>::to_vec)
    }
}

impl<const N: usize> ToSql for [u8; N] {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        Ok(ValueRef::Blob(self))
    }
}

impl<const N: usize> FromSql for [u8; N] {
    fn from_sql(value: ValueRef<'_>) -> Result<Self> {
        let bytes = value.as_blob()?;
        bytes.try_into().map_err(|_| wrong(format!("the value has {} bytes, not {N}", bytes.len())))
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        Ok(self.into())
    }
}

impl ToSql for ValueRef<'_> {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        Ok(*self)
    }
}

impl FromSql for Value {
    fn from_sql(value: ValueRef<'_>) -> Result<Self> {
        value.to_value()
    }
}

impl<T: ToSql> ToSql for Option<T> {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        self.as_ref().map_or(Ok(ValueRef::Null), ToSql::to_sql)
    }
}

impl<T: FromSql> FromSql for Option<T> {
    fn from_sql(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Null => Ok(None),
            other => T::from_sql(other).map(Some),
        }
    }
}

impl<T: ToSql + ?Sized> ToSql for &T {
    fn to_sql(&self) -> Result<ValueRef<'_>> {
        (**self).to_sql()
    }
}
