//! Which authentication method a credential fits, and what the credential says about itself. Pure.

use super::family_spec::AuthMethod;
use crate::credentials::{Credential, Secret, access_key};
use crate::families::Family;
use crate::model::{Class, Failure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// What an access token says about itself, and what was said when it was issued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenFacts {
    /// The claims of the token, or null if it is not a JWT. Its signature is not verified, because the vendor does that.
    pub claims: Json,
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
        let claims = fields.filter_map(|text| claims(text)).next().unwrap_or_default();
        TokenFacts { claims, granted, read_only: credential.is_some_and(Credential::is_read_only) }
    }
}

/// Returns the claims of a JWT, or `None` if `token` is something else.
fn claims(token: &str) -> Option<Json> {
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

/// Returns the fields that `method` reads, or `None` if a required one is missing. A credential that is not JSON is the only
/// required field of its method, or a pair of two.
#[must_use]
pub fn fields(method: &AuthMethod, credential: &Credential) -> Option<BTreeMap<String, String>> {
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
