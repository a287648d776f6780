use super::super::spec;
use super::*;

fn locate(family: &str, id: &str, base: Option<&str>) -> Result<(String, ResourceLocation), Failure> {
    let spec = spec::find(family).unwrap();
    // An example of a listed server is accepted where the policy lists it.
    let hosts: Vec<ListedServer> =
        match spec.form.address.kinds.iter().any(|kind| kind.is_listed() && kind.examples.contains(&id.to_string())) {
            true => spelling::leading_server(&SpelledId::new(id))
                .and_then(|name| ListedServer::parse(name.split('/').next()?))
                .into_iter()
                .collect(),
            false => Vec::new(),
        };
    let policy = AddressPolicy { family, title: "X", base_url: base, hosts: &hosts };
    let (location, kind) = spec.patterns.locate(&spec.form, id, &policy)?;
    Ok((kind.name.clone(), location))
}

#[test]
fn ids_become_kinds_parts_and_addresses() {
    let (kind, at) = locate("github", "Acme-Corp", None).unwrap();
    assert_eq!(
        (kind.as_str(), at.base_url.as_str(), at.host.as_str()),
        ("organization", "https://api.github.com", "api.github.com")
    );
    assert_eq!(at.parts["org"], "Acme-Corp");
    let (kind, at) = locate("github", "acme/widgets.js", Some("https://ghe.acme.example:8443/api/v3/")).unwrap();
    assert_eq!((kind.as_str(), at.host.as_str()), ("repository", "ghe.acme.example:8443"));
    assert_eq!(
        (at.parts["base_url"].as_str(), at.parts["repo"].as_str()),
        ("https://ghe.acme.example:8443/api/v3", "widgets.js")
    );
    let (kind, at) = locate("slack", "workspace_T0123", None).unwrap();
    assert_eq!((kind.as_str(), at.parts["team"].as_str()), ("workspace", "T0123"));
    for name in ["...", ".github", "..a", "a.."] {
        assert_eq!(locate("github", &format!("acme/{name}"), None).unwrap().1.parts["repo"], name);
    }
    assert_eq!(locate("slack", "T0123", None).unwrap().0, "workspace");
    assert_eq!(locate("slack", "E0123", None).unwrap().0, "enterprise");
}

#[test]
fn other_ids_are_refused_with_the_forms_there_are() {
    for (family, id) in [
        ("github", "acme/"),
        ("github", "a/b/c"),
        ("github", "-acme"),
        ("github", "acme\n"),
        ("github", "a?b"),
        ("github", "acme/."),
        ("github", "acme/.."),
        ("slack", "acme"),
        ("slack", "C0123"),
        ("slack", ""),
    ] {
        let failure = locate(family, id, None).unwrap_err();
        assert_eq!(failure.class, Class::NotMappable, "{family} {id:?}");
    }
    assert_eq!(locate("github", "a/b/c", None).unwrap_err().fix, "write it like acme/website (repository), acme (organization)");
    assert_eq!(
        locate("slack", "workspace_T1", None).unwrap_err().fix,
        "write it like workspace_T0123ABCD or T0123ABCD (workspace), enterprise_E0123ABCD or E0123ABCD (enterprise)"
    );
}

#[test]
fn every_form_that_a_message_shows_is_accepted() {
    for family in crate::families::all() {
        let Some(spec) = spec::find(&family.id) else { continue };
        for kind in &spec.form.address.kinds {
            assert_eq!(kind.examples.len(), kind.ids.len(), "{}: one example for each form", family.id);
            for example in &kind.examples {
                assert_eq!(locate(&family.id, example, None).unwrap().0, kind.name, "{}: {example}", family.id);
            }
        }
    }
}

#[test]
fn parts_are_filled_and_stay_one_segment_of_an_address() {
    let parts = [("base_url", "https://a.example/v1"), ("p", "a/b ?#é")].map(|(k, v)| (k.to_string(), v.to_string())).into();
    assert_eq!(fill("x {p} {} { {P}", &parts).unwrap(), "x a/b ?#é {} { {P}");
    assert_eq!(fill_address("{base_url}/{p}/z", &parts).unwrap(), "https://a.example/v1/a%2Fb%20%3F%23%C3%A9/z");
    assert_eq!(fill("{q}", &parts), Err("q".to_string()));
}

/// The locations of a family of the tests whose vendor has sites, a gateway and servers of its customers.
fn desk(id: &str, base_url: Option<&str>, hosts: &[&str]) -> Result<(String, ResourceLocation), Failure> {
    let spec = spec::find("acme_desk").unwrap();
    let hosts: Vec<ListedServer> = hosts.iter().map(|text| ListedServer::parse(text).unwrap()).collect();
    let policy = AddressPolicy { family: "acme_desk", title: "Acme Desk", base_url, hosts: &hosts };
    let (location, kind) = spec.patterns.locate(&spec.form, id, &policy)?;
    Ok((kind.name.clone(), location))
}

#[test]
fn all_spellings_of_an_id_are_one_location() {
    let (kind, expected) = desk("acme", None, &[]).unwrap();
    assert_eq!(
        (kind.as_str(), expected.base_url.as_str(), expected.account.as_str(), expected.reviewed),
        ("site", "https://acme.desk.example", "acme.desk.example", false)
    );
    for id in [
        "ACME",
        "acme.desk.example",
        "Acme.Desk.Example/",
        "https://ACME.desk.example/",
        "https://acme.desk.example:443",
        "HTTPS://acme.desk.example//",
        "http://acme.desk.example:80/?from=mail#top",
    ] {
        assert_eq!(desk(id, None, &[]).unwrap(), ("site".to_string(), expected.clone()), "{id}");
    }
    let (_, eu) = desk("acme.desk-eu.example", None, &[]).unwrap();
    assert_eq!((eu.base_url.as_str(), eu.account.as_str()), ("https://acme.desk-eu.example", "acme.desk-eu.example"));
    let (_, named) = desk("my-shop", None, &[]).unwrap();
    assert_eq!((named.parts["site_name"].as_str(), named.parts["signer"].as_str()), ("my_shop", "MY_SHOP"));
    for id in ["https://acme.desk.example:8443", "https://user@acme.desk.example", "acme?x", ""] {
        assert!(desk(id, None, &[]).is_err(), "{id}");
    }
}

#[test]
fn a_kind_has_an_address_and_an_account_of_its_own() {
    let (kind, at) = desk("11111111-2222-3333-4444-55555555555A", None, &[]).unwrap();
    let id = "11111111-2222-3333-4444-55555555555a";
    assert_eq!((kind.as_str(), at.base_url), ("cloud", format!("https://api.desk.example/ex/{id}")));
    assert_eq!((at.account.as_str(), at.reviewed, at.servers["gateway"].as_str()), (id, true, "https://api.desk.example/v1"));

    // The policy replaces the address of every kind. A path that names the resource stays, unless the policy has a path.
    for (base_url, site, cloud, gateway) in [
        ("http://127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9/ex/{id}", "http://127.0.0.1:9/v1"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9", "http://127.0.0.1:9/ex/{id}", "http://127.0.0.1:9/v1"),
        ("https://p.example/desk", "https://p.example/desk", "https://p.example/desk", "https://p.example/v1"),
    ] {
        let (_, at) = desk("acme", Some(base_url), &[]).unwrap();
        assert_eq!((at.base_url.as_str(), at.servers["gateway"].as_str(), at.reviewed), (site, gateway, true), "{base_url}");
        assert_eq!(desk(id, Some(base_url), &[]).unwrap().1.base_url, cloud.replace("{id}", id), "{base_url}");
    }
    let (_, at) = desk(id, Some("https://p.example/desk/{cloud}/v2"), &[]).unwrap();
    assert_eq!(at.base_url, format!("https://p.example/desk/{id}/v2"));
    assert_eq!(desk("acme", Some("https://p.example/{cloud}"), &[]).unwrap_err().class, Class::Misconfigured);
}

#[test]
fn a_server_of_the_company_is_accepted_once_the_policy_lists_it() {
    for (id, listed, base_url) in [
        ("desk.acme.com", "desk.acme.com", "https://desk.acme.com"),
        ("https://Desk.acme.com/", "desk.acme.com", "https://desk.acme.com"),
        ("desk.acme.com/sales", "desk.acme.com", "https://desk.acme.com"),
        ("desk.acme.com:8443", "\"desk.acme.com:8443\"", "https://desk.acme.com:8443"),
        ("desk.acme.com/desk/v2", "desk.acme.com/desk/v2", "https://desk.acme.com/desk/v2"),
        ("http://127.0.0.1:8080", "\"http://127.0.0.1:8080\"", "http://127.0.0.1:8080"),
    ] {
        let refused = desk(id, None, &["other.acme.com"]).unwrap_err();
        assert_eq!(refused.class, Class::Misconfigured, "{id}");
        let line = format!("families: {{acme_desk: {{hosts: [other.acme.com, {listed}]}}}}");
        assert!(refused.fix.contains(&line), "{}", refused.fix);
        // The fix, followed.
        let policy =
            crate::policy::parse::parse(&format!("version: 1\nallowlist: [acme_desk]\n{line}\n"), "policy.yaml").unwrap();
        let hosts: Vec<String> = policy.family("acme_desk").hosts.iter().map(ToString::to_string).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let (kind, at) = desk(id, None, &hosts).unwrap();
        assert_eq!((kind.as_str(), at.base_url.as_str(), at.reviewed), ("server", base_url, true), "{id}");
    }
    // A listed server may leave out its port and its path.
    let (_, at) = desk("desk.acme.com/sales", None, &["desk.acme.com:8443/desk"]).unwrap();
    assert_eq!((at.base_url.as_str(), at.parts["group"].as_str()), ("https://desk.acme.com:8443/desk", "sales"));
    assert_eq!((at.host.as_str(), at.account.as_str()), ("desk.acme.com:8443", "desk.acme.com:8443"));
    // The vendor's own hosts need no entry, but the resource id chose them.
    let (kind, at) = desk("acme.desk.example/sales", None, &[]).unwrap();
    assert_eq!((kind.as_str(), at.reviewed), ("server", false));
    // With a base URL of the policy, the resource id does not choose where the credential goes.
    assert_eq!(desk("desk.acme.com", Some("http://127.0.0.1:9"), &[]).unwrap().1.base_url, "http://127.0.0.1:9");
}

#[test]
fn a_family_without_servers_of_companies_refuses_the_key() {
    let problems = crate::policy::parse::parse("version: 1\nallowlist: [slack]\nfamilies: {slack: {hosts: [a.example]}}\n", "p")
        .unwrap_err();
    assert!(problems[0].message.contains("slack has no resource ids with a server of your own"), "{problems:?}");
    let problems = crate::policy::parse::parse(
        "version: 1\nallowlist: [acme_desk]\nfamilies: {acme_desk: {hosts: [\"*.a.example\"]}}\n",
        "p",
    )
    .unwrap_err();
    assert!(problems[0].hint.contains("acme_desk.acme.example"), "{problems:?}");
}

#[test]
fn ids_of_salesforce_and_servicenow_as_people_have_them() {
    for (id, kind, base_url) in [
        ("org_00D5g000004XyZaEAK", "organization", super::super::credential_url::PLACEHOLDER),
        ("00D5g000004XyZa", "organization", super::super::credential_url::PLACEHOLDER),
        ("acme.my.salesforce.com", "my_domain", "https://acme.my.salesforce.com"),
        ("https://ACME.my.salesforce.com/", "my_domain", "https://acme.my.salesforce.com"),
        ("acme--uat.sandbox.my.salesforce.com", "my_domain", "https://acme--uat.sandbox.my.salesforce.com"),
        ("acme--uat.cs42.my.salesforce.com", "my_domain", "https://acme--uat.cs42.my.salesforce.com"),
        ("acme-dev-ed.develop.my.salesforce.com", "my_domain", "https://acme-dev-ed.develop.my.salesforce.com"),
        ("https://acme.lightning.force.com/lightning/o/Account/list?filterName=x", "my_domain", "https://acme.my.salesforce.com"),
        ("acme--uat.sandbox.lightning.force.com", "my_domain", "https://acme--uat.sandbox.my.salesforce.com"),
        ("https://acme.my.salesforce-setup.com/lightning/setup/SetupOneHome/home", "my_domain", "https://acme.my.salesforce.com"),
        ("acme.my.salesforce.mil", "defense", "https://acme.my.salesforce.mil"),
    ] {
        let (found, at) = locate("salesforce", id, None).unwrap();
        assert_eq!((found.as_str(), at.base_url.as_str()), (kind, base_url), "{id}");
    }
    for id in ["00D5g000004XyZ", "org_005g000004XyZaEAK", "acme", "acme.my.salesforce.com.evil.example", "login.salesforce.com"] {
        assert!(locate("salesforce", id, None).is_err(), "{id}");
    }
    for (id, base_url) in [
        ("acme", "https://acme.service-now.com"),
        ("ACME.service-now.com", "https://acme.service-now.com"),
        ("https://dev12345.service-now.com/now/nav/ui/home", "https://dev12345.service-now.com"),
        ("acme.servicenowservices.com", "https://acme.servicenowservices.com"),
    ] {
        assert_eq!(locate("servicenow", id, None).unwrap().1.base_url, base_url, "{id}");
    }
    for id in ["acme.service-now.com.evil.example", "-acme", "a_b"] {
        assert!(locate("servicenow", id, None).is_err(), "{id}");
    }
}

/// The portals of Azure keep the path behind `#`.
#[test]
fn subscriptions_are_found_by_what_the_portal_shows() {
    const ID: &str = "6babcaad-604b-40ac-a9d7-9fd97c0b7a10";
    for (id, kind, host) in [
        (
            format!("https://portal.azure.com/#@acme.onmicrosoft.com/resource/subscriptions/{ID}/overview"),
            "subscription",
            "azure.com",
        ),
        (format!("https://portal.azure.com/?l=en#resource/subscriptions/{ID}/users/"), "subscription", "azure.com"),
        (format!("https://portal.azure.com#@acme.com/resource/subscriptions/{}", ID.to_uppercase()), "subscription", "azure.com"),
        (format!("portal.azure.us/#/subscriptions/{ID}"), "us_government", "usgovcloudapi.net"),
        (format!("https://portal.azure.cn/#@x.partner.onmschina.cn/resource/subscriptions/{ID}"), "china", "chinacloudapi.cn"),
        (format!("https://management.azure.com/subscriptions/{ID}?api-version=2022-12-01#x"), "subscription", "azure.com"),
    ] {
        let (found, at) = locate("azure_sub", &id, None).unwrap();
        assert_eq!((found.as_str(), at.parts["subscription"].as_str()), (kind, ID), "{id}");
        assert_eq!(at.host, format!("management.{host}"), "{id}");
    }
    for id in [
        format!("https://portal.azure.com/#@acme.com/resource/subscriptions/{ID}/resourceGroups/one/overview"),
        format!("https://portal.azure.example/#@acme.com/resource/subscriptions/{ID}"),
        format!("https://evil.example/#https://portal.azure.com/#resource/subscriptions/{ID}"),
        "https://portal.azure.com/#home".to_string(),
    ] {
        assert_eq!(locate("azure_sub", &id, None).unwrap_err().class, Class::NotMappable, "{id}");
    }
}
