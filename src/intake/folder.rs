//! What changed below the intents folder since the last accepted scan.
//!
//! [`listing`] and [`read`] access the files; this module decides what their state means. A scan alone does not change
//! what the scanner remembers: the caller calls [`Scanner::accept`] once it has stored the result. Until then every scan
//! reports the same again, so that a full disk loses nothing.

use super::listing::{self, Identity, ListedFile, Listing};
use super::read;
use super::scan::{FileReport, Mark, Scan};
use super::wire::{self, Fault, Format, Limits};
use crate::model::text::counted;
use crate::model::{Digest, Problem, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that was modified less than this ago may be modified again within the same tick of the file system's clock.
const FRESH_MS: i64 = 20;

/// The number of files that one scan reads, which bounds memory. The next scan reads the rest.
const BATCH_SIZE: usize = 8192;

/// The number of problems of one file that are reported. Ten thousand copies of one mistake would not help anyone.
const MAX_PROBLEMS: usize = 200;

/// The number of changed files from which they are read on several threads.
const PARALLEL_FROM: usize = 32;

struct KnownFile {
    mark: Mark,
    /// The number of the scan that listed the file last.
    listed_in: u32,
}

/// What is remembered between scans, about 130 bytes per file.
pub struct Scanner {
    root: PathBuf,
    limits: Limits,
    batch: usize,
    marks: HashMap<Box<str>, KnownFile>,
    problems: BTreeMap<Arc<str>, Vec<Problem>>,
    identity: Option<Identity>,
    /// The device and inode of each sub-folder that held files.
    folders: BTreeMap<Arc<str>, Identity>,
    round: u32,
}

impl Scanner {
    /// A scanner that does not know any file yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, limits: Limits) -> Scanner {
        Scanner {
            root: root.into(),
            limits,
            batch: BATCH_SIZE,
            marks: HashMap::new(),
            problems: BTreeMap::new(),
            identity: None,
            folders: BTreeMap::new(),
            round: 1,
        }
    }

    /// A scanner that starts from the marks that an earlier process stored.
    #[must_use]
    pub fn from_marks(root: impl Into<PathBuf>, limits: Limits, marks: impl IntoIterator<Item = (String, Mark)>) -> Scanner {
        let mut scanner = Scanner::new(root, limits);
        for (path, mark) in marks {
            if path.ends_with('/') {
                scanner.folders.insert(path.into(), (mark.stamp.size, mark.stamp.inode));
            } else {
                scanner.marks.insert(path.into(), KnownFile { mark, listed_in: 0 });
            }
        }
        scanner
    }

    /// Sets the number of files that one scan reads.
    #[must_use]
    pub fn batch(self, files: usize) -> Scanner {
        Scanner { batch: files.max(1), ..self }
    }

    /// The folder that is scanned.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Lists the folder, reads the files that changed and finds those that are gone. `now` is the wall clock, which file
    /// times are compared with.
    pub fn scan(&mut self, now: Timestamp) -> Scan {
        self.round = self.round.wrapping_add(1);
        let (listing, dirty, files) = self.stat_all();
        let (dirty, more) = self.batched(dirty);
        let mut scan = Scan { files, more, needs_scan: more, root: listing.root, ..Scan::default() };
        for (path, outcome) in self.read_all(dirty) {
            self.add_outcome(path, outcome, now, &mut scan);
        }
        scan.folder = listing.folder.clone().or_else(|| self.suspicious_emptiness(&listing, files));
        // While files are waiting to be read, a renamed file would count as gone before its new name is read.
        let mut replaced = Vec::new();
        if scan.folder.is_none() && !more {
            replaced = self.replaced_folders(&listing);
            self.find_gone(&listing, &replaced, &mut scan);
            self.compare_folders(&listing, &replaced, &mut scan);
        }
        scan.ignored = listing.ignored.clone();
        self.gather_problems(listing, &replaced, &mut scan);
        scan
    }

    /// Reads files again whose modification time was too recent to be trusted. Returns `None` if one of them has changed
    /// or cannot be read; then a full [`Scanner::scan`] is needed.
    pub fn reread(&mut self, paths: &[Arc<str>], now: Timestamp) -> Option<Scan> {
        let mut scan = Scan { root: self.identity, ..Scan::default() };
        for path in paths {
            let outcome = self.outcome(path, &ListedFile::Readable(Mark::NONE.stamp));
            if !matches!(outcome, ReadOutcome::Same { .. }) {
                return None;
            }
            self.add_outcome(Arc::clone(path), outcome, now, &mut scan);
        }
        Some(scan)
    }

    /// Remembers the result of `scan`. Call this once the result is stored.
    pub fn accept(&mut self, scan: &Scan) {
        for report in &scan.changed {
            self.remember(&report.path, report.mark);
            if report.problems.is_empty() {
                self.problems.remove(&report.path);
            } else {
                self.problems.insert(Arc::clone(&report.path), report.problems.clone());
            }
        }
        for (path, mark, _) in &scan.touched {
            self.remember(path, *mark);
        }
        for path in &scan.gone {
            self.marks.remove(path.as_ref());
            self.problems.remove(path);
        }
        for (path, identity) in &scan.folders {
            match identity {
                Some(identity) => drop(self.folders.insert(Arc::clone(path), *identity)),
                None => drop(self.folders.remove(path)),
            }
        }
        if scan.folder.is_none() {
            self.identity = scan.root;
        }
    }

    fn remember(&mut self, path: &str, mark: Mark) {
        let known = KnownFile { mark, listed_in: self.round };
        match self.marks.get_mut(path) {
            Some(slot) => *slot = known,
            None => drop(self.marks.insert(path.into(), known)),
        }
    }

    /// Lists the folder with one stat per file. A file that did not change costs a look-up and no allocation.
    fn stat_all(&mut self) -> (Listing, Vec<(Arc<str>, ListedFile)>, usize) {
        let (marks, round) = (&mut self.marks, self.round);
        let (mut dirty, mut files) = (Vec::new(), 0);
        let listing = listing::list(&self.root, &mut |path, listed| {
            files += 1;
            let known = marks.get_mut(path).map(|known| {
                known.listed_in = round;
                known.mark.stamp
            });
            if known.is_none() || listed != ListedFile::Readable(known.unwrap_or(Mark::NONE.stamp)) {
                dirty.push((Arc::from(path), listed));
            }
        });
        (listing, dirty, files)
    }

    /// The files to read now, new files first. Files with problems are read in every scan and do not count towards the
    /// batch, because otherwise many of them could delay a new file forever.
    fn batched(&self, dirty: Vec<(Arc<str>, ListedFile)>) -> (Vec<(Arc<str>, ListedFile)>, bool) {
        let (with_problems, mut dirty): (Vec<_>, Vec<_>) =
            dirty.into_iter().partition(|(path, _)| self.problems.contains_key(path));
        let more = dirty.len() > self.batch;
        dirty.sort_by_cached_key(|(path, _)| (self.marks.contains_key(path.as_ref()), Arc::clone(path)));
        dirty.truncate(self.batch);
        dirty.extend(with_problems);
        dirty.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        (dirty, more)
    }

    /// Reads and parses files, on several threads if there are many.
    fn read_all(&self, dirty: Vec<(Arc<str>, ListedFile)>) -> Vec<(Arc<str>, ReadOutcome)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let one = |(path, listed): &(Arc<str>, ListedFile)| (Arc::clone(path), self.outcome(path, listed));
        if dirty.len() < PARALLEL_FROM || cores == 1 {
            return dirty.iter().map(one).collect();
        }
        std::thread::scope(|scope| {
            let parts: Vec<_> = dirty.chunks(dirty.len().div_ceil(cores)).collect();
            let workers: Vec<_> =
                parts.iter().map(|part| (scope.spawn(|| part.iter().map(one).collect::<Vec<_>>()), *part)).collect();
            // The share of a worker that panicked is read again on this thread, whose panics the caller handles.
            workers
                .into_iter()
                .flat_map(|(worker, part)| worker.join().unwrap_or_else(|_| part.iter().map(one).collect()))
                .collect()
        })
    }

    fn outcome(&self, path: &Arc<str>, listed: &ListedFile) -> ReadOutcome {
        let full = self.root.join(path.as_ref());
        let name = full.display().to_string();
        let unusable = |why: String| {
            let problem =
                Problem::new("", why).hint("what this file desired before is kept until the file can be read or is removed");
            ReadOutcome::Unusable(vec![problem.in_file(name.clone())])
        };
        let content = match listed {
            ListedFile::Unusable(why) => return unusable(why.clone()),
            ListedFile::Readable(_) => match read::read(&full, &self.limits) {
                Ok(content) => content,
                Err(why) => return unusable(why),
            },
        };
        let digest = Digest::from_bytes(&content.bytes);
        let mut half = [0; 16];
        half.copy_from_slice(&digest.0[..16]);
        let mark = Mark { stamp: content.stamp, content: half };
        let before = self.marks.get(path.as_ref()).map(|known| known.mark.content);
        if before == Some(half) {
            return ReadOutcome::Same { mark, unstable: content.unstable };
        }
        ReadOutcome::Read {
            report: Box::new(report(path, &name, &content.bytes, &self.limits, mark)),
            unstable: content.unstable,
        }
    }

    fn add_outcome(&self, path: Arc<str>, outcome: ReadOutcome, now: Timestamp, scan: &mut Scan) {
        let mut distrust_if_fresh = |mark: &mut Mark, unstable: bool| {
            let age = now.0.saturating_sub(mark.stamp.mtime_ns.div_euclid(1_000_000));
            // A time more than a minute in the future comes from a wrong clock, not from a recent write.
            if unstable || (-60_000..=FRESH_MS).contains(&age) {
                mark.stamp = Mark::NONE.stamp;
                scan.needs_scan = true;
                scan.fresh.push(Arc::clone(&path));
            }
        };
        match outcome {
            ReadOutcome::Same { mut mark, unstable } => {
                distrust_if_fresh(&mut mark, unstable);
                if self.marks.get(path.as_ref()).is_none_or(|known| known.mark != mark) {
                    let complete = !self.problems.contains_key(&path);
                    scan.touched.push((path, mark, complete));
                }
            }
            ReadOutcome::Read { mut report, unstable } => {
                distrust_if_fresh(&mut report.mark, unstable);
                scan.changed.push(*report);
            }
            // An unreadable file is tried in every scan, because permissions can change without a change of its stamp.
            // It is reported once.
            ReadOutcome::Unusable(problems) if self.problems.get(&path) != Some(&problems) => {
                scan.changed.push(FileReport {
                    path,
                    intents: Vec::new(),
                    warnings: Vec::new(),
                    problems,
                    unreadable: true,
                    mark: Mark::NONE,
                });
            }
            ReadOutcome::Unusable(_) => {}
        }
    }

    /// Reports an empty folder that is not the folder of the last scan. It is more likely a missing mount than a request
    /// to withdraw everything. After a restart, the folder of the last scan is not known, so it may also have been emptied.
    fn suspicious_emptiness(&self, listing: &Listing, files: usize) -> Option<Problem> {
        let suspicious = files == 0 && !self.marks.is_empty() && listing.root.is_some() && listing.root != self.identity;
        suspicious.then(|| {
            let files = counted(self.marks.len(), "file");
            let message = match self.identity {
                Some(_) => format!(
                    "the intents folder is empty and is not the same folder as before, which had {files}; nothing is withdrawn"
                ),
                None => format!(
                    "the intents folder is empty and had {files} when it was last read: it was emptied, or its mount is missing; nothing is withdrawn"
                ),
            };
            let hint =
                "mount or restore the folder; if it is meant to be empty, put a file none.json with the content [] into it";
            Problem::new("", message).hint(hint).in_file(self.root.display().to_string())
        })
    }

    /// The sub-folders, ending with `/`, that held files, are now empty and are not the same folder as before: another
    /// device or inode. Each is more likely a lost mount than a request to withdraw everything below it.
    fn replaced_folders(&self, listing: &Listing) -> Vec<Arc<str>> {
        let is_replaced = |(path, before): &(&Arc<str>, &Identity)| {
            let now = listing.folders.get(path.trim_end_matches('/'));
            let empty = || {
                let below = listing.folders.iter().filter(|(name, _)| below(name, path));
                below.map(|(_, (_, documents))| documents).sum::<usize>() == 0
            };
            now.is_some_and(|(identity, _)| identity != *before)
                && empty()
                && self.marks.keys().any(|file| file.starts_with(&***path))
        };
        self.folders.iter().filter(is_replaced).map(|(path, _)| Arc::clone(path)).collect()
    }

    /// Notes the sub-folders that are new, changed or gone, except those in `replaced`, which are compared again.
    fn compare_folders(&self, listing: &Listing, replaced: &[Arc<str>], scan: &mut Scan) {
        let held = |path: &str| replaced.iter().any(|folder| path.starts_with(&**folder));
        for (name, (identity, documents)) in &listing.folders {
            let path: Arc<str> = format!("{name}/").into();
            let known = self.folders.get(&path);
            if known != Some(identity) && (known.is_some() || *documents > 0) && !held(&path) {
                scan.folders.push((path, Some(*identity)));
            }
        }
        let gone = self.folders.keys().filter(|path| {
            let name = path.trim_end_matches('/');
            !listing.folders.contains_key(name)
                && !held(path)
                && !listing.may_hide(path)
                && !listing::is_there(&self.root.join(name))
        });
        scan.folders.extend(gone.map(|path| (Arc::clone(path), None)));
    }

    fn find_gone(&self, listing: &Listing, replaced: &[Arc<str>], scan: &mut Scan) {
        let held = |path: &str| listing.may_hide(path) || replaced.iter().any(|folder| path.starts_with(&**folder));
        let unlisted = self.marks.iter().filter(|(path, known)| known.listed_in != self.round && !held(path));
        for (path, known) in unlisted {
            // A listing may miss a name while its folder changes, but hardly twice in a row.
            let missed_once = known.listed_in == self.round.wrapping_sub(1);
            if missed_once && listing.changing.contains(listing::parent(path)) {
                (scan.needs_scan, scan.missed) = (true, true);
            } else if !listing::is_there(&self.root.join(path.as_ref())) {
                scan.gone.push(Arc::from(path.as_ref()));
            }
        }
        scan.gone.sort_unstable();
    }

    fn gather_problems(&self, listing: Listing, replaced: &[Arc<str>], scan: &mut Scan) {
        let lost_mounts: Vec<Problem> = replaced.iter().map(|folder| self.lost_mount(folder)).collect();
        let replaced: HashSet<&str> =
            scan.changed.iter().map(|report| report.path.as_ref()).chain(scan.gone.iter().map(AsRef::as_ref)).collect();
        let old = self.problems.iter().filter(|(path, _)| !replaced.contains(path.as_ref())).flat_map(|(_, problems)| problems);
        let mut all: Vec<Problem> = scan.folder.iter().cloned().chain(listing.problems).collect();
        all.extend(lost_mounts);
        all.extend(self.broken_links(&listing.broken_links));
        all.extend(old.chain(scan.changed.iter().flat_map(|report| &report.problems)).cloned());
        all.sort_by(|a, b| (&a.file, a.place, &a.pointer).cmp(&(&b.file, b.place, &b.pointer)));
        scan.problems = all;
    }

    fn lost_mount(&self, folder: &str) -> Problem {
        let files = self.marks.keys().filter(|path| path.starts_with(folder)).count();
        let message = format!(
            "is empty and is not the same folder as before, which had {}; what they desired is kept",
            counted(files, "file")
        );
        let hint = "mount or restore the folder; if it is meant to be empty, remove it, or put a file none.json with the content [] into it";
        Problem::new("", message).hint(hint).in_file(self.root.join(folder.trim_end_matches('/')).display().to_string())
    }

    /// Reports broken links through which files were read before. What those files desired is kept.
    fn broken_links(&self, links: &[String]) -> Vec<Problem> {
        let behind = |link: &str| {
            let below = |path: &str| path.strip_prefix(link).is_some_and(|rest| rest.starts_with('/'));
            self.marks.keys().filter(|path| below(path)).count()
        };
        let describe = |(link, files): (&String, usize)| {
            let message =
                format!("is a link to a folder that does not exist; what {} desired through it is kept", counted(files, "file"));
            let hint = "restore the folder it points to, or remove the link to withdraw them";
            Problem::new("", message).hint(hint).in_file(self.root.join(link).display().to_string())
        };
        let counted = links.iter().map(|link| (link, behind(link)));
        counted.filter(|(_, files)| *files > 0).map(describe).collect()
    }
}

/// Whether the folder `name` is `path`, which ends with `/`, or below it.
fn below(name: &str, path: &str) -> bool {
    name.starts_with(path) || path.strip_suffix('/') == Some(name)
}

enum ReadOutcome {
    /// The stamp changed, the content did not.
    Same {
        mark: Mark,
        unstable: bool,
    },
    Read {
        report: Box<FileReport>,
        unstable: bool,
    },
    Unusable(Vec<Problem>),
}

fn report(path: &Arc<str>, name: &str, bytes: &[u8], limits: &Limits, mark: Mark) -> FileReport {
    let mut report = FileReport {
        path: Arc::clone(path),
        intents: Vec::new(),
        warnings: Vec::new(),
        problems: Vec::new(),
        unreadable: false,
        mark,
    };
    let format = Format::from_path(path).unwrap_or(Format::Json);
    match wire::parse_as(format, bytes, limits) {
        Err(refusal) => (report.problems, report.unreadable) = (refusal.problems, true),
        Ok(parsed) => {
            for item in parsed.items {
                report.warnings.extend(item.warnings);
                match item.outcome {
                    Ok(intent) => {
                        let digest = intent.digest();
                        report.intents.push((intent, digest));
                    }
                    Err(refusal) => {
                        report.unreadable |= refusal.fault != Fault::ClosedNamespace;
                        report.problems.extend(refusal.problems);
                    }
                }
            }
        }
    }
    let more = report.problems.len().saturating_sub(MAX_PROBLEMS);
    if more > 0 {
        report.problems.truncate(MAX_PROBLEMS);
        report.problems.push(Problem::new("", format!("there are {more} more problems in this file")));
    }
    for problem in report.problems.iter_mut().chain(&mut report.warnings) {
        problem.file = name.to_string();
    }
    report
}
