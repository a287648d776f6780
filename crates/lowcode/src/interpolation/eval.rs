//! Runs a template.

use super::ast::{Expr, Stmt, Target};
use super::object::{Key, Loop, MacroObj, Map, Obj, undefined};
use super::{EvalError, Scope, access, filters, is_tests, macros, ops};
use crate::value::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Calls and blocks within each other.
const DEPTH: usize = 60;

pub(super) struct Eval<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) frames: Vec<HashMap<Arc<str>, Obj<'a>>>,
    steps: u64,
    pub(super) depth: usize,
    /// Lists and dicts of the scope that the template changed, by their address.
    thawed: Vec<(*const Value, Obj<'a>)>,
    /// Texts of filter blocks that are being evaluated.
    captured: Vec<Obj<'a>>,
}

/// Runs `body` and gives its text.
///
/// # Errors
/// What Python raises; MemoryError where a bound is met.
pub(super) fn run<'a>(body: &'a [Stmt], scope: &'a Scope<'a>) -> Result<String, EvalError> {
    let mut eval = Eval { scope, frames: vec![HashMap::new()], steps: 0, depth: 0, thawed: Vec::new(), captured: Vec::new() };
    let mut out = String::new();
    eval.body(body, &mut out)?;
    Ok(out)
}

impl<'a> Eval<'a> {
    /// Counts work, so that no template runs for long.
    pub(super) fn tick(&mut self, steps: usize) -> Result<(), EvalError> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > self.scope.bounds.template_steps {
            return Err(EvalError::new("MemoryError", "the template takes more steps than allowed"));
        }
        Ok(())
    }

    pub(super) fn enter(&mut self) -> Result<(), EvalError> {
        self.depth += 1;
        if self.depth > DEPTH {
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
                let made = Obj::Macro(Rc::new(MacroObj { code, caller: None }));
                self.store(&code.name, made);
            }
            Stmt::CallBlock(callee, args, block) => {
                let callee = self.expr(callee)?;
                let mut args = self.args(args)?;
                args.named.push(("caller".into(), Obj::Macro(Rc::new(MacroObj { code: block, caller: None }))));
                self.call(&callee, args)?.write_str(out)?;
            }
            Stmt::Block(body) => self.framed(body, out)?,
            Stmt::Fail(error) => return Err(error.clone()),
        }
        Ok(())
    }

    fn capture(&mut self, filter: &'a Expr, body: &'a [Stmt]) -> Result<Obj<'a>, EvalError> {
        let mut text = String::new();
        self.framed(body, &mut text)?;
        self.captured.push(Obj::str(text));
        let value = self.expr(filter);
        self.captured.pop();
        value
    }

    pub(super) fn for_loop(
        &mut self,
        code: &'a super::ast::For,
        items: &Obj<'a>,
        depth: i128,
        out: &mut String,
    ) -> Result<(), EvalError> {
        let mut items = ops::items(items)?;
        self.tick(items.len())?;
        if let Some(test) = &code.test {
            let mut kept = Vec::new();
            for item in items {
                self.frames.push(HashMap::new());
                self.assign(&code.target, item.clone())?;
                if self.expr(test)?.truthy() {
                    kept.push(item);
                }
                self.frames.pop();
            }
            items = kept;
        }
        if items.is_empty() {
            return self.framed(&code.otherwise, out);
        }
        let items = Rc::new(items);
        let recursive = code.recursive.then_some(code);
        let state = Rc::new(RefCell::new(Loop { items: Rc::clone(&items), index: 0, depth, changed: None, recursive }));
        for (index, item) in items.iter().enumerate() {
            state.borrow_mut().index = index;
            self.frames.push(HashMap::from([(Arc::from("loop"), Obj::Loop(Rc::clone(&state)))]));
            self.assign(&code.target, item.clone())?;
            self.body(&code.body, out)?;
            self.frames.pop();
        }
        Ok(())
    }

    fn store(&mut self, name: &Arc<str>, value: Obj<'a>) {
        if let Some(frame) = self.frames.last_mut() {
            frame.insert(Arc::clone(name), value);
        }
    }

    fn assign(&mut self, target: &'a Target, value: Obj<'a>) -> Result<(), EvalError> {
        match target {
            Target::Name(name) => self.store(name, value),
            Target::Attr(name, attr) => match self.name(name)? {
                Obj::Namespace(map) => {
                    let key = Obj::Str(Arc::clone(attr));
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

    fn name(&mut self, name: &Arc<str>) -> Result<Obj<'a>, EvalError> {
        if let Some(value) = self.frames.iter().rev().find_map(|frame| frame.get(name)) {
            return Ok(self.current(value.clone()));
        }
        if let Some(value) = self.scope.lookup(name) {
            return Ok(self.current(Obj::of(value)));
        }
        if &**name == "self" {
            // Jinja2's reference to the template's own blocks; there is nothing in it here.
            return Ok(Obj::Namespace(Rc::new(RefCell::new(Map::default()))));
        }
        Ok(macros::global(name).map_or_else(|| undefined(format!("'{name}' is undefined")), Obj::Global))
    }

    /// What a list or dict of the scope has become.
    pub(super) fn current(&self, obj: Obj<'a>) -> Obj<'a> {
        match obj {
            Obj::Ref(value) => {
                let thawed = self.thawed.iter().find(|(at, _)| std::ptr::eq(*at, value));
                thawed.map_or(Obj::Ref(value), |(_, obj)| obj.clone())
            }
            other => other,
        }
    }

    /// A list or dict that may be changed. The scope itself stays as it is.
    pub(super) fn thaw(&mut self, obj: &Obj<'a>) -> Result<Obj<'a>, EvalError> {
        let Obj::Ref(value) = self.current(obj.clone()) else { return Ok(self.current(obj.clone())) };
        let owned = match value {
            Value::Dict(dict) => {
                self.tick(dict.len())?;
                let pairs = dict.iter().map(|(key, item)| (Key::Str(key.clone()), (Obj::Str(key.clone()), Obj::of(item))));
                Obj::dict(pairs.collect())
            }
            _ => Obj::list(ops::sequence(obj)?),
        };
        self.thawed.push((std::ptr::from_ref(value), owned.clone()));
        Ok(owned)
    }

    pub(super) fn expr(&mut self, expr: &'a Expr) -> Result<Obj<'a>, EvalError> {
        self.tick(1)?;
        match expr {
            Expr::Lit(lit) => Ok(Obj::lit(lit)),
            Expr::Name(name) => self.name(name),
            Expr::Captured => Ok(self.captured.last().cloned().unwrap_or(Obj::None)),
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
            Expr::Not(inner) => Ok(Obj::Bool(!self.expr(inner)?.truthy())),
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
                is_tests::apply(self, name, &value, args).map(Obj::Bool)
            }
            other => self.composed(other),
        }
    }

    /// Lists, dicts, slices, concatenations and comparisons.
    fn composed(&mut self, expr: &'a Expr) -> Result<Obj<'a>, EvalError> {
        match expr {
            Expr::List(items) => Ok(Obj::list(self.exprs(items)?)),
            Expr::Tuple(items) => Ok(Obj::tuple(self.exprs(items)?)),
            Expr::Dict(pairs) => {
                let mut map = Map::default();
                for (key, value) in pairs {
                    let (key, value) = (self.expr(key)?, self.expr(value)?);
                    insert(&mut map, key, value)?;
                }
                Ok(Obj::dict(map))
            }
            Expr::Slice(inner, parts) => {
                let obj = self.expr(inner)?;
                let mut made = [Obj::None, Obj::None, Obj::None];
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
                Ok(Obj::str(text))
            }
            Expr::Compare(first, rest) => {
                let mut left = self.expr(first)?;
                for (cmp, right) in rest {
                    let right = self.expr(right)?;
                    if !ops::compare(*cmp, &left, &right)? {
                        return Ok(Obj::Bool(false));
                    }
                    left = right;
                }
                Ok(Obj::Bool(true))
            }
            _ => Ok(Obj::None),
        }
    }

    pub(super) fn exprs(&mut self, items: &'a [Expr]) -> Result<Vec<Obj<'a>>, EvalError> {
        items.iter().map(|item| self.expr(item)).collect()
    }

    /// The attribute of an object; the slice's own attributes come from variables of their own.
    pub(super) fn attr(&mut self, obj: &Obj<'a>, name: &str) -> Result<Obj<'a>, EvalError> {
        if let (Obj::Ref(value), "partition" | "cursor_slice" | "extra_fields") = (obj, name)
            && self.scope.lookup("stream_slice").is_some_and(|slice| std::ptr::eq(slice, *value))
            && let Some(found) = self.scope.lookup(&format!("stream_slice.{name}"))
        {
            return Ok(self.current(Obj::of(found)));
        }
        let found = access::get_attr(obj, name)?;
        Ok(self.current(found))
    }

    pub(super) fn item(&mut self, obj: &Obj<'a>, key: &Obj<'a>) -> Result<Obj<'a>, EvalError> {
        if let (Obj::Ref(value), Some(name)) = (obj, key.text())
            && let Some(found) = self.insensitive(value, name)
        {
            return Ok(Obj::of(found));
        }
        let found = access::get_item(obj, key)?;
        Ok(self.current(found))
    }

    /// A header by its name in any case.
    pub(super) fn insensitive(&self, value: &'a Value, name: &str) -> Option<&'a Value> {
        let headers = self.scope.lookup("headers").filter(|headers| std::ptr::eq(*headers, value))?;
        self.scope.lookup("headers.insensitive")?;
        headers.as_dict()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// `map[key] = value`; a known key keeps its first form.
///
/// # Errors
/// TypeError for an unhashable key.
pub(super) fn insert<'a>(map: &mut Map<'a>, key: Obj<'a>, value: Obj<'a>) -> Result<(), EvalError> {
    let hashed = key.key()?;
    match map.get_mut(&hashed) {
        Some(slot) => slot.1 = value,
        None => {
            map.insert(hashed, (key, value));
        }
    }
    Ok(())
}
