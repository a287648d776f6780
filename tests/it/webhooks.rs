//! Webhooks of the policy: signed, bundled, repeated until they are accepted.

use crate::support::daemon::{Daemon, Workspace, intent, stderr, stdout, until};
use crate::support::network::closed_port;
use crate::support::receiver::{Answer, Message, Receiver};
use crate::support::sse::EventReader;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const KEY: &[u8] = b"the key of the tests, of 32 bytes";

fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("HOOK_SECRET", &format!("whsec_{}", BASE64_STANDARD.encode(KEY)));
    workspace
}

fn notify(url: &str, on: &str) -> String {
    format!(
        "breaker: {{failures: 1000, open_for: 1s}}\nnotify: [{{name: ops, url: \"{url}\", secret: \"env:HOOK_SECRET\", on: [{on}]}}]\n"
    )
}

async fn messages(receiver: &Receiver, count: usize) -> Vec<Message> {
    until("the messages arrive", || async {
        let found = receiver.count();
        (found >= count, format!("{found} messages"))
    })
    .await;
    receiver.messages()
}

/// The state of the webhook on the dashboard, once it has this problem.
async fn problem(daemon: &Daemon, part: &str) -> Value {
    let found = std::sync::Mutex::new(Value::Null);
    until("the problem is shown", || async {
        let dashboard = daemon.get("/dashboard.json?namespace=autonomy").await.body;
        let state = dashboard["webhooks"][0].clone();
        let fits = state["problem"].as_str().is_some_and(|problem| problem.contains(part));
        let observed = state.to_string();
        *found.lock().expect("no panic") = state;
        (fits, observed)
    })
    .await;
    found.into_inner().expect("no panic")
}

/// Waits until the registry has recorded `count` deliveries.
async fn deliveries(workspace: &Workspace, count: usize) {
    let database = workspace.path("var/aam.db");
    until("the delivery is recorded", || async {
        let db = rusqlite::Connection::open_with_flags(&database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("open");
        let rows: usize = db.query_row("SELECT count(*) FROM webhook_deliveries", [], |row| row.get(0)).expect("a number");
        (rows >= count, format!("{rows} rows"))
    })
    .await;
}

#[tokio::test]
async fn five_hundred_changes_are_one_signed_message() {
    let (workspace, receiver) = (workspace(), Receiver::start().await);
    workspace.write_policy(&notify(&receiver.url(), "state_changed"));
    let daemon = workspace.serve().await;
    let many: Vec<Value> = (0..500).map(|number| intent("acme_crm", &format!("tenant-{number}"))).collect();
    workspace.intent_file("many.json", &json!(many));
    let message = messages(&receiver, 1).await.remove(0);
    message.verify(KEY);
    let data = &message.body["data"];
    assert_eq!(
        (&message.body["type"], &data["schema_version"], &data["webhook"]),
        (&json!("aam.events"), &json!(1), &json!("ops"))
    );
    assert_eq!((&data["total"], &data["counts"]["state_changed"]), (&json!(500), &json!(500)), "{}", data["counts"]);
    let sources: BTreeSet<&str> =
        data["events"].as_array().expect("events").iter().filter_map(|event| event["resource_ids"][0].as_str()).collect();
    assert_eq!(sources.len(), 500);
    deliveries(&workspace, 1).await;
    assert_eq!(receiver.count(), 1);
    let metrics = daemon.get("/metrics").await.body.as_str().expect("text").to_string();
    assert!(metrics.contains("aam_webhook_messages_total{webhook=\"ops\",outcome=\"accepted\"} 1"), "{metrics}");
    let check = stdout(&workspace.run(&["check"]));
    assert!(check.contains(&format!("ops: POST {}", receiver.url())), "{check}");
    let plan = stdout(&workspace.run(&["plan"]));
    assert!(plan.contains(&format!("call: POST 127.0.0.1:{} /hook", receiver.port)), "{plan}");
}

#[tokio::test]
async fn nothing_is_lost_while_the_receiver_is_down_and_the_daemon_is_killed() {
    let workspace = workspace();
    let (socket, port) = closed_port();
    workspace.write_policy(&notify(&format!("http://127.0.0.1:{port}/hook"), "state_changed, intent_accepted"));
    let daemon = workspace.serve().await;
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    let shown = problem(&daemon, "connection refused").await;
    assert!(shown["tries"].as_u64() >= Some(1) && shown["next_at"].is_string(), "{shown}");
    let status = stdout(&workspace.run(&["status"]));
    assert!(status.contains("! webhook ops did not accept a message"), "{status}");
    daemon.kill();

    // The receiver is up but fails; the message that was begun before the kill is sent with its id.
    let receiver = Receiver::listen(socket.listen(64).expect("listening"));
    receiver.answer(Answer::Status(500));
    let daemon = workspace.serve().await;
    let first = messages(&receiver, 2).await.remove(0);
    problem(&daemon, "answered 500").await;
    workspace.intent_file("two.json", &intent("filesource", &workspace.csv("two.csv", 2)));
    daemon.until_state(&workspace.path("data/two.csv").display().to_string(), "ACTIVE").await;
    daemon.kill();

    let daemon = workspace.serve().await;
    receiver.answer(Answer::Status(204));
    deliveries(&workspace, 2).await;
    let received = receiver.messages();
    received.iter().for_each(|message| message.verify(KEY));
    let of_first: Vec<&Message> = received.iter().filter(|message| message.id == first.id).collect();
    assert!(of_first.len() >= 3, "the same message was repeated: {}", of_first.len());
    assert!(of_first.iter().all(|message| message.bytes == first.bytes), "a message with the same id is the same message");
    let ids: BTreeSet<&str> = received.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids.len(), 2, "what happened meanwhile is one further message");
    assert_everything_arrived(&daemon, &received).await;
    problem(&daemon, "").await;
}

/// Every event of the stream was in a message, and none was in two different ones.
async fn assert_everything_arrived(daemon: &Daemon, received: &[Message]) {
    let mut messages: Vec<&Message> = received.iter().collect();
    messages.sort_by(|a, b| a.id.cmp(&b.id));
    messages.dedup_by(|a, b| a.id == b.id);
    let mut arrived: Vec<String> = messages.iter().flat_map(|message| message.event_ids()).collect();
    arrived.sort();
    let wanted: Vec<String> = {
        let mut reader = EventReader::new(daemon, "/events?since=0&type=state_changed,intent_accepted", None).await;
        let mut ids = Vec::new();
        while ids.len() < arrived.len() {
            ids.push(reader.next().await.expect("an event").id);
        }
        ids.sort();
        ids
    };
    assert_eq!(arrived, wanted);
}

#[tokio::test]
async fn a_message_that_was_accepted_before_a_crash_is_repeated_with_its_id() {
    let (mut workspace, receiver) = (workspace(), Receiver::start().await);
    workspace.write_policy(&notify(&receiver.url(), "state_changed"));
    workspace.replace("fault", b"delivered 1");
    workspace.set("AAM_TEST_KILL_AT", &workspace.path("fault").display().to_string());
    let daemon = workspace.serve().await;
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    let ended = daemon.ended().await;
    assert!(!ended.success(), "the daemon was killed after the receiver had accepted the message: {ended}");
    workspace.replace("fault", b"");
    let _daemon = workspace.serve().await;
    deliveries(&workspace, 1).await;
    let received = receiver.messages();
    assert_eq!(received.len(), 2);
    assert_eq!((&received[0].id, &received[0].bytes), (&received[1].id, &received[1].bytes));
    received.iter().for_each(|message| message.verify(KEY));
}

#[tokio::test]
async fn the_status_accepts_a_message_and_a_wait_has_a_fix_that_the_policy_allows() {
    let (workspace, receiver) = (workspace(), Receiver::start().await);
    receiver.answer(Answer::Body(70_000));
    workspace.write_policy(&notify(&receiver.url(), "state_changed"));
    let daemon = workspace.serve().await;
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    deliveries(&workspace, 1).await;
    receiver.answer(Answer::Wait(3600));
    workspace.intent_file("two.json", &intent("filesource", &workspace.csv("two.csv", 2)));
    let shown = problem(&daemon, "rate limited by the receiver: the webhook at http://127.0.0.1").await;
    let fix = shown["fix"].as_str().unwrap_or_default();
    assert!(fix.starts_with("no action is required: AAM calls again after ") && !fix.contains("policy"), "{shown}");
    assert_eq!(receiver.count(), 2, "the long response was accepted once");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone_until_the_policy_names_it_anew() {
    let (workspace, receiver) = (workspace(), Receiver::start().await);
    receiver.answer(Answer::Status(410));
    workspace.write_policy(&notify(&receiver.url(), "state_changed"));
    let daemon = workspace.serve().await;
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    let shown = problem(&daemon, "answered 410").await;
    assert_eq!(shown["next_at"], Value::Null, "{shown}");
    assert!(shown["fix"].as_str().is_some_and(|fix| fix.contains("remove the entry ops")), "{shown}");
    let page = daemon.get("/ui/problems?namespace=autonomy").await.body.as_str().unwrap_or_default().to_string();
    assert!(page.contains("Webhooks that do not receive their messages"), "{page}");
    assert_eq!(daemon.stop().await, Some(0));

    let daemon = workspace.serve().await;
    problem(&daemon, "answered 410").await;
    let status = stdout(&workspace.run(&["status"]));
    assert!(status.contains("! webhook ops receives nothing any more"), "{status}");
    receiver.answer(Answer::Status(204));
    // What the fix says.
    workspace.write_policy("");
    until("the entry is gone", || async {
        let dashboard = daemon.get("/dashboard.json?namespace=autonomy").await.body;
        (dashboard["webhooks"] == json!([]), dashboard["webhooks"].to_string())
    })
    .await;
    workspace.write_policy(&notify(&receiver.url(), "state_changed"));
    problem(&daemon, "").await;
    workspace.intent_file("two.json", &intent("filesource", &workspace.csv("two.csv", 2)));
    deliveries(&workspace, 1).await;
    assert_eq!(receiver.count(), 2, "one that was answered with 410, and the new one");
}

#[tokio::test]
async fn redirects_are_not_followed_and_a_slow_receiver_delays_no_other() {
    let (workspace, slow, other) = (workspace(), Receiver::start().await, Receiver::start().await);
    let target = Receiver::start().await;
    slow.answer(Answer::Hold);
    let policy = format!(
        "breaker: {{failures: 1000, open_for: 1s}}\nnotify:\n  - {{name: slow, url: \"{}\", secret: \"env:HOOK_SECRET\", on: [state_changed]}}\n  - {{name: other, url: \"{}\", secret: \"env:HOOK_SECRET\", on: [state_changed]}}\n",
        slow.url(),
        other.url()
    );
    workspace.write_policy(&policy);
    let daemon = workspace.serve().await;
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    messages(&slow, 1).await;
    messages(&other, 1).await;
    deliveries(&workspace, 1).await;
    workspace.intent_file("two.json", &intent("filesource", &workspace.csv("two.csv", 2)));
    messages(&other, 2).await;
    assert_eq!(slow.count(), 1, "a message that waits for its answer is not sent again");
    slow.answer(Answer::Redirect(target.url()));
    let shown = problem(&daemon, "answered 302").await;
    assert!(shown["fix"].as_str().is_some_and(|fix| fix.contains("write the final address")), "{shown}");
    assert_eq!(target.count(), 0);
    // What the fix says. The webhook keeps its name, so nothing is lost.
    workspace.write_policy(&policy.replace(&slow.url(), &target.url()));
    messages(&target, 1).await.iter().for_each(|message| message.verify(KEY));
}

#[tokio::test]
async fn private_addresses_need_the_policy_and_check_says_so() {
    let (workspace, receiver) = (workspace(), Receiver::start().await);
    let closed = format!("network: {{allow_private: []}}\n{}", notify(&receiver.url(), "state_changed"));
    workspace.write_policy(&closed);
    let check = stdout(&workspace.run(&["check"]));
    assert!(check.contains("/notify/0/url") && check.contains("network.allow_private"), "{check}");
    let daemon = workspace.serve().await;
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    let shown = problem(&daemon, "127.0.0.1").await;
    assert!(shown["fix"].as_str().is_some_and(|fix| fix.contains("network.allow_private")), "{shown}");
    assert_eq!(receiver.count(), 0);
    workspace.write_policy(&notify(&receiver.url(), "state_changed"));
    messages(&receiver, 1).await.iter().for_each(|message| message.verify(KEY));
}

#[tokio::test]
async fn the_url_of_a_chat_is_a_secret_and_appears_nowhere() {
    let (mut workspace, receiver) = (workspace(), Receiver::start().await);
    let path = "/services/T0AAM/B0AAM/canary-0f3a9c";
    workspace.set("CHAT_URL", &format!("http://127.0.0.1:{}{path}", receiver.port));
    workspace.write_policy(&format!(
        "breaker: {{failures: 1000, open_for: 1s}}\nnotify:\n  - {{name: chat, form: slack, url_locator: \"env:CHAT_URL\", host: \"127.0.0.1:{0}\", on: [state_changed]}}\n  - {{name: cards, form: teams, url_locator: \"env:CHAT_URL\", host: \"127.0.0.1:{0}\", on: [state_changed]}}\n  - {{name: moved, form: slack, url_locator: \"env:CHAT_URL\", on: [state_changed]}}\n",
        receiver.port
    ));
    receiver.answer(Answer::Status(500));
    let daemon = workspace.serve().await;
    let csv = workspace.csv("one.csv", 2);
    workspace.intent_file("one.json", &intent("filesource", &csv));
    messages(&receiver, 2).await;
    problem(&daemon, "answered 500").await;
    receiver.answer(Answer::Status(200));
    deliveries(&workspace, 2).await;
    let received = receiver.messages();
    assert!(received.iter().all(|message| message.path == path && message.id.is_empty()), "{received:?}");
    let text = received.iter().find_map(|message| message.body["text"].as_str()).expect("a text of Slack");
    assert!(text.contains(&format!("• filesource {csv} (autonomy) is ACTIVE, was PENDING")), "{text}");
    assert!(received.iter().any(|message| message.body["attachments"][0]["content"]["type"] == "AdaptiveCard"), "{received:?}");
    let refused = daemon.get("/dashboard.json?namespace=autonomy").await.body["webhooks"][2].clone();
    assert!(refused["problem"].as_str().is_some_and(|problem| problem.contains("does not name this address")), "{refused}");

    let mut outputs =
        vec![daemon.get("/metrics").await.body.to_string(), daemon.get("/?namespace=autonomy").await.body.to_string()];
    outputs.push(daemon.get("/dashboard.json?namespace=autonomy").await.body.to_string());
    for arguments in [&["status"][..], &["plan"], &["check", "--effective"]] {
        let output = workspace.run(arguments);
        outputs.extend([stdout(&output), stderr(&output)]);
    }
    outputs.extend(workspace.files().into_iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()));
    assert!(outputs.iter().all(|output| !output.contains("canary-0f3a9c")), "the URL is in an output");
}
