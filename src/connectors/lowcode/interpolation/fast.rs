//! The short way of templates that are plain text or only look values up by constant keys.

use super::{EvalError, Scope};
use crate::connectors::lowcode::value::Value;

/// A compiled template.
#[derive(Clone, Debug)]
pub(super) enum Code {
    /// No template in it: the text that it renders to.
    Plain(String),
    Paths(Vec<Piece>),
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Text(String),
    Path(Vec<String>),
}

pub(super) fn compile(text: &str) -> Code {
    if !text.contains("{{") {
        return Code::Plain(text.to_owned());
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").unwrap_or((after, ""));
        pieces.push(Piece::Text(before.to_owned()));
        let keys = inside.replace("']", "").replace("['", ".");
        pieces.push(Piece::Path(keys.trim().split('.').map(str::to_owned).collect()));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Code::Paths(pieces)
}

impl Code {
    pub(super) fn render(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        let pieces = match self {
            Code::Plain(text) => return Ok(text.clone()),
            Code::Paths(pieces) => pieces,
        };
        let mut out = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Path(keys) => {
                    let root = keys.first().map_or("", String::as_str);
                    let mut value = scope.lookup(root).ok_or_else(|| EvalError::value_error(format!("undeclared {root}")))?;
                    for key in keys.iter().skip(1) {
                        value = value.get(key).unwrap_or(&Value::None);
                    }
                    out.push_str(&value.to_str());
                }
            }
        }
        Ok(out)
    }
}
