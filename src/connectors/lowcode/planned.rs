//! The calls that an attempt may make, as far as they are known without a credential.

use super::binding::{Authorization, Binding, ParsedResource, with_base_url, with_text};
use super::calls::{self, GeneratedStreams, OfflineHost, Reading};
use super::family_spec::Identity;
use crate::clock::Clock;
use crate::egress::PlannedCall;
use ::lowcode::bounds::Bounds;
use std::sync::Arc;

impl ParsedResource {
    /// Returns every call that an attempt may make. A value that comes from the credential or from a response is written
    /// as `{name}`.
    #[must_use]
    pub fn planned_calls(&self, clock: &Arc<dyn Clock>) -> Vec<PlannedCall> {
        let (mut calls, listed) = self.planned(clock);
        calls.extend(listed);
        let mut unique: Vec<PlannedCall> = Vec::new();
        for call in calls {
            if !unique.contains(&call) {
                unique.push(call);
            }
        }
        unique
    }

    /// Returns the POSTs of the manifest, and those that are listed.
    #[must_use]
    pub fn planned_posts(&self, clock: &Arc<dyn Clock>) -> (Vec<PlannedCall>, Vec<PlannedCall>) {
        let (calls, listed) = self.planned(clock);
        (calls.into_iter().filter(|call| call.method == "POST").collect(), listed)
    }

    /// Returns the calls of the manifest, and the POSTs that are listed.
    fn planned(&self, clock: &Arc<dyn Clock>) -> (Vec<PlannedCall>, Vec<PlannedCall>) {
        let Ok(binding) = self.bind(Authorization::Unknown, clock) else { return Default::default() };
        let (host, bounds) = (OfflineHost(Arc::clone(clock)), Bounds::default());
        let base_urls = match self {
            ParsedResource::Family(resource) => resource.method_base_urls(),
            ParsedResource::Custom(_) => Vec::new(),
        };
        let mut configs = vec![binding.config.clone()];
        configs.extend(base_urls.into_iter().map(|base_url| with_base_url(&binding.config, &base_url)));
        if let ParsedResource::Family(resource) = self {
            configs.extend(resource.methods().iter().map(|method| with_text(&binding.config, "auth", &method.name)));
        }
        let asks_grants = match self {
            ParsedResource::Family(resource) => {
                let rules = binding.privilege;
                resource.methods().iter().any(|method| rules.is_some_and(|rules| rules.asks_sources(&method.name)))
            }
            ParsedResource::Custom(_) => false,
        };
        let called = |stream: &str| binding.calls_stream(stream, asks_grants);
        let generated = match (binding.streams.is_empty() || binding.generated.is_some(), binding.dynamic) {
            (true, _) => GeneratedStreams::Read,
            (false, true) => GeneratedStreams::Described,
            (false, false) => GeneratedStreams::None,
        };
        let planned = configs.iter().flat_map(|config| {
            let reading = Reading { manifest: &binding.manifest.root, config, host: &host, bounds: &bounds };
            reading.planned(&called, generated)
        });
        let listed = binding.posts.rules.iter().filter_map(|rule| calls::planned("POST", &rule.url)).collect();
        (planned.collect(), listed)
    }
}

impl Binding {
    /// Returns true if an attempt may read the stream `name`. `asks_grants` is true if it asks for the grants of the credential.
    fn calls_stream(&self, name: &str, asks_grants: bool) -> bool {
        let claimed = self.identity.iter().filter_map(|rule| Some(&rule.claim.as_ref()?.stream));
        let described = self.schemas.iter().map(|schema| &schema.from);
        let identity = self.identity.iter().flat_map(Identity::stream_names).chain(claimed).chain(described);
        let rules = self.privilege.iter().filter(|_| asks_grants);
        let grants = rules.flat_map(|rules| rules.all_sources()).map(|source| &source.stream);
        self.streams.is_empty() || identity.chain(grants).chain(&self.streams).chain(&self.health).any(|stream| stream == name)
    }
}
