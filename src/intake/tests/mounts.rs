//! Sub-folders that are not the same as before, links out of the folder, and names.

use super::folder::{LATER, changed, folder, gone, intent, put, scan};
use crate::intake::wire::Limits;
use crate::intake::{Mark, Scanner, listing};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn a_sub_folder_that_lost_its_mount_withdraws_nothing_also_after_a_restart() {
    let (_home, root, mut scanner) = folder();
    put(&root, "team/a.json", &intent("a"));
    put(&root, "team/deep/b.json", &intent("b"));
    put(&root, "c.json", &intent("c"));
    let first = scan(&mut scanner);
    let marks: Vec<(String, Mark)> = first.marks().filter_map(|(path, mark)| Some((path.to_string(), mark?))).collect();
    assert!(scan(&mut scanner).is_empty(), "an unchanged folder is not reported again");
    // The folder below a mount point is another folder, and it is empty.
    fs::rename(root.join("team"), root.join(".away")).expect("a rename");
    fs::create_dir(root.join("team")).expect("an empty mount point");
    let mut restarted = Scanner::from_marks(&root, Limits::default(), marks);
    for scanner in [&mut scanner, &mut restarted] {
        for _ in 0..3 {
            let lost = scan(scanner);
            assert!(lost.gone.is_empty() && lost.folder.is_none(), "{:?}", lost.gone);
            assert_eq!(lost.problems.len(), 1, "{:?}", lost.problems);
            assert!(lost.problems[0].message.contains("which had 2 files"), "{:?}", lost.problems);
        }
    }
    put(&root, "d.json", &intent("d"));
    fs::remove_file(root.join("c.json")).expect("removed");
    let others = scan(&mut scanner);
    assert_eq!((changed(&others), gone(&others)), (vec!["d.json: d | 0".to_string()], vec!["c.json"]), "other files go on");
    // The fix of the problem works: a file says that the folder is meant to be empty.
    put(&root, "team/none.json", "[]");
    let emptied = scan(&mut scanner);
    assert_eq!((gone(&emptied), emptied.problems.len()), (vec!["team/a.json", "team/deep/b.json"], 0));
    // So does removing the folder.
    fs::remove_dir(root.join("team")).or_else(|_| fs::remove_dir_all(root.join("team"))).expect("removed");
    assert_eq!(gone(&scan(&mut restarted)), vec!["c.json", "team/a.json", "team/deep/b.json"]);
}

#[test]
fn a_mount_that_comes_back_clears_its_problem() {
    let (_home, root, mut scanner) = folder();
    put(&root, "team/a.json", &intent("a"));
    put(&root, "team/b.json", &intent("b"));
    scan(&mut scanner);
    fs::rename(root.join("team"), root.join(".away")).expect("a rename");
    fs::create_dir(root.join("team")).expect("an empty mount point");
    assert_eq!(scan(&mut scanner).problems.len(), 1);
    fs::remove_dir(root.join("team")).expect("removed");
    fs::rename(root.join(".away"), root.join("team")).expect("a rename");
    let back = scan(&mut scanner);
    assert!(back.gone.is_empty() && back.problems.is_empty() && back.changed.is_empty(), "{back:?}");
    // A known folder may lose its last file.
    fs::remove_file(root.join("team/a.json")).expect("removed");
    fs::remove_file(root.join("team/b.json")).expect("removed");
    assert_eq!(gone(&scan(&mut scanner)), vec!["team/a.json", "team/b.json"]);
}

#[test]
fn a_link_out_of_the_folder_is_reported_and_not_followed() {
    let (home, root, mut scanner) = folder();
    put(home.path(), "elsewhere/a.json", &intent("a"));
    put(home.path(), "file.json", &intent("f"));
    put(&root, "b.json", &intent("b"));
    symlink("/", root.join("everything")).expect("a link");
    symlink(home.path().join("elsewhere"), root.join("linked")).expect("a link");
    symlink("..", root.join("up")).expect("a link");
    symlink(home.path().join("file.json"), root.join("file.json")).expect("a link");
    let first = scan(&mut scanner);
    assert_eq!(changed(&first), vec!["b.json: b | 0", "file.json: f | 0"], "a link to one file is followed");
    let texts: Vec<String> = first.problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts.iter().all(|text| text.contains("outside the intents folder")), "{texts:?}");
}

#[test]
fn a_folder_with_too_many_entries_is_reported_and_withdraws_nothing() {
    let (_home, root, _) = folder();
    for number in 0..10 {
        put(&root, &format!("sub/{number}.json"), &intent("a"));
    }
    let mut seen = 0;
    let listing = listing::list_up_to(5, &root, &mut |_, _| seen += 1);
    assert!(seen <= 5 && listing.may_hide("sub/9.json"), "{seen}");
    assert!(listing.folder.is_some_and(|problem| problem.message.contains("more than 5 files and folders")));
}

#[test]
fn every_spelling_of_a_suffix_is_read_and_what_is_ignored_is_named() {
    let (_home, root, mut scanner) = folder();
    put(&root, "A.JSON", &intent("upper"));
    put(
        &root,
        "b.Yaml",
        "source_type: github\nresource_ids: [yaml]\nrisk_level: low\nevidence: {status: Sanctioned, source: IdP, ts: 2026-11-08T18:00:00Z}\nowner: {user: a@acme.example, confidence: 1, why: admin}\n",
    );
    put(&root, "c.yml", "- source_type: github\n");
    for name in ["a.json~", "#a.json#", "notes.txt", ".a.json.swp", "sub/readme.md", "..data/x.json"] {
        put(&root, name, "ignored");
    }
    let first = scanner.scan(LATER);
    assert_eq!(changed(&first), vec!["A.JSON: upper | 0", "b.Yaml: yaml | 0", "c.yml:  | 4"]);
    assert!(first.problems.iter().all(|problem| problem.place.is_some()), "{:?}", first.problems);
    let names = ["#a.json#", ".a.json.swp", "a.json~", "notes.txt", "sub/readme.md"].map(str::to_string);
    assert_eq!(first.ignored, (names.to_vec(), 5));
}

#[test]
fn an_intent_of_the_namespace_demo_is_a_problem_that_hides_nothing() {
    let (_home, root, mut scanner) = folder();
    let demo = intent("d").replace("\"risk_level\"", "\"namespace\": \"demo\", \"risk_level\"");
    put(&root, "a.json", &format!("[{},\n{demo}]", intent("a")));
    let first = scan(&mut scanner);
    assert_eq!(changed(&first), vec!["a.json: a | 1"]);
    assert!(first.changed[0].complete(), "the other intents of the file may be withdrawn");
    let problem = first.problems[0].to_string();
    assert!(problem.contains("a.json") && problem.contains("/1/namespace") && problem.contains("sealed"), "{problem}");
    assert!(first.marks().any(|(path, mark)| &**path == "a.json" && mark == Some(Mark::NONE)), "a restart reports it again");
    assert_eq!(scan(&mut scanner).problems.len(), 1);
}
