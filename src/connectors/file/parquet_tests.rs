use super::*;
use proptest::prelude::*;
use std::io::Write;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/");

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}{name}.parquet")).unwrap()
}

fn chunks(bytes: &[u8]) -> ParquetFile {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    ParquetFile {
        file: Arc::new(file),
        size: bytes.len() as u64,
        read: Arc::default(),
        max_page_bytes: 16 << 20,
        memory: MemoryMeter::unlimited(),
    }
}

/// How many rows and columns a sample of `bytes` reads.
fn sample(bytes: &[u8]) -> Result<(usize, usize), Fault> {
    count(&chunks(bytes), 20).map(|counted| (counted.rows, counted.columns))
}

fn case(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}files/{name}.parquet")).unwrap()
}

#[test]
fn files_of_another_writer_are_read() {
    for (name, rows) in [
        ("orders_snappy", 25),
        ("orders_zstd", 25),
        ("orders_gzip_v2", 25),
        ("orders_plain", 25),
        ("orders_brotli", 25),
        ("orders_int96", 25),
        ("orders_empty", 0),
        ("maps", 2),
    ] {
        let chunks = chunks(&fixture(name));
        let found = describe(&chunks, 500).unwrap();
        assert_eq!(found.row_estimate, Some(rows), "{name}");
        let counted = count(&chunks, 20).unwrap();
        assert_eq!((counted.rows, counted.not_read), (rows.min(20) as usize, Vec::<String>::new()), "{name}");
        assert!(counted.columns >= found.columns, "{name}");
        assert!(found.notes["written_by"].as_str().unwrap().starts_with("parquet-cpp-arrow"), "{name}");
    }
}

#[test]
fn types_are_exact() {
    let found = describe(&chunks(&fixture("orders_snappy")), 500).unwrap();
    let text = serde_json::to_string_pretty(&json!({"required": found.required, "properties": found.properties})).unwrap();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("file_parquet_types", text);
    });
    let seed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/data/orders.parquet")).unwrap();
    let seed = describe(&chunks(&seed), 500).unwrap();
    assert_eq!((seed.required, &seed.properties["order_id"]), (vec!["order_id".to_owned()], &json!({"type": "integer"})));
    let maps = describe(&chunks(&fixture("maps")), 500).unwrap();
    assert_eq!(maps.properties["settings"], json!({"type": ["null", "object"]}));
    assert_eq!(maps.properties["raw"]["contentEncoding"], "base64");
    let int96 = describe(&chunks(&fixture("orders_int96")), 500).unwrap();
    assert_eq!(int96.properties["ordered_at"]["airbyte_type"], "timestamp_without_timezone");
}

#[test]
fn columns_are_bounded() {
    let found = describe(&chunks(&fixture("orders_snappy")), 3).unwrap();
    assert_eq!((found.columns, found.properties.len(), found.truncated), (10, 3, true));
}

#[test]
fn files_that_other_readers_read_are_read() {
    assert_eq!(sample(&case("brotli")), Ok((3, 2)));
    assert_eq!(sample(&case("dict-page-offset-zero")), Ok((20, 1)));
    // apache/parquet-testing: nation.dict-malformed.parquet. The sizes of its columns leave out a page header.
    assert_eq!(sample(&case("nation.dict-malformed")), Ok((20, 4)));
}

/// The position of the compression codec in the first column chunk of `orders_snappy`.
fn codec_positions(bytes: &[u8]) -> Vec<usize> {
    // ColumnMetaData: field 3 is the path, field 4 the codec, field 5 the number of values (25).
    let pattern = |at: usize| {
        bytes.get(at..at + 4).is_some_and(|found| found[0] == 0x15 && found[1] == 0x02 && found[2] == 0x16 && found[3] == 50)
    };
    (0..bytes.len()).filter(|at| pattern(*at)).map(|at| at + 1).collect()
}

#[test]
fn an_unsupported_codec_is_named_and_hides_only_its_columns() {
    let mut bytes = fixture("orders_snappy");
    let positions = codec_positions(&bytes);
    assert!(positions.len() > 2, "the codecs are found");
    // 3 is LZO, written as 6 in zigzag form.
    bytes[positions[0]] = 6;
    let counted = count(&chunks(&bytes), 20).unwrap();
    assert_eq!((counted.rows, counted.not_read.as_slice()), (20, ["order_id: it is compressed with LZO".to_owned()].as_slice()));
    // The codec brotli, followed by the number of values, three.
    let mut bytes = case("brotli");
    let codec = [0x15, 8, 0x16, 6];
    let positions: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..*at + 4] == codec).collect();
    assert_eq!(positions.len(), 2);
    positions.iter().for_each(|at| bytes[*at + 1] = 6);
    let fault = sample(&bytes).unwrap_err();
    let failure = fault.failure("/data/x.parquet");
    assert_eq!(
        (failure.class, failure.title.as_str()),
        (Class::Unsupported, "aam cannot read /data/x.parquet: it is compressed with LZO")
    );
}

fn damage(fault: Fault) -> String {
    match fault {
        Fault::Damaged(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn false_lengths_are_refused_before_memory_is_reserved() {
    let whole = fixture("orders_snappy");
    for length in [0u32, 1, 7, 4_000, 0x7FFF_FFFF, u32::MAX] {
        let mut bytes = whole.clone();
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        assert!(describe(&chunks(&bytes), 10).is_err(), "{length}");
        assert!(sample(&bytes).is_err(), "{length}");
    }
    let message = damage(describe(&chunks(&[&b"PAR1"[..], &[0xFF; 4], b"PAR1"].concat()), 10).unwrap_err());
    assert!(message.contains("the footer claims 4294967295 bytes, but the file has 12"), "{message}");
    assert!(describe(&chunks(b""), 10).is_err());
}

/// A file of this footer and nothing else.
fn file_of(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    [&b"PAR1"[..], footer, &length, b"PAR1"].concat()
}

#[test]
fn limits_have_sentences_of_their_own() {
    let depth = 30_000u32;
    // FileMetaData: version 1, then the schema as a list of structures with a long size.
    let size = [(depth & 0x7F) as u8 | 0x80, (depth >> 7 & 0x7F) as u8 | 0x80, (depth >> 14) as u8];
    let mut deep = vec![0x15, 0x02, 0x19, 0xFC];
    deep.extend(size);
    // Every element has repetition "required", the name "g" and one child.
    (0..depth).for_each(|_| deep.extend([0x35, 0x00, 0x18, 0x01, b'g', 0x15, 0x02, 0x00]));
    deep.extend([0x16, 0x00, 0x19, 0x0C, 0x00]);
    let mut wide = vec![0x15, 0x02, 0x19, 0xFC, 0xE0, 0xA7, 0x12];
    (0..300_000).for_each(|_| wide.extend([0x35, 0x00, 0x18, 0x01, b'g', 0x00]));
    wide.push(0);
    let footer = vec![0; 17 << 20];
    for (footer, expected) in
        [(deep, "nested deeper than 64"), (wide, "300000 elements, and the limit is 50000"), (footer, "footer has 17 MiB")]
    {
        let fault = describe(&chunks(&file_of(&footer)), 10).unwrap_err();
        let failure = fault.failure("x");
        assert_eq!(failure.class, Class::Misconfigured, "{failure:?}");
        assert!(failure.title.starts_with("x exceeds a limit of aam") && failure.title.contains(expected), "{failure:?}");
    }
}

#[test]
fn pages_that_would_take_a_gigabyte_are_refused_one_column_at_a_time() {
    let bytes = fixture("bomb_38KB_to_1GB");
    assert_eq!(describe(&chunks(&bytes), 500).unwrap().columns, 16);
    let fault = sample(&bytes).unwrap_err();
    assert_eq!(fault, Fault::Limit("a page unpacks to 60 MiB, and the limit is 16 MiB".to_owned()));
    let larger = ParquetFile { max_page_bytes: 64 << 20, ..chunks(&bytes) };
    assert_eq!(count(&larger, 20).unwrap().columns, 16);
}

#[test]
fn a_page_that_expands_beyond_its_header_is_refused() {
    // The first page header of the file contains the type, then the unpacked size as a number of two bytes.
    for name in ["orders_gzip_v2", "orders_brotli", "orders_zstd", "orders_snappy"] {
        let mut bytes = fixture(name);
        assert_eq!((bytes[4], bytes[6]), (0x15, 0x15), "{name}: a page header comes first");
        bytes[7] = 0x08;
        if bytes[8] & 0x80 == 0 && bytes[8] != 0x15 {
            bytes[7] |= 0x80;
            bytes[8] = 0;
        }
        match count(&chunks(&bytes), 20) {
            Ok(counted) => assert_eq!(counted.not_read.len(), 1, "{name}: {counted:?}"),
            Err(fault) => assert!(matches!(fault, Fault::Damaged(_)), "{name}: {fault:?}"),
        }
    }
}

#[test]
fn encrypted_columns_are_named_as_such() {
    let failure = Fault::Encrypted.failure("x");
    assert_eq!(failure.class, Class::Unsupported);
    assert!(failure.title.contains("encrypted"), "{failure:?}");
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let chunks = chunks(&fixture("orders_snappy"));
    chunks.file.set_len(100).unwrap();
    assert!(describe(&chunks, 10).is_err());
    assert!(count(&chunks, 10).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_anywhere_never_ends_the_process(at: prop::sample::Index, value: u8, footer: bool) {
        let mut bytes = fixture("orders_zstd");
        let from = if footer { bytes.len() - 2000 } else { 0 };
        let index = from + at.index(bytes.len() - from);
        bytes[index] = value;
        let chunks = chunks(&bytes);
        let _ = describe(&chunks, 10);
        if let Ok(counted) = count(&chunks, 20) {
            prop_assert!(counted.rows <= 20);
        }
    }

    #[test]
    fn a_cut_file_is_an_error(cut in 1usize..3000) {
        let whole = fixture("orders_zstd");
        let chunks = chunks(&whole[..whole.len() - cut]);
        prop_assert!(describe(&chunks, 10).is_err());
    }
}
