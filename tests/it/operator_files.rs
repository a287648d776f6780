//! Files of the operator that are not what they should be, and a registry whose files are taken away.

use crate::support::daemon::{Workspace, intent, intent_with_locator, stderr, stdout, until};
use std::path::Path;
use std::time::{Duration, Instant};

/// Turns `path` into a FIFO without a writer, which blocks a reader that opens it like a file.
pub(crate) fn make_fifo(path: &Path) {
    let _ = std::fs::remove_file(path);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("a FIFO");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_becomes_a_fifo_is_rejected_and_nothing_stops() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    make_fifo(&workspace.path("policy/policy.yaml"));
    until("the page shows the rejected policy", || async {
        let body = daemon.get("/dashboard.json").await.body;
        (body["policy"]["rejected"].to_string().contains("not a regular file"), body["policy"].to_string())
    })
    .await;
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    daemon.until_state(&workspace.path("data/a.csv").display().to_string(), "ACTIVE").await;
    assert_eq!(daemon.get("/readyz").await.status, 200);
    let file = workspace.path("intents/a.json").display().to_string();
    for arguments in [&["check"][..], &["plan"], &["status"], &["report"], &["test", &file]] {
        let started = Instant::now();
        let output = workspace.run(arguments);
        assert!(started.elapsed() < Duration::from_secs(20), "{arguments:?}");
        let text = stdout(&output) + &stderr(&output);
        assert!(text.contains("not a regular file") || output.status.success(), "{arguments:?}: {text}");
    }
    // Putting the file back is all that is needed.
    workspace.write_policy("slo: {coverage: 0.5}\n");
    until("the policy is in force again", || async {
        let body = daemon.get("/dashboard.json").await.body;
        (body["policy"]["rejected"].is_null() && body["funnel"]["target"] == 0.5, body["policy"].to_string())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_file_that_cannot_be_used_fails_its_connections_and_no_others() {
    let workspace = Workspace::new();
    let authorities = workspace.path("ca.pem");
    let cases: [(&str, &dyn Fn()); 3] = [
        ("not a regular file", &|| make_fifo(&authorities)),
        ("larger than 4 MiB", &|| {
            let _ = std::fs::remove_file(&authorities);
            std::fs::File::create(&authorities).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
        }),
        ("does not hold a certificate", &|| std::fs::write(&authorities, "").expect("written")),
    ];
    for (reason, prepare) in cases {
        prepare();
        workspace.write_policy(&format!("network: {{allow_private: [127.0.0.0/8], ca_file: {}}}\n", authorities.display()));
        let daemon = workspace.serve().await;
        let answer = daemon.push(&intent_with_locator("openapi", "https://127.0.0.1:9/openapi.json", "env:PATH_OF_NO_ONE")).await;
        assert_ne!(answer.status, 500, "{}", answer.body);
        let answer = daemon.push(&intent("openapi", "https://127.0.0.1:9/openapi.json")).await;
        assert!(answer.body["error"].to_string().contains(reason), "{reason}: {}", answer.body);
        assert!(answer.body["error"]["title"].to_string().contains("ca_file"), "{}", answer.body);
        let other = daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await;
        assert_eq!(other.body["status"], "ACTIVE", "{}", other.body);
        daemon.stop().await;
    }
}

#[test]
fn check_reports_a_ca_file_as_the_daemon_fails_on_it() {
    let workspace = Workspace::new();
    let authorities = workspace.path("ca.pem");
    let check = |file: &Path| {
        workspace.write_policy(&format!("network: {{ca_file: {}}}\n", file.display()));
        let output = workspace.run(&["check"]);
        (output.status.code(), stdout(&output))
    };
    let cases: [(&str, &dyn Fn()); 5] = [
        ("No such file", &|| {}),
        ("not a regular file", &|| make_fifo(&authorities)),
        ("larger than 4 MiB", &|| {
            let _ = std::fs::remove_file(&authorities);
            std::fs::File::create(&authorities).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
        }),
        ("does not hold a certificate", &|| std::fs::write(&authorities, "text").expect("written")),
        ("not a regular file", &|| {
            let _ = std::fs::remove_file(&authorities);
            std::os::unix::fs::symlink("/dev/zero", &authorities).expect("linked");
        }),
    ];
    for (reason, prepare) in cases {
        prepare();
        let (code, text) = check(&authorities);
        assert_eq!(code, Some(78), "{reason}: {text}");
        let line = text.lines().find(|line| line.contains("could not use network.ca_file")).unwrap_or_default();
        assert!(line.starts_with("error: ") && line.contains(reason) && text.contains(": 1 problem,"), "{reason}: {text}");
    }
}

#[test]
fn a_file_to_test_that_cannot_be_read_is_a_bad_file() {
    let workspace = Workspace::new();
    make_fifo(&workspace.path("fifo.json"));
    let file = |name: &str| workspace.path(name).display().to_string();
    for name in [file("fifo.json"), file("missing.json"), "/dev/zero".to_string()] {
        let output = workspace.run(&["test", &name]);
        assert_eq!(output.status.code(), Some(78), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("cannot read {name}")), "{name}: {}", stderr(&output));
    }
}

#[test]
fn a_fifo_in_the_place_of_the_registry_or_a_file_beside_it_is_refused_at_once() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    assert_eq!(workspace.run(&["once"]).status.code(), Some(0));
    assert!(workspace.run(&["backup", "good.db"]).status.success());
    make_fifo(&workspace.path("pipe.db"));
    let commands: [&[&str]; 7] = [
        &["verify"],
        &["backup", "copy.db"],
        &["status"],
        &["calls"],
        &["once"],
        &["serve", "--port", "0"],
        &["restore", "good.db"],
    ];
    let refused = |arguments: &[&str], reason: &str| {
        let started = Instant::now();
        let output = workspace.run(arguments);
        assert!(started.elapsed() < Duration::from_secs(20), "{arguments:?}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{arguments:?}: {}", stderr(&output));
    };
    for name in ["var/aam.db", "var/aam.db-wal"] {
        let (file, aside) = (workspace.path(name), workspace.path("aside"));
        let _ = std::fs::rename(&file, &aside);
        make_fifo(&file);
        for command in commands {
            refused(command, "is a named pipe, and the registry is a regular file; remove it and put the file or a backup back");
        }
        // The fix.
        std::fs::remove_file(&file).expect("removed");
        let _ = std::fs::rename(&aside, &file);
        assert!(workspace.run(&["verify"]).status.success(), "{name}");
    }
    let lock = workspace.path("var/aam.db.lock");
    make_fifo(&lock);
    refused(&["once"], "it is not a regular file; remove it, AAM writes it anew");
    std::fs::remove_file(&lock).expect("removed");
    assert_eq!(workspace.run(&["once"]).status.code(), Some(0));
    refused(&["restore", "pipe.db"], "write - for the file and send it to stdin");
    let mut restore = workspace.command(&["restore", "-"]);
    restore.stdin(std::fs::File::open(workspace.path("good.db")).expect("a backup"));
    assert!(restore.output().expect("runs").status.success());
}

#[test]
fn a_fifo_with_a_secret_of_the_command_line_is_refused_at_once() {
    let workspace = Workspace::new();
    let secret = workspace.path("secret");
    make_fifo(&secret);
    let registry = format!("postgres://aam@127.0.0.1:9/aam?credential=file:{}", secret.display());
    std::fs::create_dir(workspace.path("var")).expect("a folder");
    make_fifo(&workspace.path("var/aam.db.admin-token"));
    for arguments in [&["status", "--registry", registry.as_str()][..], &["token", "new", "--name", "reader"]] {
        let started = Instant::now();
        let output = workspace.run(arguments);
        assert!(started.elapsed() < Duration::from_secs(20), "{arguments:?}");
        let text = stderr(&output);
        assert!(!text.contains("panicked"), "{arguments:?}: {text}");
        assert!(arguments[0] != "status" || text.contains("it is not a regular file"), "{text}");
    }
}

#[test]
fn a_family_file_comes_out_of_a_pipe_as_a_shell_makes_it() {
    let workspace = Workspace::new();
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/src/families/okta.yaml");
    let lint = |text: Vec<u8>| {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let mut command = workspace.command(&["families", "lint", "/dev/stdin"]);
        // A command that ends early closes the pipe.
        let written = std::thread::spawn(move || drop(std::io::Write::write_all(&mut writer, &text)));
        let output = command.stdin(reader).output().expect("runs");
        drop(command);
        written.join().expect("written");
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let (code, text) = lint(std::fs::read(good).expect("a family"));
    assert!(!text.contains("cannot be read") && code.is_some(), "{text}");
    let (code, text) = lint(vec![b' '; (4 << 20) + 1]);
    assert!(code == Some(78) && text.contains("more bytes than the limit"), "{text}");
}

#[test]
fn test_and_check_agree_on_the_names_that_the_intents_folder_ignores() {
    let workspace = Workspace::new();
    let document = intent("filesource", &workspace.csv("a.csv", 3));
    let ignored = [".hidden.json", "x.json.bak", "txt.txt", "kustomization.yaml", "x.json5", "json", "yaml"];
    for name in ignored.into_iter().chain(["a.json", "b.JSON", "c.yaml", "d.yml"]) {
        workspace.intent_file(name, &document);
        let check = stdout(&workspace.run(&["check"]));
        let output = workspace.run(&["test", &workspace.path("intents").join(name).display().to_string()]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", stdout(&output));
        assert_eq!(stderr(&output).contains("the intents folder ignores"), check.contains("0 files, "), "{name}: {check}");
        assert_eq!(ignored.contains(&name), check.contains("0 files, "), "{name}: {check}");
        std::fs::remove_file(workspace.path("intents").join(name)).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_that_hangs_makes_the_daemon_not_ready_while_it_still_answers() {
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_KILL_AT", &workspace.path("fault").display().to_string());
    std::fs::write(workspace.path("fault"), "scan 2 hang").expect("written");
    let daemon = workspace.serve().await;
    until("/readyz is 503", || async {
        let answer = daemon.get("/readyz").await;
        let text = answer.body.to_string();
        (answer.status == 503 && text.contains("were last read"), text)
    })
    .await;
    assert_eq!(daemon.get("/healthz").await.status, 200);
    // What is pushed is still accepted.
    assert_eq!(
        daemon.post_with("/connections/onboard", &intent("filesource", &workspace.csv("a.csv", 3)), "respond-async").await.status,
        202
    );
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_taken_away_accepts_nothing_until_it_is_back() {
    for suffix in ["", "-wal", "-shm"] {
        let workspace = Workspace::new();
        let daemon = workspace.serve().await;
        let file = workspace.path(&format!("var/aam.db{suffix}"));
        let aside = workspace.path("aside");
        std::fs::rename(&file, &aside).expect("moved");
        let refused = daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await;
        assert_eq!(refused.status, 503, "{suffix}: {}", refused.body);
        assert!(refused.body["detail"].to_string().contains("was deleted or replaced"), "{}", refused.body);
        until("/readyz is 503", || async {
            let answer = daemon.get("/readyz").await;
            let text = answer.body.to_string();
            (answer.status == 503 && text.contains("was deleted or replaced"), text)
        })
        .await;
        // The fix: put it back. Without a restart this works only for the same file.
        std::fs::rename(&aside, &file).expect("moved back");
        until("the push is accepted again", || async {
            let answer = daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await;
            (answer.status == 201, answer.body.to_string())
        })
        .await;
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_clean_stop_the_database_file_alone_is_the_registry() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    assert_eq!(daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await.status, 201);
    assert_eq!(daemon.stop().await, Some(0));
    let before = stdout(&workspace.run(&["verify"]));
    std::fs::create_dir(workspace.path("copy")).expect("a folder");
    std::fs::copy(workspace.path("var/aam.db"), workspace.path("copy/aam.db")).expect("copied");
    let mut copy = workspace.command(&["verify"]);
    let output = copy.env("AAM_REGISTRY", workspace.path("copy/aam.db")).output().expect("runs");
    assert_eq!(stdout(&output), before, "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_finds_a_dropped_trigger_and_a_damaged_page() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    assert_eq!(daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await.status, 201);
    daemon.stop().await;
    let file = workspace.path("var/aam.db");
    let good = std::fs::read(&file).expect("read");
    for (sql, reason) in [
        ("DROP TRIGGER ledger_no_update", "trigger ledger_no_update is missing"),
        (
            "DROP TRIGGER ledger_next; CREATE TRIGGER ledger_next BEFORE INSERT ON ledger BEGIN SELECT 1; END",
            "trigger ledger_next was changed",
        ),
        ("CREATE TRIGGER extra AFTER INSERT ON ledger BEGIN DELETE FROM budget; END", "trigger extra was added"),
    ] {
        let db = rusqlite::Connection::open(&file).expect("opened");
        db.execute_batch(sql).expect(sql);
        drop(db);
        let output = workspace.run(&["verify"]);
        assert_eq!(output.status.code(), Some(1), "{sql}");
        assert!(stderr(&output).contains(reason), "{sql}: {}", stderr(&output));
        std::fs::write(&file, &good).expect("restored");
    }
    // Every page but the first, which holds the header, filled with another byte.
    for page in 1..good.len() / 4096 {
        let mut damaged = good.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
        std::fs::write(&file, &damaged).expect("written");
        let output = workspace.run(&["verify"]);
        assert_ne!(output.status.code(), Some(0), "page {page}: {}", stdout(&output));
        assert!(!stderr(&output).contains("panicked"), "page {page}: {}", stderr(&output));
    }
    std::fs::write(&file, &good).expect("restored");
    assert_eq!(workspace.run(&["verify"]).status.code(), Some(0));
}

/// The offset of the daemon's clock, as in `AAM_TEST_CLOCK`.
fn shift(workspace: &Workspace, ms: i64) {
    workspace.replace("clock", ms.to_string().as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_delays_nothing() {
    const YEAR: i64 = 365 * 24 * 3600 * 1000;
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    shift(&workspace, YEAR);
    let daemon = workspace.serve().await;
    let missing = workspace.path("data/late.csv").display().to_string();
    workspace.intent_file("late.json", &intent("filesource", &missing));
    daemon.until_state(&missing, "ERROR").await;
    // The clock goes back by a year while the connection waits for its next attempt; then the file comes.
    shift(&workspace, 0);
    workspace.csv("late.csv", 2);
    daemon.until_state(&missing, "ACTIVE").await;
    let other = workspace.path("data/later.csv").display().to_string();
    workspace.intent_file("later.json", &intent("filesource", &other));
    daemon.until_state(&other, "ERROR").await;
    daemon.stop().await;
    // The same after a restart: the rows are from the next year.
    let daemon = workspace.serve().await;
    workspace.csv("later.csv", 2);
    daemon.until_state(&other, "ACTIVE").await;
    shift(&workspace, -YEAR);
    let last = workspace.path("data/last.csv").display().to_string();
    workspace.intent_file("last.json", &intent("filesource", &last));
    daemon.until_state(&last, "ERROR").await;
    workspace.csv("last.csv", 2);
    daemon.until_state(&last, "ACTIVE").await;
    daemon.stop().await;
}
