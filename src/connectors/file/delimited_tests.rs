use super::*;
use crate::connectors::file::dialect::analyze;
use crate::connectors::file::format::Format;
use proptest::prelude::*;

fn table(text: &[u8]) -> Table {
    analyze(text, true, Format::Csv, 1000, 500)
}

fn described(text: &[u8]) -> Description {
    describe(&table(text), 500)
}

fn names(text: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = described(text).properties.keys().cloned().collect();
    names.sort();
    names
}

#[test]
fn quotes_and_crlf() {
    let found = described(b"id,\"full, name\",joined\r\n1,\"A \"\"B\"\"\nC\",2026-01-02\r\n2,D,\r\n");
    assert_eq!(found.rows_seen, 2);
    assert_eq!(found.properties["id"], json!({"type": ["null", "integer"]}));
    assert_eq!(found.properties["full, name"], json!({"type": ["null", "string"]}));
    assert_eq!(found.properties["joined"]["format"], "date");
    assert_eq!(found.notes["header"], true);
    assert!(!found.notes.contains_key("ragged_rows") && found.warnings.is_empty());
}

#[test]
fn delimiters_are_found_by_the_agreement_of_the_rows() {
    for (text, expected) in [
        (b"a;b\n1,5;2\n3,5;4\n".as_slice(), b';'),
        (b"a|b|c\n1|2|3\n", b'|'),
        (b"a\tb\n1\t2\n", b'\t'),
        // Decimal commas are values, but `2;3` is not.
        (b"a,b;c\n1,2;3\n", b';'),
        (b"Preis, EUR;Menge\n1,50;2\n2,75;3\n", b';'),
        (b"name\nx\n", b','),
        (b"comment\nHello, world\nBye\nYes, ok\nNo\n", b','),
        (b"\"a;b\",c\n\"d;e\",f\n", b','),
        // The first rows alone would suggest the comma.
        (b"Doe, Jane;1\nRoe, Max;2\nPrince;3\nCher;4\nPink;5\n", b';'),
        (b"a;b;c\r1;2;3\r4;5;6\r", b';'),
        (b"sep=|\na,b|c\n1,2|3\n", b'|'),
        (b"\"sep=^\"\na^b\n1^2\n", b'^'),
        (b"SEP=\\t\na\tb\n1\t2\n", b'\t'),
        (b"", b','),
    ] {
        assert_eq!(table(text).delimiter, expected, "{}", String::from_utf8_lossy(text));
    }
    assert_eq!(described(b"sep=;\r\nid;name;x\r\n1;a;b\r\n2;c;d\r\n").notes["delimiter_from"], "the line sep= at the top");
    assert_eq!(names(b"sep=;\r\nid;name;x\r\n1;a;b\r\n"), ["id", "name", "x"]);
    assert_eq!(names(b"comment\nHello, world\nBye\nYes, ok\nNo\n"), ["comment"]);
}

#[test]
fn headers_missing_doubled_and_empty() {
    assert_eq!(names(b"1,x\n2,y\n"), ["column_1", "column_2"]);
    assert_eq!(names(b"id,,id, id\n1,2,3,4\n"), ["column_2", "id", "id_2", "id_3"]);
    assert_eq!(names(b"country,2019,2020\nNO,1,2\n"), ["2019", "2020", "country"]);
    assert_eq!(names(b"country,1,2,3\nDE,5,6,7\nFR,8,9,10\n"), ["1", "2", "3", "country"]);
    assert_eq!(names(b"id,name\n"), ["id", "name"]);
    assert_eq!(names(b"a\x1b[31m,b\n1,2\n"), ["a[31m", "b"]);
    assert_eq!(described(b"1,x\n2,y\n").rows_seen, 2);
    assert_eq!(described(b"id,,id, id\n1,2,3,4\n").notes["column_names_made_unique"], 2);
    assert_eq!(described(b"id,name\n").rows_seen, 0);
    assert_eq!(described(b"").notes["note"], "empty");
}

#[test]
fn titles_and_comments_above_a_table_are_left_out() {
    for (text, titles) in [
        ("Report of 2026\n\nid,name\n1,a\n2,b\n", 1),
        ("Report,,\n,,\nid,name,x\n1,a,b\n2,c,d\n", 2),
        ("# made by a tool, 2026\n# more\nid,name\n1,a\n2,b\n", 2),
        ("// made by a tool\nid,name\n1,a\n", 1),
        ("# x\nid\n1\n2\n", 1),
    ] {
        let found = described(text.as_bytes());
        assert!(found.properties.contains_key("id"), "{text}: {:?}", found.properties);
        assert_eq!(found.notes["lines_above_the_table"], titles, "{text}");
        assert!(found.warnings.iter().any(|warning| warning.contains("above the table")), "{text}");
    }
    assert_eq!(names(b"#id,name\n1,a\n"), ["#id", "name"]);
    assert_eq!(names(b"# time,value\n1,2\n3,4\n"), ["time", "value"]);
    assert_eq!(names(b"id,\n1,2\n3,4\n"), ["column_2", "id"]);
}

/// Every title above every table, alone and padded by a spreadsheet.
#[test]
fn titles_with_the_delimiter_in_them_are_not_the_header() {
    let titles: [&[&str]; 9] = [
        &["Acme, Inc."],
        &["Sales report, 2024"],
        &["Exported: 2024-01-01, by bob"],
        &["Report", "Generated 2024-01-01", "By: someone, else"],
        &["-- c, d"],
        &["// c, d"],
        &["# c, d"],
        &["a, b, c, d, e"],
        &["Acme, Inc.", "", "Sales, all regions"],
    ];
    let tables = [
        ("id,name\n1,a\n2,b\n3,c", vec!["id", "name"]),
        ("id,name,amount\n1,a,2\n2,b,3\n3,c,4", vec!["amount", "id", "name"]),
        ("country,2019,2020\nNO,1,2\nSE,3,4\nDK,5,6", vec!["2019", "2020", "country"]),
    ];
    for lines in titles {
        for (rows, columns) in &tables {
            let text = format!("{}\n{rows}\n", lines.join("\n"));
            let found = described(text.as_bytes());
            assert_eq!(
                (names(text.as_bytes()), found.rows_seen),
                (columns.iter().map(|name| (*name).to_owned()).collect(), 3),
                "{text}"
            );
            let count = lines.iter().filter(|line| !line.is_empty()).count();
            let warning = format!("{} above the table {} left out", counted(count, "line"), was(count));
            assert!(found.warnings.contains(&warning), "{text}: {:?}", found.warnings);
        }
    }
    assert_eq!(names(b"-- c, d\nid,name\n1,a\n"), ["id", "name"]);
    for above in ["Report,,\nGenerated,2024-01-01,\n,,\n", "Report,,\nBy,bob,\n", "Generated,2024-01-01,\n", ",,\nReport,,\n"] {
        let text = format!("{above}id,name,amount\n1,a,2\n2,b,3\n");
        assert_eq!(
            (names(text.as_bytes()), described(text.as_bytes()).rows_seen),
            (vec!["amount".to_owned(), "id".to_owned(), "name".to_owned()], 2),
            "{text}"
        );
    }
}

/// A header may be narrower than its rows, lack names, or stand above a row of texts.
#[test]
fn a_header_is_not_taken_for_a_title() {
    for text in [
        "id,name\n1,a,x\n2,b,y\n",
        "id,name\n1,a,\n2,b,\n",
        "id,name\n1,a,x\nfoo,bar,baz\n3,c,z\n",
        "id,name,\nx,y,\nz,w,\n",
        "id,name\nx,y,\nz,w,\n",
        "id,name\nx,y,a\nz,w,b\n",
        "id, name\nfoo, bar\n1, x\n2, y\n",
        "id,name,size\ntext,text,integer\na,b,1\nc,d,2\n",
        "id,name\n1\n2,x\n3,y\n",
    ] {
        let found = described(text.as_bytes());
        assert!(found.properties.contains_key("id") && found.properties.contains_key("name"), "{text}: {:?}", found.properties);
        assert!(!found.notes.contains_key("lines_above_the_table"), "{text}");
    }
}

#[test]
fn what_is_guessed_or_irregular_is_a_warning_with_counts() {
    for (text, key, count, expected) in [
        ("a,b\n1\n2,3\n4,5,6\n7,8\n", "ragged_rows", 2, "2 of 4 rows do not have 2 cells"),
        ("a,b\n1,\"open\n2,3\n", "quotes_left_open", 1, "1 row has a quote that is not closed"),
        ("x,y\ntest,Reg\n\0\0\0,Reg\nI,Swp\n", "rows_with_nul", 1, "1 row has NUL characters"),
        ("a,b\nx\u{FFFD},7\ny,8\n", "rows_with_replacement_characters", 1, "1 row has bytes that are not valid"),
    ] {
        let found = described(text.as_bytes());
        assert_eq!(found.notes[key], count, "{text:?}");
        assert!(found.warnings.iter().any(|warning| warning.starts_with(expected)), "{text:?}: {:?}", found.warnings);
    }
    assert_eq!(
        described(b"1,x\n2,y\n").warnings,
        ["the first row does not look like a header, so the 2 columns are named by position"]
    );
    assert!(described(b"country,1,2,3\nDE,5,6,7\n").warnings[0].contains("was taken for the header"));
    let found = described(b"id,name\n1,a,x\n2,b,y\n");
    assert_eq!((found.columns, found.warnings.as_slice()), (3, ["the header names 2 of 3 columns".to_owned()].as_slice()));
    // A delimiter at the end of every row of data is not another column.
    assert_eq!(described(b"id,name\n1,a,\n2,b,\n").columns, 2);
    assert_eq!(described(b"p;n\n1,50;2\n").notes["columns_with_decimal_commas"], json!(["p"]));
}

#[test]
fn tab_separated_files_with_and_without_quotes() {
    let tsv = |text: &str| {
        let table = analyze(text.as_bytes(), true, Format::Tsv, 1000, 500);
        (describe(&table, 500).properties.keys().cloned().collect::<Vec<_>>(), table.data.len(), table.quoting)
    };
    let columns = vec!["id".to_owned(), "size".to_owned()];
    assert_eq!(tsv("id\tsize\n1\t\"5 inch\n2\t7\"\n3\t8\n"), (columns.clone(), 3, false));
    assert_eq!(tsv("id\tsize\n1\t5\" disk\n2\tx\n").1, 2);
    assert_eq!(tsv("\"id\"\t\"size\"\n\"1\"\t\"a\tb\"\n\"2\"\t\"c\"\n"), (columns.clone(), 2, true));
    assert_eq!(tsv("id,size\n1,2\n3,4\n"), (columns, 2, true));
}

#[test]
fn columns_are_bounded() {
    let mut text = (0..100_000).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
    text.push('\n');
    let found = described(text.as_bytes());
    assert_eq!((found.columns, found.properties.len(), found.truncated), (100_000, 500, true));
}

proptest! {
    #[test]
    fn any_text_makes_a_table(text in "[a-z0-9,;|\t\"\n\r#= .-]{0,120}", whole: bool, limit in 0usize..5) {
        for format in [Format::Csv, Format::Tsv] {
            let table = analyze(text.as_bytes(), whole, format, limit, 3);
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
        let table = table(&bytes);
        if table.delimiter == b',' && table.titles == 0 {
            prop_assert_eq!(table.data.len() + usize::from(table.names.is_some()), cells.len() + 1);
        }
    }
}
