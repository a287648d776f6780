//! `aam plan`: shows what would be done and every call that would be made. It writes nothing and calls no source.
//!
//! It applies the changes of the intents folder to a copy of the registry's snapshot and plans on that copy, with the
//! same code as the daemon.

use super::budget::InMemoryDayBudget;
use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET};
use crate::clock;
use crate::connectors::Engines;
use crate::credentials::redact;
use crate::daemon;
use crate::egress::{Egress, resolve::SystemLookup};
use crate::intake::{Limits, Scanner};
use crate::model::ledger::{Entry, Fact};
use crate::model::{ConnectionId, Intent, Origin, Problem, Timestamp};
use crate::pipeline::planned_calls;
use crate::plan::departures::{DepartureKind, Holds};
use crate::plan::{self, PlanContext, PlanItem};
use crate::policy::LoadedPolicy;
use crate::policy_loader;
use crate::providers::{Process, Providers};
use crate::reconcile::departures::{self, DepartureFinder, Departures};
use crate::reconcile::{folder_sync, secret_files};
use crate::registry::private_files::FILE_MODE;
use crate::registry::{Reader, RegistryError};
use crate::report::holds::{self, HoldBody};
use crate::report::plan::{self as report, PlanReport, PlanTotals, PlannedAttempt, PlannedWebhook, Retirement};
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
pub struct PlanOptions {
    /// Write the whole plan as JSON to this file, and print only its totals
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Exits with 0 if there is nothing to do, with 2 if there is, and with 1 on an error.
pub async fn run(common: &CommonOptions, options: &PlanOptions) -> CommandResult {
    let clock = clock::from_env();
    let now = clock.now();
    let (draft, policy, reader) = Draft::open(common, now)?;
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    let providers = Providers::new(egress, Arc::clone(&clock), Process::Recording);
    let env = PlanEnv { engines: daemon::engines(clock), providers };
    let planned = draft.plan(policy, &env, reader.as_ref(), now);
    match &options.out {
        None => common.print(&report::text(&planned), &planned),
        Some(path) => {
            write(path, &planned).map_err(|error| {
                CommandError::new(format!("cannot write the plan to {}: {error}; choose another file with --out", path.display()))
            })?;
            let text = format!("{}the whole plan is in {}\n", report::totals(&planned), path.display());
            common.print(&text, &serde_json::json!({ "totals": planned.totals, "out": path }));
        }
    }
    Ok(if planned.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}

/// Writes the plan into a file that only its owner can read, because it names systems and owners.
fn write(path: &Path, planned: &PlanReport) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(planned)?;
    text.push('\n');
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    file.write_all(redact::scrub_all(&text).as_bytes())
}

/// What knows the calls of an attempt. It makes none.
struct PlanEnv {
    engines: Engines,
    providers: Arc<Providers>,
}

/// The changes that the next run would hold, in the order of their namespaces.
///
/// # Errors
/// If the policy or the registry cannot be read.
pub fn held(common: &CommonOptions) -> Result<Vec<HoldBody>, CommandError> {
    let clock = clock::from_env();
    let (draft, policy, reader) = Draft::open(common, clock.now())?;
    let engines = daemon::engines(clock);
    let context = PlanContext::new(policy, &draft.snapshot);
    Ok(draft.departures(&engines, &context, reader.as_ref()).bodies(&draft, reader.as_ref()))
}

/// What leaves, and what of it is held.
struct DraftDepartures {
    holds: Holds,
    /// The connections that would be retired.
    retire: Vec<ConnectionId>,
}

impl DraftDepartures {
    fn bodies(&self, draft: &Draft, reader: Option<&Reader>) -> Vec<HoldBody> {
        self.holds.holds.iter().map(|hold| holds::body(hold, |id| draft.document(id, reader))).collect()
    }

    /// The connections of all holds, with whether they can be checked meanwhile.
    fn held(&self) -> BTreeMap<ConnectionId, bool> {
        let members = self.holds.holds.iter().flat_map(|hold| &hold.departures);
        members.map(|(id, departure)| (*id, departure.checkable)).collect()
    }
}

/// The snapshot as it would be after the next scan of the folder.
struct Draft {
    snapshot: Snapshot,
    /// Intents that are only in the folder, by the sequence number of the ledger entry that they would get.
    documents: BTreeMap<u64, Intent>,
    problems: Vec<Problem>,
    /// Whether the policy file is not valid, so that the last accepted policy applies.
    policy_rejected: bool,
}

impl Draft {
    /// Reads the registry and the policy, and applies the changes of the folder.
    fn open(common: &CommonOptions, now: Timestamp) -> Result<(Draft, LoadedPolicy, Option<Reader>), CommandError> {
        let reader = match Reader::open(&common.registry) {
            Ok(reader) => Some(reader),
            Err(RegistryError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let (policy, problems) = match (policy_loader::load(&common.policy).loaded, &reader) {
            (Ok(policy), _) => (policy, Vec::new()),
            (Err(problems), Some(reader)) => (policy_in_force(common, reader)?, problems),
            (Err(problems), None) => return Err(CommandError::config(&problems)),
        };
        let mut snapshot = match &reader {
            Some(reader) => reader.snapshot()?,
            None => Snapshot::default(),
        };
        if snapshot.policy.is_none_or(|(digest, _)| digest != policy.policy.digest) {
            // The daemon accepts the policy first, and what leaves because of it leaves then.
            snapshot.policy_at = now;
        }
        let mut draft = Draft { snapshot, documents: BTreeMap::new(), problems, policy_rejected: false };
        draft.policy_rejected = !draft.problems.is_empty();
        draft.fold_folder(common, reader.as_ref(), now);
        Ok((draft, policy, reader))
    }

    /// Finds what leaves, as the daemon does.
    fn departures(&self, engines: &Engines, context: &PlanContext, reader: Option<&Reader>) -> DraftDepartures {
        let document = |seq: u64| self.document_at(seq, reader);
        let departures = Departures::find(&self.snapshot, &DepartureFinder { engines, context, document: &document });
        let mut holds = Holds::new(&self.snapshot, &departures, &context.policy);
        let _ = holds.take_confirmed();
        let withdrawn = departures.iter().filter(|(_, departure)| departure.kind == DepartureKind::Withdrawn);
        let retire = withdrawn.map(|(id, _)| *id).filter(|id| !holds.contains(*id)).collect();
        DraftDepartures { holds, retire }
    }

    /// Applies what a scan of the folder finds, in the order in which the daemon records it. The scanner starts from the same
    /// marks as that of the daemon, so that a lost mount or a folder that cannot be listed withdraws nothing here either.
    fn fold_folder(&mut self, common: &CommonOptions, reader: Option<&Reader>, now: Timestamp) {
        let marks = reader.and_then(|reader| reader.marks().ok()).unwrap_or_default();
        let mut scanner = Scanner::from_marks(&common.intents, Limits::default(), folder_sync::stored_marks(marks));
        loop {
            let scan = scanner.scan(now);
            scanner.accept(&scan);
            for report in &scan.changed {
                let origin = Origin::folder(&report.path);
                for (intent, _) in &report.intents {
                    if self.snapshot.is_closed(&intent.namespace) {
                        self.problems.push(folder_sync::sealed_problem(report, &intent.namespace));
                    } else {
                        self.accept(intent, &origin, now);
                    }
                }
            }
            for report in scan.changed.iter().filter(|report| report.complete()) {
                let keep: BTreeSet<ConnectionId> = report.intents.iter().map(|(intent, _)| intent.connection_id()).collect();
                self.withdraw(&Origin::folder(&report.path), &keep, now);
            }
            for path in &scan.gone {
                self.withdraw(&Origin::folder(path), &BTreeSet::new(), now);
            }
            if !scan.more || scan.changed.is_empty() {
                self.problems.extend(scan.problems);
                return;
            }
        }
    }

    fn accept(&mut self, intent: &Intent, origin: &Origin, now: Timestamp) {
        let id = intent.connection_id();
        let known = self.snapshot.connections.get(&id).filter(|known| known.retired.is_none());
        if known
            .is_some_and(|known| known.origins.iter().any(|desire| desire.origin == *origin && desire.spec == intent.digest()))
        {
            return;
        }
        let seq = self.apply(intent.namespace.clone(), id, Fact::accepted(intent, origin.clone()), now);
        self.documents.insert(seq, intent.clone());
    }

    fn withdraw(&mut self, origin: &Origin, keep: &BTreeSet<ConnectionId>, now: Timestamp) {
        let open =
            |id: &ConnectionId| self.snapshot.connections.get(id).is_none_or(|known| !self.snapshot.is_closed(&known.namespace));
        let ids: Vec<ConnectionId> = self.snapshot.desired_by(origin).filter(|id| !keep.contains(id) && open(id)).collect();
        for id in ids {
            self.apply(String::new(), id, Fact::IntentWithdrawn { origin: origin.clone(), reason: String::new() }, now);
        }
    }

    fn apply(&mut self, namespace: String, id: ConnectionId, fact: Fact, now: Timestamp) -> u64 {
        let seq = self.snapshot.seq + 1;
        self.snapshot.apply(&Entry { seq, at: now, namespace, connection: Some(id), fact });
        seq
    }

    fn plan(self, loaded: LoadedPolicy, env: &PlanEnv, reader: Option<&Reader>, now: Timestamp) -> PlanReport {
        let secrets = secret_files::read_once(&loaded.policy, &self.snapshot, now);
        let webhooks = loaded.policy.notify.iter().map(PlannedWebhook::from).collect();
        let mut context = PlanContext::new(loaded, &self.snapshot).with_secrets(secrets.into());
        let departures = self.departures(&env.engines, &context, reader);
        context.held = departures.held();
        let items = plan::plan(&self.snapshot, &context, &BTreeSet::new(), now);
        let (due, later): (Vec<PlanItem>, Vec<PlanItem>) = items.into_iter().partition(|item| item.due <= now);
        let attempts = due.into_iter().map(|item| self.describe(item, &context, env, reader)).collect();
        let report = PlanReport {
            as_of: now,
            now: attempts,
            retire: departures.retire.iter().map(|id| self.retirement(*id, reader)).collect(),
            held: departures.bodies(&self, reader),
            waiting: later.len(),
            next_due: later.first().map(|item| item.due),
            policy_rejected: self.policy_rejected,
            problems: self.problems,
            webhooks,
            totals: PlanTotals::default(),
        };
        report.with_totals()
    }

    /// Returns the intent in force, from the folder or from the registry.
    fn document(&self, id: ConnectionId, reader: Option<&Reader>) -> Option<Intent> {
        self.document_at(self.snapshot.connections.get(&id)?.document, reader)
    }

    /// Returns the intent of an entry of the ledger, or of the entry that the folder would get.
    fn document_at(&self, seq: u64, reader: Option<&Reader>) -> Option<Intent> {
        let stored = || serde_json::from_str(&reader?.body(seq).ok()??).ok();
        self.documents.get(&seq).cloned().or_else(stored)
    }

    fn retirement(&self, id: ConnectionId, reader: Option<&Reader>) -> Retirement {
        Retirement {
            connection: id,
            source_type: self.snapshot.connections.get(&id).map(|known| known.source_type.to_string()).unwrap_or_default(),
            resource_ids: self.document(id, reader).map(|intent| intent.resource_ids).unwrap_or_default(),
        }
    }

    /// Describes an attempt. One of a connection whose departure is held is made with its earlier document and under rules
    /// that still allow it, as the daemon does.
    fn describe(&self, item: PlanItem, context: &PlanContext, env: &PlanEnv, reader: Option<&Reader>) -> PlannedAttempt {
        let known = self.snapshot.connections.get(&item.connection).map(|known| match context.held.get(&item.connection) {
            Some(_) => known.before_departure(),
            None => known.into_owned(),
        });
        let mut attempt = PlannedAttempt {
            item,
            source_type: String::new(),
            resource_ids: Vec::new(),
            calls: Vec::new(),
            blocked: None,
            held: context.held.contains_key(&item.connection),
        };
        let found = known.and_then(|known| Some((self.document_at(known.document, reader)?, known)));
        let Some((intent, known)) = found else {
            attempt.blocked = Some("its intent cannot be read from the registry".to_string());
            return attempt;
        };
        let mut loaded = context.loaded().clone();
        if attempt.held {
            loaded.policy = Arc::new(departures::admitting(&loaded.policy, &intent));
        }
        let origins: Vec<Origin> = known.origins_in_force().cloned().collect();
        (attempt.calls, attempt.blocked) = planned_calls(&env.engines, &env.providers, &loaded, &intent, &origins);
        (attempt.source_type, attempt.resource_ids) = (intent.source_type, intent.resource_ids);
        attempt
    }
}
