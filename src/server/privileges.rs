//! `GET /privileges`: the connections whose credential can do more than read, and what takes the excess away.

use super::bounded::{PageBytes, json_len};
use super::problem::ApiProblem;
use super::read;
use super::request::{ApiRequest, ApiResult, JSON, encode};
use crate::model::{MissingFile, MissingFiles};
use crate::report::privileges::{
    ConnectionPrivilege, PrivilegeFilter, PrivilegeTotals, PrivilegeVerdict, UnknownReason, collect,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The privileges of the credentials of a namespace. An answer ends at 4 MiB.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PrivilegeList {
    pub namespace: String,
    /// The number of connections with each verdict, whatever `verdict` selects.
    pub totals: PrivilegeTotals,
    /// Why verdicts are unknown, the most frequent reason first.
    pub unknown: Vec<UnknownReason>,
    /// Those that `verdict` selects, in order of verdict, source type and id.
    pub connections: Vec<ConnectionPrivilege>,
    /// True if the answer ends before the last connection; the filters make it shorter.
    pub truncated: bool,
    /// The archive files that are missing or cannot be read, so that verdicts in them do not count; the first 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<MissingFile>,
}

/// `GET /privileges`
///
/// # Errors
/// 400, 403, 503.
pub async fn list(request: ApiRequest) -> ApiResult {
    let query = &request.query;
    let namespace = request.namespace()?;
    let filter = PrivilegeFilter {
        states: query.state()?.into_iter().collect(),
        families: query.get("source_type").map(read::source_type).into_iter().collect(),
        owner: query.get("owner").map(str::to_string),
        since: query.instant("since")?,
        verdicts: verdicts(query.get("verdict").unwrap_or("over"))?,
    };
    request
        .cached(JSON, move |app| {
            let connections = app.handle.registry.snapshot().shared(&namespace);
            let reader = app.handle.registry.reader();
            let mut missing = MissingFiles::default();
            let found = collect(&connections, &filter, |seq| {
                reader.bodies_left(&[seq], usize::MAX).ok()?.pop().and_then(|body| missing.left(body))
            });
            let (mut page, total) = (PageBytes::default(), found.connections.len());
            let connections: Vec<_> = found.connections.into_iter().take_while(|one| page.fits(json_len(one))).collect();
            let truncated = connections.len() < total;
            encode(&PrivilegeList {
                namespace,
                totals: found.totals,
                unknown: found.unknown,
                connections,
                truncated,
                missing_files: missing.named().to_vec(),
            })
        })
        .await
}

fn verdicts(text: &str) -> Result<Vec<PrivilegeVerdict>, ApiProblem> {
    text.split(',').map(PrivilegeVerdict::parse).collect::<Option<Vec<_>>>().ok_or_else(|| {
        let names = PrivilegeVerdict::ALL.map(PrivilegeVerdict::as_str).join(", ");
        ApiProblem::bad_request(format!("verdict must be one of {names}, or several of them separated by commas."))
    })
}
