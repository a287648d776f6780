//! An open file or directory: identity, discovery, health check and sample. Everything is synchronous and without egress.

use super::describe::Description;
use super::format::{self, Format};
use super::place::{self, FilePlace, FileStat, OpenEntry, Root};
use super::source::{FIRST_READ_BYTES, MAX_RECORD_BYTES, SIGNATURE_BYTES, Source};
use super::tree::{self, DirectoryListing};
use crate::connectors::{Bounds, Discovery, Sample};
use crate::memory_budget::MemoryMeter;
use crate::model::catalog::SkippedStream;
use crate::model::text::counted;
use crate::model::{Catalog, Class, Evidence, Failure, Privilege, Timestamp};
use crate::policy::Files;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Limit on the number of files that one piece of evidence names.
const MAX_NAMED_FILES: usize = 5;

/// Limit on the bytes of each JSON file of a directory that are checked behind its first records.
const MAX_JUDGED_MEMBER_BYTES: usize = 1 << 20;

/// The open file or directory that a resource id names.
pub struct Resource {
    id: String,
    root: Root,
    relative: PathBuf,
    stat: FileStat,
    read: Arc<AtomicU64>,
    content: Content,
}

enum Content {
    File(Source),
    Directory(OpenEntry),
}

impl Resource {
    /// Opens `id` below one of the roots and checks that its content fits its format.
    ///
    /// # Errors
    /// The errors of [`place::open_in_roots`] and [`Source::new`].
    pub fn open(id: &str, files: &Files) -> Result<Resource, Failure> {
        let FilePlace { root, relative, entry } = place::open_in_roots(id, files)?;
        let read = Arc::new(AtomicU64::new(0));
        let stat = entry.stat;
        let content = match stat.directory {
            true => Content::Directory(entry),
            false => {
                let path = Path::new(id);
                let format = Format::from_path(path).ok_or_else(|| format::unsupported(path))?;
                Content::File(Source::new(entry, format, root.display_path(&relative), Arc::clone(&read), FIRST_READ_BYTES)?)
            }
        };
        Ok(Resource { id: id.to_owned(), root, relative, stat, read, content })
    }

    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The evidence of what was opened: path, size, modification time, device and inode.
    #[must_use]
    pub fn identity(&self) -> Evidence {
        let mut evidence = Evidence::new();
        let mut add = |key: &str, value| evidence.insert(key.to_owned(), value);
        add("path", json!(self.root.display_path(&self.relative)));
        add("root", json!(self.root.configured));
        match &self.content {
            Content::File(source) => {
                add("format", json!(source.format.as_str()));
                add("size_bytes", json!(self.stat.size));
            }
            Content::Directory(_) => {
                add("format", json!("directory"));
            }
        }
        add("modified", json!(Timestamp(self.stat.modified).rfc3339()));
        add("device", json!(self.stat.device));
        add("inode", json!(self.stat.inode));
        evidence
    }

    /// Whether the process could write the file that it only reads. The kernel is asked, because it takes mode bits, access
    /// control lists, read-only mounts and the privileges of root into account.
    #[must_use]
    pub fn privilege(&self) -> Privilege {
        let mut paths = vec![self.relative.clone()];
        if let Content::Directory(entry) = &self.content
            && let Ok(listing) = tree::list(&self.root, &self.relative, entry, MAX_NAMED_FILES)
        {
            paths.extend(listing.files.iter().map(|(name, _)| self.relative.join(name)));
        }
        let root = if rustix::process::geteuid().is_root() { " (it is root)" } else { "" };
        let mut grants = Vec::new();
        for path in paths {
            let shown = self.root.display_path(&path);
            match self.root.writable(&path) {
                Ok(true) => grants.push(format!("the daemon's user{root} can write {shown}")),
                Ok(false) => {}
                Err(message) => {
                    return Privilege::Unknown { reason: format!("could not check write access to {shown}: {message}") };
                }
            }
        }
        if grants.is_empty() { Privilege::Ok } else { Privilege::Over { grants } }
    }

    /// Streams, columns and types. What was guessed or is irregular becomes a warning.
    ///
    /// # Errors
    /// For a file, the errors of [`Source::describe`]. For a directory whose files cannot be read, the first of these errors.
    /// `WrongService` if a directory has only entries of other kinds.
    pub fn discover(&self, bounds: Bounds, memory: &MemoryMeter) -> Result<Discovery, Failure> {
        let before = self.bytes();
        let mut found = match &self.content {
            Content::File(source) => self.discover_file(source, &bounds, memory)?,
            Content::Directory(entry) => self.discover_directory(entry, &bounds, memory)?,
        };
        found.evidence.insert("streams".to_owned(), json!(found.catalog.streams.len()));
        found.evidence.insert("bytes_read".to_owned(), json!(self.bytes() - before));
        if found.catalog.truncated {
            found.evidence.insert("truncated".to_owned(), json!(true));
        }
        Ok(Discovery { catalog: found.catalog.sorted(), ..found })
    }

    fn discover_file(&self, source: &Source, bounds: &Bounds, memory: &MemoryMeter) -> Result<Discovery, Failure> {
        let found = source.describe(bounds, MAX_RECORD_BYTES, memory)?;
        let mut evidence = found.notes.clone();
        evidence.insert("columns".to_owned(), json!(found.columns));
        evidence.insert("rows_seen".to_owned(), json!(found.rows_seen));
        let warning = irregular(&source.shown, &found);
        let truncated = found.truncated;
        let streams = vec![found.stream(self.stream_name())];
        Ok(Discovery { catalog: Catalog { streams, truncated, skipped: Vec::new() }, evidence, warning })
    }

    fn discover_directory(&self, entry: &OpenEntry, bounds: &Bounds, memory: &MemoryMeter) -> Result<Discovery, Failure> {
        let begun = Instant::now();
        let listing = tree::list(&self.root, &self.relative, entry, bounds.streams)?;
        let shown = self.root.display_path(&self.relative);
        let mut catalog = Catalog { streams: Vec::new(), truncated: listing.truncated, skipped: Vec::new() };
        let (mut columns, mut first_failure, mut warnings) = (0, None, Vec::new());
        for (index, (name, format)) in listing.files.iter().enumerate() {
            let left = bounds.bytes.saturating_sub(self.bytes());
            if begun.elapsed() >= bounds.time || left == 0 {
                catalog.truncated = true;
                break;
            }
            let bounds = Bounds { bytes: left, ..*bounds };
            // Each of the files that follow gets its share, so that checking one does not leave out another.
            let share = left / u64::try_from(listing.files.len() - index).unwrap_or(u64::MAX);
            let judged = usize::try_from(share).unwrap_or(MAX_JUDGED_MEMBER_BYTES).min(MAX_JUDGED_MEMBER_BYTES);
            match self.open_member(name, *format).and_then(|source| source.describe(&bounds, judged, &memory.next_input())) {
                Ok(found) => {
                    columns += found.columns;
                    catalog.truncated |= found.truncated;
                    warnings.extend(found.warnings.iter().map(|warning| format!("{name}: {warning}")));
                    catalog.streams.push(found.stream(name.clone()));
                }
                Err(failure) => {
                    let reason = [failure.title.as_str(), failure.detail.as_str()].join(": ");
                    let reason = reason.trim_end_matches(": ");
                    warnings.push(format!("{name} was left out: {reason}"));
                    catalog.skipped.push(SkippedStream::new(name.as_str(), reason));
                    first_failure = first_failure.or(Some(failure));
                }
            }
        }
        // A directory whose files are all unreadable is not the same as an empty directory.
        if let (true, Some(failure)) = (catalog.streams.is_empty(), first_failure) {
            return Err(failure);
        }
        if let (true, Some(first)) = (listing.files.is_empty(), listing.skipped.first()) {
            return Err(nothing_to_read(&shown, listing.skipped.len(), first));
        }
        let evidence = directory_evidence(&catalog, &listing, columns);
        let warning = if catalog.streams.is_empty() && !catalog.truncated {
            Some(empty_directory(&shown, listing.hidden))
        } else {
            several(&shown, &warnings)
        };
        catalog.skipped.extend(listing.skipped);
        Ok(Discovery { catalog, evidence, warning })
    }

    /// Opens the path again, reads its first bytes, and reports whether it is still the same file.
    ///
    /// # Errors
    /// The errors of [`Resource::open`]; `WrongService` if a directory replaced a file, or the reverse.
    pub fn health(&self) -> Result<Evidence, Failure> {
        let before = self.bytes();
        let entry = self.root.open_below(&self.relative)?;
        let now = entry.stat;
        let mut evidence = Evidence::new();
        match (&self.content, now.directory) {
            (Content::File(source), false) => {
                Source::new(entry, source.format, source.shown.clone(), Arc::clone(&self.read), SIGNATURE_BYTES)?;
            }
            (Content::Directory(_), true) => {
                tree::list(&self.root, &self.relative, &entry, 1)?;
                evidence.insert("listed".to_owned(), json!(true));
            }
            _ => {
                return Err(Failure::new(
                    Class::WrongService,
                    format!(
                        "{} changed from a file to a directory, or from a directory to a file",
                        self.root.display_path(&self.relative)
                    ),
                    "restore what resource_ids names, or correct resource_ids",
                ));
            }
        }
        let same = (now.device, now.inode) == (self.stat.device, self.stat.inode);
        evidence.insert("same_file".to_owned(), json!(same));
        evidence.insert("changed_since_open".to_owned(), json!(now != self.stat));
        evidence.insert("size_bytes".to_owned(), json!(now.size));
        evidence.insert("bytes_read".to_owned(), json!(self.bytes() - before));
        Ok(evidence)
    }

    /// The names of the files that a sample of `catalog` reads. Empty if the resource is a single file.
    #[must_use]
    pub fn member_names(&self, catalog: &Catalog) -> Vec<String> {
        match self.content {
            Content::File(_) => Vec::new(),
            Content::Directory(_) => catalog.streams.iter().map(|stream| stream.name.clone()).collect(),
        }
    }

    /// Reads at most `max_items` rows from as many files as needed and counts them.
    ///
    /// # Errors
    /// The errors of [`Source::count`]. In a directory, files that cannot be read are recorded and skipped. It is an error only
    /// if no file can be read.
    pub fn sample(&self, names: &[String], max_items: u32, memory: &MemoryMeter) -> Result<Sample, Failure> {
        let before = self.bytes();
        let most = usize::try_from(max_items).unwrap_or(usize::MAX);
        let mut evidence = Evidence::new();
        let (rows, mut not_read) = match &self.content {
            Content::File(source) => {
                let read = source.count(most, memory)?;
                evidence.insert("stream".to_owned(), json!(self.stream_name()));
                evidence.insert("columns_read".to_owned(), json!(read.columns));
                (read.rows, read.not_read)
            }
            Content::Directory(_) => self.sample_directory(names, most, memory, &mut evidence)?,
        };
        let warning = (!not_read.is_empty()).then(|| {
            let what = if matches!(self.content, Content::File(_)) { "column" } else { "file or column" };
            Failure::new(
                Class::Remote,
                format!("{} of {} could not be read", counted(not_read.len(), what), self.root.display_path(&self.relative)),
                "the detail gives the reasons; what could be read is in the catalog",
            )
            .detail(first_of(&not_read))
        });
        evidence.insert("bytes_read".to_owned(), json!(self.bytes() - before));
        if rows == 0 {
            evidence.insert("note".to_owned(), json!("empty"));
        }
        if !not_read.is_empty() {
            not_read.truncate(MAX_NAMED_FILES);
            evidence.insert("not_read".to_owned(), json!(not_read));
        }
        Ok(Sample { warning, ..Sample::new(rows as u64, evidence) })
    }

    fn sample_directory(
        &self,
        names: &[String],
        most: usize,
        memory: &MemoryMeter,
        evidence: &mut Evidence,
    ) -> Result<(usize, Vec<String>), Failure> {
        const MAX_SAMPLE_BYTES: u64 = 64 << 20;
        let begun = self.bytes();
        let (mut rows, mut read, mut refused) = (0, Vec::new(), Vec::new());
        let mut first_failure = None;
        for name in names {
            if rows >= most || self.bytes() - begun >= MAX_SAMPLE_BYTES {
                break;
            }
            let Some(format) = Format::from_path(Path::new(name)) else { continue };
            match self.open_member(name, format).and_then(|source| source.count(most - rows, &memory.next_input())) {
                Ok(counted) => {
                    rows += counted.rows;
                    refused.extend(counted.not_read.iter().map(|column| format!("{name}: {column}")));
                    read.push(name.as_str());
                }
                Err(failure) => {
                    refused.push(format!("{name}: {}", failure.title));
                    first_failure = first_failure.or(Some(failure));
                }
            }
        }
        if let (true, Some(failure)) = (read.is_empty(), first_failure) {
            return Err(failure);
        }
        evidence.insert("streams_read".to_owned(), json!(read.len()));
        read.truncate(MAX_NAMED_FILES);
        evidence.insert("stream".to_owned(), json!(read.join(", ")));
        Ok((rows, refused))
    }

    /// Opens one file of the directory. The name may come from a stored catalog, so it is checked like any path.
    fn open_member(&self, name: &str, format: Format) -> Result<Source, Failure> {
        let relative = self.relative.join(name);
        let entry = self.root.open_below(&relative)?;
        let shown = self.root.display_path(&relative);
        if entry.stat.directory {
            return Err(Failure::new(Class::WrongService, format!("{shown} is a directory"), "name a file in resource_ids"));
        }
        Source::new(entry, format, shown, Arc::clone(&self.read), FIRST_READ_BYTES)
    }

    fn stream_name(&self) -> String {
        let last = Path::new(&self.id).file_name().map(|name| name.to_string_lossy().into_owned());
        last.unwrap_or_else(|| self.id.clone())
    }
}

fn directory_evidence(catalog: &Catalog, listing: &DirectoryListing, columns: usize) -> Evidence {
    let mut evidence = Evidence::new();
    evidence.insert("columns".to_owned(), json!(columns));
    evidence.insert("skipped".to_owned(), json!(catalog.skipped.len() + listing.skipped.len()));
    if listing.hidden > 0 {
        evidence.insert("hidden".to_owned(), json!(listing.hidden));
    }
    if catalog.streams.is_empty() {
        evidence.insert("note".to_owned(), json!(format!("empty: no {} files", format::SUPPORTED_FORMATS)));
    }
    evidence
}

/// The first few texts, and how many more there are.
fn first_of(texts: &[String]) -> String {
    let more = texts.len().saturating_sub(MAX_NAMED_FILES);
    let shown = texts.iter().take(MAX_NAMED_FILES).map(String::as_str).collect::<Vec<_>>().join("; ");
    if more == 0 { shown } else { format!("{shown}; and {more} more") }
}

const READ_FIX: &str =
    "compare the columns of the catalog with the file; a UTF-8 file with one header row and complete rows needs no guess";

/// The warning for one file whose reading needed a guess or found something irregular.
fn irregular(shown: &str, found: &Description) -> Option<Failure> {
    let (first, rest) = found.warnings.split_first()?;
    Some(Failure::new(Class::Remote, format!("{shown}: {first}"), READ_FIX).detail(first_of(rest)))
}

/// The warning for files of a directory.
fn several(shown: &str, warnings: &[String]) -> Option<Failure> {
    let count = counted(warnings.len(), "warning");
    (!warnings.is_empty())
        .then(|| Failure::new(Class::Remote, format!("the files in {shown} have {count}"), READ_FIX).detail(first_of(warnings)))
}

/// The failure for a directory that has entries, but no file in a supported format.
fn nothing_to_read(shown: &str, count: usize, first: &SkippedStream) -> Failure {
    Failure::new(
        Class::WrongService,
        format!("the folder {shown} has {}, but no file that aam can read", counted_entries(count)),
        format!("put files in one of the formats {} there, or name another folder in resource_ids", format::SUPPORTED_FORMATS),
    )
    .detail(format!("the first is {}: {}", first.name, first.reason))
}

fn counted_entries(count: usize) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// The warning for a directory without visible entries.
fn empty_directory(shown: &str, hidden: usize) -> Failure {
    let hidden = if hidden > 0 { format!("; its {} begin with a dot", counted_entries(hidden)) } else { String::new() };
    Failure::new(
        Class::NotFound,
        format!("the folder {shown} is empty{hidden}"),
        format!("put files in one of the formats {} there, or name another folder in resource_ids", format::SUPPORTED_FORMATS),
    )
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
