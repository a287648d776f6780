//! The admin token: it gives access while the policy lists no tokens, and ends with the first one that it lists unless that
//! is the admin token itself (decision records 16 and 69).

use crate::credentials::secret::Secret;
use crate::model::Digest;
use crate::operator_file;
use crate::policy::{Policy, TokenScope};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The maximum length of the file with the token, in bytes.
pub const MAX_FILE_BYTES: u64 = 4096;

/// The token that gives access while the policy does not configure any tokens.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// The file that holds the token.
    pub path: PathBuf,
    /// True if this call of [`admin_token`] created the file.
    pub created: bool,
    digest: Digest,
    token: Secret,
}

impl AdminToken {
    /// Returns the secret value, for a client on this machine.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Returns the SHA-256 of the token.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// Returns the path of the admin token file that belongs to the registry file `registry`.
#[must_use]
pub fn admin_path(registry: &Path) -> PathBuf {
    let mut name = registry.as_os_str().to_owned();
    name.push(".admin-token");
    PathBuf::from(name)
}

/// Reads the admin token. If it does not exist, creates it from 256 random bits in a file with mode 0600.
///
/// # Errors
/// Fails if the file can neither be read nor created, or if it does not contain a token.
pub fn admin_token(registry: &Path) -> std::io::Result<AdminToken> {
    let path = admin_path(registry);
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let token = random_token()?;
            file.write_all(format!("{}\n", token.expose()).as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
                // A partly written token would lock out every caller at the next start.
                let _ = std::fs::remove_file(&path);
            })?;
            Ok(AdminToken { digest: Digest::from_bytes(token.expose().as_bytes()), created: true, token, path })
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let admin = read_admin(registry)?;
            tighten(&admin.path);
            Ok(admin)
        }
        Err(error) => Err(error),
    }
}

/// Takes the rights of other users to a token that was copied or restored with them.
fn tighten(path: &Path) {
    let is_open = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o077 != 0);
    if is_open && let Err(error) = std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)) {
        let path = path.display();
        tracing::warn!(target: "aam::http", %path, %error, "other users of this machine can read the admin token; fix: chmod 600 {path}");
    }
}

/// Reads the admin token that AAM created at an earlier start.
///
/// # Errors
/// Fails if the file does not exist or does not contain a token.
pub fn read_admin(registry: &Path) -> std::io::Result<AdminToken> {
    let path = admin_path(registry);
    let text = operator_file::read_text(&path, MAX_FILE_BYTES)?;
    let token = Secret::new(text.trim().to_string());
    if token.expose().len() < 32 {
        return Err(std::io::Error::other(format!(
            "{} does not hold a token; remove the file, and aam serve writes a new one",
            path.display()
        )));
    }
    Ok(AdminToken { digest: Digest::from_bytes(token.expose().as_bytes()), created: false, token, path })
}

/// Generates a token: `aam_` and 256 random bits in base64url.
///
/// # Errors
/// Fails if the operating system does not provide random bytes.
pub fn random_token() -> std::io::Result<Secret> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| std::io::Error::other("could not get random bytes from the operating system"))?;
    Ok(Secret::new(format!("aam_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))))
}

/// An admin token that the policy does not accept, because it lists other tokens.
pub struct EndedAdminToken {
    pub path: PathBuf,
    /// The entry of `api.tokens` that keeps the token.
    pub entry: String,
    /// The scopes of the operator's commands that no token of the policy has.
    missing: Vec<&'static str>,
}

/// Returns the scopes of the operator's commands that no token of the policy has.
fn missing_scopes(policy: &Policy) -> Vec<&'static str> {
    let scopes = [TokenScope::OpsHeal, TokenScope::OpsConfirm].into_iter();
    let missing = scopes.filter(|scope| !policy.api.tokens.iter().any(|token| token.scopes.contains(scope)));
    missing.map(TokenScope::as_str).collect()
}

/// Returns what no token may do, and the fix, if the policy lists tokens and there is no admin token that could be kept.
#[must_use]
pub fn without_operator(policy: &Policy, registry: &Path) -> Option<(String, &'static str)> {
    let missing = missing_scopes(policy);
    let locked_out = !policy.api.tokens.is_empty() && !missing.is_empty() && !admin_path(registry).exists();
    locked_out.then(|| {
        (
            format!("no token of the policy has the scope {}, so no caller can use it", missing.join(" or ")),
            "add a token for the operator: aam token new --name operator --scopes registry:read,ops:heal,ops:confirm",
        )
    })
}

/// Returns the admin token of the registry file `registry` if it exists and `policy` does not accept it. `in_use` are the
/// namespaces that have connections.
#[must_use]
pub fn ended(policy: &Policy, registry: &Path, in_use: BTreeSet<String>) -> Option<EndedAdminToken> {
    let tokens = &policy.api.tokens;
    let admin = if tokens.is_empty() { None } else { read_admin(registry).ok() }?;
    if tokens.iter().any(|token| token.sha256 == admin.digest) {
        return None;
    }
    let mut namespaces = in_use;
    namespaces.extend(tokens.iter().flat_map(|token| token.namespaces.iter().cloned()));
    Some(EndedAdminToken { entry: entry(policy, &admin, namespaces), path: admin.path, missing: missing_scopes(policy) })
}

impl EndedAdminToken {
    /// What happened.
    #[must_use]
    pub fn message(&self) -> String {
        let path = self.path.display();
        let missing = match self.missing.as_slice() {
            [] => String::new(),
            missing => format!(", and none of them has the scope {}", missing.join(" or ")),
        };
        format!("the admin token in {path} is not accepted, because the policy lists other tokens{missing}")
    }

    /// What to do.
    #[must_use]
    pub fn fix(&self) -> String {
        format!(
            "to keep it, add this entry to api.tokens in the policy: {}; to end it for good, remove the file, and set AAM_TOKEN to a token of the policy for aam heal, confirm and mcp",
            self.entry
        )
    }
}

/// Returns the entry of `api.tokens` that keeps the admin token, with all scopes in the namespace of the policy and in
/// `namespaces`.
#[must_use]
pub fn entry(policy: &Policy, admin: &AdminToken, mut namespaces: BTreeSet<String>) -> String {
    namespaces.insert(policy.namespace.clone());
    let is_free = |name: &String| !policy.api.tokens.iter().any(|token| token.name == *name);
    let mut names = std::iter::once("operator".to_string()).chain((2..).map(|n| format!("operator-{n}")));
    let name = names.find(is_free).unwrap_or_default();
    let namespaces: Vec<String> = namespaces.into_iter().collect();
    let scopes = TokenScope::ALL.map(TokenScope::as_str).join(", ");
    format!("{{name: {name}, sha256: \"{}\", scopes: [{scopes}], namespaces: [{}]}}", admin.digest, namespaces.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_admin_token_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = folder.path().join("aam.db");
        let first = admin_token(&registry).expect("made");
        let second = admin_token(&registry).expect("read");
        assert!(first.created && !second.created);
        assert_eq!(first.token().expose(), second.token().expose());
        assert_eq!(first.token().expose().len(), 4 + 43);
        let mode = std::fs::metadata(&first.path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains(first.token().expose()));
        std::fs::write(&first.path, "").expect("emptied");
        assert!(admin_token(&registry).is_err(), "an empty file does not hold a token");
    }

    #[test]
    fn the_first_token_ends_the_admin_token_unless_it_is_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = folder.path().join("aam.db");
        let policy =
            |tokens: &str| parse(&format!("version: 1\nallowlist: []\napi: {{tokens: [{tokens}]}}\n"), "p").expect(tokens);
        let first =
            format!("{{name: operator, sha256: \"{}\", scopes: [registry:read, ops:heal], namespaces: [b]}}", "0".repeat(64));
        assert!(ended(&policy(&first), &registry, BTreeSet::new()).is_none(), "there is no admin token");
        let (message, _) = without_operator(&policy(&first), &registry).expect("a missing scope");
        assert!(message.contains("the scope ops:confirm, so"), "{message}");
        assert!(without_operator(&policy(""), &registry).is_none(), "an admin token is created");
        admin_token(&registry).expect("made");
        assert!(ended(&policy(""), &registry, BTreeSet::new()).is_none(), "it is accepted");
        let found = ended(&policy(&first), &registry, ["team_a".to_string()].into()).expect("ended");
        assert!(found.message().ends_with("none of them has the scope ops:confirm"), "{}", found.message());
        assert!(
            found.entry.starts_with("{name: operator-2, ") && found.entry.ends_with("namespaces: [autonomy, b, team_a]}"),
            "{}",
            found.entry
        );
        assert!(ended(&policy(&format!("{first}, {}", found.entry)), &registry, BTreeSet::new()).is_none(), "the fix works");
    }
}
