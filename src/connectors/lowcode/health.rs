//! The health step of an open resource.

use super::open::{MAX_STREAMS, Resource, reason, skippable};
use crate::connectors::concurrent;
use crate::model::{Evidence, Failure};
use ::lowcode::context::Run;
use ::lowcode::refused::StreamProblems;
use ::lowcode::stream::Stream as Reader;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// The maximum number of streams that the evidence names, and of reasons for each.
const MAX_NOTED: usize = 50;
const MAX_REASONS: usize = 3;

impl Resource {
    /// Reads one record of each stream of the health step. The step passes if at least one of them can be read.
    pub(super) async fn checked(&self) -> Result<Evidence, Failure> {
        let names = &self.binding.health;
        let source = match names.is_empty() {
            true => Arc::new(self.sources().first_streams(&self.run(), 1, &[]).await.map_err(|failed| self.failure("", failed))?),
            false => self.named(names)?,
        };
        let run = &self.run();
        let streams: Vec<&Reader> = source.streams.iter().take(MAX_STREAMS).map(|stream| &**stream).collect();
        let reads = streams.iter().map(|stream| self.check(run, stream)).collect();
        let (mut records, mut read, mut unhealthy) = (0, Vec::new(), BTreeMap::new());
        for (stream, found) in streams.iter().zip(concurrent::all(self.concurrency(&streams), reads).await?) {
            match found {
                Ok((count, status)) => {
                    records += count;
                    read.extend(status);
                }
                Err(failure) => drop(unhealthy.insert(stream.name.clone(), failure)),
            }
        }
        if unhealthy.len() == streams.len()
            && let Some(failure) = unhealthy.values().next()
        {
            return Err(failure.clone());
        }
        let mut evidence = Evidence::new();
        evidence.insert("read".into(), read.join(", ").into());
        evidence.insert("records".into(), records.into());
        if !unhealthy.is_empty() {
            let reasons = unhealthy.iter().map(|(name, failure)| (name.clone(), reason(failure).into()));
            evidence.insert("not_readable".into(), Json::Object(reasons.collect()));
        }
        self.note_classes(&mut evidence);
        *self.unhealthy.lock().unwrap_or_else(PoisonError::into_inner) = unhealthy;
        Ok(evidence)
    }

    /// Adds to the evidence what is not read as the CDK reads it, and which streams are not read, with the reasons.
    fn note_classes(&self, evidence: &mut Evidence) {
        let manifest = &self.binding.manifest;
        let described = |streams: &[StreamProblems]| {
            let reason = |stream: &StreamProblems| {
                let messages: Vec<&str> = stream.problems.iter().take(MAX_REASONS).map(|it| it.message.as_str()).collect();
                (stream.name.clone(), Json::from(messages.join("; ")))
            };
            Json::Object(streams.iter().take(MAX_NOTED).map(reason).collect())
        };
        if !manifest.differing_streams().is_empty() {
            evidence.insert("differs_from_the_cdk".into(), described(manifest.differing_streams()));
        }
        if !manifest.refused_streams().is_empty() {
            evidence.insert("not_supported".into(), described(manifest.refused_streams()));
        }
    }

    /// Reads at most one record of `stream`. Returns the number of records, and a text with the stream's name and the
    /// status of its response; or the failure, if other streams can be read nevertheless.
    #[allow(clippy::type_complexity)]
    fn check<'s>(
        &'s self,
        run: &'s Run<'s>,
        stream: &'s Reader,
    ) -> BoxFuture<'s, Result<Result<(usize, Option<String>), Failure>, Failure>> {
        Box::pin(async move {
            let records = match self.read(run, stream, 1, false).await {
                Err(failure) if skippable(&failure) => return Ok(Err(failure)),
                read => read?.len(),
            };
            let kept = self.host.last_response(&stream.name);
            let reused = if kept.as_ref().is_some_and(|kept| kept.reused) { ", reused" } else { "" };
            Ok(Ok((records, kept.map(|kept| format!("{} ({}{reused})", stream.name, kept.response.status)))))
        })
    }
}
