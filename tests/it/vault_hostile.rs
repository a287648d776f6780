//! A hostile vault: it repeats secrets in every text, and sends answers that are absurd, endless or missing.

use crate::support::bearer_service::BearerService;
use crate::support::daemon::{Workspace, intent_with_locator, stderr, stdout};
use crate::support::leaky_service::Canary;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What the vault answers to a read of a secret; everything else is answered as a vault does.
#[derive(Clone)]
enum Answer {
    Json(u16, Value),
    Text(u16, String),
    /// A body that never ends.
    Endless,
    /// No answer at all.
    Hang,
}

/// Starts a vault whose answer to a read is `read`, and to a question about the token is `token`.
async fn vault(token: Answer, read: Answer) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(move |request: Request<Body>| {
        let answer = match request.uri().path() {
            "/v1/auth/token/lookup-self" => token.clone(),
            path if path.starts_with("/v1/sys/internal/ui/mounts/database") => {
                Answer::Json(200, json!({"data": {"path": "database/", "type": "database"}}))
            }
            path if path.starts_with("/v1/sys/internal/ui/mounts/") => {
                Answer::Json(200, json!({"data": {"path": "kv/", "type": "kv", "options": {"version": "2"}}}))
            }
            path if path.starts_with("/v1/sys/") => Answer::Json(404, json!({"errors": []})),
            _ => read.clone(),
        };
        // The vault repeats the token also in a header.
        let echo = request.headers().get("x-vault-token").cloned();
        async move {
            let response = Response::builder().header("content-type", "application/json");
            let response = echo.into_iter().fold(response, |response, echo| response.header("x-echo", echo));
            match answer {
                Answer::Json(status, body) => response.status(status).body(Body::from(body.to_string())).unwrap(),
                Answer::Text(status, text) => response.status(status).body(Body::from(text)).unwrap(),
                Answer::Endless => {
                    let chunks =
                        futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 16 << 10])));
                    response.status(StatusCode::OK).body(Body::from_stream(chunks)).unwrap()
                }
                Answer::Hang => std::future::pending().await,
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn token_answer() -> Answer {
    Answer::Json(
        200,
        json!({"data": {"ttl": 3600, "creation_ttl": 3600, "period": 3600, "renewable": true, "policies": ["aam"]}}),
    )
}

/// A workspace whose policy names the vault and whose attempts are short.
fn workspace(url: &str, token: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("VAULT_TOKEN", token);
    workspace.set("AAM_LOG", "trace");
    workspace.write_policy(&format!(
        "safe_mode: {{step_timeout: 2s, attempt_timeout: 6s}}\ncredentials: {{vault: {{address: \"{url}\", login: {{method: token, token: \"env:VAULT_TOKEN\"}}}}}}\n"
    ));
    workspace
}

/// Runs one attempt through the registry; returns everything that AAM wrote.
fn outputs(workspace: &Workspace, resource_id: &str, locator: &str) -> Vec<u8> {
    workspace.intent_file("one.json", &intent_with_locator("openapi", resource_id, locator));
    let mut all = Vec::new();
    for arguments in [&["once"][..], &["status", "--format", "json"], &["report"]] {
        let output = workspace.run(arguments);
        all.extend(output.stdout);
        all.extend(output.stderr);
    }
    workspace.files().into_iter().for_each(|(_, bytes)| all.extend(bytes));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_contains_the_token_or_the_secret() {
    let (token, secret) = (Canary::alphanumeric("vaulttoken"), Canary::new("vaultsecret"));
    let leak = |canary: &Canary| canary.forms().join(" ");
    let errors = |status: u16, canary: &Canary| Answer::Json(status, json!({"errors": [leak(canary), canary.value]}));
    let fields = json!({"token": secret.value, secret.value.as_str(): "x", "number": 5});
    let kv = |fields: &Value| Answer::Json(200, json!({"data": {"data": fields, "metadata": {"version": 1}}}));
    let lease = json!({
        "lease_id": format!("database/creds/a/{}", token.value), "lease_duration": 60, "renewable": true,
        "data": {"username": "reader", "password": secret.value},
    });
    let cases = [
        (errors(403, &token), kv(&fields), "vault:kv/a#token"),
        (token_answer(), errors(400, &token), "vault:kv/a#token"),
        (token_answer(), errors(403, &token), "vault:kv/a#token"),
        (token_answer(), errors(404, &token), "vault:kv/a#token"),
        (token_answer(), errors(500, &token), "vault:kv/a#token"),
        (token_answer(), Answer::Text(200, leak(&token)), "vault:kv/a#token"),
        (token_answer(), kv(&fields), "vault:kv/a#missing"),
        (token_answer(), kv(&fields), "vault:kv/a#number"),
        // The source rejects the secret.
        (token_answer(), kv(&fields), "vault:kv/a#token"),
        (token_answer(), kv(&fields), "vault:kv/a"),
        (token_answer(), kv(&json!({"token": token.value})), "vault:kv/a#token"),
        (token_answer(), Answer::Json(200, lease), "vault:database/creds/a"),
    ];
    let service = BearerService::start("another-token").await;
    for (index, (about_token, read, locator)) in cases.into_iter().enumerate() {
        let url = vault(about_token, read).await;
        let workspace = workspace(&url, &token.value);
        let all = outputs(&workspace, &service.url("a"), locator);
        for canary in [&token, &secret] {
            if let Some(form) = canary.found_in(&all) {
                let text = String::from_utf8_lossy(&all).into_owned();
                let at = text.find(&form).unwrap_or(0);
                panic!("case {index}: {form} is in {}", text.get(at.saturating_sub(300)..at + 100).unwrap_or(&text));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_answers_end_the_attempt_and_name_the_vault() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = json!({"data": {"data": {"token": "x".repeat(2 << 20)}, "metadata": {"version": 1}}});
    let many: serde_json::Map<String, Value> = (0..5000).map(|n| (format!("field{n}"), json!("value"))).collect();
    let many = json!({"data": {"data": many, "metadata": {"version": 1}}});
    for (read, locator, part) in [
        (Answer::Text(200, "<html>sign in</html>".to_string()), "vault:kv/a#token", "is not a JSON object"),
        (Answer::Text(200, deep), "vault:kv/a#token", "is not a JSON object"),
        (Answer::Text(200, String::new()), "vault:kv/a#token", "does not have data"),
        (Answer::Json(200, json!([1])), "vault:kv/a#token", "is not a JSON object"),
        (Answer::Json(200, huge), "vault:kv/a#token", "could not read from the vault"),
        (Answer::Json(200, many), "vault:kv/a#none", "and 4980 more"),
        (Answer::Endless, "vault:kv/a#token", "could not read from the vault"),
        (Answer::Hang, "vault:kv/a#token", "could not read from the vault"),
        (
            Answer::Json(200, json!({"lease_id": 5, "lease_duration": "long", "data": "x"})),
            "vault:database/creds/a",
            "does not have data",
        ),
    ] {
        let url = vault(token_answer(), read).await;
        let workspace = workspace(&url, "s.a-token-of-the-vault");
        let file = workspace.path("one.json");
        std::fs::write(&file, intent_with_locator("openapi", "http://127.0.0.1:1/openapi.json", locator).to_string()).unwrap();
        let started = Instant::now();
        let output = workspace.run(&["test", file.to_str().unwrap()]);
        let text = format!("{}{}", stdout(&output), stderr(&output));
        assert!(text.contains(part), "{part} is not in {text}");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
    // A lease with absurd numbers is used for a bounded time and does not keep AAM busy.
    let lease = json!({"lease_id": "a", "lease_duration": u64::MAX, "renewable": true, "data": {"token": "a-leased-token"}});
    let url = vault(token_answer(), Answer::Json(200, lease)).await;
    let service = BearerService::start("a-leased-token").await;
    let workspace = workspace(&url, "s.a-token-of-the-vault");
    workspace.intent_file("one.json", &intent_with_locator("openapi", &service.url("a"), "vault:database/creds/a#token"));
    let output = workspace.run(&["once"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
}
