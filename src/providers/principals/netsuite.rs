//! Kind `netsuite`: token-based authentication, which signs each request with OAuth 1.0a and HMAC-SHA256, or OAuth 2.0 client
//! credentials with a certificate.
//!
//! Sources: Oracle NetSuite help, "Token-based Authentication (TBA) for Integration Application Developers", "The
//! Authorization Headers", "Error Messages for RESTlets, SOAP Web Services, and REST Web Services", "The Request Token
//! Structure", "POST Request to the Token Endpoint and the Access Token Response", "OAuth 2.0 Client Credentials Setup",
//! "RESTlets and REST Web Services Error Messages in the Login Audit Trail" \[V\]. HMAC-SHA1 has not been
//! accepted since 2023.1 \[V\]. From 2027.1 on, new integrations for REST web services cannot use token-based authentication \[V\].

use super::issued::token_credential;
use super::oauth2_client::{ASSERTION_LIFETIME, JWT_BEARER_ASSERTION};
use super::refusal::{Refusal, RefusalRule, Refusals, http_date};
use super::token_request::TokenRequest;
use super::{Fetched, MintContext, Minted};
use crate::credentials::jwt::{self, JwtAlgorithm};
use crate::credentials::oauth1::{KeySigner, Keys};
use crate::credentials::signer::{RequestSigner, SignedResponse, Signer, UnsignedRequest};
use crate::credentials::{Credential, Secret, redact};
use crate::model::{Class, Evidence, Failure};
use crate::policy::credentials::{Principal, netsuite};
use serde_json::Map;
use std::sync::Arc;
use std::time::Duration;

const VENDOR: &str = "NetSuite";

/// The codes of Oracle's table \[V\]. `WWW-Authenticate` names some of them; the Login Audit Trail names all.
const REFUSALS: &[RefusalRule] = &[
    RefusalRule::new(
        &["consumer_key_unknown"],
        &[],
        "NetSuite does not know the consumer key of service principal {principal}",
        "copy consumer key and secret again (Setup > Integration > Manage Integrations > the record > Reset Credentials shows new ones once), and check that the record is in account {account}",
    ),
    RefusalRule::permission(
        &["consumer_key_refused"],
        &[],
        "the integration record of service principal {principal} is blocked in NetSuite",
        "ask the administrator to set State to Enabled in Setup > Integration > Manage Integrations > the record",
    ),
    RefusalRule::permission(
        &["FeatureDisabled"],
        &[],
        "token-based authentication is off in the NetSuite account {account}",
        "ask the administrator to tick Token-Based Authentication in Setup > Company > Enable Features > SuiteCloud",
    ),
    RefusalRule::clock(
        &["timestamp_refused", "InvalidTimestamp"],
        &[],
        "NetSuite does not accept the time of the signature, which may differ from its clock by 5 minutes",
        "correct the clock of this machine (timedatectl set-ntp true; chronyc tracking shows the difference), then aam heal",
    ),
    RefusalRule::new(
        &["signature_invalid", "InvalidSignature"],
        &[],
        "NetSuite does not accept the signature of service principal {principal}: the consumer secret or the token secret is wrong",
        "store both secrets again, exactly as NetSuite showed them when the integration record and the access token were created",
    ),
    RefusalRule::new(
        &["nonce_used", "NonceUsed"],
        &[],
        "NetSuite received a request of service principal {principal} twice",
        "a proxy between this machine and NetSuite repeats requests: turn that off",
    ),
    RefusalRule::new(
        &["token_rejected", "TokenRejected"],
        &[],
        "NetSuite does not accept the access token of service principal {principal}",
        "see Detail in Setup > Users/Roles > View Login Audit Trail; most often the token is revoked, its user or role is inactive, or it is of another account: a refreshed sandbox needs new tokens",
    ),
    RefusalRule::new(
        &["InvalidIntegration"],
        &[],
        "the integration record of service principal {principal} does not exist in the account {account}",
        "a refreshed sandbox needs its own records and tokens: create the record again (Setup > Integration > Manage Integrations > New), and a new access token",
    ),
    RefusalRule::permission(
        &["permission_denied", "PermissionDenied", "EntityOrRoleDisabled"],
        &[],
        "the role of the access token of service principal {principal} may not log in",
        "ask the administrator to give the role the permissions REST Web Services and Log in using Access Tokens (Setup > Users/Roles > Manage Roles), and to check that user and role are active",
    ),
    // REST web services answer with INVALID_LOGIN for every cause [V].
    RefusalRule::clock(
        &[],
        &[],
        "NetSuite refused the login of service principal {principal} and did not say why",
        "ask the administrator for the column Detail of Setup > Users/Roles > View Login Audit Trail (Use Advanced Search). InvalidSignature: store the secrets again. TokenRejected: the access token is revoked or of another account. EntityOrRoleDisabled: the user or role is inactive. InvalidIntegration: the integration record is not in this account. PermissionDenied: the role needs REST Web Services, Log in using Access Tokens and SuiteAnalytics Workbook",
    ),
];

/// The refusals of the token endpoint (RFC 6749, section 5.2). NetSuite does not say what is wrong with an assertion \[R\]; the
/// Login Audit Trail does.
const TOKEN_REFUSALS: &[RefusalRule] = &[
    RefusalRule::clock(
        &["invalid_client", "invalid_grant", "invalid_request", "unauthorized_client"],
        &[],
        "NetSuite does not accept the certificate of service principal {principal}",
        "compare with Setup > Integration > Manage Authentication > OAuth 2.0 Client Credentials (M2M) Setup in the account {account}: certificate_id is the Certificate ID of the mapping (now {certificate_id}), key is the private key of that certificate, the certificate is neither revoked nor expired, client_id is that of its integration record, and this record has Client Credentials (Machine to Machine) Grant and REST Web Services ticked. A refreshed sandbox has no mappings: create them again",
    ),
    RefusalRule::permission(
        &["invalid_scope", "access_denied"],
        &[],
        "NetSuite does not give service principal {principal} the scope rest_webservices",
        "ask the administrator to tick REST Web Services in Setup > Integration > Manage Integrations > the record > Scope, and to give the role of the mapping the permissions REST Web Services and Log in using OAuth 2.0 Access Tokens",
    ),
];

/// Tokens last 60 minutes \[V\]; this one is used if a response names no end.
const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// The keys of token-based authentication.
const TOKEN_KEYS: [&str; 4] = ["consumer_key", "consumer_secret", "token_id", "token_secret"];

/// The failure of a principal whose keys are not complete or whose account is not valid.
#[must_use]
pub fn unusable(principal: &Principal) -> Option<Failure> {
    let account = principal.text("account").unwrap_or_default().trim();
    if account.is_empty() || !account.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Some(Failure::new(
            Class::Misconfigured,
            format!("the account {account:?} of the service principal is not the id of a NetSuite account"),
            "write the Account ID of Setup > Company > Company Information, for example 1234567 or 1234567_SB1",
        ));
    }
    let needed: &[&str] = if principal.locator("key").is_some() { &["client_id", "certificate_id"] } else { &TOKEN_KEYS };
    let missing: Vec<&str> = needed.iter().copied().filter(|key| !principal.settings.contains_key(*key)).collect();
    if missing.is_empty() {
        return None;
    }
    let missing = missing.join(" and ");
    let title = format!("the service principal of the kind netsuite does not have {missing}");
    Some(Failure::new(Class::Misconfigured, title, format!("add {missing} to its entry of credentials.principals in the policy")))
}

/// Reads the four values and creates the signer, without a call; or asks for a token with an assertion.
///
/// # Errors
/// Returns the failure of a locator or of the call, what the refusal means, or `Misconfigured` for a principal that is not
/// complete.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    if let Some(failure) = unusable(context.principal) {
        return Err(failure);
    }
    match context.principal.locator("key") {
        Some(_) => token(context).await,
        None => signer(context).await,
    }
}

async fn signer(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let account = context.text("account")?;
    let keys = Keys {
        consumer_key: context.secret_text("consumer_key").await?,
        consumer_secret: context.secret_text("consumer_secret").await?,
        token: context.secret_text("token_id").await?,
        token_secret: context.secret_text("token_secret").await?,
    };
    let url = context.endpoint("url", &netsuite::origin(account))?;
    let realm = netsuite::realm(account);
    let mut evidence = Evidence::new();
    evidence.insert("signature".to_string(), "OAuth 1.0a, HMAC-SHA256".into());
    evidence.insert("realm".to_string(), realm.as_str().into());
    evidence.insert("signs_requests_to".to_string(), url.origin().ascii_serialization().into());
    let fields = [("account", realm.clone()), ("host", url.host_str().unwrap_or_default().to_string())];
    let fields = fields.map(|(name, value)| (name.to_string(), Secret::new(value)));
    let signer = TokenSigner { inner: KeySigner { keys, realm }, refusals: context.refusals(VENDOR, REFUSALS) };
    let credential = Credential::from_fields(fields).with_signer(Signer::new(&url, Arc::new(signer)));
    Ok(Fetched { value: Minted { credential, evidence, key_ends_at: None }, valid_for: None })
}

async fn token(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let url = context.url(&netsuite::token_url(context.principal))?;
    let mut request = TokenRequest::new(url, "client_credentials");
    request.add("client_assertion_type", JWT_BEARER_ASSERTION);
    request.add_secret("client_assertion", assertion(context).await?);
    let issued = context.request_token(request).await.map_err(|reason| context.no_token(VENDOR, TOKEN_REFUSALS, reason))?;
    Ok(token_credential(issued, &[], TOKEN_LIFETIME))
}

/// The assertion: its header names the certificate, and its claims are the client, the scopes and the token endpoint \[V\].
async fn assertion(context: &MintContext<'_>) -> Result<Secret, Failure> {
    let key = context.private_key("key").await?;
    let unusable = |unusable| context.unusable_key("key", &unusable);
    // NetSuite accepts PS256 and ES256 with their longer forms, and neither RS256 nor EdDSA [V].
    let algorithm = match key.default_algorithm() {
        JwtAlgorithm::Es384 => JwtAlgorithm::Es384,
        JwtAlgorithm::Es256 | JwtAlgorithm::EdDsa => JwtAlgorithm::Es256,
        _ => JwtAlgorithm::Ps256,
    };
    let (client_id, audience) = (context.text("client_id")?, netsuite::token_url(context.principal));
    let mut claims = jwt::assertion_claims(client_id, client_id, &audience, context.providers.clock.now(), ASSERTION_LIFETIME);
    let scopes = Some(context.scopes()).filter(|scopes| !scopes.is_empty());
    claims.insert("scope".to_string(), scopes.map_or_else(|| "rest_webservices".into(), |scopes| scopes.join(",").into()));
    // The documented claims only.
    claims.retain(|name, _| !matches!(name.as_str(), "sub" | "jti"));
    let header: Map<_, _> = [("kid".to_string(), context.text("certificate_id")?.into())].into_iter().collect();
    jwt::sign(&key, Some(algorithm), header, &claims).map_err(unusable)
}

struct TokenSigner {
    inner: KeySigner,
    refusals: Refusals,
}

impl RequestSigner for TokenSigner {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn headers(&self, request: &UnsignedRequest<'_>) -> Result<Vec<(String, Secret)>, Failure> {
        self.inner.headers(request)
    }

    fn refusal(&self, response: &SignedResponse<'_>) -> Option<Failure> {
        if response.status != 401 {
            return None;
        }
        let body: serde_json::Value = serde_json::from_slice(response.body).unwrap_or_default();
        let text = |pointer: &str| body.pointer(pointer).and_then(serde_json::Value::as_str);
        let error = response.challenge_parameter("error").or(text("/o:errorDetails/0/o:errorCode")).unwrap_or("401");
        let described = response.challenge_parameter("error_description").or(text("/o:errorDetails/0/detail"));
        Some(self.refusals.failure(&Refusal {
            status: response.status,
            error: &redact::scrub_and_cut(error, 100),
            description: &redact::scrub_and_cut(described.unwrap_or_default(), 500),
            server_date: response.header("date").and_then(http_date),
            now: response.now,
        }))
    }

    fn secrets(&self) -> Vec<Secret> {
        self.inner.secrets()
    }
}
