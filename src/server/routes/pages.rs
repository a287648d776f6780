//! The pages for people.

use super::*;
use crate::server::dashboard::HTML;
use crate::server::{events, ui};

const SEE: Access = Access::Page(TokenScope::RegistryRead);

/// Returns a page that can show a past instant.
const fn page(
    path: &'static str,
    summary: &'static str,
    query: &'static [QueryParam],
    handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
) -> Route {
    Route { query, problems: &[400, 404, 503], ..get(path, SEE, summary, &[(200, HTML, "")], handler) }
}

const BEFORE: QueryParam = param("before", "string", "only entries of the timeline before this entry of the ledger");
const ATTEMPT: QueryParam = param("attempt", "string", "the entry of the attempt whose steps are shown; default: the latest");
const STREAM: QueryParam = param("stream", "string", "only streams whose names contain this text");
const SKIP: QueryParam = param("skip", "string", "the number of streams to leave out");
const CALLS: QueryParam = param("calls", "string", "only calls before this one");
const DONE: QueryParam = param("done", "string", "what the reader has just done");

const RANGE: QueryParam =
    param("range", "string", "how far back the trend goes; default: 24h").with(QueryValue::Pattern("(24h|7d|30d)"));

const SEARCH: QueryParam =
    param("q", "string", "terms that all have to occur: family, resource ids, owner, cause, locator, or the beginning of an id");
const STATES: QueryParam = param("state", "string", "states, separated by commas; default: all but RETIRED");
const FAMILIES: QueryParam = param("family", "string", "source types, separated by commas");
const OWNERS: QueryParam = param("owner", "string", "owners, separated by commas; write a comma within a name as %2C");
const RISKS: QueryParam = param("risk", "string", "risks, separated by commas");
const WARNINGS: QueryParam = param("warning", "string", "classes of warnings, separated by commas");
const CAUSES: QueryParam = param("cause", "string", "keys of causes, separated by commas");
const STAGES: QueryParam = param("stage", "string", "stages of the funnel, separated by commas");
const SORT: QueryParam =
    param("sort", "string", "urgency, age, family, resource or owner, with - before it for the reverse order; default: urgency");
const PAGE: QueryParam = param("page", "integer", "the number of the page, from 1")
    .with(QueryValue::Integer { min: 1, max: ui::connections::MAX_PAGE as u64 });

/// Returns the action of a form.
const fn action(
    path: &'static str,
    scope: TokenScope,
    summary: &'static str,
    handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
) -> Route {
    Route {
        method: Method::Post,
        query: &[NAMESPACE],
        max_body: 64 << 10,
        problems: &[400, 404, 409, 503],
        ..get(path, Access::Page(scope), summary, &[(303, HTML, "")], handler)
    }
}

const ENTRY: QueryValue = QueryValue::Pattern("[0-9]{1,19}");
const ENTRIES_BEFORE: QueryParam = param("before", "string", "only what is before this entry of the ledger").with(ENTRY);
const FROM_ENTRY: QueryParam =
    param("from", "string", "the entry of the policy to compare with; default: the one before to").with(ENTRY);
const TO_ENTRY: QueryParam = param("to", "string", "the entry of the policy to compare; default: the last one").with(ENTRY);
const ALL_NAMESPACES: QueryParam =
    param("all", "string", "true: entries of all namespaces that the reader may read; default: of one").with(FLAG);

/// Returns a page for readers who are not signed in.
const fn sign_in(
    method: Method,
    path: &'static str,
    summary: &'static str,
    answers: &'static [(u16, &'static str, &'static str)],
    handler: fn(ApiRequest) -> BoxFuture<'static, ApiResult>,
) -> Route {
    Route {
        method,
        max_body: ui::sign_in::MAX_FORM_BYTES,
        problems: &[400, 503],
        ..get(path, Access::SignIn, summary, answers, handler)
    }
}

/// All pages.
pub static PAGES: [Route; 19] = [
    page("/", "Home: coverage, funnel, trend, and what needs attention", &[NAMESPACE, AT, RANGE], |request| {
        Box::pin(ui::home::page(request))
    }),
    Route {
        answers: &[(200, ui::connections::CSV, "")],
        ..page(
            "/ui/attention.csv",
            "Every connection that is not ACTIVE, by cause, with its fix",
            &[NAMESPACE, AT, CAUSES],
            |request| Box::pin(ui::home::attention_csv(request)),
        )
    },
    Route {
        answers: &[(200, events::EVENT_STREAM, "")],
        ..page("/ui/live", "Says to an open page that something changed", &[NAMESPACE], |request| {
            Box::pin(ui::live::events(request))
        })
    },
    page(
        "/ui/connections",
        "The connections: search, filters, order and pages",
        &[NAMESPACE, AT, SEARCH, STATES, FAMILIES, OWNERS, RISKS, WARNINGS, CAUSES, STAGES, SORT, PAGE],
        |request| Box::pin(ui::connections::page(request)),
    ),
    Route {
        answers: &[(200, ui::connections::CSV, "")],
        ..page(
            "/ui/connections.csv",
            "All connections of a list as CSV",
            &[NAMESPACE, AT, SEARCH, STATES, FAMILIES, OWNERS, RISKS, WARNINGS, CAUSES, STAGES, SORT],
            |request| Box::pin(ui::connections::csv(request)),
        )
    },
    page(
        "/ui/connections/{id}",
        "A connection: its state with the fix, its steps, history, catalog, calls, privilege, credential and intent",
        &[NAMESPACE, AT, BEFORE, ATTEMPT, VERSION, FROM_VERSION, STREAM, SKIP, CALLS, DONE],
        |request| Box::pin(ui::connection::page(request)),
    ),
    action("/ui/connections/{id}/verify", TokenScope::OpsHeal, "Check a connection now", |request| {
        Box::pin(ui::connection::verify(request))
    }),
    action("/ui/connections/{id}/withdraw", TokenScope::IntentsWrite, "Withdraw the intents of a connection", |request| {
        Box::pin(ui::connection::withdraw(request))
    }),
    page(
        "/ui/policy",
        "Policy: what is in force, what it allows, what changed, and when",
        &[NAMESPACE, AT, ENTRIES_BEFORE, FROM_ENTRY, TO_ENTRY],
        |request| Box::pin(ui::policy::page(request)),
    ),
    page(
        "/ui/families",
        "Families: which sources AAM can connect, and the budget that is used today",
        &[NAMESPACE, AT],
        |request| Box::pin(ui::families::list(request)),
    ),
    page(
        "/ui/families/{name}",
        "A family: what an intent and a credential need, and what AAM reads",
        &[NAMESPACE, AT],
        |request| Box::pin(ui::families::one(request)),
    ),
    page("/ui/problems", "Problems: files, policy, registry, webhooks, and changes that are held", &[NAMESPACE, AT], |request| {
        Box::pin(ui::problems::page(request))
    }),
    page(
        "/ui/ledger",
        "Ledger: its head, its newest entries, and how to prove that nothing was changed",
        &[NAMESPACE, AT, ENTRIES_BEFORE, ALL_NAMESPACES],
        |request| Box::pin(ui::ledger::page(request)),
    ),
    page("/ui/about", "About: version, process, health, and limits in force", &[NAMESPACE, AT], |request| {
        Box::pin(ui::about::page(request))
    }),
    sign_in(Method::Get, "/ui/sign-in", "Sign in", &[(200, HTML, "")], |request| Box::pin(ui::sign_in::page(request))),
    sign_in(
        Method::Post,
        "/ui/sign-in",
        "Sign in with a token: the form of the page",
        &[(303, HTML, ""), (401, HTML, ""), (403, HTML, "")],
        |request| Box::pin(ui::sign_in::sign_in(request)),
    ),
    sign_in(Method::Post, "/ui/sign-out", "Sign out", &[(303, HTML, "")], |request| Box::pin(ui::sign_in::sign_out(request))),
    sign_in(
        Method::Get,
        "/ui/oidc/begin",
        "Go to the issuer of api.oidc to sign in",
        &[(303, HTML, ""), (502, HTML, "")],
        |request| Box::pin(ui::oidc::begin(request)),
    ),
    sign_in(
        Method::Get,
        "/ui/oidc/callback",
        "Where the issuer sends the browser back; the parameters are those of RFC 6749, section 4.1.2",
        &[(200, HTML, ""), (400, HTML, ""), (403, HTML, ""), (502, HTML, "")],
        |request| Box::pin(ui::oidc::callback(request)),
    ),
];
