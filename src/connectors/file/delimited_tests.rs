use super::*;
use proptest::prelude::*;

fn described(text: &[u8]) -> Description {
    describe(&rows(text, true, Format::Csv, MAX_INFERENCE_ROWS), 500)
}

fn names(text: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = described(text).properties.keys().cloned().collect();
    names.sort();
    names
}

#[test]
fn quotes_mark_and_crlf() {
    let found = described(b"\xEF\xBB\xBFid,\"full, name\",joined\r\n1,\"A \"\"B\"\"\nC\",2026-01-02\r\n2,D,\r\n");
    assert_eq!(found.rows_seen, 2);
    assert_eq!(found.properties["id"], json!({"type": ["null", "integer"]}));
    assert_eq!(found.properties["full, name"], json!({"type": ["null", "string"]}));
    assert_eq!(found.properties["joined"]["format"], "date");
    assert_eq!(found.notes["header"], true);
    assert!(!found.notes.contains_key("ragged_rows"));
}

#[test]
fn delimiters_are_found_by_their_evenness() {
    for (text, expected) in [
        (b"a;b\n1,5;2\n3,5;4\n".as_slice(), b';'),
        (b"a|b|c\n1|2|3\n", b'|'),
        (b"a\tb\n1\t2\n", b'\t'),
        (b"a,b;c\n1,2;3\n", b','),
        (b"name\nx\n", b','),
        (b"\"a;b\",c\n\"d;e\",f\n", b','),
        (b"", b','),
    ] {
        assert_eq!(sniff(text), expected, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn headers_missing_doubled_and_empty() {
    assert_eq!(names(b"1,x\n2,y\n"), ["column_1", "column_2"]);
    assert_eq!(names(b"id,,id, id\n1,2,3,4\n"), ["column_2", "id", "id_2", "id_3"]);
    assert_eq!(names(b"country,2019,2020\nNO,1,2\n"), ["2019", "2020", "country"]);
    assert_eq!(names(b"id,name\n"), ["id", "name"]);
    assert_eq!(described(b"1,x\n2,y\n").rows_seen, 2);
    assert_eq!(described(b"id,,id, id\n1,2,3,4\n").notes["column_names_made_unique"], 2);
    assert_eq!(described(b"id,name\n").rows_seen, 0);
    assert_eq!(described(b"").notes["note"], "empty");
}

#[test]
fn ragged_rows_and_foreign_bytes_are_notes() {
    let found = described(b"a,b\n1\n2,3\n4,5,6\nx\xE9,7\n");
    assert_eq!(found.notes["ragged_rows"], 2);
    assert_eq!(found.notes["rows_not_utf8_read_with_replacement_characters"], 1);
    assert_eq!(found.columns, 2);
}

#[test]
fn columns_are_bounded() {
    let mut text = (0..100_000).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
    text.push('\n');
    let found = described(text.as_bytes());
    assert_eq!((found.columns, found.properties.len(), found.truncated), (100_000, 500, true));
}

#[test]
fn half_a_row_is_not_a_row() {
    let part = rows(b"a,b\n1,2\n3,", false, Format::Csv, 100);
    assert_eq!((part.rows.len(), part.cut), (2, false));
    let cut = rows(b"a,b,c", false, Format::Csv, 100);
    assert_eq!((cut.rows.len(), cut.cut), (1, true));
    let enough = rows(b"a,b\n1,2\n3,4\n5,6\n", false, Format::Csv, 2);
    assert_eq!((enough.rows.len(), enough.cut), (2, false));
}

proptest! {
    #[test]
    fn any_bytes_make_a_table(bytes: Vec<u8>, whole: bool, limit in 0usize..5) {
        for format in [Format::Csv, Format::Tsv] {
            let table = rows(&bytes, whole, format, limit);
            prop_assert!(table.rows.len() <= limit);
            let found = describe(&table, 3);
            prop_assert!(found.properties.len() <= 3);
        }
    }

    #[test]
    fn a_written_table_is_read_back(cells in proptest::collection::vec(proptest::collection::vec("[a-z\",;\n ]{1,6}", 3), 1..8)) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["x", "y", "z"]).unwrap();
        cells.iter().for_each(|row| writer.write_record(row).unwrap());
        let bytes = writer.into_inner().unwrap();
        let mut reader = ReaderBuilder::new().has_headers(true).from_reader(bytes.as_slice());
        prop_assert_eq!(reader.byte_records().count(), cells.len());
        let table = rows(&bytes, true, Format::Csv, 100);
        if table.delimiter == b',' {
            prop_assert_eq!(describe(&table, 10).rows_seen, cells.len());
        }
    }
}
