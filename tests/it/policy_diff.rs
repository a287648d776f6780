//! `aam policy diff` as a reviewer and a workflow use it: commits, exit codes, Markdown, and a registry or none.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// A workspace whose policy is committed to git, on the branch `main`.
fn repository() -> Workspace {
    let workspace = Workspace::new();
    git(&workspace, &["init", "-q", "-b", "main"]);
    git(&workspace, &["add", "policy"]);
    git(&workspace, &["commit", "-q", "-m", "The policy"]);
    workspace
}

fn git(workspace: &Workspace, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@acme.example", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .current_dir(workspace.dir.path())
        .output()
        .expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", stderr(&output));
    stdout(&output).trim().to_string()
}

fn diff(workspace: &Workspace, arguments: &[&str]) -> Output {
    workspace.run(&[&["policy", "diff"], arguments].concat())
}

const WIDER: &str = "allowlist: [filesource, jdbc, postgres, openapi, s3, s3_compat, slack]\n";
const NARROWER: &str = "allowlist: [filesource]\n";

#[test]
fn commits_and_files_are_compared_and_the_exit_code_says_the_kind() {
    let workspace = repository();
    let head = "HEAD:policy/policy.yaml";
    let none = diff(&workspace, &[head]);
    assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(0), "no changes\n"), "{}", stderr(&none));
    workspace.write_policy(WIDER);
    let wider = diff(&workspace, &[head]);
    assert_eq!(wider.status.code(), Some(4), "{}", stderr(&wider));
    assert!(stdout(&wider).contains("slack added to the allowlist (wider)"), "{}", stdout(&wider));
    assert!(stdout(&wider).contains("effects on connections are unknown, because there is no registry"), "{}", stdout(&wider));
    assert!(!stdout(&wider).contains("0 connections"), "{}", stdout(&wider));
    assert!(stdout(&wider).contains("1 change: 1 wider, 0 narrower"), "{}", stdout(&wider));
    // What is staged, two commits, and a path from this folder.
    git(&workspace, &["add", "policy"]);
    assert_eq!(diff(&workspace, &[":policy/policy.yaml"]).status.code(), Some(0));
    git(&workspace, &["commit", "-q", "-m", "Allow Slack"]);
    assert_eq!(diff(&workspace, &["HEAD~1:policy/policy.yaml", "main:./policy/policy.yaml"]).status.code(), Some(4));
    workspace.write_policy(NARROWER);
    assert_eq!(diff(&workspace, &["policy/policy.yaml", head]).status.code(), Some(4));
    let narrower = diff(&workspace, &[head, "policy/policy.yaml", "--format", "json"]);
    assert_eq!(narrower.status.code(), Some(3));
    let value: Value = serde_json::from_str(&stdout(&narrower)).expect("JSON");
    assert_eq!((&value["verdict"], &value["connections"]), (&"narrower".into(), &"unknown".into()), "{value}");
    let effects: Vec<&str> = value["changes"].as_array().into_iter().flatten().filter_map(|one| one["effect"].as_str()).collect();
    assert!(effects.len() == 6 && effects.iter().all(|effect| *effect == "narrower"), "{value}");
    workspace.write_policy("slo: {coverage: 0.5}\nallowlist: [filesource, jdbc, postgres, openapi, s3, s3_compat, slack]\n");
    assert_eq!(diff(&workspace, &[head]).status.code(), Some(3), "a neutral change is a change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_registry_the_effects_are_known() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    workspace.run(&["once"]);
    workspace.replace("old.yaml", &std::fs::read(workspace.path("policy/policy.yaml")).expect("a policy"));
    workspace.write_policy("allowlist: [jdbc]\n");
    let output = diff(&workspace, &["old.yaml"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 connection becomes UNSUPPORTED"), "{}", stdout(&output));
    assert!(stdout(&output).contains("affects 0 connections") && !stdout(&output).contains("unknown"), "{}", stdout(&output));
}

#[test]
fn what_git_cannot_give_is_explained_and_the_fixes_work() {
    let workspace = repository();
    for (arguments, code, texts) in [
        (&["nowhere.yaml"][..], 78, &["nowhere.yaml does not exist", "origin/main:policy/policy.yaml"][..]),
        (&["origin/main:policy/policy.yaml"], 78, &["git fetch origin main:refs/remotes/origin/main", "fetch-depth: 0"]),
        (&["HEAD:policy.yaml"], 78, &["HEAD does not have the file policy.yaml", "git ls-tree -r --name-only --full-tree HEAD"]),
        (&["HEAD:policy"], 78, &["HEAD:policy is not a file"]),
        (&["--", "-x:policy.yaml"], 78, &["is not the name of a commit"]),
        (&[], 64, &["<OLD>"]),
    ] {
        let output = diff(&workspace, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        for text in texts {
            assert!(stderr(&output).contains(text), "{arguments:?}: {}", stderr(&output));
        }
    }
    assert!(git(&workspace, &["ls-tree", "-r", "--name-only", "--full-tree", "HEAD"]).contains("policy/policy.yaml"));
    // The fetch that the message names, from a clone that has only one other branch.
    git(&workspace, &["branch", "other"]);
    let clone = Workspace::new();
    let origin = format!("file://{}", workspace.dir.path().display());
    git(&clone, &["init", "-q", "-b", "work"]);
    git(&clone, &["remote", "add", "origin", &origin]);
    assert_eq!(diff(&clone, &["origin/main:policy/policy.yaml"]).status.code(), Some(78));
    git(&clone, &["fetch", "-q", "origin", "main:refs/remotes/origin/main"]);
    let fetched = diff(&clone, &["origin/main:policy/policy.yaml"]);
    assert!(matches!(fetched.status.code(), Some(0 | 3 | 4)), "{}", stderr(&fetched));
    // Outside of a repository, and without git.
    let outside = Workspace::new();
    let output = outside.command(&["policy", "diff", "HEAD:policy/policy.yaml"]).env("GIT_CEILING_DIRECTORIES", "/").output();
    let output = output.expect("the binary runs");
    assert!(output.status.code() == Some(78) && stderr(&output).contains("git repository"), "{}", stderr(&output));
    let output = workspace.command(&["policy", "diff", "HEAD:policy/policy.yaml"]).env("PATH", "/nowhere").output();
    let output = output.expect("the binary runs");
    assert!(output.status.code() == Some(1) && stderr(&output).contains("git was not found"), "{}", stderr(&output));
    // A policy of a commit that is not valid.
    workspace.write_policy("alowlist: []\n");
    git(&workspace, &["commit", "-q", "-a", "-m", "A typo"]);
    let output = diff(&workspace, &["HEAD:policy/policy.yaml", "HEAD~1:policy/policy.yaml"]);
    assert!(output.status.code() == Some(78) && stderr(&output).contains("HEAD:policy/policy.yaml"), "{}", stderr(&output));
}

#[test]
fn the_manifests_of_a_commit_are_compared_with_those_of_another() {
    let workspace = repository();
    let manifest = |path: &str| include_str!("../../docs/examples/hubspot.yaml").replace("/crm/v3/objects", path);
    std::fs::create_dir(workspace.path("policy/manifests")).expect("a folder");
    workspace.write_policy("manifests: {dir: policy/manifests}\n");
    workspace.replace("policy/manifests/acme_crm.yaml", manifest("/a").as_bytes());
    git(&workspace, &["add", "."]);
    git(&workspace, &["commit", "-q", "-m", "A source"]);
    let added = stdout(&diff(&workspace, &["HEAD~1:policy/policy.yaml"]));
    assert!(added.contains("manifest acme_crm added; it may call the hosts that it names (wider)"), "{added}");
    assert_eq!(diff(&workspace, &["HEAD:policy/policy.yaml"]).status.code(), Some(0));
    workspace.replace("policy/manifests/acme_crm.yaml", format!("# other bytes\n{}", manifest("/b")).as_bytes());
    let changed = diff(&workspace, &["HEAD:policy/policy.yaml"]);
    assert!(changed.status.code() == Some(4) && stdout(&changed).contains("manifest acme_crm changes"), "{}", stdout(&changed));
}

#[test]
fn the_comment_of_a_pull_request_is_literal_text() {
    let workspace = repository();
    workspace.write_policy(
        "manifests: {dir: m, sources: {acme: {posts: [{url: \"https://a.example/x\", why: \"@acme/admins [click](https://evil.example) <img src=x> #1 `x`\", body: none}]}}}\n",
    );
    let output = diff(&workspace, &["HEAD:policy/policy.yaml", "--format", "markdown"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(text.starts_with("<!-- aam policy diff -->\n### Policy: wider\n"), "{text}");
    for literal in ["`@acme/admins`", "`[click](https://evil.example)`", "`<img`", "`#1`", "`` `x` ``", "unknown"] {
        assert!(text.contains(literal), "{literal}: {text}");
    }
    let other = workspace.run(&["status", "--format", "markdown"]);
    assert!(other.status.code() == Some(64) && stderr(&other).contains("only aam policy diff"), "{}", stderr(&other));
}

/// Runs the script of the workflow in `docs/examples` with a `gh` that only writes what it is called with.
fn run_workflow(workspace: &Workspace, base: &str, accepted: bool) -> (Output, String) {
    let workflow: Value = serde_yaml::from_str(include_str!("../../docs/examples/policy-diff.github.yaml")).expect("YAML");
    let steps = workflow["jobs"]["diff"]["steps"].as_array().expect("steps");
    let script = steps.iter().find_map(|step| step["run"].as_str()).expect("a script");
    let bin = workspace.path("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    let aam = std::path::Path::new(env!("CARGO_BIN_EXE_aam"));
    if !bin.join("aam").exists() {
        std::os::unix::fs::symlink(aam, bin.join("aam")).expect("a link");
    }
    let (gh, calls) = (bin.join("gh"), workspace.path("gh.calls"));
    // The first comment cannot be edited, as on a new pull request.
    std::fs::write(&gh, format!("#!/bin/sh\necho \"$@\" >> {}\ncase \"$*\" in *--edit-last*) exit 1 ;; esac\n", calls.display()))
        .expect("written");
    std::fs::set_permissions(&gh, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-e", "-o", "pipefail", "-c", script])
        .current_dir(workspace.dir.path())
        .env("PATH", path)
        .env("BASE", base)
        .env("HEAD", "HEAD")
        .env("PULL_REQUEST", "7")
        .env("ACCEPTED", accepted.to_string())
        .env("GITHUB_STEP_SUMMARY", workspace.path("summary.md"))
        .output()
        .expect("bash");
    (output, std::fs::read_to_string(calls).unwrap_or_default())
}

#[test]
fn the_workflow_of_the_documentation_comments_and_asks_for_the_label() {
    let workspace = repository();
    let base = git(&workspace, &["rev-parse", "HEAD"]);
    workspace.write_policy(WIDER);
    git(&workspace, &["commit", "-q", "-a", "-m", "Allow Slack"]);
    let (refused, calls) = run_workflow(&workspace, &base, false);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("label policy-wider"), "{}", stderr(&refused));
    assert!(calls.contains("pr comment 7 --body-file comment.md"), "{calls}");
    let comment = std::fs::read_to_string(workspace.path("comment.md")).expect("a comment");
    assert!(comment.contains("slack added to the allowlist (wider)"), "{comment}");
    assert_eq!(std::fs::read_to_string(workspace.path("summary.md")).expect("a summary"), comment);
    let (accepted, _) = run_workflow(&workspace, &base, true);
    assert!(accepted.status.success(), "{}", stderr(&accepted));
    let (narrower, _) = run_workflow(&workspace, "HEAD", false);
    assert!(narrower.status.success(), "{}", stderr(&narrower));
    let (broken, _) = run_workflow(&workspace, "no-such-commit", true);
    assert_eq!(broken.status.code(), Some(78), "{}", stderr(&broken));
    let gitlab: Value = serde_yaml::from_str(include_str!("../../docs/examples/policy-diff.gitlab.yaml")).expect("YAML");
    let script = gitlab["policy-diff"]["script"][0].as_str().expect("a script");
    let syntax = Command::new("bash").args(["-n", "-c", script]).output().expect("bash");
    assert!(syntax.status.success(), "{}", stderr(&syntax));
}
