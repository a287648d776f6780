//! Writes the ledger and the calls of a registry in PostgreSQL, which have several chains, into a bundle.

use super::bundle::{BundlePeriod, Content, text, write_readable};
use super::folder::BundleFolder;
use super::summary::SummaryInput;
use super::{CALLS, ChainBody, ChainsBody, DroppedBody, LEDGER, Parts};
use crate::model::Digest;
use crate::model::ledger::Fact;
use crate::registry::{CallBatch, LedgerLine, Reader, named_ends};

/// Writes the rows of the period with those around them that show that the period is complete. The files for people have the
/// period only.
pub fn write(
    reader: &Reader,
    period: BundlePeriod,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<Content, String> {
    let (mut rows, mut batches) = (Parts::default(), Parts::default());
    let (mut ledger, mut calls) = (ChainBody::new(Digest::default()), ChainBody::new(Digest::default()));
    let is_of_period = |at: i64| at >= period.since.0 && at < period.until.0;
    let mut failed = Ok(());
    let take_line = |line: LedgerLine| {
        rows.add(line.chain.unwrap_or_default(), line.place.unwrap_or_default(), line.prev, line.hash);
        count(&mut ledger, line.seq);
        failed = folder.line(LEDGER, &serde_json::to_value(&line).unwrap_or_default());
        if failed.is_ok() && is_of_period(line.at) {
            failed = write_readable(&line, folder, summary);
        }
        failed.is_ok()
    };
    let (head, head_at) = reader.chained_lines(period.since, period.until, take_line).map_err(text)?;
    failed?;
    let mut failed = Ok(());
    let take_batch = |batch: CallBatch| {
        batches.add(batch.chain.unwrap_or_default(), batch.place.unwrap_or_default(), batch.prev, batch.hash);
        count(&mut calls, batch.batch);
        if is_of_period(batch.at) {
            summary.calls(&batch);
        }
        failed = folder.line(CALLS, &serde_json::to_value(&batch).unwrap_or_default());
        failed.is_ok()
    };
    reader.chained_batches(period.since, period.until, take_batch).map_err(text)?;
    failed?;
    // Calls may be dropped while the bundle is written, so this is read after them.
    let calls_dropped = calls_dropped(reader)?;
    let chains = Some(ChainsBody { ledger: rows.list(), calls: batches.list() });
    Ok(Content { head, head_at, ledger, calls, chains, calls_dropped })
}

/// Counts a row. The hashes are those of its chain.
fn count(body: &mut ChainBody, number: u64) {
    if body.count == 0 {
        body.first = number;
    }
    body.count += 1;
}

/// The last entry that dropped calls. It names the ends of all chains, also of those in which earlier entries dropped the calls.
fn calls_dropped(reader: &Reader) -> Result<Option<DroppedBody>, String> {
    let Some((seq, fact)) = reader.last_calls_dropped().map_err(text)? else { return Ok(None) };
    let Fact::CallsDropped { calls, before, .. } = fact else { return Ok(None) };
    let (before, chains) = (before.rfc3339(), named_ends(fact));
    Ok(Some(DroppedBody { seq, batch: calls.batch, hash: calls.hash, before, chains }))
}
