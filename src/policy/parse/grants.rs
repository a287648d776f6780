//! The lists `locators` and `hosts` of a token.

use super::super::grants::{CredentialGrant, HostPattern, LocatorPattern, is_process_variable};
use super::super::read::{Fields, Reader, Spot};
use crate::model::Locator;

pub fn grant(r: &mut Reader, fields: &Fields<'_>) -> CredentialGrant {
    let host = |r: &mut Reader, item: &Spot<'_>| {
        let parsed = HostPattern::parse(r.text(item, "a host")?);
        parsed.map_err(|(message, hint)| r.report(item, message, hint)).ok()
    };
    let grant = CredentialGrant {
        locators: r.field(fields, "locators", Vec::new(), locators),
        hosts: r.field(fields, "hosts", Vec::new(), |r, spot| r.unique(spot, "hosts", host)),
    };
    if let Some(spot) = fields.get("hosts").filter(|_| grant.locators.is_empty() && !grant.hosts.is_empty()) {
        r.report(
            &spot,
            "hosts has no effect without locators",
            "list the credentials that may be sent there: locators: [env:NAME]",
        );
    }
    grant
}

/// Reads a list of locators and patterns of locators.
pub fn locators(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<LocatorPattern>> {
    r.unique(spot, "locators", |r, item| {
        let text = r.text(item, "a locator")?;
        match LocatorPattern::parse(text) {
            Ok(pattern) => {
                if Locator::parse(text).is_ok_and(|locator| is_process_variable(&locator)) {
                    r.report(
                        item,
                        "this is a variable of the process itself and is never used as a credential",
                        "remove it, and store the credential in a variable of its own",
                    );
                    return None;
                }
                Some(pattern)
            }
            Err((message, hint)) => {
                r.report(item, message, hint);
                None
            }
        }
    })
}
