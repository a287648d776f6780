//! The intents folder as people really fill it: YAML, suffixes in upper case, links, and `aam check` and `aam test` that
//! agree with the daemon.

use crate::support::daemon::{Daemon, Workspace, intent, stderr, stdout, until};
use serde_json::json;

fn yaml(path: &str) -> String {
    format!(
        "# One intent.\nsource_type: filesource\nresource_ids: [{path}]\nrisk_level: low\nevidence: {{status: Sanctioned, source: IdP, ts: 2026-11-08T18:00:00Z}}\nowner:\n  user: owner@acme.example\n  confidence: 0.95\n  why: admin\n"
    )
}

#[tokio::test]
async fn yaml_and_suffixes_in_any_case_are_read_and_a_mistake_has_its_position() {
    let workspace = Workspace::new();
    let (one, two, three) = (workspace.csv("one.csv", 1), workspace.csv("two.csv", 2), workspace.csv("three.csv", 3));
    workspace.replace("intents/one.yaml", yaml(&one).as_bytes());
    workspace.replace("intents/TWO.JSON", intent("filesource", &two).to_string().as_bytes());
    workspace.replace(
        "intents/three.YML",
        format!("- {}", yaml(&three).trim_start_matches("# One intent.\n").replace('\n', "\n  ")).as_bytes(),
    );
    workspace.replace("intents/bad.yaml", b"source_type: filesource\nresource_ids: [x]\nrisk_level: [medium]\n");
    workspace.replace("intents/broken.yml", b"a: [1\nb: 2\n");
    workspace.replace("intents/notes.txt", b"not an intent");
    let check = workspace.run(&["check"]);
    let text = stdout(&check);
    assert_eq!(check.status.code(), Some(78), "{text}");
    assert!(text.contains("bad.yaml:3:13: /risk_level"), "the position of the value: {text}");
    assert!(text.contains("broken.yml:2:") && text.contains("is not valid YAML"), "{text}");
    assert!(text.contains("ignored 1 file: notes.txt"), "{text}");
    let daemon = workspace.serve().await;
    for path in [&one, &two, &three] {
        daemon.until_state(path, "ACTIVE").await;
    }
    let shown = daemon.get("/dashboard.json").await.body["problems"].to_string();
    assert!(shown.contains("bad.yaml") && shown.contains("broken.yml"), "{shown}");
    for name in ["one.yaml", "TWO.JSON", "three.YML"] {
        let file = workspace.path(&format!("intents/{name}")).display().to_string();
        let test = workspace.run(&["test", &file]);
        assert_eq!(test.status.code(), Some(0), "{name}: {} {}", stdout(&test), stderr(&test));
    }
    let bad = workspace.run(&["test", &workspace.path("intents/bad.yaml").display().to_string()]);
    assert!(bad.status.code() == Some(78) && stderr(&bad).contains("bad.yaml:3:13"), "{}", stderr(&bad));
}

#[tokio::test]
async fn the_namespace_demo_accepts_no_intent_where_there_is_no_seed() {
    let workspace = Workspace::new();
    let mut demo = intent("filesource", &workspace.csv("demo.csv", 1));
    demo["namespace"] = json!("demo");
    let good = workspace.csv("good.csv", 1);
    workspace.intent_file("demo.json", &demo);
    workspace.intent_file("good.json", &intent("filesource", &good));
    let check = workspace.run(&["check"]);
    assert!(check.status.code() == Some(78) && stdout(&check).contains("namespace demo is sealed"), "{}", stdout(&check));
    let test = workspace.run(&["test", &workspace.path("intents/demo.json").display().to_string()]);
    assert!(test.status.code() == Some(78) && stderr(&test).contains("namespace demo is sealed"), "{}", stderr(&test));
    let plan = stdout(&workspace.run(&["plan"]));
    assert!(!plan.contains("demo.csv") && plan.contains("good.csv"), "{plan}");
    for _ in 0..2 {
        let daemon = workspace.serve().await;
        daemon.until_state(&good, "ACTIVE").await;
        let pushed = daemon.push(&demo).await;
        assert_eq!((pushed.status, &pushed.body["code"]), (403, &json!("NAMESPACE_SEALED")), "{}", pushed.body);
        assert_eq!(daemon.get("/connections?namespace=demo").await.body["total"], 0);
        // Also after a restart, the file that was not read again is still reported.
        let shown = daemon.get("/dashboard.json").await.body["problems"].to_string();
        assert!(shown.contains("demo.json") && shown.contains("/namespace"), "{shown}");
        daemon.stop().await;
    }
    let db = rusqlite::Connection::open(workspace.path("var/aam.db")).expect("registry");
    let sql = "INSERT INTO ledger SELECT (SELECT max(seq) + 1 FROM ledger), at, kind, 'demo', connection, facts, body, prev, hash \
               FROM ledger WHERE kind = 'intent_accepted' LIMIT 1";
    let refused = db.execute(sql, []).expect_err("refused").to_string();
    assert!(refused.contains("accepts nothing but its seed"), "{refused}");
}

#[tokio::test]
async fn check_says_what_the_daemon_will_do() {
    let workspace = Workspace::new();
    let csv = workspace.csv("a.csv", 1);
    let change = |name: &str, pointer: &str, value: serde_json::Value| {
        let mut document = intent("filesource", &workspace.csv(name, 1));
        *document.pointer_mut(pointer).expect("a field") = value;
        document
    };
    let documents = [
        ("unknown", change("unknown.csv", "/source_type", json!("no_such_system")), "UNSUPPORTED"),
        ("off", change("off.csv", "/source_type", json!("slack")), "UNSUPPORTED"),
        ("evidence", change("evidence.csv", "/evidence/status", json!("tolerated")), "REJECTED"),
        ("source", change("source.csv", "/evidence/source", json!("spreadsheet")), "REJECTED"),
        ("home", intent("filesource", "~/a.csv"), "REJECTED"),
        ("variable", intent("filesource", "$HOME/a.csv"), "REJECTED"),
        ("sqlite", intent("jdbc", "jdbc:sqlite:~/a.db"), "REJECTED"),
        ("locator", intent("postgres", "postgresql://127.0.0.1:9/shop"), "AWAITING_CREDENTIALS"),
    ];
    for (name, document, _) in &documents {
        workspace.intent_file(&format!("{name}.json"), document);
    }
    workspace.intent_file("good.json", &intent("filesource", &csv));
    let roots = format!("files: {{roots: [{}, \"~/data\", no/such/folder]}}\n", workspace.path("data").display());
    workspace.write_policy(&roots);
    let check = workspace.run(&["check"]);
    let text = stdout(&check);
    assert_eq!(check.status.code(), Some(0), "the daemon accepts all of them: {text}");
    let daemon = workspace.serve().await;
    daemon.until_state(&csv, "ACTIVE").await;
    for (name, document, state) in &documents {
        let id = document["resource_ids"][0].as_str().expect("an id");
        let found = daemon.until_state(id, state).await;
        let title = found["error"]["title"].as_str().expect("a title");
        let warning = text.lines().find(|line| line.contains(&format!("{name}.json: would be"))).unwrap_or_default();
        assert!(warning.contains(&format!("would be {state}: {title}")), "{name}: {title}\n{text}");
    }
    let problems = daemon.get("/dashboard.json").await.body["problems"].to_string();
    for part in ["~/data is not expanded", "no/such/folder does not exist"] {
        assert!(text.contains(part) && problems.contains(part), "{part}: {text}\n{problems}");
    }
    let test = stdout(&workspace.run(&["test", &workspace.path("intents/good.json").display().to_string()]));
    assert!(test.contains("~/data is not expanded") && test.contains("would be ACTIVE"), "{test}");
}

#[tokio::test]
async fn a_link_to_the_whole_file_system_is_reported_and_costs_nothing() {
    let workspace = Workspace::new();
    std::os::unix::fs::symlink("/", workspace.path("intents/root")).expect("a link");
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let daemon = workspace.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    let shown = daemon.get("/dashboard.json").await.body["problems"].to_string();
    assert!(shown.contains("outside the intents folder"), "{shown}");
    // The watch does not follow the link either: a change still wakes the loop.
    let second = workspace.csv("b.csv", 3);
    workspace.intent_file("b.json", &intent("filesource", &second));
    daemon.until_state(&second, "ACTIVE").await;
}

#[tokio::test]
async fn a_sub_folder_that_loses_its_mount_retires_nothing() {
    let workspace = Workspace::new();
    let (inside, outside) = (workspace.csv("in.csv", 3), workspace.csv("out.csv", 3));
    std::fs::create_dir(workspace.path("intents/team")).expect("a folder");
    workspace.intent_file("team/a.json", &intent("filesource", &inside));
    workspace.intent_file("b.json", &intent("filesource", &outside));
    let daemon = workspace.serve().await;
    daemon.until_state(&inside, "ACTIVE").await;
    // The empty folder below a mount point is another folder.
    std::fs::rename(workspace.path("intents/team"), workspace.path("intents/.mounted")).expect("a rename");
    std::fs::create_dir(workspace.path("intents/team")).expect("a folder");
    let lost = async |daemon: &Daemon| {
        until("the lost mount is reported", || async {
            let shown = daemon.get("/dashboard.json").await.body["problems"].to_string();
            (shown.contains("is not the same folder as before"), shown)
        })
        .await;
        assert_eq!(daemon.funnel().await["active"], 2, "nothing is retired");
    };
    lost(&daemon).await;
    daemon.stop().await;
    let daemon = workspace.serve().await;
    lost(&daemon).await;
    std::fs::remove_dir(workspace.path("intents/team")).expect("removed");
    std::fs::rename(workspace.path("intents/.mounted"), workspace.path("intents/team")).expect("mounted again");
    until("the problem is gone", || async {
        let shown = daemon.get("/dashboard.json").await.body["problems"].to_string();
        (shown == "[]", shown)
    })
    .await;
    daemon.until_state(&inside, "ACTIVE").await;
}

/// A user namespace may set its own limit of inotify instances, so the limit is reached without changing the machine.
const WITHOUT_INOTIFY: &str = r#"echo 0 > /proc/sys/user/max_inotify_instances && exec "$0" "$@""#;

#[tokio::test]
async fn without_inotify_the_folder_is_polled_and_a_warning_says_so() {
    let unshare = |arguments: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-Ur", "sh", "-c", WITHOUT_INOTIFY]).args(arguments);
        command
    };
    if !unshare(&["true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("not run: this machine does not allow user namespaces");
        return;
    }
    let workspace = Workspace::new();
    workspace.write_policy("reconcile: {concurrency: 16, resync: 1h}\n");
    let first = workspace.csv("first.csv", 1);
    workspace.intent_file("first.json", &intent("filesource", &first));
    let plain = workspace.command(&[]);
    let log = std::fs::File::create(workspace.path("log")).expect("a log");
    let mut daemon = unshare(&[env!("CARGO_BIN_EXE_aam"), "serve", "--port", "0"])
        .current_dir(workspace.dir.path())
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary starts");
    let active = |count: usize| {
        let text = stdout(&workspace.run(&["status", "--format", "json"]));
        (text.matches("\"ACTIVE\"").count() == count, text)
    };
    until("the first file is read", || async { active(1) }).await;
    let second = workspace.csv("second.csv", 1);
    workspace.intent_file("second.json", &intent("filesource", &second));
    until("the second file is found by polling", || async { active(2) }).await;
    let log = std::fs::read_to_string(workspace.path("log")).expect("the log");
    assert!(log.contains("folders cannot be watched") && log.contains("max_user_instances"), "{log}");
    daemon.kill().expect("killed");
    daemon.wait().expect("ended");
}

#[tokio::test]
async fn what_an_earlier_version_wrote_to_demo_stops_nothing() {
    let workspace = Workspace::new();
    let (good, later) = (workspace.csv("good.csv", 1), workspace.csv("later.csv", 1));
    let mut demo = intent("filesource", &workspace.csv("demo.csv", 1));
    demo["namespace"] = json!("demo");
    workspace.intent_file("good.json", &intent("filesource", &good));
    workspace.intent_file("demo.json", &demo);
    let daemon = workspace.serve().await;
    daemon.until_state(&good, "ACTIVE").await;
    daemon.stop().await;
    // An earlier version accepted the file where no seed had been loaded.
    let db = rusqlite::Connection::open(workspace.path("var/aam.db")).expect("registry");
    let trigger: String =
        db.query_row("SELECT sql FROM sqlite_schema WHERE name = 'ledger_demo'", [], |row| row.get(0)).expect("the trigger");
    db.execute_batch("DROP TRIGGER ledger_demo").expect("dropped");
    let copied = db
        .execute(
            "INSERT INTO ledger SELECT (SELECT max(seq) + 1 FROM ledger), (SELECT max(at) FROM ledger), kind, 'demo',
             '00000000-0000-5000-8000-000000000001', replace(facts, 'good.json', 'demo.json'),
             replace(body, '\"autonomy\"', '\"demo\"'), prev, hash FROM ledger WHERE kind = 'intent_accepted' LIMIT 1",
            [],
        )
        .expect("the row");
    assert_eq!(copied, 1);
    db.execute_batch(&trigger).expect("restored");
    drop(db);
    std::fs::remove_file(workspace.path("intents/demo.json")).expect("removed");
    workspace.intent_file("later.json", &intent("filesource", &later));
    let daemon = workspace.serve().await;
    daemon.until_state(&later, "ACTIVE").await;
    let shown = daemon.get("/dashboard.json").await.body;
    assert_eq!((&shown["trouble"], &shown["problems_total"]), (&json!(""), &json!(0)), "{shown}");
    let old = daemon.get("/connections?namespace=demo").await.body;
    assert_eq!((&old["total"], &old["connections"][0]["status"]), (&json!(1), &json!("PENDING")), "it is never attempted: {old}");
}
