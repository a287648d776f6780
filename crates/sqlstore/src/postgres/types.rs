//! How values are sent to the server and read from its rows.

use crate::statement::wrong_count;
use crate::value::wrong;
use crate::{Error, Result, Value, ValueRef};
use bytes::{BufMut, BytesMut};
use std::error::Error as StdError;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// A parameter in the form of its type. `None` is NULL.
#[derive(Debug)]
pub(super) struct Encoded(Option<Vec<u8>>);

impl ToSql for Encoded {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match &self.0 {
            None => Ok(IsNull::Yes),
            Some(bytes) => {
                out.put_slice(bytes);
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Brings the parameters of a statement into the form of the types that the server inferred.
pub(super) fn encode_all(values: Vec<Value>, types: &[Type]) -> Result<Vec<Encoded>> {
    if values.len() != types.len() {
        return Err(wrong_count(values.len(), types.len()));
    }
    let encoded = values.into_iter().zip(types).enumerate();
    encoded
        .map(|(at, (value, wanted))| encode(value, wanted).map_err(|message| Error::Parameter { parameter: at + 1, message }))
        .collect()
}

fn encode(value: Value, wanted: &Type) -> std::result::Result<Encoded, String> {
    let kind = ValueRef::from(&value).kind();
    let bytes = match value {
        Value::Null => return Ok(Encoded(None)),
        Value::Integer(number) => integer(number, wanted)?,
        Value::Real(number) if *wanted == Type::FLOAT8 => Some(number.to_be_bytes().to_vec()),
        // The column keeps fewer digits, as with every number that is stored in it.
        #[allow(clippy::cast_possible_truncation)]
        Value::Real(number) if *wanted == Type::FLOAT4 => Some((number as f32).to_be_bytes().to_vec()),
        Value::Text(text) if is_text(wanted) => Some(text.into_bytes()),
        Value::Blob(bytes) if *wanted == Type::BYTEA => Some(bytes),
        _ => None,
    };
    match bytes {
        Some(bytes) => Ok(Encoded(Some(bytes))),
        None => Err(format!("the value is {kind}, and PostgreSQL wants the type {wanted} here")),
    }
}

fn is_text(wanted: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::UNKNOWN, Type::JSON].contains(wanted)
}

/// An integer in the form of a type of numbers. `None` if it is another type.
fn integer(number: i64, wanted: &Type) -> std::result::Result<Option<Vec<u8>>, String> {
    let range = || format!("{number} is outside of the range of the type {wanted}");
    Ok(Some(match *wanted {
        Type::INT8 => number.to_be_bytes().to_vec(),
        Type::INT4 => i32::try_from(number).map_err(|_| range())?.to_be_bytes().to_vec(),
        Type::INT2 => i16::try_from(number).map_err(|_| range())?.to_be_bytes().to_vec(),
        Type::OID => u32::try_from(number).map_err(|_| range())?.to_be_bytes().to_vec(),
        Type::BOOL => vec![u8::try_from(number).ok().filter(|number| *number < 2).ok_or_else(range)?],
        Type::NUMERIC => numeric(number),
        // As SQL does it: large integers are rounded.
        #[allow(clippy::cast_precision_loss)]
        Type::FLOAT8 => (number as f64).to_be_bytes().to_vec(),
        #[allow(clippy::cast_precision_loss)]
        Type::FLOAT4 => (number as f32).to_be_bytes().to_vec(),
        _ => return Ok(None),
    }))
}

/// An integer in the form of `numeric`: groups of four digits, the first group first.
fn numeric(number: i64) -> Vec<u8> {
    let (mut rest, mut groups) = (number.unsigned_abs(), Vec::new());
    while rest > 0 {
        groups.push(u16::try_from(rest % 10_000).unwrap_or_default());
        rest /= 10_000;
    }
    let count = u16::try_from(groups.len()).unwrap_or_default();
    let sign: u16 = if number < 0 { NEGATIVE } else { 0 };
    let mut bytes = Vec::with_capacity(8 + 2 * groups.len());
    for part in [count, count.saturating_sub(1), sign, 0].iter().chain(groups.iter().rev()) {
        bytes.extend_from_slice(&part.to_be_bytes());
    }
    bytes
}

/// The sign of a `numeric` below zero.
const NEGATIVE: u16 = 0x4000;

/// The value of a column without a copy.
pub(crate) fn read(row: &tokio_postgres::Row, column: usize) -> Result<ValueRef<'_>> {
    let Some(described) = row.columns().get(column) else {
        return Err(wrong(format!("the row has {} columns", row.len())));
    };
    match row.try_get::<usize, Decoded<'_>>(column) {
        Ok(decoded) => Ok(decoded.0),
        Err(error) => {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Err(wrong(format!("{} of the type {}: {why}", described.name(), described.type_())))
        }
    }
}

struct Decoded<'a>(ValueRef<'a>);

impl<'a> FromSql<'a> for Decoded<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Decoded(match *kind {
            Type::INT8 => ValueRef::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => ValueRef::Integer(i32::from_be_bytes(raw.try_into()?).into()),
            Type::INT2 => ValueRef::Integer(i16::from_be_bytes(raw.try_into()?).into()),
            Type::OID => ValueRef::Integer(u32::from_be_bytes(raw.try_into()?).into()),
            Type::BOOL => ValueRef::Integer(u8::from_be_bytes(raw.try_into()?).into()),
            Type::FLOAT8 => ValueRef::Real(f64::from_be_bytes(raw.try_into()?)),
            Type::FLOAT4 => ValueRef::Real(f32::from_be_bytes(raw.try_into()?).into()),
            Type::NUMERIC => from_numeric(raw)?,
            Type::BYTEA => ValueRef::Blob(raw),
            Type::VOID => ValueRef::Null,
            _ => ValueRef::Text(raw),
        }))
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Decoded(ValueRef::Null))
    }

    fn accepts(kind: &Type) -> bool {
        let others = [
            Type::INT8,
            Type::INT4,
            Type::INT2,
            Type::OID,
            Type::BOOL,
            Type::FLOAT8,
            Type::FLOAT4,
            Type::NUMERIC,
            Type::BYTEA,
            Type::VOID,
            Type::CHAR,
        ];
        is_text(kind) || others.contains(kind)
    }
}

/// A `numeric` as an integer if it is one, otherwise as the nearest floating point number.
fn from_numeric(raw: &[u8]) -> std::result::Result<ValueRef<'static>, Box<dyn StdError + Sync + Send>> {
    let parts: Vec<u16> =
        raw.chunks_exact(2).map(|pair| pair.try_into().map(u16::from_be_bytes)).collect::<std::result::Result<_, _>>()?;
    let [_, weight, sign, _, groups @ ..] = parts.as_slice() else {
        return Err("the number is not complete".into());
    };
    if *sign != 0 && *sign != NEGATIVE {
        return Err("the value is not a finite number".into());
    }
    let weight = i32::from(weight.cast_signed());
    let (mut whole, mut real) = (Some(0_i128), 0_f64);
    for (group, power) in groups.iter().zip((0..=weight).rev().chain((i32::MIN..0).rev())) {
        real += f64::from(*group) * 10_000_f64.powi(power);
        let factor = u32::try_from(power).ok().and_then(|power| 10_000_i128.checked_pow(power));
        whole = match (whole, factor) {
            (Some(sum), Some(factor)) => factor.checked_mul(i128::from(*group)).and_then(|part| sum.checked_add(part)),
            (whole, None) if *group == 0 => whole,
            _ => None,
        };
    }
    let is_negative = *sign == NEGATIVE;
    let integer = whole.map(|sum| if is_negative { -sum } else { sum }).and_then(|sum| i64::try_from(sum).ok());
    Ok(integer.map_or(ValueRef::Real(if is_negative { -real } else { real }), ValueRef::Integer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_numerics_and_back() {
        for number in [0, 1, -1, 9_999, 10_000, -120_030_000, i64::MAX, i64::MIN] {
            assert_eq!(from_numeric(&numeric(number)).unwrap(), ValueRef::Integer(number));
        }
    }

    #[test]
    fn a_number_outside_of_a_type_is_refused() {
        assert!(encode(Value::Integer(40_000), &Type::INT2).is_err_and(|why| why.contains("40000") && why.contains("int2")));
        assert!(encode(Value::Integer(2), &Type::BOOL).is_err());
        assert!(encode(Value::Text("1".to_string()), &Type::INT8).is_err_and(|why| why.contains("a text")));
        assert!(encode_all(vec![Value::Null], &[]).is_err());
    }
}
