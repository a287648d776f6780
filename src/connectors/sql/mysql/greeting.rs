//! The packets that open a connection: the greeting of the server, the request for TLS and the login.
//!
//! Sources: MySQL Internals Manual, "Connection Phase Packets"; MariaDB knowledge base, "Connecting".

use super::fields::{FieldReader, put_length};

/// Capability flags, which the manual calls `CLIENT_...`.
pub mod capability {
    pub const LONG_PASSWORD: u64 = 1;
    pub const LONG_FLAG: u64 = 1 << 2;
    pub const CONNECT_WITH_DB: u64 = 1 << 3;
    pub const PROTOCOL_41: u64 = 1 << 9;
    pub const SSL: u64 = 1 << 11;
    pub const TRANSACTIONS: u64 = 1 << 13;
    pub const SECURE_CONNECTION: u64 = 1 << 15;
    pub const PLUGIN_AUTH: u64 = 1 << 19;
    pub const PLUGIN_AUTH_LENENC: u64 = 1 << 21;
}
use capability::{
    CONNECT_WITH_DB, LONG_FLAG, LONG_PASSWORD, PLUGIN_AUTH, PLUGIN_AUTH_LENENC, PROTOCOL_41, SECURE_CONNECTION, SSL, TRANSACTIONS,
};

/// What AAM asks for. Local files, several statements in one query and several results are not among them, so a server
/// that sends one of these breaks the protocol.
const WANTED: u64 = LONG_PASSWORD
    | LONG_FLAG
    | CONNECT_WITH_DB
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | PLUGIN_AUTH
    | PLUGIN_AUTH_LENENC;

/// The number of `utf8mb4_general_ci`, which MySQL since 5.5.3 and every MariaDB know.
const CHARACTER_SET: u8 = 45;
/// The packet size that AAM announces to the server, in bytes. The server refuses to send longer rows.
const ANNOUNCED_PACKET_BYTES: u32 = 16 << 20;

/// The first packet of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    pub capabilities: u64,
    /// The challenge for the password: 20 bytes, or 8 bytes from a server before MySQL 4.1.
    pub scramble: Vec<u8>,
    /// The authentication plugin that the server proposes.
    pub plugin: String,
}

impl Greeting {
    /// Parses the payload of the first packet. Returns `None` if it is not a greeting of protocol version 10.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Greeting> {
        let mut fields = FieldReader::new(payload);
        if fields.byte()? != 10 {
            return None;
        }
        let version = printable(fields.until_nul()?)?;
        fields.integer(4)?;
        let mut scramble = fields.bytes(8)?.to_vec();
        fields.byte()?;
        let lower = fields.integer(2)?;
        let mut greeting = Greeting { version, capabilities: lower, scramble: Vec::new(), plugin: String::new() };
        // Servers before MySQL 4.1 end here.
        if !fields.is_empty() {
            fields.bytes(3)?;
            greeting.capabilities |= fields.integer(2)? << 16;
            let length = usize::from(fields.byte()?);
            fields.bytes(10)?;
            if greeting.has(SECURE_CONNECTION) {
                // The manual: the second part has max(13, length - 8) bytes, of which the last is NUL.
                let second = fields.bytes(length.saturating_sub(8).max(13))?;
                scramble.extend(second.iter().take(12));
            }
            if greeting.has(PLUGIN_AUTH) {
                // Some servers leave out the NUL after the name.
                let name = fields.until_nul().unwrap_or_else(|| fields.rest());
                greeting.plugin = printable(name)?;
            }
        }
        greeting.scramble = scramble;
        Some(greeting)
    }

    /// Whether the server has a capability.
    #[must_use]
    pub fn has(&self, capability: u64) -> bool {
        self.capabilities & capability == capability
    }

    /// Whether the server speaks the protocol since MySQL 4.1, which is the only one that AAM speaks.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        self.has(PROTOCOL_41 | SECURE_CONNECTION) && self.scramble.len() == 20
    }

    /// Whether the server says that it is MariaDB.
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        self.version.to_ascii_lowercase().contains("mariadb")
    }

    /// The capabilities of the connection.
    fn agreed(&self, encrypted: bool) -> u64 {
        (WANTED & self.capabilities) | if encrypted { SSL } else { 0 }
    }

    /// The fields with which the request for TLS and the login both begin.
    fn head(&self, encrypted: bool) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.agreed(encrypted).to_le_bytes().iter().take(4));
        out.extend(ANNOUNCED_PACKET_BYTES.to_le_bytes());
        out.push(CHARACTER_SET);
        out.extend([0; 23]);
        out
    }

    /// The packet that asks for TLS. It contains neither user nor database.
    #[must_use]
    pub fn tls_request(&self) -> Vec<u8> {
        self.head(true)
    }

    /// The login. `response` answers the challenge as `plugin` demands.
    #[must_use]
    pub fn login(&self, encrypted: bool, user: &str, database: &str, plugin: &str, response: &[u8]) -> Vec<u8> {
        let mut out = self.head(encrypted);
        out.extend(user.as_bytes());
        out.push(0);
        if self.has(PLUGIN_AUTH_LENENC) {
            put_length(&mut out, response.len());
        } else {
            // A response to a challenge has at most 64 bytes.
            out.push(u8::try_from(response.len()).unwrap_or(0));
        }
        out.extend(response);
        if self.has(CONNECT_WITH_DB) {
            out.extend(database.as_bytes());
            out.push(0);
        }
        if self.has(PLUGIN_AUTH) {
            out.extend(plugin.as_bytes());
            out.push(0);
        }
        out
    }
}

/// The longest version or plugin name that is accepted, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// A short text without control characters.
pub(super) fn printable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The greeting of a MariaDB 10.11 server.
    fn mariadb() -> Vec<u8> {
        let mut packet = vec![10];
        packet.extend(b"5.5.5-10.11.6-MariaDB\0\x05\0\0\0abcdefgh\0\xFE\xF7\x2D\x02\0\xFF\x81\x15");
        packet.extend([0; 10]);
        packet.extend(b"ijklmnopqrst\0mysql_native_password\0");
        packet
    }

    #[test]
    fn a_greeting_is_parsed_and_answered() {
        let greeting = Greeting::parse(&mariadb()).unwrap();
        assert_eq!(
            (greeting.scramble.as_slice(), greeting.plugin.as_str()),
            (&b"abcdefghijklmnopqrst"[..], "mysql_native_password")
        );
        assert!(greeting.is_supported() && greeting.is_mariadb());
        let login = greeting.login(false, "reader", "shop", "mysql_native_password", b"12345");
        assert_eq!(&login[32..], b"reader\0\x0512345shop\0mysql_native_password\0");
        assert_eq!(greeting.tls_request().len(), 32);
        let flags = u32::from_le_bytes(login[..4].try_into().unwrap());
        assert_eq!(u64::from(flags) & (SSL | 1 << 7 | 1 << 16 | 1 << 17), 0, "neither TLS, local files nor several statements");
    }

    proptest! {
        /// A greeting that is cut or changed in some bytes is parsed or refused.
        #[test]
        fn a_changed_greeting_is_harmless(at in 0..100_usize, byte in any::<u8>(), length in 0..100_usize) {
            let mut packet = mariadb();
            if let Some(place) = packet.get_mut(at) {
                *place = byte;
            }
            packet.truncate(length);
            if let Some(greeting) = Greeting::parse(&packet) {
                prop_assert!(greeting.scramble.len() <= 20 && greeting.version.len() <= MAX_NAME_BYTES);
            }
        }
    }
}
