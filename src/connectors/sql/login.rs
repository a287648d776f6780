//! The credential of a database server: a user and a password.
//!
//! Two forms: a JSON object `{"user":"NAME","password":"..."}` (also `username`), or the plain text
//! `NAME:PASSWORD`, cut at the first colon.

use super::uri::Server;
use crate::credentials::{Credential, Secret, redact};
use crate::model::{Class, Failure};

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

const FORMS: &str = "store {\"user\":\"NAME\",\"password\":\"...\"} or NAME:PASSWORD behind credential_locator";

/// Reads the login for `server`. Both parts of the plain form become known to the redactor.
///
/// # Errors
/// `CredentialMissing`, naming the fields that are there and never a value.
pub fn login(credential: Option<&Credential>, server: &Server) -> Result<Login, Failure> {
    let missing = |what: &str| Failure::new(Class::CredentialMissing, format!("{server}: {what}"), FORMS);
    let Some(credential) = credential else { return Err(missing("no credential is given")) };
    let (user, password) = match credential.plain() {
        Some(plain) => {
            let (user, password) = plain
                .expose()
                .split_once(':')
                .ok_or_else(|| missing("the credential is one word; a user and a password are needed"))?;
            (user.trim().to_string(), Secret::new(password.trim_end_matches(['\r', '\n']).to_string()))
        }
        None => {
            let names = credential.field_names().join(", ");
            let user = credential
                .any(&["user", "username"])
                .ok_or_else(|| missing(&format!("the credential has no field user (it has: {names})")))?;
            let password = credential
                .any(&["password", "pass"])
                .ok_or_else(|| missing(&format!("the credential has no field password (it has: {names})")))?;
            (user.expose().to_string(), password.clone())
        }
    };
    if user.is_empty() || user.contains('\0') || password.expose().contains('\0') {
        return Err(missing("the user is empty or holds a NUL byte"));
    }
    // The resolver knows the text as a whole; a server may echo the password alone.
    if !password.expose().is_empty() {
        redact::learn(&Credential::read(password.clone()));
    }
    Ok(Login { user, password })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::sql::uri::{Place, parse};

    fn server() -> Server {
        match parse("db.example:5432/shop") {
            Ok(Place::Server(server)) => server,
            other => panic!("{other:?}"),
        }
    }

    fn read(text: &str) -> Result<Login, Failure> {
        login(Some(&Credential::read(Secret::new(text.to_string()))), &server())
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
        assert_eq!(login(None, &server()).map_err(|f| f.class).err(), Some(Class::CredentialMissing));
    }
}
