//! The user's config, and a record of whether it was read.

use super::value::Value;
use std::sync::atomic::{AtomicBool, Ordering};

/// The user's config, after config migrations. It can record whether it was read: a stream that was built without
/// reading the config is the same for every config.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    value: &'a Value,
    used: Option<&'a AtomicBool>,
}

impl<'a> Config<'a> {
    #[must_use]
    pub fn new(value: &'a Value) -> Config<'a> {
        Config { value, used: None }
    }

    /// Returns the same config, which sets `used` when it is read.
    #[must_use]
    pub fn recorded<'b>(self, used: &'b AtomicBool) -> Config<'b>
    where
        'a: 'b,
    {
        Config { value: self.value, used: Some(used) }
    }

    /// Returns the value of the config, and records that it was read.
    #[must_use]
    pub fn value(self) -> &'a Value {
        if let Some(used) = self.used {
            used.store(true, Ordering::Relaxed);
        }
        self.value
    }
}
