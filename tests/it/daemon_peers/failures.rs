//! What a person reads when a source does not work: every family, every way to fail.

use super::cases::{Case, case, databases, files, services};
use super::support::*;
use crate::daemon_support::{Daemon, Place};
use serde_json::{Value, json};

/// The failure as it is shown, without what differs from run to run.
fn shown(place: &Place, case: &Case, one: &Value) -> String {
    let error = &one["error"];
    let word = |name: &str| error[name].as_str().unwrap_or_default().to_string();
    let text = format!(
        "# {}: {} -> {} ({})\n{}\n  fix: {}\n  detail: {}\n",
        case.source.source_type,
        case.source.what,
        one["status"].as_str().unwrap_or_default(),
        word("class"),
        word("title"),
        word("fix"),
        word("detail")
    );
    text.replace(&place.dir.path().display().to_string(), "PLACE")
}

fn check(case: &Case, one: &Value) {
    let error = &one["error"];
    let what = format!("{}, {}: {error}", case.source.source_type, case.source.what);
    assert_eq!((&one["status"], &error["class"]), (&json!(case.state), &json!(case.class)), "{what}");
    let text = ["title", "fix", "detail"].map(|name| error[name].as_str().unwrap_or_default()).join("\n");
    for word in case.words {
        assert!(text.contains(word), "{word} is not in {what}");
    }
    assert!(error["fix"].as_str().is_some_and(|fix| fix.len() > 20), "{what}");
    if let Some(secret) = &case.source.secret {
        assert!(!one.to_string().contains(&hidden(secret)), "{what}");
    }
}

/// The part of a credential that nobody may ever see.
fn hidden(secret: &str) -> String {
    let fields: Value = serde_json::from_str(secret).unwrap_or_default();
    let password = fields["password"].as_str().or(secret.rsplit(':').next());
    password.unwrap_or(secret).to_string()
}

/// Waits until every case was tried, and tells all failures.
async fn told(place: &Place, daemon: &Daemon, cases: &[Case]) -> String {
    let mut text = String::new();
    let mut seen = Vec::new();
    for case in cases {
        let one = daemon
            .until_connection(&case.source.id, "it was tried", |one| !one["error"].is_null() || one["status"] == "ACTIVE")
            .await;
        text.push_str(&shown(place, case, &one));
        seen.push(one);
    }
    for (case, one) in cases.iter().zip(&seen) {
        check(case, one);
    }
    text
}

#[tokio::test]
async fn every_way_to_fail_has_its_state_its_words_and_its_remedy() {
    let mut place = Place::new();
    let (_socket, dead) = closed();
    let silent = hanging().await;
    let (pg, maria) = (of("POSTGRES", "PORT").parse().expect("a port"), of("MARIADB", "PORT").parse().expect("a port"));
    let cuts = [cutting(pg, 20).await, cutting(pg, 3400).await, cutting(maria, 20).await, cutting(maria, 1400).await];
    let (moto, fastapi) = (port_of(&of("MOTO", "ENDPOINT")), port_of(&of("FASTAPI", "URL")));
    let mut cases = databases(dead, silent, cuts);
    cases.extend(services(dead, silent, [cutting(moto, 700).await, cutting(fastapi, 2000).await]));
    cases.extend(files(&place));
    let sources: Vec<Value> = cases.iter().map(|case| case.source.intent()).collect();
    for case in &cases {
        lend(&mut place, std::slice::from_ref(&case.source));
    }
    place.write_policy(&policy("1h", ""));
    place.intent_file("all.json", &json!(sources));
    let daemon = place.serve().await;
    let mut text = told(&place, &daemon, &cases).await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["received"], &funnel["active"]), (&json!(cases.len()), &json!(0)), "{funnel}");
    text.push_str(&amazon(dead, silent).await);
    insta::with_settings!({
        snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false, omit_expression => true,
        filters => vec![
            (r"(127\.0\.0\.1|localhost):\d+", "HOST:PORT"),
            (r"127\.0\.0\.1 \d+", "HOST PORT"),
            (r"127\.0\.0\.1 -p \d+", "HOST -p PORT"),
            (r"after \d+ of \d+ bytes", "after N of M bytes"),
            (r"request id [^)]+\)", "request id ID)"),
        ]
    }, { insta::assert_snapshot!("daemon_peer_failures", text); });
}

/// `s3` has one endpoint for the whole family, so each broken one is a daemon of its own.
async fn amazon(dead: u16, silent: u16) -> String {
    let moto = of("MOTO", "ENDPOINT");
    let cut = cutting(port_of(&moto), 700).await;
    let local = |port: u16| format!("http://127.0.0.1:{port}");
    let bucket = |what, id: &str, secret| source(what, "s3", id.to_string(), Some(secret));
    let lister = || key("MOTO", "LISTER");
    let wrong = format!("{}:not-the-secret", of("MOTO", "LISTER_KEY_ID"));
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
                    bucket("no permission", "s3://aam-landing", key("MOTO", "NOBODY")),
                    "AWAITING_CREDENTIALS",
                    "permission_denied",
                    &["AccessDenied", "s3:ListBucket", "\"Action\""],
                ),
            ],
        ),
        (
            local(dead),
            vec![case(bucket("unreachable", "aam-landing", lister()), "NETWORK_BLOCKED", "network", &["refused the connection"])],
        ),
        (
            local(silent),
            vec![case(bucket("hanging", "aam-landing", lister()), "NETWORK_BLOCKED", "network", &["did not answer within"])],
        ),
        (local(cut), vec![case(bucket("cut in an answer", "aam-landing", lister()), "ERROR", "remote", &["127.0.0.1"])]),
    ];
    let mut text = String::new();
    for (endpoint, cases) in runs {
        let mut place = Place::new();
        for case in &cases {
            lend(&mut place, std::slice::from_ref(&case.source));
            place.intent_file(&format!("{}.json", case.source.what), &case.source.intent());
        }
        place.write_policy(&policy("1h", &format!("families: {{s3: {{base_url: \"{endpoint}\"}}}}\n")));
        let daemon = place.serve().await;
        text.push_str(&told(&place, &daemon, &cases).await);
    }
    text
}
