//! How much memory a description takes, so that it is reserved before the description is decoded.

use crate::connectors::json_memory::{self, ARRAY_BYTES, ENTRY_BYTES, OBJECT_BYTES, TEXT_BYTES};

/// The memory of a YAML document that repeats values with aliases, which the limits of the parser bound.
const ALIASED_YAML_BYTES: u64 = 100 << 20;
/// The memory that a byte of a normalised schema takes: itself, and its share of a value in the catalog. Schemas consist
/// of small objects such as `"id":{"type":"string"}`.
const BYTES_PER_SCHEMA_BYTE: u64 = 28;

/// Returns an upper estimate of the memory that the document `bytes` takes once it is decoded.
#[must_use]
pub fn of_document(bytes: &[u8]) -> u64 {
    let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'{' | b'['));
    if is_json { json_memory::of_text(bytes) } else { of_yaml(bytes).saturating_add(bytes.len() as u64) }
}

/// Returns the memory of a normalised schema whose text has `bytes` bytes.
#[must_use]
pub fn of_schema(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(BYTES_PER_SCHEMA_BYTE)
}

fn of_yaml(bytes: &[u8]) -> u64 {
    let (mut total, mut anchors, mut aliases) = (0u64, false, false);
    let mut before = b'\n';
    // A line may begin an object that is nested in an entry of a list: `- a: 1`.
    let (mut indent, mut deepest, mut at_start) = (0u32, 0u32, true);
    for byte in bytes {
        let spaced = matches!(before, b' ' | b'\n' | b'[' | b'{' | b',');
        total += match byte {
            b'{' => OBJECT_BYTES,
            b'[' => ARRAY_BYTES,
            b',' => ENTRY_BYTES,
            b'-' if spaced => OBJECT_BYTES,
            b'?' if spaced => OBJECT_BYTES,
            b'\n' => ENTRY_BYTES + 2 * TEXT_BYTES,
            _ => 0,
        };
        anchors |= *byte == b'&' && spaced;
        aliases |= *byte == b'*' && spaced;
        match byte {
            b'\n' => (indent, at_start) = (0, true),
            b' ' if at_start => indent += 1,
            _ if at_start => {
                at_start = false;
                if indent > deepest {
                    total += OBJECT_BYTES;
                }
                deepest = indent;
            }
            _ => {}
        }
        before = *byte;
    }
    if anchors && aliases { total.max(ALIASED_YAML_BYTES) } else { total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_objects_cost_far_more_than_their_text() {
        assert!(of_document(br#" {"a":{"b":1}}"#) > 2 * OBJECT_BYTES);
        assert!(of_document(b"a:\n b:\n  c: 1\nd:\n e: 1\n") > 3 * OBJECT_BYTES);
        assert!(of_document(b"- - - - a: 1") > 3 * OBJECT_BYTES);
        assert!(of_document(b"a: &a [1]\nb: [*a,*a]") >= ALIASED_YAML_BYTES);
        assert!(of_document(b"a: 5 * 3\n") < ALIASED_YAML_BYTES);
        assert_eq!(of_document(b""), 0);
    }
}
