//! Reads changes of the policy file and of the intents folder and records them in the registry.
//!
//! The scanner remembers the result of a scan only after the registry has stored it. If the disk is full, or after a
//! crash, the next scan finds the same changes again.

use super::handle::Handle;
use super::notices;
use super::policy_sync::{policy_problems, publish_problems};
use super::secret_files::SecretFiles;
use crate::fault;
use crate::intake::{self, FileReport, Limits, Scan, Scanner, watch::Watch};
use crate::model::{ConnectionId, Digest, Intent, Origin, Problem, Timestamp};
use crate::plan::StoredSecrets;
use crate::policy_loader::PolicyLoader;
use crate::registry::{FileMark, Registry, RegistryError, ScanFindings};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The number of documents in one registry command: large enough to share one sync of the disk, small enough that other
/// commands do not have to wait long.
const CHUNK_SIZE: usize = 256;

/// How long to wait before fresh files are read again. It is longer than the tick of a file system's clock, within which
/// a second write does not change the modification time.
const REREAD_DELAY: Duration = Duration::from_millis(25);

/// How often the folder was read. Tests and measurements use it.
#[derive(Debug, Default)]
pub struct ScanCounts {
    /// The number of scans of the whole folder.
    pub scans: AtomicU64,
    /// How often fresh files were read again without a scan.
    pub rereads: AtomicU64,
}

/// Reads the policy and the intents folder for the loop.
pub struct FolderSync {
    /// `None` while a scan runs on another thread, and after one that panicked.
    scanner: Option<Scanner>,
    /// `None` for commands that sync once.
    pub(super) watch: Option<Watch>,
    watch_warning: Option<Problem>,
    /// `None` while the policy is read on another thread, and after a read that panicked.
    pub(super) policy_loader: Option<PolicyLoader>,
    /// The digest of the policy file and the manifests that were applied or rejected last.
    pub(super) last_policy_digest: Option<Digest>,
    /// Files whose modification time was too recent to be trusted when they were read.
    fresh: BTreeSet<Arc<str>>,
    /// When the fresh files are read again.
    reread_at: Option<Instant>,
    /// Marks that are stored with the next transaction.
    unsaved: Vec<FileMark>,
    /// Whether the files were last read by other rules of intake, so that this has to be recorded once all are read.
    outdated_rules: bool,
    /// Problems with documents of a sealed namespace, by file. They are reported until the file changes.
    refused: BTreeMap<Arc<str>, Vec<Problem>>,
    counts: Arc<ScanCounts>,
    pub(super) secrets: SecretFiles,
}

impl FolderSync {
    /// Starts from the marks that an earlier process stored. With `watching`, changes of the folders wake the loop.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn open(handle: &Handle, watching: bool) -> Result<FolderSync, RegistryError> {
        let mut folder_sync = FolderSync {
            scanner: Some(stored_scanner(handle)?),
            watch: None,
            watch_warning: None,
            policy_loader: None,
            last_policy_digest: None,
            fresh: BTreeSet::new(),
            reread_at: None,
            unsaved: Vec::new(),
            outdated_rules: !handle.registry.reader().marks()?.contains(&rules_mark()),
            refused: BTreeMap::new(),
            counts: Arc::default(),
            secrets: SecretFiles::new(watching.then(|| handle.wake_signal())),
        };
        if watching {
            let (watch, warning) = Watch::start(&handle.intents, &handle.policy_file, handle.wake_signal());
            folder_sync.watch = Some(watch);
            folder_sync.watch_warning = warning.map(|text| Problem::new("", text).in_file(handle.intents.display().to_string()));
        }
        Ok(folder_sync)
    }

    /// Watches folders again that were replaced since the last check.
    pub fn check_watch(&self) {
        if let Some(watch) = &self.watch {
            let _ = watch.check();
        }
    }

    /// When the files of secrets that connections wait for changed.
    #[must_use]
    pub fn stored_secrets(&self) -> Arc<StoredSecrets> {
        self.secrets.stored()
    }

    /// How often the folder has been read so far.
    #[must_use]
    pub fn counts(&self) -> Arc<ScanCounts> {
        Arc::clone(&self.counts)
    }

    /// Reads the policy and then the folder, so that the new policy applies to a document that was saved together with it.
    /// The folder is scanned once, unless more files changed than one scan reads.
    ///
    /// # Errors
    /// If the registry cannot write. The next sync finds the same changes again.
    pub async fn sync(&mut self, handle: &Handle) -> Result<(), RegistryError> {
        self.sync_policy(handle).await?;
        self.secrets.sync(handle).await;
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
                // Not earlier, because a part of a scan does not show all problems.
                return notices::record_intent_problems(handle).await;
            }
        }
    }

    /// Begins anew, because this process became the leader: other processes may have stored marks and policies since.
    pub fn restart(&mut self) {
        self.scanner = None;
        self.last_policy_digest = None;
    }

    /// Schedules another read of the fresh files for after the next tick of the file system's clock. A second write within
    /// the same tick may leave the size and the time of a file unchanged.
    fn reread_later(&mut self, scan: &Scan) {
        if !scan.fresh.is_empty() {
            self.fresh.extend(scan.fresh.iter().cloned());
            self.reread_at = Some(Instant::now() + REREAD_DELAY);
        }
    }

    /// When fresh files are to be read again.
    #[must_use]
    pub fn reread_at(&self) -> Option<Instant> {
        self.reread_at
    }

    /// Reads fresh files again, and nothing else. If one of them changed, the loop is woken for a scan.
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
        // These marks can wait for the next transaction. If they are lost, a restart reads the files once more.
        self.unsaved.extend(marks(&scan).0);
        self.reread_later(&scan);
        Ok(())
    }

    /// Runs `work` on a thread for blocking calls. Returns `None` if it panicked; the next scan then starts from the stored
    /// marks.
    async fn with_scanner<T: Send + 'static>(
        &mut self,
        handle: &Handle,
        work: impl FnOnce(&mut Scanner, Timestamp) -> T + Send + 'static,
    ) -> Result<Option<T>, RegistryError> {
        let mut scanner = match self.scanner.take() {
            Some(scanner) => scanner,
            None => stored_scanner(handle)?,
        };
        let now = handle.clock.now();
        let task = tokio::task::spawn_blocking(move || {
            fault::boundary("scan");
            let result = work(&mut scanner, now);
            (scanner, result)
        });
        match task.await {
            Ok((scanner, result)) => {
                self.scanner = Some(scanner);
                Ok(Some(result))
            }
            Err(error) => {
                self.report_panic(handle, "the intents folder", &error);
                Ok(None)
            }
        }
    }

    /// Stores the result of a scan; after that, the scanner may remember it.
    async fn accept(&mut self, handle: &Handle, scan: &Scan) -> Result<(), RegistryError> {
        if self.outdated_rules && !scan.more && scan.folder.is_none() {
            self.unsaved.push(rules_mark());
            self.outdated_rules = false;
        }
        let refused = record_scan(&handle.registry, scan, &self.unsaved).await?;
        self.unsaved.clear();
        if let Some(scanner) = &mut self.scanner {
            scanner.accept(scan);
        }
        self.remember_refused(scan, refused);
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

    /// Reports that reading ended in a panic. The last policy and the last documents stay in force.
    pub(super) fn report_panic(&self, handle: &Handle, what: &str, error: &tokio::task::JoinError) {
        let problem = Problem::new("", format!("a defect in AAM stopped it from reading {what}: {error}"))
            .in_file(handle.intents.display().to_string())
            .hint("AAM tries again automatically; if the problem persists, please report it");
        tracing::error!(target: "aam::intake", "{problem}");
        handle.problems.store(Arc::new(vec![problem]));
    }

    fn publish(&self, handle: &Handle, scan: &Scan) {
        let mut problems = scan.problems.clone();
        problems.extend(self.refused.values().flatten().cloned());
        problems.extend(self.watch_warning.iter().cloned());
        problems.extend(policy_problems(handle, &self.secrets));
        publish_problems(handle, problems);
    }
}

/// A scanner that starts from the marks stored in the registry.
fn stored_scanner(handle: &Handle) -> Result<Scanner, RegistryError> {
    Ok(Scanner::from_marks(&handle.intents, Limits::default(), stored_marks(handle.registry.reader().marks()?)))
}

/// The path of the mark that holds the version of the rules of intake. No file of intents has this name.
const RULES_PATH: &str = "*rules";

/// The mark of the rules by which this version reads files.
fn rules_mark() -> FileMark {
    FileMark { path: RULES_PATH.to_string(), size: intake::RULES_VERSION, mtime_ns: 0, inode: 0, content: [0; 16] }
}

/// Returns the marks of a scan with the paths that they belong to. If a version of AAM with other rules of intake wrote them, every
/// file is read once more.
pub fn stored_marks(stored: Vec<FileMark>) -> impl Iterator<Item = (String, intake::Mark)> {
    let same_rules = stored.contains(&rules_mark());
    stored.into_iter().filter(|mark| mark.path != RULES_PATH).map(move |mark| {
        if !same_rules && !mark.path.ends_with('/') {
            return (mark.path, intake::Mark::NONE);
        }
        let stamp = intake::listing::Stamp { size: mark.size, mtime_ns: mark.mtime_ns, inode: mark.inode };
        (mark.path, intake::Mark { stamp, content: mark.content })
    })
}

/// Wakes the loop soon for another scan, because this one may have missed a name while the folder changed.
fn wake_later(handle: &Handle) {
    let wake = handle.wake_signal();
    tokio::spawn(async move {
        tokio::time::sleep(REREAD_DELAY).await;
        wake.notify_one();
    });
}

/// Stores the result of a scan: new documents first, then withdrawals, then the marks.
/// Returns a problem for each document of a sealed namespace.
async fn record_scan(registry: &Registry, scan: &Scan, unsaved: &[FileMark]) -> Result<Vec<(Arc<str>, Problem)>, RegistryError> {
    if scan.is_empty() && unsaved.is_empty() {
        return Ok(Vec::new());
    }
    let mut refused = Vec::new();
    let mut documents: Vec<(Intent, Origin)> = Vec::new();
    for report in &scan.changed {
        let origin = Origin::folder(&report.path);
        for (intent, _) in &report.intents {
            if registry.snapshot().is_closed(&intent.namespace) {
                refused.push((Arc::clone(&report.path), sealed_problem(report, &intent.namespace)));
            } else {
                documents.push((intent.clone(), origin.clone()));
            }
        }
    }
    let mut chunks = Vec::new();
    while documents.len() > CHUNK_SIZE {
        let rest = documents.split_off(CHUNK_SIZE);
        chunks.push(std::mem::replace(&mut documents, rest));
    }
    // The commands are sent together, so that the writer can put them into one transaction.
    for answer in futures_util::future::join_all(chunks.into_iter().map(|chunk| registry.accept(chunk))).await {
        answer?;
    }
    fault::boundary("take_in");
    let withdrawn = withdrawn(registry, scan);
    let (newest, removed_marks) = marks(scan);
    let marks = unsaved.iter().cloned().chain(newest).collect();
    // The rest is one transaction, so that a saved file waits for one sync of the disk.
    registry.record_scan(ScanFindings { documents, withdrawn, marks, removed_marks }).await?;
    fault::boundary("take_in");
    Ok(refused)
}

/// The problem of a document whose namespace accepts none.
#[must_use]
pub fn sealed_problem(report: &FileReport, namespace: &str) -> Problem {
    Problem::new("/namespace", format!("namespace {namespace} is sealed: its seed was loaded once and cannot be changed"))
        .in_file(report.path.to_string())
        .hint("use the namespace autonomy")
}

/// The connections that a changed file without problems no longer desires, and those that a removed file desired.
fn withdrawn(registry: &Registry, scan: &Scan) -> Vec<(ConnectionId, Origin, &'static str)> {
    let mut list = Vec::new();
    let snapshot = registry.snapshot();
    let mut withdraw_except = |path: &str, keep: &BTreeSet<ConnectionId>, reason| {
        let origin = Origin::folder(path);
        let open = |id: &ConnectionId| snapshot.connections.get(id).is_none_or(|known| !snapshot.is_closed(&known.namespace));
        for id in snapshot.desired_by(&origin).filter(|id| !keep.contains(id) && open(id)) {
            list.push((id, origin.clone(), reason));
        }
    };
    for report in scan.changed.iter().filter(|report| report.complete()) {
        let keep = report.intents.iter().map(|(intent, _)| intent.connection_id()).collect();
        withdraw_except(&report.path, &keep, "the file no longer contains it");
    }
    for path in &scan.gone {
        withdraw_except(path, &BTreeSet::new(), "the file was removed");
    }
    list
}

fn marks(scan: &Scan) -> (Vec<FileMark>, Vec<String>) {
    let (mut seen, mut gone) = (Vec::new(), Vec::new());
    for (path, mark) in scan.marks() {
        match mark {
            Some(mark) => seen.push(FileMark {
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
