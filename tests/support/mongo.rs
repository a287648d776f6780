//! A MongoDB server of the tests. It verifies logins as the specification says, checks the form of every request, answers what a test
//! wants, and records what it receives.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use bson::spec::BinarySubtype;
use bson::{Binary, RawBson, RawDocument, rawdoc};
use ring::{digest, hmac, pbkdf2};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

pub const USER: &str = "reader";
pub const PASSWORD: &str = "hunter2-hunter2";
const SALT: &[u8] = b"0123456789abcdef";

/// What the server does with one command.
#[derive(Clone, Debug)]
pub enum Answer {
    Document(RawDocumentBuf),
    /// Bytes in place of a response.
    Bytes(Vec<u8>),
    Close,
    /// The server never answers.
    Silence,
}

/// How the server behaves.
#[derive(Clone)]
pub struct Behavior {
    /// What `hello` answers besides the mechanisms of the user.
    pub hello: RawDocumentBuf,
    /// Whether the server knows `OP_MSG` without a handshake by `OP_QUERY`.
    pub knows_hello: bool,
    /// The databases that know [`USER`].
    pub sources: Vec<&'static str>,
    pub mechanism: &'static str,
    pub iterations: u32,
    /// Whether commands need a login.
    pub access_control: bool,
    /// Whether the server signs with the password of the user.
    pub knows_password: bool,
    pub privileges: RawArrayBuf,
    pub databases: Vec<&'static str>,
    pub collections: Vec<(&'static str, &'static str)>,
    /// Answers in place of those of the server, by command, or by command and collection as `find orders`.
    pub answers: HashMap<String, Answer>,
}

/// The privileges of the role `read` on `database`.
pub fn reads(database: &str) -> RawArrayBuf {
    grants(database, &["changeStream", "collStats", "dbHash", "dbStats", "find", "killCursors", "listCollections", "listIndexes"])
}

pub fn grants(database: &str, actions: &[&str]) -> RawArrayBuf {
    let mut list = RawArrayBuf::new();
    actions.iter().for_each(|action| list.push(*action));
    let mut grants = RawArrayBuf::new();
    grants.push(rawdoc! { "resource": { "db": database, "collection": "" }, "actions": list });
    grants
}

impl Default for Behavior {
    fn default() -> Behavior {
        Behavior {
            hello: rawdoc! { "isWritablePrimary": true, "maxWireVersion": 21 },
            knows_hello: true,
            sources: vec!["admin"],
            mechanism: "SCRAM-SHA-256",
            iterations: 4096,
            access_control: true,
            knows_password: true,
            privileges: reads("shop"),
            databases: vec!["shop"],
            collections: vec![
                ("orders", "collection"),
                ("system.views", "collection"),
                ("late", "view"),
                ("empty", "collection"),
            ],
            answers: HashMap::new(),
        }
    }
}

impl Behavior {
    pub fn answering(mut self, command: &str, answer: Answer) -> Behavior {
        self.answers.insert(command.to_string(), answer);
        self
    }

    pub fn failing(self, command: &str, code: i32, name: &str, message: &str) -> Behavior {
        self.answering(command, Answer::Document(error(code, name, message)))
    }
}

/// A running server. It speaks as long as the runtime of the test lives.
pub struct FakeMongo {
    pub port: u16,
    /// Every command as `NAME DATABASE`, in the order of arrival.
    received: Arc<Mutex<Vec<(String, RawDocumentBuf)>>>,
}

impl FakeMongo {
    pub async fn start(behavior: Behavior) -> FakeMongo {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        FakeMongo::serve(listener, behavior, None)
    }

    /// Serves on `listener`, with TLS if there is an acceptor.
    pub fn serve(listener: TcpListener, behavior: Behavior, tls: Option<tokio_rustls::TlsAcceptor>) -> FakeMongo {
        let port = listener.local_addr().expect("an address").port();
        let received: Arc<Mutex<Vec<(String, RawDocumentBuf)>>> = Arc::default();
        let record = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (behavior, record, tls) = (behavior.clone(), Arc::clone(&record), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => converse(stream, behavior, record, false).await,
                        Some(tls) => {
                            let stream = match tls.accept(stream).into_fallible().await {
                                Ok(stream) => stream,
                                Err((_, mut refused)) => {
                                    // The alert reaches the client only if what it still sends is read.
                                    let _ = refused.shutdown().await;
                                    let _ = refused.read_to_end(&mut Vec::new()).await;
                                    return;
                                }
                            };
                            let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                            converse(stream, behavior, record, has_certificate).await;
                        }
                    }
                });
            }
        });
        FakeMongo { port, received }
    }

    pub fn id(&self, options: &str) -> String {
        format!("mongodb://127.0.0.1:{}/shop{options}", self.port)
    }

    /// The names of the commands.
    pub fn commands(&self) -> Vec<String> {
        self.received.lock().expect("no panic").iter().map(|(name, _)| name.clone()).collect()
    }

    /// The documents of the commands with this name.
    pub fn documents(&self, name: &str) -> Vec<RawDocumentBuf> {
        let received = self.received.lock().expect("no panic");
        received.iter().filter(|(own, _)| own == name).map(|(_, document)| document.clone()).collect()
    }

    /// Whether any command contains the password in any form that reveals it.
    pub fn saw_password(&self) -> bool {
        let received = self.received.lock().expect("no panic");
        received.iter().any(|(_, document)| {
            let bytes = document.as_bytes();
            let encoded = STANDARD.encode(PASSWORD);
            [PASSWORD.as_bytes(), encoded.as_bytes()].iter().any(|secret| bytes.windows(secret.len()).any(|part| part == *secret))
        })
    }
}

pub fn error(code: i32, name: &str, message: &str) -> RawDocumentBuf {
    rawdoc! { "ok": 0.0, "errmsg": message, "code": code, "codeName": name }
}

/// A response with a cursor.
pub fn cursor(documents: Vec<RawDocumentBuf>, id: i64) -> RawDocumentBuf {
    let mut batch = RawArrayBuf::new();
    documents.into_iter().for_each(|document| batch.push(document));
    rawdoc! { "cursor": { "id": id, "ns": "shop.x", "firstBatch": batch }, "ok": 1.0 }
}

/// A response as bytes, with any length and opcode.
pub fn response(length: i32, response_to: i32, opcode: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [length, 1, response_to, opcode] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(body);
    bytes
}

/// The state of one connection.
struct Conversation {
    behavior: Behavior,
    has_certificate: bool,
    user: Option<(String, String)>,
    transcript: String,
    /// Whether the client has described itself, which it does once.
    greeted: bool,
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    behavior: Behavior,
    record: Arc<Mutex<Vec<(String, RawDocumentBuf)>>>,
    has_certificate: bool,
) {
    let mut state = Conversation { behavior, has_certificate, user: None, transcript: String::new(), greeted: false };
    loop {
        let mut header = [0; 16];
        if stream.read_exact(&mut header).await.is_err() {
            return;
        }
        let field = |at: usize| i32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (length, request, opcode) = (field(0), field(4), field(12));
        let mut body = vec![0; usize::try_from(length).expect("a length") - 16];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let legacy = opcode == 2004;
        if !legacy && !state.behavior.knows_hello && state.transcript.is_empty() && body.windows(5).any(|part| part == b"hello") {
            return;
        }
        assert!(legacy || (opcode == 2013 && body[..5] == [0; 5]), "the request has another form");
        let document = RawDocumentBuf::from_bytes(body[if legacy { 23 } else { 5 }..].to_vec()).expect("one document");
        let name = document.iter().next().expect("a command").expect("a key").0.as_str().to_string();
        record.lock().expect("no panic").push((name.clone(), document.clone()));
        let answer = state.answer(&name, &document);
        let bytes = match answer {
            Answer::Close => return,
            Answer::Silence => return std::future::pending().await,
            Answer::Bytes(bytes) => bytes,
            Answer::Document(reply) => {
                let prefix = if legacy { [&[0; 16][..], &[1, 0, 0, 0]].concat() } else { vec![0; 5] };
                let body = [&prefix[..], reply.as_bytes()].concat();
                let length = i32::try_from(16 + body.len()).expect("a small response");
                response(length, request, if legacy { 1 } else { 2013 }, &body)
            }
        };
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

impl Conversation {
    fn answer(&mut self, name: &str, document: &RawDocument) -> Answer {
        let collection = document.get_str(name).unwrap_or_default();
        let own = self.behavior.answers.get(&format!("{name} {collection}")).or_else(|| self.behavior.answers.get(name));
        if let Some(answer) = own {
            return answer.clone();
        }
        let source = document.get_str("$db").unwrap_or("admin").to_string();
        Answer::Document(match name {
            "hello" | "isMaster" | "ismaster" => self.hello(document),
            "saslStart" => self.start(document, &source),
            "saslContinue" => self.proceed(document),
            "authenticate" if self.has_certificate => {
                self.user = Some(("CN=reader".to_string(), "$external".to_string()));
                rawdoc! { "ok": 1.0 }
            }
            "authenticate" => error(18, "AuthenticationFailed", "Authentication failed."),
            "connectionStatus" => self.status(),
            _ if self.behavior.access_control && self.user.is_none() => {
                error(13, "Unauthorized", &format!("Command {name} requires authentication"))
            }
            "listDatabases" => self.databases(document),
            "listCollections" => self.collections(),
            "find" => self.find(collection, document),
            "aggregate" => error(168, "InvalidPipelineOperator", "Unrecognized expression '$objectToArray'"),
            "count" => rawdoc! { "n": if collection == "empty" { 0 } else { 2 }, "ok": 1.0 },
            "killCursors" => rawdoc! { "ok": 1.0 },
            _ => error(59, "CommandNotFound", &format!("no such command: '{name}'")),
        })
    }

    fn hello(&mut self, document: &RawDocument) -> RawDocumentBuf {
        let described = document.get_document("client").is_ok();
        assert!(described || self.greeted, "the handshake has no metadata of the client");
        self.greeted = true;
        let mut reply = self.behavior.hello.clone();
        if let Some((source, user)) = document.get_str("saslSupportedMechs").ok().and_then(|user| user.split_once('.'))
            && user == USER
            && self.behavior.sources.contains(&source)
        {
            let mut mechanisms = RawArrayBuf::new();
            mechanisms.push(self.behavior.mechanism);
            reply.append(cstr!("saslSupportedMechs"), mechanisms);
        }
        reply.append(cstr!("ok"), 1.0);
        reply
    }

    fn start(&mut self, document: &RawDocument, source: &str) -> RawDocumentBuf {
        let failed = || error(18, "AuthenticationFailed", "Authentication failed.");
        let payload = document.get_binary("payload").expect("a payload").bytes;
        let first = std::str::from_utf8(payload).expect("a text").strip_prefix("n,,").expect("no channel binding");
        if document.get_str("mechanism").ok() != Some(self.behavior.mechanism) {
            return error(334, "MechanismUnavailable", "Unable to use this mechanism");
        }
        let (name, nonce) = first.strip_prefix("n=").and_then(|rest| rest.split_once(",r=")).expect("a user and a nonce");
        if name != USER || !self.behavior.sources.contains(&source) {
            return failed();
        }
        self.user = None;
        let server_first = format!("r={nonce}Server,s={},i={}", STANDARD.encode(SALT), self.behavior.iterations);
        self.transcript = format!("{source}\n{first},{server_first}");
        rawdoc! { "conversationId": 7, "done": false, "payload": binary(server_first.as_bytes()), "ok": 1.0 }
    }

    fn proceed(&mut self, document: &RawDocument) -> RawDocumentBuf {
        assert_eq!(document.get_i32("conversationId").ok(), Some(7));
        let payload = std::str::from_utf8(document.get_binary("payload").expect("a payload").bytes).expect("a text");
        let (without_proof, proof) = payload.rsplit_once(",p=").expect("a proof");
        let (source, before) = self.transcript.split_once('\n').expect("a first message");
        let transcript = format!("{before},{without_proof}");
        let keys = Keys::new(self.behavior.mechanism, PASSWORD, self.behavior.iterations);
        let signature = hmac::sign(&keys.stored, transcript.as_bytes());
        let expected: Vec<u8> = keys.client.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        if STANDARD.decode(proof).ok() != Some(expected) {
            return error(18, "AuthenticationFailed", "Authentication failed.");
        }
        self.user = Some((USER.to_string(), source.to_string()));
        let signed = if self.behavior.knows_password { transcript } else { "another password".to_string() };
        let last = format!("v={}", STANDARD.encode(hmac::sign(&keys.server, signed.as_bytes())));
        rawdoc! { "conversationId": 7, "done": true, "payload": binary(last.as_bytes()), "ok": 1.0 }
    }

    fn status(&self) -> RawDocumentBuf {
        let (mut users, mut roles) = (RawArrayBuf::new(), RawArrayBuf::new());
        if let Some((user, source)) = &self.user {
            users.push(rawdoc! { "user": user.as_str(), "db": source.as_str() });
            roles.push(rawdoc! { "role": "custom", "db": "admin" });
        }
        let privileges = if self.user.is_some() { self.behavior.privileges.clone() } else { RawArrayBuf::new() };
        rawdoc! {
            "authInfo": { "authenticatedUsers": users, "authenticatedUserRoles": roles, "authenticatedUserPrivileges": privileges },
            "ok": 1.0,
        }
    }

    fn databases(&self, document: &RawDocument) -> RawDocumentBuf {
        assert_eq!(document.get_bool("nameOnly").ok(), Some(true));
        assert_eq!(document.get_bool("authorizedDatabases").ok(), Some(true));
        let wanted = document.get_document("filter").ok().and_then(|filter| filter.get_str("name").ok());
        let mut list = RawArrayBuf::new();
        for name in self.behavior.databases.iter().filter(|name| wanted.is_none_or(|wanted| wanted == **name)) {
            list.push(rawdoc! { "name": *name });
        }
        rawdoc! { "databases": list, "ok": 1.0 }
    }

    fn collections(&self) -> RawDocumentBuf {
        let list = self.behavior.collections.iter().map(|(name, kind)| rawdoc! { "name": *name, "type": *kind });
        cursor(list.collect(), 0)
    }

    fn find(&self, collection: &str, document: &RawDocument) -> RawDocumentBuf {
        let ids_only = document.get_document("projection").is_ok();
        let documents = match collection {
            "empty" => Vec::new(),
            _ if ids_only => vec![rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }],
            _ => vec![
                rawdoc! { "_id": 1, "name": "secret-value", "lines": [{ "sku": "secret-value" }] },
                rawdoc! { "_id": 2, "total": 1.5, "at": bson::DateTime::from_millis(0) },
            ],
        };
        cursor(documents, 0)
    }
}

/// The keys that a server stores for a user (RFC 5802, section 3).
struct Keys {
    client: Vec<u8>,
    stored: hmac::Key,
    server: hmac::Key,
}

impl Keys {
    fn new(mechanism: &str, password: &str, iterations: u32) -> Keys {
        let (derive, mac, hash) = match mechanism {
            "SCRAM-SHA-1" => (pbkdf2::PBKDF2_HMAC_SHA1, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA1_FOR_LEGACY_USE_ONLY),
            _ => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
        };
        let password = match mechanism {
            "SCRAM-SHA-1" => {
                use md5::{Digest, Md5};
                data_encoding::HEXLOWER.encode(&Md5::digest(format!("{USER}:mongo:{password}").as_bytes()))
            }
            _ => password.to_string(),
        };
        let mut salted = vec![0; hash.output_len()];
        pbkdf2::derive(derive, NonZeroU32::new(iterations.max(1)).expect("above zero"), SALT, password.as_bytes(), &mut salted);
        let salted = hmac::Key::new(mac, &salted);
        let client = hmac::sign(&salted, b"Client Key").as_ref().to_vec();
        let stored = hmac::Key::new(mac, digest::digest(hash, &client).as_ref());
        let server = hmac::Key::new(mac, hmac::sign(&salted, b"Server Key").as_ref());
        Keys { client, stored, server }
    }
}

fn binary(bytes: &[u8]) -> RawBson {
    RawBson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
}
