//! Where a registry is: an SQLite file, or a database of PostgreSQL.

mod password;

use super::RegistryError;
use crate::model::Digest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use sqlstore::{HostPort, PostgresOptions, TargetSession, TlsMode};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The port of PostgreSQL.
const DEFAULT_PORT: u16 = 5432;
/// The schema in the database that the registry has.
const DEFAULT_SCHEMA: &str = "aam";
/// What is written with percent signs in a URL of a registry.
const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');

/// Why a URL with a password is refused.
const PASSWORD: &str = "the URL of the registry contains a password, which everybody who lists the processes can read";

/// The place of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The SQLite file. For PostgreSQL, a path on this machine beside which the files of this process are: the lock, the token
    /// of the operator and the key of the listener.
    local: PathBuf,
    postgres: Option<Arc<PostgresLocation>>,
}

/// A registry in a database of PostgreSQL. It does not contain a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresLocation {
    hosts: Vec<(String, u16)>,
    database: String,
    role: String,
    pub(super) schema: String,
    /// Where the password is: `env:NAME` or `file:PATH`. `None` if the server does not ask for one.
    credential: Option<String>,
    tls: TlsMode,
    /// The certificate authority of the server. `None` for those of the system.
    root_certificate: Option<PathBuf>,
    pub(super) keeps_sessions: KeepsSessions,
}

/// Whether it was found that connections to the database keep sessions of the server for themselves. Copies share it.
#[derive(Clone, Debug, Default)]
pub(super) struct KeepsSessions(Arc<AtomicBool>);

impl KeepsSessions {
    pub(super) fn is_known(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn note(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What was found does not belong to the place, so all values are equal.
impl PartialEq for KeepsSessions {
    fn eq(&self, _: &KeepsSessions) -> bool {
        true
    }
}

impl Eq for KeepsSessions {}

impl Location {
    /// The registry in the SQLite file at `path`.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Location {
        Location { local: path.into(), postgres: None }
    }

    /// The same registry, with the files of this process beside `local`.
    #[cfg(test)]
    #[must_use]
    pub fn at(self, local: PathBuf) -> Location {
        Location { local, ..self }
    }

    /// The path of the file or, for PostgreSQL, the path beside which the files of this process are.
    #[must_use]
    pub fn local(&self) -> &Path {
        &self.local
    }

    /// The database, if the registry is not a file.
    #[must_use]
    pub fn postgres(&self) -> Option<&PostgresLocation> {
        self.postgres.as_deref()
    }
}

impl PostgresLocation {
    /// Reads the password and returns how to open a session.
    ///
    /// # Errors
    /// [`RegistryError::Other`] if the credential is not set or its file cannot be read.
    pub(super) fn options(&self) -> Result<PostgresOptions, RegistryError> {
        let hosts = self.hosts.iter().map(|(host, port)| HostPort { host: host.clone(), port: *port }).collect();
        let mut options = PostgresOptions::new("", DEFAULT_PORT, &self.database, &self.role);
        options.hosts = hosts;
        options.password = self.credential.as_deref().map(password::read).transpose()?;
        options.application_name = "aam".to_string();
        options.schema = Some(self.schema.clone());
        // Also for reading: a standby may be behind, and what was just committed has to be found.
        options.target_session = TargetSession::ReadWrite;
        options.tls = self.tls;
        options.ca_file.clone_from(&self.root_certificate);
        Ok(options)
    }

    /// The role that AAM runs as.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The database that has the registry.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The URL for the owner of the tables, with OWNER and NAME where the owner and the variable with its password are filled in.
    pub(super) fn of_owner(&self) -> String {
        let mut url = format!("postgres://OWNER@{}/{}?", self.host_list(), encoded(&self.database));
        if self.schema != DEFAULT_SCHEMA {
            url.push_str(&format!("schema={}&", self.schema));
        }
        if self.tls != default_tls(&self.hosts) {
            let mode = match self.tls {
                TlsMode::Disable => "disable",
                TlsMode::Prefer => "prefer",
                TlsMode::Require => "require",
            };
            url.push_str(&format!("sslmode={mode}&"));
        }
        if let Some(path) = &self.root_certificate {
            url.push_str(&format!("sslrootcert={}&", encoded(&path.to_string_lossy())));
        }
        url + "credential=env:NAME"
    }

    fn host_list(&self) -> String {
        let host = |(host, port): &(String, u16)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        self.hosts.iter().map(host).collect::<Vec<_>>().join(",")
    }

    /// The schema in the database that has the registry.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            None if !names_a_database(text) => return Ok(Location::file(text)),
            None => ("", text),
        };
        if !["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err("a registry is the path of a file, or a database of PostgreSQL; write postgres://ROLE@HOST/DATABASE?credential=env:NAME".to_string());
        }
        let postgres =
            parse_url(rest).map_err(|why| format!("{why}; write postgres://ROLE@HOST/DATABASE?credential=env:NAME"))?;
        // Two registries must not share the files of this machine, and one registry keeps them.
        let hosts: Vec<String> = postgres.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let identity = format!("{}/{}/{}", hosts.join(","), postgres.database, postgres.schema);
        let digest: String =
            Digest::from_bytes(identity.as_bytes()).to_string().chars().filter(char::is_ascii_hexdigit).take(12).collect();
        Ok(Location { local: PathBuf::from(format!("var/postgres-{digest}")), postgres: Some(Arc::new(postgres)) })
    }
}

/// Whether a text without `://` is meant as a database: `postgres:…`, or the `host=… password=…` of libpq. As the name of a file, it
/// would put a password into names of files and logs.
fn names_a_database(text: &str) -> bool {
    let text = text.trim_start().to_ascii_lowercase();
    let keys = ["host=", "hostaddr=", "user=", "password=", "dbname=", "service="];
    text.starts_with("postgres:")
        || text.starts_with("postgresql:")
        || text.split_whitespace().any(|word| keys.iter().any(|key| word.starts_with(key)))
}

/// Parses a URL without its scheme.
fn parse_url(rest: &str) -> Result<PostgresLocation, String> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let Some((role, hosts)) = authority.rsplit_once('@') else {
        return Err("the URL of the registry does not name a role".to_string());
    };
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .map(|text| text.into_owned())
            .map_err(|_| "the URL of the registry is not UTF-8".to_string())
    };
    let (role, database) = (decode(role)?, decode(database)?);
    if role.contains(':') {
        return Err(PASSWORD.to_string());
    }
    if role.is_empty() || database.is_empty() || database.contains('/') {
        return Err("the URL of the registry does not name a role and a database".to_string());
    }
    let hosts = hosts.split(',').map(host_and_port).collect::<Result<Vec<_>, _>>()?;
    let tls = default_tls(&hosts);
    let mut parsed = PostgresLocation {
        hosts,
        database,
        role,
        schema: DEFAULT_SCHEMA.to_string(),
        credential: None,
        tls,
        root_certificate: None,
        keeps_sessions: KeepsSessions::default(),
    };
    let mut seen = BTreeSet::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        set_parameter(&mut parsed, &name, value.into_owned())?;
        if !seen.insert(name.clone()) {
            return Err(format!("the URL of the registry has {name} twice"));
        }
    }
    Ok(parsed)
}

/// What stays on the machine needs no encryption, and the certificate of a server there is usually its own.
fn default_tls(hosts: &[(String, u16)]) -> TlsMode {
    let is_here = hosts.iter().all(|(host, _)| matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1"));
    if is_here { TlsMode::Disable } else { TlsMode::Require }
}

fn encoded(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, IN_URL)
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || "a host in the URL of the registry is not HOST or HOST:PORT".to_string();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| wrong())?;
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok((host.to_string(), port))
}

fn set_parameter(parsed: &mut PostgresLocation, name: &str, value: String) -> Result<(), String> {
    match name {
        "credential" if ["env:", "file:"].iter().any(|scheme| value.starts_with(scheme)) => parsed.credential = Some(value),
        "credential" => return Err("the credential of the registry is env:NAME or file:PATH".to_string()),
        "schema"
            if !value.is_empty()
                && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') =>
        {
            parsed.schema = value;
        }
        "schema" => return Err("the schema of the registry has lower-case letters, digits and _".to_string()),
        "sslrootcert" => parsed.root_certificate = Some(PathBuf::from(value)),
        "sslmode" => {
            parsed.tls = match value.as_str() {
                "disable" => TlsMode::Disable,
                "prefer" => TlsMode::Prefer,
                // The certificate and its name are verified in any case.
                "require" | "verify-ca" | "verify-full" => TlsMode::Require,
                _ => return Err(format!("sslmode {value:?} is not disable, prefer, require or verify-full")),
            }
        }
        "target_session_attrs" if value == "read-write" => {}
        "password" | "passfile" => return Err(PASSWORD.to_string()),
        // Its value may be a secret.
        _ => return Err(format!("the URL of the registry has a parameter {name} that AAM does not know")),
    }
    Ok(())
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Location {
        Location::file(path)
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Location {
        Location::file(path)
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Location {
        location.clone()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(postgres) = &self.postgres else { return write!(f, "{}", self.local.display()) };
        write!(f, "postgres://{}@{}/{}", encoded(&postgres.role), postgres.host_list(), encoded(&postgres.database))?;
        if postgres.schema != DEFAULT_SCHEMA {
            write!(f, "?schema={}", postgres.schema)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_file() {
        let location: Location = "var/aam.db".parse().expect("a location");
        assert_eq!((location.local(), location.postgres()), (Path::new("var/aam.db"), None));
    }

    #[test]
    fn a_url_names_hosts_role_database_and_credential() {
        let text =
            "postgres://aam@db1,db2:5433/registry?credential=env:AAM_PG&schema=prod&sslmode=require&sslrootcert=/etc/ca.pem";
        let location: Location = text.parse().expect("a location");
        let postgres = location.postgres().expect("a database");
        assert_eq!(postgres.hosts, [("db1".to_string(), 5432), ("db2".to_string(), 5433)]);
        assert_eq!((postgres.role.as_str(), postgres.database.as_str(), postgres.schema.as_str()), ("aam", "registry", "prod"));
        assert_eq!((postgres.credential.as_deref(), postgres.tls), (Some("env:AAM_PG"), TlsMode::Require));
        assert_eq!(location.to_string(), "postgres://aam@db1:5432,db2:5433/registry?schema=prod");
        let of_owner = "postgres://OWNER@db1:5432,db2:5433/registry?schema=prod&sslrootcert=/etc/ca.pem&credential=env:NAME";
        assert_eq!(postgres.of_owner(), of_owner);
        let with_everything = "postgres://a%40b@[::1]:5432,db/a%20b?schema=prod&sslmode=prefer&credential=env:NAME";
        let location: Location = with_everything.parse().expect("a location");
        assert_eq!(location.to_string(), "postgres://a%40b@[::1]:5432,db:5432/a%20b?schema=prod");
        let owner = location.postgres().expect("a database").of_owner();
        assert_eq!(owner, "postgres://OWNER@[::1]:5432,db:5432/a%20b?schema=prod&sslmode=prefer&credential=env:NAME");
        let other: Location = "postgres://aam@db1,db2:5433/registry".parse().expect("a location");
        assert_ne!(other.local(), location.local(), "another schema has other files");
        let defaults = other.postgres().expect("a database");
        assert_eq!((defaults.tls, defaults.credential.clone()), (TlsMode::Require, None));
        let here: Location = "postgresql://aam@127.0.0.1/registry".parse().expect("a location");
        assert_eq!(here.postgres().map(|postgres| postgres.tls), Some(TlsMode::Disable));
    }

    #[test]
    fn a_url_that_cannot_be_used_says_what_to_write() {
        for (text, why) in [
            ("postgres://aam:secret@db/registry", "contains a password"),
            ("postgres://db/registry", "does not name a role"),
            ("postgres://aam@db", "does not name a role and a database"),
            ("postgres://aam@db:secret/registry", "is not HOST or HOST:PORT"),
            ("postgres://aam@db/registry?credential=secret", "is env:NAME or file:PATH"),
            ("postgres://aam@db/registry?sslmode=maybe", "is not disable, prefer"),
            ("postgres://aam%3Asecret@db/registry", "contains a password"),
            ("postgres://aam@db/registry?password=secret", "contains a password"),
            ("postgres://aam@db/registry?pass=secret", "a parameter pass that AAM does not know"),
            ("postgres://aam@db/registry?schema=a&schema=b", "has schema twice"),
            ("mysql://aam@db/registry", "is the path of a file, or a database of PostgreSQL"),
            ("postgres:aam:secret@db/registry", "is the path of a file, or a database of PostgreSQL"),
            ("postgresql:/aam:secret@db/registry", "is the path of a file, or a database of PostgreSQL"),
            ("host=db user=aam password=secret dbname=aam", "is the path of a file, or a database of PostgreSQL"),
            ("POSTGRES://aam@db", "does not name a role and a database"),
        ] {
            let error = text.parse::<Location>().expect_err(text);
            assert!(error.contains(why) && error.contains("postgres://ROLE@HOST/DATABASE"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
