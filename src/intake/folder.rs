//! What changed below the intents folder since the last accepted scan.
//!
//! The listing and the reading are edges ([`listing`], [`read`]); what a scan means is decided here.
//! A scan changes nothing by itself: once the caller has made its findings durable it says
//! [`Scanner::accept`]. Until then every scan reports the same again, so a full disk loses nothing.

use super::listing::{self, Found, Listing};
use super::read;
use super::scan::{FileReport, Mark, Scan};
use super::wire::{self, Limits};
use crate::model::{Digest, Problem, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file younger than this may change again within one tick of the file system's clock.
const FRESH_MS: i64 = 20;

/// Files read by one scan; the rest follows at once in the next, so that memory stays bounded.
const BATCH: usize = 8192;

/// Problems of one file that are kept: the same mistake ten thousand times helps nobody.
const MAX_PROBLEMS: usize = 200;

/// Fewer changed files than this are read on the calling thread.
const PARALLEL_FROM: usize = 32;

struct Known {
    mark: Mark,
    seen: u32,
}

/// The memory between scans: about 130 bytes a file.
pub struct Scanner {
    root: PathBuf,
    limits: Limits,
    batch: usize,
    marks: HashMap<Box<str>, Known>,
    troubles: BTreeMap<Arc<str>, Vec<Problem>>,
    identity: Option<(u64, u64)>,
    round: u32,
}

impl Scanner {
    /// A scanner that has seen nothing yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, limits: Limits) -> Scanner {
        Scanner {
            root: root.into(),
            limits,
            batch: BATCH,
            marks: HashMap::new(),
            troubles: BTreeMap::new(),
            identity: None,
            round: 1,
        }
    }

    /// A scanner that remembers the marks stored by an earlier process.
    #[must_use]
    pub fn from_marks(root: impl Into<PathBuf>, limits: Limits, marks: impl IntoIterator<Item = (String, Mark)>) -> Scanner {
        let marks = marks.into_iter().map(|(path, mark)| (path.into(), Known { mark, seen: 0 })).collect();
        Scanner { marks, ..Scanner::new(root, limits) }
    }

    /// Another number of files to read in one scan.
    #[must_use]
    pub fn batch(self, files: usize) -> Scanner {
        Scanner { batch: files.max(1), ..self }
    }

    /// The folder that is scanned.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Lists the folder, reads what changed, and says what is gone. `now` is the wall clock that
    /// file times are held against.
    pub fn scan(&mut self, now: Timestamp) -> Scan {
        self.round = self.round.wrapping_add(1);
        let (listing, dirty, files) = self.stat_all();
        let (dirty, more) = self.batched(dirty);
        let mut scan = Scan { files, more, look_again: more, root: listing.root, ..Scan::default() };
        for (path, outcome) in self.read_all(dirty) {
            self.judge(path, outcome, now, &mut scan);
        }
        scan.folder = listing.folder.clone().or_else(|| self.emptied(&listing, files));
        // While files wait to be read, a renamed one would look gone before it is found again.
        if scan.folder.is_none() && !more {
            self.find_gone(&listing, &mut scan);
        }
        self.gather_problems(listing, &mut scan);
        scan
    }

    /// Reads files again that were too young to be trusted. `None`: there is more to see than that they
    /// stayed as they were, which only a [`Scanner::scan`] can judge.
    pub fn reread(&mut self, paths: &[Arc<str>], now: Timestamp) -> Option<Scan> {
        let mut scan = Scan { root: self.identity, ..Scan::default() };
        for path in paths {
            let outcome = self.outcome(path, &Found::File(Mark::NONE.stamp));
            if !matches!(outcome, Outcome::Same { .. }) {
                return None;
            }
            self.judge(Arc::clone(path), outcome, now, &mut scan);
        }
        Some(scan)
    }

    /// Takes the findings of `scan` as known. Call it when they are durable.
    pub fn accept(&mut self, scan: &Scan) {
        for report in &scan.changed {
            self.remember(&report.path, report.mark);
            if report.complete() {
                self.troubles.remove(&report.path);
            } else {
                self.troubles.insert(Arc::clone(&report.path), report.problems.clone());
            }
        }
        for (path, mark, _) in &scan.touched {
            self.remember(path, *mark);
        }
        for path in &scan.gone {
            self.marks.remove(path.as_ref());
            self.troubles.remove(path);
        }
        if scan.folder.is_none() {
            self.identity = scan.root;
        }
    }

    fn remember(&mut self, path: &str, mark: Mark) {
        let known = Known { mark, seen: self.round };
        match self.marks.get_mut(path) {
            Some(slot) => *slot = known,
            None => drop(self.marks.insert(path.into(), known)),
        }
    }

    /// One stat a file; an unchanged one costs a look-up and no allocation.
    fn stat_all(&mut self) -> (Listing, Vec<(Arc<str>, Found)>, usize) {
        let (marks, round) = (&mut self.marks, self.round);
        let (mut dirty, mut files) = (Vec::new(), 0);
        let listing = listing::list(&self.root, &mut |path, found| {
            files += 1;
            let known = marks.get_mut(path).map(|known| {
                known.seen = round;
                known.mark.stamp
            });
            if known.is_none() || found != Found::File(known.unwrap_or(Mark::NONE.stamp)) {
                dirty.push((Arc::from(path), found));
            }
        });
        (listing, dirty, files)
    }

    /// The files to read now, new ones first. Bad files are tried every time and do not count:
    /// many of them must not keep a new one waiting.
    fn batched(&self, dirty: Vec<(Arc<str>, Found)>) -> (Vec<(Arc<str>, Found)>, bool) {
        let (bad, mut dirty): (Vec<_>, Vec<_>) = dirty.into_iter().partition(|(path, _)| self.troubles.contains_key(path));
        let more = dirty.len() > self.batch;
        dirty.sort_by_cached_key(|(path, _)| (self.marks.contains_key(path.as_ref()), Arc::clone(path)));
        dirty.truncate(self.batch);
        dirty.extend(bad);
        dirty.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        (dirty, more)
    }

    /// Reads and parses, on all cores when there is much.
    fn read_all(&self, dirty: Vec<(Arc<str>, Found)>) -> Vec<(Arc<str>, Outcome)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let one = |(path, found): &(Arc<str>, Found)| (Arc::clone(path), self.outcome(path, found));
        if dirty.len() < PARALLEL_FROM || cores == 1 {
            return dirty.iter().map(one).collect();
        }
        std::thread::scope(|scope| {
            let parts: Vec<_> = dirty.chunks(dirty.len().div_ceil(cores)).collect();
            let workers: Vec<_> =
                parts.iter().map(|part| (scope.spawn(|| part.iter().map(one).collect::<Vec<_>>()), *part)).collect();
            // A worker that died is redone here: then the panic is on a thread that is guarded.
            workers
                .into_iter()
                .flat_map(|(worker, part)| worker.join().unwrap_or_else(|_| part.iter().map(one).collect()))
                .collect()
        })
    }

    fn outcome(&self, path: &Arc<str>, found: &Found) -> Outcome {
        let full = self.root.join(path.as_ref());
        let name = full.display().to_string();
        let unusable = |why: String| {
            let problem = Problem::new("", why).hint("what this file desired before is kept until it can be read or is removed");
            Outcome::Unusable(vec![problem.in_file(name.clone())])
        };
        let content = match found {
            Found::Unusable(why) => return unusable(why.clone()),
            Found::File(_) => match read::read(&full, &self.limits) {
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
            return Outcome::Same { mark, moved: content.moved };
        }
        Outcome::Read { report: Box::new(report(path, &name, &content.bytes, &self.limits, mark)), moved: content.moved }
    }

    fn judge(&self, path: Arc<str>, outcome: Outcome, now: Timestamp, scan: &mut Scan) {
        let mut settle = |mark: &mut Mark, moved: bool| {
            let age = now.0.saturating_sub(mark.stamp.mtime_ns.div_euclid(1_000_000));
            // A file of the future, beyond a minute, is a wrong clock and not a fresh write.
            if moved || (-60_000..=FRESH_MS).contains(&age) {
                mark.stamp = Mark::NONE.stamp;
                scan.look_again = true;
                scan.fresh.push(Arc::clone(&path));
            }
        };
        match outcome {
            Outcome::Same { mut mark, moved } => {
                settle(&mut mark, moved);
                if self.marks.get(path.as_ref()).is_none_or(|known| known.mark != mark) {
                    let good = !self.troubles.contains_key(&path);
                    scan.touched.push((path, mark, good));
                }
            }
            Outcome::Read { mut report, moved } => {
                settle(&mut report.mark, moved);
                scan.changed.push(*report);
            }
            // Tried at every scan, because a right may be given without touching the file; told once.
            Outcome::Unusable(problems) if self.troubles.get(&path) != Some(&problems) => {
                scan.changed.push(FileReport { path, intents: Vec::new(), warnings: Vec::new(), problems, mark: Mark::NONE });
            }
            Outcome::Unusable(_) => {}
        }
    }

    /// A folder that is another one than before, and empty, is more likely a lost mount than a wish.
    fn emptied(&self, listing: &Listing, files: usize) -> Option<Problem> {
        let suspicious = files == 0 && !self.marks.is_empty() && listing.root.is_some() && listing.root != self.identity;
        suspicious.then(|| {
            let message = format!(
                "the intents folder is empty and is not the one that held {} files before; nothing is withdrawn",
                self.marks.len()
            );
            let hint = "mount or restore the folder; if it is meant to be empty, put a file none.json with [] into it";
            Problem::new("", message).hint(hint).in_file(self.root.display().to_string())
        })
    }

    fn find_gone(&self, listing: &Listing, scan: &mut Scan) {
        let unseen = self.marks.iter().filter(|(path, known)| known.seen != self.round && !listing.may_hide(path));
        for (path, known) in unseen {
            // A name that moved while its folder was listed may be missed once, not twice.
            let missed_once = known.seen == self.round.wrapping_sub(1);
            if missed_once && listing.unsteady.contains(listing::parent(path)) {
                (scan.look_again, scan.missed) = (true, true);
            } else if !listing::is_there(&self.root.join(path.as_ref())) {
                scan.gone.push(Arc::from(path.as_ref()));
            }
        }
        scan.gone.sort_unstable();
    }

    fn gather_problems(&self, listing: Listing, scan: &mut Scan) {
        let settled: HashSet<&str> =
            scan.changed.iter().map(|report| report.path.as_ref()).chain(scan.gone.iter().map(AsRef::as_ref)).collect();
        let old = self.troubles.iter().filter(|(path, _)| !settled.contains(path.as_ref())).flat_map(|(_, problems)| problems);
        let mut all: Vec<Problem> = scan.folder.iter().cloned().chain(listing.problems).collect();
        all.extend(self.hidden(&listing.silent));
        all.extend(old.chain(scan.changed.iter().flat_map(|report| &report.problems)).cloned());
        all.sort_by(|a, b| (&a.file, a.place, &a.pointer).cmp(&(&b.file, b.place, &b.pointer)));
        scan.problems = all;
    }

    /// Links to nowhere matter only if files were read behind them: these are held.
    fn hidden(&self, links: &[String]) -> Vec<Problem> {
        let behind = |link: &str| {
            let below = |path: &str| path.strip_prefix(link).is_some_and(|rest| rest.starts_with('/'));
            self.marks.keys().filter(|path| below(path)).count()
        };
        let told = |(link, files): (&String, usize)| {
            let message = format!("is a link that leads nowhere; what {files} files behind it desired before is kept");
            let hint = "restore the folder it points to, or remove the link to withdraw them";
            Problem::new("", message).hint(hint).in_file(self.root.join(link).display().to_string())
        };
        let counted = links.iter().map(|link| (link, behind(link)));
        counted.filter(|(_, files)| *files > 0).map(told).collect()
    }
}

enum Outcome {
    /// Another stamp, the same bytes.
    Same {
        mark: Mark,
        moved: bool,
    },
    Read {
        report: Box<FileReport>,
        moved: bool,
    },
    Unusable(Vec<Problem>),
}

fn report(path: &Arc<str>, name: &str, bytes: &[u8], limits: &Limits, mark: Mark) -> FileReport {
    let mut report = FileReport { path: Arc::clone(path), intents: Vec::new(), warnings: Vec::new(), problems: Vec::new(), mark };
    match wire::parse(bytes, limits) {
        Err(refusal) => report.problems = refusal.problems,
        Ok(parsed) => {
            for item in parsed.items {
                report.warnings.extend(item.warnings);
                match item.outcome {
                    Ok(intent) => {
                        let digest = intent.digest();
                        report.intents.push((intent, digest));
                    }
                    Err(refusal) => report.problems.extend(refusal.problems),
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
