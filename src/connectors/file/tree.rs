//! Lists the files of a directory in a fixed order, down to a maximum depth.

use super::format::{self, Format};
use super::place::{OpenEntry, Root};
use crate::model::Failure;
use crate::model::catalog::SkippedStream;
use rustix::fs::{Dir, FileType};
use std::path::{Path, PathBuf};

/// Limit on the levels of nested directories that are listed.
const MAX_DEPTH: usize = 8;
/// Limit on the directory entries that one listing examines.
const MAX_ENTRIES: usize = 20_000;

/// The content of a directory.
#[derive(Debug, Default)]
pub struct DirectoryListing {
    /// Names relative to the directory, with their formats, sorted.
    pub files: Vec<(String, Format)>,
    pub skipped: Vec<SkippedStream>,
    /// Entries whose names begin with a dot. They are not read.
    pub hidden: usize,
    pub truncated: bool,
}

struct DirectoryWalk<'a> {
    root: &'a Root,
    base: &'a Path,
    max_files: usize,
    entries: usize,
    listing: DirectoryListing,
}

/// Lists the directory at `base` below `root`, at most `max_files` files.
///
/// # Errors
/// `Remote` if the directory itself cannot be listed. A subdirectory that cannot be listed is skipped
/// with its reason.
pub fn list(root: &Root, base: &Path, entry: &OpenEntry, max_files: usize) -> Result<DirectoryListing, Failure> {
    let mut walk = DirectoryWalk { root, base, max_files, entries: 0, listing: DirectoryListing::default() };
    walk.directory(entry, Path::new(""), 0)?;
    walk.listing.files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(walk.listing)
}

impl DirectoryWalk<'_> {
    fn directory(&mut self, entry: &OpenEntry, inside: &Path, depth: usize) -> Result<(), Failure> {
        let shown = self.root.display_path(&self.base.join(inside));
        let unlistable = |errno: rustix::io::Errno| {
            Failure::new(
                crate::model::Class::Remote,
                format!("the directory {shown} cannot be listed"),
                "check the file system: df, mount, dmesg; aam retries automatically",
            )
            .detail(std::io::Error::from(errno).to_string())
        };
        let mut names = Vec::new();
        for item in Dir::read_from(&entry.file).map_err(unlistable)? {
            let item = item.map_err(unlistable)?;
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                self.listing.truncated = true;
                break;
            }
            match std::str::from_utf8(name) {
                Ok(name) if name.starts_with('.') => self.listing.hidden += 1,
                Ok(name) => names.push((name.to_owned(), item.file_type())),
                Err(_) => self.skip(&inside.join(String::from_utf8_lossy(name).as_ref()), "its name is not UTF-8"),
            }
        }
        // The entries are sorted, because the order of a file system can change with every write and the catalog must not change.
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            if self.listing.files.len() >= self.max_files {
                self.listing.truncated = true;
                break;
            }
            self.add_entry(&inside.join(name), kind, depth);
        }
        Ok(())
    }

    fn add_entry(&mut self, inside: &Path, kind: FileType, depth: usize) {
        let kind = match kind {
            FileType::Symlink | FileType::Unknown => match self.root.open_below(&self.base.join(inside)) {
                Ok(entry) if entry.stat.directory && kind == FileType::Symlink => {
                    return self.skip(inside, "links to directories are not followed");
                }
                Ok(entry) if entry.stat.directory => FileType::Directory,
                Ok(_) => FileType::RegularFile,
                Err(failure) => return self.skip(inside, &failure.title),
            },
            known => known,
        };
        match kind {
            FileType::Directory if depth + 1 >= MAX_DEPTH => {
                self.listing.truncated = true;
                self.skip(inside, &format!("nested deeper than {MAX_DEPTH} directories"));
            }
            FileType::Directory => self.descend(inside, depth),
            FileType::RegularFile => match (Format::from_path(inside), inside.to_str()) {
                (Some(format), Some(name)) => self.listing.files.push((name.to_owned(), format)),
                _ => {
                    let reason = format::unsupported(inside).title;
                    self.skip(inside, &reason);
                }
            },
            _ => self.skip(inside, "not a regular file"),
        }
    }

    fn descend(&mut self, inside: &Path, depth: usize) {
        let below: PathBuf = self.base.join(inside);
        let listed = self.root.open_below(&below).and_then(|entry| self.directory(&entry, inside, depth + 1));
        if let Err(failure) = listed {
            // The files in this directory are unknown, which does not mean that they are gone.
            self.listing.truncated = true;
            self.skip(inside, &failure.title);
        }
    }

    fn skip(&mut self, inside: &Path, reason: &str) {
        if self.listing.skipped.len() >= self.max_files {
            self.listing.truncated = true;
            return;
        }
        self.listing.skipped.push(SkippedStream::new(inside.display().to_string(), reason));
    }
}
