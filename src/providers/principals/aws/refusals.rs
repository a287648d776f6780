//! What AWS STS refused, and what to do about it.

use super::SourceKeys;
use super::sts::Sts;
use super::web_identity::WebIdentityToken;
use crate::credentials::redact;
use crate::egress::HttpResponse;
use crate::model::{Class, Failure, Timestamp};
use crate::policy::credentials::aws::RoleArn;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// An error of STS. All texts are scrubbed.
#[derive(Debug)]
pub struct Refusal {
    status: u16,
    code: String,
    message: String,
    request_id: String,
    /// The time of the server.
    at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct ErrorResponse {
    #[serde(rename = "Error")]
    error: Option<StsError>,
    /// Services of the EC2 protocol, and moto, put the error into a list.
    #[serde(rename = "Errors")]
    errors: Option<Errors>,
    #[serde(rename = "RequestId", default)]
    request_id: String,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(rename = "Error")]
    error: StsError,
}

#[derive(Deserialize)]
struct StsError {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

impl Refusal {
    /// Reads the error of a response that is not 200, or returns `None` if the body is not an error of STS.
    pub fn read(response: &HttpResponse) -> Option<Refusal> {
        let text = String::from_utf8_lossy(&response.body);
        let parsed: ErrorResponse = quick_xml::de::from_str(&text).ok()?;
        let error = parsed.error.or(parsed.errors.map(|errors| errors.error))?;
        Some(Refusal {
            status: response.status,
            code: redact::scrub_and_cut(&error.code, 100),
            message: redact::scrub_and_cut(&error.message, 500),
            request_id: redact::scrub_and_cut(&parsed.request_id, 100),
            at: response.header("date").and_then(Timestamp::from_http_date),
        })
    }

    pub fn is_denied(&self) -> bool {
        matches!(self.code.as_str(), "AccessDenied" | "AccessDeniedException")
    }

    pub fn is_throttled(&self) -> bool {
        self.code.starts_with("Throttl") || matches!(self.code.as_str(), "RequestLimitExceeded" | "TooManyRequestsException")
    }

    /// The error in the vendor's own terms, quoted.
    pub fn quoted(&self, host: &str) -> String {
        let id = if self.request_id.is_empty() { "none" } else { &self.request_id };
        format!("{host} said: \"{}: {}\" (HTTP {}, request id {id})", self.code, self.message, self.status)
    }

    /// Whether the signature was refused because of the time: "Signature expired: ... is now earlier than ..." or "Signature not
    /// yet current: ... is still later than ...".
    fn is_about_the_clock(&self) -> bool {
        self.code == "RequestExpired"
            || self.code == "SignatureDoesNotMatch"
                && ["Signature expired", "Signature not yet current"].iter().any(|start| self.message.starts_with(start))
    }
}

/// A code of STS, what it means and what to do. `{name}` is the principal, `{role}` its role, `{account}` the account of the
/// role, `{source}` the keys that signed the call, `{renewal}` how to replace them, `{file}`, `{issuer}` and `{audience}` the
/// web identity token, `{provider_arn}` its identity provider, `{host}` and `{region}` those of STS.
struct RefusalText {
    code: &'static str,
    /// The kind of call; `None` for every call.
    with_web_identity: Option<bool>,
    class: Class,
    title: &'static str,
    fix: &'static str,
}

const fn text(code: &'static str, class: Class, title: &'static str, fix: &'static str) -> RefusalText {
    RefusalText { code, with_web_identity: None, class, title, fix }
}

const fn web_identity_expired(code: &'static str) -> RefusalText {
    RefusalText {
        code,
        with_web_identity: Some(true),
        class: Class::CredentialRejected,
        title: "the web identity token in {file} has expired",
        fix: "check what renews the file: on EKS the kubelet does; AAM reads it at each mint",
    }
}

const NEW_KEY: &str = "{renewal}; temporary keys also need their session_token, and keys of China or GovCloud work in their own \
    partition only";
const ASK: &str = "the detail has the text of AWS";

/// The codes of the API reference (the actions AssumeRole, AssumeRoleWithWebIdentity, and "Common Errors").
const REFUSALS: [RefusalText; 24] = [
    web_identity_expired("ExpiredToken"),
    web_identity_expired("ExpiredTokenException"),
    text("ExpiredToken", Class::CredentialRejected, "{source} has expired", "{renewal}; prefer keys that AAM can renew"),
    text("ExpiredTokenException", Class::CredentialRejected, "{source} has expired", "{renewal}; prefer keys that AAM can renew"),
    text("InvalidClientTokenId", Class::CredentialRejected, "AWS does not accept the access key id of {source}", NEW_KEY),
    text("UnrecognizedClientException", Class::CredentialRejected, "AWS does not accept the access key id of {source}", NEW_KEY),
    text("InvalidAccessKeyId", Class::CredentialRejected, "AWS does not accept the access key id of {source}", NEW_KEY),
    text(
        "SignatureDoesNotMatch",
        Class::CredentialRejected,
        "the secret access key does not belong to the access key id: {source}",
        "store both as they were shown when the key was created, or {renewal}; a proxy that rewrites the Host header has the same \
         effect",
    ),
    text(
        "IncompleteSignature",
        Class::Remote,
        "{host} received an incomplete signature",
        "check that no proxy changes the headers Authorization and X-Amz-Date",
    ),
    text(
        "MissingAuthenticationToken",
        Class::Remote,
        "{host} received a call without a signature",
        "check that no proxy removes the header Authorization",
    ),
    text(
        "MalformedPolicyDocument",
        Class::Bug,
        "AWS does not accept the session policy of AAM",
        "report this as a defect of AAM with the detail",
    ),
    text(
        "PackedPolicyTooLarge",
        Class::Misconfigured,
        "session policy and session tags of {role} together are too large",
        "the session of {source} passes on too many transitive session tags: use keys without them",
    ),
    text(
        "PackedPolicyTooLargeException",
        Class::Misconfigured,
        "session policy and session tags of {role} together are too large",
        "the session of {source} passes on too many transitive session tags: use keys without them",
    ),
    text(
        "RegionDisabledException",
        Class::Misconfigured,
        "AWS STS is not active in {region} for the account {account}",
        "an administrator of the account activates it (IAM, Account settings, Security Token Service), or write another region in \
         credentials.principals.{name}",
    ),
    text(
        "InvalidIdentityToken",
        Class::CredentialRejected,
        "AWS does not accept the web identity token in {file}",
        "check that the account {account} has the identity provider {issuer} with the audience {audience}: aws iam \
         get-open-id-connect-provider --open-id-connect-provider-arn {provider_arn}",
    ),
    text(
        "IDPCommunicationError",
        Class::Remote,
        "AWS could not reach the identity provider {issuer}",
        "AAM tries again; if this repeats, check that {issuer}/.well-known/openid-configuration and its keys can be read from the \
         internet",
    ),
    text(
        "IDPRejectedClaim",
        Class::CredentialRejected,
        "the identity provider {issuer} rejected the web identity token",
        "the token was revoked, or its claims are not valid: let the runtime write a new token to {file}",
    ),
    text(
        "ValidationError",
        Class::Misconfigured,
        "AWS does not accept role_arn, external_id or session_name of the service principal {name}",
        "correct credentials.principals.{name} in the policy; the detail names the value",
    ),
    text(
        "InvalidParameterValue",
        Class::Misconfigured,
        "AWS does not accept role_arn, external_id or session_name of the service principal {name}",
        "correct credentials.principals.{name} in the policy; the detail names the value",
    ),
    text("OptInRequired", Class::PermissionDenied, "the account of {source} is not signed up for AWS STS", ASK),
    text("NotAuthorized", Class::PermissionDenied, "{source} is not allowed to call {host}", ASK),
    text("AuthFailure", Class::CredentialRejected, "AWS does not accept {source}", NEW_KEY),
    text("ServiceUnavailable", Class::Remote, "{host} is not available", "AAM tries again"),
    text("InternalFailure", Class::Remote, "{host} failed", "AAM tries again"),
];

/// A call that STS refused.
pub struct RefusedCall<'a> {
    pub sts: &'a Sts<'a>,
    pub role: &'a str,
    pub source: Option<&'a SourceKeys>,
    /// The web identity token and its file.
    pub token: Option<(&'a WebIdentityToken, &'a str)>,
    /// The ARN of the identity that signed the call, if it is known.
    pub caller: Option<String>,
    pub signed_at: Timestamp,
}

impl RefusedCall<'_> {
    pub fn failure(&self, refusal: &Refusal) -> Failure {
        let failure = match refusal {
            refusal if refusal.is_about_the_clock() => self.skewed(refusal),
            refusal if refusal.is_denied() && self.token.is_some() => early(self.web_identity_denied()),
            refusal if refusal.is_denied() => early(self.denied(refusal)),
            refusal => self.listed(refusal).unwrap_or_else(|| self.unlisted(refusal)),
        };
        failure.detail(refusal.quoted(self.sts.host()))
    }

    fn listed(&self, refusal: &Refusal) -> Option<Failure> {
        let found = REFUSALS.iter().find(|text| {
            text.code == refusal.code && text.with_web_identity.is_none_or(|wanted| wanted == self.token.is_some())
        })?;
        Some(Failure::new(found.class, self.fill(found.title), self.fill(found.fix)))
    }

    fn unlisted(&self, refusal: &Refusal) -> Failure {
        let class = match refusal.status {
            500.. => Class::Remote,
            401 => Class::CredentialRejected,
            403 => Class::PermissionDenied,
            _ => Class::Remote,
        };
        Failure::new(class, format!("{} refused to assume the role {}", self.sts.host(), self.role), ASK)
    }

    fn fill(&self, template: &str) -> String {
        let token = self.token.map(|(token, _)| token);
        let known =
            |text: Option<&str>, else_text: &'static str| text.filter(|text| !text.is_empty()).unwrap_or(else_text).to_string();
        let name = self.sts.context.name.to_string();
        let values = [
            ("{renewal}", known(self.source.map(|source| source.renewal.as_str()), "check the token")),
            ("{source}", known(self.source.map(|source| source.owner.as_str()), "the web identity token")),
            ("{role}", self.role.to_string()),
            ("{account}", self.account().to_string()),
            ("{file}", known(self.token.map(|(_, file)| file), "the file")),
            ("{issuer}", known(token.map(|token| token.issuer.as_str()), "of the token")),
            ("{audience}", known(token.map(|token| token.audience.as_str()), "sts.amazonaws.com")),
            ("{provider_arn}", self.provider_arn()),
            ("{host}", self.sts.host().to_string()),
            ("{region}", self.sts.region.clone()),
            ("{name}", name),
        ];
        values.iter().fold(template.to_string(), |text, (key, value)| text.replace(key, value))
    }

    fn account(&self) -> &str {
        RoleArn::parse(self.role).map_or("of the role", |role| role.account)
    }

    fn provider_arn(&self) -> String {
        let provider = self.token.map_or("ISSUER", |(token, _)| token.provider());
        let partition = RoleArn::parse(self.role).map_or("aws", |role| role.partition);
        format!("arn:{partition}:iam::{}:oidc-provider/{provider}", self.account())
    }

    fn skewed(&self, refusal: &Refusal) -> Failure {
        let off = refusal.at.map_or("too far off".to_string(), |theirs| self.signed_at.distance_from(theirs));
        Failure::new(
            Class::Remote,
            format!("this machine's clock is {off} that of {}, so its signatures are rejected", self.sts.host()),
            "set this machine's clock, for example: timedatectl set-ntp true",
        )
    }

    /// The failure if the role does not let AAM assume it. AWS does not say whether the role exists, whether its trust policy or
    /// the policy of the caller is the reason, or whether the external id is a wrong one.
    fn denied(&self, refusal: &Refusal) -> Failure {
        let source = self.source.map_or("AAM", |source| source.owner.as_str());
        let caller = self.caller.as_deref();
        let title = format!("{} is not allowed to assume the role {}", caller.unwrap_or(source), self.role);
        if let Some((_, policy)) = refusal.message.split_once("explicit deny in ") {
            let kind = policy.split(['.', ',', ':', ';']).next().unwrap_or_default();
            let fix = format!("an explicit deny outweighs every permission: ask the owner of the {kind} to exempt AAM");
            let fix = fix.replace("the a ", "the ").replace("the an ", "the ");
            return Failure::new(Class::PermissionDenied, title, fix);
        }
        let who = caller.map_or("ARN_OF_AAM".to_string(), principal_of);
        let external_id = self.sts.context.principal.text("external_id");
        let mut trust = json!({"Effect": "Allow", "Principal": {"AWS": who}, "Action": "sts:AssumeRole"});
        if let (Some(id), Value::Object(statement)) = (external_id, &mut trust) {
            statement.insert("Condition".to_string(), json!({"StringEquals": {"sts:ExternalId": id}}));
        }
        let allow = json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": self.role});
        let name = self.sts.context.name;
        let id = match external_id {
            Some(_) => format!("a different external id than that of credentials.principals.{name} has the same effect"),
            None => {
                format!("if the trust policy asks for sts:ExternalId, write it as external_id into credentials.principals.{name}")
            }
        };
        let fix = format!(
            "check that the role exists; its trust policy in the account {} needs the statement {trust}, and the policies of {} need \
             {allow}; {id}",
            self.account(),
            caller.unwrap_or(source),
        );
        Failure::new(Class::PermissionDenied, title, fix)
    }

    fn web_identity_denied(&self) -> Failure {
        let Some((token, _)) = self.token else { return Failure::new(Class::Bug, "a web identity without a token", ASK) };
        let (provider, known) = (
            token.provider(),
            |text: &str, otherwise: &str| {
                if text.is_empty() { otherwise.to_string() } else { text.to_string() }
            },
        );
        let subject = known(&token.subject, "SUBJECT");
        let conditions = json!({
            format!("{provider}:sub"): subject,
            format!("{provider}:aud"): known(&token.audience, "sts.amazonaws.com"),
        });
        let trust = json!({
            "Effect": "Allow",
            "Principal": {"Federated": self.provider_arn()},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": conditions},
        });
        Failure::new(
            Class::PermissionDenied,
            format!("the web identity {subject} is not allowed to assume the role {}", self.role),
            format!("check that the role exists; its trust policy in the account {} needs the statement {trust}", self.account()),
        )
    }
}

/// IAM needs 10 to 30 s until a new role and its trust policy are known everywhere \[V\] (terraform-provider-aws#6566), so AAM asks
/// again by itself after [`NEW_ROLE_WAIT`].
fn early(failure: Failure) -> Failure {
    let seconds = NEW_ROLE_WAIT.as_secs();
    let fix =
        format!("{}; a role or policy that is new works after up to 30 s, and AAM asks again after {seconds} s", failure.fix);
    Failure { fix, ..failure }.after(NEW_ROLE_WAIT)
}

/// A refusal is kept for 60 s, so the next question to STS is asked after them.
const NEW_ROLE_WAIT: Duration = Duration::from_secs(61);

/// The principal of a trust policy for the ARN of a caller. A session can be named by its role, which outlives it.
fn principal_of(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "sts", _, account, resource] = parts.as_slice() else { return arn.to_string() };
    match resource.strip_prefix("assumed-role/").and_then(|rest| rest.split('/').next()) {
        Some(role) => format!("arn:{partition}:iam::{account}:role/{role}"),
        None => arn.to_string(),
    }
}

#[cfg(test)]
pub(super) fn listed_codes() -> Vec<&'static str> {
    REFUSALS.iter().map(|text| text.code).collect()
}
