//! Typed access to the parsed YAML. It continues after a problem, so that all problems are reported at once.

mod scalars;

use super::yaml::{MAX_PROBLEMS, MAX_SHOWN_CHARS, Node, NodeKind, shown, step};
use crate::model::problem;
use crate::model::{FilePlace, Locator, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// A value and its JSON pointer.
#[derive(Clone)]
pub struct Spot<'a> {
    pub node: &'a Node,
    pub pointer: String,
}

/// The known keys of one mapping.
pub struct Fields<'a> {
    pub pointer: String,
    pub place: FilePlace,
    entries: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Fields<'a> {
    /// The value of `name`, or `None` if the key is missing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Spot<'a>> {
        self.entries.get(name).map(|node| Spot { node, pointer: step(&self.pointer, name) })
    }
}

/// Collects problems while values are read.
#[derive(Default)]
pub struct Reader {
    pub problems: Vec<Problem>,
    /// The custom sources that the policy declares under `manifests.sources`.
    pub custom_sources: BTreeSet<String>,
    /// True if the policy names a folder of manifests, whose file names are source types too.
    pub allows_custom_sources: bool,
    /// Where the policy's own secrets are stored, with the place that says so.
    pub secrets: Vec<(Locator, String, FilePlace)>,
    /// Whether the policy describes a vault, valid or not.
    pub has_vault: bool,
    /// The keys of the mappings that were read, for the test of the table of `policy diff`.
    #[cfg(test)]
    pub seen: Vec<Seen>,
}

/// A mapping or list that was read, by its JSON pointer.
#[cfg(test)]
pub enum Seen {
    Keys(String, Vec<String>),
    /// The keys of the mapping are names.
    Names(String),
    List(String),
}

/// Lists are compared item by item, so their length is limited.
const MAX_ITEMS: usize = 1000;

/// As [`problem::nearest`], for a text of any length.
fn near<'a>(text: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 64 { None } else { problem::nearest(text, allowed) }
}

fn describe(node: &Node) -> String {
    match &node.kind {
        _ if node.is_null() => "nothing".to_string(),
        NodeKind::Scalar { text, plain: true } => shown(text),
        NodeKind::Scalar { text, plain: false } => format!("the quoted text {}", shown(text)),
        NodeKind::List(_) => "a list".to_string(),
        NodeKind::Map(_) => "a mapping".to_string(),
        NodeKind::Broken => "something else".to_string(),
    }
}

impl Reader {
    /// Records a problem with a value.
    pub fn report(&mut self, spot: &Spot<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.report_at(&spot.pointer, spot.node.place, message, hint);
    }

    /// Records a problem at a position, for a value that is missing.
    pub fn report_at(&mut self, pointer: &str, place: FilePlace, message: impl Into<String>, hint: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem::new(pointer, message).at(place).hint(hint));
        }
    }

    fn wrong_type(&mut self, spot: &Spot<'_>, expected: &str, hint: impl Into<String>) {
        if !matches!(spot.node.kind, NodeKind::Broken) {
            self.report(spot, format!("expected {expected}, found {}", describe(spot.node)), hint);
        }
    }

    /// Reads a mapping. Keys that are not in `allowed` are problems.
    pub fn fields<'a>(&mut self, spot: &Spot<'a>, allowed: &[&str]) -> Option<Fields<'a>> {
        #[cfg(test)]
        self.seen.push(Seen::Keys(spot.pointer.clone(), allowed.iter().map(ToString::to_string).collect()));
        let NodeKind::Map(pairs) = &spot.node.kind else {
            let hint = if spot.node.is_null() { "remove the key, or write its values".to_string() } else { keys_are(allowed) };
            self.wrong_type(spot, "a mapping (key: value)", hint);
            return None;
        };
        let mut entries = BTreeMap::new();
        for (key, value) in pairs {
            if allowed.contains(&key.text.as_str()) {
                entries.insert(key.text.as_str(), value);
                continue;
            }
            let hint = match near(&key.text, allowed.iter().copied()) {
                Some(name) => format!("did you mean {name}?"),
                None => keys_are(allowed),
            };
            self.report_at(&step(&spot.pointer, &key.text), key.place, format!("unknown key {}", shown(&key.text)), hint);
        }
        Some(Fields { pointer: spot.pointer.clone(), place: spot.node.place, entries })
    }

    /// Reads a mapping from families to values. Unknown families are problems.
    pub fn by_family<'a>(&mut self, spot: &Spot<'a>) -> Vec<(&'a str, Spot<'a>)> {
        #[cfg(test)]
        self.seen.push(Seen::Names(spot.pointer.clone()));
        let NodeKind::Map(pairs) = &spot.node.kind else {
            self.wrong_type(spot, "a mapping of families", "write FAMILY: {...}, or remove the key");
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (key, node) in pairs {
            let pointer = step(&spot.pointer, &key.text);
            if self.known_family(&key.text, &pointer, key.place) {
                entries.push((key.text.as_str(), Spot { node, pointer }));
            }
        }
        entries
    }

    /// Reads a mapping with any keys.
    pub fn entries<'a>(&mut self, spot: &Spot<'a>, what: &str) -> Vec<(&'a str, Spot<'a>)> {
        #[cfg(test)]
        self.seen.push(Seen::Names(spot.pointer.clone()));
        let NodeKind::Map(pairs) = &spot.node.kind else {
            self.wrong_type(spot, what, "write NAME: {...}, or remove the key");
            return Vec::new();
        };
        pairs.iter().map(|(key, node)| (key.text.as_str(), Spot { node, pointer: step(&spot.pointer, &key.text) })).collect()
    }

    /// Whether `name` is a family or a custom source; if not, that is a problem.
    pub fn known_family(&mut self, name: &str, pointer: &str, place: FilePlace) -> bool {
        if crate::families::exists(name) || self.custom_sources.contains(name) {
            return true;
        }
        let near = crate::families::aliases::alias(name).or_else(|| near(name, crate::families::ids()));
        if self.allows_custom_sources && near.is_none() && crate::families::is_source_name(name) {
            return true;
        }
        let hint = match near {
            Some(near) if self.allows_custom_sources => {
                format!("did you mean {near}? If {} is a manifest, declare it under manifests.sources", shown(name))
            }
            Some(near) => format!("did you mean {near}?"),
            None => "`aam families` lists all families".to_string(),
        };
        self.report_at(pointer, place, format!("unknown family {}", shown(name)), hint);
        false
    }

    /// Reads the field `name` with `read`. Returns `default` if it is missing or not valid.
    pub fn field<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        name: &str,
        default: T,
        read: impl FnOnce(&mut Reader, &Spot<'a>) -> Option<T>,
    ) -> T {
        fields.get(name).and_then(|spot| read(self, &spot)).unwrap_or(default)
    }

    /// Reads a field that may be missing or null.
    pub fn optional<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        name: &str,
        read: impl FnOnce(&mut Reader, &Spot<'a>) -> Option<T>,
    ) -> Option<T> {
        fields.get(name).filter(|spot| !spot.node.is_null()).and_then(|spot| read(self, &spot))
    }

    /// Returns a field that must not be missing.
    pub fn required<'a>(&mut self, fields: &Fields<'a>, name: &str, hint: &str) -> Option<Spot<'a>> {
        let spot = fields.get(name);
        if spot.is_none() {
            self.report_at(&fields.pointer, fields.place, format!("the key {name} is missing"), hint);
        }
        spot
    }

    /// Returns the items of a list.
    pub fn list<'a>(&mut self, spot: &Spot<'a>, of: &str) -> Option<Vec<Spot<'a>>> {
        #[cfg(test)]
        self.seen.push(Seen::List(spot.pointer.clone()));
        let NodeKind::List(items) = &spot.node.kind else {
            let hint = match &spot.node.kind {
                NodeKind::Scalar { text, .. } if !spot.node.is_null() && text.chars().count() <= MAX_SHOWN_CHARS => {
                    format!("write [{text}]")
                }
                _ => "write [a, b], or [] for an empty list".to_string(),
            };
            self.wrong_type(spot, &format!("a list of {of}"), hint);
            return None;
        };
        if items.len() > MAX_ITEMS {
            self.report(spot, format!("the list has {} items, the limit is {MAX_ITEMS}", items.len()), "shorten the list");
            return None;
        }
        let spot_of = |(index, node)| Spot { node, pointer: step(&spot.pointer, &usize::to_string(&index)) };
        Some(items.iter().enumerate().map(spot_of).collect())
    }

    /// Reads a list of values. A value that is listed twice is a problem.
    pub fn unique<'a, T: PartialEq>(
        &mut self,
        spot: &Spot<'a>,
        of: &str,
        mut read: impl FnMut(&mut Reader, &Spot<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut values: Vec<T> = Vec::new();
        for item in self.list(spot, of)? {
            let Some(value) = read(self, &item) else {
                continue;
            };
            if values.contains(&value) {
                self.report(&item, format!("{} is listed twice", describe(item.node)), "remove one of the two");
            } else {
                values.push(value);
            }
        }
        Some(values)
    }
}

fn keys_are(allowed: &[&str]) -> String {
    format!("the keys here are {}", allowed.join(", "))
}
