//! Where a resource of a family is: the hosts that its id, the policy and the credential name.

use super::address::{self, ResourceLocation};
use super::binding::{Authorization, FamilyResource};
use super::credential_url::{PLACEHOLDER, UrlRule};
use super::family_spec::AuthMethod;
use crate::model::{Failure, Recipient};

impl FamilyResource {
    /// The host, unless the policy or the family's file names it.
    pub(super) fn free_hosts(&self) -> Vec<Recipient> {
        let url = Some(&self.location.base_url).filter(|_| !self.location.reviewed).and_then(|text| url::Url::parse(text).ok());
        url.and_then(|url| Recipient::from_url(&url)).into_iter().collect()
    }

    /// The base URLs that authentication methods have of their own. Parts that a response yields are written as `{name}`.
    pub(super) fn method_base_urls(&self) -> Vec<String> {
        self.methods().iter().filter_map(|method| self.method_base_url(method)).map(|text| self.filled_base_url(&text)).collect()
    }

    /// Returns the template of the method's own base URL, under this policy.
    pub(super) fn method_base_url(&self, method: &AuthMethod) -> Option<String> {
        let template = method.base_url.as_ref()?;
        Some(self.policy_base_url.as_ref().map_or(template.clone(), |base_url| address::with_path(base_url, template)))
    }

    /// Replaces the parts that the resource id has.
    pub(super) fn filled_base_url(&self, template: &str) -> String {
        self.location.parts.iter().fold(template.to_string(), |text, (name, part)| text.replace(&format!("{{{name}}}"), part))
    }

    /// Returns where the resource is, which the credential may say.
    pub(super) fn location(&self, authorization: Authorization<'_>) -> Result<ResourceLocation, Failure> {
        let address = &self.spec.form.address;
        let Some(field) = address.credential_url.as_deref().filter(|_| self.policy_base_url.is_none()) else {
            return Ok(self.location.clone());
        };
        let credential = match authorization {
            Authorization::Known(credential) => credential,
            Authorization::Unknown if self.location.base_url == PLACEHOLDER => {
                let mut location = self.location.clone();
                location.parts.insert("base_url".to_string(), format!("https://{{{field}}}"));
                return Ok(location);
            }
            Authorization::Unknown => return Ok(self.location.clone()),
        };
        let named = credential.and_then(|credential| credential.field(field)).map(|secret| secret.expose().trim().to_string());
        let example = address.kinds.iter().find(|kind| kind.base_url.is_some()).and_then(|kind| kind.examples.first());
        let rule = UrlRule {
            field,
            family: &self.family.id,
            title: &self.family.title,
            resource: &self.id,
            example: example.map(String::as_str).unwrap_or_default(),
            vendor_hosts: &address.vendor_hosts,
            listed: &self.policy_hosts,
        };
        rule.located(&self.location, named.as_deref())
    }

    /// Whether the manifest's spec marks `field` as a secret. The user name of a pair is not one, but a credential that is the
    /// text `USERNAME:PASSWORD` does not say so; a vendor may want it in the URL.
    pub(super) fn marks_secret(&self, field: &str) -> bool {
        let properties = self.spec.form.source.pointer("/spec/connection_specification/properties");
        properties.is_some_and(|properties| properties[field]["airbyte_secret"] == true)
    }
}
