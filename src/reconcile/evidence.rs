//! Keeps the evidence of the registry: records the calls that no attempt recorded, drops old ones, and writes the head of the
//! ledger where a cut registry would be noticed.

use super::handle::Handle;
use crate::egress::Egress;
use crate::registry::{LedgerHead, RegistryError};
use std::sync::Arc;
use std::time::Duration;

/// How often calls outside of attempts are recorded.
const RECORD_INTERVAL: Duration = Duration::from_secs(5);
/// How often old calls are dropped and the head is written.
const HEAD_INTERVAL: Duration = Duration::from_secs(3600);

/// Writes the head, and keeps the evidence until this is dropped.
pub async fn keep(handle: Arc<Handle>, egress: Arc<Egress>) {
    let mut head = tokio::time::interval(HEAD_INTERVAL);
    let mut record = tokio::time::interval(RECORD_INTERVAL);
    let mut moment = "start";
    loop {
        tokio::select! {
            _ = head.tick() => {
                drop_old_calls(&handle).await;
                write_head(&handle, moment).await;
                moment = "hour";
            }
            _ = record.tick() => record_calls(&handle, &egress).await,
        }
    }
}

/// Records what is left and writes the head, because the process stops.
pub async fn finish(handle: &Handle, egress: &Egress) {
    record_calls(handle, egress).await;
    write_head(handle, "stop").await;
}

/// Records the calls that no attempt recorded.
async fn record_calls(handle: &Handle, egress: &Egress) {
    let batches = egress.background.take();
    if batches.is_empty() {
        return;
    }
    if let Err(error) = handle.registry.record_calls(batches.clone()).await {
        report(&error, "could not record calls; they are recorded once the registry can be written");
        for batch in batches {
            egress.background.add(batch.connection, &batch.family, batch.calls);
        }
    }
}

async fn drop_old_calls(handle: &Handle) {
    let age = i64::try_from(handle.policy().evidence.calls_age().as_millis()).unwrap_or(i64::MAX);
    let before = crate::model::Timestamp(handle.clock.now().0.saturating_sub(age));
    loop {
        match handle.registry.drop_calls(before).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return report(&error, "could not drop old calls; this is tried again in an hour"),
        }
    }
}

async fn write_head(handle: &Handle, moment: &str) {
    match handle.registry.anchor_calls().await {
        Ok(LedgerHead { seq, hash }) => {
            tracing::info!(target: "aam::registry", head = %format!("{seq}:{hash}"), moment, "head of the ledger");
        }
        Err(error) => report(&error, "could not write the head of the ledger"),
    }
}

fn report(error: &RegistryError, what: &str) {
    tracing::warn!(target: "aam::registry", %error, "{what}");
}
