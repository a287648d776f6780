//! Leases: credentials that the vault creates for AAM and that end, such as those of `database/creds/ROLE`.
//!
//! All connections that name a lease share it. It is renewed at two thirds of its life, replaced before it ends, and revoked
//! when its last user is retired or AAM stops in order. A lease also ends with the token that it was created with.

use super::VaultProvider;
use super::api::{VaultCall, VaultContext, VaultPost};
use super::failures::{self, ApiPath};
use super::mount::Mount;
use super::token::{VaultToken, is_capped, lock, seconds, two_thirds};
use crate::credentials::redact;
use crate::model::{Class, ConnectionId, Failure, Timestamp};
use crate::policy::credentials::VaultPath;
use crate::providers::cache::{Cached, Fetched, Moment, Reuse};
use crate::providers::{CredentialRequest, Providers, Reading};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long an answer of a secrets engine without a lease and without an end is used.
const UNLEASED_VALIDITY: Duration = Duration::from_secs(60);

/// How often a lease that sources reject is replaced at most. A source that is broken would otherwise make AAM create a new
/// user for each attempt.
const REPLACEMENT_INTERVAL: Duration = Duration::from_secs(60);

/// A lease and what it gave.
pub struct Lease {
    /// The id in the vault; empty if the secrets engine gave no lease.
    pub id: String,
    pub path: VaultPath,
    pub fields: Map<String, Value>,
    pub aws: bool,
    pub token: Arc<VaultToken>,
    pub state: Mutex<LeaseState>,
}

/// What changes while a lease is in use.
#[derive(Clone, Default)]
pub struct LeaseState {
    pub renewable: bool,
    /// The validity that a renewal should give.
    pub full: Duration,
    pub end: Option<Moment>,
    pub renew_at: Option<Moment>,
    /// The connections that use it, with the time of the latest use.
    pub users: HashMap<ConnectionId, Moment>,
    /// The request that used it last, for calls while no attempt runs.
    pub last_request: Option<CredentialRequest>,
}

impl Lease {
    /// Returns when the lease and the token that it was created with have both not ended.
    pub fn ends(&self) -> Option<Timestamp> {
        let own = lock(&self.state).end.map(|end| end.wall);
        let with_token = self.token.state().end.map(|end| end.wall);
        own.into_iter().chain(with_token).min()
    }
}

/// A lease that was replaced. Attempts that began with it may still use it, so it is revoked only later.
pub struct Replaced {
    pub lease: Arc<Lease>,
    pub revoke_at: Moment,
}

impl VaultProvider {
    /// Returns the lease at `path`, which all connections share.
    ///
    /// # Errors
    /// Returns the failure of the login or the read.
    pub async fn lease(
        &self,
        context: &VaultContext<'_>,
        mount: &Mount,
        path: &VaultPath,
    ) -> Result<Cached<Arc<Lease>>, Failure> {
        let (key, mount) = (format!("{}|{}", context.key(), path.path()), mount.clone());
        let (request, path) = (context.request.clone(), path.clone());
        // A lease must not be lost with the attempt that asked for it: nothing would renew or revoke it.
        let work = move |providers| async move { obtain(&providers, request, &key, &mount, path).await };
        context.providers.run_to_end(work).await?.unless_ended(context.providers.clock.as_ref())
    }

    /// Renews `lease`, which is the value of `key` in the cache.
    ///
    /// # Errors
    /// Returns the failure of the call, or `CredentialMissing` if the vault refuses.
    pub async fn keep_lease(&self, context: &VaultContext<'_>, key: &str, lease: &Arc<Lease>) -> Result<(), Failure> {
        let started = Moment::now(context.providers.clock.as_ref());
        let valid = renewed(context, lease, started).await?;
        self.leases.extend(key, |current| Arc::ptr_eq(current, lease), (started, Some(valid)), context.request);
        Ok(())
    }

    /// Revokes `lease`. A vault that refuses is only logged: the lease is not renewed any more, and ends by itself.
    pub async fn revoke_lease(&self, context: &VaultContext<'_>, lease: &Lease) {
        lock(&lease.state).renewable = false;
        if lease.id.is_empty() {
            return;
        }
        let fields = vec![("lease_id", crate::credentials::Secret::new(lease.id.clone()))];
        let post = VaultPost { fields, why: "gives back a lease of AAM; changes no secret", idempotent: true };
        let result = match self.token(context).await {
            Ok(token) => {
                let token = Some(token.secret.clone());
                context.call(VaultCall { path: "sys/leases/revoke".to_string(), token, post: Some(post) }).await
            }
            Err(failure) => Err(failure),
        };
        let id = redact::scrub_and_cut(&lease.id, 200);
        let ends = lease.ends().map_or("unknown".to_string(), Timestamp::rfc3339);
        match result {
            Ok(response) if matches!(response.status, 200 | 202 | 204) => {
                tracing::info!(target: "aam::vault", lease = %id, "revoked a lease");
            }
            Ok(response) => {
                let reason = format!("{} {}", response.status, response.vendor_text());
                tracing::warn!(target: "aam::vault", lease = %id, %ends, %reason, "the vault did not revoke a lease; AAM does not renew it any more");
            }
            Err(failure) => {
                tracing::warn!(target: "aam::vault", lease = %id, %ends, reason = %failure.title, "could not revoke a lease; AAM does not renew it any more");
            }
        }
    }
}

async fn obtain(
    providers: &Arc<Providers>,
    mut request: CredentialRequest,
    key: &str,
    mount: &Mount,
    path: VaultPath,
) -> Result<Cached<Arc<Lease>>, Failure> {
    let vault = &providers.vault;
    let known = vault.leases.current(key);
    let rejected = request.reading == Reading::Anew;
    let now = Moment::now(providers.clock.as_ref());
    if rejected && known.is_some() && !vault.may_replace(key, now) {
        request.reading = Reading::Cached;
    }
    let policy = Arc::clone(&request.policy);
    let Some(settings) = &policy.credentials.vault else { return Err(failures::no_vault(&request.locator)) };
    let context = VaultContext { providers, request: &request, vault: settings };
    let replace = request.reading == Reading::Anew;
    let fetch = || async {
        let started = Moment::now(providers.clock.as_ref());
        let known: Option<Arc<Lease>> = vault.leases.current(key).map(|known| known.as_ref().clone());
        if let Some(known) = known.clone().filter(|known| !replace && lock(&known.state).renewable)
            && let Ok(valid) = renewed(&context, &known, started).await
            && lock(&known.state).renewable
        {
            return Ok(Fetched { value: known, valid_for: Some(valid) });
        }
        let lease = read(&context, mount, &path, started).await?;
        if let Some(known) = known {
            lock(&lease.state).users = lock(&known.state).users.clone();
            vault.retire_later(&context, known, started);
        }
        let valid_for = lock(&lease.state).end.map(|end| end.remaining(started));
        Ok(Fetched { value: Arc::new(lease), valid_for })
    };
    let cached = match vault.leases.get(key, &request, Reuse::UntilEnd, fetch).await {
        Ok(cached) => cached,
        Err(failure) => {
            // The vault refused, so the cache forgot the lease. Nothing uses it any more.
            if let Some(known) = known.filter(|_| vault.leases.current(key).is_none()) {
                vault.retire_later(&context, known.as_ref().clone(), now);
            }
            return Err(failure);
        }
    };
    let mut state = lock(&cached.value.state);
    state.users.insert(request.connection, now);
    state.last_request = Some(CredentialRequest { reading: Reading::Cached, ..request.clone() });
    drop(state);
    vault.changed.notify_one();
    Ok(cached)
}

/// Reads the path, which makes the secrets engine create a credential.
async fn read(context: &VaultContext<'_>, mount: &Mount, path: &VaultPath, started: Moment) -> Result<Lease, Failure> {
    let vault = context.vault;
    let place = ApiPath { path, api: path.path(), versioned: None };
    let (response, token) = context.providers.vault.read(context, path.path(), true).await?;
    match response.status {
        200 => {}
        403 => return Err(failures::denied(vault, &place, &response)),
        404 => return Err(failures::not_found(vault, &place, &response)),
        _ => return Err(failures::unexpected(vault, &place, &response)),
    }
    let Some(fields) = response.object("data").filter(|fields| !fields.is_empty()) else {
        return Err(failures::invalid_answer(vault, &format!("for {} does not have data", path.path())));
    };
    let id = response.body.get("lease_id").and_then(Value::as_str).unwrap_or_default().to_string();
    let renewable = response.body.get("renewable").and_then(Value::as_bool).unwrap_or(false) && !id.is_empty();
    let granted = seconds(&response.body, "lease_duration").filter(|valid| !valid.is_zero() && !id.is_empty());
    // A static role of the database engine says in how many seconds it is rotated.
    let rotated = || seconds(fields, "ttl").filter(|valid| !valid.is_zero());
    let full = granted.or_else(rotated).unwrap_or(UNLEASED_VALIDITY);
    let valid = token.remaining(started).map_or(full, |of_token| of_token.min(full));
    let state = LeaseState {
        renewable,
        full,
        end: Some(started.plus(valid)),
        renew_at: renewable.then(|| started.plus(two_thirds(valid))),
        ..LeaseState::default()
    };
    Ok(Lease { id, path: path.clone(), fields: fields.clone(), aws: mount.kind == "aws", token, state: Mutex::new(state) })
}

/// Renews the lease and returns its new validity, which is not longer than that of its token. A renewal that gives less than
/// the full time has reached the maximum life of the lease, so that it is replaced next time.
async fn renewed(context: &VaultContext<'_>, lease: &Lease, started: Moment) -> Result<Duration, Failure> {
    let fields = vec![("lease_id", crate::credentials::Secret::new(lease.id.clone()))];
    let post = VaultPost { fields, why: "renews a lease of AAM; changes no secret", idempotent: true };
    let token = context.providers.vault.token(context).await?;
    let call = VaultCall { path: "sys/leases/renew".to_string(), token: Some(token.secret.clone()), post: Some(post) };
    let response = context.call(call).await?;
    let valid = seconds(&response.body, "lease_duration").filter(|_| response.status == 200);
    let mut state = lock(&lease.state);
    let Some(valid) = valid else {
        (state.renewable, state.renew_at) = (false, None);
        let title = format!("the vault does not renew the lease of {} ({})", lease.path.path(), response.status);
        return Err(Failure::new(
            Class::CredentialMissing,
            title,
            "no action is required: AAM asks for a new lease before it ends",
        )
        .detail(response.vendor_text()));
    };
    let renewable = response.body.get("renewable").and_then(Value::as_bool).unwrap_or(true);
    if !renewable || is_capped(&response, valid, state.full) {
        state.renewable = false;
    }
    let valid = lease.token.remaining(started).map_or(valid, |of_token| of_token.min(valid));
    state.end = Some(started.plus(valid));
    state.renew_at = state.renewable.then(|| started.plus(two_thirds(valid)));
    Ok(valid)
}

impl VaultProvider {
    /// Whether a lease that was rejected may be replaced now, and notes that it is.
    fn may_replace(&self, key: &str, now: Moment) -> bool {
        let mut replaced = lock(&self.replacements);
        replaced.retain(|_, next| !next.has_come(now));
        match replaced.contains_key(key) {
            true => false,
            false => {
                replaced.insert(key.to_string(), now.plus(REPLACEMENT_INTERVAL));
                true
            }
        }
    }

    /// Notes that `lease` was replaced, to revoke it when no attempt can use it any more.
    fn retire_later(&self, context: &VaultContext<'_>, lease: Arc<Lease>, now: Moment) {
        let wait = context.request.policy.safe_mode.attempt_timeout + Duration::from_secs(30);
        lock(&self.replaced).push(Replaced { lease, revoke_at: now.plus(wait) });
    }
}
