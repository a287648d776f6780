//! Kind `snowflake`: a user with a key pair, who proves itself by a JSON Web Token of its own. No call is made.
//!
//! Snowflake recognizes the type of a token by itself, or by the header `X-Snowflake-Authorization-Token-Type`
//! (docs.snowflake.com, "SQL API: Authenticating to the server" \[V\]). For the token itself see `credentials::snowflake`.

use super::{Fetched, MintContext, Minted};
use crate::credentials::snowflake::{AccountIdentifier, KEYPAIR_JWT, TOKEN_LIFETIME, key_pair_token};
use crate::credentials::{Credential, Secret};
use crate::model::{Class, Evidence, Failure};

/// Signs a token.
///
/// # Errors
/// Returns the failure of the key, or `Misconfigured` if the account is not an account identifier.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let account = AccountIdentifier::parse(context.text("account")?).ok_or_else(|| {
        let title = format!("account of service principal {} is not a Snowflake account identifier", context.name);
        Failure::new(
            Class::Misconfigured,
            title,
            "write it as in the address of Snowflake, without https:// and without snowflakecomputing.com: myorg-myaccount or xy12345.us-east-1",
        )
    })?;
    let user = context.text("user")?.trim().to_uppercase();
    let key = context.private_key("key").await?;
    let signed = key_pair_token(&key, &account.name, &user, context.providers.clock.now());
    let signed = signed.map_err(|unusable| context.unusable_key("key", &unusable))?;
    let fields = [("token_type", KEYPAIR_JWT.to_string()), ("account", account.name), ("user", user), ("host", account.host)];
    let mut fields: Vec<(String, Secret)> =
        fields.into_iter().map(|(name, value)| (name.to_string(), Secret::new(value))).collect();
    fields.push(("token".to_string(), signed.token));
    let mut evidence = Evidence::new();
    evidence.insert("issuer".to_string(), signed.issuer.into());
    evidence.insert("subject".to_string(), signed.subject.into());
    let value = Minted { credential: Credential::from_fields(fields), evidence, key_ends_at: None };
    Ok(Fetched { value, valid_for: Some(TOKEN_LIFETIME) })
}
