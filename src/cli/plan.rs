//! `aam plan`: shows what would be done and every call that would be made. It writes nothing and calls no source.
//!
//! It applies the changes of the intents folder to a copy of the registry's snapshot and plans on that copy, with the
//! same code as the daemon.

use super::budget::InMemoryDayBudget;
use super::report::policy_in_force;
use super::{CommandError, CommandResult, CommonOptions, EXIT_NOT_YET};
use crate::clock;
use crate::connectors::Engines;
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
use crate::reconcile::departures::{DepartureFinder, Departures};
use crate::reconcile::secret_files;
use crate::registry::{Reader, RegistryError};
use crate::report::holds::{self, HoldBody};
use crate::report::plan::{PlanReport, PlannedAttempt, Retirement, text};
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

/// Exits with 0 if there is nothing to do, with 2 if there is, and with 1 on an error.
pub async fn run(common: &CommonOptions) -> CommandResult {
    let clock = clock::from_env();
    let now = clock.now();
    let (draft, policy, reader) = Draft::open(common, now)?;
    let egress = Egress::with(Arc::new(InMemoryDayBudget::default()), Arc::clone(&clock), Arc::new(SystemLookup));
    let providers = Providers::new(egress, Arc::clone(&clock), Process::Recording);
    let env = PlanEnv { engines: daemon::engines(clock), providers };
    let planned = draft.plan(policy, &env, reader.as_ref(), now);
    common.print(&text(&planned), &planned);
    Ok(if planned.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
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
}

impl Draft {
    /// Reads the registry and the policy, and applies the changes of the folder.
    fn open(common: &CommonOptions, now: Timestamp) -> Result<(Draft, LoadedPolicy, Option<Reader>), CommandError> {
        let reader = match Reader::open(&common.registry) {
            Ok(reader) => Some(reader),
            Err(RegistryError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let policy = match &reader {
            Some(reader) => policy_in_force(common, reader)?,
            None => policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems))?,
        };
        let snapshot = match &reader {
            Some(reader) => reader.snapshot()?,
            None => Snapshot::default(),
        };
        let mut draft = Draft { snapshot, documents: BTreeMap::new(), problems: Vec::new() };
        draft.fold_folder(common, now);
        Ok((draft, policy, reader))
    }

    /// Finds what leaves, as the daemon does.
    fn departures(&self, engines: &Engines, context: &PlanContext, reader: Option<&Reader>) -> DraftDepartures {
        let document = |seq: u64| {
            let stored = || serde_json::from_str::<Intent>(&reader?.body(seq).ok()??).ok();
            self.documents.get(&seq).cloned().or_else(stored)
        };
        let departures = Departures::find(&self.snapshot, &DepartureFinder { engines, context, document: &document });
        let mut holds = Holds::new(&self.snapshot, &departures, &context.policy);
        let _ = holds.take_confirmed();
        let withdrawn = departures.iter().filter(|(_, departure)| departure.kind == DepartureKind::Withdrawn);
        let retire = withdrawn.map(|(id, _)| *id).filter(|id| !holds.contains(*id)).collect();
        DraftDepartures { holds, retire }
    }

    fn fold_folder(&mut self, common: &CommonOptions, now: Timestamp) {
        let mut scanner = Scanner::new(&common.intents, Limits::default());
        let (mut present, mut bad) = (BTreeSet::new(), BTreeSet::new());
        let whole = loop {
            let scan = scanner.scan(now);
            scanner.accept(&scan);
            for report in &scan.changed {
                let origin = Origin::folder(&report.path);
                present.insert(origin.clone());
                if !report.complete() {
                    bad.insert(origin.clone());
                }
                for (intent, _) in &report.intents {
                    self.accept(intent, &origin, now);
                }
                if report.complete() {
                    let keep: BTreeSet<ConnectionId> = report.intents.iter().map(|(intent, _)| intent.connection_id()).collect();
                    self.withdraw(&origin, &keep, now);
                }
            }
            if !scan.more {
                self.problems.extend(scan.problems.iter().cloned().chain(scan.folder.clone()));
                break scan.folder.is_none();
            }
        };
        // Withdraws the intents of files that no longer exist, as the next scan would.
        if whole {
            let files: Vec<Origin> =
                self.snapshot.origins().into_iter().filter(|origin| origin.folder_path().is_some()).cloned().collect();
            for origin in files.iter().filter(|origin| !present.contains(*origin) && !bad.contains(*origin)) {
                self.withdraw(origin, &BTreeSet::new(), now);
            }
        }
    }

    fn accept(&mut self, intent: &Intent, origin: &Origin, now: Timestamp) {
        if self.snapshot.is_closed(&intent.namespace) {
            return;
        }
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
        let mut context = PlanContext::new(loaded.clone(), &self.snapshot).with_secrets(secrets.into());
        let departures = self.departures(&env.engines, &context, reader);
        context.held = departures.held();
        let items = plan::plan(&self.snapshot, &context, &BTreeSet::new(), now);
        let (due, later): (Vec<PlanItem>, Vec<PlanItem>) = items.into_iter().partition(|item| item.due <= now);
        let attempts = due.into_iter().map(|item| self.describe(item, &loaded, env, reader)).collect();
        PlanReport {
            now: attempts,
            retire: departures.retire.iter().map(|id| self.retirement(*id, reader)).collect(),
            held: departures.bodies(&self, reader),
            waiting: later.len(),
            next_due: later.first().map(|item| item.due),
            problems: self.problems,
        }
    }

    /// Returns the intent in force, from the folder or from the registry.
    fn document(&self, id: ConnectionId, reader: Option<&Reader>) -> Option<Intent> {
        let seq = self.snapshot.connections.get(&id).map_or(0, |known| known.document);
        let stored = || serde_json::from_str::<Intent>(&reader?.body(seq).ok()??).ok();
        self.documents.get(&seq).cloned().or_else(stored)
    }

    fn retirement(&self, id: ConnectionId, reader: Option<&Reader>) -> Retirement {
        Retirement {
            connection: id,
            source_type: self.snapshot.connections.get(&id).map(|known| known.source_type.to_string()).unwrap_or_default(),
            resource_ids: self.document(id, reader).map(|intent| intent.resource_ids).unwrap_or_default(),
        }
    }

    fn describe(&self, item: PlanItem, loaded: &LoadedPolicy, env: &PlanEnv, reader: Option<&Reader>) -> PlannedAttempt {
        let Some(intent) = self.document(item.connection, reader) else {
            return PlannedAttempt {
                item,
                source_type: String::new(),
                resource_ids: Vec::new(),
                calls: Vec::new(),
                blocked: Some("its intent cannot be read from the registry".to_string()),
            };
        };
        let mut attempt = PlannedAttempt {
            item,
            source_type: intent.source_type.clone(),
            resource_ids: intent.resource_ids.clone(),
            calls: Vec::new(),
            blocked: None,
        };
        let known = self.snapshot.connections.get(&item.connection);
        let origins: Vec<Origin> = known.map(|known| known.origins_in_force().cloned().collect()).unwrap_or_default();
        (attempt.calls, attempt.blocked) = planned_calls(&env.engines, &env.providers, loaded, &intent, &origins);
        attempt
    }
}
