//! Finds out which program listens on a port, and whether it is the AAM of a registry. Used by the commands that talk to a
//! daemon.

use super::ServerInfo;
use super::peer;
use super::proof::{self, ListenerKey};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_VERSION_BYTES: usize = 64 << 10;
/// The maximum size of any other response. AAM keeps its responses far below.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// An error of a connection, for a message.
pub type CallError = Box<dyn Error + Send + Sync>;

/// The program that listens on a port.
pub enum Listener {
    /// Nothing listens there.
    Absent,
    /// Something listens that does not answer as an AAM.
    Other,
    /// Something that answers as an AAM.
    Aam(Box<RunningAam>),
}

/// A connection to a program that answers as an AAM, which it may not be.
pub struct RunningAam {
    /// What the program says about itself.
    pub info: ServerInfo,
    address: SocketAddr,
    /// Our end of the connection.
    local: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    challenge: String,
    proof: Option<String>,
}

/// A connection to the AAM that holds a registry.
pub struct ProvenAam {
    pub info: ServerInfo,
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

/// Connects to `address` and asks for the version, with a challenge.
///
/// Connects to the socket directly, because an HTTP client might use a proxy from the environment.
pub async fn listener(address: SocketAddr) -> Listener {
    let Ok(Ok(stream)) = tokio::time::timeout(TIMEOUT, TcpStream::connect(address)).await else {
        return Listener::Absent;
    };
    match tokio::time::timeout(TIMEOUT, ask(stream, address)).await {
        Ok(Ok(running)) => Listener::Aam(Box::new(running)),
        Ok(Err(_)) | Err(_) => Listener::Other,
    }
}

/// Sends a GET without a token. Returns the status and the body, which is `null` if it is not valid JSON.
///
/// # Errors
/// If nothing listens on `address`, or if it does not answer in time.
pub async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, serde_json::Value), CallError> {
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
        tokio::spawn(connection);
        let request = Request::get(path).header("host", address.to_string()).body(Full::<Bytes>::default())?;
        let (status, body) = body(sender.send_request(request).await?, MAX_VERSION_BYTES).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    };
    tokio::time::timeout(TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(format!("no response within {} s", TIMEOUT.as_secs()).into()))
}

async fn ask(stream: TcpStream, address: SocketAddr) -> Result<RunningAam, CallError> {
    let local = stream.local_addr()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let challenge = proof::random_hex()?;
    let request = Request::get("/version")
        .header("host", address.to_string())
        .header("accept", "application/json")
        .header(proof::CHALLENGE, &challenge)
        .body(Full::default())?;
    let response = sender.send_request(request).await?;
    let proof = response.headers().get(proof::PROOF).and_then(|value| value.to_str().ok()).map(str::to_string);
    let (status, body) = body(response, MAX_VERSION_BYTES).await?;
    let info = serde_json::from_slice::<ServerInfo>(&body)?;
    if status != StatusCode::OK || info.service != "aam" {
        return Err("it does not answer as an AAM".into());
    }
    Ok(RunningAam { info, address, local, sender, challenge, proof })
}

async fn body(response: Response<hyper::body::Incoming>, limit: usize) -> Result<(StatusCode, Bytes), CallError> {
    let status = response.status();
    Ok((status, Limited::new(response.into_body(), limit).collect().await?.to_bytes()))
}

impl RunningAam {
    /// Checks that the program holds the key of `registry`. Only then may it get a token. If another user runs the daemon, its
    /// key cannot be read; then the kernel must say that the program runs as the user who owns the registry.
    ///
    /// # Errors
    /// Returns the reason as the end of a sentence.
    pub fn prove(self, registry: &Path) -> Result<ProvenAam, String> {
        let path = proof::key_path(registry);
        let key = match ListenerKey::read(registry) {
            Ok(key) => key,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return self.prove_by_owner(registry),
            Err(error) => return Err(format!("could not read {}: {error}", path.display())),
        };
        let proven = self.proof.as_ref().is_some_and(|proof| key.verify(&self.challenge, self.address, proof));
        if !proven {
            return Err(format!("it does not know the key in {}", path.display()));
        }
        Ok(ProvenAam { info: self.info, address: self.address, sender: self.sender })
    }
}

impl RunningAam {
    fn prove_by_owner(self, registry: &Path) -> Result<ProvenAam, String> {
        let key = proof::key_path(registry);
        let user = |uid: u32| format!("the user {}", peer::user_name(uid));
        let owner = peer::owner_of(registry).map_err(|error| format!("could not look at {}: {error}", registry.display()))?;
        let fix = format!("run this command as the user of the daemon: sudo -u '{}' aam …", peer::user_name(owner));
        match peer::owner(self.local, self.address) {
            Ok(Some(uid)) if uid == owner => {}
            Ok(Some(uid)) => {
                return Err(format!("{} runs it, and {} owns the registry; {fix}", user(uid), user(owner)));
            }
            Ok(None) => return Err(format!("only {} may read {}; {fix}", user(owner), key.display())),
            Err(error) => {
                return Err(format!(
                    "only {} may read {}, and the kernel does not say who runs it: {error}; {fix}",
                    user(owner),
                    key.display()
                ));
            }
        }
        // A program of that user tells the truth about its registry.
        match resolved(Path::new(&self.info.registry)) == resolved(registry) {
            true => Ok(ProvenAam { info: self.info, address: self.address, sender: self.sender }),
            false => Err(format!("it holds the registry {}", self.info.registry)),
        }
    }
}

/// Returns the path without links, as far as the folders above may be looked at.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}

impl ProvenAam {
    /// The address that the AAM listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a POST on the connection that was proven. Returns the status and the body, which is `null` if it is not valid
    /// JSON.
    ///
    /// # Errors
    /// If the connection is closed, or if the response is too long.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body_text: String,
    ) -> Result<(StatusCode, serde_json::Value), CallError> {
        self.sender.ready().await?;
        let mut request = Request::post(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.sender.send_request(request.body(Full::from(body_text))?).await?;
        let (status, body) = body(response, MAX_ANSWER_BYTES).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}
