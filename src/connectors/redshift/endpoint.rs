//! The address of a Redshift database as a client of its protocol writes it. Pure.

use crate::connectors::sql::uri::{self, DatabaseLocation, DatabaseServer, Dialect, Tls};
use crate::model::{Class, Failure};

/// The port of Redshift \[K\] (Amazon Redshift Management Guide, "Connecting to an Amazon Redshift data warehouse").
pub const DEFAULT_PORT: u16 = 5439;

/// The schemes that drivers of Redshift and of PostgreSQL use.
const SCHEMES: [&str; 6] =
    ["jdbc:redshift:iam://", "jdbc:redshift://", "redshift://", "jdbc:postgresql://", "postgresql://", "postgres://"];

/// Returns the server that `id` names, or `None` if it names no host.
///
/// # Errors
/// The failure of an address whose host is named and whose rest is not valid.
pub fn parse(id: &str) -> Result<Option<DatabaseServer>, Failure> {
    let id = id.trim();
    let scheme = SCHEMES.iter().find(|scheme| id.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let rest = scheme.map_or(id, |scheme| id.get(scheme.len()..).unwrap_or_default());
    // The driver of Redshift separates properties with semicolons.
    let rest = rest.replacen(';', "?", 1).replace(';', "&");
    let Some((authority, path)) = rest.split_once('/') else { return Ok(None) };
    let is_host = authority.contains(':') || authority.starts_with('[') || authority == "localhost" || is_endpoint(authority);
    if authority.starts_with("arn:") || !is_host && scheme.is_none() {
        return Ok(None);
    }
    let has_port = authority.rsplit_once(']').map_or(authority, |(_, port)| port).contains(':');
    let authority = if has_port { authority.to_string() } else { format!("{authority}:{DEFAULT_PORT}") };
    if names_only_a_database_user(path) {
        return Err(holds_database_user());
    }
    match uri::parse(&format!("postgresql://{authority}/{path}"))? {
        DatabaseLocation::Server(server) => {
            // Redshift encrypts on its own hosts, and the certificate proves which server this is.
            let tls = if is_endpoint(&server.host) && server.tls != Tls::Disable { Tls::Verify } else { server.tls };
            Ok(Some(DatabaseServer { dialect: Dialect::Redshift, tls, ..server }))
        }
        DatabaseLocation::Sqlite(_) => Ok(None),
    }
}

/// Whether the properties after the path name a database user, as AWS writes it for a login through IAM, and no secret.
fn names_only_a_database_user(path: &str) -> bool {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let names = |wanted: &[&str]| {
        query.split('&').filter_map(|pair| pair.split_once('=')).any(|(name, _)| {
            let name = name.to_ascii_lowercase();
            wanted.iter().any(|part| name.contains(part))
        })
    };
    names(&["dbuser"]) && !names(&["pass", "pwd", "secret", "token", "key", "credential"])
}

/// The failure for an address with `DbUser`, which belongs to the credential of the Data API.
fn holds_database_user() -> Failure {
    Failure::new(
        Class::NotMappable,
        "the resource id contains a database user (DbUser)",
        r#"remove DbUser from the resource id, and store it as db_user beside the access key of AWS where credential_locator points: {"access_key_id":"...","secret_access_key":"...","db_user":"NAME"}"#,
    )
}

/// Whether `host` is one that AWS gave to a cluster or a workgroup.
pub fn is_endpoint(host: &str) -> bool {
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    [".redshift.", ".redshift-serverless."].iter().any(|name| {
        host.split_once(name).is_some_and(|(_, suffix)| ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"].contains(&suffix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: &str) -> DatabaseServer {
        parse(id).unwrap_or_else(|failure| panic!("{id}: {failure:?}")).unwrap_or_else(|| panic!("{id} names no host"))
    }

    #[test]
    fn the_addresses_of_drivers_and_of_the_console_are_read() {
        const HOST: &str = "analytics.abc123xyz789.eu-central-1.redshift.amazonaws.com";
        for id in [
            format!("{HOST}:5439/dev"),
            format!("{HOST}/dev"),
            format!("jdbc:redshift://{HOST}:5439/dev"),
            format!("jdbc:redshift:iam://{HOST}:5439/dev"),
            format!("redshift://{}:5439/dev", HOST.to_uppercase()),
            format!("jdbc:redshift://{HOST}:5439/dev;ssl=true;loginTimeout=5"),
            format!("postgresql://{HOST}:5439/dev?sslmode=require"),
        ] {
            let server = server(&id);
            assert_eq!((server.host.as_str(), server.port, server.database.as_str()), (HOST, 5439, "dev"), "{id}");
            assert_eq!((server.dialect, server.tls), (Dialect::Redshift, Tls::Verify), "{id}");
        }
        let local = server("localhost:15432/warehouse");
        assert_eq!((local.port, local.tls), (15432, Tls::Unspecified));
        assert_eq!(server("wg.111122223333.us-east-1.redshift-serverless.amazonaws.com/dev").port, 5439);
    }

    #[test]
    fn names_of_the_data_api_are_not_hosts() {
        for id in
            ["eu-central-1/analytics/dev", "analytics/dev", "arn:aws:redshift:eu-central-1:111122223333:dbname:analytics/dev"]
        {
            assert_eq!(parse(id).unwrap(), None, "{id}");
        }
        assert!(parse("redshift://reader:secret@analytics.example:5439/dev").is_err());
    }

    /// The form of AWS for a login through IAM names a user and no password, so no password has to be changed.
    #[test]
    fn a_database_user_in_an_address_is_not_a_password() {
        const ADDRESS: &str = "jdbc:redshift:iam://analytics.abc123xyz789.eu-central-1.redshift.amazonaws.com:5439/dev";
        for query in ["?DbUser=reader", ";dbuser=reader", "?ssl=true&DbUser=reader"] {
            let failure = parse(&format!("{ADDRESS}{query}")).unwrap_err();
            assert_eq!(failure.title, "the resource id contains a database user (DbUser)");
            assert!(failure.fix.contains("db_user") && !failure.fix.contains("password"), "{failure:?}");
            assert!(!format!("{failure:?}").contains("reader"), "{failure:?}");
        }
        assert!(parse(ADDRESS).unwrap().is_some(), "what the fix leaves is accepted");
        let with_key = parse(&format!("{ADDRESS}?DbUser=reader&SecretAccessKey=x")).unwrap_err();
        assert!(with_key.fix.contains("stored in clear text"), "{with_key:?}");
        let user = parse("redshift://reader@analytics.example:5439/dev").unwrap_err();
        assert_eq!(user.title, "the resource id contains a user");
    }
}
