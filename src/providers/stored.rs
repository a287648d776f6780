//! Reads a secret from a file, for `env:` and `file:`.
//!
//! A file may be on a mount that does not answer. It is read on a thread for blocking calls, and only a few reads of one
//! folder run at the same time, so that such a mount does not use up the threads that everything else needs.

use crate::credentials::{Credential, MAX_SECRET_BYTES, MIN_SECRET_BYTES, Secret, Unprotectable, redact, unprotectable};
use crate::families::Family;
use crate::model::{Class, Failure};
use crate::operator_file;
use rustix::io::Errno;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The number of reads of one folder that run at the same time.
const MAX_READS: usize = 4;
/// How long a read may take. Local files take microseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The permission of all other users to read a file.
const READABLE_BY_OTHERS: u32 = 0o004;

/// A secret that was read from a file.
pub struct StoredSecret {
    pub credential: Credential,
    /// Set if other users of the machine can read the file.
    pub warning: Option<Failure>,
}

/// Limits the reads of each folder.
pub struct FolderReads {
    folders: Mutex<HashMap<PathBuf, Arc<ReadLimit>>>,
    timeout: Duration,
}

/// The limit of one folder.
struct ReadLimit {
    permits: Arc<Semaphore>,
    /// The number of reads that have ended. While it grows, the folder answers, and waiting for a permit is not a failure.
    ended: AtomicU64,
}

impl ReadLimit {
    fn new() -> ReadLimit {
        ReadLimit { permits: Arc::new(Semaphore::new(MAX_READS)), ended: AtomicU64::new(0) }
    }

    /// Waits for a permit as long as other reads of the folder end. Returns `None` if none of them ends within `timeout`.
    async fn permit(&self, timeout: Duration) -> Option<OwnedSemaphorePermit> {
        let acquired = Arc::clone(&self.permits).acquire_owned();
        tokio::pin!(acquired);
        loop {
            let ended = self.ended.load(Ordering::Relaxed);
            match tokio::time::timeout(timeout, &mut acquired).await {
                // The semaphore is never closed.
                Ok(permit) => return permit.ok(),
                Err(_) if self.ended.load(Ordering::Relaxed) == ended => return None,
                Err(_) => {}
            }
        }
    }
}

impl Default for FolderReads {
    fn default() -> FolderReads {
        FolderReads { folders: Mutex::default(), timeout: READ_TIMEOUT }
    }
}

impl FolderReads {
    /// Opens a file below `folder` with `open`, and reads the secret in it. `path` is the path for messages, `locator` the
    /// locator that named it. Returns `None` if there is no such file.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the file does not hold a usable secret, and `Remote` if the file system does not answer.
    pub async fn read(
        &self,
        folder: &Path,
        path: &Path,
        locator: &str,
        open: impl FnOnce() -> std::io::Result<File> + Send + 'static,
    ) -> Result<Option<StoredSecret>, Failure> {
        let limit = {
            let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(folders.entry(folder.to_path_buf()).or_insert_with(|| Arc::new(ReadLimit::new())))
        };
        let shown = path.display().to_string();
        let Some(permit) = limit.permit(self.timeout).await else { return Err(self.no_answer(folder)) };
        let read = tokio::task::spawn_blocking(move || {
            // The permit is given back when the read ends, not when the attempt stops waiting for it.
            let _permit = permit;
            let read = open().and_then(|file| {
                let is_exposed = is_exposed(&file);
                operator_file::read_open(file, MAX_SECRET_BYTES).map(|bytes| (bytes, is_exposed))
            });
            limit.ended.fetch_add(1, Ordering::Relaxed);
            read
        });
        match tokio::time::timeout(self.timeout, read).await {
            Ok(Ok(Ok((bytes, is_exposed)))) => secret(bytes, &shown, locator)
                .map(|credential| Some(StoredSecret { credential, warning: is_exposed.then(|| exposed(&shown)) })),
            Ok(Ok(Err(error))) if error.kind() == ErrorKind::NotFound => Ok(None),
            Ok(Ok(Err(error))) => Err(unreadable(&shown, locator, &error)),
            Ok(Err(defect)) => Err(Failure::new(Class::Bug, format!("reading {shown} failed: {defect}"), "please report this")),
            Err(_) => Err(self.no_answer(folder)),
        }
    }

    fn no_answer(&self, folder: &Path) -> Failure {
        Failure::new(
            Class::Remote,
            format!("the folder {} did not answer within {} s", folder.display(), self.timeout.as_secs()),
            "check the mount: df, mount, dmesg; AAM tries again automatically",
        )
    }
}

fn secret(bytes: Vec<u8>, shown: &str, locator: &str) -> Result<Credential, Failure> {
    let missing = |title: String, fix: String| Err(Failure::new(Class::CredentialMissing, title, fix));
    let text = match String::from_utf8(bytes) {
        Ok(text) => Secret::new(text),
        Err(error) => {
            // The bytes may be a secret in another encoding, so they are wiped.
            drop(zeroize::Zeroizing::new(error.into_bytes()));
            return missing(
                format!("{shown} is not valid UTF-8"),
                format!("store {locator} as UTF-8 text: {}", how_to_store(locator)),
            );
        }
    };
    let value = trimmed(text.expose());
    if value.trim().is_empty() {
        return missing(format!("{shown} is empty"), format!("store a value for {locator}: {}", how_to_store(locator)));
    }
    usable(Secret::new(value.to_string()), shown, &how_to_store(locator))
}

/// Returns the credential that a person stored in `place`. `how_to_set` says how another one is stored.
///
/// # Errors
/// Returns `CredentialMissing` for a value that looks like JSON and cannot be used, and for one that cannot be kept out of
/// logs.
pub fn usable(raw: Secret, place: &str, how_to_set: &str) -> Result<Credential, Failure> {
    if raw.expose().len() as u64 > MAX_SECRET_BYTES {
        return Err(Failure::new(
            Class::CredentialMissing,
            format!("the secret in {place} has {} bytes, and AAM accepts {MAX_SECRET_BYTES} at most", raw.expose().len()),
            format!("store only the credential itself; keys and tokens have a few thousand bytes; then {how_to_set}"),
        ));
    }
    let credential = Credential::parse(raw).map_err(|malformed| {
        let title = format!("the secret in {place} {}", malformed.message());
        Failure::new(Class::CredentialMissing, title, format!("{}; then {how_to_set}", malformed.fix()))
    })?;
    match unprotectable(&credential) {
        None => Ok(credential),
        Some(reason) => Err(unprotectable_secret(place, reason, how_to_set)),
    }
}

/// Checks that each field of a credential of a source is a text.
///
/// # Errors
/// Returns `CredentialMissing` with the name of a field that is not.
pub fn check_fields(credential: &Credential, place: &str) -> Result<(), Failure> {
    let Some((name, kind)) = credential.unfit() else { return Ok(()) };
    Err(Failure::new(
        Class::CredentialMissing,
        format!("the field {} of {place} is {kind}, not a text", redact::scrub_and_cut(name, 60)),
        "store the value as a text in quotation marks, for example {\"token\": \"...\"}",
    ))
}

/// Checks that each field of a credential of `family` is a text. If the family knows credentials of another kind by the field
/// that is not, the failure names that kind: the settings file of an app has objects.
///
/// # Errors
/// Returns `CredentialMissing` with the name of the kind or of the field.
pub fn check_fields_of_source(credential: &Credential, place: &str, family: &Family) -> Result<(), Failure> {
    check_fields(credential, place).map_err(|failure| match named_kind(credential, family) {
        Some((name, fix)) => {
            let ways: Vec<&str> = family.login.iter().map(|login| login.about.as_str()).collect();
            let title = format!("the credential is {name}, and {} needs {}", family.title, ways.join(", or "));
            Failure::new(Class::CredentialMissing, title, fix).detail(failure.title)
        }
        None => failure,
    })
}

/// Returns name and fix of the kind of credential that has the unfit field, by the family's file.
fn named_kind(credential: &Credential, family: &Family) -> Option<(String, String)> {
    let (field, _) = credential.unfit()?;
    let kinds = family.lowcode.as_ref()?.get("wrong_kinds")?.as_array()?;
    let has_field = |kind: &&Value| kind["fields"].as_array().is_some_and(|fields| fields.iter().any(|name| name == field));
    let kind = kinds.iter().find(has_field)?;
    Some((kind["name"].as_str()?.to_string(), kind["fix"].as_str()?.to_string()))
}

/// Returns the content of a secret file without the byte order mark that some editors add, and without line breaks at its
/// end, which `echo` and editors add.
#[must_use]
pub fn trimmed(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text).trim_end_matches(['\n', '\r'])
}

fn how_to_store(locator: &str) -> String {
    match locator.strip_prefix("env:") {
        Some(name) => format!("aam secret set {name}"),
        None => "write the new value into a file beside it and rename that file over it".to_string(),
    }
}

fn unreadable(shown: &str, locator: &str, error: &std::io::Error) -> Failure {
    let uid = rustix::process::geteuid().as_raw();
    let fix = match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("let the user that runs aam (uid {uid}) read it: chown {uid} {shown}; chmod 600 {shown}")
        }
        _ if error.to_string().contains("symbolic") => {
            "name the target itself, or add its folder to credentials.files in the policy".to_string()
        }
        _ if Errno::from_io_error(error) == Some(Errno::NAMETOOLONG) => {
            format!("store the value of {locator} under a shorter name, and write that name in credential_locator")
        }
        _ => format!("put the value of {locator} into a regular file of at most {}", operator_file::size(MAX_SECRET_BYTES)),
    };
    let title = match error.kind() {
        ErrorKind::PermissionDenied => format!("permission denied: aam cannot read {shown}"),
        _ => format!("{shown} cannot be used: {error}"),
    };
    Failure::new(Class::CredentialMissing, title, fix)
}

/// The failure for a secret that cannot be kept out of logs: removing it would make every text unreadable, and leaving it in
/// would show it.
fn unprotectable_secret(place: &str, reason: Unprotectable, how_to_set: &str) -> Failure {
    let title = match reason {
        Unprotectable::TooShort => format!("the secret in {place} is shorter than {MIN_SECRET_BYTES} characters"),
        Unprotectable::Common => format!("the secret in {place} is a common word"),
    };
    let fix = format!(
        "AAM keeps secrets out of every log and report by their value, which it cannot do for this one: set another secret at \
         the source; then {how_to_set}"
    );
    Failure::new(Class::CredentialMissing, title, fix)
}

fn exposed(shown: &str) -> Failure {
    Failure::new(
        Class::OverPrivileged,
        format!("every user of this machine can read {shown}"),
        format!("take that permission away: chmod 600 {shown}; or 640 if a group of its own must read it"),
    )
}

/// Whether every user of the machine can read the file. A file system in memory that is mounted read-only is a secret that a
/// container or service manager mounted for this process alone; its permissions say nothing.
fn is_exposed(file: &File) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_mode & READABLE_BY_OTHERS != 0) && !is_mounted_secret(file)
}

#[cfg(target_os = "linux")]
fn is_mounted_secret(file: &File) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of statfs(2).
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    let read_only = rustix::fs::fstatvfs(file).is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    read_only && rustix::fs::fstatfs(file).is_ok_and(|stat| IN_MEMORY.contains(&stat.f_type))
}

#[cfg(not(target_os = "linux"))]
fn is_mounted_secret(_: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[tokio::test]
    async fn a_read_waits_for_others_as_long_as_the_folder_answers() {
        let reads = FolderReads { timeout: Duration::from_millis(200), ..FolderReads::default() };
        let folder = Path::new("folder");
        // A read of 50 ms: 40 reads, four at a time, take longer than the timeout of one.
        let slow = || {
            let (_open, silent) = std::sync::mpsc::channel::<()>();
            let _ = silent.recv_timeout(Duration::from_millis(50));
            Err(std::io::Error::from(ErrorKind::NotFound))
        };
        let all = (0..40).map(|_| reads.read(folder, folder, "env:A", slow));
        let failures = futures_util::future::join_all(all).await.into_iter().filter(Result::is_err).count();
        assert_eq!(failures, 0, "a read failed although the folder answers");
    }

    #[tokio::test]
    async fn a_mount_that_does_not_answer_takes_a_few_threads_and_only_its_own_secrets() {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::write(home.path().join("good"), "0p9o8i7u").expect("written");
        let reads = FolderReads { timeout: Duration::from_millis(20), ..FolderReads::default() };
        let (hung, opened) = (home.path().join("hung"), Arc::new(AtomicUsize::new(0)));
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        for _ in 0..3 * MAX_READS {
            let (opened, released) = (Arc::clone(&opened), Arc::clone(&released));
            let open = move || {
                opened.fetch_add(1, Ordering::SeqCst);
                // Ends when the test drops the other side.
                let _ = released.lock().expect("unpoisoned").recv();
                Err(std::io::Error::from(ErrorKind::NotFound))
            };
            let failure = reads.read(&hung, &hung.join("a"), "env:A", open).await.err().expect("no answer");
            assert!(failure.class == Class::Remote && failure.title.contains("did not answer"), "{failure:?}");
        }
        assert_eq!(opened.load(Ordering::SeqCst), MAX_READS, "the others wait without a thread");
        let good = home.path().join("good");
        let open = move || File::open(good);
        assert!(reads.read(home.path(), &home.path().join("good"), "env:good", open).await.is_ok_and(|stored| stored.is_some()));
        drop(release);
    }
}
