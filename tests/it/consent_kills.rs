//! Kills the daemon at each step of a refresh, and lets several processes refresh one grant. The vendor ends a grant whose
//! refresh token is sent twice, so every test also proves that none was.

use crate::support::consents::{Consents, KEY};
use crate::support::daemon::{Workspace, intent_with_locator, stderr, stdout};
use crate::support::oauth_vendor::CLIENT_SECRET;
use std::os::unix::process::ExitStatusExt;

/// What becomes of the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The refresh token was not sent, or the next one is on disk.
    Kept,
    /// It cannot be known whether the vendor used the refresh token, or the next one was lost with the process.
    NewLink,
}

/// The places of a refresh where the process is killed, and on which passage. Its first write says that the token is about to
/// be sent, and the second one stores the next token.
const BOUNDARIES: [(&str, u32, After); 10] = [
    ("consent_before_write", 1, After::Kept),
    ("consent_before_rename", 1, After::Kept),
    ("consent_after_rename", 1, After::NewLink),
    ("consent_before_request", 1, After::NewLink),
    ("consent_after_response", 1, After::NewLink),
    ("consent_before_write", 2, After::NewLink),
    ("consent_before_rename", 2, After::NewLink),
    ("consent_after_rename", 2, After::Kept),
    ("consent_before_use", 1, After::Kept),
    ("upsert", 1, After::Kept),
];

/// A workspace whose only connection has the grant of `consents`.
fn workspace(consents: &Consents) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.write_policy(&consents.vendor.policy(&consents.store().display().to_string()));
    workspace.set("CONSENT_KEY", KEY);
    workspace.set("THINGS_SECRET", CLIENT_SECRET);
    workspace.intent_file("things.json", &intent_with_locator("openapi", &consents.request.resource_ids[0], "consent:things"));
    workspace
}

fn assert_each_token_was_sent_once(consents: &Consents, at: &str) {
    let state = consents.vendor.state();
    assert_eq!(state.reuses, 0, "{at}: {:?}", state.sent);
    assert!(state.sent.values().all(|count| *count == 1), "{at}: {:?}", state.sent);
}

#[tokio::test]
async fn a_kill_at_any_step_of_a_refresh_loses_nothing_that_could_be_kept_and_sends_no_token_twice() {
    for (name, count, after) in BOUNDARIES {
        let at = format!("{name} {count}");
        let consents = Consents::new().await;
        consents.give().await;
        let mut workspace = workspace(&consents);
        std::fs::write(workspace.path("kill"), &at).expect("written");
        workspace.set("AAM_TEST_KILL_AT", &workspace.path("kill").display().to_string());
        let ended = workspace.start().ended().await;
        assert_eq!(ended.signal(), Some(9), "{at}: the process was not killed");
        workspace.env.retain(|(name, _)| name != "AAM_TEST_KILL_AT");
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
        assert_each_token_was_sent_once(&consents, &at);
    }
}

#[tokio::test]
async fn a_vendor_that_keeps_refresh_tokens_loses_no_grant_at_any_kill() {
    for (name, count, _) in BOUNDARIES {
        let consents = Consents::new().await;
        consents.vendor.state().rotates = false;
        consents.give().await;
        // The first refresh shows that the vendor does not rotate.
        consents.clock.advance(std::time::Duration::from_secs(3600));
        assert_eq!(consents.call().await.expect("a token"), 200);
        let mut workspace = workspace(&consents);
        std::fs::write(workspace.path("kill"), format!("{name} {count}")).expect("written");
        workspace.set("AAM_TEST_KILL_AT", &workspace.path("kill").display().to_string());
        assert_eq!(workspace.start().ended().await.signal(), Some(9), "{name} {count}: the process was not killed");
        workspace.env.retain(|(name, _)| name != "AAM_TEST_KILL_AT");
        let daemon = workspace.serve().await;
        daemon.until_state(&consents.request.resource_ids[0], "ACTIVE").await;
    }
}

#[tokio::test]
async fn the_daemon_and_commands_never_send_the_same_refresh_token() {
    let consents = Consents::new().await;
    consents.give().await;
    let workspace = workspace(&consents);
    let daemon = workspace.serve().await;
    let file = workspace.path("intents/things.json").display().to_string();
    let commands: Vec<_> = (0..6)
        .map(|_| {
            let mut command = workspace.command(&["test", &file]);
            tokio::task::spawn_blocking(move || command.output().expect("the binary runs"))
        })
        .collect();
    for command in commands {
        let output = command.await.expect("an output");
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    }
    daemon.until_state(&consents.request.resource_ids[0], "ACTIVE").await;
    assert_eq!(consents.vendor.state().sent.len(), 7, "one refresh for each process");
    assert_each_token_was_sent_once(&consents, "several processes");
}
