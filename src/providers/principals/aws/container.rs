//! The credentials of a container: of an ECS task or of an EKS pod with Pod Identity.
//!
//! The runtime sets variables that say where they are. They are read at each mint, and so is the file with the authorization
//! token, which the runtime replaces.
//! Source: AWS SDKs and Tools Reference Guide, "Container credential provider".

use super::instance::quoted;
use super::{MetadataCredentials, MintContext, SourceKeys, ask, metadata_session, valid_for};
use crate::credentials::redact;
use crate::egress::metadata::is_metadata_address;
use crate::egress::{HttpResponse, Method};
use crate::model::{Class, Evidence, Failure};
use crate::operator_file;
use std::path::Path;
use url::{Host, Url};

const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";

/// The host of relative URIs.
const DEFAULT_BASE: &str = "http://169.254.170.2";

/// The maximum size of the file with the authorization token in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// Gets the credentials of the container.
pub async fn fetch(context: &MintContext<'_>) -> Result<SourceKeys, Failure> {
    let read = |name: &str| context.providers.env.variable(name);
    let url = endpoint(context.principal.text("metadata_url"), &read)?;
    let token = authorization(&read)?;
    let headers: Vec<(&str, &str)> = token.iter().map(|token| ("authorization", token.as_str())).collect();
    let response = ask(&metadata_session(context, &url), Method::Get, url, &headers).await?;
    if response.status != 200 {
        return Err(refused(&response, token.is_some()));
    }
    let Ok(mut found) = serde_json::from_slice::<MetadataCredentials>(&response.body) else { return Err(foreign(&response)) };
    let (Some(keys), Some(expiration)) = (found.keys(), found.expiration) else { return Err(foreign(&response)) };
    let mut evidence = Evidence::new();
    let valid_for = valid_for(context, &response, &expiration, &mut evidence)?;
    if let Some(role) = found.role_arn {
        evidence.insert("container_role".to_string(), redact::scrub_and_cut(&role, 200).into());
    }
    Ok(SourceKeys {
        keys,
        region: None,
        valid_for: Some(valid_for),
        evidence,
        owner: "the credentials of the container".to_string(),
        renewal: "check the role of the ECS task or of the pod identity association".to_string(),
    })
}

/// Returns the URL that the variables name. `base` replaces the host of relative URIs.
///
/// # Errors
/// Returns `CredentialMissing` if no variable is set, and `Misconfigured` for a URL to which the SDKs of AWS would not send
/// the authorization token either: http is allowed to loopback and to the addresses of ECS and EKS only.
pub(super) fn endpoint(base: Option<&str>, read: &dyn Fn(&str) -> Option<String>) -> Result<Url, Failure> {
    let set = |name: &str| read(name).map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
    let wrong = |name: &str, why: &str| {
        let fix = "remove the variable, or let the container runtime set it: Amazon ECS and EKS Pod Identity do";
        Failure::new(Class::Misconfigured, format!("{name} {why}"), fix)
    };
    if let Some(path) = set(RELATIVE_URI) {
        let whole = format!("{}{path}", base.unwrap_or(DEFAULT_BASE));
        let base = Url::parse(base.unwrap_or(DEFAULT_BASE)).ok();
        // A text such as `@host/` after the base would name another host.
        let url =
            Url::parse(&whole).ok().filter(|url| path.starts_with('/') && base.is_some_and(|base| base.origin() == url.origin()));
        return url.ok_or_else(|| wrong(RELATIVE_URI, "is not a path that begins with /"));
    }
    let Some(text) = set(FULL_URI) else {
        let title = format!("this process has neither {RELATIVE_URI} nor {FULL_URI}");
        let fix = "run AAM in an ECS task with a task role or in a pod with an EKS Pod Identity association; on EC2 write source: \
                   instance, and for a service account with a role annotation write web_identity_token_file and role_arn";
        return Err(Failure::new(Class::CredentialMissing, title, fix));
    };
    let url = Url::parse(&text).map_err(|_| wrong(FULL_URI, "is not a URL"))?;
    let loopback = match url.host() {
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => v6.is_loopback(),
        _ => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback || is_metadata_address(&url) => Ok(url),
        "http" => Err(wrong(FULL_URI, "names a host to which AAM does not send the authorization token over http")),
        _ => Err(wrong(FULL_URI, "is not an http or https URL")),
    }
}

/// Returns the value of the header `Authorization`. The file comes before the variable.
fn authorization(read: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, Failure> {
    let token = match read(TOKEN_FILE).filter(|path| !path.trim().is_empty()) {
        Some(path) => {
            let path = path.trim();
            let text = operator_file::read_text(Path::new(path), MAX_TOKEN_BYTES).map_err(|error| {
                let title = format!("could not read {path}, which {TOKEN_FILE} names");
                let fix = "let the container runtime mount the token: EKS Pod Identity does when the pod starts";
                Failure::new(Class::CredentialMissing, title, fix).detail(error.to_string())
            })?;
            Some(text)
        }
        None => read(TOKEN),
    };
    let Some(token) = token.map(|token| token.trim().to_string()).filter(|token| !token.is_empty()) else { return Ok(None) };
    redact::learn_value(&token);
    if token.contains(['\r', '\n']) {
        let title = "the authorization token of the container has a line break";
        let fix = format!("check the file that {TOKEN_FILE} names: it must contain one token and nothing else");
        return Err(Failure::new(Class::CredentialMissing, title, fix));
    }
    Ok(Some(token))
}

fn refused(response: &HttpResponse, with_token: bool) -> Failure {
    let host = response.url.host_str().unwrap_or_default();
    let failure = match response.status {
        401 | 403 => Failure::new(
            Class::PermissionDenied,
            format!("{host} refuses to give the credentials of the container"),
            if with_token {
                "check the pod identity association of the service account: aws eks list-pod-identity-associations \
                 --cluster-name CLUSTER; its role must trust pods.eks.amazonaws.com for sts:AssumeRole and sts:TagSession"
                    .to_string()
            } else {
                format!(
                    "check the task role of the ECS task; on EKS the runtime also sets {TOKEN_FILE}, which this process does not have"
                )
            },
        ),
        404 => Failure::new(
            Class::CredentialMissing,
            format!("{host} does not know the credentials that {RELATIVE_URI} or {FULL_URI} names"),
            "start AAM anew by its container runtime, which sets the variable at each start; do not copy it from another container",
        ),
        500.. => {
            Failure::new(Class::Remote, format!("{host} failed to give the credentials of the container"), "AAM tries again")
        }
        _ => return foreign(response),
    };
    failure.detail(quoted(response))
}

fn foreign(response: &HttpResponse) -> Failure {
    let title = format!("the response of {} is not the credentials of a container", response.url.host_str().unwrap_or_default());
    let fix = format!("check {RELATIVE_URI} and {FULL_URI} of this process: the container runtime sets one of them");
    Failure::new(Class::WrongService, title, fix).detail(format!("HTTP {}", response.status))
}
