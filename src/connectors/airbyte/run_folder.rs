//! The private folder of one run: its certificate authorities, its catalog, and the folder that the connector may write, with
//! its config.
//!
//! A folder belongs to the process that holds the lock of its lock file, which the kernel releases when that process ends.
//! The number of a process would not tell: in a container AAM has the same one each time. A folder without an owner is removed
//! before the first run of a process, and when a process starts that may run connectors.

use crate::registry::private_files::{FILE_MODE, create_folder};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The folder of the runs, below the policy's `airbyte.dir`.
const RUNS: &str = "runs";
const FOLDER_MODE: u32 = 0o700;
/// What is added to the name of a folder for that of its lock file.
const LOCK: &str = ".lock";
/// How often another name is tried for a folder. A name is taken only by chance.
const MAX_NAMES: u32 = 8;
/// How long the end of a run waits for its folder to be removed. What is left is removed by a thread of its own.
const REMOVAL_TIME: Duration = Duration::from_secs(20);
const BACKGROUND_TIME: Duration = Duration::from_secs(30 * 60);
/// How long the end of the process waits for the folders that are left. Its connectors may still write.
const END_TIME: Duration = Duration::from_secs(5);
/// How long the first run of a process waits until what earlier processes left is removed.
const SWEEP_TIME: Duration = Duration::from_secs(20);

/// The name of the file with the config, in the folder that the connector may write: connectors that bring their config to a newer
/// form write it back.
pub const CONFIG: &str = "work/config.json";

/// The folders of runs that this process has swept.
static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// The folders of the runs of this process.
static OWN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A folder that only this user can read. It is removed when this is dropped, before the drop returns.
pub struct RunFolder {
    path: PathBuf,
    /// Given away when the folder is removed.
    lock: Option<FolderLock>,
}

impl RunFolder {
    /// Creates the folder below `dir`, which is absolute, with an empty folder `work` in it. Blocks.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn create(dir: &Path) -> io::Result<RunFolder> {
        let runs = dir.join(RUNS);
        create_folder(&runs)?;
        sweep_once(&runs);
        let (path, lock) = new_name(&runs)?;
        let mut builder = DirBuilder::new();
        builder.mode(FOLDER_MODE);
        builder.create(&path)?;
        own().insert(path.clone());
        let folder = RunFolder { path, lock: Some(lock) };
        builder.create(folder.work())?;
        Ok(folder)
    }

    /// The folder that the connector may read.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that the connector may write.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Creates a folder that the connector may read, and returns its path. Blocks.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn create_inside(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        DirBuilder::new().mode(FOLDER_MODE).create(&path)?;
        Ok(path)
    }

    /// Writes a file that only this user can read, and returns its path. `name` may name a folder of this one. Blocks.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        file.write_all(content)?;
        Ok(path)
    }

    /// Removes the folder, which may hold secrets. Returns when it is gone, or when that would take longer than it may.
    pub async fn remove(self) {
        // If the runtime is being shut down, the closure is dropped, and the folder with it.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for RunFolder {
    /// Removes the folder here and now: a thread for blocking calls may not run any more when the process is about to end.
    fn drop(&mut self) {
        let (path, lock) = (std::mem::take(&mut self.path), self.lock.take());
        match confinement::remove_tree(&path, REMOVAL_TIME) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let thread = std::thread::Builder::new().name("airbyte-removal".to_string());
                let (rest, named) = (path.clone(), path.clone());
                let spawned = thread.spawn(move || finish(rest, lock, confinement::remove_tree(&path, BACKGROUND_TIME)));
                if let Err(error) = spawned {
                    say_not_removed(&named, &error);
                }
            }
            outcome => finish(path, lock, outcome),
        }
    }
}

/// Gives up a folder that was removed, or that could not be.
fn finish(path: PathBuf, lock: Option<FolderLock>, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        say_not_removed(&path, &error);
    }
    own().remove(&path);
    drop(lock);
}

fn say_not_removed(path: &Path, error: &io::Error) {
    tracing::warn!(target: "aam::airbyte", path = %path.display(), %error, "the folder of a connector's run could not be removed and may hold secrets; fix: remove it");
}

fn own() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the folders of the runs of this process whose connectors are still there. For the end of the process, when tasks
/// are not waited for. Blocks.
pub fn remove_all() {
    let paths: Vec<PathBuf> = own().iter().cloned().collect();
    remove_each(&paths);
}

fn remove_each(paths: &[PathBuf]) {
    let deadline = Instant::now() + END_TIME;
    for path in paths {
        if let Err(error) = confinement::remove_tree(path, deadline.saturating_duration_since(Instant::now())) {
            say_not_removed(path, &error);
        }
        // The connector ends with this process, and it cannot write where its folder was.
        FolderLock::forget(path);
    }
}

/// Removes what earlier processes left below `dir`, the policy's `airbyte.dir`, on a thread of its own.
pub fn sweep_at_start(dir: &Path) {
    let runs = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf()).join(RUNS);
    if runs.is_dir() {
        // Without a thread, the first run does it.
        let _ = std::thread::Builder::new().name("airbyte-sweep".to_string()).spawn(move || sweep_once(&runs));
    }
}

/// Removes the folders of processes that have ended, once for each folder of runs.
fn sweep_once(runs: &Path) {
    // A second caller waits for the first, so that a run begins when nothing is left of earlier ones.
    let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if swept.insert(runs.to_path_buf()) {
        sweep(runs);
    }
}

fn sweep(runs: &Path) {
    let deadline = Instant::now() + SWEEP_TIME;
    let names = std::fs::read_dir(runs).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let names: BTreeSet<String> = names.map(|name| name.strip_suffix(LOCK).unwrap_or(&name).to_string()).collect();
    for name in names {
        let path = runs.join(&name);
        match FolderLock::take(&path) {
            Ok(Some(lock)) => {
                let time = deadline.saturating_duration_since(Instant::now());
                if let Err(error) = confinement::remove_tree(&path, time) {
                    say_not_removed(&path, &error);
                }
                drop(lock);
            }
            // Another process uses it, or removes it.
            Ok(None) => {}
            Err(error) => say_not_removed(&path, &error),
        }
    }
}

/// Returns a name for a folder, with its lock.
fn new_name(runs: &Path) -> io::Result<(PathBuf, FolderLock)> {
    for _ in 0..MAX_NAMES {
        let path = runs.join(format!("{:016x}", fastrand::u64(..)));
        if let Some(lock) = FolderLock::take(&path)?.filter(|_| !path.exists()) {
            return Ok((path, lock));
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The locked file beside a folder. The file is removed when this is dropped, and the lock is released.
struct FolderLock {
    path: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Locks the file beside `folder`, or returns `None` if another process has locked it.
    fn take(folder: &Path) -> io::Result<Option<FolderLock>> {
        let path = FolderLock::path(folder);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The owner before this one may have removed the file after it was opened here.
        let is_same = std::fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()));
        Ok(is_same.then_some(FolderLock { path, _file: file }))
    }

    fn path(folder: &Path) -> PathBuf {
        let mut name = folder.as_os_str().to_owned();
        name.push(LOCK);
        PathBuf::from(name)
    }

    /// Removes the file beside a folder that does not exist any more.
    fn forget(folder: &Path) {
        if !folder.exists() {
            let _ = std::fs::remove_file(FolderLock::path(folder));
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // While the lock is held, so that the file is not one that another process has locked since. Beside a folder that is
        // left, the next process makes it again.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn entries(home: &Path) -> usize {
        std::fs::read_dir(home.join(RUNS)).expect("a folder").count()
    }

    #[test]
    fn the_folder_is_private_and_removed() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = RunFolder::create(home.path()).expect("created");
        let config = folder.write(CONFIG, b"{}").expect("written");
        assert!(config.starts_with(folder.work()));
        let mode = |path: &Path| std::fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!((mode(folder.path()), mode(&folder.work()), mode(&config)), (0o700, 0o700, 0o600));
        std::fs::write(folder.work().join("left"), "x").expect("written");
        drop(folder);
        assert_eq!(entries(home.path()), 0);
    }

    /// A runtime that is shut down does not run blocking calls that have not begun, so none may be needed.
    #[test]
    fn the_folder_is_gone_when_the_drop_or_the_removal_returns() {
        let home = tempfile::tempdir().expect("a folder");
        let create = || {
            let folder = RunFolder::create(home.path()).expect("created");
            folder.write(CONFIG, b"secret").expect("written");
            let copy = folder.work().join("tmp_1");
            std::fs::create_dir(&copy).expect("created");
            std::fs::write(copy.join("config.json"), "secret").expect("written");
            folder
        };
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let busy = runtime.spawn_blocking(move || wait.recv());
        let folder = create();
        runtime.block_on(async move { drop(folder) });
        assert_eq!(entries(home.path()), 0);
        drop(release);
        let folder = create();
        runtime.block_on(folder.remove());
        assert_eq!(entries(home.path()), 0);
        assert!(runtime.block_on(busy).is_ok());
    }

    #[test]
    fn the_end_of_the_process_removes_what_its_tasks_hold() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = RunFolder::create(home.path()).expect("created");
        folder.write(CONFIG, b"secret").expect("written");
        let path = folder.path().to_path_buf();
        assert!(own().contains(&path));
        // Only this folder: other tests of this process have theirs.
        remove_each(std::slice::from_ref(&path));
        assert_eq!(entries(home.path()), 0);
        drop(folder);
        assert!(!own().contains(&path));
    }

    #[test]
    fn what_a_process_left_is_removed_whatever_its_number_was_and_what_is_in_use_stays() {
        let home = tempfile::tempdir().expect("a folder");
        let runs = home.path().join(RUNS);
        let used = RunFolder::create(home.path()).expect("created");
        // A process with the number of this one has left them, as AAM in a container does.
        let left = [runs.join(format!("{}-1-a", std::process::id())), runs.join("0123456789abcdef")];
        for path in &left {
            std::fs::create_dir_all(path.join("work/deep")).expect("created");
            std::fs::write(path.join("work/deep/config.json"), "secret").expect("written");
        }
        std::fs::write(runs.join("0123456789abcdef.lock"), "").expect("written");
        std::fs::write(runs.join("fedcba9876543210.lock"), "").expect("written");
        sweep(&runs);
        assert!(used.work().is_dir());
        assert_eq!(entries(home.path()), 2, "the folder in use and its lock file");
        drop(used);
        assert_eq!(entries(home.path()), 0);
    }
}
