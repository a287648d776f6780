//! Objects while a template runs: Python's, wider than [`Value`].

use super::EvalError;
use super::ast::{Lit, Macro};
use crate::datetime::{Date, DateTime, Delta, Duration, Zone, clock_text, offset_text};
use crate::value::{Value, float_repr, str_repr};
use indexmap::IndexMap;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// A dict: by the key's value, the key as it was first written and its value.
pub(super) type Map<'a> = IndexMap<Key, (Obj<'a>, Obj<'a>)>;

#[derive(Clone)]
pub(super) enum Obj<'a> {
    /// Why it is undefined.
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
    /// A list or a dict of the scope, not copied.
    Ref(&'a Value),
    List(Rc<RefCell<Vec<Obj<'a>>>>),
    Tuple(Rc<Vec<Obj<'a>>>),
    Dict(Rc<RefCell<Map<'a>>>),
    Set(Rc<Map<'a>>),
    /// A generator or another iterator, consumed by reading.
    Iter(Rc<RefCell<VecDeque<Obj<'a>>>>),
    /// `dict.items()` and its like: the class and what it shows.
    View(&'static str, Rc<Vec<Obj<'a>>>),
    Date(Date),
    /// Microseconds since midnight.
    Time(i64),
    DateTime(Rc<DateTime>),
    Delta(Delta),
    Duration(Duration),
    Zone(Rc<Zone>),
    /// A macro of the CDK or a function of Jinja2.
    Global(&'static str),
    Method(Rc<(Obj<'a>, &'static str)>),
    Namespace(Rc<RefCell<Map<'a>>>),
    Loop(Rc<RefCell<Loop<'a>>>),
    Macro(Rc<MacroObj<'a>>),
    Cycler(Rc<RefCell<(Vec<Obj<'a>>, usize)>>),
    Joiner(Rc<RefCell<(Arc<str>, bool)>>),
}

pub(super) struct MacroObj<'a> {
    pub(super) code: &'a Macro,
    pub(super) caller: Option<Obj<'a>>,
}

/// The variable `loop`.
pub(super) struct Loop<'a> {
    pub(super) items: Rc<Vec<Obj<'a>>>,
    pub(super) index: usize,
    pub(super) depth: i128,
    pub(super) changed: Option<Vec<Obj<'a>>>,
    /// The loop itself, where it is recursive.
    pub(super) recursive: Option<&'a super::ast::For>,
}

/// What a dict or a set compares keys by: `1`, `1.0` and `True` are the same key.
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

pub(super) fn undefined<'a>(message: impl Into<String>) -> Obj<'a> {
    Obj::Undefined(Rc::from(message.into()))
}

impl<'a> Obj<'a> {
    pub(super) fn str(text: impl Into<Arc<str>>) -> Obj<'a> {
        Obj::Str(text.into())
    }

    pub(super) fn list(items: Vec<Obj<'a>>) -> Obj<'a> {
        Obj::List(Rc::new(RefCell::new(items)))
    }

    pub(super) fn tuple(items: Vec<Obj<'a>>) -> Obj<'a> {
        Obj::Tuple(Rc::new(items))
    }

    pub(super) fn iter_of(items: Vec<Obj<'a>>) -> Obj<'a> {
        Obj::Iter(Rc::new(RefCell::new(items.into())))
    }

    pub(super) fn dict(map: Map<'a>) -> Obj<'a> {
        Obj::Dict(Rc::new(RefCell::new(map)))
    }

    pub(super) fn of(value: &'a Value) -> Obj<'a> {
        match value {
            Value::None => Obj::None,
            Value::Bool(bool) => Obj::Bool(*bool),
            Value::Int(int) => Obj::Int(i128::from(*int)),
            Value::Big(digits) => digits.parse().map_or_else(|_| Obj::Big(Arc::clone(digits)), Obj::Int),
            Value::Float(float) => Obj::Float(*float),
            Value::Str(text) => Obj::Str(Arc::clone(text)),
            Value::List(_) | Value::Dict(_) => Obj::Ref(value),
        }
    }

    pub(super) fn lit(lit: &Lit) -> Obj<'a> {
        match lit {
            Lit::None => Obj::None,
            Lit::Bool(bool) => Obj::Bool(*bool),
            Lit::Int(int) => Obj::Int(*int),
            Lit::Big(digits) => Obj::Big(Arc::clone(digits)),
            Lit::Float(float) => Obj::Float(*float),
            Lit::Str(text) => Obj::Str(Arc::clone(text)),
        }
    }

    /// The text of a string, safe or not.
    pub(super) fn text(&self) -> Option<&Arc<str>> {
        match self {
            Obj::Str(text) | Obj::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// The integer that this is, booleans included.
    pub(super) fn int(&self) -> Option<i128> {
        match self {
            Obj::Bool(bool) => Some(i128::from(*bool)),
            Obj::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The number that this is, booleans included.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Obj::Float(float) => Some(*float),
            Obj::Big(digits) => digits.parse().ok(),
            other => other.int().map(|int| int as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Obj::Undefined(_))
    }

    pub(super) fn is_dict(&self) -> bool {
        matches!(self, Obj::Dict(_) | Obj::Ref(Value::Dict(_)))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Obj::List(_) | Obj::Ref(Value::List(_)))
    }

    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Obj::Undefined(_) => "Undefined",
            Obj::None => "NoneType",
            Obj::Bool(_) => "bool",
            Obj::Int(_) | Obj::Big(_) => "int",
            Obj::Float(_) => "float",
            Obj::Str(_) => "str",
            Obj::Markup(_) => "Markup",
            Obj::Bytes(_) => "bytes",
            Obj::Ref(value) => value.type_name(),
            Obj::List(_) => "list",
            Obj::Tuple(_) => "tuple",
            Obj::Dict(_) => "dict",
            Obj::Set(_) => "set",
            Obj::Iter(_) => "generator",
            Obj::View(class, _) => class,
            Obj::Date(_) => "datetime.date",
            Obj::Time(_) => "datetime.time",
            Obj::DateTime(_) => "datetime.datetime",
            Obj::Delta(_) => "datetime.timedelta",
            Obj::Duration(_) => "Duration",
            Obj::Zone(_) => "datetime.timezone",
            Obj::Global(_) | Obj::Method(_) => "function",
            Obj::Namespace(_) => "Namespace",
            Obj::Loop(_) => "LoopContext",
            Obj::Macro(_) => "Macro",
            Obj::Cycler(_) => "Cycler",
            Obj::Joiner(_) => "Joiner",
        }
    }

    /// Python's `bool(x)`.
    pub(super) fn truthy(&self) -> bool {
        match self {
            Obj::Undefined(_) | Obj::None => false,
            Obj::Bool(bool) => *bool,
            Obj::Int(int) => *int != 0,
            Obj::Float(float) => *float != 0.0,
            Obj::Str(text) | Obj::Markup(text) => !text.is_empty(),
            Obj::Bytes(bytes) => !bytes.is_empty(),
            Obj::Ref(value) => value.truthy(),
            Obj::List(list) => !list.borrow().is_empty(),
            Obj::Tuple(items) | Obj::View(_, items) => !items.is_empty(),
            Obj::Dict(map) => !map.borrow().is_empty(),
            Obj::Set(map) => !map.is_empty(),
            Obj::Delta(delta) => delta.micros != 0,
            _ => true,
        }
    }

    /// Python's `hash(x)`, as the key of a dict.
    pub(super) fn key(&self) -> Result<Key, EvalError> {
        Ok(match self {
            Obj::None => Key::None,
            Obj::Bool(bool) => Key::Int(i128::from(*bool)),
            Obj::Int(int) => Key::Int(*int),
            Obj::Float(float) if float.fract() == 0.0 && float.abs() < 1e30 => Key::Int(*float as i128),
            Obj::Float(float) => Key::Float(float.to_bits()),
            Obj::Str(text) | Obj::Markup(text) => Key::Str(Arc::clone(text)),
            Obj::Tuple(items) => Key::Tuple(items.iter().map(Obj::key).collect::<Result<_, _>>()?),
            Obj::DateTime(time) => Key::Other(format!("datetime {}", time.epoch_micros())),
            Obj::Undefined(_) => Key::Other("Undefined".into()),
            Obj::List(_) | Obj::Dict(_) | Obj::Ref(_) | Obj::Set(_) => {
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
            Obj::Undefined(_) => {}
            Obj::Str(text) | Obj::Markup(text) => out.push_str(text),
            Obj::Date(date) => out.push_str(&date.isoformat()),
            Obj::Time(micros) => out.push_str(&clock_text(*micros)),
            Obj::DateTime(time) => out.push_str(&time.isoformat(' ')),
            Obj::Delta(delta) => out.push_str(&delta.to_str()),
            Obj::Duration(duration) => out.push_str(&duration.to_str()),
            Obj::Zone(zone) => out.push_str(&zone.name()),
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
            // A list that holds itself, or one nested without end.
            return Err(EvalError::new("RecursionError", "maximum recursion depth exceeded"));
        }
        if out.len() > 1 << 24 {
            return Err(EvalError::new("MemoryError", "the text of a value is too long"));
        }
        match self {
            Obj::None => out.push_str("None"),
            Obj::Bool(bool) => out.push_str(if *bool { "True" } else { "False" }),
            Obj::Int(int) => out.push_str(&int.to_string()),
            Obj::Big(digits) => out.push_str(digits),
            Obj::Float(float) => out.push_str(&float_repr(*float)),
            Obj::Str(text) => str_repr(text, out),
            Obj::Markup(text) => {
                out.push_str("Markup(");
                str_repr(text, out);
                out.push(')');
            }
            Obj::Bytes(bytes) => bytes_repr(bytes, out),
            Obj::Ref(value) => out.push_str(&value.repr()),
            Obj::List(list) => write_items('[', &list.borrow(), "]", out, depth)?,
            Obj::Tuple(items) => write_items('(', items, if items.len() == 1 { ",)" } else { ")" }, out, depth)?,
            Obj::View(class, items) => {
                out.push_str(class);
                out.push('(');
                write_items('[', items, "])", out, depth)?;
            }
            Obj::Dict(map) => write_map(&map.borrow(), out, depth)?,
            Obj::Namespace(map) => {
                out.push_str("<Namespace ");
                write_map(&map.borrow(), out, depth)?;
                out.push('>');
            }
            Obj::Set(map) if map.is_empty() => out.push_str("set()"),
            Obj::Set(map) => {
                let items: Vec<Obj<'a>> = map.values().map(|(key, _)| key.clone()).collect();
                write_items('{', &items, "}", out, depth)?;
            }
            other => other.write_plain_repr(out),
        }
        Ok(())
    }

    fn write_plain_repr(&self, out: &mut String) {
        match self {
            Obj::Undefined(_) => out.push_str("Undefined"),
            Obj::Date(date) => {
                let (year, month, day) = date.parts();
                out.push_str(&format!("datetime.date({year}, {month}, {day})"));
            }
            Obj::DateTime(time) => {
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
            Obj::Delta(delta) => out.push_str(&delta.repr()),
            Obj::Duration(it) => out.push_str(&format!(
                "isodate.duration.Duration({}, {}, {}, years={}, months={})",
                it.delta.days(),
                it.delta.seconds(),
                it.delta.microseconds(),
                it.years,
                it.months
            )),
            Obj::Zone(zone) => zone_repr(zone, out),
            Obj::Loop(it) => {
                let it = it.borrow();
                out.push_str(&format!("<LoopContext {}/{}>", it.index + 1, it.items.len()));
            }
            Obj::Global(name) => out.push_str(&format!("<function {name}>")),
            Obj::Method(method) => {
                out.push_str(&format!("<built-in method {} of {} object>", method.1, method.0.type_name()));
            }
            Obj::Macro(it) => out.push_str(&format!("<Macro '{}'>", it.code.name)),
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

fn write_items(open: char, items: &[Obj<'_>], close: &str, out: &mut String, depth: usize) -> Result<(), EvalError> {
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
