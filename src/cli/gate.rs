//! `aam gate`: stop on debt that nobody approved.

use super::{Common, Ended, Fail};
use crate::gate::{self, APPROVAL, sentinel};
use crate::policy_loader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Options {
    /// The folder that holds DEBT.md and the sources
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// The approval token
    #[arg(long, env = "AAM_APPROVAL")]
    approve: Option<String>,
}

/// Folders and files that are searched for undeclared debt.
const SEARCHED: [&str; 9] = ["src", "tests", "benches", "scripts", "policy", "seeds", "intents", "Makefile", ".ci"];
/// A file larger than this is data.
const MAX_BYTES: u64 = 1 << 20;

/// Exit 0 when nothing stops the run or it is approved, 1 otherwise.
pub fn run(common: &Common, options: &Options) -> Ended {
    let path = options.root.join("DEBT.md");
    let debt = std::fs::read_to_string(&path).map_err(|error| {
        Fail::new(format!("{}: {error}; the gate reads declared debt from DEBT.md, name its folder with --root", path.display()))
    })?;
    let mut findings = Vec::new();
    for name in SEARCHED {
        search(&options.root, Path::new(name), &mut findings);
    }
    findings.extend(uncapped(common));
    let verdict = gate::judge(&debt, findings);
    let approved = options.approve.as_deref().map(str::trim) == Some(APPROVAL);
    let summary = verdict.summary();
    if verdict.passes() {
        common.print(&format!("GATE PASSED\n{}\n{}\n", summary[0], summary[1]), &verdict);
        return Ok(ExitCode::SUCCESS);
    }
    if approved {
        common.print(&format!("GATE PASSED by approval\n{}\n", summary[..4].join("\n")), &verdict);
        return Ok(ExitCode::SUCCESS);
    }
    common.print(&format!("AWAITING APPROVAL\n{}\n", summary.join("\n")), &verdict);
    if options.approve.is_some() {
        return Err(Fail::new(format!("the approval token is not the one that is asked for: {APPROVAL}")));
    }
    Ok(ExitCode::FAILURE)
}

fn search(root: &Path, below: &Path, findings: &mut Vec<sentinel::Finding>) {
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
        // What is no text holds no line to find.
        if let Ok(text) = std::fs::read_to_string(&path) {
            findings.extend(sentinel::scan(&below.display().to_string(), &text));
        }
    }
}

/// Families that the policy lists and that no cap bounds.
fn uncapped(common: &Common) -> Vec<sentinel::Finding> {
    let Ok(loaded) = policy_loader::load(&common.policy).loaded else {
        return vec![sentinel::Finding {
            file: common.policy.display().to_string(),
            line: 1,
            kind: "policy that cannot be read",
        }];
    };
    let bare = |name: &&String| loaded.family(name).is_none() && !loaded.policy.caps.families.contains_key(*name);
    loaded
        .policy
        .allowlist
        .iter()
        .filter(bare)
        .map(|_| sentinel::Finding {
            file: common.policy.display().to_string(),
            line: 1,
            kind: "allowlisted family without caps",
        })
        .collect()
}
