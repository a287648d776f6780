//! Kind `netsuite`: token-based authentication, which signs each request with OAuth 1.0a and HMAC-SHA256.
//!
//! Sources: Oracle NetSuite help, "Token-based Authentication (TBA) for Integration Application Developers", "The
//! Authorization Headers", "Error Messages for RESTlets, SOAP Web Services, and REST Web Services" \[V\]. HMAC-SHA1 has not been
//! accepted since 2023.1 \[V\]. From 2027.1 on, new integrations for REST web services cannot use token-based authentication \[V\].

use super::oauth1::{self, Keys};
use super::refusal::{Refusal, RefusalRule, Refusals, http_date};
use super::{Fetched, MintContext, Minted};
use crate::credentials::signer::{RequestSigner, SignedResponse, Signer, UnsignedRequest};
use crate::credentials::{Credential, Secret, redact};
use crate::model::{Class, Evidence, Failure};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use url::Url;

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
    RefusalRule::permission(
        &["permission_denied", "EntityOrRoleDisabled"],
        &[],
        "the role of the access token of service principal {principal} may not log in",
        "ask the administrator to give the role the permissions REST Web Services and Log in using Access Tokens (Setup > Users/Roles > Manage Roles), and to check that user and role are active",
    ),
    // REST web services answer with INVALID_LOGIN for every cause [V].
    RefusalRule::clock(
        &[],
        &[],
        "NetSuite refused the login of service principal {principal} and did not say why",
        "ask the administrator for the column Detail of Setup > Users/Roles > View Login Audit Trail (Use Advanced Search). InvalidSignature: store the secrets again. TokenRejected: the access token is revoked or of another account. EntityOrRoleDisabled: the user or role is inactive. PermissionDenied: the role needs REST Web Services and Log in using Access Tokens",
    ),
];

/// The bytes of randomness of a nonce. NetSuite wants 6 to 64 characters and recommends 20 \[V\].
const NONCE_BYTES: usize = 16;

/// Reads the four values and creates the signer. Makes no call.
///
/// # Errors
/// Returns the failure of a locator, or `Misconfigured` if the account is not valid.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let account = context.text("account")?.trim();
    let keys = Keys {
        consumer_key: context.secret_text("consumer_key").await?,
        consumer_secret: context.secret_text("consumer_secret").await?,
        token: context.secret_text("token_id").await?,
        token_secret: context.secret_text("token_secret").await?,
    };
    let url = match context.principal.text("url") {
        Some(url) => url.to_string(),
        None => format!("https://{}.suitetalk.api.netsuite.com", host_label(account)),
    };
    let invalid = || {
        let title = format!("account of service principal {} is not the id of a NetSuite account", context.name);
        Failure::new(
            Class::Misconfigured,
            title,
            "write the Account ID of Setup > Company > Company Information, for example 1234567 or 1234567_SB1",
        )
    };
    let plain = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let url = Url::parse(&url).ok().filter(|_| plain).ok_or_else(invalid)?;
    let mut evidence = Evidence::new();
    evidence.insert("signature".to_string(), "OAuth 1.0a, HMAC-SHA256".into());
    evidence.insert("realm".to_string(), realm(account).into());
    evidence.insert("signs_requests_to".to_string(), url.origin().ascii_serialization().into());
    let fields = [("account", realm(account)), ("host", url.host_str().unwrap_or_default().to_string())];
    let fields = fields.map(|(name, value)| (name.to_string(), Secret::new(value)));
    let signer = TokenSigner { realm: realm(account), keys, refusals: context.refusals("NetSuite", REFUSALS) };
    let credential = Credential::from_fields(fields).with_signer(Signer::new(&url, Arc::new(signer)));
    Ok(Fetched { value: Minted { credential, evidence, key_ends_at: None }, valid_for: None })
}

/// The realm: the account id in upper case, with `_SB1` for a sandbox \[V\].
fn realm(account: &str) -> String {
    account.to_uppercase().replace('-', "_")
}

/// The first label of the host: the account id in lower case, with `-sb1` for a sandbox \[V\].
fn host_label(account: &str) -> String {
    account.to_lowercase().replace('_', "-")
}

struct TokenSigner {
    realm: String,
    keys: Keys,
    refusals: Refusals,
}

impl RequestSigner for TokenSigner {
    fn scheme(&self) -> &'static str {
        "OAuth 1.0a"
    }

    fn headers(&self, request: &UnsignedRequest<'_>) -> Result<Vec<(String, Secret)>, Failure> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Failure::new(Class::Bug, "the system gives no random numbers", "check /dev/urandom of this machine"))?;
        let nonce = data_encoding::HEXLOWER.encode(&nonce);
        Ok(vec![("authorization".to_string(), oauth1::authorization(request, &self.keys, &self.realm, &nonce))])
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
        let Keys { consumer_key, consumer_secret, token, token_secret } = &self.keys;
        [consumer_key, consumer_secret, token, token_secret].into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realm_and_host_come_from_one_id() {
        for account in ["1234567_SB1", "1234567-sb1", "1234567_sb1"] {
            assert_eq!(
                (realm(account), host_label(account)),
                ("1234567_SB1".to_string(), "1234567-sb1".to_string()),
                "{account}"
            );
        }
        assert_eq!((realm("tstdrv1234567"), host_label("TSTDRV1234567")), ("TSTDRV1234567".into(), "tstdrv1234567".into()));
    }
}
