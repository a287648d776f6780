//! Templates: a subset of Jinja2 with Python's semantics, and the CDK's rules for interpreting the rendered text.
//!
//! A template passes through `lexer`, `parser` and `eval`; then `literal` parses the rendered text. `interpolated` has the
//! CDK's classes that use templates. A template that only looks up values takes the fast path in `fast`.

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
pub mod source_text;
pub mod stop_condition;
mod symbols;
#[cfg(test)]
mod tests;
mod time_ops;

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

/// The variables of a template, and the limits of its evaluation.
#[derive(Clone)]
pub struct Scope<'a> {
    pub config: Config<'a>,
    /// The `$parameters` of the component, used by templates that were built without parameters.
    pub parameters: &'a Value,
    /// Further variables by name, for example `record`, `response` and `stream_slice`. `stream_interval` and
    /// `stream_partition` are aliases of `stream_slice`. If the variables `stream_slice.partition`,
    /// `stream_slice.cursor_slice` and `stream_slice.extra_fields` are given, they are the attributes of those names.
    /// If `headers.insensitive` is present with any value, the keys of `headers` match without regard to case.
    pub vars: Vec<(&'a str, &'a Value)>,
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
}

impl<'a> Scope<'a> {
    /// Looks up the variable or alias `name`.
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

/// A compiled template. Compiling never fails. As in the CDK, a syntax error is raised when the template is rendered.
#[derive(Clone, Debug)]
pub struct Template {
    text: Arc<str>,
    code: fast::Compiled,
    stream_state: bool,
}

impl Template {
    /// Compiles `text`.
    #[must_use]
    pub fn new(text: &str) -> Template {
        Template { text: text.into(), code: fast::compile(text), stream_state: text.contains("stream_state") }
    }

    /// The source text of the template.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether the text is non-empty and has no tags.
    fn is_text(&self) -> bool {
        !self.text.is_empty() && self.code.is_text()
    }

    /// Whether the text contains `stream_state`. The CDK rejects such a template wherever the name occurs in it.
    fn names_stream_state(&self) -> bool {
        self.stream_state
    }

    /// Returns the value if the template is a single lookup and finds a scalar.
    fn lookup<'a>(&self, scope: &Scope<'a>) -> Option<&'a Value> {
        self.code.value(scope)
    }

    /// Renders the template to text, as Jinja2 does.
    ///
    /// # Errors
    /// The exception that Python raises, or `MemoryError` if a limit is exceeded.
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        self.code.render(scope)
    }
}
