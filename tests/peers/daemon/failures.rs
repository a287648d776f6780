//! The message that a person reads when a source fails, for every family and every kind of failure.

use super::cases::{Case, case, databases, files, services};
use super::sources::*;
use crate::harness::variable;
use crate::support::daemon::{Daemon, Workspace};
use crate::support::network::{closed_port, cutting_proxy, silent_address};
use crate::support::snapshot::assert_snapshot;
use serde_json::{Value, json};

peer_tests! {
    [Postgres, Mariadb, Moto, Nanio, Fastapi]: every_failure_has_its_state_its_message_and_its_fix;
}

/// The failure as text, without the parts that differ from run to run.
fn shown(workspace: &Workspace, case: &Case, one: &Value) -> String {
    let error = &one["error"];
    let field = |name: &str| error[name].as_str().unwrap_or_default().to_string();
    let text = format!(
        "# {}: {} -> {} ({})\n{}\n  fix: {}\n  detail: {}\n",
        case.source.source_type,
        case.source.what,
        one["status"].as_str().unwrap_or_default(),
        field("class"),
        field("title"),
        field("fix"),
        field("detail")
    );
    text.replace(&workspace.dir.path().display().to_string(), "PLACE")
}

fn check(case: &Case, one: &Value) {
    let error = &one["error"];
    let what = format!("{}, {}: {error}", case.source.source_type, case.source.what);
    assert_eq!((&one["status"], &error["class"]), (&json!(case.state), &json!(case.class)), "{what}");
    let text = ["title", "fix", "detail"].map(|name| error[name].as_str().unwrap_or_default()).join("\n");
    for mention in case.mentions {
        assert!(text.contains(mention), "{mention} is not in {what}");
    }
    assert!(error["fix"].as_str().is_some_and(|fix| fix.len() > 20), "{what}");
    if let Some(secret) = &case.source.secret {
        assert!(!one.to_string().contains(&secret_part(secret)), "{what}");
    }
}

/// The part of a credential that must never be shown.
fn secret_part(secret: &str) -> String {
    let fields: Value = serde_json::from_str(secret).unwrap_or_default();
    let password = fields["password"].as_str().or(secret.rsplit(':').next());
    password.unwrap_or(secret).to_string()
}

/// Waits until every source was tried, checks each failure, and returns the text of all failures.
async fn checked_failures(workspace: &Workspace, daemon: &Daemon, cases: &[Case]) -> String {
    let mut text = String::new();
    let mut connections = Vec::new();
    for case in cases {
        let one = daemon
            .until_connection(&case.source.id, "it was tried", |one| !one["error"].is_null() || one["status"] == "ACTIVE")
            .await;
        text.push_str(&shown(workspace, case, &one));
        connections.push(one);
    }
    for (case, one) in cases.iter().zip(&connections) {
        check(case, one);
    }
    text
}

async fn every_failure_has_its_state_its_message_and_its_fix() {
    let mut workspace = Workspace::new();
    let (_socket, closed) = closed_port();
    let silent = silent_address().await.0.port();
    let (pg, maria) =
        (variable("POSTGRES", "PORT").parse().expect("a port"), variable("MARIADB", "PORT").parse().expect("a port"));
    let cuts = [
        cutting_proxy(pg, 20).await,
        cutting_proxy(pg, 3400).await,
        cutting_proxy(maria, 20).await,
        cutting_proxy(maria, 1400).await,
    ];
    let (moto, fastapi) = (port_of(&variable("MOTO", "ENDPOINT")), port_of(&variable("FASTAPI", "URL")));
    let mut cases = databases(closed, silent, cuts);
    cases.extend(services(closed, silent, [cutting_proxy(moto, 700).await, cutting_proxy(fastapi, 2000).await]));
    cases.extend(files(&workspace));
    let sources: Vec<Value> = cases.iter().map(|case| case.source.intent()).collect();
    for case in &cases {
        set_secrets(&mut workspace, std::slice::from_ref(&case.source));
    }
    workspace.write_policy(&policy("1h", ""));
    workspace.intent_file("all.json", &json!(sources));
    let daemon = workspace.serve().await;
    let mut text = checked_failures(&workspace, &daemon, &cases).await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["received"], &funnel["active"]), (&json!(cases.len()), &json!(0)), "{funnel}");
    text.push_str(&amazon(closed, silent).await);
    let filters = [
        (r"(127\.0\.0\.1|localhost):\d+", "HOST:PORT"),
        (r"127\.0\.0\.1 \d+", "HOST PORT"),
        (r"127\.0\.0\.1 -p \d+", "HOST -p PORT"),
        (r"after \d+ of \d+ bytes", "after N of M bytes"),
        (r"request id [^)]+\)", "request id ID)"),
    ];
    assert_snapshot("daemon_peer_failures", &text, &filters);
}

/// The cases of the family `s3`. It has one endpoint for all connections, so each failing endpoint needs its own daemon.
async fn amazon(closed: u16, silent: u16) -> String {
    let moto = variable("MOTO", "ENDPOINT");
    let cut = cutting_proxy(port_of(&moto), 700).await;
    let local = |port: u16| format!("http://127.0.0.1:{port}");
    let bucket = |what, id: &str, secret| source(what, "s3", id.to_string(), Some(secret));
    let lister = || key("MOTO", "LISTER");
    let wrong = format!("{}:not-the-secret", variable("MOTO", "LISTER_KEY_ID"));
    let runs = [
        (
            moto,
            vec![
                case(
                    bucket("wrong password", "aam-landing", wrong),
                    "AWAITING_CREDENTIALS",
                    "credential_rejected",
                    &["SignatureDoesNotMatch", "secret_access_key"],
                ),
                case(
                    bucket("no permission", "s3://aam-landing", key("MOTO", "UNPRIVILEGED")),
                    "AWAITING_CREDENTIALS",
                    "permission_denied",
                    &["AccessDenied", "s3:ListBucket", "\"Action\""],
                ),
            ],
        ),
        (
            local(closed),
            vec![case(bucket("unreachable", "aam-landing", lister()), "NETWORK_BLOCKED", "network", &["connection refused"])],
        ),
        (
            local(silent),
            vec![case(bucket("hanging", "aam-landing", lister()), "NETWORK_BLOCKED", "network", &["did not answer within"])],
        ),
        (local(cut), vec![case(bucket("cut in an answer", "aam-landing", lister()), "ERROR", "remote", &["127.0.0.1"])]),
    ];
    let mut text = String::new();
    for (endpoint, cases) in runs {
        let mut workspace = Workspace::new();
        for case in &cases {
            set_secrets(&mut workspace, std::slice::from_ref(&case.source));
            workspace.intent_file(&format!("{}.json", case.source.what), &case.source.intent());
        }
        workspace.write_policy(&policy("1h", &format!("families: {{s3: {{base_url: \"{endpoint}\"}}}}\n")));
        let daemon = workspace.serve().await;
        text.push_str(&checked_failures(&workspace, &daemon, &cases).await);
    }
    text
}
