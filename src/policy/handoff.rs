//! What the policy supplies for the candidates that a discovery tool hands over: a candidate names a vendor and has no
//! locator, owner or evidence of its own.

use crate::families::aliases;
use crate::model::{Locator, Risk};
use serde::Serialize;
use std::collections::BTreeMap;

/// The section `handoff` of the policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Handoff {
    /// By the name of the vendor as the policy writes it.
    pub vendors: BTreeMap<String, HandoffVendor>,
    /// The `evidence.status` of a candidate by its `governance_status` in lower case. A status that is not listed is used
    /// as the tool writes it.
    pub statuses: BTreeMap<String, String>,
    /// The namespace of the connections by the `tenant_id` or the `entity_id` of the handoff.
    pub namespaces: BTreeMap<String, String>,
}

/// What the policy supplies for the candidates of one vendor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandoffVendor {
    pub source_type: String,
    pub resource_ids: Vec<String>,
    pub credential_locator: Option<Locator>,
    pub owner: HandoffOwner,
    pub risk_level: Risk,
    /// The value of `evidence.source`.
    pub evidence_source: String,
}

/// The owner of the systems of a vendor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandoffOwner {
    pub user: String,
    /// From 0 to 1.
    pub confidence: f64,
    pub why: String,
}

/// The accepted values of `owner.why`.
pub const OWNER_REASONS: [&str; 5] = ["oauth_consenter", "admin", "usage", "expense", "idp_owner"];
/// The accepted values of `evidence.source`.
pub const EVIDENCE_SOURCES: [&str; 4] = ["IdP", "CMDB", "Procurement", "CASB"];

impl Default for Handoff {
    fn default() -> Handoff {
        Handoff { vendors: BTreeMap::new(), statuses: Handoff::default_statuses(), namespaces: BTreeMap::new() }
    }
}

impl Handoff {
    /// The statuses of a discovery tool that mean that the system is allowed.
    #[must_use]
    pub fn default_statuses() -> BTreeMap<String, String> {
        ["sanctioned", "approved", "governed"].map(|status| (status.to_string(), "Sanctioned".to_string())).into()
    }

    /// Returns the `evidence.status` for a `governance_status`. A status that is missing becomes `Unknown`.
    #[must_use]
    pub fn evidence_status(&self, governance_status: Option<&str>) -> String {
        let Some(status) = governance_status.map(str::trim).filter(|status| !status.is_empty()) else {
            return "Unknown".to_string();
        };
        self.statuses.get(&status.to_lowercase()).cloned().unwrap_or_else(|| status.to_string())
    }

    /// Returns the entry for a vendor, by its name or by the key of the asset, which is often a domain. If no entry has
    /// the name, it is the entry whose source type has the name as another name, if there is one such entry only.
    #[must_use]
    pub fn vendor(&self, vendor_name: Option<&str>, asset_key: &str) -> Option<(&str, &HandoffVendor)> {
        let named = |text: &str| {
            let wanted = vendor_key(text);
            self.vendors.iter().find(|(name, _)| vendor_key(name) == wanted)
        };
        let of_source_type = |text: &str| {
            let source_type = aliases::source_type(text)?;
            let mut entries = self.vendors.iter().filter(|(_, entry)| entry.source_type == source_type);
            entries.next().filter(|_| entries.next().is_none())
        };
        let found = vendor_name.and_then(named).or_else(|| named(asset_key));
        let found = found.or_else(|| vendor_name.and_then(of_source_type)).or_else(|| of_source_type(asset_key));
        found.map(|(name, entry)| (name.as_str(), entry))
    }

    /// Returns the namespace that the policy gives to a tenant or entity.
    #[must_use]
    pub fn namespace(&self, tenant_id: &str, entity_id: &str) -> Option<&str> {
        self.namespaces.get(tenant_id).or_else(|| self.namespaces.get(entity_id)).map(String::as_str)
    }
}

/// Returns the form of a vendor's name that is compared: lower case, with one `_` in place of each run of other characters
/// than letters, digits and dots.
#[must_use]
pub fn vendor_key(text: &str) -> String {
    let mut key = String::new();
    for c in text.trim().to_lowercase().chars() {
        if c.is_alphanumeric() || c == '.' {
            key.push(c);
        } else if !key.is_empty() && !key.ends_with('_') {
            key.push('_');
        }
    }
    let key = key.trim_end_matches('_');
    key.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_match_without_regard_to_case_and_separators() {
        for (a, b) in [("Salesforce", "salesforce"), ("Google Workspace", "google_workspace"), ("AWS - Prod", "aws__prod")] {
            assert_eq!(vendor_key(a), vendor_key(b), "{a}");
        }
        assert_ne!(vendor_key("salesforce.com"), vendor_key("salesforce"));
        assert_eq!(vendor_key(" -_ "), "");
    }

    #[test]
    fn a_vendor_is_found_by_another_name_of_its_source_type_if_one_entry_has_it() {
        let entry = |source_type: &str| HandoffVendor {
            source_type: source_type.into(),
            resource_ids: Vec::new(),
            credential_locator: None,
            owner: HandoffOwner { user: "owner@acme.example".into(), confidence: 1.0, why: "admin".into() },
            risk_level: Risk::Low,
            evidence_source: "CMDB".into(),
        };
        let vendors =
            [("Salesforce", "salesforce"), ("Atlassian wiki", "confluence"), ("Tables", "postgres"), ("More", "postgres")];
        let vendors = vendors.map(|(name, source_type)| (name.to_string(), entry(source_type)));
        let handoff = Handoff { vendors: vendors.into(), ..Handoff::default() };
        let found = |name: Option<&str>, key: &str| handoff.vendor(name, key).map(|(name, _)| name.to_string());
        assert_eq!(found(Some("SFDC"), "x"), Some("Salesforce".into()));
        assert_eq!(found(None, "salesforce.com"), Some("Salesforce".into()));
        assert_eq!(found(Some("Confluence Cloud"), "x"), Some("Atlassian wiki".into()));
        assert_eq!(found(Some("PostgreSQL"), "x"), None, "two entries have the source type");
        assert_eq!(found(Some("PostgreSQL"), "tables"), Some("Tables".into()), "the name of an entry comes first");
        assert_eq!(found(Some("Jira"), "x"), None);
    }

    #[test]
    fn statuses_that_the_policy_does_not_list_are_used_as_written() {
        let handoff = Handoff::default();
        assert_eq!(handoff.evidence_status(Some(" Governed ")), "Sanctioned");
        assert_eq!(handoff.evidence_status(Some("shadow")), "shadow");
        assert_eq!((handoff.evidence_status(None), handoff.evidence_status(Some(" "))), ("Unknown".into(), "Unknown".into()));
    }
}
