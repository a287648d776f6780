//! A registry in PostgreSQL: what AAM does with it, and what the database refuses.

use crate::harness::variable;
use crate::support::daemon::{Daemon, Workspace, intent, stderr, stdout, until};
use serde_json::{Value, json};
use sqlstore::{Connection, PostgresOptions, TlsMode};
use std::sync::atomic::{AtomicU32, Ordering};
use zeroize::Zeroizing;

peer_tests! {
    [Postgres]: a_registry_in_postgresql_outlives_a_kill_and_is_verified, replicas_share_the_work_and_each_answers_for_all,
        a_stopped_replica_finishes_nothing_after_another_took_over, one_policy_is_in_force_and_a_different_file_is_said,
        a_lost_session_is_said_and_resumed,
        the_database_refuses_to_change_what_was_recorded, a_file_is_copied_and_folds_to_the_same_connections,
        a_database_that_cannot_be_used_says_what_to_do;
}

static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A database with an owner of its tables and a role that AAM runs as.
pub struct Database {
    pub name: String,
    pub owner: String,
    pub role: String,
}

impl Database {
    /// Creates the database and the roles.
    pub fn new() -> Database {
        let number = format!("{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let database =
            Database { name: format!("registry_{number}"), owner: format!("owner_{number}"), role: format!("aam_{number}") };
        let admin = Database::session("postgres", &variable("POSTGRES", "SUPER"), &variable("POSTGRES", "SUPER_PASSWORD"));
        for role in [&database.owner, &database.role] {
            admin.execute_batch(&format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'")).expect("a role");
        }
        admin.execute_batch(&format!("CREATE DATABASE {} OWNER {}", database.name, database.owner)).expect("a database");
        database
    }

    pub fn session(database: &str, user: &str, password: &str) -> Connection {
        Database::session_at(variable("POSTGRES", "PORT").parse().expect("a port"), database, user, password)
    }

    pub fn session_at(port: u16, database: &str, user: &str, password: &str) -> Connection {
        let mut options = PostgresOptions::new(&variable("POSTGRES", "HOST"), port, database, user);
        options.password = Some(Zeroizing::new(password.to_string()));
        options.tls = TlsMode::Disable;
        options.schema = Some("aam".to_string());
        Connection::postgres(options).expect("a session")
    }

    /// A session of the administrator of the server.
    pub fn admin(&self) -> Connection {
        Database::session(&self.name, &variable("POSTGRES", "SUPER"), &variable("POSTGRES", "SUPER_PASSWORD"))
    }

    pub fn url(&self, role: &str) -> String {
        let (host, port) = (variable("POSTGRES", "HOST"), variable("POSTGRES", "PORT"));
        format!("postgres://{role}@{host}:{port}/{}?credential=env:{role}", self.name)
    }

    /// Prepares the database, and makes it the registry of `workspace`.
    pub fn prepare(&self, workspace: &mut Workspace) {
        for role in [&self.owner, &self.role] {
            workspace.set(role, role);
        }
        let output = workspace.run(&["registry", "init", "--registry", &self.url(&self.owner), "--role", &self.role]);
        assert!(output.status.success(), "{}", stderr(&output));
        self.choose(workspace);
    }

    /// Makes the prepared database the registry of `workspace`.
    pub fn choose(&self, workspace: &mut Workspace) {
        workspace.set(&self.role, &self.role);
        workspace.set("AAM_REGISTRY", &self.url(&self.role));
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.admin().query_row(sql, [], |row| row.get(0)).expect("a count")
    }
}

pub fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write_policy("");
    workspace
}

/// Writes `count` files and their intents, and returns the resource ids.
pub fn sources(workspace: &Workspace, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|number| workspace.csv(&format!("source-{number}.csv"), 30)).collect();
    let intents: Vec<_> = ids.iter().map(|id| intent("filesource", id)).collect();
    workspace.intent_file("all.json", &json!(intents));
    ids
}

pub async fn until_active(daemon: &Daemon, ids: &[String]) {
    for id in ids {
        daemon.until_state(id, "ACTIVE").await;
    }
}

/// The funnel without its time.
async fn counts(daemon: &Daemon) -> Value {
    let mut funnel = daemon.funnel().await;
    funnel["as_of"] = Value::Null;
    funnel
}

/// A workspace with a folder of its own for the process, and with the intents and the policy of `first`, as replicas have them.
pub fn replica(first: &Workspace, database: &Database) -> Workspace {
    let mut replica = Workspace::new();
    replica.set("AAM_INTENTS", &first.path("intents").display().to_string());
    replica.set("AAM_POLICY", &first.path("policy/policy.yaml").display().to_string());
    database.choose(&mut replica);
    replica
}

async fn a_registry_in_postgresql_outlives_a_kill_and_is_verified() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 12);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    let before = counts(&daemon).await;
    assert_eq!(before["active"], json!(12), "{before}");
    daemon.kill();

    let verified = workspace.run(&["verify"]);
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
    let daemon = workspace.serve().await;
    assert_eq!(counts(&daemon).await, before, "the same after a kill");
    let one = daemon.until_state(&ids[0], "ACTIVE").await;
    let history = daemon.history(&one).await;
    assert!(history.iter().any(|entry| entry["kind"] == "attempt_finished"), "{history:?}");
    let id = one["connection_id"].as_str().expect("an id");
    for path in
        [format!("/connections/{id}/catalog"), format!("/connections/{id}/calls"), "/ledger".to_string(), "/drift".to_string()]
    {
        let answer = daemon.get(&path).await;
        assert!(answer.status < 500, "{path}: {} {}", answer.status, answer.body);
    }
    assert_eq!(daemon.stop().await, Some(0));
    for command in [&["status"][..], &["report"], &["calls"], &["drift"], &["privileges"], &["catalog"]] {
        let output = workspace.run(command);
        assert!(output.status.code().is_some_and(|code| code != 1), "{command:?}: {}", stderr(&output));
    }
    assert!(database.count("SELECT count(DISTINCT chain) FROM aam.ledger") > 4, "the facts are spread over chains");
}

/// How many partitions each process has, the leader's number first.
fn partitions(database: &Database) -> Vec<i64> {
    let admin = database.admin();
    let sql = "SELECT count(*) FROM aam.leases WHERE holder <> '' AND ends_at > clock_timestamp() GROUP BY holder ORDER BY min(partition)";
    let mut statement = admin.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<sqlstore::Result<_>>().expect("numbers")
}

pub async fn until_divided(database: &Database, expected: &[i64]) {
    until("the partitions are divided", || async {
        let now = partitions(database);
        (now == expected, format!("{now:?}"))
    })
    .await;
}

/// Waits until the process that writes the log of `workspace` keeps the connections of `count` partitions packed.
async fn until_packed(workspace: &Workspace, count: usize) {
    until("the connections of others are packed", || async {
        let log = std::fs::read_to_string(workspace.path("log")).unwrap_or_default();
        let last =
            log.lines().rfind(|line| line.contains("connections of other replicas are packed")).unwrap_or_default().to_string();
        (last.contains(&format!("packed={count} ")) || last.ends_with(&format!("packed={count}")), last)
    })
    .await;
}

async fn replicas_share_the_work_and_each_answers_for_all() {
    let (mut first, database) = (workspace(), Database::new());
    database.prepare(&mut first);
    let second = replica(&first, &database);
    let ids = sources(&first, 12);
    let leader = first.serve().await;
    until_active(&leader, &ids).await;
    let other = second.serve().await;
    until_divided(&database, &[32, 32]).await;
    let listed: Value = serde_json::from_str(&stdout(&first.run(&["registry", "replicas", "--format", "json"]))).expect("JSON");
    let of =
        |field: &str| listed["replicas"].as_array().expect("a list").iter().map(|one| one[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("partitions"), [json!(32), json!(32)], "{listed}");
    assert_eq!(of("leads").iter().filter(|leads| **leads == json!(true)).count(), 1, "{listed}");
    assert_eq!(listed["free_partitions"], json!(0));
    until_packed(&first, 32).await;
    until_packed(&second, 32).await;
    let text = stdout(&first.run(&["registry", "replicas"]));
    assert!(text.contains("32 partitions, leads\n") && !text.contains("different policy files"), "{text}");
    until_active(&other, &ids).await;
    // Pushed to either of them, attempted by the one that has the partition.
    let mut pushed = Vec::new();
    for number in 0..12 {
        let csv = first.csv(&format!("pushed-{number}.csv"), 30);
        let to = if number % 2 == 0 { &leader } else { &other };
        let answer = to.push(&intent("filesource", &csv)).await;
        assert!([200, 201, 202].contains(&answer.status), "{} {}", answer.status, answer.body);
        pushed.push(csv);
    }
    for daemon in [&leader, &other] {
        until_active(daemon, &pushed).await;
        assert_eq!(counts(daemon).await["active"], json!(24));
    }
    assert_eq!(counts(&leader).await, counts(&other).await, "the funnel is the same everywhere");
    let (of_leader, of_other) = (leader.get("/connections?limit=100").await, other.get("/connections?limit=100").await);
    assert_eq!(of_leader.body["connections"].as_array().map(Vec::len), Some(24), "{}", of_leader.body);
    assert_eq!(of_leader.body["connections"], of_other.body["connections"], "each has packed the half of the other");
    let doubled = "SELECT count(*) FROM (SELECT connection FROM aam.ledger WHERE kind = 'attempt_finished' GROUP BY connection HAVING count(*) > 1) AS more";
    assert_eq!(database.count(doubled), 0, "each connection was attempted once");
    // A check that a person asks for is done by the replica that has the connection, whoever is asked.
    for csv in pushed.iter().take(4) {
        let one = other.until_state(csv, "ACTIVE").await;
        let id = one["connection_id"].as_str().expect("an id");
        let answer = other.post(&format!("/connections/{id}/heal"), &json!({})).await;
        assert!(answer.status < 300, "{} {}", answer.status, answer.body);
    }
    leader.kill();
    until_divided(&database, &[64]).await;
    until_packed(&second, 0).await;
    let csv = first.csv("after.csv", 30);
    first.intent_file("after.json", &json!(intent("filesource", &csv)));
    other.until_state(&csv, "ACTIVE").await;
    assert_eq!(counts(&other).await["active"], json!(25));
    let verified = first.run(&["verify"]);
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
}

async fn a_stopped_replica_finishes_nothing_after_another_took_over() {
    let (mut first, database) = (workspace(), Database::new());
    database.prepare(&mut first);
    let second = replica(&first, &database);
    let ids = sources(&first, 2);
    let stopped = first.serve().await;
    until_active(&stopped, &ids).await;
    let other = second.serve().await;
    signal(&stopped, "STOP");
    until_divided(&database, &[64]).await;
    signal(&stopped, "CONT");
    let csv = first.csv("late.csv", 30);
    let accepted = stopped.push(&intent("filesource", &csv)).await;
    assert!([200, 201, 202].contains(&accepted.status), "{}", accepted.body);
    until_divided(&database, &[32, 32]).await;
    for daemon in [&stopped, &other] {
        daemon.until_state(&csv, "ACTIVE").await;
    }
    assert!(first.run(&["verify"]).status.success());
}

async fn one_policy_is_in_force_and_a_different_file_is_said() {
    let (mut first, database) = (workspace(), Database::new());
    database.prepare(&mut first);
    let mut second = replica(&first, &database);
    second.write_policy("slo: {coverage: 0.5}");
    second.set("AAM_POLICY", &second.path("policy/policy.yaml").display().to_string());
    let ids = sources(&first, 4);
    let leader = first.serve().await;
    until_active(&leader, &ids).await;
    let policies = database.count("SELECT count(*) FROM aam.ledger WHERE kind = 'policy_accepted'");
    let other = second.serve().await;
    until_divided(&database, &[32, 32]).await;
    until("the difference is said", || async { (other.log().contains("another policy file than its leader"), other.log()) })
        .await;
    let said = || stdout(&first.run(&["registry", "replicas"])).contains("the replicas have different policy files");
    until("the list says it", || async { (said(), String::new()) }).await;
    let (ours, theirs) = (leader.funnel().await, other.funnel().await);
    assert_eq!(ours["target"], theirs["target"], "the policy of the leader is in force on both");
    assert_eq!(database.count("SELECT count(*) FROM aam.ledger WHERE kind = 'policy_accepted'"), policies);
    first.write_policy("slo: {coverage: 0.7}");
    until("both follow the new policy", || async {
        let (ours, theirs) = (leader.funnel().await, other.funnel().await);
        (ours["target"] == json!(0.7) && theirs["target"] == json!(0.7), format!("{ours} {theirs}"))
    })
    .await;
    std::fs::copy(first.path("policy/policy.yaml"), second.path("policy/policy.yaml")).expect("the same file");
    until("the list does not say it any more", || async { (!said(), String::new()) }).await;
}

async fn a_lost_session_is_said_and_resumed() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 2);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    let admin = database.admin();
    let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'", database.role);
    let ended: i64 = admin.query_row(&sql, [], |row| row.get(0)).expect("sessions ended");
    assert!(ended > 0);
    let csv = workspace.csv("after.csv", 30);
    let pushed = intent("filesource", &csv);
    until("the push is accepted", || async {
        let answer = daemon.push(&pushed).await;
        ([200, 201, 202].contains(&answer.status), format!("{} {}", answer.status, answer.body))
    })
    .await;
    daemon.until_state(&csv, "ACTIVE").await;
    assert_eq!(daemon.funnel().await["active"], json!(3));
    assert!(workspace.run(&["verify"]).status.success());
}

async fn the_database_refuses_to_change_what_was_recorded() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 1);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    assert_eq!(daemon.stop().await, Some(0));
    let changes = [
        "UPDATE ledger SET facts = '{}'",
        "DELETE FROM ledger",
        "TRUNCATE ledger",
        "UPDATE call_batches SET calls = 0",
        "ALTER TABLE ledger DISABLE TRIGGER ALL",
    ];
    let role = Database::session(&database.name, &database.role, &database.role);
    for sql in changes {
        let error = role.execute_batch(sql).expect_err(sql).to_string();
        assert!(error.contains("permission denied") || error.contains("must be owner"), "{sql}: {error}");
    }
    let owner = Database::session(&database.name, &database.owner, &database.owner);
    for sql in &changes[..3] {
        let error = owner.execute_batch(sql).expect_err(sql).to_string();
        assert!(error.contains("append-only"), "{sql}: {error}");
    }
    // The owner can take the triggers away, and the chains show what was done then.
    let tamper = "ALTER TABLE ledger DISABLE TRIGGER ALL; UPDATE ledger SET facts = replace(facts, 'filesource', 'fileserver')
                  WHERE kind = 'intent_accepted'; ALTER TABLE ledger ENABLE ALWAYS TRIGGER ALL";
    owner.execute_batch(&tamper.replace("; ALTER TABLE ledger ENABLE ALWAYS TRIGGER ALL", "")).expect("changed");
    let verified = workspace.run(&["verify"]);
    assert_eq!(verified.status.code(), Some(1), "{}", stdout(&verified));
    let text = format!("{}{}", stdout(&verified), stderr(&verified));
    assert!(text.contains("does not match its hash"), "{text}");
}

async fn a_file_is_copied_and_folds_to_the_same_connections() {
    let (mut workspace, database) = (workspace(), Database::new());
    let ids = sources(&workspace, 5);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    let before = counts(&daemon).await;
    assert_eq!(daemon.stop().await, Some(0));
    let file = workspace.path("var/aam.db").display().to_string();
    database.prepare(&mut workspace);
    let url = database.url(&database.role);
    let copied = workspace.run(&["registry", "migrate", "--registry", &file, "--to", &url]);
    assert!(copied.status.success(), "{}{}", stdout(&copied), stderr(&copied));
    assert!(stdout(&copied).contains("5 connections"), "{}", stdout(&copied));
    let again = workspace.run(&["registry", "migrate", "--registry", &file, "--to", &url]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("into an empty one only"), "{}", stderr(&again));
    let daemon = workspace.serve().await;
    assert_eq!(counts(&daemon).await, before);
    assert!(workspace.run(&["verify"]).status.success());
}

async fn a_database_that_cannot_be_used_says_what_to_do() {
    let (mut workspace, database) = (workspace(), Database::new());
    workspace.set(&database.owner, &database.owner);
    database.choose(&mut workspace);
    let missing = workspace.run(&["status"]);
    assert!(stderr(&missing).contains("aam registry init"), "{}", stderr(&missing));
    let wrong = workspace.run(&["registry", "init", "--registry", &database.url(&database.owner), "--role", &database.owner]);
    assert!(stderr(&wrong).contains("name another role"), "{}", stderr(&wrong));
    database.prepare(&mut workspace);
    let as_owner = workspace.run(&["once", "--registry", &database.url(&database.owner)]);
    assert!(stderr(&as_owner).contains("may change what was recorded"), "{}", stderr(&as_owner));
    let backup = workspace.run(&["backup", "copy.db"]);
    assert!(stderr(&backup).contains("pg_dump"), "{}", stderr(&backup));
    workspace.set(&database.role, "wrong");
    let refused = workspace.run(&["status"]);
    assert!(stderr(&refused).contains("password authentication failed"), "{}", stderr(&refused));
}

fn signal(daemon: &Daemon, name: &str) {
    let status = std::process::Command::new("kill").args([format!("-{name}"), daemon.pid().to_string()]).status().expect("kill");
    assert!(status.success());
}
