//! The filters `tojson`, `string` and `pprint`, which write values as JSON.

use super::super::args::Args;
use super::super::object::{Key, Object, type_error};
use super::super::ops::{items, length, too_large};
use super::super::{EvalError, access};
use crate::value::{float_repr, str_json};

pub(super) fn apply<'a>(name: &str, value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let mut out = String::new();
    match name {
        "tojson" => {
            let [indent] = args.bind(name, ["indent"], 0)?;
            let indent = indent.and_then(|it| it.int()).and_then(|it| usize::try_from(it).ok()).map(|it| it.min(100));
            Writer { sorted: true, indent }.write(value, &mut out, 0)?;
            let safe = out.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('\'', "\\u0027");
            Ok(Object::Markup(safe.into()))
        }
        "pprint" => {
            let [] = args.positional(name, 0)?;
            value.repr().map(Object::str)
        }
        // The CDK's filter `string` puts JSON into triple quotes, and `literal_eval` removes them again.
        _ => {
            let [] = args.positional(name, 0)?;
            if value.text().is_some() {
                return Ok(value.clone());
            }
            Writer { sorted: false, indent: None }.write(value, &mut out, 0)?;
            Ok(Object::str(format!("\"\"\"{out}\"\"\"")))
        }
    }
}

/// Python's `json.dumps`.
struct Writer {
    sorted: bool,
    indent: Option<usize>,
}

impl Writer {
    fn write(&self, value: &Object<'_>, out: &mut String, depth: usize) -> Result<(), EvalError> {
        if depth > 100 || out.len() > 1 << 22 {
            return too_large();
        }
        match value {
            Object::None => out.push_str("null"),
            Object::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
            Object::Int(int) => out.push_str(&int.to_string()),
            Object::Big(digits) => out.push_str(digits),
            Object::Float(float) => out.push_str(&float_json(*float)),
            Object::Str(text) | Object::Markup(text) => str_json(text, out),
            it if it.is_dict() => self.dict(it, out, depth)?,
            it if it.is_list() || matches!(it, Object::Tuple(_)) => {
                let all = items(it)?;
                out.push('[');
                for (index, item) in all.iter().enumerate() {
                    self.separate(index, out, depth + 1);
                    self.write(item, out, depth + 1)?;
                }
                self.close(all.len(), ']', out, depth);
            }
            other => return type_error(format!("Object of type {} is not JSON serializable", other.type_name())),
        }
        Ok(())
    }

    fn dict(&self, dict: &Object<'_>, out: &mut String, depth: usize) -> Result<(), EvalError> {
        let mut keys = items(dict)?;
        if self.sorted {
            let pairs = keys.iter().map(|key| (key.clone(), key.clone())).collect();
            keys = super::super::methods::sorted(pairs, false)?;
        }
        out.push('{');
        for (index, key) in keys.iter().enumerate() {
            self.separate(index, out, depth + 1);
            let name = match (key, key.key()?) {
                (_, Key::Str(text)) => text.to_string(),
                (Object::None, _) => "null".into(),
                (Object::Bool(bool), _) => bool.to_string(),
                (Object::Int(int), _) => int.to_string(),
                (Object::Float(float), _) => float_json(*float),
                _ => return type_error("keys must be str, int, float, bool or None"),
            };
            str_json(&name, out);
            out.push_str(": ");
            self.write(&access::dict_get(dict, key)?.unwrap_or(Object::None), out, depth + 1)?;
        }
        self.close(length(dict)?, '}', out, depth);
        Ok(())
    }

    fn line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn separate(&self, index: usize, out: &mut String, depth: usize) {
        if index > 0 {
            out.push_str(if self.indent.is_some() { "," } else { ", " });
        }
        self.line(out, depth);
    }

    fn close(&self, count: usize, bracket: char, out: &mut String, depth: usize) {
        if count > 0 {
            self.line(out, depth);
        }
        out.push(bracket);
    }
}

fn float_json(float: f64) -> String {
    if float.is_nan() {
        "NaN".into()
    } else if float.is_infinite() {
        if float > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        float_repr(float)
    }
}
