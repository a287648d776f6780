//! What the process did since its start: attempts, steps, calls, commits, and messages to webhooks.

use super::Labels;
use crate::meters::{FamilyValues, HistogramValues, MeterValues};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt::Result;

/// The values of one scrape that need no computation.
#[derive(Clone, Debug, Default)]
pub struct Work {
    pub meters: MeterValues,
    /// Circuit breakers that are open, by family.
    pub open_breakers: Vec<(String, u64)>,
    /// Seconds that the first waiting attempt is overdue.
    pub queue_delay_seconds: f64,
    pub event_readers: usize,
    pub webhooks: Vec<WebhookFigures>,
}

/// The figures of one webhook.
#[derive(Clone, Debug, Default)]
pub struct WebhookFigures {
    pub name: String,
    /// The messages that it accepted since the start of the process.
    pub delivered: u64,
    /// The tries that failed since the start of the process.
    pub failed: u64,
    pub failing: bool,
    /// Entries of the ledger that were appended since it had received all events.
    pub lag: u64,
}

impl Collector for Work {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result {
        let families = &self.meters.families;
        let by_outcome = |counts: fn(&FamilyValues) -> &Vec<(String, u64)>| {
            families.iter().flat_map(move |family| {
                counts(family)
                    .iter()
                    .map(move |(outcome, count)| (labels(&[("family", &family.family), ("outcome", outcome)]), *count))
            })
        };
        counters(
            &mut encoder,
            "attempts",
            "Finished attempts; outcome is passed or the class of the failure",
            by_outcome(|f| &f.outcomes),
        )?;
        let durations = families.iter().map(|family| (labels(&[("family", &family.family)]), &family.attempts));
        histograms(&mut encoder, "attempt_duration_seconds", "Duration of attempts", durations)?;
        let steps = families.iter().flat_map(|family| {
            family.steps.iter().map(move |(step, values)| (labels(&[("family", &family.family), ("step", step)]), values))
        });
        histograms(&mut encoder, "step_duration_seconds", "Duration of the steps of attempts", steps)?;
        counters(
            &mut encoder,
            "calls",
            "Calls to sources, vaults, token endpoints and webhooks; outcome is answered or the class of the failure",
            by_outcome(|f| &f.calls),
        )?;
        let throttled = families.iter().map(|family| {
            let count = family.calls.iter().find(|(outcome, _)| outcome == "throttled").map_or(0, |(_, count)| *count);
            (labels(&[("family", &family.family)]), count)
        });
        counters(&mut encoder, "throttles", "Calls that the source answered with a request to wait", throttled)?;
        let breakers = self.open_breakers.iter().map(|(family, count)| (labels(&[("family", family)]), *count));
        gauges(
            &mut encoder,
            "circuit_breakers_open",
            "Hosts that are not called for now, because they failed several times in a row",
            breakers,
        )?;
        histograms(
            &mut encoder,
            "commit_duration_seconds",
            "Duration of the transactions of the registry",
            std::iter::once((Labels::new(), &self.meters.commits)),
        )?;
        single(&mut encoder, "queue_length", "Planned attempts, due or not", self.meters.queue_length)?;
        let help = "How long the first waiting attempt is overdue";
        encoder
            .encode_descriptor("queue_delay_seconds", help, None, MetricType::Gauge)
            .and_then(|metric| ConstGauge::new(self.queue_delay_seconds).encode(metric))?;
        single(&mut encoder, "event_readers", "Readers of GET /events", self.event_readers as u64)?;
        self.encode_webhooks(&mut encoder)
    }
}

impl Work {
    fn encode_webhooks(&self, encoder: &mut DescriptorEncoder) -> Result {
        let own = |webhook: &WebhookFigures| labels(&[("webhook", &webhook.name)]);
        let tries = self.webhooks.iter().flat_map(|webhook| {
            [("accepted", webhook.delivered), ("failed", webhook.failed)]
                .map(|(outcome, count)| (labels(&[("webhook", &webhook.name), ("outcome", outcome)]), count))
        });
        counters(encoder, "webhook_messages", "Messages that were sent to webhooks", tries)?;
        let failing = self.webhooks.iter().map(|webhook| (own(webhook), u64::from(webhook.failing)));
        gauges(encoder, "webhook_failing", "1 while the webhook does not accept the current message", failing)?;
        let lag = self.webhooks.iter().map(|webhook| (own(webhook), webhook.lag));
        gauges(
            encoder,
            "webhook_lag_entries",
            "Entries of the ledger that were appended since the webhook had received all events",
            lag,
        )
    }
}

fn labels(pairs: &[(&'static str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| (*name, (*value).to_string())).collect()
}

fn counters(encoder: &mut DescriptorEncoder, name: &str, help: &str, values: impl Iterator<Item = (Labels, u64)>) -> Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges(encoder: &mut DescriptorEncoder, name: &str, help: &str, values: impl Iterator<Item = (Labels, u64)>) -> Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(signed(value)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn single(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(signed(value)).encode(metric)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn histograms<'a>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Labels, &'a HistogramValues)>,
) -> Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, values) in values.filter(|(_, values)| !values.buckets.is_empty()) {
        let (sum, count, buckets) = (values.sum, values.count(), &values.buckets);
        if labels.is_empty() {
            metric.encode_histogram::<NoLabelSet>(sum, count, buckets, None)?;
        } else {
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, buckets, None)?;
        }
    }
    Ok(())
}
