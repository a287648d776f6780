//! The methods of `list`, `tuple`, `dict` and `set`.

use super::super::access::{dict_get, position};
use super::super::args::Args;
use super::super::eval::{Eval, insert};
use super::super::object::{Map, Object, type_error};
use super::super::ops::{equal, items, order, sequence, too_large};
use super::super::{EvalError, ops};
use crate::value::Value;
use std::cmp::Ordering;
use std::rc::Rc;

/// Sorts the values by their keys. The sort is stable, as in Python.
///
/// # Errors
/// TypeError if two keys cannot be compared.
pub(in super::super) fn sorted<'a>(
    mut pairs: Vec<(Object<'a>, Object<'a>)>,
    reverse: bool,
) -> Result<Vec<Object<'a>>, EvalError> {
    let mut failed = None;
    pairs.sort_by(|(a, _), (b, _)| {
        let order = order(a, b, "<").unwrap_or_else(|error| {
            failed.get_or_insert(error);
            None
        });
        let order = order.unwrap_or(Ordering::Equal);
        if reverse { order.reverse() } else { order }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(pairs.into_iter().map(|(_, item)| item).collect()),
    }
}

fn whole(arg: &Object<'_>) -> Result<i128, EvalError> {
    arg.int().ok_or_else(|| EvalError::type_error(format!("'{}' object cannot be interpreted as an integer", arg.type_name())))
}

pub(super) fn list<'a>(
    eval: &mut Eval<'a>,
    obj: &Object<'a>,
    name: &'static str,
    args: Args<'a>,
) -> Result<Object<'a>, EvalError> {
    match name {
        "count" => {
            let [what] = args.positional(name, 1)?;
            let what = what.unwrap_or(Object::None);
            let mut count = 0;
            for item in sequence(obj)? {
                count += i128::from(equal(&item, &what)?);
            }
            return Ok(Object::Int(count));
        }
        "index" => {
            let [what, start, _] = args.positional(name, 1)?;
            let what = what.unwrap_or(Object::None);
            let skip = start.and_then(|it| it.int()).and_then(|it| usize::try_from(it).ok()).unwrap_or(0);
            for (at, item) in sequence(obj)?.iter().enumerate().skip(skip) {
                if equal(item, &what)? {
                    return Ok(Object::Int(at as i128));
                }
            }
            return Err(EvalError::value_error(format!("{} is not in list", what.repr()?)));
        }
        "copy" => {
            let [] = args.positional(name, 0)?;
            return Ok(Object::list(sequence(obj)?));
        }
        _ => {}
    }
    let Object::List(list) = eval.make_mutable(obj)? else { return type_error("not a list") };
    eval.tick(1)?;
    if list.borrow().len() > ops::MAX_LENGTH / 16 {
        return too_large();
    }
    change(obj, &list, name, args)
}

fn change<'a>(
    obj: &Object<'a>,
    list: &std::cell::RefCell<Vec<Object<'a>>>,
    name: &str,
    args: Args<'a>,
) -> Result<Object<'a>, EvalError> {
    match name {
        "append" => {
            let [item] = args.positional(name, 1)?;
            list.borrow_mut().extend(item);
        }
        "extend" => {
            let [more] = args.positional(name, 1)?;
            let more = items(&more.unwrap_or(Object::None))?;
            list.borrow_mut().extend(more);
        }
        "insert" => {
            let [at, item] = args.positional(name, 2)?;
            let length = list.borrow().len() as i128;
            let at = whole(&at.unwrap_or(Object::None))?;
            let at = (if at < 0 { at + length } else { at }).clamp(0, length);
            list.borrow_mut().insert(usize::try_from(at).unwrap_or(0), item.unwrap_or(Object::None));
        }
        "pop" => {
            let [at] = args.positional(name, 0)?;
            let at = at.map_or(Ok(-1), |at| whole(&at))?;
            let length = list.borrow().len();
            let Some(at) = position(at, length) else {
                return Err(EvalError::new(
                    "IndexError",
                    if length == 0 { "pop from empty list" } else { "pop index out of range" },
                ));
            };
            return Ok(list.borrow_mut().remove(at));
        }
        "remove" => {
            let [what] = args.positional(name, 1)?;
            let what = what.unwrap_or(Object::None);
            let mut found = None;
            for (at, item) in list.borrow().iter().enumerate() {
                if equal(item, &what)? {
                    found = Some(at);
                    break;
                }
            }
            let Some(at) = found else { return Err(EvalError::value_error("list.remove(x): x not in list")) };
            list.borrow_mut().remove(at);
        }
        "sort" => {
            let [key, reverse] = args.bind(name, ["key", "reverse"], 0)?;
            if key.is_some_and(|key| !matches!(key, Object::None)) {
                return type_error("a sort key must be a function");
            }
            let pairs = list.borrow().iter().map(|item| (item.clone(), item.clone())).collect();
            let made = sorted(pairs, reverse.is_some_and(|it| it.truthy()))?;
            *list.borrow_mut() = made;
        }
        "reverse" => {
            let [] = args.positional(name, 0)?;
            list.borrow_mut().reverse();
        }
        _ => {
            let [] = args.positional(name, 0)?;
            list.borrow_mut().clear();
        }
    }
    let _ = obj;
    Ok(Object::None)
}

pub(super) fn dict<'a>(
    eval: &mut Eval<'a>,
    obj: &Object<'a>,
    name: &'static str,
    args: Args<'a>,
) -> Result<Object<'a>, EvalError> {
    match name {
        "get" => {
            let [key, default] = args.positional(name, 1)?;
            let key = key.unwrap_or(Object::None);
            if let (Object::Ref(value), Some(name)) = (obj, key.text())
                && let Some(found) = eval.insensitive(value, name)
            {
                return Ok(Object::from_value(found));
            }
            Ok(dict_get(obj, &key)?.or(default).unwrap_or(Object::None))
        }
        "keys" | "values" | "items" => {
            let [] = args.positional(name, 0)?;
            let keys = items(obj)?;
            eval.tick(keys.len())?;
            let mut shown = Vec::with_capacity(keys.len());
            for key in keys {
                let value = dict_get(obj, &key)?.unwrap_or(Object::None);
                shown.push(match name {
                    "keys" => key,
                    "values" => value,
                    _ => Object::tuple(vec![key, value]),
                });
            }
            let class = match name {
                "keys" => "dict_keys",
                "values" => "dict_values",
                _ => "dict_items",
            };
            Ok(Object::View(class, Rc::new(shown)))
        }
        "fromkeys" => {
            let [keys, value] = args.positional(name, 1)?;
            let mut map = Map::default();
            for key in items(&keys.unwrap_or(Object::None))? {
                insert(&mut map, key, value.clone().unwrap_or(Object::None))?;
            }
            Ok(Object::dict(map))
        }
        "copy" => {
            let [] = args.positional(name, 0)?;
            copy(obj).map(Object::dict)
        }
        _ => {
            let Object::Dict(map) = eval.make_mutable(obj)? else { return type_error("not a dict") };
            eval.tick(1)?;
            change_dict(&map, name, args)
        }
    }
}

/// The pairs of any mapping.
pub(in super::super) fn copy<'a>(obj: &Object<'a>) -> Result<Map<'a>, EvalError> {
    let mut map = Map::default();
    match obj {
        Object::Dict(it) => return Ok(it.borrow().clone()),
        Object::Ref(Value::Dict(dict)) => {
            for (key, value) in dict {
                insert(&mut map, Object::Str(key.clone()), Object::from_value(value))?;
            }
        }
        other => {
            for pair in items(other)? {
                let pair = items(&pair)
                    .map_err(|_| EvalError::type_error("cannot convert dictionary update sequence element #0 to a sequence"))?;
                let [key, value] = pair.as_slice() else {
                    return Err(EvalError::value_error("dictionary update sequence element has a wrong length; 2 is required"));
                };
                insert(&mut map, key.clone(), value.clone())?;
            }
        }
    }
    Ok(map)
}

fn change_dict<'a>(map: &std::cell::RefCell<Map<'a>>, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    match name {
        "update" => {
            let Args { positional, named } = args;
            let [more] = Args::from_positional(positional).positional(name, 0)?;
            let more = more.map_or_else(|| Ok(Map::default()), |more| copy(&more))?;
            let mut map = map.borrow_mut();
            for (key, value) in more.into_values() {
                insert(&mut map, key, value)?;
            }
            for (key, value) in named {
                insert(&mut map, Object::Str(key), value)?;
            }
            Ok(Object::None)
        }
        "pop" => {
            let [key, default] = args.positional(name, 1)?;
            let key = key.unwrap_or(Object::None);
            let found = map.borrow_mut().shift_remove(&key.key()?).map(|(_, value)| value);
            found.or(default).map_or_else(|| Err(EvalError::new("KeyError", key.repr().unwrap_or_default())), Ok)
        }
        "popitem" => {
            let [] = args.positional(name, 0)?;
            let last = map.borrow_mut().pop();
            last.map_or_else(
                || Err(EvalError::new("KeyError", "'popitem(): dictionary is empty'")),
                |(_, (key, value))| Ok(Object::tuple(vec![key, value])),
            )
        }
        "setdefault" => {
            let [key, default] = args.positional(name, 1)?;
            let key = key.unwrap_or(Object::None);
            let hashed = key.key()?;
            let mut map = map.borrow_mut();
            let entry = map.entry(hashed).or_insert_with(|| (key, default.unwrap_or(Object::None)));
            Ok(entry.1.clone())
        }
        _ => {
            let [] = args.positional(name, 0)?;
            map.borrow_mut().clear();
            Ok(Object::None)
        }
    }
}

pub(super) fn set<'a>(map: &Map<'a>, name: &str, args: Args<'a>) -> Result<Object<'a>, EvalError> {
    let [other] = args.positional(name, 0)?;
    let mut more = Map::default();
    for item in other.map_or_else(|| Ok(Vec::new()), |other| items(&other))? {
        insert(&mut more, item, Object::None)?;
    }
    let mut made = map.clone();
    match name {
        "union" => made.extend(more),
        "intersection" => made.retain(|key, _| more.contains_key(key)),
        "difference" => made.retain(|key, _| !more.contains_key(key)),
        "issubset" => return Ok(Object::Bool(map.keys().all(|key| more.contains_key(key)))),
        "issuperset" => return Ok(Object::Bool(more.keys().all(|key| map.contains_key(key)))),
        "symmetric_difference" => {
            made.retain(|key, _| !more.contains_key(key));
            made.extend(more.into_iter().filter(|(key, _)| !map.contains_key(key)));
        }
        _ => {}
    }
    Ok(Object::Set(Rc::new(made)))
}
