//! The section `evidence`.

use super::super::read::{Fields, Reader, Spot};
use super::super::{EvidencePolicy, Webhook};
use super::section;
use std::path::PathBuf;

/// The most days for which calls can be kept.
const MAX_DAYS: u32 = 3650;

/// Reads the section. `webhooks` are those of `notify`.
pub fn evidence(r: &mut Reader, fields: &Fields<'_>, webhooks: &[Webhook]) -> EvidencePolicy {
    let Some(fields) = section(r, fields, "evidence", &["keep_calls", "head_file", "head_webhook"]) else {
        return EvidencePolicy::default();
    };
    let webhook = |r: &mut Reader, spot: &Spot<'_>| {
        let name = r.text(spot, "the name of a webhook of notify")?.to_string();
        if webhooks.iter().all(|webhook| webhook.name != name) {
            let hint = "write the name of an entry of notify, or add one with this name";
            r.report(spot, format!("no entry of notify is named {name}"), hint);
        }
        Some(name)
    };
    EvidencePolicy {
        keep_calls: r.field(&fields, "keep_calls", EvidencePolicy::KEEP_CALLS_DAYS, days),
        head_file: r.optional(&fields, "head_file", |r, spot| {
            let path = r.text(spot, "the path of a file")?;
            if path.is_empty() {
                r.report(spot, "the path is empty", "write the path of a file, for example /var/log/aam/head.log");
            }
            Some(PathBuf::from(path))
        }),
        head_webhook: r.optional(&fields, "head_webhook", webhook),
    }
}

pub fn days(r: &mut Reader, spot: &Spot<'_>) -> Option<u32> {
    let text = r.text(spot, "a number of days, for example 90d")?;
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()).filter(|days| (1..=MAX_DAYS).contains(days));
    if days.is_none() {
        let message = format!("{text:?} is not a number of days");
        r.report(spot, message, format!("write a number of days from 1d to {MAX_DAYS}d, for example 90d"));
    }
    days
}
