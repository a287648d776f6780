//! The calls that reading a secret of the vault may make, for `aam plan`. Pure.

use super::api;
use crate::model::{Locator, PlannedCall};
use crate::policy::Policy;
use crate::policy::credentials::{VaultLogin, VaultPath};

/// Returns every call that may be made for `locator`.
pub fn calls(policy: &Policy, locator: &Locator) -> Vec<PlannedCall> {
    let (Locator::Vault(rest), Some(vault)) = (locator, &policy.credentials.vault) else { return Vec::new() };
    let Ok(path) = VaultPath::parse(rest, vault.path.as_deref()) else { return Vec::new() };
    let (mount, below) = path.path().split_once('/').unwrap_or((path.path(), ""));
    let call = |method: &'static str, path: &str| (method, path.to_string());
    let (renew, lookup) = (call("POST", "auth/token/renew-self"), call("GET", "auth/token/lookup-self"));
    let revoke = call("POST", "auth/token/revoke-self");
    let mut calls = match &vault.login {
        VaultLogin::Token { .. } => vec![lookup, renew],
        VaultLogin::TokenFile { .. } => vec![lookup],
        VaultLogin::Approle { mount, .. } | VaultLogin::Kubernetes { mount, .. } | VaultLogin::Jwt { mount, .. } => {
            vec![("POST", format!("auth/{mount}/login")), renew, revoke]
        }
    };
    calls.push(("GET", format!("sys/internal/ui/mounts/{}", path.path())));
    // Whether the mount is KV version 2 is known only when the vault was asked.
    calls.push(("GET", format!("{mount}/data/{below}")));
    calls.push(("GET", path.path().to_string()));
    // A path that is not in a key-value store gives a lease.
    calls.extend([call("POST", "sys/leases/renew"), call("POST", "sys/leases/revoke")]);
    // Asked if the vault answers that it cannot serve the call.
    calls.push(call("GET", "sys/seal-status"));
    let planned = calls.into_iter().filter_map(|(method, path)| {
        let url = api::url(&vault.address, &path)?;
        let host = url.host_str()?;
        let host = url.port().map_or(host.to_string(), |port| format!("{host}:{port}"));
        Some(PlannedCall { method: method.to_string(), host, path: url.path().to_string() })
    });
    planned.collect()
}
