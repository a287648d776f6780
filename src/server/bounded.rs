//! Keeps responses within bounds: whatever sources and documents contain, a response stays a few MiB long.

use crate::funnel::{Blocker, Funnel};
use crate::report::result::ConnectionResult;
use serde::Serialize;
use std::io::Write;

/// The size at which a page ends, in bytes of JSON. A page holds at least one item, so that every item can be read.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// The maximum number of blockers of a funnel. Their titles may contain names of files and tables, so their number can
/// approach the number of connections.
pub const MAX_BLOCKERS: usize = 100;

/// Counts the bytes of a page.
#[derive(Debug, Default)]
pub struct PageBytes {
    used: usize,
    items: usize,
}

impl PageBytes {
    /// Counts an item of `bytes` bytes. Returns false if the item does not fit any more. The first item always fits.
    pub fn fits(&mut self, bytes: usize) -> bool {
        let total = self.used.saturating_add(bytes);
        if self.items > 0 && total > MAX_PAGE_BYTES {
            return false;
        }
        self.used = total;
        self.items += 1;
        true
    }
}

/// Returns the size of `value` as JSON, without building the text.
pub fn json_len(value: &impl Serialize) -> usize {
    struct Counter(usize);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // A value that cannot be serialized fails when the response is built.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

/// Removes the steps and warnings of a result that does not fit on its page, for responses that must name every result.
pub fn shorten(page: &mut PageBytes, result: &mut ConnectionResult) {
    if !page.fits(json_len(result)) {
        result.steps = None;
        result.warnings.clear();
    }
}

/// Limits the number of blockers. The last one stands for all others.
#[must_use]
pub fn bounded_funnel(mut funnel: Funnel) -> Funnel {
    if funnel.blockers.len() > MAX_BLOCKERS {
        let others = funnel.blockers.split_off(MAX_BLOCKERS - 1);
        funnel.blockers.push(Blocker {
            name: format!("{} other blockers", others.len()),
            count: others.iter().map(|blocker| blocker.count).sum(),
            fix: "aam status lists every connection with its fix".to_string(),
        });
    }
    funnel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_size_and_holds_at_least_one_item() {
        let mut page = PageBytes::default();
        assert!(page.fits(2 * MAX_PAGE_BYTES), "the first item");
        assert!(!page.fits(1));
        let mut page = PageBytes::default();
        assert!(page.fits(MAX_PAGE_BYTES - 1) && page.fits(1) && !page.fits(1));
        assert_eq!(json_len(&serde_json::json!({"a": [1, "ü"]})), "{\"a\":[1,\"ü\"]}".len());
    }
}
