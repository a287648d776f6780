//! Finds the line and column of JSON pointers, in a second pass over documents that have problems.

use super::json::token;
use crate::model::FilePlace;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The number of duplicate keys that are reported.
const MAX_DUPLICATES: usize = 100;

/// The result of the second pass.
pub struct Located {
    nodes: Vec<Node>,
    places: HashMap<usize, FilePlace>,
    /// Pointer and position of each key that occurs a second time in its object.
    pub duplicates: Vec<(String, FilePlace)>,
}

/// The wanted pointers as a tree, so that no pointers are built for the rest of the document.
#[derive(Default)]
struct Node {
    children: HashMap<String, usize>,
    offset: Option<usize>,
}

impl Located {
    /// The position of `pointer`, or of its nearest ancestor if `pointer` names something that is missing.
    #[must_use]
    pub fn place(&self, pointer: &str) -> Option<FilePlace> {
        let mut best = None;
        let mut at = Some(0);
        let mut tokens = pointer.split('/').skip(1);
        while let Some(node) = at.and_then(|index| self.nodes.get(index)) {
            best = node.offset.or(best);
            at = tokens.next().and_then(|token| node.children.get(token).copied());
        }
        best.and_then(|offset| self.places.get(&offset).copied())
    }
}

/// Finds the positions of the `wanted` pointers and all duplicate keys. `text` must have been accepted by
/// [`super::json::read`].
#[must_use]
pub fn locate<'p>(text: &str, wanted: impl IntoIterator<Item = &'p str>) -> Located {
    let mut nodes = vec![Node::default()];
    for pointer in wanted {
        let mut at = 0;
        for token in pointer.split('/').skip(1) {
            let next = nodes.len();
            at = *nodes[at].children.entry(token.to_string()).or_insert(next);
            if at == next {
                nodes.push(Node::default());
            }
        }
    }
    let mut walk = Walk { text, at: 0, nodes, path: Vec::new(), duplicates: Vec::new() };
    walk.value(Some(0));
    let Walk { nodes, duplicates, .. } = walk;
    let mut offsets: Vec<usize> =
        nodes.iter().filter_map(|node| node.offset).chain(duplicates.iter().map(|(_, offset)| *offset)).collect();
    offsets.sort_unstable();
    offsets.dedup();
    let places = places(text, &offsets);
    let at = |offset: usize| places.get(&offset).copied().unwrap_or(FilePlace { line: 1, column: 1 });
    let duplicates = duplicates.into_iter().map(|(pointer, offset)| (pointer, at(offset))).collect();
    Located { nodes, duplicates, places }
}

/// Converts byte offsets, which must be sorted, to positions in one pass over the text.
fn places(text: &str, offsets: &[usize]) -> HashMap<usize, FilePlace> {
    let mut found = HashMap::new();
    let mut rest = offsets.iter().copied().peekable();
    let (mut line, mut column) = (1, 1);
    for (index, character) in text.char_indices() {
        while rest.next_if(|offset| *offset <= index).map(|offset| found.insert(offset, FilePlace { line, column })).is_some() {}
        if rest.peek().is_none() {
            break;
        }
        if character == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    for offset in rest {
        found.insert(offset, FilePlace { line, column });
    }
    found
}

/// Walks a well-formed text. On any other text it ends early and does not panic.
struct Walk<'t> {
    text: &'t str,
    at: usize,
    nodes: Vec<Node>,
    path: Vec<Cow<'t, str>>,
    duplicates: Vec<(String, usize)>,
}

impl<'t> Walk<'t> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn child(&self, node: Option<usize>, key: &str) -> Option<usize> {
        self.nodes.get(node?)?.children.get(token(key).as_ref()).copied()
    }

    fn value(&mut self, node: Option<usize>) {
        let first = self.peek();
        if let Some(node) = node.and_then(|index| self.nodes.get_mut(index)) {
            // Of two equal keys, the first keeps the position; the second is reported as a duplicate.
            node.offset.get_or_insert(self.at);
        }
        match first {
            Some(b'{') => self.object(node),
            Some(b'[') => self.array(node),
            Some(b'"') => drop(self.string()),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                self.at += rest.find([',', '}', ']', ' ', '\n', '\r', '\t']).unwrap_or(rest.len());
            }
        }
    }

    fn array(&mut self, node: Option<usize>) {
        self.at += 1;
        let mut index = 0_usize;
        while self.peek().is_some() && !self.eat(b']') {
            let before = self.at;
            let key = index.to_string();
            let child = self.child(node, &key);
            self.path.push(Cow::Owned(key));
            self.value(child);
            self.path.pop();
            self.eat(b',');
            // A stray bracket does not advance; stop here instead of looping forever.
            if self.at == before {
                return;
            }
            index += 1;
        }
    }

    fn object(&mut self, node: Option<usize>) {
        self.at += 1;
        let mut keys: HashSet<Cow<'t, str>> = HashSet::new();
        while self.peek() == Some(b'"') {
            let start = self.at;
            let key = self.string();
            self.eat(b':');
            let child = self.child(node, &key);
            self.path.push(key.clone());
            if !keys.insert(key) && self.duplicates.len() < MAX_DUPLICATES {
                let pointer = self.path.iter().fold(String::new(), |all, key| all + "/" + &token(key));
                self.duplicates.push((pointer, start));
            }
            self.value(child);
            self.path.pop();
            self.eat(b',');
        }
        self.eat(b'}');
    }

    fn string(&mut self) -> Cow<'t, str> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at = (self.at + 1).min(bytes.len());
        let raw = self.text.get(start..self.at).unwrap_or_default();
        if escaped {
            return serde_json::from_str::<String>(raw).map_or(Cow::Borrowed(raw), Cow::Owned);
        }
        Cow::Borrowed(raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::json::read;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn a_duplicate_key_is_located_even_if_it_is_escaped_differently() {
        let text = "{\"a\": 1,\n \"b\": [ {\"x\": 1, \"\\u0078\": 2} ]}";
        assert!(read(text, 8).is_ok_and(|(_, twice)| twice));
        let located = locate(text, []);
        assert_eq!(located.duplicates, vec![("/b/0/x".to_string(), FilePlace { line: 2, column: 18 })]);
    }

    #[test]
    fn a_stray_bracket_ends_the_walk() {
        for text in ["[}", "[[}", "{\"a\": [}", "[1, }]"] {
            assert_eq!(locate(text, ["/9"]).duplicates, Vec::new(), "{text}");
        }
    }

    #[test]
    fn a_missing_pointer_gets_the_position_of_its_nearest_ancestor() {
        let text = "[1,\n {\"ä\": \"ö\", \"a/b\": {\"c\": null}}]";
        let located = locate(text, ["/1/a~1b/c", "/1/nothing", "/0"]);
        assert_eq!(located.place("/1/a~1b/c"), Some(FilePlace { line: 2, column: 26 }));
        assert_eq!(located.place("/1/nothing"), Some(FilePlace { line: 2, column: 2 }));
        assert_eq!(located.place("/0"), Some(FilePlace { line: 1, column: 2 }));
    }

    /// All pointers into a value, each with the value that it refers to.
    fn pointers(value: &Value, at: String, all: &mut Vec<(String, Value)>) {
        all.push((at.clone(), value.clone()));
        match value {
            Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| pointers(item, format!("{at}/{i}"), all)),
            Value::Object(map) => map.iter().for_each(|(key, item)| pointers(item, format!("{at}/{}", token(key)), all)),
            _ => {}
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c~/\"\\\\\n]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_pointer_leads_to_the_text_of_its_value(value in any_json()) {
            let text = serde_json::to_string_pretty(&value).expect("a value prints");
            let mut all = Vec::new();
            pointers(&value, String::new(), &mut all);
            let located = locate(&text, all.iter().map(|(pointer, _)| pointer.as_str()));
            prop_assert!(located.duplicates.is_empty());
            for (pointer, value) in &all {
                let place = located.place(pointer).expect("every value has a place");
                let line = text.split('\n').nth(place.line - 1).unwrap_or_default();
                let rest: String = line.chars().skip(place.column - 1).collect();
                let shown = serde_json::to_string_pretty(value).expect("a value prints");
                prop_assert!(rest.starts_with(shown.split('\n').next().unwrap_or_default()), "{pointer}: {rest}");
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = read(&text, 8);
            let _ = locate(&text, ["/a/b", ""]);
        }
    }
}
