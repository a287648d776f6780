use super::*;

/// The verdict on each resource id, based only on its text, in the form in which people read it.
#[test]
fn resource_ids_are_checked_by_their_form() {
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
        "a.parquet.gz",
        "~/data/a.csv",
        "$HOME/data/a.csv",
        "data/${DAY}/a.csv",
        "data/price in $.csv",
        "report.xlsx",
        "tickets.db",
    ];
    let line = |id: &str| match check_form(id) {
        Ok(()) => format!("{id:?}: accepted\n"),
        Err(failure) => format!("{id:?}: {}\n  {}\n  fix: {}\n", failure.class.as_str(), failure.title, failure.fix),
    };
    let text: String = ids.into_iter().map(line).collect();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("file_forms", text);
    });
}

#[test]
fn the_account_is_the_absolute_path() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(absolute_path("./seeds/data/a.csv"), here.join("seeds/data/a.csv").display().to_string());
    let bound = bind("./seeds/data/a.csv").unwrap();
    assert_eq!(
        (bound.credential_need(), bound.account()),
        (CredentialNeed::Optional, absolute_path("./seeds/data/a.csv").as_str())
    );
}

/// A day budget in memory. Like the registry, it grants what is left.
struct Budget(std::sync::atomic::AtomicU64);

impl crate::egress::DayBudget for Budget {
    fn take<'a>(&'a self, _: &'a str, _: i64, wanted: u64, _: u64) -> BoxFuture<'a, Result<u64, String>> {
        use std::sync::atomic::Ordering::Relaxed;
        let granted =
            self.0.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(wanted))).map(|left| left.min(wanted));
        Box::pin(async move { Ok(granted.unwrap_or(0)) })
    }
}

fn policy() -> Arc<Policy> {
    let text = "version: 1\nallowlist: [filesource]\nfiles: {roots: [seeds/data]}\n";
    Arc::new(crate::policy::parse::parse(text, "policy.yaml").unwrap())
}

fn bind(id: &str) -> Result<Box<dyn BoundResource>, Failure> {
    let family = crate::families::find("filesource").unwrap();
    FileEngine.bind(BindRequest { family, policy: &policy(), resource_id: id })
}

async fn open(id: &str, calls: u64) -> Result<Opened, Failure> {
    let family = crate::families::find("filesource").unwrap();
    let bound = bind(id)?;
    let session = crate::egress::Egress::new(Arc::new(Budget(calls.into()))).session(crate::egress::Caller {
        connection: crate::model::ConnectionId::derive("autonomy", "filesource", &[id.to_owned()]),
        family: Arc::clone(&family.id),
        purpose: crate::model::CallPurpose::Source,
        account: bound.account().to_owned(),
        cap: family.cap.clone(),
        policy: policy(),
        posts: Arc::default(),
    });
    bound.authorize(None)?.open(session).await
}

#[tokio::test]
async fn an_attempt_over_a_real_session_counts_its_calls_and_bytes() {
    let opened = open("seeds/data/customers.csv", 1000).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["format"], "csv");
    let found = opened.connector.discover(Bounds::default()).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    opened.connector.health().await.unwrap();
    let sample = opened.connector.tiny_sync(&found.catalog, 20).await.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(sample.rows, 20);
    let size = std::fs::metadata("seeds/data/customers.csv").unwrap().len();
    // The file is read on opening, by the health check and by the sample. Discovery reuses the first read.
    assert_eq!(opened.connector.traffic(), Traffic { calls: 4, bytes: 3 * size, ..Traffic::default() });
}

/// A read that failed must not look like one that succeeded in the list of calls.
#[tokio::test]
async fn each_read_is_recorded_once_with_how_it_ended() {
    let recorder = crate::egress::CallRecorder::new();
    let work = async {
        assert!(open("seeds/data/customers.csv", 1000).await.is_ok());
        assert!(open("seeds/data/absent.csv", 1000).await.is_err());
    };
    recorder.run(work).await;
    let calls = recorder.take().calls;
    let recorded: Vec<_> = calls.iter().map(|call| (call.target.method.as_str(), call.error.as_str(), call.bytes)).collect();
    let size = std::fs::metadata("seeds/data/customers.csv").unwrap().len();
    assert_eq!(recorded, [("READ FILE", "", size), ("READ FILE", "not_found", 0)]);
    assert!(calls.iter().all(|call| call.target.path.contains("seeds/data/") && call.target.rule == "files.roots"), "{calls:?}");
}

#[tokio::test]
async fn a_spent_budget_stops_it_before_the_file_is_opened() {
    let failure = open("seeds/data/none.csv", 0).await.err().unwrap();
    assert_eq!(failure.class, Class::Throttled);
    let failure = open("seeds/data/none.csv", 1000).await.err().unwrap();
    assert_eq!(failure.class, Class::NotFound);
}
