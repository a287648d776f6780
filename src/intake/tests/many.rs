//! Scans across a restart and of many files, and `check`.

use super::folder::{LATER, changed, folder, gone, intent, put, scan};
use crate::intake::check::check;
use crate::intake::wire::Limits;
use crate::intake::{Mark, Scanner};
use std::fs;

#[test]
fn marks_survive_a_restart_and_bad_files_are_found_again() {
    let (_home, root, mut scanner) = folder();
    put(&root, "bad.json", "{");
    put(&root, "gone.json", &intent("x"));
    put(&root, "good.json", &intent("g"));
    let first = scan(&mut scanner);
    let stored: Vec<(String, Mark)> =
        first.marks().filter_map(|(path, mark)| mark.map(|mark| (path.to_string(), mark))).collect();
    assert_eq!(stored.len(), 3);
    fs::remove_file(root.join("gone.json")).expect("removed");
    let mut next = Scanner::from_marks(&root, Limits::default(), stored.clone());
    let after = scan(&mut next);
    assert_eq!((changed(&after), gone(&after)), (vec!["bad.json:  | 1".to_string()], vec!["gone.json"]));
    fs::remove_file(root.join("good.json")).expect("removed");
    fs::remove_file(root.join("bad.json")).expect("removed");
    let mut unmounted = Scanner::from_marks(&root, Limits::default(), stored);
    let empty = scan(&mut unmounted);
    let message = empty.folder.as_ref().map(|problem| problem.message.clone()).unwrap_or_default();
    assert!(message.contains("had 3 files when it was last read: it was emptied") && empty.gone.is_empty(), "{message}");
    put(&root, "none.json", "[]");
    assert_eq!(scan(&mut unmounted).gone.len(), 3);
}

#[test]
fn ten_thousand_files_come_in_batches_and_nothing_is_gone_meanwhile() {
    let (_home, root, _) = folder();
    let mut scanner = Scanner::new(&root, Limits::default()).batch(4000);
    for i in 0..10_000 {
        put(&root, &format!("{:02}/{i}.json", i % 50), &intent(&format!("r{i}")));
    }
    let mut sizes = Vec::new();
    loop {
        let part = scan(&mut scanner);
        assert_eq!((part.files, part.gone.len()), (10_000, 0));
        sizes.push(part.changed.len());
        if !part.more {
            break;
        }
    }
    assert_eq!(sizes, vec![4000, 4000, 2000]);
    assert!(scan(&mut scanner).is_empty());
    fs::rename(root.join("07"), root.join("seven")).expect("a rename");
    let moved = scan(&mut scanner);
    assert_eq!((moved.changed.len(), moved.gone.len()), (200, 200));
}

#[test]
fn check_finds_everything_that_is_wrong() {
    let (_home, root, _) = folder();
    put(&root, "a.json", &intent("a"));
    put(&root, "b/same.json", &intent("a").replace("\"low\"", "\"high\""));
    put(&root, "c.json", "[1, 2]");
    put(&root, "d.json", &intent("d").replace("\"risk_level\"", "\"note\": 1, \"risk_level\""));
    let checked = check(&root, Limits::default(), LATER);
    assert_eq!((checked.files, checked.intents.len(), checked.connections, checked.passed()), (4, 3, 2, false));
    assert_eq!(checked.problems.iter().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(), vec!["/0", "/1"]);
    assert_eq!(checked.warnings.len(), 2);
    assert!(checked.warnings[0].message.contains("described differently in"), "{:?}", checked.warnings);
    let missing = check(&root.join("nowhere"), Limits::default(), LATER);
    assert!(!missing.passed() && missing.problems.len() == 1);
}

#[test]
fn the_same_mistake_many_times_is_reported_a_bounded_number_of_times() {
    let (_home, root, mut scanner) = folder();
    put(&root, "a.json", &format!("[{}]", vec!["7"; 5000].join(",")));
    let first = scan(&mut scanner);
    assert_eq!(first.problems.len(), 201);
    assert!(first.problems.iter().any(|problem| problem.message.contains("4800 more")));
}
