//! The file of the consent store: who can read it, and what happens if it or its key is not right.

use crate::support::consents::{Consents, KEY, OTHER_KEY};
use aam::model::Class;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn the_store_is_private_and_contains_no_token() {
    let consents = Consents::new().await;
    let query = consents.click().await;
    let before = std::fs::read_to_string(consents.store()).expect("a file");
    let state = query.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state");
    assert!(!before.contains(state), "the state is stored as a digest");
    consents.give().await;
    consents.clock.advance(std::time::Duration::from_secs(3600));
    consents.call().await.expect("a token");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(consents.store().parent().expect("a folder")), 0o700);
    for entry in walk(consents.dir.path()) {
        let text = String::from_utf8_lossy(&std::fs::read(&entry).expect("a file")).into_owned();
        assert!(!text.contains("refresh-") && !text.contains("access-"), "{}", entry.display());
        assert_eq!(mode(&entry), 0o600, "{}", entry.display());
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn another_key_says_so_and_damages_nothing() {
    let consents = Consents::new().await;
    consents.give().await;
    let before = std::fs::read(consents.store()).expect("a file");
    let other = consents.changed(OTHER_KEY, |text| text);
    let failure = other.provide().await.expect_err("another key");
    assert_eq!(failure.class, Class::CredentialMissing);
    assert!(failure.title.contains("was written with another key"), "{failure:?}");
    assert!(other.providers.consents().link_for(&other.context(), &other.request).await.is_err());
    assert_eq!(std::fs::read(consents.store()).expect("a file"), before);
    assert_eq!(consents.restarted().call().await.expect("a token"), 200);
    for (key, what) in [("", "is empty"), ("not a key of 32 bytes", "is not 32 bytes in base64 or hexadecimal")] {
        let failure = consents.changed(key, |text| text).provide().await.expect_err("no key");
        assert!(failure.title.contains(what), "{key}: {failure:?}");
    }
    let without = consents.changed(KEY, |text| text.replace(", key: \"env:CONSENT_KEY\"", ""));
    let failure = without.provide().await.expect_err("no key");
    assert!(failure.title.contains("does not name the key") && failure.fix.contains("openssl rand"), "{failure:?}");
}

#[tokio::test]
async fn a_damaged_file_says_so_and_is_never_overwritten() {
    let consents = Consents::new().await;
    consents.give().await;
    let whole = std::fs::read(consents.store()).expect("a file");
    let newer = String::from_utf8_lossy(&whole).replace("\"format\":1", "\"format\":2").into_bytes();
    for bytes in [Vec::new(), whole[..whole.len() / 2].to_vec(), b"{}".to_vec(), b"\0\0\0".to_vec(), newer] {
        consents.replace_store(&bytes);
        for process in [&consents, &consents.restarted()] {
            let failure = process.provide().await.expect_err("damaged");
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(failure.title.contains("is damaged"), "{failure:?}");
            assert!(process.providers.consents().link_for(&process.context(), &process.request).await.is_err());
            assert!(process.providers.consents().revoke(&process.context(), process.request.connection).await.is_err());
        }
        assert_eq!(std::fs::read(consents.store()).expect("a file"), bytes);
    }
    consents.replace_store(&whole);
    assert_eq!(consents.restarted().call().await.expect("a token"), 200);
}

#[tokio::test]
async fn a_grant_that_was_changed_or_moved_is_not_used() {
    let consents = Consents::new().await;
    consents.give().await;
    let stored = consents.stored().to_string();
    for (from, to) in [("\"things.read\",\"offline\"]", "\"things.write\",\"offline\"]"), ("\"version\":1", "\"version\":2")] {
        assert!(stored.contains(from), "{stored}");
        consents.replace_store(stored.replacen(from, to, 9).as_bytes());
        let failure = consents.restarted().provide().await.expect_err("changed");
        assert!(failure.title.contains("is damaged and cannot be decrypted"), "{failure:?}");
    }
    assert_eq!(consents.vendor.state().sent.len(), 0);
}
