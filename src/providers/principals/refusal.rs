//! What the refusals of vendors mean, as data: each has its own title and its own fix.

use super::MintContext;
use super::token_request::{NoToken, TokenRefusal};
use crate::model::{Class, Failure, Timestamp};
use std::borrow::Cow;
use std::time::Duration;

/// One refusal that a vendor documents, or that many people have met.
#[derive(Debug)]
pub struct RefusalRule {
    /// The error codes of the response; any, if the list is empty.
    pub errors: &'static [&'static str],
    /// Texts in lower case of which the vendor's description contains one; any description, if the list is empty.
    pub texts: &'static [&'static str],
    /// Whether a clock that differs from the vendor's is a usual reason.
    pub clock: bool,
    pub class: Class,
    /// `{principal}` is the name of the principal, and `{key}` the value of a key of it, in both texts.
    pub title: &'static str,
    pub fix: &'static str,
}

type Texts = &'static [&'static str];

impl RefusalRule {
    /// A refusal for which the credential has to be changed.
    #[must_use]
    pub const fn new(errors: Texts, texts: Texts, title: &'static str, fix: &'static str) -> RefusalRule {
        RefusalRule { errors, texts, clock: false, class: Class::CredentialRejected, title, fix }
    }

    /// As [`RefusalRule::new`], for a refusal whose usual reason is a wrong clock.
    #[must_use]
    pub const fn clock(errors: Texts, texts: Texts, title: &'static str, fix: &'static str) -> RefusalRule {
        RefusalRule { clock: true, ..RefusalRule::new(errors, texts, title, fix) }
    }

    /// A refusal for which the policy has to be changed.
    #[must_use]
    pub const fn policy(errors: Texts, texts: Texts, title: &'static str, fix: &'static str) -> RefusalRule {
        RefusalRule { class: Class::Misconfigured, ..RefusalRule::new(errors, texts, title, fix) }
    }

    /// A refusal for which the vendor's administrator has to give a right.
    #[must_use]
    pub const fn permission(errors: Texts, texts: Texts, title: &'static str, fix: &'static str) -> RefusalRule {
        RefusalRule { class: Class::PermissionDenied, ..RefusalRule::new(errors, texts, title, fix) }
    }

    fn matches(&self, error: &str, description: &str) -> bool {
        let description = description.to_lowercase();
        (self.errors.is_empty() || self.errors.iter().any(|known| known.eq_ignore_ascii_case(error)))
            && (self.texts.is_empty() || self.texts.iter().any(|text| description.contains(text)))
    }
}

/// The rules of a vendor, filled for one principal.
pub struct Refusals {
    vendor: Cow<'static, str>,
    principal: String,
    rules: Vec<(&'static RefusalRule, String, String)>,
}

/// A refusal of a vendor. All texts are scrubbed.
pub struct Refusal<'a> {
    pub status: u16,
    pub error: &'a str,
    pub description: &'a str,
    /// The vendor's clock, if the response names it.
    pub server_date: Option<Timestamp>,
    /// The clock of this machine.
    pub now: Timestamp,
}

impl Refusals {
    /// Returns the failure by the first rule that fits.
    #[must_use]
    pub fn failure(&self, refusal: &Refusal<'_>) -> Failure {
        let Refusal { status, error, description, server_date, now } = *refusal;
        let Refusals { vendor, principal, .. } = self;
        let said = quoted(vendor, status, error, description);
        if status >= 500 {
            let title = format!("{vendor} failed while it checked the service principal {principal}");
            return Failure::new(Class::Remote, title, "AAM tries again; if this lasts, see the status page of the vendor")
                .detail(said);
        }
        let found = self.rules.iter().find(|(rule, ..)| rule.matches(error, description));
        if found.is_none_or(|(rule, ..)| rule.clock)
            && let Some(failure) = clock_failure(vendor, server_date, now, found.map(|(.., fix)| fix.as_str()))
        {
            return failure.detail(said);
        }
        let failure = match found {
            Some((rule, title, fix)) if rule.class == Class::Throttled => {
                Failure::new(rule.class, title.clone(), fix.clone()).after(SLOW_DOWN_WAIT)
            }
            Some((rule, title, fix)) => Failure::new(rule.class, title.clone(), fix.clone()),
            None if error.is_empty() => Failure::new(
                Class::Remote,
                format!("{vendor} answered the request of service principal {principal} in a form that AAM does not know"),
                format!(
                    "check that the address in credentials.principals.{principal} is the vendor's own, and that no proxy answers instead"
                ),
            ),
            None => Failure::new(
                Class::CredentialRejected,
                format!("{vendor} refused the service principal {principal}"),
                format!(
                    "read the vendor's reason in the detail, and compare credentials.principals.{principal} with the app at the vendor"
                ),
            ),
        };
        failure.detail(said)
    }
}

impl MintContext<'_> {
    /// Fills `rules` for this principal.
    #[must_use]
    pub fn refusals(&self, vendor: impl Into<Cow<'static, str>>, rules: &'static [RefusalRule]) -> Refusals {
        self.refusals_with(vendor, rules, &[])
    }

    /// Fills `rules` for this principal. In their texts, the names of `values` stand for these values.
    #[must_use]
    pub fn refusals_with(
        &self,
        vendor: impl Into<Cow<'static, str>>,
        rules: &'static [RefusalRule],
        values: &[(&str, String)],
    ) -> Refusals {
        let filled = |text: &str| {
            let mut text = text.replace("{principal}", self.name);
            for (name, value) in values {
                text = text.replace(&format!("{{{name}}}"), value);
            }
            self.principal.fill(&text)
        };
        let rules = rules.iter().map(|rule| (rule, filled(rule.title), filled(rule.fix))).collect();
        Refusals { vendor: vendor.into(), principal: self.name.to_string(), rules }
    }

    /// Returns the failure for a token that `vendor` did not issue.
    #[must_use]
    pub fn no_token(&self, vendor: &'static str, rules: &'static [RefusalRule], reason: NoToken) -> Failure {
        self.no_token_with(vendor, rules, &[], reason)
    }

    /// As [`MintContext::no_token`]; the names of `values` stand for these values in the texts of the rules.
    #[must_use]
    pub fn no_token_with(
        &self,
        vendor: &'static str,
        rules: &'static [RefusalRule],
        values: &[(&str, String)],
        reason: NoToken,
    ) -> Failure {
        match reason {
            NoToken::Failed(failure) => failure,
            NoToken::Refused(refusal) => self.refusals_with(vendor, rules, values).failure(&self.refusal(&refusal)),
        }
    }

    /// Returns the refusal together with the clock of this machine.
    #[must_use]
    pub fn refusal<'r>(&self, refusal: &'r TokenRefusal) -> Refusal<'r> {
        Refusal {
            status: refusal.status,
            error: &refusal.error,
            description: &refusal.description,
            server_date: refusal.server_date,
            now: self.providers.clock.now(),
        }
    }
}

/// The vendor's own text, marked as such.
fn quoted(vendor: &str, status: u16, error: &str, description: &str) -> String {
    let said: Vec<&str> = [error, description].into_iter().filter(|text| !text.is_empty()).collect();
    match said.as_slice() {
        [] => format!("{vendor} answered HTTP {status} without a reason"),
        said => format!("{vendor} answered HTTP {status}: \"{}\"", said.join(": ")),
    }
}

/// The difference between two clocks from which on it is named as the reason.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(30);

/// How long AAM waits if a vendor asks for fewer requests and does not say how long.
const SLOW_DOWN_WAIT: Duration = Duration::from_secs(30);

/// Returns the failure for a clock that differs from the vendor's, or `None` if they agree or the vendor's is not known.
/// `otherwise` is the fix if the clock is right after all.
fn clock_failure(vendor: &str, theirs: Option<Timestamp>, ours: Timestamp, otherwise: Option<&str>) -> Option<Failure> {
    let theirs = theirs?;
    let (ahead, behind) = (ours.since(theirs), theirs.since(ours));
    let difference = ahead.max(behind);
    if difference <= MAX_CLOCK_DIFFERENCE {
        return None;
    }
    let side = if ahead > behind { "ahead of" } else { "behind" };
    let otherwise = otherwise.filter(|fix| !fix.starts_with("correct the clock"));
    let otherwise = otherwise.map(|fix| format!(". If it is refused with the right time too: {fix}")).unwrap_or_default();
    Some(Failure::new(
        Class::CredentialRejected,
        format!(
            "{vendor} refuses what AAM signed, and the clock of this machine is {} {side} that of {vendor}",
            length(difference)
        ),
        format!(
            "correct the clock of this machine (timedatectl set-ntp true; chronyc tracking shows the difference), then aam \
             heal{otherwise}"
        ),
    ))
}

/// A length of time for a person: "90 seconds", "12 minutes".
fn length(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..120 => format!("{seconds} seconds"),
        seconds @ 120..7200 => format!("{} minutes", seconds / 60),
        seconds @ 7200..172_800 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Parses the header `Date` of a response (RFC 9110, section 5.6.7).
#[must_use]
pub fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|at| Timestamp(at.timestamp().as_millisecond()))
}
