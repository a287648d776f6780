//! How an assertion is checked: a JWT that a client signed, for a token endpoint or as its credential.

use crate::config::{Assertion, Client, Expected};
use crate::jwt::{Jwt, PublicKey};
use crate::keys;
use crate::template::{Scope, text, value};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The clocks of client and vendor may differ by this many seconds.
const CLOCK_SKEW: u64 = 60;

/// When there are more, those that ended are forgotten, and then all.
const MAX_SEEN: usize = 50_000;

/// What is wrong with an assertion, as the suffix of an error's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Malformed,
    Algorithm,
    Issuer,
    Subject,
    Audience,
    Signature,
    Expired,
    NotYet,
    Lifetime,
    Claim,
    Header,
    Replayed,
}

impl Fault {
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Malformed => "malformed",
            Fault::Algorithm => "algorithm",
            Fault::Issuer => "issuer",
            Fault::Subject => "subject",
            Fault::Audience => "audience",
            Fault::Signature => "signature",
            Fault::Expired => "expired",
            Fault::NotYet => "not_yet",
            Fault::Lifetime => "lifetime",
            Fault::Claim => "claim",
            Fault::Header => "header",
            Fault::Replayed => "replayed",
        }
    }
}

pub enum CheckError {
    Fault(Fault),
    Template(minijinja::Error),
}

impl From<minijinja::Error> for CheckError {
    fn from(error: minijinja::Error) -> CheckError {
        CheckError::Template(error)
    }
}

/// The identifiers that were used once.
#[derive(Default)]
pub struct UsedIds {
    list: Mutex<HashMap<String, u64>>,
}

impl UsedIds {
    /// Notes an identifier until `ends_at`; false if it was seen before.
    pub fn note(&self, id: String, ends_at: u64, now: u64) -> bool {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() >= MAX_SEEN {
            list.retain(|_, ends_at| *ends_at > now);
            if list.len() >= MAX_SEEN {
                list.clear();
            }
        }
        match list.insert(id, ends_at) {
            Some(before) => before <= now,
            None => true,
        }
    }
}

/// The names that templates of assertions use: `client` with `id`, `fingerprint`, `x5t`, and `claims`.
pub fn scope_of(base: &Scope, client: &Client, jwt: &Jwt) -> Scope {
    let mut scope = base.clone();
    let mut data = client.credential.data.clone();
    if let Value::Object(data) = &mut data {
        data.insert("id".to_owned(), client.id.as_str().into());
        if let Some(name) = client.key.as_deref() {
            data.insert("fingerprint".to_owned(), keys::fingerprint(name).into());
            let (x5t, x5t_s256) = keys::certificate_thumbprints(name);
            data.insert("x5t".to_owned(), x5t.into());
            data.insert("x5t_s256".to_owned(), x5t_s256.into());
        }
        data.remove("secret");
    }
    scope.set("client", value(&data));
    scope.set("claims", value(&Value::Object(jwt.claims.clone())));
    scope
}

/// Whether the assertion names this client as its issuer.
///
/// # Errors
/// Fails if a template does.
pub fn is_issued_by(assertion: &Assertion, jwt: &Jwt, client: &Client, base: &Scope) -> Result<bool, minijinja::Error> {
    let issuer = jwt.claims.get("iss").or_else(|| jwt.claims.get("sub"));
    match &assertion.issuer {
        Expected::Any => Ok(issuer.is_some_and(|issuer| text(issuer) == client.id)),
        expected => fits(expected, issuer, &scope_of(base, client, jwt)),
    }
}

/// Checks everything about an assertion of `client`. `inward` maps an audience at a plain address of the sandbox to the vendor's.
///
/// # Errors
/// Fails with the first thing that is wrong, or because a template failed.
pub fn check(
    assertion: &Assertion,
    jwt: &Jwt,
    client: &Client,
    base: &Scope,
    now: u64,
    seen: &UsedIds,
    inward: &dyn Fn(&str) -> String,
) -> Result<(), CheckError> {
    let fault = |fault| Err(CheckError::Fault(fault));
    let scope = scope_of(base, client, jwt);
    if !assertion.algorithms.iter().any(|name| name == jwt.algorithm()) {
        return fault(Fault::Algorithm);
    }
    for (name, expected) in &assertion.header {
        if !fits(expected, jwt.header.get(name), &scope)? {
            return fault(Fault::Header);
        }
    }
    let key = client.key.as_deref().and_then(keys::pair).map(PublicKey::from_pair);
    if !key.is_some_and(|key| jwt.is_signed_by(&key)) {
        return fault(Fault::Signature);
    }
    if !fits(&assertion.issuer, jwt.claims.get("iss"), &scope)? {
        return fault(Fault::Issuer);
    }
    if !fits(&assertion.subject, jwt.claims.get("sub"), &scope)? {
        return fault(Fault::Subject);
    }
    if !assertion.audience.is_empty() && !has_audience(assertion, jwt, &scope, inward)? {
        return fault(Fault::Audience);
    }
    if assertion.require.iter().any(|name| jwt.claims.get(name).is_none_or(Value::is_null)) {
        return fault(Fault::Claim);
    }
    for (name, expected) in &assertion.claims {
        if !fits(expected, jwt.claims.get(name), &scope)? {
            return fault(Fault::Claim);
        }
    }
    check_times(assertion, jwt, now).map_err(CheckError::Fault)?;
    if let Some(id) = jwt.claims.get("jti").filter(|_| assertion.once) {
        let ends_at = jwt.time("exp").unwrap_or(now);
        if !seen.note(format!("{} {}", client.id, text(id)), ends_at, now) {
            return fault(Fault::Replayed);
        }
    }
    Ok(())
}

fn has_audience(
    assertion: &Assertion,
    jwt: &Jwt,
    scope: &Scope,
    inward: &dyn Fn(&str) -> String,
) -> Result<bool, minijinja::Error> {
    let sent: Vec<String> = match jwt.claims.get("aud") {
        Some(Value::Array(list)) => list.iter().map(text).collect(),
        Some(one) => vec![text(one)],
        None => Vec::new(),
    };
    let sent: Vec<String> = sent.iter().map(|audience| inward(audience)).collect();
    for expected in &assertion.audience {
        let expected = expected.render_text(scope)?;
        if sent.contains(&expected) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_times(assertion: &Assertion, jwt: &Jwt, now: u64) -> Result<(), Fault> {
    let Some(ends_at) = jwt.time("exp") else { return Err(Fault::Claim) };
    if ends_at <= now {
        return Err(Fault::Expired);
    }
    let is_ahead = |name: &str| jwt.time(name).is_some_and(|time| time > now + CLOCK_SKEW);
    if is_ahead("iat") || is_ahead("nbf") {
        return Err(Fault::NotYet);
    }
    let begins_at = jwt.time("iat").unwrap_or(now);
    let is_long = ends_at.saturating_sub(begins_at) > assertion.max_lifetime;
    let is_far = assertion.max_ahead.is_some_and(|most| ends_at.saturating_sub(now) > most);
    if is_long || is_far { Err(Fault::Lifetime) } else { Ok(()) }
}

/// Whether a claim is what is expected.
///
/// # Errors
/// Fails if a template does.
pub fn fits(expected: &Expected, claim: Option<&Value>, scope: &Scope) -> Result<bool, minijinja::Error> {
    let Expected::OneOf(values) = expected else { return Ok(true) };
    let Some(claim) = claim else { return Ok(false) };
    let claim = text(claim);
    for value in values {
        // A template may give a list, of which one has to be the claim.
        match value.render(scope)? {
            Some(Value::Array(list)) if list.iter().any(|one| text(one) == claim) => return Ok(true),
            Some(Value::Array(_)) | None => {}
            Some(one) if !one.is_null() && text(&one) == claim => return Ok(true),
            Some(_) => {}
        }
    }
    Ok(false)
}
