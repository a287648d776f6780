//! Workload identity federation: a token of another platform is exchanged for one of Google (RFC 8693).
//!
//! The configuration is a secret behind a locator. Somebody who can change it must not be able to send the platform's token to
//! another host: the hosts are those of the policy, and a configuration that names others is refused.

use super::refusals;
use crate::credentials::{Credential, Secret, redact};
use crate::egress::{HttpRequest, Method};
use crate::model::{Class, Failure, Posts};
use crate::providers::Endpoint;
use crate::providers::principals::MintContext;
use crate::providers::principals::entra::{MAX_TOKEN_FILE_BYTES, token_file};
use crate::providers::principals::token_request::{IssuedToken, TokenRequest};
use serde_json::{Map, Value};
use url::Url;

const STS_URL: &str = "https://sts.googleapis.com/v1/token";

/// The scope of the exchanged token if it is only used to impersonate an account.
const CLOUD_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Exchanges the platform's token.
///
/// # Errors
/// Returns `CredentialMissing` or `Misconfigured` for a configuration that cannot be used, or what Google's refusal means.
pub async fn exchange(context: &MintContext<'_>, scopes: &[String]) -> Result<IssuedToken, Failure> {
    let config = context.secret("federation").await?;
    let text = |name: &str| config.field(name).map(Secret::expose).unwrap_or_default();
    let kind = text("type");
    if kind != "external_account" {
        let what = if kind == "service_account" {
            "is the key of a service account"
        } else {
            "is not a configuration of a workload identity federation"
        };
        let fix = match kind {
            "service_account" => "write key: LOCATOR instead of federation: LOCATOR",
            _ => "store the JSON file that gcloud iam workload-identity-pools create-cred-config writes",
        };
        return Err(Failure::new(Class::CredentialMissing, format!("{} {what}", context.stored("federation")), fix));
    }
    let url = context.endpoint("sts_url", STS_URL)?;
    hosts_of_the_policy(context, &config, &url)?;
    let subject_token = subject_token(context, &config).await?;
    let mut request = TokenRequest::new(url, "urn:ietf:params:oauth:grant-type:token-exchange");
    request.add("audience", text("audience"));
    let impersonates = context.principal.text("impersonate").is_some();
    request.add("scope", &if impersonates { CLOUD_SCOPE.to_string() } else { scopes.join(" ") });
    request.add("requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
    request.add("subject_token_type", text("subject_token_type"));
    request.add_secret("subject_token", subject_token);
    let values = [("audience", redact::scrub_and_cut(text("audience"), 300)), ("stored", context.stored("federation"))];
    let issued = context.request_token(request).await;
    issued.map_err(|reason| context.no_token_with("Google", refusals::FEDERATION, &values, reason))
}

/// Checks that the configuration sends tokens only to the hosts of the policy.
fn hosts_of_the_policy(context: &MintContext<'_>, config: &Credential, sts: &Url) -> Result<(), Failure> {
    let text = |name: &str| config.field(name).map(Secret::expose).unwrap_or_default();
    let refuse = |field: &str, value: &str, fix: String| {
        let shown = redact::scrub_and_cut(value, 200);
        let title = format!("{field} of {} is {shown}, which the policy does not name", context.stored("federation"));
        Err(Failure::new(Class::Misconfigured, title, fix))
    };
    let name = context.name;
    let named = text("token_url");
    if !named.is_empty() && Url::parse(named).ok().as_ref() != Some(sts) {
        let fix = format!(
            "if this is Google's own address, write it as sts_url into credentials.principals.{name}; the policy has {sts}"
        );
        return refuse("token_url", named, fix);
    }
    let named = text("service_account_impersonation_url");
    if named.is_empty() {
        return Ok(());
    }
    let account = named.rsplit('/').next().and_then(|last| last.strip_suffix(":generateAccessToken")).unwrap_or_default();
    let allowed = context.principal.text("impersonate").map(|account| super::impersonation::url(context, account)).transpose()?;
    if allowed.is_some() && Url::parse(named).ok() == allowed {
        return Ok(());
    }
    let fix = match account {
        "" => format!("write the account to impersonate into credentials.principals.{name}: impersonate: EMAIL"),
        account => format!(
            "if this account is the right one, write impersonate: {} into credentials.principals.{name}",
            redact::scrub_and_cut(account, 100)
        ),
    };
    refuse("service_account_impersonation_url", named, fix)
}

/// Reads the platform's token from the file or the URL of the configuration.
async fn subject_token(context: &MintContext<'_>, config: &Credential) -> Result<Secret, Failure> {
    let source = config.field("credential_source").map(Secret::expose).unwrap_or_default();
    let source: Map<String, Value> = serde_json::from_str(source).unwrap_or_default();
    let unusable = |class: Class, what: &str, fix: &str| {
        Err(Failure::new(class, format!("credential_source of {} {what}", context.stored("federation")), fix))
    };
    let text = |name: &str| source.get(name).and_then(Value::as_str);
    if source.contains_key("executable") {
        let fix = "let the platform write its token into a file, and create the configuration with --credential-source-file";
        return unusable(Class::Unsupported, "runs a program, which AAM does not do", fix);
    }
    if text("environment_id").is_some_and(|id| id.starts_with("aws")) {
        let fix = "create the configuration for an OIDC provider of the platform, for example with EKS: --credential-source-file";
        return unusable(Class::Unsupported, "signs requests with credentials of AWS, which this version does not do", fix);
    }
    let raw = match (text("file"), text("url")) {
        (Some(file), None) => {
            let file_of_policy = context.principal.text("subject_token_file");
            if file_of_policy.is_some_and(|allowed| allowed != file) {
                let fix = "correct subject_token_file in the policy, or file in the configuration";
                return unusable(Class::Misconfigured, "names another file than subject_token_file of the policy", fix);
            }
            token_file(context, "federation", file).await?
        }
        (None, Some(url)) => from_url(context, url, source.get("headers")).await?,
        _ => {
            let fix = "store the JSON file that gcloud iam workload-identity-pools create-cred-config writes";
            return unusable(Class::CredentialMissing, "has neither file nor url", fix);
        }
    };
    let format = source.get("format").and_then(Value::as_object);
    let format_text = |name: &str| format.and_then(|format| format.get(name)).and_then(Value::as_str);
    if format_text("type") != Some("json") {
        return Ok(raw);
    }
    let field = format_text("subject_token_field_name").unwrap_or("access_token");
    let parsed = Credential::read(raw);
    match parsed.field(field).filter(|token| !token.expose().trim().is_empty()) {
        Some(token) => {
            redact::learn_value(token.expose());
            Ok(token.clone())
        }
        None => {
            let what = format!("answers without the field {}", redact::scrub_and_cut(field, 60));
            unusable(Class::CredentialMissing, &what, "correct format.subject_token_field_name in the configuration")
        }
    }
}

/// Reads the platform's token from an URL that the policy names too.
async fn from_url(context: &MintContext<'_>, text: &str, headers: Option<&Value>) -> Result<Secret, Failure> {
    let name = context.name;
    let shown = redact::scrub_and_cut(text.split(['?', '#']).next().unwrap_or_default(), 200);
    let refuse = |what: &str, fix: String| {
        let title = format!("credential_source.url of {} is {shown}, {what}", context.stored("federation"));
        Err(Failure::new(Class::Misconfigured, title, fix))
    };
    let bare = |url: &Url| format!("{}{}", url.origin().ascii_serialization(), url.path());
    let allowed = context.principal.text("subject_token_url").and_then(|allowed| Url::parse(allowed).ok());
    let url = match Url::parse(text) {
        Ok(url) if url.username().is_empty() && url.password().is_none() => url,
        _ => return refuse("which is not a valid URL", "correct credential_source.url in the configuration".to_string()),
    };
    if allowed.as_ref().map(bare) != Some(bare(&url)) {
        let fix = format!(
            "if the platform issues its tokens there, write it into credentials.principals.{name}: subject_token_url: {shown}"
        );
        return refuse("which the policy does not name", fix);
    }
    let mut request = HttpRequest {
        method: Method::Get,
        url: url.clone(),
        headers: Vec::new(),
        max_bytes: MAX_TOKEN_FILE_BYTES,
        follow_redirects: false,
    };
    for (name, value) in headers.and_then(Value::as_object).into_iter().flatten() {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return refuse("and its headers have a name that is not valid", "correct credential_source.headers".to_string());
        }
        let value = value.as_str().unwrap_or_default().to_string();
        redact::learn_value(&value);
        request.headers.push((name.to_ascii_lowercase(), Secret::new(value)));
    }
    let origin = url.origin().ascii_serialization();
    let session = context.providers.session(context.request, Endpoint::Tokens, &origin, Posts::default());
    let response = session.http(request).await?;
    let body = String::from_utf8_lossy(&response.body).trim().to_string();
    if response.status != 200 || body.is_empty() {
        let title = format!("{shown} does not issue a token for the service principal {name}: status {}", response.status);
        let fix = "check that AAM runs on the platform that issues the token, and the headers of credential_source";
        return Err(Failure::new(Class::CredentialRejected, title, fix).detail(redact::scrub_and_cut(&body, 300)));
    }
    redact::learn_value(&body);
    Ok(Secret::new(body))
}
