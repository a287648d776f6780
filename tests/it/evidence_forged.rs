//! Bundles that were changed by a person who also corrected the checksums, or the signature.

use crate::evidence::{audited, bundle, new_key, verify};
use crate::support::bundles::{head, manifest, seal, write_manifest};
use crate::support::daemon::{Workspace, intent, stderr, stdout, until};
use aam::model::Digest;
use aam::registry::LedgerLine;
use serde_json::json;
use std::path::{Path, PathBuf};

const DAY_MS: i64 = 86_400_000;
const FILES: [&str; 6] = ["ledger.jsonl", "calls.jsonl", "intents.jsonl", "attempts.jsonl", "privileges.jsonl", "SUMMARY.md"];

/// Writes the ledger of a bundle anew with another file in the intents, as a chain that is right by itself.
fn forge_ledger(folder: &Path) {
    let text = std::fs::read_to_string(folder.join("ledger.jsonl")).expect("a ledger");
    assert!(text.contains("good.csv"));
    let mut forged = String::new();
    let mut prev: Option<Digest> = None;
    for line in text.lines() {
        let mut line: LedgerLine = serde_json::from_str(line).expect("a line");
        if line.kind == "intent_accepted" {
            line.body = line.body.map(|body| body.replace("good.csv", "evil.csv"));
        }
        line.prev = prev.unwrap_or(line.prev);
        line.hash = line.computed_hash(&line.prev);
        prev = Some(line.hash);
        forged.push_str(&format!("{}\n", serde_json::to_string(&line).expect("JSON")));
    }
    assert_ne!(forged, text);
    std::fs::write(folder.join("ledger.jsonl"), forged).expect("written");
    let mut manifest = manifest(folder);
    manifest["ledger"]["last_hash"] = json!(prev);
    write_manifest(folder, &manifest);
}

/// Verifies a bundle in which something is wrong; returns what is said.
fn refused(folder: &Path, more: &[&str]) -> String {
    let verified = verify(folder, more);
    assert_eq!(verified.status.code(), Some(1), "{}{}", stdout(&verified), stderr(&verified));
    assert!(stderr(&verified).contains("is not intact"), "{}", stderr(&verified));
    stderr(&verified)
}

/// Verifies a bundle in which nothing is wrong; returns what is said.
fn accepted(folder: &Path, more: &[&str]) -> String {
    let verified = verify(folder, more);
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
    stdout(&verified)
}

#[test]
fn a_ledger_that_was_written_anew_does_not_have_the_head_that_was_kept() {
    let workspace = audited();
    let (key, public) = new_key(&workspace, "evidence.key");
    let folder = bundle(&workspace, "signed", Some(&key));
    let expected = head(&folder);
    assert!(accepted(&folder, &["--key", &public, "--expect", &expected]).contains("has the expected hash"));
    forge_ledger(&folder);
    seal(&folder, Some(&key));
    // The head in the manifest is still the true one.
    for more in [&["--key", &public][..], &["--key", &public, "--expect", &expected]] {
        let found = refused(&folder, more);
        assert!(found.contains("as the hash of this row, the head"), "{found}");
    }
    let mut forged = manifest(&folder);
    forged["head"]["hash"] = forged["ledger"]["last_hash"].clone();
    write_manifest(&folder, &forged);
    seal(&folder, Some(&key));
    accepted(&folder, &["--key", &public]);
    let found = refused(&folder, &["--key", &public, "--expect", &expected]);
    assert!(found.contains("does not have the expected hash"), "{found}");
}

#[test]
fn a_ledger_ends_at_the_head() {
    let workspace = audited();
    let folder = bundle(&workspace, "bundle", None);
    let text = std::fs::read_to_string(folder.join("ledger.jsonl")).expect("a ledger");
    let lines: Vec<&str> = text.lines().collect();
    let (_, kept) = lines.split_last().expect("lines");
    let last: LedgerLine = serde_json::from_str(kept.last().expect("a line")).expect("a line");
    std::fs::write(folder.join("ledger.jsonl"), kept.join("\n") + "\n").expect("written");
    let mut shorter = manifest(&folder);
    (shorter["ledger"]["count"], shorter["ledger"]["last_hash"]) = (json!(kept.len()), json!(last.hash));
    write_manifest(&folder, &shorter);
    seal(&folder, None);
    assert!(refused(&folder, &[]).contains("its end is missing"));
    shorter["head"]["seq"] = json!(last.seq - 1);
    write_manifest(&folder, &shorter);
    seal(&folder, None);
    assert!(refused(&folder, &[]).contains("as the hash of this row"));
}

#[test]
fn a_bundle_without_its_evidence_is_not_intact() {
    let workspace = audited();
    for (index, name) in FILES.into_iter().chain(["manifest.json"]).enumerate() {
        let folder = bundle(&workspace, &format!("bundle{index}"), None);
        let expected = head(&folder);
        std::fs::remove_file(folder.join(name)).expect("removed");
        seal(&folder, None);
        for more in [&["--quiet"][..], &["--expect", &expected]] {
            let found = refused(&folder, more);
            assert!(found.contains(&format!("{name} is missing")), "{found}");
        }
    }
    let folder = bundle(&workspace, "policies", None);
    std::fs::remove_dir_all(folder.join("policies")).expect("removed");
    seal(&folder, None);
    assert!(refused(&folder, &[]).contains("of ledger.jsonl accepted this policy"));
}

#[test]
fn the_calls_that_the_ledger_names_are_in_the_bundle() {
    let workspace = audited();
    let folder = bundle(&workspace, "bundle", None);
    std::fs::write(folder.join("calls.jsonl"), "").expect("written");
    let mut forged = manifest(&folder);
    forged["calls"] = json!({"count": 0, "first": 0, "prev": Digest::default(), "last_hash": Digest::default()});
    write_manifest(&folder, &forged);
    seal(&folder, None);
    let found = refused(&folder, &["--expect", &head(&folder)]);
    assert!(found.contains("is missing in calls.jsonl, but row"), "{found}");
    // The manifest alone cannot excuse it with an entry that drops younger calls, or with one that the ledger does not have.
    let seq = forged["head"]["seq"].as_u64().expect("a number");
    for (row, before) in [(seq + 1, "1970-01-01T00:00:00Z"), (seq, "2999-01-01T00:00:00Z")] {
        forged["calls_dropped"] = json!({"seq": row, "batch": 1000, "hash": Digest::default(), "before": before});
        write_manifest(&folder, &forged);
        seal(&folder, None);
        let found = refused(&folder, &[]);
        assert!(found.contains("is missing in calls.jsonl") || found.contains("does not have such a row"), "{found}");
    }
    let changed = bundle(&workspace, "changed", None);
    let calls = std::fs::read_to_string(changed.join("calls.jsonl")).expect("calls");
    std::fs::write(changed.join("calls.jsonl"), calls.replacen("READ FILE", "READ NONE", 1)).expect("written");
    seal(&changed, None);
    let found = refused(&changed, &[]);
    assert!(found.contains("line 1 of calls.jsonl (number 1) does not match the hash chain"), "{found}");
}

#[test]
fn only_regular_files_of_the_named_size_are_read() {
    let workspace = audited();
    let replaced = |name: &str, file: &str, replace: &dyn Fn(&Path)| -> PathBuf {
        let folder = bundle(&workspace, name, None);
        let path = folder.join(file);
        std::fs::remove_file(&path).expect("removed");
        replace(&path);
        folder
    };
    let fifo = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
        assert!(made.success());
    };
    let link = |target: &'static str| move |path: &Path| std::os::unix::fs::symlink(target, path).expect("linked");
    for (index, file) in ["ledger.jsonl", "calls.jsonl", "manifest.json", "SUMMARY.md"].into_iter().enumerate() {
        let found = refused(&replaced(&format!("fifo{index}"), file, &fifo), &[]);
        assert!(found.contains(&format!("{file} could not be read: it is not a regular file")), "{found}");
        for target in ["/dev/zero", "/etc/passwd"] {
            let found = refused(&replaced(&format!("link{index}{}", target.len()), file, &link(target)), &[]);
            assert!(found.contains(&format!("{file} could not be read: it is not a regular file")), "{found}");
        }
    }
    let huge = |path: &Path| std::fs::File::create(path).and_then(|file| file.set_len(1 << 32)).expect("a sparse file");
    let found = refused(&replaced("huge", "ledger.jsonl", &huge), &[]);
    assert!(found.contains("ledger.jsonl was changed: it has 4294967296 bytes instead of"), "{found}");
    for (name, replace) in [("sums_fifo", &fifo as &dyn Fn(&Path)), ("sums_link", &link("/dev/zero") as &dyn Fn(&Path))] {
        let verified = verify(&replaced(name, "SHA256SUMS", replace), &[]);
        assert!(verified.status.code() == Some(1) && stderr(&verified).contains("is not a bundle"), "{}", stderr(&verified));
    }
}

/// A workspace in which one connection was proven 5 days before another one.
fn audited_for_days(policy: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    workspace.write_policy(policy);
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    workspace.run(&["once"]);
    std::fs::write(workspace.path("clock"), (5 * DAY_MS).to_string()).expect("an offset");
    workspace
}

/// Writes a bundle from `since` until before `until`.
fn bundle_of(workspace: &Workspace, name: &str, since: &str, until: &str) -> PathBuf {
    let folder = workspace.path(name);
    let out = folder.display().to_string();
    let written = workspace.run(&["evidence", "--since", since, "--until", until, "--out", &out]);
    assert!(written.status.success(), "{}", stderr(&written));
    folder
}

#[test]
fn a_head_outside_of_the_period_cannot_be_compared() {
    let workspace = audited_for_days("");
    workspace.intent_file("two.json", &intent("filesource", &workspace.csv("two.csv", 2)));
    workspace.run(&["once"]);
    let all = bundle_of(&workspace, "all", "9d", "0s");
    let ledger = std::fs::read_to_string(all.join("ledger.jsonl")).expect("a ledger");
    let first: LedgerLine = serde_json::from_str(ledger.lines().next().expect("a line")).expect("a line");
    let first = format!("{}:{}", first.seq, first.hash);
    assert!(accepted(&all, &["--expect", &first]).contains("row 1 has the expected hash"));
    let recent = bundle(&workspace, "recent", None);
    let verified = verify(&recent, &["--expect", &first]);
    let found = stderr(&verified);
    assert_eq!(verified.status.code(), Some(1), "{}", stdout(&verified));
    assert!(found.contains("row 1 is outside of the period") && !found.contains("not intact"), "{found}");
    // A head after the period is only named.
    let earlier = bundle_of(&workspace, "earlier", "9d", "3d");
    let named = accepted(&earlier, &["--expect", &head(&earlier)]);
    assert!(named.contains("its hash was not computed") && !named.contains("has the expected hash"), "{named}");
    let (seq, _) = head(&earlier).split_once(':').map(|(seq, hash)| (seq.to_owned(), hash.to_owned())).expect("a head");
    assert!(refused(&earlier, &["--expect", &format!("{seq}:{}", "0".repeat(64))]).contains("does not have the expected hash"));
    // What was in force when the period began is in the bundle, with the verdicts that were found before it.
    let privileges = std::fs::read_to_string(recent.join("privileges.jsonl")).expect("verdicts");
    let at_start: Vec<&str> = privileges.lines().filter(|line| line.contains("\"in_force_at_start\":true")).collect();
    assert!(!at_start.is_empty(), "{privileges}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_says_that_calls_of_its_period_were_dropped() {
    let workspace = audited_for_days("evidence: {keep_calls: 2d}\n");
    let daemon = workspace.serve().await;
    until("the old calls are dropped", || async {
        let verified = stdout(&workspace.run(&["verify"]));
        (verified.contains("older ones were dropped"), verified)
    })
    .await;
    daemon.stop().await;
    let all = bundle(&workspace, "recent", None);
    assert!(!accepted(&all, &[]).contains("dropped"));
    let all = bundle_of(&workspace, "all", "9d", "0s");
    let summary = std::fs::read_to_string(all.join("SUMMARY.md")).expect("a summary");
    assert!(summary.contains("were dropped because of their age") && summary.contains("the calls of 1 attempt"), "{summary}");
    assert!(!accepted(&all, &[]).contains("not verified"), "the bundle has the entry");
    let earlier = bundle_of(&workspace, "earlier", "9d", "3d");
    let summary = std::fs::read_to_string(earlier.join("SUMMARY.md")).expect("a summary");
    assert!(summary.contains("were dropped because of their age"), "{summary}");
    assert!(accepted(&earlier, &[]).contains("so this was not verified"));
}
