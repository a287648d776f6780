//! Backups: a copy of the registry while the daemon writes to it, and its way back.

use super::{Location, Reader, RegistryError, Verdict, VerifyProgress, archive, lock, private_files, reader, schema};
use crate::model::{MAX_MISSING_FILES, Timestamp};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a copy of the registry holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CopySummary {
    /// The file.
    pub file: PathBuf,
    pub schema_version: usize,
    /// How many connections the ledger knows, retired ones included.
    pub connections: usize,
    /// When the last row was appended. RFC 3339; null if there is none.
    pub last_row_at: Option<String>,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The number of archive files that the ledger names. They are in a folder beside the file.
    pub archives: usize,
    /// The files of the registry that was in this place before, after [`restore`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<PathBuf>,
}

/// How often a copy is made if the daemon drops archive files meanwhile.
const MAX_TRIES: u32 = 3;

/// What a copy may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// The copy must be whole.
    Whole,
    /// What is left is copied: archive files may be missing, and a backup may be of a registry that is not intact.
    Incomplete,
}

/// Copies the registry at `registry` into the new file `file`, or into a file with a name of its own if `file` is a folder, with
/// its archive files, and verifies the copy. The copy is one consistent state, also while a daemon writes. It gets its name only
/// once it is complete, verified and on disk, so a backup that was interrupted or is not whole never looks like a whole one.
///
/// # Errors
/// If the registry cannot be read, if it is not whole and has to be, or if the file exists or cannot be written.
pub fn backup(registry: &Path, file: &Path, completeness: Completeness, now: Timestamp) -> Result<CopySummary, RegistryError> {
    let file = new_file(registry, file, now)?;
    // So that a file that is missing is found before anything is written.
    if completeness == Completeness::Whole {
        refuse_incomplete(registry, &problems(registry)?)?;
    }
    let had_archives = archive::folder(&file).exists();
    let written = copied(registry, &file).and_then(|summary| name_copy(registry, summary, &file, completeness));
    if written.is_err() {
        let _ = std::fs::remove_file(with_suffix(&file, ".partial"));
        if !had_archives && file.symlink_metadata().is_err() {
            let _ = std::fs::remove_dir_all(archive::folder(&file));
        }
    }
    written
}

/// What is wrong with the archive files of a registry.
fn problems(registry: &Path) -> Result<Vec<String>, RegistryError> {
    Reader::open_any_version(registry)?.with(|db| Ok(archive::check(db, &Location::file(registry)).messages))
}

/// Copies the registry beside `file` and verifies the copy with the archive files of the registry.
fn copied(registry: &Path, file: &Path) -> Result<CopySummary, RegistryError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let summary = summarize(&write_partial(registry, file)?, registry)?;
        // A daemon may have dropped old calls with their files after this copy was made. The next one does not name them.
        let is_final = summary.verdict.archives.is_empty() || tries == MAX_TRIES || !problems(registry)?.is_empty();
        if is_final {
            return Ok(summary);
        }
    }
}

/// Puts the archive files of the copy that `summary` describes beside `file`, and gives the copy this name.
fn name_copy(
    registry: &Path,
    summary: CopySummary,
    file: &Path,
    completeness: Completeness,
) -> Result<CopySummary, RegistryError> {
    let is_whole = completeness == Completeness::Whole;
    if is_whole && !summary.verdict.is_intact() {
        refuse_incomplete(registry, &summary.verdict.archives)?;
        return Err(RegistryError::Other(format!(
            "the registry {} is not intact, so no backup was written; aam verify says where; keep the backups from before; \
             aam backup --incomplete copies the registry as it is",
            registry.display()
        )));
    }
    let left_out = Reader::open_any_version(&summary.file)?.with(|db| archive::copy(db, registry, file))?;
    if is_whole {
        refuse_incomplete(registry, &left_out)?;
    }
    std::fs::rename(&summary.file, file)
        .and_then(|()| sync_folder(file))
        .map_err(|error| not_written(file, &error.to_string()))?;
    Ok(CopySummary { file: file.to_path_buf(), ..summary })
}

/// Refuses a backup of a registry with these problems of its archive files.
fn refuse_incomplete(registry: &Path, problems: &[String]) -> Result<(), RegistryError> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(RegistryError::Other(format!(
        "the registry {} is not whole, so no backup was written:\n  {}\nif what is missing is lost, aam backup --incomplete copies what is left",
        registry.display(),
        listed(problems)
    )))
}

/// The first of many problems, one on each line.
fn listed(problems: &[String]) -> String {
    let mut lines: Vec<String> = problems.iter().take(MAX_MISSING_FILES).cloned().collect();
    let more = problems.len().saturating_sub(lines.len());
    if more > 0 {
        lines.push(format!("and {more} more; aam verify names all of them"));
    }
    lines.join("\n  ")
}

/// As [`backup`], into a file that is streamed and has no archive files beside it. A registry that has some is intact only with
/// them.
///
/// # Errors
/// As [`backup`].
pub fn backup_without_archives(registry: &Path, file: &Path, now: Timestamp) -> Result<CopySummary, RegistryError> {
    let file = new_file(registry, file, now)?;
    let partial = write_partial(registry, &file)?;
    std::fs::rename(&partial, &file).and_then(|()| sync_folder(&file)).map_err(|error| not_written(&file, &error.to_string()))?;
    summarize(&file, &file)
}

/// Copies the archive files that the registry at `to` names from beside the one at `from`. A file that is damaged or missing is
/// not copied, which the verification of the copy says.
fn copy_archives(from: &Path, to: &Path) -> Result<Vec<String>, RegistryError> {
    Reader::open_any_version(to)?.with(|db| archive::copy(db, from, to))
}

/// The file that a backup to `file` is written to, which does not exist.
fn new_file(registry: &Path, file: &Path, now: Timestamp) -> Result<PathBuf, RegistryError> {
    // This checks that there is a registry, and that this version of AAM can read it.
    Reader::open_any_version(registry)?;
    let file = match file.is_dir() {
        true => file.join(format!("aam-{}.db", compact(now))),
        false => file.to_path_buf(),
    };
    if file.symlink_metadata().is_ok() {
        return Err(RegistryError::Other(format!("{} exists and was not changed; name a new file", file.display())));
    }
    Ok(file)
}

/// Copies the registry beside `file`. Returns the copy.
fn write_partial(registry: &Path, file: &Path) -> Result<PathBuf, RegistryError> {
    let partial = with_suffix(file, ".partial");
    if let Err(error) = write_copy(registry, &partial) {
        let _ = std::fs::remove_file(&partial);
        return Err(not_written(file, &error));
    }
    Ok(partial)
}

fn not_written(file: &Path, error: &str) -> RegistryError {
    RegistryError::Other(format!(
        "cannot write the backup {}: {error}; the registry was not changed; choose a place where this user can write and where there is space",
        file.display()
    ))
}

/// Copies the registry into `partial` and waits until it is on disk.
fn write_copy(registry: &Path, partial: &Path) -> Result<(), String> {
    let text = partial.to_str().ok_or("its name is not valid UTF-8")?;
    match std::fs::remove_file(partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    // SQLite writes into an empty file that exists and keeps its mode.
    let created = OpenOptions::new().write(true).create_new(true).mode(private_files::FILE_MODE).open(partial);
    let created = created.map_err(|error| error.to_string())?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copied = Connection::open_with_flags(registry, flags).and_then(|db| {
        db.busy_timeout(Duration::from_secs(5))?;
        db.execute("VACUUM INTO ?1", [text])
    });
    copied.map_err(|error| error.to_string())?;
    created.sync_all().map_err(|error| error.to_string())
}

/// Verifies a copy whose archive files are beside `archives`, and counts what it holds.
fn summarize(file: &Path, archives: &Path) -> Result<CopySummary, RegistryError> {
    let copy = Reader::open_any_version(file)?;
    let verdict = copy.verify_beside(&Location::file(archives), &VerifyProgress::default())?;
    let (schema_version, last, archives) = copy.with(|db| {
        let archives = archive::in_use(db)?.len();
        let last = db.query_row("SELECT max(at) FROM ledger", [], |row| row.get::<_, Option<i64>>(0))?;
        Ok((db.as_sqlite().map_or(Ok(0), schema::version)?, last, archives))
    })?;
    // A row that cannot be read is part of the verdict, and the connections of a damaged file are not counted.
    let connections = match verdict.is_intact_without_archives() {
        true => copy.with(|db| Ok(reader::fold(db, i64::MAX)?.connections.len()))?,
        false => 0,
    };
    let last_row_at = last.map(|at| Timestamp(at).rfc3339());
    Ok(CopySummary { file: file.to_path_buf(), schema_version, connections, last_row_at, verdict, archives, replaced: None })
}

/// Puts the backup `file` in the place of the registry at `registry`, if the backup is intact and, unless it may be incomplete, its
/// archive files are there: beside it, or beside the registry if the backup came alone. The files that were there stay beside the
/// registry under another name. A restore that is interrupted can be repeated.
///
/// # Errors
/// [`RegistryError::Held`] while a daemon runs; and if the backup is not intact, archive files are missing that have to be there,
/// or a file cannot be written. The registry is unchanged then.
pub fn restore(registry: &Path, file: &Path, completeness: Completeness, now: Timestamp) -> Result<CopySummary, RegistryError> {
    let has_archives = archive::folder(file).exists();
    let verdict = judged(file, if has_archives { file } else { registry })?;
    if !verdict.is_intact_without_archives() {
        return Err(RegistryError::Other(format!(
            "the backup {} is not intact, so the registry was not changed; aam verify --registry {0} says what is wrong; use another backup",
            file.display()
        )));
    }
    if completeness == Completeness::Whole && !verdict.archives.is_empty() {
        return Err(RegistryError::Other(format!(
            "the backup {} is not whole, so the registry was not changed:\n  {}\nif what is missing is lost, aam restore --incomplete restores what is left",
            file.display(),
            listed(&verdict.archives)
        )));
    }
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |error| RegistryError::Io { path, error }
    };
    if let Some(folder) = registry.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        private_files::create_folder(folder).map_err(io(folder))?;
    }
    super::refuse_other(registry)?;
    let _lock = lock::take(registry, "restore")?;
    if let (Ok(from), Ok(to)) = (std::fs::canonicalize(file), std::fs::canonicalize(registry))
        && from == to
    {
        return Err(RegistryError::Other(format!("{} is the registry itself; name a backup", file.display())));
    }
    let incoming = with_suffix(registry, ".restoring");
    // As a backup is written, because a copy of another tool may have a write-ahead log beside it.
    write_copy(file, &incoming).map_err(|error| RegistryError::Io { path: incoming.clone(), error: Error::other(error) })?;
    let replaced = keep_aside(registry, now)?;
    if let Some(aside) = &replaced {
        // As far as the registry that is replaced can be read.
        let _ = copy_archives(registry, aside);
    }
    if has_archives {
        Reader::open_any_version(file)?.with(|db| archive::copy(db, file, registry))?;
    }
    std::fs::rename(&incoming, registry).map_err(io(registry))?;
    sync_folder(registry).map_err(io(registry))?;
    Ok(CopySummary { file: registry.to_path_buf(), replaced, ..summarize(registry, registry)? })
}

/// Verifies the backup `file`, whose archive files are beside `archives`.
fn judged(file: &Path, archives: &Path) -> Result<Verdict, RegistryError> {
    let judged = summarize(file, archives).map_err(|error| match error {
        RegistryError::Missing(path) => RegistryError::Other(format!("the backup {} was not found", path.display())),
        RegistryError::Folder { path, .. } => {
            RegistryError::Other(format!("{} is a folder, and a backup is a file; name a file in it", path.display()))
        }
        RegistryError::NotRegular { path, what } => RegistryError::Other(format!(
            "{} is {what}, and a backup is a regular file; to restore what comes out of a pipe, write - for the file and send it to stdin",
            path.display()
        )),
        RegistryError::Denied(path) => {
            RegistryError::Other(format!("this user may not read the backup {}; make it readable, or copy it", path.display()))
        }
        error => error,
    })?;
    Ok(judged.verdict)
}

/// Gives the present files of the registry a second name, and removes its write-ahead log, which does not belong to the file
/// that comes. Returns the new name, or `None` if there is no registry.
fn keep_aside(registry: &Path, now: Timestamp) -> Result<Option<PathBuf>, RegistryError> {
    let aside = free_name(registry, now);
    for suffix in ["", "-wal"] {
        let (from, to) = (with_suffix(registry, suffix), with_suffix(&aside, suffix));
        // Not every file system has hard links.
        match std::fs::hard_link(&from, &to).or_else(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::AlreadyExists => Err(error),
            _ => copy_private(&from, &to),
        }) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(RegistryError::Io { path: to, error }),
            _ => {}
        }
    }
    for suffix in ["-wal", "-shm"] {
        let path = with_suffix(registry, suffix);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(RegistryError::Io { path, error }),
            _ => {}
        }
    }
    Ok(aside.exists().then_some(aside))
}

/// A name for the files that are put aside. Restores within the same second get a number.
fn free_name(registry: &Path, now: Timestamp) -> PathBuf {
    let name = format!(".replaced-{}", compact(now));
    let is_free = |path: &PathBuf| ["", "-wal"].iter().all(|suffix| with_suffix(path, suffix).symlink_metadata().is_err());
    let numbered = (2..=u16::MAX).map(|number| with_suffix(registry, &format!("{name}-{number}")));
    let mut names = std::iter::once(with_suffix(registry, &name)).chain(numbered);
    // If every name is taken, the first one makes the restore fail with its name.
    names.find(is_free).unwrap_or_else(|| with_suffix(registry, &name))
}

/// Copies a file so that only its owner can read the copy, and waits until it is on disk.
fn copy_private(from: &Path, to: &Path) -> Result<(), Error> {
    let mut source = File::open(from)?;
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(private_files::FILE_MODE).open(to)?;
    std::io::copy(&mut source, &mut copy)?;
    copy.sync_all()
}

/// Waits until the name of `file` is on disk.
fn sync_folder(file: &Path) -> Result<(), Error> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A time for the name of a file, for example `20261129T144140Z`.
fn compact(at: Timestamp) -> String {
    let text = at.rfc3339();
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{}Z", seconds.replace(['-', ':', ' '], ""))
}
