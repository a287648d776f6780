//! Evaluates calls: their arguments, macros that the template defines, and recursive loops.

use super::args::Args;
use super::ast::{CallArgs, Expr, Stmt};
use super::eval::{Eval, insert};
use super::object::{Loop, MacroObject, Map, Object, type_error, undefined};
use super::{EvalError, access, macros, methods, ops};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

impl<'a> Eval<'a> {
    pub(super) fn args(&mut self, args: &'a CallArgs) -> Result<Args<'a>, EvalError> {
        let mut positional = self.exprs(&args.positional)?;
        if let Some(star) = &args.star {
            positional.extend(ops::items(&self.expr(star)?)?);
        }
        let mut named = Vec::with_capacity(args.named.len());
        for (name, value) in &args.named {
            named.push((Arc::clone(name), self.expr(value)?));
        }
        if let Some(double) = &args.double_star {
            let dict = self.expr(double)?;
            if !dict.is_dict() {
                return type_error("argument after ** must be a mapping");
            }
            for key in ops::items(&dict)? {
                let Some(name) = key.text().cloned() else { return type_error("keywords must be strings") };
                named.push((name, access::dict_get(&dict, &key)?.unwrap_or(Object::None)));
            }
        }
        Ok(Args { positional, named })
    }

    pub(super) fn call_expr(&mut self, callee: &'a Expr, args: &'a CallArgs) -> Result<Object<'a>, EvalError> {
        let callee = self.expr(callee)?;
        let args = self.args(args)?;
        self.call(&callee, args)
    }

    pub(super) fn call(&mut self, callee: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
        match callee {
            Object::Undefined(message) => Err(EvalError::new("UndefinedError", &**message)),
            Object::Global(name) => macros::call(self, name, args),
            Object::Method(method) => {
                let found = methods::call(self, &method.0, method.1, args)?;
                Ok(self.current(found))
            }
            Object::Macro(code) => self.call_macro(code, args),
            Object::Loop(state) => self.call_loop(state, args),
            Object::Joiner(state) => {
                let mut state = state.borrow_mut();
                let used = std::mem::replace(&mut state.1, true);
                Ok(if used { Object::Str(Arc::clone(&state.0)) } else { Object::str("") })
            }
            other => type_error(format!("'{}' object is not callable", other.type_name())),
        }
    }

    fn call_loop(&mut self, state: &Rc<RefCell<Loop<'a>>>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
        let [items] = args.positional("loop", 1)?;
        let (code, depth) = {
            let state = state.borrow();
            (state.recursive, state.depth)
        };
        let Some(code) = code else { return type_error("The loop must have the 'recursive' marker to be called recursively.") };
        let mut out = String::new();
        self.for_loop(code, &items.unwrap_or(Object::None), depth + 1, &mut out)?;
        Ok(Object::str(out))
    }

    fn call_macro(&mut self, made: &MacroObject<'a>, mut args: Args<'a>) -> Result<Object<'a>, EvalError> {
        self.enter()?;
        let code = made.code;
        let mut frame: HashMap<Arc<str>, Object<'a>> = HashMap::new();
        let mut given = std::mem::take(&mut args.positional).into_iter();
        let caller = args.named.iter().position(|(name, _)| &**name == "caller").map(|at| args.named.swap_remove(at).1);
        frame.insert("caller".into(), caller.or_else(|| made.caller.clone()).unwrap_or_else(|| undefined("No caller defined")));
        for (name, default) in &code.args {
            let named = args.named.iter().position(|(it, _)| it == name).map(|at| args.named.swap_remove(at).1);
            let value = match (given.next(), named) {
                (Some(_), Some(_)) => return type_error(format!("macro '{}' got multiple values for '{name}'", code.name)),
                (Some(value), None) | (None, Some(value)) => value,
                (None, None) => match default {
                    Some(default) => self.expr(default)?,
                    None => undefined(format!("parameter '{name}' was not provided")),
                },
            };
            frame.insert(Arc::clone(name), value);
        }
        let rest: Vec<Object<'a>> = given.collect();
        if !rest.is_empty() && !mentions(&code.body, "varargs") {
            return type_error(format!("macro '{}' takes not more than {} argument(s)", code.name, code.args.len()));
        }
        if let Some((name, _)) = args.named.first()
            && !mentions(&code.body, "kwargs")
        {
            return type_error(format!("macro '{}' takes no keyword argument '{name}'", code.name));
        }
        let mut kwargs = Map::default();
        for (name, value) in args.named {
            insert(&mut kwargs, Object::Str(name), value)?;
        }
        frame.insert("varargs".into(), Object::tuple(rest));
        frame.insert("kwargs".into(), Object::dict(kwargs));
        // A macro can read the names of the template's top level, but not those of its caller.
        let rest = self.frames.split_off(1);
        self.frames.push(frame);
        let mut out = String::new();
        let result = self.body(&code.body, &mut out);
        self.frames.truncate(1);
        self.frames.extend(rest);
        self.depth -= 1;
        result.map(|()| Object::str(out))
    }
}

/// Whether `body` uses the variable `name`. Jinja2 passes `varargs` and `kwargs` to a macro only if its body uses them.
/// The check searches the debug output of the syntax tree, which contains every name.
fn mentions(body: &[Stmt], name: &str) -> bool {
    format!("{body:?}").contains(&format!("Name({name:?})"))
}
