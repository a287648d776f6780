//! The typed source of a manifest: its streams, built as the CDK builds them.

use super::context::{Context, Run};
use super::dynamic;
use super::error::Failed;
use super::interpolation::InterpolatedBoolean;
use super::node::{field, items, kind, text};
use super::shared::RecordingHost;
use super::slicing::router::at_build;
use super::stream::{Stream, StreamOptions};
use super::value::Value;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// The streams of a manifest.
pub struct Source {
    /// Shared by the sources that one command builds, and with them the tokens that they got.
    pub streams: Vec<Arc<Stream>>,
    /// For each stream that a dynamic stream made: its name and the dynamic stream's.
    pub generated: Vec<(String, String)>,
}

impl Source {
    /// The static streams alone. No request is made.
    ///
    /// # Errors
    /// What the CDK raises when it builds a stream.
    pub fn build(ctx: &Context<'_>) -> Result<Source, Failed> {
        let nodes = static_nodes(ctx)?;
        Ok(Source { streams: build_all(&nodes, &nodes, &[], ctx)?, generated: Vec::new() })
    }

    /// All streams: the static ones and those that dynamic streams make, for which requests may be needed.
    ///
    /// # Errors
    /// What the CDK raises, and what a request fails with.
    pub async fn build_all(ctx: &Context<'_>, run: &Run<'_>) -> Result<Source, Failed> {
        Source::build_first(ctx, run, usize::MAX, &[]).await
    }

    /// The first `count` of all streams; the others are not built. What the same command has `built` of the static
    /// streams is taken as it is.
    ///
    /// # Errors
    /// As [`Source::build_all`].
    pub async fn build_first(ctx: &Context<'_>, run: &Run<'_>, count: usize, built: &[Arc<Stream>]) -> Result<Source, Failed> {
        let made = dynamic::nodes(ctx, run).await?;
        let mut nodes = static_nodes(ctx)?;
        nodes.extend(made.iter().map(|it| Node { value: Cow::Owned(it.node.clone()), place: None }));
        if nodes.len() > ctx.bounds.streams {
            return Err(Failed::bound("streams", ctx.bounds.streams));
        }
        let generated = made.iter().map(|it| (text(&it.node, "name").unwrap_or_default().to_owned(), it.of.clone())).collect();
        let chosen = nodes.get(..count.min(nodes.len())).unwrap_or_default();
        // Streams that are made may be children, and which streams have children decides what is kept of answers.
        let built = if made.is_empty() { built } else { &[] };
        Ok(Source { streams: build_all(chosen, &nodes, built, ctx)?, generated })
    }

    /// The static streams called by `names`; None where one of them is no static stream.
    ///
    /// # Errors
    /// As [`Source::build`].
    pub fn build_named(ctx: &Context<'_>, names: &[String]) -> Result<Option<Source>, Failed> {
        let nodes = static_nodes(ctx)?;
        let known: HashSet<&str> = nodes.iter().filter_map(|it| text(&it.value, "name")).collect();
        if names.is_empty() || names.iter().any(|name| !known.contains(name.as_str())) {
            return Ok(None);
        }
        let wanted = |node: &&Node<'_>| text(&node.value, "name").is_some_and(|it| names.iter().any(|name| name == it));
        let chosen: Vec<_> = nodes.iter().filter(wanted).cloned().collect();
        Ok(Some(Source { streams: build_all(&chosen, &nodes, &[], ctx)?, generated: Vec::new() }))
    }

    /// The stream called `name`; of several the last, as in the dict there.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().rev().find(|stream| stream.name == name).map(|stream| &**stream)
    }
}

/// The component of a stream.
#[derive(Clone)]
struct Node<'a> {
    value: Cow<'a, Value>,
    /// Its place among the static streams of the manifest, where it stands there for every config.
    place: Option<usize>,
}

/// The components of the static streams, those of ConditionalStreams that hold included.
fn static_nodes<'a>(ctx: &Context<'a>) -> Result<Vec<Node<'a>>, Failed> {
    let mut nodes = Vec::new();
    for (place, node) in items(ctx.manifest, "streams").iter().enumerate() {
        if kind(node) != "ConditionalStreams" {
            nodes.push(Node { value: Cow::Borrowed(node), place: Some(place) });
            continue;
        }
        let condition = InterpolatedBoolean::new(text(node, "condition").unwrap_or_default(), &Value::None);
        if condition.eval(&at_build(ctx).scope(Vec::new()))? {
            nodes.extend(items(node, "streams").iter().map(|it| Node { value: Cow::Borrowed(it), place: None }));
        }
    }
    Ok(nodes)
}

fn build_all(
    chosen: &[Node<'_>],
    all: &[Node<'_>],
    built: &[Arc<Stream>],
    ctx: &Context<'_>,
) -> Result<Vec<Arc<Stream>>, Failed> {
    let mut parents = HashSet::new();
    for node in all {
        collect_parents(field(field(&node.value, "retriever"), "partition_router"), &mut parents, 0);
    }
    let known = |name: &str| {
        let alone = all.iter().filter(|node| text(&node.value, "name") == Some(name)).take(2).count() == 1;
        built.iter().find(|stream| alone && stream.name == name)
    };
    let build = |node: &Node<'_>| {
        let name = text(&node.value, "name");
        if let Some(stream) = name.and_then(known) {
            return Ok(Arc::clone(stream));
        }
        let use_cache = name.is_some_and(|name| parents.contains(name));
        build_one(node, use_cache, ctx)
    };
    chosen.iter().map(build).collect()
}

/// Takes the stream that another source of the manifest built, where that may be shared.
fn build_one(node: &Node<'_>, use_cache: bool, ctx: &Context<'_>) -> Result<Arc<Stream>, Failed> {
    let options = StreamOptions { use_cache, depth: 0 };
    let (Some(shared), Some(place)) = (ctx.shared, node.place) else {
        return Stream::build(&node.value, options, ctx).map(Arc::new);
    };
    if let Some(stream) = shared.get((place, use_cache)) {
        return Ok(stream);
    }
    let noting = RecordingHost::new(ctx.host);
    let stream = Arc::new(Stream::build(&node.value, options, &ctx.noted(&noting))?);
    shared.offer((place, use_cache), &stream, &noting);
    Ok(stream)
}

/// The names of the streams that a partition router reads: their answers are kept (`_initialize_cache_for_parent_streams`).
fn collect_parents<'v>(router: &'v Value, names: &mut HashSet<&'v str>, depth: usize) {
    if depth > 20 {
        return;
    }
    if let Value::List(list) = router {
        list.iter().for_each(|it| collect_parents(it, names, depth + 1));
        return;
    }
    names.extend(items(router, "parent_stream_configs").iter().filter_map(|it| text(field(it, "stream"), "name")));
    items(router, "partition_routers").iter().for_each(|it| collect_parents(it, names, depth + 1));
    if router.get("underlying_partition_router").is_some() {
        collect_parents(field(router, "underlying_partition_router"), names, depth + 1);
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
