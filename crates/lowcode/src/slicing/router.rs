//! Partition routers, which determine the partitions of a stream.

use super::substream::{BuildParent, ParentSlices, Substream};
use crate::context::{Context, EvalContext, Run};
use crate::error::Failed;
use crate::interpolation::{InterpolatedBoolean, InterpolatedString};
use crate::node::{field, items, kind, pair, parameters, set_field, text};
use crate::request::option::{OptionPlace, RequestOption};
use crate::slice::Slice;
use crate::value::{Dict, Value};
use futures_util::future::BoxFuture;

/// A partition router.
pub enum Router {
    Single,
    List(ListRouter),
    Substream(Substream),
    /// All combinations of the routers' partitions.
    Product(Vec<Router>),
    Grouping(Grouping),
    Union {
        routers: Vec<Router>,
        partition_field: String,
    },
}

/// `ListPartitionRouter`: one partition for each given value.
pub struct ListRouter {
    /// A list, or any other value that a template evaluated to.
    values: Value,
    field: InterpolatedString,
    option: Option<RequestOption>,
}

/// `GroupingPartitionRouter`: combines several partitions of another router into one.
pub struct Grouping {
    router: Box<Router>,
    size: usize,
    deduplicate: bool,
}

impl Router {
    /// Whether reading stores nothing in the router. This is required in a stream that connections share.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        match self {
            Router::Single | Router::List(_) => true,
            Router::Substream(substream) => substream.keeps_nothing(),
            Router::Product(routers) | Router::Union { routers, .. } => routers.iter().all(Router::keeps_nothing),
            Router::Grouping(grouping) => grouping.router.keeps_nothing(),
        }
    }

    /// Builds the `partition_router` of a retriever: none, one, or a list of them. `parent` builds the parent streams.
    ///
    /// # Errors
    /// Fails with the error that the CDK raises when it builds the component, or if this engine does not know the component.
    pub fn build(node: &Value, ctx: &Context<'_>, depth: usize, parent: BuildParent) -> Result<Router, Failed> {
        let build = |node: &Value| Router::build(node, ctx, depth + 1, parent);
        if depth > ctx.bounds.depth {
            return Err(Failed::bound("nested partition routers", ctx.bounds.depth));
        }
        if let Value::List(list) = node {
            return match list.is_empty() {
                true => Ok(Router::Single),
                false => Ok(Router::Product(list.iter().map(build).collect::<Result<_, _>>()?)),
            };
        }
        match kind(node) {
            "" => Ok(Router::Single),
            "ListPartitionRouter" => Ok(Router::List(ListRouter::build(node, ctx)?)),
            "SubstreamPartitionRouter" => match chosen(node, ctx)? {
                Some(router) => Ok(router),
                None => Ok(Router::Substream(Substream::build(node, ctx, depth, parent)?)),
            },
            "GroupingPartitionRouter" => Grouping::build(node, ctx, depth, parent).map(Router::Grouping),
            "UnionPartitionRouter" => {
                let routers = items(node, "partition_routers").iter().map(build).collect::<Result<Vec<_>, _>>()?;
                let at = ctx.eval_context();
                let name = InterpolatedString::new(text(node, "partition_field").unwrap_or_default(), parameters(node));
                let partition_field = name.eval_str(&at.scope(Vec::new()))?;
                for router in &routers {
                    router.refuse_options("UnionPartitionRouter")?;
                    router.refuse_other_field(&partition_field, &at)?;
                }
                Ok(Router::Union { routers, partition_field })
            }
            other => Err(Failed::config("UnsupportedComponent", format!("partition router {other} is not supported"))),
        }
    }

    fn refuse_options(&self, whose: &str) -> Result<(), Failed> {
        let has = match self {
            Router::List(list) => list.option.is_some(),
            Router::Substream(substream) => substream.has_options(),
            _ => false,
        };
        match has {
            true => Err(Failed::system("ValueError", format!("Request options are not supported for {whose}."))),
            false => Ok(()),
        }
    }

    fn refuse_other_field(&self, name: &str, at: &EvalContext<'_>) -> Result<(), Failed> {
        let fields = match self {
            Router::List(list) => vec![list.field.eval_str(&at.scope(Vec::new()))?],
            Router::Substream(substream) => substream.partition_fields(at)?,
            Router::Union { partition_field, .. } => vec![partition_field.clone()],
            _ => Vec::new(),
        };
        match fields.into_iter().find(|it| it != name) {
            None => Ok(()),
            Some(other) => {
                let message = format!(
                    "UnionPartitionRouter expects all child partition routers to emit the partition field '{name}', \
                     but a child emits '{other}'."
                );
                Err(Failed::system("ValueError", message))
            }
        }
    }

    /// Whether the stream is not divided into partitions.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(self, Router::Single)
    }

    /// Returns what the partition adds to a request.
    ///
    /// # Errors
    /// Fails if a template fails.
    pub fn options(&self, place: OptionPlace, slice: &Slice, at: &EvalContext<'_>) -> Result<Dict, Failed> {
        match self {
            Router::Single | Router::Grouping(_) | Router::Union { .. } => Ok(Dict::default()),
            Router::List(list) => list.options(place, slice, at),
            Router::Substream(substream) => substream.options(place, slice, at),
            Router::Product(routers) => {
                // The first router takes precedence (ChainMap).
                let mut options = Dict::default();
                for router in routers.iter().rev() {
                    options.extend(router.options(place, slice, at)?);
                }
                Ok(options)
            }
        }
    }

    /// Returns the partitions, which are produced one at a time.
    ///
    /// # Errors
    /// Fails if the values of a list router cannot be iterated over.
    pub fn slices<'r>(&'r self, run: &'r Run<'r>) -> Result<Partitions<'r>, Failed> {
        Ok(match self {
            Router::Single => Partitions::Ready(vec![Slice::empty()].into_iter()),
            Router::List(list) => Partitions::Ready(list.slices(run)?.into_iter()),
            Router::Substream(substream) => Partitions::Parents(Box::new(substream.slices(run))),
            Router::Product(routers) => Partitions::Product { routers, run, ready: None },
            Router::Grouping(grouping) => {
                Partitions::Group { grouping, inner: Box::new(grouping.router.slices(run)?), seen: Vec::new(), done: false }
            }
            Router::Union { routers, partition_field } => {
                Partitions::Union { rest: routers.iter(), run, field: partition_field, inner: None, seen: Vec::new() }
            }
        })
    }
}

/// Returns the router that takes the place of a substream router with this config. With `aam_values`, a template of a list
/// that is not empty, the values of the list are the partitions. With `aam_condition`, a template that is false, the stream is
/// not divided. Only this engine has these fields.
fn chosen(node: &Value, ctx: &Context<'_>) -> Result<Option<Router>, Failed> {
    let at = ctx.eval_context();
    if let Some(condition) = text(node, "aam_condition")
        && !InterpolatedBoolean::new(condition, parameters(node)).eval(&at.scope(Vec::new()))?
    {
        return Ok(Some(Router::Single));
    }
    let Some(values) = text(node, "aam_values") else { return Ok(None) };
    let values = InterpolatedString::new(values, parameters(node)).eval(&at.scope(Vec::new()), &[])?;
    let values = match values {
        Value::List(list) => list,
        one if one.truthy() => vec![one],
        _ => Vec::new(),
    };
    let Some(first) = items(node, "parent_stream_configs").first().filter(|_| !values.is_empty()) else { return Ok(None) };
    Ok(Some(Router::List(ListRouter {
        values: Value::List(values),
        field: InterpolatedString::new(text(first, "partition_field").unwrap_or_default(), parameters(first)),
        option: set_field(first, "request_option").map(|it| RequestOption::build(it, &Value::None)).transpose()?,
    })))
}

impl ListRouter {
    fn build(node: &Value, ctx: &Context<'_>) -> Result<ListRouter, Failed> {
        let values = match field(node, "values") {
            Value::Str(text) => {
                InterpolatedString::new(text, parameters(node)).eval(&ctx.eval_context().scope(Vec::new()), &[])?
            }
            other => other.clone(),
        };
        Ok(ListRouter {
            values,
            field: InterpolatedString::new(text(node, "cursor_field").unwrap_or_default(), parameters(node)),
            option: set_field(node, "request_option").map(|it| RequestOption::build(it, &Value::None)).transpose()?,
        })
    }

    fn options(&self, place: OptionPlace, slice: &Slice, at: &EvalContext<'_>) -> Result<Dict, Failed> {
        let mut options = Dict::default();
        if let Some(option) = self.option.as_ref().filter(|it| it.place == place) {
            let scope = at.scope(Vec::new());
            if let Some(value) = slice.partition.get(&self.field.eval_str(&scope)?).filter(|it| it.truthy()) {
                option.inject(&mut options, value.clone(), &scope)?;
            }
        }
        Ok(options)
    }

    fn slices(&self, run: &Run<'_>) -> Result<Vec<Slice>, Failed> {
        let at = run.eval_context(None);
        let values: Vec<Value> = match &self.values {
            Value::List(list) => list.clone(),
            // Python iterates over whatever value the template evaluated to.
            Value::Str(text) => text.chars().map(|char| Value::from(char.to_string())).collect(),
            Value::Dict(dict) => dict.keys().map(|key| Value::Str(key.clone())).collect(),
            other => return Err(Failed::system("TypeError", format!("'{}' object is not iterable", other.type_name()))),
        };
        let one = |value: Value| {
            let name = self.field.eval_str(&at.scope(Vec::new()))?;
            Slice::new(pair(name, value), Dict::default(), Dict::default())
        };
        values.into_iter().map(one).collect()
    }
}

impl Grouping {
    fn build(node: &Value, ctx: &Context<'_>, depth: usize, parent: BuildParent) -> Result<Grouping, Failed> {
        let router = Router::build(field(node, "underlying_partition_router"), ctx, depth + 1, parent)?;
        let size = field(node, "group_size").as_i64().unwrap_or(0);
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size > 0)
            .ok_or_else(|| Failed::system("ValueError", format!("Group size must be greater than 0, got {size}")))?;
        router.refuse_options("GroupingPartitionRouter")?;
        Ok(Grouping { router: Box::new(router), size, deduplicate: field(node, "deduplicate").as_bool().unwrap_or(true) })
    }

    fn group(batch: &[Slice]) -> Result<Option<Slice>, Failed> {
        let Some(first) = batch.first() else { return Ok(None) };
        let column = |of: &dyn Fn(&Slice) -> Value, keys: Vec<std::sync::Arc<str>>| -> Dict {
            let get = |key: &str| batch.iter().map(|it| of(it).get(key).cloned().unwrap_or_default()).collect();
            keys.into_iter().map(|key| (key.clone(), Value::List(get(&key)))).collect()
        };
        let keys = |value: &Value| value.as_dict().map(|it| it.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        let mut extra: Vec<_> = batch.iter().flat_map(|it| keys(&it.extra_fields)).collect();
        extra.sort();
        extra.dedup();
        let partition = column(&|it| it.partition.clone(), keys(&first.partition));
        Slice::new(partition, Dict::default(), column(&|it| it.extra_fields.clone(), extra)).map(Some)
    }
}

/// The remaining partitions.
pub enum Partitions<'r> {
    Ready(std::vec::IntoIter<Slice>),
    Parents(Box<ParentSlices<'r>>),
    Product {
        routers: &'r [Router],
        run: &'r Run<'r>,
        ready: Option<Product>,
    },
    Group {
        grouping: &'r Grouping,
        inner: Box<Partitions<'r>>,
        seen: Vec<Value>,
        done: bool,
    },
    Union {
        rest: std::slice::Iter<'r, Router>,
        run: &'r Run<'r>,
        field: &'r str,
        inner: Option<Box<Partitions<'r>>>,
        seen: Vec<Value>,
    },
}

/// The slices of each router, and the position of the next combination.
pub struct Product {
    slices: Vec<Vec<Slice>>,
    at: Option<Vec<usize>>,
}

impl<'r> Partitions<'r> {
    /// Returns the next partition.
    ///
    /// # Errors
    /// Fails if reading a parent fails, or if a bound is reached.
    pub fn next(&mut self) -> BoxFuture<'_, Result<Option<Slice>, Failed>> {
        // The future is boxed because routers can contain routers.
        Box::pin(async move {
            match self {
                Partitions::Ready(slices) => Ok(slices.next()),
                Partitions::Parents(slices) => slices.next().await,
                Partitions::Product { routers, run, ready } => {
                    if ready.is_none() {
                        *ready = Some(Product::collect(routers, run).await?);
                    }
                    ready.as_mut().map_or(Ok(None), Product::next)
                }
                Partitions::Group { grouping, inner, seen, done } => next_group(grouping, inner, seen, done).await,
                Partitions::Union { rest, run, field, inner, seen } => loop {
                    if inner.is_none() {
                        match rest.next() {
                            Some(router) => *inner = Some(Box::new(router.slices(run)?)),
                            None => return Ok(None),
                        }
                    }
                    let Some(slices) = inner else { return Ok(None) };
                    match slices.next().await? {
                        None => *inner = None,
                        Some(slice) => {
                            if let Some(slice) = united(slice, field, seen)? {
                                return Ok(Some(slice));
                            }
                        }
                    }
                },
            }
        })
    }
}

/// Returns a partition with only `field`; the other fields become extra fields. Returns `None` if its value occurred before.
fn united(slice: Slice, field: &str, seen: &mut Vec<Value>) -> Result<Option<Slice>, Failed> {
    let mut rest = slice.partition.as_dict().cloned().unwrap_or_default();
    let Some(value) = rest.shift_remove(field) else {
        let message = format!(
            "UnionPartitionRouter expects all child partition routers to emit the partition field '{field}'. Got {}",
            slice.partition.repr()
        );
        return Err(Failed::system("ValueError", message));
    };
    if matches!(value, Value::List(_) | Value::Dict(_)) {
        let message = "UnionPartitionRouter can only deduplicate hashable partition values.";
        return Err(Failed::system("ValueError", message));
    }
    if seen.contains(&value) {
        return Ok(None);
    }
    seen.push(value.clone());
    let mut extra = slice.extra_fields.as_dict().cloned().unwrap_or_default();
    extra.extend(rest);
    Slice::new(pair(field, value), Dict::default(), extra).map(Some)
}

async fn next_group(
    grouping: &Grouping,
    inner: &mut Partitions<'_>,
    seen: &mut Vec<Value>,
    done: &mut bool,
) -> Result<Option<Slice>, Failed> {
    let mut batch = Vec::new();
    while !*done && batch.len() < grouping.size {
        let Some(slice) = inner.next().await? else {
            *done = true;
            break;
        };
        let keys: Vec<_> =
            slice.partition.as_dict().map(|it| it.keys().filter(|key| &***key != "parent_slice").collect()).unwrap_or_default();
        let [key] = keys.as_slice() else {
            let message = "GroupingPartitionRouter expects a single partition key-value pair.";
            return Err(Failed::system("ValueError", format!("{message} Got {}", slice.partition.repr())));
        };
        let value = slice.partition.get(key).cloned().unwrap_or_default();
        if grouping.deduplicate {
            if seen.contains(&value) {
                continue;
            }
            seen.push(value);
        }
        batch.push(slice);
    }
    Grouping::group(&batch)
}

impl Product {
    /// `itertools.product` reads all routers to the end before it returns its first combination.
    async fn collect(routers: &[Router], run: &Run<'_>) -> Result<Product, Failed> {
        let mut slices = Vec::with_capacity(routers.len());
        for router in routers {
            let mut of_router = Vec::new();
            let mut partitions = router.slices(run)?;
            while let Some(slice) = partitions.next().await? {
                of_router.push(slice);
                if of_router.len() > run.bounds.slices.max(10_000) {
                    return Err(Failed::bound("slices", run.bounds.slices.max(10_000)));
                }
            }
            slices.push(of_router);
        }
        let at = slices.iter().all(|it| !it.is_empty()).then(|| vec![0; slices.len()]);
        Ok(Product { slices, at })
    }

    fn next(&mut self) -> Result<Option<Slice>, Failed> {
        let Some(at) = &mut self.at else { return Ok(None) };
        let (mut partition, mut extra) = (Dict::default(), Dict::default());
        // Iterates from the last router to the first, so that the first takes precedence (ChainMap).
        for (slices, index) in self.slices.iter().zip(at.iter()).rev() {
            let Some(slice) = slices.get(*index) else { return Ok(None) };
            partition.extend(slice.partition.as_dict().cloned().unwrap_or_default());
            extra.extend(slice.extra_fields.as_dict().cloned().unwrap_or_default());
        }
        let mut over = true;
        for (slices, index) in self.slices.iter().zip(at.iter_mut()).rev() {
            *index += 1;
            if *index < slices.len() {
                over = false;
                break;
            }
            *index = 0;
        }
        if over {
            self.at = None;
        }
        Slice::new(partition, Dict::default(), extra).map(Some)
    }
}
