//! Every command that AAM can send. None of them writes.
//!
//! [`Command`] is the only source of requests, and [`Command::encode`] checks each document against [`READ_ONLY_COMMANDS`] and
//! the rules of [`check`] before it becomes bytes, so that a mistake in this file cannot become a write.

use super::message;
use super::options::{Mechanism, ReadPreference};
use super::shape;
use bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use bson::spec::BinarySubtype;
use bson::{Binary, RawDocument, rawdoc};

/// The commands that AAM may send, by the first key of the document (MongoDB manual, "Database Commands").
/// `killCursors` ends a cursor that AAM itself opened and that would otherwise stay on the server for ten minutes.
/// `authenticate` is the login with a client certificate.
pub const READ_ONLY_COMMANDS: [&str; 12] = [
    "hello",
    "isMaster",
    "saslStart",
    "saslContinue",
    "authenticate",
    "connectionStatus",
    "listDatabases",
    "listCollections",
    "find",
    "aggregate",
    "count",
    "killCursors",
];

/// Limit on the documents that one request asks for.
pub const MAX_DOCUMENTS: i32 = 20;
/// The limit that the server enforces for a command, in milliseconds.
pub const MAX_TIME_MS: i32 = 5000;
/// The limit for a collection, so that a slow one leaves time for the others.
const COLLECTION_TIME_MS: i32 = 2000;

/// One request.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// The handshake. `user` is `DATABASE.USER`, whose mechanisms the server is asked for.
    Hello {
        legacy: bool,
        load_balanced: bool,
        user: Option<&'a str>,
        application: Option<&'a str>,
    },
    /// The first step of SCRAM.
    SaslStart {
        database: &'a str,
        mechanism: Mechanism,
        payload: &'a [u8],
    },
    SaslContinue {
        database: &'a str,
        conversation: i32,
        payload: &'a [u8],
    },
    /// The login with the client certificate of the TLS connection.
    AuthenticateX509 {
        user: Option<&'a str>,
    },
    ConnectionStatus,
    /// Asks whether the database `name` is visible; without a name, for the names of all visible databases. `restricted` asks
    /// only for those that the user may read, which servers before 4.0 do not know.
    ListDatabases {
        name: Option<&'a str>,
        restricted: bool,
    },
    ListCollections {
        database: &'a str,
        limit: i32,
        restricted: bool,
    },
    /// The field paths and types of some documents. The values stay on the server.
    FieldTypes {
        database: &'a str,
        collection: &'a str,
    },
    /// Some documents. Of the documents only paths and types are kept.
    Documents {
        database: &'a str,
        collection: &'a str,
    },
    /// The identifiers of some documents.
    Ids {
        database: &'a str,
        collection: &'a str,
        limit: i32,
    },
    /// The estimated number of documents, from the metadata of the collection.
    EstimatedCount {
        database: &'a str,
        collection: &'a str,
    },
    KillCursors {
        database: &'a str,
        collection: &'a str,
        cursor: i64,
    },
}

/// A request that AAM does not send. It can only be a defect of AAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReadOnly(pub String);

impl Command<'_> {
    /// The request as bytes. `read_preference` is that of a member of a replica set or a router.
    ///
    /// # Errors
    /// If the request is not on the list of commands that only read.
    pub fn encode(&self, request: i32, read_preference: Option<ReadPreference>) -> Result<Vec<u8>, NotReadOnly> {
        let mut document = self.document();
        if let Command::Hello { legacy: true, .. } = self {
            check(&document)?;
            return Ok(message::encode_query(request, &document));
        }
        document.append(cstr!("$db"), self.database());
        if let Some(mode) = read_preference.filter(|_| self.reads_data()) {
            document.append(cstr!("$readPreference"), rawdoc! {"mode": mode.as_str()});
        }
        check(&document)?;
        Ok(message::encode_message(request, &document))
    }

    /// Returns the name of the command, with the database and the collection that it reads: `find shop.orders`.
    #[must_use]
    pub fn name(&self) -> String {
        let document = self.document();
        let first = document.iter().next().and_then(Result::ok);
        let name = first.map(|(key, _)| key.to_string()).unwrap_or_default();
        let database = self.database();
        match self {
            Command::FieldTypes { collection, .. }
            | Command::Documents { collection, .. }
            | Command::Ids { collection, .. }
            | Command::EstimatedCount { collection, .. }
            | Command::KillCursors { collection, .. } => format!("{name} {database}.{collection}"),
            _ => format!("{name} {database}"),
        }
    }

    fn database(&self) -> &str {
        match self {
            Command::SaslStart { database, .. }
            | Command::SaslContinue { database, .. }
            | Command::ListCollections { database, .. }
            | Command::FieldTypes { database, .. }
            | Command::Documents { database, .. }
            | Command::Ids { database, .. }
            | Command::EstimatedCount { database, .. }
            | Command::KillCursors { database, .. } => database,
            Command::AuthenticateX509 { .. } => "$external",
            Command::Hello { .. } | Command::ConnectionStatus | Command::ListDatabases { .. } => "admin",
        }
    }

    fn reads_data(&self) -> bool {
        matches!(
            self,
            Command::ListDatabases { .. }
                | Command::ListCollections { .. }
                | Command::FieldTypes { .. }
                | Command::Documents { .. }
                | Command::Ids { .. }
                | Command::EstimatedCount { .. }
        )
    }

    fn document(&self) -> RawDocumentBuf {
        match *self {
            Command::Hello { legacy, load_balanced, user, application } => hello(legacy, load_balanced, user, application),
            Command::SaslStart { mechanism, payload, .. } => rawdoc! {
                "saslStart": 1,
                "mechanism": mechanism.as_str(),
                "payload": binary(payload),
                "options": { "skipEmptyExchange": true },
            },
            Command::SaslContinue { conversation, payload, .. } => {
                rawdoc! { "saslContinue": 1, "conversationId": conversation, "payload": binary(payload) }
            }
            Command::AuthenticateX509 { user } => {
                let mut document = rawdoc! { "authenticate": 1, "mechanism": Mechanism::X509.as_str() };
                if let Some(user) = user {
                    document.append(cstr!("user"), user);
                }
                document
            }
            Command::ConnectionStatus => rawdoc! { "connectionStatus": 1, "showPrivileges": true },
            Command::ListDatabases { name, restricted } => {
                let mut document = rawdoc! { "listDatabases": 1, "nameOnly": true };
                if let Some(name) = name {
                    document.append(cstr!("filter"), rawdoc! { "name": name });
                }
                if restricted {
                    document.append(cstr!("authorizedDatabases"), true);
                }
                document.append(cstr!("maxTimeMS"), MAX_TIME_MS);
                document
            }
            Command::ListCollections { limit, restricted, .. } => {
                let mut document = rawdoc! { "listCollections": 1, "nameOnly": true, "cursor": { "batchSize": limit } };
                if restricted {
                    document.append(cstr!("authorizedCollections"), true);
                }
                document.append(cstr!("maxTimeMS"), MAX_TIME_MS);
                document
            }
            Command::FieldTypes { collection, .. } => {
                let mut pipeline = RawArrayBuf::new();
                pipeline.push(rawdoc! { "$limit": MAX_DOCUMENTS });
                pipeline.push(rawdoc! { "$project": { "_id": 0, "f": shape::expression() } });
                rawdoc! {
                    "aggregate": collection,
                    "pipeline": pipeline,
                    // One more than there can be, so that the server closes the cursor at once.
                    "cursor": { "batchSize": MAX_DOCUMENTS + 1 },
                    "readConcern": { "level": "local" },
                    "maxTimeMS": COLLECTION_TIME_MS,
                }
            }
            Command::Documents { collection, .. } => find(collection, MAX_DOCUMENTS, None),
            Command::Ids { collection, limit, .. } => find(collection, limit, Some(rawdoc! { "_id": 1 })),
            Command::EstimatedCount { collection, .. } => {
                rawdoc! { "count": collection, "readConcern": { "level": "local" }, "maxTimeMS": COLLECTION_TIME_MS }
            }
            Command::KillCursors { collection, cursor, .. } => {
                let mut cursors = RawArrayBuf::new();
                cursors.push(cursor);
                rawdoc! { "killCursors": collection, "cursors": cursors }
            }
        }
    }
}

/// A read of one batch, after which the server closes the cursor.
fn find(collection: &str, limit: i32, projection: Option<RawDocumentBuf>) -> RawDocumentBuf {
    let mut document = rawdoc! { "find": collection };
    if let Some(projection) = projection {
        document.append(cstr!("projection"), projection);
    }
    document.append(cstr!("limit"), limit.clamp(1, MAX_DOCUMENTS));
    document.append(cstr!("singleBatch"), true);
    document.append(cstr!("readConcern"), rawdoc! { "level": "local" });
    document.append(cstr!("maxTimeMS"), COLLECTION_TIME_MS);
    document
}

/// The handshake (specification "MongoDB Handshake" of the drivers).
fn hello(legacy: bool, load_balanced: bool, user: Option<&str>, application: Option<&str>) -> RawDocumentBuf {
    let mut document = if legacy {
        rawdoc! { "isMaster": 1, "helloOk": true }
    } else {
        rawdoc! { "hello": 1 }
    };
    if load_balanced {
        document.append(cstr!("loadBalanced"), true);
    }
    if let Some(user) = user {
        document.append(cstr!("saslSupportedMechs"), user);
    }
    let client = rawdoc! {
        "application": { "name": application.unwrap_or("aam") },
        "driver": { "name": "aam", "version": env!("CARGO_PKG_VERSION") },
        "os": { "type": std::env::consts::OS, "architecture": std::env::consts::ARCH },
    };
    document.append(cstr!("client"), client);
    document
}

fn binary(bytes: &[u8]) -> bson::RawBson {
    bson::RawBson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
}

/// Checks that a request only reads: its command is on the list, a read asks for a limited number of documents in one batch, and
/// an aggregation has nothing but `$limit` and `$project`.
///
/// # Errors
/// The reason why it is not sent.
fn check(document: &RawDocument) -> Result<(), NotReadOnly> {
    let first = document.iter().next().and_then(Result::ok);
    let name = first.map(|(key, _)| key.as_str()).unwrap_or_default();
    if !READ_ONLY_COMMANDS.contains(&name) {
        return Err(NotReadOnly(format!("the command {name} is not on the list")));
    }
    let limited = |value: Option<i32>| value.is_some_and(|limit| (1..=MAX_DOCUMENTS).contains(&limit));
    match name {
        "find" if !limited(document.get_i32("limit").ok()) || !document.get_bool("singleBatch").unwrap_or(false) => {
            Err(NotReadOnly("a read without a limit".to_string()))
        }
        "aggregate" => {
            let stages = document.get_array("pipeline").map_err(|error| NotReadOnly(error.to_string()))?;
            let mut has_limit = false;
            for stage in stages {
                let stage = stage.ok().and_then(|stage| stage.as_document());
                let key = stage.and_then(|stage| stage.iter().next()?.ok()).map(|(key, _)| key.as_str()).unwrap_or_default();
                match key {
                    "$limit" => has_limit |= limited(stage.and_then(|stage| stage.get_i32("$limit").ok())),
                    "$project" => {}
                    _ => return Err(NotReadOnly(format!("the stage {key} is not on the list"))),
                }
            }
            if has_limit { Ok(()) } else { Err(NotReadOnly("an aggregation without a limit".to_string())) }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
