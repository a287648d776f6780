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
    /// Where a record says that its list is only a part of the whole one.
    truncated: Vec<InterpolatedString>,
    /// `truncated_list_retriever`: what reads the whole list. It is built by the retriever of the stream.
    fetcher: Option<Value>,
    keep_original: bool,
    emit_parent: bool,
    merge_parent: bool,
    parent_fields: Vec<(Vec<InterpolatedString>, Vec<InterpolatedString>)>,
}

impl Expander {
    /// # Errors
    /// Fails with ValueError if a path is missing or has globs where the CDK does not allow them.
    pub fn build(node: &Value, ctx: &Context<'_>) -> Result<Expander, Failed> {
        let one = |it: &Value| (path_of(it, "parent_path", parameters(it)), path_of(it, "record_path", parameters(it)));
        let expander = Expander {
            path: path_of(node, "expand_records_from_field", parameters(node)),
            truncated: path_of(node, "truncation_indicator_path", parameters(node)),
            fetcher: set_field(node, "truncated_list_retriever").filter(|it| it.truthy()).cloned(),
            keep_original: flag(node, "remain_original_record"),
            emit_parent: text(node, "on_no_records") == Some("emit_parent"),
            merge_parent: flag(node, "merge_parent"),
            parent_fields: items(node, "parent_fields").iter().map(one).collect(),
        };
        if expander.fetcher.is_some() && expander.truncated.is_empty() {
            let message = "`truncation_indicator_path` is required when `truncated_list_retriever` is configured.";
            return Err(Failed::system("ValueError", message));
        }
        let scope = ctx.eval_context().scope(Vec::new());
        reject_globs(&eval_path(&expander.truncated, &scope)?, "truncation_indicator_path")?;
        if let Some(fetcher) = &expander.fetcher {
            reject_globs(&eval_path(&expander.path, &scope)?, "expand_records_from_field")?;
            for key in ["partition_router", "pagination_reset"] {
                if set_field(fetcher, key).is_some_and(Value::truthy) {
                    return Err(Failed::system("ValueError", format!("`{key}` is not supported on `truncated_list_retriever`.")));
                }
            }
        }
        Ok(expander)
    }

    /// The component that reads the whole list of a record whose own list is truncated.
    #[must_use]
    pub fn fetcher(&self) -> Option<&Value> {
        self.fetcher.as_ref()
    }

    /// Appends the records into which `record` expands. Returns true if its list is truncated and the whole list has to be
    /// fetched: the appended records are then those to use if nothing is fetched.
    ///
    /// # Errors
    /// An error of a template or a path.
    pub fn expand(&self, record: &Value, at: &EvalContext<'_>, records: &mut VecDeque<Value>) -> Result<bool, Failed> {
        if !matches!(record, Value::Dict(_)) || self.path.is_empty() {
            records.push_back(record.clone());
            return Ok(false);
        }
        let path = eval_path(&self.path, &at.scope(Vec::new()))?;
        let base = self.base(record, &path)?;
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
        if self.fetcher.is_none() {
            return Ok(false);
        }
        let indicator = eval_path(&self.truncated, &at.scope(Vec::new()))?;
        Ok(dpath::get(record, &indicator)?.is_some_and(Value::truthy))
    }

    /// Returns the record that a fetched item of the list of `parent` becomes.
    ///
    /// # Errors
    /// An error of a template or a path.
    pub fn fetched(&self, item: &Value, parent: &Value, at: &EvalContext<'_>) -> Result<Value, Failed> {
        let path = eval_path(&self.path, &at.scope(Vec::new()))?;
        self.child(item, parent, &self.base(parent, &path)?, at)
    }

    fn base(&self, record: &Value, path: &[Value]) -> Result<Dict, Failed> {
        if self.merge_parent { without(record, path) } else { Ok(Dict::default()) }
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

/// # Errors
/// Fails with ValueError if a part of the path is a glob.
fn reject_globs(path: &[Value], field: &str) -> Result<(), Failed> {
    if path.iter().any(|part| part.as_str().is_some_and(|text| text.contains(['*', '?', '[']))) {
        let message =
            format!("Glob characters ('*', '?', '[') are not supported in `{field}`: the path must identify a single field.");
        return Err(Failed::system("ValueError", message));
    }
    Ok(())
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
