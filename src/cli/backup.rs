//! `aam backup` and `aam restore`: copies of the registry.

use super::{CommandError, CommandResult, CommonOptions, terminal};
use crate::clock;
use crate::model::text::counted;
use crate::registry::{self, Completeness, CopySummary, RegistryError, private_files};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam backup /backup/                           a file with the time in its name
  aam backup /backup/aam.db                     while the daemon runs, or without one
  docker exec aam aam backup - > aam.db         out of a container
  aam verify --registry /backup/aam.db          verify it again, also on another machine

The copy holds intents, attempts, catalogs and policies. It holds no credential, and not the admin token.")]
pub struct BackupOptions {
    /// A new file, or a folder, in which the file gets the time as its name, or - for stdout
    file: PathBuf,
    /// Also write a backup that lacks archive files that are lost, or of a registry that is not intact
    #[arg(long)]
    incomplete: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam stop && aam restore /backup/aam-20261129T144140Z.db && aam serve

The registry that was there is kept beside it, as aam.db.replaced-TIME.")]
pub struct RestoreOptions {
    /// A file that aam backup wrote, or - for stdin
    file: PathBuf,
    /// Also restore a backup whose archive files are lost
    #[arg(long)]
    incomplete: bool,
}

fn completeness(incomplete: bool) -> Completeness {
    if incomplete { Completeness::Incomplete } else { Completeness::Whole }
}

/// Exits with 0 if the copy was written and is intact, except for archive files that it may lack, and with 1 otherwise.
pub fn backup(common: &CommonOptions, options: &BackupOptions) -> CommandResult {
    if is_stream(&options.file) {
        return to_stdout(common);
    }
    let copy = registry::backup(file_of(common)?, &options.file, completeness(options.incomplete), clock::from_env().now())?;
    if !copy.verdict.is_intact_without_archives() {
        common.print("", &copy);
        return Err(CommandError::new(format!(
            "{} was written, but the registry that it is a copy of is not intact; aam verify says where; keep the backups from before",
            copy.file.display()
        )));
    }
    common.print(&format!("backed up to {}\n{}{}", copy.file.display(), summary(&copy), missing(&copy)), &copy);
    Ok(ExitCode::SUCCESS)
}

/// The archive files that a copy lacks, one on each line.
fn missing(copy: &CopySummary) -> String {
    copy.verdict.archives.iter().map(|problem| format!("missing: {problem}\n")).collect()
}

/// Copies the registry beside itself and writes the copy to stdout. What is reported goes to stderr.
fn to_stdout(common: &CommonOptions) -> CommandResult {
    let registry = file_of(common)?;
    let file = beside(registry, "backup");
    let copy = registry::backup_without_archives(registry, &file, clock::from_env().now());
    let opened = File::open(&file);
    // The open file can be read on, and nothing stays behind if the reader goes away.
    let _ = std::fs::remove_file(&file);
    let copy = copy?;
    terminal::write_file(opened.map_err(|error| cannot_stream("read the copy", &error))?)
        .map_err(|error| cannot_stream("write to stdout", &error))?;
    terminal::print_error(&summary(&copy));
    if copy.archives > 0 {
        terminal::print_error(&format!(
            "aam: the copy does not hold the {} in {}.archive; copy this folder too, without it the registry cannot be verified\n",
            counted(copy.archives, "archive file"),
            registry.display()
        ));
    }
    match copy.verdict.is_intact_without_archives() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::new("the registry is not intact, and so is this copy of it; aam verify says where")),
    }
}

fn is_stream(file: &Path) -> bool {
    file == Path::new("-")
}

/// The file of the registry. A database has tools of its own for copies.
///
/// # Errors
/// If the registry is a database.
fn file_of(common: &CommonOptions) -> Result<&Path, CommandError> {
    match common.registry.postgres() {
        None => Ok(common.registry.local()),
        Some(place) => Err(CommandError::new(format!(
            "the registry is a database of PostgreSQL, which AAM does not copy\n  \
             to back it up, also while AAM runs: pg_dump --format=custom --schema={0} --file=aam.dump {1}\n  \
             to restore it, with the same roles: createdb --owner=OWNER NEW, then pg_restore --exit-on-error --dbname=NEW aam.dump\n  \
             aam verify with --registry of the new database proves that it is whole",
            place.schema(),
            place.database()
        ))),
    }
}

/// A name beside the registry, where there is space for a copy of it.
fn beside(registry: &Path, what: &str) -> PathBuf {
    let mut name = registry.as_os_str().to_owned();
    name.push(format!(".{what}-{}", std::process::id()));
    let path = PathBuf::from(name);
    // In a container, an earlier process may have had the same number.
    let _ = std::fs::remove_file(&path);
    path
}

fn cannot_stream(what: &str, error: &io::Error) -> CommandError {
    CommandError::new(format!("cannot {what}: {error}"))
}

/// Stores what arrives on stdin in a file beside the registry.
fn from_stdin(registry: &Path) -> Result<PathBuf, CommandError> {
    if let Some(folder) = registry.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        private_files::create_folder(folder).map_err(|error| cannot_stream(&format!("create {}", folder.display()), &error))?;
    }
    let path = beside(registry, "incoming");
    let file = OpenOptions::new().write(true).create_new(true).mode(private_files::FILE_MODE).open(&path);
    let stored = file.and_then(|mut file| io::copy(&mut io::stdin().lock(), &mut file));
    match stored {
        Ok(_) => Ok(path),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(cannot_stream(&format!("store stdin in {}", path.display()), &error))
        }
    }
}

/// Exits with 0 if the backup is in place, and with 1 if nothing was changed.
pub fn restore(common: &CommonOptions, options: &RestoreOptions) -> CommandResult {
    let now = clock::from_env().now();
    let copy = match is_stream(&options.file) {
        false => registry::restore(file_of(common)?, &options.file, completeness(options.incomplete), now)?,
        true => {
            let file = from_stdin(file_of(common)?)?;
            let copy: Result<CopySummary, RegistryError> =
                registry::restore(file_of(common)?, &file, completeness(options.incomplete), now);
            let _ = std::fs::remove_file(&file);
            copy?
        }
    };
    let from = if is_stream(&options.file) { "stdin".to_string() } else { options.file.display().to_string() };
    let mut text = format!("{} is restored from {from}\n{}{}", copy.file.display(), summary(&copy), missing(&copy));
    if let Some(replaced) = &copy.replaced {
        text.push_str(&format!("the registry before is {}\n", replaced.display()));
    }
    text.push_str(
        "next: aam serve; it reads the intents folder again. What callers pushed after the last row has to be pushed again\n",
    );
    common.print(&text, &copy);
    Ok(ExitCode::SUCCESS)
}

fn summary(copy: &CopySummary) -> String {
    let rows = counted(usize::try_from(copy.verdict.rows).unwrap_or(usize::MAX), "row");
    let last = copy.last_row_at.as_ref().map(|at| format!(", the last of {at}")).unwrap_or_default();
    let connections = counted(copy.connections, "connection");
    format!("{connections}; {rows}{last}; the chain is intact, head {}\n", copy.verdict.head)
}
