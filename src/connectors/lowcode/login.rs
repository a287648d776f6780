//! Which authentication method a credential fits, and what the credential says about itself. Pure.

use super::address::{fill, unknown_part};
use super::family_spec::{AuthMethod, OAuth1};
use crate::credentials::oauth1::{KeySigner, Keys};
use crate::credentials::{Credential, Secret, Signer, access_key};
use crate::families::Family;
use crate::model::{Class, Failure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// What an access token says about itself, and what was said when it was issued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenFacts {
    /// The claims of the token, or what the vendor confirmed when it issued the token; null if neither is known. The signature
    /// of a token is not verified, because the vendor does that.
    pub claims: Json,
    /// True if `claims` is what the vendor confirmed.
    pub confirmed: bool,
    /// The scopes that the vendor named when it issued the token.
    pub granted: Option<Vec<String>>,
    /// True if the issuer limited the credential to reading when AAM minted it, as a session policy of AWS does.
    pub read_only: bool,
}

impl TokenFacts {
    /// Reads the first of `fields` that is a JWT.
    #[must_use]
    pub fn new<'t>(fields: impl Iterator<Item = &'t String>, credential: Option<&Credential>) -> TokenFacts {
        let granted = credential.and_then(Credential::granted).map(<[String]>::to_vec);
        let confirmed = credential.and_then(Credential::confirmed).map(|facts| serde_json::json!(facts));
        let read_only = credential.is_some_and(Credential::is_read_only);
        match fields.filter_map(|text| claims(text)).next() {
            Some(claims) => TokenFacts { claims, confirmed: false, granted, read_only },
            None => TokenFacts { confirmed: confirmed.is_some(), claims: confirmed.unwrap_or_default(), granted, read_only },
        }
    }
}

/// Returns the claims of a JWT, whose signature is not verified, or `None` if `token` is something else.
#[must_use]
pub fn claims(token: &str) -> Option<Json> {
    let payload = token.split('.').nth(1).filter(|_| token.matches('.').count() == 2)?;
    let claims: Json = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    claims.is_object().then_some(claims)
}

/// Returns the first method whose fields the credential has.
///
/// # Errors
/// Returns `CredentialMissing` with the fields of all methods.
pub fn auth_method<'f>(
    methods: &[&'f AuthMethod],
    credential: Option<&Credential>,
    family: &Family,
) -> Result<&'f AuthMethod, Failure> {
    let has_fields = |method: &&AuthMethod| credential.is_some_and(|credential| fields(method, credential).is_some());
    let has_prefix = |method: &&AuthMethod| {
        let known = credential.and_then(|credential| fields(method, credential)).unwrap_or_default();
        let token = method.needs.first().and_then(|name| known.get(name)).map(String::as_str).unwrap_or_default();
        method.prefixes.is_empty() || method.prefixes.iter().any(|prefix| token.starts_with(prefix.as_str()))
    };
    let has_claim = |method: &&AuthMethod| {
        let known = || credential.and_then(|credential| fields(method, credential)).unwrap_or_default();
        let named = |pointer: &String| TokenFacts::new(known().values(), credential).claims.pointer(pointer).is_some();
        method.claim.as_ref().is_none_or(named)
    };
    let fits = |method: &&AuthMethod| has_prefix(method) && has_claim(method);
    methods.iter().copied().filter(has_fields).find(fits).ok_or_else(|| {
        let mut forms: Vec<String> = methods.iter().map(|method| method.needs.join(" and ")).collect();
        forms.dedup();
        Failure::new(
            Class::CredentialMissing,
            format!("the credential of {} does not have the required fields", family.title),
            format!("store a JSON object with {}; aam families {} explains each field", forms.join(", or with "), family.id),
        )
    })
}

/// Returns what signs the requests to the origin of `base_url`, if `method` signs with the keys in `fields`.
///
/// # Errors
/// Returns `Bug` if the realm names a part that the resource does not have.
pub fn signer(
    method: &AuthMethod,
    fields: &BTreeMap<String, String>,
    parts: &BTreeMap<String, String>,
    base_url: &str,
) -> Result<Option<Signer>, Failure> {
    let Some(OAuth1 { realm }) = &method.oauth1 else { return Ok(None) };
    let key = |name: &str| fields.get(name).map(|value| Secret::new(value.clone()));
    let keys = || {
        let (consumer_key, consumer_secret) = (key("consumer_key")?, key("consumer_secret")?);
        Some(Keys { consumer_key, consumer_secret, token: key("token_id")?, token_secret: key("token_secret")? })
    };
    let (Some(keys), Ok(url)) = (keys(), Url::parse(base_url)) else { return Ok(None) };
    let realm = fill(realm, parts).map_err(|part| unknown_part(&part))?;
    Ok(Some(Signer::new(&url, Arc::new(KeySigner { keys, realm }))))
}

/// Returns the fields that `method` reads, or `None` if a required one is missing. A credential that is not JSON is the only
/// required field of its method, or a pair of two.
#[must_use]
pub fn fields(method: &AuthMethod, credential: &Credential) -> Option<BTreeMap<String, String>> {
    // A service principal that signs requests does not hand out its keys.
    if method.oauth1.is_some() && credential.signer().is_some() {
        return Some(BTreeMap::new());
    }
    let trimmed = |secret: &Secret| secret.expose().trim().to_string();
    let by_name = |name: &String| Some((name.clone(), trimmed(credential.any(access_key::spellings(&name.as_str()))?)));
    let plain = credential.plain().map(trimmed);
    let required: Option<BTreeMap<String, String>> = match (plain, method.needs.as_slice()) {
        (Some(text), [only]) => Some([(only.clone(), text)].into()),
        (Some(text), [user, password]) if method.is_pair && text.contains(':') => {
            let (first, second) = text.split_once(':')?;
            Some([(user.clone(), first.to_string()), (password.clone(), second.to_string())].into())
        }
        (_, needs) => needs.iter().map(by_name).collect(),
    };
    let mut fields = required?;
    fields.extend(method.optional.iter().filter_map(by_name));
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;
    use crate::credentials::signer::UnsignedRequest;
    use crate::model::Timestamp;

    #[test]
    fn stored_keys_sign_for_one_origin_and_a_signing_principal_hands_out_none() {
        let method = &spec::find("netsuite").unwrap().form.auth[0];
        let keys = r#"{"consumer_key": "ck-1", "consumer_secret": "cs-1", "token_id": "ti-1", "token_secret": "ts-1"}"#;
        let known = fields(method, &Credential::read(Secret::new(keys.to_string()))).unwrap();
        let parts = [("realm".to_string(), "1234567_SB1".to_string())].into();
        let own = signer(method, &known, &parts, "https://1234567-sb1.suitetalk.api.netsuite.com").unwrap().unwrap();
        let url = Url::parse("https://1234567-sb1.suitetalk.api.netsuite.com/services/rest/record/v1/customer?limit=20").unwrap();
        assert!(own.covers(&url) && !own.covers(&Url::parse("https://7654321.suitetalk.api.netsuite.com/").unwrap()));
        let request = UnsignedRequest { method: "GET", url: &url, headers: &[], body: b"", now: Timestamp(1_700_000_000_000) };
        let headers = own.headers(&request).unwrap();
        assert!(headers[0].1.expose().starts_with("OAuth realm=\"1234567_SB1\", oauth_consumer_key=\"ck-1\""));
        let principal = Credential::from_fields([]).with_signer(own);
        assert_eq!(fields(method, &principal), Some(BTreeMap::new()));
        assert!(signer(method, &BTreeMap::new(), &parts, "https://a.example").unwrap().is_none(), "the principal signs itself");
        let half = Credential::read(Secret::new(r#"{"consumer_key": "ck-1", "consumer_secret": "cs-1"}"#.to_string()));
        assert_eq!(fields(method, &half), None);
    }
}
