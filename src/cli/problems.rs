//! What keeps files of the operator from taking effect, as a note beside the output of other commands.

use super::{CommonOptions, terminal};
use crate::clock;
use crate::intake::{Limits, Scanner};
use crate::model::Problem;
use crate::model::text::counted;
use crate::policy_loader;
use crate::reconcile::folder_sync;
use crate::registry::Reader;

/// The number of problems that are shown; `aam check` shows all.
const MAX_SHOWN: usize = 5;

/// Prints to stderr that the policy file is not valid, and which intents cannot be read. `reader` spares reading files that did
/// not change since the daemon read them.
pub fn note(common: &CommonOptions, reader: Option<&Reader>) {
    let policy = policy_loader::load(&common.policy).loaded.err().unwrap_or_default();
    let mut note = String::new();
    if !policy.is_empty() {
        note.push_str("warning: the policy file is not valid; the last accepted policy stays in force\n");
        note.push_str(&text(&policy, "  "));
    }
    let intents = intents(common, reader);
    if !intents.is_empty() {
        let count = counted(intents.len(), "problem");
        note.push_str(&format!("warning: {count} in the intents folder; connections of such a file keep their current state\n"));
        note.push_str(&text(&intents, "  "));
    }
    if !note.is_empty() {
        terminal::print_error(&note);
    }
}

/// The first problems, one for each line, which begins with `prefix`, and how many more there are.
pub fn text(problems: &[Problem], prefix: &str) -> String {
    let mut text: String = problems.iter().take(MAX_SHOWN).map(|problem| format!("{prefix}{problem}\n")).collect();
    if problems.len() > MAX_SHOWN {
        text.push_str(&format!("{prefix}and {} more; aam check lists them all\n", problems.len() - MAX_SHOWN));
    }
    text
}

/// The problems of the intents folder. `reader` says which files the daemon read before.
pub fn intents(common: &CommonOptions, reader: Option<&Reader>) -> Vec<Problem> {
    let marks = reader.and_then(|reader| reader.marks().ok()).unwrap_or_default();
    let mut scanner = Scanner::from_marks(&common.intents, Limits::default(), folder_sync::stored_marks(marks));
    loop {
        let scan = scanner.scan(clock::from_env().now());
        scanner.accept(&scan);
        // The scanner reads a file that was just written again and again, so stop as soon as nothing changes.
        if !scan.more || scan.changed.is_empty() {
            return scan.problems;
        }
    }
}
