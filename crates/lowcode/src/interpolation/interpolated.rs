//! Interprets rendered templates by the rules of the CDK's `interpolation/jinja.py` and of the classes that use it.

use super::{EvalError, Scope, Template, source_text};
use crate::literal::{Literal, literal_eval};
use crate::value::{Dict, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A type of literal that is accepted (`valid_types` in the CDK). A literal of any other type stays text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PyType {
    Str,
    Int,
    Float,
    Bool,
    List,
    Dict,
}

impl PyType {
    /// Python's `isinstance`, for which a bool is also an int.
    fn holds(self, value: &Literal) -> bool {
        match value {
            Literal::Str(_) => self == PyType::Str,
            Literal::Bool(_) => matches!(self, PyType::Bool | PyType::Int),
            Literal::Int(_) | Literal::Big(_) => self == PyType::Int,
            Literal::Float(_) => self == PyType::Float,
            Literal::List(_) => self == PyType::List,
            Literal::Dict(_) => self == PyType::Dict,
            _ => false,
        }
    }
}

/// Parses `text` as a literal. If it is not a literal, or is a literal of a type that is not allowed, it stays text.
#[must_use]
pub fn literal_value(text: &str, valid_types: &[PyType]) -> Value {
    literal_of(text, valid_types).unwrap_or_else(|| Value::str(text))
}

fn literal_of(text: &str, valid_types: &[PyType]) -> Option<Value> {
    let literal = literal_eval(text)?;
    let valid = valid_types.is_empty() || valid_types.iter().any(|it| it.holds(&literal));
    valid.then(|| literal.into_value())
}

/// The value that replaces an empty or undefined result.
#[derive(Clone, Debug)]
enum Fallback {
    /// The text of the template itself. An undefined name then raises an error.
    Same,
    /// Python's `None`.
    Null,
    Other(Template),
}

/// A template with the parameters of its component, evaluated as `JinjaInterpolation.eval` does.
#[derive(Clone, Debug)]
struct Interpolation {
    template: Template,
    fallback: Fallback,
    parameters: Option<Arc<Value>>,
}

impl Interpolation {
    fn new(text: &str, parameters: &Value, fallback: Fallback) -> Interpolation {
        let named = text.contains("parameters") || matches!(fallback, Fallback::Other(_));
        let parameters = (named && parameters.truthy()).then(|| Arc::new(parameters.clone()));
        Interpolation { template: Template::new(text), fallback, parameters }
    }

    fn eval(&self, scope: &Scope<'_>, valid_types: &[PyType]) -> Result<Value, EvalError> {
        match &self.parameters {
            Some(parameters) => self.eval_in(&Scope { parameters, ..scope.clone() }, valid_types),
            None => self.eval_in(scope, valid_types),
        }
    }

    fn render(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        match &self.parameters {
            Some(parameters) => self.template.render(&Scope { parameters, ..scope.clone() }),
            None => self.template.render(scope),
        }
    }

    /// Evaluates a part of a request, in which a text of the source stays a text if the bounds say so.
    fn eval_of_request(&self, scope: &Scope<'_>, valid_types: &[PyType]) -> Result<Value, EvalError> {
        if scope.bounds.plain_texts && source_text::is_named_in_slice(self.template.text()) {
            return source_text::value(self.render(scope), self.template.lookup(scope));
        }
        self.eval(scope, valid_types)
    }

    fn eval_in(&self, scope: &Scope<'_>, valid_types: &[PyType]) -> Result<Value, EvalError> {
        match evaluated(&self.template, scope, valid_types) {
            Ok(Some(value)) => Ok(value),
            Err(error) if error.class != "UndefinedError" => Err(error),
            missing => match &self.fallback {
                Fallback::Same => missing.map(|_| Value::str("")),
                Fallback::Null => Ok(Value::None),
                Fallback::Other(template) => Ok(evaluated(template, scope, valid_types)?.unwrap_or_else(|| Value::str(""))),
            },
        }
    }
}

/// Returns the result of rendering `value` and parsing the text, if it is known without doing either. The inner option
/// is `None` if the rendered text would be empty.
fn read_scalar(value: &Value, valid_types: &[PyType]) -> Option<Option<Value>> {
    match value {
        Value::Str(text) if text.is_empty() => Some(None),
        Value::Str(text) => Some(Some(literal_of(text, valid_types).unwrap_or_else(|| Value::Str(Arc::clone(text))))),
        Value::None | Value::Bool(_) | Value::Int(_) if valid_types.is_empty() => Some(Some(value.clone())),
        _ => None,
    }
}

/// Evaluates a template. Returns `None` if it renders to an empty text.
fn evaluated(template: &Template, scope: &Scope<'_>, valid_types: &[PyType]) -> Result<Option<Value>, EvalError> {
    if template.names_stream_state() {
        let message = "`stream_state` is no longer supported for interpolation. Use `stream_interval` instead.";
        return Err(EvalError::new("AirbyteTracedException", message));
    }
    if let Some(value) = template.lookup(scope)
        && let Some(read) = read_scalar(value, valid_types)
    {
        return Ok(read);
    }
    let text = match template.render(scope) {
        Ok(text) => text,
        // On a TypeError, `_eval` in jinja.py returns the text of the template, as it does for a value that is not a template.
        Err(error) if error.class == "TypeError" => template.text().to_string(),
        Err(error) => return Err(error),
    };
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(literal_value(&text, valid_types)))
}

const UNKNOWN: u8 = 0;
const PLAIN: u8 = 1;
const TEMPLATE: u8 = 2;

/// A string in a manifest (`interpolated_string.py`).
#[derive(Debug)]
pub struct InterpolatedString {
    inner: Interpolation,
    /// Whether the value of a text without tags is the text itself; the first evaluation decides this. The CDK also stops
    /// evaluating a template that once returned its own text because of a TypeError. Here such a template is evaluated every
    /// time, because the config of one connection must not change the value of the template for another connection.
    plain: AtomicU8,
}

impl Clone for InterpolatedString {
    fn clone(&self) -> InterpolatedString {
        InterpolatedString { inner: self.inner.clone(), plain: AtomicU8::new(self.plain.load(Ordering::Relaxed)) }
    }
}

impl InterpolatedString {
    /// Creates a string that falls back to its own text. `parameters` are the `$parameters` of its component. If they are
    /// None or empty, the parameters of the scope are used.
    #[must_use]
    pub fn new(text: &str, parameters: &Value) -> InterpolatedString {
        InterpolatedString { inner: Interpolation::new(text, parameters, Fallback::Same), plain: AtomicU8::new(UNKNOWN) }
    }

    /// Creates a string with a second text, which is evaluated if the result of the first is empty or undefined.
    #[must_use]
    pub fn with_default(text: &str, parameters: &Value, default: &str) -> InterpolatedString {
        let fallback = if default.is_empty() { Fallback::Same } else { Fallback::Other(Template::new(default)) };
        InterpolatedString { inner: Interpolation::new(text, parameters, fallback), plain: AtomicU8::new(UNKNOWN) }
    }

    /// The source text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.inner.template.text()
    }

    /// Evaluates the string. A literal is kept if `valid_types` is empty or contains its type; otherwise the result is text.
    ///
    /// # Errors
    /// The exception that Python raises. TypeError is not an error here: the result is then the text of the template.
    pub fn eval(&self, scope: &Scope<'_>, valid_types: &[PyType]) -> Result<Value, EvalError> {
        let known = self.plain.load(Ordering::Relaxed);
        if known == PLAIN {
            return Ok(Value::Str(self.inner.template.text().clone()));
        }
        let value = self.inner.eval(scope, valid_types)?;
        if known == UNKNOWN && self.inner.template.is_text() {
            let plain = matches!(&value, Value::Str(text) if text == self.inner.template.text());
            self.plain.store(if plain { PLAIN } else { TEMPLATE }, Ordering::Relaxed);
        }
        Ok(value)
    }

    /// Renders the template. The text is not evaluated as a literal, and nothing replaces an empty or undefined result.
    ///
    /// # Errors
    /// The exception that Python raises.
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        self.inner.render(scope)
    }

    /// Python's `str()` of the value, which may have any type.
    ///
    /// # Errors
    /// Same as [`Self::eval`].
    pub fn eval_str(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        Ok(self.eval(scope, &[])?.to_str())
    }
}

/// A template that is evaluated as `JinjaInterpolation.eval(text, config, default=None)`. An empty or undefined result
/// becomes None.
#[derive(Clone, Debug)]
pub struct InterpolatedAny(Interpolation);

impl InterpolatedAny {
    #[must_use]
    pub fn new(text: &str, parameters: &Value) -> InterpolatedAny {
        InterpolatedAny(Interpolation::new(text, parameters, Fallback::Null))
    }

    /// # Errors
    /// Same as [`InterpolatedString::eval`].
    pub fn eval(&self, scope: &Scope<'_>, valid_types: &[PyType]) -> Result<Value, EvalError> {
        self.0.eval(scope, valid_types)
    }
}

/// A condition (`interpolated_boolean.py`).
#[derive(Clone, Debug)]
pub struct InterpolatedBoolean(Interpolation);

impl InterpolatedBoolean {
    #[must_use]
    pub fn new(text: &str, parameters: &Value) -> InterpolatedBoolean {
        InterpolatedBoolean(Interpolation::new(text, parameters, Fallback::Other(Template::new("False"))))
    }

    /// Returns false for the values in the CDK's list and true for everything else, including the text of a template that
    /// failed with a TypeError.
    ///
    /// # Errors
    /// Same as [`InterpolatedString::eval`].
    pub fn eval(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        Ok(!is_false(&self.0.eval(scope, &[])?))
    }
}

/// Python's `value in FALSE_VALUES` (`interpolated_boolean.py`). 0 and 0.0 are in the list, because they equal False.
fn is_false(value: &Value) -> bool {
    match value {
        Value::Str(text) => matches!(&**text, "False" | "false" | "{}" | "[]" | "()" | "" | "0" | "0.0"),
        other => !other.truthy(),
    }
}

/// A dict whose keys and values are templates, one level deep (`interpolated_mapping.py`).
#[derive(Clone, Debug)]
pub struct InterpolatedMapping {
    pairs: Vec<(Interpolation, MappingValue)>,
}

#[derive(Clone, Debug)]
enum MappingValue {
    Text(Interpolation),
    Other(Value),
}

impl InterpolatedMapping {
    #[must_use]
    pub fn new(mapping: &Dict, parameters: &Value) -> InterpolatedMapping {
        let value = |value: &Value| match value {
            Value::Str(text) => MappingValue::Text(Interpolation::new(text, parameters, Fallback::Null)),
            other => MappingValue::Other(source_text::as_plain(other).unwrap_or(other).clone()),
        };
        let pairs = mapping.iter().map(|(key, it)| (Interpolation::new(key, parameters, Fallback::Null), value(it))).collect();
        InterpolatedMapping { pairs }
    }

    /// Evaluates the dict. A key that renders to a quoted string loses its quotes; every other key stays as rendered.
    /// Empty and undefined values become None.
    ///
    /// # Errors
    /// Same as [`InterpolatedString::eval`].
    pub fn eval(&self, scope: &Scope<'_>, valid_value_types: &[PyType]) -> Result<Dict, EvalError> {
        let mut dict = Dict::with_capacity(self.pairs.len());
        for (key, value) in &self.pairs {
            let key = key.eval(scope, &[PyType::Str])?;
            let value = match value {
                MappingValue::Text(text) => text.eval_of_request(scope, valid_value_types)?,
                MappingValue::Other(value) => value.clone(),
            };
            dict.insert(key_text(key), value);
        }
        Ok(dict)
    }
}

/// The key in the form that JSON gives it.
fn key_text(key: Value) -> Arc<str> {
    match key {
        Value::Str(text) => text,
        Value::None => "null".into(),
        Value::Bool(bool) => if bool { "true" } else { "false" }.into(),
        other => other.to_str().into(),
    }
}

/// A value, nested to any depth, whose strings are templates (`interpolated_nested_mapping.py`).
#[derive(Clone, Debug)]
pub struct InterpolatedNestedMapping {
    root: Nested,
}

#[derive(Clone, Debug)]
enum Nested {
    Text(Interpolation),
    List(Vec<Nested>),
    Dict(Vec<(Interpolation, Nested)>),
    Other(Value),
}

impl InterpolatedNestedMapping {
    #[must_use]
    pub fn new(mapping: &Value, parameters: &Value) -> InterpolatedNestedMapping {
        InterpolatedNestedMapping { root: nested(mapping, parameters) }
    }

    /// Evaluates the value. None is removed from dicts and kept in lists.
    ///
    /// # Errors
    /// Same as [`InterpolatedString::eval`]; TypeError if a key becomes a list or a dict.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, EvalError> {
        eval_nested(&self.root, scope)
    }
}

fn nested(value: &Value, parameters: &Value) -> Nested {
    let text = |text: &str| Interpolation::new(text, parameters, Fallback::Null);
    match value {
        Value::Str(it) => Nested::Text(text(it)),
        Value::List(items) => Nested::List(items.iter().map(|item| nested(item, parameters)).collect()),
        plain if source_text::as_plain(plain).is_some() => Nested::Other(source_text::as_plain(plain).unwrap_or(plain).clone()),
        Value::Dict(dict) => Nested::Dict(dict.iter().map(|(key, item)| (text(key), nested(item, parameters))).collect()),
        other => Nested::Other(other.clone()),
    }
}

fn eval_nested(value: &Nested, scope: &Scope<'_>) -> Result<Value, EvalError> {
    Ok(match value {
        Nested::Text(text) => text.eval_of_request(scope, &[])?,
        Nested::Other(value) => value.clone(),
        Nested::List(items) => Value::List(items.iter().map(|item| eval_nested(item, scope)).collect::<Result<_, _>>()?),
        Nested::Dict(pairs) => {
            let mut dict = Dict::with_capacity(pairs.len());
            for (key, item) in pairs {
                let key = key.eval(scope, &[])?;
                if matches!(key, Value::List(_) | Value::Dict(_)) {
                    return Err(EvalError::type_error(format!("unhashable type: '{}'", key.type_name())));
                }
                dict.insert(key_text(key), eval_nested(item, scope)?);
            }
            dict.retain(|_, item| !item.is_none());
            Value::Dict(dict)
        }
    })
}
