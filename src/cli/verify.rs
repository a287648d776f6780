//! `aam verify`: walk the hash chain.

use super::{Common, Ended, Fail};
use crate::registry::Reader;
use std::process::ExitCode;

/// Exit 0 when every row fits, 1 with the first that does not.
pub fn run(common: &Common) -> Ended {
    let verdict = Reader::open(&common.registry)?.verify()?;
    if let Some((seq, why)) = &verdict.broken {
        common.print("", &verdict);
        return Err(Fail::new(format!(
            "row {seq} of the ledger in {} does not fit: {why}\n{} row(s) before it fit; restore the file from a copy made before, and find out who changed it",
            common.registry.display(),
            verdict.rows
        )));
    }
    common.print(&format!("the ledger is whole: {} row(s), head {}\n", verdict.rows, verdict.head), &verdict);
    Ok(ExitCode::SUCCESS)
}
