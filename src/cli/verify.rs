//! `aam verify`: verifies the hash chain of the ledger.

use super::{CommandError, CommandResult, CommonOptions};
use crate::model::text::counted;
use crate::registry::Reader;
use std::process::ExitCode;

/// Exits with 0 if the file and the chain are intact, and otherwise with 1 and the first broken row or what is damaged.
pub fn run(common: &CommonOptions) -> CommandResult {
    let verdict = Reader::open(&common.registry)?.verify()?;
    let rows = counted(usize::try_from(verdict.rows).unwrap_or(usize::MAX), "row");
    if let Some((seq, reason)) = &verdict.broken {
        common.print("", &verdict);
        return Err(CommandError::new(format!(
            "row {seq} of the ledger in {} does not match the hash chain: {reason}\n{rows} before it verified; restore the file from an earlier backup, and find out who changed it",
            common.registry.display(),
        )));
    }
    let calls = &verdict.calls;
    if let Some((batch, reason)) = &calls.broken {
        common.print("", &verdict);
        return Err(CommandError::new(format!(
            "batch {batch} of the recorded calls in {} does not match the hash chain: {reason}\n{rows} of the ledger verified, and {} before this batch; restore the file from an earlier backup, and find out who changed it",
            common.registry.display(),
            counted(usize::try_from(calls.calls).unwrap_or(usize::MAX), "call"),
        )));
    }
    if !verdict.damage.is_empty() {
        common.print("", &verdict);
        return Err(CommandError::new(format!(
            "the registry {} is damaged or was changed: {}\n{rows} of the ledger verified; restore the file from an earlier backup, and find out who changed it",
            common.registry.display(),
            verdict.damage.join("; "),
        )));
    }
    let mut text = format!("the ledger is intact: {rows}, head {}\n", verdict.head);
    text.push_str(&format!(
        "the recorded calls are intact: {}",
        counted(usize::try_from(calls.calls).unwrap_or(usize::MAX), "call")
    ));
    if calls.dropped_up_to > 0 {
        text.push_str("; older ones were dropped, as evidence.keep_calls says");
    }
    text.push('\n');
    common.print(&text, &verdict);
    Ok(ExitCode::SUCCESS)
}
