//! The route table, from which the router, the token and query checks and the OpenAPI document are built.

use super::request::{ApiRequest, ApiResult};
use super::{
    catalogs, consent, dashboard, drift, events, families, handoff, heal, health, history, holds, mcp, meta, onboard, plan, read,
    withdraw,
};
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
const AT: QueryParam = param("at", "string", "the funnel as of that instant; default: now").with(QueryValue::Timestamp);
const STATE: QueryParam = param("state", "string", "only connections in this state").with(QueryValue::State);
const ENFORCE: QueryParam = param(
    "enforce",
    "string",
    "slo: answer 503 while the SLO is not met; none: always 200; default: api.enforce_slo of the policy",
);
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

/// All routes.
pub static ROUTES: [Route; 39] = [
    Route {
        problems: &[400, 408, 409, 413, 415, 422, 503],
        ..post(
            "/connections/onboard",
            WRITE,
            "Push one intent",
            Some(("connection_intent", false)),
            &[(201, JSON, RESULT), (200, JSON, RESULT), (202, JSON, RESULT)],
            |request| Box::pin(onboard::onboard(request)),
        )
    },
    Route {
        max_body: onboard::MAX_BATCH_BYTES,
        ..post(
            "/connections/onboard/batch",
            WRITE,
            "Push many intents; an invalid one does not affect the others",
            Some(("IntentBatch", false)),
            &[(200, JSON, "BatchAnswer"), (202, JSON, "BatchAnswer")],
            |request| Box::pin(onboard::batch(request)),
        )
    },
    Route {
        query: &[NAMESPACE, STATE, STATUS, SOURCE_TYPE, UPDATED_SINCE, LIMIT, CURSOR],
        problems: &[400, 503],
        ..get(
            "/connections",
            READ,
            "List the connections of a namespace, in pages",
            &[(200, JSON, "ConnectionPage")],
            |request| Box::pin(read::list(request)),
        )
    },
    Route {
        problems: &[400, 408, 413, 415, 422, 503],
        ..post(
            "/connections/heal",
            HEAL,
            "Check connections now; only a check that passes makes one ACTIVE",
            Some(("HealRequest", true)),
            &[(200, JSON, "HealAnswer"), (202, JSON, "HealAnswer")],
            |request| Box::pin(heal::heal_many(request)),
        )
    },
    Route {
        problems: &[404, 409, 503],
        ..post(
            "/connections/{id}/health-check",
            HEAL,
            "Check one connection now and get its health; the path of the predecessor",
            None,
            &[(200, JSON, HEALTH), (202, JSON, HEALTH)],
            |request| Box::pin(heal::health_check(request)),
        )
    },
    Route {
        problems: &[404, 409, 503],
        ..post(
            "/connections/{id}/heal",
            HEAL,
            "Check one connection now; only a check that passes makes it ACTIVE",
            None,
            &[(200, JSON, RESULT), (202, JSON, RESULT)],
            |request| Box::pin(heal::heal_one(request)),
        )
    },
    Route {
        problems: &[404, 503],
        ..get(
            "/connections/{id}",
            READ,
            "Get one connection with the steps of its latest attempt",
            &[(200, JSON, RESULT)],
            |request| Box::pin(read::connection(request)),
        )
    },
    Route {
        problems: &[404, 503],
        ..get(
            "/connections/{id}/health",
            READ,
            "Get the health of a connection and the counters of its last tiny sync",
            &[(200, JSON, HEALTH)],
            |request| Box::pin(health::one(request)),
        )
    },
    Route {
        query: &[NAMESPACE, STATE, STATUS, SOURCE_TYPE, UPDATED_SINCE, LIMIT, CURSOR],
        problems: &[400, 503],
        ..get(
            "/connections/health",
            READ,
            "List the health of the connections of a namespace, in pages; the path of the predecessor",
            &[(200, JSON, "HealthPage")],
            |request| Box::pin(health::list(request)),
        )
    },
    Route {
        problems: &[404, 503],
        ..get(
            "/connections/health/{id}",
            READ,
            "Get the health of a connection; the path of the predecessor",
            &[(200, JSON, HEALTH)],
            |request| Box::pin(health::one(request)),
        )
    },
    Route {
        query: &[LIMIT, SEQ_CURSOR],
        problems: &[400, 404, 503],
        ..get(
            "/connections/{id}/versions",
            READ,
            "Get the append-only history of a connection, newest first",
            &[(200, JSON, "VersionPage")],
            |request| Box::pin(history::versions(request)),
        )
    },
    Route {
        query: &[VERSION, STREAM_LIMIT, STREAM_CURSOR],
        problems: &[400, 404, 503],
        ..get(
            "/connections/{id}/catalog",
            READ,
            "Get the catalog of a connection, in any version, in pages",
            &[(200, JSON, "CatalogAnswer")],
            |request| Box::pin(history::catalog(request)),
        )
    },
    Route {
        query: &[EVENT_NAMESPACES, EVENT_TYPES, SINCE],
        problems: &[400, 503],
        ..get(
            "/events",
            READ,
            "Read what happens as server-sent events; a reader that was cut continues after the last event it received",
            &[(200, events::EVENT_STREAM, "")],
            |request| Box::pin(events::events(request)),
        )
    },
    Route {
        query: &[VERSION],
        problems: &[400, 404, 503],
        ..get(
            "/connections/{id}/drift",
            READ,
            "Get what changed between a version of the catalog and the one before it",
            &[(200, JSON, "DriftAnswer")],
            |request| Box::pin(drift::drift(request)),
        )
    },
    Route {
        query: &[NAMESPACE, SOURCE_TYPE],
        problems: &[400, 503],
        ..get(
            "/catalogs",
            READ,
            "Export the catalogs of all ACTIVE connections as JSON lines, one line for each stream",
            &[(200, catalogs::LINES, "CatalogLine")],
            |request| Box::pin(catalogs::export(request)),
        )
    },
    Route {
        query: &[NAMESPACE, LIMIT],
        problems: &[400, 503],
        ..get(
            "/plan",
            READ,
            "List the next checks of the connections of a namespace, with the calls that they may make",
            &[(200, JSON, "PlanAnswer")],
            |request| Box::pin(plan::plan(request)),
        )
    },
    Route {
        method: Method::Delete,
        problems: &[404, 409, 503],
        ..get(
            "/connections/{id}",
            WRITE,
            "Withdraw what was pushed for a connection, which retires it; its history stays readable",
            &[(200, JSON, RESULT)],
            |request| Box::pin(withdraw::delete(request)),
        )
    },
    Route {
        waits: false,
        problems: &[400, 408, 409, 413, 415, 422, 503],
        ..post(
            "/api/handoff/aod/receive",
            WRITE,
            "Hand over the candidates of a discovery run; the policy supplies what they lack",
            Some(("HandoffBody", false)),
            &[(200, JSON, "HandoffAnswer")],
            |request| Box::pin(handoff::receive(request)),
        )
    },
    Route {
        query: &[NAMESPACE, LIMIT, SEQ_CURSOR],
        problems: &[400, 503],
        ..get(
            "/api/handoff/aod",
            READ,
            "List the handoffs of a namespace, newest first",
            &[(200, JSON, "HandoffPage")],
            |request| Box::pin(handoff::list(request)),
        )
    },
    Route {
        query: &[LIMIT, SEQ_CURSOR],
        problems: &[400, 404, 503],
        ..get(
            "/api/handoff/aod/{handoff_id}",
            READ,
            "Get a handoff and what became of its candidates, with the state of their connections",
            &[(200, JSON, "HandoffDetail")],
            |request| Box::pin(handoff::detail(request)),
        )
    },
    Route {
        query: &[NAMESPACE],
        problems: &[400, 503],
        ..get(
            "/holds",
            READ,
            "List the changes that are held because they would make many connections leave at once",
            &[(200, JSON, "HoldList")],
            |request| Box::pin(holds::list(request)),
        )
    },
    Route {
        waits: false,
        problems: &[404, 409, 503],
        ..post(
            "/holds/{digest}/confirm",
            CONFIRM,
            "Confirm exactly the held change with this digest",
            None,
            &[(200, JSON, "ConfirmAnswer")],
            |request| Box::pin(holds::confirm(request)),
        )
    },
    Route {
        query: &[NAMESPACE, AT, ENFORCE],
        problems: &[400, 503],
        ..get(
            "/metrics/funnel",
            READ,
            "Get funnel and SLO, now or as of an instant; with enforce=slo, 503 while the SLO is not met",
            &[(200, JSON, "Funnel"), (503, JSON, "Funnel")],
            |request| Box::pin(read::metrics_funnel(request)),
        )
    },
    get("/metrics", READ, "Get metrics in the OpenMetrics format for Prometheus", &[(200, meta::METRICS, "")], |request| {
        Box::pin(meta::prometheus(request))
    }),
    Route {
        query: &[NAMESPACE],
        problems: &[400, 503],
        ..get(
            "/",
            READ,
            "Get the dashboard; in a browser, enter the token as the password",
            &[(200, dashboard::HTML, "")],
            |request| Box::pin(dashboard::html(request)),
        )
    },
    Route {
        query: &[NAMESPACE],
        problems: &[400, 503],
        ..get("/dashboard.json", READ, "Get the data of the dashboard", &[(200, JSON, "Dashboard")], |request| {
            Box::pin(dashboard::data(request))
        })
    },
    get("/families", READ, "List the families of sources", &[(200, JSON, "FamilyList")], |request| {
        Box::pin(families::list(request))
    }),
    Route {
        problems: &[404, 503],
        ..get(
            "/families/{name}",
            READ,
            "Get what an intent and a credential of a family or custom source need, with examples",
            &[(200, JSON, "FamilyGuide")],
            |request| Box::pin(families::family(request)),
        )
    },
    Route {
        problems: &[],
        ..get(
            "/consent/{id}",
            Access::Link,
            "Get the page on which an owner lets AAM read a system; after that, it shows the state of the connection",
            &[(200, dashboard::HTML, ""), (404, dashboard::HTML, ""), (410, dashboard::HTML, ""), (503, dashboard::HTML, "")],
            |request| Box::pin(consent::page(request)),
        )
    },
    Route {
        waits: false,
        problems: &[],
        ..post(
            "/consent/{id}",
            Access::Link,
            "Go to the consent page of the vendor: the button of the page",
            None,
            &[(303, dashboard::HTML, ""), (404, dashboard::HTML, ""), (410, dashboard::HTML, ""), (503, dashboard::HTML, "")],
            |request| Box::pin(consent::begin(request)),
        )
    },
    Route {
        problems: &[],
        ..get(
            "/consent/callback",
            Access::Link,
            "Where the vendor sends the browser after the consent; the parameters are those of RFC 6749, section 4.1.2",
            &[(303, dashboard::HTML, ""), (400, dashboard::HTML, ""), (403, dashboard::HTML, ""), (502, dashboard::HTML, "")],
            |request| Box::pin(consent::callback(request)),
        )
    },
    Route {
        waits: false,
        problems: &[404, 408, 413, 415],
        ..post(
            "/mcp",
            READ,
            "Use the API as tools over the Model Context Protocol (streamable HTTP); only with api.mcp in the policy",
            Some(("McpMessage", false)),
            &[(200, JSON, "McpMessage"), (202, JSON, "")],
            |request| Box::pin(mcp::http::endpoint(request)),
        )
    },
    get("/healthz", Access::Open, "Liveness: the process runs", &[(200, JSON, "StatusAnswer")], |request| {
        Box::pin(meta::healthz(request))
    }),
    get(
        "/readyz",
        Access::Open,
        "Readiness: the intents folder was read and the registry can write",
        &[(200, JSON, "StatusAnswer")],
        |request| Box::pin(meta::readyz(request)),
    ),
    get("/health", Access::Open, "Liveness, at the path of the predecessor", &[(200, JSON, "ServiceHealth")], |request| {
        Box::pin(meta::health(request))
    }),
    get("/api/health", Access::Open, "Liveness, at the path of the predecessor", &[(200, JSON, "ServiceHealth")], |request| {
        Box::pin(meta::health(request))
    }),
    get("/version", Access::Open, "Get version, process id and registry of this AAM", &[(200, JSON, "ServerInfo")], |request| {
        Box::pin(meta::version(request))
    }),
    get("/openapi.json", Access::Open, "Get this document", &[(200, JSON, "")], |request| Box::pin(meta::document(request))),
    get(
        "/schemas/connection_intent.json",
        Access::Open,
        "Get the JSON Schema that intents are validated against",
        &[(200, "application/schema+json", "")],
        |request| Box::pin(meta::intent_schema(request)),
    ),
];
