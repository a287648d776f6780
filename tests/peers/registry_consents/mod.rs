//! Consents in a registry in PostgreSQL, as several processes use them. The vendor ends a grant whose refresh token is sent twice.

pub mod daemons;

use crate::harness::variable;
use crate::registry_postgres::{Database, workspace};
use crate::support::consents::{Consents, OTHER_KEY, proven};
use crate::support::daemon::until;
use crate::support::oauth_vendor::OnRefresh;
use aam::credentials::redact::AttemptSecrets;
use aam::model::{Class, Failure};
use aam::providers::{CredentialRequest, ProvidedCredential, Reading};
use aam::registry::Location;
use std::sync::mpsc;
use std::time::Duration;

peer_tests! {
    [Postgres]: a_grant_of_one_process_is_used_by_another, processes_that_refresh_at_once_send_one_request,
        a_rejected_access_token_is_replaced_once, a_lost_response_is_found_by_another_process,
        a_holder_that_was_cut_off_overwrites_nothing, a_holder_that_was_cut_off_removes_nothing, a_database_that_does_not_answer_is_a_wait,
        a_response_that_could_not_be_stored_is_stored_later, another_key_says_so_and_changes_nothing;
}

const HOUR: Duration = Duration::from_secs(3600);

/// Two processes with one database. They have no token in memory in common.
pub struct Pair {
    pub database: Database,
    first: Consents,
    second: Consents,
}

impl Pair {
    async fn new() -> Pair {
        let (mut workspace, database) = (workspace(), Database::new());
        database.prepare(&mut workspace);
        let first = consents(&database).await;
        Pair { second: first.restarted(), first, database }
    }

    /// Lets every lock end now, as it does two minutes after its holder was cut off.
    fn end_locks(&self) {
        end_locks(&self.database);
    }

    /// The grants in the database.
    fn grants(&self) -> i64 {
        grants(&self.database)
    }

    fn assert_each_token_was_sent_once(&self) {
        self.first.assert_no_misuse();
        let state = self.first.vendor.state();
        assert!(state.sent.values().all(|count| *count == 1), "{:?}", state.sent);
    }
}

/// A process with the consents of `database`.
pub async fn consents(database: &Database) -> Consents {
    // The test process does not set variables, so the password is in a file, which the folder of a temporary workspace outlives.
    let password = std::env::temp_dir().join(format!("{}.password", database.role));
    std::fs::write(&password, &database.role).expect("written");
    let url = database.url(&database.role);
    let (place, _) = url.split_once('?').expect("a query");
    let location: Location = format!("{place}?credential=file:{}", password.display()).parse().expect("a location");
    Consents::in_registry(location).await
}

pub fn end_locks(database: &Database) {
    database.admin().execute_batch("UPDATE aam.consent_locks SET ends_at = clock_timestamp()").expect("ended");
}

pub fn grants(database: &Database) -> i64 {
    database.count("SELECT count(*) FROM aam.consent_rows WHERE kind = 'grant' AND content IS NOT NULL")
}

/// Lets the vendor wait in its next refresh. Returns what tells that it waits, and what lets it go on.
fn hold_refresh(consents: &Consents) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((arrive, arrived), (go, wait)) = (mpsc::channel(), mpsc::channel());
    consents.vendor.state().hook = Some(Box::new(move || {
        let _ = arrive.send(());
        let _ = tokio::task::block_in_place(|| wait.recv());
    }));
    (arrived, go)
}

async fn until_arrived(arrived: &mpsc::Receiver<()>) {
    until("the refresh is at the vendor", || async { (arrived.try_recv().is_ok(), String::new()) }).await;
}

fn is_new_link(failure: &Failure) -> bool {
    failure.class == Class::CredentialMissing && failure.fix.contains("/consent/")
}

async fn a_grant_of_one_process_is_used_by_another() {
    let pair = Pair::new().await;
    // The link of one process is used at the other one: state, nonce and verifier are in the database.
    let id = pair.first.link_id().await;
    assert_eq!(pair.second.link_id().await, id, "both show the same link");
    let query = pair.first.click().await;
    let given = pair.second.complete(&query, proven()).await;
    assert_eq!(given.unwrap_or_else(|problem| panic!("{problem:?}")).link_id, id);
    assert_eq!(pair.first.call().await.expect("a token"), 200);
    assert_eq!(pair.first.vendor.state().sent.len(), 0, "the access token of the other process is used");
    let again = pair.first.complete(&query, proven()).await;
    assert!(again.is_err(), "an answer works once, wherever it arrives");
    for turn in 1..=4 {
        pair.first.clock.advance(HOUR);
        let (one, other) = if turn % 2 == 0 { (&pair.first, &pair.second) } else { (&pair.second, &pair.first) };
        assert_eq!(one.call().await.expect("a token"), 200);
        assert_eq!(other.call().await.expect("a token"), 200);
        assert_eq!(pair.first.vendor.state().sent.len(), turn, "one refresh for both");
    }
    pair.assert_each_token_was_sent_once();
    assert!(!pair.first.store().exists(), "nothing is in a file");
    let admin = pair.database.admin();
    let sql = "SELECT string_agg(content, ' ') FROM aam.consent_rows";
    let text: String = admin.query_row(sql, [], |row| row.get(0)).expect("rows");
    assert!(!text.contains("refresh-") && !text.contains("access-"), "{text}");
}

async fn processes_that_refresh_at_once_send_one_request() {
    let pair = Pair::new().await;
    pair.first.give().await;
    for turn in 1..=3 {
        pair.first.clock.advance(HOUR);
        let third = pair.first.restarted();
        let (arrived, go) = hold_refresh(&pair.first);
        let calls: Vec<_> = [pair.first.clone(), pair.second.clone(), third]
            .into_iter()
            .map(|consents| tokio::spawn(async move { consents.provide().await }))
            .collect();
        until_arrived(&arrived).await;
        // One of them is at the vendor; the others wait for its lock, and for its answer if they are in the same process.
        drop(go);
        for call in calls {
            call.await.expect("ended").unwrap_or_else(|failure| panic!("{failure:?}"));
        }
        let mut state = pair.first.vendor.state();
        state.hook = None;
        assert_eq!(state.sent.len(), turn);
    }
    pair.assert_each_token_was_sent_once();
}

/// Provides a credential after the source rejected the one that the process had.
async fn provide_anew(consents: &Consents) -> String {
    let request = CredentialRequest { reading: Reading::Anew, ..consents.request.clone() };
    let provided = AttemptSecrets::new(&[]).run(consents.providers.provide(&request)).await;
    let provided = provided.unwrap_or_else(|failure| panic!("{failure:?}"));
    provided.credential.plain().expect("a token").expose().to_string()
}

async fn a_rejected_access_token_is_replaced_once() {
    let pair = Pair::new().await;
    pair.first.give().await;
    for process in [&pair.first, &pair.second] {
        assert_eq!(process.call().await.expect("a token"), 200);
    }
    let sent = || pair.first.vendor.state().sent.len();
    assert_eq!(sent(), 0);
    let new = provide_anew(&pair.first).await;
    assert_eq!(sent(), 1);
    assert_eq!(provide_anew(&pair.second).await, new, "the other process uses the token that was stored since");
    assert_eq!(sent(), 1);
    assert_ne!(provide_anew(&pair.second).await, new, "and another one if that is rejected, too");
    assert_eq!(sent(), 2);
    pair.assert_each_token_was_sent_once();
}

async fn a_lost_response_is_found_by_another_process() {
    let pair = Pair::new().await;
    pair.first.give().await;
    pair.first.clock.advance(HOUR);
    pair.first.vendor.state().on_refresh = OnRefresh::UseAndLose;
    assert!(pair.first.provide().await.is_err());
    pair.first.vendor.state().on_refresh = OnRefresh::Answer;
    let failure = pair.second.provide().await.expect_err("the grant is lost");
    assert!(is_new_link(&failure) && failure.title.contains("was lost"), "{failure:?}");
    assert_eq!(pair.grants(), 0);
    pair.assert_each_token_was_sent_once();
    pair.second.give().await;
    assert_eq!(pair.first.call().await.expect("a token"), 200);
}

/// The first process is cut off while its refresh token is at the vendor, until its lock has ended.
async fn cut_off(pair: &Pair) -> (tokio::task::JoinHandle<Result<ProvidedCredential, Failure>>, mpsc::Sender<()>) {
    pair.first.give().await;
    pair.first.clock.advance(HOUR);
    let (arrived, go) = hold_refresh(&pair.first);
    let cut_off = pair.first.clone();
    let call = tokio::spawn(async move { cut_off.provide().await });
    until_arrived(&arrived).await;
    pair.end_locks();
    (call, go)
}

async fn a_holder_that_was_cut_off_overwrites_nothing() {
    let pair = Pair::new().await;
    let (call, go) = cut_off(&pair).await;
    let failure = pair.second.provide().await.expect_err("it is not known whether the answer arrives");
    assert!(is_new_link(&failure) && failure.title.contains("was lost"), "{failure:?}");
    pair.second.give().await;
    let given: String = stored(&pair);
    drop(go);
    let late = call.await.expect("ended").expect_err("the grant was given again");
    assert_eq!(late.class, Class::Interrupted, "{late:?}");
    assert_eq!(stored(&pair), given, "the newer grant is unchanged");
    pair.first.vendor.state().hook = None;
    assert_eq!(pair.first.call().await.expect("a token"), 200);
    pair.assert_each_token_was_sent_once();
}

async fn a_holder_that_was_cut_off_removes_nothing() {
    let pair = Pair::new().await;
    pair.first.vendor.state().on_refresh = OnRefresh::Refuse;
    let (call, go) = cut_off(&pair).await;
    assert!(is_new_link(&pair.second.provide().await.expect_err("it is not known whether the answer arrives")));
    pair.second.give().await;
    let given = stored(&pair);
    drop(go);
    // The vendor refuses the old token, which says nothing about the new grant.
    let late = call.await.expect("ended");
    assert_eq!(stored(&pair), given, "the newer grant is unchanged: {late:?}");
    {
        let mut state = pair.first.vendor.state();
        (state.hook, state.on_refresh) = (None, OnRefresh::Answer);
    }
    assert_eq!(pair.first.call().await.expect("a token"), 200);
    pair.assert_each_token_was_sent_once();
}

/// The content of the grant.
fn stored(pair: &Pair) -> String {
    let sql = "SELECT content FROM aam.consent_rows WHERE kind = 'grant' AND content IS NOT NULL";
    pair.database.admin().query_row(sql, [], |row| row.get(0)).expect("a grant")
}

/// Ends the sessions of the database, and lets new ones begin or not.
fn allow_sessions(database: &Database, allowed: bool) {
    let admin = Database::session("postgres", &variable("POSTGRES", "SUPER"), &variable("POSTGRES", "SUPER_PASSWORD"));
    admin.execute_batch(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", database.name)).expect("set");
    let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}'", database.name);
    let _: i64 = admin.query_row(&sql, [], |row| row.get(0)).expect("ended");
}

fn assert_waits(failure: &Failure, database: &Database) {
    assert_eq!((failure.class, failure.retry_after_ms), (Class::Throttled, Some(10_000)), "{failure:?}");
    assert!(failure.title.contains("cannot be used") && failure.title.contains(&database.name), "{failure:?}");
    assert!(failure.fix.contains("AAM tries again"), "{failure:?}");
}

async fn a_database_that_does_not_answer_is_a_wait() {
    let pair = Pair::new().await;
    pair.first.give().await;
    allow_sessions(&pair.database, false);
    for process in [&pair.first, &pair.second] {
        assert_waits(&process.provide().await.expect_err("no database"), &pair.database);
        let link = process.providers.consents().link_for(&process.context(), &process.request).await;
        assert_waits(&link.expect_err("no database"), &pair.database);
        let listed = process.providers.consents().list(&process.context()).await;
        assert_waits(&listed.expect_err("no database"), &pair.database);
    }
    allow_sessions(&pair.database, true);
    for process in [&pair.first, &pair.second] {
        assert_eq!(process.call().await.expect("a token"), 200);
    }
    pair.assert_each_token_was_sent_once();
}

async fn a_response_that_could_not_be_stored_is_stored_later() {
    let pair = Pair::new().await;
    pair.first.give().await;
    pair.first.clock.advance(HOUR);
    let (arrived, go) = hold_refresh(&pair.first);
    let process = pair.first.clone();
    let call = tokio::spawn(async move { process.provide().await });
    until_arrived(&arrived).await;
    allow_sessions(&pair.database, false);
    drop(go);
    assert_waits(&call.await.expect("ended").expect_err("not stored"), &pair.database);
    pair.first.vendor.state().hook = None;
    allow_sessions(&pair.database, true);
    // Another replica may make the next attempt, so this one does not wait for an attempt of its own.
    pair.first.providers.consents().renew_due(&pair.first.providers).await;
    assert_eq!(pair.second.call().await.expect("a token"), 200);
    assert_eq!(pair.first.vendor.state().sent.len(), 1);
    pair.assert_each_token_was_sent_once();
}

async fn another_key_says_so_and_changes_nothing() {
    let pair = Pair::new().await;
    pair.first.give().await;
    let before = stored(&pair);
    let other = pair.first.changed(OTHER_KEY, |text| text);
    let failure = other.provide().await.expect_err("another key");
    assert_eq!(failure.class, Class::CredentialMissing);
    assert!(failure.title.contains("was written with another key") && failure.fix.contains("every replica"), "{failure:?}");
    assert_eq!(stored(&pair), before);
    // The commands of the message work as the role of AAM: every process then reads an empty store.
    let sql = failure.fix.rsplit("again: ").next().expect("commands");
    let sql = sql.trim_start_matches("BEGIN; ").trim_end_matches("; COMMIT");
    Database::session(&pair.database.name, &pair.database.role, &pair.database.role).execute_batch(sql).expect("emptied");
    for process in [&pair.first, &pair.second, &other] {
        let failure = process.provide().await.expect_err("no grant");
        assert!(failure.class == Class::CredentialMissing, "{failure:?}");
    }
    assert_eq!(pair.grants(), 0);
}
