//! Calls to AWS STS: AssumeRole, AssumeRoleWithWebIdentity and GetCallerIdentity.
//! Source: AWS Security Token Service API Reference, version 2011-06-15.

use super::refusals::{Refusal, RefusedCall};
use super::web_identity::WebIdentityToken;
use super::{MAX_RESPONSE_BYTES, MintContext, Minted, SourceKeys, credential, valid_for};
use crate::credentials::sigv4::{self, Keys, Scope, Unsigned};
use crate::credentials::{Secret, redact};
use crate::egress::{HttpRequest, HttpResponse, Method, encode_form};
use crate::model::{Allowed, BodyRule, Class, Evidence, Failure, PostRule, Posts, Shape, Timestamp};
use crate::policy::credentials::aws::{StsEndpoint, sts_endpoint};
use crate::providers::Endpoint;
use crate::providers::cache::Fetched;
use data_encoding::HEXLOWER;
use ring::digest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;
use url::Url;

const VERSION: &str = "2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The name of the session if the policy does not write one.
const DEFAULT_SESSION_NAME: &str = "aam";

/// The session policy, without the white space of its file: STS limits the number of its characters.
pub(super) static SESSION_POLICY: LazyLock<String> = LazyLock::new(|| {
    let policy: serde_json::Value = serde_json::from_str(include_str!("session_policy.json")).unwrap_or_default();
    policy.to_string()
});

/// The same with what the Data API of Redshift does for its caller before it reads metadata: it logs in to the database with
/// temporary credentials \[V\] (botocore 1.44.8, redshift-data). The session could ask for these itself, so it is not one that can
/// only read.
pub(super) static REDSHIFT_SESSION_POLICY: LazyLock<String> = LazyLock::new(|| {
    let mut policy: serde_json::Value = serde_json::from_str(&SESSION_POLICY).unwrap_or_default();
    for list in ["/Statement/0/Action", "/Statement/1/NotAction"] {
        if let Some(actions) = policy.pointer_mut(list).and_then(serde_json::Value::as_array_mut) {
            actions.extend(["redshift:GetClusterCredentialsWithIAM", "redshift-serverless:GetCredentials"].map(Into::into));
        }
    }
    policy.to_string()
});

/// Whether a session for `family` may log in to a database of Redshift.
pub fn logs_in_to_redshift(family: &str) -> bool {
    family == "redshift"
}

/// STS as the principal calls it.
pub struct Sts<'a> {
    pub context: &'a MintContext<'a>,
    pub url: Url,
    pub region: String,
}

#[derive(Deserialize)]
struct AssumeRoleResponse {
    #[serde(rename = "AssumeRoleResult", alias = "AssumeRoleWithWebIdentityResult")]
    result: AssumeRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResult {
    credentials: IssuedCredentials,
    assumed_role_user: AssumedRoleUser,
    /// How much of the limit for session policies and session tags together is used, in percent.
    packed_policy_size: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IssuedCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedRoleUser {
    arn: String,
}

#[derive(Deserialize)]
struct CallerIdentityResponse {
    #[serde(rename = "GetCallerIdentityResult")]
    result: CallerIdentity,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CallerIdentity {
    arn: String,
}

impl<'a> Sts<'a> {
    pub fn new(context: &'a MintContext<'a>) -> Result<Sts<'a>, Failure> {
        let StsEndpoint { url, region } = sts_endpoint(context.principal);
        let url = Url::parse(&format!("{url}/")).map_err(|_| context.lacks("a valid sts_url"))?;
        Ok(Sts { context, url, region })
    }

    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Assumes the role with the keys of `source`.
    ///
    /// # Errors
    /// Returns the failure of the call, or what STS refused.
    pub async fn assume(&self, role: &str, source: &SourceKeys) -> Result<Fetched<Minted>, Failure> {
        let mut form = self.form("AssumeRole", role);
        if let Some(id) = self.context.principal.text("external_id") {
            form.push(("ExternalId", Secret::new(id.to_string())));
        }
        let signed_at = self.now();
        match self.call(&form, Some(&source.keys)).await? {
            Ok(response) => self.issued(&response, role, source.evidence.clone()),
            Err(refusal) => {
                // GetCallerIdentity needs no permission, and the owner of the role needs to know who AAM is.
                let caller = if refusal.is_denied() { self.caller(&source.keys).await } else { None };
                let call = RefusedCall { sts: self, role, source: Some(source), token: None, caller, signed_at };
                Err(call.failure(&refusal))
            }
        }
    }

    /// Assumes the role with the token in `file`, which is read now.
    ///
    /// # Errors
    /// Returns the failure of the file or of the call, or what STS refused.
    pub async fn assume_with_web_identity(&self, role: &str, file: &str) -> Result<Fetched<Minted>, Failure> {
        let token = WebIdentityToken::read(file)?;
        let mut form = self.form("AssumeRoleWithWebIdentity", role);
        form.push(("WebIdentityToken", token.token.clone()));
        let signed_at = self.now();
        match self.call(&form, None).await? {
            Ok(response) => {
                let mut evidence = Evidence::new();
                evidence.insert("web_identity".to_string(), token.subject.clone().into());
                self.issued(&response, role, evidence)
            }
            Err(refusal) => {
                let call = RefusedCall { sts: self, role, source: None, token: Some((&token, file)), caller: None, signed_at };
                Err(call.failure(&refusal))
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.context.providers.clock.now()
    }

    fn for_redshift(&self) -> bool {
        logs_in_to_redshift(&self.context.request.family.id)
    }

    fn session_policy(&self) -> &'static str {
        if self.for_redshift() { REDSHIFT_SESSION_POLICY.as_str() } else { SESSION_POLICY.as_str() }
    }

    fn form(&self, action: &str, role: &str) -> Vec<(&'static str, Secret)> {
        let session = self.context.principal.text("session_name").unwrap_or(DEFAULT_SESSION_NAME);
        let pairs = [
            ("Action", action),
            ("Version", VERSION),
            ("RoleArn", role),
            ("RoleSessionName", session),
            ("Policy", self.session_policy()),
        ];
        pairs.into_iter().map(|(name, value)| (name, Secret::new(value.to_string()))).collect()
    }

    /// The credential in the response of STS.
    fn issued(&self, response: &HttpResponse, role: &str, mut evidence: Evidence) -> Result<Fetched<Minted>, Failure> {
        let text = String::from_utf8_lossy(&response.body);
        let Ok(AssumeRoleResponse { result }) = quick_xml::de::from_str::<AssumeRoleResponse>(&text) else {
            return Err(self.foreign(response));
        };
        let IssuedCredentials { access_key_id, secret_access_key, session_token, expiration } = result.credentials;
        let filled = |text: String| Some(text.trim().to_string()).filter(|text| !text.is_empty()).map(Secret::new);
        let (Some(id), Some(secret), Some(token)) = (filled(access_key_id), filled(secret_access_key), filled(session_token))
        else {
            return Err(self.foreign(response));
        };
        let keys = Keys { access_key_id: id, secret_access_key: secret, session_token: Some(token) };
        let credential = credential(&keys, None);
        let (credential, limit) = match self.for_redshift() {
            true => (credential, "allows reading and the login to Redshift only"),
            false => (credential.read_only(), "allows reading only"),
        };
        redact::learn(&credential);
        let valid_for = valid_for(self.context, response, &expiration, &mut evidence)?;
        evidence.insert("role".to_string(), role.into());
        evidence.insert("session".to_string(), redact::scrub_and_cut(&result.assumed_role_user.arn, 300).into());
        evidence.insert("session_policy".to_string(), limit.into());
        if let Some(percent) = result.packed_policy_size {
            evidence.insert("packed_policy_percent".to_string(), percent.into());
        }
        Ok(Fetched { value: Minted { credential, evidence, key_ends_at: None }, valid_for: Some(valid_for) })
    }

    /// Returns the ARN of the identity that the keys belong to, if STS says it.
    async fn caller(&self, keys: &Keys) -> Option<String> {
        let pairs = [("Action", "GetCallerIdentity"), ("Version", VERSION)];
        let form: Vec<_> = pairs.into_iter().map(|(name, value)| (name, Secret::new(value.to_string()))).collect();
        let response = self.call(&form, Some(keys)).await.ok()?.ok()?;
        let text = String::from_utf8_lossy(&response.body);
        let arn = quick_xml::de::from_str::<CallerIdentityResponse>(&text).ok()?.result.arn;
        // The ARN goes into a policy that people paste, so only a plain one is used.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/_+=,.@-".contains(&byte);
        (arn.starts_with("arn:") && arn.len() <= 300 && arn.bytes().all(plain)).then(|| redact::scrub(&arn).into_owned())
    }

    /// Sends a form, signed with `keys` if there are any, and returns the response or what STS refused.
    async fn call(&self, form: &[(&'static str, Secret)], keys: Option<&Keys>) -> Result<Result<HttpResponse, Refusal>, Failure> {
        let body = Secret::new(encode_form(form.iter().map(|(name, value)| (*name, value.expose()))));
        let mut headers = vec![("content-type".to_string(), Secret::new(FORM.to_string()))];
        if let Some(keys) = keys {
            let payload_sha256 = HEXLOWER.encode(digest::digest(&digest::SHA256, body.expose().as_bytes()).as_ref());
            let signed = [("content-type", FORM)];
            let unsigned = Unsigned { method: "POST", url: &self.url, headers: &signed, payload_sha256: &payload_sha256 };
            let scope = Scope { service: "sts", region: &self.region };
            headers.extend(sigv4::sign(unsigned, keys, scope, self.now()));
        }
        let origin = self.url.origin().ascii_serialization();
        let context = self.context;
        context.asked.store(true, std::sync::atomic::Ordering::Relaxed);
        let session = context.providers.session(context.request, Endpoint::Tokens, &origin, self.posts(form));
        let method = Method::ListedPost(Some(body));
        let (url, max_bytes) = (self.url.clone(), MAX_RESPONSE_BYTES);
        let response = session.http(HttpRequest { method, url, headers, max_bytes, follow_redirects: false }).await?;
        if response.status == 200 {
            return Ok(Ok(response));
        }
        match Refusal::read(&response) {
            Some(refusal) if refusal.is_throttled() => Err(session.throttled(THROTTLED_WAIT, &refusal.quoted(self.host()))),
            Some(refusal) => Ok(Err(refusal)),
            None if response.status >= 500 => Err(Failure::new(
                Class::Remote,
                format!("{} failed with HTTP {}", self.host(), response.status),
                "AAM tries again; if this repeats, check the health of AWS STS in this region",
            )),
            None => Err(self.foreign(&response)),
        }
    }

    /// The list of read-only POSTs for one call. It fixes the action and, most importantly, the session policy.
    fn posts(&self, form: &[(&'static str, Secret)]) -> Posts {
        let shape: Shape = form
            .iter()
            .map(|(name, value)| match *name {
                "WebIdentityToken" => ((*name).to_string(), Allowed::Any),
                name => (name.to_string(), Allowed::Is(value.expose().into())),
            })
            .collect();
        let rule = PostRule {
            url: self.url.to_string(),
            why: "issues temporary credentials, or names the caller; changes nothing".to_string(),
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
            body: BodyRule::Form(shape),
            idempotent: true,
        };
        Posts { list: format!("credentials.principals.{}", self.context.name), rules: vec![rule] }
    }

    fn foreign(&self, response: &HttpResponse) -> Failure {
        let title = format!("the response of {} is not one of AWS STS", self.host());
        let fix = match self.context.principal.text("sts_url") {
            Some(_) => format!("correct credentials.principals.{}.sts_url in the policy", self.context.name),
            None => "check that no proxy or portal responds in place of AWS".to_string(),
        };
        Failure::new(Class::WrongService, title, fix).detail(format!("HTTP {}", response.status))
    }
}

/// The wait after STS limits the rate. It does not say how long to wait.
const THROTTLED_WAIT: Duration = Duration::from_secs(10);
