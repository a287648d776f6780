//! Reads the policy file for the loop: the leader of the replicas, which is the only process in most cases, puts it into force.

use super::folder_sync::FolderSync;
use super::handle::Handle;
use super::notices;
use super::secret_files::SecretFiles;
use crate::admin_token;
use crate::model::{Digest, Problem};
use crate::policy::{ActivePolicy, LoadedPolicy, parse};
use crate::policy_loader::{self, PolicyFile, PolicyLoader};
use crate::registry::RegistryError;
use std::sync::Arc;

impl FolderSync {
    /// Reads the policy as a replica does that is not the leader: the policy in the ledger is in force, and a file that differs from
    /// it is a problem. The folder is the leader's.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn follow(&mut self, handle: &Handle) -> Result<(), RegistryError> {
        let Some(file) = self.read_policy(handle).await else { return Ok(()) };
        self.secrets.sync(handle).await;
        let in_force = handle.registry.snapshot().policy;
        let own = file.loaded.as_ref().ok().filter(|loaded| in_force.is_none_or(|(digest, _)| loaded.policy.digest == digest));
        let mut problems = Vec::new();
        match (own, in_force) {
            (Some(loaded), _) => self.adopt_policy(handle, loaded.clone()),
            (None, Some((digest, seq))) => {
                problems.push(differing_policy(handle, digest));
                if handle.policy().digest != digest {
                    let registry = Arc::clone(&handle.registry);
                    let text = handle.registry.waiting(move || registry.reader().body(seq)).await?.unwrap_or_default();
                    match parse::parse(&text, "the policy in force") {
                        Ok(policy) => {
                            let loaded = PolicyLoader::new(&handle.policy_file).with_manifests(Arc::new(policy)).0;
                            self.adopt_policy(handle, loaded);
                        }
                        // A newer version accepted it. No attempt begins under another policy, so nothing is called.
                        Err(unread) => problems.extend(unread),
                    }
                }
            }
            (None, None) => {}
        }
        problems.extend(policy_problems(handle, &self.secrets));
        publish_problems(handle, problems);
        Ok(())
    }

    fn adopt_policy(&mut self, handle: &Handle, loaded: LoadedPolicy) {
        let before = handle.policy.load_full();
        if before.loaded().is_same(&loaded) && before.rejected.is_none() {
            return;
        }
        let after = ActivePolicy::new(loaded, None);
        log_change(&before, &after);
        handle.policy.store(Arc::new(after));
    }

    /// Reads the policy file on a thread for blocking calls. Returns `None` if that panicked.
    async fn read_policy(&mut self, handle: &Handle) -> Option<PolicyFile> {
        let in_force = || handle.policy.load().loaded();
        let mut loader = self.policy_loader.take().unwrap_or_else(|| PolicyLoader::resume(&handle.policy_file, in_force()));
        let read = tokio::task::spawn_blocking(move || {
            let file = loader.load();
            (loader, file)
        });
        match read.await {
            Ok((loader, file)) => {
                self.policy_loader = Some(loader);
                handle.registry.note_policy_file(file.loaded.as_ref().map_or(file.digest, |loaded| loaded.policy.digest));
                Some(file)
            }
            Err(error) => {
                self.report_panic(handle, "the policy", &error);
                None
            }
        }
    }

    pub(super) async fn sync_policy(&mut self, handle: &Handle) -> Result<(), RegistryError> {
        let before = handle.policy.load_full();
        let Some(file) = self.read_policy(handle).await else { return Ok(()) };
        if self.last_policy_digest == Some(file.digest) {
            return Ok(());
        }
        if let (Some(watch), Ok(Some(dir))) = (&self.watch, file.loaded.as_ref().map(|loaded| &loaded.policy.manifests.dir)) {
            watch.add(dir);
        }
        let after = before.reload(file.loaded, handle.clock.now());
        let rejected = after.rejected.clone();
        if rejected.is_none() {
            let webhooks = after.policy.notify.iter().map(|webhook| webhook.name.clone()).collect();
            handle.registry.accept_policy(after.policy.digest, file.text, webhooks).await?;
        }
        log_change(&before, &after);
        log_admin_token(handle, &before, &after);
        handle.policy.store(Arc::new(after));
        // After the rejection is shown, because it is shown also if it cannot be recorded.
        if let Some(rejected) = rejected {
            notices::record_rejected_policy(handle, file.digest, &rejected.problems).await?;
        }
        self.last_policy_digest = Some(file.digest);
        Ok(())
    }
}

/// The problems of the policy in force: of its sources, its folders and its files of secrets.
pub(super) fn policy_problems(handle: &Handle, secrets: &SecretFiles) -> Vec<Problem> {
    let active = handle.policy.load();
    let mut problems: Vec<Problem> = active.sources.problems.clone();
    let policy_file = handle.policy_file.display().to_string();
    let roots = policy_loader::root_problems(&active.policy).into_iter().chain(secrets.problems().iter().cloned());
    problems.extend(roots.map(|problem| problem.in_file(&policy_file)));
    problems
}

pub(super) fn publish_problems(handle: &Handle, problems: Vec<Problem>) {
    if **handle.problems.load() != problems {
        for problem in &problems {
            tracing::warn!(target: "aam::intake", "{problem}");
        }
        handle.problems.store(Arc::new(problems));
    }
}

/// The problem of a replica whose policy file is not the policy in force.
fn differing_policy(handle: &Handle, in_force: Digest) -> Problem {
    let text = format!("this replica has another policy file than its leader; the leader's is in force: {}", in_force.short());
    Problem::new("", text)
        .in_file(handle.policy_file.display().to_string())
        .hint("put the same policy file on every replica; this one follows the policy in force meanwhile")
}

fn log_change(before: &ActivePolicy, after: &ActivePolicy) {
    match &after.rejected {
        Some(rejected) => {
            for problem in &rejected.problems {
                tracing::error!(target: "aam::policy", in_force = %after.policy.digest.short(), "the policy file was rejected; the last accepted policy stays in force: {problem}");
            }
        }
        None if before.policy.digest != after.policy.digest || before.rejected.is_some() => {
            tracing::info!(target: "aam::policy", policy = %after.policy.digest.short(), "the policy is in force");
        }
        None => {}
    }
}

/// Says that the admin token ends with the first token of the policy, which otherwise only the next caller notices.
fn log_admin_token(handle: &Handle, before: &ActivePolicy, after: &ActivePolicy) {
    let in_use = handle.registry.snapshot().open_namespaces();
    let ended = admin_token::ended(&after.policy, handle.registry.path(), in_use).filter(|_| before.policy.api.tokens.is_empty());
    if let Some(ended) = ended {
        tracing::warn!(target: "aam::policy", "{}; {}", ended.message(), ended.fix());
    }
}
