//! A call as `aam plan` announces it.

/// A call that an attempt may make.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedCall {
    /// `GET`, `HEAD`, `SQL READ ONLY`, `READ FILE`.
    pub method: String,
    pub host: String,
    pub path: String,
}
