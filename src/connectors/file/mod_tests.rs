use super::*;

/// What a person reads for each resource id, judged by its form alone.
#[test]
fn forms_are_judged() {
    let ids = [
        "seeds/data/customers.csv",
        "/srv/data/orders.PARQUET",
        "seeds/data",
        "exports/2026.01",
        "archive.zip/",
        "../shared/a.json",
        "",
        " ",
        "a\0b.csv",
        "a/../b.csv",
        "https://files.example/a.csv",
        "s3://bucket/a.csv",
        "file:///srv/a.csv",
        "a.csv.gz",
        "report.xlsx",
        "tickets.db",
    ];
    let line = |id: &str| match FileEngine.accepts(id) {
        Ok(()) => format!("{id:?}: accepted\n"),
        Err(failure) => format!("{id:?}: {}\n  {}\n  fix: {}\n", failure.class.word(), failure.title, failure.fix),
    };
    let text: String = ids.into_iter().map(line).collect();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("file_forms", text);
    });
}

#[test]
fn the_account_is_the_absolute_path() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(shown("./seeds/data/a.csv"), here.join("seeds/data/a.csv").display().to_string());
    assert_eq!(FileEngine.need("a.csv"), Need::Optional);
}
