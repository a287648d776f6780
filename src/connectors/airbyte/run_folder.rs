//! The private folder of one run: its config, its catalog, its certificate authorities, and the folder that it may write.

use crate::registry::private_files::{FILE_MODE, create_folder};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The folder of the runs, below the policy's `airbyte.dir`.
const RUNS: &str = "runs";
const FOLDER_MODE: u32 = 0o700;
/// How often a folder is tried to be removed: a process that is being ended may still write into it.
const MAX_REMOVALS: u32 = 5;
const REMOVAL_INTERVAL: Duration = Duration::from_millis(50);

static NEXT: AtomicU64 = AtomicU64::new(0);
static SWEPT: Once = Once::new();

/// A folder that only this user can read. It is removed when this is dropped.
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Creates the folder below `dir`, which is absolute, with an empty folder `work` in it. Blocks.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn create(dir: &Path) -> io::Result<RunFolder> {
        let runs = dir.join(RUNS);
        create_folder(&runs)?;
        // What a process left behind that ended without removing its folders.
        SWEPT.call_once(|| sweep(&runs));
        let name = format!("{}-{}-{:08x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed), fastrand::u32(..));
        let folder = RunFolder { path: runs.join(name) };
        let mut builder = DirBuilder::new();
        builder.mode(FOLDER_MODE);
        builder.create(&folder.path)?;
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
}

impl Drop for RunFolder {
    /// Removes the folder on a thread for blocking calls if there is one, because the connector may have written much.
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        // The secrets go at once; what the connector wrote may take longer.
        let _ = std::fs::remove_file(path.join(CONFIG));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || remove(&path))),
            Err(_) => remove(&path),
        }
    }
}

/// The name of the file with the config.
pub const CONFIG: &str = "config.json";

fn remove(path: &Path) {
    for _ in 0..MAX_REMOVALS {
        match std::fs::remove_dir_all(path) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => std::thread::sleep(REMOVAL_INTERVAL),
        }
    }
    tracing::warn!(target: "aam::airbyte", path = %path.display(), "the folder of a connector's run could not be removed; fix: remove it");
}

/// Removes the folders of processes that do not run any more.
fn sweep(runs: &Path) {
    for entry in std::fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split('-').next()?.parse::<i32>().ok());
        let Some(process) = process.and_then(rustix::process::Pid::from_raw) else { continue };
        let is_gone = rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH);
        if is_gone {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_folder_is_private_and_removed() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = RunFolder::create(home.path()).expect("created");
        let config = folder.write(CONFIG, b"{}").expect("written");
        let mode = |path: &Path| std::fs::metadata(path).expect("exists").permissions().mode() & 0o777;
        assert_eq!((mode(folder.path()), mode(&folder.work()), mode(&config)), (0o700, 0o700, 0o600));
        std::fs::write(folder.work().join("left"), "x").expect("written");
        let path = folder.path().to_path_buf();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_process_left_is_removed_once_it_is_gone() {
        let home = tempfile::tempdir().expect("a folder");
        let runs = home.path().join(RUNS);
        // Process ids are below 2^22 on Linux.
        let (gone, alive) = (runs.join("2147483600-1-a"), runs.join(format!("{}-1-a", std::process::id())));
        [&gone, &alive].iter().for_each(|path| std::fs::create_dir_all(path).expect("created"));
        sweep(&runs);
        assert!(!gone.exists() && alive.exists());
    }
}
