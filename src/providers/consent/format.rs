//! The content of the consent store. Everything but tokens and the secrets of a running authorization is readable, so that
//! `aam consent list` needs no key; it is bound to the encrypted part, so that a change is noticed when the part is opened.

use super::keys::{NoRandomness, StoreKeys, TAG_BYTES, random};
use crate::credentials::Secret;
use crate::model::{ConnectionId, Digest, Timestamp};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;
use zeroize::Zeroizing;

/// The version of the format.
pub const FORMAT: u32 = 1;

/// How long a link can be used.
pub const LINK_VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the vendor may take to answer after the button was used: the person may have to log in or to ask.
pub const PENDING_VALIDITY: Duration = Duration::from_secs(3600);
/// How long a link that cannot be used any more is kept, so that its page can say why.
const LINK_MEMORY: Duration = Duration::from_secs(30 * 24 * 3600);
/// The number of authorizations of one link that may run at the same time, for example in two tabs.
const MAX_PENDING: usize = 4;

/// The whole store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreContent {
    pub format: u32,
    /// A fixed text, encrypted, by which a wrong key is recognized.
    pub key_check: String,
    pub grants: Vec<StoredGrant>,
    pub links: Vec<StoredLink>,
    /// Whether something was changed since it was read.
    #[serde(skip)]
    pub changed: bool,
}

/// The connection that a grant or a link belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    pub connection: ConnectionId,
    pub namespace: String,
    pub family: String,
    pub resource_ids: Vec<String>,
    pub owner: String,
    /// The name in `credentials.consents`.
    pub consent: String,
}

/// How the client proves itself to the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// By its id only (RFC 6749, section 2.1: a public client).
    None,
    ClientSecretBasic,
    ClientSecretPost,
}

/// A grant and its encrypted token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredGrant {
    pub facts: GrantFacts,
    sealed: String,
    /// The access token that came with the token, encrypted. Only in a store that other replicas use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<String>,
}

/// What is known about a grant. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantFacts {
    pub id: String,
    /// Grows with each change.
    pub version: u64,
    pub subject: Subject,
    /// The client and the endpoint that issued the tokens. They are sent nowhere else.
    pub client_id: String,
    pub token_url: String,
    pub auth: ClientAuth,
    /// The scopes that were asked for, and those that were granted.
    pub asked: Vec<String>,
    pub scopes: Vec<String>,
    pub since: Timestamp,
    pub refreshed: Option<Timestamp>,
    /// When the refresh token ends, as the vendor said last.
    pub ends: Option<Timestamp>,
    /// Whether each refresh moves the end, so that AAM keeps the grant alive by itself.
    pub end_moves: bool,
    /// Whether the vendor replaces the refresh token at each use. `None` until the first refresh.
    pub rotates: Option<bool>,
    /// When the refresh token was sent, until the response is stored. If this is set although no refresh runs, the response
    /// was lost.
    pub sent: Option<Timestamp>,
}

/// The secret of a grant.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum SealedToken<'a> {
    RefreshToken(Cow<'a, str>),
    AccessToken(Cow<'a, str>),
}

/// The token that a grant consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantToken {
    Refresh(Secret),
    /// An access token without an end, from a vendor that issues no refresh tokens.
    Access(Secret),
}

impl GrantToken {
    /// Returns the value.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            GrantToken::Refresh(token) | GrantToken::Access(token) => token,
        }
    }
}

/// What a part is bound to when it is encrypted or signed.
pub(super) fn bound(what: &str, facts: &impl Serialize) -> Vec<u8> {
    format!("aam {what} {FORMAT}\n{}", serde_json::json!(facts)).into_bytes()
}

impl StoredGrant {
    /// Encrypts `token` and binds it to `facts`: connection, consent, version and everything else.
    ///
    /// # Errors
    /// Returns [`NoRandomness`].
    pub fn new(keys: &StoreKeys, facts: GrantFacts, token: &GrantToken) -> Result<StoredGrant, NoRandomness> {
        let token = match token {
            GrantToken::Refresh(token) => SealedToken::RefreshToken(token.expose().into()),
            GrantToken::Access(token) => SealedToken::AccessToken(token.expose().into()),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&token).unwrap_or_default());
        Ok(StoredGrant { sealed: keys.seal(&bound("grant", &facts), &plain)?, facts, access: None })
    }

    /// Decrypts the token. Returns `None` if the key is another one, or if the grant was changed.
    #[must_use]
    pub fn token(&self, keys: &StoreKeys) -> Option<GrantToken> {
        let plain = keys.open(&bound("grant", &self.facts), &self.sealed)?;
        Some(match serde_json::from_slice(&plain).ok()? {
            SealedToken::RefreshToken(token) => GrantToken::Refresh(Secret::new(token.into_owned())),
            SealedToken::AccessToken(token) => GrantToken::Access(Secret::new(token.into_owned())),
        })
    }
}

/// A link and the authorizations that were started with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredLink {
    /// Random bytes and the signature of [`LinkFacts`], in base64url.
    pub id: String,
    pub facts: LinkFacts,
    pub used: LinkUse,
    pub pending: Vec<Pending>,
}

/// What a link is for. It is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkFacts {
    pub subject: Subject,
    pub created: Timestamp,
    pub ends: Timestamp,
    /// Why consent is asked for again; `None` if the owner has not given it yet. It is left out of the file then, so that the
    /// signatures of older links stay valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// Why consent is asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The policy names another client or token endpoint than the one that issued the grant.
    OtherClient,
    /// The vendor does not accept the grant any more. Holds the vendor's text, without secrets.
    Ended(String),
    /// The refresh token was sent at this time, and the response was lost.
    Lost(Timestamp),
    /// The stored grant was changed.
    Damaged,
}

/// Whether a link was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkUse {
    Unused,
    Given(Timestamp),
    Replaced(Timestamp),
}

/// An authorization for which the vendor has not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The digest of the state.
    pub state: Digest,
    pub started: Timestamp,
    sealed: String,
}

/// The secrets of a running authorization, and the settings that it was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingSecrets {
    pub nonce: String,
    pub verifier: String,
    /// The digest of the consent's settings. The answer is used only if they are still the same.
    pub settings: Digest,
}

impl StoredLink {
    /// Creates a link with a random id.
    ///
    /// # Errors
    /// Returns [`NoRandomness`].
    pub fn new(keys: &StoreKeys, subject: Subject, reason: Option<Reason>, now: Timestamp) -> Result<StoredLink, NoRandomness> {
        let facts = LinkFacts { subject, created: now, ends: now.plus(LINK_VALIDITY), reason };
        let random = random::<TAG_BYTES>()?;
        let id = BASE64URL_NOPAD.encode(&[random, signature(keys, &random, &facts)].concat());
        Ok(StoredLink { id, facts, used: LinkUse::Unused, pending: Vec::new() })
    }

    /// Whether the id is the signature of the facts.
    #[must_use]
    pub fn is_signed(&self, keys: &StoreKeys) -> bool {
        let Ok(bytes) = BASE64URL_NOPAD.decode(self.id.as_bytes()) else { return false };
        let Some((random, tag)) = bytes.split_at_checked(TAG_BYTES) else { return false };
        // Whether the comparison takes the same time for all tags does not matter: the id is looked up before, so that the
        // tag is not one that a caller chose.
        tag == signature(keys, random, &self.facts)
    }

    /// Whether the button of the link may be used at `now`.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.used == LinkUse::Unused && now < self.facts.ends
    }

    /// Adds an authorization. Of several that were not answered, the latest are kept.
    ///
    /// # Errors
    /// Returns [`NoRandomness`].
    pub fn start(&mut self, keys: &StoreKeys, state: &str, secrets: &PendingSecrets, now: Timestamp) -> Result<(), NoRandomness> {
        let state = Digest::from_bytes(state.as_bytes());
        let plain = Zeroizing::new(serde_json::to_vec(secrets).unwrap_or_default());
        let sealed = keys.seal(&bound("authorization", &(&self.id, state)), &plain)?;
        self.pending.retain(|pending| pending.is_valid(now));
        let excess = (self.pending.len() + 1).saturating_sub(MAX_PENDING);
        self.pending.drain(..excess);
        self.pending.push(Pending { state, started: now, sealed });
        Ok(())
    }

    /// Decrypts the secrets of an authorization.
    #[must_use]
    pub fn secrets(&self, keys: &StoreKeys, pending: &Pending) -> Option<PendingSecrets> {
        serde_json::from_slice(&keys.open(&bound("authorization", &(&self.id, pending.state)), &pending.sealed)?).ok()
    }
}

fn signature(keys: &StoreKeys, random: &[u8], facts: &LinkFacts) -> [u8; TAG_BYTES] {
    keys.sign(&[random, &bound("link", facts)].concat())
}

impl Pending {
    /// Whether the vendor's answer is still accepted at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.started.plus(PENDING_VALIDITY)
    }
}

impl StoreContent {
    /// Creates an empty store for `keys`.
    ///
    /// # Errors
    /// Returns [`NoRandomness`].
    pub fn new(keys: &StoreKeys) -> Result<StoreContent, NoRandomness> {
        let key_check = keys.seal(b"aam consent store", b"aam")?;
        Ok(StoreContent { format: FORMAT, key_check, grants: Vec::new(), links: Vec::new(), changed: false })
    }

    /// Whether the store was written with `keys`.
    #[must_use]
    pub fn fits(&self, keys: &StoreKeys) -> bool {
        keys.open(b"aam consent store", &self.key_check).is_some()
    }

    /// Encrypts all grants with `new` instead of `old`. The ids of links are signatures by the old key, so open links are
    /// marked as replaced. Returns the numbers of grants, of grants that were damaged before, and of open links.
    ///
    /// # Errors
    /// Returns [`NoRandomness`].
    pub fn rekey(&mut self, old: &StoreKeys, new: &StoreKeys, now: Timestamp) -> Result<(usize, usize, usize), NoRandomness> {
        let (mut grants, mut damaged) = (0, 0);
        for grant in &mut self.grants {
            match grant.token(old) {
                Some(token) => {
                    *grant = StoredGrant::new(new, grant.facts.clone(), &token)?;
                    grants += 1;
                }
                None => damaged += 1,
            }
        }
        let open = self.links.iter().filter(|link| link.is_open(now)).count();
        for link in &mut self.links {
            link.pending.clear();
            if link.is_open(now) {
                link.used = LinkUse::Replaced(now);
            }
        }
        self.key_check = StoreContent::new(new)?.key_check;
        self.changed = true;
        Ok((grants, damaged, open))
    }

    /// Returns the grant of `connection` for the consent called `consent`.
    #[must_use]
    pub fn grant(&self, connection: ConnectionId, consent: &str) -> Option<&StoredGrant> {
        self.grants.iter().find(|grant| is_for(&grant.facts.subject, connection, consent))
    }

    /// Replaces the grant of the same connection and consent, or adds it.
    pub fn put_grant(&mut self, grant: StoredGrant) {
        self.remove_grant(grant.facts.subject.connection, &grant.facts.subject.consent);
        self.grants.push(grant);
        self.changed = true;
    }

    /// Removes the grant of `connection` for the consent called `consent`.
    pub fn remove_grant(&mut self, connection: ConnectionId, consent: &str) {
        let before = self.grants.len();
        self.grants.retain(|grant| !is_for(&grant.facts.subject, connection, consent));
        self.changed |= self.grants.len() != before;
    }

    /// Returns the link called `id`.
    #[must_use]
    pub fn link(&self, id: &str) -> Option<&StoredLink> {
        self.links.iter().find(|link| link.id == id)
    }

    /// As [`StoreContent::link`], to change it.
    pub fn link_mut(&mut self, id: &str) -> Option<&mut StoredLink> {
        let link = self.links.iter_mut().find(|link| link.id == id)?;
        self.changed = true;
        Some(link)
    }

    /// Returns the link that was started with `state`, and that authorization.
    #[must_use]
    pub fn pending(&self, state: &str) -> Option<(&StoredLink, &Pending)> {
        let state = Digest::from_bytes(state.as_bytes());
        self.links.iter().find_map(|link| Some((link, link.pending.iter().find(|pending| pending.state == state)?)))
    }

    /// Returns the open link of `subject`, if there is one.
    #[must_use]
    pub fn open_link(&self, keys: &StoreKeys, subject: &Subject, now: Timestamp) -> Option<&StoredLink> {
        self.links.iter().find(|link| link.is_open(now) && link.facts.subject == *subject && link.is_signed(keys))
    }

    /// Adds a link and marks the earlier ones of its connection as replaced. Forgets links that ended long ago.
    pub fn put_link(&mut self, link: StoredLink, now: Timestamp) {
        self.replace_links(link.facts.subject.connection, now);
        self.links.retain(|link| now < link.facts.ends.plus(LINK_MEMORY));
        self.links.push(link);
        self.changed = true;
    }

    /// Marks the unused links of `connection` as replaced.
    pub fn replace_links(&mut self, connection: ConnectionId, now: Timestamp) {
        for link in self.links.iter_mut().filter(|link| link.facts.subject.connection == connection && link.is_open(now)) {
            link.used = LinkUse::Replaced(now);
            link.pending.clear();
            self.changed = true;
        }
    }

    /// Whether the vendor of the consent called `consent` is known to keep refresh tokens valid after their use.
    #[must_use]
    pub fn keeps_refresh_tokens(&self, grant: &GrantFacts) -> bool {
        let same = |other: &GrantFacts| (&other.token_url, &other.client_id) == (&grant.token_url, &grant.client_id);
        let known = |rotates| self.grants.iter().any(|other| same(&other.facts) && other.facts.rotates == Some(rotates));
        known(false) && !known(true)
    }
}

fn is_for(subject: &Subject, connection: ConnectionId, consent: &str) -> bool {
    subject.connection == connection && subject.consent == consent
}
