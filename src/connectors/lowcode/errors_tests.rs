use super::super::family_spec::{AuthMethod, ResourceKind};
use super::super::spec;
use super::*;
use std::collections::BTreeSet;

fn judge(family: &str, status: u16, headers: &[(&str, &str)], body: &str) -> Option<Failure> {
    let family = crate::families::find(family).unwrap();
    let spec = spec::find(&family.id).unwrap();
    let headers: Vec<(String, String)> = headers.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
    let heard = ResponseView {
        method: "GET",
        status,
        headers: &headers,
        body: body.as_bytes(),
        url: "https://api.example/orgs/acme/teams?token=x",
    };
    let asked = ErrorContext {
        title: &family.title,
        resource: "acme",
        least_privilege: &family.least_privilege,
        stream: "teams",
        proven: true,
        base_url: "families.x.base_url in the policy",
        kind: "",
        parts: &BTreeMap::new(),
        auth: "token",
    };
    classify(Some(&spec.form.errors), &heard, &asked)
}

#[test]
fn the_error_shapes_of_the_vendors_become_failures_for_people() {
    use std::fmt::Write;
    let mut text = String::new();
    let sso = ("X-GitHub-SSO", "required; url=https://github.com/orgs/acme/sso?authorization_request=A1");
    let needs = ("x-accepted-github-permissions", "members=read");
    type Case<'a> = (&'a str, u16, Vec<(&'a str, &'a str)>, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("github", 401, vec![], r#"{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest"}"#),
        ("github", 403, vec![sso], r#"{"message":"Resource protected by organization SAML enforcement."}"#),
        ("github", 403, vec![], r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes."}"#),
        ("github", 403, vec![needs], r#"{"message":"Resource not accessible by personal access token"}"#),
        (
            "github",
            403,
            vec![("x-accepted-oauth-scopes", "admin:org, read:org"), ("x-oauth-scopes", "")],
            r#"{"message":"Must have admin rights"}"#,
        ),
        ("github", 403, vec![], r#"{"message":"Forbidden"}"#),
        ("github", 404, vec![], r#"{"message":"Not Found"}"#),
        ("github", 502, vec![], "<html><body>Unicorn!</body></html>"),
        ("github", 302, vec![("location", "/login")], ""),
        ("slack", 200, vec![], r#"{"ok":false,"error":"invalid_auth"}"#),
        ("slack", 200, vec![], r#"{"ok":false,"error":"missing_scope","needed":"channels:read","provided":"team:read"}"#),
        ("slack", 200, vec![], r#"{"ok":false,"error":"org_login_required"}"#),
        ("slack", 200, vec![], r#"{"ok":false,"error":"ratelimited"}"#),
        ("slack", 200, vec![], r#"{"ok":false,"error":"fatal_error"}"#),
        ("slack", 500, vec![], r#"{"ok":false,"error":"internal_error"}"#),
    ];
    for (family, status, headers, body) in cases {
        let failure = judge(family, status, &headers, body).unwrap();
        let wait = failure.retry_after_ms.map(|wait| format!(" after {wait} ms")).unwrap_or_default();
        writeln!(text, "{family} {status} {body}").unwrap();
        writeln!(
            text,
            "  {}{wait}: {}\n  fix: {}\n  detail: {}",
            failure.class.as_str(),
            failure.title,
            failure.fix,
            failure.detail
        )
        .unwrap();
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots");
    insta::with_settings!({snapshot_path => folder, prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("lowcode_failures", text);
    });
}

#[test]
fn what_is_fine_is_no_failure() {
    assert_eq!(judge("slack", 200, &[], r#"{"ok":true,"channels":[]}"#), None);
    assert_eq!(judge("github", 200, &[("x-github-sso", "partial-results")], "[]"), None);
    assert_eq!(judge("github", 200, &[], r#"{"message":"Bad credentials"}"#), None);
}

#[test]
fn every_rule_of_every_family_has_a_class_and_known_parts() {
    for family in crate::families::all() {
        let Some(spec) = spec::find(&family.id) else { continue };
        for rule in &spec.form.errors.rules {
            assert!(class(&rule.class).is_some(), "{}: {}", family.id, rule.class);
            assert_eq!(rule.wait.is_some(), rule.class == "throttled", "{}: {}", family.id, rule.title);
            let captured = rule.text_pattern.iter().flat_map(|pattern| pattern.0.capture_names().flatten());
            // A rule for single kinds may name their parts; any other rule only those that all kinds have.
            let kinds = &spec.form.address.kinds;
            let concerned: Vec<_> =
                kinds.iter().filter(|kind| rule.kinds.is_empty() || rule.kinds.contains(&kind.name)).collect();
            let names = |kind: &ResourceKind| kind.parts.keys().chain(kind.set.keys()).cloned().collect::<BTreeSet<String>>();
            let shared = concerned.into_iter().map(names).reduce(|all, more| all.intersection(&more).cloned().collect());
            // What every way to log in reads before all other streams.
            let first =
                |method: &AuthMethod| method.first.iter().flat_map(|first| first.parts.keys().cloned()).collect::<BTreeSet<_>>();
            let first = spec.form.auth.iter().map(first).reduce(|all, more| all.intersection(&more).cloned().collect());
            let known = ["resource", "stream", "call", "missing", "granted", "host", "base_url"].into_iter().chain(captured);
            let parts = known
                .map(str::to_string)
                .chain(shared.into_iter().chain(first).flatten())
                .map(|name| (name, String::new()))
                .collect();
            assert!(
                crate::connectors::lowcode::address::fill(&format!("{} {}", rule.title, rule.fix), &parts).is_ok(),
                "{}",
                rule.title
            );
        }
    }
}

/// A plain text has no place of the vendor's own message, but only Workday writes this one.
#[test]
fn a_text_that_only_the_vendor_writes_shows_who_answered() {
    let family = crate::families::find("workday").unwrap();
    let spec = spec::find(&family.id).unwrap();
    let judge = |body: &'static str| {
        let heard = ResponseView { method: "GET", status: 400, headers: &[], body: body.as_bytes(), url: "https://a.example/r" };
        let asked = ErrorContext {
            title: &family.title,
            resource: "r",
            least_privilege: "",
            stream: "report_itself",
            proven: false,
            base_url: "families.workday.base_url in the policy",
            kind: "report",
            parts: &BTreeMap::new(),
            auth: "basic",
        };
        classify(Some(&spec.form.errors), &heard, &asked).unwrap()
    };
    let prompt = judge("Validation error occurred. Report parameter From Moment is required.");
    assert_eq!((prompt.class, prompt.title.contains("From Moment")), (Class::Misconfigured, true), "{prompt:?}");
    assert_eq!(judge("Bad request").class, Class::WrongService);
}

/// Zoom uses the status 300 for errors, with its own text and without an address.
#[test]
fn a_redirect_without_an_address_is_an_error_of_the_vendor() {
    let body = r#"{"code":300,"message":"The next page token is either invalid or has expired."}"#;
    let failure = judge("zoom", 300, &[], body).unwrap();
    assert_eq!(failure.class, Class::Remote, "{failure:?}");
    assert!(failure.detail.contains("next page token") && !failure.title.contains("redirects"), "{failure:?}");
    let moved = judge("zoom", 301, &[("Location", "https://other.example/")], body).unwrap();
    assert_eq!(moved.class, Class::WrongService, "{moved:?}");
}

/// The body of a success is data: its fields are named, and its values are not shown.
#[test]
fn the_values_of_a_success_are_not_shown() {
    let family = crate::families::find("dropbox").unwrap();
    let body = r#"{"account_id":"dbid:1","email":"ann@acme.example","name":{"display_name":"Ann"}}"#;
    let view = ResponseView { method: "POST", status: 200, headers: &[], body: body.as_bytes(), url: "https://api.example/x" };
    let shown = vendor_message(None, &view, &Value::Null, &family.title);
    assert!(shown.contains("account_id, email, name") && !shown.contains("ann@") && !shown.contains("Ann\""), "{shown}");
    let denied = ResponseView { status: 403, body: br#"{"reason":"ann@acme.example is locked"}"#, ..view };
    let shown = vendor_message(None, &denied, &parsed(&denied), &family.title);
    assert!(shown.contains("[e-mail address] is locked"), "{shown}");
}
