//! The kind `aws`: access keys of an IAM user, of a container or of an instance, and roles that are assumed with them or with
//! a web identity.
//!
//! A role is always assumed with the session policy of `session_policy.json`, so that the credential can only read, even if
//! the role may write (IAM User Guide, "Session policies"). Its `Deny` is needed because a resource policy that names the
//! session itself would otherwise grant more than the session policy allows.

mod container;
mod instance;
mod refusals;
mod sts;
#[cfg(test)]
mod tests;
mod web_identity;

use super::{MintContext, Minted};
use crate::credentials::sigv4::Keys;
use crate::credentials::{Credential, Secret, access_key, redact};
use crate::egress::{HttpRequest, HttpResponse, Method, Session};
use crate::model::{Class, Evidence, Failure, Posts, Timestamp};
use crate::providers::Endpoint;
use crate::providers::cache::Fetched;
use serde::Deserialize;
use std::time::Duration;
use sts::Sts;
pub use sts::logs_in_to_redshift;
use url::Url;

/// The maximum size of a response of STS or of a metadata service in bytes.
const MAX_RESPONSE_BYTES: u64 = 256 << 10;

/// A difference of two clocks that the evidence mentions. AWS refuses signatures that are 15 minutes off.
const NOTABLE_SKEW: Duration = Duration::from_secs(60);

/// An access key with what is known about it.
struct SourceKeys {
    keys: Keys,
    /// The region that is stored with static keys.
    region: Option<String>,
    /// `None` for static keys, which have no end.
    valid_for: Option<Duration>,
    evidence: Evidence,
    /// Whose keys they are, for messages.
    owner: String,
    /// What a person does if AWS does not accept them.
    renewal: String,
}

/// Mints a credential of the principal.
///
/// # Errors
/// Returns the failure of the locator, of the metadata service or of STS.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let principal = context.principal;
    if let Some(file) = principal.text("web_identity_token_file") {
        let role = context.text("role_arn")?;
        return Sts::new(context)?.assume_with_web_identity(role, file).await;
    }
    let source = match principal.text("source") {
        Some("container") => container::fetch(context).await?,
        Some(_) => instance::fetch(context).await?,
        None => stored(context).await?,
    };
    match principal.text("role_arn") {
        Some(role) => Sts::new(context)?.assume(role, &source).await,
        None => Ok(source.fetched()),
    }
}

/// Reads the static keys of the principal.
async fn stored(context: &MintContext<'_>) -> Result<SourceKeys, Failure> {
    let credential = context.secret("keys").await?;
    let place = context.principal.locator("keys").map(ToString::to_string).unwrap_or_default();
    let fix = format!(
        r#"store {{"access_key_id":"...","secret_access_key":"..."}} at {place}, which credentials.principals.{}.keys names; session_token and region may be added"#,
        context.name
    );
    let read = access_key::read(Some(&credential));
    let (keys, region) = read.map_err(|failure| Failure { title: format!("{place}: {}", failure.title), fix, ..failure })?;
    Ok(SourceKeys {
        keys,
        region,
        valid_for: None,
        evidence: Evidence::from_iter([("keys".to_string(), place.clone().into())]),
        owner: format!("the access key of {place}"),
        renewal: format!("create an access key for the IAM user and store it at {place}"),
    })
}

impl SourceKeys {
    fn fetched(self) -> Fetched<Minted> {
        let region = self.region.map(Secret::new);
        let credential = credential(&self.keys, region);
        Fetched { value: Minted { credential, evidence: self.evidence, key_ends_at: None }, valid_for: self.valid_for }
    }
}

/// The credential in the form that the engines read.
fn credential(keys: &Keys, region: Option<Secret>) -> Credential {
    let mut fields = vec![
        ("access_key_id".to_string(), keys.access_key_id.clone()),
        ("secret_access_key".to_string(), keys.secret_access_key.clone()),
    ];
    fields.extend(keys.session_token.clone().map(|token| ("session_token".to_string(), token)));
    fields.extend(region.map(|region| ("region".to_string(), region)));
    Credential::from_fields(fields)
}

/// The credentials in the response of a metadata service.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetadataCredentials {
    /// `Success`, or why there are no credentials. Only the instance metadata service sends it.
    code: Option<String>,
    message: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
    role_arn: Option<String>,
}

impl MetadataCredentials {
    /// Returns the keys, and teaches them to the redactor.
    fn keys(&mut self) -> Option<Keys> {
        let secret = |value: &mut Option<String>| value.take().filter(|text| !text.trim().is_empty()).map(Secret::new);
        let keys = Keys {
            access_key_id: secret(&mut self.access_key_id)?,
            secret_access_key: secret(&mut self.secret_access_key)?,
            session_token: Some(secret(&mut self.token)?),
        };
        redact::learn(&credential(&keys, None));
        Some(keys)
    }
}

/// A session for the metadata service at `base`, which may be at a link-local address.
fn metadata_session(context: &MintContext<'_>, base: &Url) -> Session {
    let origin = base.origin().ascii_serialization();
    context.providers.session(context.request, Endpoint::Tokens, &origin, Posts::default()).with_metadata_service(base)
}

/// Sends one request to a metadata service. Redirects are not followed, because the credentials come from nowhere else.
async fn ask(session: &Session, method: Method, url: Url, headers: &[(&str, &str)]) -> Result<HttpResponse, Failure> {
    let headers = headers.iter().map(|(name, value)| ((*name).to_string(), Secret::new((*value).to_string()))).collect();
    let request = HttpRequest { method, url, headers, max_bytes: MAX_RESPONSE_BYTES, follow_redirects: false };
    session.http(request).await
}

/// How long a credential that ends at `expiration` may be used after `response`, by the clock of the server that issued it.
/// If that clock differs from the clock of this machine, the evidence says so.
fn valid_for(
    context: &MintContext<'_>,
    response: &HttpResponse,
    expiration: &str,
    evidence: &mut Evidence,
) -> Result<Duration, Failure> {
    let host = response.url.host_str().unwrap_or_default();
    let now = context.providers.clock.now();
    let theirs = response.header("date").and_then(Timestamp::from_http_date);
    let Ok(end) = Timestamp::parse(expiration.trim()) else {
        return Err(Failure::new(
            Class::Remote,
            format!("{host} issued credentials without a valid end"),
            "AAM tries again; if this repeats, ask the operator of the endpoint: Expiration must be an RFC 3339 time",
        ));
    };
    if let Some(theirs) = theirs.filter(|theirs| theirs.since(now).max(now.since(*theirs)) > NOTABLE_SKEW) {
        let skew = format!("this machine's clock is {} that of {host}", now.distance_from(theirs));
        evidence.insert("clock".to_string(), skew.into());
    }
    let remaining = end.since(theirs.unwrap_or(now));
    if remaining.is_zero() {
        let (title, fix) = match theirs {
            Some(_) => (
                format!("{host} issued credentials that ended at {end}"),
                "AAM tries again; if this repeats, check the clock of the host that issues them".to_string(),
            ),
            None => (
                format!("the credentials of {host} ended at {end}, and this machine's clock says {now}"),
                "check this machine's clock, for example: timedatectl set-ntp true".to_string(),
            ),
        };
        return Err(Failure::new(Class::Remote, title, fix));
    }
    Ok(remaining)
}
