//! Transformations of records.

use super::dpath;
use crate::context::{Context, EvalContext};
use crate::error::Failed;
use crate::interpolation::{InterpolatedBoolean, InterpolatedString, PyType, Scope};
use crate::node::{field, flag, items, kind, parameters, text};
use crate::value::{Dict, Value};
use std::sync::Arc;

/// One transformation of a record.
#[derive(Debug)]
pub enum Transformation {
    AddFields { fields: Vec<AddedField>, condition: Option<InterpolatedBoolean> },
    RemoveFields { pointers: Vec<Vec<Value>>, condition: Option<InterpolatedBoolean> },
    KeysToLower,
    KeysToSnakeCase,
    KeysReplace { old: InterpolatedString, new: InterpolatedString },
    FlattenFields { lists: bool },
    DpathFlattenFields(DpathFlatten),
}

#[derive(Debug)]
pub struct AddedField {
    path: Vec<Value>,
    value: InterpolatedString,
    types: Vec<PyType>,
}

/// Moves the fields of a nested dict into the record.
#[derive(Debug)]
pub struct DpathFlatten {
    path: Vec<InterpolatedString>,
    delete_origin: bool,
    replace_record: bool,
    prefix: String,
    suffix: String,
}

/// The Python type that `value_type` names.
#[must_use]
pub fn value_types(node: &Value) -> Vec<PyType> {
    match text(node, "value_type") {
        Some("string") => vec![PyType::Str],
        Some("number") => vec![PyType::Float],
        Some("integer") => vec![PyType::Int],
        Some("boolean") => vec![PyType::Bool],
        _ => Vec::new(),
    }
}

/// Compiles the parts of a path as templates.
#[must_use]
pub fn path_of(node: &Value, key: &str, parameters: &Value) -> Vec<InterpolatedString> {
    items(node, key).iter().map(|part| InterpolatedString::new(&part.to_str(), parameters)).collect()
}

/// Evaluates the templates of a path.
///
/// # Errors
/// An error of a template.
pub fn eval_path(path: &[InterpolatedString], scope: &Scope<'_>) -> Result<Vec<Value>, Failed> {
    path.iter().map(|part| part.eval(scope, &[]).map_err(Failed::from)).collect()
}

fn condition_of(node: &Value) -> Option<InterpolatedBoolean> {
    text(node, "condition").filter(|it| !it.is_empty()).map(|it| InterpolatedBoolean::new(it, parameters(node)))
}

impl Transformation {
    /// # Errors
    /// A component that this engine does not support, or an error of its templates.
    pub fn build(node: &Value, ctx: &Context<'_>) -> Result<Transformation, Failed> {
        let template = |key: &str| InterpolatedString::new(text(node, key).unwrap_or_default(), parameters(node));
        Ok(match kind(node) {
            "AddFields" => Transformation::AddFields { fields: added_fields(node)?, condition: condition_of(node) },
            "RemoveFields" => Transformation::RemoveFields {
                pointers: items(node, "field_pointers").iter().map(dpath::split).collect::<Result<_, _>>()?,
                condition: condition_of(node),
            },
            "KeysToLower" => Transformation::KeysToLower,
            "KeysToSnakeCase" => Transformation::KeysToSnakeCase,
            "KeysReplace" => Transformation::KeysReplace { old: template("old"), new: template("new") },
            "FlattenFields" => Transformation::FlattenFields { lists: field(node, "flatten_lists").as_bool().unwrap_or(true) },
            "DpathFlattenFields" => Transformation::DpathFlattenFields(DpathFlatten::build(node, ctx)?),
            other => return Err(Failed::config("UnsupportedComponent", format!("transformation {other} is not supported"))),
        })
    }

    /// Applies the transformation to `record`.
    ///
    /// # Errors
    /// An error of a template or a path, or a record that is not a dict.
    pub fn apply(&self, record: &mut Value, at: &EvalContext<'_>) -> Result<(), Failed> {
        match self {
            Transformation::AddFields { fields, condition } => add_fields(record, fields, condition.as_ref(), at),
            Transformation::RemoveFields { pointers, condition } => remove_fields(record, pointers, condition.as_ref(), at),
            Transformation::KeysToLower => {
                let old = std::mem::take(dict_of(record, "keys")?);
                *record = Value::Dict(old.into_iter().map(|(key, item)| (key.to_lowercase().into(), item)).collect());
                Ok(())
            }
            Transformation::KeysToSnakeCase => {
                dict_of(record, "items")?;
                map_keys(record, &|key| snake_case(key).into());
                Ok(())
            }
            Transformation::KeysReplace { old, new } => {
                let (old, new) = {
                    let scope = at.scope_of_slice(vec![("record", record)]);
                    (old.eval_str(&scope)?, new.eval_str(&scope)?)
                };
                dict_of(record, "items")?;
                map_keys(record, &|key| key.replace(&old, &new).into());
                Ok(())
            }
            Transformation::FlattenFields { lists } => {
                let flat = flatten(std::mem::take(record), *lists);
                *record = Value::Dict(flat);
                Ok(())
            }
            Transformation::DpathFlattenFields(flatten) => flatten.apply(record, at),
        }
    }
}

fn dict_of<'v>(record: &'v mut Value, attribute: &str) -> Result<&'v mut Dict, Failed> {
    let name = record.type_name();
    match record {
        Value::Dict(dict) => Ok(dict),
        _ => Err(Failed::system("AttributeError", format!("'{name}' object has no attribute '{attribute}'"))),
    }
}

fn added_fields(node: &Value) -> Result<Vec<AddedField>, Failed> {
    let one = |definition: &Value| {
        let path = items(definition, "path").to_vec();
        if path.is_empty() {
            let message = "Expected a non-zero-length path for the AddFields transformation";
            return Err(Failed::system("ValueError", message));
        }
        let text = field(definition, "value").to_str();
        Ok(AddedField { path, value: InterpolatedString::new(&text, parameters(definition)), types: value_types(definition) })
    };
    items(node, "fields").iter().map(one).collect()
}

fn add_fields(
    record: &mut Value,
    fields: &[AddedField],
    condition: Option<&InterpolatedBoolean>,
    at: &EvalContext<'_>,
) -> Result<(), Failed> {
    for added in fields {
        let value = added.value.eval(&at.scope_of_slice(vec![("record", record)]), &added.types);
        let value = value.map_err(|error| {
            let path: Vec<String> = added.path.iter().map(Value::to_str).collect();
            let place = format!("the field {} is computed by {}", path.join("."), added.value.text());
            Failed::from(error).with(|it| it.internal = Some(place))
        })?;
        if let Some(condition) = condition {
            let path = Value::List(added.path.clone());
            if !condition.eval(&at.scope_of_slice(vec![("record", record), ("value", &value), ("path", &path)]))? {
                continue;
            }
        }
        dpath::new(record, &added.path, value, at.bounds.manifest_values.min(10_000))?;
    }
    Ok(())
}

fn remove_fields(
    record: &mut Value,
    pointers: &[Vec<Value>],
    condition: Option<&InterpolatedBoolean>,
    at: &EvalContext<'_>,
) -> Result<(), Failed> {
    for pointer in pointers {
        match condition {
            None => dpath::delete(record, pointer, None)?,
            Some(condition) => {
                // The condition can use only the variable `property`, and it selects leaves anywhere in the record
                // (remove_fields.py).
                let mut picks = |item: &Value| Ok(condition.eval(&at.scope(vec![("property", item)]))?);
                dpath::delete(record, pointer, Some(&mut picks))?
            }
        };
    }
    Ok(())
}

/// Renames the keys of a dict and of the dicts nested in it. Lists are not changed.
fn map_keys(value: &mut Value, rename: &dyn Fn(&str) -> Arc<str>) {
    if let Value::Dict(dict) = value {
        let old = std::mem::take(dict);
        for (key, mut item) in old {
            map_keys(&mut item, rename);
            dict.insert(rename(&key), item);
        }
    }
}

/// `KeysToSnakeCaseTransformation.process_key` for ASCII. All other characters separate words.
fn snake_case(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    let mut tokens: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(first) = chars.get(at) {
        let run = |from: usize, test: &dyn Fn(&char) -> bool| chars.iter().skip(from).take_while(|c| test(c)).count();
        let end = if first.is_ascii_uppercase() {
            let upper = run(at, &char::is_ascii_uppercase);
            at + upper + run(at + upper, &char::is_ascii_lowercase)
        } else if first.is_ascii_lowercase() {
            at + run(at, &char::is_ascii_lowercase)
        } else if first.is_ascii_digit() {
            at + run(at, &char::is_ascii_digit)
        } else {
            at + run(at, &|c| !c.is_ascii_alphanumeric())
        };
        let word = first.is_ascii_alphanumeric();
        tokens.push(if word { chars.iter().take(end).skip(at).collect() } else { String::new() });
        at = end;
    }
    if tokens.len() >= 3 {
        let last = tokens.len() - 1;
        tokens = tokens
            .into_iter()
            .enumerate()
            .filter(|(at, it)| *at == 0 || *at == last || !it.is_empty())
            .map(|(_, it)| it)
            .collect();
    }
    if tokens.first().is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit())) {
        tokens.insert(0, String::new());
    }
    tokens.join("_").to_lowercase()
}

/// `FlattenFields.flatten_record`. Like the original it uses a stack, so later fields come first. After the first list, all
/// keys are prefixed with the name of their parent.
fn flatten(record: Value, lists: bool) -> Dict {
    let mut stack = vec![(record, "_".to_owned())];
    let mut flat = Dict::default();
    let mut with_parent = false;
    while let Some((value, name)) = stack.pop() {
        match value {
            Value::Dict(dict) => {
                for (key, item) in dict {
                    let full = with_parent || flat.contains_key(&key);
                    stack.push((item, if full { format!("{name}.{key}") } else { key.to_string() }));
                }
            }
            Value::List(list) if lists => {
                for (index, item) in list.into_iter().enumerate() {
                    with_parent = true;
                    stack.push((item, format!("{name}.{index}")));
                }
            }
            leaf => {
                flat.insert(name.into(), leaf);
            }
        }
    }
    flat
}

impl DpathFlatten {
    fn build(node: &Value, ctx: &Context<'_>) -> Result<DpathFlatten, Failed> {
        let keys = field(node, "key_transformation");
        let at = ctx.eval_context();
        let affix = |key: &str| match text(keys, key) {
            Some(it) => Ok(InterpolatedString::new(it, parameters(keys)).eval_str(&at.scope(Vec::new()))?),
            None => Ok::<_, Failed>(String::new()),
        };
        Ok(DpathFlatten {
            path: path_of(node, "field_path", parameters(node)),
            delete_origin: flag(node, "delete_origin_value"),
            replace_record: flag(node, "replace_record"),
            prefix: affix("prefix")?,
            suffix: affix("suffix")?,
        })
    }

    fn apply(&self, record: &mut Value, at: &EvalContext<'_>) -> Result<(), Failed> {
        let path = eval_path(&self.path, &at.scope(Vec::new()))?;
        let found = match path.iter().any(|part| part.as_str() == Some("*")) {
            true => dpath::values(record, &path)?.first().copied(),
            false => dpath::get(record, &path)?,
        };
        let Some(Value::Dict(found)) = found else { return Ok(()) };
        let renamed = |key: &Arc<str>| Arc::from(format!("{}{key}{}", self.prefix, self.suffix));
        let found: Dict = found.iter().map(|(key, item)| (renamed(key), item.clone())).collect();
        if self.replace_record && !found.is_empty() {
            *record = Value::Dict(found);
            return Ok(());
        }
        if found.keys().any(|key| record.get(key).is_some()) {
            return Ok(());
        }
        if self.delete_origin {
            dpath::delete(record, &path, None)?;
        }
        dict_of(record, "update")?.extend(found);
        Ok(())
    }
}

#[cfg(test)]
#[path = "transform_tests.rs"]
mod tests;
