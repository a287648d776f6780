//! Checks what the server asks for during the login, before the driver can answer.
//!
//! The driver does whatever the server asks, and the server may be another program. This stream therefore reads the
//! messages of the server up to the end of the login. It ends the connection with a [`LoginRefusal`] before the message that
//! asks for something unsafe reaches the driver, so nothing is sent in answer to it. The message format is from chapter
//! "Frontend/Backend Protocol" of the PostgreSQL manual.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// The lowest number of SCRAM iterations that a server should use (RFC 7677, section 4). A server that is not the right one
/// could ask for fewer, which makes it easy to search for the password.
pub const MIN_ITERATIONS: u32 = 4096;
/// The highest number of SCRAM iterations that the driver computes (`MAX_ITERATION_COUNT` of postgres-protocol 0.6.12).
pub const MAX_ITERATIONS: u32 = 100_000;
/// Limit on one authentication message, in bytes. Servers send a few hundred.
const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// The type, and the length that includes itself.
const HEADER_BYTES: usize = 5;

/// Why AAM does not answer what the server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// The server asks for nothing, and neither TLS nor a loopback address proves which server it is.
    NotAsked,
    /// The server asks for the password in clear text, and TLS does not prove which server it is.
    ClearText,
    /// The server asks for an MD5 digest of the password, and TLS does not prove which server it is.
    Md5,
    /// The server asks for fewer SCRAM iterations than [`MIN_ITERATIONS`], and TLS does not prove which server it is.
    FewIterations(u32),
    /// The server asks for more SCRAM iterations than [`MAX_ITERATIONS`].
    ManyIterations(u32),
    /// Amazon Redshift asks for the SHA-256 digest of the password, with the code 13.
    RedshiftDigest,
    /// Amazon Redshift asks for a login at an identity provider, with the code 14.
    RedshiftIdentityProvider,
    /// The server asks for an authentication method that AAM does not support.
    Unsupported(String),
    /// An authentication message that is longer than AAM reads, or cut off.
    Malformed,
}

impl fmt::Display for LoginRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginRefusal::NotAsked => f.write_str("the server accepted the login without asking for the password"),
            LoginRefusal::ClearText => f.write_str("the server asked for the password in clear text"),
            LoginRefusal::Md5 => f.write_str("the server asked for an MD5 digest of the password"),
            LoginRefusal::FewIterations(count) | LoginRefusal::ManyIterations(count) => {
                write!(f, "the server asked for {count} SCRAM iterations")
            }
            LoginRefusal::RedshiftDigest => {
                f.write_str("the server asked for the SHA-256 digest of Amazon Redshift (authentication code 13)")
            }
            LoginRefusal::RedshiftIdentityProvider => {
                f.write_str("the server asked for the identity provider login of Amazon Redshift (authentication code 14)")
            }
            LoginRefusal::Unsupported(method) => write!(f, "the server asked for {method}"),
            LoginRefusal::Malformed => f.write_str("the authentication message of the server is not valid"),
        }
    }
}

impl std::error::Error for LoginRefusal {}

/// Where the parser is in the messages of the server.
#[derive(Debug)]
enum Position {
    /// Collects the header of the next message, or all of an authentication message.
    Collecting(Vec<u8>),
    /// Passes over the rest of a message that needs no check, in bytes.
    Skipping(usize),
    /// The login is over, and nothing is checked any more.
    Done,
}

/// The messages of one login, checked byte by byte.
#[derive(Debug)]
pub struct LoginCheck {
    position: Position,
    /// Whether the server may get the password in any form that it asks for.
    allow_weak: bool,
    /// Whether the server may admit the login without asking for the password.
    allow_unasked: bool,
    /// Whether the server asked for the password.
    asked: Arc<AtomicBool>,
    process_id: Arc<AtomicU32>,
}

impl LoginCheck {
    /// Creates the check of one login. `allow_weak` is true if TLS proves which server this is, or if the policy lists it.
    #[must_use]
    pub fn new(allow_weak: bool) -> LoginCheck {
        LoginCheck {
            position: Position::Collecting(Vec::new()),
            allow_weak,
            allow_unasked: allow_weak,
            asked: Arc::default(),
            process_id: Arc::default(),
        }
    }

    /// Lets a server on this machine admit the login without asking for the password, of which it then receives nothing.
    #[must_use]
    pub fn allowing_unasked(self, on_loopback: bool) -> LoginCheck {
        LoginCheck { allow_unasked: self.allow_unasked || on_loopback, ..self }
    }

    /// Whether the server asked for the password; false until it did.
    #[must_use]
    pub fn asked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// The process id that the server sends for cancelling statements; 0 until it has sent one.
    #[must_use]
    pub fn process_id(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.process_id)
    }

    /// Checks the next bytes of the server.
    ///
    /// # Errors
    /// The reason why the driver must not see these bytes.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), LoginRefusal> {
        while !bytes.is_empty() {
            match &mut self.position {
                Position::Done => return Ok(()),
                Position::Skipping(left) => {
                    let passed = bytes.len().min(*left);
                    bytes = &bytes[passed..];
                    *left -= passed;
                    if *left == 0 {
                        self.position = Position::Collecting(Vec::new());
                    }
                }
                Position::Collecting(message) => {
                    message.push(bytes[0]);
                    bytes = &bytes[1..];
                    if message.len() >= HEADER_BYTES {
                        let message = std::mem::take(message);
                        self.position = self.next(message)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The position after `message`, which holds at least the header.
    fn next(&self, message: Vec<u8>) -> Result<Position, LoginRefusal> {
        let [kind, a, b, c, d, ..] = message[..] else { return Err(LoginRefusal::Malformed) };
        let body = u32::from_be_bytes([a, b, c, d]).checked_sub(4).and_then(|body| usize::try_from(body).ok());
        let body = body.ok_or(LoginRefusal::Malformed)?;
        match kind {
            b'Z' => return Ok(Position::Done),
            b'R' | b'K' if body > MAX_MESSAGE_BYTES => return Err(LoginRefusal::Malformed),
            b'R' | b'K' if message.len() < HEADER_BYTES + body => return Ok(Position::Collecting(message)),
            b'R' => {
                if authentication(&message[HEADER_BYTES..], self.allow_weak)? == LoginMessage::AsksForPassword {
                    self.asked.store(true, Ordering::Relaxed);
                } else if !self.allow_unasked && !self.asked.load(Ordering::Relaxed) {
                    return Err(LoginRefusal::NotAsked);
                }
            }
            b'K' => {
                if let Some((id, _)) = message[HEADER_BYTES..].split_first_chunk::<4>() {
                    self.process_id.store(u32::from_be_bytes(*id), Ordering::Relaxed);
                }
            }
            _ if body > 0 => return Ok(Position::Skipping(body)),
            _ => {}
        }
        Ok(Position::Collecting(Vec::new()))
    }
}

/// What an authentication message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginMessage {
    AsksForPassword,
    /// The authentication is over, or its last message.
    End,
}

/// Judges one authentication request.
fn authentication(body: &[u8], allow_weak: bool) -> Result<LoginMessage, LoginRefusal> {
    let Some((code, rest)) = body.split_first_chunk::<4>() else { return Err(LoginRefusal::Malformed) };
    match u32::from_be_bytes(*code) {
        3 if !allow_weak => Err(LoginRefusal::ClearText),
        5 if !allow_weak => Err(LoginRefusal::Md5),
        3 | 5 => Ok(LoginMessage::AsksForPassword),
        // 0 is the end of the authentication, 12 the last message of SCRAM.
        0 | 12 => Ok(LoginMessage::End),
        10 => mechanisms(rest).map(|()| LoginMessage::AsksForPassword),
        11 => iterations(rest, allow_weak).map(|()| LoginMessage::AsksForPassword),
        // Amazon Redshift (redshift-connector 2.2.0, core.py).
        13 => Err(LoginRefusal::RedshiftDigest),
        14 => Err(LoginRefusal::RedshiftIdentityProvider),
        code => Err(LoginRefusal::Unsupported(match code {
            2 => "Kerberos V5".to_string(),
            7 | 8 => "GSSAPI".to_string(),
            9 => "SSPI".to_string(),
            code => format!("the authentication method with the code {code}"),
        })),
    }
}

/// The list of SASL mechanisms: names that each end with a zero byte, and an empty name at the end.
fn mechanisms(list: &[u8]) -> Result<(), LoginRefusal> {
    let offered: Vec<String> = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).chars().filter(|c| c.is_ascii_graphic()).take(40).collect())
        .collect();
    if offered.iter().any(|name| name == "SCRAM-SHA-256" || name == "SCRAM-SHA-256-PLUS") {
        return Ok(());
    }
    Err(LoginRefusal::Unsupported(format!("the SASL mechanism {}", offered.first().map_or("(not named)", String::as_str))))
}

/// Judges the first SCRAM message of the server: `r=NONCE,s=SALT,i=ITERATIONS` (RFC 5802).
fn iterations(message: &[u8], allow_weak: bool) -> Result<(), LoginRefusal> {
    let count = message.split(|byte| *byte == b',').find_map(|part| part.strip_prefix(b"i="));
    let count = count.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse::<u32>().ok());
    match count {
        None => Err(LoginRefusal::Malformed),
        Some(count) if count > MAX_ITERATIONS => Err(LoginRefusal::ManyIterations(count)),
        Some(count) if count < MIN_ITERATIONS && !allow_weak => Err(LoginRefusal::FewIterations(count)),
        Some(_) => Ok(()),
    }
}

/// A stream whose login is checked.
pub struct LoginGuard<S> {
    inner: S,
    check: LoginCheck,
}

impl<S> LoginGuard<S> {
    /// Creates a stream whose login `check` judges.
    pub fn new(inner: S, check: LoginCheck) -> LoginGuard<S> {
        LoginGuard { inner, check }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LoginGuard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if let Err(refusal) = this.check.read(&buf.filled()[before..]) {
            buf.set_filled(before);
            return Poll::Ready(Err(io::Error::other(refusal)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LoginGuard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for LoginGuard<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Encrypts as `C` does, and checks the login inside the encrypted stream.
pub struct GuardedTls<C> {
    pub tls: C,
    pub check: LoginCheck,
}

impl<S, C> TlsConnect<S> for GuardedTls<C>
where
    C: TlsConnect<S>,
    C: Send + 'static,
    C::Future: Send + 'static,
{
    type Stream = LoginGuard<C::Stream>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let encrypting = self.tls.connect(stream);
        Box::pin(async move { Ok(LoginGuard::new(encrypting.await?, self.check)) })
    }
}

#[cfg(test)]
#[path = "login_guard_tests.rs"]
mod tests;
