//! Derives the bucket and its endpoint from a resource id and the policy. Pure.

use crate::credentials::redact;
use crate::model::text::is_region;
use crate::model::{Class, Failure};
use crate::policy::FamilyPolicy;
use url::Url;

/// The region that is used until the store names another. Every store accepts it.
pub const DEFAULT_REGION: &str = "us-east-1";

/// The placeholder in a URL for a region that is not known yet.
pub const UNKNOWN_REGION: &str = "region-that-the-store-names";

/// The family of object storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// `s3`: Amazon's own service.
    Aws,
    /// `s3_compat`: MinIO, Ceph, R2, Wasabi and other stores at their own endpoints.
    Compatible,
}

impl Flavor {
    /// The family's id in the policy.
    #[must_use]
    pub fn family(self) -> &'static str {
        match self {
            Flavor::Aws => "s3",
            Flavor::Compatible => "s3_compat",
        }
    }
}

/// A bucket and its endpoint. The region comes from the policy or the credential, or is discovered later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectLocation {
    pub flavor: Flavor,
    pub bucket: String,
    /// The folder that the resource id names, ending in `/`; empty if it names the whole bucket.
    pub prefix: String,
    pub region: String,
    /// Whether the region is only the default, because neither the policy nor the credential names one.
    pub guessed: bool,
    /// The endpoint as it is written in the policy or the resource id, with `{bucket}` and `{region}`.
    /// Absent if the store is Amazon's.
    endpoint: Option<String>,
    /// The partition in the bucket's ARN, for the IAM policy that a fix contains.
    partition: &'static str,
}

/// Parses a resource id. The region of the policy takes precedence over that of the credential.
///
/// # Errors
/// `Misconfigured` if it does not name a bucket; `Unsupported` for access points and directory buckets.
pub fn place(
    flavor: Flavor,
    resource_id: &str,
    policy: &FamilyPolicy,
    credential_region: Option<&str>,
) -> Result<ObjectLocation, Failure> {
    let base = policy.base_url.as_deref();
    let (endpoint, partition, rest) = split(flavor, resource_id.trim(), base)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest.as_str(), ""));
    if let Some(wildcard) = rest.chars().find(|c| matches!(c, '*' | '?')) {
        let what = format!("{} contains {wildcard}, and wildcards are not expanded", quoted(&rest));
        return Err(unusable(flavor, &what));
    }
    bucket_name(flavor, bucket)?;
    if prefix.chars().any(char::is_control) || prefix.len() > 1024 {
        return Err(unusable(flavor, "the prefix contains control characters or is longer than 1024 bytes, the limit for keys"));
    }
    let written = policy.region.as_deref().or(credential_region);
    if written.is_some_and(|region| !is_region(region)) {
        return Err(inis_region(flavor));
    }
    let default = match partition {
        "aws-cn" => "cn-north-1",
        "aws-us-gov" => "us-gov-west-1",
        _ => DEFAULT_REGION,
    };
    let place = ObjectLocation {
        flavor,
        bucket: bucket.to_string(),
        prefix: folder(prefix),
        region: written.unwrap_or(default).to_string(),
        guessed: written.is_none(),
        endpoint,
        partition,
    };
    place.url().map(|_| place)
}

/// The beginning of a resource id, for messages.
fn quoted(text: &str) -> String {
    format!("{:?}", redact::scrub_and_cut(text, 80))
}

/// Adds the final `/` to a prefix. A resource id names a folder, so `logs` must not include `logs-old`.
fn folder(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with('/') { prefix.to_string() } else { format!("{prefix}/") }
}

type Split = (Option<String>, &'static str, String);

/// Splits a resource id into endpoint, partition and `bucket[/prefix]`.
fn split(flavor: Flavor, id: &str, base: Option<&str>) -> Result<Split, Failure> {
    let partition = if id.starts_with("arn:") { arn_partition(flavor, id)? } else { "aws" };
    if id.starts_with("https://") || id.starts_with("http://") {
        return url_form(flavor, id, base).map(|(endpoint, rest)| (Some(endpoint), partition, rest));
    }
    let rest = match id.split_once(":::") {
        Some((_, rest)) if id.starts_with("arn:") => rest,
        _ => id.strip_prefix("s3://").unwrap_or(id),
    };
    match (flavor, base) {
        (_, Some(base)) => Ok((Some(base.trim_end_matches('/').to_string()), partition, rest.to_string())),
        (Flavor::Aws, None) => Ok((None, partition, rest.to_string())),
        (Flavor::Compatible, None) => Err(unusable(flavor, "neither the resource id nor the policy names an endpoint")),
    }
}

fn arn_partition(flavor: Flavor, id: &str) -> Result<&'static str, Failure> {
    let mut parts = id.splitn(6, ':').skip(1);
    let (partition, service, region, account) = (parts.next(), parts.next(), parts.next(), parts.next());
    if service != Some("s3") || region != Some("") || account != Some("") {
        return Err(Failure::new(
            Class::Unsupported,
            format!("this ARN does not name a bucket: {id}"),
            "access points, outposts and other services are not supported; write arn:aws:s3:::BUCKET or the bucket's name",
        ));
    }
    match partition {
        Some("aws") => Ok("aws"),
        Some("aws-cn") => Ok("aws-cn"),
        Some("aws-us-gov") => Ok("aws-us-gov"),
        _ => Err(unusable(flavor, "the partition of the ARN is not aws, aws-cn or aws-us-gov")),
    }
}

/// Parses `https://endpoint/bucket[/prefix]`. If an endpoint has a path, it must be the `base_url` of the policy.
fn url_form(flavor: Flavor, id: &str, base: Option<&str>) -> Result<(String, String), Failure> {
    if flavor == Flavor::Aws {
        return Err(unusable(
            flavor,
            "a URL is not a bucket name; an endpoint other than Amazon's belongs in the policy, or use s3_compat",
        ));
    }
    // The failure does not repeat the text, because it may contain a password.
    let url = Url::parse(id).map_err(|error| unusable(flavor, &format!("the resource id is not a URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(unusable(
            flavor,
            "the URL contains a user, a query or a fragment; store the access key where credential_locator points",
        ));
    }
    let plain = percent_encoding::percent_decode_str(url.path()).decode_utf8();
    let path = plain.map_err(|_| unusable(flavor, "the path of the URL is not UTF-8"))?;
    let origin = url.origin().ascii_serialization();
    if let Some(rest) = base.and_then(|base| id.strip_prefix(base.trim_end_matches('/'))).and_then(|rest| rest.strip_prefix('/'))
    {
        let rest = percent_encoding::percent_decode_str(rest).decode_utf8_lossy().into_owned();
        return Ok((base.unwrap_or_default().trim_end_matches('/').to_string(), rest));
    }
    Ok((origin, path.trim_start_matches('/').to_string()))
}

impl ObjectLocation {
    /// The URL of the bucket, without a query.
    ///
    /// # Errors
    /// `Misconfigured` if the endpoint is not an http or https URL.
    pub fn url(&self) -> Result<Url, Failure> {
        let text = match &self.endpoint {
            Some(endpoint) if endpoint.contains("{bucket}") => {
                format!("{}/", endpoint.replace("{bucket}", &self.bucket).replace("{region}", &self.region))
            }
            Some(endpoint) => format!("{}/{}", endpoint.replace("{region}", &self.region), self.bucket),
            None if self.path_style() => format!("https://{}/{}", self.amazon(), self.bucket),
            None => format!("https://{}.{}/", self.bucket, self.amazon()),
        };
        let url =
            Url::parse(&text).map_err(|error| unusable(self.flavor, &format!("the endpoint is not a valid URL: {error}")))?;
        let clean = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        if matches!(url.scheme(), "https" | "http") && url.has_host() && clean {
            Ok(url)
        } else {
            Err(unusable(self.flavor, "the endpoint is not an http or https URL, or contains a user, a query or a fragment"))
        }
    }

    fn amazon(&self) -> String {
        let suffix = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("s3.{}.{suffix}", self.region)
    }

    /// Whether the bucket is in the path of the URL instead of the host. A name with dots must be in the path, because the
    /// wildcard of the certificate covers only one label.
    #[must_use]
    pub fn path_style(&self) -> bool {
        match &self.endpoint {
            Some(endpoint) => !endpoint.contains("{bucket}"),
            None => self.bucket.contains('.'),
        }
    }

    /// The same bucket with the region of the credential, unless the policy names a region, which takes precedence.
    ///
    /// # Errors
    /// `Misconfigured` if `region` is not a region name.
    pub fn with_credential_region(self, region: Option<&str>) -> Result<ObjectLocation, Failure> {
        let Some(region) = region.filter(|_| self.guessed) else { return Ok(self) };
        if !is_region(region) {
            return Err(inis_region(self.flavor));
        }
        let place = ObjectLocation { region: region.to_string(), guessed: false, ..self };
        place.url().map(|_| place)
    }

    /// Returns the same bucket in another region, or `None` if `region` is not a region name or is the current one.
    /// The name comes from the store and becomes a part of a host name, so it is checked.
    #[must_use]
    pub fn moved(&self, region: &str) -> Option<ObjectLocation> {
        let other = is_region(region) && region != self.region;
        other.then(|| ObjectLocation { region: region.to_string(), ..self.clone() })
    }

    /// The same bucket with a placeholder for a region that only the store can name. A plan shows this.
    #[must_use]
    pub fn in_unknown_region(&self) -> ObjectLocation {
        ObjectLocation { region: UNKNOWN_REGION.to_string(), ..self.clone() }
    }

    /// The host, with the port if it is not the default of the scheme.
    #[must_use]
    pub fn host(&self) -> String {
        self.url().map(|url| host_of(&url)).unwrap_or_default()
    }

    /// Whether the region is part of the host name. If so, another region means another host.
    #[must_use]
    pub fn host_follows_region(&self) -> bool {
        self.endpoint.as_ref().is_none_or(|endpoint| endpoint.contains("{region}"))
    }

    /// Whether the resource id chose the endpoint, and not Amazon or `base_url` of the policy.
    #[must_use]
    pub fn is_chosen_by_intent(&self, base_url: Option<&str>) -> bool {
        let reviewed = base_url.map(|text| text.trim_end_matches('/'));
        self.endpoint.as_deref().is_some_and(|endpoint| Some(endpoint) != reviewed)
    }

    /// The bucket's ARN.
    #[must_use]
    pub fn arn(&self) -> String {
        let partition = match self.region.get(..3) {
            Some("cn-") => "aws-cn",
            Some("us-") if self.region.starts_with("us-gov-") => "aws-us-gov",
            _ => self.partition,
        };
        format!("arn:{partition}:s3:::{}", self.bucket)
    }

    /// A resource id for `folder` in this bucket, in the form of the family; the bucket itself if `folder` is empty.
    #[must_use]
    pub fn resource_id(&self, folder: &str) -> String {
        let start = match (self.flavor, &self.endpoint) {
            (Flavor::Compatible, Some(endpoint)) if !endpoint.contains('{') => format!("{endpoint}/{}", self.bucket),
            (Flavor::Compatible, _) => self.bucket.clone(),
            (Flavor::Aws, _) => format!("s3://{}", self.bucket),
        };
        if folder.is_empty() { start } else { format!("{start}/{folder}") }
    }

    /// The bucket or `bucket/prefix`, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        if self.prefix.is_empty() { self.bucket.clone() } else { format!("{}/{}", self.bucket, self.prefix) }
    }
}

/// The host of `url`, with the port if it is not the default of the scheme.
#[must_use]
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_string(), |port| format!("{host}:{port}"))
}

fn inis_region(flavor: Flavor) -> Failure {
    unusable(flavor, "the region is not a region name such as eu-central-1")
}

/// Checks Amazon's naming rules for `s3`. Other stores allow more names, but every name must stay a single part of the URL.
/// Source: AWS, "General purpose bucket naming rules".
fn bucket_name(flavor: Flavor, name: &str) -> Result<(), Failure> {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !edge(bytes.first()) || !edge(bytes.last()) || name.contains("..") {
        return Err(unusable(
            flavor,
            &format!(
                "{name:?} is not a bucket name: it must begin and end with a letter or digit and must not contain two dots in a row"
            ),
        ));
    }
    let (least, most) = if flavor == Flavor::Aws { (3, 63) } else { (1, 255) };
    if bytes.len() < least || bytes.len() > most {
        return Err(unusable(flavor, &format!("{name:?} is not a bucket name: it must have {least} to {most} characters")));
    }
    let fits = |byte: u8| match flavor {
        Flavor::Aws => byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'),
        Flavor::Compatible => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'),
    };
    if !bytes.iter().copied().all(fits) {
        return Err(unusable(
            flavor,
            &format!("{name:?} is not a bucket name: only lower-case letters, digits, dots and hyphens are allowed"),
        ));
    }
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(unusable(flavor, &format!("{name:?} is an IP address, not a bucket name")));
    }
    if flavor == Flavor::Aws && ["--x-s3", "--ol-s3", "--table-s3", ".mrap"].iter().any(|end| name.ends_with(end)) {
        return Err(Failure::new(
            Class::Unsupported,
            format!("{name} is a directory bucket, table bucket or access point, which uses another protocol"),
            "name a general purpose bucket",
        ));
    }
    Ok(())
}

fn unusable(flavor: Flavor, what: &str) -> Failure {
    let fix = match flavor {
        Flavor::Aws => {
            "write resource_ids as BUCKET, s3://BUCKET/PREFIX or arn:aws:s3:::BUCKET; the policy's families.s3 takes base_url and region"
        }
        Flavor::Compatible => {
            "write resource_ids as https://ENDPOINT/BUCKET or https://ENDPOINT/BUCKET/PREFIX, or BUCKET with families.s3_compat.base_url in the policy"
        }
    };
    Failure::new(Class::NotMappable, what.to_string(), fix)
}

#[cfg(test)]
mod tests;
