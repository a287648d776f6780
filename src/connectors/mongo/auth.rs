//! The login: SCRAM with a user and a password, or the client certificate of the TLS connection.

use super::command::Command;
use super::connection::ExchangeError;
use super::dial::{Dialer, Link};
use super::errors::{self, Parties, Stage};
use super::limits;
use super::options::Mechanism;
use super::reply::{Reply, ServerError, integer};
use super::scram::{Hash, MAX_ITERATIONS, MIN_ITERATIONS, Refusal, Scram};
use super::uri::Member;
use crate::credentials::Secret;
use crate::model::{Class, Failure};
use ring::rand::{SecureRandom, SystemRandom};

/// The database of users that log in with a certificate.
const EXTERNAL: &str = "$external";
/// The database in which most deployments keep their users.
const ADMIN: &str = "admin";
/// Limit on the messages of one login.
const MAX_STEPS: usize = 8;
/// Random bytes of the nonce.
const NONCE_BYTES: usize = 24;
/// The error for a command that the server does not know.
const COMMAND_NOT_FOUND: i64 = 59;

/// How AAM logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedIn {
    /// The intent names no credential.
    Anonymous,
    /// The server has no logins, so the credential was not used. It never receives anything of it.
    NotAsked,
    Scram {
        mechanism: Mechanism,
        source: String,
    },
    X509,
}

/// Why a login failed.
enum LoginError {
    /// The server refused it. The flag says that it did so before it saw a proof, so that it does not know the user.
    Refused {
        error: ServerError,
        before_proof: bool,
    },
    /// The server has no logins. The text says how that was seen.
    NoLogins(String),
    Other(Failure),
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> LoginError {
        LoginError::Other(failure)
    }
}

/// Logs in. Returns how, and whom later failures concern.
///
/// # Errors
/// `CredentialRejected`, `CredentialMissing`, `Misconfigured`, and those of the connection.
pub async fn log_in(dialer: &Dialer<'_>, link: &mut Link) -> Result<(LoggedIn, Parties), Failure> {
    let mut parties = dialer.parties(&link.member);
    parties.local = link.connection.local;
    parties.encrypted = link.connection.encrypted;
    link.call.begin();
    let memory = link.call.memory();
    let work = run(dialer, link, &mut parties);
    let outcome = memory.timeout(limits::LOGIN_TIMEOUT, work).await;
    let outcome =
        outcome.unwrap_or_else(|| Err(errors::late(&dialer.parties(&link.member), Stage::LogIn, limits::LOGIN_TIMEOUT)));
    link.call.note(outcome).map(|logged_in| (logged_in, parties))
}

async fn run(dialer: &Dialer<'_>, link: &mut Link, parties: &mut Parties) -> Result<LoggedIn, Failure> {
    let (login, location) = (dialer.login, dialer.location);
    let mechanism = location.options.mechanism;
    match (&login.user, &login.password, &login.certificate) {
        (Some(user), Some(password), _) if mechanism != Some(Mechanism::X509) => {
            scram(dialer, link, parties, (user, password)).await
        }
        (_, _, Some(_)) if matches!(mechanism, None | Some(Mechanism::X509)) => x509(link, parties).await,
        (None, None, None) => Ok(LoggedIn::Anonymous),
        _ => {
            let name = mechanism.map_or("SCRAM", Mechanism::as_str);
            let needs = if mechanism == Some(Mechanism::X509) { "certificate and private_key" } else { "user and password" };
            Err(Failure::new(
                Class::CredentialMissing,
                format!("{location}: the login with {name} needs {needs}, which the credential does not have"),
                format!("store {needs} where credential_locator points, or remove authMechanism from the resource id"),
            ))
        }
    }
}

/// The login with the certificate that TLS has presented.
async fn x509(link: &mut Link, parties: &mut Parties) -> Result<LoggedIn, Failure> {
    if !parties.encrypted {
        return Err(Failure::new(
            Class::Misconfigured,
            format!("{}: the login with a client certificate needs TLS", parties.location),
            "add tls=true to the resource id",
        ));
    }
    parties.auth_source = EXTERNAL.to_string();
    let user = parties.user.clone();
    let reply = exchange(link, parties, &Command::AuthenticateX509 { user: user.as_deref() }).await?;
    match reply.error() {
        None => Ok(LoggedIn::X509),
        Some(error) if matches!(error.code, 11 | 18) => {
            parties.user = None;
            Err(errors::rejected(parties).detail(format!("the server said: {error}")))
        }
        Some(error) => Err(errors::server_failure(parties, Stage::LogIn, &error)),
    }
}

/// The login with a password: for each database that may know the user, with each mechanism that the server may offer.
async fn scram(dialer: &Dialer<'_>, link: &mut Link, parties: &mut Parties, login: (&str, &Secret)) -> Result<LoggedIn, Failure> {
    let mut last = None;
    for source in sources(dialer, link).await {
        parties.auth_source.clone_from(&source);
        for mechanism in mechanisms(dialer, link, &source) {
            match try_scram(link, parties, login, mechanism).await {
                Ok(()) => return Ok(LoggedIn::Scram { mechanism, source }),
                // Some servers close the connection after a refusal, so a further try says less than the refusal.
                Err(LoginError::Other(failure)) => match last {
                    Some((source, error)) if link.connection.is_busy() => {
                        parties.auth_source = source;
                        return Err(errors::server_failure(parties, Stage::LogIn, &error));
                    }
                    _ => return Err(failure),
                },
                Err(LoginError::NoLogins(reason)) => return without_logins(dialer, parties, reason),
                // The server saw the proof, so it knows the user in this database, and the password is wrong.
                Err(LoginError::Refused { error, before_proof: false }) => {
                    return Err(refused(dialer, link, parties, &error).await);
                }
                Err(LoginError::Refused { error, .. }) => last.get_or_insert((source.clone(), error)),
            };
        }
    }
    let (source, error) = last.unwrap_or_default();
    parties.auth_source = source;
    Err(refused(dialer, link, parties, &error).await)
}

/// The databases that may know the user, in the order in which they are tried. The server says for which of them it knows the user.
async fn sources(dialer: &Dialer<'_>, link: &mut Link) -> Vec<String> {
    let first = dialer.auth_source.clone();
    let specified = dialer.location.options.auth_source.is_some() || dialer.login.auth_source.is_some();
    if specified || first == ADMIN {
        return vec![first];
    }
    let unknown = link.hello.mechanisms.as_ref().is_none_or(Vec::is_empty);
    if unknown && let Some(mechanisms) = dialer.mechanisms_in(link, ADMIN).await {
        link.hello.mechanisms = Some(mechanisms);
        return vec![ADMIN.to_string(), first];
    }
    vec![first, ADMIN.to_string()]
}

/// The mechanisms that are tried, the stronger one first. Servers before 4.0 know only SCRAM-SHA-1.
fn mechanisms(dialer: &Dialer<'_>, link: &Link, source: &str) -> Vec<Mechanism> {
    if let Some(mechanism) = dialer.location.options.mechanism {
        return vec![mechanism];
    }
    let both = [Mechanism::ScramSha256, Mechanism::ScramSha1];
    let offered =
        link.hello.mechanisms.as_ref().filter(|names| !names.is_empty() && (source == dialer.auth_source || source == ADMIN));
    match offered {
        Some(names) => {
            let known: Vec<Mechanism> =
                both.into_iter().filter(|mechanism| names.iter().any(|name| name == mechanism.as_str())).collect();
            if known.is_empty() { both.to_vec() } else { known }
        }
        None if link.restricts_lists() => both.to_vec(),
        None => vec![Mechanism::ScramSha1],
    }
}

async fn try_scram(
    link: &mut Link,
    parties: &Parties,
    (user, password): (&str, &Secret),
    mechanism: Mechanism,
) -> Result<(), LoginError> {
    let mut nonce = [0; NONCE_BYTES];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| Failure::new(Class::Bug, "the system gave no random numbers", "check /dev/urandom of this machine"))?;
    let hash = if mechanism == Mechanism::ScramSha1 { Hash::Sha1 } else { Hash::Sha256 };
    let scram = Scram::new(hash, user, password, &nonce);
    let first = scram.first();
    let start = Command::SaslStart { database: &parties.auth_source, mechanism, payload: first.as_bytes() };
    let reply = exchange(link, parties, &start).await?;
    match reply.error() {
        Some(error) if error.code == COMMAND_NOT_FOUND => return Err(LoginError::NoLogins(format!("the server said: {error}"))),
        Some(error) => return Err(LoginError::Refused { error, before_proof: true }),
        None => {}
    }
    // NX-27017 confirms every command that it does not know.
    if ["payload", "conversationId"].iter().all(|name| matches!(reply.document().get(name), Ok(None))) {
        return Err(LoginError::NoLogins("the server confirms the beginning of a login without answering it".to_string()));
    }
    let conversation = conversation(&reply);
    let server_first = payload(parties, &reply)?;
    // The iterations take some milliseconds of computation.
    let proof = tokio::task::spawn_blocking(move || scram.respond(&server_first)).await;
    let proof =
        proof.map_err(|error| Failure::new(Class::Bug, "the login was interrupted", "report this").detail(error.to_string()))?;
    let proof = proof.map_err(|refusal| judged(parties, &refusal))?;
    let next = Command::SaslContinue { database: &parties.auth_source, conversation, payload: proof.message.as_bytes() };
    let mut reply = exchange(link, parties, &next).await?;
    if let Some(error) = reply.error() {
        return Err(LoginError::Refused { error, before_proof: false });
    }
    proof.verify(&payload(parties, &reply)?).map_err(|refusal| judged(parties, &refusal))?;
    // A server before 4.4 sends an empty message at the end.
    for _ in 0..MAX_STEPS {
        if reply.document().get_bool("done").unwrap_or(false) {
            return Ok(());
        }
        let last = Command::SaslContinue { database: &parties.auth_source, conversation, payload: &[] };
        reply = exchange(link, parties, &last).await?;
        if let Some(error) = reply.error() {
            return Err(LoginError::Refused { error, before_proof: false });
        }
    }
    Err(broken(parties, "the server does not end the login").into())
}

async fn exchange(link: &mut Link, parties: &Parties, command: &Command<'_>) -> Result<Reply, Failure> {
    let recorded = link.call.statement(command.name());
    let reply = link.connection.exchange(command, None).await;
    recorded.ended(if reply.is_ok() { "" } else { Class::Network.as_str() });
    reply.map_err(|error| match error {
        ExchangeError::Io(_) | ExchangeError::Broken(_) => errors::exchange_failure(parties, Stage::LogIn, &error),
        error => errors::exchange_failure(parties, Stage::Work("log in"), &error),
    })
}

fn conversation(reply: &Reply) -> i32 {
    integer(reply.document(), "conversationId").and_then(|id| i32::try_from(id).ok()).unwrap_or(1)
}

fn payload(parties: &Parties, reply: &Reply) -> Result<Vec<u8>, Failure> {
    match reply.document().get_binary("payload") {
        Ok(payload) => Ok(payload.bytes.to_vec()),
        Err(_) => Err(broken(parties, "a response of the login has no payload")),
    }
}

fn broken(parties: &Parties, what: &str) -> Failure {
    Failure::new(
        Class::Remote,
        format!("{}: the login breaks MongoDB's protocol", parties.location),
        format!("check that {} is a MongoDB server, and the proxies between AAM and it", parties.member),
    )
    .detail(what)
}

/// The failure for a message of the server that AAM does not answer.
fn judged(parties: &Parties, refusal: &Refusal) -> Failure {
    let location = &parties.location;
    match refusal {
        Refusal::FewIterations(count) => Failure::new(
            Class::WrongService,
            format!("{location}: the server asks for {count} SCRAM iterations, and AAM needs at least {MIN_ITERATIONS}"),
            "set the parameter scramSHA256IterationCount or scramIterationCount of the server, then set the password again",
        ),
        Refusal::ManyIterations(count) => Failure::new(
            Class::Unsupported,
            format!("{location}: the server asks for {count} SCRAM iterations, and AAM computes at most {MAX_ITERATIONS}"),
            "set the parameter scramSHA256IterationCount of the server lower, then set the password again",
        ),
        Refusal::Malformed(what) => broken(parties, what),
        Refusal::ServerNotProven => Failure::new(
            Class::WrongService,
            format!("{location}: the server did not prove that it knows the password"),
            format!("another program may answer at {}: check host and port, and use tls=true", parties.member),
        ),
    }
}

/// A server without logins cannot check the credential. AAM reads it only if another thing proves which server it is.
fn without_logins(dialer: &Dialer<'_>, parties: &Parties, reason: String) -> Result<LoggedIn, Failure> {
    let on_loopback = parties.local.is_some_and(|address| address.to_canonical().is_loopback());
    let Member { host, port } = &parties.member;
    if parties.encrypted || on_loopback || dialer.network.allows_weak_login(host, *port) {
        return Ok(LoggedIn::NotAsked);
    }
    Err(Failure::new(
        Class::WrongService,
        format!("{}: the server has no logins, so nothing proves which server it is", parties.location),
        format!(
            "check host and port; if the server is right, use tls=true, or allow it in the policy: network: {{allow_weak_login: [\"{}\"]}}",
            parties.member
        ),
    )
    .detail(reason))
}

/// The failure for a refused login, with what the server says about other databases.
async fn refused(dialer: &Dialer<'_>, link: &mut Link, parties: &Parties, error: &ServerError) -> Failure {
    let mut failure = errors::server_failure(parties, Stage::LogIn, error);
    if failure.class != Class::CredentialRejected {
        return failure;
    }
    let source = &parties.auth_source;
    let user = parties.user().to_string();
    if !link.connection.is_busy() && dialer.mechanisms_in(link, source).await.is_none() {
        for other in [ADMIN, dialer.location.database.as_str()] {
            if other != source && dialer.mechanisms_in(link, other).await.is_some() {
                failure.title = format!("{}: the server does not know {user} in the database {source}", parties.location);
                failure.fix =
                    format!("the server knows {user} in the database {other}: write authSource={other} in the resource id");
                return failure;
            }
        }
    }
    if dialer.login.looks_encoded {
        failure.fix.push_str(
            "; the password has the form of a percent-encoded one: outside a connection string it is used as it is, so store it decoded",
        );
    }
    failure
}
