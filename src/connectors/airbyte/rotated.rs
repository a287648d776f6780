//! What a connector replaced in its own config: tokens that may be used once.
//!
//! Only secret fields are kept, because all connections of a credential share them. What else a connector changes belongs to
//! one connection; a connector that migrates its config does so again at each start. A value is used only in place of the one
//! that it replaced, so a config that the policy changes afterwards is used as it is.
//!
//! A connector that spends such a token says the new one in a CONTROL message, and the stored credential is of no use from
//! then on. The change is written before anything else happens. The file is encrypted with a key that is derived from the
//! stored credential, so it shows nothing without that. With another credential, the file has another name
//! and another key, so a credential that a person replaces is used as it is.

use super::secret_fields::SecretFields;
use crate::credentials::Credential;
use crate::model::{Class, Digest, Failure};
use crate::operator_file;
use crate::registry::private_files::{FILE_MODE, create_folder};
use data_encoding::HEXLOWER;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The folder, below the policy's `airbyte.dir`.
const FOLDER: &str = "rotated";
/// The maximum number of changed values of a config, and of bytes of all of them.
const MAX_CHANGES: usize = 200;
const MAX_BYTES: usize = 256 << 10;
const MAX_DEPTH: usize = 32;
const KEY_BYTES: usize = 32;

/// The secrets of a config that were replaced, by their JSON pointers.
pub type Changes = BTreeMap<String, Replaced>;

/// A secret that the connector replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// The digest of the value that it replaced.
    was: String,
    now: Value,
}

/// Where the changes of one credential are kept.
pub struct Rotated {
    id: String,
    path: PathBuf,
    key: LessSafeKey,
}

impl Rotated {
    /// Returns the place for the changes that the connector `name` makes to this credential. `dir` is the policy's
    /// `airbyte.dir`. Returns `None` if a cipher of the system does not work.
    #[must_use]
    pub fn new(dir: &Path, name: &str, credential: &Credential) -> Option<Rotated> {
        let mut secret = Zeroizing::new(Vec::new());
        let mut add = |name: &str, value: &str| {
            for part in [name, value] {
                secret.extend_from_slice(&part.len().to_le_bytes());
                secret.extend_from_slice(part.as_bytes());
            }
        };
        if let Some(plain) = credential.plain() {
            add("", plain.expose());
        }
        for field in credential.field_names() {
            add(field, credential.field(field)?.expose());
        }
        let root = Salt::new(HKDF_SHA256, b"aam airbyte rotated").extract(&secret);
        let expand = |purpose: &[u8]| {
            let mut out = Zeroizing::new([0; KEY_BYTES]);
            root.expand(&[purpose, name.as_bytes()], HKDF_SHA256).ok()?.fill(out.as_mut()).ok()?;
            Some(out)
        };
        let id = HEXLOWER.encode(expand(b"name:")?.as_ref());
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, expand(b"key:")?.as_ref()).ok()?);
        let path = dir.join(FOLDER).join(&id);
        Some(Rotated { id, path, key })
    }

    /// Names the credential without showing it. Two runs with the same id must not run at the same time.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what was kept. Blocks.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the file cannot be read.
    pub fn read(&self) -> Result<Changes, Failure> {
        let limit = u64::try_from(4 * MAX_BYTES).unwrap_or(u64::MAX);
        let bytes = match operator_file::read(&self.path, limit) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Changes::new()),
            Err(error) => return Err(self.unreadable(&error.to_string())),
        };
        self.opened(bytes).ok_or_else(|| self.unreadable("it is damaged"))
    }

    fn opened(&self, mut bytes: Zeroizing<Vec<u8>>) -> Option<Changes> {
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(self.id.as_bytes()), text).ok()?;
        serde_json::from_slice(plain).ok()
    }

    /// Keeps the changes. They are on disk when this returns. Blocks.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn write(&self, changes: &Changes) -> io::Result<()> {
        let mut nonce = [0; NONCE_LEN];
        let no_randomness = || io::Error::other("the operating system does not provide random bytes");
        SystemRandom::new().fill(&mut nonce).map_err(|_| no_randomness())?;
        let mut sealed = Zeroizing::new(serde_json::to_vec(changes)?);
        let about = Aad::from(self.id.as_bytes());
        let tag = self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), about, &mut sealed);
        let tag = tag.map_err(|_| no_randomness())?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        create_folder(folder)?;
        let draft = self.path.with_extension("new");
        // What is in its place is left of a write that was interrupted.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft)?;
        file.write_all(&[&nonce, sealed.as_slice(), tag.as_ref()].concat())?;
        file.sync_all()?;
        std::fs::rename(&draft, &self.path)?;
        File::open(folder)?.sync_all()
    }

    fn unreadable(&self, reason: &str) -> Failure {
        let path = self.path.display();
        Failure::new(
            Class::CredentialMissing,
            format!("the credential that the connector replaced cannot be read from {path}"),
            format!("store a new credential at the place of credential_locator; then remove {path}"),
        )
        .detail(reason.to_string())
    }
}

/// Returns the secrets of `now` that differ from those of `before`, or `None` if there are too many.
#[must_use]
pub fn changes(before: &Value, now: &Value, fields: &SecretFields) -> Option<Changes> {
    let mut found = Changes::new();
    collect(before, now, fields, &mut Vec::new(), &mut found);
    let bytes: usize = found.iter().map(|(pointer, replaced)| pointer.len() + replaced.now.to_string().len()).sum();
    (found.len() <= MAX_CHANGES && bytes <= MAX_BYTES).then_some(found)
}

fn collect(before: &Value, now: &Value, fields: &SecretFields, steps: &mut Vec<String>, found: &mut Changes) {
    if before == now || found.len() > MAX_CHANGES {
        return;
    }
    match (before, now) {
        (Value::Object(_) | Value::Null, Value::Object(new)) if steps.len() < MAX_DEPTH => {
            for (key, value) in new {
                steps.push(key.clone());
                collect(before.get(key).unwrap_or(&Value::Null), value, fields, steps, found);
                steps.pop();
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() && steps.len() < MAX_DEPTH => {
            for (at, (before, now)) in old.iter().zip(new).enumerate() {
                steps.push(at.to_string());
                collect(before, now, fields, steps, found);
                steps.pop();
            }
        }
        // The whole config is an object; a change of its kind is not a change of a value.
        _ if steps.is_empty() || !fields.has(steps) => {}
        _ => drop(found.insert(pointer(steps), Replaced { was: digest(before), now: now.clone() })),
    }
}

fn pointer(steps: &[String]) -> String {
    steps.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect()
}

fn digest(value: &Value) -> String {
    Digest::from_bytes(value.to_string().as_bytes()).to_string()
}

/// Puts the changes into `config`, which is as the policy and the credential make it. A value that is not in the place of the
/// one that it replaced is left out.
pub fn apply(config: &mut Value, changes: &Changes, fields: &SecretFields) {
    let original = config.clone();
    for (pointer, replaced) in changes {
        let steps: Vec<String> = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        let before = original.pointer(pointer).unwrap_or(&Value::Null);
        if fields.has(&steps) && digest(before) == replaced.was {
            set(config, &steps, &replaced.now);
        }
    }
}

fn set(config: &mut Value, steps: &[String], value: &Value) {
    let mut place = config;
    for step in steps {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        let next = match place {
            Value::Object(object) => Some(object.entry(step.clone()).or_insert(Value::Null)),
            Value::Array(items) => step.parse::<usize>().ok().and_then(|at| items.get_mut(at)),
            _ => None,
        };
        let Some(next) = next else { return };
        place = next;
    }
    *place = value.clone();
}

#[cfg(test)]
mod tests {
    use super::super::secret_fields::tests::fields;
    use super::*;
    use crate::credentials::Secret;
    use serde_json::json;

    fn credential(text: &str) -> Credential {
        Credential::read(Secret::new(text.to_string()))
    }

    fn schema() -> Value {
        let secret = json!({"airbyte_secret": true});
        json!({"properties": {
            "credentials": {"properties": {"token": secret, "x/y": secret, "access": secret}},
            "list": {"items": {"properties": {"key": secret}}},
        }})
    }

    #[test]
    fn what_is_kept_is_read_again_only_with_the_same_credential() {
        let home = tempfile::tempdir().expect("a folder");
        let first = credential(r#"{"client_id": "a", "refresh_token": "canary-first-77"}"#);
        let place = Rotated::new(home.path(), "okta", &first).expect("a place");
        assert_eq!(place.read(), Ok(Changes::new()));
        let replaced = Replaced { was: digest(&json!("canary-first-77")), now: json!("canary-second-78") };
        let changes = Changes::from([("/refresh_token".to_string(), replaced)]);
        place.write(&changes).expect("written");
        assert_eq!(Rotated::new(home.path(), "okta", &first).expect("a place").read(), Ok(changes));
        let bytes = std::fs::read(&place.path).expect("the file");
        assert!(!String::from_utf8_lossy(&bytes).contains("canary"), "the file is not encrypted");
        let replaced = credential(r#"{"client_id": "a", "refresh_token": "canary-third-79"}"#);
        for other in [Rotated::new(home.path(), "okta", &replaced), Rotated::new(home.path(), "zoom", &first)] {
            assert_eq!(other.expect("a place").read(), Ok(Changes::new()));
        }
        std::fs::write(&place.path, b"damaged and long enough to have a nonce and a tag").expect("written");
        assert_eq!(place.read().expect_err("damaged").class, Class::CredentialMissing);
    }

    #[test]
    fn only_changed_secrets_are_kept_and_they_are_put_back() {
        let fields = fields(&schema(), &json!({}));
        let before = json!({"site": "a", "credentials": {"token": "old", "x/y": 1}, "list": [{"key": "k1", "name": "n"}]});
        let now = json!({
            "sites": ["a"], "site": "b", "mode": "items", "list": [{"key": "k2", "name": "m"}],
            "credentials": {"token": "new", "x/y": 2, "access": "t", "until": "2026"},
        });
        let found = changes(&before, &now, &fields).expect("few changes");
        let pointers: Vec<&String> = found.keys().collect();
        assert_eq!(pointers, ["/credentials/access", "/credentials/token", "/credentials/x~1y", "/list/0/key"]);
        let mut config = before.clone();
        apply(&mut config, &found, &fields);
        let expected =
            json!({"site": "a", "credentials": {"token": "new", "x/y": 2, "access": "t"}, "list": [{"key": "k2", "name": "n"}]});
        assert_eq!(config, expected);
        assert_eq!(changes(&before, &json!("no object"), &fields), Some(Changes::new()));
        assert_eq!(changes(&before, &before, &fields), Some(Changes::new()));
    }

    #[test]
    fn a_kept_secret_is_used_only_in_place_of_the_one_that_it_replaced() {
        let fields = fields(&schema(), &json!({}));
        let before = json!({"credentials": {"token": "user:old@north"}});
        let found = changes(&before, &json!({"credentials": {"token": "user:new@north"}}), &fields).expect("one change");
        let mut other = json!({"credentials": {"token": "user:old@south"}});
        apply(&mut other, &found, &fields);
        assert_eq!(other, json!({"credentials": {"token": "user:old@south"}}), "another connection, or another policy");
        // A field that the connector no longer marks as secret.
        let mut same = before.clone();
        apply(&mut same, &found, &SecretFields::default());
        assert_eq!(same, before);
    }
}
