//! Jinja2's tests: `x is ...`.

use super::EvalError;
use super::args::Args;
use super::ast::Cmp;
use super::eval::Eval;
use super::object::Obj;
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

fn comparison(name: &str) -> Option<Cmp> {
    Some(match name {
        "==" | "eq" | "equalto" => Cmp::Eq,
        "!=" | "ne" => Cmp::Ne,
        ">" | "gt" | "greaterthan" => Cmp::Gt,
        ">=" | "ge" => Cmp::Ge,
        "<" | "lt" | "lessthan" => Cmp::Lt,
        "<=" | "le" => Cmp::Le,
        _ => return None,
    })
}

pub(super) fn apply<'a>(_eval: &mut Eval<'a>, name: &str, value: &Obj<'a>, args: Args<'a>) -> Result<bool, EvalError> {
    if !known(name) {
        return Err(EvalError::new("TemplateRuntimeError", format!("No test named '{name}' found.")));
    }
    if let Some(cmp) = comparison(name) {
        let [other] = args.positional(name, 1)?;
        return compare(cmp, value, &other.unwrap_or(Obj::None));
    }
    match name {
        "in" => {
            let [other] = args.bind(name, ["seq"], 1)?;
            return contains(&other.unwrap_or(Obj::None), value);
        }
        "sameas" => {
            let [other] = args.bind(name, ["other"], 1)?;
            return same(value, &other.unwrap_or(Obj::None));
        }
        "divisibleby" => {
            let [by] = args.bind(name, ["num"], 1)?;
            let rest = super::ops::binary(super::ast::Op::Mod, value, &by.unwrap_or(Obj::None))?;
            return equal(&rest, &Obj::Int(0));
        }
        _ => {}
    }
    let [] = args.positional(name, 0)?;
    Ok(match name {
        "odd" | "even" => {
            let rest = super::ops::binary(super::ast::Op::Mod, value, &Obj::Int(2))?;
            equal(&rest, &Obj::Int(i128::from(name == "odd")))?
        }
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" => value.text().is_some_and(|name| super::filters::known(name)),
        "test" => value.text().is_some_and(|name| known(name)),
        "none" => matches!(value, Obj::None),
        "boolean" => matches!(value, Obj::Bool(_)),
        "false" => matches!(value, Obj::Bool(false)),
        "true" => matches!(value, Obj::Bool(true)),
        "integer" => matches!(value, Obj::Int(_) | Obj::Big(_)),
        "float" => matches!(value, Obj::Float(_)),
        "lower" => cased(&value.to_str()?, char::is_lowercase, char::is_uppercase),
        "upper" => cased(&value.to_str()?, char::is_uppercase, char::is_lowercase),
        "string" => value.text().is_some(),
        "mapping" => value.is_dict(),
        "number" => value.number().is_some(),
        "sequence" => {
            let sized = matches!(value, Obj::Str(_) | Obj::Markup(_) | Obj::Tuple(_) | Obj::Bytes(_) | Obj::Undefined(_));
            sized || value.is_dict() || value.is_list()
        }
        "iterable" => matches!(value, Obj::Undefined(_)) || super::format::iterable(value),
        "callable" => {
            matches!(value, Obj::Global(_) | Obj::Method(_) | Obj::Macro(_) | Obj::Joiner(_) | Obj::Undefined(_) | Obj::Loop(_))
        }
        _ => matches!(value, Obj::Markup(_)),
    })
}

fn cased(text: &str, has: fn(char) -> bool, not: fn(char) -> bool) -> bool {
    text.chars().any(has) && !text.chars().any(not)
}

/// Python's `is`: small values are one object, containers only themselves.
fn same<'a>(a: &Obj<'a>, b: &Obj<'a>) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (Obj::List(a), Obj::List(b)) => std::rc::Rc::ptr_eq(a, b),
        (Obj::Dict(a), Obj::Dict(b)) => std::rc::Rc::ptr_eq(a, b),
        (Obj::Ref(a), Obj::Ref(b)) => std::ptr::eq(*a, *b),
        _ => a.type_name() == b.type_name() && equal(a, b)?,
    })
}
