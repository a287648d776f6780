//! Shared helpers for the tests in this folder.

use super::super::{Registry, RegistryError, Version};
use crate::clock::Clock;
use crate::model::ledger::{AttemptContext, Why};
use crate::model::step::{StepReport, StepStatus};
use crate::model::{
    Catalog, Class, ConnectionId, Digest, Drift, Failure, Intent, Origin, Outcome, Scope, Step, Stream, SyncMode, Timestamp,
};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Advances by one millisecond with every reading. Tests can advance it further.
pub struct TestClock(pub AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::SeqCst))
    }

    /// Only a test advances this clock.
    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub clock: Arc<TestClock>,
}

/// The whole history of a connection, newest first.
pub fn history(registry: &Registry, id: ConnectionId) -> Vec<Version> {
    let mut versions = Vec::new();
    let all = |version| {
        versions.push(version);
        true
    };
    registry.reader().history(id, None, 1 << 30, all).unwrap();
    versions
}

impl Rig {
    pub fn new() -> Rig {
        Rig { dir: tempfile::tempdir().unwrap(), clock: Arc::new(TestClock(AtomicI64::new(1_000_000))) }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("aam.db")
    }

    /// The file with the page limit that simulates a full disk.
    pub fn limit(&self) -> PathBuf {
        self.dir.path().join("pages")
    }

    pub fn try_open(&self) -> Result<Registry, RegistryError> {
        Registry::open_within(&self.path(), "test", self.clock.clone(), Some(self.limit()))
    }

    pub fn open(&self) -> Registry {
        self.try_open().unwrap()
    }

    /// A second, writable connection, as an SQL prompt would open.
    pub fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    /// Asserts that the hash chain is intact, and returns the number of rows.
    pub fn rows(&self) -> u64 {
        let verdict = super::super::Reader::open(&self.path()).unwrap().verify().unwrap();
        assert_eq!(verdict.broken, None);
        verdict.rows
    }
}

/// A document. A different `note` makes a different document of the same connection.
pub fn intent(namespace: &str, resource: &str, note: &str) -> Intent {
    serde_json::from_value(json!({
        "source_type": "jdbc", "resource_ids": [resource], "scopes_mode": "safe_readonly",
        "namespace": namespace, "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"},
        "note": note
    }))
    .unwrap()
}

pub fn document(resource: &str, note: &str) -> (Intent, Origin) {
    (intent("autonomy", resource, note), Origin::folder("a.json"))
}

pub fn context(why: Why, scope: Scope, generation: u32) -> AttemptContext {
    AttemptContext { begun_at: Timestamp(0), generation, scope, why, policy: Digest::default(), slice: Digest::default() }
}

/// The outcome of an attempt. With `class`, it failed in the step `upsert`. `streams` are the discovered streams.
pub fn outcome(class: Option<Class>, scope: Scope, streams: &[&str]) -> Outcome {
    let status = |step| match class {
        Some(class) if step == Step::Upsert => StepStatus::Failed { failure: Failure::new(class, "it failed", "fix it") },
        Some(_) if step > Step::Upsert && step != Step::Registry => StepStatus::Skipped { reason: "not run".to_string() },
        _ => StepStatus::Passed,
    };
    let report = |step| StepReport { step, status: status(step), duration_ms: 1, evidence: serde_json::Map::new() };
    let stream = |name: &&str| Stream {
        name: (*name).to_string(),
        namespace: None,
        json_schema: json!({"type": "object"}),
        supported_sync_modes: vec![SyncMode::FullRefresh],
        source_defined_primary_key: Vec::new(),
        row_estimate: None,
    };
    Outcome {
        scope,
        steps: Step::ALL.into_iter().map(report).collect(),
        catalog: (!streams.is_empty()).then(|| Catalog { streams: streams.iter().map(stream).collect(), ..Catalog::default() }),
        drift: Drift::default(),
        rows: class.is_none().then_some(3),
        latency_ms: class.is_none().then_some(12),
    }
}

/// Accepts one document and answers its connection.
pub async fn accepted(registry: &Registry, resource: &str) -> ConnectionId {
    registry.accept(vec![document(resource, "")]).await.unwrap()[0].connection
}

/// One whole attempt.
pub async fn attempt(registry: &Registry, id: ConnectionId, why: Why, outcome: &Outcome) -> bool {
    let generation = registry.snapshot().connections[&id].generation;
    let ticket = registry.begin(id, context(why, outcome.scope, generation)).await.unwrap();
    registry.finish(&ticket, outcome).await.unwrap().appended
}
