//! `RequestOption`: inserts one value at one place of a request (`request_option.py`).

use crate::error::Failed;
use crate::interpolation::{InterpolatedString, Scope};
use crate::value::{Dict, Value};

/// The part of a request that an option goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionPlace {
    Query,
    Header,
    BodyData,
    BodyJson,
}

impl OptionPlace {
    /// Parses the name that manifests use.
    #[must_use]
    pub fn parse(word: &str) -> Option<OptionPlace> {
        Some(match word {
            "request_parameter" => OptionPlace::Query,
            "header" => OptionPlace::Header,
            "body_data" => OptionPlace::BodyData,
            "body_json" => OptionPlace::BodyJson,
            _ => return None,
        })
    }
}

/// A part of the request, and the name or the path within it.
#[derive(Clone, Debug)]
pub struct RequestOption {
    pub place: OptionPlace,
    path: Vec<InterpolatedString>,
}

impl RequestOption {
    /// Reads the component.
    ///
    /// # Errors
    /// Fails with ValueError in the same cases as the CDK: if neither or both of `field_name` and `field_path` are
    /// set, or if a path is used outside of a JSON body.
    pub fn build(node: &Value, parameters: &Value) -> Result<RequestOption, Failed> {
        let error = |message: &str| Failed::system("ValueError", message);
        let word = node.get("inject_into").and_then(Value::as_str).unwrap_or_default();
        let place = OptionPlace::parse(word).ok_or_else(|| error(&format!("'{word}' is not a valid RequestOptionType")))?;
        let name = node.get("field_name").filter(|it| it.truthy());
        let steps = node.get("field_path").and_then(Value::as_list).filter(|list| !list.is_empty());
        let text = |value: &Value| InterpolatedString::new(&value.to_str(), parameters);
        let path = match (name, steps) {
            (None, None) => return Err(error("RequestOption requires either a field_name or field_path")),
            (Some(_), Some(_)) => return Err(error("Only one of field_name or field_path can be provided to RequestOption")),
            (None, Some(_)) if place != OptionPlace::BodyJson => {
                return Err(error(
                    "Nested field injection is only supported for body JSON injection. \
                     Please use a top-level field_name for other injection types.",
                ));
            }
            (Some(name), None) => vec![text(name)],
            (None, Some(steps)) => steps.iter().map(text).collect(),
        };
        Ok(RequestOption { place, path })
    }

    /// Creates an option that is addressed by name.
    #[must_use]
    pub fn named(place: OptionPlace, name: &str, parameters: &Value) -> RequestOption {
        RequestOption { place, path: vec![InterpolatedString::new(name, parameters)] }
    }

    /// Inserts `value` into `target`. Names are interpolated with the config only.
    ///
    /// # Errors
    /// Fails if a template fails, or with TypeError if a step of the path is not a dict.
    pub fn inject(&self, target: &mut Dict, value: Value, scope: &Scope<'_>) -> Result<(), Failed> {
        let mut current = target;
        let Some((last, steps)) = self.path.split_last() else { return Ok(()) };
        for step in steps {
            let slot = current.entry(step.eval_str(scope)?.into()).or_insert_with(|| Value::Dict(Dict::default()));
            let kind = slot.type_name();
            current = match slot {
                Value::Dict(dict) => dict,
                _ => {
                    let message = format!("'{kind}' object does not support item assignment");
                    return Err(Failed::system("TypeError", message));
                }
            };
        }
        current.insert(last.eval_str(scope)?.into(), value);
        Ok(())
    }
}
