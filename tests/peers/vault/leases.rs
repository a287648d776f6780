//! Connections that live on users which OpenBao creates in PostgreSQL.

use super::bao::*;
use crate::harness::variable;
use crate::support::daemon::{Daemon, Workspace, intent_with_locator, until};
use serde_json::{Value, json};

peer_tests! {
    [Openbao, Postgres]: a_connection_lives_on_a_leased_user_and_gets_a_new_lease_after_its_revocation,
        a_lease_is_shared_and_revoked_with_its_last_user, a_lease_is_renewed_and_replaced_before_it_ends,
        a_lease_that_may_not_be_revoked_is_logged;
}

/// A database mount with a role that creates readers of the database `shop`.
struct Roles {
    mount: String,
    id: String,
}

/// Creates the mount with leases of `ttl`, renewable until `max_ttl`.
async fn roles(bao: &Bao, ttl: &str, max_ttl: &str) -> Roles {
    let mount = unique("database");
    let (port, user, password) =
        (variable("POSTGRES", "PORT"), variable("POSTGRES", "SUPER"), variable("POSTGRES", "SUPER_PASSWORD"));
    bao.write(&format!("sys/mounts/{mount}"), json!({"type": "database"})).await;
    let url = format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{port}/shop?sslmode=disable");
    let config = json!({
        "plugin_name": "postgresql-database-plugin", "allowed_roles": "reader", "connection_url": url, "username": user,
        "password": password,
    });
    bao.write(&format!("{mount}/config/shop"), config).await;
    let create = [
        "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';",
        "GRANT USAGE ON SCHEMA sales TO \"{{name}}\";",
        "GRANT SELECT ON sales.customer TO \"{{name}}\";",
    ];
    let revoke = [
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';",
        "DROP OWNED BY \"{{name}}\";",
        "DROP ROLE IF EXISTS \"{{name}}\";",
    ];
    let role = json!({
        "db_name": "shop", "creation_statements": create, "revocation_statements": revoke, "default_ttl": ttl, "max_ttl": max_ttl,
    });
    bao.write(&format!("{mount}/roles/reader"), role).await;
    Roles { mount, id: format!("postgresql://127.0.0.1:{port}/shop") }
}

impl Roles {
    fn locator(&self) -> String {
        format!("vault:{}/creds/reader", self.mount)
    }

    /// The ids of the leases that exist.
    async fn leases(&self, bao: &Bao) -> Vec<String> {
        let (_, answer) = bao.call("LIST", &format!("sys/leases/lookup/{}/creds/reader", self.mount), Value::Null).await;
        let keys = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().filter_map(Value::as_str).map(|id| format!("{}/creds/reader/{id}", self.mount)).collect()
    }

    async fn until_leases(&self, bao: &Bao, count: usize) -> Vec<String> {
        until("the number of leases is as expected", || async {
            let leases = self.leases(bao).await;
            (leases.len() == count, format!("{leases:?}"))
        })
        .await;
        self.leases(bao).await
    }

    /// A workspace whose login is an AppRole that may read the role and, with `more`, other paths.
    async fn workspace(&self, bao: &Bao, more: &str) -> Workspace {
        let rules = format!("path \"{}/creds/reader\" {{ capabilities = [\"read\"] }}\n{more}", self.mount);
        let (role_id, secret_id, mount) = app_role(bao, &rules, json!({"token_ttl": "1h"})).await;
        let mut workspace = Workspace::new();
        workspace.set("VAULT_ROLE_ID", &role_id);
        workspace.set("VAULT_SECRET_ID", &secret_id);
        let login =
            format!("{{method: approle, mount: {mount}, role_id: \"env:VAULT_ROLE_ID\", secret_id: \"env:VAULT_SECRET_ID\"}}");
        workspace.write_policy(&section(&bao.url, &login, ""));
        workspace
    }
}

/// Creates an AppRole with `rules` and `settings`; returns role id, secret id and the mount.
pub async fn app_role(bao: &Bao, rules: &str, settings: Value) -> (String, String, String) {
    let (mount, policy) = (unique("approle"), bao.policy(rules).await);
    bao.write(&format!("sys/auth/{mount}"), json!({"type": "approle"})).await;
    let mut role = json!({"token_policies": [policy]});
    role.as_object_mut().unwrap().extend(settings.as_object().cloned().unwrap());
    bao.write(&format!("auth/{mount}/role/aam"), role).await;
    let role_id = bao.read(&format!("auth/{mount}/role/aam/role-id")).await["data"]["role_id"].as_str().unwrap().to_string();
    let secret = bao.write(&format!("auth/{mount}/role/aam/secret-id"), json!({})).await;
    (role_id, secret["data"]["secret_id"].as_str().unwrap().to_string(), mount)
}

/// Checks the connection of `pushed` again.
pub async fn heal(daemon: &Daemon, pushed: &Value) -> Value {
    let id = pushed["connection_id"].as_str().unwrap_or_else(|| panic!("no id in {pushed}"));
    daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.body
}

async fn a_connection_lives_on_a_leased_user_and_gets_a_new_lease_after_its_revocation() {
    let bao = Bao::new("DEV");
    let roles = roles(&bao, "1h", "24h").await;
    let daemon = serve(roles.workspace(&bao, "").await).await;
    let pushed = daemon.daemon.push(&intent_with_locator("postgres", &roles.id, &roles.locator())).await.body;
    assert_eq!(pushed["status"], "ACTIVE", "{pushed}");
    let evidence = credential_step(&pushed)["evidence"].clone();
    let leases = roles.until_leases(&bao, 1).await;
    assert_eq!(evidence["lease"], leases[0], "{evidence}");
    assert!(evidence["valid_until"].is_string(), "{evidence}");
    // Another attempt uses the same lease.
    assert_eq!(heal(&daemon.daemon, &pushed).await["status"], "ACTIVE");
    assert_eq!(roles.leases(&bao).await, leases);
    // The user is gone, which only the database knows; its rejection leads to a new lease within the same attempt.
    bao.write("sys/leases/revoke", json!({"lease_id": leases[0], "sync": true})).await;
    let healed = heal(&daemon.daemon, &pushed).await;
    assert_eq!(healed["status"], "ACTIVE", "{healed}");
    let renewed = roles.until_leases(&bao, 1).await;
    assert_ne!(renewed, leases);
    // An orderly stop gives the lease back with the token.
    assert_eq!(daemon.daemon.stop().await, Some(0));
    roles.until_leases(&bao, 0).await;
}

async fn a_lease_is_shared_and_revoked_with_its_last_user() {
    let bao = Bao::new("DEV");
    let roles = roles(&bao, "1h", "24h").await;
    let revoking = "path \"sys/leases/revoke\" { capabilities = [\"update\"] }";
    let daemon = serve(roles.workspace(&bao, revoking).await).await;
    let jdbc = format!("jdbc:{}", roles.id);
    daemon.workspace.intent_file("a.json", &intent_with_locator("postgres", &roles.id, &roles.locator()));
    daemon.workspace.intent_file("b.json", &intent_with_locator("jdbc", &jdbc, &roles.locator()));
    daemon.daemon.until_state(&roles.id, "ACTIVE").await;
    daemon.daemon.until_state(&jdbc, "ACTIVE").await;
    let leases = roles.until_leases(&bao, 1).await;
    std::fs::remove_file(daemon.workspace.path("intents/a.json")).unwrap();
    daemon.daemon.until_state(&roles.id, "RETIRED").await;
    assert_eq!(roles.leases(&bao).await, leases, "the other connection still uses it");
    std::fs::remove_file(daemon.workspace.path("intents/b.json")).unwrap();
    roles.until_leases(&bao, 0).await;
}

async fn a_lease_is_renewed_and_replaced_before_it_ends() {
    let bao = Bao::new("DEV");
    let roles = roles(&bao, "6s", "12s").await;
    let daemon = serve(roles.workspace(&bao, "").await).await;
    let pushed = daemon.daemon.push(&intent_with_locator("postgres", &roles.id, &roles.locator())).await.body;
    assert_eq!(pushed["status"], "ACTIVE", "{pushed}");
    let first = roles.until_leases(&bao, 1).await;
    until("the lease is renewed", || async {
        let (_, found) = bao.call("POST", "sys/leases/lookup", json!({"lease_id": first[0]})).await;
        (found["data"]["last_renewal"].is_string(), found.to_string())
    })
    .await;
    until("the lease is replaced, and each attempt before passes", || async {
        let healed = heal(&daemon.daemon, &pushed).await;
        assert_eq!(healed["status"], "ACTIVE", "{healed}");
        let lease = credential_step(&healed)["evidence"]["lease"].clone();
        (lease != first[0], lease.to_string())
    })
    .await;
}

async fn a_lease_that_may_not_be_revoked_is_logged() {
    let bao = Bao::new("DEV");
    let roles = roles(&bao, "1h", "24h").await;
    let daemon = serve(roles.workspace(&bao, "").await).await;
    daemon.workspace.intent_file("a.json", &intent_with_locator("postgres", &roles.id, &roles.locator()));
    daemon.daemon.until_state(&roles.id, "ACTIVE").await;
    let leases = roles.until_leases(&bao, 1).await;
    std::fs::remove_file(daemon.workspace.path("intents/a.json")).unwrap();
    until("the log says that the lease is not revoked", || async {
        let log = daemon.daemon.log();
        (log.contains("the vault did not revoke a lease; AAM does not renew it any more") && log.contains(&leases[0]), log)
    })
    .await;
}
