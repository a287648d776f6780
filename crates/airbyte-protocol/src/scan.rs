//! One pass over a line before it is parsed. The parser itself has no bound for the number of values, and none for the
//! depth of what it skips.

/// What a line contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// How deep lists and objects are nested.
    pub depth: usize,
    /// An upper bound of the number of values.
    pub values: usize,
    /// Python writes `NaN`, `Infinity` and `-Infinity`, which are not JSON. No other JSON text outside of strings
    /// contains one of their first letters.
    pub python_numbers: bool,
}

/// Returns what `line` contains. The line does not have to be valid JSON.
pub fn shape(line: &[u8]) -> Shape {
    let (mut shape, mut strings, mut depth) = (Shape { values: 1, ..Shape::default() }, Strings::default(), 0_usize);
    for byte in line {
        if !strings.is_outside(*byte) {
            continue;
        }
        match byte {
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                shape.depth = shape.depth.max(depth);
                shape.values = shape.values.saturating_add(1);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => shape.values = shape.values.saturating_add(1),
            b'N' | b'I' => shape.python_numbers = true,
            _ => {}
        }
    }
    shape
}

/// Returns `line` with `null` for each of Python's numbers that are not JSON. That is what Airbyte's own library writes for them.
pub fn without_python_numbers(line: &[u8]) -> Vec<u8> {
    const NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let (mut out, mut strings, mut rest) = (Vec::with_capacity(line.len()), Strings::default(), line);
    while let Some((byte, after)) = rest.split_first() {
        let outside = strings.is_outside(*byte);
        match NUMBERS.into_iter().find_map(|number| rest.strip_prefix(number)).filter(|_| outside) {
            Some(after_number) => {
                out.extend_from_slice(b"null");
                rest = after_number;
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// Whether the scan is inside of a JSON string.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// Takes the next byte. A quote belongs to its string.
    fn is_outside(&mut self, byte: u8) -> bool {
        if !self.inside {
            self.inside = byte == b'"';
            return !self.inside;
        }
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.inside = false;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{shape, without_python_numbers};

    #[test]
    fn brackets_and_letters_in_strings_do_not_count() {
        let flat = shape(br#"{"a [[[ \" N": "I, N, {"}"#);
        assert_eq!((flat.depth, flat.values, flat.python_numbers), (1, 2, false));
        let nested = shape(br#"{"a": [1, {"b": [NaN]}]}"#);
        assert_eq!((nested.depth, nested.python_numbers), (4, true));
        assert!(nested.values >= 6, "{nested:?}");
    }

    #[test]
    fn python_numbers_become_null_outside_of_strings() {
        let fixed = without_python_numbers(br#"{"NaN": [NaN, -Infinity, Infinity, "\"NaN", -1]}"#);
        assert_eq!(String::from_utf8(fixed).unwrap(), r#"{"NaN": [null, null, null, "\"NaN", -1]}"#);
    }
}
