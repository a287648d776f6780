//! Tests of the rendered reports, mostly as snapshots.

use super::plan::{PlanReport, PlannedAttempt};
use super::status_table::{self, ListOptions};
use super::{attempt, plan, status};
use crate::debt_gate::{DebtGate, scan};
use crate::funnel::{Blocker, Funnel, funnel, summary};
use crate::model::ledger::{AttemptContext, Entry, Fact, Finished, Why};
use crate::model::{
    Class, ConnectionId, Digest, Drift, EventType, Failure, Intent, Origin, Outcome, PlannedCall, Problem, Scope, State, Step,
    StepReport, StepStatus, Timestamp,
};
use crate::plan::PlanItem;
use crate::snapshot::Snapshot;
use serde_json::json;
use std::fmt::Write;

/// 2026-11-08T18:00:00Z
const AT: Timestamp = Timestamp(1_794_160_800_000);

fn shown(name: &str, text: &str) {
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

fn steps(failed: Option<(Step, Failure)>, warned: Option<Failure>) -> Vec<StepReport> {
    let report = |step: Step| {
        let status = match (&failed, &warned) {
            (Some((at, failure)), _) if *at == step => StepStatus::Failed { failure: failure.clone() },
            (Some((at, _)), _) if *at < step && step != Step::Registry => {
                StepStatus::Skipped { reason: format!("not run: {} failed", at.as_str()) }
            }
            (_, Some(failure)) if step == Step::Upsert => StepStatus::Warned { failure: failure.clone() },
            _ => StepStatus::Passed,
        };
        let evidence = match step {
            Step::Upsert => {
                json!({"database": "shop", "version": "17.2", "read_only": true, "empty": "", "privilege": {"verdict": "over", "grants": ["INSERT"]}, "traffic": {"calls": 4, "bytes": 812}})
            }
            Step::TinySync => json!({"stream": "orders", "rows": 20}),
            _ => json!({}),
        };
        StepReport { step, status, duration_ms: 7, evidence: evidence.as_object().cloned().unwrap_or_default() }
    };
    Step::ALL.into_iter().map(report).collect()
}

fn denied() -> Failure {
    Failure::new(Class::PermissionDenied, "the credential may not read schema shop", "GRANT USAGE ON SCHEMA shop TO aam_reader;")
        .detail("42501: permission denied for schema shop")
}

fn intent(source_type: &str, resource: &str) -> Intent {
    serde_json::from_value(json!({
        "source_type": source_type, "resource_ids": [resource], "scopes_mode": "safe_readonly",
        "credential_locator": "env:SHOP_DB", "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.95, "why": "oauth_consenter"}
    }))
    .unwrap()
}

/// Returns a snapshot with one connection for each item of `classes`. `None` stands for an attempt that passed.
fn snapshot(classes: &[Option<Class>]) -> (Snapshot, Vec<Intent>) {
    snapshot_with(classes, None)
}

/// Like [`snapshot`], with a warning of the upsert step in each attempt.
fn snapshot_with(classes: &[Option<Class>], warned: Option<Failure>) -> (Snapshot, Vec<Intent>) {
    let (mut snapshot, mut intents) = (Snapshot::default(), Vec::new());
    let mut seq = 0;
    for (number, class) in classes.iter().enumerate() {
        let intent = intent("postgres", &format!("postgres://db{number}.acme.example/shop"));
        let id = intent.connection_id();
        let mut put = |fact| {
            seq += 1;
            snapshot.apply(&Entry { seq, at: AT, namespace: "autonomy".to_string(), connection: Some(id), fact });
        };
        put(Fact::accepted(&intent, Origin::folder("shop.json")));
        let failure =
            class.map(|class| (Step::Health, Failure::new(class, format!("it failed as {}", class.as_str()), "fix it")));
        let outcome = Outcome {
            scope: Scope::Full,
            steps: steps(failure, warned.clone()),
            catalog: None,
            drift: Drift::default(),
            rows: class.is_none().then_some(20),
            latency_ms: class.is_none().then_some(12),
        };
        let context = AttemptContext {
            begun_at: AT,
            generation: 1,
            scope: Scope::Full,
            why: Why::New,
            policy: Digest::default(),
            slice: Digest::default(),
        };
        put(Fact::AttemptFinished(Finished::new(
            &outcome,
            outcome.catalog.as_ref().map(crate::model::Catalog::digest),
            &context,
        )));
        intents.push(intent);
    }
    (snapshot, intents)
}

fn summed(classes: &[Option<Class>]) -> Funnel {
    funnel(&snapshot(classes).0, "autonomy", 0.9, AT)
}

#[test]
fn the_exec_summary_in_each_case() {
    let mut text = String::new();
    let mut case = |name: &str, funnel: &Funnel| {
        let _ = writeln!(text, "== {name}\n{}\n", funnel.summary.join("\n"));
    };
    case("met", &summed(&[None; 5]));
    case(
        "not met, with blockers",
        &summed(&[
            None,
            None,
            Some(Class::Network),
            Some(Class::Network),
            Some(Class::NotFound),
            Some(Class::CredentialMissing),
            Some(Class::Throttled),
        ]),
    );
    case("nothing received", &summed(&[]));
    case("nothing eligible", &summed(&[Some(Class::Unsupported), Some(Class::NotEligible)]));
    let mut many = summed(&[Some(Class::Network)]);
    many.blockers =
        (0..13).map(|number| Blocker { name: format!("blocker {number}"), count: 13 - number, fix: String::new() }).collect();
    many.summary = summary::lines(&many);
    case("many kinds of blockers", &many);
    shown("report_summary", &text);
}

/// A coverage of 0.896 is truncated and not rounded, so that it does not look like a target of 0.90 that was met.
#[test]
fn a_coverage_just_below_the_target_does_not_read_as_the_target() {
    let mut classes = vec![None; 896];
    classes.extend(vec![Some(Class::Network); 104]);
    let funnel = summed(&classes);
    assert_eq!(funnel.summary[3], "SLO: not met (0.89 < 0.90)");
    let mut classes = vec![None; 9];
    classes.push(Some(Class::Network));
    assert_eq!(summed(&classes).summary[3], "SLO: met (0.90 ≥ 0.90)");
}

#[test]
fn the_step_report_with_each_status() {
    let over = Failure::new(
        Class::PermissionDenied,
        "the credential of shop may do more than read",
        "give aam a credential with least privilege: SELECT",
    )
    .detail("INSERT ON shop.orders");
    let mut health = steps(None, None);
    health[3].status =
        StepStatus::Skipped { reason: "a health re-check: recheck.drift says when the structure is checked again".to_string() };
    let text = [
        ("passed, one step warned", steps(None, Some(over))),
        ("failed", steps(Some((Step::Discover, denied())), None)),
        ("a health re-check", health),
    ]
    .map(|(name, reports)| format!("== {name}\n{}", attempt::steps(&reports)))
    .join("\n");
    shown("report_steps", &text);
}

#[test]
fn the_status_list_and_one_story() {
    let classes = [
        None,
        Some(Class::Drift),
        Some(Class::Remote),
        Some(Class::Network),
        Some(Class::CredentialRejected),
        Some(Class::Unsupported),
        Some(Class::NotEligible),
        Some(Class::Throttled),
    ];
    let (mut snapshot, intents) = snapshot(&classes);
    let retired = intent("jdbc", "jdbc:sqlite:old.db");
    let id = retired.connection_id();
    for (seq, fact) in [(98, Fact::accepted(&retired, Origin::api("aod"))), (99, Fact::ConnectionRetired)] {
        snapshot.apply(&Entry { seq, at: AT, namespace: "autonomy".to_string(), connection: Some(id), fact });
    }
    let document = |seq: u64| intents.get(usize::try_from(seq / 2).ok()?).cloned().or(Some(retired.clone()));
    let lines = status::lines(&snapshot, "autonomy", Timestamp(0), document);
    shown("report_status_list", &status_table::list(&lines, &lines, &ListOptions::default(), AT));
    shown("report_status_empty", &status_table::list(&[], &[], &ListOptions::default(), AT));
    let states: Vec<State> = lines.iter().map(|line| line.status).collect();
    assert_eq!(states.len(), State::ALL.len(), "each state is shown once");
    assert!(State::ALL.iter().all(|state| states.contains(state)));

    let active = intents[0].connection_id();
    let failing = intents[1].connection_id();
    let text = format!(
        "{}\n{}",
        status::details(active, &snapshot.connections[&active], Some(&intents[0]), &steps(None, None), Timestamp(0)),
        status::details(
            failing,
            &snapshot.connections[&failing],
            None,
            &steps(Some((Step::Discover, denied())), None),
            Timestamp(0)
        )
    );
    shown("report_status_story", &text);
}

#[test]
fn the_plan() {
    let call =
        |path: &str| PlannedCall { method: "GET".to_string(), host: "api.acme.example".to_string(), path: path.to_string() };
    let attempt = |why, calls: Vec<PlannedCall>, blocked: Option<&str>| {
        let intent = intent("openapi", "https://api.acme.example/openapi.json");
        PlannedAttempt {
            item: PlanItem { connection: intent.connection_id(), why, scope: Scope::Full, due: AT },
            source_type: intent.source_type,
            resource_ids: intent.resource_ids,
            calls,
            blocked: blocked.map(str::to_string),
            held: false,
        }
    };
    let planned = PlanReport {
        as_of: AT,
        now: vec![
            attempt(Why::New, vec![call("/openapi.json"), call("/orders"), call("/orders")], None),
            attempt(Why::PolicyChanged, Vec::new(), Some("source type openapi is not on the policy's allowlist")),
        ],
        retire: vec![plan::Retirement {
            connection: ConnectionId::derive("autonomy", "jdbc", &["old".to_string()]),
            source_type: "jdbc".to_string(),
            resource_ids: vec!["old".to_string()],
        }],
        held: Vec::new(),
        waiting: 3,
        next_due: Some(AT),
        problems: vec![Problem::new("/0/owner", "is missing").in_file("intents/broken.json")],
        webhooks: vec![plan::PlannedWebhook {
            name: "ops".to_string(),
            call: PlannedCall { method: "POST".to_string(), host: "hooks.acme.example".to_string(), path: "/aam".to_string() },
            on: vec![EventType::StateChanged, EventType::Drift],
        }],
        ..PlanReport::default()
    };
    let planned = planned.with_totals();
    let idle = PlanReport { waiting: 2, next_due: Some(AT), ..PlanReport::default() };
    shown("report_plan", &format!("{}\n{}\n{}", plan::text(&planned), plan::text(&idle), plan::text(&PlanReport::default())));
    assert!(!planned.is_empty() && idle.is_empty());
}

#[test]
fn the_verdicts_of_the_gate() {
    let row = |id: &str, severity: &str| format!("| {id} | {severity} | what {id} is | why | how | 2026-12 |\n");
    let head = "| id | severity | what | rationale | payoff plan | ETA |\n|---|---|---|---|---|---|\n";
    let finding = || scan::scan("tests/shop.rs", concat!("#[ign", "ore]\n"));
    let mut text = String::new();
    for (name, debt, findings) in [
        ("passes", format!("{head}{}{}", row("D1", "Medium"), row("D2", "Low")), Vec::new()),
        (
            "a Blocker and a High",
            format!("{head}{}{}{}", row("D1", "Blocker"), row("D2", "**High**"), row("D3", "Low")),
            Vec::new(),
        ),
        ("undeclared", format!("{head}{}", row("D1", "Low")), finding()),
        ("unreadable", format!("{head}{}| D2 | Hihg | x | y | z | soon |\n| D3 | Low |\n", row("D1", "High")), finding()),
    ] {
        let verdict = DebtGate::new(&debt, findings);
        let _ = writeln!(
            text,
            "== {name}: {}\n{}\n",
            if verdict.passes() { "passes" } else { "stops" },
            verdict.summary().join("\n")
        );
    }
    shown("report_gate", &text);
}

/// A warning of an ACTIVE connection is visible in every list, and it counts only once for each connection.
#[test]
fn warnings_show_in_the_list_the_message_the_funnel_and_the_metrics() {
    let over = Failure::new(Class::OverPrivileged, "the credential of acme can do more than read", "use a read-only token");
    let partial =
        Failure::new(Class::PermissionDenied, "1 of 2 streams is not readable: users:read is missing", "add users:read");
    let mut text = String::new();
    for warned in [over, partial] {
        let (snapshot, intents) = snapshot_with(&[None, Some(Class::Network)], Some(warned.clone()));
        let (id, active) = snapshot.connections.iter().find(|(_, known)| known.state() == State::Active).unwrap();
        let result =
            super::result::ConnectionResult::new(id, &active, super::result::LedgerBodies::default(), false, Timestamp(0));
        assert_eq!(result.warnings[0].class.as_deref(), Some(warned.class.as_str()));
        let funnel = funnel(&snapshot, "autonomy", 0.9, AT);
        let listed =
            status::lines(&snapshot, "autonomy", Timestamp(0), |seq| intents.get(usize::try_from(seq / 2).unwrap()).cloned());
        let scrape = super::metrics::Scrape { funnels: vec![funnel.clone()], ..Default::default() };
        let metrics = super::metrics::text(&scrape);
        let metrics: Vec<&str> =
            metrics.lines().filter(|line| line.contains("privileged{") || line.contains("readable{")).collect();
        let blockers: Vec<String> =
            funnel.blockers.iter().map(|one| format!("{} x {} -> {}", one.count, one.name, one.fix)).collect();
        let _ = writeln!(
            text,
            "== {}\n{}\n{}{}\n{}\n",
            warned.class.as_str(),
            result.message,
            status_table::list(&listed, &listed, &ListOptions::default(), AT),
            blockers.join("\n"),
            metrics.join("\n")
        );
    }
    shown("report_warnings", &text);
}

/// The table of the state machine, as the README shows it.
#[test]
fn what_each_class_means() {
    let mut text = format!("{:<20} {:<10} {:<22} {:<22} state stands\n", "class", "retry", "never active", "was active");
    for class in Class::ALL {
        let (new, before) = (State::derive(Some(class), false), State::derive(Some(class), true));
        let stands = if class.conclusive() { "" } else { "yes" };
        let line = format!(
            "{:<20} {:<10} {:<22} {:<22} {stands}",
            class.as_str(),
            format!("{:?}", class.retry()),
            new.as_str(),
            before.as_str()
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    shown("report_classes", &text);
}
