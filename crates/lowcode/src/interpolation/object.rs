//! The objects of a running template. They represent Python's types; [`Value`] has only the types that JSON has.

use super::EvalError;
use super::ast::{Constant, Macro};
use crate::datetime::{Date, DateTime, Delta, Duration, Zone, clock_text, offset_text};
use crate::value::{Value, float_repr, str_repr};
use indexmap::IndexMap;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// A dict. It maps the hashable key to the key as it was first written and to its value.
pub(super) type Map<'a> = IndexMap<Key, (Object<'a>, Object<'a>)>;

#[derive(Clone)]
pub(super) enum Object<'a> {
    /// The message of the error that is raised when the undefined value is used.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Big(Arc<str>),
    Float(f64),
    Str(Arc<str>),
    /// A string that counts as safe HTML (`tojson`, `escape`, `safe`).
    Markup(Arc<str>),
    Bytes(Rc<[u8]>),
    /// A list or dict that is borrowed from the scope.
    Ref(&'a Value),
    List(Rc<RefCell<Vec<Object<'a>>>>),
    Tuple(Rc<Vec<Object<'a>>>),
    Dict(Rc<RefCell<Map<'a>>>),
    Set(Rc<Map<'a>>),
    /// A generator or another iterator. Reading it consumes it.
    Iter(Rc<RefCell<VecDeque<Object<'a>>>>),
    /// The result of `dict.items()`, `dict.keys()` or `dict.values()`: the name of its Python class, and the items.
    View(&'static str, Rc<Vec<Object<'a>>>),
    Date(Date),
    /// Microseconds since midnight.
    Time(i64),
    DateTime(Rc<DateTime>),
    Delta(Delta),
    Duration(Duration),
    Zone(Rc<Zone>),
    /// A macro of the CDK or a function of Jinja2.
    Global(&'static str),
    Method(Rc<(Object<'a>, &'static str)>),
    Namespace(Rc<RefCell<Map<'a>>>),
    Loop(Rc<RefCell<Loop<'a>>>),
    Macro(Rc<MacroObject<'a>>),
    Cycler(Rc<RefCell<(Vec<Object<'a>>, usize)>>),
    Joiner(Rc<RefCell<(Arc<str>, bool)>>),
}

pub(super) struct MacroObject<'a> {
    pub(super) code: &'a Macro,
    pub(super) caller: Option<Object<'a>>,
}

/// The variable `loop`.
pub(super) struct Loop<'a> {
    pub(super) items: Rc<Vec<Object<'a>>>,
    pub(super) index: usize,
    pub(super) depth: i128,
    pub(super) changed: Option<Vec<Object<'a>>>,
    /// The loop itself, present if the loop is recursive.
    pub(super) recursive: Option<&'a super::ast::For>,
}

/// The hashable form of a dict key. As in Python, `1`, `1.0` and `True` are the same key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    None,
    Int(i128),
    Float(u64),
    Str(Arc<str>),
    Tuple(Vec<Key>),
    Other(String),
}

pub(super) fn type_error<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::type_error(message))
}

pub(super) fn undefined<'a>(message: impl Into<String>) -> Object<'a> {
    Object::Undefined(Rc::from(message.into()))
}

impl<'a> Object<'a> {
    pub(super) fn str(text: impl Into<Arc<str>>) -> Object<'a> {
        Object::Str(text.into())
    }

    pub(super) fn list(items: Vec<Object<'a>>) -> Object<'a> {
        Object::List(Rc::new(RefCell::new(items)))
    }

    pub(super) fn tuple(items: Vec<Object<'a>>) -> Object<'a> {
        Object::Tuple(Rc::new(items))
    }

    pub(super) fn from_items(items: Vec<Object<'a>>) -> Object<'a> {
        Object::Iter(Rc::new(RefCell::new(items.into())))
    }

    pub(super) fn dict(map: Map<'a>) -> Object<'a> {
        Object::Dict(Rc::new(RefCell::new(map)))
    }

    pub(super) fn from_value(value: &'a Value) -> Object<'a> {
        match value {
            Value::None => Object::None,
            Value::Bool(bool) => Object::Bool(*bool),
            Value::Int(int) => Object::Int(i128::from(*int)),
            Value::Big(digits) => digits.parse().map_or_else(|_| Object::Big(Arc::clone(digits)), Object::Int),
            Value::Float(float) => Object::Float(*float),
            Value::Str(text) => Object::Str(Arc::clone(text)),
            Value::List(_) | Value::Dict(_) => Object::Ref(value),
        }
    }

    pub(super) fn from_constant(lit: &Constant) -> Object<'a> {
        match lit {
            Constant::None => Object::None,
            Constant::Bool(bool) => Object::Bool(*bool),
            Constant::Int(int) => Object::Int(*int),
            Constant::Big(digits) => Object::Big(Arc::clone(digits)),
            Constant::Float(float) => Object::Float(*float),
            Constant::Str(text) => Object::Str(Arc::clone(text)),
        }
    }

    /// The text of a string, whether or not it is marked as safe HTML.
    pub(super) fn text(&self) -> Option<&Arc<str>> {
        match self {
            Object::Str(text) | Object::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// The value as an integer; booleans count as 0 and 1.
    pub(super) fn int(&self) -> Option<i128> {
        match self {
            Object::Bool(bool) => Some(i128::from(*bool)),
            Object::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The value as a number; booleans count as 0 and 1.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Object::Float(float) => Some(*float),
            Object::Big(digits) => digits.parse().ok(),
            other => other.int().map(|int| int as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Object::Undefined(_))
    }

    pub(super) fn is_dict(&self) -> bool {
        matches!(self, Object::Dict(_) | Object::Ref(Value::Dict(_)))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Object::List(_) | Object::Ref(Value::List(_)))
    }

    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Object::Undefined(_) => "Undefined",
            Object::None => "NoneType",
            Object::Bool(_) => "bool",
            Object::Int(_) | Object::Big(_) => "int",
            Object::Float(_) => "float",
            Object::Str(_) => "str",
            Object::Markup(_) => "Markup",
            Object::Bytes(_) => "bytes",
            Object::Ref(value) => value.type_name(),
            Object::List(_) => "list",
            Object::Tuple(_) => "tuple",
            Object::Dict(_) => "dict",
            Object::Set(_) => "set",
            Object::Iter(_) => "generator",
            Object::View(class, _) => class,
            Object::Date(_) => "datetime.date",
            Object::Time(_) => "datetime.time",
            Object::DateTime(_) => "datetime.datetime",
            Object::Delta(_) => "datetime.timedelta",
            Object::Duration(_) => "Duration",
            Object::Zone(_) => "datetime.timezone",
            Object::Global(_) | Object::Method(_) => "function",
            Object::Namespace(_) => "Namespace",
            Object::Loop(_) => "LoopContext",
            Object::Macro(_) => "Macro",
            Object::Cycler(_) => "Cycler",
            Object::Joiner(_) => "Joiner",
        }
    }

    /// Python's `bool(x)`.
    pub(super) fn truthy(&self) -> bool {
        match self {
            Object::Undefined(_) | Object::None => false,
            Object::Bool(bool) => *bool,
            Object::Int(int) => *int != 0,
            Object::Float(float) => *float != 0.0,
            Object::Str(text) | Object::Markup(text) => !text.is_empty(),
            Object::Bytes(bytes) => !bytes.is_empty(),
            Object::Ref(value) => value.truthy(),
            Object::List(list) => !list.borrow().is_empty(),
            Object::Tuple(items) | Object::View(_, items) => !items.is_empty(),
            Object::Dict(map) => !map.borrow().is_empty(),
            Object::Set(map) => !map.is_empty(),
            Object::Delta(delta) => delta.micros != 0,
            _ => true,
        }
    }

    /// Python's `hash(x)`, as the key of a dict.
    pub(super) fn key(&self) -> Result<Key, EvalError> {
        Ok(match self {
            Object::None => Key::None,
            Object::Bool(bool) => Key::Int(i128::from(*bool)),
            Object::Int(int) => Key::Int(*int),
            Object::Float(float) if float.fract() == 0.0 && float.abs() < 1e30 => Key::Int(*float as i128),
            Object::Float(float) => Key::Float(float.to_bits()),
            Object::Str(text) | Object::Markup(text) => Key::Str(Arc::clone(text)),
            Object::Tuple(items) => Key::Tuple(items.iter().map(Object::key).collect::<Result<_, _>>()?),
            Object::DateTime(time) => Key::Other(format!("datetime {}", time.epoch_micros())),
            Object::Undefined(_) => Key::Other("Undefined".into()),
            Object::List(_) | Object::Dict(_) | Object::Ref(_) | Object::Set(_) => {
                return type_error(format!("unhashable type: '{}'", self.type_name()));
            }
            other => Key::Other(format!("{} {}", other.type_name(), other.repr()?)),
        })
    }

    /// Python's `str(x)`.
    pub(super) fn to_str(&self) -> Result<String, EvalError> {
        let mut out = String::new();
        self.write_str(&mut out)?;
        Ok(out)
    }

    pub(super) fn write_str(&self, out: &mut String) -> Result<(), EvalError> {
        match self {
            Object::Undefined(_) => {}
            Object::Str(text) | Object::Markup(text) => out.push_str(text),
            Object::Date(date) => out.push_str(&date.isoformat()),
            Object::Time(micros) => out.push_str(&clock_text(*micros)),
            Object::DateTime(time) => out.push_str(&time.isoformat(' ')),
            Object::Delta(delta) => out.push_str(&delta.to_str()),
            Object::Duration(duration) => out.push_str(&duration.to_str()),
            Object::Zone(zone) => out.push_str(&zone.name()),
            other => other.write_repr(out, 0)?,
        }
        Ok(())
    }

    /// Python's `repr(x)`.
    pub(super) fn repr(&self) -> Result<String, EvalError> {
        let mut out = String::new();
        self.write_repr(&mut out, 0)?;
        Ok(out)
    }

    fn write_repr(&self, out: &mut String, depth: usize) -> Result<(), EvalError> {
        if depth > 100 {
            // The depth is limited, because a list that contains itself would recurse forever.
            return Err(EvalError::new("RecursionError", "maximum recursion depth exceeded"));
        }
        if out.len() > 1 << 24 {
            return Err(EvalError::new("MemoryError", "the text of a value is too long"));
        }
        match self {
            Object::None => out.push_str("None"),
            Object::Bool(bool) => out.push_str(if *bool { "True" } else { "False" }),
            Object::Int(int) => out.push_str(&int.to_string()),
            Object::Big(digits) => out.push_str(digits),
            Object::Float(float) => out.push_str(&float_repr(*float)),
            Object::Str(text) => str_repr(text, out),
            Object::Markup(text) => {
                out.push_str("Markup(");
                str_repr(text, out);
                out.push(')');
            }
            Object::Bytes(bytes) => bytes_repr(bytes, out),
            Object::Ref(value) => out.push_str(&value.repr()),
            Object::List(list) => write_items('[', &list.borrow(), "]", out, depth)?,
            Object::Tuple(items) => write_items('(', items, if items.len() == 1 { ",)" } else { ")" }, out, depth)?,
            Object::View(class, items) => {
                out.push_str(class);
                out.push('(');
                write_items('[', items, "])", out, depth)?;
            }
            Object::Dict(map) => write_map(&map.borrow(), out, depth)?,
            Object::Namespace(map) => {
                out.push_str("<Namespace ");
                write_map(&map.borrow(), out, depth)?;
                out.push('>');
            }
            Object::Set(map) if map.is_empty() => out.push_str("set()"),
            Object::Set(map) => {
                let items: Vec<Object<'a>> = map.values().map(|(key, _)| key.clone()).collect();
                write_items('{', &items, "}", out, depth)?;
            }
            other => other.write_plain_repr(out),
        }
        Ok(())
    }

    fn write_plain_repr(&self, out: &mut String) {
        match self {
            Object::Undefined(_) => out.push_str("Undefined"),
            Object::Date(date) => {
                let (year, month, day) = date.parts();
                out.push_str(&format!("datetime.date({year}, {month}, {day})"));
            }
            Object::DateTime(time) => {
                let (year, month, day) = time.date().parts();
                let seconds = time.time() / 1_000_000;
                out.push_str(&format!("datetime.datetime({year}, {month}, {day}, {}, {}", seconds / 3600, seconds / 60 % 60));
                let micros = time.time() % 1_000_000;
                if seconds % 60 != 0 || micros != 0 {
                    out.push_str(&format!(", {}", seconds % 60));
                }
                if micros != 0 {
                    out.push_str(&format!(", {micros}"));
                }
                if let Some(zone) = &time.zone {
                    out.push_str(", tzinfo=");
                    zone_repr(zone, out);
                }
                out.push(')');
            }
            Object::Delta(delta) => out.push_str(&delta.repr()),
            Object::Duration(it) => out.push_str(&format!(
                "isodate.duration.Duration({}, {}, {}, years={}, months={})",
                it.delta.days(),
                it.delta.seconds(),
                it.delta.microseconds(),
                it.years,
                it.months
            )),
            Object::Zone(zone) => zone_repr(zone, out),
            Object::Loop(it) => {
                let it = it.borrow();
                out.push_str(&format!("<LoopContext {}/{}>", it.index + 1, it.items.len()));
            }
            Object::Global(name) => out.push_str(&format!("<function {name}>")),
            Object::Method(method) => {
                out.push_str(&format!("<built-in method {} of {} object>", method.1, method.0.type_name()));
            }
            Object::Macro(it) => out.push_str(&format!("<Macro '{}'>", it.code.name)),
            other => out.push_str(&format!("<{} object>", other.type_name())),
        }
    }
}

fn zone_repr(zone: &Zone, out: &mut String) {
    if zone.offset == 0 && zone.name.is_none() {
        out.push_str("datetime.timezone.utc");
    } else {
        out.push_str(&format!("datetime.timezone({})", offset_text(zone.offset, ":")));
    }
}

fn bytes_repr(bytes: &[u8], out: &mut String) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    out.push('b');
    out.push(quote);
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b if char::from(*b) == quote => {
                out.push('\\');
                out.push(quote);
            }
            0x20..=0x7e => out.push(char::from(*byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push(quote);
}

fn write_items(open: char, items: &[Object<'_>], close: &str, out: &mut String, depth: usize) -> Result<(), EvalError> {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        item.write_repr(out, depth + 1)?;
    }
    out.push_str(close);
    Ok(())
}

fn write_map(map: &Map<'_>, out: &mut String, depth: usize) -> Result<(), EvalError> {
    out.push('{');
    for (index, (key, value)) in map.values().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        key.write_repr(out, depth + 1)?;
        out.push_str(": ");
        value.write_repr(out, depth + 1)?;
    }
    out.push('}');
    Ok(())
}
