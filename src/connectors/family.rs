//! The 33 families as data.

use crate::policy::Cap;

/// One family of `families/*.yaml`.
#[derive(Clone, Debug)]
pub struct Family {
    pub id: &'static str,
    pub title: &'static str,
    /// The engine's name: `file`, `sql`, `object`, `openapi`; empty when this build has none.
    pub engine: &'static str,
    /// In the allowlist that `aam` suggests for a new policy.
    pub on_by_default: bool,
    /// The default budget from the vendor's documented limits.
    pub cap: Cap,
    /// The least privilege to ask the vendor's administrator for, in the vendor's words.
    pub least_privilege: &'static str,
}

pub fn find(_id: &str) -> Option<&'static Family> { None }
pub fn all() -> &'static [Family] { &[] }
