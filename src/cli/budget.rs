//! Day budgets in memory, for commands that must not write to the registry.

use crate::egress::DayBudget;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Counts the calls of this process only.
#[derive(Default)]
pub struct InMemoryDayBudget(Mutex<HashMap<(String, i64), u64>>);

impl DayBudget for InMemoryDayBudget {
    fn take<'a>(&'a self, key: &'a str, day: i64, wanted: u64, limit: u64) -> BoxFuture<'a, Result<u64, String>> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry((key.to_string(), day)).or_insert(0);
        let granted = wanted.min(limit.saturating_sub(*used));
        *used += granted;
        Box::pin(std::future::ready(Ok(granted)))
    }
}
