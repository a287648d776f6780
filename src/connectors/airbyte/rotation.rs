//! Keeps what a connector replaces in its config while it runs, and lets only one run at a time use a credential.

use super::rotated::{self, Changes, Rotated};
use super::secret_fields::SecretFields;
use crate::credentials::{Credential, redact};
use crate::model::{Class, Failure};
use airbyte_protocol::JsonText;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The locks of the credentials in use, by [`Rotated::id`]. A token that may be used once must not be used by two runs.
#[derive(Default)]
pub struct Locks(Mutex<HashMap<String, Weak<AsyncMutex<()>>>>);

impl Locks {
    /// Waits until no other run of this process uses the credential.
    pub async fn lock(&self, id: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(id).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(AsyncMutex::new(()));
                    locks.insert(id.to_string(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

/// The credential of one connection, which its connector may replace.
pub struct Rotation {
    rotated: Arc<Rotated>,
    /// The config as policy and credential make it, without what was replaced.
    original: Value,
    name: Arc<str>,
    fields: Arc<SecretFields>,
    /// The pointers of what was replaced so far.
    replaced: Mutex<Vec<String>>,
}

impl Rotation {
    /// Creates the place for what the connector replaces. Returns `None` without a credential: nothing in the config is then
    /// used up.
    #[must_use]
    pub fn new(
        dir: &Path,
        name: &Arc<str>,
        credential: Option<&Credential>,
        original: &Value,
        fields: &Arc<SecretFields>,
    ) -> Option<Rotation> {
        let rotated = Arc::new(Rotated::new(dir, name, credential?)?);
        let (original, name, fields) = (original.clone(), Arc::clone(name), Arc::clone(fields));
        Some(Rotation { rotated, original, name, fields, replaced: Mutex::default() })
    }

    /// See [`Rotated::id`].
    #[must_use]
    pub fn id(&self) -> &str {
        self.rotated.id()
    }

    /// Returns the pointers of what was replaced, for the evidence.
    #[must_use]
    pub fn replaced(&self) -> Vec<String> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the config to use now.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if what was replaced cannot be read.
    pub async fn config(&self) -> Result<Value, Failure> {
        let rotated = Arc::clone(&self.rotated);
        let changes = tokio::task::spawn_blocking(move || rotated.read()).await;
        let changes = changes.unwrap_or_else(|error| Err(self.not_kept(&error.to_string())))?;
        self.note(&changes);
        let mut config = self.original.clone();
        rotated::apply(&mut config, &changes, &self.fields);
        Ok(config)
    }

    /// Keeps the secrets that are different in `config`, which the connector sent. They are on disk when this returns.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if it could not be kept: the stored credential may be used up.
    pub async fn keep(&self, config: &JsonText) -> Result<(), Failure> {
        let Ok(now) = config.parse() else { return Err(self.not_kept("the new config is not valid JSON")) };
        self.fields.learn(&now);
        let Some(changes) = rotated::changes(&self.original, &now, &self.fields) else {
            return Err(self.not_kept("the new config has too many changes"));
        };
        if changes.is_empty() {
            return Ok(());
        }
        self.note(&changes);
        let rotated = Arc::clone(&self.rotated);
        let written = tokio::task::spawn_blocking(move || rotated.write(&changes)).await;
        match written.map_err(std::io::Error::other).and_then(|written| written) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.not_kept(&error.to_string())),
        }
    }

    fn note(&self, changes: &Changes) {
        *self.replaced.lock().unwrap_or_else(PoisonError::into_inner) = changes.keys().cloned().collect();
    }

    fn not_kept(&self, reason: &str) -> Failure {
        Failure::new(
            Class::CredentialMissing,
            format!("{} replaced its credential, and AAM could not keep the new one", self.name),
            "make sure that the disk has free space and that the user of aam can write airbyte.dir; then store a new credential, because the earlier one may be used up",
        )
        .detail(redact::scrub_and_cut(reason, 200))
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret_fields::tests::fields;
    use super::*;
    use crate::credentials::Secret;
    use futures_util::FutureExt;
    use serde_json::json;

    fn json_text(value: &Value) -> JsonText {
        // The protocol's reader is the only source of such a text.
        let message = json!({"type": "CONTROL", "control": {"type": "CONNECTOR_CONFIG", "emitted_at": 1, "connectorConfig": {"config": value}}});
        let command = airbyte_protocol::Command::Check;
        let mut reader = airbyte_protocol::Reader::new(command, airbyte_protocol::Limits::for_command(command));
        let _ = reader.push(format!("{message}\n").as_bytes());
        reader.take_config().expect("a config")
    }

    #[tokio::test]
    async fn the_next_run_uses_what_the_last_one_replaced() {
        let home = tempfile::tempdir().expect("a folder");
        let credential = Credential::read(Secret::new(r#"{"refresh_token": "canary-first-77"}"#.to_string()));
        let original = json!({"refresh_token": "canary-first-77", "host": "a"});
        let secret = json!({"properties": {"refresh_token": {"airbyte_secret": true}}});
        let fields = Arc::new(fields(&secret, &json!({})));
        let rotation =
            || Rotation::new(home.path(), &"okta".into(), Some(&credential), &original, &fields).expect("a credential");
        let first = rotation();
        assert_eq!(first.config().await, Ok(original.clone()));
        first.keep(&json_text(&json!({"refresh_token": "canary-second-78", "host": "b", "hosts": ["b"]}))).await.expect("kept");
        assert_eq!(first.replaced(), ["/refresh_token"]);
        assert_eq!(rotation().config().await, Ok(json!({"refresh_token": "canary-second-78", "host": "a"})));
        std::fs::remove_dir_all(home.path()).expect("removed");
        std::fs::write(home.path(), "a file").expect("written");
        let failure = first.keep(&json_text(&json!({"refresh_token": "canary-third-79"}))).await.expect_err("not a folder");
        assert_eq!(failure.class, Class::CredentialMissing);
        assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
        std::fs::remove_file(home.path()).expect("removed");
    }

    /// Two connections with one credential: what the connector changes in the config of the one is not in that of the other.
    #[tokio::test]
    async fn only_secrets_are_shared_and_a_changed_policy_is_in_force() {
        let home = tempfile::tempdir().expect("a folder");
        let credential = Credential::read(Secret::new(r#"{"token": "canary-first-77"}"#.to_string()));
        let fields =
            Arc::new(fields(&json!({"properties": {}}), &json!({"token": "{credential.token}", "site": "{resource_id}"})));
        let of = |original: Value| {
            Rotation::new(home.path(), &"acme".into(), Some(&credential), &original, &fields).expect("a credential")
        };
        let north = json!({"token": "canary-first-77", "site": "north"});
        let sent = json!({"token": "canary-second-78", "site": "north", "sites": ["north"], "mode": "items"});
        of(north).keep(&json_text(&sent)).await.expect("kept");
        let south = json!({"token": "canary-first-77", "site": "south", "page_size": 5});
        let expected = json!({"token": "canary-second-78", "site": "south", "page_size": 5});
        assert_eq!(of(south).config().await, Ok(expected));
    }

    #[tokio::test]
    async fn what_is_not_secret_is_not_learned() {
        let home = tempfile::tempdir().expect("a folder");
        let credential = Credential::read(Secret::new(r#"{"token": "canary-first-77"}"#.to_string()));
        let fields = Arc::new(fields(&json!({"properties": {"token": {"airbyte_secret": true}}}), &json!({})));
        let original = json!({"token": "canary-first-77"});
        redact::AttemptSecrets::new(&[])
            .run(async {
                let rotation = Rotation::new(home.path(), &"acme".into(), Some(&credential), &original, &fields);
                let sent = json!({"token": "canary-second-78", "mode": "items_of_a_stream"});
                rotation.expect("a credential").keep(&json_text(&sent)).await.expect("kept");
                let shown = redact::scrub("canary-second-78 items_of_a_stream").into_owned();
                assert_eq!(shown, "[redacted] items_of_a_stream");
            })
            .await;
    }

    #[tokio::test]
    async fn one_credential_is_used_by_one_run_at_a_time() {
        let locks = Locks::default();
        let held = locks.lock("a").await;
        assert!(locks.lock("b").now_or_never().is_some());
        assert!(locks.lock("a").now_or_never().is_none());
        drop(held);
        assert!(locks.lock("a").now_or_never().is_some());
    }
}
