//! Says "look again" and nothing else. A wake carries no data, so a lost or spurious one is harmless.
//!
//! What notify 8.2 does on Linux, measured: our own reads raise `Access(Open)`; the swap of a
//! ConfigMap names only `..data`; a watched folder that is replaced goes silent for ever. Hence the
//! filter, the wake on anything else, and [`Watch::check`].

use super::listing::identity_of;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// A burst of events ends after so much silence.
const QUIET: Duration = Duration::from_millis(5);

/// A burst is cut after so much time.
const LONGEST: Duration = Duration::from_millis(50);

/// How often replaced folders are looked for; also the pace of polling.
const TICK: Duration = Duration::from_secs(1);

/// Watches the intents folder and the policy's folder until it is dropped.
pub struct Watch {
    inner: Arc<Inner>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

struct Inner {
    watcher: Mutex<Watched>,
    wake: Arc<Notify>,
}

struct Watched {
    /// `None`: the system gave no watcher, or refused a watch. Then every tick is a wake.
    watcher: Option<RecommendedWatcher>,
    places: Vec<Place>,
}

struct Place {
    path: PathBuf,
    mode: RecursiveMode,
    /// (device, inode) that is being watched.
    identity: Option<(u64, u64)>,
}

impl Watch {
    /// Starts watching; every burst of changes is one `notify_one` on `wake`. Must be called in a
    /// tokio runtime. The text is a warning for the log: watching is not possible, the folder is
    /// polled every second instead.
    #[must_use]
    pub fn start(intents: &Path, policy: &Path, wake: Arc<Notify>) -> (Watch, Option<String>) {
        let raw = Arc::new(Notify::new());
        let signal = Arc::clone(&raw);
        let made = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, matters) {
                signal.notify_one();
            }
        });
        let (watcher, mut warning) = match made {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(refused(&error))),
        };
        let mut watched = Watched { watcher, places: places(intents, policy) };
        warning = watched.rewatch().1.or(warning);
        let inner = Arc::new(Inner { watcher: Mutex::new(watched), wake });
        let tasks = [tokio::spawn(debounce(raw, Arc::clone(&inner.wake))), tokio::spawn(tick(Arc::clone(&inner)))];
        (Watch { inner, tasks }, warning)
    }

    /// Watches folders anew that were replaced or came back since; says whether there was one.
    /// It runs by itself every second; the loop's timed pass calls it too. Blocks for a few
    /// system calls a folder.
    #[must_use]
    pub fn check(&self) -> bool {
        self.inner.check()
    }

    /// Watches one more folder, if it is not watched yet.
    pub fn also(&self, folder: &Path) {
        let mut watched = self.inner.lock();
        if !watched.places.iter().any(|place| place.path == folder) {
            watched.places.push(Place { path: folder.to_path_buf(), mode: RecursiveMode::NonRecursive, identity: None });
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
        let (changed, refused) = self.lock().rewatch();
        if let Some(warning) = refused {
            tracing::warn!("{warning}");
        }
        if changed {
            // What happened between the replacement and the new watch was seen by nobody.
            self.wake.notify_one();
        }
        changed
    }
}

impl Watched {
    /// Whether a place changed its identity, and a warning if watching had to be given up.
    fn rewatch(&mut self) -> (bool, Option<String>) {
        let mut changed = false;
        for place in &mut self.places {
            let now = identity_of(&place.path);
            if now == place.identity {
                continue;
            }
            changed = true;
            place.identity = now;
            let Some(watcher) = self.watcher.as_mut() else {
                continue;
            };
            // The old watch may have died with its folder: nothing to do about an error.
            let _ = watcher.unwatch(&place.path);
            if now.is_none() {
                continue;
            }
            if let Err(error) = watcher.watch(&place.path, place.mode) {
                if matches!(error.kind, notify::ErrorKind::PathNotFound) || identity_of(&place.path).is_none() {
                    place.identity = None;
                    continue;
                }
                self.watcher = None;
                return (true, Some(refused(&error)));
            }
        }
        (changed, None)
    }
}

/// The intents folder with all below, the policy's folder, and the folder that a linked policy lies in.
fn places(intents: &Path, policy: &Path) -> Vec<Place> {
    let folder = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let place = |path: PathBuf, mode| Place { path, mode, identity: None };
    let mut all =
        vec![place(intents.to_path_buf(), RecursiveMode::Recursive), place(folder(policy), RecursiveMode::NonRecursive)];
    let target = policy.canonicalize().ok().map(|target| folder(&target));
    if let Some(target) = target.filter(|target| identity_of(target) != identity_of(&folder(policy))) {
        all.push(place(target, RecursiveMode::NonRecursive));
    }
    all
}

/// Everything but accesses; of these only "closed after writing".
fn matters(event: &Event) -> bool {
    event.need_rescan() || !event.kind.is_access() || event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

fn refused(error: &notify::Error) -> String {
    let why = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system's limit of watched folders is reached (raise fs.inotify.max_user_watches)".to_string()
        }
        notify::ErrorKind::Io(io) => format!("{io} (is fs.inotify.max_user_instances reached?)"),
        other => format!("{other:?}"),
    };
    format!("folders cannot be watched: {why}; looking every second instead")
}

/// Turns a burst of raw signals into one wake.
async fn debounce(raw: Arc<Notify>, wake: Arc<Notify>) {
    loop {
        raw.notified().await;
        let first = Instant::now();
        while first.elapsed() < LONGEST && timeout(QUIET, raw.notified()).await.is_ok() {}
        wake.notify_one();
    }
}

async fn tick(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(TICK);
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

    /// Takes wakes until none came for a while that is long against the debounce.
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
    async fn a_folder_that_is_missing_at_first_is_watched_when_it_comes() {
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
    async fn an_endless_burst_is_cut_and_a_short_one_is_one_wake() {
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
        assert!(timeout(10 * QUIET, wake.notified()).await.is_err(), "one burst, one wake");
        task.abort();
    }
}
