//! The role that AAM runs as in PostgreSQL: what it cannot do, and what is said when it cannot log in.

use crate::harness::variable;
use crate::registry_postgres::{Database, replica, sources, until_active, until_divided, workspace};
use crate::support::daemon::{intent, stderr, stdout, until};
use sqlstore::Connection;

peer_tests! {
    [Postgres]: the_role_cannot_break_a_chain_or_set_numbers_back, a_password_that_changed_in_its_file_is_read_again,
        what_a_url_lacks_is_said_and_what_is_said_works, a_pooler_has_to_keep_sessions_apart;
}

async fn the_role_cannot_break_a_chain_or_set_numbers_back() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 1);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    let role = Database::session(&database.name, &database.role, &database.role);
    let next = |prev: &str, hash: &str| {
        format!(
            "INSERT INTO ledger SELECT nextval('ledger_seq'), at, kind, namespace, connection, facts, body, {prev}, {hash}, chain,
             place + 1 FROM ledger WHERE chain = 0 ORDER BY place DESC LIMIT 1"
        )
    };
    for (sql, why) in [
        (next("prev", "hash"), "contains the hash of the row before it"),
        (next("hash", "hash"), "has the hash of its content"),
        (next("hash", "NULL"), "has the hash of its content"),
        ("SELECT setval('ledger_seq', 1)".to_string(), "permission denied"),
        ("SELECT setval('call_batch_numbers', 1)".to_string(), "permission denied"),
        ("ALTER SEQUENCE ledger_seq RESTART".to_string(), "must be owner"),
    ] {
        let error = role.execute_batch(&sql).expect_err(&sql).to_string();
        assert!(error.contains(why), "{sql}: {error}");
    }
    // What a copy of a registry uses only moves them forwards.
    role.execute_batch("SELECT continue_numbers()").expect("numbers go on");
    let csv = workspace.csv("after.csv", 30);
    let answer = daemon.push(&intent("filesource", &csv)).await;
    assert!([200, 201, 202].contains(&answer.status), "{}", answer.body);
    daemon.until_state(&csv, "ACTIVE").await;
    assert!(workspace.run(&["verify"]).status.success());
}

async fn a_password_that_changed_in_its_file_is_read_again() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let file = workspace.path("password");
    std::fs::write(&file, format!("{}\n", database.role)).expect("a file");
    let url = database.url(&database.role).replace(&format!("env:{}", database.role), &format!("file:{}", file.display()));
    workspace.set("AAM_REGISTRY", &url);
    let ids = sources(&workspace, 1);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    // A second replica needs a folder of its own, and says so.
    let second = workspace.run(&["once"]);
    assert_eq!(second.status.code(), Some(1), "{}", stdout(&second));
    assert!(stderr(&second).contains("each replica has files of its own; run this one in another folder"), "{}", stderr(&second));
    let admin = database.admin();
    admin.execute_batch(&format!("ALTER ROLE {} PASSWORD 'rotated'", database.role)).expect("a new password");
    let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'", database.role);
    let ended: i64 = admin.query_row(&sql, [], |row| row.get(0)).expect("sessions ended");
    assert!(ended > 0);
    until("a replica with nothing to do says it, too", || async {
        let answer = daemon.get("/readyz").await;
        (answer.status == 503, format!("{} {}", answer.status, answer.body))
    })
    .await;
    let csv = workspace.csv("after.csv", 30);
    let pushed = intent("filesource", &csv);
    until("the refused login is said", || async {
        let answer = daemon.push(&pushed).await;
        (
            answer.status == 503 && answer.body.to_string().contains("refused the login"),
            format!("{} {}", answer.status, answer.body),
        )
    })
    .await;
    std::fs::write(&file, "rotated\n").expect("a file");
    until("the push is accepted", || async {
        let answer = daemon.push(&pushed).await;
        ([200, 201, 202].contains(&answer.status), format!("{} {}", answer.status, answer.body))
    })
    .await;
    daemon.until_state(&csv, "ACTIVE").await;
}

async fn what_a_url_lacks_is_said_and_what_is_said_works() {
    let (mut workspace, database) = (workspace(), Database::new());
    workspace.set(&database.owner, &database.owner);
    database.choose(&mut workspace);
    let url = database.url(&database.role);
    // A password in a URL is refused without being repeated, wherever the URL comes from.
    let with_password = url.replace(&format!("{}@", database.role), &format!("{}:hunter2@", database.role));
    for output in [
        workspace.run(&["status", "--registry", &with_password]),
        workspace.command(&["status"]).env("AAM_REGISTRY", &with_password).output().expect("the binary runs"),
        workspace.run(&["registry", "migrate", "--to", &with_password]),
    ] {
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("contains a password") && said.contains("?credential=env:NAME"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    // The command for the owner names the same database and schema.
    let elsewhere = format!("{url}&schema=prod");
    let missing = stderr(&workspace.run(&["status", "--registry", &elsewhere]));
    let command = missing.split("aam registry init ").nth(1).unwrap_or_else(|| panic!("{missing}"));
    let command = command.trim().replace("OWNER", &database.owner).replace("NAME", &database.owner);
    let arguments: Vec<&str> = command.split_whitespace().map(|argument| argument.trim_matches('\'')).collect();
    let created = workspace.run(&[&["registry", "init"], arguments.as_slice()].concat());
    assert!(created.status.success(), "{command}: {}", stderr(&created));
    let found = workspace.run(&["registry", "replicas", "--registry", &elsewhere]);
    assert!(found.status.success(), "{}{}", stdout(&found), stderr(&found));
    // Nothing continues by itself when a command ends because no server answers.
    let nowhere = elsewhere.replace(&format!(":{}/", variable("POSTGRES", "PORT")), ":1/");
    for command in [["status"].as_slice(), &["serve"], &["once"], &["registry", "replicas"]] {
        let said = stderr(&workspace.run(&[command, &["--registry", &nowhere]].concat()));
        assert!(said.contains("does not answer; when it does, run this command again: "), "{command:?}: {said}");
        assert!(!said.contains("automatically"), "{command:?}: {said}");
    }
    // Without a credential, a server that asks for a password is not one that does not answer.
    let without = elsewhere.replace(&format!("credential=env:{}&", database.role), "");
    let refused = stderr(&workspace.run(&["registry", "replicas", "--registry", &without]));
    assert!(refused.contains("the connection has none") && refused.contains("credential=env:NAME"), "{refused}");
    workspace.set(&database.role, "wrong");
    let refused = stderr(&workspace.run(&["registry", "replicas", "--registry", &elsewhere]));
    assert!(refused.contains("refused the login") && refused.contains("password authentication failed"), "{refused}");
}

/// The fix of the refusal, which is another mode of the pooler, is what the rest of the test does.
async fn a_pooler_has_to_keep_sessions_apart() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 4);
    let through = |name: &str| {
        let (server, pooler) = (variable("POSTGRES", "PORT"), variable("POSTGRES", name));
        database.url(&database.role).replace(&format!(":{server}/"), &format!(":{pooler}/"))
    };
    for command in [["verify"].as_slice(), &["status"], &["calls"], &["query", "SELECT count(*) FROM intents"], &["once"]] {
        let refused = workspace.run(&[command, &["--registry", &through("TRANSACTION_POOLER_PORT")]].concat());
        assert_eq!(refused.status.code(), Some(1), "{command:?}: {}", stdout(&refused));
        assert!(stderr(&refused).contains("set pool_mode = session"), "{command:?}: {}", stderr(&refused));
    }
    // The sessions of the pooler go to others, and they are as they were.
    let port = variable("POSTGRES", "TRANSACTION_POOLER_PORT").parse().expect("a port");
    let sessions: Vec<Connection> =
        (0..4).map(|_| Database::session_at(port, &database.name, &database.role, &database.role)).collect();
    for session in &sessions {
        session.begin_write().expect("a transaction");
        let shown: String = session.query_row("SHOW default_transaction_read_only", [], |row| row.get(0)).expect("a setting");
        assert_eq!(shown, "off");
    }
    drop(sessions);
    workspace.set("AAM_REGISTRY", &through("SESSION_POOLER_PORT"));
    let (first, second) = (workspace.serve().await, replica(&workspace, &database));
    let second = second.serve().await;
    until_divided(&database, &[32, 32]).await;
    until_active(&first, &ids).await;
    // The other replica, which is not behind the pooler, is woken and answers for all.
    let csv = workspace.csv("pushed.csv", 30);
    let answer = second.push(&intent("filesource", &csv)).await;
    assert!([200, 201, 202].contains(&answer.status), "{}", answer.body);
    for daemon in [&first, &second] {
        daemon.until_state(&csv, "ACTIVE").await;
    }
    for arguments in [["verify"].as_slice(), &["status"], &["calls"], &["query", "SELECT count(*) FROM intents"]] {
        let output = workspace.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }
}
