//! Errors as RFC 9457 problem documents with a stable `code`.

use crate::intake::wire::{Fault, Refusal};
use crate::registry::RegistryError;
use crate::report::result::ConnectionResult;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Seconds after which a registry that could not write is worth another try.
const RETRY_AFTER: u64 = 5;

/// The media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error document by RFC 9457.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:aam:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is, in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and what to do.
    pub detail: String,
    /// Stable, for a machine.
    pub code: String,
    /// The path that was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Every problem of the document, with its JSON pointer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemItem>,
    /// What was recorded all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ConnectionResult>)]
    pub result: Option<Box<ConnectionResult>>,
    #[serde(skip)]
    #[schema(ignore)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// One problem of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemItem {
    /// JSON pointer (RFC 6901) of the value that is wrong.
    pub pointer: String,
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl From<&crate::model::Problem> for ProblemItem {
    fn from(problem: &crate::model::Problem) -> ProblemItem {
        ProblemItem {
            pointer: problem.pointer.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
            line: problem.place.map(|place| place.line),
            column: problem.place.map(|place| place.column),
        }
    }
}

impl Problem {
    /// A problem; `code` is upper snake case and never changes its meaning.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:aam:problem:{code}"),
            title: title.to_string(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_string(),
            instance: None,
            problems: Vec::new(),
            result: None,
            headers: Vec::new(),
        }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// Adds the findings of a document.
    #[must_use]
    pub fn with(mut self, problems: &[crate::model::Problem]) -> Problem {
        self.problems = problems.iter().map(ProblemItem::from).collect();
        self
    }

    /// Adds the path that was called.
    #[must_use]
    pub fn at(mut self, path: &str) -> Problem {
        self.instance.get_or_insert_with(|| path.to_string());
        self
    }

    /// 400: the query or a header has not the documented form.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", "The request has not the documented form", detail)
    }

    /// 404: nothing of that name, or nothing this token may see.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing of that name", detail)
    }

    /// 413.
    #[must_use]
    pub fn too_large(limit: usize) -> Problem {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TOO_LARGE",
            "The body is too large",
            format!("At most {limit} bytes are read here; split it into several pushes."),
        )
        .header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// 503 with the time after which another try makes sense.
    #[must_use]
    pub fn unavailable(code: &str, title: &str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail)
            .header(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER))
    }

    /// 500: a defect of AAM.
    #[must_use]
    pub fn defect(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "DEFECT", "A defect of AAM", detail)
    }

    /// 403 for a namespace that takes no more entries.
    #[must_use]
    pub fn sealed(namespace: &str) -> Problem {
        Problem::new(
            StatusCode::FORBIDDEN,
            "NAMESPACE_SEALED",
            "The namespace is sealed",
            format!("{namespace} was loaded once from its seed and nothing changes it afterwards; write into another namespace."),
        )
    }

    /// What became of a text or document that the parser refused.
    #[must_use]
    pub fn refused(refusal: &Refusal, limit: usize) -> Problem {
        let problem = match refusal.fault {
            Fault::TooLarge => Problem::too_large(limit),
            Fault::NotJson => Problem::new(
                StatusCode::BAD_REQUEST,
                "NOT_JSON",
                "The body is no JSON",
                "The body cannot be read as JSON; problems names the place.",
            ),
            Fault::Invalid => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "INVALID_INTENT",
                "The document is no valid connection_intent",
                "Nothing was recorded; problems names every place with a hint. GET /schemas/connection_intent.json is the form.",
            ),
            Fault::UnsafeScopes => Problem::new(
                StatusCode::FORBIDDEN,
                "UNSAFE_SCOPES_MODE",
                "Only safe_readonly is allowed",
                "AAM only ever reads: leave scopes_mode out or write safe_readonly. Nothing was recorded.",
            ),
        };
        problem.with(&refusal.problems)
    }
}

/// A registry that cannot write or read is told as it says itself.
impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Problem {
        match error {
            RegistryError::Sealed(namespace) => Problem::sealed(&namespace),
            RegistryError::Full => Problem::unavailable("REGISTRY_FULL", "The registry cannot write", error.to_string()),
            other => Problem::unavailable("REGISTRY_UNAVAILABLE", "The registry cannot answer", other.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}
