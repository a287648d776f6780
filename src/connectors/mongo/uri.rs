//! Parses the resource ids of the family `mongo`: connection strings of MongoDB without a user and a password.
//!
//! The forms are from the MongoDB manual, "Connection Strings". A person may have written a password anywhere in a resource
//! id, so a failure never repeats a value.

use super::options::{self, Options};
use crate::connectors::driver_session::{DriverServer, has_password};
use crate::model::{Class, Failure};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::net::Ipv6Addr;

/// The port of a server if none is written.
pub const DEFAULT_PORT: u16 = 27017;
/// Limit on the number of hosts in a resource id. A replica set has at most 50 members.
const MAX_SEEDS: usize = 50;

const FORM: &str = "write mongodb://HOST:PORT/DATABASE, mongodb://HOST1,HOST2,HOST3/DATABASE?replicaSet=NAME, or \
    mongodb+srv://CLUSTER.EXAMPLE.mongodb.net/DATABASE";

/// One server of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The host in lower case. An IPv6 address has no brackets here.
    pub host: String,
    pub port: u16,
}

/// Where the first servers of a deployment come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// The resource id names them.
    Listed(Vec<Member>),
    /// The SRV records of this host name them.
    Service(String),
}

/// One database of one deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub seeds: Seeds,
    pub database: String,
    pub options: Options,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl DriverServer for Member {
    fn protocol(&self) -> &'static str {
        "mongodb"
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn default_port(&self) -> u16 {
        DEFAULT_PORT
    }
}

impl Location {
    /// The hosts as they are written, sorted, so that the order of a list does not make two accounts of one deployment.
    #[must_use]
    pub fn authority(&self) -> String {
        match &self.seeds {
            Seeds::Service(host) => host.clone(),
            Seeds::Listed(members) => {
                let mut names: Vec<String> = members.iter().map(ToString::to_string).collect();
                names.sort();
                names.join(",")
            }
        }
    }
}

/// Formats as `mongodb db.example:27017/shop`. The text never contains a secret.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mongodb {}/{}", self.authority(), self.database)
    }
}

/// Parses a resource id.
///
/// # Errors
/// `NotMappable`, `Misconfigured` or `Unsupported`. Values are not repeated.
pub fn parse(resource_id: &str) -> Result<Location, Failure> {
    let id = resource_id.trim();
    if id.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(refused(
            "the resource id contains a blank or a control character",
            "remove it; in a name, write a blank as %20",
        ));
    }
    let Some((scheme, rest)) = id.split_once("://") else {
        return Err(refused("the resource id is not a MongoDB connection string", FORM));
    };
    let service = match scheme.to_ascii_lowercase().as_str() {
        "mongodb" => false,
        "mongodb+srv" => true,
        _ => return Err(refused("the resource id does not begin with mongodb:// or mongodb+srv://", FORM)),
    };
    if rest.contains('@') {
        return Err(holds_login(has_password(rest)));
    }
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, path) = address.split_once('/').unwrap_or((address, ""));
    let seeds = if service { service_host(hosts)? } else { listed(hosts)? };
    let database = database(path)?;
    let options = options::parse(query, service)?;
    check_combination(&seeds, &options)?;
    Ok(Location { seeds, database, options })
}

/// Options that contradict each other or the hosts (specification "URI Options", MongoDB drivers).
fn check_combination(seeds: &Seeds, options: &Options) -> Result<(), Failure> {
    let several = matches!(seeds, Seeds::Listed(members) if members.len() > 1);
    let direct = options.direct == Some(true);
    if direct && (several || matches!(seeds, Seeds::Service(_))) {
        return Err(refused("directConnection=true needs exactly one host", "name one host, or remove directConnection"));
    }
    if options.load_balanced && (several || direct || options.replica_set.is_some()) {
        return Err(refused(
            "loadBalanced=true needs exactly one host, and neither replicaSet nor directConnection",
            "name the host of the load balancer only",
        ));
    }
    Ok(())
}

fn service_host(hosts: &str) -> Result<Seeds, Failure> {
    if hosts.contains(',') || hosts.contains(':') {
        return Err(refused("mongodb+srv:// takes exactly one host name, without a port", FORM));
    }
    let host = host_name(hosts)?;
    if host.parse::<std::net::Ipv4Addr>().is_ok() || host.split('.').count() < 2 {
        return Err(refused("the host after mongodb+srv:// is not a domain name", FORM));
    }
    Ok(Seeds::Service(host))
}

fn listed(hosts: &str) -> Result<Seeds, Failure> {
    let members = hosts.split(',').map(|text| member(text, FORM)).collect::<Result<Vec<_>, _>>()?;
    if members.len() > MAX_SEEDS {
        return Err(refused("the resource id names more than 50 hosts", "name some of them; the others are found"));
    }
    Ok(Seeds::Listed(members))
}

/// Parses `HOST` or `HOST:PORT`, as in a resource id and in what a server announces.
///
/// # Errors
/// `NotMappable` with `form` as its fix.
pub fn member(text: &str, form: &str) -> Result<Member, Failure> {
    if text.to_ascii_lowercase().contains("%2f") {
        return Err(refused("a Unix socket is not accepted as a host", form));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(inside) => {
            let (host, after) = inside.split_once(']').ok_or_else(|| refused("the ] of an IPv6 address is missing", form))?;
            host.parse::<Ipv6Addr>().map_err(|_| refused("the text in brackets is not an IPv6 address", form))?;
            match after.strip_prefix(':') {
                Some(port) => (host.to_ascii_lowercase(), Some(port)),
                None if after.is_empty() => (host.to_ascii_lowercase(), None),
                None => return Err(refused("text follows the ] of an IPv6 address", form)),
            }
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (host_name(host)?, port)
        }
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| refused("the port of a host is not a number from 1 to 65535", form))?,
    };
    Ok(Member { host, port })
}

fn host_name(host: &str) -> Result<String, Failure> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) {
        return Err(refused("a host of the resource id is missing or is not a host name", FORM));
    }
    Ok(host.to_ascii_lowercase())
}

/// The name of the database. MongoDB does not allow `/\. "$*<>:|?` in it (manual, "Naming Restrictions").
fn database(path: &str) -> Result<String, Failure> {
    if path.is_empty() {
        return Err(refused("the resource id does not name a database", "write /DATABASE after the hosts, before the ?"));
    }
    let name = match percent_decode_str(path).decode_utf8() {
        Ok(name) => name.into_owned(),
        Err(_) => return Err(refused("the name of the database is not UTF-8", FORM)),
    };
    if name.len() > 63 || name.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
        return Err(refused(
            "the text after the hosts is not the name of a database",
            "write the name of one database; a collection is not part of the resource id",
        ));
    }
    Ok(name)
}

/// The failure for a resource id that contains a user, and perhaps a password.
fn holds_login(has_password: bool) -> Failure {
    const FIX: &str = "remove everything up to the @ from the resource id; store {\"user\":\"NAME\",\"password\":\"...\"} where \
        credential_locator points, for example env:NAME";
    if has_password {
        let fix = format!("{FIX}; change the password, because it was stored in clear text");
        return refused("the resource id contains a user or a password", fix);
    }
    refused("the resource id contains a user", FIX)
}

/// The failure for a resource id that cannot be used.
pub(super) fn refused(title: impl Into<String>, fix: impl Into<String>) -> Failure {
    Failure::new(Class::NotMappable, title, fix)
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
