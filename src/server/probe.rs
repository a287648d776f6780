//! Checks whether an AAM already listens on a port, for `aam serve` and `aam heal`.

use super::ServerInfo;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Asks the process that listens on `127.0.0.1:port` for its version. Returns `None` if it does not answer as an AAM.
///
/// Connects to the socket directly, because an HTTP client might use a proxy from the environment.
pub async fn running(port: u16) -> Option<ServerInfo> {
    tokio::time::timeout(TIMEOUT, ask(port)).await.ok()?
}

async fn ask(port: u16) -> Option<ServerInfo> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request =
        format!("GET /version HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.ok()?;
    read(&answer)
}

fn read(answer: &[u8]) -> Option<ServerInfo> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    if head.split_whitespace().nth(1) != Some("200") {
        return None;
    }
    serde_json::from_str::<ServerInfo>(body).ok().filter(|info| info.service == "aam")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_aam_is_recognised() {
        let body = r#"{"service":"aam","version":"0","pid":1,"registry":"r","started":"s","port":5000}"#;
        let with = |status: &str, body: &str| read(format!("HTTP/1.1 {status}\r\na: b\r\n\r\n{body}").as_bytes());
        assert_eq!(with("200 OK", body).map(|info| info.pid), Some(1));
        assert_eq!(with("404 Not Found", body), None);
        assert_eq!(with("200 OK", &body.replace("aam", "other")), None);
        assert_eq!(with("200 OK", "<html>"), None);
        assert_eq!(read(b"SSH-2.0-x\r\n"), None);
        assert_eq!(read(b"\xff\xfe"), None);
    }
}
