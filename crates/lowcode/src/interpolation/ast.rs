//! The syntax tree of a template.

use super::EvalError;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) enum Constant {
    None,
    Bool(bool),
    Int(i128),
    Big(Arc<str>),
    Float(f64),
    Str(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

impl BinaryOp {
    pub(super) fn sign(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::FloorDiv => "//",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "** or pow()",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    In,
    NotIn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

#[derive(Clone, Debug, Default)]
pub(super) struct CallArgs {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Arc<str>, Expr)>,
    /// `*args`
    pub(super) star: Option<Box<Expr>>,
    /// `**kwargs`
    pub(super) double_star: Option<Box<Expr>>,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Constant(Constant),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attr(Box<Expr>, Arc<str>),
    Item(Box<Expr>, Box<Expr>),
    /// `x[start:stop:step]`
    Slice(Box<Expr>, Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, Box<CallArgs>),
    Filter(Box<Expr>, Arc<str>, Box<CallArgs>),
    Test(Box<Expr>, Arc<str>, Box<CallArgs>),
    Signed(Sign, Box<Expr>),
    Not(Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// `then if test else otherwise`, stored in the order test, then, otherwise.
    Conditional(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
    /// The rendered body of a block. The expression around it applies a filter to this text.
    Captured,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    /// `namespace.attribute`
    Attr(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Clone, Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) iter: Expr,
    pub(super) test: Option<Expr>,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
    pub(super) recursive: bool,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Arc<str>,
    pub(super) args: Vec<(Arc<str>, Option<Expr>)>,
    pub(super) body: Vec<Stmt>,
}

#[derive(Clone, Debug)]
pub(super) enum Stmt {
    Text(Arc<str>),
    Print(Expr),
    For(Box<For>),
    If(Vec<(Expr, Vec<Stmt>)>, Vec<Stmt>),
    Set(Target, Expr),
    /// `{% set x %}...{% endset %}`. The filter is an expression that is applied to `Captured`.
    SetBlock(Target, Expr, Vec<Stmt>),
    With(Vec<(Target, Expr)>, Vec<Stmt>),
    FilterBlock(Expr, Vec<Stmt>),
    Macro(Arc<Macro>),
    /// `{% call f(x) %}...{% endcall %}`: the called macro with its arguments, and the block, which becomes a macro itself.
    CallBlock(Expr, Arc<CallArgs>, Arc<Macro>),
    /// A body with its own scope of names.
    Block(Vec<Stmt>),
    /// A statement that raises this error when it is executed.
    Fail(EvalError),
}
