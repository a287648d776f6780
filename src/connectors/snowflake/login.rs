//! The ways to log in to Snowflake's SQL API: a key pair, an OAuth access token or a programmatic access token. The API takes
//! no password.
//!
//! Sources: docs.snowflake.com, "SQL API: Authenticating to the server" and "Using programmatic access tokens for
//! authentication" \[V\]: the token is sent as `Bearer`, and `X-Snowflake-Authorization-Token-Type` names its type. If the
//! header is missing, Snowflake recognizes the type by the token.

use super::resource::AccountResource;
use crate::credentials::private_key::{PrivateKey, UnusableKey};
use crate::credentials::snowflake::{KEYPAIR_JWT, key_pair_token};
use crate::credentials::{Credential, Secret};
use crate::model::{Class, Evidence, Failure, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

const OAUTH: &str = "OAUTH";
const PROGRAMMATIC: &str = "PROGRAMMATIC_ACCESS_TOKEN";

/// A credential that was checked for its form. Nothing was sent yet.
pub enum Login {
    /// The credential has the private key, which is parsed when it signs.
    KeyPair {
        user: String,
        credential: Credential,
    },
    Token {
        token: Secret,
        token_type: Option<&'static str>,
        user: Option<String>,
    },
}

/// What is sent with each request.
pub struct Authorization {
    pub token: Secret,
    /// The type of the token, if it is known.
    pub token_type: Option<&'static str>,
    /// The user of a key pair, for messages.
    pub user: Option<String>,
    /// What shows how AAM logged in; no secret.
    pub evidence: Evidence,
}

impl Login {
    /// Reads the credential.
    ///
    /// # Errors
    /// Returns `CredentialMissing`, which names what was stored and what is needed instead, or `WrongService` if the token
    /// was made for another account.
    pub fn from_credential(credential: Option<&Credential>, resource: &AccountResource) -> Result<Login, Failure> {
        let Some(credential) = credential else { return Err(missing("there is no credential for Snowflake")) };
        let text = |name: &str| credential.field(name).map(|secret| secret.expose().trim().to_string()).filter(|s| !s.is_empty());
        if let Some(plain) = credential.plain() {
            return plain_token(plain);
        }
        if let (Some(user), Some(_)) = (text("user"), credential.field("private_key")) {
            return Ok(Login::KeyPair { user, credential: credential.clone() });
        }
        let Some(token) = text("token") else { return Err(no_token(credential)) };
        if let Some(account) = text("account").filter(|account| !is_same_account(account, resource)) {
            let title =
                format!("the key-pair token is for the account {account}, and the resource id names {}", resource.display());
            let fix = format!("set account of the service principal to {}, or correct the resource id", resource.display());
            return Err(Failure::new(Class::WrongService, title, fix));
        }
        // What is not a type of Snowflake, such as the `Bearer` of a token endpoint, says nothing.
        let token_type = text("token_type").and_then(|named| token_type(&named)).or_else(|| type_by_form(&token));
        Ok(Login::Token { token: Secret::new(token), token_type, user: text("user") })
    }

    /// Signs the token of a key pair.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the private key cannot be read, or if Snowflake does not accept keys of its type.
    pub fn authorize(self, resource: &AccountResource, now: Timestamp) -> Result<Authorization, Failure> {
        let mut evidence = Evidence::new();
        let (token, token_type, user) = match self {
            Login::KeyPair { user, credential } => {
                let key = PrivateKey::from_credential(&credential, None).map_err(|unusable| unusable_key(&unusable))?;
                let signed =
                    key_pair_token(&key, &resource.token_account, &user, now).map_err(|unusable| unusable_key(&unusable))?;
                evidence.insert("auth".into(), "key_pair".into());
                evidence.insert("issuer".into(), signed.issuer.into());
                evidence.insert("subject".into(), signed.subject.into());
                (signed.token, Some(KEYPAIR_JWT), Some(user))
            }
            Login::Token { token, token_type, user } => {
                evidence.insert("auth".into(), "token".into());
                if let Some(subject) = claim(token.expose(), "sub").filter(|_| token_type == Some(KEYPAIR_JWT)) {
                    evidence.insert("issuer".into(), claim(token.expose(), "iss").unwrap_or_default().into());
                    evidence.insert("subject".into(), subject.into());
                }
                (token, token_type, user)
            }
        };
        if let Some(token_type) = token_type {
            evidence.insert("token_type".into(), token_type.into());
        }
        Ok(Authorization { token, token_type, user, evidence })
    }
}

/// Reads a credential that is not JSON.
fn plain_token(plain: &Secret) -> Result<Login, Failure> {
    let text = plain.expose().trim();
    if text.is_empty() {
        return Err(missing("the credential of Snowflake is empty"));
    }
    if text.contains("PUBLIC KEY-----") || text.starts_with("ssh-rsa ") {
        return Err(missing("the credential of Snowflake is a public key, and only the private key can sign"));
    }
    if text.contains("PRIVATE KEY-----") {
        return Err(missing("the credential of Snowflake is a private key without the name of its user"));
    }
    if text.chars().any(char::is_whitespace) {
        return Err(missing("the credential of Snowflake is not a token: it has a blank or a line break in it"));
    }
    // USER:PASSWORD. Access tokens of Snowflake OAuth also have colons: `ver:1-hint:…`.
    if text.len() < 100 && text.contains(':') && !text.starts_with("ver:") {
        return Err(password());
    }
    Ok(Login::Token { token: Secret::new(text.to_string()), token_type: type_by_form(text), user: None })
}

/// The failure for a JSON object that has neither a token nor a key pair.
fn no_token(credential: &Credential) -> Failure {
    let has = |names: &[&str]| credential.any(names).is_some();
    match () {
        () if has(&["private_key"]) => missing("the credential of Snowflake has a private key, but not the field user"),
        () if has(&["password"]) => password(),
        () if has(&["client_id", "client_secret"]) => {
            let title = "the credential of Snowflake is an OAuth client, which is not a token";
            let fix = "describe it as a service principal (kind: oauth2_client) and write sp:NAME, or let an owner consent (consent:NAME)";
            Failure::new(Class::CredentialMissing, title, fix)
        }
        () => missing("the credential of Snowflake does not have the required fields"),
    }
}

fn missing(title: &str) -> Failure {
    let fix = "store a JSON object with user and private_key, or a token; aam families snowflake explains each field";
    Failure::new(Class::CredentialMissing, title, fix)
}

fn password() -> Failure {
    Failure::new(
        Class::CredentialMissing,
        "the credential of Snowflake is a user name and a password, which the SQL API does not accept",
        "give the user a key pair: openssl genrsa 3072 | openssl pkcs8 -topk8 -nocrypt -out key.pem; \
         openssl pkey -in key.pem -pubout; ALTER USER u SET RSA_PUBLIC_KEY='…'; then store a JSON object with user and private_key",
    )
}

fn unusable_key(unusable: &UnusableKey) -> Failure {
    let title = match unusable {
        UnusableKey::PassphraseMissing => {
            "private_key in the credential of Snowflake is encrypted, and passphrase is missing".to_string()
        }
        other => format!("private_key in the credential of Snowflake {}", other.message()),
    };
    let fix = match unusable {
        UnusableKey::PassphraseMissing => "add the field passphrase to the credential",
        UnusableKey::Unfit { .. } => "use an RSA key (openssl genrsa 3072), or an EC key of the curve P-256 or P-384",
        other => other.fix(),
    };
    Failure::new(Class::CredentialMissing, title, fix)
}

/// Whether a service principal's account is the one of the resource id. Hosts write hyphens where names have underscores.
fn is_same_account(account: &str, resource: &AccountResource) -> bool {
    let normal = |text: &str| text.to_uppercase().replace('_', "-");
    normal(account) == normal(&resource.token_account)
}

/// Returns the type that a credential names.
fn token_type(named: &str) -> Option<&'static str> {
    let upper = named.to_uppercase().replace(['-', ' '], "_");
    match upper.as_str() {
        "PAT" => Some(PROGRAMMATIC),
        _ => [KEYPAIR_JWT, OAUTH, PROGRAMMATIC].into_iter().find(|known| **known == upper),
    }
}

/// Returns the type of a token that its form shows. `None` leaves it to Snowflake to recognize it.
fn type_by_form(token: &str) -> Option<&'static str> {
    if token.starts_with("ver:") {
        return Some(OAUTH);
    }
    let issuer = claim(token, "iss")?;
    match () {
        () if issuer.contains(".SHA256:") => Some(KEYPAIR_JWT),
        // [U] The issuer of a programmatic access token is a number of Snowflake.
        () if issuer.starts_with("SF:") => Some(PROGRAMMATIC),
        // The authorization server of External OAuth.
        () if issuer.starts_with("https://") => Some(OAUTH),
        () => None,
    }
}

/// Returns a claim of a JSON Web Token. The signature is not verified, because the claim is only sent back to Snowflake and
/// shown to the owner.
fn claim(token: &str, name: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next().filter(|head| head.starts_with("eyJ"))?, parts.next()?, parts.next()?);
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    claims.get(name)?.as_str().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Login, Failure> {
        let resource = AccountResource::parse("acme-prod").unwrap();
        Login::from_credential(Some(&Credential::read(Secret::new(text.to_string()))), &resource)
    }

    fn jwt(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2lnbmF0dXJl", part(r#"{"alg":"RS256","typ":"JWT"}"#), part(claims))
    }

    #[test]
    fn the_type_of_a_token_is_read_from_its_form_or_named() {
        for (text, expected) in [
            ("ver:1-hint:1234-ETMsDgAAAY".to_string(), Some(OAUTH)),
            (jwt(r#"{"iss":"ACME-PROD.AAM.SHA256:abc","sub":"ACME-PROD.AAM"}"#), Some(KEYPAIR_JWT)),
            (jwt(r#"{"iss":"SF:1049","p":"1:2"}"#), Some(PROGRAMMATIC)),
            (jwt(r#"{"iss":"https://login.example/","sub":"x"}"#), Some(OAUTH)),
            (jwt(r#"{"sub":"x"}"#), None),
            ("opaque-token-of-the-test".to_string(), None),
            (r#"{"token":"opaque-token","token_type":"programmatic-access-token"}"#.to_string(), Some(PROGRAMMATIC)),
            (r#"{"token":"opaque-token","token_type":"pat"}"#.to_string(), Some(PROGRAMMATIC)),
            (r#"{"token":"opaque-token","token_type":"Bearer"}"#.to_string(), None),
        ] {
            let Ok(Login::Token { token_type, .. }) = read(&text) else { panic!("{text}") };
            assert_eq!(token_type, expected, "{text}");
        }
    }

    #[test]
    fn a_credential_of_the_wrong_kind_is_named() {
        let key = concat!("-----BEGIN ", "PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----");
        for (text, expected) in [
            ("", "is empty"),
            (key, "a private key without the name of its user"),
            ("-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----", "a public key"),
            ("aam:correct-horse", "a user name and a password"),
            (r#"{"user":"aam","password":"correct-horse"}"#, "a user name and a password"),
            (r#"{"private_key":"x"}"#, "not the field user"),
            (r#"{"client_id":"a","client_secret":"b"}"#, "an OAuth client"),
            (r#"{"api_key":"a"}"#, "does not have the required fields"),
            (r#"{"user":"aam","private_key":"ssh-rsa AAAA"}"#, "is a public key"),
        ] {
            let resource = AccountResource::parse("acme-prod").unwrap();
            let authorized =
                read(text).and_then(|login| login.authorize(&resource, Timestamp::parse("2026-01-01T00:00:00Z").unwrap()));
            let Err(failure) = authorized else { panic!("{text}") };
            assert_eq!(failure.class, Class::CredentialMissing, "{text}");
            assert!(failure.title.contains(expected), "{text}: {}", failure.title);
        }
        let other = r#"{"token":"t","token_type":"KEYPAIR_JWT","account":"ACME-DEV","user":"AAM"}"#;
        assert_eq!(read(other).err().unwrap().class, Class::WrongService);
        assert!(read(&other.replace("ACME-DEV", "acme_prod")).is_ok());
    }
}
