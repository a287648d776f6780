//! What the policy says about one service, and how to say more.

use super::address::DescriptionLocation;
use crate::policy::{FamilyPolicy, ServiceAuth};
use url::Url;

/// The settings of one service: those of the first entry of `families.openapi.services` that matches it, completed by
/// those of the family.
#[derive(Clone, Debug, Default)]
pub struct ServiceSettings {
    /// The base URL of all calls. It replaces the `servers` of the description.
    pub base_url: Option<Url>,
    /// Another URL whose origin the `servers` of the description may name: the `base_url` of the whole family.
    pub allowed_url: Option<Url>,
    pub health_path: Option<String>,
    /// Patterns of the operations that are never called.
    pub deny: Vec<String>,
    /// How the credential is sent. It replaces what the description says.
    pub auth: Option<ServiceAuth>,
    /// The `match` of the entry that applies.
    pub(super) entry: Option<String>,
    /// Whether the policy has entries of other services.
    pub(super) has_entries: bool,
    /// The resource id.
    pub(super) url: String,
}

impl ServiceSettings {
    /// Finds the settings of the service at `location`. An entry may match the resource id or any URL at which its
    /// description can be.
    #[must_use]
    pub fn resolve(policy: &FamilyPolicy, location: &DescriptionLocation) -> ServiceSettings {
        let urls = || std::iter::once(&location.url).chain(&location.candidates);
        let entry = policy.services.iter().find(|service| urls().any(|url| service.matches(url)));
        let parse = |text: &Option<String>| text.as_ref().and_then(|text| Url::parse(text).ok());
        let mut deny = policy.deny_operations.clone();
        deny.extend(entry.into_iter().flat_map(|entry| entry.deny_operations.iter().cloned()));
        ServiceSettings {
            base_url: entry.and_then(|entry| parse(&entry.base_url)),
            allowed_url: parse(&policy.base_url),
            health_path: entry.and_then(|entry| entry.health_path.clone()).or_else(|| policy.health_path.clone()),
            deny,
            auth: entry.and_then(|entry| entry.auth.clone()),
            entry: entry.map(|entry| entry.pattern.clone()),
            has_entries: !policy.services.is_empty(),
            url: location.url.to_string(),
        }
    }

    /// What to write into the policy so that `setting`, for example `health_path: /v1/status`, applies to this service and
    /// to no other. The first entry that matches applies, so an existing one has to be changed.
    #[must_use]
    pub fn fix(&self, setting: &str) -> String {
        let new = format!("{{match: {}, {setting}}}", quoted(&self.url));
        match &self.entry {
            Some(pattern) => {
                format!("set {setting} in the policy's entry of families.openapi.services with match: {}", quoted(pattern))
            }
            None if self.has_entries => format!("add to families.openapi.services in the policy: {new}"),
            None => format!("write into the policy: families: {{openapi: {{services: [{new}]}}}}"),
        }
    }
}

/// `text` as a YAML scalar in double quotes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ServicePolicy;

    fn entry(pattern: &str, path: &str) -> ServicePolicy {
        ServicePolicy {
            pattern: pattern.into(),
            health_path: Some(path.into()),
            deny_operations: vec![path.into()],
            ..ServicePolicy::default()
        }
    }

    fn resolve(policy: &FamilyPolicy, id: &str) -> ServiceSettings {
        ServiceSettings::resolve(policy, &DescriptionLocation::parse(id).unwrap())
    }

    #[test]
    fn the_first_match_wins_and_the_family_is_the_default() {
        let policy = FamilyPolicy {
            health_path: Some("/all".into()),
            deny_operations: vec!["purge".into()],
            services: vec![entry("https://a.example/v1/*", "/first"), entry("https://a.example/*", "/second")],
            ..FamilyPolicy::default()
        };
        let first = resolve(&policy, "https://a.example/v1/openapi.json");
        assert_eq!((first.health_path.as_deref(), first.deny), (Some("/first"), vec!["purge".to_string(), "/first".into()]));
        assert_eq!(resolve(&policy, "https://a.example/openapi.json").health_path.as_deref(), Some("/second"));
        assert_eq!(resolve(&policy, "https://b.example/openapi.json").health_path.as_deref(), Some("/all"));
        let of_description =
            FamilyPolicy { services: vec![entry("https://a.example/openapi.json", "/x")], ..FamilyPolicy::default() };
        assert_eq!(resolve(&of_description, "https://a.example").health_path.as_deref(), Some("/x"));
    }

    #[test]
    fn a_fix_fits_the_policy_that_it_changes() {
        let id = "https://a.example/openapi.json";
        let text = resolve(&FamilyPolicy::default(), id).fix("health_path: /x");
        assert_eq!(
            text,
            "write into the policy: families: {openapi: {services: [{match: \"https://a.example/openapi.json\", health_path: /x}]}}"
        );
        let other = FamilyPolicy { services: vec![entry("https://b.example/*", "/x")], ..FamilyPolicy::default() };
        assert!(
            resolve(&other, id).fix("health_path: /x").starts_with("add to families.openapi.services in the policy: {match: ")
        );
        let own = FamilyPolicy { services: vec![entry("https://a.example/*", "/x")], ..FamilyPolicy::default() };
        assert_eq!(
            resolve(&own, id).fix("health_path: /y"),
            "set health_path: /y in the policy's entry of families.openapi.services with match: \"https://a.example/*\""
        );
    }
}
