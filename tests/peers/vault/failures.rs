//! Each failure of a vault has its own text, and a fix that works.

use super::bao::*;
use crate::harness::variable;
use crate::support::bearer_service::BearerService;
use crate::support::daemon::{Workspace, stderr};
use crate::support::network::closed_port;
use serde_json::json;

peer_tests! {
    [Openbao]: a_denied_path_shows_the_rule_that_allows_it, secrets_that_cannot_be_used_are_named, an_expired_token_is_named,
        a_vault_that_is_not_ready_is_named, a_wrong_authority_is_named_and_the_named_file_is_trusted,
        a_rate_limit_is_waited_for, plain_http_to_another_machine_is_refused;
}

/// The path and the capability of the first rule in `text`.
fn rule(text: &str) -> String {
    let start = text.find("path \"").unwrap_or_else(|| panic!("no rule in {text}"));
    let end = text[start..].find('}').map(|end| start + end + 1).expect("the end of the rule");
    text[start..end].to_string()
}

async fn a_denied_path_shows_the_rule_that_allows_it() {
    let bao = Bao::new("DEV");
    let (mount, first, token) = (bao.kv(2).await, bao.kv(1).await, unique("s3cr3t"));
    bao.put(&mount, "aam/github", json!({"token": token})).await;
    bao.put(&mount, "aam/other", json!({"token": token})).await;
    bao.write(&format!("{first}/aam/github"), json!({"token": token})).await;
    let service = BearerService::start(&token).await;
    // The first policy sees the mounts, the second one sees nothing.
    let seeing = format!(
        "path \"{mount}/data/aam/other\" {{ capabilities = [\"read\"] }}\npath \"{first}/other\" {{ capabilities = [\"read\"] }}"
    );
    for (rules, locator) in [
        (seeing.as_str(), format!("vault:{mount}/aam/github#token")),
        (seeing.as_str(), format!("vault:{first}/aam/github#token")),
        ("path \"x/y\" { capabilities = [\"read\"] }", format!("vault:{mount}/aam/github#token")),
    ] {
        let policy = bao.policy(rules).await;
        let space = workspace(&bao.url, &bao.create_token(&policy, json!({})).await, "");
        let text = failure(&attempt(&space, &service.url("a"), &locator));
        assert!(text.contains("does not let AAM read") && text.contains("the vault answered 403: \""), "{text}");
        let rule = rule(&text);
        assert!(rule.ends_with("{ capabilities = [\"read\"] }"), "{rule}");
        // The rule is pasted as it is.
        bao.write(&format!("sys/policies/acl/{policy}"), json!({"policy": rule})).await;
        let result = attempt(&space, &service.url("a"), &locator);
        assert_eq!(result["status"], "ACTIVE", "{rule}: {result}");
    }
}

async fn secrets_that_cannot_be_used_are_named() {
    let bao = Bao::new("DEV");
    let (mount, token) = (bao.kv(2).await, unique("s3cr3t"));
    let odd =
        json!({"token": token, "number": 5, "list": ["a"], "object": {"a": "b"}, "null": null, "empty": " ", "short": "ab"});
    bao.put(&mount, "aam/odd", odd).await;
    bao.put(&mount, "aam/deleted", json!({"token": token})).await;
    bao.put(&mount, "aam/destroyed", json!({"token": token})).await;
    bao.call("DELETE", &format!("{mount}/data/aam/deleted"), json!(null)).await;
    bao.call("PUT", &format!("{mount}/destroy/aam/destroyed"), json!({"versions": [1]})).await;
    let policy = bao.policy(&format!("path \"{mount}/*\" {{ capabilities = [\"read\"] }}")).await;
    let service = BearerService::start(&token).await;
    let space = workspace(&bao.url, &bao.create_token(&policy, json!({})).await, "");
    for (rest, parts) in [
        ("aam/none", vec!["does not have a secret at", "404", "bao kv put"]),
        ("aam/odd#tokn", vec!["does not have the field tokn", "aam/odd#token", "its fields are", "list, null, number"]),
        ("aam/odd#number", vec!["the field number", "is a number, not a text"]),
        ("aam/odd#list", vec!["is a list, not a text"]),
        ("aam/odd#object", vec!["is an object, not a text"]),
        ("aam/odd#null", vec!["is null, not a text"]),
        ("aam/odd#empty", vec!["the field empty", "is empty"]),
        ("aam/odd#short", vec!["is shorter than 4 characters"]),
        ("aam/deleted#token", vec!["version 1", "is deleted since 20", "bao kv undelete", "-versions=1 aam/deleted"]),
        ("aam/destroyed#token", vec!["version 1", "is destroyed and cannot be restored"]),
        ("data/aam/odd#token", vec!["is the path of the vault's API", "aam/odd#token: AAM adds data/ itself"]),
        ("aam/../odd#token", vec!["has . or .. as a part of its path"]),
    ] {
        let result = attempt(&space, &service.url("a"), &format!("vault:{mount}/{rest}"));
        assert_eq!(result["status"], "AWAITING_CREDENTIALS", "{rest}: {result}");
        let text = failure(&result);
        parts.iter().for_each(|part| assert!(text.contains(part), "{rest}: {part} is not in {text}"));
        assert!(!text.contains(&token), "{text}");
    }
    for (locator, part) in [
        ("vault:nowhere/aam/x#token", "does not have a secrets engine at nowhere/"),
        ("vault:auth/token/lookup-self#id", "keeps its own settings"),
        ("vault:plain", "does not say in which folder"),
    ] {
        let text = failure(&attempt(&space, &service.url("a"), locator));
        assert!(text.contains(part), "{locator}: {text}");
    }
    let elsewhere = workspace(&bao.url, &bao.token, ", namespace: nowhere");
    let text = failure(&attempt(&elsewhere, &service.url("a"), &format!("vault:{mount}/aam/odd#token")));
    assert!(text.contains("does not have the namespace nowhere"), "{text}");
}

async fn an_expired_token_is_named() {
    let bao = Bao::new("DEV");
    let mount = bao.kv(2).await;
    let policy = bao.policy(&format!("path \"{mount}/*\" {{ capabilities = [\"read\"] }}")).await;
    let revoked = bao.create_token(&policy, json!({})).await;
    bao.write("auth/token/revoke", json!({"token": revoked})).await;
    let text =
        failure(&attempt(&workspace(&bao.url, &revoked, ""), "http://127.0.0.1:1/openapi.json", &format!("vault:{mount}/x#y")));
    assert!(text.contains("the token of env:VAULT_TOKEN is expired, revoked or not valid"), "{text}");
    assert!(text.contains("bao token create -policy=aam -period=768h -orphan") && !text.contains(&revoked), "{text}");
}

async fn a_vault_that_is_not_ready_is_named() {
    let attempt_at =
        |url: &str| failure(&attempt(&workspace(url, "s.sometoken123", ""), "http://127.0.0.1:1/openapi.json", "vault:a/b#c"));
    let raw = variable("OPENBAO", "RAW_URL");
    assert!(attempt_at(&raw).contains(&format!("the vault {raw} is not initialized")), "{}", attempt_at(&raw));
    let (_held, port) = closed_port();
    let text = attempt_at(&format!("http://127.0.0.1:{port}"));
    assert!(text.contains("network: could not read from the vault") && text.contains("connection refused"), "{text}");
}

async fn a_wrong_authority_is_named_and_the_named_file_is_trusted() {
    let bao = Bao::new("TLS");
    let (mount, token) = (bao.kv(2).await, unique("s3cr3t"));
    bao.put(&mount, "github", json!({"token": token})).await;
    let service = BearerService::start(&token).await;
    let locator = format!("vault:{mount}/github#token");
    let text = failure(&attempt(&workspace(&bao.url, &bao.token, ""), &service.url("a"), &locator));
    assert!(text.contains("issued by an authority that is not trusted here"), "{text}");
    assert!(text.contains("name it in the policy: credentials.vault.ca_file"), "{text}");
    let trusting = workspace(&bao.url, &bao.token, &format!(", ca_file: {}", variable("OPENBAO", "TLS_CA_FILE")));
    let result = attempt(&trusting, &service.url("a"), &locator);
    assert_eq!(result["status"], "ACTIVE", "{result}");
}

async fn a_rate_limit_is_waited_for() {
    let bao = Bao::new("DEV");
    let (mount, token) = (bao.kv(1).await, unique("s3cr3t"));
    bao.write(&format!("{mount}/github"), json!({"token": token})).await;
    let policy = bao.policy(&format!("path \"{mount}/*\" {{ capabilities = [\"read\"] }}")).await;
    let space = workspace(&bao.url, &bao.create_token(&policy, json!({})).await, "");
    bao.write(&format!("sys/quotas/rate-limit/{mount}"), json!({"rate": 1, "interval": "60s", "path": format!("{mount}/")}))
        .await;
    bao.read(&format!("{mount}/github")).await;
    let text = failure(&attempt(&space, "http://127.0.0.1:1/openapi.json", &format!("vault:{mount}/github#token")));
    assert!(
        text.contains("throttled: rate limited by the vault") && text.contains("credentials.caps.vault.per_second"),
        "{text}"
    );
}

async fn plain_http_to_another_machine_is_refused() {
    let space = Workspace::new();
    space.write_policy(&section("http://vault.acme.example:8200", "{method: token, token: \"env:VAULT_TOKEN\"}", ""));
    let output = space.run(&["check"]);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("would be called without TLS"), "{text}");
}
