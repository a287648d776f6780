//! The user's config, and whether it was read.

use super::value::Value;
use std::sync::atomic::{AtomicBool, Ordering};

/// The user's config, after config migrations. It can record that it was read: a stream that was built without
/// reading it is the same for every config.
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

    /// The same config. Reading it sets `used`.
    #[must_use]
    pub fn recorded<'b>(self, used: &'b AtomicBool) -> Config<'b>
    where
        'a: 'b,
    {
        Config { value: self.value, used: Some(used) }
    }

    /// The config itself.
    #[must_use]
    pub fn value(self) -> &'a Value {
        if let Some(used) = self.used {
            used.store(true, Ordering::Relaxed);
        }
        self.value
    }
}
