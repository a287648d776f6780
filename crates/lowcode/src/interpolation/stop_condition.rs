//! Whether a stop condition takes a full page of a reduced size for the last page (`parsers/stop_condition_safety.py`).

use super::ast::{Comparison, Constant, Expr, Stmt};
use super::parser;

const LAST_PAGE_SIZE: &str = "last_page_size";
const PAGE_SIZE: &str = "page_size";

/// Returns true if the condition compares `last_page_size` with a bound that does not follow a reduction of the page size.
/// A condition of which this cannot be said for certain is accepted, as in the CDK.
#[must_use]
pub fn truncates(condition: &str, minimum_page_size: i64) -> bool {
    let Ok(statements) = parser::parse(condition) else { return false };
    match statements.as_slice() {
        [Stmt::Print(expr)] => decides(expr, minimum_page_size),
        [Stmt::If(branches, otherwise)] if otherwise.is_empty() => match branches.as_slice() {
            [(test, body)] if is_true_text(body) => decides(test, minimum_page_size),
            _ => false,
        },
        _ => false,
    }
}

/// Whether the body of an `if` is a text that the CDK reads as true.
fn is_true_text(body: &[Stmt]) -> bool {
    let mut rendered = String::new();
    for statement in body {
        match statement {
            Stmt::Text(text) | Stmt::Print(Expr::Constant(Constant::Str(text))) => rendered.push_str(text),
            Stmt::Print(Expr::Constant(Constant::Int(int))) => rendered.push_str(&int.to_string()),
            Stmt::Print(Expr::Constant(Constant::Bool(true))) => rendered.push_str("True"),
            _ => return false,
        }
    }
    !["False", "false", "{}", "[]", "()", "", "0", "0.0"].contains(&rendered.as_str())
}

/// Only comparisons that `and` and `or` combine decide the condition by themselves.
fn decides(expr: &Expr, minimum: i64) -> bool {
    match expr {
        Expr::And(left, right) | Expr::Or(left, right) => decides(left, minimum) || decides(right, minimum),
        Expr::Compare(first, rest) => {
            let mut left: &Expr = first;
            for (operator, right) in rest {
                if compares(left, *operator, right, minimum) {
                    return true;
                }
                left = right;
            }
            false
        }
        _ => false,
    }
}

fn compares(left: &Expr, operator: Comparison, right: &Expr, minimum: i64) -> bool {
    let (here, there) = (names(left, LAST_PAGE_SIZE), names(right, LAST_PAGE_SIZE));
    let (left, operator, right) = match (here, there, operator) {
        (true, false, operator) => (left, operator, right),
        (false, true, Comparison::Gt) => (right, Comparison::Lt, left),
        (false, true, Comparison::Ge) => (right, Comparison::Le, left),
        _ => return false,
    };
    let is_or_equal = match operator {
        Comparison::Lt => false,
        Comparison::Le => true,
        _ => return false,
    };
    if matches!(left, Expr::Binary(..)) || names(right, PAGE_SIZE) {
        return false;
    }
    match right {
        Expr::Constant(Constant::Int(bound)) => bound + i128::from(is_or_equal) > i128::from(minimum),
        _ => true,
    }
}

/// Whether the variable `name` occurs in the expression.
fn names(expr: &Expr, name: &str) -> bool {
    let any = |list: &[Expr]| list.iter().any(|it| names(it, name));
    match expr {
        Expr::Name(own) => &**own == name,
        Expr::List(list) | Expr::Tuple(list) | Expr::Concat(list) => any(list),
        Expr::Dict(pairs) => pairs.iter().any(|(key, value)| names(key, name) || names(value, name)),
        Expr::Attr(inner, _) | Expr::Signed(_, inner) | Expr::Not(inner) => names(inner, name),
        Expr::Item(left, right) | Expr::Binary(_, left, right) | Expr::And(left, right) | Expr::Or(left, right) => {
            names(left, name) || names(right, name)
        }
        Expr::Slice(inner, parts) => names(inner, name) || parts.iter().flatten().any(|it| names(it, name)),
        Expr::Call(inner, args) | Expr::Filter(inner, _, args) | Expr::Test(inner, _, args) => {
            let more = args.star.iter().chain(&args.double_star).any(|it| names(it, name));
            names(inner, name) || any(&args.positional) || args.named.iter().any(|(_, it)| names(it, name)) || more
        }
        Expr::Compare(first, rest) => names(first, name) || rest.iter().any(|(_, it)| names(it, name)),
        Expr::Conditional(test, then, otherwise) => {
            names(test, name) || names(then, name) || otherwise.as_ref().is_some_and(|it| names(it, name))
        }
        Expr::Constant(_) | Expr::Captured => false,
    }
}

#[cfg(test)]
mod tests {
    use super::truncates;

    /// The verdicts are those of `classify_stop_condition` of the CDK.
    #[test]
    fn only_a_bound_that_stays_truncates() {
        for condition in [
            "{{ last_page_size < 100 }}",
            "{{ 100 > last_page_size }}",
            "{{ last_page_size <= 10 }}",
            "{{ last_page_size < config['page_size'] }}",
            "{{ not response.next or last_page_size < 11 }}",
            "{% if last_page_size < 100 %}true{% endif %}",
            "{{ last_page_size | int < 100 }}",
        ] {
            assert!(truncates(condition, 10), "{condition}");
        }
        for condition in [
            "{{ last_page_size < page_size }}",
            "{{ last_page_size == 0 }}",
            "{{ last_page_size < 10 }}",
            "{{ last_page_size > 100 }}",
            "{{ not (last_page_size >= 100) }}",
            "{{ last_page_size - 100 < 0 }}",
            "{{ last_page_size < [page_size, 100] | max }}",
            "{{ response['data'] | length < 100 }}",
            "{{ not response.next }}",
            "{% if last_page_size < 100 %}false{% endif %}",
            "{{ last_page_size < }}",
            "stop {{ last_page_size < 100 }}",
        ] {
            assert!(!truncates(condition, 10), "{condition}");
        }
    }
}
