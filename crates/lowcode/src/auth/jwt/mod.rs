//! `JwtAuthenticator` (`auth/jwt.py`): a token that is signed locally, in the format of PyJWT.

mod pem;
mod sign;

use crate::context::{Context, EMPTY, Run};
use crate::error::Failed;
use crate::interpolation::{InterpolatedMapping, InterpolatedString, Scope};
use crate::request::json::{Style, dumps};
use crate::request::option::{OptionPlace, RequestOption};
use crate::value::{Dict, Value};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sign::Algorithm;

/// A signer of tokens.
pub struct Jwt {
    pub(super) option: RequestOption,
    algorithm: Algorithm,
    secret_key: InterpolatedString,
    passphrase: Option<InterpolatedString>,
    /// Whether the signing key is the Base64 encoding of the secret.
    encode_key: bool,
    /// The lifetime in seconds. With `None`, the token expires immediately.
    duration: Option<i64>,
    /// The seconds by which `iat` and `nbf` lie before now, because the clock of the server may be behind. The CDK does
    /// not have this field: it always uses 0.
    backdated: i64,
    prefix: Option<InterpolatedString>,
    headers: Part,
    payload: Part,
}

/// The header or the payload: the fields of the component, and additional ones from the manifest.
struct Part {
    fields: Vec<(&'static str, InterpolatedString)>,
    more: InterpolatedMapping,
}

impl Part {
    fn build(node: &Value, group: &str, fields: &[&'static str], defaults: &[(&'static str, &str)]) -> Part {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let own = node.get(group).filter(|it| !it.is_none());
        let value = |key: &str| match own.and_then(|it| it.get(key)) {
            Some(value) => Some(value.to_str()).filter(|_| value.truthy()),
            None => defaults.iter().find(|(name, _)| *name == key).map(|(_, text)| (*text).to_owned()),
        };
        let fields = fields.iter().filter_map(|key| Some((*key, InterpolatedString::new(&value(key)?, parameters))));
        let more = node.get(&format!("additional_{group}")).and_then(Value::as_dict).cloned().unwrap_or_default();
        Part { fields: fields.collect(), more: InterpolatedMapping::new(&more, parameters) }
    }

    fn eval(&self, scope: &Scope<'_>, reserved: &[&str], what: (&str, &str)) -> Result<Dict, Failed> {
        let mut dict = self.more.eval(scope, &[])?;
        if reserved.iter().any(|key| dict.contains_key(*key)) {
            let names = reserved.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ");
            let message = format!("{names} are reserved {} and should not be set as part of '{}'", what.0, what.1);
            return Err(value_error(message));
        }
        for (key, value) in &self.fields {
            dict.insert((*key).into(), value.eval(scope, &[])?);
        }
        Ok(dict)
    }
}

impl Jwt {
    /// Reads the component.
    ///
    /// # Errors
    /// Fails if this engine cannot sign with the algorithm.
    pub(super) fn build(node: &Value, _ctx: &Context<'_>) -> Result<Jwt, Failed> {
        let parameters = node.get("$parameters").unwrap_or(&EMPTY);
        let text = |key: &str| {
            let value = node.get(key).filter(|it| it.truthy())?;
            Some(InterpolatedString::new(&value.to_str(), parameters))
        };
        let option = match node.get("request_option").filter(|it| !it.is_none()) {
            Some(option) => RequestOption::build(option, &EMPTY)?,
            None => RequestOption::named(OptionPlace::Header, "Authorization", parameters),
        };
        Ok(Jwt {
            option,
            algorithm: Algorithm::of(node.get("algorithm").and_then(Value::as_str).unwrap_or_default())?,
            secret_key: text("secret_key").unwrap_or_else(|| InterpolatedString::new("", parameters)),
            passphrase: text("passphrase"),
            // A template that evaluates to "false" counts as true, because the CDK tests the object instead of its value.
            encode_key: node.get("base64_encode_secret_key").is_some_and(Value::truthy),
            duration: match node.get("token_duration") {
                None => Some(1200),
                Some(value) => value.as_i64(),
            },
            backdated: node.get("aam_backdated_seconds").and_then(Value::as_i64).unwrap_or(0),
            prefix: text("header_prefix"),
            headers: Part::build(node, "jwt_headers", &["kid", "typ", "cty"], &[("typ", "JWT")]),
            payload: Part::build(node, "jwt_payload", &["iss", "sub", "aud"], &[]),
        })
    }

    /// Returns the token with its prefix.
    ///
    /// # Errors
    /// Fails with ValueError `Failed to sign token: ...`. The message does not contain the key.
    pub(super) fn token(&self, run: &Run<'_>) -> Result<String, Failed> {
        let scope = run.scope();
        let token = self.signed(&scope).map_err(|error| value_error(format!("Failed to sign token: {}", error.message)))?;
        let prefix = match &self.prefix {
            Some(prefix) => prefix.eval(&scope, &[])?,
            None => Value::None,
        };
        Ok(if prefix.truthy() { format!("{} {token}", prefix.to_str()) } else { token })
    }

    fn signed(&self, scope: &Scope<'_>) -> Result<String, Failed> {
        let mut payload =
            self.payload.eval(scope, &["iss", "sub", "aud", "iat", "exp", "nbf"], ("properties", "additional_jwt_payload"))?;
        let now = scope.host.now().as_second();
        let exp = now.saturating_add(self.duration.unwrap_or(0));
        let issued = now.saturating_sub(self.backdated);
        for (key, moment) in [("iat", issued), ("exp", exp), ("nbf", issued)] {
            payload.insert(key.into(), Value::Int(moment));
        }
        let key = self.key(scope)?;
        let mut headers = self.headers.eval(scope, &["kid", "alg", "typ", "cty"], ("headers", "additional_jwt_headers"))?;
        headers.insert("alg".into(), Value::str(self.algorithm.name()));
        headers.entry("typ".into()).or_insert_with(|| Value::str("JWT"));
        if payload.get("iss").is_some_and(|it| it.as_str().is_none()) {
            return Err(Failed::system("TypeError", "Issuer (iss) must be a string."));
        }
        if headers.get("kid").is_some_and(|it| it.as_str().is_none()) {
            return Err(Failed::system("InvalidTokenError", "Key ID header parameter must be a string"));
        }
        headers.retain(|key, value| key.as_ref() != "typ" || value.truthy());
        headers.sort_keys();
        let encoded = |dict: Dict| Ok::<_, Failed>(URL_SAFE_NO_PAD.encode(dumps(&Value::Dict(dict), Style::COMPACT)?));
        let input = format!("{}.{}", encoded(headers)?, encoded(payload)?);
        let signature = self.algorithm.sign(key.as_bytes(), input.as_bytes())?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn key(&self, scope: &Scope<'_>) -> Result<String, Failed> {
        let key = self.secret_key.eval_str(scope)?;
        if let Some(passphrase) = &self.passphrase
            && passphrase.eval(scope, &[])?.truthy()
        {
            if key.contains("ENCRYPTED") {
                return Err(value_error("an encrypted private key is not supported: bring it without a passphrase".into()));
            }
            return Err(value_error("Password was given but private key is not encrypted.".into()));
        }
        Ok(if self.encode_key { STANDARD.encode(key) } else { key })
    }
}

fn value_error(message: String) -> Failed {
    Failed::system("ValueError", message)
}

#[cfg(test)]
mod tests;
