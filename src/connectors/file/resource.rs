//! A file or directory that was opened: identity, discovery, health and sample, without async and egress.

use super::format::{self, Format};
use super::place::{self, Facts, Found, Held, Root};
use super::source::{FIRST, GLANCE, Source};
use super::tree;
use crate::connectors::{Bounds, Discovery, Sample};
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Class, Evidence, Failure, Privilege, Timestamp};
use crate::policy::Files;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Writable files of a directory that are named in a verdict.
const NAMED: usize = 5;

/// What the resource id names, open.
pub struct Resource {
    id: String,
    root: Root,
    relative: PathBuf,
    facts: Facts,
    read: Arc<AtomicU64>,
    kind: Kind,
}

enum Kind {
    File(Source),
    Directory(Held),
}

impl Resource {
    /// Opens `id` below one of the roots and holds its bytes against its format.
    ///
    /// # Errors
    /// Those of [`place::find`] and [`Source::new`].
    pub fn open(id: &str, files: &Files) -> Result<Resource, Failure> {
        let Found { root, relative, held } = place::find(id, files)?;
        let read = Arc::new(AtomicU64::new(0));
        let facts = held.facts;
        let kind = match facts.directory {
            true => Kind::Directory(held),
            false => {
                let path = Path::new(id);
                let format = Format::from_path(path).ok_or_else(|| format::unserved(path))?;
                Kind::File(Source::new(held, format, root.shown(&relative), Arc::clone(&read), FIRST)?)
            }
        };
        Ok(Resource { id: id.to_owned(), root, relative, facts, read, kind })
    }

    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// What was met: path, size, time, device and inode.
    #[must_use]
    pub fn identity(&self) -> Evidence {
        let mut evidence = Evidence::new();
        let mut say = |key: &str, value| evidence.insert(key.to_owned(), value);
        say("path", json!(self.root.shown(&self.relative)));
        say("root", json!(self.root.words));
        match &self.kind {
            Kind::File(source) => {
                say("format", json!(source.format.as_str()));
                say("size_bytes", json!(self.facts.size));
            }
            Kind::Directory(_) => {
                say("format", json!("directory"));
            }
        }
        say("modified", json!(Timestamp(self.facts.modified).rfc3339()));
        say("device", json!(self.facts.device));
        say("inode", json!(self.facts.inode));
        evidence
    }

    /// Whether the process could write what it only reads. The kernel's answer counts: it knows mode
    /// bits, access lists, read-only mounts, and that root may do anything.
    #[must_use]
    pub fn privilege(&self) -> Privilege {
        let mut paths = vec![self.relative.clone()];
        if let Kind::Directory(held) = &self.kind
            && let Ok(listing) = tree::list(&self.root, &self.relative, held, NAMED)
        {
            paths.extend(listing.files.iter().map(|(name, _)| self.relative.join(name)));
        }
        let root = if rustix::process::geteuid().is_root() { " (it is root)" } else { "" };
        let mut grants = Vec::new();
        for path in paths {
            let shown = self.root.shown(&path);
            match self.root.writable(&path) {
                Ok(true) => grants.push(format!("the daemon's user{root} may write {shown}")),
                Ok(false) => {}
                Err(words) => return Privilege::Unknown { reason: format!("access of {shown}: {words}") },
            }
        }
        if grants.is_empty() { Privilege::Ok } else { Privilege::Over { grants } }
    }

    /// Streams, columns and types.
    ///
    /// # Errors
    /// Those of [`Source::describe`] for a file; for a directory only when no stream could be described
    /// and at least one should have been.
    pub fn discover(&self, bounds: Bounds) -> Result<Discovery, Failure> {
        let before = self.bytes();
        let (catalog, mut evidence) = match &self.kind {
            Kind::File(source) => self.discover_file(source, &bounds)?,
            Kind::Directory(held) => self.discover_directory(held, &bounds)?,
        };
        evidence.insert("streams".to_owned(), json!(catalog.streams.len()));
        evidence.insert("bytes_read".to_owned(), json!(self.bytes() - before));
        if catalog.truncated {
            evidence.insert("truncated".to_owned(), json!(true));
        }
        Ok(Discovery { catalog: catalog.sorted(), evidence })
    }

    fn discover_file(&self, source: &Source, bounds: &Bounds) -> Result<(Catalog, Evidence), Failure> {
        let found = source.describe(bounds)?;
        let mut evidence = found.notes.clone();
        evidence.insert("columns".to_owned(), json!(found.columns));
        evidence.insert("rows_seen".to_owned(), json!(found.rows_seen));
        let truncated = found.truncated;
        let streams = vec![found.stream(self.name())];
        Ok((Catalog { streams, truncated, skipped: Vec::new() }, evidence))
    }

    fn discover_directory(&self, held: &Held, bounds: &Bounds) -> Result<(Catalog, Evidence), Failure> {
        let begun = Instant::now();
        let listing = tree::list(&self.root, &self.relative, held, bounds.streams)?;
        let mut catalog = Catalog { streams: Vec::new(), truncated: listing.truncated, skipped: listing.skipped };
        let (mut columns, mut worst) = (0, None);
        for (name, format) in &listing.files {
            let left = bounds.bytes.saturating_sub(self.bytes());
            if begun.elapsed() >= bounds.time || left == 0 {
                catalog.truncated = true;
                break;
            }
            let described = self.member(name, *format).and_then(|source| source.describe(&Bounds { bytes: left, ..*bounds }));
            match described {
                Ok(found) => {
                    columns += found.columns;
                    catalog.truncated |= found.truncated;
                    catalog.streams.push(found.stream(name.clone()));
                }
                Err(failure) => {
                    let reason = [failure.title.as_str(), failure.detail.as_str()].join(": ");
                    catalog.skipped.push(SkippedStream::new(name.as_str(), reason.trim_end_matches(": ")));
                    worst = worst.or(Some(failure));
                }
            }
        }
        // Empty because nothing could be read is not the same as empty.
        if let (true, Some(failure)) = (catalog.streams.is_empty(), worst) {
            return Err(failure);
        }
        let mut evidence = Evidence::new();
        evidence.insert("columns".to_owned(), json!(columns));
        evidence.insert("skipped".to_owned(), json!(catalog.skipped.len()));
        if listing.hidden > 0 {
            evidence.insert("hidden".to_owned(), json!(listing.hidden));
        }
        if catalog.streams.is_empty() {
            evidence.insert("note".to_owned(), json!(format!("empty: no file in {}", format::SERVED)));
        }
        Ok((catalog, evidence))
    }

    /// Opens the path anew, reads its first bytes, and says whether it is still the same file.
    ///
    /// # Errors
    /// As [`Resource::open`]; `WrongService` when a directory took the place of a file, or the reverse.
    pub fn health(&self) -> Result<Evidence, Failure> {
        let before = self.bytes();
        let held = self.root.open_below(&self.relative)?;
        let now = held.facts;
        let mut evidence = Evidence::new();
        match (&self.kind, now.directory) {
            (Kind::File(source), false) => {
                Source::new(held, source.format, source.shown.clone(), Arc::clone(&self.read), GLANCE)?;
            }
            (Kind::Directory(_), true) => {
                tree::list(&self.root, &self.relative, &held, 1)?;
                evidence.insert("listed".to_owned(), json!(true));
            }
            _ => {
                return Err(Failure::new(
                    Class::WrongService,
                    format!("{} changed between file and directory", self.root.shown(&self.relative)),
                    "put back what resource_ids names, or correct resource_ids",
                ));
            }
        }
        let same = (now.device, now.inode) == (self.facts.device, self.facts.inode);
        evidence.insert("same_file".to_owned(), json!(same));
        evidence.insert("changed_since_open".to_owned(), json!(now != self.facts));
        evidence.insert("size_bytes".to_owned(), json!(now.size));
        evidence.insert("bytes_read".to_owned(), json!(self.bytes() - before));
        Ok(evidence)
    }

    /// The names of the files that a sample of `catalog` reads; none for a single file, which needs none.
    #[must_use]
    pub fn members(&self, catalog: &Catalog) -> Vec<String> {
        match self.kind {
            Kind::File(_) => Vec::new(),
            Kind::Directory(_) => catalog.streams.iter().map(|stream| stream.name.clone()).collect(),
        }
    }

    /// Reads at most `max_items` rows, from as many files as that takes, and counts them.
    ///
    /// # Errors
    /// Those of [`Source::count`]; in a directory a file that cannot be read is passed over and noted,
    /// unless none can be read.
    pub fn sample(&self, names: &[String], max_items: u32) -> Result<Sample, Failure> {
        let before = self.bytes();
        let most = usize::try_from(max_items).unwrap_or(usize::MAX);
        let mut evidence = Evidence::new();
        let rows = match &self.kind {
            Kind::File(source) => {
                let counted = source.count(most)?;
                evidence.insert("stream".to_owned(), json!(self.name()));
                evidence.insert("columns_read".to_owned(), json!(counted.columns));
                counted.rows
            }
            Kind::Directory(_) => self.sample_directory(names, most, &mut evidence)?,
        };
        evidence.insert("bytes_read".to_owned(), json!(self.bytes() - before));
        if rows == 0 {
            evidence.insert("note".to_owned(), json!("empty"));
        }
        Ok(Sample { rows: rows as u64, evidence })
    }

    fn sample_directory(&self, names: &[String], most: usize, evidence: &mut Evidence) -> Result<usize, Failure> {
        const BYTES: u64 = 64 << 20;
        let begun = self.bytes();
        let (mut rows, mut read, mut refused) = (0, Vec::new(), Vec::new());
        let mut worst = None;
        for name in names {
            if rows >= most || self.bytes() - begun >= BYTES {
                break;
            }
            let Some(format) = Format::from_path(Path::new(name)) else { continue };
            match self.member(name, format).and_then(|source| source.count(most - rows)) {
                Ok(counted) => {
                    rows += counted.rows;
                    read.push(name.as_str());
                }
                Err(failure) => {
                    refused.push(format!("{name}: {}", failure.title));
                    worst = worst.or(Some(failure));
                }
            }
        }
        if let (true, Some(failure)) = (read.is_empty(), worst) {
            return Err(failure);
        }
        evidence.insert("streams_read".to_owned(), json!(read.len()));
        read.truncate(NAMED);
        evidence.insert("stream".to_owned(), json!(read.join(", ")));
        if !refused.is_empty() {
            refused.truncate(NAMED);
            evidence.insert("not_read".to_owned(), json!(refused));
        }
        Ok(rows)
    }

    /// Opens one file of the directory; a name from a stored catalog is checked like any other path.
    fn member(&self, name: &str, format: Format) -> Result<Source, Failure> {
        let relative = self.relative.join(name);
        let held = self.root.open_below(&relative)?;
        let shown = self.root.shown(&relative);
        if held.facts.directory {
            return Err(Failure::new(Class::WrongService, format!("{shown} is a directory"), "name a file"));
        }
        Source::new(held, format, shown, Arc::clone(&self.read), FIRST)
    }

    fn name(&self) -> String {
        let last = Path::new(&self.id).file_name().map(|name| name.to_string_lossy().into_owned());
        last.unwrap_or_else(|| self.id.clone())
    }
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
