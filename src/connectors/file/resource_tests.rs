use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::symlink;

struct TestRoots {
    dir: tempfile::TempDir,
    files: Files,
}

fn test_roots(files: &[(&str, &[u8])]) -> TestRoots {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let files = Files { roots: vec![dir.path().to_owned()] };
    TestRoots { dir, files }
}

impl TestRoots {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> Result<Resource, Failure> {
        Resource::open(self.at(name).to_str().unwrap(), &self.files)
    }
}

fn seed(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/seeds/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Runs discovery, health check and sample as the pipeline does.
fn run_steps(resource: &Resource) -> Result<(Catalog, Sample), Failure> {
    let found = resource.discover(Bounds::default(), &MemoryMeter::unlimited())?;
    resource.health()?;
    let sample = resource.sample(&resource.member_names(&found.catalog), 20, &MemoryMeter::unlimited())?;
    Ok((found.catalog, sample))
}

#[test]
fn every_format_is_read() {
    for (name, bytes, columns, rows) in [
        ("customers.csv", seed("customers.csv"), 7, 20),
        ("events.jsonl", seed("events.jsonl"), 7, 20),
        ("events.ndjson", seed("events.jsonl"), 7, 20),
        ("orders.parquet", seed("orders.parquet"), 10, 20),
        ("a.tsv", b"id\tname\n1\tx\n2\ty\n".to_vec(), 2, 2),
        ("a.json", br#"[{"id":1},{"id":2},{"id":3}]"#.to_vec(), 1, 3),
        ("one.json", br#"{"id":1,"name":"x"}"#.to_vec(), 2, 1),
        ("A.CSV", b"id\n1\n".to_vec(), 1, 1),
    ] {
        let test_roots = test_roots(&[(name, &bytes)]);
        let resource = test_roots.open(name).unwrap();
        let (catalog, sample) = run_steps(&resource).unwrap();
        let stream = &catalog.streams[0];
        assert_eq!(stream.name, name);
        assert_eq!(stream.json_schema["properties"].as_object().unwrap().len(), columns, "{name}");
        assert_eq!(sample.rows, rows, "{name}");
        assert!(sample.evidence["bytes_read"].as_u64().unwrap() > 0, "{name}");
        assert!(resource.bytes() > 0, "{name}");
        assert_eq!(resource.identity()["size_bytes"], bytes.len());
    }
}

#[test]
fn evidence_holds_no_data() {
    let test_roots = test_roots(&[("a.csv", b"id,word\n1,canary-value\n"), ("b.jsonl", b"{\"word\":\"canary-value\"}\n")]);
    for name in ["a.csv", "b.jsonl", ""] {
        let resource = test_roots.open(name).unwrap();
        let found = resource.discover(Bounds::default(), &MemoryMeter::unlimited()).unwrap();
        let sample = resource.sample(&resource.member_names(&found.catalog), 20, &MemoryMeter::unlimited()).unwrap();
        let text = format!("{:?}{:?}{:?}{:?}", found.catalog, found.evidence, sample.evidence, resource.identity());
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn empty_files_are_empty_not_broken() {
    for (name, bytes) in
        [("a.csv", b"".as_slice()), ("b.jsonl", b""), ("c.csv", b"id,name\n"), ("d.json", b"[]"), ("e.tsv", b"\n\n")]
    {
        let (catalog, sample) = run_steps(&test_roots(&[(name, bytes)]).open(name).unwrap()).unwrap();
        assert_eq!((catalog.streams.len(), sample.rows), (1, 0), "{name}");
        assert_eq!(sample.evidence["note"], "empty", "{name}");
    }
    for name in ["a.json", "a.parquet"] {
        assert_eq!(test_roots(&[(name, b"")]).open(name).err().unwrap().class, Class::Remote, "{name}");
    }
}

#[test]
fn a_directory_is_all_its_files() {
    let test_roots = test_roots(&[
        ("d/b.csv", b"id\n1\n2\n"),
        ("d/a.jsonl", b"{\"id\":1}\n"),
        ("d/sub/c.csv", b"x,y\n1,2\n"),
        ("d/readme.txt", b"words"),
        ("d/page.json", b"<html>"),
        ("d/.hidden.csv", b"id\n1\n"),
        ("out.csv", b"id\n1\n"),
    ]);
    symlink("../b.csv", test_roots.at("d/sub/link.csv")).unwrap();
    symlink("sub", test_roots.at("d/again")).unwrap();
    symlink("/etc/passwd", test_roots.at("d/escape.csv")).unwrap();
    let resource = test_roots.open("d").unwrap();
    let found = resource.discover(Bounds::default(), &MemoryMeter::unlimited()).unwrap();
    let names: Vec<_> = found.catalog.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["a.jsonl", "b.csv", "sub/c.csv", "sub/link.csv"]);
    let skipped: Vec<_> = found.catalog.skipped.iter().map(|skipped| skipped.name.as_str()).collect();
    assert_eq!(skipped, ["again", "escape.csv", "page.json", "readme.txt"]);
    assert!(found.catalog.skipped[2].reason.contains("an HTML page"));
    assert_eq!((found.evidence["hidden"].as_u64(), found.catalog.truncated), (Some(1), false));
    let sample = resource.sample(&resource.member_names(&found.catalog), 4, &MemoryMeter::unlimited()).unwrap();
    assert_eq!((sample.rows, sample.evidence["streams_read"].as_u64()), (4, Some(3)));
    resource.health().unwrap();
}

#[test]
fn a_directory_is_bounded() {
    let many: Vec<String> = (0..30).map(|n| format!("{n:02}.csv")).collect();
    let files: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"id\n1\n".as_slice())).collect();
    let test_roots = test_roots(&files);
    let deep = test_roots.at(&["d"; 12].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("deep.csv"), "id\n1\n").unwrap();
    let few = Bounds { streams: 10, ..Bounds::default() };
    let found = test_roots.open("").unwrap().discover(few, &MemoryMeter::unlimited()).unwrap().catalog;
    assert_eq!((found.streams.len(), found.truncated), (10, true));
    assert_eq!(found.streams[9].name, "09.csv");
    let all = test_roots.open("").unwrap().discover(Bounds::default(), &MemoryMeter::unlimited()).unwrap().catalog;
    assert_eq!((all.streams.len(), all.truncated), (30, true));
    assert!(all.skipped[0].reason.contains("nested deeper"));
    let no_time = Bounds { time: std::time::Duration::ZERO, ..Bounds::default() };
    assert!(test_roots.open("").unwrap().discover(no_time, &MemoryMeter::unlimited()).unwrap().catalog.truncated);
}

#[test]
fn empty_because_unreadable_is_a_failure() {
    let test_roots = test_roots(&[("d/a.json", b"<html>"), ("e/readme.txt", b"x")]);
    let failure = test_roots.open("d").unwrap().discover(Bounds::default(), &MemoryMeter::unlimited()).err().unwrap();
    assert_eq!(failure.class, Class::WrongService);
    let failure = test_roots.open("e").unwrap().discover(Bounds::default(), &MemoryMeter::unlimited()).err().unwrap();
    assert_eq!(failure.class, Class::WrongService);
    assert!(failure.title.ends_with("/e has 1 entry, but no file that aam can read"), "{failure:?}");
    // What the fix says leads out of the failure.
    std::fs::write(test_roots.at("e/a.csv"), "id\n1\n").unwrap();
    let found = test_roots.open("e").unwrap().discover(Bounds::default(), &MemoryMeter::unlimited()).unwrap();
    assert_eq!((found.catalog.streams.len(), found.warning), (1, None));
    // An empty folder is there, but says so.
    std::fs::create_dir(test_roots.at("f")).unwrap();
    let empty = test_roots.open("f").unwrap().discover(Bounds::default(), &MemoryMeter::unlimited()).unwrap();
    assert!(empty.catalog.streams.is_empty() && empty.evidence["note"].as_str().unwrap().starts_with("empty"));
    assert!(empty.warning.unwrap().title.ends_with("/f is empty"));
}

/// A file of `tests/data/files`, which holds what people really have.
fn case(name: &str) -> Result<(Discovery, Sample), Failure> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/files");
    let resource = Resource::open(
        &format!("{dir}/{name}").replace("files/../", ""),
        &Files { roots: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data").into()] },
    )?;
    let found = resource.discover(Bounds::default(), &MemoryMeter::unlimited())?;
    let sample = resource.sample(&[], 20, &MemoryMeter::unlimited())?;
    Ok((found, sample))
}

fn columns(found: &Discovery) -> Vec<&str> {
    let properties = found.catalog.streams[0].json_schema["properties"].as_object().unwrap();
    properties.keys().map(String::as_str).collect()
}

#[test]
fn what_people_have_is_read_and_what_was_guessed_is_said() {
    for (name, expected, rows, warning) in [
        ("json-named.csv", vec!["a"], 2, Some("the file holds JSON and was read as JSON")),
        ("header-numbers.csv", vec!["1", "2", "3", "country"], 2, Some("was taken for the header")),
        ("sep.csv", vec!["id", "name", "x"], 2, None),
        ("comma-in-header.csv", vec!["Menge", "Preis, EUR"], 2, None),
        ("open-quote.csv", vec!["desc", "id"], 3, Some("1 row has a quote that is not closed")),
        ("nul.csv", vec!["x", "y"], 3, Some("1 row has NUL characters")),
        ("latin1-header.csv", vec!["größe", "id", "straße"], 1, Some("guessed as windows-1252")),
        ("utf16-no-bom.csv", vec!["id", "name"], 1, Some("guessed as UTF-16LE")),
        ("1e400.json", vec!["a"], 1, None),
        ("deep.json", vec!["a"], 1, None),
        ("lone-surrogate.json", vec!["a"], 1, None),
        ("first-line-null.jsonl", vec!["a"], 1, Some("1 of 2 values is not an object")),
        ("brotli.parquet", vec!["a", "b"], 3, None),
        ("dict-page-offset-zero.parquet", vec!["l_partkey"], 20, None),
    ] {
        let (found, sample) = case(name).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        assert_eq!((columns(&found), sample.rows), (expected, rows), "{name}");
        let title = found.warning.map(|warning| warning.title);
        match warning {
            Some(warning) => assert!(title.as_ref().is_some_and(|title| title.contains(warning)), "{name}: {title:?}"),
            None => assert_eq!(title, None, "{name}"),
        }
    }
}

#[test]
fn json_with_more_text_behind_it_is_not_valid() {
    for name in ["array-then-garbage.json", "two-arrays.json"] {
        let failure = case(name).err().unwrap();
        assert_eq!(failure.class, Class::Remote);
        assert!(failure.title.ends_with("is not valid json") && failure.detail.contains("more text follows"), "{failure:?}");
    }
}

#[test]
fn a_limit_is_not_reported_as_damage() {
    let failure = case("../bomb_38KB_to_1GB.parquet").err().unwrap();
    assert_eq!(failure.class, Class::Misconfigured);
    assert!(failure.title.ends_with("exceeds a limit of aam: a page unpacks to 60 MiB, and the limit is 16 MiB"), "{failure:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn compressed_text_is_read() {
    let csv = gzip(b"id,name\n1,x\n2,y\n");
    let two_members = [gzip(b"{\"id\":1}\n"), gzip(b"{\"id\":2}\n")].concat();
    let bomb = gzip(&vec![b'x'; 40 << 20]);
    let test_roots = test_roots(&[("a.csv.gz", &csv), ("b.jsonl.gz", &two_members), ("c/x.csv.gz", &csv)]);
    for (name, rows) in [("a.csv.gz", 2), ("b.jsonl.gz", 2), ("c", 2)] {
        let (catalog, sample) = run_steps(&test_roots.open(name).unwrap()).unwrap();
        assert_eq!((catalog.streams.len(), sample.rows), (1, rows), "{name}");
    }
    for (name, bytes, class) in [
        ("cut.csv.gz", &csv[..csv.len() - 12], Class::Remote),
        ("plain.csv.gz", b"id,name\n1,x\n", Class::Remote),
        ("named.csv", &csv, Class::WrongService),
        ("bomb.json.gz", &bomb, Class::WrongService),
        ("bomb.csv.gz", &bomb, Class::Misconfigured),
    ] {
        std::fs::write(test_roots.at(name), bytes).unwrap();
        let failure = test_roots.open(name).and_then(|resource| run_steps(&resource)).err().unwrap();
        assert_eq!(failure.class, class, "{name}: {failure:?}");
    }
}

#[test]
fn appending_replacing_and_truncating_meanwhile() {
    let test_roots = test_roots(&[("a.csv", b"id,name\n1,x\n"), ("b.parquet", &seed("orders.parquet"))]);
    let resource = test_roots.open("a.csv").unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(test_roots.at("a.csv")).unwrap();
    file.write_all(b"2,y\n3,").unwrap();
    let health = resource.health().unwrap();
    assert_eq!((health["same_file"].as_bool(), health["changed_since_open"].as_bool()), (Some(true), Some(true)));
    assert_eq!(resource.sample(&[], 20, &MemoryMeter::unlimited()).unwrap().rows, 3);

    std::fs::write(test_roots.at("new.csv"), "id,name\n9,z\n").unwrap();
    std::fs::rename(test_roots.at("new.csv"), test_roots.at("a.csv")).unwrap();
    assert_eq!(resource.health().unwrap()["same_file"], false);
    std::fs::write(test_roots.at("a.csv"), "<html>").unwrap();
    assert_eq!(resource.health().err().unwrap().class, Class::WrongService);
    std::fs::remove_file(test_roots.at("a.csv")).unwrap();
    assert_eq!(resource.health().err().unwrap().class, Class::NotFound);
    std::fs::create_dir(test_roots.at("a.csv")).unwrap();
    assert_eq!(resource.health().err().unwrap().class, Class::WrongService);

    let resource = test_roots.open("b.parquet").unwrap();
    std::fs::OpenOptions::new().write(true).open(test_roots.at("b.parquet")).unwrap().set_len(3000).unwrap();
    for failure in [
        resource.health().err(),
        resource.discover(Bounds::default(), &MemoryMeter::unlimited()).err(),
        resource.sample(&[], 20, &MemoryMeter::unlimited()).err(),
    ] {
        assert_eq!(failure.unwrap().class, Class::Remote);
    }
}

#[test]
fn long_rows_and_records_make_it_read_further() {
    let wide = format!("{}\n{}\n", vec!["name"; 30_000].join(","), vec!["1"; 30_000].join(","));
    let long = format!("[{{\"id\":1,\"text\":\"{}\"}}]", "x".repeat(200_000));
    let many = format!("id\n{}", "1\n".repeat(200_000));
    let test_roots = test_roots(&[("wide.csv", wide.as_bytes()), ("long.json", long.as_bytes()), ("many.csv", many.as_bytes())]);
    let (catalog, sample) = run_steps(&test_roots.open("wide.csv").unwrap()).unwrap();
    assert_eq!((catalog.streams[0].json_schema["properties"].as_object().unwrap().len(), catalog.truncated), (500, true));
    assert_eq!(sample.rows, 1);
    assert_eq!(run_steps(&test_roots.open("long.json").unwrap()).unwrap().1.rows, 1);
    let resource = test_roots.open("many.csv").unwrap();
    assert_eq!(run_steps(&resource).unwrap().1.rows, 20);
    assert!(resource.bytes() < 400_000, "a large file is not read whole: {}", resource.bytes());
}

#[test]
fn a_record_beyond_all_bounds_and_values_without_objects_are_refused() {
    let huge = format!("[{{\"text\":\"{}\"}}]", "x".repeat(17 << 20));
    let test_roots =
        test_roots(&[("huge.json", huge.as_bytes()), ("numbers.json", b"[1,2,3]"), ("deep.json", "[".repeat(90_000).as_bytes())]);
    let class =
        |name: &str| test_roots.open(name).unwrap().discover(Bounds::default(), &MemoryMeter::unlimited()).err().unwrap().class;
    assert_eq!(class("huge.json"), Class::Misconfigured);
    assert_eq!(class("numbers.json"), Class::WrongService);
    assert_eq!(class("deep.json"), Class::Remote);
}

#[test]
fn a_writable_file_is_reported_as_excess_privilege() {
    let test_roots = test_roots(&[("a.csv", b"id\n1\n")]);
    let Privilege::Over { grants } = test_roots.open("a.csv").unwrap().privilege() else { panic!("the test made it writable") };
    assert!(grants[0].starts_with("the daemon's user") && grants[0].ends_with("a.csv"), "{grants:?}");
    let Privilege::Over { grants } = test_roots.open("").unwrap().privilege() else { panic!("the test made it writable") };
    assert_eq!(grants.len(), 2);
}

#[test]
fn a_repeated_discovery_finds_the_same_structure() {
    let test_roots =
        test_roots(&[("a.csv", b"id,name\n1,x\n"), ("b.json", b"[{\"id\":1}]"), ("c.parquet", &seed("orders.parquet"))]);
    let discover = || test_roots.open("").unwrap().discover(Bounds::default(), &MemoryMeter::unlimited()).unwrap().catalog;
    let first = discover();
    std::fs::write(test_roots.at("a.csv"), "id,name\n1,x\n2,\n").unwrap();
    let second = discover();
    assert_eq!(first.digest(), second.digest());
    std::fs::write(test_roots.at("a.csv"), "id\nword\n").unwrap();
    let drift = discover().drift_from(&first);
    assert_eq!(drift.breaking.len(), 2, "{drift:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_bytes_under_any_extension(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        json in "[\\[\\]{}\",:0-9a-z\n ]{0,80}",
        pick: bool,
    ) {
        let content = if pick { bytes } else { json.into_bytes() };
        for extension in ["csv", "tsv", "json", "jsonl", "ndjson", "parquet"] {
            let name = format!("x.{extension}");
            let test_roots = test_roots(&[(&name, &content)]);
            if let Ok((catalog, sample)) = test_roots.open(&name).and_then(|resource| run_steps(&resource)) {
                prop_assert_eq!(catalog.streams.len(), 1);
                prop_assert!(sample.rows <= 20);
            }
        }
    }

    #[test]
    fn rows_are_counted_as_written(rows in 0usize..40, most in 1u32..25) {
        let text: String = (0..rows).map(|n| format!("{n},\"a\nb\"\n")).collect();
        let test_roots = test_roots(&[("x.csv", format!("id,text\n{text}").as_bytes())]);
        let sample = test_roots.open("x.csv").unwrap().sample(&[], most, &MemoryMeter::unlimited()).unwrap();
        prop_assert_eq!(sample.rows, rows.min(most as usize) as u64);
    }
}
