//! The families box, dropbox and datadog: spellings of resource ids, planned calls, and error answers with the bodies that the
//! vendors document or that people report.

use super::address::AddressPolicy;
use super::binding::ParsedResource;
use super::errors::{ErrorContext, ResponseView, classify};
use super::spec;
use crate::clock::{Clock, SystemClock};
use crate::model::{Class, Failure};
use crate::policy::parse::parse;
use std::collections::BTreeMap;
use std::sync::Arc;

const ORG: &str = "8dee7c38-00cb-11ea-a77b-8b5a08d3b091";

/// The kind, the base URL and the parts of a resource id.
fn located(family: &str, id: &str) -> Result<(String, String, BTreeMap<String, String>), Failure> {
    let spec = spec::find(family).unwrap();
    let policy = AddressPolicy { family, title: "X", base_url: None, hosts: &[] };
    let (location, kind) = spec.patterns.locate(&spec.form, id, &policy)?;
    // The sites of Datadog are chosen by the id, as the hosts of customers are elsewhere.
    assert_eq!(location.reviewed, family != "datadog", "{id}: the family's file names the host");
    Ok((kind.name.clone(), location.base_url, location.parts))
}

#[test]
fn enterprises_of_box_are_found_by_every_spelling() {
    for (id, kind, part, value) in [
        ("enterprise_1234567", "enterprise", "enterprise", "1234567"),
        ("1234567", "enterprise", "enterprise", "1234567"),
        ("https://ACME.app.box.com/folder/0", "custom domain", "domain", "acme"),
        ("acme.app.box.com", "custom domain", "domain", "acme"),
        ("cloudy.app.box.com", "custom domain", "domain", "cloudy"),
        ("clo.ent.box.com", "custom domain", "domain", "clo"),
    ] {
        let (found, base, parts) = located("box", id).unwrap();
        assert_eq!((found.as_str(), parts[part].as_str(), base.as_str()), (kind, value, "https://api.box.com"), "{id}");
    }
    for id in
        ["", "0", "acme", "app.box.com", "cloud.app.box.com", "https://cloud.app.box.com/folder/0", "acme.box.com.evil.example"]
    {
        assert_eq!(located("box", id).unwrap_err().class, Class::NotMappable, "{id:?}");
    }
}

#[test]
fn the_site_of_datadog_follows_from_every_address_after_login() {
    for (id, site) in [
        (ORG.to_string(), "datadoghq.com"),
        (format!("{ORG}@datadoghq.eu"), "datadoghq.eu"),
        (format!("{}@us3.datadoghq.com", ORG.to_uppercase()), "us3.datadoghq.com"),
        (format!("{ORG}@app.datadoghq.eu"), "datadoghq.eu"),
        (format!("{ORG}@acme.datadoghq.com"), "datadoghq.com"),
        (format!("{ORG}@acme.us5.datadoghq.com/dashboard/lists"), "us5.datadoghq.com"),
        (format!("{ORG}@app.ddog-gov.com"), "ddog-gov.com"),
        (format!("https://ap2.datadoghq.com/{ORG}"), "ap2.datadoghq.com"),
        (format!("https://APP.datadoghq.eu/{ORG}"), "datadoghq.eu"),
    ] {
        let (kind, base, parts) = located("datadog", &id).unwrap();
        assert_eq!((kind.as_str(), parts["org"].as_str(), base), ("organization", ORG, format!("https://api.{site}")), "{id}");
    }
    for (id, site) in [
        ("acme.datadoghq.com", "datadoghq.com"),
        ("https://us3.datadoghq.com/monitors", "us3.datadoghq.com"),
        ("api.datadoghq.eu", "datadoghq.eu"),
    ] {
        let (kind, base, _) = located("datadog", id).unwrap();
        assert_eq!((kind.as_str(), base), ("login address without UUID", format!("https://api.{site}")), "{id}");
    }
    for id in ["acme", "datadoghq.com.evil.example", &format!("{ORG}@evil.example"), &format!("{ORG}@eudatadoghq.com")] {
        assert_eq!(located("datadog", id).unwrap_err().class, Class::NotMappable, "{id:?}");
    }
}

#[test]
fn accounts_and_teams_of_dropbox_are_distinguished() {
    for (id, kind) in [
        ("dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc", "account"),
        ("dbtid:AAFdgehTzw7WlXhZJsbGCLePe8RvQGYDr-I", "team"),
        ("Franz@ACME.example", "e-mail"),
    ] {
        assert_eq!(located("dropbox", id).unwrap().0, kind, "{id}");
    }
    for id in ["", "franz", "dbmid:AAHhy7WsR0x-u4ZCqiDl5Fz5zvuL3kmspwU", "dbid:", "dbid:a/../b12345678"] {
        assert_eq!(located("dropbox", id).unwrap_err().class, Class::NotMappable, "{id:?}");
    }
}

/// Every call of Dropbox is a POST, and each is on the list.
#[test]
fn dropbox_is_planned_with_listed_posts_only() {
    let policy = parse("version: 1\nallowlist: [dropbox]\n", "policy.yaml").unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let family = crate::families::find("dropbox").unwrap();
    let listed: Vec<String> = spec::find("dropbox").unwrap().form.posts.iter().map(|rule| rule.url.clone()).collect();
    for id in ["dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc", "dbtid:AAFdgehTzw7WlXhZJsbGCLePe8RvQGYDr-I"] {
        let parsed = ParsedResource::parse(family, &policy, id, &clock).unwrap_or_else(|failure| panic!("{failure:?}"));
        for call in parsed.planned_calls(&clock) {
            assert_eq!((call.method.as_str(), call.host.as_str()), ("POST", "api.dropboxapi.com"), "{call:?}");
            assert!(listed.contains(&format!("{{base_url}}{}", call.path)), "{call:?}");
        }
    }
}

fn judged(kind: &str, status: u16, body: &str) -> Failure {
    let family = crate::families::find("dropbox").unwrap();
    let response =
        ResponseView { method: "POST", status, headers: &[], body: body.as_bytes(), url: "https://api.dropboxapi.com/2/x" };
    let context = ErrorContext {
        title: &family.title,
        resource: "R",
        least_privilege: &family.least_privilege,
        stream: "account",
        proven: false,
        base_url: "families.dropbox.base_url",
        kind,
        parts: &BTreeMap::new(),
        auth: "user",
    };
    classify(Some(&spec::find("dropbox").unwrap().form.errors), &response, &context).unwrap()
}

/// An error of Dropbox may be a text. Another text is not Dropbox's.
#[test]
fn texts_of_dropbox_are_read_and_others_are_foreign() {
    let begin = "Error in call to API function \"users/get_current_account\": ";
    let team = judged(
        "account",
        400,
        &format!(
            "{begin}This API function operates on a single Dropbox account, but the OAuth 2 access token you provided is for an entire Dropbox Business team."
        ),
    );
    assert_eq!(
        (team.class, team.title.as_ref()),
        (Class::PermissionDenied, "the Dropbox token is for a whole team, and R is one account")
    );
    assert!(team.detail.contains("Dropbox said: \"Error in call to API function"), "{}", team.detail);
    let user = judged(
        "team",
        400,
        &format!(
            "{begin}This is a DfB team management function.  The OAuth 2 access token you provided is for a specific Dropbox user account"
        ),
    );
    assert_eq!(user.class, Class::PermissionDenied);
    let scope = judged(
        "account",
        400,
        &format!(
            "{begin}Your app (ID: 1) is not permitted to access this endpoint because it does not have the required scope 'files.metadata.read'."
        ),
    );
    assert!(scope.title.ends_with("the scope files.metadata.read"), "{}", scope.title);
    assert_eq!(
        judged("account", 400, &format!("{begin}The given OAuth 2 access token is malformed.")).class,
        Class::CredentialRejected
    );
    assert_eq!(judged("account", 400, "Bad Request").class, Class::WrongService);
    assert_eq!(judged("account", 404, "<html><body>Not Found</body></html>").class, Class::WrongService);
}
