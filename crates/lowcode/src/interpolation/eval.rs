//! Evaluates the syntax tree of a template.

use super::ast::{Expr, Stmt, Target};
use super::object::{Key, Loop, MacroObject, Map, Object, undefined};
use super::{EvalError, Scope, access, filters, is_tests, macros, ops};
use crate::value::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Limit for the nesting of calls and blocks.
const MAX_DEPTH: usize = 60;

pub(super) struct Eval<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) frames: Vec<HashMap<Arc<str>, Object<'a>>>,
    steps: u64,
    pub(super) depth: usize,
    /// Lists and dicts of the scope that the template changed: the changed copies, keyed by the address of the original.
    changed_copies: Vec<(*const Value, Object<'a>)>,
    /// The rendered bodies of the filter blocks that are currently evaluated, the outermost first.
    captured: Vec<Object<'a>>,
}

/// Renders `body`.
///
/// # Errors
/// The exception that Python raises, or MemoryError if a limit is exceeded.
pub(super) fn run<'a>(body: &'a [Stmt], scope: &'a Scope<'a>) -> Result<String, EvalError> {
    let mut eval =
        Eval { scope, frames: vec![HashMap::new()], steps: 0, depth: 0, changed_copies: Vec::new(), captured: Vec::new() };
    let mut out = String::new();
    eval.body(body, &mut out)?;
    Ok(out)
}

impl<'a> Eval<'a> {
    /// Counts `steps` of work. The limit on the steps bounds the time that a template can take.
    pub(super) fn tick(&mut self, steps: usize) -> Result<(), EvalError> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > self.scope.bounds.template_steps {
            return Err(EvalError::new("MemoryError", "the template takes more steps than allowed"));
        }
        Ok(())
    }

    pub(super) fn enter(&mut self) -> Result<(), EvalError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(EvalError::new("RecursionError", "maximum recursion depth exceeded"));
        }
        Ok(())
    }

    pub(super) fn body(&mut self, body: &'a [Stmt], out: &mut String) -> Result<(), EvalError> {
        self.enter()?;
        for statement in body {
            self.tick(1)?;
            self.statement(statement, out)?;
            if out.len() > self.scope.bounds.template_bytes {
                return ops::too_large();
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn framed(&mut self, body: &'a [Stmt], out: &mut String) -> Result<(), EvalError> {
        self.frames.push(HashMap::new());
        let result = self.body(body, out);
        self.frames.pop();
        result
    }

    fn statement(&mut self, statement: &'a Stmt, out: &mut String) -> Result<(), EvalError> {
        match statement {
            Stmt::Text(text) => out.push_str(text),
            Stmt::Print(expr) => self.expr(expr)?.write_str(out)?,
            Stmt::Set(target, expr) => {
                let value = self.expr(expr)?;
                self.assign(target, value)?;
            }
            Stmt::If(branches, otherwise) => {
                for (test, body) in branches {
                    if self.expr(test)?.truthy() {
                        return self.body(body, out);
                    }
                }
                self.body(otherwise, out)?;
            }
            Stmt::For(it) => {
                let items = self.expr(&it.iter)?;
                self.for_loop(it, &items, 0, out)?;
            }
            Stmt::SetBlock(target, filter, body) => {
                let value = self.capture(filter, body)?;
                self.assign(target, value)?;
            }
            Stmt::FilterBlock(filter, body) => self.capture(filter, body)?.write_str(out)?,
            Stmt::With(pairs, body) => {
                let values = pairs.iter().map(|(_, value)| self.expr(value)).collect::<Result<Vec<_>, _>>()?;
                self.frames.push(HashMap::new());
                for ((target, _), value) in pairs.iter().zip(values) {
                    self.assign(target, value)?;
                }
                self.body(body, out)?;
                self.frames.pop();
            }
            Stmt::Macro(code) => {
                let made = Object::Macro(Rc::new(MacroObject { code, caller: None }));
                self.store(&code.name, made);
            }
            Stmt::CallBlock(callee, args, block) => {
                let callee = self.expr(callee)?;
                let mut args = self.args(args)?;
                args.named.push(("caller".into(), Object::Macro(Rc::new(MacroObject { code: block, caller: None }))));
                self.call(&callee, args)?.write_str(out)?;
            }
            Stmt::Block(body) => self.framed(body, out)?,
            Stmt::Fail(error) => return Err(error.clone()),
        }
        Ok(())
    }

    fn capture(&mut self, filter: &'a Expr, body: &'a [Stmt]) -> Result<Object<'a>, EvalError> {
        let mut text = String::new();
        self.framed(body, &mut text)?;
        self.captured.push(Object::str(text));
        let value = self.expr(filter);
        self.captured.pop();
        value
    }

    pub(super) fn for_loop(
        &mut self,
        code: &'a super::ast::For,
        items: &Object<'a>,
        depth: i128,
        out: &mut String,
    ) -> Result<(), EvalError> {
        let mut items = ops::items(items)?;
        self.tick(items.len())?;
        if let Some(test) = &code.test {
            let mut selected = Vec::new();
            for item in items {
                self.frames.push(HashMap::new());
                self.assign(&code.target, item.clone())?;
                if self.expr(test)?.truthy() {
                    selected.push(item);
                }
                self.frames.pop();
            }
            items = selected;
        }
        if items.is_empty() {
            return self.framed(&code.otherwise, out);
        }
        let items = Rc::new(items);
        let recursive = code.recursive.then_some(code);
        let state = Rc::new(RefCell::new(Loop { items: Rc::clone(&items), index: 0, depth, changed: None, recursive }));
        for (index, item) in items.iter().enumerate() {
            state.borrow_mut().index = index;
            self.frames.push(HashMap::from([(Arc::from("loop"), Object::Loop(Rc::clone(&state)))]));
            self.assign(&code.target, item.clone())?;
            self.body(&code.body, out)?;
            self.frames.pop();
        }
        Ok(())
    }

    fn store(&mut self, name: &Arc<str>, value: Object<'a>) {
        if let Some(frame) = self.frames.last_mut() {
            frame.insert(Arc::clone(name), value);
        }
    }

    fn assign(&mut self, target: &'a Target, value: Object<'a>) -> Result<(), EvalError> {
        match target {
            Target::Name(name) => self.store(name, value),
            Target::Attr(name, attr) => match self.name(name)? {
                Object::Namespace(map) => {
                    let key = Object::Str(Arc::clone(attr));
                    map.borrow_mut().insert(Key::Str(Arc::clone(attr)), (key, value));
                }
                _ => return Err(EvalError::new("TemplateRuntimeError", "cannot assign attribute on non-namespace object")),
            },
            Target::Tuple(targets) => {
                if value.is_undefined() {
                    return Err(EvalError::value_error("not enough values to unpack"));
                }
                let items = ops::items(&value)?;
                if items.len() != targets.len() {
                    let few = if items.len() < targets.len() { "not enough" } else { "too many" };
                    return Err(EvalError::value_error(format!("{few} values to unpack (expected {})", targets.len())));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item)?;
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, name: &Arc<str>) -> Result<Object<'a>, EvalError> {
        if let Some(value) = self.frames.iter().rev().find_map(|frame| frame.get(name)) {
            return Ok(self.current(value.clone()));
        }
        if let Some(value) = self.scope.lookup(name) {
            return Ok(self.current(Object::from_value(value)));
        }
        if &**name == "self" {
            // In Jinja2, `self` refers to the blocks of the template. The templates of manifests have no blocks.
            return Ok(Object::Namespace(Rc::new(RefCell::new(Map::default()))));
        }
        Ok(macros::global(name).map_or_else(|| undefined(format!("'{name}' is undefined")), Object::Global))
    }

    /// Returns the changed copy of a list or dict of the scope if the template has changed it.
    pub(super) fn current(&self, obj: Object<'a>) -> Object<'a> {
        match obj {
            Object::Ref(value) => {
                let changed_copies = self.changed_copies.iter().find(|(at, _)| std::ptr::eq(*at, value));
                changed_copies.map_or(Object::Ref(value), |(_, obj)| obj.clone())
            }
            other => other,
        }
    }

    /// Returns a list or dict that may be changed. If `obj` belongs to the scope, this is a copy that replaces the original for
    /// the rest of the evaluation.
    pub(super) fn make_mutable(&mut self, obj: &Object<'a>) -> Result<Object<'a>, EvalError> {
        let Object::Ref(value) = self.current(obj.clone()) else { return Ok(self.current(obj.clone())) };
        let owned = match value {
            Value::Dict(dict) => {
                self.tick(dict.len())?;
                let pairs =
                    dict.iter().map(|(key, item)| (Key::Str(key.clone()), (Object::Str(key.clone()), Object::from_value(item))));
                Object::dict(pairs.collect())
            }
            _ => Object::list(ops::sequence(obj)?),
        };
        self.changed_copies.push((std::ptr::from_ref(value), owned.clone()));
        Ok(owned)
    }

    pub(super) fn expr(&mut self, expr: &'a Expr) -> Result<Object<'a>, EvalError> {
        self.tick(1)?;
        match expr {
            Expr::Constant(lit) => Ok(Object::from_constant(lit)),
            Expr::Name(name) => self.name(name),
            Expr::Captured => Ok(self.captured.last().cloned().unwrap_or(Object::None)),
            Expr::Attr(inner, name) => {
                let obj = self.expr(inner)?;
                self.attr(&obj, name)
            }
            Expr::Item(inner, key) => {
                let (obj, key) = (self.expr(inner)?, self.expr(key)?);
                self.item(&obj, &key)
            }
            Expr::And(a, b) => {
                let a = self.expr(a)?;
                if a.truthy() { self.expr(b) } else { Ok(a) }
            }
            Expr::Or(a, b) => {
                let a = self.expr(a)?;
                if a.truthy() { Ok(a) } else { self.expr(b) }
            }
            Expr::Not(inner) => Ok(Object::Bool(!self.expr(inner)?.truthy())),
            Expr::Conditional(test, then, otherwise) => {
                if self.expr(test)?.truthy() {
                    return self.expr(then);
                }
                let message = "the inline if-expression evaluated to false and no else section was defined.";
                otherwise.as_ref().map_or_else(|| Ok(undefined(message)), |it| self.expr(it))
            }
            Expr::Signed(sign, inner) => ops::signed(*sign, &self.expr(inner)?),
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.expr(a)?, self.expr(b)?);
                ops::binary(*op, &a, &b)
            }
            Expr::Call(callee, args) => self.call_expr(callee, args),
            Expr::Filter(inner, name, args) => {
                let value = self.expr(inner)?;
                let args = self.args(args)?;
                filters::apply(self, name, value, args)
            }
            Expr::Test(inner, name, args) => {
                let value = self.expr(inner)?;
                let args = self.args(args)?;
                is_tests::apply(self, name, &value, args).map(Object::Bool)
            }
            other => self.composed(other),
        }
    }

    /// Evaluates lists, dicts, slices, concatenations and comparisons.
    fn composed(&mut self, expr: &'a Expr) -> Result<Object<'a>, EvalError> {
        match expr {
            Expr::List(items) => Ok(Object::list(self.exprs(items)?)),
            Expr::Tuple(items) => Ok(Object::tuple(self.exprs(items)?)),
            Expr::Dict(pairs) => {
                let mut map = Map::default();
                for (key, value) in pairs {
                    let (key, value) = (self.expr(key)?, self.expr(value)?);
                    insert(&mut map, key, value)?;
                }
                Ok(Object::dict(map))
            }
            Expr::Slice(inner, parts) => {
                let obj = self.expr(inner)?;
                let mut made = [Object::None, Object::None, Object::None];
                for (slot, part) in made.iter_mut().zip(parts.iter()) {
                    if let Some(part) = part {
                        *slot = self.expr(part)?;
                    }
                }
                access::slice(&obj, &made)
            }
            Expr::Concat(items) => {
                let mut text = String::new();
                for item in items {
                    self.expr(item)?.write_str(&mut text)?;
                    if text.len() > self.scope.bounds.template_bytes {
                        return ops::too_large();
                    }
                }
                Ok(Object::str(text))
            }
            Expr::Compare(first, rest) => {
                let mut left = self.expr(first)?;
                for (cmp, right) in rest {
                    let right = self.expr(right)?;
                    if !ops::compare(*cmp, &left, &right)? {
                        return Ok(Object::Bool(false));
                    }
                    left = right;
                }
                Ok(Object::Bool(true))
            }
            _ => Ok(Object::None),
        }
    }

    pub(super) fn exprs(&mut self, items: &'a [Expr]) -> Result<Vec<Object<'a>>, EvalError> {
        items.iter().map(|item| self.expr(item)).collect()
    }

    /// Evaluates the attribute of an object. The attributes of the stream slice come from the variables `stream_slice.…`.
    pub(super) fn attr(&mut self, obj: &Object<'a>, name: &str) -> Result<Object<'a>, EvalError> {
        if let (Object::Ref(value), "partition" | "cursor_slice" | "extra_fields") = (obj, name)
            && self.scope.lookup("stream_slice").is_some_and(|slice| std::ptr::eq(slice, *value))
            && let Some(found) = self.scope.lookup(&format!("stream_slice.{name}"))
        {
            return Ok(self.current(Object::from_value(found)));
        }
        let found = access::get_attr(obj, name)?;
        Ok(self.current(found))
    }

    pub(super) fn item(&mut self, obj: &Object<'a>, key: &Object<'a>) -> Result<Object<'a>, EvalError> {
        if let (Object::Ref(value), Some(name)) = (obj, key.text())
            && let Some(found) = self.insensitive(value, name)
        {
            return Ok(Object::from_value(found));
        }
        let found = access::get_item(obj, key)?;
        Ok(self.current(found))
    }

    /// Returns the value of a response header. The case of its name is ignored.
    pub(super) fn insensitive(&self, value: &'a Value, name: &str) -> Option<&'a Value> {
        let headers = self.scope.lookup("headers").filter(|headers| std::ptr::eq(*headers, value))?;
        self.scope.lookup("headers.insensitive")?;
        headers.as_dict()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Executes `map[key] = value`. An existing key keeps the form in which it was first written.
///
/// # Errors
/// TypeError for an unhashable key.
pub(super) fn insert<'a>(map: &mut Map<'a>, key: Object<'a>, value: Object<'a>) -> Result<(), EvalError> {
    let hashed = key.key()?;
    match map.get_mut(&hashed) {
        Some(slot) => slot.1 = value,
        None => {
            map.insert(hashed, (key, value));
        }
    }
    Ok(())
}
