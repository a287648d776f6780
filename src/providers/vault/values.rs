//! Turns the fields of a secret into a credential.

use super::failures;
use crate::credentials::{Credential, MAX_SECRET_BYTES, MIN_SECRET_BYTES, Secret, Unprotectable, redact, unprotectable};
use crate::model::problem::nearest;
use crate::model::{Class, Failure};
use crate::policy::credentials::VaultPath;
use serde_json::{Map, Value};

/// The maximum number of fields that a message names.
const MAX_NAMED_FIELDS: usize = 20;

/// The names of the AWS secrets engine, and the names under which AAM looks for the same values.
/// Source: <https://developer.hashicorp.com/vault/api-docs/secret/aws#generate-credentials>.
const AWS_NAMES: [(&str, &str); 3] =
    [("access_key", "access_key_id"), ("secret_key", "secret_access_key"), ("security_token", "session_token")];

/// Returns the credential of `fields`, the fields of the secret at `path`. With `aws`, the names of the AWS secrets engine
/// are also given as the names that AWS uses.
///
/// # Errors
/// Returns `CredentialMissing` for a field that does not exist or is not a text, and for a secret that cannot be kept out of
/// logs.
pub fn credential(path: &VaultPath, fields: &Map<String, Value>, aws: bool) -> Result<Credential, Failure> {
    // The names of fields appear in messages, and a hostile vault could repeat a value there.
    redact::learn(&all(fields, false));
    let credential = match (path.field(), fields.len()) {
        (Some(name), _) => parsed(path, name, text(path, name, fields.get(name).ok_or_else(|| no_field(path, name, fields))?)?)?,
        (None, 0) => {
            return Err(missing(
                format!("the secret {} does not have any field", path.path()),
                "write the field into the secret",
            ));
        }
        (None, 1) => {
            let (name, value) = fields.iter().next().ok_or_else(|| no_field(path, "", fields))?;
            let value = text(path, name, value)?;
            parsed(path, name, value.clone())?.with_field(name, value)
        }
        (None, _) => all(fields, aws),
    };
    let longest = credential.values().map(|value| value.expose().len()).max().unwrap_or_default();
    if longest as u64 > MAX_SECRET_BYTES {
        return Err(missing(
            format!("the secret vault:{path} has {longest} bytes, and AAM accepts {MAX_SECRET_BYTES} at most"),
            "name the field that holds the credential with #FIELD; keys and tokens have a few thousand bytes",
        ));
    }
    match unprotectable(&credential) {
        None => Ok(credential),
        Some(reason) => {
            let why = match reason {
                Unprotectable::TooShort => format!("is shorter than {MIN_SECRET_BYTES} characters"),
                Unprotectable::Common => "is a common word".to_string(),
            };
            Err(missing(
                format!("the secret vault:{path} {why}"),
                "AAM keeps secrets out of every log and report by their value, which it cannot do for this one: set another secret at the source and write it into the vault",
            ))
        }
    }
}

/// Parses the text of one field, which may be a JSON object.
fn parsed(path: &VaultPath, name: &str, value: Secret) -> Result<Credential, Failure> {
    Credential::parse(value).map_err(|malformed| {
        let title = format!("the field {} of the secret {} {}", shown(name), path.path(), malformed.message());
        missing(title, malformed.fix())
    })
}

fn all(fields: &Map<String, Value>, aws: bool) -> Credential {
    let mut credential = Credential::from_object(fields);
    for (from, to) in AWS_NAMES.iter().filter(|(_, to)| aws && !fields.contains_key(*to)) {
        if let Some(value) = credential.field(from).cloned() {
            credential = credential.with_field(to, value);
        }
    }
    credential
}

/// Returns the text of one field.
fn text(path: &VaultPath, name: &str, value: &Value) -> Result<Secret, Failure> {
    let kind = match value {
        Value::String(text) if text.trim().is_empty() => {
            return Err(missing(
                format!("the field {} of the secret {} is empty", shown(name), path.path()),
                "write the value into the vault",
            ));
        }
        Value::String(text) => return Ok(Secret::new(text.clone())),
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::Null => "null",
    };
    Err(missing(
        format!("the field {} of the secret {} is {kind}, not a text", shown(name), path.path()),
        "store the value as a text: in JSON, in quotation marks; bao kv put NAME=VALUE always stores a text",
    ))
}

fn no_field(path: &VaultPath, name: &str, fields: &Map<String, Value>) -> Failure {
    let names: Vec<String> = fields.keys().take(MAX_NAMED_FIELDS).map(|name| shown(name)).collect();
    let more = fields.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let title = format!("the secret {} does not have the field {}", path.path(), shown(name));
    if names.is_empty() {
        return missing(title, "the secret is empty: write the field into it");
    }
    let known = format!("its fields are {}{more}", names.join(", "));
    match nearest(name, fields.keys().map(String::as_str)) {
        Some(near) => missing(title, format!("write vault:{}#{}; {known}", path.path(), shown(near))),
        None => missing(title, format!("name one of its fields, or write the field into the secret; {known}")),
    }
}

/// A name of a field comes from the vault, which may be hostile.
fn shown(name: &str) -> String {
    redact::scrub_and_cut(name, 60)
}

fn missing(title: String, fix: impl Into<String>) -> Failure {
    Failure::new(Class::CredentialMissing, title, fix)
}

/// The fields of a secret in KV version 2, and what is known about its version.
pub struct Versioned {
    pub fields: Map<String, Value>,
    pub version: u64,
    /// When the version will be deleted, RFC 3339, if it has `delete_version_after`.
    pub deletion_time: Option<String>,
}

/// Reads the answer of KV version 2, whose status is 200, or 404 for a version that was removed. Returns `None` if it is not
/// such an answer.
///
/// # Errors
/// Returns `CredentialMissing` for a deleted or destroyed version.
pub fn versioned(mount: &str, rest: &str, data: Option<&Map<String, Value>>) -> Option<Result<Versioned, Failure>> {
    let data = data?;
    let metadata = data.get("metadata")?.as_object()?;
    let version = metadata.get("version").and_then(Value::as_u64)?;
    let deletion_time = metadata.get("deletion_time").and_then(Value::as_str).filter(|time| !time.is_empty());
    match data.get("data") {
        Some(Value::Object(fields)) => {
            Some(Ok(Versioned { fields: fields.clone(), version, deletion_time: deletion_time.map(str::to_string) }))
        }
        Some(Value::Null) | None => {
            let destroyed = metadata.get("destroyed").and_then(Value::as_bool).unwrap_or(false);
            Some(Err(failures::removed(mount, rest, version, deletion_time.unwrap_or_default(), destroyed)))
        }
        Some(_) => None,
    }
}
