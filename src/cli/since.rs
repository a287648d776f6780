//! Times on the command line: an instant, or how long ago.

use crate::model::Timestamp;
use std::time::Duration;

/// Parses a point in time before `now`: `90s`, `30m`, `24h`, `7d` or `2w` ago, or an RFC 3339 timestamp.
///
/// # Errors
/// Returns what to write instead.
pub fn parse(option: &str, text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(ago) = duration(text) {
        let ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp(now.0.saturating_sub(ms)));
    }
    Timestamp::parse(text).map_err(|_| {
        format!("{option} {text} is neither a duration nor an RFC 3339 timestamp; write it as 24h or as 2026-11-08T18:00:00Z")
    })
}

/// Parses a duration: `90s`, `30m`, `24h`, `7d` or `2w`.
pub fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_instants() {
        let now = Timestamp(1_000_000_000);
        assert_eq!(parse("--since", "90s", now), Ok(Timestamp(1_000_000_000 - 90_000)));
        assert_eq!(parse("--since", "7d", now), Ok(Timestamp(1_000_000_000 - 7 * 86_400_000)));
        assert_eq!(parse("--since", "1970-01-02T00:00:00Z", now), Ok(Timestamp(86_400_000)));
        for wrong in ["", "d", "yesterday", "1.5h", "-3h", "99999999999999999999d", "5y"] {
            assert!(parse("--since", wrong, now).unwrap_err().contains("write it as 24h"), "{wrong}");
        }
    }
}
