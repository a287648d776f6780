//! Accounts of Snowflake, and the token with which a user with a key pair proves itself there.
//!
//! Sources: docs.snowflake.com, "SQL API: Authenticating to the server" and "Account identifiers" \[V\]: issuer
//! `ACCOUNT.USER.SHA256:FINGERPRINT`, subject `ACCOUNT.USER`, both in upper case, the account without region, cloud and
//! `.privatelink`, valid for one hour at most. snowflake-connector-python 4.8.1, `auth/keypair.py` \[V\]: the same claims, the
//! account of a replication group without what follows the hyphen, and RS256, ES256 or ES384 by the type of the key.

use super::Secret;
use super::jwt::{self, JwtAlgorithm};
use super::private_key::{PrivateKey, UnusableKey};
use crate::model::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde_json::{Map, Value};
use std::time::Duration;

/// The value of the header `X-Snowflake-Authorization-Token-Type` for a token of a key pair \[V\].
pub const KEYPAIR_JWT: &str = "KEYPAIR_JWT";

/// A little less than the hour that Snowflake allows, for clocks that differ.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(59 * 60);

/// The domains of Snowflake. The regions in China have one of their own \[K\].
pub const DOMAINS: [&str; 2] = [".snowflakecomputing.com", ".snowflakecomputing.cn"];

/// An account, as tokens and host names write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountIdentifier {
    /// In upper case, without region, cloud and `.privatelink`.
    pub name: String,
    pub host: String,
}

impl AccountIdentifier {
    /// Parses an account identifier or the host of an account. Returns `None` if the text is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<AccountIdentifier> {
        let text = text.trim().to_lowercase();
        let domain = DOMAINS.into_iter().find(|domain| text.ends_with(domain));
        let identifier = domain.and_then(|domain| text.strip_suffix(domain)).unwrap_or(&text);
        let valid = |label: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            label.starts_with(|c: char| c.is_ascii_alphanumeric()) && label.chars().all(fits)
        };
        if !identifier.split('.').all(valid) {
            return None;
        }
        let (first, rest) = identifier.split_once('.').unwrap_or((identifier, ""));
        // The account of a replication group: its name ends before the hyphen [V].
        let name = match rest.split('.').any(|label| label == "global") {
            true => first.split_once('-').map_or(first, |(name, _)| name),
            false => first,
        };
        let domain = domain.unwrap_or(if rest.starts_with("cn-") { DOMAINS[1] } else { DOMAINS[0] });
        // A host name has no underscores: Snowflake writes hyphens instead [V].
        Some(AccountIdentifier { name: name.to_uppercase(), host: format!("{}{domain}", identifier.replace('_', "-")) })
    }
}

/// A signed token, with the claims that an administrator compares with DESCRIBE USER if Snowflake refuses it.
pub struct KeyPairToken {
    pub token: Secret,
    pub issuer: String,
    pub subject: String,
}

/// Signs a token of `user` of the account `account`, whose name is in upper case, that is valid from `now` on.
///
/// # Errors
/// Returns [`UnusableKey::Unfit`] if Snowflake does not accept keys of this type.
pub fn key_pair_token(key: &PrivateKey, account: &str, user: &str, now: Timestamp) -> Result<KeyPairToken, UnusableKey> {
    let algorithm = match key.default_algorithm() {
        usual @ (JwtAlgorithm::Rs256 | JwtAlgorithm::Es256 | JwtAlgorithm::Es384) => usual,
        _ => JwtAlgorithm::Rs256,
    };
    let fingerprint = STANDARD.encode(digest::digest(&digest::SHA256, &key.public_key_info()));
    let subject = format!("{account}.{}", user.trim().to_uppercase());
    let issuer = format!("{subject}.SHA256:{fingerprint}");
    let seconds = now.0.div_euclid(1000);
    let expires = seconds.saturating_add_unsigned(TOKEN_LIFETIME.as_secs());
    let claims: Map<String, Value> = [
        ("iss", Value::from(issuer.as_str())),
        ("sub", Value::from(subject.as_str())),
        ("iat", Value::from(seconds)),
        ("exp", Value::from(expires)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect();
    let token = jwt::sign(key, Some(algorithm), Map::new(), &claims)?;
    Ok(KeyPairToken { token, issuer, subject })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_names_the_account_without_region_and_the_host_keeps_it() {
        for (text, name, host) in [
            ("myorg-acct", "MYORG-ACCT", "myorg-acct"),
            ("MyOrg-My_Acct", "MYORG-MY_ACCT", "myorg-my-acct"),
            ("myorg-acct.privatelink", "MYORG-ACCT", "myorg-acct.privatelink"),
            ("xy12345", "XY12345", "xy12345"),
            ("xy12345.us-east-1", "XY12345", "xy12345.us-east-1"),
            ("xy12345.us-central1.gcp", "XY12345", "xy12345.us-central1.gcp"),
            ("xy12345.west-europe.azure.privatelink", "XY12345", "xy12345.west-europe.azure.privatelink"),
            ("xy12345-ab12.global", "XY12345", "xy12345-ab12.global"),
            ("xy12345.eu-central-1.snowflakecomputing.com", "XY12345", "xy12345.eu-central-1"),
        ] {
            let account = AccountIdentifier { name: name.to_string(), host: format!("{host}.snowflakecomputing.com") };
            assert_eq!(AccountIdentifier::parse(text), Some(account), "{text}");
        }
        let chinese = AccountIdentifier::parse("xy12345.cn-northwest-1").unwrap();
        assert_eq!(chinese.host, "xy12345.cn-northwest-1.snowflakecomputing.cn");
        for text in ["", "https://myorg-acct", "a..b", "a b", "-x", "evil.example/x", "a.snowflakecomputing.com.evil/"] {
            assert_eq!(AccountIdentifier::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_of_a_type_that_snowflake_does_not_know_is_refused() {
        let key = PrivateKey::generate_p256().unwrap();
        let token = key_pair_token(&key, "ACME-PROD", " aam ", Timestamp(1_794_160_800_999)).unwrap();
        assert_eq!(token.subject, "ACME-PROD.AAM");
        assert!(token.issuer.starts_with("ACME-PROD.AAM.SHA256:"), "{}", token.issuer);
        let part = |at: usize| {
            let text = token.token.expose().split('.').nth(at).unwrap().to_string();
            serde_json::from_slice::<Value>(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        assert_eq!((part(0)["alg"].as_str(), part(1)["iat"].as_i64()), (Some("ES256"), Some(1_794_160_800)));
        assert_eq!(part(1)["exp"].as_i64(), Some(1_794_160_800 + 59 * 60));
    }
}
