//! The consents of the section `credentials`, and the store of their grants.

use super::super::credentials::{ConsentPolicy, ConsentStore};
use super::super::read::{Fields, Reader, Spot};
use super::super::yaml::NodeKind;
use super::credentials::{file, is_locator_name, locator, text};
use super::reach::{address, secret_address};
use std::collections::BTreeMap;

pub fn consents(r: &mut Reader, spot: &Spot<'_>) -> Option<BTreeMap<String, ConsentPolicy>> {
    let mut consents = BTreeMap::new();
    for (name, spot) in r.entries(spot, "a mapping of consents") {
        if let Some(consent) = consent(r, &spot).filter(|_| is_locator_name(r, name, &spot)) {
            consents.insert(name.to_string(), consent);
        }
    }
    Some(consents)
}

const KEYS: [&str; 11] = [
    "family",
    "client_id",
    "client_secret",
    "auth",
    "redirect",
    "scopes",
    "authorize_url",
    "token_url",
    "revoke_url",
    "issuer",
    "values",
];

fn consent(r: &mut Reader, spot: &Spot<'_>) -> Option<ConsentPolicy> {
    let fields = r.fields(spot, &KEYS)?;
    let before = r.problems.len();
    let family = r.required(&fields, "family", "name the family whose connections use the grant").and_then(|spot| {
        let name = r.text(&spot, "the name of a family")?.to_string();
        r.known_family(&name, &spot.pointer, spot.node.place).then_some(name)
    });
    let redirect = r
        .required(
            &fields,
            "redirect",
            "write the callback that is registered at the vendor, for example https://aam.acme.example/consent/callback",
        )
        .and_then(|spot| callback(r, &spot, "/consent/callback"));
    let client_id = text(r, &fields, "client_id", "the id of the OAuth client");
    let url = |r: &mut Reader, name: &str| r.optional(&fields, name, |r, spot| secret_address(r, spot, "an https URL", false));
    let list = |r: &mut Reader, spot: &Spot<'_>| r.unique(spot, "scopes", |r, item| r.text(item, "a scope").map(str::to_string));
    let auth = |r: &mut Reader, spot: &Spot<'_>| {
        r.one_of(spot, "way to authenticate the client", &["client_secret_basic", "client_secret_post"]).map(str::to_string)
    };
    let values = |r: &mut Reader, spot: &Spot<'_>| {
        let entries = r.entries(spot, "a mapping of values");
        Some(
            entries
                .into_iter()
                .filter_map(|(name, spot)| Some((name.to_string(), r.text(&spot, "a text")?.to_string())))
                .collect(),
        )
    };
    let consent = ConsentPolicy {
        client_secret: r.optional(&fields, "client_secret", locator),
        auth: r.optional(&fields, "auth", auth),
        scopes: r.optional(&fields, "scopes", list),
        authorize_url: url(r, "authorize_url"),
        token_url: url(r, "token_url"),
        revoke_url: url(r, "revoke_url"),
        // The issuer is compared and not called.
        issuer: r.optional(&fields, "issuer", |r, spot| address(r, spot, "an https URL")),
        values: r.field(&fields, "values", BTreeMap::new(), values),
        family: family?,
        client_id: client_id?,
        redirect: redirect?,
    };
    if r.problems.len() == before {
        report_terms(r, &fields, &consent);
    }
    Some(consent)
}

/// Reports what the entry lacks together with its family. A custom source states no OAuth 2 server.
fn report_terms(r: &mut Reader, fields: &Fields<'_>, consent: &ConsentPolicy) {
    let oauth = crate::families::find(&consent.family).and_then(|family| family.oauth.as_ref());
    for problem in consent.terms(oauth).err().unwrap_or_default() {
        match fields.get(problem.key) {
            Some(spot) => r.report(&spot, problem.message, problem.hint),
            None => r.report_at(&fields.pointer, fields.place, problem.message, problem.hint),
        }
    }
}

/// Reads the callback, which has the path `path`. The code passes through it, so it must be https, except on the machine of
/// the browser itself.
pub(super) fn callback(r: &mut Reader, spot: &Spot<'_>, path: &str) -> Option<String> {
    let hint = format!("write https://HOST{path}");
    let text = address(r, spot, &format!("the URL of AAM's callback, for example https://aam.acme.example{path}"))?;
    let url = url::Url::parse(&text).ok()?;
    if url.path() != path {
        r.report(spot, format!("the path of the callback must be {path}"), hint);
        return None;
    }
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !local {
        r.report(spot, "the callback must use https: the code of the other system passes through it", hint);
        return None;
    }
    Some(text)
}

pub fn consent_store(r: &mut Reader, spot: &Spot<'_>) -> Option<ConsentStore> {
    if let NodeKind::Map(pairs) = &spot.node.kind
        && let Some((_, node)) = pairs.iter().find(|(key, _)| key.text == "vault")
    {
        let spot = Spot { node, pointer: format!("{}/vault", spot.pointer) };
        let hint = "remove the key; grants are kept encrypted in file, and key may be a vault: locator";
        r.report(&spot, "this version does not keep consents in a vault, because it never writes to one", hint);
        return None;
    }
    let fields = r.fields(spot, &["file", "key"])?;
    Some(ConsentStore {
        file: r.field(&fields, "file", ConsentStore::default().file, file),
        key: r.optional(&fields, "key", locator),
    })
}

#[cfg(test)]
mod tests {
    use crate::policy::parse::parse;

    const OWN: &str = "family: openapi, client_id: a, authorize_url: \"https://a.example/x\", token_url: \"https://a.example/t\", scopes: [read]";

    /// The pointers and messages of the problems of `consents: {acme: {…}}`.
    fn problems(consent: &str, more: &str) -> Vec<(String, String)> {
        let text = format!(
            "version: 1\nallowlist: [openapi]\ncredentials:\n  consents:\n    acme: {{{consent}, redirect: \"https://aam.example/consent/callback\"}}\n{more}"
        );
        let found = parse(&text, "policy.yaml").err().unwrap_or_default();
        found.into_iter().map(|problem| (problem.pointer, problem.message)).collect()
    }

    #[test]
    fn a_consent_of_ones_own_server_is_read() {
        assert_eq!(problems(OWN, "  consent_store: {key: \"env:CONSENT_KEY\"}\n"), []);
    }

    #[test]
    fn a_family_without_a_server_needs_its_addresses_and_scopes() {
        let found = problems("family: openapi, client_id: a", "");
        let messages: Vec<&str> = found.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        for (message, key) in messages.iter().zip(["authorize_url", "token_url", "scopes"]) {
            assert!(message.contains(&format!("the key {key} is missing")), "{message}");
        }
    }

    #[test]
    fn a_server_that_gets_secrets_in_clear_text_is_refused_unless_it_is_local() {
        for key in ["token_url", "authorize_url", "revoke_url"] {
            let with = |url: &str| {
                let written = ["authorize_url", "token_url", "revoke_url"].map(|name| {
                    let url = if name == key { url } else { "https://a.example/x" };
                    format!("{name}: \"{url}\"")
                });
                let consent = format!("family: openapi, client_id: a, scopes: [read], {}", written.join(", "));
                problems(&consent, "  consent_store: {key: \"env:K\"}\n")
            };
            let found = with("http://login.example/t");
            assert!(found.len() == 1 && found[0].0.ends_with(key) && found[0].1.contains("clear text"), "{found:?}");
            assert_eq!(with("http://127.0.0.1:5000/t"), []);
        }
        for (entry, refused) in [
            ("{kind: oauth2_client, token_url: \"http://login.example/t\", client_id: a, secret: \"env:B\"}", true),
            ("{kind: oauth2_client, token_url: \"http://192.0.2.2/t\", client_id: a, secret: \"env:B\"}", true),
            ("{kind: oauth2_client, token_url: \"http://[::1]:5000/t\", client_id: a, secret: \"env:B\"}", false),
            ("{kind: okta, org: \"http://acme.okta.com\", client_id: a, key: \"env:B\"}", true),
            ("{kind: aws, source: instance, metadata_url: \"http://169.254.169.254\"}", false),
            ("{kind: aws, source: instance, metadata_url: \"http://10.1.2.3\"}", true),
        ] {
            let text = format!("version: 1\nallowlist: [openapi]\ncredentials: {{principals: {{o: {entry}}}}}\n");
            assert_eq!(parse(&text, "p").is_err(), refused, "{entry}");
        }
    }

    #[test]
    fn a_callback_in_clear_text_is_refused_unless_it_is_local() {
        let with = |redirect: &str| {
            let text = format!(
                "version: 1\nallowlist: [openapi]\ncredentials: {{consents: {{acme: {{{OWN}, redirect: \"{redirect}\"}}}}}}\n"
            );
            parse(&text, "policy.yaml").err().unwrap_or_default().len()
        };
        assert_eq!(with("http://127.0.0.1:5000/consent/callback"), 0);
        assert_eq!(with("http://localhost:5000/consent/callback"), 0);
        assert_eq!(with("http://aam.example/consent/callback"), 1);
        assert_eq!(with("https://aam.example/consent/other"), 1);
    }

    #[test]
    fn a_store_in_the_vault_is_refused_with_the_reason() {
        let found = problems(OWN, "  consent_store: {vault: secret/aam}\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "/credentials/consent_store/vault");
        assert!(found[0].1.contains("never writes"), "{found:?}");
    }
}
