//! The tenants of a vendor, and the moods that a name can have.

use crate::yaml::{Node, Problems};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How many moods one name can have, as in `slow-many-acme`.
const MAX_MOODS: usize = 3;

/// A tenant as a request names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The name in the request, with moods: `slow-acme`, or a GUID.
    pub key: String,
    /// The tenant without moods.
    pub name: String,
    pub moods: Vec<String>,
    /// Everything that the file says of it, with `key`, `name`, `id` and `moods`.
    pub data: Value,
}

#[derive(Default)]
pub struct Accounts {
    entries: BTreeMap<String, Account>,
    /// The names of all moods of the vendor.
    pub moods: Vec<String>,
}

impl Accounts {
    pub fn parse(node: Option<Node<'_>>, problems: &mut Problems) -> Accounts {
        let mut written: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (key, node) in node.map(|node| node.entries(problems)).unwrap_or_default() {
            match node.value {
                Value::Object(map) => drop(written.insert(key.to_lowercase(), with_key(key, map))),
                Value::Null => drop(written.insert(key.to_lowercase(), with_key(key, &Map::new()))),
                _ => problems.add(&node.pointer, "expected a mapping"),
            }
        }
        let entries = written.iter().map(|(key, own)| (key.clone(), account(own, &written))).collect();
        Accounts { entries, moods: Vec::new() }
    }

    /// The account that a name means, in any case of letters: an entry, or a mood, `-` and an account.
    pub fn find(&self, name: &str) -> Option<Account> {
        self.find_within(&name.to_lowercase(), MAX_MOODS)
    }

    fn find_within(&self, name: &str, moods: usize) -> Option<Account> {
        if let Some(account) = self.entries.get(name) {
            return Some(account.clone());
        }
        if let Some(twin) = self.twin(name, moods) {
            return Some(twin);
        }
        if moods == 0 {
            return None;
        }
        self.moods.iter().find_map(|mood| {
            // Hosts and organization names have no underscores, so `limited_date` is also written `limited-date`.
            let written = name.get(..mood.len())?.replace('_', "-");
            let rest = name.get(mood.len()..)?.strip_prefix('-')?;
            if written != mood.to_lowercase().replace('_', "-") {
                return None;
            }
            let account = self.find_within(rest, moods - 1).filter(|account| !account.moods.contains(mood))?;
            Some(account.with_mood(mood))
        })
    }

    /// `n7-acme`: a further account that is like `acme`, for a company that has many.
    fn twin(&self, name: &str, moods: usize) -> Option<Account> {
        let (number, rest) = name.split_once('-')?;
        let digits = number.strip_prefix('n')?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(self.find_within(rest, moods)?.with_key(number))
    }

    pub fn all(&self) -> impl Iterator<Item = &Account> {
        self.entries.values()
    }
}

impl Account {
    fn with_mood(self, mood: &str) -> Account {
        let mut account = self.with_key(&mood.replace('_', "-"));
        account.moods.insert(0, mood.to_owned());
        if let Value::Object(data) = &mut account.data {
            data.insert("moods".to_owned(), account.moods.as_slice().into());
        }
        account
    }

    fn with_key(mut self, prefix: &str) -> Account {
        self.key = format!("{prefix}-{}", self.key);
        if let Value::Object(data) = &mut self.data {
            data.insert("key".to_owned(), self.key.as_str().into());
        }
        self
    }

    pub fn has(&self, mood: &str) -> bool {
        self.moods.iter().any(|own| own == mood)
    }
}

fn with_key(key: &str, map: &Map<String, Value>) -> Map<String, Value> {
    let mut map = map.clone();
    map.insert("key".to_owned(), key.into());
    map
}

/// One entry with what it takes over from the tenant that it names.
fn account(own: &Map<String, Value>, written: &BTreeMap<String, Map<String, Value>>) -> Account {
    let text = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    let key = text(own, "key").unwrap_or_default();
    let name = text(own, "name").unwrap_or_else(|| key.clone());
    let is_base = |map: &&Map<String, Value>| {
        let names = [text(map, "key"), text(map, "name")];
        map.get("mood").is_none() && names.iter().flatten().any(|own| *own == name)
    };
    let mut data = written.values().find(is_base).cloned().unwrap_or_default();
    data.remove("id");
    data.extend(own.clone());
    let moods: Vec<String> = match data.remove("mood") {
        Some(Value::String(mood)) => vec![mood],
        Some(Value::Array(list)) => list.iter().filter_map(|mood| mood.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    data.entry("id").or_insert_with(|| key.as_str().into());
    data.insert("name".to_owned(), name.as_str().into());
    data.insert("moods".to_owned(), moods.as_slice().into());
    Account { key, name, moods, data: Value::Object(data) }
}
