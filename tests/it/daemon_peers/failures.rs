//! What a person reads when a source does not work: every family, every way to fail.

use super::support::*;
use crate::daemon_support::{Daemon, Place};
use serde_json::{Value, json};

/// A source that cannot become ACTIVE, and what must be said of it.
struct Case {
    source: Source,
    state: &'static str,
    class: &'static str,
    /// Words that the failure or its fix must hold: the vendor's code, the permission, the remedy.
    words: &'static [&'static str],
}

fn case(source: Source, state: &'static str, class: &'static str, words: &'static [&'static str]) -> Case {
    Case { source, state, class, words }
}

/// The databases, at working and at broken addresses.
fn databases(dead: u16, silent: u16, cut: [u16; 4]) -> Vec<Case> {
    let (pg, maria) = (at("POSTGRES"), at("MARIADB"));
    let wrong = || login("reader", "not-the-password");
    let (postgres, mariadb) = (|| role("POSTGRES", "reader"), || role("MARIADB", "reader"));
    let mut all = vec![
        case(source("wrong password", "postgres", format!("postgresql://{pg}/shop?ApplicationName=wrong"), wrong()), "AWAITING_CREDENTIALS", "credential_rejected", &["28P01", "ALTER ROLE"]),
        case(source("no permission", "postgres", format!("postgresql://{pg}/shop?ApplicationName=blind"), role("POSTGRES", "blind")), "AWAITING_CREDENTIALS", "permission_denied", &["lacks USAGE", "GRANT SELECT ON"]),
        case(source("no such database", "postgres", format!("postgresql://{pg}/gone"), postgres()), "ERROR", "not_found", &["3D000", "gone"]),
        case(source("wrong password", "jdbc", format!("jdbc:mariadb://{maria}/shop?connectTimeout=4000"), wrong()), "AWAITING_CREDENTIALS", "credential_rejected", &["1045", "ALTER USER"]),
        case(source("no permission", "jdbc", format!("jdbc:mariadb://{maria}/shop?connectTimeout=4001"), role("MARIADB", "blind")), "AWAITING_CREDENTIALS", "permission_denied", &["1044", "GRANT SELECT"]),
        case(source("no such database", "jdbc", format!("jdbc:mariadb://{maria}/gone"), role("MARIADB", "super")), "ERROR", "not_found", &["1049", "gone"]),
    ];
    for (family, scheme, secret, name) in [("postgres", "postgresql", postgres(), "PostgreSQL"), ("jdbc", "jdbc:mariadb", mariadb(), "MariaDB")] {
        let id = |port: u16| format!("{scheme}://127.0.0.1:{port}/shop");
        let cut = if name == "PostgreSQL" { [cut[0], cut[1]] } else { [cut[2], cut[3]] };
        all.push(case(source("unreachable", family, id(dead), secret.clone()), "NETWORK_BLOCKED", "network", &["nobody answers"]));
        all.push(case(source("hanging", family, id(silent), secret.clone()), "NETWORK_BLOCKED", "network", &["no answer within"]));
        all.push(case(source("cut in the login", family, id(cut[0]), secret.clone()), "ERROR", "remote", &["127.0.0.1"]));
        all.push(case(source("cut in an answer", family, id(cut[1]), secret.clone()), "ERROR", "remote", &["127.0.0.1"]));
    }
    all
}

/// The object stores and the service, at working and at broken addresses.
fn services(dead: u16, silent: u16, cut: [u16; 2]) -> Vec<Case> {
    let (moto, nanio, fastapi) = (of("MOTO", "ENDPOINT"), of("NANIO", "ENDPOINT"), of("FASTAPI", "URL"));
    let (lister, token) = (|| key("MOTO", "LISTER"), || of("FASTAPI", "TOKEN"));
    let wrong = |peer: &str, user: &str| format!("{}:not-the-secret", of(peer, &format!("{user}KEY_ID")));
    let local = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
    vec![
        case(source("wrong password", "s3_compat", format!("{moto}/aam-landing/orders"), wrong("MOTO", "LISTER_")), "AWAITING_CREDENTIALS", "credential_rejected", &["SignatureDoesNotMatch", "secret_access_key"]),
        case(source("wrong password at nanio", "s3_compat", format!("{nanio}/landing"), wrong("NANIO", "")), "AWAITING_CREDENTIALS", "credential_rejected", &["SignatureDoesNotMatch", "secret_access_key"]),
        case(source("unknown key", "s3_compat", format!("{nanio}/landing/orders"), "nobody-knows-me:not-the-secret".to_string()), "AWAITING_CREDENTIALS", "credential_rejected", &["InvalidAccessKeyId"]),
        case(source("no permission", "s3_compat", format!("{moto}/aam-landing"), key("MOTO", "NOBODY")), "AWAITING_CREDENTIALS", "permission_denied", &["AccessDenied", "s3:ListBucket", "\"Action\""]),
        case(source("no such bucket", "s3_compat", format!("{nanio}/gone"), key("NANIO", "")), "ERROR", "not_found", &["NoSuchBucket"]),
        case(source("unreachable", "s3_compat", local(dead, "/aam-landing"), lister()), "NETWORK_BLOCKED", "network", &["refused the connection"]),
        case(source("hanging", "s3_compat", local(silent, "/aam-landing"), lister()), "NETWORK_BLOCKED", "network", &["did not answer within"]),
        case(source("cut in an answer", "s3_compat", local(cut[0], "/aam-landing"), lister()), "ERROR", "remote", &["127.0.0.1"]),
        case(source("wrong password", "openapi", format!("{fastapi}/openapi.json"), "not-the-token".to_string()), "AWAITING_CREDENTIALS", "credential_rejected", &["401", "unknown token"]),
        case(source("no permission", "openapi", fastapi.clone(), format!("{}-unprivileged", token())), "AWAITING_CREDENTIALS", "permission_denied", &["403", "this token may not read books", "GET /books"]),
        case(source("unreachable", "openapi", local(dead, ""), token()), "NETWORK_BLOCKED", "network", &["refused the connection"]),
        case(source("hanging", "openapi", local(silent, ""), token()), "NETWORK_BLOCKED", "network", &["did not answer within"]),
        case(source("cut in an answer", "openapi", local(cut[1], ""), token()), "ERROR", "remote", &["127.0.0.1"]),
    ]
}

/// Files fail in their own ways: there is no password and nobody to answer.
fn files(place: &Place) -> Vec<Case> {
    let whole = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/data/orders.parquet")).expect("the seed");
    std::fs::write(place.path("data/cut.parquet"), &whole[..whole.len() / 2]).expect("write");
    let path = |name: &str| place.path(name).display().to_string();
    vec![
        case(source("no permission", "filesource", path("policy/policy.yaml"), None), "ERROR", "misconfigured", &["files.roots"]),
        case(source("unreachable", "filesource", path("data/gone.csv"), None), "ERROR", "not_found", &["gone.csv"]),
        case(source("cut file", "filesource", path("data/cut.parquet"), None), "ERROR", "remote", &["cut.parquet"]),
    ]
}

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
        let one = daemon.until_connection(&case.source.id, "it was tried", |one| !one["error"].is_null() || one["status"] == "ACTIVE").await;
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
                case(bucket("wrong password", "aam-landing", wrong), "AWAITING_CREDENTIALS", "credential_rejected", &["SignatureDoesNotMatch", "secret_access_key"]),
                case(bucket("no permission", "s3://aam-landing", key("MOTO", "NOBODY")), "AWAITING_CREDENTIALS", "permission_denied", &["AccessDenied", "s3:ListBucket", "\"Action\""]),
            ],
        ),
        (local(dead), vec![case(bucket("unreachable", "aam-landing", lister()), "NETWORK_BLOCKED", "network", &["refused the connection"])]),
        (local(silent), vec![case(bucket("hanging", "aam-landing", lister()), "NETWORK_BLOCKED", "network", &["did not answer within"])]),
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
