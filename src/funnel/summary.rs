//! The lines of the exec summary. They are part of the funnel's JSON, from which `scripts/exec_summary.py` reads them.

use super::{Funnel, Stage};

/// The maximum number of blockers to list. Further ones are only counted.
const MAX_LISTED: usize = 10;

/// The stages of the first line.
const REACHED: [Stage; 3] = [Stage::Eligible, Stage::Reachable, Stage::Active];
/// The stages of the second line.
const BLOCKED: [Stage; 5] =
    [Stage::AwaitingCredentials, Stage::NetworkBlocked, Stage::UnsupportedType, Stage::Healing, Stage::Error];

/// Returns four lines. If the coverage is below the target, a list of the blockers with their counts and fixes follows.
#[must_use]
pub fn lines(funnel: &Funnel) -> Vec<String> {
    let mut lines = vec![
        format!("{} → Coverage {}/{} (target ≥ {:.2})", counts(funnel, &REACHED), funnel.active, funnel.eligible, funnel.target),
        counts(funnel, &BLOCKED),
        format!(
            "Auto-created {} connections; Safe-Mode only; first-sync p95 latency {} ms; no destructive ops.",
            funnel.auto_created, funnel.first_sync_p95_ms
        ),
        slo(funnel),
    ];
    if !funnel.slo_met {
        blockers(funnel, &mut lines);
    }
    lines
}

/// Formats the counts of `stages` as `Eligible: 5 | Reachable: 5`.
fn counts(funnel: &Funnel, stages: &[Stage]) -> String {
    let parts: Vec<String> = stages.iter().map(|stage| format!("{}: {}", stage.label(), funnel.count(*stage))).collect();
    parts.join(" | ")
}

fn slo(funnel: &Funnel) -> String {
    // The coverage is truncated, not rounded, so that 0.896 is not printed as 0.90 next to "not met".
    let coverage = (funnel.coverage * 100.0 + 1e-9).floor() / 100.0;
    if funnel.slo_met {
        format!("SLO: met ({coverage:.2} ≥ {:.2})", funnel.target)
    } else if funnel.eligible == 0 {
        format!("SLO: not met (nothing is eligible yet, target ≥ {:.2})", funnel.target)
    } else {
        format!("SLO: not met ({coverage:.2} < {:.2})", funnel.target)
    }
}

fn blockers(funnel: &Funnel, lines: &mut Vec<String>) {
    if funnel.pending > 0 {
        lines.push(format!("{}: {} accepted, no attempt finished yet", Stage::Pending.label(), funnel.pending));
    }
    if funnel.blockers.is_empty() {
        return;
    }
    lines.push("Blockers:".to_string());
    for blocker in funnel.blockers.iter().take(MAX_LISTED) {
        lines.push(format!("- {} x {}", blocker.count, blocker.name));
        if !blocker.fix.is_empty() {
            lines.push(format!("  fix: {}", blocker.fix));
        }
    }
    if funnel.blockers.len() > MAX_LISTED {
        lines.push(format!("- and {} more kinds; see aam status", funnel.blockers.len() - MAX_LISTED));
    }
}
