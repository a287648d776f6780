//! All problems below a folder, as values for `aam check`.

use super::folder::Scanner;
use super::wire::Limits;
use crate::model::{ConnectionId, Digest, Intent, Problem, Timestamp};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What `aam check` says of the intents.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files listed.
    pub files: usize,
    /// Accepted documents with the file each came from, in the order of the paths.
    pub intents: Vec<(Arc<str>, Intent)>,
    /// Different connections among them.
    pub connections: usize,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Checked {
    /// Whether nothing is wrong; warnings are allowed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads every file below `root`, as the daemon would.
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
        // Files of this very moment are never settled; when nothing new comes, all is read.
        if !scan.more || scan.changed.is_empty() {
            checked.files = scan.files;
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

/// Two files that want the same connection in different ways: which one wins depends on when they
/// were saved, and that is hardly meant.
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
            let hint = "keep one description; of two, the one that was saved last is in force";
            warnings.push(Problem::new("", message).hint(hint).in_file(root.join(path.as_ref()).display().to_string()));
        }
    }
    (first.len(), warnings)
}
