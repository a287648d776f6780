//! The connection strings of a project's database, as the page Connect of the dashboard shows them. Pure.
//!
//! \[V\] supabase.com/docs, "Connect to your database": the direct connection is `db.REF.supabase.co`, and the shared pooler has
//! the host of a cluster (`aws-1-eu-central-1.pooler.supabase.com`), where the user names the project: `ROLE.REF`.

use super::super::sql::uri;

/// The host that a connection string names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `db.REF.supabase.co`, which belongs to one project.
    Direct,
    /// A shared pooler, which serves many projects.
    Pooler,
    /// Any other host, for example that of a self-hosted Supabase.
    Other,
}

/// A database of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseAddress {
    /// The resource id as the engine `sql` reads it: without a user.
    pub id: String,
    pub host: String,
    pub endpoint: Endpoint,
    /// The reference of the project, if the host or the user names it.
    pub project: Option<String>,
}

/// Parameters that clients other than the server read, and that stand in the strings of the dashboard.
const CLIENT_PARAMETERS: [&str; 3] = ["pgbouncer", "connection_limit", "pool_timeout"];

impl DatabaseAddress {
    /// Returns the direct connection of the project `reference`.
    #[must_use]
    pub fn direct(reference: &str) -> DatabaseAddress {
        let host = format!("db.{reference}.supabase.co");
        let id = format!("postgresql://{host}:5432/postgres");
        DatabaseAddress { id, host, endpoint: Endpoint::Direct, project: Some(reference.to_string()) }
    }

    /// Parses a connection string, or returns `None` if `id` is not one. A string with a password is kept as it is, so that the
    /// engine `sql` refuses it.
    #[must_use]
    pub fn parse(id: &str) -> Option<DatabaseAddress> {
        let id = id.trim();
        let bare = strip_prefix_ignore_case(id, "jdbc:").unwrap_or(id);
        let has_scheme = ["postgres://", "postgresql://"].iter().any(|scheme| strip_prefix_ignore_case(bare, scheme).is_some());
        let rest = if has_scheme { bare.split_once("://")?.1 } else { bare };
        let (authority, path) = rest.split_at(rest.find(['/', '?'])?);
        let (user, server) = authority.rsplit_once('@').map_or((None, authority), |(user, server)| (Some(user), server));
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host).to_ascii_lowercase();
        let endpoint = endpoint(&host);
        if !has_scheme && (endpoint == Endpoint::Other || id.contains("://")) {
            return None;
        }
        let named = user.and_then(user_without_password);
        let id = match (user, named) {
            (Some(_), None) => id.to_string(),
            _ => format!("postgresql://{server}{}", without_client_parameters(path)),
        };
        let project = match endpoint {
            Endpoint::Direct => host.strip_prefix("db.").and_then(|rest| rest.split('.').next()).map(str::to_string),
            _ => named.and_then(project_of_user).map(str::to_string),
        };
        Some(DatabaseAddress { id, host, endpoint, project })
    }

    /// Returns the name of the login role for `user` at this host. At the shared pooler, a role without a project gets the one
    /// that the resource id names; at the project's own server, the project is left out.
    ///
    /// # Errors
    /// Returns what is wrong with the user.
    pub fn login_role(&self, user: &str) -> Result<String, WrongUser> {
        let named = project_of_user(user);
        if let (Some(named), Some(wanted)) = (named, &self.project)
            && named != wanted
        {
            return Err(WrongUser::OtherProject { named: named.to_string(), wanted: wanted.clone() });
        }
        match (self.endpoint, named, &self.project) {
            (Endpoint::Direct, Some(named), _) => Ok(user.strip_suffix(&format!(".{named}")).unwrap_or(user).to_string()),
            (Endpoint::Pooler, None, Some(project)) => Ok(format!("{user}.{project}")),
            (Endpoint::Pooler, None, None) => Err(WrongUser::NoProject),
            _ => Ok(user.to_string()),
        }
    }
}

/// Why a user cannot log in at the host of a connection string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrongUser {
    /// Neither the user nor the resource id names the project, which the shared pooler needs.
    NoProject,
    OtherProject {
        named: String,
        wanted: String,
    },
}

fn endpoint(host: &str) -> Endpoint {
    let is_direct = || host.strip_prefix("db.")?.strip_suffix(".supabase.co").filter(|name| !name.contains('.'));
    match () {
        () if host.ends_with(".pooler.supabase.com") => Endpoint::Pooler,
        () if is_direct().is_some() => Endpoint::Direct,
        () => Endpoint::Other,
    }
}

/// Returns the user of a connection string, or `None` if a password follows it. The dashboard writes `[YOUR-PASSWORD]` where the
/// password belongs.
fn user_without_password(text: &str) -> Option<&str> {
    match text.split_once(':') {
        None => Some(text),
        Some((user, password)) => (password == "[YOUR-PASSWORD]").then_some(user),
    }
}

/// Returns the project that a user of the pooler names.
fn project_of_user(user: &str) -> Option<&str> {
    user.rsplit_once('.').map(|(_, project)| project).filter(|project| is_reference(project))
}

/// Returns true for the form of a project's reference. \[K\] It has 20 lower-case letters.
#[must_use]
pub fn is_reference(text: &str) -> bool {
    text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn without_client_parameters(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_string() };
    let is_client = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        CLIENT_PARAMETERS.iter().any(|parameter| name.eq_ignore_ascii_case(parameter))
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_client(pair)).collect();
    if kept.is_empty() { path.to_string() } else { format!("{path}?{}", kept.join("&")) }
}

use uri::strip_prefix_ignore_case;

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "abcdefghijklmnopqrst";

    #[test]
    fn the_strings_of_the_dashboard_are_read() {
        let direct = DatabaseAddress::direct(PROJECT);
        let host = direct.host.clone();
        for id in [
            format!("postgresql://postgres:[YOUR-PASSWORD]@{host}:5432/postgres"),
            format!("postgresql://postgres@{host}:5432/postgres"),
            format!("postgres://{host}:5432/postgres"),
            format!("jdbc:postgresql://{host}:5432/postgres"),
            format!(" {}:5432/postgres", host.to_uppercase()),
        ] {
            let found = DatabaseAddress::parse(&id).unwrap();
            assert_eq!((found.endpoint, found.project.as_deref()), (Endpoint::Direct, Some(PROJECT)), "{id}");
            assert!(uri::parse(&found.id).is_ok(), "{id}: {}", found.id);
        }
        let pooler = "aws-1-eu-central-1.pooler.supabase.com";
        for (id, project, kept) in [
            (format!("postgresql://postgres.{PROJECT}:[YOUR-PASSWORD]@{pooler}:5432/postgres"), Some(PROJECT), ":5432/postgres"),
            (format!("postgresql://aam_reader.{PROJECT}@{pooler}:6543/postgres?pgbouncer=true"), Some(PROJECT), ":6543/postgres"),
            (format!("{pooler}:5432/postgres?sslmode=require&connection_limit=1"), None, ":5432/postgres?sslmode=require"),
        ] {
            let found = DatabaseAddress::parse(&id).unwrap();
            assert_eq!((found.endpoint, found.project.as_deref()), (Endpoint::Pooler, project), "{id}");
            assert_eq!(found.id, format!("postgresql://{pooler}{kept}"), "{id}");
        }
        let own = DatabaseAddress::parse("postgresql://db.acme.example:5432/postgres").unwrap();
        assert_eq!((own.endpoint, own.project), (Endpoint::Other, None));
    }

    #[test]
    fn a_password_is_refused_and_other_ids_are_not_strings() {
        let with_password = format!("postgresql://postgres.{PROJECT}:hunter2@aws-0-eu-west-1.pooler.supabase.com:5432/postgres");
        let found = DatabaseAddress::parse(&with_password).unwrap();
        let refused = uri::parse(&found.id).unwrap_err();
        assert!(refused.title.contains("contains a user or a password"), "{refused:?}");
        for id in
            [PROJECT, "project_abcdefghijklmnopqrst", "https://abcdefghijklmnopqrst.supabase.co/rest/v1/", "a/b", "", "host:1/x"]
        {
            assert_eq!(DatabaseAddress::parse(id), None, "{id:?}");
        }
    }

    #[test]
    fn a_user_names_the_project_where_the_host_does_not() {
        let direct = DatabaseAddress::direct(PROJECT);
        let string = format!("postgresql://postgres.{PROJECT}@aws-0-eu-west-1.pooler.supabase.com:5432/postgres");
        let pooler = DatabaseAddress::parse(&string).unwrap();
        let nameless = DatabaseAddress { project: None, ..pooler.clone() };
        let full = format!("aam_reader.{PROJECT}");
        assert_eq!(pooler.login_role("aam_reader"), Ok(full.clone()));
        assert_eq!((pooler.login_role(&full), nameless.login_role(&full)), (Ok(full.clone()), Ok(full.clone())));
        assert_eq!((direct.login_role(&full), direct.login_role("a.b")), (Ok("aam_reader".to_string()), Ok("a.b".to_string())));
        assert_eq!(nameless.login_role("aam_reader"), Err(WrongUser::NoProject));
        let other = "aam_reader.zzzzzzzzzzzzzzzzzzzz";
        for address in [&direct, &pooler] {
            assert!(matches!(address.login_role(other), Err(WrongUser::OtherProject { .. })), "{address:?}");
        }
    }
}
