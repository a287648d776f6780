//! How the data of a family is reached.

use super::find;
use serde::{Deserialize, Serialize};

/// How the data of a source is reached, for data catalogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// A database with its own protocol.
    Database,
    /// A bucket of an object store.
    ObjectStore,
    /// A file.
    File,
    /// An HTTP API.
    Api,
}

impl Transport {
    /// All transports.
    pub const ALL: [Transport; 4] = [Transport::Database, Transport::ObjectStore, Transport::File, Transport::Api];

    /// Returns the name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Database => "database",
            Transport::ObjectStore => "object_store",
            Transport::File => "file",
            Transport::Api => "api",
        }
    }
}

/// Returns the transport of a source type. Custom sources are APIs.
#[must_use]
pub fn transport(source_type: &str) -> Transport {
    match find(source_type).map_or("", |family| &*family.engine) {
        "sql" | "mongo" | "redshift" | "snowflake" => Transport::Database,
        "object" | "object_compat" => Transport::ObjectStore,
        "file" => Transport::File,
        _ => Transport::Api,
    }
}
