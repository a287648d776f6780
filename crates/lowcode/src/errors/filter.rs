//! `HttpResponseFilter` (`error_handlers/http_response_filter.py`).

use super::resolution::{Action, Outcome, Resolution};
use super::{mapping, message};
use crate::config::Config;
use crate::context::EMPTY;
use crate::error::{Failed, FailureType};
use crate::interpolation::{InterpolatedBoolean, InterpolatedString, Scope};
use crate::response::Response;
use crate::value::{Dict, Value};

/// One filter, which matches by status code, by a condition, or by a text in the error message.
#[derive(Clone, Debug)]
pub struct Filter {
    /// A filter without an action never matches.
    action: Option<Action>,
    failure_type: Option<FailureType>,
    codes: Vec<i64>,
    contains: String,
    predicate: Option<InterpolatedBoolean>,
    message: InterpolatedString,
}

impl Filter {
    /// Reads the component.
    ///
    /// # Errors
    /// Fails with ValueError if the action or the failure type is unknown.
    pub(super) fn build(node: &Value) -> Result<Filter, Failed> {
        let text = |key: &str| node.get(key).and_then(Value::as_str).filter(|it| !it.is_empty());
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let unknown = |word: &str, kind: &str| Failed::system("ValueError", format!("'{word}' is not a valid {kind}"));
        let action = text("action").map(|it| Action::parse(it).ok_or_else(|| unknown(it, "ResponseAction"))).transpose()?;
        let failure_type =
            text("failure_type").map(|it| failure_type(it).ok_or_else(|| unknown(it, "FailureType"))).transpose()?;
        let codes = node.get("http_codes").and_then(Value::as_list).unwrap_or_default();
        Ok(Filter {
            action,
            failure_type,
            codes: codes.iter().filter_map(Value::as_i64).collect(),
            contains: text("error_message_contains").unwrap_or_default().to_owned(),
            predicate: text("predicate").map(|it| InterpolatedBoolean::new(it, parameters)),
            message: InterpolatedString::new(text("error_message").unwrap_or_default(), parameters),
        })
    }

    /// Returns the decision if the filter matches. A filter never matches if there was no response.
    ///
    /// # Errors
    /// Fails if a template fails.
    pub(super) fn matches(&self, outcome: Outcome<'_>, scope: &Scope<'_>) -> Result<Option<Resolution>, Failed> {
        let (Outcome::Response(response), Some(action)) = (outcome, self.action) else { return Ok(None) };
        let view = View::of(response);
        if !self.applies(response, &view, scope)? {
            return Ok(None);
        }
        let mapped = mapping::by_status(response.status());
        let own = self.message.eval(&view.scope(scope, scope.config), &[])?;
        let message =
            if own.truthy() { own.to_str() } else { mapped.as_ref().and_then(|it| it.message.clone()).unwrap_or_default() };
        let failure_type = match self.failure_type {
            Some(kind) if action == Action::Fail => Some(kind),
            _ => mapped.map_or(Some(FailureType::SystemError), |it| it.failure_type),
        };
        Ok(Some(Resolution { action, failure_type, message: Some(message).filter(|it| !it.is_empty()) }))
    }

    fn applies(&self, response: &Response, view: &View, scope: &Scope<'_>) -> Result<bool, Failed> {
        if self.codes.contains(&i64::from(response.status())) {
            return Ok(true);
        }
        // A predicate cannot see the config, because the CDK passes None instead.
        if let Some(predicate) = &self.predicate
            && predicate.eval(&view.scope(scope, Config::new(&Value::None)))?
        {
            return Ok(true);
        }
        let in_message = || message::error_message(response).is_some_and(|it| it.contains(&self.contains));
        Ok(!self.contains.is_empty() && in_message())
    }
}

fn failure_type(word: &str) -> Option<FailureType> {
    Some(match word {
        "config_error" => FailureType::ConfigError,
        "system_error" => FailureType::SystemError,
        "transient_error" => FailureType::TransientError,
        _ => return None,
    })
}

/// The parts of a response that are visible to the templates of a filter.
struct View {
    response: Value,
    headers: Value,
    insensitive: Value,
    request_url: Value,
}

impl View {
    fn of(response: &Response) -> View {
        View {
            response: response.json().cloned().unwrap_or_else(|| Value::Dict(Dict::default())),
            headers: response.headers_value(),
            insensitive: Value::Bool(true),
            request_url: request_url(response.url()).into(),
        }
    }

    fn scope<'a>(&'a self, scope: &Scope<'a>, config: Config<'a>) -> Scope<'a> {
        let vars = vec![
            ("response", &self.response),
            ("headers", &self.headers),
            ("headers.insensitive", &self.insensitive),
            ("request_url", &self.request_url),
        ];
        Scope { config, vars, ..scope.clone() }
    }
}

/// Returns the URL without user info, query and fragment.
fn request_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = url.get(..end).unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (netloc, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
    let host = netloc.rsplit_once('@').map_or(netloc, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}
