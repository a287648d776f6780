use super::*;
use crate::connectors::openapi::auth::{Scheme, for_scheme};
use crate::connectors::{BindRequest, mongo, sql};
use crate::credentials::{Credential, Secret, access_key};
use crate::families::Login;
use crate::family_guide::{FormExample, FormGuide, forms, json_credential, policy_text};
use crate::model::Locator;
use crate::policy::credentials::kind_spec;
use crate::policy::grants::is_process_variable;
use crate::policy::{Policy, parse::parse};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

fn providers() -> Arc<Providers> {
    let clock = clock::from_env();
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    Providers::new(egress, clock, Process::Test)
}

fn guides() -> Vec<(&'static Arc<Family>, Vec<FormGuide>)> {
    let providers = providers();
    families::all().iter().map(|family| (family, forms(family, &providers))).collect()
}

fn policy(family: &Family, example: &FormExample) -> Policy {
    let text = policy_text(family, &example.policy);
    parse(&text, "example").unwrap_or_else(|problems| panic!("{}: {text}\n{problems:?}", family.id))
}

/// What `aam families NAME` prints can be pasted: the policy accepts every entry, and the entry describes the locator.
#[test]
fn every_example_is_accepted_by_the_policy() {
    for (family, forms) in guides() {
        for (form, example) in forms.iter().flat_map(|form| form.examples.iter().map(move |example| (form.form, example))) {
            let policy = policy(family, example);
            let locator = Locator::parse(&example.locator).unwrap_or_else(|error| panic!("{}: {error}", example.locator));
            assert!(form.starts_with(locator.scheme()) && !is_process_variable(&locator), "{}", example.locator);
            let credentials = &policy.credentials;
            match &locator {
                Locator::File(path) => assert!(credentials.files.iter().any(|folder| path.starts_with(folder.to_str().unwrap()))),
                Locator::Vault(_) => {
                    assert!(credentials.vault.as_ref().is_some_and(|vault| vault.path.is_some()));
                    assert!(example.calls.iter().any(|call| call.contains("vault.acme.example:8200/v1/")), "{example:?}");
                }
                Locator::ServicePrincipal(name) => {
                    let principal = &credentials.principals[name];
                    assert!(kind_spec(principal.kind).is_some());
                    assert_eq!(example.calls.len(), principal.calls().len(), "{}: {}", family.id, example.policy);
                }
                Locator::Consent(name) => {
                    assert_eq!(credentials.consents[name].family, *family.id);
                    assert_eq!(example.calls.len(), 1, "{example:?}");
                }
                _ => assert!(example.policy.is_empty()),
            }
        }
    }
}

/// Every family has an example of each form that it supports, and a form that it does not support has none.
#[test]
fn each_way_to_log_in_has_its_examples() {
    for (family, forms) in guides() {
        let of = |form: &str| {
            let of_form = forms.iter().filter(|guide| guide.form.starts_with(form)).flat_map(|guide| &guide.examples);
            of_form.map(|example| example.login.clone()).collect::<BTreeSet<_>>()
        };
        let names = |fits: &dyn Fn(&Login) -> bool| -> BTreeSet<String> {
            family.login.iter().filter(|login| fits(login)).map(|login| login.name.clone()).collect()
        };
        for form in ["env:", "file:", "vault:"] {
            assert_eq!(of(form), names(&|_| true), "{} {form}", family.id);
        }
        assert_eq!(of("sp:"), names(&|login| !login.principals.is_empty()), "{}", family.id);
        assert_eq!(of("consent:"), names(&|login| login.consent), "{}", family.id);
    }
}

/// Checks that the engine of the family reads the credential.
fn assert_read(family: &Arc<Family>, login: &Login, text: &str) {
    let credential = Credential::read(Secret::new(text.to_string()));
    let read = match &*family.engine {
        "sql" => match sql::uri::parse("db.acme.example:5432/shop") {
            Ok(sql::uri::DatabaseLocation::Server(server)) => sql::login::from_credential(Some(&credential), &server).is_ok(),
            other => panic!("{other:?}"),
        },
        "mongo" => {
            // The placeholder of a certificate is not one.
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let pem = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
            let mut fields: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
            for (name, value) in [("certificate", pem), ("private_key", key.serialize_pem())] {
                fields.entry(name.to_string()).and_modify(|field| *field = value);
            }
            let text = if fields.is_empty() { text.to_string() } else { serde_json::to_string(&fields).unwrap() };
            mongo::login::from_credential(Some(&Credential::read(Secret::new(text))), "a deployment").is_ok()
        }
        "object" | "object_compat" => access_key::read(Some(&credential)).is_ok(),
        "openapi" => {
            let scheme = match login.name.as_str() {
                "token" => Scheme::Bearer,
                "api_key" => Scheme::Header("x-api-key".to_string()),
                _ => Scheme::Basic,
            };
            for_scheme(&scheme, &credential).is_some()
        }
        "lowcode" | "redshift" | "snowflake" | "supabase" => {
            let policy = Arc::new(parse("version: 1\nallowlist: []\n", "example").unwrap());
            let engines = crate::daemon::engines(clock::from_env());
            let request = BindRequest { family, policy: &policy, resource_id: &FamilySummary::new(family).examples[0] };
            let bound = engines.find(family).unwrap().bind(request).unwrap();
            bound.authorize(Some(credential)).is_ok()
        }
        other => panic!("the engine {other} reads no credential"),
    };
    assert!(read, "{} {}: {text}", family.id, login.name);
}

#[test]
fn every_credential_is_read_by_the_engine_of_its_family() {
    let connected = families::all().iter().filter(|family| !family.engine.is_empty());
    for (family, login) in connected.flat_map(|family| family.login.iter().map(move |login| (family, login))) {
        assert_read(family, login, &json_credential(login));
        login.plain.iter().for_each(|plain| assert_read(family, login, plain));
    }
}

/// `docs/families.md` has a table that is made from the family files. `INSTA_UPDATE=always` writes it.
#[test]
fn the_documented_table_is_that_of_the_family_files() {
    const MARKS: [&str; 2] = ["<!-- families: begin -->\n", "<!-- families: end -->"];
    let path = format!("{}/docs/families.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(MARKS[0]).unwrap();
    let (found, after) = rest.split_once(MARKS[1]).unwrap();
    let expected = table();
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        std::fs::write(&path, [before, MARKS[0], &expected, MARKS[1], after].concat()).unwrap();
        return;
    }
    assert!(found == expected, "run this test with INSTA_UPDATE=always; the table is now:\n{expected}");
}

fn table() -> String {
    let mut out = String::from(
        "| family | ways to log in | service principals | least scopes of a consent | authorization and token address |\n\
         |---|---|---|---|---|\n",
    );
    for family in families::all().iter().filter(|family| !family.id.starts_with("acme_")) {
        let list = |items: Vec<String>| if items.is_empty() { "-".to_string() } else { items.join("; ") };
        let mark = if family.engine.is_empty() { "*" } else { "" };
        let ways =
            family.login.iter().map(|login| format!("{}: {}", login.name, login.required().collect::<Vec<_>>().join(", ")));
        let mut kinds: Vec<String> = family.login.iter().flat_map(|login| login.principals.clone()).collect();
        kinds.sort();
        kinds.dedup();
        let scopes = family.oauth.iter().flat_map(|oauth| &oauth.scopes).map(|scope| format!("`{}`", scope.name));
        let addresses = family.oauth.iter().flat_map(|oauth| [&oauth.authorize_url, &oauth.token_url]);
        let cells =
            [list(ways.collect()), list(kinds), list(scopes.collect()), list(addresses.map(|url| format!("`{url}`")).collect())];
        let _ = writeln!(out, "| {}{mark} | {} |", family.id, cells.join(" | "));
    }
    out
}
