//! What replicas share of the limits: which accounts and hosts are not called for now, and which replica uses which account.
//!
//! Marks are stored by the calls that set them (see [`crate::egress::AccountMark`]). This module applies the stored ones before the
//! first call, stores again what could not be stored, and lets replicas learn from each other every second.

use crate::pipeline::Env;
use crate::reconcile::Handle;
use crate::registry::{self, RegistryError};
use std::sync::Arc;
use std::time::Duration;

/// How often replicas read what the others found out.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The number of polls after which the rows of used accounts are extended: a third of the time that they last.
const POLLS_PER_RENEWAL: u64 = 5;

/// Connects the limits of `env` with the registry and applies the stored marks. No call may be made before.
///
/// # Errors
/// If the registry cannot be read.
pub async fn restore(handle: &Handle, env: &Env) -> Result<(), RegistryError> {
    let registry = Arc::clone(&handle.registry);
    if let Some(holders) = registry::account_holders(&registry) {
        env.egress.divide_limits(holders);
    }
    let marks = registry.account_marks().await?;
    env.egress.apply_marks(&marks, &handle.policy().breaker);
    env.egress.store_marks_in(registry);
    Ok(())
}

/// Keeps the limits up to date. Does not end.
pub async fn run(handle: Arc<Handle>, env: Arc<Env>) {
    let is_shared = handle.registry.location().postgres().is_some();
    let mut polls: u64 = 0;
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        env.egress.store_marks_again().await;
        if !is_shared {
            continue;
        }
        polls += 1;
        if let Err(error) = env.egress.keep_shares(polls.is_multiple_of(POLLS_PER_RENEWAL)).await {
            tracing::debug!(target: "aam::egress", %error, "the use of accounts could not be recorded");
        }
        match handle.registry.account_marks().await {
            Ok(marks) => env.egress.apply_marks(&marks, &handle.policy().breaker),
            Err(error) => tracing::debug!(target: "aam::egress", %error, "the marks of other replicas could not be read"),
        }
    }
}
