//! Verifies the chains of a ledger in PostgreSQL, the anchors that bind them, and the recorded calls.

use super::archive::CallArchives;
use super::call_entries::CallEntries;
use super::chain::GENESIS;
use super::lease::PARTITIONS;
use super::verify::{self, Verdict, VerifyProgress};
use super::verify_calls;
use super::{CallsVerdict, RegistryError, evidence_reader, postgres_schema};
use crate::model::Digest;
use crate::model::ledger::Fact;
use sqlstore::Connection;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// The rows that anchors name, by chain and place: the hash, and the `seq` of the first anchor that names it.
type Anchored = BTreeMap<(usize, u64), (Digest, u64)>;

/// The first row that does not match, by its `seq`, and why.
type Broken = (i64, String);

/// Verifies everything in the open transaction, so that all chains are those of one moment.
///
/// # Errors
/// If the registry cannot be read.
pub(super) fn verify(db: &Connection, progress: &VerifyProgress) -> Result<Verdict, RegistryError> {
    let damage = postgres_schema::differences(db)?;
    let total = db.query_row("SELECT count(*) FROM ledger", [], |row| row.get::<_, u64>(0))?;
    progress.total.store(total, Ordering::Relaxed);
    let calls = CallsVerdict::default();
    let mut verdict = Verdict {
        rows: 0,
        head: GENESIS,
        broken: None,
        damage,
        calls,
        archives: Vec::new(),
        stored_fold: None,
        unused_fold: None,
    };
    let mut anchored = Anchored::new();
    for chain in 0..PARTITIONS {
        let (head, broken) = verify_chain(db, chain, &mut anchored, (&mut verdict.rows, progress))?;
        if chain == 0 {
            verdict.head = head;
        }
        if broken.is_some() {
            verdict.broken = broken;
            return Ok(verdict);
        }
    }
    if verdict.rows != total {
        let broken = (0, format!("{} rows are in chains that AAM does not write", total.saturating_sub(verdict.rows)));
        verdict.broken = Some(broken);
        return Ok(verdict);
    }
    match call_entries(db)? {
        Ok(entries) => {
            let (calls, other_rows) = verify_calls::verify(db, &entries, &CallArchives::default())?;
            verdict.calls = calls;
            verdict.damage.extend(other_rows);
        }
        Err(broken) => verdict.broken = Some(broken),
    }
    Ok(verdict)
}

/// Verifies one chain from its first row, and what anchors say about it. The anchors are in the first chain, so that chain is
/// verified first. Returns the hash of its last row.
fn verify_chain(
    db: &Connection,
    chain: usize,
    anchored: &mut Anchored,
    (rows_done, progress): (&mut u64, &VerifyProgress),
) -> Result<(Digest, Option<Broken>), RegistryError> {
    let sql =
        "SELECT seq, at, kind, namespace, connection, facts, body, prev, hash, place FROM ledger WHERE chain = ?1 ORDER BY place";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([chain])?;
    let (mut head, mut place, mut last_seq) = (GENESIS, 0, 0);
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let number = i64::try_from(seq).unwrap_or(i64::MAX);
        place += 1;
        if row.get::<_, u64>(9)? != place {
            return Ok((head, Some((number, format!("row {place} of chain {chain} is missing")))));
        }
        if seq <= last_seq {
            return Ok((head, Some((number, format!("it stands after row {last_seq} in chain {chain}")))));
        }
        last_seq = seq;
        head = match verify::step_after(row, seq, &head) {
            Ok(hash) => hash,
            Err(why) => return Ok((head, Some((number, why)))),
        };
        if evidence_reader::chain_of_row(row.text(4)?).and_then(|chain| usize::try_from(chain).ok()) != Some(chain) {
            let why = format!("it is in chain {chain}, which is not that of its connection");
            return Ok((head, Some((number, why))));
        }
        if let Some((hash, anchor)) = anchored.remove(&(chain, place)).filter(|(hash, _)| *hash != head) {
            return Ok((head, Some((number, format!("row {anchor} anchors it with another hash: {hash}")))));
        }
        if chain == 0 && row.text(2)? == Some("chains_anchored") {
            match Fact::read("chains_anchored", row.text(5)?.unwrap_or_default()) {
                Ok(Fact::ChainsAnchored { chains }) => {
                    for anchor in chains {
                        let key = (usize::try_from(anchor.chain).unwrap_or(usize::MAX), anchor.place);
                        anchored.entry(key).or_insert((anchor.hash, seq));
                    }
                }
                _ => return Ok((head, Some((number, "it does not name the ends of the chains".to_string())))),
            }
        }
        *rows_done += 1;
        progress.rows.store(*rows_done, Ordering::Relaxed);
    }
    let cut = anchored.range((chain, 0)..=(chain, u64::MAX)).next_back();
    let cut = cut.map(|((_, expected), (_, anchor))| {
        let number = i64::try_from(*anchor).unwrap_or(i64::MAX);
        (number, format!("it names row {expected} of chain {chain}, which ends at row {place}: its end was cut off"))
    });
    Ok((head, cut))
}

/// Reads what the entries of the ledger say about recorded calls, in order.
fn call_entries(db: &Connection) -> Result<Result<CallEntries, Broken>, RegistryError> {
    let sql = "SELECT seq, at, kind, facts, chain FROM ledger
               WHERE kind IN ('attempt_finished', 'calls_recorded', 'calls_dropped', 'policy_accepted') ORDER BY seq";
    let mut entries = CallEntries::default();
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let (kind, facts) = (row.text(2)?.unwrap_or_default(), row.text(3)?.unwrap_or_default());
        if let Err(why) = entries.add_of_chain(row.get(4)?, (seq, row.get(1)?), kind, facts) {
            return Ok(Err((i64::try_from(seq).unwrap_or(i64::MAX), why)));
        }
    }
    let last = db.query_row("SELECT coalesce(max(seq), 0) FROM ledger", [], |row| row.get(0))?;
    entries.ends_at(last);
    Ok(Ok(entries))
}
