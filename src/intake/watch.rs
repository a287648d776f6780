//! Wakes the loop when the intents folder or the policy changes. A wake carries no data, so a lost or spurious one is
//! harmless.
//!
//! Measured with notify 8.2 on Linux: AAM's own reads cause `Access(Open)` events, so these are ignored. The swap of a
//! ConfigMap causes only an event for `..data`, so every other event wakes the loop, whatever its name. A watched folder
//! that is replaced causes no further events, so [`Watch::check`] watches it again.

use super::listing::{Identity, identity_of};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// A burst of events ends when there was no event for this long.
const BURST_GAP: Duration = Duration::from_millis(5);

/// A burst that does not end wakes the loop after this time.
const MAX_BURST: Duration = Duration::from_millis(50);

/// How often AAM checks for replaced folders, and how often it polls if folders cannot be watched.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Watches the intents folder and the policy's folder. Dropping it stops the watch.
pub struct Watch {
    inner: Arc<Inner>,
    /// The folders that [`Watch::set_folders`] named last.
    folders: Mutex<Vec<(PathBuf, RecursiveMode)>>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

struct Inner {
    watcher: Mutex<Watched>,
    /// The folders to watch from the next check on, if they changed.
    wanted: Mutex<Option<Vec<(PathBuf, RecursiveMode)>>>,
    wake: Arc<Notify>,
}

struct Watched {
    /// `None` if the system refused the watcher or a watch. The loop is then woken at every [`CHECK_INTERVAL`].
    watcher: Option<RecommendedWatcher>,
    folders: Vec<WatchedFolder>,
}

struct WatchedFolder {
    path: PathBuf,
    /// The folder that `path` led to when it was watched. If `path` is a link, only its target is watched, because the
    /// watcher does not follow links.
    target: PathBuf,
    mode: RecursiveMode,
    /// The device and inode of the folder that is being watched.
    identity: Option<Identity>,
}

impl WatchedFolder {
    fn new(path: PathBuf, mode: RecursiveMode) -> WatchedFolder {
        WatchedFolder { target: path.clone(), path, mode, identity: None }
    }
}

impl Watch {
    /// Starts watching. Every burst of changes causes one `notify_one` on `wake`. Must be called in a tokio runtime.
    ///
    /// Returns a warning if the folders cannot be watched and are polled every second instead.
    #[must_use]
    pub fn start(intents: &Path, policy: &Path, wake: Arc<Notify>) -> (Watch, Option<String>) {
        Watch::start_with(watched_folders(intents, policy), wake)
    }

    /// Starts without folders. [`Watch::set_folders`] names them. Must be called in a tokio runtime.
    #[must_use]
    pub fn without_folders(wake: Arc<Notify>) -> Watch {
        let (watch, warning) = Watch::start_with(Vec::new(), wake);
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        watch
    }

    fn start_with(folders: Vec<WatchedFolder>, wake: Arc<Notify>) -> (Watch, Option<String>) {
        let raw = Arc::new(Notify::new());
        let signal = Arc::clone(&raw);
        let on_event = move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, is_change) {
                signal.notify_one();
            }
        };
        // The scan follows links only to folders that are watched themselves. A link could lead to the whole file system.
        let made = RecommendedWatcher::new(on_event, notify::Config::default().with_follow_symlinks(false));
        let (watcher, mut warning) = match made {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(watch_warning(&error))),
        };
        let mut watched = Watched { watcher, folders };
        warning = watched.rewatch().1.or(warning);
        let inner = Arc::new(Inner { watcher: Mutex::new(watched), wanted: Mutex::default(), wake });
        let tasks = [tokio::spawn(debounce(raw, Arc::clone(&inner.wake))), tokio::spawn(tick(Arc::clone(&inner)))];
        (Watch { inner, folders: Mutex::default(), tasks }, warning)
    }

    /// Watches folders again that were replaced or created since the last check. Returns whether there was one.
    ///
    /// A task of this watch does the same every second. Blocks for a few system calls per folder.
    #[must_use]
    pub fn check(&self) -> bool {
        self.inner.check()
    }

    /// Watches exactly these folders from now on: `folder`, and `trees` with everything below them. Does not block, because
    /// a folder may be on a mount that does not answer: a task of this watch does the work.
    pub fn set_folders(&self, folder: &Path, trees: &[PathBuf]) {
        let trees = trees.iter().map(|tree| (tree.clone(), RecursiveMode::Recursive));
        let all: Vec<_> = std::iter::once((folder.to_path_buf(), RecursiveMode::NonRecursive)).chain(trees).collect();
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if *folders == all {
            return;
        }
        folders.clone_from(&all);
        *self.inner.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(all);
        let inner = Arc::clone(&self.inner);
        drop(tokio::task::spawn_blocking(move || inner.check()));
    }

    /// Watches another folder, unless it is watched already.
    pub fn add(&self, folder: &Path) {
        let mut watched = self.inner.lock();
        if !watched.folders.iter().any(|watched| watched.path == folder) {
            watched.folders.push(WatchedFolder::new(folder.to_path_buf(), RecursiveMode::NonRecursive));
        }
        drop(watched);
        self.inner.check();
    }

    /// Whether the folder is polled because it cannot be watched.
    #[must_use]
    pub fn polls(&self) -> bool {
        self.inner.lock().watcher.is_none()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (changed, warning) = {
            let mut watched = self.lock();
            wanted.into_iter().for_each(|wanted| watched.set(wanted));
            watched.rewatch()
        };
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        if changed {
            // Changes between the replacement and the new watch caused no events.
            self.wake.notify_one();
        }
        changed
    }
}

impl Watched {
    /// Replaces the list of folders. Those that were watched before stay watched.
    fn set(&mut self, wanted: Vec<(PathBuf, RecursiveMode)>) {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.folders)
            .into_iter()
            .partition(|folder| wanted.iter().any(|(path, mode)| *path == folder.path && *mode == folder.mode));
        self.folders = kept;
        for folder in gone.iter().filter(|folder| folder.identity.is_some()) {
            // The folder may be gone, and its watch with it.
            let _ = self.watcher.as_mut().map(|watcher| watcher.unwatch(&folder.target));
        }
        for (path, mode) in wanted {
            if !self.folders.iter().any(|folder| folder.path == path) {
                self.folders.push(WatchedFolder::new(path, mode));
            }
        }
    }

    /// Watches folders again that were replaced. Returns whether there was one, and a warning if the system refused.
    fn rewatch(&mut self) -> (bool, Option<String>) {
        let mut changed = false;
        for folder in &mut self.folders {
            let now = identity_of(&folder.path);
            if now == folder.identity {
                continue;
            }
            changed = true;
            folder.identity = now;
            let Some(watcher) = self.watcher.as_mut() else {
                continue;
            };
            // The system may have removed the old watch together with its folder, so an error is expected here.
            let _ = watcher.unwatch(&folder.target);
            if now.is_none() {
                continue;
            }
            folder.target = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
            if let Err(error) = watcher.watch(&folder.target, folder.mode) {
                if matches!(error.kind, notify::ErrorKind::PathNotFound) || identity_of(&folder.path).is_none() {
                    folder.identity = None;
                    continue;
                }
                self.watcher = None;
                return (true, Some(watch_warning(&error)));
            }
        }
        (changed, None)
    }
}

/// The intents folder with its sub-folders and the policy's folder. If the policy is a link, the folder of its target,
/// too.
fn watched_folders(intents: &Path, policy: &Path) -> Vec<WatchedFolder> {
    let folder = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let watched = WatchedFolder::new;
    let mut all =
        vec![watched(intents.to_path_buf(), RecursiveMode::Recursive), watched(folder(policy), RecursiveMode::NonRecursive)];
    let target = policy.canonicalize().ok().map(|target| folder(&target));
    if let Some(target) = target.filter(|target| identity_of(target) != identity_of(&folder(policy))) {
        all.push(watched(target, RecursiveMode::NonRecursive));
    }
    all
}

/// Whether an event may stand for a change: every event except accesses, and of these only "closed after writing".
fn is_change(event: &Event) -> bool {
    event.need_rescan() || !event.kind.is_access() || event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

fn watch_warning(error: &notify::Error) -> String {
    let why = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system's limit on watched folders is reached (raise fs.inotify.max_user_watches)".to_string()
        }
        notify::ErrorKind::Io(io) => format!("{io} (is fs.inotify.max_user_instances reached?)"),
        other => format!("{other:?}"),
    };
    format!("folders cannot be watched: {why}; they are scanned every second instead")
}

/// Turns each burst of raw events into one wake.
async fn debounce(raw: Arc<Notify>, wake: Arc<Notify>) {
    loop {
        raw.notified().await;
        let first = Instant::now();
        while first.elapsed() < MAX_BURST && timeout(BURST_GAP, raw.notified()).await.is_ok() {}
        wake.notify_one();
    }
}

async fn tick(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let each = Arc::clone(&inner);
        let polls = tokio::task::spawn_blocking(move || {
            each.check();
            each.lock().watcher.is_none()
        });
        if polls.await.unwrap_or(true) {
            inner.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn setup() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let home = tempfile::tempdir().expect("a folder");
        let (intents, policy) = (home.path().join("intents"), home.path().join("policy/policy.yaml"));
        fs::create_dir_all(intents.join("team")).expect("a folder");
        fs::create_dir_all(home.path().join("policy")).expect("a folder");
        fs::write(&policy, "version: 1").expect("a file");
        (home, intents, policy)
    }

    async fn woken(wake: &Notify) -> bool {
        timeout(PATIENCE, wake.notified()).await.is_ok()
    }

    /// Consumes wakes until none comes for a time that is long compared with the debounce.
    async fn silence(wake: &Notify) {
        while timeout(Duration::from_millis(150), wake.notified()).await.is_ok() {}
    }

    #[tokio::test]
    async fn changes_wake_and_reading_does_not() {
        let (_home, intents, policy) = setup();
        let wake = Arc::new(Notify::new());
        let (watch, warning) = Watch::start(&intents, &policy, Arc::clone(&wake));
        assert_eq!((warning, watch.polls()), (None, false));
        silence(&wake).await;
        for (path, text) in
            [(intents.join("a.json"), "[]"), (intents.join("team/b.json"), "[]"), (policy.clone(), "version: 1\n")]
        {
            fs::write(&path, text).expect("a file");
            assert!(woken(&wake).await, "{}", path.display());
            silence(&wake).await;
        }
        fs::create_dir(intents.join("new")).expect("a folder");
        silence(&wake).await;
        fs::write(intents.join("new/c.json"), "[]").expect("a file");
        assert!(woken(&wake).await, "a file in a new folder");
        silence(&wake).await;
        for _ in 0..10 {
            fs::read(intents.join("a.json")).expect("a file");
            fs::read_dir(&intents).expect("a folder").for_each(drop);
        }
        assert!(timeout(Duration::from_millis(200), wake.notified()).await.is_err(), "reading woke the loop");
    }

    #[tokio::test]
    async fn a_replaced_folder_is_watched_again() {
        let (home, intents, policy) = setup();
        let wake = Arc::new(Notify::new());
        let (watch, _) = Watch::start(&intents, &policy, Arc::clone(&wake));
        fs::rename(&intents, home.path().join("old")).expect("a rename");
        let _ = watch.check();
        fs::create_dir(&intents).expect("a folder");
        let _ = watch.check();
        silence(&wake).await;
        assert!(!watch.check(), "nothing was replaced since");
        fs::write(intents.join("a.json"), "[]").expect("a file");
        assert!(woken(&wake).await);
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_at_first_is_watched_once_it_exists() {
        let (home, _, policy) = setup();
        let late = home.path().join("late");
        let wake = Arc::new(Notify::new());
        let (_watch, warning) = Watch::start(&late, &policy, Arc::clone(&wake));
        assert_eq!(warning, None);
        fs::create_dir(&late).expect("a folder");
        assert!(woken(&wake).await, "the tick finds it");
        silence(&wake).await;
        fs::write(late.join("a.json"), "[]").expect("a file");
        assert!(woken(&wake).await);
    }

    #[tokio::test]
    async fn an_endless_burst_still_wakes_and_a_short_one_wakes_once() {
        let (raw, wake) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let task = tokio::spawn(debounce(Arc::clone(&raw), Arc::clone(&wake)));
        let storm = Arc::clone(&raw);
        let endless = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(1));
            loop {
                pace.tick().await;
                storm.notify_one();
            }
        });
        assert!(woken(&wake).await && woken(&wake).await, "a burst without end still wakes");
        endless.abort();
        silence(&wake).await;
        (0..10).for_each(|_| raw.notify_one());
        assert!(woken(&wake).await);
        assert!(timeout(10 * BURST_GAP, wake.notified()).await.is_err(), "one burst, one wake");
        task.abort();
    }
}
