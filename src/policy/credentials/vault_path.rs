//! The place of a secret in the vault, in one spelling.
//!
//! `vault:secret/aam/github`, `vault://secret/aam/github` and, with `credentials.vault.path: secret/aam`, `vault:github`
//! name the same secret. Rights and readings are decided for the spelling that [`VaultPath`] gives, so that no other
//! spelling gets around them. A path that the vault could read as another path is refused.

use crate::model::Locator;
use std::fmt;

/// The maximum length of a path in bytes.
const MAX_PATH_BYTES: usize = 512;

/// Mounts that hold no secrets of sources. A locator below `auth` or `sys` could make the vault return AAM's own token.
const RESERVED_MOUNTS: [&str; 4] = ["sys", "auth", "identity", "cubbyhole"];

/// A secret of the vault, or one field of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VaultPath {
    path: String,
    field: Option<String>,
}

/// Why a locator does not name a secret of the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidVaultPath {
    /// What is wrong, to follow the locator: `has an empty part`.
    pub reason: String,
    pub fix: String,
}

impl VaultPath {
    /// Parses what follows `vault:` in a locator. `base` is `credentials.vault.path` of the policy.
    ///
    /// # Errors
    /// Returns [`InvalidVaultPath`] for a path that has an empty part, `.`, `..`, or a character that a URL gives another
    /// meaning, and for a name without a path if the policy does not say where names are.
    pub fn parse(rest: &str, base: Option<&str>) -> Result<VaultPath, InvalidVaultPath> {
        let (place, field) = match rest.split_once('#') {
            Some((place, field)) => (place, Some(field)),
            None => (rest, None),
        };
        if field.is_some_and(|field| field.is_empty() || field.contains('#')) {
            return Err(invalid("has # without the name of one field", "write vault:MOUNT/PATH#FIELD, or leave out #"));
        }
        let (path, named) = match place.strip_prefix("//") {
            Some(path) => (path.to_string(), false),
            None if place.contains('/') => (place.to_string(), false),
            None => (place.to_string(), true),
        };
        check_parts(&path)?;
        let path = match (named, base) {
            (true, Some(base)) => format!("{base}/{path}"),
            (true, None) => {
                return Err(invalid(
                    "is a name, and the policy does not say in which folder of the vault names are",
                    format!(
                        "write vault:MOUNT/{path}, or set credentials.vault.path in the policy, for example path: secret/aam; credentials.vault also needs address and login"
                    ),
                ));
            }
            (false, _) => path,
        };
        if !path.contains('/') {
            return Err(invalid("names a mount and no secret", format!("write vault://{path}/PATH")));
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(invalid(format!("is longer than {MAX_PATH_BYTES} bytes"), "write MOUNT/PATH of one secret"));
        }
        let mount = path.split('/').next().unwrap_or_default();
        if RESERVED_MOUNTS.contains(&mount) {
            return Err(invalid(
                format!("is below {mount}/, where the vault keeps its own settings and no secrets of sources"),
                "name a secret of a secrets engine, for example vault:secret/aam/NAME#FIELD",
            ));
        }
        Ok(VaultPath { path, field: field.map(str::to_string) })
    }

    /// Returns the mount and the path, without the field: `secret/aam/github`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the field that the locator names.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Whether what `other` names is part of what this names: the same secret, and the same field unless this names the
    /// whole secret.
    #[must_use]
    pub fn covers(&self, other: &VaultPath) -> bool {
        self.path == other.path && (self.field.is_none() || self.field == other.field)
    }
}

/// Returns the one spelling of a `vault:` locator. Other locators, and those that do not name a secret, are returned as they
/// are. `base` is `credentials.vault.path` of the policy.
///
/// # Errors
/// As [`VaultPath::parse`].
pub fn canonical(locator: &Locator, base: Option<&str>) -> Result<Locator, InvalidVaultPath> {
    match locator {
        Locator::Vault(rest) => Ok(Locator::Vault(VaultPath::parse(rest, base)?.to_string())),
        other => Ok(other.clone()),
    }
}

fn check_parts(path: &str) -> Result<(), InvalidVaultPath> {
    const FIX: &str = "write vault:MOUNT/PATH#FIELD as the vault's own command line shows the path";
    if let Some(c) = path.chars().find(|c| matches!(c, '%' | '?' | '\\') || c.is_control() || c.is_whitespace()) {
        return Err(invalid(format!("has the character {c:?} in its path"), FIX));
    }
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err(invalid("has . or .. as a part of its path", FIX));
    }
    if path.split('/').any(str::is_empty) {
        return Err(invalid("has an empty part in its path", FIX));
    }
    Ok(())
}

fn invalid(reason: impl Into<String>, fix: impl Into<String>) -> InvalidVaultPath {
    InvalidVaultPath { reason: reason.into(), fix: fix.into() }
}

impl fmt::Display for VaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}#{field}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(rest: &str) -> Result<VaultPath, InvalidVaultPath> {
        VaultPath::parse(rest, Some("secret/aam"))
    }

    #[test]
    fn all_spellings_of_a_secret_are_one() {
        for rest in ["secret/aam/github#token", "//secret/aam/github#token", "github#token"] {
            let path = parse(rest).unwrap();
            assert_eq!((path.path(), path.field()), ("secret/aam/github", Some("token")), "{rest}");
            assert_eq!(path.to_string(), "secret/aam/github#token");
        }
        assert_eq!(parse("database/creds/reader").unwrap().field(), None);
        let spelled = Locator::parse("vault://secret/aam/github").unwrap();
        assert_eq!(canonical(&spelled, None).unwrap().to_string(), "vault:secret/aam/github");
        let other = Locator::parse("env:A").unwrap();
        assert_eq!(canonical(&other, None).unwrap(), other);
    }

    #[test]
    fn what_could_be_another_path_is_refused() {
        for rest in [
            "secret/aam/../billing",
            "..",
            ".",
            "secret/./x",
            "secret//x",
            "/secret/x",
            "///secret/x",
            "secret/x/",
            "//secret/",
            "//secret",
            "//",
            "secret/a%2e%2e/x",
            "secret/x?version=1",
            "secret\\x",
            "secret/x#",
            "secret/x#a#b",
            "#a",
            "auth/token/lookup-self#id",
            "//auth/token/lookup-self#id",
            "sys/raw/x",
            "cubbyhole/response",
        ] {
            let error = parse(rest).err().unwrap_or_else(|| panic!("{rest} is accepted"));
            assert!(!error.fix.is_empty(), "{rest}");
        }
        assert!(VaultPath::parse("github", None).unwrap_err().fix.contains("credentials.vault.path"));
    }

    #[test]
    fn a_field_is_part_of_its_secret() {
        let (whole, one, other) = (parse("a/b").unwrap(), parse("a/b#x").unwrap(), parse("a/b#y").unwrap());
        assert!(whole.covers(&one) && whole.covers(&whole) && one.covers(&one));
        assert!(!one.covers(&whole) && !one.covers(&other) && !parse("a/c").unwrap().covers(&one));
    }

    proptest! {
        #[test]
        fn the_spelling_is_stable(rest in "(//)?[a-z./#%?]{1,12}") {
            if let Ok(path) = parse(&rest) {
                prop_assert_eq!(VaultPath::parse(&path.to_string(), None).unwrap(), path.clone());
                prop_assert!(path.path().split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
