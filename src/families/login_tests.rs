//! The facts about log-ins and OAuth in the family files.

use super::tests::shipped;
use super::*;
use crate::connectors::lowcode::{privilege, spec};
use crate::model::Privilege;
use crate::policy::credentials::{KIND_SPECS, kind_spec};

/// The names that may stand in the addresses of an OAuth 2 server.
const VALUES: [&str; 7] = ["account", "host", "site", "subdomain", "tenant", "token_host", "instance"];

/// The scopes of vendors that have none that only reads. Each must say so to the owner.
const NOT_ONLY_READING: [&str; 4] = ["api", "useraccount", "rest_webservices", "https://management.azure.com/user_impersonation"];

fn with_oauth() -> impl Iterator<Item = (&'static Arc<Family>, &'static OAuth)> {
    all().iter().filter_map(|family| Some((family, family.oauth.as_ref()?)))
}

fn addresses(oauth: &OAuth) -> impl Iterator<Item = &String> {
    [&oauth.authorize_url, &oauth.token_url].into_iter().chain(&oauth.revoke_url).chain(&oauth.issuer)
}

fn is_sentence(text: &str) -> bool {
    text.trim() == text && text.starts_with(char::is_uppercase) && text.ends_with('.') && text.split(' ').count() >= 4
}

#[test]
fn every_address_is_https_and_its_names_are_documented() {
    for (family, oauth) in with_oauth() {
        let mut used = BTreeSet::new();
        for address in addresses(oauth) {
            for part in address.split('{').skip(1) {
                used.insert(part.split('}').next().unwrap());
            }
            let filled = oauth.example(address);
            let url = url::Url::parse(&filled).unwrap_or_else(|error| panic!("{}: {filled}: {error}", family.id));
            assert!(url.scheme() == "https" && url.query().is_none() && url.fragment().is_none(), "{}: {filled}", family.id);
            assert!(!filled.contains(['{', '}']), "{}: {filled}", family.id);
        }
        let documented: BTreeSet<&str> = oauth.values.iter().map(|value| value.name.as_str()).collect();
        assert_eq!(used, documented, "{}", family.id);
        assert!(documented.iter().all(|name| VALUES.contains(name)), "{}: {documented:?}", family.id);
        assert!(oauth.values.iter().all(|value| !value.about.is_empty() && !value.example.is_empty()), "{}", family.id);
    }
}

#[test]
fn every_scope_is_explained_to_the_owner_once() {
    for (family, oauth) in with_oauth() {
        let names: BTreeSet<&String> = oauth.scopes.iter().map(|scope| &scope.name).collect();
        assert_eq!(names.len(), oauth.scopes.len(), "{} has a scope twice", family.id);
        for scope in &oauth.scopes {
            assert!(is_sentence(&scope.about), "{} {}: {}", family.id, scope.name, scope.about);
            assert!(!scope.name.contains(oauth.separator.as_str()), "{} {}", family.id, scope.name);
        }
        assert!(oauth.note.as_deref().is_none_or(is_sentence), "{}: {:?}", family.id, oauth.note);
        assert!(!oauth.scopes.is_empty() || oauth.note.is_some(), "{} says nothing about its rights", family.id);
        assert!(oauth.source.starts_with('['), "{} has no mark", family.id);
    }
}

/// A scope only reads, unless the vendor has none that does; then the text says how to limit the grant.
#[test]
fn every_scope_only_reads() {
    let mut not_only_reading = BTreeSet::new();
    for (family, oauth) in with_oauth() {
        for name in oauth.scopes.iter().map(|scope| &scope.name).chain(&oauth.app_scopes) {
            // The host of a scope that is an address says nothing about what the scope allows.
            let lower = name.rsplit('/').next().unwrap().to_lowercase();
            let writes = ["write", "manage", "admin:", "full", "delete", "create", "send", "join", "modify"];
            assert!(!writes.iter().any(|word| lower.contains(word)), "{} {name}", family.id);
            if NOT_ONLY_READING.contains(&name.as_str()) {
                let about = oauth.scopes.iter().find(|scope| scope.name == *name).unwrap();
                assert!(about.about.contains("no scope that only reads"), "{} {name}", family.id);
                assert!(oauth.note.as_ref().is_some_and(|note| note.contains("no scope that only reads")), "{}", family.id);
                not_only_reading.insert(name.as_str());
            } else if !OFFLINE_SCOPES.contains(&name.as_str()) && lower != ".default" {
                assert!(lower.contains("read"), "{} {name} is not known to only read", family.id);
            }
        }
        if let Some(spec) = spec::find(&family.id) {
            let rules = &spec.form.privilege;
            // A scope may be written as an address, whose last segment is its name; `.default` stands for all grants.
            let named = oauth.principal_scopes().into_iter().filter(|scope| !scope.ends_with("/.default"));
            for scope in named {
                let short = scope.rsplit('/').next().unwrap().to_string();
                let is_ok = |name: &String| {
                    let grants = std::slice::from_ref(name);
                    privilege::verdict(rules, grants) == Privilege::Ok && privilege::content(rules, grants).is_empty()
                };
                // What the vendor's scope allows is decided elsewhere, for example by a role.
                let by_role = NOT_ONLY_READING.contains(&scope.as_str())
                    && rules.elsewhere.keys().any(|glob| privilege::fits(glob, &scope))
                    && matches!(privilege::verdict(rules, std::slice::from_ref(&scope)), Privilege::Unknown { .. });
                assert!(
                    by_role || is_ok(&scope) || is_ok(&short),
                    "{}: {scope} does more than read, or reads content",
                    family.id
                );
            }
        }
    }
    assert_eq!(not_only_reading, BTreeSet::from(NOT_ONLY_READING));
}

#[test]
fn a_service_principal_does_not_ask_for_a_refresh_token() {
    for (family, oauth) in with_oauth() {
        let scopes = oauth.principal_scopes();
        assert!(!scopes.iter().any(|scope| OFFLINE_SCOPES.contains(&scope.as_str())), "{}: {scopes:?}", family.id);
    }
    let scopes = |id: &str| find(id).unwrap().oauth.as_ref().unwrap().principal_scopes();
    assert_eq!(scopes("jira"), ["read:jira-work", "read:jira-user"]);
    assert_eq!(scopes("entra"), ["https://graph.microsoft.com/.default"]);
    assert!(scopes("snowflake").is_empty());
}

/// Families whose vendors use OAuth 2 have its facts, and consent works exactly for these. An OpenAPI service brings its own
/// authorization server, which the policy names.
#[test]
fn consent_works_where_the_vendor_uses_oauth() {
    for family in all() {
        assert_eq!(family.accepts_consent(), family.oauth.is_some() || &*family.id == "openapi", "{}", family.id);
    }
    let without: Vec<&str> = shipped().filter(|family| family.oauth.is_none()).map(|family| &*family.id).collect();
    let expected = ["aws_org", "filesource", "jdbc", "mongo", "openapi", "postgres", "redshift", "s3", "s3_compat", "supabase"];
    assert_eq!(without, expected);
}

#[test]
fn every_way_to_log_in_is_described() {
    let mut used = BTreeSet::new();
    for family in all() {
        assert!(family.login_source.starts_with('['), "{} has no mark", family.id);
        assert_eq!(family.login.is_empty(), &*family.id == "filesource", "{}", family.id);
        let names: BTreeSet<&String> = family.login.iter().map(|login| &login.name).collect();
        assert_eq!(names.len(), family.login.len(), "{} has a way twice", family.id);
        for login in &family.login {
            let fields: BTreeSet<&String> = login.fields.iter().map(|field| &field.name).collect();
            assert_eq!(fields.len(), login.fields.len(), "{} {}: a field twice", family.id, login.name);
            assert!(!login.about.is_empty() && login.fields.iter().all(|field| !field.about.is_empty()), "{}", family.id);
            assert!(login.required().next().is_some(), "{} {} needs nothing", family.id, login.name);
            // An access token of a consent is a text.
            assert!(!login.consent || login.plain.is_some(), "{} {}", family.id, login.name);
            let find = |kind: &String| kind_spec(kind).unwrap_or_else(|| panic!("{}: there is no kind {kind}", family.id));
            let specs: Vec<_> = login.principals.iter().map(find).collect();
            used.extend(specs.iter().map(|spec| spec.name));
            // An example of a kind shows the settings that the kind has.
            let is_shown = |key: &String| specs.iter().any(|spec| spec.has(key));
            assert!(login.settings.keys().all(is_shown), "{} {}: {:?}", family.id, login.name, login.settings);
        }
    }
    assert_eq!(used, KIND_SPECS.iter().map(|spec| spec.name).collect(), "a kind that no family uses");
}

/// The engine `lowcode` reads a text that is not JSON as one field, or as a pair.
#[test]
fn a_method_of_the_engine_lowcode_has_the_fields_of_its_way_to_log_in() {
    let github = &spec::find("github").unwrap().form.auth;
    let needs: Vec<(&str, Vec<&str>)> =
        github.iter().map(|method| (method.name.as_str(), method.needs.iter().map(String::as_str).collect())).collect();
    let app = vec!["app_id", "installation_id", "private_key"];
    assert_eq!(needs, [("app", app), ("installation_token", vec!["token"]), ("token", vec!["token"])]);
    for family in all().iter().filter(|family| &*family.engine == "lowcode") {
        for login in &family.login {
            // A text is one field, or a pair that a colon separates.
            if let Some(form) = &login.plain {
                assert_eq!(form.split(':').count(), login.required().count(), "{} {}", family.id, login.name);
            }
        }
    }
    let text = TEXTS.iter().find(|(name, _)| *name == "slack").unwrap().1;
    let family = parse(&text.replace("- {name: token, health", "- {name: token, login: other, health")).unwrap();
    assert_eq!(spec::Spec::from_family(&family).unwrap_err(), "login has no way other");
}
