//! The key `signing` of a family file: requests are signed with an access key of AWS, and the key itself is not sent.

use super::address;
use crate::credentials::aws_signer::{AwsService, AwsSigner};
use crate::credentials::{Credential, Signer, access_key};
use crate::model::Failure;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// A service of AWS whose requests are signed. `service`, `region` and `url` may contain parts of the resource id.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedService {
    /// The name of the service in the scope of the signature, for example `organizations`.
    pub service: String,
    pub region: String,
    /// An address of the service; only its origin counts.
    pub url: String,
    /// The beginning of the header `X-Amz-Target` up to its dot. It tells services that have one address apart.
    #[serde(default)]
    pub target: String,
    /// The parameter `Version` of a form, which tells services that have one address apart, too.
    #[serde(default)]
    pub version: String,
}

/// Returns the signer for the access key in `credential`.
///
/// # Errors
/// Returns the errors of `access_key::read`, and `Bug` if a text names a part that the resource does not have.
pub fn signer(
    services: &[SignedService],
    credential: Option<&Credential>,
    parts: &BTreeMap<String, String>,
) -> Result<Signer, Failure> {
    let (keys, _) = access_key::read(credential)?;
    let fill = |text: &str| address::fill(text, parts).map_err(|part| address::unknown_part(&part));
    let mut filled = Vec::new();
    for SignedService { service, region, url, target, version } in services {
        // A server that this resource does not have is not called.
        let Ok(url) = address::fill_address(url, parts) else { continue };
        let origin = Url::parse(&url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let (target, version) = (target.clone(), version.clone());
        filled.push(AwsService { origin, target, version, service: fill(service)?, region: fill(region)? });
    }
    let mut origins: Vec<String> = filled.iter().map(|service| service.origin.clone()).collect();
    origins.sort_unstable();
    origins.dedup();
    Ok(Signer::for_origins(origins, Arc::new(AwsSigner { keys, services: filled })))
}
