//! Servers of the tests that send any bytes.

use super::*;
use crate::credentials::Secret;
use proptest::prelude::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = payload.len().to_le_bytes()[..3].to_vec();
    out.push(sequence);
    out.extend(payload);
    out
}

fn greeting() -> Vec<u8> {
    let mut payload = vec![10];
    payload.extend(b"8.0.40\0\x05\0\0\0abcdefgh\0\xFF\xF7\x2D\x02\0\xFF\x81\x15");
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0mysql_native_password\0");
    packet(0, &payload)
}

/// The greeting and the acceptance of a login.
fn accepted() -> Vec<u8> {
    [greeting(), packet(2, &[0, 0, 0, 2, 0, 0, 0])].concat()
}

/// What a client makes of a server that sends `bytes` and then closes the connection.
async fn outcome(bytes: Vec<u8>) -> Result<ResultSet, ClientError> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(async move {
        let _ = far.write_all(&bytes).await;
        let _ = far.shutdown().await;
        let _ = far.read_to_end(&mut Vec::new()).await;
    });
    let login = Login { user: "reader".into(), password: Secret::new("hunter2hunter2".into()) };
    let plan = LoginPlan {
        login: &login,
        host: "db.example",
        database: "shop",
        tls: None,
        weak_login: false,
        bytes: Arc::default(),
        limit: 1 << 20,
        memory: AttemptMemory::alone(),
    };
    let work = async {
        let mut client = Client::connect(Box::new(near), plan).await?;
        Ok(client.query("SELECT 1", true).await?)
    };
    let outcome = tokio::time::timeout(Duration::from_secs(5), work).await.expect("the client waits for bytes that cannot come");
    server.abort();
    outcome
}

fn malformed(outcome: &Result<ResultSet, ClientError>) -> &str {
    match outcome {
        Err(ClientError::Packet(PacketError::Malformed(rule))) => rule,
        Err(other) => panic!("{other:?}"),
        Ok(result) => panic!("{} rows", result.count),
    }
}

fn length(value: u64) -> Vec<u8> {
    [&[0xFE][..], &value.to_le_bytes()].concat()
}

const END: [u8; 5] = [0xFE, 0, 0, 2, 0];

#[tokio::test]
async fn rows_are_read_and_null_differs_from_the_empty_text() {
    let mut bytes = accepted();
    for (sequence, payload) in (1..).zip([&[2][..], b"column", b"column", &END, b"\x01a\xFB", b"\x00\x03b\xFFc", &END]) {
        bytes.extend(packet(sequence, payload));
    }
    let result = outcome(bytes).await.unwrap();
    let text = |text: &str| Some(text.to_string());
    assert_eq!(result.rows, [vec![text("a"), None], vec![text(""), text("b\u{FFFD}c")]]);
    assert!(result.count == 2 && !result.truncated);
}

#[tokio::test]
async fn an_absurd_number_of_columns_is_refused() {
    for columns in [1 << 44, u64::MAX, 4097, 0] {
        let bytes = [accepted(), packet(1, &length(columns))].concat();
        assert!(malformed(&outcome(bytes).await).contains("number of columns"), "{columns}");
    }
    let bytes = [accepted(), packet(1, &[0xFC, 1])].concat();
    assert_eq!(malformed(&outcome(bytes).await), "the number of columns is not valid");
}

#[tokio::test]
async fn a_value_longer_than_its_row_and_a_row_of_other_columns_are_refused() {
    for row in [&[&length(1 << 44)[..], b"abc"].concat()[..], b"\x01a\x01b", b"\x05a"] {
        let mut bytes = accepted();
        for (sequence, payload) in (1..).zip([&[1][..], b"column", &END, row]) {
            bytes.extend(packet(sequence, payload));
        }
        assert_eq!(malformed(&outcome(bytes).await), "a row does not match its columns");
    }
}

#[tokio::test]
async fn a_file_of_this_machine_is_never_sent() {
    let bytes = [accepted(), packet(1, b"\xFB/etc/passwd")].concat();
    assert!(malformed(&outcome(bytes).await).contains("never sends"));
}

#[tokio::test]
async fn what_is_not_mysql_is_refused_by_its_first_header() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail.example ESMTP\r\n",
        &[0; 64],
        b"+OK ready\r\n",
    ] {
        assert!(matches!(outcome(bytes.to_vec()).await, Err(ClientError::Packet(PacketError::NotMysql))), "{bytes:?}");
    }
}

#[tokio::test]
async fn an_announced_length_allocates_nothing() {
    // 16 MiB are announced for a row and for a packet of the login; nothing follows.
    let announced = [0xFE, 0xFF, 0xFF];
    let login = [greeting(), [&announced[..], &[2]].concat()].concat();
    assert!(malformed(&outcome(login).await).contains("longer than"));
    let mut row = accepted();
    for (sequence, payload) in (1..).zip([&[1][..], b"column", &END]) {
        row.extend(packet(sequence, payload));
    }
    row.extend([&announced[..], &[4, 1]].concat());
    assert!(matches!(outcome(row).await, Err(ClientError::Packet(PacketError::TooLarge(_)))));
}

#[tokio::test]
async fn a_server_that_never_ends_is_cut() {
    let mut columns = accepted();
    columns.extend(packet(1, &[0xFC, 0, 16]));
    let mut sequence: u8 = 2;
    for _ in 0..4000 {
        columns.extend(packet(sequence, &[b'x'; 1000]));
        sequence = sequence.wrapping_add(1);
    }
    assert!(
        matches!(outcome(columns).await, Err(ClientError::Packet(PacketError::TooLarge(what))) if what.contains("limit 1 MiB"))
    );
    let mut login = greeting();
    for sequence in (2..64).step_by(2) {
        login.extend(packet(sequence, &[b"\xFEmysql_native_password\0", &[b'x'; 20][..], &[0]].concat()));
    }
    assert!(matches!(outcome(login).await, Err(ClientError::Login(LoginRefusal::Broken(_)))));
}

#[tokio::test]
async fn the_servers_own_error_keeps_its_code_and_text() {
    let denied = b"\xFF\x15\x04#28000Access denied for user 'reader'";
    for bytes in [[greeting(), packet(2, denied)].concat(), [accepted(), packet(1, denied)].concat()] {
        match outcome(bytes).await {
            Err(ClientError::Packet(PacketError::Server(error))) => {
                assert_eq!(
                    (error.code, error.state.as_str(), error.message.as_str()),
                    (1045, "28000", "Access denied for user 'reader'")
                );
            }
            Err(other) => panic!("{other:?}"),
            Ok(result) => panic!("{} rows", result.count),
        }
    }
    let busy = [&b"\xFF\x10\x04Too many connections"[..]].concat();
    assert!(
        matches!(outcome(packet(0, &busy)).await, Err(ClientError::Packet(PacketError::Server(error))) if error.code == 1040)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A session of which some bytes are changed, and which is cut somewhere, ends in a result or an error.
    #[test]
    fn a_changed_session_is_harmless(changes in proptest::collection::vec((0..200_usize, any::<u8>()), 1..6), cut in 0..300_usize) {
        let mut bytes = accepted();
        for (sequence, payload) in (1..).zip([&[2][..], b"column", b"column", &END, b"\x01a\xFB", b"\x00\x03b\xFFc", &END]) {
            bytes.extend(packet(sequence, payload));
        }
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(cut);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _ = runtime.block_on(outcome(bytes));
    }
}
