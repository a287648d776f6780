//! The route table.

use super::*;
use crate::server::{
    calls, catalogs, consent, dashboard, drift, events, families, handoff, heal, health, history, holds, mcp, meta, onboard,
    plan, privileges, read, withdraw,
};

/// All routes.
pub static ROUTES: [Route; 42] = [
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
        query: &[PURPOSE, CALLS_SINCE, CALLS_UNTIL, LIMIT, CALL_CURSOR],
        problems: &[400, 404, 503],
        ..get(
            "/connections/{id}/calls",
            READ,
            "List the calls that were made for a connection, the newest first",
            &[(200, JSON, "CallPage")],
            |request| Box::pin(calls::calls(request)),
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
        query: &[VERSION, FROM_VERSION],
        problems: &[400, 404, 503],
        ..get(
            "/connections/{id}/drift",
            READ,
            "Get what changed between two versions of the catalog, by default the latest and the one before it",
            &[(200, JSON, "DriftAnswer")],
            |request| Box::pin(drift::drift(request)),
        )
    },
    Route {
        query: &[NAMESPACE, SOURCE_TYPE, OWNER, CONNECTION, FOUND_SINCE, BREAKING, ACKNOWLEDGED, LIMIT, SEQ_CURSOR],
        problems: &[400, 503],
        ..get(
            "/drift",
            READ,
            "List the schema changes of a namespace, newest first, and who took note of them",
            &[(200, JSON, "DriftPage")],
            |request| Box::pin(drift::list(request)),
        )
    },
    Route {
        waits: false,
        problems: &[400, 404, 408, 409, 413, 415, 422, 503],
        ..post(
            "/connections/{id}/drift/acknowledge",
            CONFIRM,
            "Record that the changes of a catalog version were taken note of; the state does not change",
            Some(("AcknowledgeRequest", true)),
            &[(200, JSON, "DriftEntry")],
            |request| Box::pin(drift::acknowledge(request)),
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
        query: &[NAMESPACE, VERDICT, STATE, STATUS, SOURCE_TYPE, OWNER, FOUND_SINCE],
        problems: &[400, 503],
        ..get(
            "/privileges",
            READ,
            "List the connections whose credential can do more than read, with what takes the excess away",
            &[(200, JSON, "PrivilegeList")],
            |request| Box::pin(privileges::list(request)),
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
        max_body: onboard::MAX_BATCH_BYTES,
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
        problems: &[400, 404, 408, 413, 415],
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
