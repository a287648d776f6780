//! The tiny sync: the identifiers of at most 20 documents of the first collection that has any. They are counted and dropped.

use super::catalog::{self, Collection};
use super::command::Command;
use super::limits::MAX_SAMPLED_COLLECTIONS;
use super::session::{CommandFailure, MongoSession};
use crate::connectors::Sample;
use crate::model::text::counted;
use crate::model::{Catalog, Evidence, Failure};
use serde_json::json;
use std::time::{Duration, Instant};

/// Reads identifiers for at most `time`. Collections that discovery found to be empty come last, and views after collections.
///
/// # Errors
/// Those that end the session; the first failure if no collection could be read.
pub async fn read(session: &MongoSession, known: &Catalog, max_items: u32, time: Duration) -> Result<Sample, Failure> {
    let started = Instant::now();
    let mut candidates = match candidates(known) {
        found if found.is_empty() => catalog::collections(session, 100).await?.named,
        found => found,
    };
    let total = candidates.len();
    candidates.truncate(MAX_SAMPLED_COLLECTIONS);
    let (mut empty, mut failed): (Vec<String>, Vec<(String, Failure)>) = Default::default();
    for collection in candidates {
        if started.elapsed() > time {
            break;
        }
        match count_ids(session, &collection.name, max_items).await {
            Ok(0) => empty.push(collection.name),
            Ok(rows) => {
                let mut evidence = skipped(&empty, &failed);
                evidence.insert("stream".into(), json!(collection.name));
                evidence.insert("rows".into(), json!(rows));
                return Ok(Sample::new(rows, evidence));
            }
            Err(error) if error.ends_session() => return Err(error.failure),
            Err(error) => failed.push((collection.name, error.failure)),
        }
    }
    if empty.is_empty() && !failed.is_empty() {
        return Err(failed.remove(0).1);
    }
    let mut evidence = skipped(&empty, &failed);
    let untried = total - empty.len() - failed.len();
    let mut note = "empty: the collections that were read have no documents".to_string();
    if untried > 0 {
        evidence.insert("not_tried".into(), json!(untried));
        note.push_str(&format!("; {} were not tried", counted(untried, "collection")));
    }
    if total == 0 {
        note = "empty: the database has no collections that the login may see".to_string();
    }
    evidence.insert("note".into(), json!(note));
    Ok(Sample::new(0, evidence))
}

async fn count_ids(session: &MongoSession, collection: &str, max_items: u32) -> Result<u64, CommandFailure> {
    let limit = i32::try_from(max_items).unwrap_or(i32::MAX);
    let command = Command::Ids { database: &session.location.database, collection, limit };
    let reply = session.ask(&format!("read the collection {collection}"), command).await?;
    let (documents, cursor) = session.batch(&reply, "find")?;
    session.close_cursor(collection, cursor).await;
    Ok((documents.len() as u64).min(u64::from(max_items)))
}

/// The collections of a catalog in the order in which they are tried.
fn candidates(known: &Catalog) -> Vec<Collection> {
    let mut found: Vec<(bool, bool, Collection)> = known
        .streams
        .iter()
        .map(|stream| {
            let is_view = stream.json_schema["x-kind"] == "view";
            let kind = if is_view { "view" } else { "collection" };
            (stream.row_estimate == Some(0), is_view, Collection { name: stream.name.clone(), kind })
        })
        .collect();
    found.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    found.into_iter().map(|(_, _, collection)| collection).collect()
}

fn skipped(empty: &[String], failed: &[(String, Failure)]) -> Evidence {
    let mut evidence = Evidence::new();
    if !empty.is_empty() {
        evidence.insert("empty_streams".into(), json!(empty));
    }
    if !failed.is_empty() {
        let named: Vec<_> = failed.iter().map(|(name, failure)| json!({"stream": name, "reason": failure.title})).collect();
        evidence.insert("skipped".into(), json!(named));
    }
    evidence
}
