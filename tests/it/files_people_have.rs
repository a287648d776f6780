//! The files that people have, through the daemon: what is read, what is said about it, and what is refused for which reason.

use crate::support::daemon::{Daemon, Workspace, intent};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::io::Write as _;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/files");

/// Copies the files of `tests/data/files` below the root of the policy.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write_policy("");
    let data = workspace.path("data");
    for entry in std::fs::read_dir(FILES).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), data.join(entry.file_name())).unwrap();
    }
    workspace
}

async fn push(daemon: &Daemon, workspace: &Workspace, name: &str) -> Value {
    daemon.push(&intent("filesource", &workspace.path("data").join(name).display().to_string())).await.body
}

fn warnings(body: &Value) -> String {
    let all = body["warnings"].as_array().into_iter().flatten();
    all.filter_map(|warning| warning["message"].as_str()).collect::<Vec<_>>().join(" | ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_have_becomes_active_and_a_guess_is_a_warning() {
    let workspace = workspace();
    let daemon = workspace.serve().await;
    for (name, rows, warning) in [
        ("json-named.csv", 2, "was read as JSON"),
        ("header-numbers.csv", 2, "was taken for the header"),
        ("sep.csv", 2, ""),
        ("comma-in-header.csv", 2, ""),
        ("open-quote.csv", 3, "a quote that is not closed"),
        ("nul.csv", 3, "NUL characters"),
        ("latin1-header.csv", 1, "guessed as windows-1252"),
        ("utf16-no-bom.csv", 1, "guessed as UTF-16LE"),
        ("1e400.json", 1, ""),
        ("deep.json", 1, ""),
        ("lone-surrogate.json", 1, ""),
        ("first-line-null.jsonl", 1, "1 of 2 values is not an object"),
        ("brotli.parquet", 3, ""),
        ("dict-page-offset-zero.parquet", 20, ""),
    ] {
        let body = push(&daemon, &workspace, name).await;
        assert_eq!((&body["status"], &body["first_sync_rows"]), (&"ACTIVE".into(), &rows.into()), "{name}: {body}");
        assert!(
            warnings(&body).contains(warning) && warnings(&body).is_empty() == warning.is_empty(),
            "{name}: {}",
            warnings(&body)
        );
    }
    for name in ["array-then-garbage.json", "two-arrays.json"] {
        let body = push(&daemon, &workspace, name).await;
        assert_eq!((&body["status"], &body["error"]["class"]), (&"ERROR".into(), &"remote".into()), "{name}: {body}");
        assert!(body["error"]["detail"].as_str().unwrap().contains("more text follows"), "{name}: {body}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn titles_and_damaged_ends_are_warnings() {
    let workspace = Workspace::new();
    workspace.write_policy("");
    let files = [
        ("title.csv", "Acme, Inc.\nid,name,amount\n1,a,2\n2,b,3\n3,c,4\n", 3, "1 line above the table was left out"),
        (
            "excel.csv",
            "Report,,\nGenerated,2024-01-01,\n,,\nid,name,amount\n1,a,2\n2,b,3\n",
            2,
            "3 lines above the table were left out",
        ),
        ("half.jsonl", "{\"a\":1}\n{\"a\":", 1, "the file ends inside the record of line 2"),
        ("comma.json", "[{\"a\":1},]", 1, "the array ends after a comma at line 1, column 9"),
    ];
    for (name, text, ..) in files {
        std::fs::write(workspace.path("data").join(name), text).unwrap();
    }
    let daemon = workspace.serve().await;
    for (name, _, rows, warning) in files {
        let body = push(&daemon, &workspace, name).await;
        assert_eq!((&body["status"], &body["first_sync_rows"]), (&"ACTIVE".into(), &rows.into()), "{name}: {body}");
        assert!(warnings(&body).contains(warning), "{name}: {}", warnings(&body));
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_active_only_if_something_in_it_can_be_read() {
    let workspace = Workspace::new();
    workspace.write_policy("");
    let data = workspace.path("data");
    for (name, bytes) in [
        ("zipped/x.csv.gz", gzip(b"id\n1\n2\n")),
        ("texts/readme.txt", b"hello".to_vec()),
        ("mixed/a.csv", b"id\n1\n".to_vec()),
        ("mixed/b.json", b"[{}] x".to_vec()),
    ] {
        let path = data.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::create_dir(data.join("empty")).unwrap();
    let daemon = workspace.serve().await;
    let zipped = push(&daemon, &workspace, "zipped/").await;
    assert_eq!((&zipped["status"], &zipped["first_sync_rows"]), (&"ACTIVE".into(), &2.into()), "{zipped}");
    let texts = push(&daemon, &workspace, "texts").await;
    assert_eq!(texts["status"], "ERROR", "{texts}");
    assert!(texts["error"]["title"].as_str().unwrap().ends_with("has 1 entry, but no file that aam can read"), "{texts}");
    let empty = push(&daemon, &workspace, "empty").await;
    assert!(empty["status"] == "ACTIVE" && warnings(&empty).ends_with("/empty is empty"), "{empty}");
    let mixed = push(&daemon, &workspace, "mixed").await;
    assert!(mixed["status"] == "ACTIVE" && warnings(&mixed).contains("have 1 warning"), "{mixed}");
    daemon.stop().await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
