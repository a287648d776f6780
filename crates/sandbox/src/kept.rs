//! What requests created at a vendor. Few vendors of the sandbox let anything be created; their routes have `keep`.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The items that one list may have. The oldest are forgotten first.
const MAX_ITEMS: usize = 10_000;

/// The lists of one account, by name. Each item has a key.
type Lists = BTreeMap<String, Vec<(String, Value)>>;

/// The lists of all accounts, by the number of the vendor and the key of the account.
#[derive(Default)]
pub struct Kept(Mutex<BTreeMap<(usize, String), Lists>>);

impl Kept {
    /// Adds an item, or replaces the one with the same key.
    pub fn keep(&self, vendor: usize, account: &str, list: &str, key: String, item: Value) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let items = all.entry((vendor, account.to_owned())).or_default().entry(list.to_owned()).or_default();
        match items.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = item,
            None => {
                if items.len() >= MAX_ITEMS {
                    items.remove(0);
                }
                items.push((key, item));
            }
        }
    }

    /// The lists of an account, as the name `kept` of templates: the items in the order in which they were created.
    pub fn lists(&self, vendor: usize, account: &str) -> Value {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lists) = all.get(&(vendor, account.to_owned())) else { return Value::Object(Map::new()) };
        let items = |items: &Vec<(String, Value)>| items.iter().map(|(_, item)| item.clone()).collect::<Value>();
        lists.iter().map(|(name, list)| (name.clone(), items(list))).collect::<Map<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_item_is_kept_for_its_account_and_replaced_by_its_key() {
        let kept = Kept::default();
        kept.keep(0, "acme", "sources", "1".to_owned(), json!({"name": "a"}));
        kept.keep(0, "acme", "sources", "2".to_owned(), json!({"name": "b"}));
        kept.keep(0, "acme", "sources", "1".to_owned(), json!({"name": "c"}));
        assert_eq!(kept.lists(0, "acme"), json!({"sources": [{"name": "c"}, {"name": "b"}]}));
        assert_eq!(kept.lists(0, "other"), json!({}));
        assert_eq!(kept.lists(1, "acme"), json!({}));
    }
}
