//! Authentication and authorization: bearer tokens by their SHA-256, scopes, namespaces, and the admin token.

use super::cors::API_KEY;
use super::person::{PERSON_PREFIX, Person};
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
pub use crate::admin_token::{AdminToken, admin_path, admin_token, random_token, read_admin};
use crate::credentials::secret::Secret;
use crate::model::text::counted;
use crate::model::{ADMIN_TOKEN, Digest, Timestamp};
use crate::policy::{Policy, Token, TokenScope};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeSet;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The maximum length of a token. AAM's tokens are much shorter, and a longer credential is refused without hashing it.
const MAX_TOKEN_BYTES: usize = 1024;
/// The number of namespaces of a token that a refusal names.
const MAX_NAMED_NAMESPACES: usize = 5;

/// The owner of an accepted token, or a person who signed in. It refers to the policy, so it is cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    policy: Arc<Policy>,
    who: Who,
}

/// Whose rights a caller has.
#[derive(Clone, Debug)]
enum Who {
    /// The admin, who has all scopes in all namespaces.
    Admin,
    /// The index into `policy.api.tokens`.
    Token(usize),
    /// A person who signed in with OpenID Connect, and the index of their role in `policy.api.oidc`.
    Person(Arc<Person>, usize),
}

/// What an entry of the policy allows: a token, or a role of people.
struct Rights<'p> {
    scopes: &'p BTreeSet<TokenScope>,
    namespaces: &'p BTreeSet<String>,
}

impl Caller {
    /// Returns the operator of this machine, who can read the file of the registry and so may do everything.
    #[must_use]
    pub fn operator(policy: Arc<Policy>) -> Caller {
        Caller { policy, who: Who::Admin }
    }

    /// Returns a person who signed in. `None` if no role of the policy fits them, or if the policy names another issuer or
    /// client.
    #[must_use]
    pub fn person(policy: &Arc<Policy>, person: Arc<Person>) -> Option<Caller> {
        let role = policy.api.oidc.as_ref().and_then(|oidc| person.role(oidc))?;
        Some(Caller { policy: Arc::clone(policy), who: Who::Person(person, role) })
    }

    /// The entry of the token in the policy, if the caller has one.
    fn token(&self) -> Option<&Token> {
        match &self.who {
            Who::Token(index) => self.policy.api.tokens.get(*index),
            Who::Admin | Who::Person(..) => None,
        }
    }

    /// What the caller's entry of the policy allows. `None` for the admin.
    fn rights(&self) -> Option<Rights<'_>> {
        match &self.who {
            Who::Admin => None,
            Who::Token(_) => self.token().map(|token| Rights { scopes: &token.scopes, namespaces: &token.namespaces }),
            Who::Person(_, index) => {
                let role = self.policy.api.oidc.as_ref().and_then(|oidc| oidc.roles.get(*index))?;
                Some(Rights { scopes: &role.scopes, namespaces: &role.namespaces })
            }
        }
    }

    /// Returns true if the caller's rights satisfy `condition`. The admin satisfies every condition.
    fn may(&self, condition: impl Fn(&Rights<'_>) -> bool) -> bool {
        match &self.who {
            Who::Admin => true,
            Who::Token(_) | Who::Person(..) => self.rights().is_some_and(|rights| condition(&rights)),
        }
    }

    /// Returns the name of the token, or `person:` and the name of the person. Intents that are pushed with a token have the
    /// origin `api:<name>`. No token is called like a person, because names of tokens have no colon.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.who {
            Who::Person(person, _) => &person.name,
            Who::Admin | Who::Token(_) => self.token().map_or(ADMIN_TOKEN, |token| &token.name),
        }
    }

    /// Returns the name that the caller reads on a page.
    #[must_use]
    pub fn display_name(&self) -> &str {
        let name = self.name();
        name.strip_prefix(PERSON_PREFIX).unwrap_or(name)
    }

    /// Returns how records name the caller: `token aod`, or `person:jane@acme.example`.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.who {
            Who::Person(person, _) => person.name.clone(),
            Who::Admin | Who::Token(_) => format!("token {}", self.name()),
        }
    }

    /// Returns how messages name the caller, what its entry in the policy is called, and the key that lists it.
    fn entry(&self) -> (String, &'static str, &'static str) {
        match &self.who {
            Who::Person(person, _) => (format!("the role of {}", person.name), "role", "api.oidc.roles"),
            Who::Admin | Who::Token(_) => (format!("token {}", self.name()), "token", "api.tokens"),
        }
    }

    /// Returns when the token ends, or `None` if never.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.token().and_then(|token| token.expires)
    }

    /// Returns what the rate limit of this caller is counted under.
    #[must_use]
    pub fn rate_key(&self) -> Digest {
        match &self.who {
            Who::Person(person, _) => person.identity(),
            Who::Admin | Who::Token(_) => self.token().map_or_else(Digest::default, |token| token.sha256),
        }
    }

    /// Returns what identifies the caller together with its rights. It changes with the rights of the caller.
    #[must_use]
    pub fn identity(&self) -> Digest {
        let Some(rights) = self.rights() else { return Digest::default() };
        let scopes: Vec<&str> = rights.scopes.iter().map(|scope| scope.as_str()).collect();
        let text = serde_json::json!([self.rate_key().to_string(), scopes, rights.namespaces]).to_string();
        Digest::from_bytes(text.as_bytes())
    }

    /// Returns the same caller under the policy that is in force now, or `None` if that policy does not have the token or a
    /// role for the person any more. For sessions, and for responses that go on for a long time.
    #[must_use]
    pub fn under(&self, policy: &Arc<Policy>) -> Option<Caller> {
        let tokens = &policy.api.tokens;
        let who = match &self.who {
            Who::Person(person, _) => return Caller::person(policy, Arc::clone(person)),
            Who::Admin => tokens.is_empty().then_some(Who::Admin)?,
            Who::Token(_) => {
                let own = self.token()?;
                Who::Token(tokens.iter().position(|token| token.sha256 == own.sha256)?)
            }
        };
        Some(Caller { policy: Arc::clone(policy), who })
    }

    /// Returns true if the caller has access to `namespace`.
    #[must_use]
    pub fn may_see(&self, namespace: &str) -> bool {
        self.may(|rights| rights.namespaces.contains(namespace))
    }

    /// Returns true if the entry of the caller lists `namespace`. The admin has access to all namespaces and lists none.
    #[must_use]
    pub fn lists_namespace(&self, namespace: &str) -> bool {
        !matches!(self.who, Who::Admin) && self.may_see(namespace)
    }

    /// Returns the namespace that a page shows to the caller first: that of the policy, or else the first that its entry lists.
    #[must_use]
    pub fn first_namespace(&self) -> &str {
        let own = self.policy.namespace.as_str();
        let listed = self.rights().and_then(|rights| rights.namespaces.iter().next()).filter(|_| !self.may_see(own));
        listed.map_or(own, String::as_str)
    }

    /// Returns true if the caller may read the registry of `namespace`.
    #[must_use]
    pub fn may_read(&self, namespace: &str) -> bool {
        self.may_see(namespace) && self.may(|rights| rights.scopes.contains(&TokenScope::RegistryRead))
    }

    /// Checks that the caller has access to `namespace`.
    ///
    /// # Errors
    /// Returns 403 otherwise.
    pub fn require_namespace(&self, namespace: &str) -> Result<(), ApiProblem> {
        if self.may_see(namespace) {
            return Ok(());
        }
        let default = if namespace == self.policy.namespace { ", which is meant if a request names none" } else { "" };
        let (subject, kind, key) = self.entry();
        // At the beginning of the sentence.
        let subject = subject.replacen('t', "T", 1);
        Err(ApiProblem::new(
            StatusCode::FORBIDDEN,
            ProblemCode::NamespaceNotAllowed,
            "Namespace not allowed",
            format!(
                "{subject} is not allowed in namespace {namespace}{default}. Name a namespace of this {kind} ({}), or add {namespace} to the namespaces of this {kind} under {key} in the policy.",
                self.named_namespaces()
            ),
        ))
    }

    /// Names the namespaces that the entry of the caller lists, at most [`MAX_NAMED_NAMESPACES`] of them.
    fn named_namespaces(&self) -> String {
        let all: Vec<&str> = self.rights().into_iter().flat_map(|rights| rights.namespaces).map(String::as_str).collect();
        let shown = all.get(..MAX_NAMED_NAMESPACES).unwrap_or(&all).join(", ");
        match all.len().saturating_sub(MAX_NAMED_NAMESPACES) {
            0 => shown,
            others => format!("{shown} and {}", counted(others, "other")),
        }
    }

    /// Checks that the caller has `scope`.
    ///
    /// # Errors
    /// Returns 403 with the name of the scope otherwise.
    pub fn require_scope(&self, scope: TokenScope) -> Result<(), ApiProblem> {
        if self.may(|rights| rights.scopes.contains(&scope)) {
            return Ok(());
        }
        let (scope, (subject, kind, key)) = (scope.as_str(), self.entry());
        Err(ApiProblem::new(
            StatusCode::FORBIDDEN,
            ProblemCode::ScopeMissing,
            "Scope missing",
            format!(
                "This request needs the scope {scope}; {subject} does not have it. To allow it, add {scope} to the scopes of this {kind} under {key} in the policy."
            ),
        ))
    }
}

/// Where a request comes from, as far as authentication depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestSource {
    /// The dashboard, for which a browser asks its user for the token.
    pub browser: bool,
    /// A page of another site. It has to send its own token; a password that the browser adds by itself is not accepted.
    pub cross_origin: bool,
}

/// Authenticates the request. `admin` is accepted only if the policy does not configure any tokens.
///
/// # Errors
/// Returns 401. For a browser, the response has a Basic challenge, so that it asks for the token.
pub fn caller(
    policy: &Arc<Policy>,
    admin: Option<&AdminToken>,
    headers: &HeaderMap,
    source: RequestSource,
    now: Timestamp,
) -> Result<Caller, ApiProblem> {
    let browser = source.browser;
    let malformed = |detail: &str| unauthorized(ProblemCode::TokenMalformed, detail, browser);
    let token = match (single(headers, &header::AUTHORIZATION), api_key(policy, headers)) {
        (Err(()), _) => return Err(malformed("The request has more than one Authorization header.")),
        (_, Err(())) => return Err(malformed("The request has more than one X-API-Key header.")),
        (Ok(Some(_)), Ok(Some(_))) => {
            return Err(malformed(
                "The request has both an Authorization and an X-API-Key header; send the token in one of them.",
            ));
        }
        (Ok(None), Ok(None)) => {
            let hint = match headers.contains_key(API_KEY) {
                true => " X-API-Key is not read, because the policy does not set api.api_key_header: true.",
                false => "",
            };
            let detail = format!("Send a token: Authorization: Bearer <token>.{hint} {}", source_of_tokens(policy, admin));
            return Err(unauthorized(ProblemCode::TokenMissing, &detail, browser));
        }
        (Ok(None), Ok(Some(key))) => key
            .to_str()
            .ok()
            .and_then(|key| accepted(Secret::new(key.to_string())))
            .ok_or_else(|| malformed("The X-API-Key header is not valid; its value must be the token."))?,
        (Ok(Some(value)), Ok(None)) => value.to_str().ok().and_then(|value| token(value, source)).ok_or_else(|| {
            malformed(match source.cross_origin {
                true => "The Authorization header is not valid; a page of another site must send Bearer <token>.",
                false => "The Authorization header is not valid; send Bearer <token>, or Basic with the token as the password.",
            })
        })?,
    };
    with_token(policy, admin, &token, now).map_err(|detail| {
        unauthorized(ProblemCode::TokenUnknown, &format!("{detail} {}", source_of_tokens(policy, admin)), browser)
    })
}

/// Returns the owner of `token`. `admin` is accepted only if the policy does not configure any tokens.
///
/// # Errors
/// Returns a sentence that says why the token is not accepted.
pub fn with_token(policy: &Arc<Policy>, admin: Option<&AdminToken>, token: &Secret, now: Timestamp) -> Result<Caller, String> {
    let digest = Digest::from_bytes(token.expose().as_bytes());
    let caller = find_caller(policy, admin, &digest).ok_or_else(|| {
        let detail = match policy.api.tokens.is_empty() {
            true => "This is not the admin token.",
            false => "This token is not in the policy in force.",
        };
        detail.to_string()
    })?;
    match caller.expires().filter(|end| *end <= now) {
        None => Ok(caller),
        Some(end) => Err(format!("Token {} ended at {end}.", caller.name())),
    }
}

/// Whether the request has a credential, valid or not.
#[must_use]
pub fn has_credential(policy: &Policy, headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || !matches!(api_key(policy, headers), Ok(None))
}

/// Returns the X-API-Key header, if the policy accepts it.
fn api_key<'h>(policy: &Policy, headers: &'h HeaderMap) -> Result<Option<&'h HeaderValue>, ()> {
    if policy.api.api_key_header { single(headers, &API_KEY) } else { Ok(None) }
}

/// Returns the value of a header that a request may have once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(()),
    }
}

/// Where the caller gets a valid token.
#[must_use]
pub fn source_of_tokens(policy: &Policy, admin: Option<&AdminToken>) -> String {
    match admin {
        _ if !policy.api.tokens.is_empty() => {
            "aam token new --name NAME creates a token and prints the entry to add under api.tokens in the policy.".to_string()
        }
        Some(admin) => format!("The admin token is in {}, which only the user of the daemon can read.", admin.path.display()),
        None => "The admin token can be neither read nor created; the log of aam serve says why.".to_string(),
    }
}

/// Compares the digest with that of every token in constant time, so that the duration does not reveal a near match.
fn find_caller(policy: &Arc<Policy>, admin: Option<&AdminToken>, digest: &Digest) -> Option<Caller> {
    let tokens = &policy.api.tokens;
    let caller = |who: Who| Caller { policy: Arc::clone(policy), who };
    if tokens.is_empty() {
        let admin = admin?;
        return bool::from(admin.digest().0.ct_eq(&digest.0)).then(|| caller(Who::Admin));
    }
    let mut found = None;
    for (index, token) in tokens.iter().enumerate() {
        if bool::from(token.sha256.0.ct_eq(&digest.0)) {
            found = found.or(Some(index));
        }
    }
    found.map(|index| caller(Who::Token(index)))
}

/// Reads the token from `Bearer <token>` or `Basic <base64 of user:token>`.
fn token(value: &str, source: RequestSource) -> Option<Secret> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        Secret::new(rest.to_string())
    } else if scheme.eq_ignore_ascii_case("basic") && !source.cross_origin {
        let decoded = Secret::new(String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?);
        Secret::new(decoded.expose().split_once(':')?.1.to_string())
    } else {
        return None;
    };
    accepted(token)
}

/// Returns the token if it has the form of one.
#[must_use]
pub fn accepted(token: Secret) -> Option<Secret> {
    let text = token.expose();
    let fits = !text.is_empty() && text.len() <= MAX_TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(token)
}

fn unauthorized(code: ProblemCode, detail: &str, browser: bool) -> ApiProblem {
    let problem = ApiProblem::new(StatusCode::UNAUTHORIZED, code, "Authentication required", detail);
    let bearer = match code {
        ProblemCode::TokenMissing => "Bearer realm=\"AAM\"",
        _ => "Bearer realm=\"AAM\", error=\"invalid_token\"",
    };
    let value = if browser { "Basic realm=\"AAM token\", charset=\"UTF-8\"" } else { bearer };
    problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_from_both_schemes_and_nothing_else() {
        let read = |value: &str| token(value, RequestSource::default()).map(|token| token.expose().to_string());
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc ").as_deref(), Some("abc"));
        let basic = format!("Basic {}", BASE64_STANDARD.encode("me:a:b"));
        assert_eq!(read(&basic).as_deref(), Some("a:b"));
        let cross_origin = RequestSource { cross_origin: true, ..RequestSource::default() };
        assert!(token(&basic, cross_origin).is_none() && token("Bearer abc", cross_origin).is_some());
        for bad in ["", "Bearer", "Bearer ", "Basic !!", "Digest x", "Bearer a b", "Bearer ä"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(&format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1))), None);
    }
}
