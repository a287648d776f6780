//! Numbers for values that many records have in common.

use crate::model::Digest;
use std::collections::HashMap;
use std::hash::Hash;

/// Gives each value the number of its first use. The record that uses a value first defines it.
#[derive(Clone, Debug)]
pub(super) struct Numbers<T> {
    numbers: HashMap<T, u32>,
    /// The values that no finished record has defined.
    new: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Numbers<T> {
        Numbers { numbers: HashMap::new(), new: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Numbers<T> {
    /// The number of `value`.
    pub(super) fn of(&mut self, value: &T) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.numbers.insert(value.clone(), number);
        self.new.push(value.clone());
        number
    }

    /// All values, in the order of their numbers, which begin again.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        self.numbers.clear();
        std::mem::take(&mut self.new)
    }

    /// The values that the next record must define, in the order of their numbers.
    pub(super) fn take_new(&mut self) -> Vec<T> {
        std::mem::take(&mut self.new)
    }
}

/// Returns value `number` of `values`.
///
/// # Errors
/// If no record has defined it.
pub(super) fn value<T: Clone>(values: &[T], number: u32) -> Result<T, String> {
    let found = usize::try_from(number).ok().and_then(|number| values.get(number));
    found.cloned().ok_or_else(|| format!("value {number} is not defined"))
}

/// A digest as 32 bytes. The form of [`Digest`] is text, which is made for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawDigest(pub Digest);

impl serde::Serialize for RawDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.0)
    }
}

impl<'de> serde::Deserialize<'de> for RawDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<RawDigest, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        let bytes = bytes.try_into().map_err(|_| serde::de::Error::custom("expected 32 bytes"))?;
        Ok(RawDigest(Digest(bytes)))
    }
}
