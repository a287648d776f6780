//! Keeps the evidence of the registry while AAM runs: records the calls that no attempt recorded, drops old ones, and writes the
//! head of the ledger where a cut registry would be noticed.

use crate::model::Timestamp;
use crate::notify;
use crate::pipeline::Env;
use crate::policy::Policy;
use crate::reconcile::Handle;
use crate::registry::{LedgerHead, RegistryError};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often calls outside of attempts are recorded.
const RECORD_INTERVAL: Duration = Duration::from_secs(5);
/// How often old calls are dropped and the head is written.
const HEAD_INTERVAL: Duration = Duration::from_secs(3600);
/// How long sending the head may delay the end of the process.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes the head, and keeps the evidence until this is dropped.
pub async fn keep(handle: Arc<Handle>, env: Arc<Env>) {
    let mut head = tokio::time::interval(HEAD_INTERVAL);
    let mut record = tokio::time::interval(RECORD_INTERVAL);
    let mut moment = "start";
    loop {
        tokio::select! {
            // Of several replicas, the leader keeps the evidence of the registry.
            _ = head.tick(), if handle.registry.is_leader() => {
                drop_old_calls(&handle).await;
                archive_old(&handle).await;
                write_head(&handle, &env, moment).await;
                moment = "hour";
            }
            _ = record.tick() => record_calls(&handle, &env).await,
        }
    }
}

/// Records what is left and writes the head, because the process stops.
pub async fn finish(handle: &Handle, env: &Env) {
    record_calls(handle, env).await;
    if !handle.registry.is_leader() {
        return;
    }
    // A webhook that does not answer must not delay the end.
    if tokio::time::timeout(STOP_TIMEOUT, write_head(handle, env, "stop")).await.is_err() {
        tracing::warn!(target: "aam::registry", "the webhook of evidence.head_webhook did not answer in time");
    }
    record_calls(handle, env).await;
}

/// Records the calls that no attempt recorded.
async fn record_calls(handle: &Handle, env: &Env) {
    let batches = env.egress.background.take();
    if batches.is_empty() {
        return;
    }
    if let Err(error) = handle.registry.record_calls(batches.clone()).await {
        report(&error, "could not record calls; they are recorded once the registry can be written");
        for batch in batches {
            env.egress.background.add(batch.connection, &batch.family, batch.calls);
        }
    }
}

async fn drop_old_calls(handle: &Handle) {
    let age = i64::try_from(handle.policy().evidence.calls_age().as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp(handle.clock.now().0.saturating_sub(age));
    loop {
        match handle.registry.drop_calls(before).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return report(&error, "could not drop old calls; this is tried again in an hour"),
        }
    }
}

/// Moves what is older than `registry.keep` into archive files.
async fn archive_old(handle: &Handle) {
    let age = handle.policy().registry.keep_age().map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let before = age.map(|age| Timestamp(handle.clock.now().0.saturating_sub(age)));
    if let Err(error) = handle.registry.archive(before).await {
        report(&error, "could not move old calls and step reports into archive files; this is tried again in an hour");
    }
}

/// Writes the head to the log, and to the file and the webhook of the policy.
async fn write_head(handle: &Handle, env: &Env, moment: &str) {
    let head = match handle.registry.anchor_calls().await {
        Ok(LedgerHead { seq, hash }) => format!("{seq}:{hash}"),
        Err(error) => return report(&error, "could not write the head of the ledger"),
    };
    tracing::info!(target: "aam::registry", head, moment, "head of the ledger");
    let (policy, at) = (handle.policy(), handle.clock.now());
    if let Some(file) = &policy.evidence.head_file
        && let Err(error) = append(file, &format!("{} {moment} {head}\n", at.rfc3339()))
    {
        tracing::error!(target: "aam::registry", file = %file.display(), %error,
            "could not write the head of the ledger to the file of evidence.head_file; make the file writable for the user of AAM");
    }
    send(env, &policy, at, moment, &head).await;
}

fn append(file: &Path, line: &str) -> std::io::Result<()> {
    // Opening a FIFO without a reader must not block.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(file)?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

async fn send(env: &Env, policy: &Arc<Policy>, at: Timestamp, moment: &str, head: &str) {
    let named = policy.evidence.head_webhook.as_ref();
    let Some(webhook) = named.and_then(|name| policy.notify.iter().find(|webhook| webhook.name == *name)) else { return };
    if let Err(failure) = notify::send_head(env, policy, webhook, at, moment, head).await {
        tracing::error!(target: "aam::registry", webhook = %webhook.name, problem = %failure.title, detail = %failure.detail, fix = %failure.fix,
            "could not send the head of the ledger; the next one is sent in an hour");
    }
}

fn report(error: &RegistryError, what: &str) {
    tracing::warn!(target: "aam::registry", %error, "{what}");
}
