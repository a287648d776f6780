//! Typed reading that goes on after a problem, so that all of them are told at once.

mod scalars;

use super::yaml::{Kind, MAX_PROBLEMS, Node, step};
use crate::model::problem;
use crate::model::{Place, Problem};
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
    pub place: Place,
    entries: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Fields<'a> {
    /// The value of `name`, if it is written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Spot<'a>> {
        self.entries.get(name).map(|node| Spot { node, pointer: step(&self.pointer, name) })
    }
}

/// Collects problems while values are read.
pub struct Reader {
    pub problems: Vec<Problem>,
    /// Source types that the policy itself declares.
    pub own: BTreeSet<String>,
    /// There is a folder of manifests, so that other names may be source types, too.
    pub open: bool,
}

/// The longest text that a message repeats; a longer one may be a secret.
const SHOWN: usize = 24;

/// The longest list: a policy is a page of text, and lists are compared item by item.
const MAX_ITEMS: usize = 1000;

/// As [`problem::nearest`], for texts that may be of any length.
fn near<'a>(text: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 64 { None } else { problem::nearest(text, allowed) }
}

/// `text` in backquotes, or its length when it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    let length = text.chars().count();
    if length > SHOWN || text.chars().any(char::is_control) {
        format!("a text of {length} characters")
    } else {
        format!("`{text}`")
    }
}

fn found(node: &Node) -> String {
    match &node.kind {
        _ if node.is_null() => "nothing".to_string(),
        Kind::Scalar { text, plain: true } => shown(text),
        Kind::Scalar { text, plain: false } => format!("the quoted text {}", shown(text)),
        Kind::List(_) => "a list".to_string(),
        Kind::Map(_) => "a mapping".to_string(),
        Kind::Broken => "something else".to_string(),
    }
}

impl Reader {
    /// Notes a problem with a value.
    pub fn complain(&mut self, spot: &Spot<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.complain_at(&spot.pointer, spot.node.place, message, hint);
    }

    /// Notes a problem at a place, for what is missing.
    pub fn complain_at(&mut self, pointer: &str, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem::new(pointer, message).at(place).hint(hint));
        }
    }

    fn wrong_type(&mut self, spot: &Spot<'_>, expected: &str, hint: impl Into<String>) {
        if !matches!(spot.node.kind, Kind::Broken) {
            self.complain(spot, format!("expected {expected}, found {}", found(spot.node)), hint);
        }
    }

    /// The mapping behind `spot`, whose keys are all of `allowed`.
    pub fn fields<'a>(&mut self, spot: &Spot<'a>, allowed: &[&str]) -> Option<Fields<'a>> {
        let Kind::Map(pairs) = &spot.node.kind else {
            let hint = if spot.node.is_null() { "leave the key out, or write its values".to_string() } else { keys_are(allowed) };
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
            self.complain_at(&step(&spot.pointer, &key.text), key.place, format!("unknown key {}", shown(&key.text)), hint);
        }
        Some(Fields { pointer: spot.pointer.clone(), place: spot.node.place, entries })
    }

    /// The entries of a mapping whose keys are names of families; unknown names are problems.
    pub fn by_family<'a>(&mut self, spot: &Spot<'a>) -> Vec<(&'a str, Spot<'a>)> {
        let Kind::Map(pairs) = &spot.node.kind else {
            self.wrong_type(spot, "a mapping of families", "write family: {...}, or leave the key out");
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

    /// The entries of a mapping with any keys.
    pub fn entries<'a>(&mut self, spot: &Spot<'a>, what: &str) -> Vec<(&'a str, Spot<'a>)> {
        let Kind::Map(pairs) = &spot.node.kind else {
            self.wrong_type(spot, what, "write name: {...}, or leave the key out");
            return Vec::new();
        };
        pairs.iter().map(|(key, node)| (key.text.as_str(), Spot { node, pointer: step(&spot.pointer, &key.text) })).collect()
    }

    /// Whether `name` is a family; if not, that is a problem.
    pub fn known_family(&mut self, name: &str, pointer: &str, place: Place) -> bool {
        if crate::families::find(name).is_some() || self.own.contains(name) {
            return true;
        }
        let near = near(name, crate::families::ids());
        if self.open && near.is_none() && super::manifests::is_name(name) {
            return true;
        }
        let hint = match near {
            Some(near) if self.open => {
                format!("did you mean {near}? if {} is a manifest, name it under manifests.sources", shown(name))
            }
            Some(near) => format!("did you mean {near}?"),
            None => "`aam families` lists the families there are".to_string(),
        };
        self.complain_at(pointer, place, format!("unknown family {}", shown(name)), hint);
        false
    }

    /// The field `name` read by `read`, or `default` when it is not written or was wrong.
    pub fn field<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        name: &str,
        default: T,
        read: impl FnOnce(&mut Reader, &Spot<'a>) -> Option<T>,
    ) -> T {
        fields.get(name).and_then(|spot| read(self, &spot)).unwrap_or(default)
    }

    /// A field that may be left out or be null.
    pub fn optional<'a, T>(
        &mut self,
        fields: &Fields<'a>,
        name: &str,
        read: impl FnOnce(&mut Reader, &Spot<'a>) -> Option<T>,
    ) -> Option<T> {
        fields.get(name).filter(|spot| !spot.node.is_null()).and_then(|spot| read(self, &spot))
    }

    /// A field that must be there.
    pub fn required<'a>(&mut self, fields: &Fields<'a>, name: &str, hint: &str) -> Option<Spot<'a>> {
        let spot = fields.get(name);
        if spot.is_none() {
            self.complain_at(&fields.pointer, fields.place, format!("the key {name} is missing"), hint);
        }
        spot
    }

    /// The items of a list.
    pub fn list<'a>(&mut self, spot: &Spot<'a>, of: &str) -> Option<Vec<Spot<'a>>> {
        let Kind::List(items) = &spot.node.kind else {
            let hint = match &spot.node.kind {
                Kind::Scalar { text, .. } if !spot.node.is_null() && text.chars().count() <= SHOWN => {
                    format!("write [{text}]")
                }
                _ => "write [a, b], or [] for none".to_string(),
            };
            self.wrong_type(spot, &format!("a list of {of}"), hint);
            return None;
        };
        if items.len() > MAX_ITEMS {
            self.complain(spot, format!("{} items are too many", items.len()), format!("list at most {MAX_ITEMS}"));
            return None;
        }
        let spot_of = |(index, node)| Spot { node, pointer: step(&spot.pointer, &usize::to_string(&index)) };
        Some(items.iter().enumerate().map(spot_of).collect())
    }

    /// A list whose items `read` turns into values, none twice.
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
                self.complain(&item, format!("{} is listed twice", found(item.node)), "remove one of the two");
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
