//! Archive files that are missing, or have something else in their place: everything that is not in them is shown, one sentence says
//! what is not, and its fix brings it back. A copy that lacks one does not look like a whole one.

use crate::archives::{archived, files, number};
use crate::calls::calls;
use crate::operator_files::make_fifo;
use crate::support::daemon::{Workspace, page_paths, stderr, stdout, until};
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

/// The JSON that a command printed, whatever its exit code.
fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {}{}", stdout(output), stderr(output)))
}

fn name(file: &Path) -> String {
    file.file_name().expect("a name").to_string_lossy().into_owned()
}

/// The id of a connection of the registry.
fn connection(workspace: &Workspace) -> String {
    let listed = json(&workspace.run(&["status", "--format", "json"]));
    listed[0]["connection_id"].as_str().expect("an id").to_string()
}

/// Does what the first fix in `text` says, with the files of the backup `backup`.
fn follow(workspace: &Workspace, text: &str, backup: &str) {
    let fix = text.split_once("; fix: ").and_then(|(_, fix)| fix.lines().next()).expect(text);
    let place = |part: &str| workspace.path(part.trim());
    if let Some((_, rest)) = fix.split_once("create the folder ")
        && let Some((folder, _)) = rest.split_once(", then copy")
    {
        std::fs::create_dir(place(folder)).expect(text);
    }
    if let Some((_, rest)) = fix.split_once("remove ")
        && let Some((folder, _)) = rest.split_once(", create a folder with this name, then copy")
    {
        std::fs::remove_file(place(folder)).expect(text);
        std::fs::create_dir(place(folder)).expect(text);
    } else if let Some((_, rest)) = fix.split_once("remove ")
        && let Some((file, _)) = rest.split_once(", then copy")
    {
        let file = place(file);
        if file.is_dir() { std::fs::remove_dir(file).expect(text) } else { std::fs::remove_file(file).expect(text) }
    }
    let (_, copy) = fix.split_once("copy ").expect(text);
    let (name, rest) = copy.split_once(" from the folder NAME.archive beside a backup to ").expect(text);
    let (to, _) = rest.split_once(';').expect(text);
    std::fs::copy(workspace.path(&format!("{backup}.archive/{name}")), place(to)).expect(text);
}

/// A backup of the registry before anything is missing.
fn back_up(workspace: &Workspace) {
    let written = workspace.run(&["backup", "good.db"]);
    assert!(written.status.success(), "{}", stderr(&written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_of_step_reports_hides_only_the_reports_in_it() {
    let (workspace, _, _) = archived().await;
    back_up(&workspace);
    let id = connection(&workspace);
    let status = || workspace.run(&["status", &id, "--format", "json"]);
    let before = status();
    assert!(before.status.success(), "{}", stderr(&before));
    let before = json(&before);
    assert!(before["steps"].as_array().is_some_and(|steps| steps.len() == 7) && before["missing_files"].is_null(), "{before}");
    let daemon = workspace.serve().await;
    let versions = daemon.get(&format!("/connections/{id}/versions?limit=1000")).await.body;
    assert!(versions["missing_files"].is_null(), "{versions}");
    let missing = files(&workspace, "steps-");
    let first = name(&missing[0]);
    let day = first.strip_prefix("steps-").and_then(|rest| rest.get(..10)).expect("a day").to_string();
    missing.iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
    let sentence = format!("{first} is missing, so its step reports of {day} (UTC) are not shown");

    // The command shows the rest, says what is missing, and fails.
    let lacking = status();
    assert_eq!(lacking.status.code(), Some(1), "{}", stdout(&lacking));
    assert!(stderr(&lacking).contains(&sentence), "{}", stderr(&lacking));
    let shown = json(&lacking);
    assert!(shown["steps"].as_array().is_some_and(Vec::is_empty), "{shown}");
    for part in ["status", "intent", "history", "connection_id"] {
        assert_eq!(shown[part], before[part], "{part}");
    }
    let file = &shown["missing_files"][0];
    assert_eq!(file["since"], format!("{day}T00:00:00.000Z"), "{file}");
    assert!(file["file"].as_str().is_some_and(|path| path.ends_with(&first)), "{file}");
    let text = workspace.run(&["status", &id]);
    assert!(text.status.code() == Some(1) && stdout(&text).starts_with("+ ACTIVE"), "{}", stdout(&text));
    assert!(workspace.run(&["status"]).status.success(), "the list does not need the file");
    let privileges = workspace.run(&["privileges", "--verdict", "ok,unknown,not_checked,over", "--json"]);
    assert_eq!(privileges.status.code(), Some(1), "{}", stdout(&privileges));
    assert!(json(&privileges)["missing_files"][0]["message"].as_str().is_some_and(|text| text.contains(&sentence)));

    // So do the API and the page.
    let path = format!("/connections/{id}");
    until("the answer names the file", || async {
        let answer = daemon.get(&path).await;
        let text = answer.body.to_string();
        (answer.body["missing_files"][0]["message"].as_str().is_some_and(|message| message.contains(&sentence)), text)
    })
    .await;
    let answer = daemon.get(&path).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &Value::from("ACTIVE")), "{}", answer.body);
    assert_eq!(daemon.get(&format!("{path}/calls")).await.status, 200);
    let lacking = daemon.get(&format!("{path}/versions?limit=1000")).await;
    assert_eq!(lacking.status, 200, "{}", lacking.body);
    let pairs = versions["versions"].as_array().expect("a list").iter().zip(lacking.body["versions"].as_array().expect("a list"));
    let mut hidden = 0;
    for (whole, shown) in pairs {
        assert_eq!((&whole["seq"], &whole["facts"]), (&shown["seq"], &shown["facts"]));
        match shown["missing_file"].is_null() {
            true => assert_eq!(whole["body"], shown["body"]),
            false => hidden += usize::from(shown["body"].is_null() && !whole["body"].is_null()),
        }
    }
    assert!(hidden > 0, "{}", lacking.body);
    assert!(lacking.body["missing_files"][0]["message"].as_str().is_some_and(|text| text.contains(&sentence)));
    let listed = daemon.get("/privileges?verdict=ok,unknown,not_checked,over").await;
    assert!(listed.status == 200 && listed.body["missing_files"].is_array(), "{}", listed.body);
    let mut says = false;
    for page in page_paths(std::slice::from_ref(&id)) {
        let answer = daemon.get(&page).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.body);
        says |= page.contains(&id) && answer.body.to_string().contains(&sentence);
    }
    assert!(says, "the page of the connection names the file");

    // What the fix says brings it back.
    for _ in &missing {
        follow(&workspace, &stderr(&workspace.run(&["verify"])), "good.db");
    }
    until("the answer is whole again", || async {
        let body = daemon.get(&path).await.body;
        (body["missing_files"].is_null() && body["steps"].as_array().is_some_and(|steps| steps.len() == 7), body.to_string())
    })
    .await;
    daemon.stop().await;
    assert!(status().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_of_calls_hides_only_the_calls_in_it() {
    let (workspace, recorded, _) = archived().await;
    back_up(&workspace);
    let all = calls(&workspace, &[]).len();
    let missing = files(&workspace, "calls-");
    missing.iter().for_each(|file| std::fs::remove_file(file).expect("removed"));
    let list = |options: &[&str]| workspace.run(&[&["calls", "--json", "--limit", "10000"], options].concat());
    let lacking = list(&[]);
    let text = stderr(&lacking);
    assert_eq!(lacking.status.code(), Some(1), "{text}");
    let left = number(&workspace, "SELECT count(*) FROM call_rows");
    assert_eq!(json(&lacking).as_array().map(Vec::len), usize::try_from(left).ok(), "what the registry holds is listed");
    for file in &missing {
        assert!(text.contains(&format!("{} is missing, so its calls of ", name(file))), "{text}");
    }
    assert!(text.contains("; fix: copy calls-"), "{text}");
    // A period that does not need the file is complete.
    let recent = list(&["--since", "3d"]);
    assert!(recent.status.success() && !stderr(&recent).contains("missing"), "{}", stderr(&recent));
    assert!(list(&["--until", "30d"]).status.success(), "everything in the file is later");
    // Evidence that needs the file is not written, and leaves nothing behind.
    let bundle = |since: &str| workspace.run(&["evidence", "--since", since, "--out", "bundle"]);
    let refused = bundle("30d");
    assert!(
        refused.status.code() == Some(1) && stderr(&refused).contains("is missing; fix: copy calls-"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(list(&["--until", "3d"]).status.code(), Some(1));
    for _ in &missing {
        follow(&workspace, &stderr(&list(&[])), "good.db");
    }
    let written = bundle("30d");
    assert!(written.status.success(), "{}", stderr(&written));
    assert_eq!(calls(&workspace, &[]).len(), all);
    assert_eq!(calls(&workspace, &["--until", "3d"]).len(), recorded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_lacks_a_file_is_neither_written_nor_restored_unless_that_is_asked_for() {
    let (workspace, _, _) = archived().await;
    back_up(&workspace);
    let head = json(&workspace.run(&["verify", "--format", "json"]))["head"].clone();
    let file = files(&workspace, "steps-").remove(0);
    std::fs::remove_file(&file).expect("removed");
    let refused = workspace.run(&["backup", "copy.db"]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(
        text.contains("no backup was written") && text.contains(&name(&file)) && text.contains("aam backup --incomplete"),
        "{text}"
    );
    for left in ["copy.db", "copy.db.partial", "copy.db.archive"] {
        assert!(!workspace.path(left).exists(), "{left}");
    }
    // What is left can be saved.
    let saved = workspace.run(&["backup", "--incomplete", "copy.db"]);
    assert!(saved.status.success(), "{}", stderr(&saved));
    assert!(stdout(&saved).contains(&format!("missing: the archive file {}", file.display())), "{}", stdout(&saved));
    // It is not restored by mistake.
    let refused = workspace.run(&["restore", "copy.db"]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("the registry was not changed") && text.contains(&name(&file)), "{text}");
    let mut beside = std::fs::read_dir(workspace.path("var")).expect("a folder").flatten();
    assert!(!beside.any(|entry| entry.file_name().to_string_lossy().contains("replaced")), "nothing was put aside");
    let restored = workspace.run(&["restore", "--incomplete", "copy.db"]);
    assert!(restored.status.success() && stdout(&restored).contains("missing: the archive file"), "{}", stderr(&restored));
    assert_eq!(workspace.run(&["verify"]).status.code(), Some(1));
    // The fix makes the backup whole, and so the registry.
    follow(&workspace, &text, "good.db");
    let restored = workspace.run(&["restore", "copy.db"]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    let verified = workspace.run(&["verify", "--format", "json"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
    assert_eq!(json(&verified)["head"], head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_came_alone_needs_the_files_beside_the_registry() {
    let (workspace, _, _) = archived().await;
    back_up(&workspace);
    let streamed = workspace.run(&["backup", "-"]);
    assert!(streamed.status.success(), "{}", stderr(&streamed));
    std::fs::write(workspace.path("alone.db"), &streamed.stdout).expect("written");
    let count = files(&workspace, "").len();
    std::fs::remove_dir_all(workspace.path("var")).expect("lost");
    let restore = || {
        let mut command = workspace.command(&["restore", "-"]);
        command.stdin(std::fs::File::open(workspace.path("alone.db")).expect("a copy"));
        command.output().expect("runs")
    };
    let refused = restore();
    assert_eq!(refused.status.code(), Some(1), "{}", stdout(&refused));
    assert!(!workspace.path("var/aam.db").exists());
    for _ in 0..count {
        follow(&workspace, &stderr(&restore()), "good.db");
    }
    let restored = restore();
    assert!(restored.status.success(), "{}", stderr(&restored));
    assert!(workspace.run(&["verify"]).status.success());
}

/// Puts something that is not a file in the place of `file`.
fn replace(file: &Path, kind: &str) -> Option<std::os::unix::net::UnixListener> {
    std::fs::remove_file(file).expect("removed");
    match kind {
        "fifo" => make_fifo(file),
        "folder" => std::fs::create_dir(file).expect("a folder"),
        "device" => std::os::unix::fs::symlink("/dev/zero", file).expect("a link"),
        _ => return Some(std::os::unix::net::UnixListener::bind(file).expect("a socket")),
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_regular_file_is_refused_at_once() {
    let (workspace, _, _) = archived().await;
    back_up(&workspace);
    let id = connection(&workspace);
    for (kind, why) in [
        ("fifo", "it is not a regular file"),
        ("folder", "it is a folder, not a file"),
        ("device", "it is not a regular file"),
        ("socket", "it is not a regular file"),
    ] {
        for (what, commands) in [
            ("steps-", [&["verify"][..], &["backup", "copy.db"], &["status", id.as_str()]]),
            ("calls-", [&["verify"][..], &["backup", "copy.db"], &["calls"]]),
        ] {
            let file = files(&workspace, what).remove(0);
            let _open = replace(&file, kind);
            let mut text = String::new();
            for command in commands {
                let started = Instant::now();
                let output = workspace.run(command);
                assert!(started.elapsed() < Duration::from_secs(20), "{kind}: {command:?}");
                text = stderr(&output);
                assert_eq!(output.status.code(), Some(1), "{kind}: {command:?}: {text}");
                assert!(text.contains(&name(&file)) && text.contains(why), "{kind}: {command:?}: {text}");
            }
            follow(&workspace, &text, "good.db");
            let verified = workspace.run(&["verify"]);
            assert!(verified.status.success(), "{kind}: {}", stderr(&verified));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_place_of_the_folder_is_replaced() {
    let (workspace, _, _) = archived().await;
    back_up(&workspace);
    let count = files(&workspace, "").len();
    for kind in ["fifo", "file", "dead link"] {
        let folder = workspace.path("var/aam.db.archive");
        std::fs::remove_dir_all(&folder).expect("lost");
        match kind {
            "fifo" => make_fifo(&folder),
            "file" => std::fs::write(&folder, "").expect("a file"),
            _ => std::os::unix::fs::symlink("nowhere", &folder).expect("a link"),
        }
        for _ in 0..count {
            let verified = workspace.run(&["verify"]);
            assert_eq!(verified.status.code(), Some(1), "{kind}: {}", stdout(&verified));
            follow(&workspace, &stderr(&verified), "good.db");
        }
        let verified = workspace.run(&["verify"]);
        assert!(verified.status.success(), "{kind}: {}", stderr(&verified));
    }
}
