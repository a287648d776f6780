//! A failure that may be met many times a second, and is logged once.

use std::time::{Duration, Instant};

/// How long a failure that lasts is not logged again.
const PAUSE: Duration = Duration::from_secs(60);

/// The failure that was logged last.
#[derive(Debug, Default)]
pub(super) struct Repeated(Option<(String, Instant)>);

impl Repeated {
    /// Whether to log `failure`: if another one was logged last, or if that was a minute ago.
    pub(super) fn is_news(&mut self, failure: &str, now: Instant) -> bool {
        let known = self.0.as_ref().is_some_and(|(last, at)| last == failure && now.duration_since(*at) < PAUSE);
        if !known {
            self.0 = Some((failure.to_string(), now));
        }
        !known
    }

    /// What failed works again.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_lasts_is_logged_once_a_minute() {
        let (mut repeated, now) = (Repeated::default(), Instant::now());
        assert!(repeated.is_news("no answer", now));
        assert!(!repeated.is_news("no answer", now + PAUSE / 2));
        assert!(repeated.is_news("no answer", now + PAUSE));
        assert!(repeated.is_news("refused", now + PAUSE), "another failure");
        repeated.end();
        assert!(repeated.is_news("refused", now + PAUSE), "it worked meanwhile");
    }
}
