//! Texts that come from the source, in the requests that they become part of.
//!
//! The names and ids of a source are free texts, which a person who may create a table there chooses. The CDK puts such a text into
//! a path as it is, and evaluates the whole result as a template and as a Python literal. With [`Bounds::plain_texts`] a text
//! of the source stays a text: it is one encoded segment of a path and one value of a query or a body.
//!
//! [`Bounds::plain_texts`]: crate::bounds::Bounds::plain_texts

use super::{EvalError, InterpolatedString, Scope};
use crate::error::Failed;
use crate::url::quote;
use crate::value::{Dict, Value};
use std::sync::Arc;

/// The variables of templates that hold what a source returned.
const SOURCE_VARIABLES: [&str; 7] =
    ["stream_slice", "stream_partition", "stream_interval", "components_values", "next_page_token", "record", "response"];

/// Stands for a text that must not be part of a path. Encoding leaves no such character in any other text.
const REFUSED: char = '\u{f8ff}';

/// The key of an object that stands for a text which is neither a template nor a literal.
const PLAIN: &str = "aam_text";

/// Returns true if a template may use a value of the source.
#[must_use]
pub fn is_named_in(template: &str) -> bool {
    SOURCE_VARIABLES.iter().any(|name| template.contains(name))
}

/// Returns true if a template may use the slice that is read, whose values come from the source.
#[must_use]
pub fn is_named_in_slice(template: &str) -> bool {
    template.contains("stream_slice") || template.contains("stream_partition") || template.contains("stream_interval")
}

/// Returns the value that the manifest reads as exactly this text.
#[must_use]
pub fn plain(text: impl Into<Arc<str>>) -> Value {
    Value::Dict([(Arc::from(PLAIN), Value::str(text))].into_iter().collect::<Dict>())
}

/// Returns the text of a value that [`plain`] returned.
#[must_use]
pub fn as_plain(value: &Value) -> Option<&Value> {
    let dict = value.as_dict().filter(|dict| dict.len() == 1)?;
    dict.get(PLAIN).filter(|text| text.as_str().is_some())
}

/// Evaluates the path of a request in which each text of the source is one segment or a part of one.
///
/// # Errors
/// An error of the template, or [`Failed::refused_name`] if a text of the source would change the path.
pub fn path(template: &InterpolatedString, scope: &Scope<'_>) -> Result<String, Failed> {
    if !is_named_in(template.text()) {
        return Ok(template.render(scope)?);
    }
    let encoded: Vec<Value> = scope.vars.iter().map(|(_, value)| encoded(value)).collect();
    let vars = scope.vars.iter().zip(&encoded).map(|((name, _), value)| (*name, value)).collect();
    let path = template.render(&Scope { vars, ..scope.clone() })?;
    let segments = path.split(['?', '#']).next().unwrap_or_default();
    let segments = segments.strip_prefix('/').unwrap_or(segments);
    let segments = segments.strip_suffix('/').filter(|_| template.text().ends_with('/')).unwrap_or(segments);
    if path.contains(REFUSED) || segments.split('/').any(|segment| segment.is_empty() || is_dots(segment)) {
        return Err(Failed::refused_name(&template.render(scope)?));
    }
    Ok(path)
}

/// Returns the path of a request of a manifest that is read as the CDK reads it.
///
/// # Errors
/// An error of the template, or [`Failed::refused_name`] if a text of the source leads out of the path of the manifest.
pub fn path_of_cdk(template: &InterpolatedString, scope: &Scope<'_>) -> Result<String, Failed> {
    let path = template.eval_str(scope)?;
    let leaves = |path: &str| path.split(['?', '#']).next().is_some_and(|path| path.split(['/', '\\']).any(is_dots));
    match is_named_in(template.text()) && leaves(&path) && !leaves(template.text()) {
        true => Err(Failed::refused_name(&path)),
        false => Ok(path),
    }
}

/// Returns the result of a template that uses a value of the source: a scalar as it is, otherwise the rendered text. An empty
/// result is `None`.
///
/// # Errors
/// An error of the template.
pub fn value(rendered: Result<String, EvalError>, found: Option<&Value>) -> Result<Value, EvalError> {
    match found {
        Some(Value::List(_) | Value::Dict(_)) | None => {}
        Some(Value::Str(text)) if text.is_empty() => return Ok(Value::None),
        Some(scalar) => return Ok(scalar.clone()),
    }
    match rendered {
        Ok(text) if text.is_empty() || text == "None" => Ok(Value::None),
        Ok(text) => Ok(Value::from(text)),
        Err(error) if error.class == "UndefinedError" => Ok(Value::None),
        Err(error) => Err(error),
    }
}

/// Returns `value` with each text in it as a part of a path segment.
fn encoded(value: &Value) -> Value {
    // The bound on the depth of a response limits this recursion.
    match value {
        Value::Str(text) => Value::from(segment(text)),
        Value::List(list) => Value::List(list.iter().map(encoded).collect()),
        Value::Dict(dict) => Value::Dict(dict.iter().map(|(key, item)| (segment(key).into(), encoded(item))).collect()),
        other => other.clone(),
    }
}

/// Encodes `text`. A text that some server or proxy would decode into a step up or to the same place is refused, not encoded.
fn segment(text: &str) -> String {
    let decoded = text.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/").replace("%5c", "/");
    if decoded.replace("%5C", "/").split(['/', '\\']).any(is_dots) {
        return REFUSED.to_string();
    }
    let mut out = String::with_capacity(text.len());
    quote(text.as_bytes(), b"", &mut out);
    out
}

/// Returns true for the segments that do not name anything below their parent.
fn is_dots(segment: &str) -> bool {
    matches!(segment.trim(), "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Bounds;
    use crate::config::Config;
    use crate::script::{Script, json};
    use proptest::prelude::*;

    fn path_with(template: &str, name: &Value) -> Result<String, Failed> {
        let (host, config, none) = (Script::new(&[]), Value::None, Value::None);
        let bounds = Bounds { plain_texts: true, ..Bounds::default() };
        let values = Value::Dict([(Arc::from("name"), name.clone())].into_iter().collect());
        let vars = vec![("components_values", &values)];
        let scope = Scope { config: Config::new(&config), parameters: &none, vars, host: &host, bounds: &bounds };
        path(&InterpolatedString::new(template, &none), &scope)
    }

    #[test]
    fn a_name_is_one_encoded_segment() {
        let path = |name: &str| path_with("/tables/{{ components_values['name'] }}/data", &Value::from(name)).unwrap();
        for (name, expected) in [
            ("todos", "/tables/todos/data"),
            ("a/b?c=1#d", "/tables/a%2Fb%3Fc%3D1%23d/data"),
            ("rpc/purge", "/tables/rpc%2Fpurge/data"),
            ("100%", "/tables/100%25/data"),
            ("über uns", "/tables/%C3%BCber%20uns/data"),
            ("{{ config }}", "/tables/%7B%7B%20config%20%7D%7D/data"),
            ("http://evil.example", "/tables/http%3A%2F%2Fevil.example/data"),
            ("1e5", "/tables/1e5/data"),
            ("...", "/tables/.../data"),
            ("a..b", "/tables/a..b/data"),
        ] {
            assert_eq!(path(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_that_changes_the_path_is_refused() {
        for name in ["", ".", "..", "../../functions/v1/x", "a/..", "a\\..\\b", "%2e%2e", "..%2fx", "./x"] {
            let failed = path_with("{{ components_values['name'] }}", &Value::from(name)).unwrap_err();
            assert!(failed.is_refused_name(), "{name}: {failed:?}");
        }
        // Two texts, neither of which is a step up, can be one together.
        assert!(path_with("{{ components_values['name'] }}{{ components_values['name'] }}/x", &Value::from(".")).is_err());
        let object = json(r#"{"../../x?y": 1}"#);
        let shown = path_with("x/{{ components_values['name'] }}", &object).unwrap_or_default();
        assert!(shown.matches(['/', '?']).count() <= 1, "{shown}");
    }

    proptest! {
        #[test]
        fn no_name_changes_the_shape_of_a_path(name in "([a-z./\\\\?#%{}' ]|\\.\\.|%2[eE]){0,12}") {
            if let Ok(path) = path_with("/a/{{ components_values['name'] }}/b", &Value::from(name)) {
                let url = ::url::Url::parse(&format!("https://h.example{path}")).unwrap();
                let segments: Vec<&str> = url.path_segments().unwrap().collect();
                prop_assert_eq!((segments.len(), segments[0], segments[2], url.query(), url.fragment()), (3, "a", "b", None, None));
            }
        }
    }
}

#[cfg(test)]
#[path = "plain_texts_tests.rs"]
mod plain_texts_tests;
