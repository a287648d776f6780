//! The looking: what changed in the policy file and in the intents folder, made durable.
//!
//! Findings are told to the scanner as known only after the registry has them: with a full disk, or
//! after a crash, the next look finds the same again.

use super::handle::Handle;
use crate::fault;
use crate::intake::{self, FileReport, Limits, Scan, Scanner, watch::Watch};
use crate::model::{ConnectionId, Digest, Intent, Origin, Problem, Timestamp};
use crate::policy::ActivePolicy;
use crate::policy_loader::PolicyLoader;
use crate::registry::{Findings, Mark, Registry, RegistryError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Documents of one registry command: big enough to share a sync, small enough to let others in.
const CHUNK: usize = 256;

/// The tick of a file system's clock, with room: a file may still be written within it unseen.
const TICK: Duration = Duration::from_millis(25);

/// How to look at the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanMode {
    /// At every file.
    Full,
    /// At new names first: if there are any, what was changed in place is left to the next look.
    NewOnly,
}

/// What a look has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanResult {
    All,
    /// New files only: look again.
    New,
}

/// What the loop looks with.
pub struct FolderSync {
    /// `None` while a scan runs on another thread, and after one that panicked.
    scanner: Option<Scanner>,
    /// `None` for commands that look once.
    watch: Option<Watch>,
    watch_warning: Option<Problem>,
    /// `None` while the policy is read on another thread, and after a read that panicked.
    policy_loader: Option<PolicyLoader>,
    /// The policy file and manifests that were judged last.
    judged: Option<Digest>,
    /// Files that were too young when they were read, and when they are read again.
    fresh: BTreeSet<Arc<str>>,
    settle_at: Option<Instant>,
    /// Marks that were not worth a transaction of their own.
    unsaved: Vec<Mark>,
    /// Documents that a sealed namespace refused, by file; told until the file changes.
    refused: BTreeMap<Arc<str>, Vec<Problem>>,
}

impl FolderSync {
    /// FolderSync that remember what an earlier process saw. `watching`: also be woken by changes.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub fn open(handle: &Handle, watching: bool) -> Result<FolderSync, RegistryError> {
        let scanner = remembering(handle)?;
        let (fresh, refused) = (BTreeSet::new(), BTreeMap::new());
        let (scanner, watch, unsaved) = (Some(scanner), None, Vec::new());
        let mut folder_sync = FolderSync {
            scanner,
            watch,
            watch_warning: None,
            policy_loader: None,
            judged: None,
            fresh,
            settle_at: None,
            unsaved,
            refused,
        };
        if watching {
            let (watch, warning) = Watch::start(&handle.intents, &handle.policy_file, handle.bell());
            folder_sync.watch = Some(watch);
            folder_sync.watch_warning = warning.map(|text| Problem::new("", text).in_file(handle.intents.display().to_string()));
        }
        Ok(folder_sync)
    }

    /// Watches anew what was replaced since.
    pub fn check_watch(&self) {
        if let Some(watch) = &self.watch {
            let _ = watch.check();
        }
    }

    /// Looks at the policy first, then at the folder: a document saved in the same second as the
    /// policy is judged by the new one.
    ///
    /// # Errors
    /// When the registry cannot write; the next look finds the same again.
    pub async fn look(&mut self, handle: &Handle, scan_mode: ScanMode) -> Result<ScanResult, RegistryError> {
        self.look_at_policy(handle).await?;
        let mut glance = scan_mode == ScanMode::NewOnly;
        loop {
            let looked = self.with_scanner(handle, move |scanner, now| match Some(()).filter(|()| glance) {
                Some(()) => {
                    scanner.glance(now).map_or_else(|| (scanner.scan(now), ScanResult::All), |scan| (scan, ScanResult::New))
                }
                None => (scanner.scan(now), ScanResult::All),
            });
            let Some((scan, seen)) = looked.await? else { return Ok(ScanResult::All) };
            self.accept(handle, &scan).await?;
            self.publish(handle, &scan);
            if scan.missed {
                ring_later(handle);
            }
            if !scan.fresh.is_empty() {
                self.fresh.extend(scan.fresh);
                self.settle_at = Some(Instant::now() + TICK);
            }
            if !scan.more {
                return Ok(seen);
            }
            glance = false;
        }
    }

    /// When files that were too young are to be read again.
    #[must_use]
    pub fn settle_at(&self) -> Option<Instant> {
        self.settle_at
    }

    /// Reads files again that were too young to be trusted, and nothing else.
    ///
    /// # Errors
    /// As [`FolderSync::look`].
    pub async fn settle(&mut self, handle: &Handle) -> Result<(), RegistryError> {
        self.settle_at = None;
        let paths: Vec<Arc<str>> = std::mem::take(&mut self.fresh).into_iter().collect();
        let Some(reread) = self.with_scanner(handle, move |scanner, now| scanner.reread(&paths, now)).await? else {
            return Ok(());
        };
        match reread {
            Some(scan) => {
                if let Some(scanner) = &mut self.scanner {
                    scanner.accept(&scan);
                }
                // They can wait for the next transaction: without them a restart reads these files once more.
                self.unsaved.extend(marks(&scan).0);
                if !scan.fresh.is_empty() {
                    self.fresh.extend(scan.fresh);
                    self.settle_at = Some(Instant::now() + TICK);
                }
            }
            None => handle.wake(),
        }
        Ok(())
    }

    /// Runs `work` where reading may block. `None`: it ended in a panic and left no scanner; the next look
    /// makes one from the stored marks.
    async fn with_scanner<T: Send + 'static>(
        &mut self,
        handle: &Handle,
        work: impl FnOnce(&mut Scanner, Timestamp) -> T + Send + 'static,
    ) -> Result<Option<T>, RegistryError> {
        let mut scanner = match self.scanner.take() {
            Some(scanner) => scanner,
            None => remembering(handle)?,
        };
        let now = handle.clock.now();
        let looked = tokio::task::spawn_blocking(move || {
            fault::boundary("scan");
            let found = work(&mut scanner, now);
            (scanner, found)
        });
        match looked.await {
            Ok((scanner, found)) => {
                self.scanner = Some(scanner);
                Ok(Some(found))
            }
            Err(error) => {
                self.tell_defect(handle, "the intents folder", &error);
                Ok(None)
            }
        }
    }

    /// Makes the findings durable; then they are known.
    async fn accept(&mut self, handle: &Handle, scan: &Scan) -> Result<(), RegistryError> {
        let refused = take_in(&handle.registry, scan, &self.unsaved).await?;
        self.unsaved.clear();
        if let Some(scanner) = &mut self.scanner {
            scanner.accept(scan);
        }
        self.remember_refused(scan, refused);
        Ok(())
    }

    async fn look_at_policy(&mut self, handle: &Handle) -> Result<(), RegistryError> {
        let before = handle.policy.load_full();
        let mut loader = self.policy_loader.take().unwrap_or_else(|| PolicyLoader::resume(&handle.policy_file, before.loaded()));
        let read = tokio::task::spawn_blocking(move || {
            let file = loader.load();
            (loader, file)
        });
        let file = match read.await {
            Ok((loader, file)) => {
                self.policy_loader = Some(loader);
                file
            }
            Err(error) => {
                self.tell_defect(handle, "the policy", &error);
                return Ok(());
            }
        };
        if self.judged == Some(file.digest) {
            return Ok(());
        }
        if let (Some(watch), Ok(Some(dir))) = (&self.watch, file.loaded.as_ref().map(|loaded| &loaded.policy.manifests.dir)) {
            watch.also(dir);
        }
        let after = before.reload(file.loaded, handle.clock.now());
        if after.rejected.is_none() {
            handle.registry.accept_policy(after.policy.digest, file.text).await?;
        }
        self.judged = Some(file.digest);
        tell(&before, &after);
        handle.policy.store(Arc::new(after));
        Ok(())
    }

    fn remember_refused(&mut self, scan: &Scan, refused: Vec<(Arc<str>, Problem)>) {
        for path in scan.changed.iter().map(|report| &report.path).chain(&scan.gone) {
            self.refused.remove(path);
        }
        for (path, problem) in refused {
            self.refused.entry(path).or_default().push(problem);
        }
    }

    /// Says that a scan ended in a panic. What was desired before is kept.
    fn tell_defect(&self, handle: &Handle, what: &str, error: &tokio::task::JoinError) {
        let problem = Problem::new("", format!("a defect of AAM was met while reading {what}: {error}"))
            .in_file(handle.intents.display().to_string())
            .hint("the folder is read again by itself; if this stays, report it");
        tracing::error!(target: "aam::intake", "{problem}");
        handle.problems.store(Arc::new(vec![problem]));
    }

    fn publish(&self, handle: &Handle, scan: &Scan) {
        // The folder's own problem is among those of the scan.
        let mut problems = scan.problems.clone();
        problems.extend(self.refused.values().flatten().cloned());
        problems.extend(self.watch_warning.iter().cloned());
        problems.extend(handle.policy.load().sources.problems.iter().cloned());
        if **handle.problems.load() != problems {
            for problem in &problems {
                tracing::warn!(target: "aam::intake", "{problem}");
            }
            handle.problems.store(Arc::new(problems));
        }
    }
}

/// A scanner that remembers what the registry says was taken in.
fn remembering(handle: &Handle) -> Result<Scanner, RegistryError> {
    let marks = handle.registry.reader().marks()?.into_iter().map(|mark| {
        let stamp = intake::listing::Stamp { size: mark.size, mtime_ns: mark.mtime_ns, inode: mark.inode };
        (mark.path, intake::Mark { stamp, content: mark.content })
    });
    Ok(Scanner::from_marks(&handle.intents, Limits::default(), marks))
}

/// A name may have been missed while its folder changed: look once more soon.
fn ring_later(handle: &Handle) {
    let bell = handle.bell();
    tokio::spawn(async move {
        tokio::time::sleep(TICK).await;
        bell.notify_one();
    });
}

fn tell(before: &ActivePolicy, after: &ActivePolicy) {
    match &after.rejected {
        Some(rejected) => {
            for problem in &rejected.problems {
                tracing::error!(target: "aam::policy", in_force = %after.policy.digest.short(), "rejected, the last good policy stays in force: {problem}");
            }
        }
        None if before.policy.digest != after.policy.digest || before.rejected.is_some() => {
            tracing::info!(target: "aam::policy", policy = %after.policy.digest.short(), "in force");
        }
        None => {}
    }
}

/// Makes the findings durable: new documents first, then what is no longer desired, then the marks.
/// Answers the documents that a sealed namespace refused.
async fn take_in(registry: &Registry, scan: &Scan, unsaved: &[Mark]) -> Result<Vec<(Arc<str>, Problem)>, RegistryError> {
    if scan.is_empty() && unsaved.is_empty() {
        return Ok(Vec::new());
    }
    let sealed = registry.snapshot().sealed.clone();
    let mut refused = Vec::new();
    let mut documents: Vec<(Intent, Origin)> = Vec::new();
    for report in &scan.changed {
        let origin = Origin::folder(&report.path);
        for (intent, _) in &report.intents {
            if sealed.contains(&intent.namespace) {
                refused.push((Arc::clone(&report.path), sealed_problem(report, &intent.namespace)));
            } else {
                documents.push((intent.clone(), origin.clone()));
            }
        }
    }
    let mut chunks = Vec::new();
    while documents.len() > CHUNK {
        let rest = documents.split_off(CHUNK);
        chunks.push(std::mem::replace(&mut documents, rest));
    }
    // Sent together, so that the writer can group them.
    for answer in futures_util::future::join_all(chunks.into_iter().map(|chunk| registry.accept(chunk))).await {
        answer?;
    }
    fault::boundary("take_in");
    let withdrawn = withdrawn(registry, scan);
    let (newest, gone) = marks(scan);
    let seen = unsaved.iter().cloned().chain(newest).collect();
    // The rest in one transaction: a saved file waits for one sync.
    registry.take_in(Findings { documents, withdrawn, seen, gone }).await?;
    fault::boundary("take_in");
    Ok(refused)
}

fn sealed_problem(report: &FileReport, namespace: &str) -> Problem {
    Problem::new("/namespace", format!("namespace {namespace} is sealed: nothing changes it after its seed was loaded"))
        .in_file(report.path.to_string())
        .hint("use the namespace autonomy")
}

/// What a changed, fully readable file no longer holds, and all of a file that is gone.
fn withdrawn(registry: &Registry, scan: &Scan) -> Vec<(ConnectionId, Origin, &'static str)> {
    let mut list = Vec::new();
    let snapshot = registry.snapshot();
    let mut left = |path: &str, keep: &BTreeSet<ConnectionId>, reason| {
        let origin = Origin::folder(path);
        for id in snapshot.desired_by(&origin).filter(|id| !keep.contains(id)) {
            list.push((id, origin.clone(), reason));
        }
    };
    for report in scan.changed.iter().filter(|report| report.complete()) {
        let keep = report.intents.iter().map(|(intent, _)| intent.connection_id()).collect();
        left(&report.path, &keep, "the file no longer holds it");
    }
    for path in &scan.gone {
        left(path, &BTreeSet::new(), "the file is gone");
    }
    list
}

fn marks(scan: &Scan) -> (Vec<Mark>, Vec<String>) {
    let (mut seen, mut gone) = (Vec::new(), Vec::new());
    for (path, mark) in scan.marks() {
        match mark {
            Some(mark) => seen.push(Mark {
                path: path.to_string(),
                size: mark.stamp.size,
                mtime_ns: mark.stamp.mtime_ns,
                inode: mark.stamp.inode,
                content: mark.content,
            }),
            None => gone.push(path.to_string()),
        }
    }
    (seen, gone)
}
