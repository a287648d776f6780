//! The folder in which a connector is installed before it takes its place, so that an installation that is interrupted or fails
//! does not touch the connector that works.
//!
//! The scripts of a virtual environment name its path. AAM starts connectors through the Python of the environment, which finds
//! its packages wherever the folder is. For a person who starts a script by hand, the path in the scripts is replaced before the
//! folder is renamed.

use crate::connectors::airbyte::environment;
use crate::model::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What the name of such a folder begins with. The name and version of the connector follow, and then the id of the process.
const PREFIX: &str = ".installing-";
/// The extension of the folder of the connector that is replaced, where that takes two steps.
const ASIDE: &str = "old";
/// The number of entries of the folder of connectors that are looked at.
const MAX_ENTRIES: usize = 2000;
/// The maximum size of a file whose text may name the path of the environment.
const MAX_SCRIPT_BYTES: u64 = 1 << 20;

/// A folder in which a connector is installed. It is removed when this is dropped.
pub struct Staging {
    folder: PathBuf,
    /// Where the connector will be.
    place: PathBuf,
}

impl Staging {
    /// Prepares the installation of `name`, for example `source-okta-0.3.26`, below `dir`. Removes what installations that were
    /// interrupted left behind. The folder itself is made by Python.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn new(dir: &Path, name: &str) -> io::Result<Staging> {
        std::fs::create_dir_all(dir)?;
        // Python writes the path without links into the scripts.
        let dir = dir.canonicalize()?;
        for (folder, name) in interrupted(&dir) {
            // The connector that worked, if the process ended between the two steps of `replace`.
            let is_aside = folder.extension().is_some_and(|extension| extension == ASIDE);
            match dir.join(name) {
                place if is_aside && !place.exists() => std::fs::rename(&folder, place)?,
                _ => remove(&folder)?,
            }
        }
        let folder = dir.join(format!("{PREFIX}{name}-{}", std::process::id()));
        remove(&folder)?;
        Ok(Staging { folder, place: dir.join(name) })
    }

    /// The folder for the virtual environment.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Marks the installation as complete and gives it its place. `lock` is the SHA-256 of its lock file. The connector that was
    /// there before is removed.
    ///
    /// # Errors
    /// Returns the error of the file system. Then the connector that was there before is still there.
    pub fn finish(&self, lock: Digest) -> io::Result<()> {
        self.relocate()?;
        environment::mark_complete(&self.folder, lock)?;
        // Both folders change their names in one step, so that the connector can be started at any time.
        match renameat_with(CWD, &self.folder, CWD, &self.place, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => std::fs::rename(&self.folder, &self.place),
            // The file system cannot exchange two names.
            Err(_) => self.replace(),
        }
    }

    fn replace(&self) -> io::Result<()> {
        let mut aside = self.folder.clone().into_os_string();
        aside.push(format!(".{ASIDE}"));
        let aside = PathBuf::from(aside);
        std::fs::rename(&self.place, &aside)?;
        if let Err(error) = std::fs::rename(&self.folder, &self.place) {
            std::fs::rename(&aside, &self.place)?;
            return Err(error);
        }
        remove(&aside)
    }

    /// Writes the path of the place into the scripts, instead of the path of this folder.
    fn relocate(&self) -> io::Result<()> {
        let (from, to) = (self.folder.display().to_string(), self.place.display().to_string());
        let scripts = std::fs::read_dir(self.folder.join("bin"))?.filter_map(Result::ok).map(|entry| entry.path());
        for file in scripts.chain([self.folder.join("pyvenv.cfg")]) {
            let is_small = std::fs::symlink_metadata(&file).is_ok_and(|data| data.is_file() && data.len() <= MAX_SCRIPT_BYTES);
            let Some(text) = is_small.then(|| std::fs::read_to_string(&file).ok()).flatten() else { continue };
            if text.contains(&from) {
                std::fs::write(&file, text.replace(&from, &to))?;
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    /// After [`Staging::finish`] the folder is the connector that was there before.
    fn drop(&mut self) {
        let _ = remove(&self.folder);
    }
}

/// Removes a folder or a link, unless it does not exist.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The folders of installations whose process has ended, with the names of what they were to be: `source-okta-0.3.26`.
#[must_use]
pub fn interrupted(dir: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).take(MAX_ENTRIES);
    let found = entries.filter_map(|entry| {
        let file = entry.file_name().to_string_lossy().into_owned();
        let (name, process) = file.strip_prefix(PREFIX)?.rsplit_once('-')?;
        let process = process.split_once('.').map_or(process, |(process, _)| process);
        let process = Pid::from_raw(process.parse().ok()?)?;
        (test_kill_process(process) == Err(Errno::SRCH)).then(|| (entry.path(), name.to_string()))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use environment::check;
    use std::os::unix::fs::PermissionsExt;

    /// Process ids are below 2^22 on Linux.
    const GONE: &str = "2147483600";

    fn build(staging: &Staging, text: &str) {
        let script = staging.folder().join("bin/source-acme");
        std::fs::create_dir_all(staging.folder().join("bin")).expect("created");
        std::fs::write(&script, format!("#!{}/bin/python\n{text}\n", staging.folder().display())).expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
    }

    #[test]
    fn an_installation_takes_its_place_only_when_it_is_complete() {
        let home = tempfile::tempdir().expect("a folder");
        let dir = home.path().canonicalize().expect("a path").join("airbyte");
        let place = dir.join("source-acme-1.0");
        let script = || std::fs::read_to_string(place.join("bin/source-acme")).unwrap_or_default();
        let lock = Digest::from_bytes(b"lock");
        let finished = |text: &str| {
            let staging = Staging::new(&dir, "source-acme-1.0").expect("a folder");
            build(&staging, text);
            staging.finish(lock)
        };
        finished("one").expect("the first installation");
        assert_eq!(script(), format!("#!{}/bin/python\none\n", place.display()));
        assert_eq!(check(&place, Some(lock)), Ok(()));

        let failed = Staging::new(&dir, "source-acme-1.0").expect("a folder");
        build(&failed, "two");
        drop(failed);
        assert_eq!((script().ends_with("one\n"), check(&place, Some(lock))), (true, Ok(())), "the one before is untouched");

        finished("three").expect("the next installation");
        assert!(script().ends_with("three\n") && check(&place, Some(lock)).is_ok());
        let replaced = Staging::new(&dir, "source-acme-1.0").expect("a folder");
        build(&replaced, "four");
        replaced.replace().expect("a file system without an exchange");
        drop(replaced);
        assert!(script().ends_with("four\n"));
        assert_eq!(std::fs::read_dir(&dir).expect("a folder").count(), 1, "nothing else is left");
    }

    #[test]
    fn what_was_interrupted_is_known_and_removed_by_the_next_installation() {
        let home = tempfile::tempdir().expect("a folder");
        let left = home.path().join(format!("{PREFIX}source-acme-1.0-{GONE}"));
        let running = home.path().join(format!("{PREFIX}source-okta-1.0-{}", std::process::id()));
        let aside = home.path().join(format!("{PREFIX}source-jira-1.0-{GONE}.{ASIDE}"));
        [&left, &running].iter().for_each(|path| std::fs::create_dir_all(path).expect("created"));
        assert_eq!(interrupted(home.path()), [(left.clone(), "source-acme-1.0".to_string())]);
        std::fs::create_dir(&aside).expect("created");
        let _staging = Staging::new(home.path(), "source-other-1.0").expect("a folder");
        assert!(!left.exists() && running.exists());
        assert!(!aside.exists() && home.path().join("source-jira-1.0").exists(), "the connector that worked is back");
    }
}
