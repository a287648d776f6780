//! Compiled templates. Plain text and lookups by constant keys take a fast path that skips the evaluator.

use super::ast::{Constant, Expr, Stmt};
use super::{EvalError, Scope, eval, filters, is_tests, lexer, macros, parser, symbols};
use crate::value::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Attributes of a dict that take precedence over its keys: `x.items` is a method even if the dict has a key `items`.
const DICT_ATTRIBUTES: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];

/// A compiled template.
#[derive(Clone, Debug)]
pub(super) struct Compiled(Arc<CompiledKind>);

#[derive(Debug)]
enum CompiledKind {
    /// A text without tags, in the form in which it renders.
    Plain(String),
    Full(Program),
    Broken(EvalError),
}

#[derive(Debug)]
struct Program {
    body: Vec<Stmt>,
    undeclared: Vec<Arc<str>>,
    /// Present if every tag of the template is a lookup.
    pieces: Option<Vec<Segment>>,
}

#[derive(Debug)]
enum Segment {
    Text(Arc<str>),
    /// A variable and the keys that lead from it to the value.
    Path(Arc<str>, Vec<Arc<str>>),
}

/// Limit on the compiled templates that a thread caches. Caching helps because the same manifest is built for each of
/// its connections.
const CACHE_CAPACITY: usize = 512;
/// Templates that are longer than this many bytes are not cached.
const MAX_CACHED_BYTES: usize = 1000;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Compiled>> = RefCell::default();
}

pub(super) fn compile(text: &str) -> Compiled {
    if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
        return Compiled(Arc::new(CompiledKind::Plain(lexer::normalized(text))));
    }
    if text.len() > MAX_CACHED_BYTES {
        return Compiled(Arc::new(compiled(text)));
    }
    COMPILED.with_borrow_mut(|cache| {
        if let Some(code) = cache.get(text) {
            return code.clone();
        }
        if cache.len() >= CACHE_CAPACITY {
            cache.clear();
        }
        let code = Compiled(Arc::new(compiled(text)));
        cache.insert(text.to_owned(), code.clone());
        code
    })
}

fn compiled(text: &str) -> CompiledKind {
    let body = match parser::parse(text) {
        Ok(body) => body,
        Err(error) => return CompiledKind::Broken(error),
    };
    match symbols::undeclared(&body, filters::known, is_tests::known) {
        Ok(names) => {
            let undeclared = names.into_iter().filter(|name| macros::global(name).is_none() && &**name != "self").collect();
            let pieces = body.iter().map(piece).collect();
            CompiledKind::Full(Program { body, undeclared, pieces })
        }
        Err(error) => CompiledKind::Broken(error),
    }
}

fn piece(statement: &Stmt) -> Option<Segment> {
    match statement {
        Stmt::Text(text) => Some(Segment::Text(Arc::clone(text))),
        Stmt::Print(expr) => {
            let mut keys = Vec::new();
            let root = path(expr, &mut keys)?;
            keys.reverse();
            Some(Segment::Path(root, keys))
        }
        _ => None,
    }
}

/// Returns the variable at the root of the lookup. The keys are pushed to `keys`, the last one first.
fn path(mut expr: &Expr, keys: &mut Vec<Arc<str>>) -> Option<Arc<str>> {
    loop {
        match expr {
            Expr::Name(name) => return Some(Arc::clone(name)),
            Expr::Attr(inner, name) if !DICT_ATTRIBUTES.contains(&&**name) && !name.starts_with('_') => {
                keys.push(Arc::clone(name));
                expr = inner;
            }
            Expr::Item(inner, key) => {
                let Expr::Constant(Constant::Str(key)) = &**key else { return None };
                keys.push(Arc::clone(key));
                expr = inner;
            }
            _ => return None,
        }
    }
}

/// Returns the value at the end of a path through dicts, or `None` if the path needs the full evaluation.
fn found<'a>(scope: &Scope<'a>, root: &str, keys: &[Arc<str>]) -> Option<&'a Value> {
    keys.iter().try_fold(scope.lookup(root)?, |value, key| value.as_dict()?.get(&**key))
}

impl Compiled {
    pub(super) fn is_text(&self) -> bool {
        matches!(&*self.0, CompiledKind::Plain(_))
    }

    /// The value of a template that is a single lookup of a scalar. For such a value, rendering it and parsing the text as a
    /// literal can be skipped.
    pub(super) fn value<'a>(&self, scope: &Scope<'a>) -> Option<&'a Value> {
        let CompiledKind::Full(Program { pieces: Some(pieces), .. }) = &*self.0 else { return None };
        match pieces.as_slice() {
            [Segment::Path(root, keys)] => found(scope, root, keys),
            _ => None,
        }
    }

    pub(super) fn render(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        let program = match &*self.0 {
            CompiledKind::Plain(text) => return Ok(text.clone()),
            CompiledKind::Broken(error) => return Err(error.clone()),
            CompiledKind::Full(program) => program,
        };
        if let Some(text) = program.pieces.as_ref().and_then(|pieces| joined(pieces, scope)) {
            return Ok(text);
        }
        if let Some(name) = program.undeclared.iter().find(|name| scope.lookup(name).is_none()) {
            return Err(EvalError::value_error(format!("Jinja macro has undeclared variables: {name}")));
        }
        eval::run(&program.body, scope)
    }
}

fn joined(pieces: &[Segment], scope: &Scope<'_>) -> Option<String> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Segment::Text(text) => out.push_str(text),
            Segment::Path(root, keys) => match found(scope, root, keys)? {
                Value::Str(text) => out.push_str(text),
                other => out.push_str(&other.to_str()),
            },
        }
    }
    (out.len() <= scope.bounds.template_bytes).then_some(out)
}
