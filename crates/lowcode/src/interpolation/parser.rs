//! Parses Jinja2's statements. [`super::expressions`] parses expressions.

use super::EvalError;
use super::ast::{CallArgs, Constant, Expr, For, Macro, Stmt, Target};
use super::lexer::{Token, syntax, tokens};
use std::sync::Arc;

/// The parameters of a macro and their default values.
type Signature = Vec<(Arc<str>, Option<Expr>)>;

/// Limit for the nesting of brackets, signs and blocks.
const MAX_DEPTH: usize = 60;

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// A keyword that ends a tuple without brackets, such as `in`.
    pub(super) tuple_end: Option<&'static str>,
}

/// # Errors
/// TemplateSyntaxError, as in Jinja2; RecursionError if the template is nested too deeply.
pub(super) fn parse(text: &str) -> Result<Vec<Stmt>, EvalError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, tuple_end: None };
    parser.body(&[])
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &Token {
        self.tokens.get(self.at + ahead).unwrap_or(&Token::End)
    }

    pub(super) fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub(super) fn enter(&mut self) -> Result<(), EvalError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(EvalError::new("RecursionError", "the template is nested too deeply"));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Token::BinaryOp(it) if *it == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(it) if &**it == name)
    }

    pub(super) fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, EvalError> {
        match self.peek() {
            Token::End => syntax(format!("unexpected end of template, expected '{expected}'.")),
            found => syntax(format!("expected token '{expected}', got '{}'", found.describe())),
        }
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Result<(), EvalError> {
        if self.skip_op(op) { Ok(()) } else { self.unexpected(op) }
    }

    pub(super) fn expect_name(&mut self) -> Result<Arc<str>, EvalError> {
        match self.peek().clone() {
            Token::Name(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("name"),
        }
    }

    fn expect_token(&mut self, token: &Token) -> Result<(), EvalError> {
        if self.peek() == token {
            self.at += 1;
            return Ok(());
        }
        self.unexpected(&token.describe())
    }

    /// Parses statements up to a tag that begins with one of `ends`, or to the end of the text if `ends` is empty.
    fn body(&mut self, ends: &[&str]) -> Result<Vec<Stmt>, EvalError> {
        self.enter()?;
        let mut body = Vec::new();
        loop {
            match self.advance() {
                Token::Data(text) => body.push(Stmt::Text(text.into())),
                Token::VariableBegin => {
                    body.push(Stmt::Print(self.tuple(false, true)?));
                    self.expect_token(&Token::VariableEnd)?;
                }
                Token::BlockBegin => {
                    if ends.iter().any(|name| self.is_name(name)) {
                        break;
                    }
                    self.statement(&mut body)?;
                    self.expect_token(&Token::BlockEnd)?;
                }
                Token::End if ends.is_empty() => break,
                Token::End => return syntax(format!("Unexpected end of template. Looking for {}.", ends.join(" or "))),
                other => return syntax(format!("unexpected '{}'", other.describe())),
            }
        }
        self.leave();
        Ok(body)
    }

    /// Parses the body of a block. As in Python, a colon may end its opening tag.
    fn block(&mut self, ends: &[&str]) -> Result<Vec<Stmt>, EvalError> {
        self.skip_op(":");
        self.expect_token(&Token::BlockEnd)?;
        self.body(ends)
    }

    /// Like [`Self::block`], but also consumes the closing tag.
    fn whole_block(&mut self, end: &str) -> Result<Vec<Stmt>, EvalError> {
        let body = self.block(&[end])?;
        self.at += 1;
        Ok(body)
    }

    fn statement(&mut self, out: &mut Vec<Stmt>) -> Result<(), EvalError> {
        let Token::Name(name) = self.advance() else { return syntax("tag name expected") };
        let statement = match &*name {
            "for" => self.for_loop()?,
            "if" => self.if_block()?,
            "set" => self.set()?,
            "with" => self.with()?,
            "print" => return self.print(out),
            "macro" => Stmt::Macro(Arc::new(self.macro_block()?)),
            "call" => self.call_block()?,
            "filter" => {
                let filter = self.filter(Expr::Captured)?;
                let filter = self.more_filters(filter)?;
                Stmt::FilterBlock(filter, self.whole_block("endfilter")?)
            }
            "autoescape" => {
                self.expression()?;
                Stmt::Block(self.whole_block("endautoescape")?)
            }
            "block" => self.named_block()?,
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.peek(), Token::BlockEnd | Token::End) {
                    self.at += 1;
                }
                // These statements load other templates, and the CDK's environment has no template loader.
                Stmt::Fail(EvalError::type_error("no loader for this environment specified"))
            }
            other => return syntax(format!("Encountered unknown tag '{other}'.")),
        };
        out.push(statement);
        Ok(())
    }

    fn print(&mut self, out: &mut Vec<Stmt>) -> Result<(), EvalError> {
        let mut first = true;
        while self.peek() != &Token::BlockEnd {
            if !first {
                self.expect_op(",")?;
            }
            first = false;
            out.push(Stmt::Print(self.expression()?));
        }
        Ok(())
    }

    fn named_block(&mut self) -> Result<Stmt, EvalError> {
        let name = self.expect_name()?;
        while self.skip_name("scoped") || self.skip_name("required") {}
        let body = self.whole_block("endblock")?;
        self.skip_name(&name);
        Ok(Stmt::Block(body))
    }

    fn for_loop(&mut self) -> Result<Stmt, EvalError> {
        let target = self.target(Some("in"), false)?;
        if !self.skip_name("in") {
            return self.unexpected("in");
        }
        self.tuple_end = Some("recursive");
        let iter = self.tuple(false, false);
        self.tuple_end = None;
        let iter = iter?;
        let test = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        let body = self.block(&["endfor", "else"])?;
        let otherwise = if self.skip_name("else") { self.whole_block("endfor")? } else { self.end("endfor") };
        if target.assigns("loop") {
            return Err(EvalError::new("TemplateAssertionError", "Can't assign to special loop variable in for-loop target"));
        }
        Ok(Stmt::For(Box::new(For { target, iter, test, body, otherwise, recursive })))
    }

    /// Consumes the name of the tag at which [`Self::body`] stopped.
    fn end(&mut self, name: &str) -> Vec<Stmt> {
        self.skip_name(name);
        Vec::new()
    }

    fn if_block(&mut self) -> Result<Stmt, EvalError> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false, false)?;
            branches.push((test, self.block(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            let otherwise = if self.skip_name("else") { self.whole_block("endif")? } else { self.end("endif") };
            return Ok(Stmt::If(branches, otherwise));
        }
    }

    fn set(&mut self) -> Result<Stmt, EvalError> {
        let target = self.target(None, true)?;
        if self.skip_op("=") {
            return Ok(Stmt::Set(target, self.tuple(false, true)?));
        }
        let filter = self.more_filters(Expr::Captured)?;
        Ok(Stmt::SetBlock(target, filter, self.whole_block("endset")?))
    }

    fn with(&mut self) -> Result<Stmt, EvalError> {
        let mut targets = Vec::new();
        while !matches!(self.peek(), Token::BlockEnd | Token::End) {
            if !targets.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(None, false)?;
            self.expect_op("=")?;
            targets.push((target, self.expression()?));
        }
        Ok(Stmt::With(targets, self.whole_block("endwith")?))
    }

    fn signature(&mut self) -> Result<Signature, EvalError> {
        let mut args = Signature::new();
        self.expect_op("(")?;
        while !self.is_op(")") {
            if !args.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.expect_name()?;
            let default = if self.skip_op("=") { Some(self.expression()?) } else { None };
            if default.is_none() && args.last().is_some_and(|(_, default)| default.is_some()) {
                return syntax("non-default argument follows default argument");
            }
            args.push((name, default));
        }
        self.expect_op(")")?;
        Ok(args)
    }

    fn macro_block(&mut self) -> Result<Macro, EvalError> {
        let name = self.expect_name()?;
        let args = self.signature()?;
        Ok(Macro { name, args, body: self.whole_block("endmacro")? })
    }

    fn call_block(&mut self) -> Result<Stmt, EvalError> {
        let args = if self.is_op("(") { self.signature()? } else { Vec::new() };
        let Expr::Call(callee, call) = self.expression()? else { return syntax("expected call") };
        let body = self.whole_block("endcall")?;
        let block = Macro { name: "caller".into(), args, body };
        Ok(Stmt::CallBlock(*callee, Arc::new(*call), Arc::new(block)))
    }

    /// Parses the left side of an assignment.
    fn target(&mut self, end: Option<&'static str>, with_attr: bool) -> Result<Target, EvalError> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            if matches!(self.peek(), Token::BlockEnd | Token::BinaryOp(")")) || end.is_some_and(|name| self.is_name(name)) {
                break;
            }
            items.push(self.one_target(with_attr)?);
            if !self.is_op(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(only) if !is_tuple => Ok(only),
            Some(last) => {
                items.push(last);
                Ok(Target::Tuple(items))
            }
            None => syntax(format!("Expected an expression, got '{}'", self.peek().describe())),
        }
    }

    fn one_target(&mut self, with_attr: bool) -> Result<Target, EvalError> {
        if self.skip_op("(") {
            self.enter()?;
            let target = self.target(None, with_attr);
            self.leave();
            self.expect_op(")")?;
            return target;
        }
        match self.primary()? {
            Expr::Name(name) if with_attr && self.skip_op(".") => Ok(Target::Attr(name, self.expect_name()?)),
            Expr::Name(name) => Ok(Target::Name(name)),
            Expr::Constant(Constant::Bool(_) | Constant::None) => syntax("can't assign to 'const'"),
            _ => syntax("can't assign to that"),
        }
    }
}

impl Target {
    pub(super) fn assigns(&self, name: &str) -> bool {
        match self {
            Target::Name(it) => &**it == name,
            Target::Attr(..) => false,
            Target::Tuple(items) => items.iter().any(|item| item.assigns(name)),
        }
    }
}

impl CallArgs {
    /// All expressions that occur in the arguments.
    pub(super) fn each(&self) -> impl Iterator<Item = &Expr> {
        let stars = self.star.iter().chain(&self.double_star).map(|it| &**it);
        self.positional.iter().chain(self.named.iter().map(|(_, it)| it)).chain(stars)
    }
}
