//! Who calls: bearer tokens by their SHA-256, scopes, namespaces, and the admin token of a first start.

use super::problem::Problem;
use crate::credentials::secret::Secret;
use crate::model::Digest;
use crate::policy::{Policy, Token, TokenScope};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The namespace of the seed: nobody writes there, whatever the token says.
pub const DEMO: &str = "demo";

/// The name of the admin token, as it stands in origins.
pub const ADMIN: &str = "admin";

/// Longer credentials are no token of ours and are not even hashed.
const MAX_TOKEN: usize = 1024;

/// Whoever sent an accepted token. Cheap: it points into the policy that the token is in.
#[derive(Clone, Debug)]
pub struct Caller {
    policy: Arc<Policy>,
    /// The place in the policy's list; `None` is the admin, who has all scopes everywhere.
    token: Option<usize>,
}

impl Caller {
    /// Asks the token; the admin may everything, a token that is not found nothing.
    fn may(&self, ask: impl Fn(&Token) -> bool) -> bool {
        match self.token {
            None => true,
            Some(index) => self.policy.api.tokens.get(index).is_some_and(ask),
        }
    }

    /// The token's name; origins are made of it.
    #[must_use]
    pub fn name(&self) -> &str {
        let token = self.token.and_then(|index| self.policy.api.tokens.get(index));
        token.map_or(ADMIN, |token| &token.name)
    }

    /// Whether the token is for `namespace`.
    #[must_use]
    pub fn sees(&self, namespace: &str) -> bool {
        self.may(|token| token.namespaces.contains(namespace))
    }

    /// 403 unless the token is for `namespace`.
    ///
    /// # Errors
    /// The problem to answer with.
    pub fn must_see(&self, namespace: &str) -> Result<(), Problem> {
        if self.sees(namespace) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "NAMESPACE_NOT_ALLOWED",
            "The token is not for this namespace",
            format!(
                "The token {} is not for the namespace {namespace}; the policy lists a token's namespaces below api.tokens.",
                self.name()
            ),
        ))
    }

    /// 403 unless the token has `scope`.
    ///
    /// # Errors
    /// The problem to answer with; it names the scope.
    pub fn must(&self, scope: TokenScope) -> Result<(), Problem> {
        if self.may(|token| token.scopes.contains(&scope)) {
            return Ok(());
        }
        let word = scope.as_str();
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "SCOPE_MISSING",
            "The token may not do this",
            format!(
                "This call needs the scope {word}; the token {} has not got it. The policy lists a token's scopes below api.tokens.",
                self.name()
            ),
        ))
    }
}

/// Finds out who calls. `admin` counts only while the policy configures no token.
///
/// # Errors
/// 401, with the challenge that fits: `browser` asks for the token in a dialogue.
pub fn caller(policy: &Arc<Policy>, admin: Option<&Admin>, headers: &HeaderMap, browser: bool) -> Result<Caller, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(challenge(
            "TOKEN_MISSING",
            "Send a token: Authorization: Bearer <token>. aam serve said at its start where the admin token lies; others are in the policy below api.tokens.",
            browser,
        ));
    };
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(challenge("TOKEN_MALFORMED", "There is more than one Authorization header.", browser));
    }
    let Some(token) = value.to_str().ok().and_then(token) else {
        return Err(challenge(
            "TOKEN_MALFORMED",
            "The Authorization header is neither Bearer <token> nor Basic with the token as the password.",
            browser,
        ));
    };
    let digest = Digest::from_bytes(token.expose().as_bytes());
    known(policy, admin, &digest)
        .ok_or_else(|| challenge("TOKEN_UNKNOWN", "No token of the policy in force is this one.", browser))
}

/// Compares with every token in constant time, so that the time says nothing about which one is near.
fn known(policy: &Arc<Policy>, admin: Option<&Admin>, digest: &Digest) -> Option<Caller> {
    let tokens = &policy.api.tokens;
    let caller = |token: Option<usize>| Caller { policy: Arc::clone(policy), token };
    if tokens.is_empty() {
        let admin = admin?;
        return bool::from(admin.digest.0.ct_eq(&digest.0)).then(|| caller(None));
    }
    let mut found = None;
    for (index, token) in tokens.iter().enumerate() {
        if bool::from(token.sha256.0.ct_eq(&digest.0)) {
            found = found.or(Some(index));
        }
    }
    found.map(|index| caller(Some(index)))
}

/// The token of `Bearer <token>` or of `Basic <base64 of user:token>`.
fn token(value: &str) -> Option<Secret> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        Secret::new(rest.to_string())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = Secret::new(String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?);
        Secret::new(decoded.expose().split_once(':')?.1.to_string())
    } else {
        return None;
    };
    let text = token.expose();
    let fits = !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(token)
}

fn challenge(code: &str, detail: &str, browser: bool) -> Problem {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, code, "A valid token is needed", detail);
    let bearer = match code {
        "TOKEN_MISSING" => "Bearer realm=\"AAM\"",
        _ => "Bearer realm=\"AAM\", error=\"invalid_token\"",
    };
    let value = if browser { "Basic realm=\"AAM token\", charset=\"UTF-8\"" } else { bearer };
    problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static(value))
}

/// The token of a registry whose policy configures none.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it lies.
    pub path: PathBuf,
    /// This call made it.
    pub created: bool,
    digest: Digest,
    token: Secret,
}

impl Admin {
    /// The value, for a client on this machine.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }
}

/// Where the admin token of the registry at `registry` lies.
#[must_use]
pub fn admin_path(registry: &Path) -> PathBuf {
    let mut name = registry.as_os_str().to_owned();
    name.push(".admin-token");
    PathBuf::from(name)
}

/// Reads the admin token, or makes it: 256 random bits in a file of mode 0600.
///
/// # Errors
/// When the file can be neither read nor made, or holds no token.
pub fn admin_token(registry: &Path) -> std::io::Result<Admin> {
    let path = admin_path(registry);
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let token = random_token()?;
            file.write_all(format!("{}\n", token.expose()).as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
                // Half a token would lock everybody out at the next start.
                let _ = std::fs::remove_file(&path);
            })?;
            Ok(Admin { digest: Digest::from_bytes(token.expose().as_bytes()), created: true, token, path })
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => read_admin(registry),
        Err(error) => Err(error),
    }
}

/// Reads the admin token that an earlier start made.
///
/// # Errors
/// When there is none, or the file holds no token.
pub fn read_admin(registry: &Path) -> std::io::Result<Admin> {
    let path = admin_path(registry);
    let mut text = String::new();
    std::fs::File::open(&path)?.take(4096).read_to_string(&mut text)?;
    let token = Secret::new(text.trim().to_string());
    if token.expose().len() < 32 {
        return Err(std::io::Error::other(format!(
            "{} holds no token; remove it and start aam serve again, which writes a new one",
            path.display()
        )));
    }
    Ok(Admin { digest: Digest::from_bytes(token.expose().as_bytes()), created: false, token, path })
}

/// A new token: `aam_` and 256 random bits.
///
/// # Errors
/// When the machine gives no random numbers.
pub fn random_token() -> std::io::Result<Secret> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| std::io::Error::other("the machine gives no random numbers"))?;
    Ok(Secret::new(format!("aam_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tokens_are_read_from_both_schemes_and_nothing_else() {
        let read = |value: &str| token(value).map(|token| token.expose().to_string());
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc ").as_deref(), Some("abc"));
        let basic = format!("Basic {}", BASE64_STANDARD.encode("me:a:b"));
        assert_eq!(read(&basic).as_deref(), Some("a:b"));
        for bad in ["", "Bearer", "Bearer ", "Basic !!", "Digest x", "Bearer a b", "Bearer ä"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(&format!("Bearer {}", "x".repeat(MAX_TOKEN + 1))), None);
    }

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
        assert!(admin_token(&registry).is_err(), "an empty file is no token");
    }
}
