//! Templates: a subset of Jinja2 with Python's semantics, and the CDK's rules of what a rendered text means.
//!
//! A text goes through `lexer` -> `parser` -> `eval` and is read back by `literal`; the CDK's classes
//! around it are in `interpolated`. What only looks a value up takes the short way of `fast`.

mod access;
mod args;
mod ast;
mod calls;
mod eval;
mod expressions;
mod fast;
mod filters;
mod format;
pub mod interpolated;
mod is_tests;
mod lexer;
mod macros;
mod methods;
mod object;
mod ops;
mod parser;
mod percent;
mod regex;
mod symbols;
#[cfg(test)]
mod tests;

pub use interpolated::{
    InterpolatedAny, InterpolatedBoolean, InterpolatedMapping, InterpolatedNestedMapping, InterpolatedString, PyType,
    literal_value,
};

pub use super::error::EvalError;

use super::bounds::Bounds;
use super::config::Config;
use super::host::Host;
use super::value::Value;
use std::sync::Arc;

/// What a template sees.
#[derive(Clone)]
pub struct Scope<'a> {
    pub config: Config<'a>,
    /// `$parameters` of the component; used where the template was made without its own.
    pub parameters: &'a Value,
    /// Further variables by name: `record`, `response`, `stream_slice`, ... The names `stream_interval` and
    /// `stream_partition` follow `stream_slice` by themselves. The variables `stream_slice.partition`,
    /// `stream_slice.cursor_slice` and `stream_slice.extra_fields`, where given, are its attributes of that name.
    /// `headers.insensitive` (any value) makes the keys of `headers` match in any case.
    pub vars: Vec<(&'a str, &'a Value)>,
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
}

impl<'a> Scope<'a> {
    /// The variable called `name`, aliases included.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<&'a Value> {
        let name = match name {
            "config" => return Some(self.config.value()),
            "stream_interval" | "stream_partition" => "stream_slice",
            other => other,
        };
        if let Some((_, value)) = self.vars.iter().rev().find(|(key, _)| *key == name) {
            return Some(value);
        }
        (name == "parameters").then_some(self.parameters)
    }
}

/// A compiled template. Making one never fails: a syntax error is raised when it is rendered, as the CDK does.
#[derive(Clone, Debug)]
pub struct Template {
    text: Arc<str>,
    code: fast::Code,
    stream_state: bool,
}

impl Template {
    /// Compiles `text`.
    #[must_use]
    pub fn new(text: &str) -> Template {
        Template { text: text.into(), code: fast::compile(text), stream_state: text.contains("stream_state") }
    }

    /// The text as it was written.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether nothing is to be evaluated in the text, and it is not empty.
    fn is_text(&self) -> bool {
        !self.text.is_empty() && self.code.is_text()
    }

    /// Whether the text holds a name that the CDK refuses wherever it stands.
    fn names_stream_state(&self) -> bool {
        self.stream_state
    }

    /// The value that the template only looks up.
    fn found<'a>(&self, scope: &Scope<'a>) -> Option<&'a Value> {
        self.code.value(scope)
    }

    /// Renders the template to text, as Jinja2 does.
    ///
    /// # Errors
    /// What Python raises, and `MemoryError` where a bound was met.
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        self.code.render(scope)
    }
}
