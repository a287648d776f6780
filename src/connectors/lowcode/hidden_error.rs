//! Errors that come with a successful status, and successful responses that do not say what the family needs. Pure.

use super::errors::{self, ErrorContext, ResponseView, vendor_message};
use super::family_spec::{Errors, RequiredBody};
use super::privilege::fits;
use crate::credentials::redact;
use crate::model::{Class, Failure};
use serde::Deserialize;
use serde_json::Value;

/// The parts of a body by which an error is recognized.
#[derive(Deserialize)]
struct ErrorForm {
    #[serde(default)]
    error: Value,
    #[serde(default)]
    errors: Value,
    #[serde(default)]
    status: Value,
    #[serde(default)]
    code: Value,
    #[serde(default)]
    title: Value,
    #[serde(default)]
    detail: Value,
    #[serde(default, rename = "o:errorDetails")]
    error_details: Value,
}

impl ErrorForm {
    /// Returns the form of `body`, or `None` if it is not the object of an error.
    fn parse(body: &[u8]) -> Option<ErrorForm> {
        let has = |text: &[u8]| body.windows(text.len()).any(|part| part == text);
        // Most bodies are data, which is not parsed for this.
        if body.trim_ascii_start().first() != Some(&b'{') || !has(b"\"error") && !has(b"\"status\"") {
            return None;
        }
        let form: ErrorForm = serde_json::from_slice(body).ok()?;
        let is_problem = http_status(&form.status).is_some()
            && (form.title.is_string() && form.detail.is_string() || form.error_details.is_array());
        (is_set(&form.error) || is_set(&form.errors) || is_problem).then_some(form)
    }

    /// Returns the HTTP status that the error names.
    fn status(&self) -> Option<u16> {
        let in_error = ["/code", "/status"].map(|place| self.error.pointer(place));
        let in_first = ["/0/status", "/0/code"].map(|place| self.errors.pointer(place));
        let places = in_error.into_iter().chain(in_first).chain([Some(&self.status), Some(&self.code)]);
        places.flatten().find_map(http_status)
    }
}

/// Returns true for a value that says something. Many bodies have the field of an error in every response.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Number(_) => false,
        Value::Bool(true) => true,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(|value| !value.is_null()),
    }
}

fn http_status(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

/// Returns the failure for a successful response whose body is an error: an object with a field `error` or `errors`, or a
/// problem (RFC 9457). An error that names its HTTP status is judged as a response with this status.
#[must_use]
pub fn hidden(errors: &Errors, response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Option<Failure> {
    let form = ErrorForm::parse(response.body).filter(|_| (200..300).contains(&response.status))?;
    let named = form.status().map(|status| ResponseView { status, ..*response });
    // The format is the vendor's, so a status does not blame the address.
    let known = ErrorContext { proven: true, ..*context };
    if let Some(failure) = named.and_then(|view| errors::classify(Some(errors), &view, &known)) {
        let detail = format!("{}; the status of the response itself is {}", failure.detail, response.status);
        return Some(failure.detail(detail));
    }
    let ErrorContext { title, stream, .. } = context;
    let body: Value = serde_json::from_slice(response.body).unwrap_or_default();
    let failure = Failure::new(
        Class::Remote,
        format!("{title} answered {} with an error in place of the data of {}", response.status, super::open::named(stream)),
        "see the detail, which has the vendor's own text; AAM retries automatically",
    );
    Some(failure.detail(redact::scrub(&vendor_message(Some(errors), response, &body, title))))
}

/// Returns the failure for a successful response that does not have the values which the family requires of its stream.
#[must_use]
pub fn not_in_form(errors: &Errors, response: &ResponseView<'_>, context: &ErrorContext<'_>) -> Option<Failure> {
    let concerns = |rule: &&RequiredBody| rule.streams.iter().any(|glob| fits(glob, context.stream));
    let mut rules = errors.requires.iter().filter(concerns).peekable();
    rules.peek()?;
    let body: Value = serde_json::from_slice(response.body).unwrap_or_default();
    let is_there = |pointer: &str, values: &[Value]| match body.pointer(pointer) {
        None | Some(Value::Null) => false,
        Some(found) => values.is_empty() || values.contains(found),
    };
    let missing = |rule: &'_ RequiredBody| {
        let (pointer, values) = rule.body.iter().find(|(pointer, values)| !is_there(pointer, values))?;
        let wanted = values.first().map(|value| format!(" with the value {value}")).unwrap_or_default();
        Some(format!("the response does not have {}{wanted}", pointer.trim_start_matches('/').replace('/', ".")))
    };
    let message = rules.find_map(missing)?;
    Some(errors::no_list(Some(&errors::call(response)), &message, context))
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn judged(family: &str, stream: &str, body: &Value) -> Option<Failure> {
        let text = body.to_string();
        let view =
            ResponseView { method: "POST", status: 200, headers: &[], body: text.as_bytes(), url: "https://api.example/v1/x" };
        let context = ErrorContext {
            title: "Vendor",
            resource: "acme",
            least_privilege: "read",
            stream,
            proven: false,
            base_url: "families.x.base_url",
            kind: "",
            parts: &BTreeMap::new(),
            auth: "",
        };
        let errors = &spec::find(family).unwrap().form.errors;
        errors::classify(Some(errors), &view, &context)
            .or_else(|| hidden(errors, &view, &context))
            .or_else(|| not_in_form(errors, &view, &context))
    }

    #[test]
    fn an_error_within_a_success_is_an_error() {
        let internal =
            judged("gcp_org", "folders", &json!({"error": {"code": 500, "message": "Internal error", "status": "INTERNAL"}}));
        let internal = internal.unwrap();
        assert_eq!(internal.class, Class::Remote);
        assert!(internal.detail.contains("Internal error") && internal.detail.ends_with("itself is 200"), "{internal:?}");
        let denied = judged("bigquery", "tables", &json!({"error": {"code": 403, "message": "Access Denied"}})).unwrap();
        assert_eq!(denied.class, Class::PermissionDenied, "{denied:?}");
        let login = json!({"type": "x", "title": "Unauthorized", "status": 401,
            "o:errorDetails": [{"detail": "Invalid login attempt", "o:errorCode": "INVALID_LOGIN"}]});
        assert_eq!(judged("netsuite", "account_itself", &login).unwrap().class, Class::CredentialRejected);
        let listed = judged("gitlab", "projects", &json!({"errors": ["Something bad"]})).unwrap();
        assert_eq!(listed.title, "Vendor answered 200 with an error in place of the data of projects");
        let explained = judged("datadog", "monitors", &json!({"errors": ["Something bad"]})).unwrap();
        assert_eq!(explained.title, "Datadog answers with an error in place of monitors");
        for data in [
            json!({"id": 1, "errors": []}),
            json!({"error": {"message": null}}),
            json!({"error": 0, "status": 404}),
            json!([{"error": "x"}]),
        ] {
            assert_eq!(judged("gitlab", "project", &data), None, "{data}");
        }
    }

    #[test]
    fn a_response_without_a_required_value_proves_nothing() {
        for body in [json!({}), json!([]), json!({"status": "error"}), json!({"status": null})] {
            let failure = judged("datadog", "both_keys", &body).unwrap();
            assert_eq!(failure.class, Class::WrongService, "{body}: {failure:?}");
        }
        assert_eq!(judged("datadog", "both_keys", &json!({"status": "ok"})), None);
    }
}
