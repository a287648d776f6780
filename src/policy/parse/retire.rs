//! How many connections may leave at once, and the held changes that the policy confirms.

use super::super::MaxRetire;
use super::super::read::{Fields, Reader, Spot};
use super::super::yaml::NodeKind;

/// The smallest number of hex digits that identify a held change.
const MIN_DIGITS: usize = 12;

/// Reads the limits. The text `none` stands for no limits.
pub fn max_retire(r: &mut Reader, fields: &Fields<'_>) -> Option<MaxRetire> {
    let default = MaxRetire::default();
    let Some(spot) = fields.get("max_retire") else { return Some(default) };
    if matches!(&spot.node.kind, NodeKind::Scalar { text, .. } if text == "none") {
        return None;
    }
    let Some(fields) = r.fields(&spot, &["connections", "percent"]) else { return Some(default) };
    let count = |r: &mut Reader, spot: &Spot<'_>| r.whole(spot, 0..=1_000_000).and_then(|count| usize::try_from(count).ok());
    let percent = |r: &mut Reader, spot: &Spot<'_>| r.whole(spot, 0..=100).and_then(|percent| u8::try_from(percent).ok());
    Some(MaxRetire {
        connections: r.field(&fields, "connections", default.connections, count),
        percent: r.field(&fields, "percent", default.percent, percent),
    })
}

/// Reads the digests of the held changes that are confirmed.
pub fn confirm(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<String>> {
    r.unique(spot, "digests of held changes", |r, item| {
        let text = r.text(item, "the digest of a held change")?.to_lowercase();
        let valid = (MIN_DIGITS..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !valid {
            let hint = "write the digest that aam status shows, in quotes, for example \"3f2a9c1b7d20\"";
            r.report(item, "this is not the digest of a held change: 12 to 64 hex digits", hint);
        }
        valid.then_some(text)
    })
}
