//! The connectors of `tests/airbyte/connectors`, each made for one fault, run without confinement. Those that would harm the
//! machine (`forks_tree`, `reads_files`, `opens_sockets`) are run by the tests of the engine only.

use airbyte_protocol::{Answer, Command, Kind, Limits, Origin, Progress, Reader, Stream, Trouble, configured_catalog};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;

struct Run {
    progress: Progress,
    answer: Result<Answer, Trouble>,
    reader: Reader,
}

/// Writes the files of one command into a folder of its own and starts the connector without any environment.
fn start(name: &str, command: Command, config: &Value, streams: &[&Stream]) -> (Child, PathBuf) {
    let folder = std::env::temp_dir().join(format!("airbyte-protocol-{}-{name}-{}", std::process::id(), number()));
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("config.json"), config.to_string()).expect("a file");
    std::fs::write(folder.join("catalog.json"), configured_catalog(streams)).expect("a file");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/airbyte/connectors").join(format!("{name}.py"));
    let mut process = std::process::Command::new("python3");
    process.arg("-B").arg(script.canonicalize().expect("the connector")).arg(command.as_str());
    match command {
        Command::Spec => {}
        Command::Check | Command::Discover => drop(process.args(["--config", "config.json"])),
        Command::Read => drop(process.args(["--config", "config.json", "--catalog", "catalog.json"])),
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    process.env_clear().env("PATH", path).current_dir(&folder);
    let child = process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    (child.expect("python3 has to be installed"), folder)
}

/// A number that differs between the runs of one test process.
fn number() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn run_with(name: &str, command: Command, config: &Value, streams: &[&Stream], limits: Limits) -> Run {
    let (mut child, folder) = start(name, command, config, streams);
    let mut reader = Reader::new(command, limits);
    let (mut output, mut progress, mut buffer) = (child.stdout.take().expect("its output"), Progress::More, vec![0; 4096]);
    loop {
        let length = output.read(&mut buffer).expect("its output");
        if length == 0 {
            break;
        }
        progress = reader.push(&buffer[..length]);
        if matches!(progress, Progress::Enough | Progress::TooMuch) {
            child.kill().expect("it runs");
            break;
        }
    }
    let status = child.wait().expect("its end");
    std::fs::remove_dir_all(folder).expect("the folder");
    let answer = reader.finish(status.code(), std::os::unix::process::ExitStatusExt::signal(&status));
    Run { progress, answer, reader }
}

fn run(name: &str, command: Command, config: &Value) -> Run {
    run_with(name, command, config, &[&items()], Limits::for_command(command))
}

fn streams(answer: Result<Answer, Trouble>) -> Vec<Stream> {
    match answer {
        Ok(Answer::Discover(catalog)) => catalog.streams,
        other => panic!("{other:?}"),
    }
}

fn items() -> Stream {
    let line = r#"{"type":"CATALOG","catalog":{"streams":[{"name":"items","json_schema":{}}]}}"#;
    streams(Ok(crate::answer(Command::Discover, line))).remove(0)
}

fn failure(run: Run) -> Trouble {
    run.answer.expect_err("a failure")
}

/// Answers each request with what `vendor` returns for its method, target, Authorization header and body.
fn serve(vendor: impl Fn(&str, &str, &str, &str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            let mut input = BufReader::new(connection.try_clone().expect("its input"));
            let mut head = Vec::new();
            while head.last().is_none_or(|line: &String| !line.trim().is_empty()) {
                let mut line = String::new();
                // A connector that was ended in the middle of a request leaves a broken connection.
                let _ = input.read_line(&mut line);
                head.push(line);
            }
            let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
            let mut body = vec![0; header("Content-Length:").parse().unwrap_or(0)];
            let _ = input.read_exact(&mut body);
            let mut first = head[0].split(' ');
            let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
            let (status, answer) = vendor(method, target, &header("Authorization:"), &String::from_utf8_lossy(&body));
            let length = answer.len();
            let _ = write!(connection, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}");
        }
    });
    format!("http://{address}")
}

#[test]
fn a_well_behaved_connector_runs_all_commands() {
    let url = serve(|_, target, token, _| match (token, target) {
        ("Bearer busy", _) => (429, "slow down".to_owned()),
        (token, _) if token != "Bearer good" => (401, "who is that".to_owned()),
        (_, "/schema") => (200, json!({"items": {"type": "object", "properties": {"id": {"type": "integer"}}}}).to_string()),
        (_, "/items?page=1") => (200, json!((0..15).map(|id| json!({"id": id})).collect::<Vec<_>>()).to_string()),
        (_, "/items?page=2") => (200, json!((15..30).map(|id| json!({"id": id})).collect::<Vec<_>>()).to_string()),
        _ => (200, "[]".to_owned()),
    });
    let config = |token: &str| json!({"url": url, "token": token});
    let Ok(Answer::Spec(spec)) = run("well_behaved", Command::Spec, &json!({})).answer else { panic!("the specification") };
    assert_eq!(spec.secrets(&config("good")).into_iter().collect::<Vec<_>>(), ["good"]);
    assert!(run("well_behaved", Command::Check, &config("good")).answer.is_ok());
    let streams = streams(run("well_behaved", Command::Discover, &config("good")).answer);
    assert_eq!((streams.len(), streams[0].name.as_str(), streams[0].primary_key.len()), (1, "items", 1));

    let first = run_with("well_behaved", Command::Read, &config("good"), &[&streams[0]], Limits::for_command(Command::Read));
    assert_eq!(first.progress, Progress::Enough);
    let Ok(Answer::Read(records)) = first.answer else { panic!("records") };
    assert_eq!((records.records.len(), records.complete), (20, false));
    let all = Limits { records: 100, ..Limits::for_command(Command::Read) };
    let Ok(Answer::Read(records)) = run_with("well_behaved", Command::Read, &config("good"), &[&streams[0]], all).answer else {
        panic!("records")
    };
    assert_eq!((records.records.len(), records.complete), (30, true));

    let refused = failure(run("well_behaved", Command::Check, &config("bad")));
    assert_eq!((refused.kind, refused.origin), (Kind::Config, Origin::Status));
    assert_eq!(failure(run("well_behaved", Command::Discover, &config("bad"))).kind, Kind::Config);
    let busy = failure(run("well_behaved", Command::Discover, &config("busy")));
    assert_eq!((busy.kind, busy.internal_message.as_deref()), (Kind::Transient, Some("slow down")));
}

#[test]
fn noise_and_unknown_messages_do_not_matter() {
    let noisy = run("noisy", Command::Check, &json!({}));
    assert!(noisy.answer.is_ok());
    assert_eq!(noisy.reader.counts().noise_lines, 11);
    assert!(!format!("{:?}{:?}", noisy.reader, noisy.reader.logs()).contains("jane.doe"));
    let unknown = run("unknown_messages", Command::Discover, &json!({"fault_in": "discover"}));
    let counts = unknown.reader.counts();
    assert_eq!((counts.unknown_messages, counts.noise_lines, counts.invalid_messages), (4, 0, 0));
    assert_eq!(streams(unknown.answer)[0].sync_modes.len(), 1);
}

#[test]
fn floods_end() {
    for config in [json!({}), json!({"messages": true}), json!({"line": true})] {
        let limits = Limits { output_bytes: 3_000_000, ..Limits::for_command(Command::Check) };
        let flood = run_with("floods_stdout", Command::Check, &config, &[], limits);
        assert_eq!(flood.progress, Progress::TooMuch);
        assert!(flood.reader.logs().len() <= limits.logs);
        assert_eq!(failure(flood).origin, Origin::Output);
    }
    // Endless records are enough at the limit.
    let records = run("blocks_unread", Command::Read, &json!({}));
    assert_eq!((records.progress, records.answer.is_ok()), (Progress::Enough, true));
}

#[test]
fn a_connector_that_hangs_has_answered_or_has_not() {
    for (answers, expected) in [(true, Progress::Answered), (false, Progress::More)] {
        let (mut child, folder) = start("hangs", Command::Check, &json!({"answer_first": answers}), &[]);
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut reader = Reader::new(Command::Check, Limits::for_command(Command::Check));
        let mut progress = Progress::More;
        for _ in 0..=usize::from(answers) {
            progress = reader.push(format!("{}\n", lines.recv().expect("a line")).as_bytes());
        }
        assert_eq!(progress, expected);
        assert_eq!(child.try_wait().expect("its state"), None, "it hangs");
        child.kill().expect("it runs");
        child.wait().expect("its end");
        std::fs::remove_dir_all(folder).expect("the folder");
        let answer = reader.finish(None, Some(9));
        assert_eq!(answer.is_ok(), answers);
    }
}

#[test]
fn an_end_without_an_answer_is_named() {
    let kind = |config: Value| failure(run("dies", Command::Check, &config)).kind;
    assert_eq!(kind(json!({})), Kind::Memory);
    assert_eq!(kind(json!({"signal": 9})), Kind::Memory);
    assert_eq!(kind(json!({"signal": 11})), Kind::Killed);
    assert_eq!(kind(json!({"exit": 1})), Kind::System);
    assert_eq!(kind(json!({"exit": 0})), Kind::Silent);
    let stopped = run("eats_memory", Command::Check, &json!({"megabytes": 32}));
    assert_eq!(failure(stopped).message, "took 32 MB and was not stopped");
}

#[test]
fn a_wide_table_fits() {
    let discovered = streams(run("wide_discover", Command::Discover, &json!({})).answer);
    let schema = discovered[0].json_schema.parse().expect("a schema");
    assert_eq!(schema["properties"].as_object().expect("properties").len(), 20_000);
    let read = run_with("wide_discover", Command::Read, &json!({}), &[&discovered[0]], Limits::for_command(Command::Read));
    let Ok(Answer::Read(records)) = read.answer else { panic!("a record") };
    assert_eq!(records.records[0].data.parse().expect("a record").as_object().expect("fields").len(), 20_000);
}

#[test]
fn secrets_stay_whole() {
    let secret = "first line\n\"second\" line";
    let config = json!({"secret": secret});
    let check = run("prints_secret", Command::Check, &config);
    // Whole, so that the caller can replace it by value.
    assert!(check.reader.logs().iter().all(|log| log.message.contains(secret)), "{:?}", check.reader.logs());
    let refused = failure(check);
    assert!(refused.message.contains(secret));
    let excerpt = refused.stack_excerpt(1, |text| text.replace(secret, "***"));
    assert_eq!(excerpt.as_deref(), Some("ValueError: ***"));
    assert!(streams(run("prints_secret", Command::Discover, &config).answer)[0].name.contains(secret));
}

#[test]
fn a_token_that_works_once_is_handed_over() {
    // The vendor accepts the last token that it gave, once.
    let valid = std::sync::Mutex::new(1);
    let url = serve(move |method, _, _, body| {
        let mut valid = valid.lock().expect("the number");
        if method != "POST" || !body.ends_with(&format!("refresh_token=token-{valid}")) {
            return (400, "spent".to_owned());
        }
        *valid += 1;
        (200, json!({"refresh_token": format!("token-{valid}")}).to_string())
    });
    let first = json!({"url": url, "refresh_token": "token-1", "fail": true});
    let mut failed = run("spends_token", Command::Check, &first);
    let second = failed.reader.take_config().expect("the new configuration").parse().expect("JSON");
    assert_eq!(failure(failed).message, "The account is suspended");
    assert_eq!(second["refresh_token"], "token-2");
    let mut discovered = run("spends_token", Command::Discover, &second);
    assert!(discovered.answer.is_ok());
    let third = discovered.reader.take_config().expect("the new configuration").parse().expect("JSON");
    assert_eq!(third["refresh_token"], "token-3");
    let mut spent = run("spends_token", Command::Read, &second);
    assert!(spent.reader.take_config().is_none());
    assert_eq!(failure(spent).kind, Kind::Config);
}
