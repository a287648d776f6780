//! Which secrets engine serves a path.
//!
//! `sys/internal/ui/mounts/PATH` answers for every token that may read something below the mount, so it needs no rule of its
//! own. Mounts cannot be nested, so one answer serves all paths of the mount.

use super::VaultProvider;
use super::api::VaultContext;
use super::failures;
use super::token::lock;
use crate::model::{Class, Failure};
use crate::policy::credentials::VaultPath;
use crate::providers::cache::Moment;
use serde_json::Value;
use std::time::Duration;

/// Secrets engines with settings of the vault itself. A path there could make the vault return AAM's own token.
const INTERNAL_KINDS: [&str; 8] =
    ["system", "token", "identity", "cubbyhole", "ns_system", "ns_token", "ns_identity", "ns_cubbyhole"];

/// How long what is known about a mount is trusted if a secret cannot be read.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// A mount and its secrets engine.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The path of the mount without the final slash, for example `secret`.
    pub path: String,
    /// `kv`, `database`, `aws` and so on.
    pub kind: String,
    /// Whether it is KV version 2.
    pub versioned: bool,
    asked: Moment,
}

impl Mount {
    /// Whether the mount is a key-value store.
    pub fn is_kv(&self) -> bool {
        matches!(self.kind.as_str(), "kv" | "generic")
    }

    /// Whether the vault was asked so long ago that the mount may have changed.
    pub fn is_old(&self, context: &VaultContext<'_>) -> bool {
        self.asked.plus(TRUSTED_FOR).has_come(Moment::now(context.providers.clock.as_ref()))
    }

    /// Returns the part of `path` below the mount.
    pub fn rest<'a>(&self, path: &'a VaultPath) -> Option<&'a str> {
        path.path().strip_prefix(self.path.as_str())?.strip_prefix('/').filter(|rest| !rest.is_empty())
    }
}

impl VaultProvider {
    /// Returns the mount of `path`.
    ///
    /// # Errors
    /// Returns `CredentialMissing` for a mount that AAM may not see or that holds no secrets of sources.
    pub async fn mount(&self, context: &VaultContext<'_>, path: &VaultPath) -> Result<Mount, Failure> {
        let key = context.key();
        if let Some(known) = self.known_mount(&key, path) {
            return Ok(known);
        }
        // One call answers for all paths of the mount, so the others wait for it.
        let _flight = self.mount_flight.lock().await;
        if let Some(known) = self.known_mount(&key, path) {
            return Ok(known);
        }
        self.ask_for_mount(context, path).await
    }

    /// Asks the vault again about `mount`, the mount of `path`.
    ///
    /// # Errors
    /// As [`VaultProvider::mount`].
    pub async fn mount_anew(&self, context: &VaultContext<'_>, path: &VaultPath, mount: &Mount) -> Result<Mount, Failure> {
        let _flight = self.mount_flight.lock().await;
        match self.known_mount(&context.key(), path) {
            Some(known) if known.asked != mount.asked => Ok(known),
            _ => self.ask_for_mount(context, path).await,
        }
    }

    async fn ask_for_mount(&self, context: &VaultContext<'_>, path: &VaultPath) -> Result<Mount, Failure> {
        let asked = Moment::now(context.providers.clock.as_ref());
        let (response, _) = self.read(context, &format!("sys/internal/ui/mounts/{}", path.path()), false).await?;
        let vault = context.vault;
        let data = match response.status {
            200 => response.object("data"),
            400 | 403 | 404 => return Err(failures::denied_mount(vault, path, &response)),
            _ => None,
        };
        let text = |name: &str| data.and_then(|data| data.get(name)).and_then(Value::as_str);
        let (Some(place), Some(kind)) = (text("path"), text("type")) else {
            return Err(failures::invalid_answer(vault, "about a mount does not have path and type"));
        };
        let version = data.and_then(|data| data.get("options")?.get("version")?.as_str());
        let (place, versioned) = (place.trim_end_matches('/').to_string(), version == Some("2"));
        let mount = Mount { path: place, kind: kind.to_string(), versioned, asked };
        if INTERNAL_KINDS.contains(&kind) || mount.rest(path).is_none() {
            return Err(Failure::new(
                Class::CredentialMissing,
                format!("vault:{path} is not below a secrets engine: the vault keeps its own settings there"),
                "name a secret of a secrets engine, for example vault:secret/aam/NAME#FIELD",
            ));
        }
        let mut mounts = lock(&self.mounts);
        let known = mounts.entry(context.key()).or_default();
        known.retain(|known| known.path != mount.path);
        known.push(mount.clone());
        Ok(mount)
    }

    fn known_mount(&self, key: &str, path: &VaultPath) -> Option<Mount> {
        let mounts = lock(&self.mounts);
        mounts.get(key)?.iter().find(|mount| mount.rest(path).is_some()).cloned()
    }
}
