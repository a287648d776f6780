//! Records what the servers send, for `tests/fuzz_sql.rs`. With `AAM_RECORD_SESSIONS=tests/data/sessions` the recordings are
//! written there.

use super::server::*;
use crate::support::recorded_session::{Turns, recording_proxy, text};
use crate::support::sql::{open_at, policy};
use aam::connectors::Bounds;

peer_tests! {
    [Postgres, Mariadb]: a_session_can_be_recorded;
}

async fn a_session_can_be_recorded() {
    for (database, name) in [(Mariadb, "mariadb"), (Postgres, "postgres")] {
        let (port, turns) = recording_proxy(database.port()).await;
        let opened =
            open_at(&database.id_at("127.0.0.1", port, "shop"), &database.credential("reader"), policy(None)).await.unwrap();
        let found = opened.connector.discover(Bounds::default()).await.unwrap();
        opened.connector.health().await.unwrap();
        assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 20);
        drop(opened);
        let mut turns = turns.lock().unwrap().clone();
        assert!(turns.len() > 5 && turns.iter().any(|turn| turn.windows(8).any(|part| part == b"customer")), "{name}");
        if database == Postgres {
            leave_out_scram(&mut turns);
        }
        if let Some(folder) = std::env::var_os("AAM_RECORD_SESSIONS") {
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.txt")), text(&turns)).unwrap();
        }
    }
}

/// Replaces the exchange of SCRAM, which depends on a random number of the client, by the acceptance of the login at once.
fn leave_out_scram(turns: &mut Turns) {
    const ACCEPTED: &[u8] = b"R\0\0\0\x08\0\0\0\0";
    let find = |turn: &Vec<u8>| turn.windows(ACCEPTED.len()).position(|part| part == ACCEPTED);
    let at = turns.iter().position(|turn| find(turn).is_some()).unwrap();
    let begin = find(&turns[at]).unwrap();
    let accepted = turns[at].split_off(begin);
    turns.splice(1..=at, [accepted]);
}
