//! The files of a directory, down to a depth, in a fixed order.

use super::format::{self, Format};
use super::place::{Held, Root};
use crate::model::Failure;
use crate::model::catalog::SkippedStream;
use rustix::fs::{Dir, FileType};
use std::path::{Path, PathBuf};

/// Directories in directories.
const DEPTH: usize = 8;
/// Directory entries that are looked at.
const ENTRIES: usize = 20_000;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Names relative to the directory, with their formats, sorted.
    pub files: Vec<(String, Format)>,
    pub skipped: Vec<SkippedStream>,
    /// Names that begin with a dot are nobody's data.
    pub hidden: usize,
    pub truncated: bool,
}

struct Walk<'a> {
    root: &'a Root,
    base: &'a Path,
    most: usize,
    entries: usize,
    found: Listing,
}

/// Lists the directory at `base` below `root`, at most `most` files.
///
/// # Errors
/// When the directory itself cannot be read; one below it that cannot is skipped with its reason.
pub fn list(root: &Root, base: &Path, held: &Held, most: usize) -> Result<Listing, Failure> {
    let mut walk = Walk { root, base, most, entries: 0, found: Listing::default() };
    walk.directory(held, Path::new(""), 0)?;
    walk.found.files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(walk.found)
}

impl Walk<'_> {
    fn directory(&mut self, held: &Held, inside: &Path, depth: usize) -> Result<(), Failure> {
        let shown = self.root.shown(&self.base.join(inside));
        let unread = |errno: rustix::io::Errno| {
            Failure::new(
                crate::model::Class::Remote,
                format!("the directory {shown} cannot be listed"),
                "look at the file system: df, mount, dmesg; aam tries again by itself",
            )
            .detail(std::io::Error::from(errno).to_string())
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&held.file).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES {
                self.found.truncated = true;
                break;
            }
            match std::str::from_utf8(name) {
                Ok(name) if name.starts_with('.') => self.found.hidden += 1,
                Ok(name) => names.push((name.to_owned(), entry.file_type())),
                Err(_) => self.skip(&inside.join(String::from_utf8_lossy(name).as_ref()), "its name is not UTF-8"),
            }
        }
        // The order of a directory changes with every write; the catalog must not.
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            if self.found.files.len() >= self.most {
                self.found.truncated = true;
                break;
            }
            self.entry(&inside.join(name), kind, depth);
        }
        Ok(())
    }

    fn entry(&mut self, inside: &Path, kind: FileType, depth: usize) {
        let kind = match kind {
            FileType::Symlink | FileType::Unknown => match self.root.open_below(&self.base.join(inside)) {
                Ok(held) if held.facts.directory && kind == FileType::Symlink => {
                    return self.skip(inside, "a link to a directory is not followed");
                }
                Ok(held) if held.facts.directory => FileType::Directory,
                Ok(_) => FileType::RegularFile,
                Err(failure) => return self.skip(inside, &failure.title),
            },
            known => known,
        };
        match kind {
            FileType::Directory if depth + 1 >= DEPTH => {
                self.found.truncated = true;
                self.skip(inside, &format!("deeper than {DEPTH} directories"));
            }
            FileType::Directory => self.descend(inside, depth),
            FileType::RegularFile => match (Format::from_path(inside), inside.to_str()) {
                (Some(format), Some(name)) => self.found.files.push((name.to_owned(), format)),
                _ => {
                    let reason = format::unserved(inside).title;
                    self.skip(inside, &reason);
                }
            },
            _ => self.skip(inside, "not a regular file"),
        }
    }

    fn descend(&mut self, inside: &Path, depth: usize) {
        let below: PathBuf = self.base.join(inside);
        let read = self.root.open_below(&below).and_then(|held| self.directory(&held, inside, depth + 1));
        if let Err(failure) = read {
            // Its files are unknown, not gone.
            self.found.truncated = true;
            self.skip(inside, &failure.title);
        }
    }

    fn skip(&mut self, inside: &Path, reason: &str) {
        if self.found.skipped.len() >= self.most {
            self.found.truncated = true;
            return;
        }
        self.found.skipped.push(SkippedStream::new(inside.display().to_string(), reason));
    }
}
