//! `kind: basic` and `kind: token`: what the policy names is the credential itself. Nothing is called.

use super::{MintContext, Minted};
use crate::credentials::{Credential, Secret};
use crate::model::{Evidence, Failure};
use crate::providers::cache::Fetched;

/// A user and a password.
pub async fn basic(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let user = context.text("username")?;
    let password = context.secret_text("password").await?;
    let field = |name: &str, value: &str| (name.to_string(), Secret::new(value.to_string()));
    let fields = [field("username", user), field("user", user), field("password", password.expose())];
    Ok(read_each_time(Credential::from_fields(fields)))
}

/// A fixed token, or a JSON object with the fields of the family, as it is stored.
pub async fn token(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    Ok(read_each_time(context.secret("token").await?))
}

/// The secret may be changed at its place at any time, so each connection reads it again at its next attempt.
fn read_each_time(credential: Credential) -> Fetched<Minted> {
    let minted = Minted { credential, evidence: Evidence::new(), key_ends_at: None };
    Fetched { value: minted, valid_for: None }
}
