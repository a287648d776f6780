//! The inputs of a requester: the query, headers and body that the manifest defines
//! (`requesters/request_options/interpolated_request_options_provider.py`).

use crate::error::Failed;
use crate::interpolation::{EvalError, InterpolatedMapping, InterpolatedNestedMapping, InterpolatedString, PyType, Scope};
use crate::value::{Dict, Value};

/// In query and form values, only literals of these types are converted; all other values remain text.
const FORM_TYPES: &[PyType] = &[PyType::Str, PyType::List];

/// One input: a dict of templates, or one template that evaluates to a dict or a text.
#[derive(Clone, Debug)]
enum Input {
    Map(InterpolatedMapping),
    Nested(InterpolatedNestedMapping),
    Text(InterpolatedString),
}

impl Input {
    fn flat(value: Option<&Value>, parameters: &Value) -> Input {
        match value {
            Some(Value::Str(text)) if !text.is_empty() => Input::Text(InterpolatedString::new(text, parameters)),
            Some(Value::Dict(dict)) => Input::Map(InterpolatedMapping::new(dict, parameters)),
            _ => Input::Map(InterpolatedMapping::new(&Dict::default(), parameters)),
        }
    }

    fn nested(value: Option<&Value>, parameters: &Value) -> Input {
        match value.filter(|it| it.truthy()) {
            Some(Value::Str(text)) => Input::Text(InterpolatedString::new(text, parameters)),
            Some(other) => Input::Nested(InterpolatedNestedMapping::new(other, parameters)),
            None => Input::Nested(InterpolatedNestedMapping::new(&Value::Dict(Dict::default()), parameters)),
        }
    }

    /// Evaluates the input. None values of a dict are dropped.
    fn eval(&self, scope: &Scope<'_>, types: &[PyType]) -> Result<Value, EvalError> {
        let value = match self {
            Input::Map(map) => Value::Dict(map.eval(scope, types)?),
            Input::Nested(map) => return map.eval(scope),
            Input::Text(text) => text.eval(scope, &[])?,
        };
        Ok(match value {
            Value::Dict(mut dict) => {
                dict.retain(|_, item| !item.is_none());
                Value::Dict(dict)
            }
            other => other,
        })
    }
}

/// What the requester itself adds to a request, according to the manifest.
#[derive(Clone, Debug)]
pub struct Inputs {
    query: Input,
    headers: Input,
    body_data: Input,
    body_json: Input,
    /// The query parameter that carries the selected properties of a `QueryProperties` component.
    query_properties_key: Option<String>,
}

impl Inputs {
    /// Reads the fields of an HttpRequester.
    ///
    /// # Errors
    /// Fails with ValueError if both kinds of body are set, or if the kind is unknown.
    pub fn build(node: &Value, parameters: &Value, query_properties_key: Option<String>) -> Result<Inputs, Failed> {
        let mut data = node.get("request_body_data").cloned();
        let mut json = node.get("request_body_json").cloned();
        if let Some(body) = node.get("request_body").filter(|it| !it.is_none()) {
            let value = body.get("value").cloned();
            match body.get("type").and_then(Value::as_str) {
                Some("RequestBodyUrlEncodedForm" | "RequestBodyPlainText") => data = value,
                Some("RequestBodyJsonObject") => json = value,
                Some("RequestBodyGraphQL") => json = value.map(without_none),
                other => {
                    let message = format!("Unsupported request body type: {}", other.unwrap_or("None"));
                    return Err(Failed::system("ValueError", message));
                }
            }
        }
        let set = |value: &Option<Value>| value.as_ref().is_some_and(Value::truthy);
        if set(&data) && set(&json) {
            return Err(Failed::system(
                "ValueError",
                "RequestOptionsProvider should only contain either 'request_body_data' or 'request_body_json' not both",
            ));
        }
        Ok(Inputs {
            query: Input::flat(node.get("request_parameters"), parameters),
            headers: Input::flat(node.get("request_headers"), parameters),
            body_data: Input::flat(data.as_ref(), parameters),
            body_json: Input::nested(json.as_ref(), parameters),
            query_properties_key,
        })
    }

    /// Returns the query parameters. A value that is not a dict is ignored without an error.
    ///
    /// # Errors
    /// Fails if a template fails.
    pub fn query(&self, scope: &Scope<'_>, extra_fields: &Value) -> Result<Value, Failed> {
        let Value::Dict(mut dict) = self.query.eval(scope, FORM_TYPES)? else { return Ok(Value::Dict(Dict::default())) };
        if let Some(key) = &self.query_properties_key {
            let Some(list) = extra_fields.get("query_properties").and_then(Value::as_list) else {
                return Err(Failed::system(
                    "ValueError",
                    "QueryProperties component is defined but stream_partition does not contain query_properties. \
                     Please contact Airbyte Support",
                ));
            };
            let joined = list.iter().map(Value::to_str).collect::<Vec<_>>().join(",");
            dict.insert(key.as_str().into(), joined.into());
        }
        Ok(Value::Dict(dict))
    }

    /// Returns the headers.
    ///
    /// # Errors
    /// Fails if a template fails.
    pub fn headers(&self, scope: &Scope<'_>) -> Result<Value, Failed> {
        let headers = self.headers.eval(scope, &[])?;
        let Value::Dict(mut headers) = headers else { return Ok(headers) };
        // A vendor refuses a header without its value, which is a value that the source did not give.
        headers.retain(|_, value| !scope.bounds.plain_texts || value.as_str() != Some(""));
        Ok(Value::Dict(headers))
    }

    /// Returns the form, or a text body.
    ///
    /// # Errors
    /// Fails if a template fails.
    pub fn body_data(&self, scope: &Scope<'_>) -> Result<Value, Failed> {
        let value = self.body_data.eval(scope, FORM_TYPES)?;
        Ok(if value.truthy() { value } else { Value::Dict(Dict::default()) })
    }

    /// Returns the JSON body.
    ///
    /// # Errors
    /// Fails if a template fails.
    pub fn body_json(&self, scope: &Scope<'_>) -> Result<Value, Failed> {
        Ok(self.body_json.eval(scope, &[])?)
    }
}

/// Implements `dict(exclude_none=True)` for a GraphQL body.
fn without_none(value: Value) -> Value {
    match value {
        Value::Dict(mut dict) => {
            dict.retain(|_, item| !item.is_none());
            Value::Dict(dict)
        }
        other => other,
    }
}
