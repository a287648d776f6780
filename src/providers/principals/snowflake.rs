//! Kind `snowflake`: a user with a key pair, who proves itself by a JSON Web Token of its own. No call is made.
//!
//! Sources: docs.snowflake.com, "Authenticating Snowflake REST APIs with Snowflake" and "SQL API: Using key-pair
//! authentication" [V]: issuer `ACCOUNT.USER.SHA256:FINGERPRINT`, subject `ACCOUNT.USER`, both in upper case, the account
//! without region, cloud and `.privatelink`, valid for one hour at most. Snowflake recognizes the type of a token by itself,
//! or by the header `X-Snowflake-Authorization-Token-Type: KEYPAIR_JWT` [V].

use super::{Fetched, MintContext, Minted};
use crate::credentials::{Credential, Secret, jwt};
use crate::model::{Class, Evidence, Failure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde_json::{Map, Value};
use std::time::Duration;

/// A little less than the hour that Snowflake allows, for clocks that differ.
const TOKEN_LIFETIME: Duration = Duration::from_secs(59 * 60);

/// Signs a token.
///
/// # Errors
/// Returns the failure of the key, or `Misconfigured` if the account is not an account identifier.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let account = Account::parse(context.text("account")?).ok_or_else(|| {
        let title = format!("account of service principal {} is not a Snowflake account identifier", context.name);
        Failure::new(
            Class::Misconfigured,
            title,
            "write it as in the address of Snowflake, without https:// and without snowflakecomputing.com: myorg-myaccount or xy12345.us-east-1",
        )
    })?;
    let user = context.text("user")?.trim().to_uppercase();
    let key = context.private_key("key").await?;
    let fingerprint = STANDARD.encode(digest::digest(&digest::SHA256, &key.public_key_info()));
    let subject = format!("{}.{user}", account.name);
    let issuer = format!("{subject}.SHA256:{fingerprint}");
    let now = context.providers.clock.now().0.div_euclid(1000);
    let expires = now.saturating_add_unsigned(TOKEN_LIFETIME.as_secs());
    let claims: Map<String, Value> = [
        ("iss", Value::from(issuer.as_str())),
        ("sub", Value::from(subject.as_str())),
        ("iat", Value::from(now)),
        ("exp", Value::from(expires)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect();
    // Snowflake accepts RS256 only [V].
    let algorithm = Some(jwt::JwtAlgorithm::Rs256);
    let token = jwt::sign(&key, algorithm, Map::new(), &claims).map_err(|unusable| context.unusable_key("key", &unusable))?;
    let fields = [("token_type", "KEYPAIR_JWT".to_string()), ("account", account.name), ("user", user), ("host", account.host)];
    let mut fields: Vec<(String, Secret)> =
        fields.into_iter().map(|(name, value)| (name.to_string(), Secret::new(value))).collect();
    fields.push(("token".to_string(), token));
    // If Snowflake refuses the token, these are what DESCRIBE USER must show.
    let mut evidence = Evidence::new();
    evidence.insert("issuer".to_string(), issuer.into());
    evidence.insert("subject".to_string(), subject.into());
    let value = Minted { credential: Credential::from_fields(fields), evidence, key_ends_at: None };
    Ok(Fetched { value, valid_for: Some(TOKEN_LIFETIME) })
}

/// An account, as the token and as the host name it.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    /// In upper case, without region, cloud and `.privatelink`.
    name: String,
    host: String,
}

impl Account {
    /// Parses an account identifier or the host of an account.
    fn parse(text: &str) -> Option<Account> {
        const DOMAINS: [&str; 2] = [".snowflakecomputing.com", ".snowflakecomputing.cn"];
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
        // The regions in China have a domain of their own [K].
        let domain = domain.unwrap_or(if rest.starts_with("cn-") { DOMAINS[1] } else { DOMAINS[0] });
        // A host name has no underscores: Snowflake writes hyphens instead [K].
        Some(Account { name: name.to_uppercase(), host: format!("{}{domain}", identifier.replace('_', "-")) })
    }
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
            let account = Account { name: name.to_string(), host: format!("{host}.snowflakecomputing.com") };
            assert_eq!(Account::parse(text), Some(account), "{text}");
        }
        assert_eq!(Account::parse("xy12345.cn-northwest-1").unwrap().host, "xy12345.cn-northwest-1.snowflakecomputing.cn");
        for text in ["", "https://myorg-acct", "a..b", "a b", "-x", "evil.example/x", "a.snowflakecomputing.com.evil/"] {
            assert_eq!(Account::parse(text), None, "{text}");
        }
    }
}
