//! The structure of the source as a tree, and what changed from one version to another.

use super::{ConnectionDetails, hidden_fields};
use crate::model::Timestamp;
use crate::model::catalog::SkippedStream;
use crate::model::text::counted;
use crate::page::parts;
use crate::report::drift::{AcknowledgedBody, ChangeBody, totals};
use maud::{Markup, html};

/// The number of changes that are shown.
const MAX_CHANGES: usize = 200;

/// The catalog of the connection.
#[derive(Clone, Debug, Default)]
pub struct CatalogSection {
    /// `None` if there is nothing to show.
    pub shown: Option<ShownCatalog>,
    /// Why nothing is shown; empty otherwise.
    pub missing: String,
    /// The newest versions, newest first.
    pub versions: Vec<CatalogVersion>,
}

/// One version, as the ledger records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogVersion {
    pub version: u32,
    pub at: Timestamp,
    pub streams: u32,
    /// The number of changes that break consumers.
    pub breaking: usize,
    /// The number of other changes.
    pub additive: usize,
}

/// The version that is shown.
#[derive(Clone, Debug, Default)]
pub struct ShownCatalog {
    pub version: u32,
    /// The version it is compared with. `None` for the first one.
    pub previous: Option<u32>,
    /// The changes since then, the breaking ones first.
    pub changes: Vec<ChangeBody>,
    pub breaking_total: usize,
    pub additive_total: usize,
    pub acknowledged: Option<AcknowledgedBody>,
    /// A part of the names of the streams that are shown; empty for all.
    pub filter: String,
    /// The number of streams that are left out before the first one.
    pub start: usize,
    pub streams: Vec<StreamNode>,
    /// The number of streams that match the filter.
    pub matching: usize,
    pub total: usize,
    /// Whether discovery reached a limit, so that streams may be missing.
    pub is_truncated: bool,
    /// Streams that exist and could not be described, at most a few.
    pub skipped: Vec<SkippedStream>,
    pub skipped_total: usize,
}

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamNode {
    /// The name, after its namespace and a point if it has one.
    pub name: String,
    /// The number of the stream in the catalog, for its id on the page.
    pub number: usize,
    /// Its fields, as many as there is room for.
    pub fields: Vec<FieldNode>,
    pub fields_total: usize,
    /// The primary key; empty if the source does not have one.
    pub key: String,
    pub sync_modes: String,
    /// The number of rows, as the source estimates it.
    pub row_estimate: Option<u64>,
    /// What changed about the stream as a whole; empty if nothing did.
    pub change: String,
}

/// A field of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldNode {
    pub name: String,
    pub types: String,
    pub is_key: bool,
    /// What changed about the field; empty if nothing did.
    pub change: String,
}

pub(super) fn section(details: &ConnectionDetails) -> Markup {
    let catalog = &details.catalog;
    html! {
        section id="catalog" aria-labelledby="catalog-title" {
            h2 id="catalog-title" { "Catalog " @if let Some(shown) = &catalog.shown { span.quiet { "version " (shown.version) } } }
            @if !catalog.missing.is_empty() { p.quiet { (catalog.missing) } }
            (versions(details))
            @if let Some(shown) = &catalog.shown { (changes(shown)) (tree(shown, details)) }
        }
    }
}

/// The list of versions, and the form that compares two of them.
fn versions(details: &ConnectionDetails) -> Markup {
    let versions = &details.catalog.versions;
    let shown = details.catalog.shown.as_ref();
    let option = |version: u32, is_chosen: bool| {
        html! { option value=(version) selected[is_chosen] { "version " (version) } }
    };
    html! {
        @if versions.len() > 1 {
            details id="catalog-versions" {
                summary { (counted(versions.len(), "version")) " of the catalog" }
                ul.plainlist {
                    @for one in versions {
                        li {
                            a href=(details.section_link("catalog", &[("version", &one.version.to_string())])) { "version " (one.version) }
                            " found " (parts::time(one.at)) span.quiet { ", " (counted(usize::try_from(one.streams).unwrap_or(usize::MAX), "stream")) ", " (totals(one.breaking, one.additive)) }
                        }
                    }
                }
            }
            form.filter method="get" action=(format!("{}{}#catalog", details.links.prefix, details.path())) {
                (hidden_fields(&details.links))
                label { "Compare " select name="from" { @for one in versions { (option(one.version, shown.and_then(|shown| shown.previous) == Some(one.version))) } } }
                label { " with " select name="version" { @for one in versions { (option(one.version, shown.map(|shown| shown.version) == Some(one.version))) } } }
                button type="submit" { "Compare" }
            }
        }
    }
}

fn changes(shown: &ShownCatalog) -> Markup {
    html! {
        @if let Some(previous) = shown.previous {
            div id="catalog-changes" {
                h3 { "From version " (previous) " to " (shown.version) ": " (totals(shown.breaking_total, shown.additive_total)) }
                @if !shown.changes.is_empty() {
                    ul.changes {
                        @for change in shown.changes.iter().take(MAX_CHANGES) {
                            li { @if change.breaking { span.bad { "✕ breaking " } } @else { span.good { "+ additive " } } (change.message) }
                        }
                        @let total = shown.breaking_total + shown.additive_total;
                        @let listed = shown.changes.len().min(MAX_CHANGES);
                        @if total > listed { li.quiet { "and " (total - listed) " more; GET /connections/{id}/drift lists them" } }
                    }
                }
                @if let Some(known) = &shown.acknowledged {
                    p.quiet { "Acknowledged by " (known.by) " at " (parts::time_text(&known.at)) @if !known.note.is_empty() { ": " (known.note) } }
                } @else if shown.breaking_total > 0 {
                    p.quiet { "Not acknowledged yet; aam drift acknowledge records that somebody took note." }
                }
            }
        }
    }
}

fn tree(shown: &ShownCatalog, details: &ConnectionDetails) -> Markup {
    html! {
        h3 { (counted(shown.total, "stream")) @if !shown.filter.is_empty() { ", " (shown.matching) " with “" (shown.filter) "”" } }
        @if shown.is_truncated { p.warn { "! Discovery reached a limit, so streams may be missing." } }
        @if shown.total > 1 { (filter(shown, details)) }
        ul.tree { @for stream in &shown.streams { (of_stream(stream, shown, details)) } }
        (pages(shown, details))
        (skipped(shown))
    }
}

fn filter(shown: &ShownCatalog, details: &ConnectionDetails) -> Markup {
    html! {
        form.filter method="get" action=(format!("{}{}#catalog", details.links.prefix, details.path())) {
            (hidden_fields(&details.links))
            input type="hidden" name="version" value=(shown.version);
            @if let Some(previous) = shown.previous { input type="hidden" name="from" value=(previous); }
            label { "Streams whose name contains " input type="text" name="stream" value=(shown.filter) maxlength="200"; }
            button type="submit" { "Filter" }
            @if !shown.filter.is_empty() { " " a href=(link(shown, details, "", 0)) { "All streams" } }
        }
    }
}

/// The address of the section with another filter or another first stream.
fn link(shown: &ShownCatalog, details: &ConnectionDetails, filter: &str, start: usize) -> String {
    let start = if start == 0 { String::new() } else { start.to_string() };
    let (version, from) = (shown.version.to_string(), shown.previous.map(|from| from.to_string()).unwrap_or_default());
    details.section_link("catalog", &[("version", &version), ("from", &from), ("stream", filter), ("skip", &start)])
}

fn pages(shown: &ShownCatalog, details: &ConnectionDetails) -> Markup {
    let end = shown.start + shown.streams.len();
    html! {
        @if shown.matching > 0 && (shown.start > 0 || end < shown.matching) {
            p {
                @if !shown.streams.is_empty() { "Streams " (shown.start + 1) " to " (end) " of " (shown.matching) ". " }
                @if shown.start > 0 { a href=(link(shown, details, &shown.filter, 0)) { "First streams" } " " }
                @if end < shown.matching { a href=(link(shown, details, &shown.filter, end)) { "Further streams" } }
            }
        }
    }
}

fn of_stream(stream: &StreamNode, shown: &ShownCatalog, details: &ConnectionDetails) -> Markup {
    html! {
        li {
            details id=(format!("stream-{}", stream.number)) open[shown.matching == 1] {
                summary {
                    code { (stream.name) }
                    span.quiet { " " (counted(stream.fields_total, "field")) @if let Some(rows) = stream.row_estimate { ", about " (rows) " rows" } }
                    @if !stream.change.is_empty() { " " span.tag { (stream.change) } }
                }
                p.quiet { "Primary key: " @if stream.key.is_empty() { "none" } @else { code { (stream.key) } } @if !stream.sync_modes.is_empty() { "; sync modes: " (stream.sync_modes) } }
                ul.fields {
                    @for field in &stream.fields {
                        li {
                            code { (field.name) } " " span.quiet { (field.types) }
                            @if field.is_key { " " span.tag { "key" } }
                            @if !field.change.is_empty() { " " span.tag { (field.change) } }
                        }
                    }
                    @if stream.fields.len() < stream.fields_total {
                        li.quiet { "and " (stream.fields_total - stream.fields.len()) " more; " a href=(link(shown, details, &stream.name, 0)) { "only this stream" } }
                    }
                }
            }
        }
    }
}

fn skipped(shown: &ShownCatalog) -> Markup {
    html! {
        @if shown.skipped_total > 0 {
            details id="catalog-skipped" {
                summary { (counted(shown.skipped_total, "stream")) " could not be described" }
                ul {
                    @for stream in &shown.skipped {
                        li { code { (stream.name) } " " (stream.reason) @if let Some(fix) = &stream.fix { (parts::fix(fix)) } }
                    }
                    @if shown.skipped.len() < shown.skipped_total { li.quiet { "and " (shown.skipped_total - shown.skipped.len()) " more" } }
                }
            }
        }
    }
}
