//! The short way of templates that are plain text or only look values up by constant keys.

use super::ast::{Expr, Lit, Stmt};
use super::{EvalError, Scope, eval, filters, is_tests, lexer, macros, parser, symbols};
use crate::value::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Attributes of a dict that come before its keys; `x.items` is a method even where there is a key `items`.
const DICT_ATTRIBUTES: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];

/// A compiled template.
#[derive(Clone, Debug)]
pub(super) struct Code(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    /// No template in it: the text that it renders to.
    Plain(String),
    Full(Program),
    Broken(EvalError),
}

#[derive(Debug)]
struct Program {
    body: Vec<Stmt>,
    undeclared: Vec<Arc<str>>,
    /// Set where every tag is a lookup.
    pieces: Option<Vec<Piece>>,
}

#[derive(Debug)]
enum Piece {
    Text(Arc<str>),
    /// A variable and the keys below it.
    Path(Arc<str>, Vec<Arc<str>>),
}

/// Templates that a thread keeps compiled: a manifest is built for each of a thousand connections.
const KEPT: usize = 512;
/// Longer ones are compiled each time.
const KEPT_BYTES: usize = 1000;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Code>> = RefCell::default();
}

pub(super) fn compile(text: &str) -> Code {
    if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
        return Code(Arc::new(Inner::Plain(lexer::normalized(text))));
    }
    if text.len() > KEPT_BYTES {
        return Code(Arc::new(compiled(text)));
    }
    COMPILED.with_borrow_mut(|kept| {
        if let Some(code) = kept.get(text) {
            return code.clone();
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let code = Code(Arc::new(compiled(text)));
        kept.insert(text.to_owned(), code.clone());
        code
    })
}

fn compiled(text: &str) -> Inner {
    let body = match parser::parse(text) {
        Ok(body) => body,
        Err(error) => return Inner::Broken(error),
    };
    match symbols::undeclared(&body, filters::known, is_tests::known) {
        Ok(names) => {
            let undeclared = names.into_iter().filter(|name| macros::global(name).is_none() && &**name != "self").collect();
            let pieces = body.iter().map(piece).collect();
            Inner::Full(Program { body, undeclared, pieces })
        }
        Err(error) => Inner::Broken(error),
    }
}

fn piece(statement: &Stmt) -> Option<Piece> {
    match statement {
        Stmt::Text(text) => Some(Piece::Text(Arc::clone(text))),
        Stmt::Print(expr) => {
            let mut keys = Vec::new();
            let root = path(expr, &mut keys)?;
            keys.reverse();
            Some(Piece::Path(root, keys))
        }
        _ => None,
    }
}

/// The variable at the root, its keys pushed from the last to the first.
fn path(mut expr: &Expr, keys: &mut Vec<Arc<str>>) -> Option<Arc<str>> {
    loop {
        match expr {
            Expr::Name(name) => return Some(Arc::clone(name)),
            Expr::Attr(inner, name) if !DICT_ATTRIBUTES.contains(&&**name) && !name.starts_with('_') => {
                keys.push(Arc::clone(name));
                expr = inner;
            }
            Expr::Item(inner, key) => {
                let Expr::Lit(Lit::Str(key)) = &**key else { return None };
                keys.push(Arc::clone(key));
                expr = inner;
            }
            _ => return None,
        }
    }
}

/// The value at the end of a path of dicts; nothing where Python's other rules are needed.
fn found<'a>(scope: &Scope<'a>, root: &str, keys: &[Arc<str>]) -> Option<&'a Value> {
    keys.iter().try_fold(scope.lookup(root)?, |value, key| value.as_dict()?.get(&**key))
}

impl Code {
    pub(super) fn is_text(&self) -> bool {
        matches!(&*self.0, Inner::Plain(_))
    }

    /// The value itself where the template is a single lookup that finds a scalar: its text need not be read back.
    pub(super) fn value<'a>(&self, scope: &Scope<'a>) -> Option<&'a Value> {
        let Inner::Full(Program { pieces: Some(pieces), .. }) = &*self.0 else { return None };
        match pieces.as_slice() {
            [Piece::Path(root, keys)] => found(scope, root, keys),
            _ => None,
        }
    }

    pub(super) fn render(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        let program = match &*self.0 {
            Inner::Plain(text) => return Ok(text.clone()),
            Inner::Broken(error) => return Err(error.clone()),
            Inner::Full(program) => program,
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

fn joined(pieces: &[Piece], scope: &Scope<'_>) -> Option<String> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Path(root, keys) => match found(scope, root, keys)? {
                Value::Str(text) => out.push_str(text),
                other => out.push_str(&other.to_str()),
            },
        }
    }
    (out.len() <= scope.bounds.template_bytes).then_some(out)
}
