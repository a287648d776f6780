//! `vault:` locators against OpenBao: what is read, and what connections live on.

mod bao;
pub mod failures;
pub mod guide;
pub mod leases;
pub mod logins;

use crate::support::bearer_service::BearerService;
use crate::support::daemon::{intent_with_locator, stdout};
use bao::*;
use serde_json::json;

peer_tests! {
    [Openbao]: a_secret_of_kv_version_2_is_read_by_each_spelling, a_secret_of_kv_version_1_is_read,
        a_rotated_secret_is_taken_up_without_a_restart, a_sealed_vault_leaves_active_connections_active_while_the_value_is_valid,
        the_end_of_the_vault_token_and_of_a_version_are_facts, a_root_token_is_a_warning;
}

async fn a_secret_of_kv_version_2_is_read_by_each_spelling() {
    let bao = Bao::new("DEV");
    let (mount, token) = (bao.kv(2).await, unique("s3cr3t"));
    bao.put(&mount, "aam/github", json!({"token": token, "owner": "team"})).await;
    bao.put(&mount, "aam/single", json!({"only": token})).await;
    let policy = bao.policy(&format!("path \"{mount}/data/aam/*\" {{ capabilities = [\"read\"] }}")).await;
    let service = BearerService::start(&token).await;
    let workspace = workspace(&bao.url, &bao.create_token(&policy, json!({})).await, &format!(", path: {mount}/aam"));
    for locator in [
        format!("vault:{mount}/aam/github#token"),
        format!("vault://{mount}/aam/github#token"),
        "vault:github#token".to_string(),
        // All fields, of which the source takes the one that it knows.
        "vault:github".to_string(),
        // The only field is also the plain value.
        "vault:single".to_string(),
    ] {
        let result = attempt(&workspace, &service.url("a"), &locator);
        assert_eq!(result["status"], "ACTIVE", "{locator}: {result}");
        let evidence = &credential_step(&result)["evidence"];
        assert_eq!((&evidence["provider"], &evidence["version"]), (&json!("vault"), &json!(1)), "{evidence}");
        assert!(!result.to_string().contains(&token));
    }
    let plan = workspace.path("intents/one.json");
    std::fs::write(&plan, intent_with_locator("openapi", &service.url("a"), "vault:github#token").to_string()).unwrap();
    let text = stdout(&workspace.run(&["plan"]));
    for part in ["/v1/auth/token/lookup-self".to_string(), format!("/v1/{mount}/data/aam/github")] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
}

async fn a_secret_of_kv_version_1_is_read() {
    let bao = Bao::new("DEV");
    let (mount, token) = (bao.kv(1).await, unique("s3cr3t"));
    bao.write(&format!("{mount}/aam/github"), json!({"token": token})).await;
    let policy = bao.policy(&format!("path \"{mount}/aam/*\" {{ capabilities = [\"read\"] }}")).await;
    let service = BearerService::start(&token).await;
    let workspace = workspace(&bao.url, &bao.create_token(&policy, json!({})).await, "");
    let result = attempt(&workspace, &service.url("a"), &format!("vault:{mount}/aam/github#token"));
    assert_eq!(result["status"], "ACTIVE", "{result}");
    assert!(credential_step(&result)["evidence"]["version"].is_null());
}

async fn a_rotated_secret_is_taken_up_without_a_restart() {
    let bao = Bao::new("DEV");
    let (mount, old, new) = (bao.kv(2).await, unique("0ld"), unique("n3w"));
    bao.put(&mount, "github", json!({"token": old})).await;
    let policy = bao.policy(&format!("path \"{mount}/data/*\" {{ capabilities = [\"read\"] }}")).await;
    let service = BearerService::start(&old).await;
    let workspace = workspace(&bao.url, &bao.create_token(&policy, json!({})).await, "");
    let daemon = workspace.serve().await;
    let id = service.url("a");
    let pushed = daemon.push(&intent_with_locator("openapi", &id, &format!("vault:{mount}/github#token"))).await;
    assert_eq!(pushed.body["status"], "ACTIVE", "{}", pushed.body);
    bao.put(&mount, "github", json!({"token": new})).await;
    service.accept(&[&new]);
    let heal = format!("/connections/{}/heal", pushed.body["connection_id"].as_str().unwrap());
    let healed = daemon.post(&heal, &json!({})).await;
    assert_eq!(healed.body["status"], "ACTIVE", "{}", healed.body);
    assert!(!daemon.log().contains(&old) && !daemon.log().contains(&new));
}

async fn a_sealed_vault_leaves_active_connections_active_while_the_value_is_valid() {
    let bao = Bao::new("SEAL");
    let (mount, token) = (bao.kv(2).await, unique("s3cr3t"));
    bao.put(&mount, "github", json!({"token": token})).await;
    let policy = bao.policy(&format!("path \"{mount}/data/*\" {{ capabilities = [\"read\"] }}")).await;
    let service = BearerService::start(&token).await;
    let mut workspace = workspace(&bao.url, &bao.create_token(&policy, json!({"ttl": "24h"})).await, ", kv_ttl: 2h");
    let clock = workspace.path("clock");
    std::fs::write(&clock, "0").unwrap();
    workspace.set("AAM_TEST_CLOCK", &clock.display().to_string());
    let daemon = workspace.serve().await;
    let id = service.url("a");
    let pushed = daemon.push(&intent_with_locator("openapi", &id, &format!("vault:{mount}/github#token"))).await;
    assert_eq!(pushed.body["status"], "ACTIVE", "{}", pushed.body);
    bao.seal().await;
    let heal = format!("/connections/{}/heal", pushed.body["connection_id"].as_str().unwrap());
    let healed = daemon.post(&heal, &json!({})).await;
    assert_eq!(healed.body["status"], "ACTIVE", "{}", healed.body);
    let step = credential_step(&healed.body);
    let title = step["failure"]["title"].as_str().unwrap_or_default();
    assert!(step["status"] == "warned" && title.contains("the value that was read before is used until"), "{step}");
    assert!(title.contains("is sealed"), "{step}");
    // The validity of the value ends, and the vault is still sealed.
    std::fs::write(&clock, (2 * 3_600_000 + 1000).to_string()).unwrap();
    let healed = daemon.post(&heal, &json!({})).await;
    assert_ne!(healed.body["status"], "ACTIVE", "{}", healed.body);
    let step = credential_step(&healed.body);
    let title = step["failure"]["title"].as_str().unwrap_or_default();
    assert!(title.contains("is sealed; the value that was read before is not valid any more"), "{step}");
    bao.unseal().await;
    daemon.until_state(&id, "ACTIVE").await;
}

async fn the_end_of_the_vault_token_and_of_a_version_are_facts() {
    let bao = Bao::new("DEV");
    let (mount, token) = (bao.kv(2).await, unique("s3cr3t"));
    bao.put(&mount, "github", json!({"token": token})).await;
    let policy = bao.policy(&format!("path \"{mount}/data/*\" {{ capabilities = [\"read\"] }}")).await;
    let service = BearerService::start(&token).await;
    let locator = format!("vault:{mount}/github#token");
    let limited = bao.create_token(&policy, json!({"ttl": "1h", "explicit_max_ttl": "1h"})).await;
    let periodic = bao.create_token(&policy, json!({"period": "1h"})).await;
    let evidence = |token: &str| credential_step(&attempt(&workspace(&bao.url, token, ""), &service.url("a"), &locator));
    let step = evidence(&limited);
    assert!(step["evidence"]["ends_at"].as_str().is_some_and(|at| at.starts_with("20")), "{step}");
    assert!(evidence(&periodic)["evidence"]["ends_at"].is_null(), "AAM renews a periodic token");
    bao.write(&format!("{mount}/metadata/github"), json!({"delete_version_after": "90m"})).await;
    bao.put(&mount, "github", json!({"token": token})).await;
    assert!(evidence(&periodic)["evidence"]["ends_at"].is_string());
}

async fn a_root_token_is_a_warning() {
    let bao = Bao::new("DEV");
    let (mount, token) = (bao.kv(2).await, unique("s3cr3t"));
    bao.put(&mount, "github", json!({"token": token})).await;
    let service = BearerService::start(&token).await;
    let result = attempt(&workspace(&bao.url, &bao.token, ""), &service.url("a"), &format!("vault:{mount}/github#token"));
    assert_eq!(result["status"], "ACTIVE", "{result}");
    assert!(failure(&result).starts_with("over_privileged: AAM's token of the vault"), "{result}");
}
