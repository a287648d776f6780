//! The responses that a host receives and keeps.

use crate::connectors::lowcode::errors::ResponseView;
use crate::connectors::lowcode::reuse::RequestKey;
use crate::egress::WaitRequest;
use ::lowcode::host::HostResponse;

/// A response that was received, and the request that it belongs to.
#[derive(Debug)]
pub struct KeptResponse {
    /// The stream for which the request was made. The login of a stream has a name of its own.
    pub stream: String,
    pub method: String,
    pub response: HostResponse,
    /// False if only the beginning of the body was kept.
    pub whole: bool,
    /// True if the response belongs to an equal request that was sent before.
    pub reused: bool,
    /// The key under which the response is stored for further requests.
    pub(super) key: Option<RequestKey>,
}

impl KeptResponse {
    /// Returns the parts that classification uses.
    #[must_use]
    pub fn view(&self) -> ResponseView<'_> {
        view(&self.method, &self.response)
    }
}

/// A response as it was received, before the interpreter reads it.
pub struct ReceivedResponse {
    /// As in [`KeptResponse`].
    pub stream: String,
    pub method: String,
    pub response: HostResponse,
    /// What the response asks for, if it is throttled. The host has not stopped the account for it yet.
    pub wait: Option<WaitRequest>,
    pub(super) key: Option<RequestKey>,
}

impl ReceivedResponse {
    /// Returns the parts that classification uses.
    #[must_use]
    pub fn view(&self) -> ResponseView<'_> {
        view(&self.method, &self.response)
    }
}

fn view<'r>(method: &'r str, response: &'r HostResponse) -> ResponseView<'r> {
    let HostResponse { status, headers, body, url } = response;
    ResponseView { method, status: *status, headers, body, url }
}
