//! The form of the file: the mark of its form and the code of the fold, the records, the last row with its hash, and the
//! SHA-256 of all of it.

use super::super::private_files;
use crate::model::Digest;
use crate::snapshot::Snapshot;
use crate::snapshot::chain_rows::ChainRows;
use crate::snapshot::stored::{CODE, Decoder, Encoder};
use ring::digest::{Context, SHA256};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// The mark of this form of the file.
const MARK: &[u8; 8] = b"AAMfold1";
/// The length of the mark and of [`CODE`].
const HEADER_BYTES: u64 = 8 + 16;
/// The length of the last row's number and of the end.
const ANCHOR_BYTES: u64 = 8 + 32;
/// The length of what comes after the records.
const TRAILER_BYTES: u64 = ANCHOR_BYTES + 32;
/// The number of connections that are copied at a time. Commands wait for so long, which is less than a millisecond.
const PART: usize = 1000;
/// The number of bytes that are read at a time.
const READ_BYTES: usize = 256 << 10;

/// Why a stored fold is not used.
#[derive(Debug)]
pub(super) enum Unusable {
    Missing,
    /// This user may not read it.
    Denied,
    /// Another version of AAM wrote it.
    OtherCode,
    /// The ledger does not have the row that it ends with, or has another one.
    OtherLedger(u64),
    Damaged(String),
}

impl Unusable {
    /// The reason why the file is not used, or `None` if it does not exist.
    pub(super) fn reason(&self) -> Option<String> {
        Some(match self {
            Unusable::Missing => return None,
            Unusable::Denied => "this user may not read it".to_string(),
            Unusable::OtherCode => "another version of AAM wrote it".to_string(),
            Unusable::OtherLedger(seq) => format!(
                "row {seq} of the ledger is not the one that it ends with, so it belongs to another registry or to another copy of this one"
            ),
            Unusable::Damaged(why) => why.clone(),
        })
    }

    /// Logs why all of the ledger is folded.
    pub(super) fn log(&self, file: &Path) {
        const FOLDS: &str = "the stored fold is not used, so the whole ledger is folded";
        let (file, Some(why)) = (file.display(), self.reason()) else { return };
        match self {
            Unusable::OtherLedger(_) | Unusable::Damaged(_) => tracing::warn!(target: "aam::registry", %file, %why, "{FOLDS}"),
            _ => tracing::info!(target: "aam::registry", %file, %why, "{FOLDS}"),
        }
    }
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Unusable {
        match error.kind() {
            ErrorKind::NotFound => Unusable::Missing,
            ErrorKind::PermissionDenied => Unusable::Denied,
            _ => Unusable::Damaged(error.to_string()),
        }
    }
}

/// A file that this code can read. Whether its content is intact is not known yet.
pub(super) struct FoldFile {
    file: File,
    /// The length of the records.
    records: u64,
    /// The last row of the ledger that was folded.
    seq: u64,
    /// Its hash, or for several chains the digest of the last rows of all of them.
    pub end: Digest,
    /// The digest of everything before it.
    digest: [u8; 32],
}

impl FoldFile {
    pub(super) fn open(path: &Path) -> Result<FoldFile, Unusable> {
        // Another user may have put a FIFO there, which would block.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        let records = metadata.len().checked_sub(HEADER_BYTES + TRAILER_BYTES).filter(|_| metadata.is_file());
        let records = records.ok_or_else(|| Unusable::Damaged("it is not a whole file".to_string()))?;
        let (mark, code): ([u8; 8], [u8; 16]) = (array(&mut file)?, array(&mut file)?);
        if mark != *MARK || code != CODE.as_bytes() {
            return Err(Unusable::OtherCode);
        }
        file.seek(SeekFrom::Start(HEADER_BYTES + records))?;
        let (seq, end, digest) = (u64::from_le_bytes(array(&mut file)?), Digest(array(&mut file)?), array(&mut file)?);
        Ok(FoldFile { file, records, seq, end, digest })
    }

    /// Reads the fold into `empty`, a snapshot of no entry, and checks its digest.
    pub(super) fn read(mut self, empty: Snapshot) -> Result<Snapshot, Unusable> {
        self.file.rewind()?;
        let mut file = BufReader::with_capacity(READ_BYTES, self.file);
        let mut digest = Context::new(&SHA256);
        let (mut bytes, mut left, mut decoder) = (Vec::new(), self.records, Decoder::new(empty));
        take(&mut file, HEADER_BYTES, &mut bytes, &mut digest)?;
        while left > 0 {
            take(&mut file, 4, &mut bytes, &mut digest)?;
            let length = u64::from(bytes.as_slice().try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX));
            let rest = left.checked_sub(4 + length);
            left = rest.ok_or_else(|| Unusable::Damaged("a record is longer than the file".to_string()))?;
            take(&mut file, length, &mut bytes, &mut digest)?;
            decoder.record(&bytes).map_err(Unusable::Damaged)?;
        }
        take(&mut file, ANCHOR_BYTES, &mut bytes, &mut digest)?;
        if digest.finish().as_ref() != self.digest {
            return Err(Unusable::Damaged("its content does not have the digest that it names".to_string()));
        }
        let snapshot = decoder.finish().map_err(Unusable::Damaged)?;
        match snapshot.seq == self.seq {
            true => Ok(snapshot),
            false => Err(Unusable::Damaged("it names another last row than it holds".to_string())),
        }
    }
}

fn array<const N: usize>(file: &mut File) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads `length` bytes into `bytes`, which must not be more than the file has.
fn take(file: &mut impl Read, length: u64, bytes: &mut Vec<u8>, digest: &mut Context) -> io::Result<()> {
    bytes.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
    file.read_exact(bytes)?;
    digest.update(bytes);
    Ok(())
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub seq: u64,
    pub bytes: u64,
}

/// Writes the fold of `snapshot` to `path`, while entries are applied to it. `end` returns the end of a fold with the last row and
/// the rows of the chains that it is given.
/// The file gets its name only once it is complete and on disk.
///
/// # Errors
/// Why it was not written. The file that was there stays.
pub(super) fn write(
    path: &Path,
    snapshot: &RwLock<Snapshot>,
    end: impl FnOnce(u64, &ChainRows) -> Result<Digest, String>,
) -> Result<Written, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let mut out = HashedFile::create(&partial).map_err(|error| error.to_string())?;
    snapshot.write().unwrap_or_else(PoisonError::into_inner).begin_copy();
    let copied = copy(&mut out, snapshot);
    snapshot.write().unwrap_or_else(PoisonError::into_inner).end_copy();
    let written = copied.and_then(|(seq, rows)| Ok((seq, end(seq, &rows)?))).and_then(|(seq, end)| {
        let bytes = out.complete(seq, &end).and_then(|bytes| std::fs::rename(&partial, path).map(|()| bytes));
        Ok(Written { seq, bytes: bytes.map_err(|error| error.to_string())? })
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Writes the records of the snapshot, without holding it for long. Returns the last row that they contain, and the rows of each
/// chain.
fn copy(out: &mut HashedFile, snapshot: &RwLock<Snapshot>) -> Result<(u64, ChainRows), String> {
    let (mut encoder, mut last) = (Encoder::default(), None);
    loop {
        let known = snapshot.read().unwrap_or_else(PoisonError::into_inner);
        last = known.copy_connections(&mut encoder, last, PART)?;
        if last.is_none() {
            known.copy_rest(&mut encoder)?;
        }
        let (seq, rows) = (known.seq, if last.is_none() { known.chain_rows.clone() } else { ChainRows::default() });
        drop(known);
        out.write(&encoder.take()).map_err(|error| error.to_string())?;
        if last.is_none() {
            return Ok((seq, rows));
        }
    }
}

/// A file with the digest of what was written to it.
struct HashedFile {
    file: File,
    digest: Context,
    bytes: u64,
}

impl HashedFile {
    fn create(path: &Path) -> io::Result<HashedFile> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(private_files::FILE_MODE).open(path)?;
        let mut file = HashedFile { file, digest: Context::new(&SHA256), bytes: 0 };
        file.write(MARK)?;
        file.write(CODE.as_bytes())?;
        Ok(file)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.bytes += u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.file.write_all(bytes)
    }

    /// Writes the end of the file and waits until it is on disk. Returns its length.
    fn complete(mut self, seq: u64, end: &Digest) -> io::Result<u64> {
        self.write(&seq.to_le_bytes())?;
        self.write(&end.0)?;
        self.file.write_all(self.digest.finish().as_ref())?;
        self.file.sync_all()?;
        Ok(self.bytes + 32)
    }
}
