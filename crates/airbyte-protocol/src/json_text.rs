//! JSON that is kept as text.

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;

/// One JSON value that is kept as text. The text is valid JSON of bounded depth and size. A parsed value needs up to a
/// hundred times the memory of its text, so callers parse one at a time.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(Box<str>);

impl JsonText {
    pub(crate) fn new(raw: &RawValue) -> Self {
        Self(raw.get().into())
    }

    pub(crate) fn empty_object() -> Self {
        Self("{}".into())
    }

    /// Returns the JSON text. It may contain secrets and customer data.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the parsed value.
    ///
    /// # Errors
    ///
    /// The text has a number that does not fit into a double, or half of a surrogate pair: both are valid in JSON's grammar
    /// and Python writes them.
    pub fn parse(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

/// Writes the value itself, not a string. This works with `serde_json` only.
impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Shows the size only: the text may be a configuration with its secrets.
impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.0.len())
    }
}
