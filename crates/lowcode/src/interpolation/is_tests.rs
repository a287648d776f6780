//! Jinja2's tests, the names after `is` in `x is defined`.

use super::EvalError;
use super::args::Args;
use super::ast::Comparison;
use super::eval::Eval;
use super::object::Object;
use super::ops::{compare, contains, equal};

const NAMES: [&str; 39] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    "ge",
    ">=",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
];

pub(super) fn known(name: &str) -> bool {
    NAMES.contains(&name)
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "==" | "eq" | "equalto" => Comparison::Eq,
        "!=" | "ne" => Comparison::Ne,
        ">" | "gt" | "greaterthan" => Comparison::Gt,
        ">=" | "ge" => Comparison::Ge,
        "<" | "lt" | "lessthan" => Comparison::Lt,
        "<=" | "le" => Comparison::Le,
        _ => return None,
    })
}

pub(super) fn apply<'a>(_eval: &mut Eval<'a>, name: &str, value: &Object<'a>, args: Args<'a>) -> Result<bool, EvalError> {
    if !known(name) {
        return Err(EvalError::new("TemplateRuntimeError", format!("No test named '{name}' found.")));
    }
    if let Some(cmp) = comparison(name) {
        let [other] = args.positional(name, 1)?;
        return compare(cmp, value, &other.unwrap_or(Object::None));
    }
    match name {
        "in" => {
            let [other] = args.bind(name, ["seq"], 1)?;
            return contains(&other.unwrap_or(Object::None), value);
        }
        "sameas" => {
            let [other] = args.bind(name, ["other"], 1)?;
            return same(value, &other.unwrap_or(Object::None));
        }
        "divisibleby" => {
            let [by] = args.bind(name, ["num"], 1)?;
            let rest = super::ops::binary(super::ast::BinaryOp::Mod, value, &by.unwrap_or(Object::None))?;
            return equal(&rest, &Object::Int(0));
        }
        _ => {}
    }
    let [] = args.positional(name, 0)?;
    Ok(match name {
        "odd" | "even" => {
            let rest = super::ops::binary(super::ast::BinaryOp::Mod, value, &Object::Int(2))?;
            equal(&rest, &Object::Int(i128::from(name == "odd")))?
        }
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" => value.text().is_some_and(|name| super::filters::known(name)),
        "test" => value.text().is_some_and(|name| known(name)),
        "none" => matches!(value, Object::None),
        "boolean" => matches!(value, Object::Bool(_)),
        "false" => matches!(value, Object::Bool(false)),
        "true" => matches!(value, Object::Bool(true)),
        "integer" => matches!(value, Object::Int(_) | Object::Big(_)),
        "float" => matches!(value, Object::Float(_)),
        "lower" => cased(&value.to_str()?, char::is_lowercase, char::is_uppercase),
        "upper" => cased(&value.to_str()?, char::is_uppercase, char::is_lowercase),
        "string" => value.text().is_some(),
        "mapping" => value.is_dict(),
        "number" => value.number().is_some(),
        "sequence" => {
            let sized =
                matches!(value, Object::Str(_) | Object::Markup(_) | Object::Tuple(_) | Object::Bytes(_) | Object::Undefined(_));
            sized || value.is_dict() || value.is_list()
        }
        "iterable" => matches!(value, Object::Undefined(_)) || super::format::iterable(value),
        "callable" => {
            matches!(
                value,
                Object::Global(_)
                    | Object::Method(_)
                    | Object::Macro(_)
                    | Object::Joiner(_)
                    | Object::Undefined(_)
                    | Object::Loop(_)
            )
        }
        _ => matches!(value, Object::Markup(_)),
    })
}

fn cased(text: &str, has: fn(char) -> bool, not: fn(char) -> bool) -> bool {
    text.chars().any(has) && !text.chars().any(not)
}

/// Python's `is`. Equal small values count as the same object; a container is identical only to itself.
fn same<'a>(a: &Object<'a>, b: &Object<'a>) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (Object::List(a), Object::List(b)) => std::rc::Rc::ptr_eq(a, b),
        (Object::Dict(a), Object::Dict(b)) => std::rc::Rc::ptr_eq(a, b),
        (Object::Ref(a), Object::Ref(b)) => std::ptr::eq(*a, *b),
        _ => a.type_name() == b.type_name() && equal(a, b)?,
    })
}
