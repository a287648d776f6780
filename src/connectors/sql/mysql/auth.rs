//! Logs in: answers the challenges of a server, and decides what a server may receive.
//!
//! A server that is not proven by TLS may be anybody. It receives only responses to a challenge: from those it cannot
//! compute the password, nor use them at another server. The password itself, also if it is encrypted with a key that the
//! server sends, needs the host in the policy's `network.allow_weak_login`.
//!
//! Sources: MySQL Internals Manual, "Authentication Method"; MySQL Server source, `caching_sha2_password`; MariaDB
//! knowledge base, "Authentication Plugin - ed25519".

use super::fields::FieldReader;
use super::greeting::{Greeting, printable};
use super::rsa;
use crate::credentials::Secret;
use curve25519_dalek::scalar::clamp_integer;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};

/// The authentication plugins that AAM supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// `mysql_native_password`: a response to a challenge, with SHA-1.
    Native,
    /// `caching_sha2_password`: a response to a challenge, with SHA-256. The server may then ask for the password.
    CachingSha2,
    /// `sha256_password`: the password.
    Sha256,
    /// MariaDB's `client_ed25519`: a signature of a challenge.
    Ed25519,
    /// `mysql_clear_password`: the password.
    ClearText,
}

impl Plugin {
    fn parse(name: &str) -> Option<Plugin> {
        Some(match name {
            "mysql_native_password" => Plugin::Native,
            "caching_sha2_password" => Plugin::CachingSha2,
            "sha256_password" => Plugin::Sha256,
            "client_ed25519" => Plugin::Ed25519,
            "mysql_clear_password" => Plugin::ClearText,
            _ => return None,
        })
    }

    /// The name in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Plugin::Native => "mysql_native_password",
            Plugin::CachingSha2 => "caching_sha2_password",
            Plugin::Sha256 => "sha256_password",
            Plugin::Ed25519 => "client_ed25519",
            Plugin::ClearText => "mysql_clear_password",
        }
    }
}

/// Why a login was not continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// The server asks for the password itself, TLS does not prove the server, and the policy does not allow it.
    Unproven(Plugin),
    /// AAM does not support the plugin, or its name is not printable (`None`).
    UnsupportedPlugin(Option<String>),
    /// The server breaks the protocol of the plugin.
    Broken(&'static str),
}

/// What to do after a packet of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum LoginStep {
    Send(Vec<u8>),
    Wait,
}

/// A login in progress.
pub struct PasswordLogin<'a> {
    password: &'a Secret,
    /// Whether the server may receive the password itself.
    may_reveal: bool,
    encrypted: bool,
    plugin: Plugin,
    scramble: Vec<u8>,
    /// Whether the next packet must be the server's RSA key.
    expects_key: bool,
}

impl<'a> PasswordLogin<'a> {
    /// Begins a login. TLS has proven the server if `encrypted`; `weak_login` is what the policy says about the host.
    #[must_use]
    pub fn new(greeting: &Greeting, password: &'a Secret, encrypted: bool, weak_login: bool) -> PasswordLogin<'a> {
        // If the server proposes another plugin, it will ask for a switch to the plugin of the account.
        let plugin = match Plugin::parse(&greeting.plugin) {
            Some(Plugin::CachingSha2) => Plugin::CachingSha2,
            _ => Plugin::Native,
        };
        let scramble = greeting.scramble.clone();
        PasswordLogin { password, may_reveal: encrypted || weak_login, encrypted, plugin, scramble, expects_key: false }
    }

    /// The plugin that the login packet names.
    #[must_use]
    pub fn plugin(&self) -> Plugin {
        self.plugin
    }

    /// The response to the current challenge.
    ///
    /// # Errors
    /// [`LoginRefusal`] if this server may not receive what the plugin demands, or its challenge has the wrong length.
    pub fn respond(&mut self) -> Result<Vec<u8>, LoginRefusal> {
        let password = self.password.expose().as_bytes();
        let expected = if self.plugin == Plugin::Ed25519 { 32 } else { 20 };
        let challenged = matches!(self.plugin, Plugin::Native | Plugin::CachingSha2 | Plugin::Ed25519);
        if challenged && self.scramble.len() != expected {
            return Err(LoginRefusal::Broken("the challenge of the server does not have the length that its plugin prescribes"));
        }
        Ok(match self.plugin {
            Plugin::Ed25519 => sign(password, &self.scramble).to_vec(),
            Plugin::Native | Plugin::CachingSha2 if password.is_empty() => Vec::new(),
            Plugin::Native => {
                let once = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[password]);
                let twice = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[&once]);
                xor(&once, &hash(&SHA1_FOR_LEGACY_USE_ONLY, &[&self.scramble, &twice]))
            }
            Plugin::CachingSha2 => {
                let once = hash(&SHA256, &[password]);
                let twice = hash(&SHA256, &[&once]);
                xor(&once, &hash(&SHA256, &[&twice, &self.scramble]))
            }
            Plugin::Sha256 if self.encrypted => self.reveal()?,
            Plugin::Sha256 => self.ask_for_key(1)?,
            Plugin::ClearText => self.reveal()?,
        })
    }

    /// The password itself, ended by NUL.
    fn reveal(&self) -> Result<Vec<u8>, LoginRefusal> {
        if !self.may_reveal {
            return Err(LoginRefusal::Unproven(self.plugin));
        }
        Ok([self.password.expose().as_bytes(), &[0]].concat())
    }

    /// The packet that asks for the RSA key of the server. `request` is the byte that the plugin prescribes.
    fn ask_for_key(&mut self, request: u8) -> Result<Vec<u8>, LoginRefusal> {
        if !self.may_reveal {
            return Err(LoginRefusal::Unproven(self.plugin));
        }
        self.expects_key = true;
        Ok(vec![request])
    }

    /// Handles a request to switch to another plugin. `payload` is the packet without its first byte.
    ///
    /// # Errors
    /// As [`PasswordLogin::respond`], and [`LoginRefusal::UnsupportedPlugin`].
    pub fn switch(&mut self, payload: &[u8]) -> Result<Vec<u8>, LoginRefusal> {
        // Without a name, the packet asks for the password hash of MySQL 3.23 (`mysql_old_password`).
        if payload.is_empty() {
            return Err(LoginRefusal::UnsupportedPlugin(Some("mysql_old_password".to_string())));
        }
        let mut fields = FieldReader::new(payload);
        let name = fields.until_nul().unwrap_or_default();
        let plugin = std::str::from_utf8(name).ok().and_then(Plugin::parse);
        self.plugin = plugin.ok_or_else(|| LoginRefusal::UnsupportedPlugin(printable(name).filter(|name| !name.is_empty())))?;
        let challenge = fields.rest();
        // The challenge is ended by NUL, except by ed25519.
        self.scramble =
            if self.plugin == Plugin::Ed25519 { challenge } else { challenge.strip_suffix(&[0]).unwrap_or(challenge) }.to_vec();
        self.expects_key = false;
        self.respond()
    }

    /// Handles further data of the plugin. `payload` is the packet without its first byte.
    ///
    /// # Errors
    /// As [`PasswordLogin::respond`].
    pub fn more(&mut self, payload: &[u8]) -> Result<LoginStep, LoginRefusal> {
        if std::mem::take(&mut self.expects_key) {
            if self.scramble.is_empty() {
                return Err(LoginRefusal::Broken("the server sent its key without a challenge"));
            }
            let plain = self.reveal()?;
            let mixed: Vec<u8> = plain.iter().zip(self.scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            let encrypted = rsa::encrypt(&mixed, payload);
            let broken = LoginRefusal::Broken("the RSA key of the server is not valid, or the password is too long for it");
            return encrypted.map(LoginStep::Send).ok_or(broken);
        }
        match (self.plugin, payload) {
            // The server knows the password and accepts the response. An OK packet follows.
            (Plugin::CachingSha2, [3]) => Ok(LoginStep::Wait),
            // The server has to see the password once.
            (Plugin::CachingSha2, [4]) if self.encrypted => self.reveal().map(LoginStep::Send),
            (Plugin::CachingSha2, [4]) => self.ask_for_key(2).map(LoginStep::Send),
            _ => Err(LoginRefusal::Broken("the server sent data that its authentication plugin does not provide for")),
        }
    }
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(left, right)| left ^ right).collect()
}

/// Signs as Ed25519 does (RFC 8032, section 5.1.6), but MariaDB takes the password where the RFC takes the secret seed.
fn sign(password: &[u8], message: &[u8]) -> [u8; 64] {
    let wide = |parts: &[&[u8]]| {
        let mut wide = [0; 64];
        wide.iter_mut().zip(hash(&SHA512, parts)).for_each(|(target, byte)| *target = byte);
        wide
    };
    let expanded = wide(&[password]);
    let (secret, prefix) = expanded.split_at(32);
    let mut clamped = [0; 32];
    clamped.copy_from_slice(secret);
    let secret = Scalar::from_bytes_mod_order(clamp_integer(clamped));
    let public = EdwardsPoint::mul_base(&secret).compress();
    let nonce = Scalar::from_bytes_mod_order_wide(&wide(&[prefix, message]));
    let point = EdwardsPoint::mul_base(&nonce).compress();
    let challenge = Scalar::from_bytes_mod_order_wide(&wide(&[point.as_bytes(), public.as_bytes(), message]));
    let proof = challenge * secret + nonce;
    let mut signature = [0; 64];
    let (head, tail) = signature.split_at_mut(32);
    head.copy_from_slice(point.as_bytes());
    tail.copy_from_slice(proof.as_bytes());
    signature
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
