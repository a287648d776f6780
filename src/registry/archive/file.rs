//! The archive file: lines of JSON in order, in gzip members of about 256 KiB, and a last member with the index of the others. A
//! reader decompresses only the members that it needs, and `zcat` prints the whole file.

use super::super::{RegistryError, private_files};
use super::ArchiveProblem;
use crate::model::Digest;
use crate::model::ledger::Archived;
use crate::operator_file;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ring::digest::{Context, SHA256};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// From this length on, a member is complete. It is longer if its last line is.
const MEMBER_BYTES: usize = 256 << 10;
/// The maximum length of a member after decompression. A longer one was not written by AAM.
const MAX_MEMBER_BYTES: u64 = 256 << 20;

/// The last member of a file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The number of the first line of each member, and where the member begins.
    members: Vec<(u64, u64)>,
}

/// Writes a new archive file. It gets its name only once it is complete and on disk.
pub struct ArchiveWriter {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    digest: Context,
    bytes: u64,
    member: Vec<u8>,
    index: Index,
    first: Option<u64>,
    last: u64,
    count: u64,
}

impl ArchiveWriter {
    /// Begins a file with this name in `folder`, which is created if it does not exist.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(folder: &Path, name: &str) -> io::Result<ArchiveWriter> {
        private_files::create_folder(folder)?;
        let partial = folder.join(format!(".{name}.partial"));
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(private_files::FILE_MODE).open(&partial)?;
        Ok(ArchiveWriter {
            file,
            path: folder.join(name),
            partial,
            digest: Context::new(&SHA256),
            bytes: 0,
            member: Vec::new(),
            index: Index::default(),
            first: None,
            last: 0,
            count: 0,
        })
    }

    /// Adds the line with this number, which is greater than those before.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, number: u64, line: &impl Serialize) -> io::Result<()> {
        if self.member.is_empty() {
            self.index.members.push((number, self.bytes));
        }
        serde_json::to_writer(&mut self.member, line)?;
        self.member.push(b'\n');
        self.first = self.first.or(Some(number));
        (self.last, self.count) = (number, self.count + 1);
        if self.member.len() >= MEMBER_BYTES { self.write_member() } else { Ok(()) }
    }

    /// Writes what is left and the index, waits until the file is on disk, and gives it its name. Returns what the ledger says
    /// about it; the caller adds what it knows.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self) -> io::Result<Archived> {
        if !self.member.is_empty() {
            self.write_member()?;
        }
        let index = self.bytes;
        self.member = serde_json::to_vec(&self.index)?;
        self.member.push(b'\n');
        self.write_member()?;
        self.file.sync_all()?;
        std::fs::rename(&self.partial, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Archived {
            file: name,
            sha256: finished(self.digest),
            bytes: self.bytes,
            index,
            first: self.first.unwrap_or_default(),
            last: self.last,
            hash: None,
            count: self.count,
            before: crate::model::Timestamp(0),
        })
    }

    fn write_member(&mut self) -> io::Result<()> {
        let mut encoder = GzEncoder::new(Vec::with_capacity(MEMBER_BYTES / 4), Compression::default());
        encoder.write_all(&self.member)?;
        let packed = encoder.finish()?;
        self.file.write_all(&packed)?;
        self.digest.update(&packed);
        self.bytes += packed.len() as u64;
        self.member.clear();
        Ok(())
    }
}

fn finished(digest: Context) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    Digest(bytes)
}

/// An archive file that is open for reading.
pub struct ArchiveFile {
    file: File,
    path: PathBuf,
    archived: Archived,
    index: Index,
}

impl ArchiveFile {
    /// Opens the file that the ledger names. Only its length is checked, and what is read.
    ///
    /// # Errors
    /// [`RegistryError::Archive`] that says what is wrong with the file and how to get it back.
    pub fn open(folder: &Path, archived: &Archived) -> Result<ArchiveFile, RegistryError> {
        let path = folder.join(&archived.file);
        let opened = operator_file::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = opened.map_err(|error| unreadable(&path, archived, &error))?;
        if bytes != archived.bytes {
            return Err(damaged(&path, archived, format!("has {bytes} bytes instead of {}", archived.bytes)));
        }
        let mut open = ArchiveFile { file, path, archived: archived.clone(), index: Index::default() };
        let text = open.member_at(archived.index, bytes)?;
        open.index = serde_json::from_slice(&text).map_err(|error| open.damaged(format!("has no index: {error}")))?;
        Ok(open)
    }

    /// The number of members with lines.
    pub fn members(&self) -> usize {
        self.index.members.len()
    }

    /// The member that has line `number` if the file has it.
    pub fn member_of(&self, number: u64) -> usize {
        self.index.members.partition_point(|(first, _)| *first <= number).saturating_sub(1)
    }

    /// The lines of a member, in order.
    ///
    /// # Errors
    /// As [`ArchiveFile::open`].
    pub fn lines<T: DeserializeOwned>(&mut self, member: usize) -> Result<Vec<T>, RegistryError> {
        let at = |index: usize| self.index.members.get(index).map(|(_, at)| *at);
        let Some(begins) = at(member) else { return Ok(Vec::new()) };
        let ends = at(member + 1).unwrap_or(self.archived.index);
        let text = self.member_at(begins, ends)?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(serde_json::from_slice).collect::<Result<_, _>>().map_err(|error| self.damaged(error.to_string()))
    }

    /// Decompresses the member from `begins` until before `ends`.
    fn member_at(&mut self, begins: u64, ends: u64) -> Result<Vec<u8>, RegistryError> {
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(begins)).map_err(|error| unreadable(&self.path, &self.archived, &error))?;
        let packed = Read::take(&mut self.file, ends.saturating_sub(begins));
        let read = GzDecoder::new(packed).take(MAX_MEMBER_BYTES + 1).read_to_end(&mut text);
        match read {
            Ok(length) if length as u64 <= MAX_MEMBER_BYTES => Ok(text),
            Ok(_) => Err(self.damaged("has a part that AAM does not write")),
            Err(error) => Err(self.damaged(format!("was changed: {error}"))),
        }
    }

    fn damaged(&self, why: impl Into<String>) -> RegistryError {
        damaged(&self.path, &self.archived, why)
    }
}

/// Compares the whole file with its digest in the ledger.
///
/// # Errors
/// As [`ArchiveFile::open`].
pub fn check(folder: &Path, archived: &Archived) -> Result<(), RegistryError> {
    let path = folder.join(&archived.file);
    let failed = |error: io::Error| unreadable(&path, archived, &error);
    let mut file = operator_file::open(&path).map_err(failed)?;
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            length => digest.update(buffer.get(..length).unwrap_or_default()),
        }
    }
    match finished(digest) == archived.sha256 {
        true => Ok(()),
        false => Err(damaged(&path, archived, "was changed: it does not have the digest that the ledger names")),
    }
}

fn unreadable(path: &Path, archived: &Archived, error: &io::Error) -> RegistryError {
    RegistryError::Archive(Box::new(ArchiveProblem::unreadable(path, archived, error)))
}

/// What is wrong with the file, and how to get it back.
pub fn damaged(path: &Path, archived: &Archived, why: impl Into<String>) -> RegistryError {
    RegistryError::Archive(Box::new(ArchiveProblem::damaged(path, archived, why)))
}

/// Copies a file into the folder `to`, unless it has the file already.
///
/// # Errors
/// If the file is missing or damaged, or cannot be written.
pub fn copy(from: &Path, to: &Path, archived: &Archived) -> Result<(), RegistryError> {
    if from == to || check(to, archived).is_ok() {
        return Ok(());
    }
    check(from, archived)?;
    let (partial, path) = (to.join(format!(".{}.partial", archived.file)), to.join(&archived.file));
    let copied = private_files::create_folder(to).and_then(|()| {
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut source = operator_file::open(&from.join(&archived.file))?;
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(private_files::FILE_MODE).open(&partial)?;
        io::copy(&mut source, &mut copy)?;
        copy.sync_all()?;
        std::fs::rename(&partial, &path)?;
        File::open(to)?.sync_all()
    });
    copied.map_err(|error| RegistryError::Io { path, error })?;
    check(to, archived)
}
