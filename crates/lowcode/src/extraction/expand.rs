//! Expands a record whose nested list contains the actual records (`record_expander.py`).

use super::dpath;
use super::transform::{eval_path, path_of};
use crate::context::{Context, EvalContext};
use crate::error::Failed;
use crate::interpolation::InterpolatedString;
use crate::node::{flag, items, pair, parameters, set_field, text};
use crate::value::{Dict, Value};
use std::collections::VecDeque;

/// Turns each item of a nested list into a record.
pub struct Expander {
    path: Vec<InterpolatedString>,
    keep_original: bool,
    emit_parent: bool,
    merge_parent: bool,
    parent_fields: Vec<(Vec<InterpolatedString>, Vec<InterpolatedString>)>,
}

impl Expander {
    /// # Errors
    /// A component whose list is fetched by a separate retriever, which this engine does not support.
    pub fn build(node: &Value, _ctx: &Context<'_>) -> Result<Expander, Failed> {
        if set_field(node, "truncated_list_retriever").is_some() {
            return Err(Failed::config("UnsupportedComponent", "truncated_list_retriever of RecordExpander is not supported"));
        }
        let one = |it: &Value| (path_of(it, "parent_path", parameters(it)), path_of(it, "record_path", parameters(it)));
        Ok(Expander {
            path: path_of(node, "expand_records_from_field", parameters(node)),
            keep_original: flag(node, "remain_original_record"),
            emit_parent: text(node, "on_no_records") == Some("emit_parent"),
            merge_parent: flag(node, "merge_parent"),
            parent_fields: items(node, "parent_fields").iter().map(one).collect(),
        })
    }

    /// Appends the records into which `record` expands.
    ///
    /// # Errors
    /// An error of a template or a path.
    pub fn expand(&self, record: &Value, at: &EvalContext<'_>, records: &mut VecDeque<Value>) -> Result<(), Failed> {
        if !matches!(record, Value::Dict(_)) || self.path.is_empty() {
            records.push_back(record.clone());
            return Ok(());
        }
        let path = eval_path(&self.path, &at.scope(Vec::new()))?;
        let base = if self.merge_parent { without(record, &path)? } else { Dict::default() };
        let mut count = 0;
        for list in dpath::values(record, &path)? {
            let Value::List(list) = list else { continue };
            count += list.len();
            for item in list {
                records.push_back(self.child(item, record, &base, at)?);
            }
        }
        if count == 0 && self.emit_parent {
            records.push_back(record.clone());
        }
        Ok(())
    }

    fn child(&self, item: &Value, parent: &Value, base: &Dict, at: &EvalContext<'_>) -> Result<Value, Failed> {
        let own = match item {
            Value::Dict(dict) => dict.clone(),
            _ if self.keep_original || self.merge_parent || !self.parent_fields.is_empty() => pair("value", item.clone()),
            other => return Ok(other.clone()),
        };
        let mut child = base.clone();
        child.extend(own);
        let mut child = Value::Dict(child);
        for (from, to) in &self.parent_fields {
            let scope = at.scope(Vec::new());
            let (from, to) = (eval_path(from, &scope)?, eval_path(to, &scope)?);
            let value = dpath::get(parent, &from)?.cloned().unwrap_or_default();
            dpath::new(&mut child, &to, value, 10_000)?;
        }
        if self.keep_original
            && let Value::Dict(dict) = &mut child
        {
            dict.insert("original_record".into(), parent.clone());
        }
        Ok(child)
    }
}

/// Returns the record without the lists that `path` matches.
fn without(record: &Value, path: &[Value]) -> Result<Dict, Failed> {
    let mut copy = record.clone();
    let mark = Value::str("\u{0}expanded");
    let mut lists = Vec::new();
    for found in dpath::values(record, path)? {
        lists.push(matches!(found, Value::List(_)));
    }
    if lists.iter().all(|it| *it) {
        dpath::set(&mut copy, path, &mark)?;
    }
    prune(&mut copy, &mark);
    match copy {
        Value::Dict(dict) => Ok(dict),
        _ => Ok(Dict::default()),
    }
}

fn prune(value: &mut Value, mark: &Value) {
    match value {
        Value::Dict(dict) => {
            dict.retain(|_, item| item != mark);
            dict.values_mut().for_each(|item| prune(item, mark));
        }
        Value::List(list) => {
            list.retain(|item| item != mark);
            list.iter_mut().for_each(|item| prune(item, mark));
        }
        _ => {}
    }
}
