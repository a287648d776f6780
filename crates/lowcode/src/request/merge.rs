//! Merges the options of several components: `combine_mappings` of `utils/mapping_helpers.py`.

use crate::error::Failed;
use crate::value::{Dict, Value};

/// The options for one part of a request: query, headers or body.
#[derive(Clone, Debug, PartialEq)]
pub enum Options {
    Map(Dict),
    /// A body that is given as one text.
    Text(String),
}

impl Options {
    /// Returns options that contain nothing.
    #[must_use]
    pub fn none() -> Options {
        Options::Map(Dict::default())
    }

    /// Returns the dict, or the error of the CDK if this is a text.
    ///
    /// # Errors
    /// Fails with ValueError `Request {what} cannot be a string`.
    pub fn into_map(self, what: &str) -> Result<Dict, Failed> {
        match self {
            Options::Map(dict) => Ok(dict),
            Options::Text(_) => Err(Failed::system("ValueError", format!("Request {what} cannot be a string"))),
        }
    }

    /// Converts the options to a value, so that they can be merged again.
    #[must_use]
    pub fn into_value(self) -> Value {
        match self {
            Options::Map(dict) => Value::Dict(dict),
            Options::Text(text) => Value::from(text),
        }
    }
}

/// Merges options. A key that occurs twice is an error, unless `same_values` is set (for a JSON body) and the values
/// are equal. Anything that is neither a dict nor a text is ignored, as in the CDK.
///
/// # Errors
/// Fails with ValueError for a duplicate key, for two texts, and for a text combined with a dict.
pub fn combine(options: impl AsRef<[Value]> + IntoIterator<Item = Value>, same_values: bool) -> Result<Options, Failed> {
    let error = |message: &str| Err(Failed::system("ValueError", message));
    let all = options.as_ref();
    let texts = all.iter().filter(|it| matches!(it, Value::Str(_))).count();
    if texts > 1 {
        return error("Cannot combine multiple string options");
    }
    let is_filled = |it: &&Value| !it.is_none() && it.as_dict().is_none_or(|dict| !dict.is_empty());
    if texts == 1 {
        let mut filled = all.iter().filter(is_filled);
        if filled.clone().count() > 1 {
            return error("Cannot combine multiple options if one is a string");
        }
        return Ok(Options::Text(filled.find_map(|it| it.as_str()).unwrap_or_default().to_owned()));
    }
    let mut result = Dict::default();
    for option in options {
        match option {
            Value::Dict(dict) if result.is_empty() => result = dict,
            Value::Dict(dict) => merge(&mut result, &dict, &mut Vec::new(), same_values)?,
            _ => {}
        }
    }
    Ok(Options::Map(result))
}

/// The recursion is as deep as the manifest's values, whose depth is bounded when they are read.
fn merge<'a>(target: &mut Dict, source: &'a Dict, path: &mut Vec<&'a str>, same_values: bool) -> Result<(), Failed> {
    for (key, value) in source {
        path.push(key);
        match (target.get_mut(key), value) {
            (None, _) => drop(target.insert(key.clone(), value.clone())),
            (Some(Value::Dict(into)), Value::Dict(from)) if same_values => merge(into, from, path, same_values)?,
            (Some(there), _) if same_values && there == value => {}
            _ => {
                let message = format!(
                    "Request body collision, duplicate keys detected at key path: {}. \
                     Please ensure that all keys in the request are unique.",
                    path.join(".")
                );
                return Err(Failed::system("ValueError", message));
            }
        }
        path.pop();
    }
    Ok(())
}
