//! Observes the files of secrets that connections wait for, so that a stored secret is used at once.
//!
//! A file system that does not answer must not stop the loop. The files are looked at on a thread for blocking calls, one at
//! a time; if it does not answer soon, the loop goes on with what it knows, and is woken when the answer comes.

use super::handle::Handle;
use crate::intake::watch::Watch;
use crate::model::{Locator, Problem, Timestamp};
use crate::plan::StoredSecrets;
use crate::policy::credentials::file_path;
use crate::policy::{Credentials, Policy};
use crate::policy_loader::credential_folder_problems;
use crate::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long the loop waits for the state of the files.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// The files by their locator.
type Files = BTreeMap<String, PathBuf>;

/// What identifies the content of a file without reading it: inode, size, and modification and change time in nanoseconds.
/// `None` if there is no file.
type Stamp = Option<(u64, u64, i128, i128)>;

/// What one look at the files found.
struct Observation {
    stamps: BTreeMap<String, Stamp>,
    problems: Vec<Problem>,
}

/// The files of secrets, as they were when the loop last looked at them.
pub struct SecretFiles {
    /// `None` for commands that sync once.
    watch: Option<Watch>,
    stamps: BTreeMap<String, Stamp>,
    stored: Arc<StoredSecrets>,
    problems: Vec<Problem>,
    running: Option<JoinHandle<Observation>>,
}

impl SecretFiles {
    /// Starts without any knowledge. With `wake`, the folders are watched, and their changes wake the loop.
    #[must_use]
    pub fn new(wake: Option<Arc<Notify>>) -> SecretFiles {
        SecretFiles {
            watch: wake.map(Watch::without_folders),
            stamps: BTreeMap::new(),
            stored: Arc::default(),
            problems: Vec::new(),
            running: None,
        }
    }

    /// When the files changed.
    #[must_use]
    pub fn stored(&self) -> Arc<StoredSecrets> {
        Arc::clone(&self.stored)
    }

    /// The problems of the folders on this machine.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Looks at the files of the secrets that connections wait for.
    pub async fn sync(&mut self, handle: &Handle) {
        let policy = handle.policy();
        if let Some(watch) = &self.watch {
            watch.set_folders(&policy.credentials.secrets_dir, &policy.credentials.files);
        }
        let mut running = match self.running.take() {
            Some(running) => running,
            None => {
                let files = awaited_files(&policy.credentials, &handle.registry.snapshot());
                let wake = handle.wake_signal();
                tokio::task::spawn_blocking(move || {
                    let started = std::time::Instant::now();
                    let observation = observe(&policy, &files);
                    if started.elapsed() >= MAX_WAIT {
                        wake.notify_one();
                    }
                    observation
                })
            }
        };
        match tokio::time::timeout(MAX_WAIT, &mut running).await {
            Ok(Ok(observation)) => self.accept(observation, handle.clock.now()),
            // A panic is logged by its task; the next sync looks again.
            Ok(Err(_)) => {}
            Err(_) => self.running = Some(running),
        }
    }

    fn accept(&mut self, observation: Observation, now: Timestamp) {
        let stored = changes(&self.stored, &self.stamps, &observation.stamps, now);
        if stored != *self.stored {
            self.stored = Arc::new(stored);
        }
        self.stamps = observation.stamps;
        self.problems = observation.problems;
    }
}

/// When the files changed, for a command that looks at them once.
#[must_use]
pub fn read_once(policy: &Policy, snapshot: &Snapshot, now: Timestamp) -> StoredSecrets {
    let observation = observe(policy, &awaited_files(&policy.credentials, snapshot));
    changes(&StoredSecrets::default(), &BTreeMap::new(), &observation.stamps, now)
}

/// The files that hold, or would hold, the secrets of the connections that wait for one.
fn awaited_files(credentials: &Credentials, snapshot: &Snapshot) -> Files {
    let mut files = Files::new();
    for locator in snapshot.awaited_locators().filter_map(|text| Locator::parse(text).ok()) {
        for stored in credentials.stored_in(&locator) {
            let path = match stored {
                Locator::Env(name) => Some(credentials.secrets_dir.join(name)),
                Locator::File(path) => file_path::find(path, &credentials.files).ok().map(|file| file.folder.join(file.relative)),
                _ => None,
            };
            files.extend(path.map(|path| (stored.to_string(), path)));
        }
    }
    files
}

/// Looks at the files. Blocks.
fn observe(policy: &Policy, files: &Files) -> Observation {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let stamp = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        let modified = nanoseconds(file.mtime(), file.mtime_nsec());
        Some((file.ino(), file.len(), modified, nanoseconds(file.ctime(), file.ctime_nsec())))
    };
    Observation {
        stamps: files.iter().map(|(locator, path)| (locator.clone(), stamp(path))).collect(),
        problems: credential_folder_problems(policy),
    }
}

/// When each file changed: now, if its stamp is another one than before; when the file system says, if AAM sees it for the
/// first time. A time that has not come yet says nothing, because clocks of file servers may be ahead.
fn changes(
    stored: &StoredSecrets,
    before: &BTreeMap<String, Stamp>,
    after: &BTreeMap<String, Stamp>,
    now: Timestamp,
) -> StoredSecrets {
    let changed = |locator: &String, stamp: &Stamp| match (before.get(locator), stamp) {
        (_, None) => None,
        (Some(known), _) if known == stamp => stored.0.get(locator).copied(),
        (Some(_), _) => Some(now),
        (None, Some((_, _, _, changed))) => {
            i64::try_from(*changed / 1_000_000).ok().map(Timestamp).filter(|changed| *changed <= now)
        }
    };
    StoredSecrets(after.iter().filter_map(|(locator, stamp)| Some((locator.clone(), changed(locator, stamp)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_dated_when_it_is_seen_and_the_first_sight_by_the_file_system() {
        let at = |ms: i64| Some((1, 1, 0, i128::from(ms) * 1_000_000));
        let files = |stamp: Stamp| BTreeMap::from([("env:A".to_string(), stamp)]);
        let none = StoredSecrets::default();
        let first = |stamp| changes(&none, &BTreeMap::new(), &files(stamp), Timestamp(50)).0.get("env:A").copied();
        assert_eq!(first(at(20)), Some(Timestamp(20)));
        assert_eq!(first(at(60)), None, "a clock that is ahead");
        assert_eq!(first(None), None);
        let appeared = changes(&none, &files(None), &files(at(60)), Timestamp(50));
        assert_eq!(appeared.0.get("env:A"), Some(&Timestamp(50)), "the clock of the file system does not count here");
        assert_eq!(changes(&appeared, &files(at(60)), &files(at(60)), Timestamp(70)), appeared, "nothing changed since");
        assert_eq!(changes(&appeared, &files(at(60)), &files(at(65)), Timestamp(70)).0.get("env:A"), Some(&Timestamp(70)));
        assert_eq!(changes(&appeared, &files(at(60)), &files(None), Timestamp(70)), none, "a removed file starts nothing");
    }
}
