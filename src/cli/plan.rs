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
use crate::plan::{self, PlanContext, PlanItem};
use crate::policy::LoadedPolicy;
use crate::policy_loader;
use crate::providers::{Process, Providers};
use crate::reconcile::secret_files;
use crate::registry::{Reader, RegistryError};
use crate::report::plan::{PlanReport, PlannedAttempt, PlannedWebhook, Retirement, text};
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

/// Exits with 0 if there is nothing to do, with 2 if there is, and with 1 on an error.
pub async fn run(common: &CommonOptions) -> CommandResult {
    let reader = match Reader::open(&common.registry) {
        Ok(reader) => Some(reader),
        Err(RegistryError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let policy = match &reader {
        Some(reader) => policy_in_force(common, reader)?,
        None => policy_loader::load(&common.policy).loaded.map_err(|problems| CommandError::config(&problems))?,
    };
    let clock = clock::from_env();
    let now = clock.now();
    let snapshot = match &reader {
        Some(reader) => reader.snapshot()?,
        None => Snapshot::default(),
    };
    let mut draft = Draft { snapshot, documents: BTreeMap::new(), retire: Vec::new(), problems: Vec::new() };
    draft.fold_folder(common, now);
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

/// The snapshot as it would be after the next scan of the folder.
struct Draft {
    snapshot: Snapshot,
    /// Intents that are only in the folder, by the sequence number of the ledger entry that they would get.
    documents: BTreeMap<u64, Intent>,
    retire: Vec<ConnectionId>,
    problems: Vec<Problem>,
}

impl Draft {
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
            if self.snapshot.connections.get(&id).is_some_and(|known| known.orphaned()) {
                self.apply(String::new(), id, Fact::ConnectionRetired, now);
                self.retire.push(id);
            }
        }
    }

    fn apply(&mut self, namespace: String, id: ConnectionId, fact: Fact, now: Timestamp) -> u64 {
        let seq = self.snapshot.seq + 1;
        self.snapshot.apply(&Entry { seq, at: now, namespace, connection: Some(id), fact });
        seq
    }

    fn plan(self, loaded: LoadedPolicy, env: &PlanEnv, reader: Option<&Reader>, now: Timestamp) -> PlanReport {
        let secrets = secret_files::read_once(&loaded.policy, &self.snapshot, now);
        let context = PlanContext::new(loaded.clone(), &self.snapshot).with_secrets(secrets.into());
        let items = plan::plan(&self.snapshot, &context, &BTreeSet::new(), now);
        let (due, later): (Vec<PlanItem>, Vec<PlanItem>) = items.into_iter().partition(|item| item.due <= now);
        let attempts = due.into_iter().map(|item| self.describe(item, &loaded, env, reader)).collect();
        PlanReport {
            now: attempts,
            retire: self.retire.iter().map(|id| self.retirement(*id, reader)).collect(),
            waiting: later.len(),
            next_due: later.first().map(|item| item.due),
            problems: self.problems,
            webhooks: loaded.policy.notify.iter().map(PlannedWebhook::from).collect(),
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
        match crate::pipeline::assess(&env.engines, &loaded.policy, &loaded.sources, &intent, &origins) {
            Err(failure) => attempt.blocked = Some(format!("{}; {}", failure.title, failure.fix)),
            Ok(bound) => match bound.resources() {
                Err(_) => attempt.blocked = Some(format!("this version has no connector for {}", bound.family.title)),
                Ok(resources) => {
                    let locator = intent.credential_locator.as_ref();
                    let credential = locator.map(|locator| env.providers.planned_calls(&loaded.policy, locator, &bound.family));
                    attempt.calls = credential.unwrap_or_default();
                    attempt.calls.extend(resources.iter().flat_map(|resource| resource.planned_calls()));
                }
            },
        }
        attempt
    }
}
