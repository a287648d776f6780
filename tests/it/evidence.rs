//! Evidence for an auditor: signed bundles that verify without AAM's registry, and heads that show a cut registry.

use crate::support::daemon::{Workspace, intent, stderr, stdout, until};
use crate::support::receiver::Receiver;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A workspace in which one connection was proven and another failed.
pub fn audited() -> Workspace {
    let workspace = Workspace::new();
    workspace.intent_file("good.json", &intent("filesource", &workspace.csv("good.csv", 3)));
    workspace.intent_file("gone.json", &intent("filesource", &workspace.path("data/gone.csv").display().to_string()));
    workspace.run(&["once"]);
    workspace
}

/// Writes a bundle of the last day, signed if `key` is given.
pub fn bundle(workspace: &Workspace, name: &str, key: Option<&Path>) -> PathBuf {
    let out = workspace.path(name);
    let (folder, key) = (out.display().to_string(), key.map(|key| key.display().to_string()));
    let mut arguments = vec!["evidence", "--since", "1d", "--out", &folder];
    if let Some(key) = &key {
        arguments.extend(["--key", key]);
    }
    let written = workspace.run(&arguments);
    assert!(written.status.success(), "{}", stderr(&written));
    out
}

/// Verifies a bundle where there is neither a registry nor a policy.
pub fn verify(folder: &Path, more: &[&str]) -> Output {
    let elsewhere = Workspace::new();
    std::fs::remove_file(elsewhere.path("policy/policy.yaml")).expect("removed");
    elsewhere.run(&[&["verify", "--bundle", &folder.display().to_string()], more].concat())
}

pub fn new_key(workspace: &Workspace, name: &str) -> (PathBuf, String) {
    let file = workspace.path(name);
    let made = workspace.run(&["evidence", "keygen", &file.display().to_string()]);
    assert!(made.status.success() && stdout(&made).contains("SHA256:"), "{}", stderr(&made));
    let public = format!("{}.pub", file.display());
    (file, public)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_bundle_verifies_on_another_machine() {
    let workspace = audited();
    let (key, public) = new_key(&workspace, "evidence.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).expect("a key").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let folder = bundle(&workspace, "october", Some(&key));
    let verified = verify(&folder, &["--key", &public]);
    assert!(
        verified.status.success() && stdout(&verified).contains("signed by the key"),
        "{}{}",
        stdout(&verified),
        stderr(&verified)
    );
    let own = verify(&folder, &[]);
    assert!(own.status.success() && stdout(&own).contains("the bundle itself names"), "{}", stdout(&own));
    let (_, other) = new_key(&workspace, "other.key");
    let wrong = verify(&folder, &["--key", &other]);
    assert!(wrong.status.code() == Some(1) && stderr(&wrong).contains("is not a signature by the key"), "{}", stderr(&wrong));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    let summary = read("SUMMARY.md");
    assert!(
        summary.contains("## Policies in force") && summary.contains("attempts passed") && summary.contains("good.csv"),
        "{summary}"
    );
    let finished = read("attempts.jsonl").lines().filter(|line| line.contains("\"attempt_finished\"")).count();
    assert_eq!((finished, read("intents.jsonl").lines().count()), (2, 2));
    assert!(read("calls.jsonl").contains("READ FILE") && read("privileges.jsonl").contains("privilege"));
    let policy = std::fs::read_dir(folder.join("policies")).expect("policies").next().expect("one").expect("a file").path();
    assert_eq!(std::fs::read(policy).expect("a policy"), std::fs::read(workspace.path("policy/policy.yaml")).expect("a policy"));
    let again = workspace.run(&["evidence", "--since", "1d", "--out", &folder.display().to_string()]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("is not empty"), "{}", stderr(&again));
    let empty = workspace.run(&["evidence", "--since", "2999-01-01T00:00:00Z", "--out", "x"]);
    assert!(empty.status.code() == Some(64) && stderr(&empty).contains("begins in the future"), "{}", stderr(&empty));
    let taken = workspace.path("taken.pub");
    std::fs::write(&taken, "x").expect("written");
    let keygen = || workspace.run(&["evidence", "keygen", &workspace.path("taken").display().to_string()]);
    let refused = keygen();
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("taken.pub exists already"), "{}", stderr(&refused));
    assert!(!workspace.path("taken").exists(), "no private key is left behind");
    std::fs::rename(&taken, workspace.path("away.pub")).expect("moved away");
    assert!(keygen().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_keys_sign_and_tools_of_the_system_verify() {
    let workspace = audited();
    let run = |program: &str, folder: &Path, arguments: &[&str]| {
        std::process::Command::new(program).args(arguments).current_dir(folder).output().expect("it runs")
    };
    let made = run("openssl", workspace.dir.path(), &["genpkey", "-algorithm", "ed25519", "-out", "operator.pem"]);
    assert!(made.status.success(), "{}", stderr(&made));
    run("openssl", workspace.dir.path(), &["pkey", "-in", "operator.pem", "-pubout", "-out", "operator.pub"]);
    let folder = bundle(&workspace, "signed", Some(&workspace.path("operator.pem")));
    let sums = run("sha256sum", &folder, &["-c", "--quiet", "SHA256SUMS"]);
    assert!(sums.status.success(), "{}{}", stdout(&sums), stderr(&sums));
    let public = workspace.path("operator.pub").display().to_string();
    let arguments =
        ["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-rawin", "-in", "SHA256SUMS", "-sigfile", "SHA256SUMS.sig"];
    let signature = run("openssl", &folder, &arguments);
    assert!(signature.status.success(), "{}{}", stdout(&signature), stderr(&signature));
    assert!(verify(&folder, &["--key", &public]).status.success());
    // The other way round, openssl reads the key that AAM writes.
    let (key, _) = new_key(&workspace, "evidence.key");
    let read = run("openssl", workspace.dir.path(), &["pkey", "-in", "evidence.key", "-pubout"]);
    assert!(read.status.success(), "{}", stderr(&read));
    assert_eq!(stdout(&read), std::fs::read_to_string(workspace.path("evidence.key.pub")).expect("a public key"));
    let sign = |name: &str| {
        let (folder, key) = (workspace.path(name).display().to_string(), key.display().to_string());
        let signed = workspace.run(&["evidence", "--since", "1d", "--out", &folder, "--key", &key]);
        assert!(signed.status.success(), "{}", stderr(&signed));
        stderr(&signed)
    };
    assert!(!sign("private").contains("has the mode"));
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("a mode");
    let warned = sign("public");
    assert!(warned.contains("has the mode 0644") && warned.contains("chmod 600"), "{warned}");
    let fixed = run("chmod", workspace.dir.path(), &["600", "evidence.key"]);
    assert!(fixed.status.success() && !sign("again").contains("has the mode"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_file_that_was_changed_removed_or_added_is_named() {
    let workspace = audited();
    let (key, public) = new_key(&workspace, "evidence.key");
    let folder = bundle(&workspace, "bundle", Some(&key));
    let with = |name: &str, change: &dyn Fn(&Path)| {
        let copy = workspace.path(name);
        let copied = std::process::Command::new("cp").arg("-r").arg(&folder).arg(&copy).status().expect("cp");
        assert!(copied.success());
        change(&copy);
        let verified = verify(&copy, &["--key", &public]);
        assert_eq!(verified.status.code(), Some(1), "{name}: {}", stdout(&verified));
        stderr(&verified)
    };
    let replace = |folder: &Path, name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(folder.join(name)).expect("a file");
        assert!(text.contains(from), "{name} has no {from}");
        std::fs::write(folder.join(name), text.replacen(from, to, 1)).expect("written");
    };
    let changed = with("changed", &|folder| replace(folder, "calls.jsonl", "READ FILE", "READ NOTHING"));
    assert!(
        changed.contains("calls.jsonl was changed") && !changed.contains("line 1 of"),
        "what was changed is not parsed: {changed}"
    );
    let shorter = with("shorter", &|folder| replace(folder, "ledger.jsonl", "\n", ""));
    assert!(shorter.contains("ledger.jsonl was changed: it has"), "{shorter}");
    let missing = with("missing", &|folder| std::fs::remove_file(folder.join("attempts.jsonl")).expect("removed"));
    assert!(missing.contains("attempts.jsonl is missing"), "{missing}");
    let added = with("added", &|folder| std::fs::write(folder.join("policies/note.yaml"), "x").expect("written"));
    assert!(added.contains("policies/note.yaml was added"), "{added}");
    let empty = with("empty", &|folder| std::fs::create_dir(folder.join("more")).expect("a folder"));
    assert!(empty.contains("more was added"), "{empty}");
    // Whoever also corrects the checksums breaks the signature.
    let forged = with("forged", &|folder| {
        replace(folder, "SUMMARY.md", "# Evidence", "# No evidence");
        let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).expect("sums");
        let digest = aam::model::Digest::from_bytes(&std::fs::read(folder.join("SUMMARY.md")).expect("a file"));
        let corrected = sums.lines().map(|line| match line.ends_with("  SUMMARY.md") {
            true => format!("{digest}  SUMMARY.md\n"),
            false => format!("{line}\n"),
        });
        std::fs::write(folder.join("SHA256SUMS"), corrected.collect::<String>()).expect("written");
    });
    assert!(forged.contains("is not a signature by the key") && !forged.contains("was changed"), "{forged}");
    let unsigned = bundle(&workspace, "unsigned", None);
    let verified = verify(&unsigned, &[]);
    assert!(verified.status.success() && stdout(&verified).contains("not signed"), "{}", stdout(&verified));
    assert_eq!(verify(&unsigned, &["--key", &public]).status.code(), Some(1), "a key was expected");
    assert_eq!(verify(&workspace.path("data"), &[]).status.code(), Some(1), "not a bundle");
}

/// The last `SEQ:HASH` in a text.
fn last_head(text: &str) -> String {
    let is_head = |word: &&str| word.split_once(':').is_some_and(|(seq, hash)| seq.parse::<u64>().is_ok() && hash.len() == 64);
    text.split(|c: char| c.is_whitespace() || c == '"' || c == '=').rfind(is_head).expect("a head").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_whose_end_was_cut_off_does_not_have_the_head_that_was_written() {
    let (mut workspace, receiver) = (Workspace::new(), Receiver::start().await);
    workspace.set("HEAD_SECRET", "the key of the tests, of 32 bytes");
    let heads = workspace.path("heads.log");
    workspace.write_policy(&format!(
        "notify: [{{name: ops, url: \"{}\", secret: \"env:HEAD_SECRET\", on: [policy_rejected]}}]\nevidence: {{head_file: {}, head_webhook: ops}}\n",
        receiver.url(),
        heads.display()
    ));
    workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
    workspace.run(&["once"]);
    let registry = workspace.path("var/aam.db");
    let earlier = std::fs::read(&registry).expect("a registry");
    workspace.intent_file("two.json", &intent("filesource", &workspace.csv("two.csv", 2)));
    let daemon = workspace.serve().await;
    daemon.until_state(&workspace.path("data/two.csv").display().to_string(), "ACTIVE").await;
    until("the head arrives", || async { (receiver.count() >= 1, String::new()) }).await;
    let at_start = last_head(&daemon.log());
    daemon.stop().await;
    let file = std::fs::read_to_string(&heads).expect("heads");
    let lines: Vec<&str> = file.lines().collect();
    assert!(lines.len() >= 3 && lines.iter().any(|line| last_head(line) == at_start), "starts and stops: {file}");
    let message = &receiver.messages()[0].body;
    assert_eq!(message["type"], "aam.ledger_head", "{message}");
    assert!(lines.iter().any(|line| message["data"]["head"].as_str() == Some(&last_head(line))), "{message}");
    let head = last_head(&file);
    let verified = workspace.run(&["verify", "--expect", &head]);
    assert!(verified.status.success() && stdout(&verified).contains("has the expected hash"), "{}", stderr(&verified));
    // The end of the registry is gone, and what is left is intact by itself.
    std::fs::write(&registry, earlier).expect("written");
    assert!(workspace.run(&["verify"]).status.success(), "the chain alone does not show it");
    let cut = workspace.run(&["verify", "--expect", &head]);
    assert!(cut.status.code() == Some(1) && stderr(&cut).contains("its end was cut off"), "{}", stderr(&cut));
    let (seq, hash) = head.split_once(':').expect("a head");
    let other = workspace.run(&["verify", "--expect", &format!("1:{hash}")]);
    assert!(other.status.code() == Some(1) && stderr(&other).contains("instead of the expected"), "{}", stderr(&other));
    for wrong in [seq, "x:y", "1:abc"] {
        assert_eq!(workspace.run(&["verify", "--expect", wrong]).status.code(), Some(64), "{wrong}");
    }
}
