//! The credential of a deployment: a user and a password, a client certificate, or both.
//!
//! Its forms are a JSON object, the text `USER:PASSWORD`, a connection string with user and password as Atlas shows it, and the text
//! of a PEM file with a certificate and its key.

use crate::credentials::{Credential, Secret, redact};
use crate::model::{Class, Failure};
use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;

/// How AAM logs in.
#[derive(Debug, Default)]
pub struct Login {
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// The database that knows the user, if the credential says it.
    pub auth_source: Option<String>,
    pub certificate: Option<ClientCertificate>,
    /// Whether the password has `%` and two hexadecimal digits, as an encoded one has.
    pub looks_encoded: bool,
}

/// A certificate with its chain and its private key.
pub struct ClientCertificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// Prints nothing of the key.
impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} certificates)", self.chain.len())
    }
}

impl Clone for ClientCertificate {
    fn clone(&self) -> ClientCertificate {
        ClientCertificate { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

const FORMS: &str = "store {\"user\":\"NAME\",\"password\":\"...\"}, NAME:PASSWORD, or {\"certificate\":\"PEM\",\"private_key\":\"PEM\"} \
    where credential_locator points";

/// The names of the fields that MongoDB's drivers and tools use for the database that knows the user.
const AUTH_SOURCE_FIELDS: [&str; 4] = ["auth_source", "authSource", "authentication_database", "auth_db"];

/// Reads the login. `deployment` names the deployment in messages. Without a credential, AAM does not log in. The secrets are
/// registered with the redactor, so that they are removed from every message.
///
/// # Errors
/// `CredentialMissing`, naming the fields that exist but never a value.
pub fn from_credential(credential: Option<&Credential>, deployment: &str) -> Result<Login, Failure> {
    let Some(credential) = credential else { return Ok(Login::default()) };
    let missing = |what: &str| Failure::new(Class::CredentialMissing, format!("{deployment}: {what}"), FORMS);
    let login = match credential.plain() {
        Some(plain) => from_text(plain.expose().trim()).map_err(missing)?,
        None => from_fields(credential).map_err(|what| missing(&what))?,
    };
    let unusable = |text: &str| text.is_empty() || text.contains('\0');
    if login.user.as_deref().is_some_and(unusable) || login.password.as_ref().is_some_and(|password| unusable(password.expose()))
    {
        return Err(missing("the user or the password is empty or contains a NUL byte"));
    }
    // The resolver has registered the whole text with the redactor, but a server may echo only the password.
    if let Some(password) = &login.password {
        redact::learn(&Credential::read(password.clone()));
    }
    Ok(login)
}

fn from_fields(credential: &Credential) -> Result<Login, String> {
    let names = credential.field_names().join(", ");
    if let Some(uri) = credential.any(&["uri", "url", "connection_string"]).filter(|uri| has_scheme(uri.expose())) {
        return from_text(uri.expose().trim()).map_err(str::to_string);
    }
    let certificate = match credential.any(&["certificate", "client_certificate"]) {
        None => None,
        Some(chain) => {
            let key = credential.any(&["private_key", "client_key"]).unwrap_or(chain);
            Some(certificate(chain.expose(), key.expose()).map_err(str::to_string)?)
        }
    };
    let user = credential.any(&["user", "username"]);
    let password = credential.any(&["password", "pass"]);
    let lacks = |name: &str| Err(format!("the credential does not have the field {name} (its fields: {names})"));
    match (user, password, &certificate) {
        (None, _, None) => return lacks("user"),
        (None, Some(_), Some(_)) => return lacks("user"),
        (Some(_), None, None) => return lacks("password"),
        _ => {}
    }
    let password = password.map(|password| Secret::new(password.expose().trim_end_matches(['\r', '\n']).to_string()));
    Ok(Login {
        user: user.map(|user| user.expose().trim().to_string()),
        looks_encoded: password.as_ref().is_some_and(|password| looks_encoded(password.expose())),
        password,
        auth_source: credential.any(&AUTH_SOURCE_FIELDS).map(|name| name.expose().to_string()),
        certificate,
    })
}

fn from_text(text: &str) -> Result<Login, &'static str> {
    if has_scheme(text) {
        return from_connection_string(text);
    }
    if text.starts_with("-----BEGIN") {
        return Ok(Login { certificate: Some(certificate(text, text)?), ..Login::default() });
    }
    let (user, password) =
        text.split_once(':').ok_or("the credential is a text without a colon, so it does not hold a user and a password")?;
    Ok(Login {
        user: Some(user.trim().to_string()),
        password: Some(Secret::new(password.to_string())),
        looks_encoded: looks_encoded(password),
        ..Login::default()
    })
}

fn has_scheme(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("mongodb://") || text.starts_with("mongodb+srv://")
}

/// Takes user, password and `authSource` from a connection string, where they are percent-encoded. The hosts in it are not used:
/// the resource id names them.
fn from_connection_string(text: &str) -> Result<Login, &'static str> {
    const NO_LOGIN: &str = "the credential is a connection string without USER:PASSWORD@";
    let (_, rest) = text.split_once("://").ok_or(NO_LOGIN)?;
    // A password that was not encoded may contain an @ or a /, so the last @ before the options ends it.
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, _) = address.rsplit_once('@').ok_or(NO_LOGIN)?;
    let (user, password) = login.split_once(':').ok_or(NO_LOGIN)?;
    let decoded = |part: &str| percent_decode_str(part).decode_utf8().map(std::borrow::Cow::into_owned);
    let not_encoded = "the user or password in the connection string is not percent-encoded UTF-8";
    let source = query.split('&').find_map(|option| {
        let (name, value) = option.split_once('=')?;
        name.eq_ignore_ascii_case("authSource").then(|| decoded(value).ok()).flatten()
    });
    Ok(Login {
        user: Some(decoded(user).map_err(|_| not_encoded)?),
        password: Some(Secret::new(decoded(password).map_err(|_| not_encoded)?)),
        auth_source: source,
        ..Login::default()
    })
}

fn looks_encoded(password: &str) -> bool {
    percent_decode_str(password).decode_utf8().is_ok_and(|decoded| decoded != password)
}

/// Parses a certificate chain and a private key in PEM form.
fn certificate(chain: &str, key: &str) -> Result<ClientCertificate, &'static str> {
    if key.contains("ENCRYPTED") {
        return Err("the private key is encrypted; store it decrypted: openssl pkey -in key.pem -out plain.pem");
    }
    // Secret stores often keep the line breaks of a PEM text as the two characters \n.
    let (chain, key) = (chain.replace("\\n", "\n"), zeroize::Zeroizing::new(key.replace("\\n", "\n")));
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let certificates = certificates.map_err(|_| "the field certificate is not valid PEM")?;
    if certificates.is_empty() {
        return Err("the field certificate does not hold a certificate in PEM form");
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| "the credential does not hold a private key in PEM form (field private_key)")?;
    Ok(ClientCertificate { chain: certificates, key })
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
