//! The section handoff: what the policy supplies for the candidates of a discovery tool.

use super::super::handoff::{EVIDENCE_SOURCES, Handoff, HandoffOwner, HandoffVendor, OWNER_REASONS, vendor_key};
use super::super::read::{Fields, Reader, Spot};
use super::super::yaml::{NodeKind, shown};
use super::section;
use crate::model::{Locator, Risk};
use std::collections::{BTreeMap, BTreeSet};

pub fn handoff(r: &mut Reader, fields: &Fields<'_>) -> Handoff {
    let default = Handoff::default();
    let Some(fields) = section(r, fields, "handoff", &["vendors", "statuses", "namespaces"]) else {
        return default;
    };
    Handoff {
        vendors: r.field(&fields, "vendors", default.vendors, vendors),
        statuses: r.field(&fields, "statuses", default.statuses, statuses),
        namespaces: r.field(&fields, "namespaces", default.namespaces, namespaces),
    }
}

fn vendors(r: &mut Reader, spot: &Spot<'_>) -> Option<BTreeMap<String, HandoffVendor>> {
    let (mut vendors, mut keys) = (BTreeMap::new(), BTreeSet::new());
    for (name, item) in r.entries(spot, "a mapping of vendors") {
        let key = vendor_key(name);
        if key.is_empty() || !keys.insert(key) {
            let hint = "upper and lower case, blanks and hyphens make no difference; keep one entry for each vendor";
            r.report(&item, format!("{} is empty or names a vendor that is listed already", shown(name)), hint);
            continue;
        }
        if let Some(vendor) = vendor(r, &item) {
            vendors.insert(name.to_string(), vendor);
        }
    }
    Some(vendors)
}

fn vendor(r: &mut Reader, spot: &Spot<'_>) -> Option<HandoffVendor> {
    let keys = ["source_type", "resource_ids", "credential_locator", "owner", "risk_level", "evidence_source"];
    let fields = r.fields(spot, &keys)?;
    let source_type = r.required(&fields, "source_type", "write the family, for example source_type: salesforce");
    let source_type = source_type.and_then(|spot| {
        let name = r.text(&spot, "the name of a family")?.to_string();
        r.known_family(&name, &spot.pointer, spot.node.place).then_some(name)
    });
    let ids = r.required(&fields, "resource_ids", "list the systems as in an intent, for example resource_ids: [acme]");
    let resource_ids = ids.and_then(|spot| resource_ids(r, &spot));
    let owner = r.required(&fields, "owner", "write the owner, for example owner: crm@acme.example");
    let owner = owner.and_then(|spot| owner_of(r, &spot));
    let credential_locator = r.optional(&fields, "credential_locator", locator);
    let risk_level = r.field(&fields, "risk_level", Risk::Med, |r, spot| {
        Some(match r.one_of(spot, "risk level", &["low", "med", "high"])? {
            "low" => Risk::Low,
            "med" => Risk::Med,
            _ => Risk::High,
        })
    });
    let source = |r: &mut Reader, spot: &Spot<'_>| r.one_of(spot, "evidence source", &EVIDENCE_SOURCES).map(str::to_string);
    let evidence_source = r.field(&fields, "evidence_source", "CASB".to_string(), source);
    Some(HandoffVendor {
        source_type: source_type?,
        resource_ids: resource_ids?,
        credential_locator,
        owner: owner?,
        risk_level,
        evidence_source,
    })
}

fn resource_ids(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<String>> {
    let ids = r.unique(spot, "resource ids", |r, item| r.text(item, "a resource id").map(str::to_string))?;
    if ids.is_empty() {
        r.report(spot, "the list is empty, so there is nothing to connect", "write at least one resource id");
        return None;
    }
    Some(ids)
}

/// Reads an owner: the name alone, or a mapping with user, confidence and why.
fn owner_of(r: &mut Reader, spot: &Spot<'_>) -> Option<HandoffOwner> {
    if matches!(spot.node.kind, NodeKind::Scalar { .. }) {
        let user = r.text(spot, "the owner, for example crm@acme.example")?.to_string();
        return Some(HandoffOwner { user, confidence: 1.0, why: "admin".to_string() });
    }
    let fields = r.fields(spot, &["user", "confidence", "why"])?;
    let user = r.required(&fields, "user", "write the owner, for example user: crm@acme.example");
    let user = user.and_then(|spot| r.text(&spot, "the owner, for example crm@acme.example").map(str::to_string));
    let why = |r: &mut Reader, spot: &Spot<'_>| r.one_of(spot, "reason", &OWNER_REASONS).map(str::to_string);
    Some(HandoffOwner {
        confidence: r.field(&fields, "confidence", 1.0, |r, spot| r.number(spot, 0.0..=1.0, false)),
        why: r.field(&fields, "why", "admin".to_string(), why),
        user: user?,
    })
}

/// Reads the place of a credential. The value is not repeated in a problem, because it may be a secret.
fn locator(r: &mut Reader, spot: &Spot<'_>) -> Option<Locator> {
    let parsed = Locator::parse(r.text(spot, "a locator")?);
    match parsed.ok().filter(Locator::is_known) {
        Some(locator) => Some(locator),
        None => {
            let hint = "write env:NAME, file:PATH, vault:PATH#FIELD, sp:NAME or consent:NAME";
            r.report(spot, "this is not a locator; the policy never contains a secret itself", hint);
            None
        }
    }
}

fn statuses(r: &mut Reader, spot: &Spot<'_>) -> Option<BTreeMap<String, String>> {
    let mut statuses = BTreeMap::new();
    for (name, item) in r.entries(spot, "a mapping from governance_status to evidence.status") {
        let Some(status) = r.text(&item, "a value of evidence.status").map(str::to_string) else { continue };
        if statuses.insert(name.trim().to_lowercase(), status).is_some() {
            let hint = "upper and lower case make no difference; keep one of them";
            r.report(&item, format!("{} is listed twice", shown(name)), hint);
        }
    }
    Some(statuses)
}

fn namespaces(r: &mut Reader, spot: &Spot<'_>) -> Option<BTreeMap<String, String>> {
    let entries = r.entries(spot, "a mapping from tenant_id or entity_id to a namespace");
    Some(entries.into_iter().filter_map(|(id, item)| Some((id.to_string(), super::namespace(r, &item)?))).collect())
}
