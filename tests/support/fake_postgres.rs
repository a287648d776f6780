//! A server that speaks PostgreSQL's protocol and answers as a test wants: how it asks for the password, and with which rows it
//! answers each statement.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with the login.
#[derive(Clone, Debug)]
pub enum Asks {
    /// Admits the user at once.
    Nothing,
    /// Asks for the MD5 digest of the password, and accepts every digest.
    ForDigest,
    /// Asks with the authentication code, to which no client of a test answers.
    For(u32, Vec<u8>),
    /// Asks for the digest, and then refuses the login with this code and message.
    AndRefuses(&'static str, &'static str),
}

/// What the server answers to one statement.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Rows with this number of columns. An empty text stands for NULL.
    Rows(usize, Vec<Vec<&'static str>>),
    /// An error with this code and message.
    Error(&'static str, &'static str),
    /// The statement has run and has no result.
    Done,
}

#[derive(Clone, Debug)]
pub struct Behavior {
    pub asks: Asks,
    /// The answer to a statement that contains the text. The first text that fits counts.
    pub answers: Vec<(&'static str, Answer)>,
}

impl Behavior {
    /// A Redshift database `dev` with the table `sales.orders`, in which the user `aam` may only read.
    pub fn redshift() -> Behavior {
        let rows = |columns, rows: &[&[&'static str]]| Answer::Rows(columns, rows.iter().map(|row| row.to_vec()).collect());
        Behavior {
            asks: Asks::ForDigest,
            answers: vec![
                ("version()", rows(3, &[&["dev", "aam", REDSHIFT]])),
                ("pg_user", rows(2, &[&["f", "f"]])),
                ("has_database_privilege", rows(1, &[])),
                ("has_schema_privilege", rows(1, &[])),
                ("pg_tables", rows(2, &[])),
                ("svv_columns", rows(5, &[&["sales", "orders", "id", "integer", "NO"]])),
                ("svv_tables", rows(3, &[&["sales", "orders", "BASE TABLE"]])),
                ("pg_class", rows(2, &[])),
                ("pg_namespace", rows(1, &[&["sales"]])),
            ],
        }
    }

    /// A PostgreSQL database `shop` without tables, in which the user `aam` may only read.
    pub fn postgres() -> Behavior {
        let rows = |columns, rows: &[&[&'static str]]| Answer::Rows(columns, rows.iter().map(|row| row.to_vec()).collect());
        Behavior {
            asks: Asks::ForDigest,
            answers: vec![
                ("current_setting", rows(7, &[&["shop", "aam", "16.1", "f", "on", "77", "aam"]])),
                ("rolsuper", rows(5, &[&["f", "f", "f", "f", "f"]])),
                ("pg_has_role", rows(1, &[])),
                ("has_database_privilege", rows(2, &[])),
                ("TRUNCATE", rows(7, &[])),
                ("reltuples", rows(9, &[])),
            ],
        }
    }

    pub fn answering(mut self, statement: &'static str, answer: Answer) -> Behavior {
        self.answers.insert(0, (statement, answer));
        self
    }

    pub fn asking(self, asks: Asks) -> Behavior {
        Behavior { asks, ..self }
    }
}

const REDSHIFT: &str = "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC, Redshift 1.0.77467";

/// A running server. It speaks as long as the runtime of the test lives.
pub struct FakePostgres {
    pub port: u16,
    /// The bytes that clients sent in answer to a request for the password.
    answered: Arc<Mutex<Vec<u8>>>,
}

impl FakePostgres {
    pub async fn start(behavior: Behavior) -> FakePostgres {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let answered: Arc<Mutex<Vec<u8>>> = Arc::default();
        let record = Arc::clone(&answered);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, behavior.clone(), Arc::clone(&record)));
            }
        });
        FakePostgres { port, answered }
    }

    /// Whether a client answered a request for the password.
    pub fn was_answered(&self) -> bool {
        !self.answered.lock().expect("no panic").is_empty()
    }
}

/// Serves one connection until the client closes it.
async fn serve(mut stream: TcpStream, behavior: Behavior, answered: Arc<Mutex<Vec<u8>>>) -> Option<()> {
    let startup = usize::try_from(stream.read_u32().await.ok()?).ok()?.checked_sub(4)?;
    stream.read_exact(&mut vec![0; startup]).await.ok()?;
    match &behavior.asks {
        Asks::Nothing => {}
        Asks::For(code, rest) => {
            stream.write_all(&request(*code, rest)).await.ok()?;
            let mut sent = Vec::new();
            stream.read_to_end(&mut sent).await.ok()?;
            answered.lock().expect("no panic").extend(sent);
            return None;
        }
        Asks::ForDigest | Asks::AndRefuses(..) => {
            stream.write_all(&request(5, b"salt")).await.ok()?;
            let (_, digest) = packet(&mut stream).await?;
            answered.lock().expect("no panic").extend(digest);
        }
    }
    if let Asks::AndRefuses(code, text) = behavior.asks {
        stream.write_all(&error("FATAL", code, text)).await.ok()?;
        return None;
    }
    let process = message(b'K', &[0, 0, 0, 77, 0, 0, 0, 1]);
    stream.write_all(&[request(0, b""), process, message(b'Z', b"I")].concat()).await.ok()?;
    loop {
        let (kind, body) = packet(&mut stream).await?;
        if kind != b'Q' {
            return None;
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        let mut response = Vec::new();
        for statement in text.trim_end_matches('\0').split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let (bytes, failed) = behavior.answer(statement);
            response.extend(bytes);
            if failed {
                break;
            }
        }
        response.extend(message(b'Z', b"I"));
        stream.write_all(&response).await.ok()?;
    }
}

impl Behavior {
    /// The messages that answer `statement`, and whether they are an error.
    fn answer(&self, statement: &str) -> (Vec<u8>, bool) {
        if ["BEGIN", "SET ", "ROLLBACK"].iter().any(|begin| statement.starts_with(begin)) {
            return (message(b'C', b"OK\0"), false);
        }
        match self.answers.iter().find(|(text, _)| statement.contains(text)).map(|(_, answer)| answer) {
            Some(Answer::Rows(columns, rows)) => {
                let mut bytes = description(*columns);
                rows.iter().for_each(|values| bytes.extend(row(values)));
                bytes.extend(message(b'C', b"SELECT\0"));
                (bytes, false)
            }
            Some(Answer::Error(code, text)) => (error("ERROR", code, text), true),
            Some(Answer::Done) => (message(b'C', b"OK\0"), false),
            None => (error("ERROR", "42601", &format!("no answer for: {statement}")), true),
        }
    }
}

/// The next packet of a client: its kind and its body.
async fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await.ok()?;
    let mut body = vec![0; usize::try_from(stream.read_u32().await.ok()?).ok()?.checked_sub(4)?];
    stream.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

/// A message of the server.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// An authentication request.
fn request(code: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], rest].concat())
}

fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let fields = format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0");
    message(b'E', fields.as_bytes())
}

/// The description of `columns` text columns.
fn description(columns: usize) -> Vec<u8> {
    let column = [&b"column\0"[..], &[0; 6], &25_u32.to_be_bytes(), &[0xFF; 6], &[0; 2]].concat();
    message(b'T', &[&u16::try_from(columns).expect("few columns").to_be_bytes()[..], &column.repeat(columns)].concat())
}

fn row(values: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).expect("few values").to_be_bytes().to_vec();
    for value in values {
        match value.is_empty() {
            true => body.extend((-1_i32).to_be_bytes()),
            false => {
                body.extend(u32::try_from(value.len()).expect("a short value").to_be_bytes());
                body.extend(value.as_bytes());
            }
        }
    }
    message(b'D', &body)
}
