//! The calls that `aam plan` and `GET /plan` list.

/// A call that an attempt may make.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct PlannedCall {
    /// The kind of call, for example `GET`, `HEAD`, `SQL READ ONLY` or `READ FILE`.
    pub method: String,
    pub host: String,
    pub path: String,
}
