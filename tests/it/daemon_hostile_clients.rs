//! Clients that do not read, do not send, send too much, or use another name: the API stays available to operators.

use crate::support::daemon::{Daemon, Workspace, intent, stdout, until};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an operator may have to wait for a response during an attack.
const MAX_RESPONSE_TIME: Duration = Duration::from_secs(5);

/// Sends bytes and reads until the daemon closes the connection; returns the status, or 0 without a response.
async fn raw(daemon: &Daemon, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("connected");
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(MAX_RESPONSE_TIME, stream.read_to_end(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

/// Checks that health probes and callers with a token get a response in time.
async fn assert_available(daemon: &Daemon, during: &str) {
    let token = daemon.token.expose();
    for path in ["/healthz", "/readyz", "/connections", "/metrics/funnel"] {
        let started = Instant::now();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        let (status, answer) = raw(daemon, &request).await;
        assert_eq!(status, 200, "{path} during {during}, after {:?}: {answer}", started.elapsed());
    }
}

/// Lets this process open enough sockets for an attack.
fn raise_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).expect("the limit is raised");
}

#[tokio::test]
async fn thousands_of_silent_connections_do_not_lock_out_operators() {
    raise_limit();
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let mut silent = Vec::new();
    for n in 0..2000 {
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("connected");
        // Half of them send the beginning of a request.
        if n % 2 == 0 {
            let _ = stream.write_all(b"GET /connections HTTP/1.1\r\nHost: loc").await;
        }
        silent.push(stream);
        if n % 500 == 499 {
            assert_available(&daemon, &format!("{n} silent connections")).await;
        }
    }
    assert!(open_sockets(&daemon) < 700, "{} open sockets", open_sockets(&daemon));
}

#[tokio::test]
async fn connections_that_never_read_do_not_lock_out_operators() {
    raise_limit();
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    for token in ["", daemon.token.expose()] {
        let request =
            format!("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n").repeat(20);
        let mut unread = Vec::new();
        for _ in 0..600 {
            let stream = TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("connected");
            // The responses to these requests are longer than the buffers of the kernel.
            let _ = stream.try_write(request.as_bytes());
            unread.push(stream);
        }
        assert_available(&daemon, "600 connections that do not read").await;
        drop(unread);
    }
}

/// The number of sockets that the daemon has open.
fn open_sockets(daemon: &Daemon) -> usize {
    let folder = format!("/proc/{}/fd", daemon.pid());
    let links = std::fs::read_dir(folder).expect("descriptors").flatten();
    links
        .filter(|link| std::fs::read_link(link.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket")))
        .count()
}

/// The processor time that the daemon has used so far.
fn processor_time(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("stat");
    // proc_pid_stat(5): the fields 14 and 15 are the times in user and kernel mode, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Duration::from_millis(fields[11..13].iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

#[tokio::test]
async fn running_out_of_file_descriptors_neither_spins_nor_locks_the_api() {
    raise_limit();
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let used = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("descriptors").count() as u64;
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).expect("a process id")).expect("a process id");
    let few = Rlimit { current: Some(used + 12), maximum: Some(used + 12) };
    prlimit(Some(pid), Resource::Nofile, few).expect("the limit of the daemon");
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("the kernel accepts"));
    }
    until("the daemon runs out of file descriptors", || async {
        (daemon.log().contains("could not accept a connection"), String::new())
    })
    .await;
    let (started, before) = (Instant::now(), processor_time(&daemon));
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while started.elapsed() < Duration::from_secs(2) {
        ticks.tick().await;
    }
    let used = processor_time(&daemon) - before;
    assert!(used < Duration::from_millis(500), "{used:?} of processor time in 2 s");
    assert_available(&daemon, "the lack of file descriptors").await;
    assert!(daemon.log().matches("could not accept a connection").count() <= 2, "the log is not flooded");
}

#[tokio::test]
async fn every_path_of_the_api_checks_host_and_origin() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let (port, token) = (daemon.port, daemon.token.expose().to_string());
    let status = async |method: &str, path: &str, headers: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}Authorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        raw(&daemon, &request).await.0
    };
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    for path in ["/", "/connections", "/version", "/openapi.json", "/metrics", "/dashboard.json", "/nothing"] {
        assert_eq!(status("GET", path, "").await, 400, "{path} without a host");
        assert_eq!(status("GET", path, &own.repeat(2)).await, 400, "{path} with two hosts");
        assert_eq!(status("GET", path, &format!("Host: rebound.example:{port}\r\n")).await, 403, "{path}");
        let expected = if path == "/nothing" { 404 } else { 200 };
        for host in [own.clone(), format!("Host: localhost:{port}\r\n"), format!("Host: [::1]:{port}\r\n")] {
            assert_eq!(status("GET", path, &host).await, expected, "{path} {host}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status("GET", path, "Host: 10.1.2.3:5000\r\n").await, 200, "a probe by the address of the pod");
    }
    let id = "8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e";
    for path in ["/connections/onboard", "/connections/onboard/batch", "/connections/heal", &format!("/connections/{id}/heal")] {
        for foreign in ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]
        {
            assert_eq!(status("POST", path, &format!("{own}{foreign}\r\n")).await, 403, "{path} {foreign}");
        }
        let same = format!("{own}Origin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin\r\n");
        assert_ne!(status("POST", path, &same).await, 403, "{path} from the dashboard");
        assert_ne!(status("POST", path, &own).await, 403, "{path} from a program");
    }
    workspace.write_policy("api: {hosts: [aam.example]}\n");
    until("the policy serves the name of the proxy", || async {
        let status = status("GET", "/connections", "Host: aam.example\r\nOrigin: https://aam.example\r\n").await;
        (status == 200, status.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_daemon_on_all_addresses_is_served_by_the_address_that_the_client_used() {
    let mut workspace = Workspace::new();
    workspace.set("AAM_BIND", "0.0.0.0");
    let daemon = workspace.serve().await;
    let status =
        async |host: String| raw(&daemon, &format!("GET /version HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await.0;
    assert_eq!(status(format!("127.0.0.1:{}", daemon.port)).await, 200);
    assert_eq!(status(format!("0.0.0.0:{}", daemon.port)).await, 200);
    assert_eq!(status(format!("192.0.2.7:{}", daemon.port)).await, 403);
}

#[tokio::test]
async fn a_token_has_a_rate_limit_of_the_policy() {
    let workspace = Workspace::new();
    workspace.write_policy("api: {rate: {per_second: 1, burst: 5}}\n");
    let daemon = workspace.serve().await;
    let mut refused = None;
    for _ in 0..10 {
        let answer = daemon.get("/connections").await;
        assert!(answer.headers.contains_key("ratelimit-remaining"));
        if answer.status == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("a request beyond the burst");
    assert!(refused.body["code"] == "RATE_LIMITED" && refused.headers["retry-after"] == "1", "{}", refused.body);
    assert_eq!(daemon.get("/healthz").await.status, 200);
    // What the problem says: repeat the request after the wait, or change the limit.
    until("the wait is over", || async { (daemon.get("/connections").await.status == 200, String::new()) }).await;
    workspace.write_policy("api: {rate: {per_second: 1000, burst: 1000}}\n");
    until("the new limit is in force", || async {
        let answer = daemon.get("/connections").await;
        (answer.headers["ratelimit-limit"] == "1000", format!("{:?}", answer.headers))
    })
    .await;
}

#[tokio::test]
async fn a_stop_without_work_says_so_and_does_not_wait_for_silent_clients() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let log = workspace.path("log");
    let silent = TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("connected");
    let mut idle = TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("connected");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut start = [0; 12];
    idle.read_exact(&mut start).await.expect("a response");
    let started = Instant::now();
    assert_eq!(daemon.stop().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "the stop took {:?}", started.elapsed());
    let log = std::fs::read_to_string(log).expect("the log");
    assert!(log.contains("stopping: no attempt is in flight"), "{log}");
    assert!(!log.contains("requests were still in flight") && !log.contains("waiting for the attempts"), "{log}");
    drop((silent, idle));
}

/// The most memory that the daemon has used, in KiB.
fn peak_memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("the peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[tokio::test]
async fn answers_about_fat_connections_are_bounded_in_size_and_memory() {
    const MAX_ANSWER: usize = 5 << 20;
    let workspace = Workspace::new();
    // Each document has 2,000 unknown fields, and each of them causes a warning.
    let fat = |n: usize| {
        let mut document = intent("filesource", &workspace.path(&format!("data/{n}.csv")).display().to_string());
        for field in 0..2000 {
            document[format!("field-{field}-{}", "x".repeat(80))] = json!("y");
        }
        document
    };
    let daemon = workspace.serve().await;
    for round in 0..2 {
        let intents: Vec<Value> = (0..20).map(|n| fat(round * 20 + n)).collect();
        let answer = daemon.post_with("/connections/onboard/batch", &json!({ "intents": intents }), "respond-async").await;
        assert!(matches!(answer.status, 200 | 202) && answer.body["succeeded"] == 20, "{}", answer.body["succeeded"]);
        assert!(answer.body.to_string().len() < MAX_ANSWER);
    }
    let before = peak_memory(&daemon);
    let read = async |path: &str| {
        let answer = daemon.get(path).await;
        let size = answer.body.as_str().map_or_else(|| answer.body.to_string().len(), str::len);
        assert!(answer.status == 200 && size < MAX_ANSWER, "{path}: status {}, {size} bytes", answer.status);
        answer.body
    };
    let paths = ["/connections?limit=1000", "/dashboard.json", "/", "/metrics/funnel", "/metrics"];
    futures_util::future::join_all(paths.iter().cycle().take(30).map(|path| read(path))).await;
    let all = read("/connections?limit=1000").await;
    assert_eq!((&all["total"], all["connections"].as_array().map(Vec::len)), (&json!(40), Some(40)));
    let id = all["connections"][0]["connection_id"].as_str().expect("an id").to_string();
    for path in ["", "/versions?limit=1000", "/health"] {
        read(&format!("/connections/{id}{path}")).await;
    }
    let grown = peak_memory(&daemon) - before;
    assert!(grown < 150 << 10, "30 responses at once took {grown} KiB");
    assert!(stdout(&workspace.run(&["status"])).contains("filesource"));
}
