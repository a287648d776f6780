use super::*;
use proptest::prelude::*;

const DATABASE: &str = "shop";
const COLLECTION: &str = "orders";

/// One command of each kind.
fn all() -> Vec<Command<'static>> {
    let (database, collection) = (DATABASE, COLLECTION);
    vec![
        Command::Hello { legacy: false, load_balanced: true, user: Some("shop.reader"), application: None },
        Command::Hello { legacy: true, load_balanced: false, user: None, application: Some("probe") },
        Command::SaslStart { database, mechanism: Mechanism::ScramSha256, payload: b"n,,n=u,r=x" },
        Command::SaslContinue { database, conversation: 1, payload: b"c=biws" },
        Command::AuthenticateX509 { user: None },
        Command::ConnectionStatus,
        Command::ListDatabases { name: Some(database), restricted: true },
        Command::ListCollections { database, limit: 10, restricted: true },
        Command::FieldTypes { database, collection },
        Command::Documents { database, collection },
        Command::Ids { database, collection, limit: 20 },
        Command::EstimatedCount { database, collection },
        Command::KillCursors { database, collection, cursor: 7 },
    ]
}

/// The document in the bytes of an `OP_MSG` or `OP_QUERY`.
fn sent(command: &Command<'_>, mode: Option<ReadPreference>) -> RawDocumentBuf {
    let bytes = command.encode(1, mode).unwrap();
    let offset = if matches!(command, Command::Hello { legacy: true, .. }) { 39 } else { 21 };
    RawDocumentBuf::from_bytes(bytes[offset..].to_vec()).unwrap()
}

#[test]
fn every_command_is_on_the_list_and_the_list_has_no_other() {
    let mut used: Vec<String> = all()
        .iter()
        .map(|command| {
            let document = sent(command, None);
            document.iter().next().unwrap().unwrap().0.as_str().to_string()
        })
        .collect();
    used.dedup();
    used.sort();
    used.dedup();
    let mut listed = READ_ONLY_COMMANDS.map(str::to_string).to_vec();
    listed.sort();
    assert_eq!(used, listed);
}

#[test]
fn what_reads_documents_is_limited_in_number_and_time() {
    for command in all().iter().filter(|command| command.reads_data()) {
        let document = sent(command, Some(ReadPreference::SecondaryPreferred));
        assert!((1..=MAX_TIME_MS).contains(&document.get_i32("maxTimeMS").unwrap()), "{command:?}");
        assert_eq!(document.get_document("$readPreference").unwrap().get_str("mode").unwrap(), "secondaryPreferred");
        assert_eq!(document.get_str("$db").unwrap(), command.database());
    }
    let ids = sent(&Command::Ids { database: DATABASE, collection: COLLECTION, limit: 5000 }, None);
    assert_eq!((ids.get_i32("limit").unwrap(), ids.get_bool("singleBatch").unwrap()), (20, true));
    assert!(ids.get_document("$readPreference").is_err());
}

#[test]
fn what_is_not_on_the_list_never_becomes_bytes() {
    for (document, reason) in [
        (rawdoc! {}, "not on the list"),
        (rawdoc! {"insert": "orders"}, "insert"),
        (rawdoc! {"dropDatabase": 1}, "dropDatabase"),
        (rawdoc! {"$eval": "x"}, "$eval"),
        (rawdoc! {"Find": "orders", "limit": 1, "singleBatch": true}, "Find"),
        (rawdoc! {"find": "orders", "singleBatch": true}, "without a limit"),
        (rawdoc! {"find": "orders", "limit": 0, "singleBatch": true}, "without a limit"),
        (rawdoc! {"find": "orders", "limit": 21, "singleBatch": true}, "without a limit"),
        (rawdoc! {"find": "orders", "limit": 20}, "without a limit"),
        (rawdoc! {"aggregate": "orders", "pipeline": [{"$project": {"a": 1}}]}, "without a limit"),
        (rawdoc! {"aggregate": "orders", "pipeline": [{"$limit": 20}, {"$out": "x"}]}, "$out"),
        (rawdoc! {"aggregate": "orders", "pipeline": [{"$limit": 20}, {"$merge": "x"}]}, "$merge"),
        (rawdoc! {"aggregate": "orders", "pipeline": [{"$limit": 200}]}, "without a limit"),
        (rawdoc! {"aggregate": "orders"}, "pipeline"),
    ] {
        let refused = check(&document).unwrap_err();
        assert!(refused.0.contains(reason), "{document:?}: {refused:?}");
    }
}

proptest! {
    /// Names come from the server; none of them can change which command is sent.
    #[test]
    fn a_name_never_becomes_a_command(name in "\\PC{0,60}", database in "\\PC{0,30}") {
        for command in [
            Command::FieldTypes { database: &database, collection: &name },
            Command::Documents { database: &database, collection: &name },
            Command::Ids { database: &database, collection: &name, limit: 20 },
            Command::EstimatedCount { database: &database, collection: &name },
        ] {
            let document = sent(&command, None);
            let (key, value) = document.iter().next().unwrap().unwrap();
            prop_assert!(READ_ONLY_COMMANDS.contains(&key.as_str()));
            prop_assert_eq!(value.as_str(), Some(name.as_str()));
            prop_assert_eq!(document.get_str("$db").unwrap(), database.as_str());
        }
    }
}
