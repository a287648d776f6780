//! Writes a bundle from the registry.

use super::folder::{self, BundleFolder};
use super::summary::{self, SummaryInput};
use super::{
    ATTEMPTS, BundleKey, CALLS, CHAINED_FORMAT, ChainBody, ChainsBody, DroppedBody, FORMAT, HeadBody, INTENTS, LEDGER, MANIFEST,
    Manifest, PRIVILEGES, PUBLIC_KEY, SUMMARY, chained_bundle,
};
use crate::model::ledger::Fact;
use crate::model::{ConnectionId, Digest, Intent, StepReport, Timestamp};
use crate::registry::{CallBatch, LedgerHead, LedgerLine, Reader, RegistryError};
use crate::snapshot::Snapshot;
use serde_json::{Value, json};
use std::path::Path;

/// The period of a bundle: from `since` until before `until`.
#[derive(Clone, Copy, Debug)]
pub struct BundlePeriod {
    pub since: Timestamp,
    pub until: Timestamp,
    /// When the bundle is written.
    pub now: Timestamp,
}

impl BundlePeriod {
    /// Creates the period from `since` until before `until`, or until `now` if that is earlier.
    ///
    /// # Errors
    /// Returns a message if no instant of the period has passed.
    pub fn new(since: Timestamp, until: Option<Timestamp>, now: Timestamp) -> Result<BundlePeriod, String> {
        // What is recorded in this millisecond is part of the period.
        let end = Timestamp(now.0.saturating_add(1));
        if since >= end {
            return Err(format!(
                "the period begins in the future: --since is {}, and it is {} now",
                since.rfc3339(),
                now.rfc3339()
            ));
        }
        match until {
            Some(until) if until <= since => Err(format!(
                "the period ends before it begins: --until is {}, which is not after --since, {}",
                until.rfc3339(),
                since.rfc3339()
            )),
            until => Ok(BundlePeriod { since, until: until.map_or(end, |until| until.min(end)), now }),
        }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BundleWritten {
    pub files: usize,
    pub ledger_rows: u64,
    pub call_batches: u64,
    pub head: LedgerHead,
    /// The fingerprint of the key that signed the bundle.
    pub signed_by: Option<String>,
}

/// Writes the bundle into the new or empty folder `out`. If that fails, `out` is empty afterwards.
///
/// # Errors
/// Returns a message if the registry or an archive file of the period cannot be read, or if `out` is not empty or cannot be written.
pub fn write(reader: &Reader, period: BundlePeriod, out: &Path, key: Option<&BundleKey>) -> Result<BundleWritten, String> {
    let folder = BundleFolder::create(out)?;
    write_into(folder, reader, period, key).inspect_err(|_| folder::clear(out))
}

fn write_into(
    mut folder: BundleFolder<'_>,
    reader: &Reader,
    period: BundlePeriod,
    key: Option<&BundleKey>,
) -> Result<BundleWritten, String> {
    for name in [LEDGER, CALLS, INTENTS, ATTEMPTS, PRIVILEGES] {
        folder.touch(name)?;
    }
    let snapshot = reader.snapshot_at(Timestamp(period.until.0.saturating_sub(1))).map_err(text)?;
    let mut summary = SummaryInput::new(&snapshot, period);
    write_start(reader, period, &mut folder, &mut summary)?;
    let chained = reader.has_chains();
    let Content { head, head_at, ledger, calls, chains, calls_dropped } = match chained {
        true => chained_bundle::write(reader, period, &mut folder, &mut summary)?,
        false => write_content(reader, period, &mut folder, &mut summary)?,
    };
    for (id, known) in snapshot.connections.iter() {
        let intent = reader.body(known.document).map_err(text)?.and_then(|body| serde_json::from_str::<Intent>(&body).ok());
        summary.describe(id, &known, intent.as_ref());
    }
    summary.dropped = calls_dropped.clone();
    summary.signed_by = key.map(|key| key.public.fingerprint());
    summary.is_chained = chained;
    folder.write(SUMMARY, summary::text(&summary, head).as_bytes())?;
    if let Some(key) = key {
        folder.write(PUBLIC_KEY, key.public.to_pem().as_bytes())?;
    }
    let manifest = Manifest {
        format: if chained { CHAINED_FORMAT } else { FORMAT }.to_string(),
        aam_version: env!("CARGO_PKG_VERSION").to_string(),
        created_at: period.now.rfc3339(),
        since: period.since.rfc3339(),
        until: period.until.rfc3339(),
        head: HeadBody { seq: head.seq, hash: head.hash, at: head_at.map(Timestamp::rfc3339) },
        ledger,
        calls,
        chains,
        calls_dropped_up_to: reader.calls_dropped_up_to().map_err(text)?,
        calls_dropped,
        files: folder.complete()?,
    };
    let text_of = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
    folder.write(MANIFEST, text_of.as_bytes())?;
    let files = folder.finish(key)?;
    Ok(BundleWritten {
        files,
        ledger_rows: manifest.ledger.count,
        call_batches: manifest.calls.count,
        head,
        signed_by: summary.signed_by,
    })
}

pub(super) fn text(error: RegistryError) -> String {
    error.to_string()
}

/// What was written of the ledger and the calls.
pub(super) struct Content {
    pub head: LedgerHead,
    pub head_at: Option<Timestamp>,
    pub ledger: ChainBody,
    pub calls: ChainBody,
    /// `None` if there is one chain.
    pub chains: Option<ChainsBody>,
    pub calls_dropped: Option<DroppedBody>,
}

/// Writes the ledger and the calls of a registry with one chain.
fn write_content(
    reader: &Reader,
    period: BundlePeriod,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<Content, String> {
    let head = reader.head().map_err(text)?;
    let head_at = reader.entry_at(head.seq).map_err(text)?;
    let ledger = write_ledger(reader, period, head, folder, summary)?;
    let calls = write_calls(reader, period, folder, summary)?;
    // Calls may be dropped while the bundle is written, so this is read after them.
    let calls_dropped = calls_dropped(reader, period)?;
    Ok(Content { head, head_at, ledger, calls, chains: None, calls_dropped })
}

/// What was in force when the period began: the policy, the intents and the verdicts of privilege.
fn write_start(
    reader: &Reader,
    period: BundlePeriod,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<(), String> {
    let before = reader.snapshot_at(Timestamp(period.since.0.saturating_sub(1))).map_err(text)?;
    if let Some((digest, seq)) = before.policy {
        let body = reader.body(seq).map_err(text)?.unwrap_or_default();
        folder.policy(digest, &body)?;
        summary.policies.push((digest, before.policy_at));
    }
    for (id, known) in before.connections.iter().filter(|(_, known)| known.retired.is_none()) {
        let body = reader.body(known.document).map_err(text)?.unwrap_or_default();
        let document: Value = serde_json::from_str(&body).unwrap_or_default();
        folder.line(
            INTENTS,
            &json!({ "in_force_at_start": true, "seq": known.document, "connection_id": id, "namespace": known.namespace, "document": document }),
        )?;
    }
    write_verdicts_at_start(reader, &before, folder, summary)
}

/// The verdicts of privilege of the connections that were desired when the period began. A credential that could write then
/// may be used all the time without another verdict.
fn write_verdicts_at_start(
    reader: &Reader,
    before: &Snapshot,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<(), String> {
    for (id, known) in before.connections.iter().filter(|(_, known)| known.retired.is_none()) {
        // The latest attempt may have ended before it asked the source.
        for attempt in [&known.last, &known.conclusive, &known.proven].into_iter().flatten() {
            let body = reader.body(attempt.seq).map_err(text)?.unwrap_or_default();
            let verdicts = privileges(&serde_json::from_str(&body).unwrap_or_default());
            if verdicts.is_empty() {
                continue;
            }
            for (resource, privilege) in &verdicts {
                let verdict = json!({ "in_force_at_start": true, "seq": attempt.seq, "at": attempt.at.rfc3339(), "connection_id": id,
                    "namespace": known.namespace, "resource_id": resource, "privilege": privilege });
                folder.line(PRIVILEGES, &verdict)?;
            }
            summary.privileges(id, attempt.at, &verdicts);
            break;
        }
    }
    Ok(())
}

/// The last entry since the start of the period that dropped calls. Entries before it cannot have dropped calls of the period.
fn calls_dropped(reader: &Reader, period: BundlePeriod) -> Result<Option<DroppedBody>, String> {
    let mut last = None;
    reader
        .ledger_lines(period.since, Timestamp(i64::MAX), |line| {
            if line.kind == "calls_dropped"
                && let Ok(Fact::CallsDropped { calls, before, .. }) = Fact::read(&line.kind, &line.facts)
            {
                let (seq, before, chains) = (line.seq, before.rfc3339(), Vec::new());
                last = Some(DroppedBody { seq, batch: calls.batch, hash: calls.hash, before, chains });
            }
            true
        })
        .map_err(text)?;
    Ok(last)
}

/// The rows of the ledger, and what they say in files of their own.
fn write_ledger(
    reader: &Reader,
    period: BundlePeriod,
    head: LedgerHead,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<ChainBody, String> {
    let mut chain: Option<ChainBody> = None;
    let mut failed = Ok(());
    reader
        .ledger_lines(period.since, period.until, |line| {
            // What was appended after the head was read is not part of the bundle.
            if line.seq > head.seq {
                return false;
            }
            chain.get_or_insert_with(|| ChainBody::new(line.prev)).add(line.seq, line.hash);
            failed = folder
                .line(LEDGER, &serde_json::to_value(&line).unwrap_or_default())
                .and_then(|()| write_readable(&line, folder, summary));
            failed.is_ok()
        })
        .map_err(text)?;
    failed?;
    Ok(chain.unwrap_or(ChainBody::new(Digest::default())))
}

/// Writes what a row of the ledger says into the files for people.
pub(super) fn write_readable(line: &LedgerLine, folder: &mut BundleFolder<'_>, summary: &mut SummaryInput) -> Result<(), String> {
    let facts: Value = serde_json::from_str(&line.facts).unwrap_or_default();
    let body = || serde_json::from_str::<Value>(line.body.as_deref().unwrap_or("null")).unwrap_or_default();
    let at = Timestamp(line.at);
    let readable = |more: Value| {
        let mut value = json!({ "seq": line.seq, "at": at.rfc3339(), "kind": line.kind, "namespace": line.namespace,
            "connection_id": line.connection, "facts": facts });
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        value
    };
    summary.count(&line.kind);
    match line.kind.as_str() {
        "policy_accepted" => {
            let policy = line.body.clone().unwrap_or_default();
            let digest = Digest::from_bytes(policy.as_bytes());
            summary.policies.push((digest, at));
            folder.policy(digest, &policy)
        }
        "intent_accepted" => folder.line(INTENTS, &readable(json!({ "document": body() }))),
        "intent_withdrawn" | "connection_retired" | "departure_confirmed" => folder.line(INTENTS, &readable(json!({}))),
        "attempt_begun" => folder.line(ATTEMPTS, &readable(json!({}))),
        "attempt_finished" => {
            let steps = body();
            let connection = line.connection.as_deref().and_then(|id| ConnectionId::parse(id).ok());
            summary.attempt(connection, facts.get("class").is_none_or(Value::is_null));
            let batch = facts.pointer("/calls/batch").and_then(Value::as_u64);
            summary.named_batches.extend(batch.map(|batch| (line.chain, batch)));
            let verdicts = privileges(&steps);
            if let Some(id) = connection {
                summary.privileges(id, at, &verdicts);
            }
            for (resource, privilege) in &verdicts {
                let verdict = json!({ "seq": line.seq, "at": at.rfc3339(), "connection_id": line.connection, "namespace": line.namespace,
                    "resource_id": resource, "privilege": privilege });
                folder.line(PRIVILEGES, &verdict)?;
            }
            folder.line(ATTEMPTS, &readable(json!({ "steps": steps })))
        }
        _ => Ok(()),
    }
}

/// The verdicts of privilege in the reports of an attempt, by resource id. With one resource, the id is empty.
fn privileges(steps: &Value) -> Vec<(String, Value)> {
    let reports: Vec<StepReport> = serde_json::from_value(steps.clone()).unwrap_or_default();
    let mut found = Vec::new();
    for report in reports {
        if let Some(privilege) = report.evidence.get("privilege") {
            found.push((String::new(), privilege.clone()));
        }
        found.extend(
            report.evidence.iter().filter_map(|(resource, value)| Some((resource.clone(), value.get("privilege")?.clone()))),
        );
    }
    found
}

fn write_calls(
    reader: &Reader,
    period: BundlePeriod,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<ChainBody, String> {
    let mut chain: Option<ChainBody> = None;
    let mut failed = Ok(());
    reader
        .call_batches(period.since, period.until, |batch: CallBatch| {
            chain.get_or_insert_with(|| ChainBody::new(batch.prev)).add(batch.batch, batch.hash);
            summary.calls(&batch);
            failed = folder.line(CALLS, &serde_json::to_value(&batch).unwrap_or_default());
            failed.is_ok()
        })
        .map_err(text)?;
    failed?;
    Ok(chain.unwrap_or(ChainBody::new(Digest::default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_in_the_past_and_ends_after_its_beginning() {
        let new = |since, until: Option<i64>| BundlePeriod::new(Timestamp(since), until.map(Timestamp), Timestamp(1000));
        let end = |since, until| new(since, until).map(|period| period.until);
        assert_eq!(end(1, None), Ok(Timestamp(1001)));
        assert_eq!(end(1000, None), Ok(Timestamp(1001)));
        assert_eq!(end(1, Some(500)), Ok(Timestamp(500)));
        assert_eq!(end(1, Some(5000)), Ok(Timestamp(1001)));
        let future = new(1001, None).expect_err("in the future");
        assert!(future.contains("begins in the future: --since is 1970-01-01T00:00:01.001Z"), "{future}");
        assert!(new(5000, Some(6000)).expect_err("in the future").contains("begins in the future"));
        let backwards = new(500, Some(500)).expect_err("empty");
        assert!(backwards.contains("--until is 1970-01-01T00:00:00.500Z, which is not after --since"), "{backwards}");
    }
}
