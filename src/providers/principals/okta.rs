//! Kind `okta`: a service app with a private key (private_key_jwt), and with DPoP where Okta asks for it.
//!
//! Sources: developer.okta.com, "Implement OAuth for Okta with a service app" and "Configure OAuth 2.0 Demonstrating
//! Proof-of-Possession" \[V\]; the recorded answers of the Python package okta 3.4.6 \[R\]. Scopes of the API are issued by the
//! organization's own server (`/oauth2/v1/token`) only \[V\].

use super::dpop::{DpopKey, DpopSigner};
use super::issued::{granted, granted_scopes, token_credential, with_scopes};
use super::refusal::RefusalRule;
use super::token_request::{IssuedToken, NoToken, TokenRequest};
use super::{Fetched, MintContext, Minted};
use crate::credentials::private_key::PrivateKey;
use crate::credentials::signer::Signer;
use crate::credentials::{Credential, Secret, jwt};
use crate::model::Failure;
use serde_json::Map;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

const VENDOR: &str = "Okta";

/// Okta accepts assertions of at most one hour \[V\].
const ASSERTION_LIFETIME: Duration = Duration::from_secs(300);

/// The documented lifetime of a token of the organization's server, for a response without `expires_in` \[V\].
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// The requests for one token, at most: without DPoP, with it, and with a nonce twice.
const MAX_REQUESTS: usize = 4;

/// From the support pages of Okta that have the description as their title \[V\].
const REFUSALS: &[RefusalRule] = &[
    RefusalRule::new(
        &["invalid_client"],
        &["does not have a jwkset", "jwks"],
        "the Okta app of service principal {principal} has no public key",
        "in the Admin Console, open Applications > the app > General > Client Credentials > Edit, choose Public key / Private key, and add the public key that belongs to key",
    ),
    RefusalRule::new(
        &["invalid_client"],
        &["kid is invalid"],
        "Okta does not know the key id of service principal {principal}",
        "write key_id: the KID that Applications > the app > General > Public Keys shows for this key; an app with several keys needs it",
    ),
    RefusalRule::new(
        &["invalid_client"],
        &["signature is invalid"],
        "Okta does not accept the signature: key of service principal {principal} does not belong to a public key of the app",
        "add the public key to the app (Applications > the app > General > Public Keys), or store the private key that belongs to one of them",
    ),
    RefusalRule::clock(
        &["invalid_client"],
        &["expired", "expiration", "issued in the future", "not before", "'iat'", "'exp'"],
        "Okta does not accept the time of the assertion of service principal {principal}",
        "correct the clock of this machine (timedatectl set-ntp true; chronyc tracking shows the difference), then aam heal",
    ),
    RefusalRule::policy(
        &["invalid_client"],
        &["audience claim"],
        "Okta does not accept the audience of the assertion of service principal {principal}: org is not the address of the organization",
        "write the organization's own address as org, for example https://acme.okta.com, or its custom domain; not the -admin address",
    ),
    RefusalRule::policy(
        &["invalid_client"],
        &["client_id", "invalid client", "issuer", "'iss'", "'sub'"],
        "Okta does not know the client id of service principal {principal}",
        "write the Client ID of Applications > the app > General as client_id (it is {client_id} now), and check that org {org} is the organization of the app",
    ),
    RefusalRule::permission(
        &["invalid_scope"],
        &[],
        "the Okta app of service principal {principal} does not have all scopes that AAM asks for",
        "grant them in Applications > the app > Okta API Scopes (okta.users.read, okta.groups.read, okta.apps.read), and assign the role Read-Only Administrator in Admin roles: without it Okta answers with empty lists",
    ),
    RefusalRule::policy(
        &["unauthorized_client"],
        &[],
        "the Okta app of service principal {principal} may not use client credentials",
        "create an app of the type API Services (Applications > Create App Integration > API Services) and use its client id and key",
    ),
    RefusalRule::permission(
        &["access_denied"],
        &[],
        "a policy of Okta refuses the service principal {principal}",
        "ask the administrator for the event in Reports > System Log; a network zone or an access policy excludes this machine or app",
    ),
    RefusalRule::clock(
        &["invalid_dpop_proof", "use_dpop_nonce"],
        &[],
        "Okta does not accept the proof of possession (DPoP) of service principal {principal}",
        "check the clock of this machine, and that org {org} is the address that Okta itself uses: a proxy that rewrites addresses breaks proofs. If the organization does not need DPoP, clear Require Demonstrating Proof of Possession in Applications > the app > General",
    ),
    RefusalRule::new(
        &["invalid_client"],
        &[],
        "Okta does not accept the service principal {principal}",
        "compare client_id, key and key_id with Applications > the app > General, and check that the app is active",
    ),
];

/// Asks for a token. Uses DPoP if the policy says so, or if Okta refuses a request without it.
///
/// # Errors
/// Returns the failure of the key or of the call, or what the refusal means.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let scopes = context.scopes();
    if scopes.is_empty() {
        return Err(context.lacks("scopes"));
    }
    let key = context.private_key("key").await?;
    let url = context.url(&format!("{}/oauth2/v1/token", context.text("org")?))?;
    let mut dpop = if context.principal.flag("dpop") { Some(DpopKey::new()?) } else { None };
    let mut requests = 1;
    let issued = loop {
        let refusal = match context.request_token(request(context, &key, &url, &scopes, dpop.as_deref())?).await {
            Ok(issued) => break issued,
            Err(NoToken::Refused(refusal)) => refusal,
            Err(failed) => return Err(context.no_token(VENDOR, REFUSALS, failed)),
        };
        let another = match (&dpop, refusal.error.as_str(), &refusal.dpop_nonce) {
            (Some(key), "use_dpop_nonce", Some(nonce)) => key.set_nonce(nonce),
            (None, "invalid_dpop_proof" | "use_dpop_nonce", nonce) => {
                let key = DpopKey::new()?;
                if let Some(nonce) = nonce {
                    key.set_nonce(nonce);
                }
                dpop = Some(key);
                true
            }
            _ => false,
        };
        if !another || requests >= MAX_REQUESTS {
            return Err(context.no_token(VENDOR, REFUSALS, NoToken::Refused(refusal)));
        }
        requests += 1;
    };
    let host = url.host_str().unwrap_or_default().to_string();
    match dpop {
        Some(key) if issued.token_type.eq_ignore_ascii_case("DPoP") => Ok(bound(context, issued, key, &url, host)),
        _ => Ok(token_credential(issued, &[("host", &host)], TOKEN_LIFETIME)),
    }
}

/// A request with a new assertion: Okta refuses one that it has seen.
fn request(
    context: &MintContext<'_>,
    key: &PrivateKey,
    url: &Url,
    scopes: &[String],
    dpop: Option<&DpopKey>,
) -> Result<TokenRequest, Failure> {
    let client = context.text("client_id")?;
    let now = context.providers.clock.now();
    let mut header = Map::new();
    if let Some(id) = context.principal.text("key_id").or(key.key_id()) {
        header.insert("kid".to_string(), id.into());
    }
    let claims = jwt::assertion_claims(client, client, url.as_str(), now, ASSERTION_LIFETIME);
    let assertion = jwt::sign(key, None, header, &claims).map_err(|unusable| context.unusable_key("key", &unusable))?;
    let text = |text: &str| Secret::new(text.to_string());
    let headers = match dpop {
        Some(dpop) => vec![("dpop".to_string(), dpop.proof("POST", url, now, None)?)],
        None => Vec::new(),
    };
    let form = vec![
        ("grant_type", text("client_credentials")),
        ("scope", text(&scopes.join(" "))),
        ("client_assertion_type", text("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")),
        ("client_assertion", assertion),
    ];
    Ok(TokenRequest { url: url.clone(), form, headers, basic: None })
}

/// The credential of a token that is bound to `key`: each request to the organization carries a proof of its own.
fn bound(context: &MintContext<'_>, issued: IssuedToken, key: Arc<DpopKey>, url: &Url, host: String) -> Fetched<Minted> {
    let (mut evidence, valid_for) = (granted(&issued), Some(issued.lifetime(TOKEN_LIFETIME)));
    evidence.insert("signature".to_string(), "DPoP, ES256".into());
    evidence.insert("signs_requests_to".to_string(), url.origin().ascii_serialization().into());
    let scopes = granted_scopes(&issued);
    let signer = DpopSigner { key, token: issued.access_token.clone(), refusals: context.refusals(VENDOR, REFUSALS) };
    let fields = [
        ("token".to_string(), issued.access_token.clone()),
        ("access_token".to_string(), issued.access_token),
        ("token_type".to_string(), Secret::new("DPoP".to_string())),
        ("host".to_string(), Secret::new(host)),
    ];
    let credential = with_scopes(Credential::from_fields(fields), scopes).with_signer(Signer::new(url, Arc::new(signer)));
    Fetched { value: Minted { credential, evidence, key_ends_at: None }, valid_for }
}
