//! A client for the part of the MySQL protocol that AAM needs: log in, and read the rows of a constant statement.
//!
//! It is AAM's own, because a server must not be able to make a driver panic or allocate without limit (decision 0036).
//! Prepared statements, several results, local files and compression are not announced, so that a server which uses them
//! breaks the protocol.

use super::auth::{LoginRefusal, LoginStep, PasswordLogin};
use super::fields::FieldReader;
use super::greeting::{Greeting, capability};
use super::packets::{PacketError, Packets, ResultPacket, Transport};
use crate::connectors::sql::login::Login;
use crate::memory_budget::{AttemptMemory, Reservation};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio_rustls::TlsConnector;

/// One row as text. `None` stands for NULL.
pub type Row = Vec<Option<String>>;

/// Limit on a packet of the login, in bytes. The longest one is an RSA key in PEM form.
const MAX_LOGIN_BYTES: usize = 16 << 10;
/// Limit on the number of packets of a login. A server that tries several plugins needs about ten.
const MAX_LOGIN_PACKETS: usize = 16;
/// Limit on the description of a column, in bytes. It holds six names of at most 256 bytes.
const MAX_COLUMN_BYTES: usize = 64 << 10;
/// The number of columns that a table or view can have (MySQL Reference Manual, "Limits on Table Column Count").
const MAX_COLUMNS: u64 = 4096;
/// Limit on a row that is kept, in bytes. The longest ones describe `ENUM` columns.
const MAX_ROW_BYTES: usize = 1 << 20;
/// What a value of a row takes besides its text, in bytes.
const VALUE_OVERHEAD_BYTES: usize = size_of::<Option<String>>() + 16;
/// The steps in which memory is reserved for rows, in bytes.
const RESERVATION_BYTES: usize = 64 << 10;
/// Limit on the rows of one statement that are kept, in bytes. Further rows are only counted.
const MAX_RESULT_BYTES: usize = 24 << 20;

/// The command that runs a statement.
const COM_QUERY: u8 = 3;
/// The status flag that announces another result.
const MORE_RESULTS: u16 = 8;

/// Why the client failed.
#[derive(Debug)]
pub enum ClientError {
    Packet(PacketError),
    Login(LoginRefusal),
    /// TLS could not be established. The text is the reason.
    Tls(String),
    /// The server speaks only the protocol before MySQL 4.1.
    OldProtocol,
}

impl From<PacketError> for ClientError {
    fn from(error: PacketError) -> ClientError {
        ClientError::Packet(error)
    }
}

impl From<LoginRefusal> for ClientError {
    fn from(refusal: LoginRefusal) -> ClientError {
        ClientError::Login(refusal)
    }
}

/// How to log in.
pub struct LoginPlan<'a> {
    pub login: &'a Login,
    pub host: &'a str,
    pub database: &'a str,
    /// The configuration of TLS, or `None` for clear text.
    pub tls: Option<ClientConfig>,
    /// Whether the policy lets this host receive the password itself without TLS.
    pub weak_login: bool,
    /// Counts the bytes of the connection.
    pub bytes: Arc<AtomicU64>,
    /// Limit on the bytes of the connection.
    pub limit: u64,
    /// The memory of the attempt, from which rows are reserved.
    pub memory: Arc<AttemptMemory>,
}

/// The rows of a statement.
#[derive(Default)]
pub struct ResultSet {
    pub rows: Vec<Row>,
    /// The number of columns. 0 if the server answered that it has run the statement, as for one that has no result.
    pub columns: usize,
    /// The number of rows, including those that were not kept.
    pub count: u64,
    /// Whether rows that should be kept were only counted, because there were too many.
    pub truncated: bool,
    /// The memory of the rows.
    _memory: Option<Reservation>,
}

/// A connection after the login.
pub struct Client {
    packets: Packets,
    memory: Arc<AttemptMemory>,
    /// Whether a statement was not read to its end. The connection is then unusable.
    busy: bool,
    pub mariadb: bool,
}

impl Client {
    /// Logs in over `stream`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(stream: Box<dyn Transport>, plan: LoginPlan<'_>) -> Result<Client, ClientError> {
        let mut packets = Packets::new(stream, Arc::clone(&plan.bytes), plan.limit);
        let first = packets.greeting(MAX_LOGIN_BYTES).await?;
        let greeting = Greeting::parse(&first).ok_or(PacketError::NotMysql)?;
        if !greeting.is_supported() {
            return Err(ClientError::OldProtocol);
        }
        let encrypted = plan.tls.is_some();
        if let Some(config) = plan.tls {
            packets = encrypt(packets, &greeting, config, plan.host, &plan.bytes, plan.limit).await?;
        }
        let mut password = PasswordLogin::new(&greeting, &plan.login.password, encrypted, plan.weak_login);
        let response = password.respond()?;
        let login = greeting.login(encrypted, &plan.login.user, plan.database, password.plugin().as_str(), &response);
        packets.send(&login).await?;
        finish_login(&mut packets, &mut password).await?;
        Ok(Client { packets, memory: plan.memory, busy: false, mariadb: greeting.is_mariadb() })
    }

    /// Whether a statement was not read to its end, so that the connection is unusable.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Runs one statement. Its rows are kept if `keep`, and otherwise only counted.
    ///
    /// # Errors
    /// [`PacketError`]. After any error but `Server` the connection cannot be used again.
    pub async fn query(&mut self, statement: &str, keep: bool) -> Result<ResultSet, PacketError> {
        if std::mem::replace(&mut self.busy, true) {
            let kind = std::io::ErrorKind::ConnectionAborted;
            return Err(std::io::Error::new(kind, "an earlier statement was not read to its end").into());
        }
        self.packets.begin();
        self.packets.send(&[&[COM_QUERY], statement.as_bytes()].concat()).await?;
        let result = self.result(keep).await;
        self.busy = !matches!(result, Ok(_) | Err(PacketError::Server(_)));
        result
    }

    async fn result(&mut self, keep: bool) -> Result<ResultSet, PacketError> {
        let head = self.packets.receive(MAX_LOGIN_BYTES).await?;
        let mut fields = FieldReader::new(&head);
        match head.first() {
            Some(0) => return Ok(ResultSet::default()),
            Some(0xFB) => {
                return Err(PacketError::Malformed("the server asked for a file of this machine, which AAM never sends"));
            }
            _ => {}
        }
        let columns = fields.length_encoded().filter(|_| fields.is_empty());
        let columns = columns.ok_or(PacketError::Malformed("the number of columns is not valid"))?;
        if columns == 0 || columns > MAX_COLUMNS {
            return Err(PacketError::Malformed("the number of columns is not one that a table can have (at most 4096)"));
        }
        for _ in 0..columns {
            self.packets.receive(MAX_COLUMN_BYTES).await?;
        }
        match self.packets.result_packet(None).await? {
            ResultPacket::End(_) => {}
            _ => return Err(PacketError::Malformed("there are more columns than the server announced")),
        }
        self.rows(usize::try_from(columns).unwrap_or_default(), keep).await
    }

    async fn rows(&mut self, columns: usize, keep: bool) -> Result<ResultSet, PacketError> {
        let (mut result, mut kept) = (ResultSet { columns, ..ResultSet::default() }, 0);
        let mut memory = self.memory.reserve(0).await?;
        loop {
            let keep_this = keep && !result.truncated;
            match self.packets.result_packet(keep_this.then_some(MAX_ROW_BYTES)).await? {
                ResultPacket::End(status) if status & MORE_RESULTS == 0 => {
                    result._memory = Some(memory);
                    return Ok(result);
                }
                ResultPacket::End(_) => return Err(PacketError::Malformed("the server sent several results for one statement")),
                ResultPacket::Passed => {}
                ResultPacket::Row(payload) => {
                    let row = parse_row(&payload, columns).ok_or(PacketError::Malformed("a row does not match its columns"))?;
                    kept += payload.len() + columns * VALUE_OVERHEAD_BYTES;
                    let missing = (kept as u64).saturating_sub(memory.bytes());
                    if missing > 0 {
                        memory.grow(missing.max(RESERVATION_BYTES as u64)).await?;
                    }
                    result.rows.push(row);
                    result.truncated = kept > MAX_RESULT_BYTES;
                }
            }
            result.count += 1;
        }
    }
}

fn parse_row(payload: &[u8], columns: usize) -> Option<Row> {
    let mut fields = FieldReader::new(payload);
    let mut row = Row::with_capacity(columns);
    for _ in 0..columns {
        row.push(fields.value()?.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
    }
    fields.is_empty().then_some(row)
}

/// Asks for TLS and establishes it. Chain and host name are verified by `config`.
async fn encrypt(
    mut packets: Packets,
    greeting: &Greeting,
    config: ClientConfig,
    host: &str,
    bytes: &Arc<AtomicU64>,
    limit: u64,
) -> Result<Packets, ClientError> {
    if !greeting.has(capability::SSL) {
        return Err(ClientError::Tls("the server does not support TLS".to_string()));
    }
    let name = ServerName::try_from(host.to_string()).map_err(|error| ClientError::Tls(error.to_string()))?;
    packets.send(&greeting.tls_request()).await?;
    let sequence = packets.sequence();
    let stream = packets.into_stream()?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| ClientError::Tls(error.to_string()))?;
    Ok(Packets::new(Box::new(stream), Arc::clone(bytes), limit).continued_at(sequence))
}

/// Exchanges packets until the server accepts or refuses the login.
async fn finish_login(packets: &mut Packets, password: &mut PasswordLogin<'_>) -> Result<(), ClientError> {
    for _ in 0..MAX_LOGIN_PACKETS {
        let packet = packets.receive(MAX_LOGIN_BYTES).await?;
        let answer = match packet.split_first() {
            Some((0, _)) => return Ok(()),
            Some((0xFE, switch)) => LoginStep::Send(password.switch(switch)?),
            Some((1, more)) => password.more(more)?,
            _ => return Err(LoginRefusal::Broken("the server sent a packet that does not belong to a login").into()),
        };
        if let LoginStep::Send(answer) = answer {
            packets.send(&answer).await?;
        }
    }
    Err(LoginRefusal::Broken("the login did not end after 16 packets").into())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
