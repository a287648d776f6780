//! Collects all problems of the intents folder for `aam check`.

use super::folder::Scanner;
use super::wire::Limits;
use crate::model::{ConnectionId, Digest, Intent, Problem, Timestamp};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The result of checking the intents folder.
#[derive(Debug, Default)]
pub struct Checked {
    /// The number of files.
    pub files: usize,
    /// The valid intents with their files, ordered by path.
    pub intents: Vec<(Arc<str>, Intent)>,
    /// The number of different connections among them.
    pub connections: usize,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// The first names that are not read because of their form, and how many there are.
    pub ignored: (Vec<String>, usize),
}

impl Checked {
    /// Whether there are no problems; warnings are allowed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads every file below `root`, as the daemon does.
#[must_use]
pub fn check(root: &Path, limits: Limits, now: Timestamp) -> Checked {
    let mut scanner = Scanner::new(root, limits);
    let mut checked = Checked::default();
    loop {
        let scan = scanner.scan(now);
        for report in &scan.changed {
            checked.intents.extend(report.intents.iter().map(|(intent, _)| (Arc::clone(&report.path), intent.clone())));
            checked.warnings.extend(report.warnings.iter().cloned());
        }
        scanner.accept(&scan);
        // The scanner reads a file that was just written again and again, so stop as soon as nothing changes.
        if !scan.more || scan.changed.is_empty() {
            checked.files = scan.files;
            checked.ignored = scan.ignored;
            checked.problems = scan.problems;
            break;
        }
    }
    let (connections, disputed) = disputed(root, &checked.intents);
    checked.connections = connections;
    checked.warnings.extend(disputed);
    checked.warnings.sort_by(|a, b| (&a.file, a.place, &a.pointer).cmp(&(&b.file, b.place, &b.pointer)));
    checked
}

/// Warns of files that describe the same connection differently. Which one is in force then depends on the order in
/// which they were saved, which is hardly intended.
fn disputed(root: &Path, intents: &[(Arc<str>, Intent)]) -> (usize, Vec<Problem>) {
    let mut first: BTreeMap<ConnectionId, (&str, Digest)> = BTreeMap::new();
    let mut warnings = Vec::new();
    for (path, intent) in intents {
        let digest = intent.digest();
        let (other, known) = *first.entry(intent.connection_id()).or_insert((path, digest));
        if known != digest {
            let message = format!(
                "{} {} is described differently in {}",
                intent.source_type,
                intent.resource_ids.join(", "),
                root.join(other).display()
            );
            let hint = "keep one of them; otherwise the one that was saved last is in force";
            warnings.push(Problem::new("", message).hint(hint).in_file(root.join(path.as_ref()).display().to_string()));
        }
    }
    (first.len(), warnings)
}
