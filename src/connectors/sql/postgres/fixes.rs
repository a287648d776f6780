//! Fixes that depend on who operates the server: only an operator of PostgreSQL itself can edit pg_hba.conf and the files of a
//! pooler. Amazon Redshift has neither, and other statements; a managed service of PostgreSQL has its own settings in their place.

use crate::connectors::sql::uri::{DatabaseServer, Dialect};

/// Who operates a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Its users, who can edit the configuration of the server and of the pooler.
    Users,
    /// AWS, as Amazon Redshift.
    Redshift,
    /// A vendor that runs PostgreSQL. Its users can change roles, and the settings that the vendor shows.
    Vendor,
}

/// The domains of services that run PostgreSQL for their users and do not let them edit pg_hba.conf \[K\]: Supabase (direct
/// connection and pooler), Amazon RDS and Aurora, Azure Database for PostgreSQL, Neon.
const SERVICE_DOMAINS: [&str; 6] = [
    ".supabase.co",
    ".pooler.supabase.com",
    ".rds.amazonaws.com",
    ".rds.amazonaws.com.cn",
    ".postgres.database.azure.com",
    ".neon.tech",
];

/// With an access key, AAM does not log in to the database itself.
pub const USE_DATA_API: &str = "use the Data API: store an access key of AWS where credential_locator points, or write sp:NAME of a service principal of the \
     kind aws into the intent";

impl Operator {
    #[must_use]
    pub fn from_server(server: &DatabaseServer) -> Operator {
        match server.dialect {
            Dialect::Redshift => Operator::Redshift,
            Dialect::Postgres if SERVICE_DOMAINS.iter().any(|domain| server.host.ends_with(domain)) => Operator::Vendor,
            Dialect::Postgres => Operator::Users,
        }
    }

    /// How the server can be made to ask for the password in a way that does not reveal it, after "connect with TLS". Empty if
    /// TLS is the only way.
    #[must_use]
    pub fn stronger_login(self, role: &str, with_new_password: bool) -> String {
        match self {
            Operator::Users if with_new_password => format!(
                ", or use scram-sha-256 in pg_hba.conf (auth_type of a pooler) and store the password for it: \
                 SET password_encryption = 'scram-sha-256'; ALTER ROLE {role} PASSWORD '...'"
            ),
            Operator::Users => format!(", or use scram-sha-256 for {role} in pg_hba.conf (auth_type of a pooler)"),
            Operator::Redshift | Operator::Vendor => String::new(),
        }
    }

    /// The fix for an authentication method that AAM does not support.
    #[must_use]
    pub fn other_method(self, role: &str) -> String {
        match self {
            Operator::Users => {
                format!("let pg_hba.conf (auth_type of a pooler) use scram-sha-256 for {role}, then run `aam heal`")
            }
            Operator::Vendor => {
                format!(
                    "store a role that logs in with a password: CREATE ROLE NAME LOGIN PASSWORD '...'; {role} does not; then run `aam heal`"
                )
            }
            Operator::Redshift => format!("{USE_DATA_API}; or name a database user with a password; then run `aam heal`"),
        }
    }

    /// How the server can be made to ask `role` for its password.
    #[must_use]
    pub fn ask_for_password(self, role: &str) -> String {
        match self {
            Operator::Users => format!(
                "write scram-sha-256 in place of trust into the line of pg_hba.conf that admits {role} (auth_type of a pooler), and \
                 reload it with SELECT pg_reload_conf();"
            ),
            Operator::Vendor | Operator::Redshift => {
                format!("check which server or pooler answers, because the service itself asks {role} for its password")
            }
        }
    }

    /// How the iterations of a stored password are changed.
    #[must_use]
    pub fn iterations(self, role: &str, count: u32) -> Option<String> {
        let statement = format!("SET scram_iterations = {count}; ALTER ROLE {role} PASSWORD '...';");
        (self != Operator::Redshift).then_some(statement)
    }

    /// The statement that sets a new password.
    #[must_use]
    pub fn new_password(self, role: &str) -> String {
        match self {
            Operator::Redshift => format!("ALTER USER {role} PASSWORD '...'"),
            Operator::Users | Operator::Vendor => format!("ALTER ROLE {role} PASSWORD '...'"),
        }
    }

    /// How the databases of `server` are listed.
    #[must_use]
    pub fn list_databases(self, server: &DatabaseServer) -> String {
        match self {
            // The catalog that psql -l reads has columns that Redshift does not have.
            Operator::Redshift => "SELECT datname FROM pg_database; lists those that exist".to_string(),
            Operator::Users | Operator::Vendor => {
                format!("psql -h {} -p {} -l lists those that exist", server.host, server.port)
            }
        }
    }

    /// The fix for a server that does not admit the role and does not say why.
    #[must_use]
    pub fn not_admitted(self) -> &'static str {
        match self {
            Operator::Users => {
                "see the detail, which is the message of the server; correct the role, pg_hba.conf or the configuration of the pooler"
            }
            Operator::Vendor => {
                "see the detail, which is the message of the server; correct the role, or the settings of the service that admit it"
            }
            Operator::Redshift => {
                "see the detail, which is the message of the server; SELECT usename, valuntil FROM pg_user; shows whether the user \
                 exists and until when its password is valid"
            }
        }
    }

    /// What must hold the same password as the server, after the fix for a wrong password.
    #[must_use]
    pub fn pooler_passwords(self) -> &'static str {
        match self {
            Operator::Users => {
                ", and check that the user list of the pooler (auth_file of PgBouncer, pool_passwd of Pgpool-II) holds the same \
                 password as the server"
            }
            Operator::Redshift | Operator::Vendor => "",
        }
    }

    /// What gives the server more free connections, after "if it happens often, ".
    #[must_use]
    pub fn more_connections(self) -> &'static str {
        match self {
            Operator::Users => "raise max_connections of the server, the limit of the pooler, or the role's CONNECTION LIMIT",
            Operator::Vendor => {
                "raise the pool size or the size of the instance in the settings of the service, or the role's CONNECTION LIMIT"
            }
            Operator::Redshift => {
                "end sessions that are not needed (SELECT process, user_name FROM stv_sessions; shows them), or raise the user's \
                 CONNECTION LIMIT"
            }
        }
    }

    /// The statement that shows which session holds a lock.
    #[must_use]
    pub fn lock_holders(self) -> &'static str {
        match self {
            Operator::Redshift => "SELECT pid, txn_owner, relation FROM svv_transactions WHERE granted;",
            Operator::Users | Operator::Vendor => {
                "SELECT pid, query FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock');"
            }
        }
    }

    /// The statement that allows `role` what the server refused with `message`, while it read the catalog.
    #[must_use]
    pub fn catalog_grant(self, role: &str, message: &str) -> String {
        match self {
            Operator::Users | Operator::Vendor => format!(
                "grant what the detail names; a role can read the catalog unless the right was revoked: GRANT USAGE ON SCHEMA pg_catalog TO {role};"
            ),
            Operator::Redshift => match denied_object(message) {
                Some(("schema", name)) => {
                    format!("GRANT USAGE ON SCHEMA {name} TO {role}; as a superuser or the owner of the schema")
                }
                Some((_, name)) => {
                    format!(
                        "every user can read the system views unless an administrator revoked it; as a superuser: GRANT SELECT ON {name} TO {role};"
                    )
                }
                None => "see the detail; every user can read the system views unless an administrator revoked it".to_string(),
            },
        }
    }
}

/// The object of `permission denied for KIND NAME`. The message is text that any server can choose, so only a plain name is taken
/// into a statement.
fn denied_object(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once("permission denied for ")?;
    let mut parts = rest.split_whitespace();
    let (kind, name) = (parts.next()?, parts.next()?.trim_end_matches(['.', ';', ',']));
    let is_plain = (1..=127).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_plain && ["relation", "table", "view", "schema"].contains(&kind)).then_some((kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::sql::uri::{DatabaseLocation, parse};

    fn server(id: &str) -> DatabaseServer {
        match parse(id) {
            Ok(DatabaseLocation::Server(server)) => server,
            other => panic!("{id}: {other:?}"),
        }
    }

    #[test]
    fn the_operator_follows_from_the_dialect_and_the_host() {
        for (host, expected) in [
            ("db.example", Operator::Users),
            ("localhost", Operator::Users),
            ("supabase.co.example", Operator::Users),
            ("db.abcdefghijklmnopqrst.supabase.co", Operator::Vendor),
            ("aws-0-eu-west-1.pooler.supabase.com", Operator::Vendor),
            ("shop.abc123.eu-central-1.rds.amazonaws.com", Operator::Vendor),
            ("shop.postgres.database.azure.com", Operator::Vendor),
        ] {
            assert_eq!(Operator::from_server(&server(&format!("{host}:5432/shop"))), expected, "{host}");
        }
        let redshift = DatabaseServer { dialect: Dialect::Redshift, ..server("db.example:5439/dev") };
        assert_eq!(Operator::from_server(&redshift), Operator::Redshift);
    }

    #[test]
    fn a_grant_takes_only_a_plain_name_from_the_message() {
        let grant = |message: &str| Operator::Redshift.catalog_grant("\"aam\"", message);
        assert!(grant("permission denied for relation svv_columns").ends_with("GRANT SELECT ON svv_columns TO \"aam\";"));
        assert!(grant("permission denied for schema sales").starts_with("GRANT USAGE ON SCHEMA sales TO \"aam\";"));
        for message in ["permission denied for relation x\";drop", "permission denied for language plpythonu", "denied"] {
            assert!(!grant(message).contains("GRANT"), "{message}");
        }
    }
}
