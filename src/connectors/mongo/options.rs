//! The options of a connection string (specification "URI Options" of the MongoDB drivers; manual, "Connection String
//! Options"). An option that would weaken AAM's rules is refused, one that AAM does not need is accepted, and an unknown one is
//! refused by name.

use super::uri::refused;
use crate::model::{Class, Failure};
use percent_encoding::percent_decode_str;
use std::time::Duration;

/// The encryption that the resource id asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not specified. The connection is verified, except on loopback, where nothing leaves the machine.
    #[default]
    Unspecified,
    /// `tls=false`: clear text.
    Disable,
    /// The certificate chain and the host name are verified.
    Verify,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    ScramSha1,
    ScramSha256,
    X509,
}

impl Mechanism {
    /// The name in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::ScramSha1 => "SCRAM-SHA-1",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::X509 => "MONGODB-X509",
        }
    }
}

/// Which members of a replica set may be read (manual, "Read Preference").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadPreference {
    Primary,
    PrimaryPreferred,
    Secondary,
    /// The default of AAM, so that a probe does not weigh on the primary.
    #[default]
    SecondaryPreferred,
    Nearest,
}

impl ReadPreference {
    const ALL: [ReadPreference; 5] = [
        ReadPreference::Primary,
        ReadPreference::PrimaryPreferred,
        ReadPreference::Secondary,
        ReadPreference::SecondaryPreferred,
        ReadPreference::Nearest,
    ];

    /// The name in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ReadPreference::Primary => "primary",
            ReadPreference::PrimaryPreferred => "primaryPreferred",
            ReadPreference::Secondary => "secondary",
            ReadPreference::SecondaryPreferred => "secondaryPreferred",
            ReadPreference::Nearest => "nearest",
        }
    }
}

/// What the options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub tls: Tls,
    pub replica_set: Option<String>,
    /// `directConnection`: only the host of the resource id is called.
    pub direct: Option<bool>,
    pub load_balanced: bool,
    pub read_preference: ReadPreference,
    /// The database that knows the user.
    pub auth_source: Option<String>,
    pub mechanism: Option<Mechanism>,
    pub application: Option<String>,
    /// The name in SRV records; `mongodb` if not specified.
    pub service_name: Option<String>,
    /// A limit for connecting. It can only shorten the limit of the engine.
    pub connect_timeout: Option<Duration>,
    /// A limit for one response. It can only shorten the limit of the engine.
    pub answer_timeout: Option<Duration>,
}

/// Options that concern writes, pools, monitoring or the presentation of values, which AAM does not have.
const WITHOUT_EFFECT: [&str; 24] = [
    "retrywrites",
    "retryreads",
    "w",
    "wtimeoutms",
    "journal",
    "readconcernlevel",
    "maxpoolsize",
    "minpoolsize",
    "maxconnecting",
    "maxidletimems",
    "waitqueuetimeoutms",
    "waitqueuemultiple",
    "heartbeatfrequencyms",
    "localthresholdms",
    "serverselectiontimeoutms",
    "serverselectiontryonce",
    "servermonitoringmode",
    "compressors",
    "zlibcompressionlevel",
    "uuidrepresentation",
    "maxstalenessseconds",
    "srvmaxhosts",
    "timeoutms",
    "tlsdisableocspendpointcheck",
];

/// Options that name files of the machine on which a driver runs.
const FILES: [&str; 5] = [
    "tlscafile",
    "tlscertificatekeyfile",
    "tlscertificatekeyfilepassword",
    "sslcertificateauthorityfile",
    "sslclientcertificatekeyfile",
];

/// Parses the text after the `?`. With SRV records, TLS is the default (specification "Initial DNS Seedlist Discovery").
///
/// # Errors
/// `NotMappable` or `Unsupported`. Values are not repeated.
pub fn parse(query: &str, service: bool) -> Result<Options, Failure> {
    let mut options = Options::default();
    if service {
        options.tls = Tls::Verify;
    }
    for (name, value) in pairs(query)? {
        let is_service_option = name == "srvservicename" || name == "srvmaxhosts";
        if is_service_option && !service {
            return Err(refused(format!("{} needs mongodb+srv://", display_name(&name)), "remove it from the resource id"));
        }
        apply(&mut options, &name, &value)?;
    }
    Ok(options)
}

/// Applies the options of a TXT record. Only three are allowed there, and those of the resource id take precedence.
///
/// # Errors
/// `Misconfigured` if the record has other options.
pub fn apply_text_record(options: &mut Options, text: &str) -> Result<(), Failure> {
    let invalid = || {
        Failure::new(
            Class::Misconfigured,
            "the TXT record of the cluster has options that are not allowed there",
            "allowed are authSource, replicaSet and loadBalanced; correct the record, or name the hosts with mongodb://",
        )
    };
    let mut found = Options::default();
    for (name, value) in pairs(text).map_err(|_| invalid())? {
        match name.as_str() {
            "authsource" | "replicaset" | "loadbalanced" => apply(&mut found, &name, &value).map_err(|_| invalid())?,
            _ => return Err(invalid()),
        }
    }
    options.auth_source = options.auth_source.take().or(found.auth_source);
    options.replica_set = options.replica_set.take().or(found.replica_set);
    options.load_balanced |= found.load_balanced;
    Ok(())
}

/// The names in lower case, because they are not case-sensitive, and the decoded values. Old strings separate by `;`.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut found = Vec::new();
    for part in query.split(['&', ';']).filter(|part| !part.is_empty()) {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| refused("an option of the resource id has no value", "write options as NAME=VALUE, joined by &"))?;
        let value = percent_decode_str(value).decode_utf8();
        let value =
            value.map_err(|_| refused(format!("the value of {} is not UTF-8", display_name(name)), "correct the value"))?;
        found.push((name.to_ascii_lowercase(), value.into_owned()));
    }
    Ok(found)
}

fn apply(options: &mut Options, name: &str, value: &str) -> Result<(), Failure> {
    match name {
        "tls" | "ssl" => options.tls = if boolean(name, value)? { Tls::Verify } else { Tls::Disable },
        "replicaset" => options.replica_set = Some(text(name, value)?),
        "directconnection" => options.direct = Some(boolean(name, value)?),
        "loadbalanced" => options.load_balanced = boolean(name, value)?,
        "readpreference" => options.read_preference = read_preference(value)?,
        "authsource" => options.auth_source = Some(text(name, value)?),
        "authmechanism" => options.mechanism = mechanism(value)?,
        "appname" => options.application = Some(text(name, value)?),
        "srvservicename" => options.service_name = Some(service_name(name, value)?),
        "connecttimeoutms" => options.connect_timeout = milliseconds(name, value)?,
        "sockettimeoutms" => options.answer_timeout = milliseconds(name, value)?,
        "tlsinsecure"
        | "tlsallowinvalidcertificates"
        | "tlsallowinvalidhostnames"
        | "sslallowinvalidcertificates"
        | "sslinvalidhostnameallowed" => {
            if boolean(name, value)? {
                return Err(refused(
                    format!("{} is not allowed: AAM always verifies the certificate", display_name(name)),
                    "remove it; name the authority of the server in the policy's network.ca_file",
                ));
            }
        }
        _ if FILES.contains(&name) => {
            return Err(refused(
                format!("{} names a file, which a resource id may not do", display_name(name)),
                "name the authority in the policy's network.ca_file, and store a client certificate as certificate and private_key \
                 where credential_locator points",
            ));
        }
        _ if WITHOUT_EFFECT.contains(&name) => {}
        _ => {
            return Err(refused(
                format!("the option {} is not supported", display_name(name)),
                "remove it; supported are replicaSet, tls, authSource, authMechanism, directConnection, loadBalanced, readPreference, \
                 appName, srvServiceName, connectTimeoutMS, socketTimeoutMS",
            ));
        }
    }
    Ok(())
}

fn read_preference(value: &str) -> Result<ReadPreference, Failure> {
    ReadPreference::ALL.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(value)).ok_or_else(|| {
        refused(
            "the value of `readpreference` is not a read preference",
            "write primary, primaryPreferred, secondary, secondaryPreferred or nearest",
        )
    })
}

fn mechanism(value: &str) -> Result<Option<Mechanism>, Failure> {
    let unsupported = |name: &str| {
        Err(Failure::new(
            Class::Unsupported,
            format!("the authentication mechanism {name} is not supported by this build"),
            "use SCRAM-SHA-256, SCRAM-SHA-1 or MONGODB-X509; for a database user with a password, remove authMechanism",
        ))
    };
    match value.to_ascii_uppercase().as_str() {
        "DEFAULT" => Ok(None),
        "SCRAM-SHA-1" => Ok(Some(Mechanism::ScramSha1)),
        "SCRAM-SHA-256" => Ok(Some(Mechanism::ScramSha256)),
        "MONGODB-X509" => Ok(Some(Mechanism::X509)),
        name @ ("MONGODB-CR" | "MONGODB-AWS" | "MONGODB-OIDC" | "GSSAPI" | "PLAIN") => unsupported(name),
        _ => unsupported("of the resource id"),
    }
}

fn text(name: &str, value: &str) -> Result<String, Failure> {
    if value.is_empty() || value.len() > 128 || value.contains(|c: char| c.is_control()) {
        return Err(refused(
            format!("the value of {} is empty, too long, or has control characters", display_name(name)),
            "correct it",
        ));
    }
    Ok(value.to_string())
}

/// A name of at most 15 characters (RFC 6335, section 5.1).
fn service_name(name: &str, value: &str) -> Result<String, Failure> {
    let valid = (1..=15).contains(&value.len()) && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let invalid =
        || refused(format!("the value of {} is not the name of a service", display_name(name)), "write for example mongodb");
    if valid { Ok(value.to_string()) } else { Err(invalid()) }
}

fn boolean(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(refused(format!("the value of {} is neither true nor false", display_name(name)), "write true or false")),
    }
}

/// Zero means "no limit" to drivers; AAM's own limit applies then.
fn milliseconds(name: &str, value: &str) -> Result<Option<Duration>, Failure> {
    let number = value.parse::<u64>().map_err(|_| {
        refused(format!("the value of {} is not a number of milliseconds", display_name(name)), "write a whole number")
    })?;
    Ok((number > 0).then(|| Duration::from_millis(number)))
}

/// The name of an option for messages. It is shown only if it looks like a name, because a person may have put a secret in its
/// place by mistake.
fn display_name(name: &str) -> String {
    if (1..=40).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return format!("`{name}`");
    }
    "(name not shown)".to_string()
}
