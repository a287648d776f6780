//! Signatures of the kind `netsuite` against oauthlib, which nobody of this project wrote: the whole binary connects a source
//! by `sp:NAME`, and wrong secrets are refused.

use crate::harness::{get_json, variable};
use crate::support::daemon::{Workspace, intent_with_locator};

peer_tests! {
    [Oauthlib]: signed_requests_are_accepted_and_wrong_secrets_are_refused;
}

const NAMES: [&str; 4] = ["CONSUMER_KEY", "CONSUMER_SECRET", "TOKEN_ID", "TOKEN_SECRET"];

async fn signed_requests_are_accepted_and_wrong_secrets_are_refused() {
    let (url, account) = (variable("OAUTHLIB", "URL"), variable("OAUTHLIB", "ACCOUNT"));
    let mut workspace = Workspace::new();
    let mut principals = String::new();
    let mut add = |name: &str, account: &str, wrong: &str| {
        let locator = |key: &str| format!("env:{}{key}", if key == wrong { "WRONG_" } else { "" });
        principals.push_str(&format!(
            "    {name}: {{kind: netsuite, account: \"{account}\", url: \"{url}\", consumer_key: {}, consumer_secret: {}, token_id: {}, token_secret: {}}}\n",
            locator(NAMES[0]), locator(NAMES[1]), locator(NAMES[2]), locator(NAMES[3])
        ));
    };
    add("right", &account.to_lowercase().replace('_', "-"), "");
    add("other-account", "7654321", "");
    NAMES.iter().for_each(|name| add(&format!("wrong-{}", name.to_lowercase()), &account, name));
    for name in NAMES {
        workspace.set(name, &variable("OAUTHLIB", name));
        // As long as the right value, so that only the comparison can tell them apart.
        workspace.set(&format!("WRONG_{name}"), &"0123456789abcdef".repeat(4));
    }
    workspace.write_policy(&format!("allowlist: [openapi]\ncredentials:\n  principals:\n{principals}"));
    // The name of a case cannot be part of the address, because it looks like one of a secret.
    let id = |name: &str| format!("{url}/openapi.json?case{}", name.bytes().map(u32::from).sum::<u32>());
    let names: Vec<String> = ["right", "other-account"]
        .map(String::from)
        .into_iter()
        .chain(NAMES.iter().map(|name| format!("wrong-{}", name.to_lowercase())))
        .collect();
    for name in &names {
        workspace.intent_file(&format!("{name}.json"), &intent_with_locator("openapi", &id(name), &format!("sp:{name}")));
    }
    let daemon = workspace.serve().await;
    let active = daemon.until_state(&id("right"), "ACTIVE").await;
    assert_eq!(active["first_sync_rows"], 2, "{active}");
    for name in names.iter().filter(|name| *name != "right") {
        let refused = daemon.until_state(&id(name), "AWAITING_CREDENTIALS").await;
        let title = refused["error"]["title"].as_str().unwrap_or_default();
        assert_eq!(title, format!("NetSuite does not accept the access token of service principal {name}"), "{refused}");
    }
    let counts = get_json(&format!("{url}/counts")).await;
    let number = |name: &str| counts[name].as_u64().unwrap_or_default();
    assert!(number("accepted") >= 2 && number("refused") >= 5, "{counts}");
    assert_eq!(number("replays_refused"), number("accepted"), "each nonce is accepted once: {counts}");
    daemon.stop().await;
    for (path, bytes) in workspace.files() {
        let text = String::from_utf8_lossy(&bytes);
        NAMES.iter().for_each(|name| assert!(!text.contains(&variable("OAUTHLIB", name)), "{name} in {}", path.display()));
    }
}
