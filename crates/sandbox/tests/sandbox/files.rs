//! Mistakes in vendors' files, and the files of this repository.

use crate::support::VENDOR;
use sandbox::config::{load_folder, parse};
use std::path::Path;

fn problems(text: &str) -> Vec<String> {
    match parse("v.yaml", text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

const SMALL: &str =
    "family: v\nsources: [x]\nchecked_by: [x]\nhosts: [v.test]\naccounts: {a: {}}\nroutes: [{path: /x, auth: none}]\n";

#[test]
fn the_file_of_these_tests_is_valid() {
    assert_eq!(problems(VENDOR), Vec::<String>::new());
    assert_eq!(problems(SMALL), Vec::<String>::new());
}

#[test]
fn all_problems_are_reported_with_their_places() {
    let text = "family: v
sources: [x]
checked_by: [x]
hosts: [v.test, '{x.test']
accounts: {a: {}}
credentials:
  - {name: one, kind: bearer, value: x, account: b}
  - {name: one, kind: bearer, value: y}
schemes: {bearer: {header: authorization, prefx: 'Bearer '}}
colour: red
routes:
  - path: /x
    answer: {a: '{{ 1 + }}'}
    list: {of: nothing, size: limit}
  - {path: x}
  - {path: /y, status: 900, named: strange}
";
    let found = problems(text);
    for (place, message) in [
        ("v.yaml:4:17", "a { is not closed"),
        ("v.yaml:7:", "accounts has no b"),
        ("v.yaml:8:5", "two credentials have the name \"one\""),
        ("v.yaml:9:43", "unknown key \"prefx\""),
        ("v.yaml:10:1", "unknown key \"colour\""),
        ("v.yaml:13:14", "not a valid template"),
        ("v.yaml:14:", "datasets has no nothing"),
        ("v.yaml:12:5", "query does not list the parameter limit"),
        ("v.yaml:15:6", "a path begins with /"),
        ("v.yaml:16:16", "from 200 to 599"),
        ("v.yaml:16:29", "answers has no strange"),
    ] {
        let is_there = found.iter().any(|problem| problem.starts_with(place) && problem.contains(message));
        assert!(is_there, "{place} {message} is not in {found:#?}");
    }
    assert_eq!(found.len(), 11, "{found:#?}");
}

#[test]
fn other_mistakes_are_found() {
    for (change, message) in [
        ("routes: {}", "expected a list"),
        ("moods: {odd: {answer: nothing}}", "answers has no nothing"),
        ("tokens: [{path: /t, grants: [x], issue: {kind: bearer}, answer: {}}]", "schemes has no kind bearer"),
        ("tokens: [{path: /t, issue: {kind: bearer}, answer: {}}]", "grants or authenticated_by is missing"),
        (
            "tokens: [{path: /t, grants: [x], client_authentication: [private_key_jwt], issue: {kind: b}, answer: {}}]",
            "need assertion",
        ),
        (
            "tokens: [{path: /t, grants: [x], dpop: sometimes, issue: {kind: b}, answer: {}}]",
            "dpop has to be none, optional or required",
        ),
        ("clients: [{id: a, key: mine}]", "is not a key of the sandbox"),
        ("schemes: {s: {header: a, assertion: {algorithms: [HS256]}}}", "HS256 is not one of"),
        ("schemes: {s: {oauth1: {realm: x, header: y}}}", "unknown key"),
        ("datasets: {d: {count: 1}}", "either count and item, or items"),
        ("answers: {a: {body: x}}", "the key status is missing"),
        ("headers: {'a b': x}", "is not a header name"),
        ("conformance: [x]", "expected a mapping"),
    ] {
        let key = change.split_once(':').unwrap().0;
        let others: String = SMALL.split_inclusive('\n').filter(|line| !line.starts_with(key)).collect();
        let found = problems(&format!("{others}{change}\n"));
        assert!(found.iter().any(|problem| problem.contains(message)), "{change}: {found:#?}");
    }
    assert!(problems("a: [").iter().any(|problem| problem.starts_with("v.yaml:") && problem.contains("not valid YAML")));
    assert!(problems("x").iter().any(|problem| problem.contains("expected a mapping")));
    assert!(problems("").iter().any(|problem| problem.contains("expected a mapping")));
}

#[test]
fn the_vendors_of_this_repository_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sandbox");
    match load_folder(&folder, &[]) {
        Ok(vendors) => assert!(vendors.iter().any(|vendor| vendor.family == "github")),
        Err(problems) => panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>()),
    }
    let one = load_folder(&folder, &["github".to_owned()]).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(one.len(), 1);
    assert!(load_folder(&folder, &["stranger".to_owned()]).is_err());
}
