//! Rolling upgrades: what an older version says of a registry that a newer one has changed.

use super::pair::Pair;
use super::run::{DATABASE, prepare, registry_url};
use crate::support::daemon::{Workspace, stderr, stdout};
use tokio::task::block_in_place;

/// A prepared registry with one connection in it.
fn registry() -> (Pair, Workspace) {
    let pair = Pair::start(false);
    let mut workspace = Workspace::new();
    prepare(&pair, &mut workspace);
    workspace.set("AAM_REGISTRY", &registry_url([pair.primary_port(), pair.primary_port()]));
    let csv = workspace.csv("one.csv", 30);
    workspace.intent_file("one.json", &crate::support::daemon::intent("filesource", &csv));
    let once = workspace.run(&["once"]);
    assert!(stdout(&once).contains("Active: 1"), "{}{}", stdout(&once), stderr(&once));
    (pair, workspace)
}

pub async fn a_registry_of_a_newer_version_is_refused() {
    block_in_place(|| {
        let (pair, workspace) = registry();
        let newer = "INSERT INTO aam.schema_migrations SELECT max(version) + 1, repeat('0', 64) FROM aam.schema_migrations";
        pair.sql(DATABASE, newer).expect("a newer version");
        for command in [&["status"][..], &["once"], &["serve", "--port", "0"], &["verify"], &["report"]] {
            let output = workspace.run(command);
            let text = format!("{}{}", stdout(&output), stderr(&output));
            assert!(!output.status.success(), "{command:?}: {text}");
            assert!(text.contains("a newer AAM has opened it"), "{command:?}: {text}");
        }
    });
}

pub async fn a_ledger_of_a_newer_version_is_refused() {
    block_in_place(|| {
        let (pair, workspace) = registry();
        // A kind of entry that this version does not know, in a chain where nothing else is, with the hash of its content.
        let newer = "INSERT INTO aam.ledger (seq, at, kind, namespace, facts, prev, hash, chain, place)
                     SELECT seq, at, kind, '', facts, prev,
                            sha256(prev || int8send(seq) || int8send(at) || pg_temp.part(kind) || pg_temp.part('') || pg_temp.part(NULL)
                                   || pg_temp.part(facts) || pg_temp.part(NULL)), chain, 1
                     FROM (SELECT max(seq) + 1 AS seq, max(at) AS at, 'invented_later' AS kind, '{\"kind\": \"invented_later\"}' AS facts,
                                  decode(repeat('00', 32), 'hex') AS prev,
                                  (SELECT min(number) FROM generate_series(0, 63) AS number
                                   WHERE number NOT IN (SELECT chain FROM aam.ledger)) AS chain
                           FROM aam.ledger) AS later";
        let part = "CREATE FUNCTION pg_temp.part(value text) RETURNS bytea LANGUAGE sql AS $$
                      SELECT CASE WHEN value IS NULL THEN decode('000000000000000000', 'hex')
                        ELSE decode('01', 'hex') || int8send(octet_length(value)) || convert_to(value, 'UTF8') END
                    $$";
        let newer = &format!("{part}; {newer}");
        pair.sql(DATABASE, newer).expect("a newer entry");
        for command in [&["status"][..], &["once"], &["serve", "--port", "0"]] {
            let output = workspace.run(command);
            let text = format!("{}{}", stdout(&output), stderr(&output));
            assert!(!output.status.success(), "{command:?}: {text}");
            assert!(text.contains("invented_later") && text.contains("newer"), "{command:?}: {text}");
        }
    });
}
