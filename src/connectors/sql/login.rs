//! The credential of a database server: a user and a password.
//!
//! It has two forms: a JSON object `{"user":"NAME","password":"..."}` (or `username`), or the plain text
//! `NAME:PASSWORD`, split at the first colon.

use super::uri::DatabaseServer;
use crate::credentials::{Credential, Secret, redact};
use crate::model::{Class, Failure};

/// The user and password of a login.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

const FORMS: &str = "store {\"user\":\"NAME\",\"password\":\"...\"} or NAME:PASSWORD where credential_locator points";

/// Reads the login for `server`. The password is registered with the redactor, so that it is removed from every message.
///
/// # Errors
/// `CredentialMissing`, naming the fields that exist but never a value.
pub fn from_credential(credential: Option<&Credential>, server: &DatabaseServer) -> Result<Login, Failure> {
    let missing = |what: &str| Failure::new(Class::CredentialMissing, format!("{server}: {what}"), FORMS);
    let Some(credential) = credential else {
        return Err(Failure::new(
            Class::CredentialMissing,
            format!("{server}: the intent does not name a credential"),
            "set credential_locator in the intent, for example env:DATABASE_LOGIN, and store {\"user\":\"NAME\",\"password\":\"...\"} there",
        ));
    };
    let (user, password) = match credential.plain() {
        Some(plain) => {
            let (user, password) = plain
                .expose()
                .split_once(':')
                .ok_or_else(|| missing("the credential is a text without a colon, so it does not hold a user and a password"))?;
            (user.trim().to_string(), Secret::new(password.trim_end_matches(['\r', '\n']).to_string()))
        }
        None => {
            let names = credential.field_names().join(", ");
            let user = credential
                .any(&["user", "username"])
                .ok_or_else(|| missing(&format!("the credential does not have the field user (its fields: {names})")))?;
            let password = credential
                .any(&["password", "pass"])
                .ok_or_else(|| missing(&format!("the credential does not have the field password (its fields: {names})")))?;
            (user.expose().to_string(), password.clone())
        }
    };
    if user.is_empty() || user.contains('\0') || password.expose().contains('\0') {
        return Err(missing("the user is empty, or the user or password contains a NUL byte"));
    }
    // The resolver has registered the whole text with the redactor, but a server may echo only the password.
    if !password.expose().is_empty() {
        redact::learn(&Credential::read(password.clone()));
    }
    Ok(Login { user, password })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::sql::uri::{DatabaseLocation, parse};

    fn server() -> DatabaseServer {
        match parse("db.example:5432/shop") {
            Ok(DatabaseLocation::Server(server)) => server,
            other => panic!("{other:?}"),
        }
    }

    fn read(text: &str) -> Result<Login, Failure> {
        from_credential(Some(&Credential::read(Secret::new(text.to_string()))), &server())
    }

    #[test]
    fn both_forms_give_user_and_password() {
        for text in [r#"{"user":"reader","password":"a:b"}"#, r#"{"username":"reader","pass":"a:b"}"#, "reader:a:b\n"] {
            let login = read(text).unwrap_or_else(|f| panic!("{text}: {f:?}"));
            assert_eq!((login.user.as_str(), login.password.expose()), ("reader", "a:b"));
        }
    }

    #[test]
    fn a_failure_names_fields_and_never_a_value() {
        for text in
            ["hunter2hunter2", r#"{"password":"hunter2hunter2"}"#, r#"{"user":"hunter2hunter2","key":"x"}"#, ":hunter2hunter2"]
        {
            let failure = read(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
        let without = from_credential(None, &server()).err().unwrap_or_else(|| panic!("accepted"));
        assert!(without.class == Class::CredentialMissing && without.fix.contains("set credential_locator"), "{without:?}");
    }

    /// The forms that the fix names are the ones that are read.
    #[test]
    fn the_fix_of_a_credential_that_is_not_a_login_works() {
        let failure = read("only-a-token").err().unwrap_or_else(|| panic!("accepted"));
        for form in [r#"{"user":"NAME","password":"..."}"#, "NAME:PASSWORD"] {
            assert!(failure.fix.contains(form) && read(form).is_ok(), "{failure:?}");
        }
    }
}
