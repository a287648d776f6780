//! Renews tokens and leases while no attempt runs, and gives them back.

use super::VaultProvider;
use super::api::{self, VaultCall, VaultContext, VaultPost};
use super::lease::{Lease, Replaced};
use super::token::{RENEWAL_RETRY, Upkeep, VaultToken, lock};
use crate::credentials::redact::AttemptSecrets;
use crate::model::ConnectionId;
use crate::providers::cache::Moment;
use crate::providers::{CredentialRequest, Providers};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// The longest time between two checks of what has to be renewed, so that a clock that jumps is noticed.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The shortest one, so that a vault with absurd times does not keep AAM busy.
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// How long an orderly stop waits for the vault.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl VaultProvider {
    /// Renews what is due, until the process stops.
    pub async fn run_upkeep(&self, providers: &Providers) {
        loop {
            self.keep_all(providers).await;
            // Without a pause, each attempt that uses the vault would make everything be checked.
            tokio::time::sleep(MIN_PAUSE).await;
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(self.pause(providers)) => {}
            }
        }
    }

    /// Returns how long nothing has to be renewed.
    fn pause(&self, providers: &Providers) -> Duration {
        let now = Moment::now(providers.clock.as_ref());
        let tokens = self.tokens.values().into_iter().filter_map(|(_, token, _)| token.state().renew_at);
        let leases = self.leases.values().into_iter().filter_map(|(_, lease, _)| lock(&lease.state).renew_at);
        tokens.chain(leases).map(|at| at.remaining(now)).min().unwrap_or(MAX_PAUSE).min(MAX_PAUSE)
    }

    /// Renews each token and lease whose time has come, and revokes what has no user any more or belongs to a vault that the
    /// policy in force does not name.
    pub async fn keep_all(&self, providers: &Providers) {
        self.give_up_unnamed(providers).await;
        let now = Moment::now(providers.clock.as_ref());
        let tokens =
            self.tokens.values().into_iter().filter(|(_, token, _)| token.state().renew_at.is_some_and(|at| at.has_come(now)));
        join_all(tokens.map(|(key, token, _)| async move { self.keep_one_token(providers, &key, &token).await })).await;
        join_all(self.leases.values().into_iter().map(|(key, lease, _)| async move {
            if has_users(providers, &lease, now) {
                self.keep_one_lease(providers, &key, &lease, now).await;
            } else {
                self.leases.forget_if(&key, |current| Arc::ptr_eq(current, &lease));
                self.revoke(providers, &lease).await;
            }
        }))
        .await;
        let due: Vec<_> = {
            let mut replaced = lock(&self.replaced);
            let (due, later) = replaced.drain(..).partition(|replaced| replaced.revoke_at.has_come(now));
            *replaced = later;
            due
        };
        join_all(due.iter().map(|replaced| self.revoke(providers, &replaced.lease))).await;
    }

    async fn keep_one_token(&self, providers: &Providers, key: &str, token: &Arc<VaultToken>) {
        let request = lock(&token.last_request).clone();
        let Some(request) = under_policy_in_force(providers, key, request) else { return };
        let kept = in_context(providers, &request, |context| async move { self.keep_token(&context, key, token).await }).await;
        if let Some(Err(failure)) = kept {
            let mut state = token.state();
            let again = Moment::now(providers.clock.as_ref()).plus(RENEWAL_RETRY);
            state.renew_at = (state.upkeep != Upkeep::None).then_some(again);
            tracing::warn!(target: "aam::vault", reason = %failure.title, detail = %failure.detail, "could not renew AAM's vault token");
        }
    }

    async fn keep_one_lease(&self, providers: &Providers, key: &str, lease: &Arc<Lease>, now: Moment) {
        let (due, request) = {
            let state = lock(&lease.state);
            (state.renew_at.is_some_and(|at| at.has_come(now)), state.last_request.clone())
        };
        let Some(request) = request.filter(|_| due) else { return };
        // The key of a lease is the key of its vault and the path.
        let vault = key.split('|').next().unwrap_or_default();
        let Some(request) = under_policy_in_force(providers, vault, request) else { return };
        let kept = in_context(providers, &request, |context| async move { self.keep_lease(&context, key, lease).await }).await;
        if let Some(Err(failure)) = kept {
            let mut state = lock(&lease.state);
            let again = Moment::now(providers.clock.as_ref()).plus(RENEWAL_RETRY);
            state.renew_at = state.renewable.then_some(again);
            tracing::warn!(target: "aam::vault", reason = %failure.title, detail = %failure.detail, "could not renew a lease");
        }
    }

    /// Gives back the leases that only `connection` used.
    pub async fn release_leases(&self, providers: &Providers, connection: ConnectionId) {
        for (key, lease, _) in self.leases.values() {
            let unused = {
                let mut state = lock(&lease.state);
                state.users.remove(&connection).is_some() && state.users.is_empty()
            };
            if unused {
                self.leases.forget_if(&key, |current| Arc::ptr_eq(current, &lease));
                self.revoke(providers, &lease).await;
            }
        }
    }

    async fn revoke(&self, providers: &Providers, lease: &Lease) {
        let request = lock(&lease.state).last_request.clone();
        if let Some(request) = request {
            in_context(providers, &request, |context| async move { self.revoke_lease(&context, lease).await }).await;
        }
    }

    /// Revokes all leases and the tokens that AAM obtained. Revoking a token revokes its leases and needs no rule of its own.
    pub async fn give_back(&self, providers: &Providers) {
        self.give_back_where(providers, |_| true).await;
    }

    /// Gives back and forgets what belongs to a vault or a login that the policy in force does not name any more.
    async fn give_up_unnamed(&self, providers: &Providers) {
        let Some(policy) = providers.policy_in_force() else { return };
        let named = policy.credentials.vault.as_ref().map(|vault| api::key(&policy.credentials, vault));
        let is_unnamed = |key: &str| named.as_deref() != key.split('|').next();
        let tokens = self.tokens.values().into_iter().map(|(key, ..)| key);
        let readings = self.readings.values().into_iter().map(|(key, ..)| key);
        let leases = self.leases.values().into_iter().map(|(key, ..)| key);
        let unnamed: Vec<String> = tokens.chain(readings).chain(leases).filter(|key| is_unnamed(key)).collect();
        lock(&self.mounts).retain(|key, _| !is_unnamed(key));
        if unnamed.is_empty() {
            return;
        }
        self.give_back_where(providers, is_unnamed).await;
        for key in unnamed {
            self.tokens.forget_if(&key, |_| true);
            self.readings.forget_if(&key, |_| true);
            self.leases.forget_if(&key, |_| true);
        }
        tracing::info!(target: "aam::vault", "forgot what was read from a vault that the policy does not name any more");
    }

    /// Revokes the leases and tokens whose vault has a key that `is_meant` accepts.
    async fn give_back_where(&self, providers: &Providers, is_meant: impl Fn(&str) -> bool) {
        let all = async {
            let leases = self.leases.values().into_iter().filter(|(key, ..)| is_meant(key));
            let replaced: Vec<Arc<Lease>> = {
                let mut replaced = lock(&self.replaced);
                let (meant, others) = replaced.drain(..).partition(|replaced| {
                    let request = lock(&replaced.lease.state).last_request.clone();
                    request.and_then(|request| key_of(&request)).is_none_or(|key| is_meant(&key))
                });
                *replaced = others;
                let meant: Vec<Replaced> = meant;
                meant.into_iter().map(|replaced| replaced.lease).collect()
            };
            let leases: Vec<Arc<Lease>> = leases.map(|(_, lease, _)| lease.as_ref().clone()).chain(replaced).collect();
            let tokens = self.tokens.values().into_iter().filter(|(key, ..)| is_meant(key));
            let tokens: Vec<(String, Arc<VaultToken>)> = tokens.map(|(key, token, _)| (key, token.as_ref().clone())).collect();
            let mut revoked = Vec::new();
            for (key, token) in tokens.iter().filter(|(_, token)| token.obtained) {
                // Leases of older tokens, and of a token that cannot be revoked, are revoked one by one before.
                let of_others = leases.iter().filter(|lease| !Arc::ptr_eq(&lease.token, token));
                join_all(of_others.map(|lease| self.revoke(providers, lease))).await;
                if self.revoke_token(providers, token).await {
                    revoked.push(Arc::clone(token));
                    self.tokens.forget_if(key, |current| Arc::ptr_eq(current, token));
                }
            }
            let left = leases.iter().filter(|lease| !revoked.iter().any(|token| Arc::ptr_eq(token, &lease.token)));
            if revoked.is_empty() {
                join_all(left.map(|lease| self.revoke(providers, lease))).await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, all).await.is_err() {
            tracing::warn!(target: "aam::vault", "the vault did not answer in time; tokens and leases of AAM end by themselves");
        }
    }

    async fn revoke_token(&self, providers: &Providers, token: &VaultToken) -> bool {
        let request = lock(&token.last_request).clone();
        let result = in_context(providers, &request, |context| async move {
            let post = VaultPost { fields: Vec::new(), why: "gives back AAM's own token; changes no secret", idempotent: true };
            let path = "auth/token/revoke-self".to_string();
            context.call(VaultCall { path, token: Some(token.secret.clone()), post: Some(post) }).await
        })
        .await;
        match result {
            Some(Ok(response)) if matches!(response.status, 200 | 204) => {
                tracing::info!(target: "aam::vault", "revoked AAM's vault token and its leases");
                true
            }
            Some(Ok(response)) => {
                let reason = format!("{} {}", response.status, response.vendor_text());
                tracing::warn!(target: "aam::vault", %reason, "the vault did not revoke AAM's token; it ends by itself");
                false
            }
            Some(Err(failure)) => {
                tracing::warn!(target: "aam::vault", reason = %failure.title, "could not revoke AAM's vault token; it ends by itself");
                false
            }
            None => false,
        }
    }
}

/// Whether a connection used the lease within the time in which each connection is checked twice. A connection that now
/// names another locator does not use it any more.
fn has_users(providers: &Providers, lease: &Lease, now: Moment) -> bool {
    let mut state = lock(&lease.state);
    let Some(request) = &state.last_request else { return true };
    let policy = providers.policy_in_force().unwrap_or_else(|| Arc::clone(&request.policy));
    let idle = policy.recheck.health * 2 + policy.safe_mode.attempt_timeout;
    state.users.retain(|_, used| !used.plus(idle).has_come(now));
    !state.users.is_empty()
}

/// Returns the key of the vault of `request`.
fn key_of(request: &CredentialRequest) -> Option<String> {
    let credentials = &request.policy.credentials;
    Some(api::key(credentials, credentials.vault.as_ref()?))
}

/// Returns `request` with the policy in force, or `None` if that policy names another vault than the one with `key`.
fn under_policy_in_force(providers: &Providers, key: &str, request: CredentialRequest) -> Option<CredentialRequest> {
    let Some(policy) = providers.policy_in_force() else { return Some(request) };
    let request = CredentialRequest { policy, ..request };
    (key_of(&request)? == key).then_some(request)
}

/// Runs `work` for the vault of `request`. What it reads is secret, and is forgotten afterwards.
async fn in_context<'a, T, F: Future<Output = T>>(
    providers: &'a Providers,
    request: &'a CredentialRequest,
    work: impl FnOnce(VaultContext<'a>) -> F,
) -> Option<T> {
    let vault = request.policy.credentials.vault.as_ref()?;
    let context = VaultContext { providers, request, vault };
    Some(AttemptSecrets::new(&[]).run(work(context)).await)
}
