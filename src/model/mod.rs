//! The domain types that all other modules use.
//!
//! Nothing here depends on a clock, a file, a socket or async code. The names are the same in the code, the API,
//! the documentation and the database.

mod archived;
pub mod attempt;
pub mod call;
pub mod cap;
pub mod catalog;
pub mod ending;
pub mod event;
pub mod failure;
pub mod ids;
pub mod intent;
pub mod ledger;
pub mod locator;
pub mod locator_forms;
pub mod post;
pub mod problem;
pub mod recipient;
pub mod schema_change;
pub mod state;
pub mod step;
pub mod text;

pub use archived::{MAX_MISSING_FILES, MissingFile, MissingFiles};
pub use attempt::{EndingSecret, Outcome, Scope};
pub use call::{
    CallAttempt, CallPosition, CallPurpose, CallTarget, CallsAnchor, InterruptedAttempt, NewCallBatch, PlannedCall, RecordedCall,
    RecordedCalls, StoredCall,
};
pub use cap::Cap;
pub use catalog::{Catalog, Drift, Stream, SyncMode};
pub use event::EventType;
pub use failure::{Class, Failure, Retry};
pub use ids::{ADMIN_TOKEN, ConnectionId, DEMO_NAMESPACE, Digest, Origin, PARTITIONS};
pub use intent::{Intent, Risk, RiskLevel};
pub use locator::Locator;
pub use post::{Allowed, BodyRule, PostRule, Posts, Shape};
pub use problem::{FilePlace, Problem};
pub use recipient::Recipient;
pub use state::State;
pub use step::{Evidence, Privilege, Step, StepReport, StepStatus};

/// A point in time in milliseconds since the Unix epoch (UTC). The registry stores all times in this form.
///
/// Pure code takes a `Timestamp` as an argument; only `clock.rs` reads the current time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the instant that is `duration` later. Saturates instead of overflowing.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Formats the timestamp as RFC 3339 in UTC with milliseconds, as in all responses and logs.
    #[must_use]
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => format!("{at:.3}"),
            Err(_) => format!("{} ms since 1970", self.0),
        }
    }

    /// For `serialize_with`: writes the timestamp as [`Timestamp::rfc3339`] and not as a number.
    ///
    /// # Errors
    /// If the serializer fails.
    pub fn serialize_rfc3339<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.rfc3339())
    }

    /// Parses an RFC 3339 timestamp.
    ///
    /// # Errors
    /// Returns the parser's message if `text` is not valid.
    pub fn parse(text: &str) -> Result<Timestamp, String> {
        text.parse::<jiff::Timestamp>().map(|at| Timestamp(at.as_millisecond())).map_err(|error| error.to_string())
    }

    /// Parses the value of an HTTP `Date` header, which is also the long form of `Retry-After`. The two obsolete forms of
    /// RFC 9110, section 5.6.7, are accepted too.
    #[must_use]
    pub fn from_http_date(text: &str) -> Option<Timestamp> {
        if let Ok(at) = jiff::fmt::rfc2822::parse(text) {
            return Some(Timestamp(at.timestamp().as_millisecond()));
        }
        let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
        let at = forms.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
        let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Timestamp(at.timestamp().as_millisecond()))
    }

    /// Describes how far this instant of one clock is from the same instant of another: `20 s ahead of`, `20 s behind`.
    #[must_use]
    pub fn distance_from(self, other: Timestamp) -> String {
        let seconds = self.0.saturating_sub(other.0) / 1000;
        format!("{} s {}", seconds.unsigned_abs(), if seconds > 0 { "ahead of" } else { "behind" })
    }

    /// Returns the UTC day as the number of days since 1970-01-01. Day budgets are counted by it.
    #[must_use]
    pub fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }

    /// Returns the first instant of the next UTC day, when day budgets are reset.
    #[must_use]
    pub fn next_day(self) -> Timestamp {
        Timestamp((self.day() + 1).saturating_mul(86_400_000))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.rfc3339())
    }
}
