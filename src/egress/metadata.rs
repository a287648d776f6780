//! The metadata services of clouds, which give the credentials of the machine or container to every process that can call
//! them. The guard refuses their addresses. A session of the provider that needs one may call it, and only it.

use super::{HttpRequest, Session, guard};
use crate::model::{Class, Failure};
use crate::policy::{Network, Policy};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use url::{Host, Url};

/// The link-local addresses that a session may be given: the instance metadata service (Amazon EC2 User Guide, "Use the
/// Instance Metadata Service"), the credentials of ECS tasks (Amazon ECS Developer Guide, "Task IAM role"), and those of
/// the EKS Pod Identity Agent (Amazon EKS User Guide, "Learn how EKS Pod Identity grants pods access").
const ADDRESSES: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x23)),
];

/// The path of the only PUT that AAM sends. It returns a token that the GETs of IMDSv2 need, and changes nothing.
pub const TOKEN_PATH: &str = "/latest/api/token";

/// The metadata service that a session may call.
#[derive(Clone, Debug)]
pub(super) struct MetadataService {
    base: Url,
}

/// Returns whether the host of `url` is literally an address of a metadata service.
#[must_use]
pub fn is_metadata_address(url: &Url) -> bool {
    host_address(url).is_some_and(|address| ADDRESSES.contains(&address))
}

fn host_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(v4) => Some(IpAddr::V4(v4)),
        Host::Ipv6(v6) => Some(IpAddr::V6(v6)),
        Host::Domain(_) => None,
    }
}

impl Session {
    /// Lets this session call the metadata service at `base`, also if its host is literally one of the link-local addresses
    /// of a metadata service, and send the one PUT of IMDSv2 to it. No call of this session goes through the proxy, which is
    /// another machine with other credentials.
    ///
    /// Only the provider of AWS credentials may use this; `tests/tidy.rs` checks it.
    #[must_use]
    pub fn with_metadata_service(mut self, base: &Url) -> Session {
        let mut network = Network { proxy: None, ..self.caller.policy.network.clone() };
        if let Some(address) = host_address(base).filter(|address| ADDRESSES.contains(address)) {
            network.allow_private.push(IpNet::from(address));
        }
        self.caller.policy = Arc::new(Policy { network, ..Policy::clone(&self.caller.policy) });
        self.metadata = Some(MetadataService { base: base.clone() });
        self
    }

    /// Checks that `url` belongs to the metadata service of this session, if it has one: no other host may be called.
    ///
    /// # Errors
    /// Returns `EgressRefused`.
    pub(super) fn check_metadata(&self, url: &Url) -> Result<(), Failure> {
        match &self.metadata {
            Some(service) if service.base.origin() != url.origin() => Err(refused(url, "is not the metadata service")),
            _ => guard::check_url(url, &self.caller.policy.network.allow_private),
        }
    }

    /// Checks that the PUT is the one that requests a token of IMDSv2.
    ///
    /// # Errors
    /// Returns `EgressRefused`.
    pub(super) fn check_put(&self, request: &HttpRequest) -> Result<(), Failure> {
        let url = &request.url;
        let is_token = |service: &MetadataService| {
            service.base.origin() == url.origin() && url.path() == TOKEN_PATH && url.query().is_none()
        };
        match &self.metadata {
            Some(service) if is_token(service) => Ok(()),
            _ => Err(refused(url, "does not take a PUT from this session")),
        }
    }
}

fn refused(url: &Url, why: &str) -> Failure {
    let host = url.host_str().unwrap_or_default();
    Failure::new(Class::EgressRefused, format!("Not called: {host} {why}"), "report this as a defect of AAM")
}
