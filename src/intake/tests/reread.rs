//! Reading fresh files again.

use super::folder::{folder, intent, put};
use crate::model::Timestamp;
use std::fs;
use std::sync::Arc;

#[test]
fn a_fresh_file_is_read_again_and_trusted_if_it_did_not_change() {
    let (_home, root, mut scanner) = folder();
    put(&root, "a.json", &intent("a"));
    let saved = fs::metadata(root.join("a.json")).and_then(|meta| meta.modified()).expect("a time");
    let since = saved.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let at = |later: i64| Timestamp(i64::try_from(since.as_millis()).expect("a time") + later);
    let first = scanner.scan(at(5));
    scanner.accept(&first);
    let fresh: Vec<Arc<str>> = first.fresh.clone();
    assert_eq!(fresh.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), vec!["a.json"]);
    let still = scanner.reread(&fresh, at(6)).expect("the same");
    assert_eq!((still.fresh.len(), still.changed.len()), (1, 0));
    scanner.accept(&still);
    let settled = scanner.reread(&fresh, at(40)).expect("the same");
    assert!(settled.fresh.is_empty() && settled.marks().count() == 1);
    scanner.accept(&settled);
    assert!(scanner.scan(at(40)).is_empty(), "it is known now");
    put(&root, "a.json", &intent("b"));
    assert!(scanner.reread(&fresh, at(40)).is_none(), "another content is for a scan");
    fs::remove_file(root.join("a.json")).expect("removed");
    assert!(scanner.reread(&fresh, at(40)).is_none(), "so is a file that is gone");
}
