//! The virtual environment of an installed connector: whether its installation came to its end, and whether its files are still
//! those that were installed.
//!
//! The policy names the digest of the lock file, which says what should be installed. The last thing that an installation writes
//! is the marker, which lists every file of the environment with its mode and its digest. Without the marker the installation was
//! interrupted. The folders `__pycache__` are left out, because Python may write into them when a person starts the connector by
//! hand. What a link leads to, above all the Python of the system, is not covered either.

use crate::model::{Class, Digest, Failure};
use crate::operator_file;
use crate::policy::airbyte::connector_name;
use crate::policy::{Airbyte, ConnectorPolicy, Run};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file in the environment that an installation writes last.
const MARKER: &str = "aam-installation";
/// The folders with the compiled files of Python.
const COMPILED: &str = "__pycache__";
const MAX_MARKER_BYTES: u64 = 64 << 20;
/// The maximum size of a lock file in bytes.
const MAX_LOCK_BYTES: u64 = 4 << 20;
/// The maximum number of files of an environment. A large one has 20,000.
const MAX_FILES: usize = 200_000;
/// The changed files that are named.
const MAX_SHOWN: usize = 3;
const BUFFER_BYTES: usize = 64 << 10;

/// The first line of the marker. The other lines are the files.
#[derive(Serialize, Deserialize)]
struct Head {
    /// The SHA-256 of the lock file.
    lock: Digest,
    /// The SHA-256 of the lines of the files.
    files: Digest,
}

/// Why an environment must not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvironmentProblem {
    /// It does not have a whole marker.
    Incomplete,
    /// It was installed from another lock file than the one beside it.
    OtherLock,
    /// Files were changed, added or removed since: the first of them, and how many there are.
    Changed {
        shown: Vec<String>,
        count: usize,
    },
    Unreadable(String),
}

impl EnvironmentProblem {
    /// Returns what is wrong, as the end of a sentence about the environment.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            EnvironmentProblem::Incomplete => "is incomplete: its installation did not come to its end".to_string(),
            EnvironmentProblem::OtherLock => "was installed from another lock file than the one beside it".to_string(),
            EnvironmentProblem::Changed { shown, count } => {
                let more = if *count > shown.len() { format!(" and {} more", count - shown.len()) } else { String::new() };
                format!("was changed after it was installed: {}{more}", shown.join(", "))
            }
            EnvironmentProblem::Unreadable(error) => format!("cannot be compared with what was installed: {error}"),
        }
    }
}

/// Writes the marker, because everything else of the environment is installed. `lock` is the SHA-256 of the lock file. Blocks.
///
/// # Errors
/// Returns the error of the file system.
pub fn mark_complete(environment: &Path, lock: Digest) -> io::Result<()> {
    let files = text(&listing(environment)?);
    let head = serde_json::to_string(&Head { lock, files: Digest::from_bytes(files.as_bytes()) }).map_err(io::Error::other)?;
    let temporary = environment.join(format!("{MARKER}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(format!("{head}\n{files}").as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, environment.join(MARKER))
}

/// Compares the environment with its marker, and the marker with `lock`, the SHA-256 of the lock file if there is one. Blocks.
///
/// # Errors
/// Returns what is wrong.
pub fn check(environment: &Path, lock: Option<Digest>) -> Result<(), EnvironmentProblem> {
    let marker = match operator_file::read_text(&environment.join(MARKER), MAX_MARKER_BYTES) {
        Ok(marker) => marker,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(EnvironmentProblem::Incomplete),
        Err(error) => return Err(EnvironmentProblem::Unreadable(error.to_string())),
    };
    let (head, installed) = marker.split_once('\n').unwrap_or_default();
    let head: Head = serde_json::from_str(head).map_err(|_| EnvironmentProblem::Incomplete)?;
    if head.files != Digest::from_bytes(installed.as_bytes()) {
        return Err(EnvironmentProblem::Incomplete);
    }
    if lock.is_some_and(|lock| lock != head.lock) {
        return Err(EnvironmentProblem::OtherLock);
    }
    let found = listing(environment).map_err(|error| EnvironmentProblem::Unreadable(error.to_string()))?;
    let found = text(&found);
    if found == installed {
        return Ok(());
    }
    let (before, now): (BTreeSet<&str>, BTreeSet<&str>) = (installed.lines().collect(), found.lines().collect());
    let changed: BTreeSet<&str> = before.symmetric_difference(&now).map(|line| name(line)).collect();
    let shown = changed.iter().take(MAX_SHOWN).map(|name| (*name).to_string()).collect();
    Err(EnvironmentProblem::Changed { shown, count: changed.len() })
}

/// The name in a line of the marker: what follows the mode and the digest.
fn name(line: &str) -> &str {
    line.splitn(3, ' ').nth(2).unwrap_or(line)
}

/// One line for each file. A name is written with quotes and escapes, so it stays on its line.
fn text(files: &BTreeMap<PathBuf, String>) -> String {
    files.iter().map(|(path, state)| format!("{state} {path:?}\n")).collect()
}

/// Returns mode and digest of every file below `environment`.
fn listing(environment: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![environment.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                if entry.file_name() != COMPILED {
                    folders.push(path);
                }
                continue;
            }
            let relative = path.strip_prefix(environment).unwrap_or(&path).to_path_buf();
            if relative == Path::new(MARKER) {
                continue;
            }
            if files.len() >= MAX_FILES {
                return Err(io::Error::other(format!("it has more than {MAX_FILES} files")));
            }
            let state = if kind.is_symlink() {
                format!("link {}", Digest::from_bytes(std::fs::read_link(&path)?.as_os_str().as_bytes()))
            } else if kind.is_file() {
                format!("{:04o} {}", entry.metadata()?.mode() & 0o7777, digest(&path)?)
            } else {
                "special -".to_string()
            };
            files.insert(relative, state);
        }
    }
    Ok(files)
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => context.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Ok(Digest(out))
}

/// What tells that a marker or a lock file is another one: device, inode, size and time.
type Stamp = (u64, u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// The stamps of the marker and of the lock file with which an environment was found unchanged.
type Unchanged = Option<(Option<Stamp>, Option<Stamp>)>;

/// The environments that this process has compared. An installation has hundreds of megabytes, so each is compared once.
#[derive(Default)]
pub struct Compared(Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<Unchanged>>>>);

impl Compared {
    /// Makes sure that the connector of the source type `name` is installed completely and was not changed since, if it is a
    /// package. One that is not installed at all is left to the search for its program.
    ///
    /// # Errors
    /// Returns `Misconfigured` with the command that installs it again.
    pub async fn check(&self, airbyte: &Airbyte, connector: &ConnectorPolicy, name: &str) -> Result<(), Failure> {
        let Run::Package(package) = &connector.run else { return Ok(()) };
        let version = &connector.version;
        let (environment, lock) = (airbyte.environment(package, version), airbyte.lock_file(package, version));
        let entry = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(environment.clone()).or_default())
        };
        // The others wait for the first one instead of reading the same files.
        let mut known = entry.lock().await;
        let before = *known;
        let compared = tokio::task::spawn_blocking(move || compare(&environment, &lock, before)).await;
        let compared = compared.unwrap_or_else(|error| Err(EnvironmentProblem::Unreadable(error.to_string())));
        let failed = |problem: EnvironmentProblem| {
            let (title, install) =
                (problem.message(), format!("aam airbyte install {} --version {version}", connector_name(package)));
            Failure::new(
                Class::Misconfigured,
                format!("the installation of {package} {version}, the connector of {name}, {title}"),
                format!("run {install} again"),
            )
        };
        *known = compared.map_err(failed)?;
        Ok(())
    }
}

/// Compares an environment, unless it is `known` to be unchanged. Returns what is known of it afterwards.
fn compare(environment: &Path, lock: &Path, known: Unchanged) -> Result<Unchanged, EnvironmentProblem> {
    if !environment.is_dir() {
        return Ok(None);
    }
    let stamps = || Some((stamp(&environment.join(MARKER)), stamp(lock)));
    let compared = || check(environment, operator_file::read(lock, MAX_LOCK_BYTES).ok().map(|bytes| Digest::from_bytes(&bytes)));
    let before = stamps();
    if known.is_some() && known == before {
        return Ok(known);
    }
    let Err(problem) = compared() else { return Ok(before) };
    // An installation may have replaced the folder while it was read.
    let now = stamps();
    if now == before {
        return Err(problem);
    }
    compared().map(|()| now)
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
