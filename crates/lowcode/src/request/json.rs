//! JSON as Python's `json.dumps` writes it: `", "` and `": "`, ASCII only.

use crate::error::Failed;
use crate::value::{Value, float_repr, str_json};

/// The separators between items and after keys.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    comma: &'static str,
    colon: &'static str,
}

impl Style {
    /// The separators of `json.dumps` without arguments.
    pub const SPACED: Style = Style { comma: ", ", colon: ": " };
    /// `separators=(",", ":")`, which PyJWT uses for the parts of a token.
    pub const COMPACT: Style = Style { comma: ",", colon: ":" };
}

/// Writes `value` as JSON.
///
/// # Errors
/// Fails with the `InvalidJSONError` of the package `requests` for NaN and the infinities.
pub fn dumps(value: &Value, style: Style) -> Result<String, Failed> {
    let mut out = String::new();
    write(value, style, &mut out)?;
    Ok(out)
}

fn write(value: &Value, style: Style, out: &mut String) -> Result<(), Failed> {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Int(int) => out.push_str(&int.to_string()),
        Value::Big(digits) => out.push_str(digits),
        Value::Float(float) if float.is_finite() => out.push_str(&float_repr(*float)),
        Value::Float(float) => {
            let message = format!("Out of range float values are not JSON compliant: {}", float_repr(*float));
            return Err(Failed::system("InvalidJSONError", message));
        }
        Value::Str(text) => str_json(text, out),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                out.push_str(if index > 0 { style.comma } else { "" });
                write(item, style, out)?;
            }
            out.push(']');
        }
        Value::Dict(dict) => {
            out.push('{');
            for (index, (key, item)) in dict.iter().enumerate() {
                out.push_str(if index > 0 { style.comma } else { "" });
                str_json(key, out);
                out.push_str(style.colon);
                write(item, style, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}
