//! The `file` engine: CSV, TSV, JSON, JSON Lines and Parquet files below the policy's `files.roots`.
//!
//! Reading order: `place` (from a path to an open file), `format` (whether the content matches the name), `source` (one
//! file), `resource` (a file or directory). This file connects them to the pipeline. The engine opens files only for
//! reading, and it does not open archives.

mod delimited;
mod describe;
mod dialect;
mod encoding;
mod format;
mod header;
mod json;
mod parquet;
mod parquet_footer;
mod parquet_pages;
mod parquet_types;
mod place;
mod resource;
mod rows;
mod source;
mod thrift;
mod tree;
mod types;

use super::driver_session::LocalRead;
use super::local_reads::LocalReads;
use super::roots;
use super::{
    AuthorizedResource, BindRequest, BoundResource, Bounds, Connector, CredentialNeed, Discovery, Engine, Opened, Sample,
};
use crate::credentials::Credential;
use crate::egress::{PlannedCall, Session, Traffic};
use crate::memory_budget::MemoryMeter;
use crate::model::{Catalog, Class, Evidence, Failure, Recipient};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use resource::Resource;
use std::path::Path;
use std::sync::Arc;

/// The engine of the family `filesource`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileEngine;

impl Engine for FileEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        check_form(request.resource_id)?;
        Ok(Box::new(BoundFile {
            path: absolute_path(request.resource_id),
            resource_id: request.resource_id.to_owned(),
            policy: Arc::clone(request.policy),
        }))
    }
}

/// A path that has the form of a local file or directory. The file system has not been read yet.
struct BoundFile {
    resource_id: String,
    /// Absolute, for the log, the plan and the account.
    path: String,
    policy: Arc<Policy>,
}

impl BoundResource for BoundFile {
    fn credential_need(&self) -> CredentialNeed {
        CredentialNeed::Optional
    }

    fn account(&self) -> &str {
        &self.path
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        Vec::new()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        vec![PlannedCall { method: "READ FILE".to_owned(), host: HOST.to_owned(), path: self.path.clone() }]
    }

    fn authorize(self: Box<Self>, _: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        Ok(AuthorizedResource::new(move |session| Box::pin(self.open(session))))
    }
}

impl BoundFile {
    async fn open(self: Box<Self>, session: Session) -> Result<Opened, Failure> {
        let BoundFile { resource_id, path, policy } = *self;
        let read = LocalRead::begin(&session, &path).await?;
        let reads = LocalReads::for_path(Path::new(&resource_id), &policy.files.roots);
        let work = move || {
            let resource = Resource::open(&resource_id, &policy.files)?;
            let (identity, privilege) = (resource.identity(), resource.privilege());
            Ok((resource, identity, privilege))
        };
        let opened = reads.run(work).await;
        let bytes = opened.as_ref().map_or(0, |(resource, _, _)| resource.bytes());
        let (resource, identity, privilege) = read.ended(bytes, opened)?;
        let connector = Box::new(FileConnector { resource: Arc::new(resource), reads, session, path });
        Ok(Opened { connector, identity, privilege, removal: Vec::new() })
    }
}

const HOST: &str = "local";

/// The absolute path of a resource id. The file system is not read, so symbolic links stay as they are.
fn absolute_path(resource_id: &str) -> String {
    match roots::absolute(Path::new(resource_id)) {
        Ok(path) => path.display().to_string(),
        Err(_) => resource_id.to_owned(),
    }
}

fn check_form(id: &str) -> Result<(), Failure> {
    let wrong = |what: &str, fix: &str| Err(Failure::new(Class::NotMappable, format!("{id:?} {what}"), fix));
    if id.trim().is_empty() {
        return wrong("is not a path", "write the path of a file or directory below one of the policy's files.roots");
    }
    if id.chars().any(char::is_control) {
        return wrong("contains control characters", "write the path without control characters");
    }
    if let Some((scheme, rest)) = id.split_once("://") {
        return match scheme {
            "file" => wrong("is a URL, not a path", &format!("write the path alone: {rest}")),
            "http" | "https" => wrong(
                "is on another host, but filesource reads only local files",
                "use source_type openapi for an HTTP service, s3_compat for an object store, or copy the file below files.roots",
            ),
            _ => wrong(
                "is on another host, but filesource reads only local files",
                "use the family of that store (s3, s3_compat), or copy the file below files.roots",
            ),
        };
    }
    if roots::is_unexpanded(id) {
        return wrong("is not expanded: AAM reads ~ and $NAME as they are written", "write the whole path");
    }
    let path = Path::new(id);
    if roots::absolute(path).is_err() {
        return wrong("has `..` after a name", "write the path without `..`");
    }
    match format::refused(path) {
        Some(failure) if !id.ends_with('/') => Err(failure),
        _ => Ok(()),
    }
}

/// The bytes that are reserved for a read at first. They suffice for small files.
const FIRST_MEMORY_BYTES: u64 = 512 << 10;

struct FileConnector {
    resource: Arc<Resource>,
    reads: LocalReads,
    session: Session,
    path: String,
}

impl FileConnector {
    /// Takes one call from the budget and runs `work` on a thread that may block.
    /// The work runs again with more memory if its meter refused some.
    async fn call<T: Send + 'static>(
        &self,
        work: impl Fn(&Resource, &MemoryMeter) -> Result<T, Failure> + Send + Sync + 'static,
    ) -> Result<T, Failure> {
        let read = LocalRead::begin(&self.session, &self.path).await?;
        let before = self.resource.bytes();
        let work = Arc::new(work);
        let run = |meter: MemoryMeter| {
            let (resource, work) = (Arc::clone(&self.resource), Arc::clone(&work));
            self.reads.run(move || work(&resource, &meter))
        };
        let done = self.session.memory().metered(&self.path, FIRST_MEMORY_BYTES, run).await;
        read.ended(self.resource.bytes().saturating_sub(before), done)
    }
}

impl Connector for FileConnector {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(self.call(move |resource, memory| resource.discover(bounds, memory)))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(self.call(|resource, _| resource.health()))
    }

    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        let names = self.resource.member_names(catalog);
        Box::pin(self.call(move |resource, memory| resource.sample(&names, max_items, memory)))
    }

    fn traffic(&self) -> Traffic {
        self.session.traffic()
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
