//! The `supabase` engine: a project has a PostgreSQL database and a Data API (PostgREST), and the credential says which of them an
//! intent means. A user and a password are for the database, which the engine `sql` reads; a key is for the Data API, which the
//! engine `lowcode` reads as `families/supabase.yaml` describes.
//!
//! `address` reads connection strings, and `explain` says what failures mean at Supabase.

pub mod address;
pub mod explain;

use super::lowcode::LowcodeEngine;
use super::lowcode::binding::ParsedResource;
use super::sql::{BoundDatabase, SqlEngine};
use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine};
use crate::clock::Clock;
use crate::credentials::{Credential, Secret};
use crate::egress::PlannedCall;
use crate::model::{Class, Failure, Recipient};
use address::{DatabaseAddress, WrongUser};
use explain::ProjectWay;
use serde_json::json;
use std::sync::Arc;

/// The part of a resource id that names the project, in the family file.
const REFERENCE: &str = "ref";
/// The kind of resource whose tables both ways lead to.
const PROJECT_KIND: &str = "project";

/// Serves the family `supabase`.
pub struct SupabaseEngine {
    api: LowcodeEngine,
    clock: Arc<dyn Clock>,
}

impl SupabaseEngine {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> SupabaseEngine {
        SupabaseEngine { api: LowcodeEngine::new(Arc::clone(&clock)), clock }
    }
}

impl Engine for SupabaseEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        let bind_database = |address: DatabaseAddress| {
            let bound = SqlEngine.bind_database(&address.id, Arc::clone(request.policy))?;
            Ok::<_, Failure>(ProjectDatabase { bound, address })
        };
        if let Some(address) = DatabaseAddress::parse(request.resource_id) {
            return Ok(Box::new(BoundProject { database: Some(bind_database(address)?), api: None }));
        }
        let parsed =
            ParsedResource::parse(request.family, request.policy, request.resource_id, &self.clock).map_err(with_string)?;
        let part = |name: &str| parsed.part(name).unwrap_or_default().to_string();
        let reference = Some(part(REFERENCE)).filter(|reference| !reference.is_empty());
        let database = match &reference {
            Some(reference) if parsed.kind() == PROJECT_KIND => Some(bind_database(DatabaseAddress::direct(reference))?),
            _ => None,
        };
        let way = ProjectWay { host: part("host"), endpoint: None, project: reference };
        Ok(Box::new(BoundProject { database, api: Some((self.api.bind(request)?, way)) }))
    }
}

/// The database of a project.
struct ProjectDatabase {
    bound: BoundDatabase,
    address: DatabaseAddress,
}

/// A parsed resource id: the database of a project, its Data API, or both.
struct BoundProject {
    database: Option<ProjectDatabase>,
    api: Option<(Box<dyn BoundResource>, ProjectWay)>,
}

impl BoundResource for BoundProject {
    fn credential_need(&self) -> CredentialNeed {
        CredentialNeed::Required
    }

    fn account(&self) -> &str {
        match (&self.api, &self.database) {
            (Some((api, _)), _) => api.account(),
            (None, Some(database)) => database.bound.account(),
            (None, None) => "",
        }
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        match (&self.api, &self.database) {
            (Some((api, _)), _) => api.free_hosts(),
            (None, Some(database)) => database.bound.free_hosts(),
            (None, None) => Vec::new(),
        }
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let database = self.database.iter().flat_map(|database| database.bound.planned_calls());
        database.chain(self.api.iter().flat_map(|(api, _)| api.planned_calls())).collect()
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        let is_login = credential.as_ref().is_some_and(is_login);
        match (self.database, self.api) {
            (Some(database), api) if is_login || api.is_none() => database.authorize(credential),
            (_, Some((api, way))) => {
                if let Some(other) = other_project(credential.as_ref(), way.project.as_deref()) {
                    return Err(other);
                }
                Ok(with_meaning(api.authorize(credential)?, way, None))
            }
            (_, None) => Err(Failure::new(
                Class::Bug,
                "the resource id names neither a database nor a Data API",
                "report this as a defect of AAM",
            )),
        }
    }
}

impl ProjectDatabase {
    fn authorize(self, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        let ProjectDatabase { bound, address } = self;
        let credential = match credential {
            Some(credential) => Some(login_at(&address, credential)?),
            None => None,
        };
        let free_hosts = bound.free_hosts();
        let DatabaseAddress { host, endpoint, project, .. } = address;
        let way = ProjectWay { host, endpoint: Some(endpoint), project: project.clone() };
        Ok(with_meaning(Box::new(bound).authorize(credential)?, way, project).with_free_hosts(free_hosts))
    }
}

/// Adds the form of a connection string to the forms that the family file has.
fn with_string(failure: Failure) -> Failure {
    match failure.class {
        Class::NotMappable => {
            let string = "or like the string of Connect without its password: postgresql://ROLE.REF@HOST:5432/postgres";
            Failure { fix: format!("{}, {string}", failure.fix), ..failure }
        }
        _ => failure,
    }
}

/// Adds what failures mean at Supabase, and the project to the evidence.
fn with_meaning(inner: AuthorizedResource, way: ProjectWay, project: Option<String>) -> AuthorizedResource {
    let (posts, free_hosts) = (inner.posts.clone(), inner.free_hosts.clone());
    let open = move |session| -> futures_util::future::BoxFuture<'static, _> {
        Box::pin(async move {
            let mut opened = inner.open(session).await.map_err(|failure| way.explained(failure))?;
            if let Some(project) = project {
                opened.identity.insert("project".into(), json!(project));
            }
            Ok(opened)
        })
    };
    AuthorizedResource::new(open).with_posts(posts).with_free_hosts(free_hosts)
}

/// Returns true for a user and a password. Keys of the Data API are one text without a colon, or the field `api_key`.
fn is_login(credential: &Credential) -> bool {
    match credential.plain() {
        Some(plain) => {
            let text = plain.expose().trim();
            text.contains(':') && !text.contains("://") && !text.starts_with("sb_")
        }
        None => credential.any(&["user", "username"]).is_some() && credential.field("api_key").is_none(),
    }
}

/// Returns the login with the role as the host of `address` knows it.
fn login_at(address: &DatabaseAddress, credential: Credential) -> Result<Credential, Failure> {
    if !is_login(&credential) {
        let text = credential.plain().map(|plain| plain.expose().trim()).unwrap_or_default();
        let what = match () {
            () if text.contains("://") => "a connection string",
            () if text.starts_with("sb_") || text.starts_with("eyJ") || credential.field("api_key").is_some() => {
                "a key of the Data API"
            }
            // The engine `sql` says which fields are missing.
            () => return Ok(credential),
        };
        return Err(Failure::new(
            Class::CredentialMissing,
            format!("the credential is {what}, and a database needs a user and a password"),
            "store {\"user\":\"ROLE\",\"password\":\"...\"} behind credential_locator; for a key, write the reference of the project into \
             resource_ids",
        ));
    }
    let (user, password) = match credential.plain() {
        Some(plain) => {
            let (user, password) = plain.expose().split_once(':').unwrap_or_default();
            (user.trim().to_string(), password.trim_end_matches(['\r', '\n']).to_string())
        }
        None => {
            let field = |names: &[&str]| credential.any(names).map(|secret| secret.expose().to_string());
            match (field(&["user", "username"]), field(&["password", "pass"])) {
                (Some(user), Some(password)) => (user, password),
                _ => return Ok(credential),
            }
        }
    };
    match address.login_role(&user) {
        Ok(role) => {
            let login = json!({"user": role, "password": password}).to_string();
            Ok(Credential::read(Secret::new(login)))
        }
        Err(WrongUser::NoProject) => Err(Failure::new(
            Class::CredentialMissing,
            format!("the pooler {} serves many projects, and neither the user nor the resource id names one", address.host),
            "store the user as ROLE.PROJECTREF behind credential_locator, or copy the string of Connect with its user into resource_ids",
        )),
        Err(WrongUser::OtherProject { named, wanted }) => Err(Failure::new(
            Class::WrongService,
            format!("the user of this credential belongs to the project {named}, and the resource id names {wanted}"),
            format!("use a role of the project {wanted}, or write {named} into resource_ids"),
        )),
    }
}

/// Returns the failure for a legacy key, a JWT that names its project, of another project.
fn other_project(credential: Option<&Credential>, project: Option<&str>) -> Option<Failure> {
    let credential = credential?;
    let key = credential.plain().or_else(|| credential.field("api_key"))?;
    let claims = super::lowcode::login::claims(key.expose().trim())?;
    let (named, wanted) = (claims.get("ref")?.as_str()?, project?);
    (named != wanted && address::is_reference(named)).then(|| {
        Failure::new(
            Class::WrongService,
            format!("the key of this credential belongs to the project {named}, and the resource id names {wanted}"),
            format!("use a key of the project {wanted} (supabase.com/dashboard/project/{wanted}/settings/api-keys), or write {named} into resource_ids"),
        )
    })
}

#[cfg(test)]
mod tests;
