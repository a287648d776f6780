//! Errors as RFC 9457 problem documents with a stable `code`.

use super::problem_code::ProblemCode;
use crate::intake::wire::{Fault, Refusal};
use crate::model::DEMO_NAMESPACE;
use crate::registry::RegistryError;
use crate::report::result::ConnectionResult;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::ops::{Deref, DerefMut};
use utoipa::ToSchema;

/// The value of the Retry-After header while the registry cannot write.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The media type of every error response.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A problem document as in RFC 9457.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// `urn:aam:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and what to do.
    pub detail: String,
    pub code: ProblemCode,
    /// The path of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// All problems of the request body, each with its JSON pointer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemItem>,
    /// The connection, if the intent was recorded in spite of the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ConnectionResult>)]
    pub result: Option<Box<ConnectionResult>>,
    #[serde(skip)]
    #[schema(ignore)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// An error response. The document is boxed to keep `Result<_, ApiProblem>` small.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiProblem(Box<ProblemDocument>);

impl Deref for ApiProblem {
    type Target = ProblemDocument;
    fn deref(&self) -> &ProblemDocument {
        &self.0
    }
}

impl DerefMut for ApiProblem {
    fn deref_mut(&mut self) -> &mut ProblemDocument {
        &mut self.0
    }
}

/// One problem of a request body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemItem {
    /// JSON pointer (RFC 6901) to the invalid value.
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

impl ApiProblem {
    /// Creates a problem.
    #[must_use]
    pub fn new(status: StatusCode, code: ProblemCode, title: &str, detail: impl Into<String>) -> ApiProblem {
        ApiProblem(Box::new(ProblemDocument {
            kind: format!("urn:aam:problem:{code}"),
            title: title.to_string(),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            instance: None,
            problems: Vec::new(),
            result: None,
            headers: Vec::new(),
        }))
    }

    /// Returns the document.
    #[must_use]
    pub fn into_document(self) -> ProblemDocument {
        *self.0
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> ApiProblem {
        self.headers.push((name, value));
        self
    }

    /// Sets the problems of the request body.
    #[must_use]
    pub fn with(mut self, problems: &[crate::model::Problem]) -> ApiProblem {
        self.problems = problems.iter().map(ProblemItem::from).collect();
        self
    }

    /// Sets the path of the request, if it is not set yet.
    #[must_use]
    pub fn at(mut self, path: &str) -> ApiProblem {
        self.instance.get_or_insert_with(|| path.to_string());
        self
    }

    /// 400: the query or a header is not valid.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> ApiProblem {
        ApiProblem::new(StatusCode::BAD_REQUEST, ProblemCode::BadRequest, "Invalid request", detail)
    }

    /// 404: the resource does not exist, or the token does not have access to it.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> ApiProblem {
        ApiProblem::new(StatusCode::NOT_FOUND, ProblemCode::NotFound, "Not found", detail)
    }

    /// 413: the request body is longer than `limit` bytes.
    #[must_use]
    pub fn too_large(limit: usize) -> ApiProblem {
        ApiProblem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ProblemCode::TooLarge,
            "Request body too large",
            format!("The body may have at most {limit} bytes. Send fewer or smaller intents in one request."),
        )
        .header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// 503 with a Retry-After header.
    #[must_use]
    pub fn unavailable(code: ProblemCode, title: &str, detail: impl Into<String>) -> ApiProblem {
        ApiProblem::new(StatusCode::SERVICE_UNAVAILABLE, code, title, detail)
            .header(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS))
    }

    /// 503: too many other requests are being served.
    #[must_use]
    pub fn busy(detail: impl Into<String>) -> ApiProblem {
        ApiProblem::unavailable(ProblemCode::Busy, "Too many requests at once", detail)
    }

    /// 500: a defect in AAM.
    #[must_use]
    pub fn defect(detail: impl Into<String>) -> ApiProblem {
        ApiProblem::new(StatusCode::INTERNAL_SERVER_ERROR, ProblemCode::Defect, "Internal error", detail)
    }

    /// 403: the namespace is sealed.
    #[must_use]
    pub fn sealed(namespace: &str) -> ApiProblem {
        ApiProblem::new(
            StatusCode::FORBIDDEN,
            ProblemCode::NamespaceSealed,
            "The namespace is sealed",
            format!("Namespace {namespace} holds sample data and accepts no intents; use another namespace."),
        )
    }

    /// Converts the parser's refusal of a request body or a document to a problem.
    #[must_use]
    pub fn refused(refusal: &Refusal, limit: usize) -> ApiProblem {
        let problem = match refusal.fault {
            Fault::TooLarge => ApiProblem::too_large(limit),
            Fault::NotJson => ApiProblem::new(
                StatusCode::BAD_REQUEST,
                ProblemCode::NotJson,
                "The body is not valid JSON",
                "The body could not be parsed as JSON; `problems` shows where.",
            ),
            Fault::Invalid => ApiProblem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                ProblemCode::InvalidIntent,
                "Invalid connection_intent",
                "Nothing was recorded. `problems` lists every invalid value with a hint; GET /schemas/connection_intent.json returns the schema.",
            ),
            Fault::UnsafeScopes => ApiProblem::new(
                StatusCode::FORBIDDEN,
                ProblemCode::UnsafeScopesMode,
                "Only safe_readonly is allowed",
                "Nothing was recorded. AAM only reads from sources: remove scopes_mode or set it to safe_readonly.",
            ),
            Fault::ClosedNamespace => ApiProblem::sealed(DEMO_NAMESPACE),
        };
        problem.with(&refusal.problems)
    }
}

impl ApiProblem {
    /// Converts the refusal of a handoff as a whole to a problem.
    #[must_use]
    pub fn handoff_refused(refusal: &Refusal, limit: usize) -> ApiProblem {
        match refusal.fault {
            Fault::Invalid => ApiProblem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                ProblemCode::InvalidHandoff,
                "Invalid handoff",
                "Nothing was recorded. `problems` lists every invalid value of the envelope; a candidate that is not valid does not affect the others.",
            )
            .with(&refusal.problems),
            Fault::TooLarge => ApiProblem::too_large(limit).with(&refusal.problems),
            _ => ApiProblem::refused(refusal, limit),
        }
    }
}

impl From<RegistryError> for ApiProblem {
    fn from(error: RegistryError) -> ApiProblem {
        match error {
            RegistryError::Sealed(namespace) => ApiProblem::sealed(&namespace),
            RegistryError::Full => {
                ApiProblem::unavailable(ProblemCode::RegistryFull, "The registry cannot write", error.to_string())
            }
            other => ApiProblem::unavailable(ProblemCode::RegistryUnavailable, "The registry is unavailable", other.to_string()),
        }
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let document = *self.0;
        let status = StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in document.headers {
            headers.append(name, value);
        }
        response
    }
}
