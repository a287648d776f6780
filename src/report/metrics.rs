//! The Prometheus text, made from the same funnels that every other surface prints. Pure.

use crate::funnel::Funnel;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::AtomicU64;

/// Namespaces that get series of their own; more would let a document's author grow the store.
pub const MAX_NAMESPACES: usize = 32;

/// Everything one scrape says.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    pub version: String,
    /// One for each namespace, at most [`MAX_NAMESPACES`].
    pub funnels: Vec<Funnel>,
    pub attempts_in_flight: usize,
    /// Problems of the intents folder right now.
    pub intake_problems: usize,
    /// The registry cannot write right now.
    pub trouble: bool,
    /// The policy file is not the policy in force.
    pub policy_rejected: bool,
    /// The last entry of the ledger.
    pub ledger_seq: u64,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    pub ready: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Place {
    namespace: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stage {
    namespace: String,
    stage: Word,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

type Whole = Gauge;
type Real = Gauge<f64, AtomicU64>;

/// The text of one scrape.
#[must_use]
pub fn text(scrape: &Scrape) -> String {
    let mut registry = Registry::with_prefix("aam");
    registry.register("build", "The version of this process", Info::new([("version", scrape.version.clone())]));
    whole(&mut registry, "ready", "1 once the first scan of the intents folder was taken in", scrape.ready.into());
    whole(&mut registry, "attempts_in_flight", "Attempts that run right now", count(scrape.attempts_in_flight));
    whole(
        &mut registry,
        "intake_problems",
        "Problems of the intents folder and its files right now",
        count(scrape.intake_problems),
    );
    whole(&mut registry, "registry_trouble", "1 while the registry cannot write", scrape.trouble.into());
    whole(&mut registry, "policy_rejected", "1 while the policy file is not the policy in force", scrape.policy_rejected.into());
    whole(&mut registry, "ledger_entries", "Entries of the ledger", i64::try_from(scrape.ledger_seq).unwrap_or(i64::MAX));
    let uptime = Real::default();
    uptime.set(scrape.uptime_seconds);
    registry.register("uptime_seconds", "Seconds since the process started", uptime);
    funnels(&mut registry, &scrape.funnels);
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

fn funnels(registry: &mut Registry, funnels: &[Funnel]) {
    let stages = Family::<Stage, Whole>::default();
    let coverage = Family::<Place, Real>::default();
    let target = Family::<Place, Real>::default();
    let met = Family::<Place, Whole>::default();
    let latency = Family::<Place, Real>::default();
    for funnel in funnels.iter().take(MAX_NAMESPACES) {
        let place = Place { namespace: funnel.namespace.clone() };
        for (stage, value) in by_stage(funnel) {
            let labels = Stage { namespace: funnel.namespace.clone(), stage: Word(stage) };
            stages.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        coverage.get_or_create(&place).set(funnel.coverage);
        target.get_or_create(&place).set(funnel.target);
        met.get_or_create(&place).set(funnel.slo_met.into());
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one sync stay far below 2^52")]
        latency.get_or_create(&place).set(funnel.first_sync_p95_ms as f64 / 1000.0);
    }
    registry.register(
        "connections",
        "Connections by stage of the funnel; received is all of them, reachable a part of eligible",
        stages,
    );
    registry.register("coverage_ratio", "active / eligible, 0 when nothing is eligible", coverage);
    registry.register("coverage_target_ratio", "The policy's slo.coverage", target);
    registry.register("slo_met", "1 when something is eligible and coverage is at least the target", met);
    registry.register("first_sync_p95_seconds", "Nearest-rank p95 of the tiny syncs of the ACTIVE connections", latency);
}

/// The numbers of the funnel by name; the names are the same as in `GET /metrics/funnel`.
#[must_use]
pub fn by_stage(funnel: &Funnel) -> [(&'static str, u64); 12] {
    [
        ("received", funnel.received),
        ("rejected", funnel.rejected),
        ("unsupported_type", funnel.unsupported_type),
        ("awaiting_credentials", funnel.awaiting_credentials),
        ("pending", funnel.pending),
        ("eligible", funnel.eligible),
        ("reachable", funnel.reachable),
        ("active", funnel.active),
        ("network_blocked", funnel.network_blocked),
        ("healing", funnel.healing),
        ("error", funnel.error),
        ("auto_created", funnel.auto_created),
    ]
}

fn whole(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Whole::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
