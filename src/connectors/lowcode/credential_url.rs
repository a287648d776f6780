//! The base URL that a credential names, for vendors whose tokens say where they may be used: `instance_url` of Salesforce.
//! Pure.
//!
//! A resource id that is only a number does not name a host, so the credential does. Where the id does name one, the credential
//! must be for the same. In both cases a token is sent only to the vendor's own hosts and to servers that the policy lists.

use super::address::{ResourceLocation, host_of};
use super::privilege::fits;
use crate::credentials::redact;
use crate::model::{Class, Failure};
use crate::policy::ListedServer;
use url::Url;

/// Stands for the base URL of a resource whose id does not name a host, until the credential is known.
pub const PLACEHOLDER: &str = "https://credential.invalid";

/// What the family and the policy say about the URLs that credentials may name.
pub struct UrlRule<'a> {
    /// The field of the credential.
    pub field: &'a str,
    /// The id of the family.
    pub family: &'a str,
    pub title: &'a str,
    /// The resource id.
    pub resource: &'a str,
    /// An example of a resource id that names its host.
    pub example: &'a str,
    /// The vendor's own hosts; `*` matches any text.
    pub vendor_hosts: &'a [String],
    /// `families.NAME.hosts` of the policy.
    pub listed: &'a [ListedServer],
}

impl UrlRule<'_> {
    /// Returns the location at the URL `named` by the credential if the resource id does not name a host; otherwise the
    /// location itself.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the URL is needed and the credential does not have it, `Misconfigured` if it is not one
    /// of the vendor's hosts, and `WrongService` if it is of another host than the resource id names.
    pub fn located(&self, location: &ResourceLocation, named: Option<&str>) -> Result<ResourceLocation, Failure> {
        let is_needed = location.base_url == PLACEHOLDER;
        let Some(named) = named else {
            return if is_needed { Err(self.missing()) } else { Ok(location.clone()) };
        };
        let text = if named.contains("://") { named.to_string() } else { format!("https://{named}") };
        let url = Url::parse(&text).ok().filter(|url| self.is_allowed(url)).ok_or_else(|| self.not_allowed(named))?;
        if is_needed {
            return moved(location, &url).ok_or_else(|| self.not_allowed(named));
        }
        let own = Url::parse(&location.base_url).ok();
        if own.as_ref().is_some_and(|own| own.origin() == url.origin() || same_account(own, &url)) {
            return Ok(location.clone());
        }
        Err(self.other(&location.host, &url))
    }

    /// Whether a token may be sent to `url`.
    fn is_allowed(&self, url: &Url) -> bool {
        let bare = url.username().is_empty() && url.password().is_none();
        let host = url.host_str().unwrap_or_default();
        let own = url.scheme() == "https" && url.port().is_none() && self.vendor_hosts.iter().any(|glob| fits(glob, host));
        let listed = |server: &ListedServer| Url::parse(server.base_url()).is_ok_and(|known| known.origin() == url.origin());
        bare && (own || self.listed.iter().any(listed))
    }

    fn missing(&self) -> Failure {
        let UrlRule { field, title, resource, example, .. } = self;
        Failure::new(
            Class::CredentialMissing,
            format!("{resource} does not name a host, and the credential of {title} does not have {field}"),
            format!(
                "write the host into resource_ids ({example}), let AAM mint the token (credential_locator sp:NAME), or add {field} to the credential"
            ),
        )
    }

    fn not_allowed(&self, named: &str) -> Failure {
        let UrlRule { field, family, title, .. } = self;
        let named = redact::scrub_and_cut(named, 100);
        Failure::new(
            Class::Misconfigured,
            format!("{field} in the credential is {named}, which is not a host of {title}: the token was not sent"),
            format!(
                "correct {field}; if {named} is a host of your company, list it in the policy: families: {{{family}: {{hosts: [HOST]}}}}"
            ),
        )
    }

    fn other(&self, host: &str, url: &Url) -> Failure {
        let met = host_of(url).unwrap_or_default();
        Failure::new(
            Class::WrongService,
            format!("the credential of {} is for {met}, and the resource id names {host}", self.title),
            format!("use a credential for {host}, or write {met} into resource_ids"),
        )
    }
}

/// Whether two hosts of the vendor belong to the same account: their first labels are the same, as in
/// `acme.my.salesforce.com` and `acme.develop.my.salesforce.com`.
fn same_account(own: &Url, other: &Url) -> bool {
    let label = |url: &Url| url.domain().and_then(|host| host.split('.').next()).map(str::to_string);
    label(own).is_some() && label(own) == label(other)
}

/// Returns `location` at `url`, whose path and query are not used.
fn moved(location: &ResourceLocation, url: &Url) -> Option<ResourceLocation> {
    let host = host_of(url)?;
    let base_url = url.origin().ascii_serialization();
    let mut location = ResourceLocation { base_url: base_url.clone(), host: host.clone(), ..location.clone() };
    location.parts.insert("host".to_string(), host);
    location.parts.insert("base_url".to_string(), base_url);
    Some(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(base_url: &str, named: Option<&str>) -> Result<String, Failure> {
        let vendor_hosts = ["*.my.vendor.example".to_string()];
        let listed: Vec<ListedServer> =
            ["crm.acme.example", "http://127.0.0.1:8080"].iter().filter_map(|text| ListedServer::parse(text)).collect();
        let rule = UrlRule {
            field: "instance_url",
            family: "crm",
            title: "CRM",
            resource: "org_1",
            example: "acme.my.vendor.example",
            vendor_hosts: &vendor_hosts,
            listed: &listed,
        };
        let host = Url::parse(base_url).ok().and_then(|url| host_of(&url)).unwrap_or_default();
        let location = ResourceLocation {
            base_url: base_url.to_string(),
            host,
            account: String::new(),
            reviewed: true,
            servers: Default::default(),
            parts: Default::default(),
        };
        let found = rule.located(&location, named)?;
        assert!(found.parts.get("base_url").is_none_or(|part| *part == found.base_url));
        Ok(found.base_url)
    }

    #[test]
    fn a_token_goes_to_hosts_of_the_vendor_and_to_listed_servers_only() {
        for (named, base_url) in [
            ("https://acme.my.vendor.example", Some("https://acme.my.vendor.example")),
            ("https://acme.my.vendor.example/services/data?x=1", Some("https://acme.my.vendor.example")),
            ("acme.my.vendor.example", Some("https://acme.my.vendor.example")),
            ("https://crm.acme.example", Some("https://crm.acme.example")),
            ("http://127.0.0.1:8080/", Some("http://127.0.0.1:8080")),
            ("http://acme.my.vendor.example", None),
            ("https://acme.my.vendor.example:8443", None),
            ("https://acme.my.vendor.example.evil.example", None),
            ("https://my.vendor.example@evil.example", None),
            ("https://user@acme.my.vendor.example", None),
            ("https://evil.example", None),
            ("http://127.0.0.1:9090", None),
            ("", None),
            ("not a url", None),
        ] {
            match located(PLACEHOLDER, Some(named)) {
                Ok(found) => assert_eq!(Some(found.as_str()), base_url, "{named}"),
                Err(failure) => assert_eq!((failure.class, base_url), (Class::Misconfigured, None), "{named}"),
            }
        }
        let missing = located(PLACEHOLDER, None).unwrap_err();
        assert_eq!(missing.class, Class::CredentialMissing);
        assert_eq!(missing.title, "org_1 does not name a host, and the credential of CRM does not have instance_url");
    }

    #[test]
    fn a_credential_of_another_host_is_not_sent() {
        let own = "https://acme.my.vendor.example";
        for named in [None, Some(own), Some("https://acme.develop.my.vendor.example")] {
            assert_eq!(located(own, named).unwrap(), own, "{named:?}");
        }
        let failure = located(own, Some("https://other.my.vendor.example")).unwrap_err();
        assert_eq!(failure.class, Class::WrongService);
        assert_eq!(
            failure.title,
            "the credential of CRM is for other.my.vendor.example, and the resource id names acme.my.vendor.example"
        );
        assert_eq!(located(own, Some("https://evil.example")).unwrap_err().class, Class::Misconfigured);
    }
}
