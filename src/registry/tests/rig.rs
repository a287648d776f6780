//! Shared helpers for the tests in this folder.

use super::super::{Location, Registry, RegistryError, Version, postgres_schema};
use crate::clock::Clock;
use crate::model::ledger::{AttemptContext, Why};
use crate::model::step::{StepReport, StepStatus};
use crate::model::{
    Catalog, Class, ConnectionId, Digest, Drift, Failure, Intent, Origin, Outcome, Scope, Step, Stream, SyncMode, Timestamp,
};
use serde_json::json;
use std::path::{Path, PathBuf};
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
    location: Location,
}

/// Set to run these tests against PostgreSQL. The variables of the server are those of `scripts/peers/postgres.sh`.
const BACK_END: &str = "AAM_TEST_REGISTRY_POSTGRES";
const PORT: &str = "AAM_TEST_POSTGRES_PORT";
/// Numbers the schemas of one run.
static SCHEMA: AtomicI64 = AtomicI64::new(1);

/// A new registry in a schema of its own, with the role `aam_registry_tests`, which every run shares.
fn database(folder: &Path, port: &str) -> Location {
    let (host, user) = (std::env::var("AAM_TEST_POSTGRES_HOST").unwrap(), std::env::var("AAM_TEST_POSTGRES_SUPER").unwrap());
    let schema = format!("t{}_{}", std::process::id(), SCHEMA.fetch_add(1, Ordering::SeqCst));
    let url = |user: &str, credential: &str| -> Location {
        format!("postgres://{user}@{host}:{port}/postgres?schema={schema}&sslmode=disable&credential={credential}")
            .parse()
            .unwrap()
    };
    let owner = url(&user, "env:AAM_TEST_POSTGRES_SUPER_PASSWORD");
    let admin = sqlstore::Connection::postgres(owner.postgres().unwrap().options().unwrap()).unwrap();
    // Tests that create the role at the same time would fail.
    admin.begin_write().unwrap();
    admin.execute_batch("SELECT pg_advisory_xact_lock(4711)").unwrap();
    let known: i64 =
        admin.query_row("SELECT count(*) FROM pg_roles WHERE rolname = 'aam_registry_tests'", [], |row| row.get(0)).unwrap();
    if known == 0 {
        admin.execute_batch("CREATE ROLE aam_registry_tests LOGIN PASSWORD 'aam_registry_tests'").unwrap();
    }
    admin.commit().unwrap();
    postgres_schema::initialize(&owner, "aam_registry_tests").unwrap();
    let password = folder.join("password");
    std::fs::write(&password, "aam_registry_tests").unwrap();
    let runs_as = url("aam_registry_tests", &format!("file:{}", password.display()));
    runs_as.at(folder.join("registry"))
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
        let dir = tempfile::tempdir().unwrap();
        let location = match std::env::var(PORT) {
            Ok(port) if std::env::var_os(BACK_END).is_some() => database(dir.path(), &port),
            _ => Location::file(dir.path().join("aam.db")),
        };
        Rig { dir, clock: Arc::new(TestClock(AtomicI64::new(1_000_000))), location }
    }

    /// A registry in a file, whatever the back end of the tests is.
    pub fn of_file() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::file(dir.path().join("aam.db"));
        Rig { dir, clock: Arc::new(TestClock(AtomicI64::new(1_000_000))), location }
    }

    /// Another registry with the clock of this one.
    pub fn with_location(&self, location: Location) -> Rig {
        Rig { dir: tempfile::tempdir().unwrap(), clock: Arc::clone(&self.clock), location }
    }

    /// Where the registry is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("aam.db")
    }

    /// The file with the page limit that simulates a full disk.
    pub fn limit(&self) -> PathBuf {
        self.dir.path().join("pages")
    }

    pub fn try_open(&self) -> Result<Registry, RegistryError> {
        Registry::open_within(&self.location, "test", self.clock.clone(), Some(self.limit()))
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
        let verdict = super::super::Reader::open(&self.location).unwrap().verify().unwrap();
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
    let policy = registry.snapshot().policy.map(|(digest, _)| digest).unwrap_or_default();
    let context = AttemptContext { policy, ..context(why, outcome.scope, generation) };
    let ticket = registry.begin(id, context).await.unwrap();
    registry.finish(&ticket, outcome).await.unwrap().appended
}
