use super::*;
use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::rawdoc;
use proptest::prelude::*;

fn verdict(document: &RawDocumentBuf) -> Privilege {
    Status::parse(document).unwrap().verdict()
}

/// What MongoDB 7.0 reports for the role `read` on one database.
fn reader() -> RawDocumentBuf {
    rawdoc! { "authInfo": {
        "authenticatedUsers": [ { "user": "reader", "db": "admin" } ],
        "authenticatedUserRoles": [ { "role": "read", "db": "shop" } ],
        "authenticatedUserPrivileges": [
            { "resource": { "db": "shop", "collection": "" }, "actions": [ "changeStream", "collStats", "dbHash", "dbStats", "find",
                "killCursors", "listCollections", "listIndexes", "listSearchIndexes", "planCacheRead" ] },
            { "resource": { "db": "shop", "collection": "system.js" }, "actions": [ "changeStream", "collStats", "dbHash", "dbStats", "find",
                "killCursors", "listCollections", "listIndexes", "listSearchIndexes", "planCacheRead" ] },
        ],
    } }
}

#[test]
fn a_reader_is_ok_and_reads_its_database_only() {
    let status = Status::parse(&reader()).unwrap();
    assert_eq!(status.verdict(), Privilege::Ok);
    assert_eq!((status.reads("shop"), status.reads("hr")), (Some(true), Some(false)));
    assert_eq!(status.users, [Named { name: "reader".to_string(), database: "admin".to_string() }]);
}

#[test]
fn excess_is_named_with_its_role_and_actions() {
    let document = rawdoc! { "authInfo": {
        "authenticatedUsers": [ { "user": "w", "db": "admin" } ],
        "authenticatedUserRoles": [ { "role": "readWrite", "db": "shop" } ],
        "authenticatedUserPrivileges": [
            { "resource": { "db": "shop", "collection": "" }, "actions": [ "find", "insert", "remove", "update", "dropCollection" ] },
            { "resource": { "cluster": true }, "actions": [ "serverStatus", "shutdown" ] },
            { "resource": { "anyResource": true }, "actions": [ "anyAction" ] },
        ],
    } };
    let Privilege::Over { grants } = verdict(&document) else { panic!("not over") };
    assert_eq!(
        grants,
        [
            "role readWrite on shop",
            "dropCollection, insert, remove, update on shop.*",
            "shutdown on the cluster",
            "anyAction on everything"
        ]
    );
    assert_eq!(Status::parse(&document).unwrap().reads("anything"), Some(true));
}

#[test]
fn what_the_server_does_not_say_is_unknown() {
    let parse = |roles: RawDocumentBuf| verdict(&rawdoc! { "authInfo": { "authenticatedUserRoles": [roles] } });
    assert_eq!(parse(rawdoc! { "role": "read", "db": "shop" }), Privilege::Ok);
    assert!(matches!(parse(rawdoc! { "role": "root", "db": "admin" }), Privilege::Over { .. }));
    assert!(matches!(parse(rawdoc! { "role": "analyst", "db": "shop" }), Privilege::Unknown { .. }));
    assert!(matches!(verdict(&rawdoc! { "authInfo": {} }), Privilege::Unknown { .. }));
    let future = rawdoc! { "authInfo": { "authenticatedUserPrivileges": [
    { "resource": { "db": "shop", "collection": "" }, "actions": [ "find", "somethingNew" ] } ] } };
    assert!(matches!(verdict(&future), Privilege::Unknown { reason } if reason.contains("somethingNew")));
    assert!(Status::parse(&rawdoc! { "ok": 1.0 }).is_none());
}

/// The entry that matters comes after the limit of each list.
#[test]
fn a_list_that_is_cut_is_never_ok() {
    let repeated = |entry: RawDocumentBuf, last: RawDocumentBuf| {
        let mut list = RawArrayBuf::new();
        (0..MAX_ENTRIES).for_each(|_| list.push(entry.clone()));
        list.push(last);
        list
    };
    let grant = |actions: RawArrayBuf| rawdoc! { "resource": { "db": "hr", "collection": "" }, "actions": actions };
    let actions = |names: &[&str]| {
        let mut list = RawArrayBuf::new();
        names.iter().for_each(|name| list.push(*name));
        list
    };
    let many = [vec!["find"; MAX_ENTRIES], vec!["remove"]].concat();
    let mut one_privilege = RawArrayBuf::new();
    one_privilege.push(grant(actions(&many)));
    let privileges = repeated(grant(actions(&["find"])), grant(actions(&["find", "remove"])));
    let roles = repeated(rawdoc! { "role": "read", "db": "shop" }, rawdoc! { "role": "root", "db": "admin" });
    for (info, what) in [
        (rawdoc! { "authenticatedUserPrivileges": privileges }, "privileges"),
        (rawdoc! { "authenticatedUserPrivileges": one_privilege }, "privileges"),
        (rawdoc! { "authenticatedUserRoles": roles, "authenticatedUserPrivileges": [] }, "roles"),
    ] {
        let status = Status::parse(&rawdoc! { "authInfo": info }).unwrap();
        let expected = format!("the {what} of the login have more than 5000 entries, and AAM did not read the others");
        assert_eq!(status.verdict(), Privilege::Unknown { reason: expected });
        assert_eq!(status.reads("shop"), None, "the privilege may be among the others");
    }
}

#[test]
fn an_entry_without_the_form_of_mongodb_is_never_ok() {
    let read = rawdoc! { "resource": { "db": "shop", "collection": "" }, "actions": [ "find" ] };
    for info in [
        rawdoc! { "authenticatedUserPrivileges": [ read.clone(), { "resource": { "db": "shop", "collection": "" } } ] },
        rawdoc! { "authenticatedUserPrivileges": [ read.clone(), { "resource": {}, "actions": [ "find", 7 ] } ] },
        rawdoc! { "authenticatedUserPrivileges": [ read.clone(), "remove" ] },
        rawdoc! { "authenticatedUserRoles": [ { "role": "read", "db": "shop" }, { "name": "root" } ] },
        rawdoc! { "authenticatedUserRoles": "root", "authenticatedUserPrivileges": [ read ] },
        rawdoc! { "authenticatedUserRoles": [ { "role": "read", "db": "shop" } ], "authenticatedUserPrivileges": { "0": "remove" } },
    ] {
        let verdict = verdict(&rawdoc! { "authInfo": info.clone() });
        assert!(matches!(&verdict, Privilege::Unknown { reason } if reason.contains("form of MongoDB")), "{info:?}: {verdict:?}");
    }
}

#[test]
fn no_action_both_reads_and_changes() {
    for action in READING {
        assert!(!changes(action), "{action}");
    }
}

proptest! {
    /// Every changing action is reported, wherever it is granted.
    #[test]
    fn an_extra_action_is_never_missed(extra in "insert|update|remove|dropDatabase|createUser|grantRole|setParameter|bypassDocumentValidation", collection in "[a-z]{0,8}") {
        let document = rawdoc! { "authInfo": { "authenticatedUserPrivileges": [
            { "resource": { "db": "shop", "collection": collection.as_str() }, "actions": [ "find", extra.as_str() ] } ] } };
        let Privilege::Over { grants } = verdict(&document) else { return Err(TestCaseError::fail("not over")) };
        prop_assert!(grants[0].starts_with(&extra));
    }
}
