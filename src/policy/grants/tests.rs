use super::*;
use crate::policy::parse::parse;
use url::Url;

fn policy(body: &str) -> Policy {
    let parsed = parse(&format!("version: 1\nallowlist: [openapi]\n{body}\n"), "p");
    parsed.unwrap_or_else(|problems| panic!("{body}: {problems:#?}"))
}

fn token_entry(more: &str) -> String {
    format!("{{name: aod, sha256: \"{}\", scopes: [intents:write], namespaces: [autonomy]{more}}}", "0".repeat(64))
}

fn with_token(more: &str) -> Policy {
    policy(&format!("api: {{tokens: [{}]}}", token_entry(more)))
}

fn to(url: &str) -> Recipient {
    Recipient::from_url(&Url::parse(url).unwrap()).unwrap()
}

/// The judgement for one origin, as title and fix.
fn ask(policy: &Policy, origins: &[&str], locator: &str, recipients: &[Recipient]) -> Result<(), Failure> {
    let origins: Vec<Origin> = origins.iter().map(|text| Origin((*text).into())).collect();
    let locator = Locator::parse(locator).unwrap();
    let wanted =
        CredentialUse { origins: &origins, namespace: "autonomy", source_type: "openapi", locator: &locator, recipients };
    judge(policy, &wanted)
}

#[test]
fn a_locator_pattern_ends_at_a_boundary_and_case_counts() {
    let matches =
        |pattern: &str, locator: &str| LocatorPattern::parse(pattern).unwrap().matches(&Locator::parse(locator).unwrap());
    for (pattern, locator) in [
        ("env:SALES_TOKEN", "env:SALES_TOKEN"),
        ("env:SALES_*", "env:SALES_TOKEN"),
        ("env:*", "env:SALES_TOKEN"),
        ("vault:aam/*", "vault:aam/sales"),
        ("vault:aam/*", "vault:aam/sales/token"),
    ] {
        assert!(matches(pattern, locator), "{pattern} {locator}");
    }
    for (pattern, locator) in [
        ("env:SALES_TOKEN", "env:SALES_TOKEN_2"),
        ("env:SALES_*", "env:SALES_"),
        ("env:SALES_*", "env:SALESFORCE_TOKEN"),
        ("env:SALES_*", "env:sales_token"),
        ("env:*", "vault:x"),
        ("vault:aam/*", "vault:aam"),
        ("vault:aam/*", "vault:aam/"),
        ("vault:aam/*", "vault:aam/../billing"),
        ("vault:aam/*", "vault:aam/%2e%2e/billing"),
        ("vault:aam/*", "vault:aam//billing"),
        ("vault:aam/*", "vault:AAM/x"),
    ] {
        assert!(!matches(pattern, locator), "{pattern} {locator}");
    }
    for bad in ["env:SALES*", "env:*_TOKEN", "*", "env:", "SALES", "env:A B", "env:A*_*", "vault:a*"] {
        assert!(LocatorPattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_pattern_has_the_spelling_under_which_locators_are_judged() {
    for (pattern, locator) in [
        ("file:/srv/creds/a", "file:/srv/creds/a"),
        ("file:/srv/creds/*", "file:/srv/creds/team/a"),
        ("file:/*", "file:/srv/creds/a"),
        ("file:*", "file:creds/a"),
        ("vault:kv/a", "vault:kv/a#token"),
        ("vault:kv/a#token", "vault:kv/a#token"),
        ("vault:kv/*", "vault:kv/a#token"),
        ("sp:team_b/*", "sp:team_b/entra"),
        ("consent:zoom", "consent:zoom"),
    ] {
        assert!(LocatorPattern::parse(pattern).unwrap().matches(&Locator::parse(locator).unwrap()), "{pattern} {locator}");
    }
    for (pattern, locator) in [
        ("file:/srv/creds/*", "file:/srv/creds"),
        ("file:/srv/creds/team_*", "file:/srv/creds/tea"),
        ("vault:kv/a#token", "vault:kv/a"),
        ("vault:kv/a#token", "vault:kv/a#other"),
        ("vault:kv/a", "vault:kv/ab#token"),
        ("sp:a", "sp:ab"),
    ] {
        assert!(!LocatorPattern::parse(pattern).unwrap().matches(&Locator::parse(locator).unwrap()), "{pattern} {locator}");
    }
    for (bad, hint) in [
        ("file:/srv//creds/*", "write file:/srv/creds/*"),
        ("file:./creds/a", "write file:creds/a"),
        ("file:///srv/creds/*", "write file:/srv/creds/*"),
        ("file:/srv/../creds/*", "write file:/FOLDER/NAME"),
        ("vault://kv/team/*", "write vault:kv/team/*"),
        ("vault:kv/../x/*", "write vault:MOUNT/PATH#FIELD"),
        ("vualt:kv/*", "file:path/*"),
    ] {
        let (_, found) = LocatorPattern::parse(bad).expect_err(bad);
        assert!(found.contains(hint), "{bad}: {found}");
    }
}

#[test]
fn every_spelling_of_a_secret_is_judged_as_one() {
    let policy = policy(
        "credentials: {files: [/srv/creds, creds], vault: {address: \"https://v.example\", path: kv/aam, login: {method: token, token: \"env:V\"}}, namespaces: {team_b: [\"file:/srv/creds/b/*\", \"vault:crm#token\", \"vault:kv/x/*\"]}}",
    );
    for locator in [
        "file:/srv/creds/b/x",
        "file:/srv//creds/./b/x",
        "file:///srv/creds/b/x",
        "vault:crm#token",
        "vault:crm",
        "vault:crm#other",
        "vault:kv/aam/crm#token",
        "vault://kv/aam/crm",
        "vault:kv/x/y",
        "vault://kv/x/y#z",
    ] {
        let refused = ask(&policy, &["folder:a.json"], locator, &[]).expect_err(locator);
        assert!(refused.title.contains("does not let the namespace autonomy use"), "{locator}: {refused:?}");
        assert!(!refused.fix.contains("//") && !refused.fix.contains("/./"), "{}", refused.fix);
    }
    for locator in ["file:/srv/creds/a/x", "file:creds/b/x", "vault:kv/aam/other", "vault:other", "env:X"] {
        assert!(ask(&policy, &["folder:a.json"], locator, &[]).is_ok(), "{locator}");
    }
    for locator in ["file:/srv/creds/../x", "file:/etc/passwd", "vault:kv/../x", "vault:sys/x", "vualt:kv/x", "op://a/b"] {
        let refused = ask(&policy, &["folder:a.json"], locator, &[]).expect_err(locator);
        assert!(!refused.title.contains("namespace"), "{locator}: {refused:?}");
    }
    // The fix for a token names the line to add under the spelling that the policy uses.
    let with_token = parse(
        &format!(
            "version: 1\nallowlist: [openapi]\ncredentials: {{files: [/srv/creds]}}\napi: {{tokens: [{}]}}\n",
            token_entry("")
        ),
        "p",
    )
    .unwrap();
    let refused = ask(&with_token, &["api:aod"], "file:/srv//creds/./x", &[]).expect_err("refused");
    assert!(refused.fix.contains("locators: [\"file:/srv/creds/x\"]"), "{refused:?}");
}

#[test]
fn the_secrets_of_aam_itself_are_never_the_credential_of_a_source() {
    let policy = policy(
        "credentials: {files: [/srv/creds], vault: {address: \"https://v.example\", path: kv/aam, login: {method: approle, role_id: \"env:ROLE\", secret_id: \"file:/srv/creds/secret-id\"}}, consent_store: {key: \"vault:consent#key\"}, consents: {gh: {family: github, client_id: a, client_secret: \"env:GH_SECRET\", redirect: \"https://aam.example/consent/callback\"}}, principals: {z: {kind: zoom, account_id: a, client_id: b, secret: \"env:ZOOM_SECRET\"}, s: {kind: basic, username: a, password: \"env:PASSWORD\"}}}\napi: {tokens: [TOKEN]}"
            .replace("TOKEN", &token_entry(", locators: [\"env:*\", \"file:/srv/creds/*\", \"vault:kv/aam/*\"]"))
            .as_str(),
    );
    for (locator, purpose) in [
        ("env:ROLE", "logs in to the vault"),
        ("file:/srv//creds/./secret-id", "logs in to the vault"),
        ("vault:consent", "encrypts the grants"),
        ("vault:kv/aam/consent#key", "encrypts the grants"),
        ("env:GH_SECRET", "when owners consent"),
        ("env:ZOOM_SECRET", "a service principal"),
    ] {
        for origin in ["folder:a.json", "api:admin", "api:aod"] {
            let refused = ask(&policy, &[origin], locator, &[]).expect_err(locator);
            assert_eq!(refused.class, Class::CredentialMissing);
            assert!(refused.title.contains("a secret of AAM itself") && refused.title.contains(purpose), "{refused:?}");
        }
    }
    for locator in ["env:ROLES", "env:PASSWORD", "file:/srv/creds/secret-id-2", "vault:consents#key"] {
        assert!(ask(&policy, &["folder:a.json"], locator, &[]).is_ok(), "{locator}");
    }
}

#[test]
fn a_host_pattern_means_one_port_and_the_encrypted_protocol() {
    let matches = |pattern: &str, url: &str| HostPattern::parse(pattern).unwrap().matches(&to(url));
    for (pattern, url) in [
        ("api.acme.example", "https://API.acme.example/x"),
        ("api.acme.example", "https://api.acme.example.:443/"),
        ("API.acme.example.", "https://api.acme.example/"),
        ("*.acme.example", "https://a.b.acme.example/"),
        ("api.acme.example:8443", "https://api.acme.example:8443/"),
        ("api.acme.example:*", "https://api.acme.example:1/"),
        ("http://api.acme.example:8080", "http://api.acme.example:8080/"),
        ("http://api.acme.example:8080", "https://api.acme.example:8080/"),
        ("http://api.acme.example", "http://api.acme.example/"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("bücher.example", "https://xn--bcher-kva.example/"),
        ("*", "https://anything.example/"),
    ] {
        assert!(matches(pattern, url), "{pattern} {url}");
    }
    for (pattern, url) in [
        ("api.acme.example", "https://api.acme.example:8443/"),
        ("api.acme.example", "http://api.acme.example/"),
        ("api.acme.example:443", "http://api.acme.example:443/"),
        ("api.acme.example:*", "http://api.acme.example/"),
        ("api.acme.example", "https://evil-api.acme.example/"),
        ("*.acme.example", "https://acme.example/"),
        ("*.acme.example", "https://evilacme.example/"),
        ("*.acme.example", "https://acme.example.evil.example/"),
        ("127.0.0.1", "http://127.0.0.1:8080/"),
        ("127.0.0.1:8080", "http://127.0.0.2:8080/"),
        ("*", "http://anything.example/"),
    ] {
        assert!(!matches(pattern, url), "{pattern} {url}");
    }
    for bad in
        ["", "ftp://a.example", "a.example/x", "u@a.example", "a.*.example", "*a.example", "*.10.0.0.1", "a:0", "a:x", "a b"]
    {
        assert!(HostPattern::parse(bad).is_err(), "{bad}");
    }
    let server = Recipient::new("DB.acme.example", 5432, 5432, false);
    assert!(HostPattern::parse("db.acme.example").unwrap().matches(&server));
    assert!(!HostPattern::parse("db.acme.example").unwrap().matches(&Recipient::new("db.acme.example", 5433, 5432, false)));
}

#[test]
fn a_recipient_prints_as_the_pattern_that_allows_exactly_it() {
    for url in [
        "https://api.acme.example/",
        "https://api.acme.example:8443/",
        "http://api.acme.example/",
        "http://127.0.0.1:9/",
        "http://[::1]:9/",
        "https://[2001:db8::1]/",
    ] {
        let pattern = HostPattern::parse(&to(url).to_string()).unwrap();
        assert!(pattern.matches(&to(url)), "{url} {pattern}");
        assert!(!pattern.matches(&to("https://other.example/")));
    }
}

#[test]
fn the_variables_of_the_process_are_never_credentials() {
    let open = policy("");
    for name in [
        "PATH",
        "HOME",
        "USER",
        "SHELL",
        "PWD",
        "LANG",
        "LC_ALL",
        "LD_PRELOAD",
        "HTTP_PROXY",
        "https_proxy",
        "No_Proxy",
        "SSL_CERT_FILE",
        "AAM_TOKEN",
        "PORT",
        "TOKIO_WORKER_THREADS",
        "NOTIFY_SOCKET",
        "CREDENTIALS_DIRECTORY",
        "KUBERNETES_SERVICE_HOST",
        "SHOP_SERVICE_HOST",
        "SHOP_SERVICE_PORT_HTTP",
        "SHOP_PORT",
        "SHOP_PORT_80_TCP_ADDR",
        "BASH_ENV",
        "ENV",
        "container",
        "INVOCATION_ID",
        "GIT_ASKPASS",
        "GIT_SSH_COMMAND",
        "HISTFILE",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "NODE_PATH",
        "RUBYOPT",
        "PERL5LIB",
        "JAVA_TOOL_OPTIONS",
        "JAVA_HOME",
        "JDK_JAVA_OPTIONS",
    ] {
        let failure = ask(&open, &["folder:a.json"], &format!("env:{name}"), &[]).expect_err(name);
        assert_eq!(failure.class, Class::CredentialMissing);
        assert!(failure.title.contains(name) && failure.fix.contains("OPENAPI_TOKEN"), "{failure:?}");
        let text =
            format!("version: 1\nallowlist: []\napi: {{tokens: [{}]}}\n", token_entry(&format!(", locators: [\"env:{name}\"]")));
        assert!(parse(&text, "p").is_err(), "the policy cannot grant {name}");
    }
    for name in [
        "GITHUB_TOKEN",
        "GITLAB_TOKEN",
        "HOMEPAGE_KEY",
        "PATHFINDER",
        "PORTAL_TOKEN",
        "SUPPORT",
        "USER_TOKEN",
        "AAMCO_KEY",
        "EXPORT_KEY",
        "HISTORY_API_KEY",
        "PYTHON_TOKEN",
        "NODE_TOKEN",
        "NODE_AUTH_TOKEN",
        "RUBYGEMS_API_KEY",
        "PYTHONANYWHERE_TOKEN",
        "JAVA_API_KEY",
        "ENV_TOKEN",
        "CONTAINER_TOKEN",
    ] {
        assert_eq!(ask(&open, &["folder:a.json"], &format!("env:{name}"), &[]), Ok(()), "{name}");
    }
}

#[test]
fn the_origin_of_the_document_decides() {
    let granted = with_token(", locators: [\"env:SALES_*\"], hosts: [api.acme.example]");
    let (home, away) = (to("https://api.acme.example/"), to("https://evil.example/"));
    assert_eq!(ask(&granted, &["api:aod"], "env:SALES_TOKEN", &[]), Ok(()));
    assert_eq!(ask(&granted, &["api:aod"], "env:SALES_TOKEN", std::slice::from_ref(&home)), Ok(()));
    assert!(ask(&granted, &["api:aod"], "env:SALES_TOKEN", &[home.clone(), away.clone()]).is_err());
    assert!(ask(&granted, &["api:aod"], "env:OTHER", &[]).is_err());
    assert!(ask(&granted, &["api:gone"], "env:SALES_TOKEN", &[]).is_err(), "a removed token has no grant");
    assert!(ask(&granted, &["api:AOD"], "env:SALES_TOKEN", &[]).is_err(), "names are compared with case");
    assert!(ask(&granted, &[], "env:SALES_TOKEN", &[]).is_err(), "without an origin, no right");
    for trusted in ["folder:a.json", "api:admin"] {
        assert_eq!(ask(&granted, &[trusted], "env:OTHER", std::slice::from_ref(&away)), Ok(()), "{trusted}");
        assert_eq!(ask(&granted, &["api:gone", trusted], "env:OTHER", std::slice::from_ref(&away)), Ok(()), "{trusted}");
    }
    assert!(ask(&policy(""), &["api:aod"], "env:A", &[]).is_err(), "without tokens only the admin may push");
    assert!(ask(&granted, &["folder:a.json"], "vault:aam/*", &[]).is_err(), "a locator names one credential");
}

#[test]
fn the_name_of_the_admin_token_is_reserved() {
    let text = format!("version: 1\nallowlist: []\napi: {{tokens: [{}]}}\n", token_entry("").replace("aod", "admin"));
    let problems = parse(&text, "p").unwrap_err();
    assert!(problems[0].message.contains("reserved"), "{problems:?}");
}

#[test]
fn the_fix_is_what_to_add_and_works_when_it_is_added() {
    let (locator, evil) = ("env:SALES_TOKEN", to("https://api.acme.example:8443/"));
    let added = |policy: &Policy| ask(policy, &["api:aod"], locator, std::slice::from_ref(&evil)).unwrap_err().fix;
    let fix = added(&with_token(""));
    let line = fix.strip_prefix("in the policy under api.tokens, add to the entry of the token aod: ").expect(&fix);
    let after = with_token(&format!(", {line}"));
    assert_eq!(ask(&after, &["api:aod"], locator, std::slice::from_ref(&evil)), Ok(()), "{line}");
    assert!(ask(&after, &["api:aod"], "env:SALES_TOKEN_2", &[]).is_err(), "the line grants nothing else");
    let fix = added(&with_token(", locators: [\"env:SECRET_NAME\"], hosts: [secret.example]"));
    assert_eq!(
        fix,
        "in the policy under api.tokens, in the entry of the token aod, add \"env:SALES_TOKEN\" to its locators and \"api.acme.example:8443\" to its hosts",
        "what the entry holds already is not shown"
    );
}

#[test]
fn a_locator_of_one_namespace_is_not_used_by_another() {
    let bound = policy("credentials: {namespaces: {autonomy: [\"env:AUTO_*\"], team_b: [\"env:TEAM_B_*\", \"env:SHARED\"]}}");
    assert_eq!(ask(&bound, &["folder:a.json"], "env:AUTO_TOKEN", &[]), Ok(()));
    for other in ["env:TEAM_B_TOKEN", "env:SHARED", "env:ELSE"] {
        for origin in ["folder:a.json", "api:admin"] {
            let failure = ask(&bound, &[origin], other, &[]).expect_err(other);
            assert!(!failure.fix.contains("TEAM_B_*"), "the lists of other namespaces are not shown: {failure:?}");
            let line = failure.fix.strip_prefix("in the policy, under credentials.namespaces, write: ").expect(&failure.fix);
            let after =
                policy(&format!("credentials:\n  namespaces:\n    {line}\n    team_b: [\"env:TEAM_B_*\", \"env:SHARED\"]"));
            assert_eq!(ask(&after, &[origin], other, &[]), Ok(()), "{line}");
        }
    }
    let others = policy("credentials: {namespaces: {team_b: [\"env:TEAM_B_*\"]}}");
    assert!(ask(&others, &["folder:a.json"], "env:TEAM_B_TOKEN", &[]).is_err());
    assert_eq!(ask(&others, &["folder:a.json"], "env:FREE", &[]), Ok(()), "an unlisted namespace may use what is not bound");
}

#[test]
fn a_changed_right_changes_the_inputs_of_the_connections_it_concerns() {
    let slice = Digest::from_bytes(b"slice");
    let of = |policy: &Policy, texts: &[&str]| {
        let origins: Vec<Origin> = texts.iter().map(|text| Origin((*text).into())).collect();
        Rights::new(policy).add_to(slice, origins.iter())
    };
    let (none, some) = (with_token(""), with_token(", locators: [\"env:A\"]"));
    assert_eq!(of(&none, &["folder:a.json"]), slice);
    assert_eq!((of(&some, &["folder:a.json"]), of(&some, &["api:admin"])), (slice, slice));
    assert_ne!(of(&none, &["api:aod"]), of(&some, &["api:aod"]));
    assert_ne!(of(&none, &["api:gone"]), of(&none, &["api:aod"]), "a removed token is not a token without locators");
    assert_eq!(of(&none, &["api:gone"]), of(&some, &["api:gone"]));
    assert_ne!(of(&some, &["api:aod", "api:gone"]), of(&some, &["api:gone"]));
    assert_eq!(of(&some, &["api:aod", "folder:a.json"]), slice, "the folder asks for the same document");
    let bound = policy("credentials: {namespaces: {autonomy: [\"env:A\"]}}");
    assert_ne!(of(&bound, &["folder:a.json"]), slice);
}

#[test]
fn the_hints_about_locators_and_hosts_are_accepted_when_they_are_followed() {
    let problems = |grant: &str| {
        let text = format!("version: 1\nallowlist: []\napi: {{tokens: [{}]}}\n", token_entry(grant));
        parse(&text, "p").map_or_else(|problems| problems.iter().map(ToString::to_string).collect(), |_| String::new())
    };
    for (mistake, hint, followed) in [
        (", locators: env:A", "write [env:A]", ", locators: [env:A]"),
        (", locators: [\"env:SALES*\"]", "write env:PREFIX_*, file:/folder/* or vault:path/*", ", locators: [\"env:SALES_*\"]"),
        (", locators: [\"*\"]", "write env:PREFIX_*, file:/folder/* or vault:path/*", ", locators: [\"env:*\"]"),
        (
            ", locators: [\"env:*_TOKEN\"]",
            "write env:NAME, env:PREFIX_*, file:/folder/* or vault:path/*",
            ", locators: [\"env:A_TOKEN\"]",
        ),
        (", locators: [SALES]", "write env:NAME", ", locators: [\"env:SALES\"]"),
        (", locators: [\"env:HOME\"]", "store the credential in a variable of its own", ", locators: [\"env:HOME_TOKEN\"]"),
        (", locators: [\"env:A\", \"env:A\"]", "remove one of the two", ", locators: [\"env:A\"]"),
        (", hosts: [a.example]", "locators: [env:NAME]", ", hosts: [a.example], locators: [env:NAME]"),
        (
            ", locators: [env:A], hosts: [\"ftp://a.example\"]",
            "write api.acme.example",
            ", locators: [env:A], hosts: [api.acme.example]",
        ),
        (
            ", locators: [env:A], hosts: [a.example/x]",
            "*.acme.example:8443",
            ", locators: [env:A], hosts: [\"*.acme.example:8443\"]",
        ),
        (
            ", locators: [env:A], hosts: [\"a.*\"]",
            "write *.acme.example, or * for every host",
            ", locators: [env:A], hosts: [\"*\"]",
        ),
        (
            ", locators: [env:A], hosts: [\"*.10.0.0.1\"]",
            "write the address itself",
            ", locators: [env:A], hosts: [\"http://10.0.0.1:80\"]",
        ),
    ] {
        let before = problems(mistake);
        assert!(before.contains(hint), "{mistake}: {hint:?} is not in {before}");
        assert_eq!(problems(followed), "", "{followed}");
    }
}

#[test]
fn the_variable_of_a_fix_can_be_a_credential() {
    for (source_type, name) in [
        ("github", "GITHUB_TOKEN"),
        ("acme-crm.v2", "ACME_CRM_V2_TOKEN"),
        ("aam_crm", "SOURCE_AAM_CRM_TOKEN"),
        ("3par", "SOURCE_3PAR_TOKEN"),
        ("Größe", "GR__E_TOKEN"),
    ] {
        assert_eq!(example_variable(source_type), name);
        let locator = format!("env:{name}");
        assert_eq!(ask(&policy(""), &["folder:a.json"], &locator, &[]), Ok(()), "{locator}");
    }
}
