//! Words only: the vocabulary every other module speaks.
//!
//! Nothing here knows a clock, a file, a socket or async. A value is made here,
//! carried by the rest, and rendered by `report`. The words are those of the
//! README's state table; one word names one thing in code, API, docs and database.

pub mod attempt;
pub mod call;
pub mod cap;
pub mod catalog;
pub mod failure;
pub mod ids;
pub mod intent;
pub mod ledger;
pub mod post;
pub mod problem;
pub mod state;
pub mod step;

pub use attempt::{Outcome, Scope};
pub use call::PlannedCall;
pub use cap::Cap;
pub use catalog::{Catalog, Drift, Stream, SyncMode};
pub use failure::{Class, Failure, Retry};
pub use ids::{ConnectionId, Digest, Origin};
pub use intent::{Intent, Locator, Risk};
pub use post::{Allowed, BodyRule, PostRule, Posts, Shape};
pub use problem::{Place, Problem};
pub use state::State;
pub use step::{Evidence, Privilege, Step, StepReport, StepStatus};

/// Milliseconds since the Unix epoch, UTC. The only time the registry stores.
///
/// Pure code takes a `Timestamp` as an argument; only `clock.rs` makes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant `duration` later; saturates.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds, the form of every answer and log.
    #[must_use]
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => format!("{at:.3}"),
            Err(_) => format!("{} ms since 1970", self.0),
        }
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// The parser's own words when `text` is no RFC 3339 instant.
    pub fn parse(text: &str) -> Result<Timestamp, String> {
        text.parse::<jiff::Timestamp>().map(|at| Timestamp(at.as_millisecond())).map_err(|error| error.to_string())
    }

    /// The UTC day, for day budgets: days since 1970-01-01.
    #[must_use]
    pub fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }

    /// The first instant of the next UTC day, when day budgets start anew.
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
