//! The `sql` engine on a real session.

use crate::support::session::{self, RecordingSession};
use aam::connectors::Opened;
use aam::connectors::sql::SqlEngine;
use aam::credentials::Credential;
use aam::model::Failure;
use aam::policy::Policy;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Opens the database of the resource id `id`.
pub async fn open_at(id: &str, credential: &Credential, policy: Policy) -> Result<Opened, Failure> {
    let policy = Arc::new(policy);
    SqlEngine.open_through(recording_session(&policy), id, Some(credential), policy).await
}

/// A policy with the default timeout of a step, and the certificate authority of a server.
pub fn policy(ca_file: Option<PathBuf>) -> Policy {
    session::policy(Duration::from_secs(20), ca_file.as_deref())
}

/// A session under `policy` that records the connections that go through it.
pub fn recording_session(policy: &Arc<Policy>) -> Arc<RecordingSession> {
    RecordingSession::new("jdbc", Arc::clone(policy))
}
