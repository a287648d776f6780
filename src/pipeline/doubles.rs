//! A fake engine and a fake connector whose behavior a test scripts.

use super::{Env, Job};
use crate::clock::SystemClock;
use crate::connectors::{
    AuthorizedResource, BindRequest, BoundResource, Bounds, Connector, CredentialNeed, Discovery, Engine, Engines, Opened, Sample,
};
use crate::credentials::Credential;
use crate::egress::resolve::SystemLookup;
use crate::egress::{DayBudget, Egress, PlannedCall, Traffic};
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, Evidence, Failure, Intent, Origin, Privilege, Recipient, Scope, Stream, SyncMode};
use crate::policy::{Policy, parse::parse};
use crate::providers::{Process, Providers};
use futures_util::future::BoxFuture;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;

/// What one call of the fake does.
#[derive(Clone, Debug)]
pub enum Act {
    Pass,
    Fail(Failure),
    Panic,
    Hang,
    /// Computes for this time without waiting for anything, and then hangs.
    Busy(Duration),
    /// Waits until the number of calls that the barrier expects are waiting at the same time.
    Meet(Arc<Barrier>),
    /// Yields to the executor this many times, records that it ended, and then acts.
    Slow(usize, Box<Act>),
    /// Acts by resource id. All other resources pass.
    Each(Vec<(&'static str, Act)>),
}

/// What each call does, and a record of the calls.
#[derive(Clone)]
pub struct Script {
    pub accepts: Act,
    pub open: Act,
    pub discover: Act,
    pub health: Act,
    pub tiny: Act,
    /// Whether the source answers the health check without a credential.
    pub public: bool,
    pub need: CredentialNeed,
    pub privilege: Privilege,
    /// Returns the catalog for a resource id. By default, every resource has one stream `t`.
    pub catalog: Arc<dyn Fn(&str) -> Catalog + Send + Sync>,
    /// The number of rows that the connector reports, regardless of the requested maximum.
    pub rows: u64,
    /// Why the records were not looked at.
    pub metadata_only: Option<&'static str>,
    pub evidence: Evidence,
    pub calls: Arc<Mutex<Vec<String>>>,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            accepts: Act::Pass,
            open: Act::Pass,
            discover: Act::Pass,
            health: Act::Pass,
            tiny: Act::Pass,
            public: false,
            need: CredentialNeed::Optional,
            privilege: Privilege::Ok,
            catalog: Arc::new(|_| catalog(&[("t", &["id"])])),
            rows: 3,
            metadata_only: None,
            evidence: Evidence::new(),
            calls: Arc::default(),
        }
    }
}

impl Script {
    async fn act(&self, name: &str, resource: &str, act: &Act) -> Result<(), Failure> {
        if let Ok(mut calls) = self.calls.lock() {
            calls.push(format!("{name} {resource}"));
        }
        let mut act = act;
        loop {
            act = match act {
                Act::Pass => return Ok(()),
                Act::Fail(failure) => return Err(failure.clone()),
                Act::Panic => panic!("the double panics in {name}"),
                Act::Hang => std::future::pending().await,
                Act::Busy(time) => {
                    let started = Instant::now();
                    while started.elapsed() < *time {
                        std::hint::spin_loop();
                    }
                    std::future::pending().await
                }
                Act::Meet(barrier) => {
                    barrier.wait().await;
                    return Ok(());
                }
                Act::Slow(turns, then) => {
                    for _ in 0..*turns {
                        tokio::task::yield_now().await;
                    }
                    self.calls.lock().unwrap().push(format!("{name} {resource} ended"));
                    then
                }
                Act::Each(acts) => match acts.iter().find(|(id, _)| *id == resource) {
                    Some((_, act)) => act,
                    None => return Ok(()),
                },
            };
        }
    }

    pub fn called(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

pub fn fail(class: Class) -> Act {
    Act::Fail(Failure::new(class, "it failed", "fix it").detail("42501: no"))
}

/// A catalog of streams with the given columns.
pub fn catalog(streams: &[(&str, &[&str])]) -> Catalog {
    let stream = |(name, columns): &(&str, &[&str])| {
        let properties: serde_json::Map<String, serde_json::Value> =
            columns.iter().map(|column| ((*column).to_string(), json!({"type": "string"}))).collect();
        Stream {
            name: (*name).to_string(),
            namespace: None,
            json_schema: json!({"type": "object", "properties": properties}),
            supported_sync_modes: vec![SyncMode::FullRefresh],
            source_defined_primary_key: Vec::new(),
            row_estimate: None,
        }
    };
    Catalog { streams: streams.iter().map(stream).collect(), ..Catalog::default() }
}

pub fn skipped(mut catalog: Catalog, name: &str, reason: &str) -> Catalog {
    catalog.skipped.push(SkippedStream::new(name, reason));
    catalog
}

struct Double(Script);

struct Part {
    script: Script,
    resource_id: String,
    asked: AtomicU32,
}

impl Engine for Double {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        match &self.0.accepts {
            Act::Fail(failure) => Err(failure.clone()),
            Act::Panic => panic!("the double panics in bind"),
            _ => {
                let resource_id = request.resource_id.to_string();
                Ok(Box::new(Part { script: self.0.clone(), resource_id, asked: AtomicU32::new(0) }))
            }
        }
    }
}

impl BoundResource for Part {
    fn credential_need(&self) -> CredentialNeed {
        self.script.need
    }

    fn account(&self) -> &str {
        &self.resource_id
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        Vec::new()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        Vec::new()
    }

    fn authorize(self: Box<Self>, _: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        Ok(AuthorizedResource::new(move |_| {
            Box::pin(async move {
                self.script.act("open", &self.resource_id, &self.script.open).await?;
                let (identity, privilege) = (self.script.evidence.clone(), self.script.privilege.clone());
                Ok(Opened { connector: self, identity, privilege, removal: Vec::new() })
            })
        }))
    }
}

impl Connector for Part {
    fn discover(&self, _: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(async move {
            self.script.act("discover", &self.resource_id, &self.script.discover).await?;
            Ok(Discovery {
                catalog: (self.script.catalog)(&self.resource_id),
                evidence: self.script.evidence.clone(),
                warning: None,
            })
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            self.script.act("health", &self.resource_id, &self.script.health).await?;
            Ok(self.script.evidence.clone())
        })
    }

    fn accepted_credential(&self) -> bool {
        !self.script.public
    }

    fn tiny_sync<'a>(&'a self, _: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(async move {
            self.asked.fetch_add(max_items, Ordering::SeqCst);
            let name = format!("tiny {max_items}");
            self.script.act(&name, &self.resource_id, &self.script.tiny).await?;
            let metadata_only = self.script.metadata_only.map(ToString::to_string);
            Ok(Sample { metadata_only, ..Sample::new(self.script.rows, self.script.evidence.clone()) })
        })
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

struct NoBudget;

impl DayBudget for NoBudget {
    fn take<'a>(&'a self, _: &'a str, _: i64, _: u64, _: u64) -> BoxFuture<'a, Result<u64, String>> {
        Box::pin(async { Err("no call belongs to these tests".to_string()) })
    }
}

pub fn env(script: &Script) -> Env {
    let egress = Egress::with(Arc::new(NoBudget), Arc::new(SystemClock), Arc::new(SystemLookup));
    let read_env: crate::providers::ReadEnv = Arc::new(|name| (name == "PLANTED").then(|| PLANTED.to_string()));
    let providers = Providers::with_env(Arc::clone(&egress), Arc::new(SystemClock), Process::Recording, read_env);
    Env { engines: Engines::from_list(vec![("file", Box::new(Double(script.clone())))]), egress, providers }
}

/// The value of `env:PLANTED`. Some of these secrets are also texts that occur in every report, such as `passed`.
pub const PLANTED: &str = r#"{"password": "planted-canary-77", "token": "duration", "api_key": "31337"}"#;

pub fn policy(lines: &str) -> Arc<Policy> {
    let text = format!("version: 1\nallowlist: [filesource, slack]\n{lines}\n");
    Arc::new(parse(&text, "test").unwrap())
}

pub fn job(resources: &[&str]) -> Job {
    let intent: Intent = serde_json::from_value(json!({
        "source_type": "filesource", "resource_ids": resources, "scopes_mode": "safe_readonly",
        "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
    }))
    .unwrap();
    Job {
        connection: intent.connection_id(),
        intent,
        scope: Scope::Full,
        policy: policy(""),
        sources: Arc::default(),
        origins: vec![Origin::folder("a.json")],
        known: None,
    }
}
