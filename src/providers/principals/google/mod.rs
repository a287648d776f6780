//! `kind: google`: a service account by its key, or by workload identity federation, also as the identity that another
//! account is impersonated with.
//!
//! \[V\] developers.google.com, "Using OAuth 2.0 for server to server applications"; cloud.google.com, "Workload identity
//! federation" and "Create short-lived credentials for a service account".

mod federation;
mod impersonation;
mod refusals;

use super::issued::token_credential;
use super::token_request::{IssuedToken, TokenRequest};
use super::{MintContext, Minted};
use crate::credentials::jwt::{self, JwtAlgorithm};
use crate::credentials::private_key::PrivateKey;
use crate::credentials::{Credential, Secret};
use crate::model::{Class, Failure};
use crate::providers::cache::Fetched;
use serde_json::Map;
use std::time::Duration;

const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// Google accepts assertions of up to an hour. A minute is enough, but would fail with a clock that is slightly behind.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(600);

/// The documented lifetime of access tokens.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// The scope of a token that is only used to impersonate an account.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";

pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let scopes = context.scopes();
    if scopes.is_empty() {
        let title = format!("the service principal {} does not say which scopes it needs", context.name);
        let fix = format!(
            "write them into credentials.principals.{}, for example scopes: \
             [https://www.googleapis.com/auth/cloud-platform.read-only]",
            context.name
        );
        return Err(Failure::new(Class::Misconfigured, title, fix));
    }
    let impersonated = context.principal.text("impersonate");
    if impersonated.is_some() && context.principal.text("subject").is_some() {
        let title = format!("the service principal {} has both subject and impersonate", context.name);
        let fix = "a delegated user needs the key of the account that has domain-wide delegation: write key and subject, without \
                   impersonate";
        return Err(Failure::new(Class::Misconfigured, title, fix));
    }
    let own = if impersonated.is_some() { vec![IAM_SCOPE.to_string()] } else { scopes.clone() };
    let token = match context.principal.locator("key") {
        Some(_) => by_key(context, &own).await?,
        None => federation::exchange(context, &own).await?,
    };
    match impersonated {
        Some(account) => impersonation::mint(context, &token, account, &scopes).await,
        None => Ok(token_credential(token, &[], DEFAULT_LIFETIME)),
    }
}

/// The parts of a service account's key file that are used. Its `token_uri` is not: only the policy says where a signed
/// assertion is sent.
struct ServiceAccount {
    email: String,
    client_id: String,
    key_id: String,
    key: PrivateKey,
}

impl ServiceAccount {
    async fn load(context: &MintContext<'_>) -> Result<ServiceAccount, Failure> {
        let stored = context.secret("key").await?;
        let text = |name: &str| stored.field(name).map(Secret::expose).unwrap_or_default().to_string();
        let unusable =
            |what: &str, fix: &str| Err(Failure::new(Class::CredentialMissing, format!("{} {what}", context.stored("key")), fix));
        match text("type").as_str() {
            "service_account" => {}
            "authorized_user" => {
                return unusable(
                    "is the login of a person (gcloud auth application-default login), not the key of a service account",
                    "store the JSON key of a service account (console.cloud.google.com > IAM > Service accounts > Keys)",
                );
            }
            "external_account" => {
                return unusable(
                    "is the configuration of a workload identity federation",
                    "write federation: LOCATOR instead of key: LOCATOR",
                );
            }
            _ => {
                return unusable(
                    "is not the JSON key of a service account",
                    "store the whole JSON file that Google created (IAM > Service accounts > Keys > Add key > JSON)",
                );
            }
        }
        if text("client_email").is_empty() {
            return unusable("does not have client_email", "store the whole JSON file that Google created");
        }
        let key = PrivateKey::from_credential(&private_key(&stored), None)
            .map_err(|unusable| context.unusable_key("key", &unusable))?;
        Ok(ServiceAccount { email: text("client_email"), client_id: text("client_id"), key_id: text("private_key_id"), key })
    }
}

/// The field `private_key` alone, because other fields of the file have names that a key may have too.
fn private_key(stored: &Credential) -> Credential {
    let key = stored.field("private_key").cloned();
    Credential::read(key.unwrap_or_else(|| Secret::new(String::new())))
}

/// Asks for a token with a signed assertion.
async fn by_key(context: &MintContext<'_>, scopes: &[String]) -> Result<IssuedToken, Failure> {
    let account = ServiceAccount::load(context).await?;
    let url = context.endpoint("token_url", TOKEN_URL)?;
    let (now, audience) = (context.providers.clock.now(), url.to_string());
    let mut claims = jwt::assertion_claims(&account.email, &account.email, &audience, now, ASSERTION_LIFETIME);
    match context.principal.text("subject") {
        Some(user) => claims.insert("sub".to_string(), user.into()),
        // Google takes `sub` for a user that the account acts for.
        None => claims.remove("sub"),
    };
    claims.insert("scope".to_string(), scopes.join(" ").into());
    let mut header = Map::new();
    if !account.key_id.is_empty() {
        header.insert("kid".to_string(), account.key_id.as_str().into());
    }
    let assertion = jwt::sign(&account.key, Some(JwtAlgorithm::Rs256), header, &claims)
        .map_err(|unusable| context.unusable_key("key", &unusable))?;
    let mut request = TokenRequest::new(url, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    request.add_secret("assertion", assertion);
    let values = [
        ("account", account.email),
        ("client", account.client_id),
        ("key_id", account.key_id),
        ("scopes", scopes.join(",")),
        ("stored", context.stored("key")),
    ];
    let rules = if context.principal.text("subject").is_some() { refusals::DELEGATION } else { refusals::SERVICE_ACCOUNT };
    context.request_token(request).await.map_err(|reason| context.no_token_with("Google", rules, &values, reason))
}
