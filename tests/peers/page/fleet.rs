//! Connections in mixed states: real files, real refusals, and a daemon that has tried all of them.

use crate::support::daemon::{Daemon, Workspace, intent, intent_with_locator, until};
use aam::credentials::Secret;
use aam::model::Digest;
use serde_json::{Value, json};

/// A token that may do everything, and one that only reads. They are not secrets.
pub const ACTOR: &str = "token-of-a-person-on-call";
pub const READER: &str = "token-of-a-reviewer";

/// The number of intents in one file.
const INTENTS_PER_FILE: usize = 1000;
/// The number of parts in which the first attempts are waited for, because each wait has a limit.
const WAITS: usize = 8;
/// The number of connections whose source changes after they were proven.
const CHANGED: usize = 5;

/// A workspace whose failed connections are not tried again while a test runs.
pub fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("AAM_LOG", "info");
    let token = |name: &str, value: &str, scopes: &str| {
        let sha256 = Digest::from_bytes(value.as_bytes());
        format!("    - {{name: {name}, sha256: \"{sha256}\", scopes: [{scopes}], namespaces: [autonomy]}}\n")
    };
    let all = "\"intents:write\", \"registry:read\", \"ops:heal\", \"ops:confirm\"";
    workspace.write_policy(&format!(
        "allowlist: [filesource, postgres, openapi, slack]\n\
         backoff: {{initial: 1h, max: 6h, jitter: 0.0}}\n\
         reconcile: {{concurrency: 64, resync: 30s}}\n\
         recheck: {{health: 24h, drift: 24h, awaiting_credentials: 24h}}\n\
         api:\n  rate: {{per_second: 100000, burst: 1000000}}\n  tokens:\n{}{}",
        token("on_call", ACTOR, all),
        token("reviewer", READER, "\"registry:read\"")
    ));
    workspace
}

/// The intents of five connections, of which two have texts that would do something as HTML.
pub fn five(workspace: &Workspace) -> Vec<Value> {
    let hostile = workspace.path("data/<img src=x onerror=\"console.error('ran')\"><script>console.error('ran')</script>.csv");
    vec![
        document(workspace, 0),
        intent("filesource", &hostile.display().to_string()),
        document(workspace, 12),
        document(workspace, 14),
        intent("slak", "<b>acme</b>"),
    ]
}

/// The intents of `count` connections in mixed states.
pub fn mixed(workspace: &Workspace, count: usize) -> Vec<Value> {
    (0..count).map(|number| document(workspace, number)).collect()
}

/// The intent with this number. Eleven of twenty become ACTIVE.
fn document(workspace: &Workspace, number: usize) -> Value {
    let workspace_id = format!("workspace_T{number:06}");
    let mut document = match number % 20 {
        0..=9 | 19 => intent("filesource", &workspace.csv(&format!("{number:05}.csv"), 2)),
        10 | 11 => intent("filesource", &workspace.path(&format!("data/missing-{number:05}.csv")).display().to_string()),
        12 | 13 => intent("openapi", &format!("https://10.4.{}.{}/openapi.json", number / 250, number % 250 + 1)),
        14 | 15 => intent_with_locator("slack", &workspace_id, &format!("env:SLACK_{}", number % 3)),
        16 => {
            let address = format!("postgresql://db{number}.acme.example/shop");
            intent_with_locator("postgres", &address, &format!("env:DB_{}", number % 3))
        }
        17 => intent("fax", &format!("number-{number}")),
        _ => {
            let mut refused = intent_with_locator("slack", &workspace_id, "env:SLACK_0");
            refused["evidence"]["status"] = json!("tolerated");
            refused
        }
    };
    document["owner"]["user"] = json!(format!("team-{}@acme.example", number % 7));
    document["risk_level"] = json!(["low", "med", "high"][number % 3]);
    document
}

/// Starts a daemon and waits until it has tried each of the connections.
pub async fn serve(workspace: &Workspace, documents: &[Value]) -> Daemon {
    for (number, part) in documents.chunks(INTENTS_PER_FILE).enumerate() {
        let lines: String = part.iter().map(|document| format!("{document}\n")).collect();
        workspace.replace(&format!("intents/{number:03}.jsonl"), lines.as_bytes());
    }
    let mut daemon = workspace.serve().await;
    daemon.token = Secret::new(ACTOR.to_string());
    for wait in 1..=WAITS {
        let left = documents.len() * (WAITS - wait) / WAITS;
        until("the daemon has tried the connections", || async {
            let funnel = daemon.funnel().await;
            let tried =
                funnel["received"] == documents.len() && funnel["pending"].as_u64().is_some_and(|pending| pending <= left as u64);
            (tried, format!("{funnel}"))
        })
        .await;
    }
    daemon
}

/// Changes the structure of some sources that were proven, so that their connections become HEALING.
pub async fn change_sources(daemon: &Daemon) {
    let is_changed = |path: &str| {
        path.get(path.len().saturating_sub(9)..path.len() - 4)
            .is_some_and(|digits| digits.parse::<usize>().is_ok_and(|number| number % 20 == 19))
    };
    let active = daemon.connections().await.into_iter().filter(|one| one["status"] == "ACTIVE");
    let chosen: Vec<Value> = active.filter(|one| one["resource_ids"][0].as_str().is_some_and(is_changed)).take(CHANGED).collect();
    assert_eq!(chosen.len(), CHANGED);
    for one in chosen {
        let path = one["resource_ids"][0].as_str().unwrap_or_default();
        std::fs::write(path, "key,title\n1,one\n").expect("written");
        let id = one["connection_id"].as_str().unwrap_or_default();
        let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
        assert_eq!(healed.body["status"], "HEALING", "{}", healed.body);
    }
}
