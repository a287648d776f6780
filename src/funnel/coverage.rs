//! Coverage in whole numbers, so that no figure is rounded up. Pure.

use super::Funnel;
use std::cmp::Ordering;

/// The number of hundredths of a point in a full coverage.
const HUNDREDTHS: u128 = 10_000;

/// How many of the eligible connections are active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub active: u64,
    pub eligible: u64,
}

impl From<&Funnel> for Coverage {
    fn from(funnel: &Funnel) -> Coverage {
        Coverage { active: funnel.active, eligible: funnel.eligible }
    }
}

impl Coverage {
    /// The coverage in whole percent. It is truncated, so that 89.6 % is not shown as 90 %. 0 if nothing is eligible.
    #[must_use]
    pub fn percent(self) -> u64 {
        let percent = (u128::from(self.active) * 100).checked_div(u128::from(self.eligible)).unwrap_or(0);
        u64::try_from(percent).unwrap_or(u64::MAX)
    }

    /// The number of further eligible connections that must become ACTIVE so that the coverage reaches `target`, a share
    /// between 0 and 1. 0 if the target is reached, or if nothing is eligible.
    #[must_use]
    pub fn missing(self, target: f64) -> u64 {
        let eligible = share_part(self.eligible);
        // The smallest number whose share reaches the target, compared exactly as the funnel compares its coverage.
        let (mut low, mut high) = (0, self.eligible);
        while low < high {
            let middle = low + (high - low) / 2;
            if share_part(middle) / eligible >= target {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low.saturating_sub(self.active)
    }

    /// The coverage after `activated` connections became ACTIVE, of which `newly` were not eligible before.
    #[must_use]
    pub fn after(self, activated: u64, newly: u64) -> Coverage {
        Coverage { active: self.active.saturating_add(activated), eligible: self.eligible.saturating_add(newly) }
    }

    /// Compares two coverages. Without eligible connections the coverage is 0.
    #[must_use]
    pub fn compare(self, other: Coverage) -> Ordering {
        let (a, b) = (self.fraction(), other.fraction());
        (a.0 * b.1).cmp(&(b.0 * a.1))
    }

    /// By how much `after` is higher, in hundredths of a percentage point, truncated. 0 if it is not higher.
    #[must_use]
    pub fn gain(self, after: Coverage) -> u64 {
        let (before, after) = (self.fraction(), after.fraction());
        // Counts of connections stay far below 2^40, so no product overflows.
        let higher = (after.0 * before.1).saturating_sub(before.0 * after.1);
        let gain = (higher * HUNDREDTHS).checked_div(before.1 * after.1).unwrap_or(0);
        u64::try_from(gain).unwrap_or(u64::MAX)
    }

    /// The numerator and the denominator, which is not 0.
    fn fraction(self) -> (u128, u128) {
        match self.eligible {
            0 => (0, 1),
            eligible => (u128::from(self.active), u128::from(eligible)),
        }
    }
}

/// A count as a part of a share.
fn share_part(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Formats hundredths of a point for people: `+14 points`, `+0.3 points`.
#[must_use]
pub fn points(hundredths: u64) -> String {
    match hundredths {
        0..=9 => "less than +0.1 points".to_string(),
        10..=99 => format!("+0.{} points", hundredths / 10),
        100..=199 => "+1 point".to_string(),
        _ => format!("+{} points", hundredths / 100),
    }
}

/// Formats a target between 0 and 1 as percent, with at most two decimals: `90`, `99.5`.
#[must_use]
pub fn target_percent(target: f64) -> String {
    let text = format!("{:.2}", target * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn coverage(active: u64, eligible: u64) -> Coverage {
        Coverage { active, eligible }
    }

    #[test]
    fn the_numbers_of_the_answer_are_exact() {
        assert_eq!((coverage(156, 200).percent(), coverage(156, 200).missing(0.9)), (78, 24));
        assert_eq!((coverage(896, 1000).percent(), coverage(896, 1000).missing(0.9)), (89, 4));
        assert_eq!((coverage(9, 10).percent(), coverage(9, 10).missing(0.9)), (90, 0));
        // 0.07 * 100 is more than 7 as a floating-point number, and 7 of 100 is enough.
        assert_eq!((coverage(0, 100).missing(0.07), coverage(0, 100).missing(0.29)), (7, 29));
        assert_eq!((coverage(0, 0).percent(), coverage(0, 0).missing(0.9)), (0, 0));
        assert_eq!(coverage(0, 7).missing(1.0), 7);
    }

    #[test]
    fn gains_are_computed_from_the_coverage_after_the_fix() {
        assert_eq!(coverage(156, 214).gain(coverage(186, 214)), 1401);
        assert_eq!(coverage(70, 100).gain(coverage(70, 100).after(30, 30)), 692, "100 of 130");
        assert_eq!(coverage(0, 0).gain(coverage(0, 0).after(3, 3)), 10_000);
        assert_eq!(coverage(5, 5).gain(coverage(5, 5).after(3, 3)), 0, "full coverage cannot rise");
        assert_eq!(
            [0, 9, 10, 99, 100, 199, 200, 1401].map(points),
            [
                "less than +0.1 points",
                "less than +0.1 points",
                "+0.1 points",
                "+0.9 points",
                "+1 point",
                "+1 point",
                "+2 points",
                "+14 points"
            ]
        );
        assert_eq!([0.9, 0.995, 1.0, 0.29, 0.0].map(target_percent), ["90", "99.5", "100", "29", "0"]);
    }

    proptest! {
        #[test]
        fn as_many_as_are_missing_are_enough_and_one_less_is_not(active in 0..500_u64, more in 0..500_u64, target in 0.0..=1.0_f64) {
            let eligible = active + more;
            let missing = coverage(active, eligible).missing(target);
            let reaches = |active: u64| eligible > 0 && active as f64 / eligible as f64 >= target;
            if eligible > 0 {
                prop_assert!(reaches(active + missing));
                prop_assert!(missing == 0 || !reaches(active + missing - 1));
            }
        }
    }
}
