//! Lines of CSV (RFC 4180) for spreadsheets.

use crate::model::text::printable;

/// Returns one line, with its line break.
///
/// Spreadsheets take a cell that begins with one of a few characters as a formula, which could send the other cells somewhere.
/// Such a cell gets an apostrophe before it, which makes it a text. Characters that change how the text around them is shown are
/// escaped.
#[must_use]
pub fn line(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    format!("{}\r\n", cells.join(","))
}

fn cell(text: &str) -> String {
    let text = printable(text, &[]);
    let is_formula = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let text = if is_formula { format!("'{text}") } else { text.into_owned() };
    match text.contains([',', '"']) || text.starts_with(' ') || text.ends_with(' ') {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_line_is_read_again_and_holds_no_formula(cells in proptest::collection::vec("[-=+@,\"' \t\r\na-z\u{202e}]{0,12}", 1..6)) {
            let texts: Vec<&str> = cells.iter().map(String::as_str).collect();
            let line = line(&texts);
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
            let records: Vec<csv::StringRecord> = reader.records().map(|record| record.expect("a record")).collect();
            // A line with one empty cell is an empty line, which readers leave out.
            prop_assert_eq!(records.len(), usize::from(texts != [""]));
            for record in &records {
                prop_assert_eq!(record.len(), texts.len());
                for (read, text) in record.iter().zip(&texts) {
                    prop_assert!(!read.trim_start().starts_with(['=', '+', '-', '@']), "{read}");
                    prop_assert_eq!(read.strip_prefix('\'').filter(|_| !text.starts_with('\'')).unwrap_or(read), printable(text, &[]));
                }
            }
        }
    }

    #[test]
    fn cells_are_quoted_only_where_needed() {
        assert_eq!(line(&["a", "b,c", "d\"e", "=1+1", " -x", "n\nm"]), "a,\"b,c\",\"d\"\"e\",'=1+1,' -x,n\\u{a}m\r\n");
    }
}
