//! How requests are signed with AWS Signature Version 4.

use crate::pattern::Pattern;
use crate::template::Template;
use crate::yaml::{Node, Problems};

/// The services of the vendor that verify signatures. The first one that a request fits is the one that it was sent to.
pub struct SignatureRule {
    pub services: Vec<SignedService>,
}

/// One service of AWS.
pub struct SignedService {
    /// The name in the scope of the signature.
    pub service: String,
    /// May use what `host` captures.
    pub region: Template,
    pub host: Pattern,
    /// The part of `X-Amz-Target` before its dot; `None` for a service whose requests do not have this header.
    pub target: Option<String>,
    /// The parameter `Version` of a form; `None` if it does not matter.
    pub version: Option<String>,
}

impl SignatureRule {
    pub fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<SignatureRule> {
        let mut fields = node.fields(problems)?;
        let mut services = Vec::new();
        for node in fields.required("services", problems).map(|node| node.list(problems)).unwrap_or_default() {
            let Some(mut fields) = node.fields(problems) else { continue };
            let service = fields.required("service", problems).and_then(|node| node.text(problems));
            let region = fields.required("region", problems).map(|node| Template::new(&node, problems));
            let host = fields.required("host", problems).and_then(|node| {
                let text = node.text(problems)?;
                Pattern::host(&text).map_err(|error| problems.add(&node.pointer, error)).ok()
            });
            let target = fields.text("target", problems);
            let version = fields.text("version", problems);
            fields.finish(problems);
            if let (Some(service), Some(region), Some(host)) = (service, region, host) {
                services.push(SignedService { service, region, host, target, version });
            }
        }
        fields.finish(problems);
        Some(SignatureRule { services })
    }
}
