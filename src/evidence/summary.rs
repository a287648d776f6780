//! The summary of a bundle, in Markdown.

use super::{ATTEMPTS, BundlePeriod, CALLS, DroppedBody, INTENTS, LEDGER, POLICIES, PRIVILEGES, PUBLIC_KEY, SIGNATURE, SUMS};
use crate::model::text::{counted, printable};
use crate::model::{ConnectionId, Digest, Intent, Privilege, Timestamp};
use crate::registry::{CallBatch, LedgerHead};
use crate::snapshot::{Connection, Snapshot};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The number of hosts that are listed for each connection.
const MAX_HOSTS: usize = 5;

/// How the entries of several chains are bound to each other.
const CHAINED_ORDER: &str = "Each covers the one before it in its chain, and the entries `chains_anchored` name the last one of every \
     chain. For each chain, the file also has the entry before the period; it goes on until the next anchor after the period.";

/// What the summary says.
pub struct SummaryInput {
    period: BundlePeriod,
    /// The versions of the policy, with the time from which each was in force.
    pub policies: Vec<(Digest, Timestamp)>,
    kinds: BTreeMap<String, u64>,
    connections: BTreeMap<String, Figures>,
    pub signed_by: Option<String>,
    /// The last entry since the start of the period that dropped calls.
    pub dropped: Option<DroppedBody>,
    /// The batches of calls that the attempts of the period name, with the chain of the attempt if there are several.
    pub named_batches: Vec<(Option<u32>, u64)>,
    /// Whether the registry has several chains.
    pub is_chained: bool,
    calls: u64,
    cut: u64,
}

/// What happened to one connection, or, for calls without a connection, what was called.
#[derive(Default)]
struct Figures {
    title: String,
    state: String,
    passed: u64,
    failed: u64,
    calls: u64,
    hosts: BTreeMap<String, u64>,
    /// The last verdicts by resource id, and when they were found.
    privileges: BTreeMap<String, (Privilege, Timestamp)>,
}

impl SummaryInput {
    pub fn new(snapshot: &Snapshot, period: BundlePeriod) -> SummaryInput {
        let connections = snapshot.connections.keys().map(|id| (id.to_string(), Figures::default())).collect();
        SummaryInput {
            period,
            policies: Vec::new(),
            kinds: BTreeMap::new(),
            connections,
            signed_by: None,
            dropped: None,
            named_batches: Vec::new(),
            is_chained: false,
            calls: 0,
            cut: 0,
        }
    }

    /// Counts a row of the ledger.
    pub fn count(&mut self, kind: &str) {
        *self.kinds.entry(kind.to_string()).or_default() += 1;
    }

    pub fn attempt(&mut self, connection: Option<ConnectionId>, passed: bool) {
        let Some(id) = connection else { return };
        let figures = self.connections.entry(id.to_string()).or_default();
        *if passed { &mut figures.passed } else { &mut figures.failed } += 1;
    }

    /// Adds the verdicts of an attempt, by resource id. They replace those of earlier attempts.
    pub fn privileges(&mut self, id: ConnectionId, at: Timestamp, verdicts: &[(String, Value)]) {
        if verdicts.is_empty() {
            return;
        }
        let found = verdicts
            .iter()
            .filter_map(|(resource, privilege)| Some((resource.clone(), (serde_json::from_value(privilege.clone()).ok()?, at))));
        self.connections.entry(id.to_string()).or_default().privileges = found.collect();
    }

    pub fn calls(&mut self, batch: &CallBatch) {
        let figures = self.connections.entry(batch.connection.clone()).or_default();
        if figures.title.is_empty() {
            figures.title = batch.family.clone();
        }
        let calls = batch.calls.len() as u64;
        figures.calls += calls;
        for call in &batch.calls {
            *figures.hosts.entry(call.target.host.clone()).or_default() += 1;
        }
        self.calls += calls;
        self.cut += batch.cut;
    }

    /// Says what a connection is, and its state at the end of the period.
    pub fn describe(&mut self, id: ConnectionId, known: &Connection, intent: Option<&Intent>) {
        let figures = self.connections.entry(id.to_string()).or_default();
        let resources = intent.map(|intent| intent.resource_ids.join(" ")).unwrap_or_default();
        let owner = intent.map(|intent| intent.owner.user.clone()).unwrap_or_default();
        figures.title = format!("{} {resources}, namespace {}, owner {owner}", known.source_type, known.namespace);
        figures.state = known.state().to_string();
    }
}

/// Returns the summary.
pub fn text(input: &SummaryInput, head: LedgerHead) -> String {
    let mut text = String::new();
    let period = &input.period;
    let _ = writeln!(
        text,
        "# Evidence of AAM\n\nFrom {} until before {}; written on {} by AAM {}.\n\nHead of the ledger: `{}:{}`\n",
        period.since.rfc3339(),
        period.until.rfc3339(),
        period.now.rfc3339(),
        env!("CARGO_PKG_VERSION"),
        head.seq,
        head.hash
    );
    match &input.signed_by {
        Some(key) => {
            let _ = writeln!(text, "Signed by the key `{key}`.\n");
        }
        None => text.push_str("Not signed.\n\n"),
    }
    text.push_str(&policies(input));
    text.push_str(&rows(input));
    text.push_str(&over_privileged(input));
    text.push_str(&connections(input));
    text.push_str(&files(input));
    text
}

fn policies(input: &SummaryInput) -> String {
    let mut text = "## Policies in force\n\n".to_string();
    if input.policies.is_empty() {
        text.push_str("No policy was in force.\n");
    }
    for (digest, at) in &input.policies {
        let _ = writeln!(text, "- from {}: [{}]({POLICIES}/{digest}.yaml)", at.rfc3339(), digest.short());
    }
    text + "\n"
}

fn rows(input: &SummaryInput) -> String {
    let mut text = "## Entries of the ledger\n\n| kind | entries |\n|---|---|\n".to_string();
    for (kind, count) in &input.kinds {
        let _ = writeln!(text, "| {kind} | {count} |");
    }
    let _ = write!(text, "\n{} recorded", counted(usize::try_from(input.calls).unwrap_or(usize::MAX), "call"));
    if input.cut > 0 {
        let _ = write!(text, ", and {} more only counted", input.cut);
    }
    text + ".\n" + &dropped(input) + "\n"
}

/// Says which calls of the period were dropped before the bundle was written.
fn dropped(input: &SummaryInput) -> String {
    let since = input.period.since;
    let recorded = |dropped: &&DroppedBody| Timestamp::parse(&dropped.before).is_ok_and(|before| before > since);
    let Some(dropped) = input.dropped.as_ref().filter(recorded) else { return String::new() };
    let mut text = format!(
        "\nThe calls that were recorded before {} were dropped because of their age (`evidence.keep_calls`), as entry {} of the ledger says, and are not in this bundle.",
        dropped.before, dropped.seq
    );
    let attempts = input.named_batches.iter().filter(|(chain, batch)| dropped.covers(*chain, *batch)).count();
    if attempts > 0 {
        let _ = write!(text, " They include the calls of {} of the period.", counted(attempts, "attempt"));
    }
    text + " The calls that were dropped can no longer be counted.\n"
}

/// The connections whose credential may do more than read, as the last verdict until the end of the period says.
fn over_privileged(input: &SummaryInput) -> String {
    let mut text = "## Credentials that may do more than read\n\n".to_string();
    let before = text.len();
    for (id, figures) in &input.connections {
        for (resource, (privilege, at)) in &figures.privileges {
            let Privilege::Over { grants } = privilege else { continue };
            let resource = if resource.is_empty() { String::new() } else { format!(" {resource}") };
            let earlier = if *at < input.period.since { ", before the period" } else { "" };
            let _ = writeln!(
                text,
                "- {} ({id}){}: {} (found on {}{earlier})",
                cell(&figures.title),
                cell(&resource),
                cell(&grants.join("; ")),
                at.rfc3339()
            );
        }
    }
    if text.len() == before {
        text.push_str("No verdict that was in force in this period says so.\n");
    }
    text + "\n"
}

fn connections(input: &SummaryInput) -> String {
    let mut text =
        "## Connections\n\n| id | connection | state at the end | attempts passed | failed | calls | hosts |\n|---|---|---|---|---|---|---|\n"
            .to_string();
    for (id, figures) in &input.connections {
        let mut hosts: Vec<(&String, &u64)> = figures.hosts.iter().collect();
        hosts.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
        let mut listed: Vec<String> =
            hosts.iter().take(MAX_HOSTS).map(|(host, calls)| format!("{} ({calls})", cell(host))).collect();
        if hosts.len() > MAX_HOSTS {
            listed.push(format!("and {} more", hosts.len() - MAX_HOSTS));
        }
        let _ = writeln!(
            text,
            "| {id} | {} | {} | {} | {} | {} | {} |",
            cell(&figures.title),
            figures.state,
            figures.passed,
            figures.failed,
            figures.calls,
            listed.join(", ")
        );
    }
    text.push_str("\nChecks that found nothing new have calls, but no entry in the ledger.\n\n");
    text
}

fn files(input: &SummaryInput) -> String {
    let signed = input.signed_by.is_some();
    let order = match input.is_chained {
        false => "Each covers the one before it.",
        true => CHAINED_ORDER,
    };
    let mut text = format!(
        "## Files\n\n\
         - `{LEDGER}`: the entries of the ledger with their hashes. {order}\n\
         - `{CALLS}`: the calls in batches with their hashes. Entries of the ledger name batches.\n\
         - `{INTENTS}`, `{ATTEMPTS}`, `{PRIVILEGES}`: what the entries say, one JSON object per line. `{INTENTS}` and `{PRIVILEGES}` begin with what was in force at the start.\n\
         - `{POLICIES}`: the versions of the policy. The name of each is its SHA-256.\n\
         - `{SUMS}`: the SHA-256 of every file.\n"
    );
    let mut verify = format!("aam verify --bundle .\nsha256sum -c {SUMS}\n");
    if signed {
        let _ = writeln!(text, "- `{SIGNATURE}`, `{PUBLIC_KEY}`: the signature of `{SUMS}` (Ed25519), and the public key.");
        verify = format!(
            "aam verify --bundle . --key KEY.pub\nsha256sum -c {SUMS}\nopenssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in {SUMS} -sigfile {SIGNATURE}\n"
        );
    }
    let _ = write!(text, "\nTo verify this bundle on any machine:\n\n```sh\n{verify}```\n");
    if signed {
        let _ = writeln!(text, "\n`KEY.pub` is the public key as you got it from the operator, and not the one in the bundle.");
    }
    text
}

/// A text in a cell of a table or in a list.
fn cell(text: &str) -> String {
    printable(text, &[]).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "\\`").replace('[', "\\[")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DAY_MS: i64 = 86_400_000;

    fn input() -> SummaryInput {
        let period = BundlePeriod::new(Timestamp(10 * DAY_MS), None, Timestamp(20 * DAY_MS)).expect("a period");
        SummaryInput::new(&Snapshot::default(), period)
    }

    #[test]
    fn the_last_verdict_counts_also_if_it_is_older_than_the_period() {
        let over = json!({"verdict": "over", "grants": ["INSERT"]});
        let mut summary = input();
        summary.privileges(ConnectionId::FIRST, Timestamp(DAY_MS), &[("shop".to_string(), over.clone())]);
        let text = over_privileged(&summary);
        assert!(text.contains("shop: INSERT (found on 1970-01-02T00:00:00.000Z, before the period)"), "{text}");
        summary.privileges(ConnectionId::FIRST, Timestamp(11 * DAY_MS), &[("shop".to_string(), over)]);
        let text = over_privileged(&summary);
        assert!(text.contains("INSERT (found on 1970-01-12T00:00:00.000Z)"), "{text}");
        // An attempt that did not come to ask the source changes nothing.
        summary.privileges(ConnectionId::FIRST, Timestamp(12 * DAY_MS), &[]);
        assert_eq!(over_privileged(&summary), text);
        summary.privileges(ConnectionId::FIRST, Timestamp(13 * DAY_MS), &[(String::new(), json!({"verdict": "ok"}))]);
        let text = over_privileged(&summary);
        assert!(text.contains("No verdict that was in force in this period says so."), "{text}");
    }

    #[test]
    fn calls_of_the_period_that_were_dropped_are_named() {
        let dropped_before = |day: i64| {
            let before = Timestamp(day * DAY_MS).rfc3339();
            let dropped = Some(DroppedBody { seq: 190, batch: 38, hash: Digest::default(), before, chains: Vec::new() });
            rows(&SummaryInput { dropped, named_batches: vec![(None, 37), (None, 38), (None, 39)], ..input() })
        };
        let text = dropped_before(15);
        assert!(text.contains("recorded before 1970-01-16T00:00:00.000Z were dropped") && text.contains("entry 190"), "{text}");
        assert!(text.contains("the calls of 2 attempts of the period"), "{text}");
        assert!(!dropped_before(10).contains("dropped"), "only calls from before the period");
    }
}
