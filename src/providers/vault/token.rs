//! The token with which AAM calls the vault: login, renewal, and its end.

use super::VaultProvider;
use super::api::{VaultCall, VaultContext, VaultPost, VaultResponse};
use super::failures;
use crate::credentials::{Secret, redact};
use crate::model::{Class, Failure, Locator, Timestamp};
use crate::operator_file;
use crate::policy::credentials::VaultLogin;
use crate::providers::cache::{Fetched, Moment, Reuse};
use crate::providers::{CredentialRequest, Providers, Reading};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The maximum size of a file with a token in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// The longest time that AAM takes from the vault as the validity of a token or a lease: ten years.
const MAX_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long a renewal that failed for a reason outside the token waits before it is tried again.
pub const RENEWAL_RETRY: Duration = Duration::from_secs(5);

/// A token and what is known about it.
pub struct VaultToken {
    pub secret: Secret,
    /// Whether AAM obtained the token by a login, so that AAM revokes it.
    pub obtained: bool,
    /// Whether the token has the policy `root`, so that it may do everything.
    pub root: bool,
    pub state: Mutex<TokenState>,
    /// The request that used it last, for calls while no attempt runs.
    pub last_request: Mutex<CredentialRequest>,
}

/// What changes with each renewal.
#[derive(Clone, Debug, Default)]
pub struct TokenState {
    /// How the token is kept alive.
    pub upkeep: Upkeep,
    /// The validity that a renewal should give.
    pub full: Duration,
    /// From here on it is not used any more; `None` if it has no end, or an unknown one.
    pub end: Option<Moment>,
    /// When to renew it.
    pub renew_at: Option<Moment>,
}

/// How a token is kept alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upkeep {
    /// AAM renews it.
    Renew,
    /// An agent renews it, and AAM asks how long it is valid.
    Watch,
    /// It ends when it ends.
    #[default]
    None,
}

impl VaultToken {
    /// Returns the state.
    pub fn state(&self) -> MutexGuard<'_, TokenState> {
        lock(&self.state)
    }

    /// Returns how long the token is still valid; `None` if it has no known end.
    pub fn remaining(&self, now: Moment) -> Option<Duration> {
        self.state().end.map(|end| end.remaining(now))
    }

    /// Returns when the token ends, if AAM cannot prevent it: it is not AAM's own, and it is not renewed beyond.
    pub fn ends_at(&self) -> Option<Timestamp> {
        let state = self.state();
        (!self.obtained && state.upkeep == Upkeep::None).then(|| state.end.map(|end| end.wall)).flatten()
    }

    /// Sets the validity after a login or a renewal that began at `started`. `extensible` is false if it cannot be renewed any
    /// more.
    fn set_validity(&self, valid: Duration, extensible: bool, started: Moment) {
        let mut state = self.state();
        if !extensible {
            state.upkeep = Upkeep::None;
        }
        state.end = Some(started.plus(valid));
        state.renew_at = (state.upkeep != Upkeep::None).then(|| started.plus(two_thirds(valid)));
    }
}

/// Returns the time after which something that is valid for `valid` is renewed.
pub fn two_thirds(valid: Duration) -> Duration {
    valid / 3 * 2
}

/// Whether a renewal gave less than the `full` time, because the maximum life is reached. The vault warns of it: "TTL of ...
/// exceeded the effective max_ttl".
pub fn is_capped(response: &VaultResponse, valid: Duration, full: Duration) -> bool {
    valid + Duration::from_secs(1) < full || response.vendor_text().contains("max_ttl")
}

/// Locks `mutex` even if another holder panicked: no critical section here leaves its value inconsistent.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a number of seconds, bounded by [`MAX_VALIDITY`].
pub fn seconds(body: &Map<String, Value>, name: &str) -> Option<Duration> {
    body.get(name)?.as_u64().map(|seconds| Duration::from_secs(seconds).min(MAX_VALIDITY))
}

/// Whether a 403 means that the token is valid and a policy does not allow the path. For a token that is not valid, the vault
/// answers with other texts.
pub fn is_denied_by_policy(response: &VaultResponse) -> bool {
    let text = response.vendor_text();
    (text.contains("1 error occurred") && !text.contains("invalid token")) || text.contains("preflight capability check")
}

impl VaultProvider {
    /// Returns a valid token of the vault; logs in, or renews the token, if that is due.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the vault refuses the login, or the failure of a vault that cannot answer.
    pub async fn token(&self, context: &VaultContext<'_>) -> Result<Arc<VaultToken>, Failure> {
        let (key, request) = (context.key(), context.request.clone());
        // A login must not be lost with the attempt that began it, because its token would stay valid without an owner.
        let token = context.providers.run_to_end(move |providers| async move { obtain(&providers, request, key).await }).await?;
        *lock(&token.last_request) = context.request.clone();
        redact::learn_value(token.secret.expose());
        Ok(token)
    }

    /// Renews `token`, which is the value of `key` in the cache.
    ///
    /// # Errors
    /// Returns the failure of the call, or `CredentialMissing` if the vault refuses.
    pub async fn keep_token(&self, context: &VaultContext<'_>, key: &str, token: &Arc<VaultToken>) -> Result<(), Failure> {
        let started = Moment::now(context.providers.clock.as_ref());
        let valid = renewed(context, token, started).await?;
        self.tokens.extend(key, |current| Arc::ptr_eq(current, token), (started, valid), context.request);
        Ok(())
    }
}

async fn obtain(providers: &Arc<Providers>, request: CredentialRequest, key: String) -> Result<Arc<VaultToken>, Failure> {
    // That the source rejected a secret does not concern the token.
    let request = CredentialRequest { reading: Reading::Cached, ..request };
    let Some(vault) = &request.policy.credentials.vault else { return Err(failures::no_vault(&request.locator)) };
    let context = VaultContext { providers, request: &request, vault };
    let tokens = &providers.vault.tokens;
    let stored = match &vault.login {
        VaultLogin::Token { token } => Some(stored_secret(&context, token).await?),
        VaultLogin::TokenFile { file } => Some(read_file(file)?),
        _ => None,
    };
    // A token that was replaced at its place is taken up at once.
    if let (Some(stored), Some(known)) = (&stored, tokens.current(&key))
        && known.secret != *stored
    {
        tokens.forget_if(&key, |current| Arc::ptr_eq(current, &known));
    }
    let known = tokens.current(&key).map(|known| known.as_ref().clone());
    let cached = tokens.get(&key, &request, Reuse::UntilEnd, || async {
        let started = Moment::now(providers.clock.as_ref());
        if let Some(known) = known.filter(|known| known.state().upkeep != Upkeep::None)
            && let Ok(Some(valid)) = renewed(&context, &known, started).await
            && known.state().upkeep != Upkeep::None
        {
            return Ok(Fetched { value: known, valid_for: Some(valid) });
        }
        let token = match stored {
            Some(stored) => looked_up(&context, stored, started).await?,
            None => logged_in(&context, started).await?,
        };
        let valid_for = token.remaining(started);
        Ok(Fetched { value: token, valid_for })
    });
    let token = cached.await?.value.as_ref().clone();
    providers.vault.changed.notify_one();
    Ok(token)
}

/// Renews the token, or asks how long it is valid, and returns the new validity.
async fn renewed(context: &VaultContext<'_>, token: &VaultToken, started: Moment) -> Result<Option<Duration>, Failure> {
    let upkeep = token.state().upkeep;
    match upkeep {
        Upkeep::None => return Ok(token.remaining(started)),
        Upkeep::Watch => {
            let response = context.call(VaultCall::read("auth/token/lookup-self", &token.secret)).await?;
            let valid = response.object("data").and_then(|data| seconds(data, "ttl")).filter(|_| response.status == 200);
            let Some(valid) = valid else { return Err(failures::token_refused(context.vault, &response)) };
            let mut state = token.state();
            state.end = Some(started.plus(valid));
            state.renew_at = Some(started.plus(two_thirds(valid)));
            return Ok(Some(valid));
        }
        Upkeep::Renew => {}
    }
    let post = VaultPost { fields: Vec::new(), why: "renews AAM's own token; changes no secret", idempotent: true };
    let call = VaultCall { path: "auth/token/renew-self".to_string(), token: Some(token.secret.clone()), post: Some(post) };
    let response = context.call(call).await?;
    let auth = response.object("auth").filter(|_| response.status == 200);
    let Some((auth, valid)) = auth.and_then(|auth| Some((auth, seconds(auth, "lease_duration")?))) else {
        let mut state = token.state();
        (state.upkeep, state.renew_at) = (Upkeep::None, None);
        return Err(failures::token_refused(context.vault, &response));
    };
    let renewable = auth.get("renewable").and_then(Value::as_bool).unwrap_or(false);
    let full = token.state().full;
    token.set_validity(valid, renewable && !is_capped(&response, valid, full), started);
    Ok(Some(valid))
}

/// Asks the vault about a token that AAM did not obtain.
async fn looked_up(context: &VaultContext<'_>, secret: Secret, started: Moment) -> Result<Arc<VaultToken>, Failure> {
    let response = context.call(VaultCall::read("auth/token/lookup-self", &secret)).await?;
    let upkeep = match context.vault.login {
        VaultLogin::TokenFile { .. } => Upkeep::Watch,
        _ => Upkeep::Renew,
    };
    let (mut root, mut state) = (false, TokenState { upkeep, ..TokenState::default() });
    let mut renew_now = false;
    match (response.status, response.object("data")) {
        (200, Some(data)) => {
            root = data.get("policies").and_then(Value::as_array).is_some_and(|all| all.iter().any(|name| name == "root"));
            let (ttl, full) = (seconds(data, "ttl").unwrap_or_default(), seconds(data, "creation_ttl").unwrap_or_default());
            let renewable = data.get("renewable").and_then(Value::as_bool).unwrap_or(false);
            let period = seconds(data, "period").filter(|period| !period.is_zero());
            if ttl.is_zero() && full.is_zero() {
                // It has no end, as a root token.
                state.upkeep = Upkeep::None;
            } else {
                state.full = period.unwrap_or(full);
                state.end = Some(started.plus(ttl));
                // A renewal cannot move the end beyond the explicit maximum, which counts from the creation of the token.
                let at_maximum = seconds(data, "explicit_max_ttl").is_some_and(|max| !max.is_zero() && max <= full);
                if (!renewable || at_maximum) && upkeep == Upkeep::Renew {
                    state.upkeep = Upkeep::None;
                }
                let spent = state.full.saturating_sub(ttl);
                state.renew_at =
                    (state.upkeep != Upkeep::None).then(|| started.plus(two_thirds(state.full).saturating_sub(spent)));
                // The first renewal shows whether the token can be renewed beyond its maximum life.
                renew_now = state.upkeep == Upkeep::Renew && period.is_none();
            }
        }
        // The token is valid and has no policy that lets it ask about itself.
        (403, _) if is_denied_by_policy(&response) => state.upkeep = Upkeep::None,
        _ => return Err(failures::token_refused(context.vault, &response)),
    }
    let last_request = Mutex::new(context.request.clone());
    let token = Arc::new(VaultToken { secret, obtained: false, root, state: Mutex::new(state), last_request });
    if renew_now {
        // A renewal that fails changes nothing: the token is valid as long as the vault said.
        let _ = renewed(context, &token, started).await;
    }
    Ok(token)
}

/// Logs in and returns AAM's own token.
async fn logged_in(context: &VaultContext<'_>, started: Moment) -> Result<Arc<VaultToken>, Failure> {
    let (mount, fields) = match &context.vault.login {
        VaultLogin::Approle { mount, role_id, secret_id } => {
            let role_id = stored_secret(context, role_id).await?;
            (mount, vec![("role_id", role_id), ("secret_id", stored_secret(context, secret_id).await?)])
        }
        VaultLogin::Kubernetes { mount, role, token_file } => {
            (mount, vec![("role", Secret::new(role.clone())), ("jwt", read_file(token_file)?)])
        }
        VaultLogin::Jwt { mount, role, token, token_file } => {
            let jwt = match (token, token_file) {
                (Some(locator), _) => stored_secret(context, locator).await?,
                (None, Some(file)) => read_file(file)?,
                (None, None) => return Err(failures::invalid_address(context.vault)),
            };
            (mount, vec![("role", Secret::new(role.clone())), ("jwt", jwt)])
        }
        VaultLogin::Token { .. } | VaultLogin::TokenFile { .. } => return Err(failures::invalid_address(context.vault)),
    };
    // A secret id may be valid for one login only.
    let post = VaultPost { fields, why: "logs AAM in to the vault; changes no secret", idempotent: false };
    let response = context.call(VaultCall { path: format!("auth/{mount}/login"), token: None, post: Some(post) }).await?;
    if response.status != 200 {
        return Err(failures::login_refused(context.vault, &response));
    }
    let auth = response.object("auth");
    let secret = auth.and_then(|auth| auth.get("client_token")).and_then(Value::as_str).filter(|token| !token.is_empty());
    let (Some(auth), Some(secret)) = (auth, secret) else {
        return Err(failures::invalid_answer(context.vault, "to the login does not have a token"));
    };
    redact::learn_value(secret);
    let valid = seconds(auth, "lease_duration");
    let Some(valid) = valid else {
        return Err(failures::invalid_answer(context.vault, "to the login does not say how long the token is valid"));
    };
    let renewable = auth.get("renewable").and_then(Value::as_bool).unwrap_or(false);
    let upkeep = if renewable { Upkeep::Renew } else { Upkeep::None };
    let state = TokenState { upkeep, full: valid, ..TokenState::default() };
    let root = auth.get("policies").and_then(Value::as_array).is_some_and(|all| all.iter().any(|name| name == "root"));
    let last_request = Mutex::new(context.request.clone());
    let token = Arc::new(VaultToken {
        secret: Secret::new(secret.to_string()),
        obtained: true,
        root,
        state: Mutex::new(state),
        last_request,
    });
    // The vault gives 0 for a token without an end.
    if !valid.is_zero() {
        token.set_validity(valid, renewable, started);
    }
    tracing::info!(target: "aam::vault", vault = %context.vault.address, method = context.vault.login.method(), valid_s = valid.as_secs(), "logged in to the vault");
    Ok(token)
}

/// Reads a secret that the policy names for the login.
async fn stored_secret(context: &VaultContext<'_>, locator: &Locator) -> Result<Secret, Failure> {
    if let Locator::Vault(_) = locator {
        return Err(Failure::new(
            Class::Misconfigured,
            format!("{locator} cannot be used to log in to the vault, because reading it needs the login"),
            "write env:NAME or file:PATH in credentials.vault.login in the policy",
        ));
    }
    let credential = context.providers.provide_setting(context.request, locator).await?.credential;
    redact::learn(&credential);
    match credential.plain() {
        Some(plain) => Ok(Secret::new(plain.expose().trim().to_string())),
        None => Err(Failure::new(
            Class::CredentialMissing,
            format!("{locator}, which the policy names for the login to the vault, is a JSON object and not one value"),
            format!("store only the value in {locator}"),
        )),
    }
}

/// Reads a token that another program keeps in a file.
fn read_file(file: &Path) -> Result<Secret, Failure> {
    let missing = |reason: String| {
        Failure::new(
            Class::CredentialMissing,
            format!("could not read {}, which credentials.vault.login names: {reason}", file.display()),
            "check that the agent, or Kubernetes, writes the file, and that AAM's user may read it",
        )
    };
    let text = operator_file::read_text(file, MAX_TOKEN_BYTES).map_err(|error| missing(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(missing("the file is empty".to_string()));
    }
    redact::learn_value(text);
    Ok(Secret::new(text.to_string()))
}
