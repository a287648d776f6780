//! The end of a credential that a person has to replace, and when to warn of it.

use super::attempt::EndingSecret;
use super::ledger::Warning;
use super::{Class, ConnectionId, Step, Timestamp};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long before the end the first warning appears.
pub const FIRST_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long before the end the warning becomes urgent.
pub const URGENT_WARNING: Duration = Duration::from_secs(3 * 24 * 3600);

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nearness {
    /// Within [`FIRST_WARNING`].
    Soon,
    /// Within [`URGENT_WARNING`].
    Urgent,
    Ended,
}

/// Returns how near `ends_at` is, or `None` if it is further away than [`FIRST_WARNING`].
#[must_use]
pub fn nearness(ends_at: Timestamp, now: Timestamp) -> Option<Nearness> {
    let left = ends_at.since(now);
    match left {
        _ if ends_at <= now => Some(Nearness::Ended),
        left if left <= URGENT_WARNING => Some(Nearness::Urgent),
        left if left <= FIRST_WARNING => Some(Nearness::Soon),
        _ => None,
    }
}

/// Returns what ends, as the subject of a sentence.
fn subject(secret: Option<&EndingSecret>) -> String {
    match secret {
        None => "the credential".to_string(),
        Some(EndingSecret::VaultLogin(locator)) => format!("the token {locator}, with which AAM logs in to the vault,"),
        Some(EndingSecret::Principal(name)) => format!("the key or secret of the service principal {name}"),
        Some(EndingSecret::Consent(name)) => format!("the grant of consent:{name}"),
    }
}

/// Returns what a person does about the end for `connection`.
fn fix(secret: Option<&EndingSecret>, connection: ConnectionId, ended: bool) -> String {
    let before = if ended { "" } else { ", before the old one ends" };
    match secret {
        None => format!("create a new one at its source and store it where credential_locator points{before}"),
        Some(EndingSecret::VaultLogin(locator)) => format!("create a new token of the vault and store it at {locator}{before}"),
        Some(EndingSecret::Principal(name)) => format!(
            "create a new one at the vendor and store it where credentials.principals.{name} of the policy names it{before}; if expires is written there, correct it"
        ),
        Some(EndingSecret::Consent(_)) => format!("let the owner consent again: aam consent link {connection}"),
    }
}

/// Returns the warning of `connection`, whose credential ends at `ends_at` because `secret` ends, seen from `now`.
#[must_use]
pub fn warning(ends_at: Timestamp, secret: Option<&EndingSecret>, connection: ConnectionId, now: Timestamp) -> Option<Warning> {
    let date = ends_at.rfc3339();
    let day = date.split('T').next().unwrap_or(&date);
    let (nearness, subject) = (nearness(ends_at, now)?, subject(secret));
    let title = match nearness {
        Nearness::Ended => format!("{subject} ended on {day}"),
        near => {
            let urgent = if near == Nearness::Urgent { "urgent: " } else { "" };
            format!("{urgent}{subject} ends in {}, on {day}", left(ends_at.since(now)))
        }
    };
    let fix = fix(secret, connection, nearness == Nearness::Ended);
    Some(Warning { step: Step::Credential, class: Class::CredentialEnding, title: title.into(), fix: fix.into() })
}

/// Formats the rest of the time in days, or in hours on the last day.
fn left(left: Duration) -> String {
    let (count, unit) = match left.as_secs() / DAY.as_secs() {
        0 => (left.as_secs() / 3600, "hour"),
        days => (days, "day"),
    };
    match count {
        0 => "less than an hour".to_string(),
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

/// Whether two ends mean the same for a person. An end that moves by seconds with each reading is not a new fact.
#[must_use]
pub fn is_same_day(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.since(b).max(b.since(a)) < DAY,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_appears_fourteen_days_before_becomes_urgent_three_days_before_and_stays() {
        let end = Timestamp::parse("2027-06-30T12:00:00Z").unwrap();
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let warning = |end, now| warning(end, None, id(), now);
        assert_eq!(warning(end, at("2027-06-16T11:59:59Z")), None);
        let titles: Vec<String> = [
            "2027-06-16T12:00:00Z",
            "2027-06-27T11:00:00Z",
            "2027-06-27T12:00:00Z",
            "2027-06-29T13:00:00Z",
            "2027-06-30T11:30:00Z",
            "2027-06-30T12:00:00Z",
            "2027-07-30T12:00:00Z",
        ]
        .iter()
        .map(|now| warning(end, at(now)).unwrap().title.to_string())
        .collect();
        assert_eq!(
            titles,
            [
                "the credential ends in 14 days, on 2027-06-30",
                "the credential ends in 3 days, on 2027-06-30",
                "urgent: the credential ends in 3 days, on 2027-06-30",
                "urgent: the credential ends in 23 hours, on 2027-06-30",
                "urgent: the credential ends in less than an hour, on 2027-06-30",
                "the credential ended on 2027-06-30",
                "the credential ended on 2027-06-30",
            ]
        );
    }

    fn id() -> ConnectionId {
        ConnectionId::derive("autonomy", "github", &["acme".to_string()])
    }

    #[test]
    fn the_warning_names_what_ends_and_what_to_replace() {
        let (end, before) = (Timestamp(10_000_000_000), Timestamp(9_999_000_000));
        let text = |secret: Option<EndingSecret>, now| {
            let warning = warning(end, secret.as_ref(), id(), now).unwrap();
            format!("{}; {}", warning.title, warning.fix)
        };
        assert!(text(None, before).ends_with("store it where credential_locator points, before the old one ends"));
        assert!(
            text(None, end).ends_with("store it where credential_locator points"),
            "it cannot be replaced before its end any more"
        );
        let login = text(Some(EndingSecret::VaultLogin("env:VTOK".to_string())), before);
        assert!(
            login.contains("the token env:VTOK, with which AAM logs in to the vault, ends in")
                && login.contains("store it at env:VTOK,"),
            "{login}"
        );
        let principal = text(Some(EndingSecret::Principal("graph".to_string())), end);
        assert!(
            principal.contains("of the service principal graph ended on") && principal.contains("credentials.principals.graph"),
            "{principal}"
        );
        let grant = text(Some(EndingSecret::Consent("gl".to_string())), before);
        assert!(
            grant.contains("the grant of consent:gl ends in") && grant.ends_with(&format!("aam consent link {}", id())),
            "{grant}"
        );
    }

    #[test]
    fn an_end_that_moves_within_a_day_is_the_same() {
        let end = Timestamp(1_000_000_000);
        assert!(is_same_day(Some(end), Some(end.plus(DAY - Duration::from_millis(1)))));
        assert!(!is_same_day(Some(end), Some(end.plus(DAY))) && !is_same_day(None, Some(end)) && is_same_day(None, None));
    }
}
