//! Sessions of people who signed in on the page. They are in memory only: a restart of the process ends all of them.
//!
//! The browser holds a random value in a cookie that scripts cannot read and that other sites cannot make it send
//! (`HttpOnly`, `SameSite=Strict`). AAM keeps only its digest. What a session may do is looked up in the policy in force at each
//! request, so a token or a role that is removed from the policy ends its sessions.

use super::auth::{Caller, random_token};
use super::problem::ApiProblem;
use super::problem_code::ProblemCode;
use crate::credentials::secret::Secret;
use crate::model::{Digest, Timestamp};
use crate::policy::Policy;
use axum::http::{HeaderMap, StatusCode, header};
use data_encoding::HEXLOWER;
use ring::hmac;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// The name of the cookie.
pub const COOKIE: &str = "aam_session";
/// How long a session lasts at most.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// The number of sessions that are kept. The oldest one ends when there are more.
const MAX_SESSIONS: usize = 1000;
/// The number of sessions of one token or person, so that one caller cannot end those of all others.
const MAX_SESSIONS_OF_ONE: usize = 50;
/// The maximum length of the value of a cookie.
const MAX_COOKIE_BYTES: usize = 4096;

/// The sessions of one server.
pub struct Sessions {
    entries: Mutex<HashMap<Digest, Session>>,
    /// Makes the value of forms for readers without a session unpredictable. `None` if the operating system has no random bytes;
    /// then their forms are refused.
    key: Option<Secret>,
}

/// A session.
#[derive(Clone, Debug)]
struct Session {
    caller: Caller,
    csrf: String,
    began: Timestamp,
    ends: Timestamp,
}

/// The session of a request.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub caller: Caller,
    /// What forms of this session send back.
    pub csrf: String,
    /// False for a caller who sends a token with each request.
    pub by_session: bool,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions { entries: Mutex::default(), key: random_token().ok() }
    }
}

impl Sessions {
    /// Begins a session and returns the value of its cookie and its end.
    ///
    /// # Errors
    /// Returns 500 if the operating system has no random bytes.
    pub fn begin(&self, caller: Caller, now: Timestamp) -> Result<(Secret, Timestamp), ApiProblem> {
        let random = || random_token().map_err(|error| ApiProblem::defect(format!("The session could not begin: {error}.")));
        let (cookie, csrf) = (random()?, random()?.expose().to_string());
        let latest = now.plus(LIFETIME);
        let ends = caller.expires().map_or(latest, |end| end.min(latest));
        let owner = caller.rate_key();
        let mut entries = self.lock();
        entries.retain(|_, session| session.ends > now);
        let of_one = entries.values().filter(|session| session.caller.rate_key() == owner).count();
        if of_one >= MAX_SESSIONS_OF_ONE {
            remove_oldest(&mut entries, |session| session.caller.rate_key() == owner);
        } else if entries.len() >= MAX_SESSIONS {
            remove_oldest(&mut entries, |_| true);
        }
        entries.insert(Digest::from_bytes(cookie.expose().as_bytes()), Session { caller, csrf, began: now, ends });
        Ok((cookie, ends))
    }

    /// Ends the session of the request, if it has one.
    pub fn end(&self, headers: &HeaderMap) {
        if let Some(cookie) = cookie(headers, COOKIE) {
            self.lock().remove(&Digest::from_bytes(cookie.as_bytes()));
        }
    }

    /// The session of the request under the policy in force. `None` if it does not have one, or if it has ended.
    pub fn find(&self, headers: &HeaderMap, policy: &Arc<Policy>, now: Timestamp) -> Option<SignedIn> {
        let key = Digest::from_bytes(cookie(headers, COOKIE)?.as_bytes());
        let mut entries = self.lock();
        let session = entries.get(&key)?;
        let caller = session.caller.under(policy).filter(|_| session.ends > now);
        let ended = |caller: &Caller| caller.expires().is_some_and(|end| end <= now);
        match caller.filter(|caller| !ended(caller)) {
            Some(caller) => Some(SignedIn { caller, csrf: session.csrf.clone(), by_session: true }),
            None => {
                entries.remove(&key);
                None
            }
        }
    }

    /// What forms send back for a caller who sends a token with each request.
    #[must_use]
    pub fn csrf_of(&self, caller: &Caller) -> String {
        let Some(key) = &self.key else { return String::new() };
        Digest::from_bytes(format!("{}\n{}", key.expose(), caller.identity()).as_bytes()).to_string()
    }

    /// Returns a value that only this process can compute from `text`, as hexadecimal digits. Values for different purposes
    /// say nothing about each other. `None` if the operating system has no random bytes.
    #[must_use]
    pub fn derived(&self, purpose: &str, text: &str) -> Option<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.as_ref()?.expose().as_bytes());
        let message = format!("{purpose}\n{text}");
        Some(HEXLOWER.encode(hmac::sign(&key, message.as_bytes()).as_ref()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Session>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks the value that a form sent back.
///
/// # Errors
/// Returns 403 if it is not the expected one.
pub fn check_csrf(expected: &str, sent: &str) -> Result<(), ApiProblem> {
    if !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(sent.as_bytes())) {
        return Ok(());
    }
    Err(ApiProblem::new(
        StatusCode::FORBIDDEN,
        ProblemCode::FormOutdated,
        "The form is outdated",
        "Nothing was changed, because the form does not belong to this session. Open the page again and repeat the action.",
    ))
}

fn remove_oldest(entries: &mut HashMap<Digest, Session>, which: impl Fn(&Session) -> bool) {
    let oldest = entries.iter().filter(|(_, session)| which(session)).min_by_key(|(_, session)| session.began);
    if let Some(key) = oldest.map(|(key, _)| *key) {
        entries.remove(&key);
    }
}

/// Returns the value of the cookie `wanted` of the request.
#[must_use]
pub fn cookie<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).find_map(|line| {
        line.split(';').find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == wanted && !value.is_empty() && value.len() <= MAX_COOKIE_BYTES).then_some(value)
        })
    })
}

/// Returns the value of the header that sets the cookie of a session, or removes it if `cookie` is `None`. `secure` if the
/// browser calls AAM over https: it then sends the cookie over https only.
#[must_use]
pub fn set_cookie(cookie: Option<(&Secret, Duration)>, secure: bool) -> String {
    let (value, seconds) = cookie.map_or(("", 0), |(value, lifetime)| (value.expose(), lifetime.as_secs()));
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;

    fn policy(names: &[&str]) -> Arc<Policy> {
        let token = |name: &&str| {
            let digest = Digest::from_bytes(name.as_bytes());
            format!("{{name: {name}, sha256: \"{digest}\", scopes: [registry:read], namespaces: [a]}}")
        };
        let tokens: Vec<String> = names.iter().map(token).collect();
        let text = format!("version: 1\nallowlist: []\napi: {{tokens: [{}]}}\n", tokens.join(", "));
        Arc::new(parse(&text, "p").expect("valid"))
    }

    fn caller(policy: &Arc<Policy>, name: &str) -> Caller {
        super::super::auth::with_token(policy, None, &Secret::new(name.to_string()), Timestamp(0)).expect("known")
    }

    fn with_cookie(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let line = format!("other=1; {COOKIE}={value}; more=2");
        headers.insert(header::COOKIE, line.parse().expect("a value"));
        headers
    }

    #[test]
    fn a_session_ends_with_its_token_and_after_twelve_hours() {
        let (sessions, both) = (Sessions::default(), policy(&["one", "two"]));
        let (cookie, ends) = sessions.begin(caller(&both, "one"), Timestamp(0)).expect("begun");
        let headers = with_cookie(cookie.expose());
        let name =
            |policy: &Arc<Policy>, now| sessions.find(&headers, policy, now).map(|signed_in| signed_in.caller.name().to_string());
        assert_eq!(ends, Timestamp(0).plus(LIFETIME));
        assert_eq!(name(&both, Timestamp(ends.0 - 1)).as_deref(), Some("one"));
        assert_eq!(name(&both, ends), None);
        assert_eq!(name(&both, Timestamp(0)), None, "an ended session does not come back");
        let (cookie, _) = sessions.begin(caller(&both, "one"), Timestamp(0)).expect("begun");
        let headers = with_cookie(cookie.expose());
        assert!(sessions.find(&headers, &policy(&["two"]), Timestamp(0)).is_none(), "the token was removed");
        assert!(sessions.find(&headers, &both, Timestamp(0)).is_none(), "and its session with it");
        assert!(sessions.find(&with_cookie("nonsense"), &both, Timestamp(0)).is_none());
    }

    #[test]
    fn one_caller_cannot_end_the_sessions_of_all_others() {
        let (sessions, both) = (Sessions::default(), policy(&["one", "two"]));
        let (kept, _) = sessions.begin(caller(&both, "two"), Timestamp(0)).expect("begun");
        let (first, _) = sessions.begin(caller(&both, "one"), Timestamp(1)).expect("begun");
        for n in 0..2000 {
            sessions.begin(caller(&both, "one"), Timestamp(2 + n)).expect("begun");
        }
        let now = Timestamp(10_000);
        assert!(sessions.find(&with_cookie(kept.expose()), &both, now).is_some());
        assert!(sessions.find(&with_cookie(first.expose()), &both, now).is_none());
        assert_eq!(sessions.lock().len(), MAX_SESSIONS_OF_ONE + 1);
    }

    #[test]
    fn derived_values_depend_on_the_purpose_the_text_and_the_process() {
        let sessions = Sessions::default();
        let of = |purpose: &str, text: &str| sessions.derived(purpose, text).expect("random bytes");
        assert_eq!(of("state", "a"), of("state", "a"));
        assert!(of("state", "a") != of("nonce", "a") && of("state", "a") != of("state", "b"));
        assert_ne!(Some(of("state", "a")), Sessions::default().derived("state", "a"));
        assert_eq!(of("state", "a").len(), 64);
    }
}
