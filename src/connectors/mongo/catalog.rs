//! Discovery: the collections of the database, and the field paths and types of at most 20 documents of each.

use super::command::{Command, MAX_DOCUMENTS};
use super::fields::{Budget, Fields};
use super::limits::MAX_NAMED;
use super::reply::{Reply, integer};
use super::session::{CommandFailure, MongoSession};
use super::shape;
use crate::connectors::{Bounds, Discovery};
use crate::model::catalog::SkippedStream;
use crate::model::text::counted;
use crate::model::{Catalog, Class, Evidence, Failure, Stream, SyncMode};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// One collection or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    pub name: String,
    /// `collection`, `view` or `timeseries`.
    pub kind: &'static str,
}

/// The collections that AAM reads.
pub struct Collections {
    pub named: Vec<Collection>,
    pub truncated: bool,
}

/// Lists up to `limit` collections by name. Those of the system are left out: their content belongs to the server, and reading
/// `system.views` needs a privilege that the role `read` does not have.
///
/// # Errors
/// The errors of the command.
pub async fn collections(session: &MongoSession, limit: usize) -> Result<Collections, Failure> {
    let database = session.location.database.as_str();
    let batch = i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX);
    let list = |restricted| Command::ListCollections { database, limit: batch, restricted };
    let reply = session.list("list the collections", list).await?;
    let (documents, cursor) = session.batch(&reply, "listCollections")?;
    // A collection without a name would be missing in the catalog.
    let names: Option<Vec<_>> = documents.into_iter().map(|document| Some((document.get_str("name").ok()?, document))).collect();
    let Some(names) = names else { return Err(session.malformed("listCollections")) };
    let mut named: Vec<Collection> = names
        .into_iter()
        .filter(|(name, _)| !name.starts_with("system."))
        .map(|(name, document)| {
            let kind = match document.get_str("type") {
                Ok("view") => "view",
                Ok("timeseries") => "timeseries",
                _ => "collection",
            };
            Collection { name: name.to_string(), kind }
        })
        .collect();
    session.close_cursor("$cmd.listCollections", cursor).await;
    let truncated = cursor != 0 || named.len() > limit;
    named.sort_by(|a, b| a.name.cmp(&b.name));
    named.truncate(limit);
    Ok(Collections { named, truncated })
}

/// Builds the catalog of the database.
///
/// # Errors
/// The errors of [`collections`], and those that end the session.
pub async fn discover(session: &MongoSession, bounds: Bounds) -> Result<Discovery, Failure> {
    let started = Instant::now();
    let Collections { named, truncated } = collections(session, bounds.streams).await?;
    let describer = Describer { session, columns: bounds.columns, by_server: AtomicBool::new(true) };
    let mut catalog = Catalog { truncated, ..Catalog::default() };
    let total = named.len();
    for collection in named {
        if started.elapsed() > bounds.time || session.bytes() > bounds.bytes {
            catalog.truncated = true;
            catalog.skipped.push(SkippedStream::new(collection.name, "there was no time to read its fields"));
            continue;
        }
        match describer.describe(&collection).await {
            Ok((stream, cut)) => {
                catalog.truncated |= cut;
                catalog.streams.push(stream);
            }
            Err(failed) if failed.ends_session() => return Err(failed.failure),
            Err(failed) => catalog.skipped.push(skipped(session, &collection, &failed)),
        }
    }
    let mut evidence = Evidence::new();
    evidence.insert("streams".into(), json!(catalog.streams.len()));
    evidence.insert("documents_per_collection".into(), json!(MAX_DOCUMENTS));
    let how = if describer.by_server.load(Ordering::Relaxed) {
        "names and types only"
    } else {
        "documents, of which AAM keeps names and types"
    };
    evidence.insert("server_sends".into(), json!(how));
    let warning = denied_warning(session, &catalog, total);
    Ok(Discovery { catalog: catalog.sorted(), evidence, warning })
}

fn skipped(session: &MongoSession, collection: &Collection, failed: &CommandFailure) -> SkippedStream {
    let reason = failed.error.as_ref().map_or_else(|| failed.failure.title.clone(), |error| format!("the server said: {error}"));
    let denied = failed.failure.class == Class::PermissionDenied;
    SkippedStream {
        class: Some(failed.failure.class),
        missing: denied.then(|| format!("find on {}.{}", session.location.database, collection.name)),
        ..SkippedStream::new(collection.name.clone(), reason)
    }
}

/// The warning if the user may not read some of the `total` collections.
fn denied_warning(session: &MongoSession, catalog: &Catalog, total: usize) -> Option<Failure> {
    let denied = catalog.skipped.iter().filter(|skipped| skipped.class == Some(Class::PermissionDenied));
    let names: Vec<&str> = denied.map(|skipped| skipped.name.as_str()).collect();
    let first = names.first()?;
    let verb = if names.len() == 1 { "is" } else { "are" };
    let others = if names.len() == 1 { String::new() } else { format!(" and {} more", names.len() - 1) };
    let title = format!("{} of {} {verb} not readable: {first}{others}", names.len(), counted(total, "collection"));
    let listed: Vec<&str> = names.into_iter().take(MAX_NAMED).collect();
    Some(Failure::new(Class::PermissionDenied, title, session.parties.grant()).detail(listed.join(", ")))
}

/// Reads the fields of collections.
struct Describer<'a> {
    session: &'a MongoSession,
    columns: usize,
    /// Whether the server describes documents itself, so that no value leaves it.
    by_server: AtomicBool,
}

impl Describer<'_> {
    /// The stream of one collection, and whether fields were left out.
    async fn describe(&self, collection: &Collection) -> Result<(Stream, bool), CommandFailure> {
        let (fields, truncated) = match self.by_server(collection).await? {
            Some(described) => described,
            None => {
                let described = self.by_documents(collection).await?;
                // The documents could be read, so it is the description that the server does not support.
                self.by_server.store(false, Ordering::Relaxed);
                described
            }
        };
        let rows = if collection.kind == "collection" { self.count(collection).await? } else { None };
        let mut properties = fields.properties();
        if collection.kind == "collection" && properties.is_empty() {
            // Every document has an identifier, also those that are still to come.
            properties.insert("_id".to_string(), json!({}));
        }
        let key = if collection.kind == "collection" { vec![vec!["_id".to_string()]] } else { Vec::new() };
        let stream = Stream {
            name: collection.name.clone(),
            namespace: Some(self.session.location.database.clone()),
            json_schema: json!({"type": "object", "x-kind": collection.kind, "properties": Value::Object(properties)}),
            supported_sync_modes: vec![SyncMode::FullRefresh],
            source_defined_primary_key: key,
            row_estimate: rows,
        };
        Ok((stream, truncated))
    }

    /// The fields as the server describes them. Returns `None` if the server cannot do that.
    async fn by_server(&self, collection: &Collection) -> Result<Option<(Fields, bool)>, CommandFailure> {
        if !self.by_server.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let command = Command::FieldTypes { database: &self.session.location.database, collection: &collection.name };
        let reply = match self.session.ask(&reading(collection), command).await {
            Ok(reply) => reply,
            Err(failed) if failed.ends_session() || !may_lack_operators(&failed) => return Err(failed),
            Err(_) => return Ok(None),
        };
        Ok(self.add_all(&reply, collection, shape::add).await)
    }

    /// The fields of the documents themselves, whose values are dropped with the response.
    async fn by_documents(&self, collection: &Collection) -> Result<(Fields, bool), CommandFailure> {
        let command = Command::Documents { database: &self.session.location.database, collection: &collection.name };
        let reply = self.session.ask(&reading(collection), command).await?;
        let described = self.add_all(&reply, collection, Fields::add_document).await;
        described.ok_or_else(|| CommandFailure { failure: self.session.malformed("find"), error: None })
    }

    async fn add_all(
        &self,
        reply: &Reply,
        collection: &Collection,
        add: impl Fn(&mut Fields, &bson::RawDocument, &mut Budget) -> Option<()>,
    ) -> Option<(Fields, bool)> {
        let (documents, cursor) = reply.batch()?;
        self.session.close_cursor(&collection.name, cursor).await;
        let (mut fields, mut budget) = (Fields::default(), Budget::new(self.columns));
        let limit = usize::try_from(MAX_DOCUMENTS).unwrap_or(usize::MAX);
        for document in documents.into_iter().take(limit) {
            add(&mut fields, document, &mut budget)?;
        }
        Some((fields, budget.truncated))
    }

    /// The estimated number of documents; `None` if the server refuses to say it.
    async fn count(&self, collection: &Collection) -> Result<Option<u64>, CommandFailure> {
        let command = Command::EstimatedCount { database: &self.session.location.database, collection: &collection.name };
        match self.session.ask(&reading(collection), command).await {
            Ok(reply) => Ok(integer(reply.document(), "n").and_then(|count| u64::try_from(count).ok())),
            Err(failed) if failed.ends_session() => Err(failed),
            Err(_) => Ok(None),
        }
    }
}

fn reading(collection: &Collection) -> String {
    format!("read the {} {}", if collection.kind == "view" { "view" } else { "collection" }, collection.name)
}

/// Whether the refusal of an aggregation may come from an operator that the server does not know. Missing privileges, time limits
/// and the condition of the server would be the same for a plain read.
fn may_lack_operators(failed: &CommandFailure) -> bool {
    let remote = matches!(failed.failure.class, Class::Remote | Class::Unsupported | Class::NotFound);
    let code = failed.error.as_ref().map_or(0, |error| error.code);
    remote && !matches!(code, 6 | 7 | 50 | 89 | 91 | 133 | 134 | 189 | 202 | 262 | 9001 | 10107 | 11600 | 11602 | 13435 | 13436)
}
