//! The hosts that a connector may call. They come from the policy; the resource id may be a part of them.

use crate::model::{Class, Failure, Recipient};
use crate::policy::ConnectorPolicy;
use std::collections::BTreeSet;
use url::Url;

/// The origins that one connector may call with one resource id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Origins in the form of `Url::origin`, such as `https://api.example.com`.
    origins: BTreeSet<String>,
    /// Those that the resource id chose.
    free: Vec<Recipient>,
}

impl Hosts {
    /// Fills the hosts of the policy. `credential` returns the value of a field of the credential.
    ///
    /// # Errors
    /// Returns `NotMappable` if the resource id cannot be a part of a host.
    pub fn new(
        connector: &ConnectorPolicy,
        resource_id: &str,
        credential: &dyn Fn(&str) -> Option<String>,
        name: &str,
    ) -> Result<Hosts, Failure> {
        let allowed = connector.origins(resource_id, credential).map_err(|host| {
            let shown: String = resource_id.chars().filter(|c| !c.is_control()).take(80).collect();
            Failure::new(
                Class::NotMappable,
                format!("{shown:?} is not a valid resource id of {name}"),
                format!("write what stands for the placeholder in {host}: a host name or a part of one"),
            )
        })?;
        let mut hosts = Hosts::default();
        for allowed in allowed {
            let recipient = Url::parse(&allowed.origin).ok().and_then(|url| Recipient::from_url(&url));
            hosts.free.extend(recipient.filter(|_| allowed.is_free));
            hosts.origins.insert(allowed.origin);
        }
        Ok(hosts)
    }

    /// Whether the connector may call `url`.
    #[must_use]
    pub fn allow(&self, url: &Url) -> bool {
        url.origin().is_tuple() && self.origins.contains(&url.origin().ascii_serialization())
    }

    /// Returns the hosts that the resource id chose.
    #[must_use]
    pub fn free(&self) -> &[Recipient] {
        &self.free
    }

    /// Returns the origins in their order.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.origins.iter().map(String::as_str)
    }

    /// For messages: the origins, or that there are none.
    #[must_use]
    pub fn message(&self) -> String {
        match self.origins.is_empty() {
            true => "none".to_string(),
            false => self.origins().collect::<Vec<_>>().join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Run;
    use serde_json::Map;

    fn hosts(hosts: &[&str], resource_id: &str) -> Result<Hosts, Failure> {
        let connector = ConnectorPolicy {
            run: Run::Command(vec!["/bin/true".to_string()]),
            version: String::new(),
            sha256: None,
            config: Map::new(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            posts: Vec::new(),
            memory: 1,
            streams: Vec::new(),
            readable: Vec::new(),
        };
        Hosts::new(&connector, resource_id, &|_| None, "okta")
    }

    #[test]
    fn only_listed_origins_are_allowed() {
        let hosts = hosts(&["api.acme.example", "http://127.0.0.1:8080"], "acme").expect("valid hosts");
        let allows = |url: &str| hosts.allow(&Url::parse(url).expect("a URL"));
        assert!(allows("https://api.acme.example/x?y") && allows("http://127.0.0.1:8080/"));
        assert!(!allows("http://api.acme.example/") && !allows("https://api.acme.example:444/"));
        assert!(!allows("https://evil.example/") && !allows("https://api.acme.example.evil.example/"));
        assert!(hosts.free().is_empty());
    }

    #[test]
    fn a_host_that_the_resource_id_chose_is_free() {
        let named = hosts(&["{resource_id.label}.okta.com"], "acme.okta.com").expect("valid");
        assert_eq!((named.message().as_str(), named.free().len()), ("https://acme.okta.com", 0));
        assert_eq!(hosts(&["{resource_id}"], "https://acme.example/x").expect("valid").free().len(), 1);
        assert_eq!(hosts(&["{resource_id}.okta.com"], "evil.example/").expect_err("two hosts").class, Class::NotMappable);
    }
}
