//! Parses Jinja2's expressions, with the same precedence rules and quirks as Jinja2.

use super::EvalError;
use super::ast::{BinaryOp, CallArgs, Comparison, Constant, Expr, Sign};
use super::lexer::{Token, syntax};
use super::parser::Parser;
use std::sync::Arc;

const LEVEL_ADD: u8 = 1;
const LEVEL_CONCAT: u8 = 2;
const LEVEL_MUL: u8 = 3;
const LEVEL_POW: u8 = 4;

impl Parser {
    /// Parses a single expression. A comma does not make it a tuple.
    pub(super) fn expression(&mut self) -> Result<Expr, EvalError> {
        self.enter()?;
        let expr = self.conditional();
        self.leave();
        expr
    }

    /// Parses a tuple if a comma follows, otherwise a single expression. `with_if` allows `a if b else c` at the top level.
    pub(super) fn tuple(&mut self, explicit: bool, with_if: bool) -> Result<Expr, EvalError> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            if self.at_tuple_end() {
                break;
            }
            items.push(if with_if { self.expression()? } else { self.without_if()? });
            if !self.is_op(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple {
            if let Some(only) = items.pop() {
                return Ok(only);
            }
            if !explicit {
                return syntax(format!("Expected an expression, got '{}'", self.peek().describe()));
            }
        }
        Ok(Expr::Tuple(items))
    }

    fn without_if(&mut self) -> Result<Expr, EvalError> {
        self.enter()?;
        let expr = self.or();
        self.leave();
        expr
    }

    fn at_tuple_end(&self) -> bool {
        matches!(self.peek(), Token::VariableEnd | Token::BlockEnd | Token::BinaryOp(")"))
            || self.tuple_end.is_some_and(|name| self.is_name(name))
    }

    fn conditional(&mut self) -> Result<Expr, EvalError> {
        let mut expr = self.or()?;
        while self.skip_name("if") {
            let test = self.or()?;
            let otherwise = if self.skip_name("else") { Some(Box::new(self.expression()?)) } else { None };
            expr = Expr::Conditional(Box::new(test), Box::new(expr), otherwise);
        }
        Ok(expr)
    }

    pub(super) fn or(&mut self) -> Result<Expr, EvalError> {
        let mut left = self.and()?;
        while self.skip_name("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, EvalError> {
        let mut left = self.not()?;
        while self.skip_name("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, EvalError> {
        let mut negations = 0;
        while self.skip_name("not") {
            negations += 1;
        }
        let mut expr = self.compare()?;
        for _ in 0..negations {
            expr = Expr::Not(Box::new(expr));
        }
        Ok(expr)
    }

    fn compare(&mut self) -> Result<Expr, EvalError> {
        let first = self.binary(LEVEL_ADD)?;
        let mut rest = Vec::new();
        while let Some(cmp) = self.comparison() {
            rest.push((cmp, self.binary(LEVEL_ADD)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let cmp = match self.peek() {
            Token::BinaryOp("==") => Comparison::Eq,
            Token::BinaryOp("!=") => Comparison::Ne,
            Token::BinaryOp(">") => Comparison::Gt,
            Token::BinaryOp(">=") => Comparison::Ge,
            Token::BinaryOp("<") => Comparison::Lt,
            Token::BinaryOp("<=") => Comparison::Le,
            Token::Name(name) if &**name == "in" => Comparison::In,
            Token::Name(name) if &**name == "not" && matches!(self.peek_at(1), Token::Name(next) if &**next == "in") => {
                self.advance();
                Comparison::NotIn
            }
            _ => return None,
        };
        self.advance();
        Some(cmp)
    }

    /// Parses sums, concatenations, products and powers. All of these operators, even the power, associate to the left.
    fn binary(&mut self, level: u8) -> Result<Expr, EvalError> {
        if level > LEVEL_POW {
            return self.unary(true);
        }
        let mut left = self.binary(level + 1)?;
        loop {
            let op = match (level, self.peek()) {
                (LEVEL_ADD, Token::BinaryOp("+")) => BinaryOp::Add,
                (LEVEL_ADD, Token::BinaryOp("-")) => BinaryOp::Sub,
                (LEVEL_CONCAT, Token::BinaryOp("~")) => {
                    left = self.concat(left)?;
                    continue;
                }
                (LEVEL_MUL, Token::BinaryOp("*")) => BinaryOp::Mul,
                (LEVEL_MUL, Token::BinaryOp("/")) => BinaryOp::Div,
                (LEVEL_MUL, Token::BinaryOp("//")) => BinaryOp::FloorDiv,
                (LEVEL_MUL, Token::BinaryOp("%")) => BinaryOp::Mod,
                (LEVEL_POW, Token::BinaryOp("**")) => BinaryOp::Pow,
                _ => return Ok(left),
            };
            self.advance();
            left = Expr::Binary(op, Box::new(left), Box::new(self.binary(level + 1)?));
        }
    }

    fn concat(&mut self, first: Expr) -> Result<Expr, EvalError> {
        let mut items = vec![first];
        while self.skip_op("~") {
            items.push(self.binary(LEVEL_MUL)?);
        }
        Ok(Expr::Concat(items))
    }

    pub(super) fn unary(&mut self, with_filter: bool) -> Result<Expr, EvalError> {
        self.enter()?;
        let sign = match self.peek() {
            Token::BinaryOp("-") => Some(Sign::Minus),
            Token::BinaryOp("+") => Some(Sign::Plus),
            _ => None,
        };
        let node = if let Some(sign) = sign {
            self.advance();
            Expr::Signed(sign, Box::new(self.unary(false)?))
        } else {
            self.primary()?
        };
        let node = self.postfix(node)?;
        let node = if with_filter { self.filters(node)? } else { node };
        self.leave();
        Ok(node)
    }

    pub(super) fn primary(&mut self) -> Result<Expr, EvalError> {
        let token = self.advance();
        Ok(match token {
            Token::Name(name) => match &*name {
                "true" | "True" => Expr::Constant(Constant::Bool(true)),
                "false" | "False" => Expr::Constant(Constant::Bool(false)),
                "none" | "None" => Expr::Constant(Constant::None),
                _ => {
                    if name.starts_with(|c: char| c.is_numeric()) {
                        return syntax("Invalid character in identifier");
                    }
                    Expr::Name(name)
                }
            },
            Token::Str(first) => {
                let mut text = first.to_string();
                let mut single = true;
                while let Token::Str(next) = self.peek() {
                    text.push_str(&next.clone());
                    single = false;
                    self.advance();
                }
                Expr::Constant(Constant::Str(if single { first } else { text.into() }))
            }
            Token::Int(digits) => Expr::Constant(integer(&digits)),
            Token::Float(float) => Expr::Constant(Constant::Float(float)),
            Token::BinaryOp("(") => {
                let outer = self.tuple_end.take();
                let inner = self.tuple(true, true)?;
                self.tuple_end = outer;
                self.expect_op(")")?;
                inner
            }
            Token::BinaryOp("[") => Expr::List(self.items()?),
            Token::BinaryOp("{") => Expr::Dict(self.pairs()?),
            other => return syntax(format!("unexpected '{}'", other.describe())),
        })
    }

    fn items(&mut self) -> Result<Vec<Expr>, EvalError> {
        let mut items = Vec::new();
        while !self.is_op("]") {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            if self.is_op("]") {
                break;
            }
            items.push(self.expression()?);
        }
        self.expect_op("]")?;
        Ok(items)
    }

    fn pairs(&mut self) -> Result<Vec<(Expr, Expr)>, EvalError> {
        let mut pairs = Vec::new();
        while !self.is_op("}") {
            if !pairs.is_empty() {
                self.expect_op(",")?;
            }
            if self.is_op("}") {
                break;
            }
            let key = self.expression()?;
            self.expect_op(":")?;
            pairs.push((key, self.expression()?));
        }
        self.expect_op("}")?;
        Ok(pairs)
    }

    pub(super) fn postfix(&mut self, mut node: Expr) -> Result<Expr, EvalError> {
        loop {
            if self.skip_op(".") {
                node = self.dotted(node)?;
            } else if self.skip_op("[") {
                node = self.subscript(node)?;
            } else if self.is_op("(") {
                node = Expr::Call(Box::new(node), Box::new(self.call_args()?));
            } else {
                return Ok(node);
            }
        }
    }

    fn filters(&mut self, mut node: Expr) -> Result<Expr, EvalError> {
        loop {
            if self.skip_op("|") {
                node = self.filter(node)?;
            } else if self.skip_name("is") {
                node = self.test(node)?;
            } else if self.is_op("(") {
                node = Expr::Call(Box::new(node), Box::new(self.call_args()?));
            } else {
                return Ok(node);
            }
        }
    }

    fn dotted(&mut self, node: Expr) -> Result<Expr, EvalError> {
        match self.advance() {
            Token::Name(name) => Ok(Expr::Attr(Box::new(node), name)),
            Token::Int(digits) => Ok(Expr::Item(Box::new(node), Box::new(Expr::Constant(integer(&digits))))),
            other => syntax(format!("expected name or number, got '{}'", other.describe())),
        }
    }

    fn subscript(&mut self, node: Expr) -> Result<Expr, EvalError> {
        let mut keys = Vec::new();
        let mut slice = None;
        while !self.is_op("]") {
            if !keys.is_empty() || slice.is_some() {
                self.expect_op(",")?;
            }
            match self.subscribed()? {
                Ok(key) => keys.push(key),
                Err(parts) => slice = Some(parts),
            }
        }
        self.expect_op("]")?;
        let node = Box::new(node);
        match (slice, keys.len()) {
            (Some(parts), 0) => Ok(Expr::Slice(node, Box::new(parts))),
            (None, 1) => Ok(Expr::Item(node, Box::new(keys.pop().unwrap_or(Expr::Constant(Constant::None))))),
            (None, 2..) => Ok(Expr::Item(node, Box::new(Expr::Tuple(keys)))),
            _ => syntax("expected subscript expression"),
        }
    }

    /// Parses a key or a slice.
    fn subscribed(&mut self) -> Result<Result<Expr, [Option<Expr>; 3]>, EvalError> {
        let mut parts = [None, None, None];
        if !self.is_op(":") {
            let first = self.expression()?;
            if !self.is_op(":") {
                return Ok(Ok(first));
            }
            parts[0] = Some(first);
        }
        for part in parts.iter_mut().skip(1) {
            if !self.skip_op(":") {
                break;
            }
            if !matches!(self.peek(), Token::BinaryOp(":" | "]" | ",")) {
                *part = Some(self.expression()?);
            }
        }
        Ok(Err(parts))
    }

    /// `(a, *b, c=1, **d)`
    pub(super) fn call_args(&mut self) -> Result<CallArgs, EvalError> {
        self.expect_op("(")?;
        let mut args = CallArgs::default();
        let mut any = false;
        while !self.is_op(")") {
            if any {
                self.expect_op(",")?;
                if self.is_op(")") {
                    break;
                }
            }
            any = true;
            let invalid = || syntax("invalid syntax for function call expression");
            if self.skip_op("*") {
                if args.star.is_some() || args.double_star.is_some() {
                    return invalid();
                }
                args.star = Some(Box::new(self.expression()?));
            } else if self.skip_op("**") {
                if args.double_star.is_some() {
                    return invalid();
                }
                args.double_star = Some(Box::new(self.expression()?));
            } else if let (Token::Name(name), Token::BinaryOp("=")) = (self.peek().clone(), self.peek_at(1)) {
                if args.double_star.is_some() {
                    return invalid();
                }
                self.advance();
                self.advance();
                args.named.push((name, self.expression()?));
            } else {
                if args.star.is_some() || args.double_star.is_some() || !args.named.is_empty() {
                    return invalid();
                }
                args.positional.push(self.expression()?);
            }
        }
        self.expect_op(")")?;
        Ok(args)
    }

    fn dotted_name(&mut self) -> Result<Arc<str>, EvalError> {
        let mut name = self.expect_name()?;
        while self.skip_op(".") {
            name = format!("{name}.{}", self.expect_name()?).into();
        }
        Ok(name)
    }

    /// Parses a filter after its `|`.
    pub(super) fn filter(&mut self, node: Expr) -> Result<Expr, EvalError> {
        let name = self.dotted_name()?;
        let args = if self.is_op("(") { self.call_args()? } else { CallArgs::default() };
        Ok(Expr::Filter(Box::new(node), name, Box::new(args)))
    }

    /// Parses the remaining filters in the tag of a filter block.
    pub(super) fn more_filters(&mut self, mut node: Expr) -> Result<Expr, EvalError> {
        while self.skip_op("|") {
            node = self.filter(node)?;
        }
        Ok(node)
    }

    fn test(&mut self, node: Expr) -> Result<Expr, EvalError> {
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let mut args = CallArgs::default();
        if self.is_op("(") {
            args = self.call_args()?;
        } else {
            let begins = match self.peek() {
                // In `x is none if y`, Jinja2 reads `if` as an argument of the test.
                Token::Name(next) => !matches!(&**next, "else" | "or" | "and"),
                Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::BinaryOp("[" | "{") => true,
                _ => false,
            };
            if begins {
                if self.is_name("is") {
                    return syntax("You cannot chain multiple tests with is");
                }
                let argument = self.primary()?;
                args.positional.push(self.postfix(argument)?);
            }
        }
        let test = Expr::Test(Box::new(node), name, Box::new(args));
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }
}

fn integer(digits: &str) -> Constant {
    let lower = digits.to_ascii_lowercase();
    let radix = match lower.get(..2) {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 10,
    };
    let body = if radix == 10 { &lower } else { lower.get(2..).unwrap_or_default() };
    match i128::from_str_radix(body, radix) {
        Ok(int) => Constant::Int(int),
        Err(_) => Constant::Big(lower.as_str().into()),
    }
}
