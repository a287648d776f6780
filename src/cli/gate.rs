//! `aam gate`: stops a run on technical debt that is not approved.

use super::{CommandError, CommandResult, CommonOptions, EXIT_CONFIG};
use crate::debt_gate::scan::{UndeclaredDebt, scan};
use crate::debt_gate::{APPROVAL, DebtGate};
use crate::operator_file;
use crate::policy_loader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct GateOptions {
    /// The folder that holds DEBT.md and the sources
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// The approval token
    #[arg(long, env = "AAM_APPROVAL")]
    approve: Option<String>,
    /// Print the counts of declared debt also if nothing stops the run
    #[arg(long)]
    details: bool,
}

/// Folders and files that are scanned for undeclared debt.
const SCANNED: [&str; 9] = ["src", "tests", "benches", "scripts", "policy", "seeds", "intents", "Makefile", ".ci"];
/// The maximum size of a scanned file. Larger files are assumed to be data.
const MAX_BYTES: u64 = 1 << 20;

/// Exits with 0 if the gate does not find anything or if the run is approved, with 78 if DEBT.md cannot be read, and with 1
/// otherwise.
pub fn run(common: &CommonOptions, options: &GateOptions) -> CommandResult {
    let path = options.root.join("DEBT.md");
    let debt = operator_file::read_text(&path, MAX_BYTES).map_err(|error| CommandError {
        code: EXIT_CONFIG,
        message: format!("cannot read {}: {error}; pass the folder that holds DEBT.md with --root", path.display()),
    })?;
    let mut findings = Vec::new();
    for name in SCANNED {
        search(&options.root, Path::new(name), &mut findings);
    }
    findings.extend(uncapped(common));
    let gate = DebtGate::new(&debt, findings);
    let approved = options.approve.as_deref().map(str::trim) == Some(APPROVAL);
    let summary = gate.summary();
    if gate.passes() {
        let details = if options.details { format!("\n{}\n{}", summary[0], summary[1]) } else { String::new() };
        common.print(&format!("GATE PASSED: nothing stops this run{details}\n"), &gate);
        return Ok(ExitCode::SUCCESS);
    }
    if approved {
        common.print(&format!("GATE PASSED by approval\n{}\n", summary[..4].join("\n")), &gate);
        return Ok(ExitCode::SUCCESS);
    }
    common.print(&format!("AWAITING APPROVAL\n{}\n", summary.join("\n")), &gate);
    if options.approve.is_some() {
        return Err(CommandError::new(format!("the approval token is not valid; the valid one is: {APPROVAL}")));
    }
    Ok(ExitCode::FAILURE)
}

fn search(root: &Path, below: &Path, findings: &mut Vec<UndeclaredDebt>) {
    let path = root.join(below);
    let Ok(meta) = std::fs::symlink_metadata(&path) else { return };
    if meta.is_dir() {
        let Ok(entries) = std::fs::read_dir(&path) else { return };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            search(root, &below.join(name), findings);
        }
    } else if meta.is_file() && meta.len() <= MAX_BYTES {
        // Files that are not UTF-8 text are skipped.
        if let Ok(text) = operator_file::read_text(&path, MAX_BYTES) {
            findings.extend(scan(&below.display().to_string(), &text));
        }
    }
}

/// Returns the families on the policy's allowlist that do not have a cap.
fn uncapped(common: &CommonOptions) -> Vec<UndeclaredDebt> {
    let Ok(loaded) = policy_loader::load(&common.policy).loaded else {
        return vec![UndeclaredDebt { file: common.policy.display().to_string(), line: 1, kind: "policy that is not valid" }];
    };
    let bare = |name: &&String| loaded.family(name).is_none() && !loaded.policy.caps.families.contains_key(*name);
    loaded
        .policy
        .allowlist
        .iter()
        .filter(bare)
        .map(|_| UndeclaredDebt { file: common.policy.display().to_string(), line: 1, kind: "allowlisted family without caps" })
        .collect()
}
