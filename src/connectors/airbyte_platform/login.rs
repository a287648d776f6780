//! How AAM proves itself to a company's own Airbyte: as an application, as a user, or with a token.

use crate::credentials::{Credential, Secret, redact};
use crate::model::{Class, Failure, Locator};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What the credential of `airbyte.platform` holds.
#[derive(Debug)]
pub enum PlatformLogin {
    /// The id and the secret of an application, which are exchanged for a token.
    Application { client_id: Secret, client_secret: Secret },
    /// The value of the header `Authorization`.
    Header(Secret),
}

impl PlatformLogin {
    /// Reads the credential: `client_id` and `client_secret`, `username` and `password`, or one token.
    ///
    /// # Errors
    /// Returns `CredentialMissing` with what is expected.
    pub fn from_credential(credential: &Credential, locator: &Locator) -> Result<PlatformLogin, Failure> {
        let field = |names: &[&str]| credential.any(names).map(|secret| secret.expose().trim()).filter(|text| !text.is_empty());
        if let (Some(id), Some(secret)) = (field(&["client_id"]), field(&["client_secret"])) {
            return Ok(PlatformLogin::Application {
                client_id: Secret::new(id.to_string()),
                client_secret: Secret::new(secret.to_string()),
            });
        }
        if let (Some(user), Some(password)) = (field(&["username", "user"]), field(&["password"])) {
            return Ok(basic(user, password));
        }
        let plain = credential.plain().map(|secret| secret.expose().trim()).filter(|text| !text.is_empty());
        match (plain, field(&["token", "access_token", "api_key"])) {
            (Some(pair), _) if pair.contains(':') => {
                let (user, password) = pair.split_once(':').unwrap_or_default();
                Ok(basic(user, password))
            }
            (Some(token), _) | (None, Some(token)) => Ok(bearer(token)),
            (None, None) => Err(Failure::new(
                Class::CredentialMissing,
                format!("{locator} does not hold a credential of Airbyte"),
                format!(
                    "store {{\"client_id\": \"...\", \"client_secret\": \"...\"}} of an application at {locator} (Airbyte: Settings > Applications), or {{\"username\": \"...\", \"password\": \"...\"}}; it is airbyte.platform.credential in the policy"
                ),
            )),
        }
    }
}

/// Returns the header of HTTP Basic authentication.
fn basic(user: &str, password: &str) -> PlatformLogin {
    let pair = STANDARD.encode(format!("{user}:{password}"));
    redact::learn_value(password);
    redact::learn_value(&pair);
    PlatformLogin::Header(Secret::new(format!("Basic {pair}")))
}

/// Returns the header for a token.
#[must_use]
pub fn bearer(token: &str) -> PlatformLogin {
    redact::learn_value(token);
    PlatformLogin::Header(Secret::new(format!("Bearer {token}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Result<PlatformLogin, Failure> {
        let locator = Locator::parse("env:AIRBYTE").unwrap();
        PlatformLogin::from_credential(&Credential::read(Secret::new(text.to_string())), &locator)
    }

    fn header(text: &str) -> String {
        match login(text).unwrap() {
            PlatformLogin::Header(header) => header.expose().to_string(),
            PlatformLogin::Application { .. } => panic!("an application"),
        }
    }

    #[test]
    fn each_kind_of_credential_is_recognized() {
        assert!(matches!(login(r#"{"client_id": "a", "client_secret": "b"}"#).unwrap(), PlatformLogin::Application { .. }));
        assert_eq!(header(r#"{"username": "aam", "password": "pw"}"#), "Basic YWFtOnB3");
        assert_eq!(header("aam:pw\n"), "Basic YWFtOnB3");
        assert_eq!(header("a-token"), "Bearer a-token");
        assert_eq!(header(r#"{"token": "a-token"}"#), "Bearer a-token");
        let failure = login(r#"{"client_id": "a"}"#).unwrap_err();
        assert_eq!(failure.class, Class::CredentialMissing);
        assert!(failure.fix.contains("Settings > Applications"), "{failure:?}");
    }
}
