//! The rows of the route tables, from which the router and the token and query checks are built: [`ROUTES`], which the OpenAPI
//! document describes, and [`PAGES`], the pages for people.

mod pages;
mod table;

pub use pages::PAGES;
pub use table::ROUTES;

use super::request::{ApiRequest, ApiResult};
use super::{history, onboard, read};
use crate::policy::TokenScope;
use futures_util::future::BoxFuture;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody; no token is needed.
    Open,
    /// Everybody who has the link, within the rate limit of their address. The answers are pages for people, also the
    /// errors, and unknown query parameters are ignored (RFC 6749, section 4.1.2).
    Link,
    /// Callers whose token has this scope.
    Scope(TokenScope),
    /// People whose session or token has this scope. The answers are pages, also the errors, and a browser without either is
    /// sent to the page on which people sign in.
    Page(TokenScope),
    /// The page on which people sign in.
    SignIn,
}

/// The HTTP method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET. The same routes also answer HEAD.
    Get,
    Post,
    Delete,
}

/// A query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryParam {
    pub name: &'static str,
    /// The JSON Schema type: `string` or `integer`.
    pub json_type: &'static str,
    pub description: &'static str,
    /// The parameter that this one is another name for.
    pub alias_of: Option<&'static str>,
    pub value: QueryValue,
}

/// The values that a query parameter accepts. The handler checks them, and the OpenAPI document describes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryValue {
    /// Any value of the JSON Schema type.
    Any,
    Integer {
        min: u64,
        max: u64,
    },
    State,
    Namespace,
    Timestamp,
    /// A text that matches this regular expression.
    Pattern(&'static str),
}

/// One row of the table.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    pub query: &'static [QueryParam],
    /// True if the route supports `Prefer: wait=N` and `respond-async`.
    pub waits: bool,
    /// The schema of the request body, and true if the body is optional.
    pub body: Option<(&'static str, bool)>,
    /// The maximum size of the request body in bytes.
    pub max_body: usize,
    /// The status, media type and schema of each success response.
    pub answers: &'static [(u16, &'static str, &'static str)],
    /// The statuses of error responses, except 400, 401 and 403, which follow from the other fields.
    pub problems: &'static [u16],
    pub handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
}

impl Route {
    /// Whether the answers are pages for people.
    #[must_use]
    pub fn is_page(&self) -> bool {
        matches!(self.access, Access::Link | Access::Page(_) | Access::SignIn)
    }
}

const fn param(name: &'static str, json_type: &'static str, description: &'static str) -> QueryParam {
    QueryParam { name, json_type, description, alias_of: None, value: QueryValue::Any }
}

impl QueryParam {
    /// Returns the parameter with the values that it accepts.
    const fn with(self, value: QueryValue) -> QueryParam {
        QueryParam { value, ..self }
    }
}

const NAMESPACE: QueryParam = param("namespace", "string", "default: the policy's namespace").with(QueryValue::Namespace);
const LIMIT: QueryParam =
    param("limit", "integer", "default: 100").with(QueryValue::Integer { min: 1, max: read::MAX_PAGE_SIZE as u64 });
const STREAM_LIMIT: QueryParam = param("limit", "integer", "the number of streams; default: as many as fit into 4 MiB")
    .with(QueryValue::Integer { min: 1, max: history::MAX_STREAM_LIMIT as u64 });
const NEXT: &str = "next_cursor of the previous page";
/// The base64url text of the 16 bytes of an id, as [`read`] writes it.
const CURSOR: QueryParam = param("cursor", "string", NEXT).with(QueryValue::Pattern("[A-Za-z0-9_-]{21}[AQgw]"));
const SEQ_CURSOR: QueryParam = param("cursor", "string", NEXT).with(QueryValue::Pattern("[0-9]{1,19}"));
const STREAM_CURSOR: QueryParam = param("cursor", "string", NEXT).with(QueryValue::Pattern("[0-9]{1,9}[.][0-9]{1,9}"));
const CALL_CURSOR: QueryParam = param("cursor", "string", NEXT).with(QueryValue::Pattern("[0-9]{1,19}[.][0-9]{1,9}"));
const PURPOSE: QueryParam = param("purpose", "string", "only calls that were made for this; default: all")
    .with(QueryValue::Pattern("(source|vault|token|webhook)"));
const CALLS_SINCE: QueryParam = param("since", "string", "only calls that began at or after it").with(QueryValue::Timestamp);
const CALLS_UNTIL: QueryParam = param("until", "string", "only calls that began before it").with(QueryValue::Timestamp);
const AT: QueryParam = param("at", "string", "the funnel as of that instant; default: now").with(QueryValue::Timestamp);
const STATE: QueryParam = param("state", "string", "only connections in this state").with(QueryValue::State);
const ENFORCE: QueryParam = param(
    "enforce",
    "string",
    "slo: answer 503 while the SLO is not met; none: always 200; default: api.enforce_slo of the policy",
)
.with(QueryValue::Pattern("(slo|none)"));
const STATUS: QueryParam = QueryParam {
    alias_of: Some("state"),
    ..param("status", "string", "another name for the parameter state").with(QueryValue::State)
};
const UPDATED_SINCE: QueryParam = param(
    "updated_since",
    "string",
    "RFC 3339 timestamp: only connections that were changed or checked at or after it; or a registry_seq of an earlier answer: only connections with a later entry in the ledger",
);
const SOURCE_TYPE: QueryParam = param("source_type", "string", "only connections of this type");
const VERDICT: QueryParam =
    param("verdict", "string", "over, unknown, not_checked or ok, or several separated by commas; default: over")
        .with(QueryValue::Pattern("(over|unknown|not_checked|ok)(,(over|unknown|not_checked|ok))*"));
const OWNER: QueryParam = param("owner", "string", "only connections whose owner contains this text");
const FOUND_SINCE: QueryParam = param("since", "string", "only what was found at or after it").with(QueryValue::Timestamp);
const FROM_VERSION: QueryParam =
    param("from", "integer", "the earlier catalog_version to compare with; default: the one before version")
        .with(QueryValue::Integer { min: 1, max: u32::MAX as u64 });
const BREAKING: QueryParam =
    param("breaking", "string", "true: only changes that break consumers; false: only the others").with(FLAG);
const ACKNOWLEDGED: QueryParam =
    param("acknowledged", "string", "true: only changes that somebody took note of; false: only the others").with(FLAG);
const CONNECTION: QueryParam = param("connection", "string", "only changes of the connection with this id");
const FLAG: QueryValue = QueryValue::Pattern("(true|false)");
const EVENT_NAMESPACES: QueryParam =
    param("namespace", "string", "namespaces, separated by commas; default: all that the token may see, and the whole registry");
const EVENT_TYPES: QueryParam = param("type", "string", "types of events, separated by commas; default: all");
const SINCE: QueryParam = param(
    "since",
    "string",
    "only events after this event id or ledger entry, 0 for all; the header Last-Event-ID takes precedence; default: only new events",
);
const VERSION: QueryParam = param("version", "integer", "a catalog_version; default: the latest")
    .with(QueryValue::Integer { min: 0, max: u32::MAX as u64 });

const READ: Access = Access::Scope(TokenScope::RegistryRead);
const WRITE: Access = Access::Scope(TokenScope::IntentsWrite);
const HEAL: Access = Access::Scope(TokenScope::OpsHeal);
const CONFIRM: Access = Access::Scope(TokenScope::OpsConfirm);
const JSON: &str = "application/json";
const RESULT: &str = "ConnectionResult";
const HEALTH: &str = "HealthAnswer";

/// Returns a GET route without query parameters.
const fn get(
    path: &'static str,
    access: Access,
    summary: &'static str,
    answers: &'static [(u16, &'static str, &'static str)],
    handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
) -> Route {
    Route {
        method: Method::Get,
        path,
        access,
        summary,
        query: &[],
        waits: false,
        body: None,
        max_body: 0,
        answers,
        problems: &[503],
        handler,
    }
}

/// Returns a POST route that may wait for the pipeline.
const fn post(
    path: &'static str,
    access: Access,
    summary: &'static str,
    body: Option<(&'static str, bool)>,
    answers: &'static [(u16, &'static str, &'static str)],
    handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
) -> Route {
    Route {
        method: Method::Post,
        path,
        access,
        summary,
        query: &[],
        waits: true,
        body,
        max_body: onboard::MAX_BODY_BYTES,
        answers,
        problems: &[400, 408, 413, 415, 422, 503],
        handler,
    }
}
