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
    ParquetFile { file: Arc::new(file), size: bytes.len() as u64, read: Arc::default(), memory: MemoryMeter::unlimited() }
}

#[test]
fn files_of_another_writer_are_read() {
    for (name, rows) in [
        ("orders_snappy", 25),
        ("orders_zstd", 25),
        ("orders_gzip_v2", 25),
        ("orders_plain", 25),
        ("orders_int96", 25),
        ("orders_empty", 0),
        ("maps", 2),
    ] {
        let chunks = chunks(&fixture(name));
        let found = describe(&chunks, 500).unwrap();
        assert_eq!(found.row_estimate, Some(rows), "{name}");
        assert_eq!(count(&chunks, 20).unwrap(), (rows.min(20) as usize, found.columns), "{name}");
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
fn an_unsupported_codec_is_named() {
    let chunks = chunks(&fixture("orders_brotli"));
    assert_eq!(describe(&chunks, 10).unwrap().row_estimate, Some(25));
    assert!(count(&chunks, 20).unwrap_err().to_lowercase().contains("brotli"));
}

#[test]
fn false_lengths_are_refused_before_memory_is_reserved() {
    let whole = fixture("orders_snappy");
    for length in [0u32, 1, 7, 4_000, 0x7FFF_FFFF, u32::MAX] {
        let mut bytes = whole.clone();
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        assert!(describe(&chunks(&bytes), 10).is_err(), "{length}");
        assert!(count(&chunks(&bytes), 10).is_err(), "{length}");
    }
    let message = describe(&chunks(&[&b"PAR1"[..], &[0xFF; 4], b"PAR1"].concat()), 10).unwrap_err();
    assert!(message.contains("the footer claims 4294967295 bytes, but the file has 12"), "{message}");
    assert!(describe(&chunks(b""), 10).is_err());
}

#[test]
fn a_schema_of_a_hundred_thousand_levels_does_not_end_the_process() {
    let depth = 100_000u32;
    // FileMetaData: version 1, then the schema as a list of structures with a long size.
    let mut footer = vec![0x15, 0x02, 0x19, 0xFC];
    footer.extend([(depth & 0x7F) as u8 | 0x80, (depth >> 7 & 0x7F) as u8 | 0x80, (depth >> 14) as u8]);
    // Every element has repetition "required", the name "g" and one child.
    (0..depth).for_each(|_| footer.extend([0x35, 0x00, 0x18, 0x01, b'g', 0x15, 0x02, 0x00]));
    footer.extend([0x16, 0x00, 0x19, 0x0C, 0x00]);
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    let file = [&b"PAR1"[..], &footer, &length, b"PAR1"].concat();
    let message = describe(&chunks(&file), 10).unwrap_err();
    assert!(message.contains("nested deeper"), "{message}");
}

#[test]
fn a_page_that_would_unpack_to_gigabytes_is_refused() {
    // The first page header of the file contains the type, then the unpacked size as a number of several bytes.
    let mut bytes = fixture("orders_snappy");
    assert_eq!(bytes[4..7], [0x15, 0x04, 0x15], "a dictionary page comes first");
    // These bytes turn a two-byte number and the fields after it into one number that exceeds every limit.
    bytes[7..11].fill(0xFF);
    bytes[11] = 0x07;
    let message = count(&chunks(&bytes), 20).unwrap_err();
    assert!(message.contains("unpack"), "{message}");
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
        if let Ok((rows, _)) = count(&chunks, 20) {
            prop_assert!(rows <= 20);
        }
    }

    #[test]
    fn a_cut_file_is_an_error(cut in 1usize..3000) {
        let whole = fixture("orders_zstd");
        let chunks = chunks(&whole[..whole.len() - cut]);
        prop_assert!(describe(&chunks, 10).is_err());
    }
}
