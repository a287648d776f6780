//! Addresses of pages.

use crate::model::Timestamp;

/// What the addresses on a page have in common: links on a page keep its namespace and its instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The prefix under which the reader called the page; empty or for example `/api/v1/aam`.
    pub prefix: String,
    /// The namespace, unless it is that of the policy.
    pub namespace: Option<String>,
    /// The past instant that the page shows, if it does not show the present.
    pub at: Option<Timestamp>,
}

impl Links {
    /// The address of the page `path` with the query `pairs`. Pairs with an empty value are left out.
    #[must_use]
    pub fn to(&self, path: &str, pairs: &[(&str, &str)]) -> String {
        let at = self.at.map(Timestamp::rfc3339);
        let common = [("namespace", self.namespace.as_deref()), ("at", at.as_deref())];
        let own = pairs.iter().map(|(name, value)| (*name, Some(*value)));
        let all: Vec<(&str, &str)> =
            own.chain(common).filter_map(|(name, value)| Some((name, value?))).filter(|(_, value)| !value.is_empty()).collect();
        let path = if path == "/" && !self.prefix.is_empty() { "" } else { path };
        if all.is_empty() {
            return format!("{}{path}", self.prefix);
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish();
        format!("{}{path}?{query}", self.prefix)
    }

    /// The address of the page of the connection with this id.
    #[must_use]
    pub fn connection(&self, id: &str) -> String {
        self.to(&format!("/ui/connections/{id}"), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_the_namespace_and_the_instant() {
        let plain = Links::default();
        assert_eq!(plain.to("/", &[]), "/");
        assert_eq!(plain.to("/ui/connections", &[("state", "ERROR"), ("q", "")]), "/ui/connections?state=ERROR");
        let links = Links {
            prefix: "/api/v1/aam".to_string(),
            namespace: Some("demo".to_string()),
            at: Some(Timestamp(1_794_160_800_000)),
        };
        assert_eq!(links.to("/", &[]), "/api/v1/aam?namespace=demo&at=2026-11-08T18%3A00%3A00.000Z");
        assert_eq!(
            links.to("/ui/connections", &[("q", "a&b")]),
            "/api/v1/aam/ui/connections?q=a%26b&namespace=demo&at=2026-11-08T18%3A00%3A00.000Z"
        );
    }
}
