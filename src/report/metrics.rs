//! Renders the metrics for Prometheus, from the same funnels as the API and the dashboard. Pure.

mod work;

use crate::funnel::{Funnel, Stage};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
pub use work::{WebhookFigures, Work};

/// The maximum number of namespaces with their own series. Without a limit, the authors of intents could create any
/// number of series in Prometheus.
pub const MAX_NAMESPACES: usize = 32;

/// The values of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    pub version: String,
    /// One funnel per namespace. Only the first [`MAX_NAMESPACES`] are exported.
    pub funnels: Vec<Funnel>,
    /// By namespace, the number of connections whose departure is held until it is confirmed.
    pub held: BTreeMap<String, usize>,
    pub attempts_in_flight: usize,
    /// The current number of problems in the intents folder.
    pub intake_problems: usize,
    /// True while the registry cannot write.
    pub trouble: bool,
    /// True while the policy file is not valid and an earlier policy is in force.
    pub policy_rejected: bool,
    /// The sequence number of the last ledger entry.
    pub ledger_seq: u64,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    pub ready: bool,
    /// What the credential providers did since the start of the process.
    pub credentials: Vec<ProviderUsage>,
    /// What the process did since its start. `None` for a token that may not read the policy's namespace.
    pub work: Option<Work>,
}

/// What one credential provider did since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderUsage {
    /// `env`, `file`, `vault`, `sp` or `consent`.
    pub provider: &'static str,
    pub lookups: u64,
    /// Lookups that were answered without a call.
    pub cache_hits: u64,
    pub failures: u64,
    /// Seconds until the first token or lease in the cache ends.
    pub next_end_seconds: Option<i64>,
}

/// Label names with their values.
type Labels = Vec<(&'static str, String)>;
type FloatGauge = Gauge<f64, AtomicU64>;

/// Renders one scrape as OpenMetrics text.
#[must_use]
pub fn text(scrape: &Scrape) -> String {
    let mut registry = Registry::with_prefix("aam");
    registry.register("build", "The version of this process", Info::new([("version", scrape.version.clone())]));
    gauge(&mut registry, "ready", "1 after the first scan of the intents folder", scrape.ready.into());
    gauge(&mut registry, "attempts_in_flight", "Attempts that run right now", count(scrape.attempts_in_flight));
    gauge(
        &mut registry,
        "intake_problems",
        "Problems of the intents folder and its files right now",
        count(scrape.intake_problems),
    );
    gauge(&mut registry, "registry_trouble", "1 while the registry cannot write", scrape.trouble.into());
    gauge(
        &mut registry,
        "policy_rejected",
        "1 while the policy file is not valid and an earlier policy is in force",
        scrape.policy_rejected.into(),
    );
    gauge(&mut registry, "ledger_entries", "Entries of the ledger", i64::try_from(scrape.ledger_seq).unwrap_or(i64::MAX));
    let uptime = FloatGauge::default();
    uptime.set(scrape.uptime_seconds);
    registry.register("uptime_seconds", "Seconds since the process started", uptime);
    funnels(&mut registry, &scrape.funnels);
    held(&mut registry, scrape);
    credentials(&mut registry, &scrape.credentials);
    if let Some(work) = &scrape.work {
        registry.register_collector(Box::new(work.clone()));
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

fn funnels(registry: &mut Registry, funnels: &[Funnel]) {
    let connections = Family::<Labels, Gauge>::default();
    let over_privileged = Family::<Labels, Gauge>::default();
    let partly_readable = Family::<Labels, Gauge>::default();
    let ending = Family::<Labels, Gauge>::default();
    let first_end = Family::<Labels, Gauge>::default();
    let coverage = Family::<Labels, FloatGauge>::default();
    let target = Family::<Labels, FloatGauge>::default();
    let met = Family::<Labels, Gauge>::default();
    let latency = Family::<Labels, FloatGauge>::default();
    for funnel in funnels.iter().take(MAX_NAMESPACES) {
        let labels: Labels = vec![("namespace", funnel.namespace.clone())];
        over_privileged.get_or_create(&labels).set(i64::try_from(funnel.over_privileged).unwrap_or(i64::MAX));
        partly_readable.get_or_create(&labels).set(i64::try_from(funnel.partly_readable).unwrap_or(i64::MAX));
        ending.get_or_create(&labels).set(i64::try_from(funnel.credentials_ending).unwrap_or(i64::MAX));
        if let Some(seconds) = funnel.first_credential_end_seconds {
            first_end.get_or_create(&labels).set(seconds);
        }
        let stages = Stage::ALL.map(|stage| (stage.as_str(), funnel.count(stage)));
        for (stage, value) in stages.into_iter().chain([("auto_created", funnel.auto_created)]) {
            let labels = vec![("namespace", funnel.namespace.clone()), ("stage", stage.to_string())];
            connections.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        coverage.get_or_create(&labels).set(funnel.coverage);
        target.get_or_create(&labels).set(funnel.target);
        met.get_or_create(&labels).set(funnel.slo_met.into());
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one sync stay far below 2^52")]
        latency.get_or_create(&labels).set(funnel.first_sync_p95_ms as f64 / 1000.0);
    }
    registry.register(
        "connections",
        "Connections by funnel stage; received includes all others, eligible includes reachable and active",
        connections,
    );
    registry.register("connections_over_privileged", "Connections whose credential can do more than read", over_privileged);
    registry.register(
        "connections_partly_readable",
        "ACTIVE connections with streams that their credential may not read",
        partly_readable,
    );
    registry.register(
        "connections_credential_ending",
        "Connections whose credential ends within 14 days and has to be replaced by a person",
        ending,
    );
    registry.register(
        "credential_end_seconds",
        "Seconds until the first credential ends that has to be replaced by a person",
        first_end,
    );
    registry.register("coverage_ratio", "active / eligible, 0 when nothing is eligible", coverage);
    registry.register("coverage_target_ratio", "The policy's slo.coverage", target);
    registry.register("slo_met", "1 when something is eligible and coverage is at least the target", met);
    registry.register("first_sync_p95_seconds", "Nearest-rank p95 of the tiny syncs of the ACTIVE connections", latency);
}

fn held(registry: &mut Registry, scrape: &Scrape) {
    let held = Family::<Labels, Gauge>::default();
    for funnel in scrape.funnels.iter().take(MAX_NAMESPACES) {
        let labels: Labels = vec![("namespace", funnel.namespace.clone())];
        held.get_or_create(&labels).set(count(scrape.held.get(&funnel.namespace).copied().unwrap_or_default()));
    }
    registry.register("connections_held", "Connections that stay as they are until a change is confirmed", held);
}

fn credentials(registry: &mut Registry, providers: &[ProviderUsage]) {
    let (lookups, hits, failures) =
        (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default(), Family::default());
    let next_end = Family::<Labels, Gauge>::default();
    for usage in providers {
        let labels: Labels = vec![("provider", usage.provider.to_string())];
        lookups.get_or_create(&labels).inc_by(usage.lookups);
        hits.get_or_create(&labels).inc_by(usage.cache_hits);
        Family::<Labels, Counter>::get_or_create(&failures, &labels).inc_by(usage.failures);
        if let Some(seconds) = usage.next_end_seconds {
            next_end.get_or_create(&labels).set(seconds);
        }
    }
    registry.register("credential_lookups", "Credentials that attempts asked for", lookups);
    registry.register("credential_cache_hits", "Credentials that were given without a call", hits);
    registry.register("credential_failures", "Credentials that could not be given", failures);
    registry.register("credential_next_end_seconds", "Seconds until the first token or lease in the cache ends", next_end);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
