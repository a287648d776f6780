//! Registries that earlier versions of AAM wrote: see `tests/data/registries/README.md`.

use super::super::{Reader, schema};
use super::rig::Rig;
use crate::model::{Intent, Timestamp};
use crate::report::status;
use crate::snapshot::Snapshot;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/registries")
}

/// The connections as `connections.json` lists them.
fn connections(snapshot: &Snapshot, reader: &Reader) -> Value {
    let document = |seq| -> Option<Intent> { serde_json::from_str(&reader.body(seq).ok()??).ok() };
    let lines = status::lines(snapshot, "autonomy", Timestamp(0), document);
    let lines = lines.into_iter().map(|line| {
        let fields = json!({"status": line.status, "source_type": line.source_type, "resource_id": line.resource_ids[0], "owner": line.owner});
        (line.connection_id.to_string(), fields)
    });
    Value::Object(lines.collect())
}

#[tokio::test]
async fn registries_of_all_earlier_versions_open_with_every_connection_and_state() {
    let expected: Value = serde_json::from_slice(&std::fs::read(folder().join("connections.json")).unwrap()).unwrap();
    for version in 1..schema::MIGRATIONS.len() {
        let rig = Rig::new();
        let file = folder().join(format!("v{version}.db"));
        std::fs::copy(&file, rig.path())
            .unwrap_or_else(|error| panic!("add {}, as README.md there says: {error}", file.display()));
        let before = Reader::open_any_version(&rig.path()).unwrap();
        let ledger = before.verify().unwrap();
        assert!(ledger.is_intact(), "version {version}: {ledger:?}");
        assert_eq!(before.with(|db| schema::version(db.as_sqlite().unwrap())).unwrap(), version);
        drop(before);
        let registry = rig.open();
        let found = connections(&registry.snapshot(), registry.reader());
        assert_eq!(found, expected[format!("v{version}")], "version {version}");
        assert_eq!(found.as_object().unwrap().len(), 10);
        let after = registry.reader().verify().unwrap();
        assert_eq!(after, ledger, "version {version}: a migration changes no row of the ledger");
        registry.close().await;
    }
}
