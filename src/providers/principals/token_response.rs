//! The responses of a token endpoint (RFC 6749, sections 5.1 and 5.2), as vendors really send them.

use super::refusal::http_date;
use crate::credentials::{MAX_SECRET_BYTES, MIN_SECRET_BYTES, Secret, redact};
use crate::egress::HttpResponse;
use crate::model::text::counted;
use crate::model::{Class, Failure, Timestamp};
use serde_json::{Map, Value};
use std::time::Duration;

/// The maximum time for which a token is used. Longer ones are minted again, so that a mistaken `expires_in` does no harm.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The error codes of RFC 6749, RFC 8628, RFC 8693, RFC 8707 and RFC 9449, by which refusals are distinguished.
const KNOWN_ERRORS: [&str; 14] = [
    "access_denied",
    "expired_token",
    "invalid_client",
    "invalid_dpop_proof",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "use_dpop_nonce",
];

/// A token that the endpoint issued.
pub struct IssuedToken {
    pub access_token: Secret,
    /// `Bearer` unless the endpoint says otherwise.
    pub token_type: String,
    /// As the endpoint states it. [`IssuedToken::lifetime`] is the time for which the token is used.
    pub valid_for: Option<Duration>,
    /// The granted scopes, if the endpoint names them.
    pub scope: Option<String>,
    /// The whole response.
    pub fields: Map<String, Value>,
}

impl IssuedToken {
    /// Returns for how long the token is used from the request on: as the endpoint states it, otherwise `default`; at most a
    /// day.
    #[must_use]
    pub fn lifetime(&self, default: Duration) -> Duration {
        self.valid_for.unwrap_or(default).min(MAX_LIFETIME)
    }
}

/// The endpoint's refusal, in its own terms (RFC 6749, section 5.2). All texts are scrubbed.
#[derive(Clone, Debug, Default)]
pub struct TokenRefusal {
    pub status: u16,
    /// `invalid_client`, `invalid_grant`, ...; empty if the response does not say.
    pub error: String,
    pub description: String,
    /// The value of the header `DPoP-Nonce`, if any.
    pub dpop_nonce: Option<String>,
    /// The clock of the endpoint, if the response names it.
    pub server_date: Option<Timestamp>,
}

/// Why no token was issued.
pub enum NoToken {
    /// The endpoint refused.
    Refused(TokenRefusal),
    /// The call failed, or the response is not one of a token endpoint.
    Failed(Failure),
}

/// Reads the response of a token endpoint, and teaches the redactor the tokens in it.
///
/// # Errors
/// Returns [`NoToken`].
pub fn read(response: &HttpResponse) -> Result<IssuedToken, NoToken> {
    let fields = serde_json::from_slice::<Map<String, Value>>(&response.body);
    let is_json = fields.is_ok();
    let fields = fields.unwrap_or_default();
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    for (_, value) in fields.iter().filter(|(name, _)| name.to_lowercase().ends_with("token")) {
        value.as_str().into_iter().for_each(redact::learn_value);
    }
    let success = (200..300).contains(&response.status);
    // Some endpoints answer an error with the status 200.
    let error = error_code(&fields);
    if !success || !error.is_empty() {
        return Err(NoToken::Refused(refusal(response, &fields, error, is_json)));
    }
    let length = text("access_token").len();
    if length > 0 && (length < MIN_SECRET_BYTES || length as u64 > MAX_SECRET_BYTES) {
        return Err(NoToken::Failed(Failure::new(
            Class::WrongService,
            format!("{} issued a token of {}, which is not one", host(response), counted(length, "byte")),
            format!(
                "check that the URL is that of the token endpoint; AAM uses tokens of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes"
            ),
        )));
    }
    if text("access_token").is_empty() {
        return Err(NoToken::Failed(not_a_token_endpoint(response, is_json)));
    }
    Ok(IssuedToken {
        access_token: Secret::new(text("access_token").to_string()),
        token_type: Some(text("token_type")).filter(|kind| !kind.is_empty()).unwrap_or("Bearer").to_string(),
        valid_for: fields.get("expires_in").and_then(duration),
        scope: Some(text("scope")).filter(|scope| !scope.is_empty()).map(str::to_string),
        fields,
    })
}

/// Returns the code of the error. Okta calls it `errorCode` when the client does not exist, and Google's APIs nest it.
fn error_code(fields: &Map<String, Value>) -> String {
    let nested = |name: &str| fields.get("error").and_then(|error| error.get(name)).and_then(Value::as_str);
    let direct = |name: &str| fields.get(name).and_then(Value::as_str);
    let code = direct("error").or_else(|| nested("status")).or_else(|| direct("errorCode"));
    // A code that everybody knows is not a secret, although a secret may begin with the same letters.
    if let Some(known) = code.and_then(|code| KNOWN_ERRORS.iter().find(|known| **known == code)) {
        return (*known).to_string();
    }
    let unnamed = fields.get("error").filter(|error| !error.is_null() && **error != Value::Bool(false)).map(|_| "error");
    redact::scrub_and_cut(code.or(unnamed).unwrap_or_default(), 100)
}

fn refusal(response: &HttpResponse, fields: &Map<String, Value>, error: String, is_json: bool) -> TokenRefusal {
    let nested = fields.get("error").and_then(|error| error.get("message"));
    let names = ["error_description", "errorSummary", "message", "reason", "error_message"];
    let described = names.iter().find_map(|name| fields.get(*name)).or(nested).and_then(Value::as_str).unwrap_or_default();
    let body = String::from_utf8_lossy(&response.body);
    // A page is of no use to the reader, but a short text is.
    let shown = if is_json || body.trim_start().starts_with('<') { described } else { &*body };
    TokenRefusal {
        status: response.status,
        error,
        description: redact::scrub_and_cut(shown, 500),
        dpop_nonce: response.header("dpop-nonce").map(str::to_string),
        server_date: response.header("date").and_then(http_date),
    }
}

/// Returns host and port that answered.
fn host(response: &HttpResponse) -> String {
    let host = response.url.host_str().unwrap_or_default();
    response.url.port().map_or(host.to_string(), |port| format!("{host}:{port}"))
}

/// Reads `expires_in`: a number of seconds, or a text with one.
fn duration(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => text.trim().parse().ok()?,
        value => value.as_f64()?,
    };
    if seconds.is_nan() {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(MAX_LIFETIME))
}

/// The failure for a successful response without a token.
fn not_a_token_endpoint(response: &HttpResponse, is_json: bool) -> Failure {
    let html = response.header("content-type").is_some_and(|kind| kind.contains("html")) || response.body.starts_with(b"<");
    let got = match (html, is_json) {
        (true, _) => "with a web page",
        (_, true) => "without an access_token",
        _ => "with something other than JSON",
    };
    Failure::new(
        Class::Remote,
        format!("{} answered the request for a token {got}", host(response)),
        "check that the token URL in the policy is the token endpoint, not a page to log in, and that no proxy answers instead",
    )
    .detail(format!("status {}", response.status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn response(status: u16, body: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: vec![("date".to_string(), "Sun, 06 Nov 1994 08:49:37 GMT".to_string())],
            body: bytes::Bytes::from(body.to_string()),
            url: url::Url::parse("https://login.example/token").unwrap(),
        }
    }

    fn issued(body: &Value) -> IssuedToken {
        read(&response(200, &body.to_string())).ok().expect("a token")
    }

    fn refused(status: u16, body: &str) -> TokenRefusal {
        match read(&response(status, body)) {
            Err(NoToken::Refused(refusal)) => refusal,
            Err(NoToken::Failed(failure)) => panic!("{failure:?}"),
            Ok(_) => panic!("a token was issued"),
        }
    }

    #[test]
    fn the_lifetime_is_never_longer_than_stated_and_never_absurd() {
        for (expires_in, seconds) in [
            (json!(3600), 3600),
            (json!("3599"), 3599),
            (json!(" 60 "), 60),
            (json!(59.9), 59),
            (json!(0), 0),
            (json!(-5), 0),
            (json!("0"), 0),
            (json!(1e300), 86_400),
            (json!(u64::MAX), 86_400),
            (json!("inf"), 86_400),
            (json!("NaN"), 300),
            (json!("soon"), 300),
            (json!(null), 300),
            (json!([1]), 300),
        ] {
            let token = issued(&json!({"access_token": "token-1", "expires_in": expires_in}));
            assert_eq!(token.lifetime(Duration::from_secs(300)).as_secs(), seconds, "{expires_in}");
        }
        let token = issued(&json!({"access_token": "token-1", "token_type": "bot", "scope": "a b"}));
        assert_eq!(token.lifetime(Duration::from_secs(7)).as_secs(), 7);
        assert_eq!((token.token_type.as_str(), token.scope.as_deref()), ("bot", Some("a b")));
        assert_eq!(issued(&json!({"access_token": "token-1"})).token_type, "Bearer");
    }

    #[test]
    fn refusals_are_read_in_every_form() {
        let refusal = refused(400, r#"{"error":"invalid_scope","error_description":"no"}"#);
        assert_eq!((refusal.error.as_str(), refusal.description.as_str()), ("invalid_scope", "no"));
        assert_eq!(refusal.server_date, Some(Timestamp(784_111_777_000)));
        let with_200 = refused(200, r#"{"error":"invalid_client","access_token":"token-1"}"#);
        assert_eq!((with_200.status, with_200.error.as_str()), (200, "invalid_client"));
        let okta = refused(401, r#"{"errorCode":"invalid_client","errorSummary":"no such client"}"#);
        assert_eq!((okta.error.as_str(), okta.description.as_str()), ("invalid_client", "no such client"));
        let google = refused(403, r#"{"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}}"#);
        assert_eq!((google.error.as_str(), google.description.as_str()), ("PERMISSION_DENIED", "denied"));
        assert_eq!(refused(200, r#"{"ok":false,"error":{"x":1}}"#).error, "error");
        let page = refused(404, "<html>not here</html>");
        assert_eq!((page.error.as_str(), page.description.as_str()), ("", ""));
        assert_eq!(refused(503, "out of order").description, "out of order");
    }

    #[test]
    fn a_secret_does_not_change_the_known_code_of_an_error() {
        use crate::credentials::redact::{AttemptSecrets, with_attempt};
        let refusal = with_attempt(Some(AttemptSecrets::new(&[])), || {
            redact::learn_value("client-secret-1234");
            refused(401, r#"{"error":"invalid_client","error_description":"client-secret-1234 is wrong"}"#)
        });
        assert_eq!((refusal.error.as_str(), refusal.description.as_str()), ("invalid_client", "[redacted] is wrong"));
    }

    #[test]
    fn a_success_without_a_token_is_not_taken_for_one() {
        for (body, what) in [
            ("<!doctype html><html>", "a web page"),
            ("{}", "without an access_token"),
            (r#"{"access_token":""}"#, "without an access_token"),
            (r#"{"access_token":7}"#, "without an access_token"),
            (r#"{"access_token":"token-1","error":null}"#, ""),
            (r#"{"access_token":"abc"}"#, "a token of 3 bytes"),
            ("[1]", "other than JSON"),
            ("", "other than JSON"),
        ] {
            match read(&response(200, body)) {
                Err(NoToken::Failed(failure)) => assert!(!what.is_empty() && failure.title.contains(what), "{body}: {failure:?}"),
                Err(NoToken::Refused(refusal)) => panic!("{body}: {refusal:?}"),
                Ok(_) => assert!(what.is_empty(), "{body}"),
            }
        }
    }
}
