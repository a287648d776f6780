//! What a caller or a source writes cannot steer the terminal of the operator, forge log lines, or be used to guess secrets.

use crate::support::daemon::{Workspace, intent, intent_with_locator, page_paths, stderr, stdout};
use crate::support::openapi::{json_response, serve};
use serde_json::{Value, json};

/// Characters that hide or reorder text, move the cursor, or end a line.
const STEERING: [&str; 9] = [
    "\u{1b}[2J\u{1b}[1;1HACTIVE",
    "\u{1b}]0;title\u{7}",
    "\u{9b}31m",
    "a\nINFO aam::attempt: passed",
    "a\r overwritten",
    "\u{202e}evitca",
    "\u{2066}x\u{2069}",
    "zero\u{200b}width",
    "left\u{200e}mark",
];

/// Asserts that the text has no character that steers a terminal, and no line that begins as one of the log does.
fn assert_harmless(name: &str, text: &str) {
    assert_printable(name, text);
    assert!(!text.lines().any(|line| line.starts_with("INFO aam::attempt: passed")), "{name}:\n{text}");
}

fn assert_printable(name: &str, text: &str) {
    let found = text.chars().find(|c| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || ('\u{200b}'..='\u{200f}').contains(c)
            || ('\u{202a}'..='\u{202e}').contains(c)
            || ('\u{2066}'..='\u{2069}').contains(c)
    });
    assert_eq!(found, None, "{name}:\n{text:?}");
}

#[tokio::test]
async fn an_intent_with_characters_that_steer_a_terminal_is_refused() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let good = workspace.csv("a.csv", 1);
    for text in STEERING {
        for pointer in ["/owner/user", "/owner/note", "/evidence/status", "/evidence/note", "/resource_ids/0", "/note"] {
            let mut document = intent("filesource", &good);
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            match document.pointer_mut(parent).unwrap() {
                Value::Object(fields) => drop(fields.insert(name.to_string(), json!(text))),
                other => *other = json!([text]),
            }
            let answer = daemon.push(&document).await;
            assert_eq!(answer.status, 422, "{pointer} {text:?}: {}", answer.body);
            let named = answer.body["problems"].as_array().unwrap().iter().any(|problem| problem["pointer"] == pointer);
            assert!(named, "{pointer}: {}", answer.body);
        }
    }
    assert_eq!(daemon.connections().await, Vec::<Value>::new());
    // The folder reports the same, and its report is harmless too.
    let mut document = intent("filesource", &good);
    document["owner"]["\u{202e}user\u{1b}[2J"] = json!("x");
    workspace.intent_file("steering.json", &document);
    let check = workspace.run(&["check"]);
    assert_eq!(check.status.code(), Some(78), "{}", stdout(&check));
    assert_harmless("check", &(stdout(&check) + &stderr(&check)));
}

/// Steering characters that no schema can refuse: in the names of files, and in what a source says.
#[tokio::test]
async fn names_of_files_and_texts_of_sources_are_escaped_wherever_they_are_printed() {
    let workspace = Workspace::new();
    let said = "\u{1b}[2J\u{202e}said\u{9b}31m\nINFO aam::attempt: passed";
    let base = serve(move |path, _| match path {
        "/openapi.json" => json_response(json!({
            "openapi": "3.1.0", "info": {"title": format!("T{said}"), "version": "1"}, "servers": [{"url": "/"}],
            "paths": {"/items": {"get": {"operationId": format!("op{said}"), "responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}}}}}
        }).to_string()),
        _ => (500, vec![("content-type", "application/json".into())], json!({"message": said}).to_string()),
    })
    .await;
    let resource = format!("{base}/openapi.json");
    workspace.intent_file("\u{1b}[31m\u{202e}api.json", &intent("openapi", &resource));
    workspace.intent_file("broken\u{1b}[2J\u{200b}.json", &json!({"source_type": 7}));
    let folder = workspace.path("data").join("d");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("\u{202e}a\u{1b}[2J\nINFO aam::attempt: passed.csv"), "id,\u{1b}[2J\u{202e}x\n1,2\n").unwrap();
    workspace.intent_file("folder.json", &intent("filesource", &folder.display().to_string()));
    let daemon = workspace.serve().await;
    let failed = daemon.until_connection(&resource, "it fails", |one| one["error"].is_object()).await;
    daemon.until_state(&folder.display().to_string(), "ACTIVE").await;
    let id = failed["connection_id"].as_str().unwrap().to_string();
    for path in page_paths(std::slice::from_ref(&id)) {
        let page = daemon.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        // A page quotes the lines of a source as lines, marked as its words; those of a CSV file end with CRLF.
        assert_printable(&path, &page.body.as_str().unwrap().replace("\r\n", "\n"));
    }
    assert_harmless("metrics", daemon.get("/metrics").await.body.as_str().unwrap());
    let file = workspace.path("intents").join("folder.json").display().to_string();
    let mut printed = String::new();
    for arguments in [
        &["status"][..],
        &["status", &id],
        &["report"],
        &["check"],
        &["plan"],
        &["test", &file],
        &["status", "--format", "json"],
        &["check", "--format", "json"],
        &["verify"],
        &["families"],
    ] {
        let output = workspace.run(arguments);
        assert_harmless(&arguments.join(" "), &stdout(&output));
        assert_harmless(&arguments.join(" "), &stderr(&output));
        printed.push_str(&stdout(&output));
    }
    assert!(printed.contains("\\u{202e}"), "the characters are shown as escapes:\n{printed}");
    assert_harmless("log", &daemon.log());
    assert!(daemon.log().contains("\\u{1b}[2J"), "{}", daemon.log());
}

#[tokio::test]
async fn a_caller_cannot_find_a_secret_by_guessing_it() {
    let mut workspace = Workspace::new();
    workspace.set("A_PIN", "482913");
    workspace.set("B_PIN", "739104");
    let base = serve(|path, request| match path {
        "/openapi.json" | "/482913/openapi.json" | "/739104/openapi.json" | "/111111/openapi.json" => json_response(json!({
            "openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "servers": [{"url": "/"}],
            "security": [{"k": []}], "components": {"securitySchemes": {"k": {"type": "http", "scheme": "bearer"}}},
            "paths": {"/items": {"get": {"responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}}}}}
        }).to_string()),
        // The source repeats the secret of its own connection.
        _ => {
            let sent = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
            (403, vec![("content-type", "application/json".into())], json!({"message": format!("no access with {sent}")}).to_string())
        }
    })
    .await;
    let daemon = workspace.serve().await;
    // Two connections whose secrets are in use all the time.
    for (name, locator) in [("a", "env:A_PIN"), ("b", "env:B_PIN")] {
        let answer = daemon.push(&intent_with_locator("openapi", &format!("{base}/openapi.json?{name}"), locator)).await;
        let text = answer.body.to_string();
        assert!(text.contains("no access with") && text.contains("[redacted]"), "{text}");
        assert!(!text.contains("482913") && !text.contains("739104"), "{text}");
    }
    // Guesses in every text that a caller writes: right ones look like wrong ones.
    for guess in ["482913", "739104", "111111"] {
        let mut document = intent_with_locator("openapi", &format!("{base}/{guess}/openapi.json"), "env:A_PIN");
        document["owner"]["user"] = json!(format!("{guess}@acme.example"));
        document["evidence"]["note"] = json!(guess);
        document["note"] = json!(format!("is it {guess}?"));
        let pushed = daemon.push(&document).await;
        assert_eq!(pushed.status, 201, "{}", pushed.body);
        let id = pushed.body["connection_id"].as_str().unwrap().to_string();
        let mut read = vec![pushed.body];
        for path in ["", "/health", "/versions?limit=100", "/catalog"] {
            read.push(daemon.get(&format!("/connections/{id}{path}")).await.body);
        }
        let everything = read.iter().map(Value::to_string).collect::<String>().replace(guess, "GUESS").replace(&id, "ID");
        let marks = everything.matches("[redacted]").count();
        assert!(everything.contains("/GUESS/openapi.json"), "{everything}");
        let expected = everything.matches("no access with").count();
        assert!(marks <= expected, "{guess}: {marks} marks in {everything}");
    }
    // A guess in a text that is refused is not replaced either.
    for guess in ["482913", "111111"] {
        let mut document = intent("openapi", &base);
        document["evidence"]["status"] = json!(guess);
        let answer = daemon.push(&document).await;
        assert!(!answer.body.to_string().contains("[redacted]"), "{}", answer.body);
        let answer = daemon.push(&intent(&format!("type{guess}"), "x")).await;
        assert!(!answer.body.to_string().contains("[redacted]"), "{}", answer.body);
    }
}
