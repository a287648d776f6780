//! The commands of docs/operations.md work as they are written.

use super::bao::*;
use crate::harness::variable;
use crate::support::bearer_service::BearerService;
use crate::support::daemon::Workspace;
use serde_json::json;
use std::path::Path;
use std::process::Command;

peer_tests! {
    [Openbao]: the_commands_of_the_guide_create_a_login_that_reads;
}

/// The shell commands and the policy behind the mark in the document.
fn guide() -> (String, String) {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = std::fs::read_to_string(document).unwrap();
    let rest = text.split("tests/peers/vault/guide.rs runs these commands").nth(1).expect("the mark");
    let block = |name: &str| rest.split(&format!("```{name}\n")).nth(1).unwrap().split("```").next().unwrap().to_string();
    (block("sh"), block("yaml"))
}

async fn the_commands_of_the_guide_create_a_login_that_reads() {
    let (bao, token) = (Bao::new("DEV"), unique("s3cr3t"));
    let (commands, policy) = guide();
    bao.write("sys/mounts/secret", json!({"type": "kv", "options": {"version": "2"}})).await;
    bao.put("secret", "aam/github", json!({"token": token})).await;
    let bin = variable("OPENBAO", "BIN");
    let path = format!("{}:{}", Path::new(&bin).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands])
        .env("PATH", path)
        .env("BAO_ADDR", &bao.url)
        .env("BAO_TOKEN", &bao.token)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    // The two ids are UUIDs and printed last.
    let ids: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (rest, secret_id) = ids.split_at(ids.len() - 36);
    let role_id = &rest[rest.len() - 36..];
    let mut workspace = Workspace::new();
    workspace.set("VAULT_ROLE_ID", role_id);
    workspace.set("VAULT_SECRET_ID", secret_id);
    workspace.write_policy(&policy.replace("https://vault.acme.example:8200", &bao.url));
    let service = BearerService::start(&token).await;
    let result = attempt(&workspace, &service.url("a"), "vault:github#token");
    assert_eq!(result["status"], "ACTIVE", "{result}");
}
