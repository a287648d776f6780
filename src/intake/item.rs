//! The result of one document of a text: an intent, or why it was refused.

use crate::model::{Intent, Problem};

/// The kind of refusal, which determines the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too many bytes or items: 413.
    TooLarge,
    /// Not valid UTF-8 or JSON: 400.
    NotJson,
    /// Valid JSON, but not a valid intent: 422.
    Invalid,
    /// A `scopes_mode` other than `safe_readonly`, regardless of other problems: 403.
    UnsafeScopes,
    /// A valid intent in the namespace `demo`, which accepts none: 403.
    ClosedNamespace,
}

/// A refused text or item with all its problems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub fault: Fault,
    pub problems: Vec<Problem>,
}

/// One document of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub outcome: Result<Intent, Refusal>,
    /// Unknown fields. A refused item may have warnings, too.
    pub warnings: Vec<Problem>,
}

impl Refusal {
    pub(super) fn new(fault: Fault, problem: Problem) -> Refusal {
        Refusal { fault, problems: vec![problem] }
    }
}
