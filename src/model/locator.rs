//! Where a credential is stored.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Where a credential is stored; never the credential itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locator {
    /// `env:NAME`: an environment variable of the process, or a file of the policy's `credentials.secrets_dir`.
    Env(String),
    /// `file:PATH`: a file below a folder of the policy's `credentials.files`.
    File(String),
    /// `vault:PATH`, `vault:PATH#FIELD` or `vault://MOUNT/PATH`: a secret of the vault that the policy names.
    Vault(String),
    /// `consent:NAME`: an OAuth grant of the connection's owner, described by `credentials.consents.NAME` of the policy.
    Consent(String),
    /// `sp:NAME`: a service principal, described by `credentials.principals.NAME` of the policy.
    ServicePrincipal(String),
    /// A form that this version does not know. It is kept as it was written.
    Unknown(String),
}

/// The forms of a locator, for messages.
pub const LOCATOR_FORMS: &str = "env:NAME, file:PATH, vault:PATH#FIELD, sp:NAME or consent:NAME";

/// The schemes that this version knows.
pub const LOCATOR_SCHEMES: [&str; 5] = ["env", "file", "vault", "sp", "consent"];

impl Locator {
    /// Parses `scheme:rest`.
    ///
    /// # Errors
    /// Returns a message that lists the forms. It does not repeat `text`, which may be a secret pasted by mistake.
    pub fn parse(text: &str) -> Result<Locator, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", ""));
        if rest.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(expected());
        }
        match scheme {
            "env" if is_env_name(rest) => Ok(Locator::Env(rest.to_string())),
            "env" => Err(
                "env: must be followed by the name of an environment variable: letters, digits and _, not starting with a digit"
                    .to_string(),
            ),
            "file" => Ok(Locator::File(rest.to_string())),
            "vault" => Ok(Locator::Vault(rest.to_string())),
            "consent" => Ok(Locator::Consent(rest.to_string())),
            "sp" => Ok(Locator::ServicePrincipal(rest.to_string())),
            scheme if is_scheme(scheme) => Ok(Locator::Unknown(text.to_string())),
            _ => Err(expected()),
        }
    }

    /// Reads a locator of an intent. A text of no known form is kept as it was written.
    #[must_use]
    pub fn from_text(text: &str) -> Locator {
        Locator::parse(text).unwrap_or_else(|_| Locator::Unknown(text.to_string()))
    }

    /// Whether this version knows the form.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !matches!(self, Locator::Unknown(_))
    }

    /// Returns the part before the first colon.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match self {
            Locator::Env(_) => "env",
            Locator::File(_) => "file",
            Locator::Vault(_) => "vault",
            Locator::Consent(_) => "consent",
            Locator::ServicePrincipal(_) => "sp",
            Locator::Unknown(text) => text.split(':').next().unwrap_or_default(),
        }
    }
}

fn expected() -> String {
    format!("a credential locator is {LOCATOR_FORMS}; it says where a secret is stored and never contains one")
}

pub(super) fn is_env_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether the text has the form of a URI scheme (RFC 3986, section 3.1), or that with a digit before it or with `_`, as
/// in `1password:` and `aws_sm:`.
fn is_scheme(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    let letters = text.strip_prefix(|c: char| c.is_ascii_digit()).unwrap_or(text);
    (2..=32).contains(&letters.len()) && letters.starts_with(|c: char| c.is_ascii_alphabetic()) && letters.chars().all(fits)
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Locator::Env(rest)
            | Locator::File(rest)
            | Locator::Vault(rest)
            | Locator::Consent(rest)
            | Locator::ServicePrincipal(rest) => write!(f, "{}:{rest}", self.scheme()),
            Locator::Unknown(text) => f.write_str(text),
        }
    }
}

impl Serialize for Locator {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Locator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Locator, D::Error> {
        String::deserialize(deserializer).map(|text| Locator::from_text(&text))
    }
}
