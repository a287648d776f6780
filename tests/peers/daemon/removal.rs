//! The statements of `aam privileges`, pasted into the servers, leave a credential that only reads.

use super::sources::*;
use crate::support::daemon::{Daemon, Workspace, stderr, stdout};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

peer_tests! {
    [Postgres, Mariadb]: the_statements_of_aam_privileges_take_the_excess_away;
}

const PASSWORD: &str = "excess-password-1";

/// A database of its own with a role that may write for every reason there is: grants to itself, to PUBLIC and to a group,
/// ownership, attributes, and a role of the server.
async fn postgres_role(name: &str) {
    let admin = postgres("postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
    let admin = postgres(name).await;
    admin
        .batch_execute(&format!(
            "CREATE SCHEMA sales; CREATE TABLE sales.\"Order x\" AS SELECT 1 AS id; CREATE TABLE sales.b AS SELECT 1 AS id; \
             CREATE TABLE sales.open AS SELECT 1 AS id; CREATE TABLE sales.own AS SELECT 1 AS id; CREATE TABLE sales.team AS SELECT 1 AS id; \
             CREATE ROLE {name} LOGIN CREATEDB CREATEROLE PASSWORD '{PASSWORD}'; CREATE ROLE {name}_team; \
             GRANT USAGE, CREATE ON SCHEMA sales TO {name}; GRANT CREATE ON DATABASE {name} TO {name}; \
             GRANT SELECT ON ALL TABLES IN SCHEMA sales TO {name}; \
             GRANT INSERT, UPDATE ON sales.\"Order x\", sales.b TO {name}; GRANT DELETE ON sales.open TO PUBLIC; \
             GRANT TRUNCATE ON sales.team TO {name}_team; GRANT {name}_team TO {name}; GRANT pg_signal_backend TO {name}_team; \
             ALTER TABLE sales.own OWNER TO {name}; GRANT CREATE ON SCHEMA public TO PUBLIC"
        ))
        .await
        .expect("the administrator has the privileges");
}

async fn mariadb_account(admin: &mut mysql_async::Conn, name: &str) {
    for text in [
        format!("CREATE DATABASE {name}"),
        format!("CREATE TABLE {name}.orders AS SELECT 1 AS id"),
        format!("CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}'"),
        format!("CREATE ROLE {name}_team"),
        format!("GRANT INSERT ON {name}.* TO {name}_team"),
        format!("GRANT {name}_team TO {name}@'%'"),
        format!("SET DEFAULT ROLE {name}_team FOR {name}@'%'"),
        format!("GRANT SELECT, UPDATE, DROP ON {name}.* TO {name}@'%' WITH GRANT OPTION"),
        format!("GRANT PROCESS ON *.* TO {name}@'%'"),
    ] {
        admin.query_drop(&text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// The excess of one connection as `aam privileges` lists it.
fn resource(workspace: &Workspace, id: &str) -> Value {
    let verdicts = "over,unknown,not_checked,ok";
    let output = workspace.run(&["privileges", "--json", "--verdict", verdicts]);
    let listed: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let all = listed["connections"].as_array().expect("a list");
    all.iter().find(|connection| connection["connection_id"] == id).expect("the connection")["resources"][0].clone()
}

fn statements(resource: &Value) -> Vec<String> {
    resource["statements"].as_array().expect("a list").iter().filter_map(Value::as_str).map(str::to_string).collect()
}

async fn verified(daemon: &Daemon, workspace: &Workspace, connection: &Value) {
    let healed = heal(daemon, connection).await;
    assert_eq!(healed["status"], "ACTIVE", "it still reads: {healed}");
    let id = connection["connection_id"].as_str().expect("an id");
    let found = resource(workspace, id);
    assert_eq!((&found["verdict"], &found["grants"]), (&json!("ok"), &json!([])), "{found}");
}

async fn the_statements_of_aam_privileges_take_the_excess_away() {
    let name = format!("excess{}", std::process::id());
    postgres_role(&name).await;
    let mut maria = mariadb().await;
    mariadb_account(&mut maria, &name).await;
    let mut workspace = Workspace::new();
    let all = [
        source("pg", "postgres", format!("postgresql://{}/{name}", address("POSTGRES")), login(&name, PASSWORD)),
        source("maria", "jdbc", format!("jdbc:mariadb://{}/{name}", address("MARIADB")), login(&name, PASSWORD)),
    ];
    set_secrets(&mut workspace, &all);
    workspace.write_policy(&policy("1h", ""));
    let daemon = workspace.serve().await;
    let pg = daemon.push(&all[0].intent()).await.body;
    let of_maria = daemon.push(&all[1].intent()).await.body;

    let excess = resource(&workspace, pg["connection_id"].as_str().expect("an id"));
    assert!(excess["verdict"] == "over" && excess["grants"].as_array().is_some_and(|grants| grants.len() > 7), "{excess}");
    let text = statements(&excess);
    assert!(text.len() >= 7 && text.iter().all(|statement| statement.ends_with(';')), "{text:#?}");
    let admin = postgres(&name).await;
    admin.batch_execute(&text.join("\n")).await.unwrap_or_else(|error| panic!("{error:?}: {text:#?}"));
    verified(&daemon, &workspace, &pg).await;

    let excess = resource(&workspace, of_maria["connection_id"].as_str().expect("an id"));
    assert_eq!(excess["verdict"], "over", "{excess}");
    for statement in statements(&excess) {
        maria.query_drop(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    verified(&daemon, &workspace, &of_maria).await;
    assert_eq!(daemon.stop().await, Some(0));
}
