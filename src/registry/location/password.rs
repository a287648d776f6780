//! The password of the role that AAM runs as in the database.

use super::RegistryError;
use crate::operator_file;
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// The maximum length of the file with the password, in bytes.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

/// Reads the secret that `credential` names.
///
/// # Errors
/// If it is not set, cannot be read or is empty.
pub(super) fn read(credential: &str) -> Result<Zeroizing<String>, RegistryError> {
    let failed = |why: String| RegistryError::Other(format!("the credential {credential} of the registry {why}"));
    let (found, place) = match credential.split_once(':') {
        Some(("env", name)) => {
            let value = std::env::var(name).map(Zeroizing::new);
            (value.map_err(|_| failed(format!("is not set; set the variable {name}")))?, format!("the variable {name}"))
        }
        Some(("file", path)) => {
            let text = operator_file::read_text(Path::new(path), MAX_PASSWORD_BYTES).map(Zeroizing::new);
            (text.map_err(|error| failed(unreadable(&error)))?, "this file".to_string())
        }
        _ => return Err(failed("is not env:NAME or file:PATH".to_string())),
    };
    let password = found.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(failed(format!("is empty; write the password into {place}")));
    }
    Ok(Zeroizing::new(password.to_string()))
}

/// Why the file with the password cannot be read, and what to do about it.
fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "does not exist; write the password into this file, or name another one in the URL".to_string()
        }
        io::ErrorKind::PermissionDenied => "may not be read by this user; give this user the right to read it".to_string(),
        _ => format!("cannot be read: {error}; name a file that contains only the password"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_cannot_be_read_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        let why = |path: &Path| read(&format!("file:{}", path.display())).map(|password| password.to_string());
        let says = |path: &Path, text: &str| {
            let error = why(path).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains(&path.display().to_string()), "{error}");
        };
        says(&file, "does not exist; write the password into this file");
        says(folder.path(), "it is a folder, not a file; name a file that contains only the password");
        std::fs::write(&file, "\n").expect("a file");
        says(&file, "is empty; write the password into this file");
        std::fs::write(&file, [0xff]).expect("a file");
        says(&file, "it is not valid UTF-8; name a file that contains only the password");
        std::fs::write(&file, "open sesame\r\n").expect("a file");
        assert_eq!(why(&file).expect("a password"), "open sesame");
        assert!(unreadable(&io::ErrorKind::PermissionDenied.into()).contains("give this user the right to read it"));
        let unset = read("env:AAM_TEST_NOT_SET").expect_err("no variable").to_string();
        assert!(unset.ends_with("is not set; set the variable AAM_TEST_NOT_SET"), "{unset}");
    }
}
