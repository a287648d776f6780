//! The `redshift` engine: the Data API with an access key of AWS, or PostgreSQL's protocol with a database user.
//!
//! The family file contains a manifest for the Data API, which the `lowcode` engine reads. `endpoint` parses the addresses
//! that both ways can have, and `database` reads a database over PostgreSQL's protocol. The credential decides which way is
//! used, so a resource is bound for both until it is known.

mod database;
mod endpoint;
mod statements;

use super::lowcode::LowcodeEngine;
use super::sql::driver_session::DriverSession;
use super::sql::login;
use super::sql::uri::DatabaseServer;
use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine};
use crate::clock::Clock;
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::model::{Class, Failure, Recipient};
use crate::policy::Policy;
use std::sync::Arc;

/// Serves the family `redshift`.
pub struct RedshiftEngine {
    data_api: LowcodeEngine,
}

impl RedshiftEngine {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> RedshiftEngine {
        RedshiftEngine { data_api: LowcodeEngine::new(clock) }
    }
}

impl Engine for RedshiftEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        let policy = Arc::clone(request.policy);
        let server = endpoint::parse(request.resource_id)?;
        match (self.data_api.bind(request), server) {
            (Err(failure), None) => Err(failure),
            (data_api, server) => {
                let data_api = data_api.ok();
                let account = match (&data_api, &server) {
                    (Some(data_api), _) => data_api.account().to_string(),
                    (None, server) => server.as_ref().map(DatabaseServer::authority).unwrap_or_default(),
                };
                Ok(Box::new(BoundWarehouse { data_api, server, account, policy }))
            }
        }
    }
}

/// A parsed resource id.
struct BoundWarehouse {
    /// The Data API of the cluster or workgroup, if the id names one.
    data_api: Option<Box<dyn BoundResource>>,
    /// The database server, if the id names its host.
    server: Option<DatabaseServer>,
    account: String,
    policy: Arc<Policy>,
}

impl BoundResource for BoundWarehouse {
    fn credential_need(&self) -> CredentialNeed {
        CredentialNeed::Required
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        let server = self.server.iter().map(|server| Recipient::new(&server.host, server.port, endpoint::DEFAULT_PORT, false));
        self.data_api.iter().flat_map(|data_api| data_api.free_hosts()).chain(server).collect()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let server = self.server.iter().map(|server| PlannedCall {
            method: "SQL READ ONLY".to_string(),
            host: server.authority(),
            path: format!("/{}", server.database),
        });
        self.data_api.iter().flat_map(|data_api| data_api.planned_calls()).chain(server).collect()
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        let BoundWarehouse { data_api, server, policy, .. } = *self;
        let is_login = credential.as_ref().is_some_and(|credential| is_database_user(credential, data_api.is_none()));
        match (is_login, data_api, server) {
            (false, Some(data_api), _) => data_api.authorize(credential),
            (true, _, Some(server)) => {
                let login = login::from_credential(credential.as_ref(), &server)?;
                Ok(AuthorizedResource::new(move |session| {
                    let session: Arc<dyn DriverSession> = Arc::new(session);
                    Box::pin(async move { database::open(&session, &server, &login, &policy).await })
                }))
            }
            (true, _, None) => Err(Failure::new(
                Class::Misconfigured,
                "the credential is a database user, and the resource id does not name the host of the database",
                "write the endpoint as the console shows it, NAME.abc123xyz.REGION.redshift.amazonaws.com:5439/DATABASE; or store an \
                 access key of AWS, with which AAM uses the Data API",
            )),
            (false, None, _) => Err(Failure::new(
                Class::CredentialMissing,
                "this address needs a database user, and the credential is of another kind",
                r#"store {"user":"NAME","password":"..."} where credential_locator points; for the Data API write REGION/NAME/DATABASE as resource id"#,
            )),
        }
    }
}

/// Whether the credential is a user and a password of the database, and not an access key. A text of the form `A:B` is an
/// access key if it begins like one of AWS.
fn is_database_user(credential: &Credential, is_only_way: bool) -> bool {
    match credential.plain() {
        Some(plain) => {
            let name = plain.expose().trim().split(':').next().unwrap_or_default();
            is_only_way || plain.expose().contains(':') && !is_access_key_id(name)
        }
        None => credential.any(&["user", "username"]).is_some() && credential.any(&["password", "pass"]).is_some(),
    }
}

/// Whether `name` is an access key id: at least 16 capital letters and digits \[V\] (botocore 1.44.8, iam, `accessKeyIdType`: 16 to
/// 128 word characters; AWS issues capital letters and digits only \[K\]).
fn is_access_key_id(name: &str) -> bool {
    name.len() >= 16 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    fn credential(text: &str) -> Credential {
        Credential::read(Secret::new(text.to_string()))
    }

    #[test]
    fn the_credential_chooses_the_way() {
        for (text, is_only_way, expected) in [
            (r#"{"user":"reader","password":"x"}"#, false, true),
            (r#"{"username":"reader","password":"x"}"#, false, true),
            (r#"{"access_key_id":"a","secret_access_key":"b"}"#, false, false),
            (r#"{"access_key_id":"a","secret_access_key":"b","db_user":"reader"}"#, false, false),
            ("reader:secret", false, true),
            ("AKSANDBOXREADER01:secret", false, false),
            ("AKSANDBOXREADER01:secret", true, true),
            ("only-a-token", false, false),
        ] {
            assert_eq!(is_database_user(&credential(text), is_only_way), expected, "{text}");
        }
    }
}
