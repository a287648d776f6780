//! The origins that a connector may call for one resource.

use super::ConnectorPolicy;
use super::template::{ResourcePart, fill};
use url::Url;

/// An origin that a connector may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin {
    /// For example `https://acme.okta.com`.
    pub origin: String,
    /// Whether the resource id chose the host. Such a host was not reviewed, so the sender of the intent needs the right to
    /// send the credential there.
    pub is_free: bool,
}

impl ConnectorPolicy {
    /// Returns the origins that the connector may call for `resource_id`, each once. `credential` returns the value of a field;
    /// a host that names a field which is missing is left out.
    ///
    /// # Errors
    /// Returns the host of the policy that does not become a host with this resource id.
    pub fn origins(&self, resource_id: &str, credential: &dyn Fn(&str) -> Option<String>) -> Result<Vec<AllowedOrigin>, String> {
        let mut origins: Vec<AllowedOrigin> = Vec::new();
        for host in &self.hosts {
            let Some(origin) = origin(host, resource_id, credential).ok_or_else(|| host.clone())? else { continue };
            if origins.iter().all(|known| known.origin != origin) {
                origins.push(AllowedOrigin { origin, is_free: is_free(host) });
            }
        }
        Ok(origins)
    }
}

/// Returns the origin of one entry; `Some(None)` if a field that it names is missing, and `None` if it is not a host.
pub(in crate::policy) fn origin(
    host: &str,
    resource_id: &str,
    credential: &dyn Fn(&str) -> Option<String>,
) -> Option<Option<String>> {
    if host == "{resource_id}" {
        let address = if resource_id.contains("://") { resource_id.to_string() } else { format!("https://{resource_id}") };
        let url = Url::parse(&address).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
        return Some(Some(url.origin().ascii_serialization()));
    }
    // What fills a part of a host must not end it, for example with a slash.
    let fits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    let parts = [ResourcePart::Whole, ResourcePart::Host, ResourcePart::Label, ResourcePart::Tree];
    let names = ["{resource_id}", "{resource_id.host}", "{resource_id.label}", "{resource_id.tree}"];
    let is_plain = names.iter().zip(parts).all(|(name, part)| !host.contains(name) || fits(&part.of(resource_id)));
    if !is_plain {
        return None;
    }
    let Ok(Some(text)) = fill(host, resource_id, &|field| credential(field).filter(|value| fits(value))) else {
        return Some(None);
    };
    let text = if text.contains("://") { text } else { format!("https://{text}") };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    Some(Some(url.origin().ascii_serialization()))
}

/// Whether a resource id or a credential chooses the domain: the text behind the last placeholder does not end with a domain
/// of two labels.
fn is_free(host: &str) -> bool {
    let Some((_, suffix)) = host.rsplit_once('}') else { return false };
    let domain = suffix.split(':').next().unwrap_or_default();
    let labels = domain.strip_prefix('.').map_or(0, |rest| rest.split('.').filter(|label| !label.is_empty()).count());
    labels < 2
}

#[cfg(test)]
mod tests {
    fn allowed(hosts: &[&str], id: &str) -> Result<Vec<(String, bool)>, String> {
        let region = |field: &str| (field == "region").then(|| "eu-west-1".to_string());
        let origins = super::super::tests::connector("{}", hosts).origins(id, &region)?;
        Ok(origins.into_iter().map(|allowed| (allowed.origin, allowed.is_free)).collect())
    }

    #[test]
    fn a_resource_id_chooses_a_host_only_where_the_policy_says_so() {
        let one = |origin: &str, is_free| Ok(vec![(origin.to_string(), is_free)]);
        assert_eq!(allowed(&["https://api.acme.example"], "x"), one("https://api.acme.example", false));
        assert_eq!(allowed(&["{resource_id.label}.okta.com"], "acme.okta.com"), one("https://acme.okta.com", false));
        assert_eq!(allowed(&["{resource_id}"], "https://a.example:8443/x.csv"), one("https://a.example:8443", true));
        assert_eq!(allowed(&["{resource_id}"], "a.example/x"), one("https://a.example", true));
        assert_eq!(allowed(&["{resource_id.host}"], "a.example/x"), one("https://a.example", true));
        assert_eq!(allowed(&["api.{resource_id.host}"], "a.example"), one("https://api.a.example", true));
        assert_eq!(allowed(&["s3.{credential.region?}.amazonaws.com"], "b"), one("https://s3.eu-west-1.amazonaws.com", false));
        assert_eq!(allowed(&["s3.{credential.zone?}.amazonaws.com"], "b"), Ok(Vec::new()));
        assert_eq!(allowed(&["a.example", "{resource_id.host}"], "a.example"), one("https://a.example", false));
    }

    #[test]
    fn a_resource_id_does_not_end_the_host_that_it_fills() {
        for id in ["evil.example/", "evil.example#", "a@evil.example", "", "a b", "evil.example?"] {
            assert_eq!(allowed(&["{resource_id}.okta.com"], id), Err("{resource_id}.okta.com".to_string()), "{id:?}");
        }
        assert!(allowed(&["{resource_id}"], "ftp://a.example").is_err());
    }
}
