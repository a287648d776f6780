//! Estimates how much memory a JSON text takes once it is decoded, so that the memory is reserved before.
//!
//! `serde_json` keeps objects in B-trees whose smallest node has room for eleven entries (`BTreeMap`, `B = 6`), so an
//! object with one entry takes about 650 bytes, whatever its text takes.

/// The memory of an object: its first node, and its place in a set of values that have been visited.
pub const OBJECT_BYTES: u64 = 700;
/// The memory of an array: the first allocation of its list, and its place in a set of values that have been visited.
pub const ARRAY_BYTES: u64 = 180;
/// The memory of one entry of an object that has more than one node, in nodes that are half full.
pub const ENTRY_BYTES: u64 = 110;
/// The entries of an object that its first node has room for.
const NODE_ENTRIES: u32 = 11;
/// The memory of one item of an array, in a list that is half full.
const ITEM_BYTES: u64 = 64;
/// The memory of a text besides its bytes.
pub const TEXT_BYTES: u64 = 32;

/// Returns an upper estimate of the memory that the values of `text` take together.
#[must_use]
pub fn of_text(text: &[u8]) -> u64 {
    let mut total = text.len() as u64;
    scan(text, |bytes, _| total += bytes);
    total
}

/// Returns an upper estimate of the memory that the largest record of `text` takes. The records are the items of an array,
/// or values that follow each other.
#[must_use]
pub fn of_largest_record(text: &[u8]) -> u64 {
    let records_at = u32::from(text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['));
    let (mut largest, mut record) = (0u64, 0u64);
    scan(text, |bytes, depth| {
        record += bytes;
        if bytes == 0 && depth <= records_at {
            largest = largest.max(std::mem::take(&mut record));
        }
    });
    largest.max(record) + text.len() as u64
}

/// Deeper values are counted as if they were at this depth. The parsers refuse them anyway.
const MAX_DEPTH: usize = 128;

/// Calls `add` for each value with its memory, and with zero at the end of each object and array; the second value is the
/// number of objects and arrays around it.
fn scan(text: &[u8], mut add: impl FnMut(u64, u32)) {
    // For each open object, the entries that its first node still has room for; for an array, `None`.
    let mut open: [Option<u32>; MAX_DEPTH] = [None; MAX_DEPTH];
    let (mut in_text, mut escaped, mut depth) = (false, false, 0u32);
    for byte in text {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        let around = (depth as usize).min(MAX_DEPTH - 1);
        match byte {
            b'"' => {
                in_text = true;
                add(TEXT_BYTES, depth);
            }
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                let place = open.get_mut((depth as usize).min(MAX_DEPTH - 1));
                let is_object = *byte == b'{';
                if let Some(place) = place {
                    *place = is_object.then_some(NODE_ENTRIES - 1);
                }
                add(if is_object { OBJECT_BYTES } else { ARRAY_BYTES }, depth);
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                add(0, depth);
            }
            b',' => match open.get_mut(around) {
                Some(Some(left @ 1..)) => *left -= 1,
                Some(Some(_)) => add(ENTRY_BYTES, depth),
                _ => add(ITEM_BYTES, depth),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_objects_cost_far_more_than_their_text() {
        assert_eq!(of_text(br#"{"a":{"b":"{[,"}}"#), 2 * OBJECT_BYTES + 3 * TEXT_BYTES + 17);
        assert_eq!(of_text(br#"["\"[", 1]"#), ARRAY_BYTES + ITEM_BYTES + TEXT_BYTES + 10);
        assert_eq!(of_text(b""), 0);
        let object =
            |entries: usize| of_text(format!("{{{}}}", vec!["1"; entries].join(",")).as_bytes()) - 2 * entries as u64 - 1;
        assert_eq!((object(11), object(13)), (OBJECT_BYTES, OBJECT_BYTES + 2 * ENTRY_BYTES));
        assert!(of_text("[".repeat(1000).as_bytes()) > 999 * ARRAY_BYTES);
    }

    #[test]
    fn records_are_counted_one_by_one() {
        let record = r#"{"a":{"b":1}}"#;
        let one = of_text(record.as_bytes());
        let many = format!("[{}]", vec![record; 1000].join(","));
        assert!(of_largest_record(many.as_bytes()) < 2 * one + many.len() as u64);
        assert!(of_text(many.as_bytes()) > 900 * one);
        let lines = format!("{record}\n{record}\n{{\"a\":[{{}},{{}},{{}},{{}}");
        assert!(of_largest_record(lines.as_bytes()) > 5 * OBJECT_BYTES);
    }
}
