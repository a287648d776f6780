//! The credentials of an EC2 instance, by version 2 of the instance metadata service (IMDSv2).
//!
//! A token is requested by PUT and sent with each GET. Version 1, which needs no token, is never used, because a request
//! that a confused proxy or server makes for someone else would be enough to steal the credentials.
//! Source: Amazon EC2 User Guide, "Use the Instance Metadata Service to access instance metadata" and "Retrieve security
//! credentials from instance metadata".

use super::{MetadataCredentials, MintContext, SourceKeys, ask, metadata_session, valid_for};
use crate::credentials::redact;
use crate::egress::metadata::TOKEN_PATH;
use crate::egress::{HttpResponse, Method, Session};
use crate::model::{Class, Evidence, Failure};
use url::Url;

const DEFAULT_BASE: &str = "http://169.254.169.254";
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// How long the token is valid in seconds. It is used for the two GETs that follow.
const TOKEN_TTL_SECONDS: &str = "60";

/// Gets the credentials of the instance's role.
pub async fn fetch(context: &MintContext<'_>) -> Result<SourceKeys, Failure> {
    let service = Service::new(context)?;
    let token = service.token().await?;
    let listed = service.get(ROLES_PATH, &token).await?;
    let text = String::from_utf8_lossy(&listed.body);
    // AWS sends one role. A name has letters, digits and _+=,.@- only.
    let role = text.lines().next().unwrap_or_default().trim();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if role.is_empty() || role.len() > 128 || !role.bytes().all(is_name) {
        return Err(service.not_metadata(&listed));
    }
    let response = service.get(&format!("{ROLES_PATH}{role}"), &token).await?;
    let Ok(mut found) = serde_json::from_slice::<MetadataCredentials>(&response.body) else {
        return Err(service.not_metadata(&response));
    };
    match found.code.as_deref() {
        Some("Success") => {}
        Some(code) => return Err(no_credentials(role, code, found.message.as_deref())),
        None => return Err(service.not_metadata(&response)),
    }
    let (Some(keys), Some(expiration)) = (found.keys(), found.expiration) else { return Err(service.not_metadata(&response)) };
    let mut evidence = Evidence::new();
    let valid_for = valid_for(context, &response, &expiration, &mut evidence)?;
    evidence.insert("instance_role".to_string(), role.into());
    Ok(SourceKeys {
        keys,
        region: None,
        valid_for: Some(valid_for),
        evidence,
        owner: format!("the credentials of the instance role {role}"),
        renewal: format!("check the role {role} and the instance profile that contains it"),
    })
}

struct Service {
    session: Session,
    base: Url,
}

impl Service {
    fn new(context: &MintContext<'_>) -> Result<Service, Failure> {
        let base = context.principal.text("metadata_url").unwrap_or(DEFAULT_BASE);
        let base = Url::parse(base).map_err(|_| context.lacks("a valid metadata_url"))?;
        Ok(Service { session: metadata_session(context, &base), base })
    }

    fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    async fn token(&self) -> Result<String, Failure> {
        let sent = ask(&self.session, Method::MetadataToken, self.url(TOKEN_PATH), &[(TTL_HEADER, TOKEN_TTL_SECONDS)]).await;
        let response = sent.map_err(|failure| match failure.class {
            Class::Network => self.unreachable(failure),
            _ => failure,
        })?;
        let token = String::from_utf8_lossy(&response.body).trim().to_string();
        let is_token = !token.is_empty() && token.len() <= 1024 && token.bytes().all(|byte| byte.is_ascii_graphic());
        match response.status {
            200 if is_token => {
                redact::learn_value(&token);
                Ok(token)
            }
            200 => Err(self.not_metadata(&response)),
            _ => Err(self.refused(&response, "the token of IMDSv2")),
        }
    }

    async fn get(&self, path: &str, token: &str) -> Result<HttpResponse, Failure> {
        let response = ask(&self.session, Method::Get, self.url(path), &[(TOKEN_HEADER, token)]).await?;
        match response.status {
            200 => Ok(response),
            _ => Err(self.refused(&response, "the credentials of the instance")),
        }
    }

    /// The failure of a token request that got no response. The service sends its response with a hop limit of 1 unless it
    /// is raised, so that it never arrives in a container with a network of its own.
    fn unreachable(&self, failure: Failure) -> Failure {
        let title = format!("the instance metadata service at {} did not answer the request for a token", self.host());
        let fix = "if AAM runs in a container on the instance, raise the hop limit: aws ec2 modify-instance-metadata-options \
                   --instance-id INSTANCE --http-tokens required --http-put-response-hop-limit 2; if this machine is not an EC2 \
                   instance, use keys, web_identity_token_file or source: container";
        let detail = format!("{}. {}", failure.title, failure.detail);
        Failure::new(Class::Network, title, fix).detail(detail.trim_end_matches([' ', '.']).to_string())
    }

    fn refused(&self, response: &HttpResponse, what: &str) -> Failure {
        let at = format!("the instance metadata service at {}", self.host());
        let in_list = response.url.path().starts_with(ROLES_PATH);
        let failure = match response.status {
            403 => Failure::new(
                Class::PermissionDenied,
                format!("{at} refuses to give {what}"),
                "the service is turned off for this instance, or a proxy in between adds X-Forwarded-For: turn it on with aws ec2 \
                 modify-instance-metadata-options --instance-id INSTANCE --http-endpoint enabled --http-tokens required, and call \
                 the service without a proxy",
            ),
            404 if in_list => Failure::new(
                Class::CredentialMissing,
                "this instance does not have a role",
                "attach an instance profile with a role that may only read: aws ec2 associate-iam-instance-profile --instance-id \
                 INSTANCE --iam-instance-profile Name=PROFILE",
            ),
            404 => Failure::new(
                Class::WrongService,
                format!("{at} does not have IMDSv2"),
                "AAM does not use version 1, which needs no token; on EC2 version 2 always exists, so check what answers at this \
                 address",
            ),
            401 => Failure::new(
                Class::Remote,
                format!("{at} does not accept the token that it gave a moment ago"),
                "AAM tries again; if this repeats, several services answer at this address",
            ),
            400 => Failure::new(
                Class::WrongService,
                format!("{at} does not accept the request for {what}"),
                "check what answers at this address: the instance metadata service of EC2 accepts this request",
            ),
            500.. => Failure::new(Class::Remote, format!("{at} failed"), "AAM tries again"),
            _ => return self.not_metadata(response),
        };
        failure.detail(quoted(response))
    }

    fn not_metadata(&self, response: &HttpResponse) -> Failure {
        let title = format!("the response of {} is not one of an instance metadata service", self.host());
        let fix = "correct metadata_url in the policy, or remove it on an EC2 instance";
        Failure::new(Class::WrongService, title, fix).detail(format!("HTTP {}", response.status))
    }
}

/// The failure for an instance profile whose role EC2 cannot use.
fn no_credentials(role: &str, code: &str, message: Option<&str>) -> Failure {
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    let said = redact::scrub_and_cut(&format!("{code}: {}", message.unwrap_or_default()), 300);
    let title = format!("EC2 has no credentials for the role {role} of this instance");
    Failure::new(Class::PermissionDenied, title, format!("the trust policy of the role must let EC2 assume it: {trust}"))
        .detail(format!("the metadata service said: \"{said}\""))
}

/// The status and the beginning of a refusal. It never quotes a body that may hold credentials.
pub(super) fn quoted(response: &HttpResponse) -> String {
    let said = redact::scrub_and_cut(&String::from_utf8_lossy(&response.body), 200);
    let quote = if said.is_empty() { String::new() } else { format!(", and the service said: \"{said}\"") };
    format!("HTTP {}{quote}", response.status)
}
