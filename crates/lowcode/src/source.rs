//! The streams of a manifest, built in the same way as in the CDK.

use super::bounds::Bounds;
use super::context::{Context, Run};
use super::dynamic;
use super::error::Failed;
use super::host::Host;
use super::interpolation::InterpolatedBoolean;
use super::load::Manifest;
use super::node::{field, items, kind, set_field, text, walk};
use super::recording::RecordingHost;
use super::shared::SharedStreams;
use super::stream::{Stream, StreamOptions};
use super::value::Value;
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;

/// The streams of a manifest.
pub struct Source {
    /// The streams. All sources that one command builds share them, and therefore also the tokens that they have fetched.
    pub streams: Vec<Arc<Stream>>,
    /// The generated streams: for each, its name and the name of its dynamic stream.
    pub generated: Vec<(String, String)>,
}

impl Source {
    /// Returns the stream called `name`. If there are several, the last one is returned, as in the CDK's dict.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().rev().find(|stream| stream.name == name).map(|stream| &**stream)
    }
}

/// A manifest that many connections read. They share the streams that cannot contain anything that belongs to one connection.
#[derive(Debug)]
pub struct SharedManifest {
    manifest: Manifest,
    streams: SharedStreams,
}

impl SharedManifest {
    #[must_use]
    pub fn new(manifest: Manifest) -> SharedManifest {
        SharedManifest { manifest, streams: SharedStreams::default() }
    }

    /// Returns the context from which the source of one connection is built.
    #[must_use]
    pub fn context<'a>(&'a self, config: &'a Value, host: &'a dyn Host, bounds: &'a Bounds) -> Context<'a> {
        Context::new(&self.manifest.root, config, host, bounds)
    }

    /// Returns a builder of sources. Its `context` must have been created for this manifest.
    #[must_use]
    pub fn builder<'a>(&'a self, context: Context<'a>) -> SourceBuilder<'a> {
        SourceBuilder { ctx: context, shared: Some(&self.streams) }
    }

    /// Whether reading the static streams called `names` concurrently makes the same requests as reading them one
    /// after the other, with a host that sends equal requests of a run only once: streams may then share the requests of
    /// a parent or a schema. It is not the case if one of them is not static, if a token is requested for each stream, or
    /// if the manifest limits the rate of its requests.
    #[must_use]
    pub fn reads_are_independent<'n>(&self, config: &Value, names: impl IntoIterator<Item = &'n str>) -> bool {
        let root = &self.manifest.root;
        let independent = |name: &str| {
            let mut nodes = items(root, "streams").iter().filter(|node| text(node, "name") == Some(name)).peekable();
            nodes.peek().is_some() && nodes.all(|node| !repeats_requests(node, config))
        };
        set_field(root, "api_budget").is_none() && names.into_iter().all(independent)
    }
}

/// Components that would make more requests if streams with them were read at the same time. A login with a lifetime is
/// not one of them, because the run shares its token.
const REPEATED_REQUESTS: [&str; 4] =
    ["AsyncRetriever", "LegacySessionTokenAuthenticator", "OAuthAuthenticator", "RateLimitedMultipleTokenAuthenticator"];

/// Whether `node` contains one of these components, ignoring the authenticators that `config` does not select.
fn repeats_requests(node: &Value, config: &Value) -> bool {
    match node {
        Value::List(list) => list.iter().any(|item| repeats_requests(item, config)),
        Value::Dict(dict) => match kind(node) {
            kind if REPEATED_REQUESTS.contains(&kind) => true,
            "SessionTokenAuthenticator" if field(node, "expiration_duration").is_none() => true,
            "SelectiveAuthenticator" => {
                let path = items(node, "authenticator_selection_path").iter().map(Value::to_str);
                let selected = walk(config, path).map(Value::to_str).unwrap_or_default();
                field(node, "authenticators").get(&selected).is_none_or(|chosen| repeats_requests(chosen, config))
            }
            _ => dict.values().any(|value| repeats_requests(value, config)),
        },
        _ => false,
    }
}

impl Deref for SharedManifest {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

/// Builds sources.
#[derive(Clone, Copy)]
pub struct SourceBuilder<'a> {
    ctx: Context<'a>,
    shared: Option<&'a SharedStreams>,
}

impl<'a> SourceBuilder<'a> {
    /// Returns a builder whose sources share nothing with those of other builders.
    #[must_use]
    pub fn new(ctx: Context<'a>) -> SourceBuilder<'a> {
        SourceBuilder { ctx, shared: None }
    }

    /// Builds only the static streams. This makes no requests.
    ///
    /// # Errors
    /// Fails with the error that the CDK raises when it builds a stream.
    pub fn static_streams(&self) -> Result<Source, Failed> {
        let nodes = self.static_nodes()?;
        Ok(Source { streams: self.build_all(&nodes, &nodes, &[])?, generated: Vec::new() })
    }

    /// Builds all streams: the static ones, and those that dynamic streams generate. The latter may require requests.
    ///
    /// # Errors
    /// Fails with the error that the CDK raises when it builds a stream, or if a request fails.
    pub async fn all_streams(&self, run: &Run<'_>) -> Result<Source, Failed> {
        self.first_streams(run, usize::MAX, &[]).await
    }

    /// Builds the first `count` of all streams. Static streams that the same command has already `built` are reused.
    ///
    /// # Errors
    /// Fails like [`SourceBuilder::all_streams`].
    pub async fn first_streams(&self, run: &Run<'_>, count: usize, built: &[Arc<Stream>]) -> Result<Source, Failed> {
        let made = dynamic::nodes(&self.ctx, run).await?;
        let mut nodes = self.static_nodes()?;
        nodes.extend(made.iter().map(|it| Node { value: Cow::Owned(it.node.clone()), index: None }));
        if nodes.len() > self.ctx.bounds.streams {
            return Err(Failed::bound("streams", self.ctx.bounds.streams));
        }
        let generated = made.iter().map(|it| (text(&it.node, "name").unwrap_or_default().to_owned(), it.of.clone())).collect();
        let chosen = nodes.get(..count.min(nodes.len())).unwrap_or_default();
        // Generated streams may be children, and responses are cached only for streams that have children.
        let built = if made.is_empty() { built } else { &[] };
        Ok(Source { streams: self.build_all(chosen, &nodes, built)?, generated })
    }

    /// Builds those of the generated streams that `choose` selects: it receives the names of all of them and returns the
    /// indexes of those to build, in the order of the result. Also returns how many streams there are in all.
    ///
    /// # Errors
    /// Fails like [`SourceBuilder::all_streams`].
    pub async fn generated_streams(
        &self,
        run: &Run<'_>,
        choose: &(dyn Fn(&[&str]) -> Vec<usize> + Sync),
    ) -> Result<(Source, usize), Failed> {
        let made = dynamic::nodes(&self.ctx, run).await?;
        let names: Vec<&str> = made.iter().map(|it| text(&it.node, "name").unwrap_or_default()).collect();
        let chosen: Vec<&dynamic::Made> = choose(&names).into_iter().filter_map(|index| made.get(index)).collect();
        let nodes: Vec<_> = chosen.iter().map(|it| Node { value: Cow::Borrowed(&it.node), index: None }).collect();
        let generated = chosen.iter().map(|it| (text(&it.node, "name").unwrap_or_default().to_owned(), it.of.clone())).collect();
        Ok((Source { streams: self.build_all(&nodes, &nodes, &[])?, generated }, made.len()))
    }

    /// Builds the static streams called by `names`. Returns `None` if one of them is not a static stream.
    ///
    /// # Errors
    /// Fails like [`SourceBuilder::static_streams`].
    pub fn named_streams(&self, names: &[String]) -> Result<Option<Source>, Failed> {
        let nodes = self.static_nodes()?;
        let known: HashSet<&str> = nodes.iter().filter_map(|it| text(&it.value, "name")).collect();
        if names.is_empty() || names.iter().any(|name| !known.contains(name.as_str())) {
            return Ok(None);
        }
        let wanted = |node: &&Node<'_>| text(&node.value, "name").is_some_and(|it| names.iter().any(|name| name == it));
        let chosen: Vec<_> = nodes.iter().filter(wanted).cloned().collect();
        Ok(Some(Source { streams: self.build_all(&chosen, &nodes, &[])?, generated: Vec::new() }))
    }

    /// Returns the components of the static streams, including those of ConditionalStreams whose condition is true.
    fn static_nodes(&self) -> Result<Vec<Node<'a>>, Failed> {
        let mut nodes = Vec::new();
        for (index, node) in items(self.ctx.manifest, "streams").iter().enumerate() {
            if kind(node) != "ConditionalStreams" {
                nodes.push(Node { value: Cow::Borrowed(node), index: Some(index) });
                continue;
            }
            let condition = InterpolatedBoolean::new(text(node, "condition").unwrap_or_default(), &Value::None);
            if condition.eval(&self.ctx.eval_context().scope(Vec::new()))? {
                nodes.extend(items(node, "streams").iter().map(|it| Node { value: Cow::Borrowed(it), index: None }));
            }
        }
        Ok(nodes)
    }

    fn build_all(&self, chosen: &[Node<'_>], all: &[Node<'_>], built: &[Arc<Stream>]) -> Result<Vec<Arc<Stream>>, Failed> {
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
            self.build_one(node, use_cache)
        };
        chosen.iter().map(build).collect()
    }

    /// Reuses the stream that another source of this manifest built, if that stream is shared.
    fn build_one(&self, node: &Node<'_>, use_cache: bool) -> Result<Arc<Stream>, Failed> {
        let options = StreamOptions { use_cache, depth: 0 };
        let (Some(shared), Some(index)) = (self.shared, node.index) else {
            return Stream::build(&node.value, options, &self.ctx).map(Arc::new);
        };
        if let Some(stream) = shared.get((index, use_cache)) {
            return Ok(stream);
        }
        let recording = RecordingHost::new(self.ctx.host);
        let stream = Arc::new(Stream::build(&node.value, options, &self.ctx.recorded(&recording))?);
        shared.offer((index, use_cache), &stream, &recording);
        Ok(stream)
    }
}

/// The component of a stream.
#[derive(Clone)]
struct Node<'a> {
    value: Cow<'a, Value>,
    /// Its index among the static streams of the manifest, if that index is the same for every config.
    index: Option<usize>,
}

/// Returns the names of the streams that a partition router reads. Their responses are cached
/// (`_initialize_cache_for_parent_streams`).
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

#[cfg(test)]
#[path = "source_shared_tests.rs"]
mod shared_tests;
