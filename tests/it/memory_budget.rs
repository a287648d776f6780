//! Hostile inputs that would take gigabytes if each of them were decoded as it asks: the process stays within its memory
//! budget, everything else goes on, and each input is told apart from a damaged one.

use crate::support::daemon::{Daemon, Workspace, intent, until};
use crate::support::openapi::{MockResponse, serve_on_all_addresses};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The bytes that the whole process may use: the budget of 256 MiB, the code, the registry and the freed memory that the C
/// library keeps.
const MAX_PROCESS_BYTES: u64 = 512 << 20;

/// A description with many small objects, which take about 80 times the memory of their text.
fn wide_description(objects: usize) -> String {
    let mut text = r#"{"openapi":"3.1.0","info":{"title":"T","version":"1"},"servers":[{"url":"/"}],"x":["#.to_string();
    for _ in 0..objects {
        text.push_str(r#"{"a":{}},"#);
    }
    text.push_str(r#"{}],"paths":{"#);
    for number in 0..200 {
        let _ = write!(
            text,
            r#""/p{number}":{{"get":{{"responses":{{"200":{{"content":{{"application/json":{{"schema":{{"type":"array","items":{{"type":"object","properties":{{"#
        );
        for column in 0..40 {
            let _ = write!(text, r#""c{column}":{{"type":"string"}},"#);
        }
        text.push_str(r#""id":{"type":"string"}}}}}}}}}},"#);
    }
    text.push_str(r#""/items":{"get":{"responses":{"200":{"content":{"application/json":{"schema":{"type":"array"}}}}}}}}}"#);
    text
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Links `count` names to the file `first`, which are that many sources.
fn link(first: &Path, count: usize) -> Vec<String> {
    let name = first.file_name().unwrap().to_string_lossy().into_owned();
    (0..count)
        .map(|number| {
            let path = first.with_file_name(format!("{number}-{name}"));
            std::fs::hard_link(first, &path).unwrap();
            path.display().to_string()
        })
        .collect()
}

/// Creates a file and returns `count` sources with its content.
fn sources(data: &Path, name: &str, count: usize, bytes: impl AsRef<[u8]>) -> Vec<String> {
    let path = data.join(name);
    std::fs::write(&path, bytes).unwrap();
    link(&path, count)
}

fn files(data: &Path) -> Vec<String> {
    let bomb = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bomb_38KB_to_1GB.parquet")).unwrap();
    let record = |items: usize| format!("[{{\"a\":[{}0]}}]", "{\"b\":1},".repeat(items));
    let header = |cells: usize| format!("{}id\n", "a,".repeat(cells));
    let mut all = sources(data, "bomb.parquet", 8, bomb);
    all.extend(sources(data, "large-header.csv", 8, header(8 << 20)));
    all.extend(sources(data, "fitting-header.csv", 8, header(1 << 20)));
    all.extend(sources(data, "large-record.json", 8, record(2 << 20)));
    all.extend(sources(data, "fitting-record.json", 8, record(100_000)));
    all
}

fn blob_databases(data: &Path) -> Vec<String> {
    let path = data.join("blob.db");
    let base = rusqlite::Connection::open(&path).unwrap();
    base.execute_batch("CREATE TABLE t(b BLOB); INSERT INTO t VALUES (zeroblob(120000000))").unwrap();
    base.close().unwrap();
    link(&path, 8).into_iter().map(|path| format!("jdbc:sqlite:{path}")).collect()
}

/// The peak of the memory of the process, in bytes.
fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn described_hosts() -> Vec<String> {
    let (large, fitting) = (wide_description(230_000), wide_description(60_000));
    let (zipped, bomb) = (packed(fitting.as_bytes()), packed(&vec![b' '; 200 << 20]));
    let port = serve_on_all_addresses(move |path| -> MockResponse<Vec<u8>> {
        let json = ("content-type", "application/json".to_string());
        let gzip = vec![("content-encoding", "gzip".to_string()), json.clone()];
        match path {
            "/large.json" => (200, vec![json], large.clone().into_bytes()),
            "/fitting.json" => (200, vec![json], fitting.clone().into_bytes()),
            "/zipped.json" => (200, gzip, zipped.clone()),
            "/bomb.json" => (200, gzip, bomb.clone()),
            _ => (200, vec![json], b"[]".to_vec()),
        }
    })
    .await;
    let hosts = (1..=16).map(|host| format!("http://127.0.0.{host}:{port}"));
    let names = ["large", "fitting", "zipped", "bomb"].into_iter().cycle();
    hosts.zip(names).map(|(host, name)| format!("{host}/{name}.json")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_hostile_inputs_at_once_stay_within_the_memory_budget() {
    let workspace = Workspace::new();
    let data = workspace.path("data");
    let mut inputs: Vec<(&str, String)> = files(&data).into_iter().map(|id| ("filesource", id)).collect();
    inputs.extend(blob_databases(&data).into_iter().map(|id| ("jdbc", id)));
    inputs.extend(described_hosts().await.into_iter().map(|id| ("openapi", id)));
    assert_eq!(inputs.len(), 64);
    workspace.write_policy(
        "reconcile: {concurrency: 200, resync: 1s}\nsafe_mode: {max_items: 20, step_timeout: 90s, attempt_timeout: 5m}\nbackoff: {initial: 1h, max: 2h, jitter: 0.0}\n",
    );
    let good = workspace.csv("good.csv", 3);
    for (number, (source_type, id)) in inputs.iter().enumerate() {
        workspace.intent_file(&format!("{number}.json"), &intent(source_type, id));
    }
    let daemon = workspace.serve().await;
    // While they are worked on, a good connection, a push and the API are as quick as ever.
    let begun = Instant::now();
    let pushed = daemon.push(&intent("filesource", &good)).await;
    assert_eq!((pushed.status, &pushed.body["status"]), (201, &json!("ACTIVE")), "{}", pushed.body);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let slowest = std::cell::Cell::new(Duration::ZERO);
    until("each of them has ended", || async {
        let asked = Instant::now();
        assert_eq!(daemon.get("/healthz").await.status, 200);
        slowest.set(slowest.get().max(asked.elapsed()));
        let all = daemon.connections().await;
        let ended = all.iter().filter(|one| !one["version"].is_null() && one["status"] != "PENDING").count();
        (ended == inputs.len() + 1, format!("{ended} ended, peak {} MB", peak(&daemon) >> 20))
    })
    .await;
    let peak = peak(&daemon);
    assert!(peak < MAX_PROCESS_BYTES, "the peak is {} MB", peak >> 20);
    assert!(slowest.get() < Duration::from_secs(5), "{slowest:?}");
    let mut seen: Vec<String> = daemon.connections().await.iter().map(summary).collect();
    seen.sort();
    seen.dedup();
    eprintln!("peak {} MB, slowest health {:?}", peak >> 20, slowest.get());
    let expected = [
        "blob.db ACTIVE",
        "bomb.json UNSUPPORTED unsupported: the description at bomb.json has more than 8 MiB, which is a limit of AAM",
        "bomb.parquet ERROR misconfigured: bomb.parquet exceeds a limit of aam: a page unpacks to 60 MiB, and the limit is 16 MiB",
        "fitting-header.csv ACTIVE",
        "fitting-record.json ACTIVE",
        "fitting.json ACTIVE",
        "good.csv ACTIVE",
        "large-header.csv ERROR misconfigured: the first row of large-header.csv is larger than 16 MiB, the limit of aam",
        "large-record.json ERROR misconfigured: the first record of large-record.json is larger than 16 MiB, the limit of aam",
        "large.json ERROR misconfigured: the description of HOST needs N of memory, but one attempt may use 128 MiB",
        "zipped.json ACTIVE",
    ];
    assert_eq!(seen, expected);
}

/// The kind of an input and how it ended, without what differs between inputs of one kind.
fn summary(one: &Value) -> String {
    let path = one["resource_ids"][0].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let name = path.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    let status = one["status"].as_str().unwrap_or_default();
    let (Some(class), Some(title)) = (one["error"]["class"].as_str(), one["error"]["title"].as_str()) else {
        return format!("{name} {status}");
    };
    let parts = title.split(' ').map(|part| match part {
        part if part.ends_with(path) => name,
        part if part.starts_with("127.0.0.") => "HOST",
        part => part,
    });
    let title = parts.collect::<Vec<_>>().join(" ");
    let title = match (title.find(" needs "), title.find(" of memory")) {
        (Some(from), Some(to)) => format!("{} needs N{}", &title[..from], &title[to..]),
        _ => title,
    };
    format!("{name} {status} {class}: {title}")
}
