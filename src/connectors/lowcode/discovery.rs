//! Discovery and the tiny sync of an open resource. A stream that cannot be read does not hide the others: it is skipped,
//! and the catalog says why and which permission is missing.

use super::binding::Binding;
use super::blind_spec::Blind;
use super::open::{MAX_STREAMS, Resource, json, reason, skippable};
use crate::connectors::concurrent::{self, Limits as Concurrency};
use crate::connectors::{Bounds, Discovery, Sample};
use crate::model::catalog::{SkippedStream, Stream, SyncMode};
use crate::model::{Catalog, Class, Evidence, Failure};
use ::lowcode::catalog;
use ::lowcode::context::Run;
use ::lowcode::source::Source;
use ::lowcode::stream::Stream as Reader;
use futures_util::FutureExt;
use serde_json::Value as Json;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

impl Resource {
    async fn streams(&self) -> Result<Arc<Source>, Failure> {
        let Binding { streams: names, dynamic, .. } = &self.binding;
        if let Some(limit) = self.binding.generated {
            return self.generated(names, limit).await;
        }
        if !names.is_empty() && !dynamic {
            return self.named(names);
        }
        if let Some(known) = self.known(names) {
            return Ok(known);
        }
        let built = self.built();
        let all = self.sources().first_streams(&self.run(), usize::MAX, &built).await.map_err(|failed| self.failure("", failed));
        match all {
            // What the streams are generated from cannot be read. The stream of that data says so.
            Err(failure) if *dynamic && skippable(&failure) => self.named(names),
            all => Ok(self.keep(names, all?)),
        }
    }

    /// Returns at most `limit` of the streams that the source generates: first those called by `names`, then the others by
    /// name, so that the choice does not depend on the order in which the source lists them.
    async fn generated(&self, names: &[String], limit: usize) -> Result<Arc<Source>, Failure> {
        if let Some(known) = self.known(names) {
            return Ok(known);
        }
        let choose = |found: &[&str]| {
            let place = |name: &str| names.iter().position(|wanted| wanted == name).unwrap_or(usize::MAX);
            let mut indexes: Vec<usize> = (0..found.len()).collect();
            indexes.sort_by_key(|&index| (place(found[index]), found[index]));
            indexes.truncate(limit);
            indexes
        };
        let generated = self.sources().generated_streams(&self.run(), &choose).await;
        let (source, total) = generated.map_err(|failed| self.failure("", failed))?;
        self.generated_total.store(total, Ordering::Relaxed);
        Ok(self.keep(names, source))
    }

    /// Returns the failure for a source that lists its streams and does not name one: it lists only those that the credential
    /// may read.
    fn blind(&self) -> Failure {
        let Binding { title, resource, least_privilege, .. } = &self.binding;
        Failure::new(
            Class::PermissionDenied,
            format!("{title} lists no stream of {resource} that this credential may read"),
            format!("least privilege: {least_privilege}; then aam heal"),
        )
    }

    pub(super) async fn discovered(&self, bounds: Bounds) -> Result<Discovery, Failure> {
        let source = self.streams().await?;
        if self.binding.generated.is_some() && source.streams.is_empty() {
            return Err(self.blind());
        }
        let run = &self.run();
        let mut catalog = Catalog::default();
        let mut denied = Vec::new();
        let (streams, more) = self.chosen(&source);
        catalog.truncated = more;
        let mut streams = streams.into_iter();
        // A skipped stream does not count towards the bound, so another one takes its place.
        while catalog.streams.len() < bounds.streams {
            let next: Vec<&Reader> = streams.by_ref().take(bounds.streams - catalog.streams.len()).collect();
            if next.is_empty() {
                break;
            }
            // Without probes, streams are described one after the other, because they may share the calls that this makes.
            let limits = match self.binding.generated {
                Some(_) => Concurrency::in_step(self.host.concurrency(), self.bounds.time),
                None => self.concurrency(if self.binding.probes { &next } else { &[] }),
            };
            let describe = next.iter().map(|stream| self.described(run, stream, bounds).map(or_skipped).boxed()).collect();
            for (stream, described) in next.iter().zip(concurrent::all(limits, describe).await?) {
                match described {
                    Ok(described) => catalog.streams.push(described),
                    Err(failure) => {
                        let missing = self.missing(&stream.name);
                        catalog.skipped.push(skipped_stream(stream, &failure, missing.clone()));
                        denied.push((missing, failure));
                    }
                }
            }
        }
        catalog.truncated |= streams.next().is_some();
        if catalog.streams.is_empty()
            && let Some(failure) = none_readable(denied)
        {
            return Err(failure);
        }
        let mut evidence = Evidence::new();
        if self.binding.generated.is_some() {
            let total = self.generated_total.load(Ordering::Relaxed);
            catalog.truncated |= total > source.streams.len();
            evidence.insert("listed".into(), total.into());
        }
        evidence.insert("skipped".into(), catalog.skipped.len().into());
        Ok(Discovery { catalog: catalog.sorted(), evidence, warning: None })
    }

    /// Returns the streams of data that discovery describes, and whether there are more. The choice among the generated ones
    /// does not depend on the order in which the source lists them.
    fn chosen<'s>(&self, source: &'s Source) -> (Vec<&'s Reader>, bool) {
        let streams = source.streams.iter().map(|stream| &**stream);
        let (mut generated, named): (Vec<_>, Vec<_>) = streams
            .filter(|stream| self.is_data(&stream.name, source))
            .partition(|stream| self.is_generated(&stream.name, source));
        let Some(limit) = self.binding.described else { return ([named, generated].concat(), false) };
        generated.sort_by(|one, other| one.name.cmp(&other.name));
        let more = generated.len() > limit || self.names_more();
        generated.truncate(limit);
        ([named, generated].concat(), more)
    }

    /// Returns true if a response from which streams were generated says that the source has more.
    fn names_more(&self) -> bool {
        self.binding.more.iter().any(|(stream, pointer)| {
            let body = self.last_response(stream).and_then(|kept| serde_json::from_slice::<Json>(&kept.response.body).ok());
            body.is_some_and(|body| body.pointer(pointer).and_then(Json::as_str).is_some_and(|text| !text.is_empty()))
        })
    }

    /// Returns true for the streams of data, whether `source` describes or generates them.
    fn is_data(&self, name: &str, source: &Source) -> bool {
        self.is_sampled(name) || self.is_generated(name, source)
    }

    /// Returns true for the streams that `source` generates besides those that the family lists.
    fn is_generated(&self, name: &str, source: &Source) -> bool {
        self.binding.dynamic && source.generated.iter().any(|(generated, _)| generated == name)
    }

    /// Returns true for the generated streams that the tiny sync also reads.
    fn is_sampled_too(&self, name: &str, source: &Source) -> bool {
        let sampled = &self.binding.sampled;
        self.binding.dynamic && source.generated.iter().any(|(generated, of)| generated == name && sampled.contains(of))
    }

    /// Returns true for the streams that the tiny sync may read: those that a family lists or has generated, and all of a
    /// custom manifest except its identity stream.
    fn is_sampled(&self, name: &str) -> bool {
        let Binding { streams, identity, generated, .. } = &self.binding;
        match streams.is_empty() {
            _ if generated.is_some() => true,
            true => identity.as_ref().is_none_or(|rule| rule.stream != name),
            false => streams.iter().any(|listed| listed == name),
        }
    }

    async fn described(&self, run: &Run<'_>, stream: &Reader, bounds: Bounds) -> Result<Stream, Failure> {
        let failed = |failed| self.failure(&stream.name, failed);
        if let Some(refused) = stream.refused().filter(|refused| refused.is_refused_name()) {
            return Err(failed(refused.clone()));
        }
        if self.binding.probes && self.is_sampled(&stream.name) {
            self.read(run, stream, 1, true).await?;
        } else if let Some(failure) = self.unhealthy.lock().unwrap_or_else(PoisonError::into_inner).get(&stream.name) {
            return Err(failure.clone());
        }
        let schema = stream.schema.get(run).await.map_err(failed)?;
        let mut json_schema = json(&schema);
        self.describe(&stream.name, &mut json_schema, bounds.columns).await?;
        if let Some(properties) = json_schema.get_mut("properties").and_then(Json::as_object_mut)
            && properties.len() > bounds.columns
        {
            let kept = std::mem::take(properties).into_iter().take(bounds.columns);
            properties.extend(kept);
        }
        let key = catalog::primary_key(Some(&stream.primary_key)).map_err(failed)?;
        Ok(Stream {
            name: stream.name.clone(),
            namespace: None,
            json_schema,
            supported_sync_modes: match stream.cursor {
                Some(_) => vec![SyncMode::FullRefresh, SyncMode::Incremental],
                None => vec![SyncMode::FullRefresh],
            },
            source_defined_primary_key: key.into_iter().map(|field| vec![field]).collect(),
            row_estimate: None,
        })
    }

    pub(super) async fn sampled(&self, catalog: &Catalog, max_items: usize) -> Result<Sample, Failure> {
        let source = self.streams().await?;
        let known = |name: &str| catalog.streams.iter().any(|stream| stream.name == name);
        let run = self.run();
        let (mut rows, mut read, mut skipped) = (0, serde_json::Map::new(), Vec::new());
        let (mut denied, mut unread) = (Vec::new(), serde_json::Map::new());
        for stream in self.in_order(&source).into_iter().filter(|stream| known(&stream.name)) {
            if rows >= max_items || read.len() + unread.len() >= MAX_STREAMS || skipped.len() >= MAX_SKIPPED {
                break;
            }
            match self.read(&run, stream, max_items - rows, true).await {
                Ok(found) => {
                    rows += found.len();
                    read.insert(stream.name.clone(), found.len().into());
                }
                // The least privilege of a family need not reach the records of a generated stream.
                Err(failure) if skippable(&failure) && self.is_generated(&stream.name, &source) => {
                    unread.insert(stream.name.clone(), reason(&failure).into());
                }
                Err(failure) if skippable(&failure) => {
                    let missing = self.missing(&stream.name);
                    skipped.push(skipped_stream(stream, &failure, missing.clone()));
                    denied.push((missing, failure));
                }
                Err(failure) => return Err(failure),
            }
        }
        if read.is_empty()
            && let Some(failure) = none_readable(denied)
        {
            return Err(failure);
        }
        let sees_records =
            self.binding.blind.filter(|blind| blind.sees_nothing(&read)).and_then(|blind| self.sees_records(blind));
        if let (Some(blind), Some(false)) = (self.binding.blind, sees_records) {
            let detail = format!("empty: {}", read.keys().cloned().collect::<Vec<_>>().join(", "));
            let fill = |text: &str| text.replace("{resource}", &self.binding.resource);
            return Err(Failure::new(Class::PermissionDenied, fill(&blind.title), fill(&blind.fix)).detail(detail));
        }
        let is_empty = self.binding.empty.is_some_and(|empty| read.get(&empty.stream) == Some(&Json::from(0)));
        let mut evidence = Evidence::new();
        evidence.insert("streams".into(), read.into());
        if !unread.is_empty() {
            evidence.insert("records_not_read".into(), unread.into());
        }
        if rows == 0 {
            let why = match sees_records {
                Some(_) => "it has no records: this credential is allowed to see them",
                None => "it has no records, or none that this credential can see",
            };
            evidence.insert("note".into(), format!("the source returns empty lists: {why}").into());
        }
        let nulls = run.null_lists.lock().unwrap_or_else(PoisonError::into_inner).join(", ");
        if !nulls.is_empty() {
            let note = format!("the source wrote null in place of the list of {nulls}, which is read as an empty list");
            evidence.insert("null_lists".into(), note.into());
        }
        if let Some(note) = self.empty_note.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| is_empty) {
            evidence.insert("note".into(), note.into());
        }
        Ok(Sample { denied: skipped, ..Sample::new(rows as u64, evidence) })
    }

    /// Returns whether empty lists mean that there are no records (`true`) or that the caller sees none (`false`); or `None` if
    /// the vendor did not say it.
    fn sees_records(&self, blind: &Blind) -> Option<bool> {
        let Some(rule) = &blind.unless else { return Some(false) };
        let answered = |stream: &String| self.last_response(stream).filter(|kept| kept.response.status == 200);
        let kept = rule.streams.iter().find_map(answered)?;
        Some(rule.shown_by(&serde_json::from_slice(&kept.response.body).ok()?))
    }

    /// Returns the streams in the order of the family, and generated ones after them by name. For a custom manifest, the streams
    /// that `check` reads come first.
    fn in_order<'s>(&self, source: &'s Source) -> Vec<&'s Reader> {
        let wanted = if self.binding.streams.is_empty() { &self.binding.health } else { &self.binding.streams };
        let streams = source.streams.iter().map(|stream| &**stream);
        let mut streams: Vec<&Reader> =
            streams.filter(|stream| self.is_sampled(&stream.name) || self.is_sampled_too(&stream.name, source)).collect();
        streams.sort_by_key(|stream| {
            let place = wanted.iter().position(|name| *name == stream.name).unwrap_or(usize::MAX);
            (place, if self.is_generated(&stream.name, source) { stream.name.as_str() } else { "" })
        });
        streams
    }
}

/// The maximum number of streams that the tiny sync tries without success.
const MAX_SKIPPED: usize = 5;

fn skipped_stream(stream: &Reader, failure: &Failure, missing: Option<String>) -> SkippedStream {
    let (class, fix) = (Some(failure.class), Some(failure.fix.clone()));
    SkippedStream { class, missing, fix, ..SkippedStream::new(stream.name.as_str(), reason(failure)) }
}

/// Returns the description of a stream, or the failure for which it is skipped. Other failures stay errors.
fn or_skipped(described: Result<Stream, Failure>) -> Result<Result<Stream, Failure>, Failure> {
    match described {
        Err(failure) if !skippable(&failure) => Err(failure),
        described => Ok(described),
    }
}

/// Returns one failure for all streams, none of which can be read. It names every missing permission. The failures come
/// with the permission that each response names.
fn none_readable(denied: Vec<(Option<String>, Failure)>) -> Option<Failure> {
    let mut missing: Vec<&str> = Vec::new();
    for name in denied.iter().filter_map(|(missing, _)| missing.as_deref()) {
        if !missing.contains(&name) {
            missing.push(name);
        }
    }
    missing.sort_unstable();
    // A missing permission can be granted, so it is shown before a failure that only the vendor can fix.
    let first = denied.iter().find(|(_, failure)| failure.class == Class::PermissionDenied).or(denied.first());
    let (named, failure) = first?;
    let Some(named) = named.as_deref().filter(|_| missing.len() > 1) else { return Some(failure.clone()) };
    let all = missing.join(", ");
    let details: Vec<&str> = denied.iter().map(|(_, failure)| failure.detail.as_str()).collect();
    let title = format!("none of the {} streams is readable: {all} are missing", denied.len());
    Some(Failure::new(failure.class, title, failure.fix.replace(named, &all)).detail(details.join(" | ")))
}
