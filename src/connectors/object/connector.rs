//! An open bucket. Discovery, health check and tiny sync all use listings.

use super::classify::printable;
use super::store::{ListingPage, Store};
use crate::connectors::{Bounds, Connector, Discovery, Sample};
use crate::egress::{HttpResponse, Traffic};
use crate::model::text::counted;
use crate::model::{Catalog, Class, Evidence, Failure, Stream, SyncMode};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;

/// Limit on the pages that discovery requests. Listings are billed, and five thousand keys or folders suffice to show the
/// structure.
const MAX_PAGES: usize = 5;
/// Keys per page, the maximum of ListObjectsV2.
const KEYS_PER_PAGE: u32 = 1000;

/// An open bucket.
pub struct Bucket {
    pub store: Store,
    /// Whether `HEAD` succeeded when the bucket was opened.
    pub head_works: bool,
}

impl Connector for Bucket {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(self.folders(bounds))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(self.probe())
    }

    fn tiny_sync<'a>(&'a self, _catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(self.sample(max_items))
    }

    fn traffic(&self) -> Traffic {
        self.store.wire.traffic()
    }
}

impl Bucket {
    /// Discovers one stream for each folder below the prefix, and one stream for the objects beside the folders.
    async fn folders(&self, bounds: Bounds) -> Result<Discovery, Failure> {
        let started = Instant::now();
        let mut listed = ListedFolders::default();
        let mut after: Option<String> = None;
        loop {
            let spare = bounds.bytes.saturating_sub(listed.bytes);
            let page = ListingPage {
                max_keys: KEYS_PER_PAGE,
                folders: true,
                prefix: None,
                after: after.as_deref(),
                max_bytes: ListingPage::flat(0).max_bytes.min(spare.max(1)),
            };
            let (listing, answer) = match self.store.list(page).await {
                Ok(listed) => listed,
                Err(refused) if listed.pages > 0 && refused.failure.class != Class::CredentialRejected => {
                    // What was listed is true. What would follow is not known, which does not mean that it is gone.
                    listed.truncated = true;
                    listed.stopped = Some(refused.failure);
                    return Ok(self.discovery(listed, bounds));
                }
                Err(refused) => return Err(refused.failure),
            };
            listed.pages += 1;
            let length = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
            listed.bytes = listed.bytes.saturating_add(length);
            listed.objects += u64::try_from(listing.objects.len()).unwrap_or(0);
            listed.folders.extend(listing.prefixes);
            // A store may report more keys but repeat its token. Without this check it would be requested forever.
            let next = listing.next.filter(|_| listing.truncated).filter(|next| Some(next) != after.as_ref());
            // The next page is about as large as this one and must not exceed the bound.
            let room = bounds.bytes.saturating_sub(listed.bytes) / 2 >= length;
            let bound_met =
                listed.pages >= MAX_PAGES || listed.folders.len() >= bounds.streams || !room || started.elapsed() >= bounds.time;
            match next {
                Some(next) if !bound_met => after = Some(next),
                next => {
                    listed.truncated = next.is_some() || listing.truncated;
                    return Ok(self.discovery(listed, bounds));
                }
            }
        }
    }

    fn discovery(&self, mut listed: ListedFolders, bounds: Bounds) -> Discovery {
        let place = &self.store.place;
        let stream = |name: String, row_estimate: Option<u64>| Stream {
            name,
            namespace: Some(place.bucket.clone()),
            json_schema: record_schema(),
            supported_sync_modes: vec![SyncMode::FullRefresh],
            source_defined_primary_key: vec![vec!["key".to_string()]],
            row_estimate,
        };
        // The names of folders end in `/`, so this name cannot collide with them.
        let top = stream(format!("{}objects", place.prefix), (!listed.truncated).then_some(listed.objects));
        let room = bounds.streams.saturating_sub(1);
        listed.truncated |= listed.folders.len() > room;
        let mut evidence = Evidence::new();
        evidence.insert("pages".into(), json!(listed.pages));
        evidence.insert("folders".into(), json!(listed.folders.len()));
        evidence.insert("objects_beside_folders".into(), json!(listed.objects));
        evidence.insert("truncated".into(), json!(listed.truncated));
        evidence.insert("metadata_only".into(), json!(true));
        let pages = counted(listed.pages, "page");
        let warning = listed.stopped.map(|failure| Failure {
            title: format!("the listing of {} stopped after {pages}: {}", place.name(), failure.title),
            ..failure
        });
        let mut streams: Vec<Stream> = listed.folders.into_iter().take(room).map(|name| stream(name, None)).collect();
        streams.push(top);
        Discovery { catalog: Catalog { streams, truncated: listed.truncated, skipped: Vec::new() }.sorted(), evidence, warning }
    }

    /// Uses `HEAD` for a bucket if it succeeded when the bucket was opened. Otherwise a listing, because some keys may only
    /// list a prefix, and because `HEAD` says nothing about a folder.
    async fn probe(&self) -> Result<Evidence, Failure> {
        let mut evidence = Evidence::new();
        let head = if self.head_works && self.store.place.prefix.is_empty() { Some(self.store.head().await?) } else { None };
        let answer = match head.filter(speaks_s3) {
            Some(answer) => {
                evidence.insert("probe".into(), json!("HEAD bucket"));
                answer
            }
            None => {
                evidence.insert("probe".into(), json!("ListObjectsV2 max-keys=1"));
                let (listing, answer) = self.store.list(ListingPage::flat(1)).await.map_err(|refused| refused.failure)?;
                self.store.check_prefix(&listing).await?;
                answer
            }
        };
        evidence.insert("status".into(), json!(answer.status));
        evidence.insert("region".into(), json!(self.store.place.region));
        note_request_id(&mut evidence, &answer);
        Ok(evidence)
    }

    async fn sample(&self, max_items: u32) -> Result<Sample, Failure> {
        let (listing, answer) =
            self.store.list(ListingPage::flat(max_items.clamp(1, KEYS_PER_PAGE))).await.map_err(|refused| refused.failure)?;
        let read = &listing.objects;
        let most = usize::try_from(max_items).unwrap_or(usize::MAX);
        let rows = read.len().min(most);
        let mut evidence = Evidence::new();
        evidence.insert("metadata_only".into(), json!(true));
        evidence.insert("items".into(), json!("keys of ListObjectsV2"));
        evidence.insert("more".into(), json!(listing.truncated));
        evidence.insert(
            "bytes_described".into(),
            json!(read.iter().take(rows).filter_map(|object| object.size).fold(0, u64::saturating_add)),
        );
        if rows == 0 {
            evidence.insert("note".into(), json!("empty"));
        }
        if read.len() > most {
            evidence.insert("note".into(), json!("the store returned more keys than requested"));
        }
        note_request_id(&mut evidence, &answer);
        Ok(Sample::new(u64::try_from(rows).unwrap_or(0), evidence))
    }
}

#[derive(Default)]
struct ListedFolders {
    pages: usize,
    bytes: u64,
    objects: u64,
    folders: BTreeSet<String>,
    truncated: bool,
    /// Why the listing ended before its last page.
    stopped: Option<Failure>,
}

/// Whether the response is a 200 with a header that only object stores send. The status alone is not enough, because any web
/// server may return 200.
#[must_use]
pub fn speaks_s3(answer: &HttpResponse) -> bool {
    let marks = ["x-amz-request-id", "x-amz-bucket-region"];
    answer.status == 200 && marks.iter().any(|name| answer.header(name).is_some())
}

/// Adds the request id. The operator of the store can find the call by it.
pub fn note_request_id(evidence: &mut Evidence, answer: &HttpResponse) {
    if let Some(id) = answer.header("x-amz-request-id") {
        evidence.insert("request_id".into(), json!(printable(id)));
    }
}

/// One record of a listing.
fn record_schema() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["key", "size", "last_modified"],
        "properties": {
            "key": {"type": "string"},
            "size": {"type": "integer"},
            "last_modified": {"type": "string", "format": "date-time"},
            "etag": {"type": ["null", "string"]},
            "storage_class": {"type": ["null", "string"]},
        },
    })
}
