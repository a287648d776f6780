//! Operation ids and tags. Generated clients make the names of their functions and modules from them.

use crate::server::routes::{Method, Route};

/// The operation ids that are not made from the method and the path by [`operation_id`].
const IDS: [(Method, &str, &str); 32] = [
    (Method::Post, "/connections/onboard", "onboard_connection"),
    (Method::Post, "/connections/onboard/batch", "onboard_connections"),
    (Method::Get, "/connections", "list_connections"),
    (Method::Post, "/connections/heal", "heal_connections"),
    (Method::Post, "/connections/{id}/heal", "heal_connection"),
    (Method::Get, "/connections/{id}/versions", "list_connection_versions"),
    (Method::Get, "/metrics/funnel", "get_funnel"),
    (Method::Get, "/", "get_dashboard_page"),
    (Method::Get, "/families", "list_families"),
    (Method::Get, "/families/{name}", "get_family"),
    (Method::Get, "/catalogs", "export_catalogs"),
    (Method::Get, "/plan", "get_plan"),
    (Method::Get, "/drift", "list_drift"),
    (Method::Post, "/connections/{id}/drift/acknowledge", "acknowledge_drift"),
    (Method::Get, "/privileges", "list_privileges"),
    (Method::Get, "/events", "stream_events"),
    (Method::Get, "/consent/{id}", "get_consent_page"),
    (Method::Post, "/consent/{id}", "begin_consent"),
    (Method::Get, "/consent/callback", "finish_consent"),
    (Method::Get, "/healthz", "get_liveness"),
    (Method::Get, "/readyz", "get_readiness"),
    (Method::Get, "/openapi.json", "get_openapi_document"),
    (Method::Get, "/schemas/connection_intent.json", "get_intent_schema"),
    (Method::Post, "/connections/{id}/health-check", "check_connection_health"),
    (Method::Get, "/connections/health", "list_connection_health"),
    (Method::Post, "/mcp", "call_mcp"),
    (Method::Delete, "/connections/{id}", "withdraw_connection"),
    (Method::Post, "/api/handoff/aod/receive", "receive_handoff"),
    (Method::Get, "/api/handoff/aod", "list_handoffs"),
    (Method::Get, "/api/handoff/aod/{handoff_id}", "get_handoff"),
    (Method::Get, "/holds", "list_holds"),
    (Method::Post, "/holds/{digest}/confirm", "confirm_hold"),
];

/// The tags in the order of the document, with their descriptions.
pub const TAGS: [(&str, &str); 8] = [
    ("connections", "Push intents; read, check and explain connections."),
    ("catalogs", "The structure of the connected sources, for data catalogs."),
    ("metrics", "Funnel, service level and metrics."),
    ("families", "What this AAM can connect, and what an intent and a credential need."),
    ("dashboard", "The dashboard for people."),
    ("consents", "The pages on which owners let AAM read a system."),
    ("integrations", "Endpoints for particular programs."),
    ("service", "The process itself."),
];

/// Returns the operation id of a route: a verb and what it acts on.
#[must_use]
pub fn operation_id(route: &Route, method: &str) -> String {
    if let Some((_, _, id)) = IDS.iter().find(|(verb, path, _)| *verb == route.method && *path == route.path) {
        return (*id).to_string();
    }
    let segments: Vec<&str> = route.path.split('/').filter(|part| !part.is_empty()).collect();
    let mut words = vec![method.to_string()];
    for (index, segment) in segments.iter().enumerate() {
        let belongs_to_one = segments.get(index + 1).is_some_and(|next| next.starts_with('{'));
        match segment.strip_suffix('s').filter(|_| belongs_to_one) {
            _ if segment.starts_with('{') => {}
            Some(singular) => words.push(singular.to_string()),
            None => words.push(segment.trim_end_matches(".json").to_string()),
        }
    }
    words.join("_").replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_lowercase()
}

/// Returns the tag of a path.
#[must_use]
pub fn tag(path: &str) -> &'static str {
    match path.split('/').nth(1).unwrap_or_default() {
        _ if path.ends_with("/catalog") => "catalogs",
        "connections" | "events" | "holds" | "plan" | "privileges" => "connections",
        "catalogs" | "drift" => "catalogs",
        "metrics" => "metrics",
        "families" => "families",
        "" | "dashboard.json" => "dashboard",
        "consent" => "consents",
        "api" | "mcp" => "integrations",
        _ => "service",
    }
}
