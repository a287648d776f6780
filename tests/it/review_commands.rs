//! What a reviewer asks of the registry: `aam privileges`, `aam drift`, `aam catalog` and `aam query`, and the same over REST.

use crate::support::daemon::{Daemon, Workspace, intent, intent_with_locator, stderr, stdout};
use crate::support::fake_postgres::{Answer, Behavior, FakePostgres};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::Stdio;

fn parsed(workspace: &Workspace, arguments: &[&str]) -> Value {
    let output = workspace.run(arguments);
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", stderr(&output)))
}

fn port_of(daemon: &Daemon) -> String {
    daemon.url("").rsplit(':').next().expect("a port").trim_end_matches('/').to_owned()
}

/// A daemon with a file that the daemon may write, and a database whose role may write a table.
async fn with_excess(workspace: &mut Workspace) -> (Daemon, String, FakePostgres) {
    let file = workspace.csv("people.csv", 3);
    let server = FakePostgres::start(
        Behavior::postgres()
            .answering("rolsuper", Answer::Rows(5, vec![vec!["f", "f", "t", "f", "f"]]))
            .answering("aclexplode", Answer::Rows(6, vec![vec!["TABLE", "sales", "orders", "INSERT, UPDATE", "role", ""]])),
    )
    .await;
    workspace.set("LOGIN", r#"{"user":"aam","password":"hunter2-hunter2"}"#);
    let port = server.port;
    let network = format!("network: {{allow_private: [127.0.0.0/8], allow_weak_login: [\"127.0.0.1:{port}\"]}}\n");
    workspace.write_policy(&network);
    let daemon = workspace.serve().await;
    daemon.push(&intent("filesource", &file)).await;
    let database = intent_with_locator("postgres", &format!("postgresql://127.0.0.1:{port}/shop"), "env:LOGIN");
    daemon.push(&database).await;
    (daemon, file, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn privileges_lists_who_may_write_and_what_takes_it_away() {
    let mut workspace = Workspace::new();
    let (daemon, file, _server) = with_excess(&mut workspace).await;
    let text = stdout(&workspace.run(&["privileges"]));
    assert!(text.starts_with("2 connections: 2 can do more than read, 0 unknown, 0 not checked yet, 0 only read\n"), "{text}");
    for line in [
        "    excess:     CREATEDB\n",
        "    run:        ALTER ROLE \"aam\" NOCREATEDB;\n",
        "    run:        REVOKE INSERT, UPDATE ON TABLE sales.orders FROM \"aam\";\n",
        "    credential: none; the rights are those of the user that runs AAM\n",
        "aam heal ID checks at once",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains(&file) && text.contains("    do:         "), "{text}");

    let listed = parsed(&workspace, &["privileges", "--json"]);
    assert_eq!(listed["totals"], json!({"over": 2, "unknown": 0, "not_checked": 0, "ok": 0}));
    let served = daemon.get("/privileges").await;
    assert_eq!((served.status, &served.body["connections"]), (200, &listed["connections"]), "the same in one call");
    assert_eq!((&served.body["totals"], &served.body["truncated"]), (&listed["totals"], &json!(false)));
    assert_eq!(listed["truncated"], false);
    let cut = parsed(&workspace, &["privileges", "--json", "--limit", "1"]);
    assert_eq!((cut["connections"].as_array().map(Vec::len), &cut["truncated"]), (Some(1), &json!(true)), "the cut is said");
    for command in ["privileges", "drift"] {
        let none = workspace.run(&[command, "--limit", "0"]);
        assert!(none.status.code() == Some(64) && stderr(&none).contains("write a whole number from 1"), "{}", stderr(&none));
    }

    let postgres = parsed(&workspace, &["privileges", "--family", "postgres", "--json"]);
    assert_eq!(postgres["connections"].as_array().map(Vec::len), Some(1), "{postgres}");
    assert_eq!(postgres["connections"][0]["resources"][0]["statements"][0], "ALTER ROLE \"aam\" NOCREATEDB;");
    for none in
        [&["--verdict", "unknown,ok"][..], &["--owner", "nobody"], &["--since", "2999-01-01T00:00:00Z"], &["--state", "error"]]
    {
        let found = parsed(&workspace, &[&["privileges", "--json"], none].concat());
        assert_eq!(found["connections"], json!([]), "{none:?}");
    }
    assert_eq!(daemon.get("/privileges?source_type=postgres&verdict=over,ok").await.body["connections"], postgres["connections"]);
    let wrong = daemon.get("/privileges?verdict=bad").await;
    assert!(wrong.status == 400 && wrong.body["detail"].to_string().contains("not_checked"), "{}", wrong.body);

    let status = stdout(&workspace.run(&["status", "--family", "postgres"]));
    assert!(status.contains("aam privileges shows how"), "the warning leads to the command: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_is_counted_with_its_reason() {
    let mut workspace = Workspace::new();
    let server = FakePostgres::start(
        Behavior::postgres().answering("rolsuper", Answer::Error("42501", "permission denied for view pg_roles")),
    )
    .await;
    workspace.set("LOGIN", r#"{"user":"aam","password":"hunter2-hunter2"}"#);
    let port = server.port;
    workspace.write_policy(&format!("network: {{allow_private: [127.0.0.0/8], allow_weak_login: [\"127.0.0.1:{port}\"]}}\n"));
    let daemon = workspace.serve().await;
    daemon.push(&intent_with_locator("postgres", &format!("postgresql://127.0.0.1:{port}/shop"), "env:LOGIN")).await;
    daemon.push(&intent("filesource", &workspace.path("data/gone.csv").display().to_string())).await;
    let text = stdout(&workspace.run(&["privileges"]));
    assert!(text.starts_with("2 connections: 0 can do more than read, 1 unknown, 1 not checked yet, 0 only read\n"), "{text}");
    assert!(text.contains("unknown, and why\n  1 of postgres") && text.contains("pg_roles"), "{text}");
    let served = daemon.get("/privileges?verdict=unknown").await.body;
    assert_eq!(
        (&served["unknown"][0]["connections"], &served["connections"][0]["verdict"]),
        (&json!(1), &json!("unknown")),
        "{served}"
    );
}

/// A file whose column changes its name: version 2 of the catalog has a breaking and an additive change.
async fn with_drift(workspace: &Workspace) -> (Daemon, String) {
    let file = workspace.csv("people.csv", 3);
    let daemon = workspace.serve().await;
    let pushed = daemon.push(&intent("filesource", &file)).await.body;
    let id = pushed["connection_id"].as_str().expect("an id").to_string();
    workspace.replace("data/people.csv", b"id,full_name\n1,a\n2,b\n");
    daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    (daemon, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_says_what_changed_and_who_took_note() {
    let workspace = Workspace::new();
    let (daemon, id) = with_drift(&workspace).await;
    let port = port_of(&daemon);
    let text = stdout(&workspace.run(&["drift"]));
    assert!(text.contains(&format!("! {id}  filesource  catalog 1 -> 2  1 breaking, 1 additive")), "{text}");
    assert!(text.contains("breaking  column ") && text.contains(".name is gone"), "{text}");
    assert!(text.contains("additive  column ") && text.contains(".full_name is new"), "{text}");
    assert!(text.contains(&format!("not acknowledged: aam drift acknowledge {id} --version 2")), "{text}");

    let served = daemon.get("/drift").await.body;
    let listed = parsed(&workspace, &["drift", "--json"]);
    assert_eq!(served["drift"], listed["drift"], "the same words in the API");
    let entry = &served["drift"][0];
    assert_eq!((&entry["previous_version"], &entry["catalog_version"], &entry["breaking"]), (&json!(1), &json!(2), &json!(true)));
    let gone =
        entry["changes"].as_array().expect("changes").iter().find(|change| change["change"] == "field_removed").expect("one");
    assert_eq!((&gone["field"], &gone["to"], &gone["breaking"]), (&json!("name"), &json!(null), &json!(true)), "{gone}");
    assert!(gone["from"].to_string().contains("string"), "{gone}");
    let one = daemon.get(&format!("/connections/{id}/drift")).await.body;
    assert_eq!(one["changes"], entry["changes"]);

    let unknown = daemon.get("/drift?acknowledged=false&breaking=true").await.body;
    assert_eq!(unknown["drift"].as_array().map(Vec::len), Some(1));
    let noted =
        workspace.run(&["drift", "acknowledge", &id[..8], "--note", "the load is adapted", "--by", "ann", "--port", &port]);
    assert!(
        noted.status.success() && stdout(&noted).contains("acknowledged by ann (token admin)"),
        "{}{}",
        stdout(&noted),
        stderr(&noted)
    );
    let entry = daemon.get("/drift?acknowledged=true").await.body["drift"][0].clone();
    assert_eq!(
        (&entry["acknowledged"]["by"], &entry["acknowledged"]["note"]),
        (&json!("ann (token admin)"), &json!("the load is adapted"))
    );
    assert_eq!(parsed(&workspace, &["drift", "--unacknowledged", "--json"])["drift"], json!([]));
    let again = daemon.post(&format!("/connections/{id}/drift/acknowledge"), &json!({"by": "bob"})).await;
    assert_eq!((again.status, &again.body["acknowledged"]["by"]), (200, &json!("ann (token admin)")), "the first one counts");
    let second = stdout(&workspace.run(&["drift", "acknowledge", &id[..8], "--note", "again", "--by", "bob", "--port", &port]));
    assert!(
        second.contains("were acknowledged before, by ann (token admin) at ")
            && second.contains(" with the note \"the load is adapted\"; nothing was recorded now\n"),
        "{second}"
    );
    let first = daemon.post(&format!("/connections/{id}/drift/acknowledge"), &json!({"catalog_version": 1})).await;
    assert_eq!(first.status, 404, "{}", first.body);
    let history = stdout(&workspace.run(&["status", &id]));
    assert!(history.contains("changes of catalog version 2 acknowledged by ann (token admin): the load is adapted"), "{history}");
    for none in [&["--family", "okta"][..], &["--owner", "nobody"], &["--since", "2999-01-01T00:00:00Z"]] {
        assert_eq!(stdout(&workspace.run(&[&["drift"], none].concat())), "no schema changes\n", "{none:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_acknowledged_without_a_daemon_too() {
    let workspace = Workspace::new();
    let (daemon, id) = with_drift(&workspace).await;
    let port = port_of(&daemon);
    assert_eq!(daemon.stop().await, Some(0));
    let noted = workspace.run(&["drift", "acknowledge", &id, "--by", "ann", "--port", &port]);
    assert!(noted.status.success(), "{}", stderr(&noted));
    assert_eq!(parsed(&workspace, &["drift", &id, "--json"])["drift"][0]["acknowledged"]["by"], "ann");
    let again = stdout(&workspace.run(&["drift", "acknowledge", &id, "--by", "bob", "--port", &port]));
    assert!(again.contains("were acknowledged before, by ann at ") && again.contains("; nothing was recorded now"), "{again}");
    let wrong = workspace.run(&["drift", "acknowledge", &id, "--version", "7", "--port", &port]);
    assert!(wrong.status.code() == Some(1) && stderr(&wrong).contains("no schema changes to take note of"), "{}", stderr(&wrong));
    assert!(workspace.run(&["verify"]).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogs_have_versions_that_can_be_compared() {
    let workspace = Workspace::new();
    let (_daemon, id) = with_drift(&workspace).await;
    let all = stdout(&workspace.run(&["catalog"]));
    assert!(all.contains(&id) && all.contains("version 2"), "{all}");
    let versions = stdout(&workspace.run(&["catalog", &id[..8]]));
    assert!(
        versions.contains("version 1") && versions.contains("first") && versions.contains("1 breaking, 1 additive"),
        "{versions}"
    );
    let shown = stdout(&workspace.run(&["catalog", "show", &id, "--version", "1"]));
    assert!(shown.contains("    name") && !shown.contains("full_name"), "{shown}");
    let diff = parsed(&workspace, &["catalog", "diff", &id, "1", "2", "--json"]);
    assert_eq!((&diff["breaking_total"], &diff["additive_total"]), (&json!(1), &json!(1)), "{diff}");
    let back = stdout(&workspace.run(&["catalog", "diff", &id, "2", "1"]));
    assert!(back.contains("catalog 2 -> 1") && back.contains("full_name is gone"), "{back}");
    let missing = workspace.run(&["catalog", "diff", &id, "1", "9"]);
    assert!(
        missing.status.code() == Some(1) && stderr(&missing).contains("does not have catalog version 9"),
        "{}",
        stderr(&missing)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_read_the_views_while_the_daemon_runs() {
    let workspace = Workspace::new();
    let (_daemon, id) = with_drift(&workspace).await;
    let query = |sql: &str| parsed(&workspace, &["query", sql, "--json"]);
    assert_eq!(
        query("select connection, status, catalog_version from connections"),
        json!([{"connection": id, "status": "HEALING", "catalog_version": 2}])
    );
    assert_eq!(query("select verdict from privileges"), json!([{"verdict": "over"}]));
    assert_eq!(
        query("select change, field, breaking from drift order by breaking desc"),
        json!([{"change": "field_removed", "field": "name", "breaking": 1}, {"change": "field_added", "field": "full_name", "breaking": 0}])
    );
    assert_eq!(
        query("select breaking, count(*) as n from schema_changes group by 1"),
        json!([{"breaking": 0, "n": 1}, {"breaking": 1, "n": 1}])
    );
    assert_eq!(query("select count(*) as n from steps where status = 'failed'"), json!([{"n": 1}]));
    assert_eq!(query("select count(*) as n from catalogs"), json!([{"n": 2}]));
    assert_eq!(query("with v as (select version from catalogs) select max(version) as v from v"), json!([{"v": 2}]));
    let table = stdout(&workspace.run(&["query", "select step, status from steps limit 1"]));
    assert_eq!(table, "STEP       STATUS\nallowlist  passed\n");
    let csv = stdout(&workspace.run(&["query", "select 'a,b' as x, null as y", "--format", "csv"]));
    assert_eq!(csv, "x,y\n\"a,b\",\n");
    let listed = stdout(&workspace.run(&["query"]));
    assert!(listed.contains("attempts_finished") && listed.contains("acknowledged_by"), "{listed}");
    let mut piped =
        workspace.command(&["query", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    piped.stdin.take().expect("stdin").write_all(b"select 7 as seven").expect("written");
    assert_eq!(stdout(&piped.wait_with_output().expect("ended")), "SEVEN\n7\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_cannot_do_anything_but_read_the_views() {
    let workspace = Workspace::new();
    let (daemon, _) = with_drift(&workspace).await;
    assert_eq!(daemon.stop().await, Some(0));
    let before = std::fs::read(workspace.path("var/aam.db")).expect("a registry");
    let other = workspace.path("other.db").display().to_string();
    for (sql, reason) in [
        ("select * from ledger", "reads ledger, which is not a view"),
        ("select count(*) from idempotency_keys", "not a view"),
        ("select sql from sqlite_schema", "not a view"),
        ("delete from intents", ""),
        ("insert into ledger select * from ledger", ""),
        ("drop view intents", ""),
        ("create table x (a)", ""),
        ("pragma user_version = 7", "PRAGMA"),
        ("pragma query_only = false", "PRAGMA"),
        (&format!("attach '{other}' as other"), "attaches"),
        ("vacuum", ""),
        ("begin", "transactions"),
        ("select load_extension('x')", ""),
        ("select 1; select 2", "more than one statement"),
        ("select writefile('x', 'y')", "no such function"),
        ("", "the query is empty"),
        ("  -- comment only", "the query holds no statement, only comments"),
        ("-- comment only", "the query holds no statement, only comments"),
        ("/* a */ ; -- b\n /* open", "the query holds no statement, only comments"),
    ] {
        let output = workspace.run(&["query", sql]);
        assert_eq!(output.status.code(), Some(64), "{sql}: {}{}", stdout(&output), stderr(&output));
        assert!(stderr(&output).contains(reason) && stderr(&output).contains("fix: "), "{sql}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read(workspace.path("var/aam.db")).expect("a registry"), before);
    assert!(!workspace.path("other.db").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_column_a_long_query_and_a_hostile_value_are_answered() {
    let workspace = Workspace::new();
    let (_daemon, _) = with_drift(&workspace).await;
    let wrong = stderr(&workspace.run(&["query", "select conection, \"titel\" from steps"]));
    assert!(wrong.contains("no such column: conection") && wrong.contains("did you mean connection?"), "{wrong}");
    assert!(wrong.contains("steps has seq, at, namespace, connection, number, step"), "{wrong}");
    let quoted = stderr(&workspace.run(&["query", "select \"titel\" from steps"]));
    assert!(
        quoted.contains("no such column") && quoted.contains("did you mean title?"),
        "a name in quotes is not a text: {quoted}"
    );
    let table = stderr(&workspace.run(&["query", "select 1 from step"]));
    assert!(table.contains("did you mean steps?"), "{table}");
    let syntax = workspace.run(&["query", "selekt 1"]);
    assert!(syntax.status.code() == Some(64) && stderr(&syntax).contains("syntax error"), "{}", stderr(&syntax));
    let endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n";
    let slow = workspace.run(&["query", endless, "--timeout", "1"]);
    assert!(slow.status.code() == Some(1) && stderr(&slow).contains("did not finish within 1 s"), "{}", stderr(&slow));
    let many = "with recursive n(x) as (select 1 union all select x + 1 from n) select x from n";
    let bounded = workspace.run(&["query", many, "--limit", "3"]);
    assert_eq!(stdout(&bounded), "X\n1\n2\n3\n");
    assert!(stderr(&bounded).contains("only the first 3 rows are printed"), "{}", stderr(&bounded));
    let none = workspace.run(&["query", many, "--limit", "0"]);
    assert!(none.status.code() == Some(64) && stderr(&none).contains("write a whole number from 1"), "{}", stderr(&none));
    let commented = workspace.run(&["query", "-- what\n select /* 1 */ 7 as seven -- end"]);
    assert_eq!(stdout(&commented), "SEVEN\n7\n", "comments beside a statement are fine");
    let option = workspace.run(&["query", "--limt"]);
    assert!(option.status.code() == Some(64) && stderr(&option).contains("--limt is not an option"), "{}", stderr(&option));
    for format in ["table", "csv", "json"] {
        let hostile = stdout(&workspace.run(&["query", "select char(27) || '[2J' || char(8238) as x", "--format", format]));
        assert!(!hostile.contains('\u{1b}') && !hostile.contains('\u{202e}') && hostile.contains("[2J"), "{hostile:?}");
    }
}
