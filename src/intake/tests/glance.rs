//! Looking at new names first, and at young files again.

use super::folder::{LATER, changed, folder, gone, intent, put, scan};
use crate::model::Timestamp;
use std::fs;
use std::sync::Arc;

#[test]
fn a_glance_finds_new_and_replaced_files_and_leaves_the_rest_to_a_scan() {
    let (home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    put(&root, "team/b.json", &intent("b"));
    put(&root, "gone.json", &intent("gone"));
    put(&root, "bad.json", "{");
    scan(&mut scanner);
    assert!(scanner.glance(LATER).is_none(), "nothing is new, and a bad file is no news");
    put(&root, "a.json", &intent("a-in-place"));
    fs::remove_file(root.join("gone.json")).expect("removed");
    assert!(scanner.glance(LATER).is_none(), "no new name");
    put(&root, "team/c.json", &intent("c"));
    put(home.path(), "whole", &intent("b2"));
    fs::rename(home.path().join("whole"), root.join("team/b.json")).expect("renamed over");
    let new = scanner.glance(LATER).expect("new files");
    assert_eq!(changed(&new), vec!["team/b.json: b2 | 0", "team/c.json: c | 0"]);
    assert!(new.gone.is_empty() && new.look_again);
    assert_eq!(new.problems.len(), 1, "the bad file is still told");
    scanner.accept(&new);
    assert!(scanner.glance(LATER).is_none());
    let rest = scan(&mut scanner);
    assert_eq!((changed(&rest), gone(&rest)), (vec!["a.json: a-in-place | 0".to_string()], vec!["gone.json"]));
}

#[test]
fn a_glance_that_was_not_accepted_finds_the_same_again() {
    let (_home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    let first = scanner.glance(LATER).map(|new| changed(&new));
    assert_eq!(first, scanner.glance(LATER).map(|new| changed(&new)));
    assert!(first.is_some());
}

#[test]
fn a_young_file_is_read_again_and_trusted_when_it_stayed_as_it_was() {
    let (_home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    let saved = fs::metadata(root.join("a.json")).and_then(|meta| meta.modified()).expect("a time");
    let since = saved.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let at = |later: i64| Timestamp(i64::try_from(since.as_millis()).expect("a time") + later);
    let first = scanner.scan(at(5));
    scanner.accept(&first);
    let young: Vec<Arc<str>> = first.fresh.clone();
    assert_eq!(young.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), vec!["a.json"]);
    let still = scanner.reread(&young, at(6)).expect("the same");
    assert_eq!((still.fresh.len(), still.changed.len()), (1, 0));
    scanner.accept(&still);
    let settled = scanner.reread(&young, at(40)).expect("the same");
    assert!(settled.fresh.is_empty() && settled.marks().count() == 1);
    scanner.accept(&settled);
    assert!(scanner.scan(at(40)).is_empty(), "it is known now");
    put(&root, "a.json", &intent("b"));
    assert!(scanner.reread(&young, at(40)).is_none(), "another content is for a scan");
    fs::remove_file(root.join("a.json")).expect("removed");
    assert!(scanner.reread(&young, at(40)).is_none(), "so is a file that is gone");
}
