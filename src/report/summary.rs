//! The executive's lines. `scripts/exec_summary.py` prints the same, to the character.

use crate::funnel::Funnel;

/// Blockers that are named before the rest is only counted.
const NAMED: usize = 10;

/// The four lines; below the target, a block that names each blocker with its count and its fix.
#[must_use]
pub fn lines(funnel: &Funnel) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Eligible: {} | Reachable: {} | Active: {} → Coverage {}/{} (target ≥ {:.2})",
            funnel.eligible, funnel.reachable, funnel.active, funnel.active, funnel.eligible, funnel.target
        ),
        format!(
            "Awaiting Creds: {} | Network Blocked: {} | Unsupported Type: {} | Healing: {} | Error: {}",
            funnel.awaiting_credentials, funnel.network_blocked, funnel.unsupported_type, funnel.healing, funnel.error
        ),
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

fn slo(funnel: &Funnel) -> String {
    // Cut, not rounded: 0.896 must not read as 0.90 and still miss it.
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
        lines.push(format!("Pending: {} accepted, no attempt finished yet", funnel.pending));
    }
    if funnel.blockers.is_empty() {
        return;
    }
    lines.push("Blockers:".to_string());
    for blocker in funnel.blockers.iter().take(NAMED) {
        lines.push(format!("- {} x {}", blocker.count, blocker.name));
        if !blocker.fix.is_empty() {
            lines.push(format!("  fix: {}", blocker.fix));
        }
    }
    if funnel.blockers.len() > NAMED {
        lines.push(format!("- and {} more kinds; see aam status", funnel.blockers.len() - NAMED));
    }
}
