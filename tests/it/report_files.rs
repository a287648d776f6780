//! `aam report` as one page in a file.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_report_is_one_page_in_a_file_that_only_its_owner_reads() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    workspace.intent_file("b.json", &intent("filesource", &workspace.path("data/<absent>.csv").display().to_string()));
    workspace.run(&["once"]);
    for (format, start) in [("svg", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns="), ("html", "<!DOCTYPE html><html")]
    {
        let path = workspace.path(&format!("report.{format}"));
        let output = workspace.run(&["report", "--format", format, "--out", &path.display().to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output), format!("the report is in {}\n", path.display()));
        let file = std::fs::read_to_string(&path).expect("the report");
        assert!(file.starts_with(start), "{file}");
        for shown in ["50 % connected", "target 90 % · 1 more connection needed", "Trend over 7 days", "Blockers"] {
            assert!(file.contains(shown), "{shown} is not in {file}");
        }
        assert!(!file.contains("<absent>") && !file.contains("<script"), "{file}");
        let mode = std::fs::metadata(&path).expect("the report").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let printed = stdout(&workspace.run(&["report", "--format", "svg", "--at", "2020-01-01T00:00:00Z"]));
    assert!(printed.contains("Nothing received yet") && printed.contains("2020-01-01 00:00:00 UTC"), "{printed}");
}

#[test]
fn text_and_json_can_be_written_too_and_a_file_that_cannot_be_written_is_named() {
    let workspace = Workspace::new();
    workspace.run(&["once"]);
    let path = workspace.path("report.txt").display().to_string();
    let printed = stdout(&workspace.run(&["report"]));
    workspace.run(&["report", "--out", &path]);
    assert_eq!(std::fs::read_to_string(&path).expect("the report"), printed);
    workspace.run(&["report", "--format", "json", "--out", &path]);
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("the report")).expect("JSON");
    assert_eq!(json["received"], 0);
    let absent = workspace.path("absent/report.svg").display().to_string();
    let output = workspace.run(&["report", "--format", "svg", "--out", &absent]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&absent) && stderr(&output).contains("--out"), "{}", stderr(&output));
    assert_eq!(workspace.run(&["report", "--format", "pdf"]).status.code(), Some(64));
    assert_eq!(workspace.run(&["status", "--format", "svg"]).status.code(), Some(64), "only aam report writes SVG");
}
