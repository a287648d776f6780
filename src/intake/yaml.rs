//! YAML as intake accepts it: documents under the core schema of YAML 1.2, with the bounds of JSON.
//!
//! The values come from `positioned_yaml::json`. If there are problems, a second pass over the events finds the positions
//! of their pointers, as [`super::locate`] does for JSON.

use super::json::{Syntax, token};
use super::wire::Limits;
use crate::model::FilePlace;
use positioned_yaml::{Error, Event, Place, Reader, json};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The number of values of one intent that count towards the limit of a text. An intent has about 20.
const VALUES_PER_INTENT: usize = 200;

/// Parses all documents. Those without a value are left out.
///
/// # Errors
/// The first error. A key that occurs twice is one.
pub fn read(text: &str, limits: &Limits) -> Result<Vec<Value>, Syntax> {
    let bounds = json::Limits {
        values: limits.items.saturating_mul(VALUES_PER_INTENT),
        // Aliases repeat what they refer to, so the text may be longer than the file.
        text_bytes: limits.bytes.saturating_mul(4),
        depth: limits.depth,
    };
    json::parse_stream(text, bounds, limits.items).map_err(|error| {
        let too_deep = matches!(&error, Error::Limit { message, .. } if message.starts_with("nested deeper"));
        let message = match &error {
            Error::SecondDocument(_) => "a second document begins here".to_string(),
            Error::Syntax { message, .. } | Error::Value { message, .. } | Error::Limit { message, .. } => {
                message.chars().take(200).collect()
            }
        };
        Syntax { message, place: place(error.place()), too_deep }
    })
}

/// The positions of the `wanted` pointers and of their ancestors. With `is_stream`, the first token of a pointer is the
/// number of the document.
#[must_use]
pub fn locate<'p>(text: &str, is_stream: bool, wanted: impl IntoIterator<Item = &'p str>) -> HashMap<String, FilePlace> {
    let mut open: HashSet<String> = HashSet::from([String::new()]);
    for pointer in wanted {
        let ends = pointer.match_indices('/').map(|(at, _)| at).skip(1).chain([pointer.len()]);
        open.extend(ends.filter_map(|end| pointer.get(..end)).map(str::to_string));
    }
    let mut walk = Walk { reader: Reader::stream(text), wanted: open, places: HashMap::new() };
    let mut index = 0_usize;
    while let Ok(next) = walk.reader.next_event() {
        if let Some((event, at)) = next.filter(|(event, _)| !is_null(event)) {
            let mut base = if is_stream { format!("/{index}") } else { String::new() };
            index += 1;
            if walk.value(event, at, &mut base, 0).is_none() {
                break;
            }
        }
        if walk.reader.has_ended() {
            break;
        }
    }
    walk.places
}

/// Whether a document is `null`, which [`read`] leaves out.
fn is_null(event: &Event<'_>) -> bool {
    let null = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
    matches!(event, Event::Scalar { text, plain: true, properties } if properties.tag.is_none() && null(text))
}

/// The position of `pointer`, or of its nearest ancestor if it names something that is missing.
#[must_use]
pub fn place_of(places: &HashMap<String, FilePlace>, pointer: &str) -> Option<FilePlace> {
    let mut rest = pointer;
    loop {
        if let Some(place) = places.get(rest) {
            return Some(*place);
        }
        rest = rest.rsplit_once('/')?.0;
    }
}

/// [`read`] has accepted the text with its bound on depth; this bound only keeps the recursion safe in itself.
const MAX_WALK_DEPTH: usize = 200;

struct Walk<'t> {
    reader: Reader<'t>,
    wanted: HashSet<String>,
    places: HashMap<String, FilePlace>,
}

impl<'t> Walk<'t> {
    fn next(&mut self) -> Option<(Event<'t>, Place)> {
        self.reader.next_event().ok().flatten()
    }

    /// Visits one value. Returns `None` if the text ends.
    fn value(&mut self, event: Event<'t>, at: Place, pointer: &mut String, depth: usize) -> Option<()> {
        if depth > MAX_WALK_DEPTH {
            return None;
        }
        if self.wanted.contains(pointer.as_str()) {
            self.places.entry(pointer.clone()).or_insert(place(at));
        }
        let length = pointer.len();
        match event {
            Event::ListStart(_) => {
                for index in 0_usize.. {
                    let (event, at) = self.next()?;
                    if matches!(event, Event::ListEnd) {
                        break;
                    }
                    pointer.push_str(&format!("/{index}"));
                    self.value(event, at, pointer, depth + 1)?;
                    pointer.truncate(length);
                }
            }
            Event::MapStart(_) => loop {
                let (key, _) = self.next()?;
                match key {
                    Event::MapEnd => break,
                    Event::Scalar { text, .. } => pointer.push_str(&format!("/{}", token(&text))),
                    _ => return None,
                }
                let (event, at) = self.next()?;
                self.value(event, at, pointer, depth + 1)?;
                pointer.truncate(length);
            },
            Event::Scalar { .. } | Event::Alias(_) => {}
            Event::ListEnd | Event::MapEnd => return None,
        }
        Some(())
    }
}

fn place(at: Place) -> FilePlace {
    FilePlace { line: at.line, column: at.column }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn limits() -> Limits {
        Limits { bytes: 2000, depth: 4, items: 3, ..Limits::default() }
    }

    #[test]
    fn a_marker_at_the_end_does_not_begin_a_second_document() {
        for end in ["---\n", "---", "...\n", "--- # end\n"] {
            assert_eq!(read(&format!("---\na: 1\n{end}"), &limits()).ok(), Some(vec![json!({"a": 1})]), "{end:?}");
        }
        let two = read("a: 1\n---\n# nothing\n---\nb: 2\n", &limits()).ok();
        assert_eq!(two, Some(vec![json!({"a": 1}), json!({"b": 2})]));
        let places = locate("a: 1\n---\n# nothing\n---\nb: 2\n", true, ["/0/a", "/1/b"]);
        let at = |pointer: &str| place_of(&places, pointer).map(|place| (place.line, place.column));
        assert_eq!((at("/0/a"), at("/1/b"), at("/1/c")), (Some((1, 4)), Some((5, 4)), Some((5, 1))));
    }

    #[test]
    fn values_follow_yaml_1_2_and_bounds_are_those_of_json() {
        let value =
            read("ts: 2026-11-08T18:00:00Z\nno: no\nn: 0.5\nlocator: env:A\nlist: [a, \"b\"]\n", &limits()).expect("YAML");
        assert_eq!(value, [json!({"ts": "2026-11-08T18:00:00Z", "no": "no", "n": 0.5, "locator": "env:A", "list": ["a", "b"]})]);
        let error = |text: &str| read(text, &limits()).expect_err(text);
        assert!(error("[[[[[1]]]]]").too_deep);
        assert_eq!(error("a: 1\nb: 2\na: 3").place, FilePlace { line: 3, column: 1 });
        assert!(error("--- 1\n--- 2\n--- 3\n--- 4\n").message.contains("more than 3 documents"));
        assert!(error("a: [1").message.len() < 201);
        let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n";
        assert!(error(bomb).message.contains("more than 600 values"), "{:?}", error(bomb));
    }

    #[test]
    fn pointers_are_found_where_their_values_begin() {
        let text = "# one\n- a/b: {ä: 1}\n  c:\n    - x\n    - y\n- d: *z\n";
        let places = locate(text, false, ["/0/a~1b/ä", "/0/c/1", "/1/missing", "/7"]);
        let at = |pointer: &str| place_of(&places, pointer).map(|place| (place.line, place.column));
        assert_eq!(at("/0/a~1b/ä"), Some((2, 12)));
        assert_eq!(at("/0/c/1"), Some((5, 7)));
        assert_eq!((at("/1/missing"), at("/7")), (Some((6, 3)), Some((2, 1))));
    }
}
