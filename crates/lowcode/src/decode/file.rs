//! `ResponseToFileExtractor`: a CSV file, compressed or not, as `pandas.read_csv` reads it (`response_to_file_extractor.py`).

use super::csv::Rows;
use super::text;
use crate::bounds::Bounds;
use crate::error::Failed;
use crate::inflate;
use crate::response::Response;
use crate::value::{Dict, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// The texts that pandas reads as a missing value, besides the empty one.
const MISSING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN",
    "None", "n/a", "nan", "null",
];

/// Returns one object for each row. A missing value becomes `None`. With `keeps_na`, only an empty value is missing.
///
/// # Errors
/// Fails if the file is not UTF-8, if a row has too many fields, or if the decompressed file exceeds the bound.
pub fn rows(response: &Response, keeps_na: bool, bounds: &Bounds) -> Result<Vec<Value>, Failed> {
    let bytes = match inflate::member(response.content(), bounds.body_bytes)? {
        Some(plain) => plain,
        None => response.content().iter().copied().filter(|byte| *byte != 0).collect(),
    };
    let text = text::utf8(&bytes)?;
    let mut rows = Rows::new(text.trim_start_matches('\u{feff}'), ',');
    let mut lines = 0;
    let mut next = || -> Result<Option<(usize, Vec<String>)>, Failed> {
        while let Some(row) = rows.next_row()? {
            lines += 1;
            if row.len() > 1 || row.first().is_some_and(|it| !it.trim_matches([' ', '\t']).is_empty()) {
                return Ok(Some((lines, row)));
            }
        }
        Ok(None)
    };
    let Some((_, header)) = next()? else { return Ok(Vec::new()) };
    let names = unique(header);
    let mut index = None;
    let mut records = Vec::new();
    while let Some((line, row)) = next()? {
        // If the first row has more fields than the header, pandas takes the surplus in front for the names of the rows.
        let surplus = *index.get_or_insert_with(|| row.len().saturating_sub(names.len()));
        let expected = names.len() + surplus;
        if row.len() > expected {
            let message =
                format!("Error tokenizing data. C error: Expected {expected} fields in line {line}, saw {}\n", row.len());
            return Err(Failed::system("ParserError", message));
        }
        let mut fields = row.into_iter().skip(surplus);
        let is_missing = |it: &String| it.is_empty() || (!keeps_na && MISSING.contains(&it.as_str()));
        let value = |field: Option<String>| field.filter(|it| !is_missing(it)).map_or(Value::None, Value::from);
        records.push(Value::Dict(names.iter().map(|name| (name.clone(), value(fields.next()))).collect::<Dict>()));
    }
    Ok(records)
}

/// Returns the names of the columns. pandas gives a name to a column without one, and numbers equal names.
fn unique(header: Vec<String>) -> Vec<Arc<str>> {
    let named = header.into_iter().enumerate();
    let named = named.map(|(at, name)| if name.is_empty() { format!("Unnamed: {at}") } else { name });
    let mut seen = HashSet::new();
    let named: Vec<String> = named.collect();
    let all: HashSet<String> = named.iter().cloned().collect();
    let mut names = Vec::with_capacity(named.len());
    for name in &named {
        let mut own = name.clone();
        let mut number = 0;
        while seen.contains(&own) || (number > 0 && all.contains(&own)) {
            number += 1;
            own = format!("{name}.{number}");
        }
        seen.insert(own.clone());
        names.push(Arc::from(own));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostResponse;
    use std::io::Write;

    fn read(body: &[u8], keeps_na: bool) -> Result<String, String> {
        let response = HostResponse { status: 200, headers: [].into(), body: body.to_vec().into(), url: String::new() };
        let response = Response::new(Arc::new(response), &Bounds::default()).unwrap();
        let read = rows(&response, keeps_na, &Bounds { body_bytes: 1000, ..Bounds::default() });
        read.map(|rows| Value::List(rows).repr()).map_err(|failed| failed.class.to_string())
    }

    /// The rows are those of `ResponseToFileExtractor` with pandas 2.2.
    #[test]
    fn a_file_is_read_as_pandas_reads_it() {
        for (body, expected) in [
            ("", "[]"),
            ("\n \n", "[]"),
            ("a,b\n1,NA\n,\"x \"\"y\"\"\nz\"\n", "[{'a': '1', 'b': None}, {'a': None, 'b': 'x \"y\"\\nz'}]"),
            (
                "a,a,,a\r\n1,2,3,4\r\n\r\n5\r\n",
                "[{'a': '1', 'a.1': '2', 'Unnamed: 2': '3', 'a.2': '4'}, {'a': '5', 'a.1': None, 'Unnamed: 2': None, 'a.2': None}]",
            ),
            ("\u{feff}a,b\n0,1,2\n3,4\n", "[{'a': '1', 'b': '2'}, {'a': '4', 'b': None}]"),
            ("a,a.1,a\n1,2,3\n", "[{'a': '1', 'a.1': '2', 'a.2': '3'}]"),
            ("a\n1\0\u{30}\n", "[{'a': '10'}]"),
        ] {
            assert_eq!(read(body.as_bytes(), false).as_deref(), Ok(expected), "{body:?}");
        }
        assert_eq!(read(b"a,b\nNA,\n", true).as_deref(), Ok("[{'a': 'NA', 'b': None}]"));
        assert_eq!(read(b"a\n1\n2,3\n", false), Err("ParserError".to_string()));
        assert_eq!(read(b"a\n\xff\n", false), Err("UnicodeDecodeError".to_string()));
    }

    #[test]
    fn a_file_may_be_compressed() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(b"a,b\n1,2\n").unwrap();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(b"a,b\n1,2\n").unwrap();
        for body in [gzip.finish().unwrap(), zlib.finish().unwrap()] {
            assert_eq!(read(&body, false).as_deref(), Ok("[{'a': '1', 'b': '2'}]"));
        }
        assert_eq!(read(b"x^,a\n1,2\n", false).as_deref(), Ok("[{'x^': '1', 'a': '2'}]"), "looks like zlib and is not");
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        bomb.write_all(&[b'a'; 2000]).unwrap();
        assert_eq!(read(&bomb.finish().unwrap(), false), Err("Bound".to_string()));
    }
}
