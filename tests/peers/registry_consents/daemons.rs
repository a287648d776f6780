//! Replicas with consents in their database: links, callbacks, takeovers, kills at each step of a refresh, and commands.

use super::{consents, end_locks, grants};
use crate::registry_postgres::{Database, replica, until_divided, workspace};
use crate::support::consents::{Consents, KEY, OTHER_KEY};
use crate::support::daemon::{Daemon, Workspace, intent_with_locator, stderr, stdout, until};
use crate::support::oauth_vendor::{CLIENT_SECRET, OAuthVendor};
use aam::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;

peer_tests! {
    [Postgres]: a_link_of_one_replica_is_completed_at_another, the_replica_that_takes_over_sends_no_token_twice,
        a_kill_at_any_step_of_a_refresh_sends_no_token_twice, the_consents_of_a_file_are_copied,
        another_key_needs_every_replica_to_stop;
}

/// Two replicas with one connection that needs consent.
struct Replicas {
    database: Database,
    vendor: OAuthVendor,
    resource: String,
    first: Workspace,
    second: Workspace,
}

/// The policy of a vendor, whose file of consents must not be used.
fn set_policy(workspace: &Workspace, vendor: &OAuthVendor) {
    let caps = "caps: {families: {openapi: {per_second: 100, burst: 200, per_day: 20000, concurrency: 8}}}\n";
    let consents = vendor.policy(&workspace.path("var/consents.json").display().to_string());
    workspace.write_policy(&format!("{caps}{consents}"));
}

fn set_secrets(workspace: &mut Workspace) {
    workspace.set("CONSENT_KEY", KEY);
    workspace.set("THINGS_SECRET", CLIENT_SECRET);
}

impl Replicas {
    async fn new() -> Replicas {
        let (mut first, database) = (workspace(), Database::new());
        database.prepare(&mut first);
        let vendor = OAuthVendor::start(|| SystemClock.now()).await;
        set_policy(&first, &vendor);
        let mut second = replica(&first, &database);
        for workspace in [&mut first, &mut second] {
            set_secrets(workspace);
        }
        let resource = format!("{}/openapi.json", vendor.base);
        first.intent_file("things.json", &intent_with_locator("openapi", &resource, "consent:things"));
        Replicas { database, vendor, resource, first, second }
    }

    /// Starts both replicas and waits until each has half of the partitions.
    async fn serve(&self) -> (Daemon, Daemon) {
        let daemons = (self.first.serve().await, self.second.serve().await);
        until_divided(&self.database, &[32, 32]).await;
        daemons
    }

    /// The address of the link that the connection shows.
    async fn link(&self, at: &Daemon) -> String {
        let has_link = |one: &Value| one["error"]["fix"].as_str().is_some_and(|fix| fix.contains("/consent/"));
        let waiting = at.until_connection(&self.resource, "a link", has_link).await;
        let fix = waiting["error"]["fix"].as_str().unwrap_or_default();
        fix.rsplit("/consent/").next().expect("a link").to_string()
    }

    /// Clicks the button at one replica; the vendor sends the browser back to another one.
    async fn give(&self, link: &str, clicked: &Daemon, returned: &Daemon) {
        let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        let browser = browser.expect("a client");
        let click = browser.post(clicked.url(&format!("/consent/{link}"))).header("origin", clicked.url(""));
        let begun = click.send().await.expect("a response");
        assert_eq!(begun.status(), 303, "{}", begun.text().await.unwrap_or_default());
        let query = self.vendor.consent(begun.headers()["location"].to_str().expect("text")).await;
        let back = browser.get(returned.url(&format!("/consent/callback?{query}"))).send().await.expect("a response");
        let (status, location) = (back.status(), back.headers().get("location").cloned());
        assert_eq!(status, 303, "{}", back.text().await.unwrap_or_default());
        assert_eq!(location.expect("an address"), format!("/consent/{link}"));
    }

    /// The process that attempts the connection.
    fn holder(&self, connection: &Value) -> String {
        let id = connection["connection_id"].as_str().expect("an id");
        let partition = u8::from_str_radix(&id[..2], 16).expect("a byte") % 64;
        let sql = format!("SELECT holder FROM aam.leases WHERE partition = {partition}");
        self.database.admin().query_row(&sql, [], |row| row.get(0)).expect("a holder")
    }

    /// Ends the access token, and checks the connection until the grant is refreshed.
    async fn refresh(&self, at: &Daemon, connection: &Value) {
        let heal = format!("/connections/{}/heal", connection["connection_id"].as_str().expect("an id"));
        let before = self.vendor.state().sent.len();
        self.vendor.end_access_tokens();
        until("the grant is refreshed", || async {
            let healed = at.post(&heal, &json!({})).await.body;
            let sent = self.vendor.state().sent.len();
            let is_over = sent > before && healed["status"] == "ACTIVE" && healed["checking"] != true;
            (is_over, format!("{sent} refreshes, {healed}"))
        })
        .await;
    }
}

fn assert_each_token_was_sent_once(vendor: &OAuthVendor, at: &str) {
    let state = vendor.state();
    assert_eq!(state.reuses, 0, "{at}: {:?}", state.sent);
    assert!(state.sent.values().all(|count| *count == 1), "{at}: {:?}", state.sent);
}

/// The daemon of a pair that the process `name` is, first.
fn ordered(daemons: (Daemon, Daemon), name: &str) -> (Daemon, Daemon) {
    let (first, second) = daemons;
    let is_first = name.contains(&format!("-{}-", first.pid()));
    if is_first { (first, second) } else { (second, first) }
}

async fn a_link_of_one_replica_is_completed_at_another() {
    let replicas = Replicas::new().await;
    let daemons = replicas.serve().await;
    let link = replicas.link(&daemons.0).await;
    assert_eq!(replicas.link(&daemons.1).await, link, "both show the same link");
    let waiting = daemons.0.until_state(&replicas.resource, "AWAITING_CREDENTIALS").await;
    let (holder, other) = ordered(daemons, &replicas.holder(&waiting));
    // The replica that attempts the connection made the link and sees the click; the answer of the vendor arrives at the other one.
    replicas.give(&link, &holder, &other).await;
    for daemon in [&holder, &other] {
        daemon.until_state(&replicas.resource, "ACTIVE").await;
        // What a person sees at the terminal names the link.
        let log = daemon.log();
        let named: Vec<&str> = log.lines().filter(|line| line.contains(&link) && !line.starts_with("stdout: ")).collect();
        assert!(named.is_empty(), "the log contains the id of the link: {named:?}");
    }
    assert_eq!(grants(&replicas.database), 1);
    let id = waiting["connection_id"].as_str().expect("an id");
    for workspace in [&replicas.first, &replicas.second] {
        assert!(!workspace.path("var/consents.json").exists(), "nothing is in a file");
        let listed = stdout(&workspace.run(&["consent", "list"]));
        assert!(listed.contains(id) && listed.contains("consent:things"), "{listed}");
    }
    let revoked = replicas.second.run(&["consent", "revoke", id]);
    assert!(revoked.status.success(), "{}{}", stdout(&revoked), stderr(&revoked));
    assert_eq!(replicas.vendor.state().revoked.len(), 1);
    until("the lock of the command is given back", || async {
        let locks = replicas.database.count("SELECT count(*) FROM aam.consent_locks");
        (locks == 0, locks.to_string())
    })
    .await;
    holder.post(&format!("/connections/{id}/heal"), &json!({})).await;
    other.until_state(&replicas.resource, "AWAITING_CREDENTIALS").await;
    let new = replicas.link(&other).await;
    assert_ne!(new, link, "a link works once");
    let output = replicas.second.run(&["consent", "link", id]);
    assert!(stdout(&output).contains(&new), "{}{}", stdout(&output), stderr(&output));
    assert_each_token_was_sent_once(&replicas.vendor, "replicas");
}

async fn the_replica_that_takes_over_sends_no_token_twice() {
    let replicas = Replicas::new().await;
    let daemons = replicas.serve().await;
    let link = replicas.link(&daemons.0).await;
    replicas.give(&link, &daemons.0, &daemons.0).await;
    let active = daemons.0.until_state(&replicas.resource, "ACTIVE").await;
    let first = daemons.0.pid();
    let (holder, other) = ordered(daemons, &replicas.holder(&active));
    let killed = if holder.pid() == first { &replicas.first } else { &replicas.second };
    replicas.refresh(&holder, &active).await;
    replicas.refresh(&holder, &active).await;
    holder.kill();
    until_divided(&replicas.database, &[64]).await;
    replicas.refresh(&other, &active).await;
    replicas.refresh(&other, &active).await;
    assert_each_token_was_sent_once(&replicas.vendor, "after the takeover");
    // It comes back with nothing in memory, and takes half of the partitions again.
    let again = killed.serve().await;
    until_divided(&replicas.database, &[32, 32]).await;
    replicas.refresh(&again, &active).await;
    assert_each_token_was_sent_once(&replicas.vendor, "after the return");
    assert_eq!(grants(&replicas.database), 1);
}

/// What becomes of the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Kept,
    NewLink,
}

/// The places of a refresh where the process is killed, and on which passage. The first change of the database says that the token is
/// about to be sent, and the second one stores the next token.
const BOUNDARIES: [(&str, u32, After); 8] = [
    ("consent_before_write", 1, After::Kept),
    ("consent_before_commit", 1, After::Kept),
    ("consent_after_commit", 1, After::NewLink),
    ("consent_before_request", 1, After::NewLink),
    ("consent_after_response", 1, After::NewLink),
    ("consent_before_commit", 2, After::NewLink),
    ("consent_after_commit", 2, After::Kept),
    ("consent_before_use", 1, After::Kept),
];

/// A workspace whose only connection has the grant of `consents`.
fn workspace_with(consents: &Consents, database: &Database) -> Workspace {
    let mut workspace = workspace();
    set_policy(&workspace, &consents.vendor);
    set_secrets(&mut workspace);
    database.choose(&mut workspace);
    workspace.intent_file("things.json", &intent_with_locator("openapi", &consents.request.resource_ids[0], "consent:things"));
    workspace
}

async fn a_kill_at_any_step_of_a_refresh_sends_no_token_twice() {
    for (name, count, after) in BOUNDARIES {
        let at = format!("{name} {count}");
        let (mut owner, database) = (workspace(), Database::new());
        database.prepare(&mut owner);
        let consents = consents(&database).await;
        consents.give().await;
        let mut workspace = workspace_with(&consents, &database);
        std::fs::write(workspace.path("kill"), &at).expect("written");
        workspace.set("AAM_TEST_KILL_AT", &workspace.path("kill").display().to_string());
        assert_eq!(workspace.start().ended().await.signal(), Some(9), "{at}: the process was not killed");
        workspace.env.retain(|(name, _)| name != "AAM_TEST_KILL_AT");
        // The lock of the grant lasts for two minutes and the partitions for 15 s; the test does not wait for them.
        end_locks(&database);
        database.admin().execute_batch("UPDATE aam.leases SET ends_at = clock_timestamp()").expect("ended");
        let daemon = workspace.serve().await;
        let resource = &consents.request.resource_ids[0];
        match after {
            After::Kept => drop(daemon.until_state(resource, "ACTIVE").await),
            After::NewLink => {
                let connection = daemon.until_state(resource, "AWAITING_CREDENTIALS").await;
                let fix = connection["error"]["fix"].as_str().unwrap_or_default();
                assert!(fix.contains("/consent/"), "{at}: {connection}");
            }
        }
        assert_each_token_was_sent_once(&consents.vendor, &at);
    }
}

async fn the_consents_of_a_file_are_copied() {
    let consents = Consents::new().await;
    consents.give().await;
    let (mut workspace, database) = (workspace(), Database::new());
    workspace.write_policy(&consents.vendor.policy(&consents.store().display().to_string()));
    set_secrets(&mut workspace);
    let resource = &consents.request.resource_ids[0];
    workspace.intent_file("things.json", &intent_with_locator("openapi", resource, "consent:things"));
    let daemon = workspace.serve().await;
    daemon.until_state(resource, "ACTIVE").await;
    assert_eq!(daemon.stop().await, Some(0));
    let file = std::fs::read(consents.store()).expect("the file");
    let listed = stdout(&workspace.run(&["consent", "list"]));
    assert!(listed.contains("consent:things"), "{listed}");

    let source = workspace.path("var/aam.db").display().to_string();
    database.prepare(&mut workspace);
    let migrate = ["registry", "migrate", "--registry", &source, "--to", &database.url(&database.role)];
    // What cannot be copied is found before anything is written.
    consents.replace_store(b"{");
    let refused = workspace.run(&migrate);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("is damaged"), "{}", stderr(&refused));
    assert_eq!(database.count("SELECT count(*) FROM aam.ledger"), 0);
    consents.replace_store(&file);
    let copied = workspace.run(&migrate);
    assert!(copied.status.success(), "{}{}", stdout(&copied), stderr(&copied));
    assert!(stdout(&copied).contains("copied 1 grant and 1 link of consents"), "{}", stdout(&copied));
    assert_eq!(std::fs::read(consents.store()).expect("the file"), file, "the file stays as it is");

    assert_eq!(stdout(&workspace.run(&["consent", "list"])), listed, "the same grants, from the database");
    let sent = consents.vendor.state().sent.len();
    let daemon = workspace.serve().await;
    let active = daemon.until_state(resource, "ACTIVE").await;
    let id = active["connection_id"].as_str().expect("an id");
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.body;
    assert_eq!(healed["status"], "ACTIVE", "{healed}");
    assert_eq!(consents.vendor.state().sent.len(), sent + 1, "the token of the file was used");
    assert_eq!(std::fs::read(consents.store()).expect("the file"), file, "the file is not used any more");
    assert_each_token_was_sent_once(&consents.vendor, "after the copy");
}

async fn another_key_needs_every_replica_to_stop() {
    let (mut owner, database) = (workspace(), Database::new());
    database.prepare(&mut owner);
    let consents = consents(&database).await;
    consents.give().await;
    let mut workspace = workspace_with(&consents, &database);
    workspace.set("CONSENT_KEY_2", OTHER_KEY);
    let mut elsewhere = replica(&workspace, &database);
    set_secrets(&mut elsewhere);
    elsewhere.set("CONSENT_KEY_2", OTHER_KEY);
    let daemon = workspace.serve().await;
    let resource = &consents.request.resource_ids[0];
    daemon.until_state(resource, "ACTIVE").await;
    let rekey = || elsewhere.run(&["consent", "rekey", "--to", "env:CONSENT_KEY_2"]);
    let held = rekey();
    assert!(held.status.code() == Some(1) && stderr(&held).contains("aam stop"), "{}", stderr(&held));
    assert_eq!(daemon.stop().await, Some(0));
    let done = rekey();
    assert!(done.status.success() && stdout(&done).starts_with("1 grant in postgres://"), "{}{}", stdout(&done), stderr(&done));
    let policy = consents.vendor.policy(&workspace.path("var/consents.json").display().to_string());
    workspace.write_policy(&policy.replace("env:CONSENT_KEY", "env:CONSENT_KEY_2"));
    let daemon = workspace.serve().await;
    let id = daemon.until_state(resource, "ACTIVE").await["connection_id"].as_str().expect("an id").to_string();
    let healed = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.body;
    assert_eq!(healed["status"], "ACTIVE", "{healed}");
    assert_each_token_was_sent_once(&consents.vendor, "with another key");
}
