//! Scans over real files.

use crate::intake::wire::Limits;
use crate::intake::{Scan, Scanner};
use crate::model::Timestamp;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Long after the modification time of every file in the tests, so that all times can be trusted.
pub(super) const LATER: Timestamp = Timestamp(i64::MAX / 2);

pub(super) fn intent(resource: &str) -> String {
    format!(
        r#"{{"source_type": "github", "resource_ids": ["{resource}"], "risk_level": "low",
            "evidence": {{"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"}},
            "owner": {{"user": "a@acme.example", "confidence": 1, "why": "admin"}}}}"#
    )
}

pub(super) fn folder() -> (TempDir, PathBuf, Scanner) {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("intents");
    fs::create_dir(&root).expect("a folder");
    let scanner = Scanner::new(&root, Limits::default());
    (home, root, scanner)
}

pub(super) fn put(root: &Path, path: &str, text: &str) {
    let full = root.join(path);
    fs::create_dir_all(full.parent().expect("a parent")).expect("a folder");
    fs::write(full, text).expect("a file");
}

/// Scans and accepts.
pub(super) fn scan(scanner: &mut Scanner) -> Scan {
    let scan = scanner.scan(LATER);
    scanner.accept(&scan);
    scan
}

/// `path: resources | number of problems` of every changed file.
pub(super) fn changed(scan: &Scan) -> Vec<String> {
    let resources = |report: &crate::intake::FileReport| {
        report.intents.iter().map(|(intent, _)| intent.resource_ids.join("+")).collect::<Vec<_>>().join(",")
    };
    scan.changed.iter().map(|report| format!("{}: {} | {}", report.path, resources(report), report.problems.len())).collect()
}

pub(super) fn gone(scan: &Scan) -> Vec<&str> {
    scan.gone.iter().map(AsRef::as_ref).collect()
}

#[test]
fn single_objects_arrays_and_sub_folders_are_read_once() {
    let (_home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    put(&root, "team/deep/b.json", &format!("[{},{}]", intent("b1"), intent("b2")));
    put(&root, "notes.txt", "no intent");
    put(&root, ".hidden.json", "no intent");
    put(&root, ".git/x.json", "no intent");
    let first = scan(&mut scanner);
    assert_eq!(changed(&first), vec!["a.json: a | 0", "team/deep/b.json: b1,b2 | 0"]);
    assert_eq!((first.files, first.problems.len(), first.folder.is_none(), first.more), (2, 0, true, false));
    let second = scan(&mut scanner);
    assert!(second.is_empty() && !second.needs_scan && second.files == 2);
}

#[test]
fn nothing_is_known_before_it_is_accepted() {
    let (_home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    assert_eq!(changed(&scanner.scan(LATER)), changed(&scanner.scan(LATER)));
    scan(&mut scanner);
    fs::remove_file(root.join("a.json")).expect("removed");
    put(&root, "b.json", &intent("b"));
    assert_eq!(gone(&scanner.scan(LATER)), vec!["a.json"]);
    assert_eq!(gone(&scan(&mut scanner)), vec!["a.json"]);
    assert!(scan(&mut scanner).is_empty());
}

#[test]
fn a_replaced_file_is_read_again_and_an_equal_one_is_not_reported() {
    let (_home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    scan(&mut scanner);
    put(&root, "a.json.tmp", &intent("b"));
    fs::rename(root.join("a.json.tmp"), root.join("a.json")).expect("a rename");
    assert_eq!(changed(&scan(&mut scanner)), vec!["a.json: b | 0"]);
    put(&root, "a.json.tmp", &intent("b"));
    fs::rename(root.join("a.json.tmp"), root.join("a.json")).expect("a rename");
    let same = scan(&mut scanner);
    assert!(same.changed.is_empty() && same.marks().count() == 1);
    assert!(scan(&mut scanner).is_empty());
}

#[test]
fn a_config_map_swap_is_followed() {
    let (_home, root, mut scanner) = folder();
    put(&root, "..2024_1/a.json", &intent("old"));
    put(&root, "..2024_1/b.json", &intent("b"));
    put(&root, "..2024_1/team/c.json", &intent("c"));
    symlink("..2024_1", root.join("..data")).expect("a link");
    for name in ["a.json", "b.json", "team"] {
        symlink(format!("..data/{name}"), root.join(name)).expect("a link");
    }
    assert_eq!(changed(&scan(&mut scanner)), vec!["a.json: old | 0", "b.json: b | 0", "team/c.json: c | 0"]);
    put(&root, "..2024_2/a.json", &intent("new"));
    put(&root, "..2024_2/team/c.json", &intent("c"));
    symlink("..2024_2", root.join("..data_tmp")).expect("a link");
    fs::rename(root.join("..data_tmp"), root.join("..data")).expect("the swap");
    fs::remove_dir_all(root.join("..2024_1")).expect("removed");
    let swapped = scan(&mut scanner);
    assert_eq!(changed(&swapped), vec!["a.json: new | 0", "b.json:  | 1"]);
    assert!(swapped.gone.is_empty(), "a link to nowhere is unreadable, not absent");
    fs::remove_file(root.join("b.json")).expect("removed");
    assert_eq!(gone(&scan(&mut scanner)), vec!["b.json"]);
}

#[test]
fn a_bad_file_costs_no_other_stays_visible_and_is_picked_up_once_fixed() {
    let (_home, root, mut scanner) = folder();
    put(&root, "bad.json", "{");
    put(&root, "good.json", &intent("g"));
    put(&root, "mixed.json", &format!("[{}, {{}}]", intent("m")));
    let first = scan(&mut scanner);
    assert_eq!(changed(&first), vec!["bad.json:  | 1", "good.json: g | 0", "mixed.json: m | 5"]);
    assert!(!first.changed[2].complete() && first.changed[1].complete());
    let second = scan(&mut scanner);
    assert!(second.is_empty());
    assert_eq!(second.problems, first.problems);
    put(&root, "bad.json", &intent("fixed"));
    let third = scan(&mut scanner);
    assert_eq!(changed(&third), vec!["bad.json: fixed | 0"]);
    assert_eq!(third.problems.len(), 5);
    put(&root, "good.json", "broken now");
    let fourth = scan(&mut scanner);
    assert!(fourth.gone.is_empty() && !fourth.changed[0].complete(), "kept, not gone");
    fs::remove_file(root.join("mixed.json")).expect("removed");
    let fifth = scan(&mut scanner);
    assert_eq!((gone(&fifth), fifth.problems.len()), (vec!["mixed.json"], 1));
}

#[test]
fn what_cannot_be_read_is_kept_and_reported_once() {
    let (_home, root, _) = folder();
    let mut scanner = Scanner::new(&root, Limits { bytes: 1000, ..Limits::default() });
    for name in ["folder.json", "link.json", "large.json"] {
        put(&root, name, &intent(name));
    }
    scan(&mut scanner);
    fs::remove_file(root.join("folder.json")).expect("removed");
    fs::create_dir(root.join("folder.json")).expect("a folder");
    fs::remove_file(root.join("link.json")).expect("removed");
    symlink("nowhere", root.join("link.json")).expect("a link");
    put(&root, "large.json", &" ".repeat(1001));
    let held = scan(&mut scanner);
    assert_eq!(changed(&held), vec!["folder.json:  | 1", "large.json:  | 1", "link.json:  | 1"]);
    assert!(held.gone.is_empty());
    let again = scan(&mut scanner);
    assert!(again.is_empty() && again.problems.len() == 3);
    let text: String =
        again.problems.iter().map(|problem| problem.to_string().replace(&root.display().to_string(), "intents") + "\n").collect();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("intake_unreadable_files", text);
    });
    fs::remove_dir(root.join("folder.json")).expect("removed");
    put(&root, "folder.json", &intent("folder.json"));
    assert_eq!(changed(&scan(&mut scanner)), vec!["folder.json: folder.json | 0"], "also with the content of before");
}

#[test]
fn pipes_are_never_opened() {
    let (_home, root, mut scanner) = folder();
    let path = root.join("pipe.json");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("a pipe");
    symlink("pipe.json", root.join("link.json")).expect("a link");
    // A blocking open would wait for a writer forever. `read` refuses a pipe even if the listing did not.
    assert_eq!(changed(&scan(&mut scanner)), vec!["link.json:  | 1", "pipe.json:  | 1"]);
    assert!(crate::intake::read::read(&path, &Limits::default()).is_err_and(|why| why.contains("not a regular file")));
}

#[test]
fn a_folder_that_vanishes_withdraws_nothing_and_is_followed_when_it_returns() {
    let (home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    put(&root, "b.json", &intent("b"));
    scan(&mut scanner);
    fs::rename(&root, home.path().join("away")).expect("a rename");
    let away = scan(&mut scanner);
    assert!(away.folder.is_some() && away.is_empty() && away.problems.len() == 1);
    fs::create_dir(&root).expect("an empty mount point");
    let empty = scan(&mut scanner);
    assert!(empty.folder.is_some() && empty.gone.is_empty(), "another, empty folder is a lost mount");
    put(&root, "a.json", &intent("a"));
    put(&root, "c.json", &intent("c"));
    let back = scan(&mut scanner);
    assert_eq!((changed(&back), gone(&back)), (vec!["c.json: c | 0".to_string()], vec!["b.json"]));
    assert!(back.folder.is_none() && back.problems.is_empty());
    fs::remove_file(root.join("a.json")).expect("removed");
    fs::remove_file(root.join("c.json")).expect("removed");
    assert_eq!(gone(&scan(&mut scanner)), vec!["a.json", "c.json"], "the last files of a known folder may go");
}

#[test]
fn a_sub_folder_that_goes_takes_its_files_and_one_that_cannot_be_listed_does_not() {
    let (_home, root, mut scanner) = folder();
    let store = root.join(".store");
    put(&store, "elsewhere/a.json", &intent("a"));
    symlink(store.join("elsewhere"), root.join("linked")).expect("a link");
    put(&root, "plain/b.json", &intent("b"));
    assert_eq!(changed(&scan(&mut scanner)), vec!["linked/a.json: a | 0", "plain/b.json: b | 0"]);
    fs::rename(store.join("elsewhere"), store.join("away")).expect("a rename");
    fs::remove_dir_all(root.join("plain")).expect("removed");
    let broken = scan(&mut scanner);
    assert_eq!(gone(&broken), vec!["plain/b.json"]);
    assert!(broken.problems[0].message.contains("link to a folder that does not exist"), "{:?}", broken.problems);
    fs::rename(store.join("away"), store.join("elsewhere")).expect("a rename");
    let back = scan(&mut scanner);
    assert!(back.changed.is_empty() && back.gone.is_empty() && back.problems.is_empty());
    fs::remove_file(root.join("linked")).expect("removed");
    assert_eq!(gone(&scan(&mut scanner)), vec!["linked/a.json"]);
}

#[test]
fn circles_of_links_end_and_real_folders_win() {
    let (_home, root, mut scanner) = folder();
    put(&root, "z/a.json", &intent("a"));
    symlink("..", root.join("z/up")).expect("a link");
    symlink("z", root.join("alias")).expect("a link");
    symlink("self", root.join("self")).expect("a link");
    symlink("self.json", root.join("self.json")).expect("a link");
    let first = scan(&mut scanner);
    assert_eq!(changed(&first), vec!["self.json:  | 1", "z/a.json: a | 0"]);
    assert!(scan(&mut scanner).is_empty());
}

#[test]
fn a_fresh_file_is_read_again_until_its_time_can_be_trusted() {
    let (_home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    let saved = fs::metadata(root.join("a.json")).and_then(|meta| meta.modified()).expect("a time");
    let ms = saved
        .duration_since(std::time::UNIX_EPOCH)
        .map(|since| i64::try_from(since.as_millis()).unwrap_or(0))
        .expect("after 1970");
    let first = scanner.scan(Timestamp(ms + 10));
    scanner.accept(&first);
    assert!(first.needs_scan && first.changed.len() == 1);
    // The size and the time are the same; only the content differs.
    put(&root, "a.json", &intent("b"));
    fs::File::options().write(true).open(root.join("a.json")).and_then(|file| file.set_modified(saved)).expect("a time");
    let second = scanner.scan(Timestamp(ms + 30));
    scanner.accept(&second);
    assert_eq!((changed(&second), second.needs_scan), (vec!["a.json: b | 0".to_string()], false));
    assert!(scanner.scan(Timestamp(ms + 30)).is_empty());
}
