//! Any bytes, cut anywhere.

use airbyte_protocol::{Answer, Command, Counts, JsonText, Limits, Log, Progress, Reader, Trouble};
use proptest::prelude::*;

const COMMANDS: [Command; 4] = [Command::Spec, Command::Check, Command::Discover, Command::Read];

/// Small bounds, so that they are reached.
fn limits() -> Limits {
    Limits {
        line_bytes: 160,
        depth: 6,
        values: 20,
        output_bytes: 900,
        records: 3,
        record_bytes: 60,
        streams: 2,
        logs: 2,
        text_bytes: 20,
    }
}

#[derive(Debug, PartialEq)]
struct Seen {
    progress: Progress,
    answer: Result<Answer, Trouble>,
    config: Option<JsonText>,
    logs: Vec<Log>,
    counts: Counts,
}

fn read(command: Command, pieces: &[&[u8]], exit: Option<i32>) -> Seen {
    let mut reader = Reader::new(command, limits());
    let mut progress = Progress::More;
    for piece in pieces {
        let now = reader.push(piece);
        let ended = |progress| matches!(progress, Progress::Enough | Progress::TooMuch);
        assert!(!ended(progress) || now == progress, "an end is final");
        progress = now;
    }
    let answer = reader.finish(exit, None);
    let config = reader.take_config();
    Seen { progress, answer, config, logs: reader.logs().to_vec(), counts: reader.counts() }
}

/// One line that a connector might write, or nearly.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        r#"{"type":"RECORD","record":{"stream":"a","data":{"id":1,"t":"text"}}}"#,
        r#"{"type":"RECORD","record":{"stream":"a","data":{"n":NaN}}}"#,
        r#"{"type":"RECORD","record":{"stream":"a"}}"#,
        r#"{"type":"STATE","state":{}}"#,
        r#"{"type":"LOG","log":{"level":"ERROR","message":"it failed"}}"#,
        r#"{"type":"LOG","log":{"level":"INFO","message":"a message that is longer than the bound"}}"#,
        r#"{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"m","failure_type":"config_error"}}}"#,
        r#"{"type":"TRACE","trace":{"type":"STREAM_STATUS","stream_status":{"status":"INCOMPLETE"}}}"#,
        r#"{"type":"CONTROL","control":{"connectorConfig":{"config":{"token":"new"}}}}"#,
        r#"{"type":"CONNECTION_STATUS","connectionStatus":{"status":"SUCCEEDED"}}"#,
        r#"{"type":"CONNECTION_STATUS","connectionStatus":{"status":"FAILED","message":"no"}}"#,
        r#"{"type":"SPEC","spec":{"connectionSpecification":{"properties":{"k":{"airbyte_secret":true}}}}}"#,
        r#"{"type":"CATALOG","catalog":{"streams":[{"name":"a"},{"name":"b"},{"name":"c"}]}}"#,
        r#"{"type":"FUTURE","future":[[[[[[[[1]]]]]]]]}"#,
        r#"{"type":"LOG","log":{"message":"\"#,
        "plain text",
        "",
    ]);
    prop_oneof![
        6 => known.clone().prop_map(|line| line.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..250),
        // A message with one byte changed.
        2 => (known, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(line, at, byte)| {
            let mut line = line.as_bytes().to_vec();
            if !line.is_empty() {
                let at = at.index(line.len());
                line[at] = byte;
            }
            line
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn cuts_do_not_matter(
        lines in prop::collection::vec(line(), 0..12),
        last in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        command in prop::sample::select(COMMANDS.to_vec()),
        exit in prop::option::of(prop::sample::select(vec![0, 1, 137])),
    ) {
        let mut output = lines.join(&b'\n');
        if last {
            output.push(b'\n');
        }
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(output.len() + 1)).collect();
        at.extend([0, output.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &output[pair[0]..pair[1]]).collect();
        let bytes: Vec<&[u8]> = output.chunks(1).collect();

        let whole = read(command, &[&output], exit);
        prop_assert_eq!(&read(command, &pieces, exit), &whole);
        prop_assert_eq!(&read(command, &bytes, exit), &whole);

        // The bounds hold.
        prop_assert!(whole.counts.bytes <= limits().output_bytes);
        prop_assert!(whole.logs.len() <= limits().logs);
        match &whole.answer {
            Ok(Answer::Read(records)) => {
                prop_assert!(records.records.len() <= limits().records);
                prop_assert!(records.records.iter().map(|record| record.data.as_str().len()).sum::<usize>() <= limits().record_bytes);
            }
            Ok(Answer::Discover(catalog)) => prop_assert!(catalog.streams.len() <= limits().streams),
            Ok(_) => {}
            Err(trouble) => prop_assert!(!trouble.message.is_empty()),
        }
    }

    #[test]
    fn any_bytes_are_survived(output in prop::collection::vec(any::<u8>(), 0..600), command in prop::sample::select(COMMANDS.to_vec())) {
        let seen = read(command, &[&output], Some(0));
        // An empty read is the only answer that no message is needed for.
        prop_assert!(seen.answer.is_err() || command == Command::Read);
    }
}
