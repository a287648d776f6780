//! What a response of Snowflake that is not a result means for a person. Pure.

use super::spec::ErrorRule;
use crate::credentials::redact;
use crate::model::{Class, Failure};
use serde_json::Value;

/// What is known about the call and the login, for messages.
#[derive(Clone, Debug, Default)]
pub struct CallContext {
    /// `POST https://host/path`.
    pub call: String,
    pub host: String,
    /// The account that the resource id names.
    pub account: String,
    pub user: String,
    pub role: String,
    pub warehouse: String,
    /// The issuer and the subject of a key-pair token.
    pub claims: Option<(String, String)>,
    /// Whether an earlier response proved the account.
    pub proven: bool,
    /// Where the address is configured, if the policy names it.
    pub configured: bool,
}

/// The maximum number of characters of Snowflake's own message; longer messages are cut.
const MAX_MESSAGE_CHARS: usize = 400;

/// Returns the failure that a response with `status` stands for.
#[must_use]
pub fn classify(rules: &[ErrorRule], status: u16, body: &[u8], context: &CallContext) -> Failure {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let code = match json.get("code") {
        Some(Value::String(code)) => code.clone(),
        Some(Value::Number(code)) => format!("{code:0>6}", code = code.to_string()),
        _ => String::new(),
    };
    let message = json.get("message").and_then(Value::as_str).unwrap_or_default();
    let detail = detail(status, &code, message, body, context);
    let rule = rules.iter().find(|rule| rule.fits(status, &code, message)).filter(|_| json.is_object());
    let failure = match rule {
        Some(rule) => {
            let text = |text: &str| fill(text, message, context);
            Failure::new(rule.class(), text(&rule.title), text(&rule.fix))
        }
        None if !json.is_object() => not_json(status, body, context),
        None => by_status(status, context),
    };
    failure.detail(detail)
}

/// Returns the failure for a successful response that is not a result.
#[must_use]
pub fn not_a_result(status: u16, body: &[u8], context: &CallContext) -> Failure {
    let cut = serde_json::from_slice::<Value>(body).is_err_and(|error| error.is_eof());
    let failure = match cut {
        true => Failure::new(
            Class::Remote,
            format!("{} answered with truncated JSON", context.host),
            "AAM retries automatically; if this happens again, check whether a proxy cuts responses",
        ),
        false => wrong_service(&format!("{} answered {status} with {}", context.host, kind(body)), context),
    };
    failure.detail(detail(status, "", "", body, context))
}

/// Fills in what is known. A name without a value stays as a word that a person can replace.
fn fill(text: &str, message: &str, context: &CallContext) -> String {
    let known = |value: &str, otherwise: &str| if value.is_empty() { otherwise.to_string() } else { value.to_string() };
    let uuid = uuid(message).unwrap_or_else(|| "UUID in the message".to_string());
    [
        ("{uuid}", uuid),
        ("{account}", context.account.clone()),
        ("{host}", context.host.clone()),
        ("{user}", known(&context.user, "THE_USER")),
        ("{role}", known(&context.role, "THE_ROLE")),
        ("{warehouse}", known(&context.warehouse, "THE_WAREHOUSE")),
    ]
    .into_iter()
    .fold(text.to_string(), |text, (name, value)| text.replace(name, &value))
}

/// Returns the identifier of a refused login: Snowflake writes it in brackets at the end of its message \[V\].
fn uuid(message: &str) -> Option<String> {
    let (_, rest) = message.rsplit_once('[')?;
    let (id, _) = rest.split_once(']')?;
    uuid::Uuid::parse_str(id.trim()).ok().map(|id| id.to_string())
}

fn detail(status: u16, code: &str, message: &str, body: &[u8], context: &CallContext) -> String {
    let mut text = format!("{} answered {status}", context.call);
    let said = [code, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    match said.is_empty() {
        false => text.push_str(&format!("; Snowflake said: \"{}\"", redact::scrub_and_cut(&said, MAX_MESSAGE_CHARS))),
        true => match redact::scrub_and_cut(&String::from_utf8_lossy(body), 200) {
            begin if begin.trim().is_empty() => {}
            begin => text.push_str(&format!("; the body begins: \"{begin}\"")),
        },
    }
    if let Some((issuer, subject)) = context.claims.as_ref().filter(|_| status == 401) {
        text.push_str(&format!("; issuer of the token: {issuer}; subject: {subject}"));
    }
    redact::scrub(&text).into_owned()
}

/// Returns the failure of a response that Snowflake's API did not write.
fn not_json(status: u16, body: &[u8], context: &CallContext) -> Failure {
    let CallContext { host, account, .. } = context;
    match status {
        // Where there is no account, Snowflake answers with a page [V] (snowflake-connector-python: "HTTP 403: Forbidden"
        // for a wrong account or region, 404 since 2023).
        403 | 404 if !context.proven && !context.configured => Failure::new(
            Class::NotFound,
            format!("there is no Snowflake account {account} at {host}: it answered {status} with {}", kind(body)),
            "correct the resource id: in Snowflake, SELECT CURRENT_ORGANIZATION_NAME() || '-' || CURRENT_ACCOUNT_NAME() \
             returns it; an account locator also needs its region: xy12345.us-east-1",
        ),
        401 => by_status(status, context),
        408 | 429 | 500.. => by_status(status, context),
        _ => wrong_service(&format!("{host} answered {status} with {}", kind(body)), context),
    }
}

fn wrong_service(found: &str, context: &CallContext) -> Failure {
    let address = match context.configured {
        true => "correct families.snowflake.base_url in the policy",
        false => "correct the resource id",
    };
    Failure::new(
        Class::WrongService,
        format!("{found}: this is not the SQL API of Snowflake"),
        format!("{address}; if it is correct, check whether a sign-in page, a portal or a proxy answers in place of the API"),
    )
}

fn kind(body: &[u8]) -> &'static str {
    let begin: Vec<u8> = body.trim_ascii_start().iter().take(14).map(u8::to_ascii_lowercase).collect();
    match () {
        () if begin.is_empty() => "an empty body",
        () if begin.starts_with(b"<!doctype html") || begin.starts_with(b"<html") => "an HTML page",
        () => "a body that is not in its format",
    }
}

/// Returns the failure for a code that no rule names. The statuses are those of the API's description \[V\].
fn by_status(status: u16, context: &CallContext) -> Failure {
    let CallContext { host, account, .. } = context;
    match status {
        401 => Failure::new(
            Class::CredentialRejected,
            format!("Snowflake does not accept the credential for {account}"),
            "it is wrong, expired or revoked: create a new one and store it behind credential_locator",
        ),
        403 => Failure::new(
            Class::PermissionDenied,
            format!("Snowflake does not allow this call to {account}"),
            "see the detail; an administrator of the account has to allow the SQL API for this user",
        ),
        404 if !context.proven => Failure::new(
            Class::NotFound,
            format!("{host} does not have the SQL API of Snowflake"),
            "correct the resource id, or families.snowflake.base_url in the policy",
        ),
        408 => Failure::new(
            Class::Remote,
            format!("a statement took too long at {account}, so Snowflake cancelled it"),
            "AAM retries automatically; if this happens often, raise safe_mode.step_timeout in the policy",
        ),
        429 => Failure::new(Class::Throttled, "rate limited by Snowflake", "no action is required: AAM retries automatically")
            .after(std::time::Duration::from_secs(60)),
        500.. => Failure::new(
            Class::Remote,
            format!("Snowflake failed with {status}"),
            "AAM retries automatically; check status.snowflake.com",
        ),
        _ => Failure::new(
            Class::Remote,
            format!("Snowflake does not accept this call ({status})"),
            "see the detail; AAM retries automatically",
        ),
    }
}
