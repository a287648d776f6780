//! The families of Microsoft Graph, entra and m365_sharepoint: spellings of resource ids, planned calls, and error answers with
//! the bodies that Graph is reported to send.

use super::address::AddressPolicy;
use super::binding::ParsedResource;
use super::errors::{ErrorContext, ResponseView, classify};
use super::login::auth_method;
use super::{spec, wrong_kind};
use crate::clock::{Clock, SystemClock};
use crate::credentials::{Credential, Secret};
use crate::model::{Class, Failure};
use crate::policy::parse::parse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const TENANT: &str = "6babcaad-604b-40ac-a9d7-9fd97c0b779f";
const CLIENT: &str = "535fb089-9ff3-47b6-9bfb-4f1264799865";

/// The kind, the host of the base URL and the parts of a resource id.
fn located(family: &str, id: &str) -> Result<(String, String, BTreeMap<String, String>), Failure> {
    let spec = spec::find(family).unwrap();
    let policy = AddressPolicy { family, title: "X", base_url: None, hosts: &[] };
    let (location, kind) = spec.patterns.locate(&spec.form, id, &policy)?;
    assert!(location.reviewed, "{id}: the family's file names the host");
    assert!(location.base_url.ends_with("/v1.0"), "{id}");
    Ok((kind.name.clone(), location.host, location.parts))
}

#[test]
fn tenants_are_found_in_their_cloud_by_every_spelling() {
    for (spelling, kind, host, tenant) in [
        (TENANT.to_uppercase(), "tenant", "graph.microsoft.com", TENANT),
        (format!("tenant_{TENANT}"), "tenant", "graph.microsoft.com", TENANT),
        (format!("https://login.microsoftonline.com/{TENANT}/"), "tenant", "graph.microsoft.com", TENANT),
        (format!("https://sts.windows.net/{TENANT}/"), "tenant", "graph.microsoft.com", TENANT),
        ("ACME.onmicrosoft.com".to_string(), "domain", "graph.microsoft.com", "acme.onmicrosoft.com"),
        ("acme.com".to_string(), "domain", "graph.microsoft.com", "acme.com"),
        ("acme.onmicrosoft.us".to_string(), "us_government", "graph.microsoft.us", "acme.onmicrosoft.us"),
        (format!("graph.microsoft.us/{TENANT}"), "us_government", "graph.microsoft.us", TENANT),
        (format!("https://login.microsoftonline.us/{TENANT}"), "us_government", "graph.microsoft.us", TENANT),
        (format!("dod-graph.microsoft.us/{TENANT}"), "us_defense", "dod-graph.microsoft.us", TENANT),
        ("acme.partner.onmschina.cn".to_string(), "china", "microsoftgraph.chinacloudapi.cn", "acme.partner.onmschina.cn"),
        (format!("https://login.chinacloudapi.cn/{TENANT}"), "china", "microsoftgraph.chinacloudapi.cn", TENANT),
    ] {
        let (found, at, parts) = located("entra", &spelling).unwrap();
        assert_eq!((found.as_str(), at.as_str(), parts["tenant"].as_str()), (kind, host, tenant), "{spelling}");
    }
    for id in ["acme", "", "tenant_", "6babcaad-604b-40ac-a9d7", "https://graph.evil.example/x/y", "acme..com"] {
        assert_eq!(located("entra", id).unwrap_err().class, Class::NotMappable, "{id:?}");
    }
}

#[test]
fn sites_are_found_by_what_a_browser_shows() {
    for (id, kind, path) in [
        ("https://acme.sharepoint.com", "site", ""),
        ("https://acme.sharepoint.com/", "site", ""),
        ("https://ACME.sharepoint.com/sites/Marketing", "site", "sites/Marketing"),
        ("acme.sharepoint.com:/sites/Marketing", "site", "sites/Marketing"),
        ("https://acme.sharepoint.com/sites/Marketing/Team", "site", "sites/Marketing/Team"),
        ("https://acme.sharepoint.com/sites/Marketing/SitePages/Home.aspx?e=1#x", "site", "sites/Marketing"),
        ("https://acme.sharepoint.com/sites/Marketing/Shared%20Documents/Forms/AllItems.aspx", "site", "sites/Marketing"),
        ("https://acme.sharepoint.com/sites/Marketing/Freigegebene%20Dokumente/Forms/AllItems.aspx", "site", "sites/Marketing"),
        ("https://acme.sharepoint.com/sites/Marketing/Lists/Tasks/AllItems.aspx", "site", "sites/Marketing"),
        ("https://acme.sharepoint.com/:f:/r/sites/Marketing/Shared%20Documents/Plans?csf=1&web=1", "site", "sites/Marketing"),
        ("https://acme.sharepoint.com/teams/Sales/_layouts/15/viewlsts.aspx", "site", "teams/Sales"),
        ("https://acme-my.sharepoint.com/personal/ann_acme_com", "site", "personal/ann_acme_com"),
        ("https://acme.sharepoint.us/sites/Marketing", "site_us_government", "sites/Marketing"),
        ("https://acme.sharepoint-mil.us/sites/Marketing", "site_us_defense", "sites/Marketing"),
        ("https://acme.sharepoint.cn/sites/Marketing", "site_china", "sites/Marketing"),
    ] {
        let (found, host, parts) = located("m365_sharepoint", id).unwrap();
        assert_eq!((found.as_str(), parts["path"].as_str()), (kind, path), "{id}");
        let cloud = if kind == "site" { "graph.microsoft.com" } else { host.as_str() };
        assert_eq!(host, cloud, "{id}");
    }
    assert_eq!(located("m365_sharepoint", TENANT).unwrap().0, "tenant");
    for id in [
        "acme",
        "acme.com",
        "https://acme.sharepoint.com.evil.example/sites/Marketing",
        "https://evil.example/sites/Marketing",
        "acme.sharepoint.com:/sites/..",
        "acme.sharepoint.com:/sites/../Marketing",
        "acme.sharepoint.com:/sites/a/../b",
        "acme.sharepoint.com:/sites/a?b",
        "https://acme.sharepoint.com/search",
        "acme.sharepoint.com,1,2",
    ] {
        assert_eq!(located("m365_sharepoint", id).unwrap_err().class, Class::NotMappable, "{id:?}");
    }
}

#[test]
fn the_plan_names_every_call_of_both_kinds_of_tokens() {
    let policy = parse("version: 1\nallowlist: [entra, m365_sharepoint]\n", "policy.yaml").unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let planned = |family: &str, id: &str| {
        let family = crate::families::find(family).unwrap();
        let parsed = ParsedResource::parse(family, &policy, id, &clock).unwrap_or_else(|failure| panic!("{failure:?}"));
        let calls = parsed.planned_calls(&clock);
        calls.iter().map(|call| format!("{} {}{}", call.method, call.host, call.path)).collect::<Vec<_>>()
    };
    let tenant = planned("m365_sharepoint", TENANT);
    for call in ["/sites/root", "/sites/getAllSites", "/sites", "/sites/root/drives", "/sites/root/drive/root/children"] {
        assert!(tenant.contains(&format!("GET graph.microsoft.com/v1.0{call}")), "{call}: {tenant:?}");
    }
    assert!(!tenant.iter().any(|call| call.contains("/lists")), "{tenant:?}");
    let site = planned("m365_sharepoint", "https://acme.sharepoint.com/sites/Marketing");
    let at = "GET graph.microsoft.com/v1.0/sites/acme.sharepoint.com:/sites/Marketing";
    for call in ["", ":/drives", ":/drive/root/children", ":/lists"] {
        assert!(site.contains(&format!("{at}{call}")), "{call}: {site:?}");
    }
    assert!(!site.iter().any(|call| call.contains("items")), "AAM reads no items of lists: {site:?}");
    assert!(planned("entra", "acme.onmicrosoft.us").contains(&"GET graph.microsoft.us/v1.0/organization".to_string()));
}

/// What an answer means, as class and title.
fn judged(family: &str, kind: &str, stream: &str, (status, header): (u16, &str), body: &str) -> (Class, String, String) {
    let family = crate::families::find(family).unwrap();
    let form = &spec::find(&family.id).unwrap().form;
    let headers = [("www-authenticate".to_string(), header.to_string())];
    let url = "https://graph.microsoft.com/v1.0/x";
    let response = ResponseView { method: "GET", status, headers: &headers, body: body.as_bytes(), url };
    let parts =
        [("site_host", "acme.sharepoint.com"), ("path", "sites/Marketing"), ("base_url", "https://graph.microsoft.com/v1.0")];
    let context = ErrorContext {
        title: &family.title,
        resource: "acme",
        least_privilege: &family.least_privilege,
        stream,
        proven: false,
        base_url: "families.x.base_url in the policy",
        auth: "token",
        kind,
        parts: &parts.map(|(name, value)| (name.to_string(), value.to_string())).into(),
    };
    let failure = classify(Some(&form.errors), &response, &context).expect("a failure");
    (failure.class, failure.title, failure.fix)
}

#[test]
fn answers_of_graph_become_failures_with_their_remedy() {
    let body = |code: &str, message: &str| {
        format!(
            r#"{{"error":{{"code":"{code}","message":"{message}","innerError":{{"date":"2026-01-01T00:00:00","request-id":"r"}}}}}}"#
        )
    };
    let insufficient = r#"Bearer realm="", error="insufficient_claims", claims="e30=""#;
    for (family, kind, stream, status, header, code, message, class, title) in [
        (
            "entra",
            "tenant",
            "organization",
            401,
            "",
            "InvalidAuthenticationToken",
            "Access token validation failure. Invalid audience.",
            Class::CredentialRejected,
            "another resource",
        ),
        (
            "entra",
            "tenant",
            "organization",
            401,
            "",
            "InvalidAuthenticationToken",
            "Lifetime validation failed, the token is expired.",
            Class::CredentialRejected,
            "has expired",
        ),
        (
            "entra",
            "tenant",
            "organization",
            401,
            "",
            "InvalidAuthenticationToken",
            "CompactToken parsing failed with error code: 80049217",
            Class::CredentialRejected,
            "not an access token",
        ),
        (
            "entra",
            "tenant",
            "organization",
            401,
            insufficient,
            "InvalidAuthenticationToken",
            "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenIssuedBeforeRevocationTimestamp",
            Class::CredentialRejected,
            "has revoked",
        ),
        (
            "entra",
            "tenant",
            "organization",
            401,
            insufficient,
            "InvalidAuthenticationToken",
            "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: LocationConditionEvaluationSatisfied",
            Class::PermissionDenied,
            "conditional access",
        ),
        (
            "entra",
            "tenant",
            "organization",
            401,
            "",
            "Authorization_IdentityNotFound",
            "The identity of the calling application could not be established.",
            Class::CredentialRejected,
            "not in the tenant",
        ),
        (
            "entra",
            "tenant",
            "organization",
            403,
            "",
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
            Class::PermissionDenied,
            "Organization.Read.All",
        ),
        (
            "entra",
            "tenant",
            "users",
            403,
            "",
            "Authentication_RequestFromNonPremiumTenantOrB2CTenant",
            "Neither tenant is B2C or tenant doesn't have premium license",
            Class::Misconfigured,
            "limited by the plan",
        ),
        (
            "entra",
            "tenant",
            "servicePrincipals",
            403,
            "",
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
            Class::PermissionDenied,
            "Application.Read.All",
        ),
        (
            "m365_sharepoint",
            "site",
            "site",
            403,
            "",
            "accessDenied",
            "Access denied",
            Class::PermissionDenied,
            "nor a grant for this site",
        ),
        (
            "m365_sharepoint",
            "site",
            "site",
            401,
            "",
            "generalException",
            "General exception while processing",
            Class::PermissionDenied,
            "nor a grant for this site",
        ),
        ("m365_sharepoint", "tenant", "site", 403, "", "accessDenied", "Access denied", Class::PermissionDenied, "root site"),
        (
            "m365_sharepoint",
            "tenant",
            "sites",
            403,
            "",
            "accessDenied",
            "Access denied",
            Class::PermissionDenied,
            "list the sites",
        ),
        (
            "m365_sharepoint",
            "site",
            "site",
            400,
            "",
            "invalidRequest",
            "Invalid hostname for this tenancy",
            Class::WrongService,
            "does not belong to the tenant",
        ),
        (
            "m365_sharepoint",
            "site",
            "site",
            400,
            "",
            "BadRequest",
            "Tenant does not have a SPO license.",
            Class::Misconfigured,
            "does not have SharePoint Online",
        ),
        (
            "m365_sharepoint",
            "site",
            "site",
            404,
            "",
            "itemNotFound",
            "Requested site could not be found",
            Class::NotFound,
            "three times",
        ),
        (
            "m365_sharepoint",
            "site",
            "site",
            423,
            "",
            "notAllowed",
            "Access to this site has been blocked.",
            Class::Misconfigured,
            "locked",
        ),
        (
            "m365_sharepoint",
            "site",
            "site",
            401,
            "",
            "InvalidAuthenticationToken",
            "Access token is empty.",
            Class::CredentialRejected,
            "not an access token",
        ),
    ] {
        let (found, text, fix) = judged(family, kind, stream, (status, header), &body(code, message));
        assert!(found == class && text.contains(title), "{family} {stream} {status} {message}: {found:?} {text}");
        assert!(!fix.contains('{') || fix.contains(r#"{"roles": ["read"]"#), "{fix}");
        assert!(!text.contains('{'), "{text}");
    }
    let grant = judged("m365_sharepoint", "site", "site", (403, ""), &body("accessDenied", "Access denied")).2;
    assert!(
        grant.contains("POST https://graph.microsoft.com/v1.0/sites/acme.sharepoint.com:/sites/Marketing:/permissions"),
        "{grant}"
    );
    let json = &grant[grant.find(r#"{"roles""#).unwrap()..=grant.rfind('}').unwrap()];
    let json: serde_json::Value = serde_json::from_str(json).expect("a body to paste");
    assert_eq!(json["roles"][0], "read");
}

/// An access token with these claims, whose signature is not checked.
fn token(claims: &serde_json::Value) -> Credential {
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    Credential::read(Secret::new(format!("e30.{payload}.c2ln")))
}

#[test]
fn a_token_says_itself_what_it_is_for() {
    let family = crate::families::find("m365_sharepoint").unwrap();
    let form = &spec::find("m365_sharepoint").unwrap().form;
    let methods: Vec<_> = form.auth.iter().collect();
    let method = |claims: serde_json::Value| auth_method(&methods, Some(&token(&claims)), family).unwrap().name.clone();
    assert_eq!(method(json!({"scp": "Sites.Read.All User.Read"})), "delegated");
    assert_eq!(method(json!({"roles": ["Sites.Read.All"]})), "token");
    let opaque = Credential::read(Secret::new("opaque-token-of-the-test".to_string()));
    assert_eq!(auth_method(&methods, Some(&opaque), family).unwrap().name, "token");

    let wrong = |claims: serde_json::Value| wrong_kind::check(&form.wrong_kinds, &token(&claims), family);
    for audience in ["https://graph.microsoft.com", "https://graph.microsoft.us/", "00000003-0000-0000-c000-000000000000"] {
        assert!(wrong(json!({"aud": audience})).is_none(), "{audience}");
    }
    for audience in [
        "https://acme.sharepoint.com",
        "00000003-0000-0ff1-ce00-000000000000/acme.sharepoint.com@6babcaad-604b-40ac-a9d7-9fd97c0b779f",
        "https://management.azure.com/",
        "https://graph.windows.net/",
    ] {
        let failure = wrong(json!({"aud": audience})).unwrap_or_else(|| panic!("{audience}"));
        assert!(failure.title.contains("another resource than Microsoft Graph"), "{}", failure.title);
    }
    assert!(wrong(json!({"aud": CLIENT, "nonce": "n"})).unwrap().title.contains("ID token"));
    let secret = format!("qWg8Q~{}", "a".repeat(34));
    for (text, name) in [(CLIENT, "the id of an application"), (secret.as_str(), "client secret")] {
        let stored = Credential::read(Secret::new(text.to_string()));
        let failure = wrong_kind::check(&form.wrong_kinds, &stored, family).unwrap_or_else(|| panic!("{name}"));
        assert!(failure.title.contains(name) && failure.fix.contains("kind: entra"), "{failure:?}");
    }
}
