//! Reads an AWS access key from a resolved credential. Pure.

use super::sigv4::Keys;
use super::{Credential, Secret};
use crate::model::text::is_region;
use crate::model::{Class, Failure};

const ACCESS: &[&str] = &["access_key_id", "AWS_ACCESS_KEY_ID", "aws_access_key_id", "AccessKeyId"];
const SECRET: &[&str] = &["secret_access_key", "AWS_SECRET_ACCESS_KEY", "aws_secret_access_key", "SecretAccessKey"];
const TOKEN: &[&str] = &["session_token", "AWS_SESSION_TOKEN", "aws_session_token", "SessionToken"];
const REGION: &[&str] = &["region", "AWS_REGION", "AWS_DEFAULT_REGION"];

const FORM: &str = r#"store {"access_key_id":"...","secret_access_key":"..."} (session_token and region may be added) or ACCESS_KEY_ID:SECRET_ACCESS_KEY where the credential_locator points"#;

/// Returns the names under which people store the field `name`, `name` first.
#[must_use]
pub fn spellings<'n>(name: &'n &'n str) -> &'n [&'n str] {
    [ACCESS, SECRET, TOKEN].into_iter().find(|names| names.first() == Some(name)).unwrap_or(std::slice::from_ref(name))
}

/// Reads the access key and, if the credential names one, the region.
///
/// # Errors
/// `CredentialMissing`, naming the field that is missing or not usable, but never a value.
pub fn read(credential: Option<&Credential>) -> Result<(Keys, Option<String>), Failure> {
    let Some(credential) = credential else {
        return Err(missing("an access key is required, but the intent does not name a credential"));
    };
    let (access, secret) = match credential.plain() {
        Some(plain) => pair(plain)?,
        None => (need(credential, ACCESS)?, need(credential, SECRET)?),
    };
    let keys = Keys {
        access_key_id: sendable(access, "access_key_id")?,
        secret_access_key: secret,
        session_token: filled(credential, TOKEN).map(|token| sendable(token, "session_token")).transpose()?,
    };
    let region = filled(credential, REGION).map(|region| region.expose().to_string());
    if region.as_deref().is_some_and(|region| !is_region(region)) {
        return Err(missing("the field region of the credential is not a region name such as eu-central-1"));
    }
    Ok((keys, region))
}

fn pair(plain: &Secret) -> Result<(Secret, Secret), Failure> {
    let text = plain.expose().trim();
    if text.starts_with('{') {
        return Err(missing("the credential begins like a JSON object but is not valid JSON"));
    }
    let (access, secret) = text.split_once(':').unwrap_or((text, ""));
    let part = |text: &str, name: &str| match text.trim() {
        "" => Err(missing(format!("the credential does not have the field {name}"))),
        text => Ok(Secret::new(text.to_string())),
    };
    Ok((part(access, "access_key_id")?, part(secret, "secret_access_key")?))
}

fn need(credential: &Credential, names: &[&str]) -> Result<Secret, Failure> {
    filled(credential, names).ok_or_else(|| {
        let name = names.first().copied().unwrap_or_default();
        let seen = credential.field_names().join(", ");
        missing(format!("the credential does not have the field {name}"))
            .detail(format!("its fields: {}", if seen.is_empty() { "none" } else { &seen }))
    })
}

/// The value of the first of `names` that exists and is not blank. It is trimmed, because a secret from a file often ends in
/// a newline.
fn filled(credential: &Credential, names: &[&str]) -> Option<Secret> {
    let found = names.iter().filter_map(|name| credential.field(name)).map(|secret| secret.expose().trim());
    found.filter(|text| !text.is_empty() && *text != "null").map(|text| Secret::new(text.to_string())).next()
}

/// Checks that the value is valid in a header. Egress would refuse it as well, but with a less helpful message.
fn sendable(secret: Secret, name: &str) -> Result<Secret, Failure> {
    if secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(secret)
    } else {
        Err(missing(format!("the field {name} of the credential contains spaces or characters that are not valid in a key")))
    }
}

fn missing(title: impl Into<String>) -> Failure {
    Failure::new(Class::CredentialMissing, title, FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(text: &str) -> Credential {
        Credential::read(Secret::new(text.to_string()))
    }

    fn parts(text: &str) -> (String, String, Option<String>, Option<String>) {
        let (keys, region) = read(Some(&credential(text))).expect("usable");
        let token = keys.session_token.map(|token| token.expose().to_string());
        (keys.access_key_id.expose().to_string(), keys.secret_access_key.expose().to_string(), token, region)
    }

    #[test]
    fn the_documented_forms_are_read() {
        let plain = ("id".to_string(), "se:cret".to_string(), None, None);
        assert_eq!(parts(" id:se:cret\n"), plain);
        assert_eq!(parts(r#"{"access_key_id":"id","secret_access_key":"se:cret","session_token":null}"#), plain);
        assert_eq!(
            parts(r#"{"AWS_ACCESS_KEY_ID":"id","AWS_SECRET_ACCESS_KEY":"s","AWS_SESSION_TOKEN":"t","AWS_REGION":"eu-west-1"}"#),
            ("id".to_string(), "s".to_string(), Some("t".to_string()), Some("eu-west-1".to_string()))
        );
    }

    #[test]
    fn what_is_missing_is_named_and_no_value_is() {
        let cases = [
            ("canary1", "secret_access_key"),
            (":canary1", "access_key_id"),
            (r#"{"access_key_id":"canary1"}"#, "secret_access_key"),
            (r#"{"secret_access_key":"canary1","access_key_id":" "}"#, "access_key_id"),
            (r#"{"access_key_id":"can ary1","secret_access_key":"canary1"}"#, "access_key_id"),
            (r#"{"access_key_id":"canary1","secret_access_key":"canary1","region":"a/b"}"#, "region"),
            (r#"{"access_key_id":"canary1""#, "JSON"),
        ];
        for (text, expected) in cases {
            let failure = read(Some(&credential(text))).expect_err(text);
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(failure.title.contains(expected), "{text}: {}", failure.title);
            assert!(!format!("{failure:?}").contains("ary1"), "{failure:?}");
        }
        assert_eq!(read(None).err().map(|failure| failure.class), Some(Class::CredentialMissing));
    }
}
