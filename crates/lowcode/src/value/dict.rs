//! Dicts, whose entries are shared.

use super::Value;
use indexmap::IndexMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The entries of a dict, with its keys in the order in which they were written.
pub type Entries = IndexMap<Arc<str>, Value>;

/// A dict. Its copies share their entries until one of them is changed, because a manifest refers to the same large schema
/// from many streams.
#[derive(Clone, Debug, Default)]
pub struct Dict(Arc<Entries>);

impl Dict {
    /// An empty dict with room for `capacity` entries.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Dict {
        Dict(Arc::new(Entries::with_capacity(capacity)))
    }

    /// The keys, in order.
    #[must_use]
    pub fn keys(&self) -> indexmap::map::Keys<'_, Arc<str>, Value> {
        self.0.keys()
    }

    /// The values, in order.
    #[must_use]
    pub fn values(&self) -> indexmap::map::Values<'_, Arc<str>, Value> {
        self.0.values()
    }

    /// What tells two dicts with shared entries from two equal ones.
    #[must_use]
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Whether another copy shares the entries.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn into_entries(self) -> Entries {
        Arc::try_unwrap(self.0).unwrap_or_else(|shared| (*shared).clone())
    }
}

impl Deref for Dict {
    type Target = Entries;

    fn deref(&self) -> &Entries {
        &self.0
    }
}

impl DerefMut for Dict {
    fn deref_mut(&mut self) -> &mut Entries {
        Arc::make_mut(&mut self.0)
    }
}

impl PartialEq for Dict {
    fn eq(&self, other: &Dict) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl FromIterator<(Arc<str>, Value)> for Dict {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(entries: I) -> Dict {
        Dict(Arc::new(Entries::from_iter(entries)))
    }
}

impl Extend<(Arc<str>, Value)> for Dict {
    fn extend<I: IntoIterator<Item = (Arc<str>, Value)>>(&mut self, entries: I) {
        Arc::make_mut(&mut self.0).extend(entries);
    }
}

impl IntoIterator for Dict {
    type Item = (Arc<str>, Value);
    type IntoIter = indexmap::map::IntoIter<Arc<str>, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_entries().into_iter()
    }
}

impl<'d> IntoIterator for &'d Dict {
    type Item = (&'d Arc<str>, &'d Value);
    type IntoIter = indexmap::map::Iter<'d, Arc<str>, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'d> IntoIterator for &'d mut Dict {
    type Item = (&'d Arc<str>, &'d mut Value);
    type IntoIter = indexmap::map::IterMut<'d, Arc<str>, Value>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::make_mut(&mut self.0).iter_mut()
    }
}
