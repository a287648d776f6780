//! Records what people are notified of and what no attempt records: rejected policies, problems of the intents folder, and
//! credentials that end soon. Each of them is recorded once, also across a restart, because the snapshot knows what was
//! recorded.

use super::handle::Handle;
use crate::model::ending;
use crate::model::ledger::RecordedProblems;
use crate::model::{ConnectionId, Digest, Problem, Timestamp};
use crate::registry::{Notice, RegistryError};
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// The number of files with problems that are recorded at the same time. The problems of further files are only shown.
const MAX_PROBLEM_FILES: usize = 1000;

/// Records that the policy `file` was rejected, unless that is what was recorded last.
///
/// # Errors
/// If the registry cannot write.
pub async fn record_rejected_policy(handle: &Handle, file: Digest, problems: &[Problem]) -> Result<(), RegistryError> {
    if handle.registry.snapshot().policy_file == Some((file, false)) {
        return Ok(());
    }
    let problems = RecordedProblems::new(problems);
    handle.registry.record_notices(vec![Notice::PolicyRejected { file, problems }]).await
}

/// Records the files whose problems changed since they were recorded last.
///
/// # Errors
/// If the registry cannot write.
pub async fn record_intent_problems(handle: &Handle) -> Result<(), RegistryError> {
    let problems = handle.problems.load_full();
    let notices = changed_files(&handle.registry.snapshot(), &problems);
    if notices.is_empty() {
        return Ok(());
    }
    handle.registry.record_notices(notices).await
}

fn changed_files(snapshot: &Snapshot, problems: &[Problem]) -> Vec<Notice> {
    let mut files: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        files.entry(&problem.file).or_default().push(problem);
    }
    let known = &snapshot.intent_problems;
    let solved = known.keys().filter(|file| !files.contains_key(&***file));
    let mut notices: Vec<Notice> =
        solved.map(|file| Notice::IntentProblems { file: file.to_string(), problems: RecordedProblems::default() }).collect();
    let mut room = MAX_PROBLEM_FILES.saturating_sub(known.len() - notices.len());
    for (file, problems) in files {
        let problems = RecordedProblems::new(problems);
        match known.get(file) {
            Some(digest) if *digest == problems.digest() => continue,
            Some(_) => {}
            None if room == 0 => continue,
            None => room -= 1,
        }
        notices.push(Notice::IntentProblems { file: file.to_string(), problems });
    }
    notices
}

/// Records the credentials whose end has come nearer by one step since it was recorded last: those of connections in `only`, or of
/// all.
///
/// # Errors
/// If the registry cannot write.
pub async fn record_expiring(handle: &Handle, only: Option<&BTreeSet<ConnectionId>>) -> Result<(), RegistryError> {
    let now = handle.clock.now();
    let notices = expiring(&handle.registry.snapshot(), only, now);
    if notices.is_empty() {
        return Ok(());
    }
    handle.registry.record_notices(notices).await
}

fn expiring(snapshot: &Snapshot, only: Option<&BTreeSet<ConnectionId>>, now: Timestamp) -> Vec<Notice> {
    let one = |id: ConnectionId, known: &crate::snapshot::Connection| {
        let ends_at = known.credential_ends_at()?;
        let nearness = ending::nearness(ends_at, now)?;
        let recorded = snapshot
            .expiring
            .get(&id)
            .is_some_and(|(end, step)| ending::is_same_day(Some(*end), Some(ends_at)) && *step >= nearness);
        if recorded || snapshot.is_closed(&known.namespace) {
            return None;
        }
        let warning = known.credential_ending(id, now)?;
        let (title, fix) = (warning.title.to_string(), warning.fix.to_string());
        Some(Notice::CredentialExpiring { connection: id, ends_at, nearness, title, fix })
    };
    match only {
        None => snapshot.connections.iter().filter_map(|(id, known)| one(id, &known)).collect(),
        Some(only) => only.iter().filter_map(|id| one(*id, &*snapshot.connections.get(id)?)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ledger::{Entry, Fact};

    fn apply(snapshot: &mut Snapshot, notices: Vec<Notice>) {
        for notice in notices {
            let Notice::IntentProblems { file, problems } = notice else { panic!("{notice:?}") };
            let fact = Fact::IntentProblems { file, problems };
            let seq = snapshot.seq + 1;
            snapshot.apply(&Entry { seq, at: Timestamp(0), namespace: String::new(), connection: None, fact });
        }
    }

    fn in_file(file: &str, message: &str) -> Problem {
        Problem::new("", message).in_file(file)
    }

    #[test]
    fn the_problems_of_a_file_are_recorded_once_until_they_change() {
        let mut snapshot = Snapshot::default();
        let problems = [in_file("a.json", "not valid"), in_file("b.json", "not valid")];
        let notices = changed_files(&snapshot, &problems);
        assert_eq!(notices.len(), 2);
        apply(&mut snapshot, notices);
        assert_eq!(changed_files(&snapshot, &problems), []);
        let notices = changed_files(&snapshot, &[in_file("a.json", "not valid either")]);
        assert_eq!(notices.len(), 2, "one is solved and one has another problem: {notices:?}");
        apply(&mut snapshot, notices);
        assert_eq!(snapshot.intent_problems.keys().map(|file| &**file).collect::<Vec<_>>(), ["a.json"]);
    }

    #[test]
    fn the_number_of_recorded_files_is_bounded() {
        let mut snapshot = Snapshot::default();
        let problems: Vec<Problem> = (0..MAX_PROBLEM_FILES + 5).map(|file| in_file(&format!("{file:05}"), "no")).collect();
        let notices = changed_files(&snapshot, &problems);
        assert_eq!(notices.len(), MAX_PROBLEM_FILES);
        apply(&mut snapshot, notices);
        assert_eq!(changed_files(&snapshot, &problems), []);
        let notices = changed_files(&snapshot, &problems[3..]);
        assert_eq!(notices.len(), 6, "the places of solved files are free for others");
    }
}
