//! The token file of a web identity, for example the projected service account token of EKS.

use crate::credentials::{Secret, redact};
use crate::model::{Class, Failure};
use crate::operator_file;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::path::Path;

/// The maximum size of the file in bytes. STS accepts tokens of up to 20,000 characters.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// A token and the claims by which a trust policy knows it. The claims are not verified here: AWS does that.
pub struct WebIdentityToken {
    pub token: Secret,
    /// The issuer, or an empty text if the token is not a JWT.
    pub issuer: String,
    pub subject: String,
    pub audience: String,
}

impl WebIdentityToken {
    /// Reads the file, and teaches the token to the redactor.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the file cannot be read or is empty.
    pub fn read(path: &str) -> Result<WebIdentityToken, Failure> {
        let fix = "mount the token where web_identity_token_file of the policy points; on EKS the pod's variable \
                   AWS_WEB_IDENTITY_TOKEN_FILE names the file, and the service account needs the annotation \
                   eks.amazonaws.com/role-arn";
        let text = operator_file::read_text(Path::new(path), MAX_TOKEN_BYTES).map_err(|error| {
            Failure::new(Class::CredentialMissing, format!("could not read the web identity token {path}"), fix)
                .detail(error.to_string())
        })?;
        let text = text.trim();
        if text.is_empty() {
            return Err(Failure::new(Class::CredentialMissing, format!("the web identity token {path} is empty"), fix));
        }
        redact::learn_value(text);
        let claims = claims(text);
        let claim = |name: &str| match claims.get(name) {
            Some(Value::String(text)) => redact::scrub_and_cut(text, 300),
            Some(Value::Array(items)) => redact::scrub_and_cut(items.first().and_then(Value::as_str).unwrap_or_default(), 300),
            _ => String::new(),
        };
        let (issuer, subject, audience) = (claim("iss"), claim("sub"), claim("aud"));
        Ok(WebIdentityToken { token: Secret::new(text.to_string()), issuer, subject, audience })
    }

    /// The name of the identity provider in ARNs and conditions: the issuer without its scheme.
    pub fn provider(&self) -> &str {
        let provider = self.issuer.strip_prefix("https://").unwrap_or(&self.issuer);
        if provider.is_empty() { "ISSUER" } else { provider.trim_end_matches('/') }
    }
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap_or_default();
    let decoded = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).unwrap_or_default();
    serde_json::from_slice(&decoded).unwrap_or_default()
}
