//! Takes what changed in the policy file and in the intents folder into the registry.
//!
//! The scanner learns that findings are known only after the registry has them. If the disk is full, or after a crash,
//! the next scan finds the same again.

use super::handle::Handle;
use crate::fault;
use crate::intake::{self, FileReport, Limits, Scan, Scanner, watch::Watch};
use crate::model::{ConnectionId, Digest, Intent, Origin, Problem, Timestamp};
use crate::policy::ActivePolicy;
use crate::policy_loader::PolicyLoader;
use crate::registry::{Findings, Mark, Registry, RegistryError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Documents of one registry command: big enough to share a sync, small enough to let others in.
const CHUNK: usize = 256;

/// The tick of a file system's clock, with room: a file may still be written within it unseen.
const TICK: Duration = Duration::from_millis(25);

/// How often the folder was read, for tests and measurements.
#[derive(Debug, Default)]
pub struct ScanCounts {
    /// Scans of the whole folder.
    pub scans: AtomicU64,
    /// Times that young files were read again, without a scan.
    pub rereads: AtomicU64,
}

/// The reading side of the loop.
pub struct FolderSync {
    /// `None` while a scan runs on another thread, and after one that panicked.
    scanner: Option<Scanner>,
    /// `None` for commands that sync once.
    watch: Option<Watch>,
    watch_warning: Option<Problem>,
    /// `None` while the policy is read on another thread, and after a read that panicked.
    policy_loader: Option<PolicyLoader>,
    /// The policy file and manifests that were judged last.
    judged: Option<Digest>,
    /// Files that were too young to be trusted when they were read, and when they are read again.
    fresh: BTreeSet<Arc<str>>,
    reread_at: Option<Instant>,
    /// Marks that were not worth a transaction of their own.
    unsaved: Vec<Mark>,
    /// Documents that a sealed namespace refused, by file; they are reported until the file changes.
    refused: BTreeMap<Arc<str>, Vec<Problem>>,
    counts: Arc<ScanCounts>,
}

impl FolderSync {
    /// Remembers what an earlier process saw. With `watching`, changes of the folders wake the loop.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub fn open(handle: &Handle, watching: bool) -> Result<FolderSync, RegistryError> {
        let mut folder_sync = FolderSync {
            scanner: Some(remembering(handle)?),
            watch: None,
            watch_warning: None,
            policy_loader: None,
            judged: None,
            fresh: BTreeSet::new(),
            reread_at: None,
            unsaved: Vec::new(),
            refused: BTreeMap::new(),
            counts: Arc::default(),
        };
        if watching {
            let (watch, warning) = Watch::start(&handle.intents, &handle.policy_file, handle.wake_signal());
            folder_sync.watch = Some(watch);
            folder_sync.watch_warning = warning.map(|text| Problem::new("", text).in_file(handle.intents.display().to_string()));
        }
        Ok(folder_sync)
    }

    /// Watches folders again that were replaced since.
    pub fn check_watch(&self) {
        if let Some(watch) = &self.watch {
            let _ = watch.check();
        }
    }

    /// How often the folder was read so far.
    #[must_use]
    pub fn counts(&self) -> Arc<ScanCounts> {
        Arc::clone(&self.counts)
    }

    /// Reads the policy first, then the folder: a document that is saved in the same second as the policy is judged by
    /// the new one. The folder is scanned once, unless more files changed than one scan reads.
    ///
    /// # Errors
    /// When the registry cannot write. The next sync finds the same again.
    pub async fn sync(&mut self, handle: &Handle) -> Result<(), RegistryError> {
        self.sync_policy(handle).await?;
        loop {
            self.counts.scans.fetch_add(1, Ordering::Relaxed);
            let Some(scan) = self.with_scanner(handle, |scanner, now| scanner.scan(now)).await? else { return Ok(()) };
            self.accept(handle, &scan).await?;
            self.publish(handle, &scan);
            if scan.missed {
                wake_later(handle);
            }
            self.reread_later(&scan);
            if !scan.more {
                return Ok(());
            }
        }
    }

    /// Young files are read again once the file system's clock has moved on: a write within one tick of it leaves size
    /// and time as they were.
    fn reread_later(&mut self, scan: &Scan) {
        if !scan.fresh.is_empty() {
            self.fresh.extend(scan.fresh.iter().cloned());
            self.reread_at = Some(Instant::now() + TICK);
        }
    }

    /// When young files are to be read again.
    #[must_use]
    pub fn reread_at(&self) -> Option<Instant> {
        self.reread_at
    }

    /// Reads young files again, and nothing else. If one of them changed, the loop is woken for a scan.
    ///
    /// # Errors
    /// As [`FolderSync::sync`].
    pub async fn reread(&mut self, handle: &Handle) -> Result<(), RegistryError> {
        self.reread_at = None;
        self.counts.rereads.fetch_add(1, Ordering::Relaxed);
        let paths: Vec<Arc<str>> = std::mem::take(&mut self.fresh).into_iter().collect();
        let Some(reread) = self.with_scanner(handle, move |scanner, now| scanner.reread(&paths, now)).await? else {
            return Ok(());
        };
        let Some(scan) = reread else {
            handle.wake();
            return Ok(());
        };
        if let Some(scanner) = &mut self.scanner {
            scanner.accept(&scan);
        }
        // These marks can wait for the next transaction: without them a restart reads the files once more.
        self.unsaved.extend(marks(&scan).0);
        self.reread_later(&scan);
        Ok(())
    }

    /// Runs `work` on a thread that may block. Returns `None` if it panicked; the next scan then starts from the stored
    /// marks.
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
                self.report_panic(handle, "the intents folder", &error);
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

    async fn sync_policy(&mut self, handle: &Handle) -> Result<(), RegistryError> {
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
                self.report_panic(handle, "the policy", &error);
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
        log_change(&before, &after);
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

    /// Reports that reading ended in a panic. What was in force before stays.
    fn report_panic(&self, handle: &Handle, what: &str, error: &tokio::task::JoinError) {
        let problem = Problem::new("", format!("a defect of AAM was met while reading {what}: {error}"))
            .in_file(handle.intents.display().to_string())
            .hint("AAM reads it again automatically; if the problem stays, report it");
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

/// A scan may have missed a name because the folder changed meanwhile: wake the loop for another one soon.
fn wake_later(handle: &Handle) {
    let wake = handle.wake_signal();
    tokio::spawn(async move {
        tokio::time::sleep(TICK).await;
        wake.notify_one();
    });
}

fn log_change(before: &ActivePolicy, after: &ActivePolicy) {
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
/// Returns the documents that a sealed namespace refused.
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
