//! Filters for lists, dicts and other iterables.

use super::super::args::Args;
use super::super::eval::{Eval, insert};
use super::super::is_tests;
use super::super::object::{Map, Object, type_error, undefined};
use super::super::ops::{compare, items, length, too_large};
use super::super::{EvalError, ast::Comparison, methods};

fn argument_error<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::new("FilterArgumentError", message))
}

/// Resolves a dotted attribute such as `a.b.0` part by part.
pub(super) fn by_path<'a>(eval: &mut Eval<'a>, item: &Object<'a>, path: &Object<'a>) -> Result<Object<'a>, EvalError> {
    let Some(text) = path.text() else { return eval.item(item, path) };
    let mut value = item.clone();
    for part in text.split('.') {
        eval.tick(1)?;
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let key = if digits { part.parse().map_or_else(|_| Object::str(part), Object::Int) } else { Object::str(part) };
        value = eval.item(&value, &key)?;
    }
    Ok(value)
}

fn folded<'a>(value: Object<'a>, case_sensitive: bool) -> Object<'a> {
    match value.text() {
        Some(text) if !case_sensitive => Object::str(text.to_lowercase()),
        _ => value,
    }
}

/// The items of `value`, or the given attribute of each item.
pub(super) fn mapped<'a>(
    eval: &mut Eval<'a>,
    value: &Object<'a>,
    attribute: Option<&Object<'a>>,
) -> Result<Vec<Object<'a>>, EvalError> {
    let all = items(value)?;
    eval.tick(all.len())?;
    match attribute {
        None | Some(Object::None) => Ok(all),
        Some(path) => all.iter().map(|item| by_path(eval, item, path)).collect(),
    }
}

fn flag(arg: &Option<Object<'_>>) -> bool {
    arg.as_ref().is_some_and(Object::truthy)
}

pub(super) fn apply<'a>(eval: &mut Eval<'a>, name: &str, value: Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    match name {
        "count" | "length" | "first" | "last" | "random" | "list" | "items" | "reverse" => {
            let [] = args.positional(name, 0)?;
            simple(eval, name, value)
        }
        "attr" => {
            let [attr] = args.bind(name, ["name"], 1)?;
            let attr = attr.and_then(|it| it.text().cloned()).unwrap_or_else(|| "".into());
            Ok(methods::attribute(&value, &attr)?.unwrap_or_else(|| super::super::access::missing(&value, &attr)))
        }
        "join" => {
            let [sep, attribute] = args.bind(name, ["d", "attribute"], 0)?;
            let sep = sep.map_or_else(|| Ok(String::new()), |sep| sep.to_str())?;
            let parts = mapped(eval, &value, attribute.as_ref())?;
            join(eval, &parts, &sep)
        }
        "map" => map(eval, value, args),
        "select" | "reject" | "selectattr" | "rejectattr" => select(eval, name, value, args),
        "min" | "max" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
            extreme(eval, name, &value, flag(&sensitive), attribute)
        }
        "sort" => {
            let [reverse, sensitive, attribute] = args.bind(name, ["reverse", "case_sensitive", "attribute"], 0)?;
            let pairs = keyed(eval, &value, flag(&sensitive), attribute)?;
            methods::sorted(pairs, flag(&reverse)).map(Object::list)
        }
        "unique" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
            let mut seen = Map::default();
            let mut selected = Vec::new();
            for (key, item) in keyed(eval, &value, flag(&sensitive), attribute)? {
                if !seen.contains_key(&key.key()?) {
                    insert(&mut seen, key, Object::None)?;
                    selected.push(item);
                }
            }
            Ok(Object::from_items(selected))
        }
        "dictsort" => {
            let [sensitive, by, reverse] = args.bind(name, ["case_sensitive", "by", "reverse"], 0)?;
            dict_sort(&value, flag(&sensitive), by, flag(&reverse))
        }
        "groupby" => group_by(eval, &value, args),
        "slice" | "batch" => parts(eval, name, &value, args),
        _ => Ok(value),
    }
}

fn simple<'a>(eval: &mut Eval<'a>, name: &str, value: Object<'a>) -> Result<Object<'a>, EvalError> {
    match name {
        "count" | "length" => Ok(Object::Int(length(&value)? as i128)),
        "reverse" => match value.text() {
            Some(text) => Ok(Object::str(text.chars().rev().collect::<String>())),
            None => {
                let Ok(mut all) = items(&value) else { return argument_error("argument must be iterable") };
                all.reverse();
                Ok(Object::from_items(all))
            }
        },
        "items" => {
            if value.is_undefined() {
                return Ok(Object::from_items(Vec::new()));
            }
            if !value.is_dict() {
                return type_error("Can only get item pairs from a mapping.");
            }
            let pairs = methods::copy(&value)?;
            Ok(Object::from_items(pairs.into_values().map(|(key, value)| Object::tuple(vec![key, value])).collect()))
        }
        "first" => {
            if let Object::Iter(iter) = &value {
                let first = iter.borrow_mut().pop_front();
                return Ok(first.unwrap_or_else(|| undefined("No first item, sequence was empty.")));
            }
            Ok(items(&value)?.into_iter().next().unwrap_or_else(|| undefined("No first item, sequence was empty.")))
        }
        "last" | "random" => {
            if matches!(value, Object::Iter(_) | Object::Set(_)) {
                return type_error(format!("'{}' object is not reversible", value.type_name()));
            }
            Ok(items(&value)?.pop().unwrap_or_else(|| undefined("No last item, sequence was empty.")))
        }
        _ => {
            let all = items(&value)?;
            eval.tick(all.len())?;
            Ok(Object::list(all))
        }
    }
}

fn join<'a>(eval: &Eval<'a>, parts: &[Object<'a>], sep: &str) -> Result<Object<'a>, EvalError> {
    let mut out = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push_str(sep);
        }
        part.write_str(&mut out)?;
        if out.len() > eval.scope.bounds.template_bytes {
            return too_large();
        }
    }
    Ok(Object::str(out))
}

fn map<'a>(eval: &mut Eval<'a>, value: Object<'a>, mut args: Args<'a>) -> Result<Object<'a>, EvalError> {
    if !value.truthy() {
        return Ok(Object::from_items(Vec::new()));
    }
    let mut made = Vec::new();
    let attribute = args.named.iter().position(|(name, _)| &**name == "attribute");
    if let (true, Some(at)) = (args.positional.is_empty(), attribute) {
        let (_, path) = args.named.remove(at);
        let default = args.named.iter().position(|(name, _)| &**name == "default").map(|at| args.named.remove(at).1);
        if let Some((name, _)) = args.named.first() {
            return argument_error(format!("Unexpected keyword argument '{name}'"));
        }
        for item in items(&value)? {
            let found = by_path(eval, &item, &path)?;
            let default = default.clone().filter(|it| !matches!(it, Object::None));
            made.push(if found.is_undefined() { default.unwrap_or(found) } else { found });
        }
        return Ok(Object::from_items(made));
    }
    if args.positional.is_empty() {
        return argument_error("map requires a filter argument");
    }
    let name = args.positional.remove(0).to_str()?;
    for item in items(&value)? {
        made.push(super::apply(eval, &name, item, args.clone())?);
    }
    Ok(Object::from_items(made))
}

fn select<'a>(eval: &mut Eval<'a>, name: &str, value: Object<'a>, mut args: Args<'a>) -> Result<Object<'a>, EvalError> {
    if !value.truthy() {
        return Ok(Object::from_items(Vec::new()));
    }
    let path = if name.ends_with("attr") {
        if args.positional.is_empty() {
            return argument_error("Missing parameter for attribute name");
        }
        Some(args.positional.remove(0))
    } else {
        None
    };
    let test = if args.positional.is_empty() { None } else { Some(args.positional.remove(0).to_str()?) };
    let wanted = name.starts_with("select");
    let mut selected = Vec::new();
    for item in items(&value)? {
        eval.tick(1)?;
        let tested = match &path {
            Some(path) => by_path(eval, &item, path)?,
            None => item.clone(),
        };
        let holds = match &test {
            Some(test) => is_tests::apply(eval, test, &tested, args.clone())?,
            None => tested.truthy(),
        };
        if holds == wanted {
            selected.push(item);
        }
    }
    Ok(Object::from_items(selected))
}

/// The items with their sort keys. `attribute` may name several attributes, separated by commas.
fn keyed<'a>(
    eval: &mut Eval<'a>,
    value: &Object<'a>,
    case_sensitive: bool,
    attribute: Option<Object<'a>>,
) -> Result<Vec<(Object<'a>, Object<'a>)>, EvalError> {
    let mut pairs = Vec::new();
    for item in items(value)? {
        eval.tick(1)?;
        let key = match &attribute {
            None | Some(Object::None) => folded(item.clone(), case_sensitive),
            Some(Object::Str(paths)) if paths.contains(',') => {
                let mut keys = Vec::new();
                for path in paths.split(',') {
                    keys.push(folded(by_path(eval, &item, &Object::str(path))?, case_sensitive));
                }
                Object::list(keys)
            }
            Some(path) => folded(by_path(eval, &item, path)?, case_sensitive),
        };
        pairs.push((key, item));
    }
    Ok(pairs)
}

fn extreme<'a>(
    eval: &mut Eval<'a>,
    name: &str,
    value: &Object<'a>,
    case_sensitive: bool,
    attribute: Option<Object<'a>>,
) -> Result<Object<'a>, EvalError> {
    let cmp = if name == "max" { Comparison::Gt } else { Comparison::Lt };
    let mut best: Option<(Object<'a>, Object<'a>)> = None;
    for (key, item) in keyed(eval, value, case_sensitive, attribute)? {
        let better = match &best {
            Some((known, _)) => compare(cmp, &key, known)?,
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| undefined("No aggregated item, sequence was empty."), |(_, item)| item))
}

fn dict_sort<'a>(
    value: &Object<'a>,
    case_sensitive: bool,
    by: Option<Object<'a>>,
    reverse: bool,
) -> Result<Object<'a>, EvalError> {
    let by = by.map_or_else(|| Ok("key".to_owned()), |by| by.to_str())?;
    if by != "key" && by != "value" {
        return argument_error("You can only sort by either \"key\" or \"value\"");
    }
    if let Object::Undefined(message) = value {
        return Err(EvalError::new("UndefinedError", &**message));
    }
    if !value.is_dict() {
        return Err(EvalError::new("AttributeError", format!("'{}' object has no attribute 'items'", value.type_name())));
    }
    let pairs = methods::copy(value)?.into_values().map(|(key, value)| {
        let by = if by == "key" { key.clone() } else { value.clone() };
        (folded(by, case_sensitive), Object::tuple(vec![key, value]))
    });
    methods::sorted(pairs.collect(), reverse).map(Object::list)
}

fn group_by<'a>(eval: &mut Eval<'a>, value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [attribute, default, sensitive] = args.bind("groupby", ["attribute", "default", "case_sensitive"], 1)?;
    let attribute = attribute.unwrap_or(Object::None);
    let mut pairs = Vec::new();
    for item in items(value)? {
        let mut key = by_path(eval, &item, &attribute)?;
        if key.is_undefined() {
            key = default.clone().unwrap_or(key);
        }
        pairs.push((folded(key.clone(), flag(&sensitive)), Object::tuple(vec![key, item])));
    }
    let mut groups: Vec<(Object<'a>, Object<'a>, Vec<Object<'a>>)> = Vec::new();
    for pair in methods::sorted(pairs, false)? {
        let pair = items(&pair)?;
        let [key, item] = pair.as_slice() else { continue };
        let compared = folded(key.clone(), flag(&sensitive));
        match groups.last_mut() {
            Some((last, _, members)) if super::super::ops::equal(last, &compared)? => members.push(item.clone()),
            _ => groups.push((compared, key.clone(), vec![item.clone()])),
        }
    }
    Ok(Object::list(groups.into_iter().map(|(_, key, members)| Object::tuple(vec![key, Object::list(members)])).collect()))
}

fn parts<'a>(eval: &mut Eval<'a>, name: &str, value: &Object<'a>, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let count_name = if name == "slice" { "slices" } else { "linecount" };
    let [count, fill] = args.bind(name, [count_name, "fill_with"], 1)?;
    let Some(count) = count.and_then(|it| it.int()) else { return type_error("an integer is required") };
    let fill = fill.filter(|it| !matches!(it, Object::None));
    let all = items(value)?;
    let count = usize::try_from(count).unwrap_or(0);
    if count > 10_000 {
        return too_large();
    }
    eval.tick(all.len() + count)?;
    let mut made = Vec::new();
    if name == "batch" {
        for chunk in all.chunks(count.max(1)) {
            let mut chunk = chunk.to_vec();
            if let (Some(fill), true) = (&fill, chunk.len() < count) {
                chunk.resize(count, fill.clone());
            }
            made.push(Object::list(chunk));
        }
        return Ok(Object::from_items(made));
    }
    if count == 0 {
        return Err(EvalError::new("ZeroDivisionError", "integer division or modulo by zero"));
    }
    let (each, extra) = (all.len() / count, all.len() % count);
    let mut rest = all.into_iter();
    for number in 0..count {
        let mut part: Vec<Object<'a>> = rest.by_ref().take(each + usize::from(number < extra)).collect();
        if let (Some(fill), true) = (&fill, number >= extra) {
            part.push(fill.clone());
        }
        made.push(Object::list(part));
    }
    Ok(Object::from_items(made))
}
