//! Connectors that write too much.

use crate::{progress, run};
use airbyte_protocol::{Answer, Command, Kind, Limits, Origin, Progress, Reader, Trouble};

fn small() -> Limits {
    Limits { line_bytes: 200, output_bytes: 1_000, values: 40, depth: 10, ..Limits::for_command(Command::Check) }
}

const PASSED: &str = "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"SUCCEEDED\"}}\n";

fn end(command: Command, limits: Limits, output: &str) -> (Result<Answer, Trouble>, Reader) {
    let mut reader = Reader::new(command, limits);
    reader.push(output.as_bytes());
    (reader.finish(Some(0), None), reader)
}

#[test]
fn a_long_line_is_skipped_and_the_next_one_is_read() {
    let output = format!("{{\"type\":\"LOG\",\"log\":{{\"message\":\"{}\"}}}}\n{PASSED}", "x".repeat(300));
    let (answer, reader) = end(Command::Check, small(), &output);
    assert!(answer.is_ok());
    assert_eq!((reader.counts().long_lines, reader.counts().log_messages), (1, 0));
    // The longest line that is allowed.
    let exact = format!("{}\n", PASSED.trim_end().to_owned() + &" ".repeat(200 - PASSED.len() + 1));
    assert_eq!(exact.len(), 201);
    assert!(end(Command::Check, small(), &exact).0.is_ok());
    assert!(end(Command::Check, small(), &format!(" {exact}")).0.is_err());
}

#[test]
fn an_answer_that_is_too_long_is_named() {
    let streams = r#"{"name":"a","json_schema":{}},"#.repeat(30);
    let (answer, _) =
        end(Command::Discover, small(), &format!("{{\"type\":\"CATALOG\",\"catalog\":{{\"streams\":[{streams}]}}}}\n"));
    let found = answer.unwrap_err();
    assert_eq!((found.kind, found.origin), (Kind::Silent, Origin::Output));
    assert_eq!(found.message, "The connector ended discover without an answer; 1 line was too long");
}

#[test]
fn a_flood_ends_the_command() {
    let flood = "never mind\n".repeat(200);
    let said = progress(Command::Check, small(), &flood);
    assert_eq!(said.iter().filter(|said| **said == Progress::More).count(), 1_000 / "never mind\n".len());
    assert_eq!(said.last(), Some(&Progress::TooMuch));
    let (answer, reader) = end(Command::Check, small(), &(flood.clone() + PASSED));
    let found = answer.unwrap_err();
    assert_eq!((found.kind, found.origin), (Kind::System, Origin::Output));
    assert_eq!(found.message, "The connector wrote more than 1000 bytes to its standard output during check");
    assert_eq!(reader.counts().bytes, 1_000);
    // A failure that it reported before says more.
    let failed = "{\"type\":\"TRACE\",\"trace\":{\"type\":\"ERROR\",\"error\":{\"message\":\"root cause\"}}}\n";
    assert_eq!(end(Command::Check, small(), &(failed.to_owned() + &flood)).0.unwrap_err().message, "root cause");
    // One line without an end does not grow in memory.
    let mut reader = Reader::new(Command::Check, small());
    let chunk = [b'x'; 100];
    assert_eq!((0..20).map(|_| reader.push(&chunk)).filter(|said| *said == Progress::TooMuch).count(), 10);
}

#[test]
fn deep_and_wide_messages_are_refused_before_they_are_parsed() {
    let deep = format!("{{\"type\":\"STATE\",\"state\":{}{}}}\n", "[".repeat(20), "]".repeat(20));
    let wide = format!("{{\"type\":\"STATE\",\"state\":[{}1]}}\n", "1,".repeat(50));
    let (answer, reader) = end(Command::Check, small(), &(deep + &wide + PASSED));
    assert!(answer.is_ok());
    assert_eq!((reader.counts().invalid_messages, reader.counts().state_messages), (2, 0));
    // Far beyond what a recursive parser survives, in a field that is skipped and in one that is parsed.
    for field in ["state", "log", "future"] {
        let bottomless = format!("{{\"type\":\"LOG\",\"{field}\":{}}}\n", "[".repeat(500_000));
        assert_eq!(run(Command::Check, &(bottomless + PASSED), 0).1.counts().invalid_messages, 1);
    }
}

#[test]
fn streams_records_and_texts_have_bounds() {
    let streams = (0..5).map(|at| format!("{{\"name\":\"s{at}\"}}")).collect::<Vec<_>>().join(",");
    let limits = Limits { streams: 3, ..Limits::for_command(Command::Discover) };
    let (answer, _) =
        end(Command::Discover, limits, &format!("{{\"type\":\"CATALOG\",\"catalog\":{{\"streams\":[{streams}]}}}}"));
    let Ok(Answer::Discover(catalog)) = answer else { panic!("{answer:?}") };
    assert_eq!((catalog.streams.len(), catalog.left_out), (3, 2));

    let record = "{\"type\":\"RECORD\",\"record\":{\"stream\":\"a\",\"data\":{\"t\":\"0123456789\"}}}\n";
    let limits = Limits { record_bytes: 40, ..Limits::for_command(Command::Read) };
    assert_eq!(progress(Command::Read, limits, &record.repeat(3)), [Progress::More, Progress::More, Progress::Enough]);
    let (answer, _) = end(Command::Read, limits, &record.repeat(3));
    let Ok(Answer::Read(records)) = answer else { panic!("{answer:?}") };
    assert_eq!((records.records.len(), records.complete), (2, false));

    // A text is replaced, not cut: a part of a secret would not be recognized.
    let limits = Limits { text_bytes: 8, logs: 1, ..Limits::for_command(Command::Check) };
    let log = "{\"type\":\"LOG\",\"log\":{\"level\":\"INFO\",\"message\":\"0123456789\"}}\n";
    let failed = "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"FAILED\",\"message\":\"0123456789\"}}\n";
    let (answer, reader) = end(Command::Check, limits, &[log, log, failed].concat());
    assert_eq!(answer.unwrap_err().message, "(a text of 10 bytes was left out)");
    assert_eq!((reader.logs().len(), reader.counts().log_messages), (1, 2));
}
