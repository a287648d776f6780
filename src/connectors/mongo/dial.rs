//! Opens a connection to one server: the guard, TCP, TLS and the handshake.

use super::command::Command;
use super::connection::{Connection, ExchangeError};
use super::errors::{self, Parties, Stage};
use super::hello::{self, Hello};
use super::limits;
use super::login::Login;
use super::reply::Reply;
use super::tls;
use super::uri::{Location, Member};
use crate::connectors::driver_session::{Call, DriverSession};
use crate::model::{Class, Failure};
use crate::policy::Network;
use rustls::pki_types::ServerName;
use std::io::ErrorKind;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The oldest version of the protocol with `OP_MSG` (MongoDB 3.6).
pub const MIN_WIRE_VERSION: i64 = 6;
/// The first version of the protocol whose lists can be restricted to what the user may read (MongoDB 4.0).
const RESTRICTED_LISTS: i64 = 7;
/// The error for a command that the server does not know.
const COMMAND_NOT_FOUND: i64 = 59;

/// What every connection of an attempt needs.
pub struct Dialer<'a> {
    pub session: &'a Arc<dyn DriverSession>,
    pub location: &'a Location,
    pub login: &'a Login,
    pub network: &'a Network,
    /// The database that is asked for the user.
    pub auth_source: String,
}

/// A connection after the handshake.
pub struct Link {
    pub connection: Connection,
    pub call: Call,
    pub member: Member,
    pub hello: Hello,
    /// Whether the server knows only the older handshake.
    legacy: bool,
}

impl Link {
    /// Whether lists can be restricted to what the user may read.
    #[must_use]
    pub fn restricts_lists(&self) -> bool {
        self.hello.max_wire_version >= RESTRICTED_LISTS
    }
}

/// A failed connection.
struct DialFailure {
    failure: Failure,
    /// Whether the server closed the connection after the command `hello`, as one that does not know `OP_MSG`.
    may_be_old: bool,
}

impl From<Failure> for DialFailure {
    fn from(failure: Failure) -> DialFailure {
        DialFailure { failure, may_be_old: false }
    }
}

impl Dialer<'_> {
    /// Whom failures of this connection concern.
    #[must_use]
    pub fn parties(&self, member: &Member) -> Parties {
        Parties {
            location: self.location.clone(),
            member: member.clone(),
            user: self.login.user.clone(),
            auth_source: self.auth_source.clone(),
            local: None,
            encrypted: false,
            certificate: self.login.certificate.is_some(),
        }
    }

    /// Connects to `member`. A server that closes the connection after `hello` is asked once more with the older handshake.
    ///
    /// # Errors
    /// The errors of the session; `Network`, `WrongService`, `Unsupported` and those of the server.
    pub async fn connect(&self, member: &Member) -> Result<Link, Failure> {
        match self.attempt(member, false).await {
            Ok(link) => Ok(link),
            Err(first) if first.may_be_old => match self.attempt(member, true).await {
                Ok(link) => Ok(link),
                // The first failure says more about a server that closes every connection.
                Err(second) if second.may_be_old => Err(first.failure),
                Err(second) => Err(second.failure),
            },
            Err(first) => Err(first.failure),
        }
    }

    async fn attempt(&self, member: &Member, legacy: bool) -> Result<Link, DialFailure> {
        let call = Call::admit(self.session, member).await?;
        let mut parties = self.parties(member);
        let limit = limits::connect_timeout(&self.location.options);
        let memory = call.memory();
        let work = async {
            let mut connection = self.open(&call, &mut parties).await?;
            let (hello, legacy) = self.greet((&call, &mut connection), &parties, legacy).await?;
            Ok::<_, DialFailure>((connection, hello, legacy))
        };
        let outcome = memory.timeout(limit, work).await;
        let outcome = outcome.unwrap_or_else(|| Err(errors::late(&self.parties(member), Stage::Connect, limit).into()));
        match outcome {
            Ok((connection, hello, legacy)) => {
                call.note(Ok(()))?;
                Ok(Link { connection, call, member: member.clone(), hello, legacy })
            }
            Err(failed) => {
                // A server that only does not know the newer handshake is healthy. The second connection says more.
                let noted = if failed.may_be_old && !legacy { Ok(()) } else { Err(failed.failure.clone()) };
                let _ = call.note(noted);
                Err(failed)
            }
        }
    }

    async fn open(&self, call: &Call, parties: &mut Parties) -> Result<Connection, DialFailure> {
        let io = |parties: &Parties, error| {
            DialFailure::from(errors::exchange_failure(parties, Stage::Connect, &ExchangeError::Io(error)))
        };
        let stream = TcpStream::connect(call.address()).await.map_err(|error| io(parties, error))?;
        let _ = stream.set_nodelay(true);
        parties.local = stream.local_addr().ok().map(|address| address.ip());
        parties.encrypted = tls::encrypted(self.location.options.tls, call.address());
        let (bytes, memory) = (Arc::clone(call.bytes()), call.memory());
        let mut connection = if parties.encrypted {
            let config = tls::config(self.network.ca_file.as_deref(), self.login.certificate.as_ref())?;
            let name = ServerName::try_from(parties.member.host.clone());
            let name = name.map_err(|error| tls::failure(parties, &std::io::Error::other(error.to_string())))?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
            let stream = stream.map_err(|error| tls::failure(parties, &error))?;
            Connection::new(Box::new(stream), bytes, limits::MAX_BYTES, memory)
        } else {
            Connection::new(Box::new(stream), bytes, limits::MAX_BYTES, memory)
        };
        connection.local = parties.local;
        connection.encrypted = parties.encrypted;
        Ok(connection)
    }

    /// The handshake. A server before 4.4.2 does not know `hello`, and then answers `isMaster`. Returns whether that was so.
    async fn greet(
        &self,
        (call, connection): (&Call, &mut Connection),
        parties: &Parties,
        mut legacy: bool,
    ) -> Result<(Hello, bool), DialFailure> {
        let mut reply = self.ask_hello((call, &mut *connection), parties, legacy, &self.auth_source).await?;
        if !legacy && reply.error().is_some_and(|error| error.code == COMMAND_NOT_FOUND || error.message.contains("no such c")) {
            legacy = true;
            reply = self.ask_hello((call, &mut *connection), parties, legacy, &self.auth_source).await?;
        }
        if let Some(error) = reply.error() {
            return Err(errors::server_failure(parties, Stage::Connect, &error).into());
        }
        let location = self.location;
        let hello = Hello::parse(reply.document(), location.options.load_balanced).map_err(|why| {
            let fix = "remove loadBalanced=true from the resource id, or name the load balancer of the deployment";
            Failure::new(Class::WrongService, format!("{location}: {} is not behind a load balancer", parties.member), fix)
                .detail(why)
        })?;
        if hello.max_wire_version < MIN_WIRE_VERSION {
            let title = format!("{location}: the server is too old: AAM reads MongoDB since 3.6");
            let detail = format!(
                "maxWireVersion is {}, which means MongoDB {}",
                hello.max_wire_version,
                hello::version(hello.max_wire_version)
            );
            return Err(Failure::new(Class::Unsupported, title, "upgrade the server, or export the data").detail(detail).into());
        }
        Ok((hello, legacy))
    }

    async fn ask_hello(
        &self,
        (call, connection): (&Call, &mut Connection),
        parties: &Parties,
        legacy: bool,
        source: &str,
    ) -> Result<Reply, DialFailure> {
        let options = &self.location.options;
        let user = self.login.password.as_ref().and(self.login.user.as_ref()).map(|user| format!("{source}.{user}"));
        let command = Command::Hello {
            legacy,
            load_balanced: options.load_balanced,
            user: user.as_deref(),
            application: options.application.as_deref(),
        };
        let recorded = call.statement(command.name());
        let reply = connection.exchange(&command, None).await;
        recorded.ended(if reply.is_ok() { "" } else { Class::Network.as_str() });
        reply.map_err(|error| DialFailure {
            may_be_old: matches!(&error, ExchangeError::Io(io) if is_closed(io.kind())),
            failure: errors::exchange_failure(parties, Stage::Connect, &error),
        })
    }

    /// Asks on an open connection whether the server knows the user in the database `source`. `None` if it does not say.
    pub async fn mechanisms_in(&self, link: &mut Link, source: &str) -> Option<Vec<String>> {
        let parties = self.parties(&link.member);
        let limit = limits::answer_timeout(&self.location.options);
        let asked = self.ask_hello((&link.call, &mut link.connection), &parties, link.legacy, source);
        let reply = link.call.memory().timeout(limit, asked).await?.ok()?;
        Hello::parse(reply.document(), false).ok()?.mechanisms.filter(|mechanisms| !mechanisms.is_empty())
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}
