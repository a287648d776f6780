//! Checks a template before it runs. Finds undeclared variables (as `jinja2.meta` does), unknown filters and tests, and
//! expressions that are nested too deeply.

use super::EvalError;
use super::ast::{Expr, Macro, Stmt, Target};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Limit for the nesting of an expression.
const MAX_DEPTH: usize = 150;

type Names = BTreeSet<Arc<str>>;

/// Returns the names that the template reads without having set them.
///
/// # Errors
/// RecursionError if an expression is nested too deeply; TemplateAssertionError for an unknown filter or test that is not
/// inside a condition.
pub(super) fn undeclared(body: &[Stmt], is_filter: fn(&str) -> bool, is_test: fn(&str) -> bool) -> Result<Names, EvalError> {
    let mut walk = SymbolVisitor { found: Names::new(), frames: vec![Names::new()], soft: 0, is_filter, is_test };
    walk.body(body)?;
    Ok(walk.found)
}

struct SymbolVisitor {
    found: Names,
    frames: Vec<Names>,
    /// Whether the visitor is inside a condition. There, an unknown filter is an error only if it is evaluated.
    soft: usize,
    is_filter: fn(&str) -> bool,
    is_test: fn(&str) -> bool,
}

impl SymbolVisitor {
    fn body(&mut self, body: &[Stmt]) -> Result<(), EvalError> {
        body.iter().try_for_each(|statement| self.statement(statement))
    }

    /// Visits a body that has its own scope for names.
    fn framed(&mut self, names: &[&Target], body: &[Stmt]) -> Result<(), EvalError> {
        self.frames.push(Names::new());
        for target in names {
            self.store(target);
        }
        let soft = std::mem::take(&mut self.soft);
        let result = self.body(body);
        self.soft = soft;
        self.frames.pop();
        result
    }

    fn store(&mut self, target: &Target) {
        match target {
            Target::Name(name) => self.store_name(name),
            Target::Attr(name, _) => self.load(name),
            Target::Tuple(items) => items.iter().for_each(|item| self.store(item)),
        }
    }

    fn store_name(&mut self, name: &Arc<str>) {
        if let Some(frame) = self.frames.last_mut() {
            frame.insert(Arc::clone(name));
        }
    }

    fn load(&mut self, name: &Arc<str>) {
        if !self.frames.iter().any(|frame| frame.contains(name)) {
            self.found.insert(Arc::clone(name));
        }
    }

    fn statement(&mut self, statement: &Stmt) -> Result<(), EvalError> {
        match statement {
            Stmt::Text(_) | Stmt::Fail(_) => Ok(()),
            Stmt::Print(expr) => self.expr(expr),
            Stmt::Set(target, expr) => {
                self.expr(expr)?;
                self.store(target);
                Ok(())
            }
            Stmt::If(branches, otherwise) => self.branches(branches, otherwise),
            Stmt::For(it) => {
                self.expr(&it.iter)?;
                let loop_name = Target::Name("loop".into());
                if let Some(test) = &it.test {
                    self.framed(&[&it.target], &[Stmt::Print(test.clone())])?;
                }
                self.framed(&[&it.target, &loop_name], &it.body)?;
                self.framed(&[], &it.otherwise)
            }
            Stmt::SetBlock(target, filter, body) => {
                self.store(target);
                self.framed(&[], body)?;
                self.expr(filter)
            }
            Stmt::With(pairs, body) => {
                pairs.iter().try_for_each(|(_, value)| self.expr(value))?;
                let targets: Vec<&Target> = pairs.iter().map(|(target, _)| target).collect();
                self.framed(&targets, body)
            }
            Stmt::FilterBlock(filter, body) => {
                self.expr(filter)?;
                self.framed(&[], body)
            }
            Stmt::Macro(it) => {
                self.store_name(&it.name);
                self.macro_body(it)
            }
            Stmt::CallBlock(callee, args, block) => {
                self.expr(callee)?;
                args.each().try_for_each(|arg| self.expr(arg))?;
                self.macro_body(block)
            }
            Stmt::Block(body) => self.framed(&[], body),
        }
    }

    fn macro_body(&mut self, it: &Macro) -> Result<(), EvalError> {
        for (_, default) in &it.args {
            default.iter().try_for_each(|expr| self.expr(expr))?;
        }
        let mut names: Vec<Target> = it.args.iter().map(|(name, _)| Target::Name(Arc::clone(name))).collect();
        names.extend(["varargs", "kwargs", "caller"].map(|name| Target::Name(name.into())));
        self.framed(&names.iter().collect::<Vec<_>>(), &it.body)
    }

    /// A name that any branch sets counts as declared after the `if`. If only some branches set it, it is also reported as
    /// undeclared, because in the other branches Jinja2 looks it up in the context.
    fn branches(&mut self, branches: &[(Expr, Vec<Stmt>)], otherwise: &[Stmt]) -> Result<(), EvalError> {
        let before = self.frames.last().cloned().unwrap_or_default();
        let mut all = before.clone();
        for (test, body) in branches.iter().map(|(test, body)| (Some(test), body.as_slice())).chain([(None, otherwise)]) {
            test.map_or(Ok(()), |test| self.expr(test))?;
            self.soft += 1;
            let result = self.body(body);
            self.soft -= 1;
            result?;
            if let Some(frame) = self.frames.last_mut() {
                all.extend(std::mem::replace(frame, before.clone()));
            }
        }
        let outer = self.frames.len().saturating_sub(1);
        for name in all.difference(&before) {
            if !self.frames.iter().take(outer).any(|frame| frame.contains(name)) {
                self.found.insert(Arc::clone(name));
            }
        }
        if let Some(frame) = self.frames.last_mut() {
            *frame = all;
        }
        Ok(())
    }

    /// Visits an expression. Uses an explicit stack, because recursion could overflow the stack of the thread.
    fn expr(&mut self, root: &Expr) -> Result<(), EvalError> {
        let mut stack = vec![(root, 0, self.soft > 0)];
        while let Some((expr, depth, soft)) = stack.pop() {
            if depth > MAX_DEPTH {
                return Err(EvalError::new("RecursionError", "maximum recursion depth exceeded"));
            }
            match expr {
                Expr::Name(name) => self.load(name),
                Expr::Filter(_, name, _) if !soft && !(self.is_filter)(name) => {
                    return Err(EvalError::new("TemplateAssertionError", format!("No filter named '{name}'.")));
                }
                Expr::Test(_, name, _) if !soft && !(self.is_test)(name) => {
                    return Err(EvalError::new("TemplateAssertionError", format!("No test named '{name}'.")));
                }
                _ => {}
            }
            let soft = soft || matches!(expr, Expr::Conditional(..));
            children(expr, &mut |child| stack.push((child, depth + 1, soft)));
        }
        Ok(())
    }
}

fn children<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    match expr {
        Expr::Constant(_) | Expr::Name(_) | Expr::Captured => {}
        Expr::List(items) | Expr::Tuple(items) | Expr::Concat(items) => items.iter().for_each(visit),
        Expr::Dict(pairs) => pairs.iter().for_each(|(key, value)| {
            visit(key);
            visit(value);
        }),
        Expr::Attr(inner, _) | Expr::Signed(_, inner) | Expr::Not(inner) => visit(inner),
        Expr::Item(a, b) | Expr::Binary(_, a, b) | Expr::And(a, b) | Expr::Or(a, b) => {
            visit(a);
            visit(b);
        }
        Expr::Slice(inner, parts) => {
            visit(inner);
            parts.iter().flatten().for_each(visit);
        }
        Expr::Call(inner, args) | Expr::Filter(inner, _, args) | Expr::Test(inner, _, args) => {
            visit(inner);
            args.each().for_each(visit);
        }
        Expr::Compare(first, rest) => {
            visit(first);
            rest.iter().for_each(|(_, item)| visit(item));
        }
        Expr::Conditional(test, then, otherwise) => {
            visit(test);
            visit(then);
            if let Some(otherwise) = otherwise {
                visit(otherwise);
            }
        }
    }
}
