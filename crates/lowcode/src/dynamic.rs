//! Streams that a resolver generates from a template (`dynamic_streams`).

use super::context::{Context, EvalContext, Run};
use super::error::Failed;
use super::extraction::dpath;
use super::extraction::transform::{eval_path, path_of, value_types};
use super::interpolation::{InterpolatedBoolean, InterpolatedString, PyType, Scope, source_text};
use super::node::{field, flag, items, kind, parameters, set_field, text};
use super::parameters::propagate;
use super::refused;
use super::retriever::{Retriever, RetrieverOptions};
use super::slice::Slice;
use super::slicing::{Router, SlicerOptions};
use super::stream;
use super::value::{Dict, Value};
use super::yaml;
use std::collections::HashSet;
use std::sync::Arc;

/// A generated stream.
pub struct Made {
    pub node: Value,
    /// The name of the dynamic stream that generated it.
    pub of: String,
}

/// Returns all streams that the dynamic streams of the manifest generate.
///
/// # Errors
/// Fails if a request or a template of a resolver fails, or if two streams have the same name.
pub async fn nodes(ctx: &Context<'_>, run: &Run<'_>) -> Result<Vec<Made>, Failed> {
    let mut all: Vec<Made> = Vec::new();
    let mut names = HashSet::new();
    for (at, definition) in items(ctx.manifest, "dynamic_streams").iter().enumerate() {
        if refused::is_marked(definition) {
            continue;
        }
        let of = text(definition, "name").map_or_else(|| format!("dynamic_stream_{at}"), str::to_owned);
        let resolver = field(definition, "components_resolver");
        let template = field(definition, "stream_template");
        let parent_wins = field(definition, "use_parent_parameters").as_bool().unwrap_or(true);
        let made = match kind(resolver) {
            "HttpComponentsResolver" => over_http(resolver, template, text(definition, "name"), ctx, run).await?,
            "ConfigComponentsResolver" => over_values(resolver, template, config_values(resolver, ctx)?, ctx)?,
            "ParametrizedComponentsResolver" => {
                let values = items(field(resolver, "stream_parameters"), "list_of_parameters_for_stream").to_vec();
                over_values(resolver, template, values, ctx)?
            }
            other => return Err(Failed::config("UnsupportedComponent", format!("components resolver {other} is not supported"))),
        };
        for node in made {
            let node = complete(node, parent_wins, ctx)?;
            let name = text(&node, "name").map(str::to_owned).ok_or_else(|| {
                let message = format!("Expected stream name {} to be a string.", field(&node, "name").to_str());
                Failed::system("ValueError", message)
            })?;
            if !names.insert(name.clone()) {
                return Err(twice(&name, kind(resolver)));
            }
            if all.len() >= ctx.bounds.streams {
                return Err(Failed::bound("streams", ctx.bounds.streams));
            }
            all.push(Made { node, of: of.clone() });
        }
    }
    Ok(all)
}

fn twice(name: &str, resolver: &str) -> Failed {
    let start = format!("Dynamic streams list contains a duplicate name: {name}.");
    let mut failed = match resolver {
        "ConfigComponentsResolver" => {
            Failed::config("AirbyteTracedException", format!("{start} Please check your configuration."))
        }
        _ => Failed::system("AirbyteTracedException", format!("{start} Please contact Airbyte Support.")),
    };
    failed.internal = Some(failed.message.clone());
    failed
}

/// Propagates types and parameters again, because the resolver may have inserted components.
fn complete(node: Value, parent_wins: bool, ctx: &Context<'_>) -> Result<Value, Failed> {
    let Value::Dict(dict) = node else {
        return Err(Failed::system("AttributeError", format!("'{}' object has no attribute 'get'", node.type_name())));
    };
    let mut dict = propagate(dict, ("", ""), &Dict::default(), parent_wins, ctx.bounds)
        .map_err(|problem| Failed::config("ValueError", problem.to_string()))?;
    dict.entry("type".into()).or_insert_with(|| Value::str("DeclarativeStream"));
    Ok(Value::Dict(dict))
}

/// `ComponentMappingDefinition`: inserts one value at one path of the template.
struct Mapping {
    path: Vec<InterpolatedString>,
    value: InterpolatedString,
    types: Vec<PyType>,
    create: bool,
    condition: Option<InterpolatedBoolean>,
}

impl Mapping {
    fn build_all(resolver: &Value) -> Vec<Mapping> {
        let condition = |node: &Value| {
            let text = text(node, "condition").filter(|it| !it.is_empty())?;
            Some(InterpolatedBoolean::new(text, parameters(resolver)))
        };
        let one = |node: &Value| Mapping {
            path: path_of(node, "field_path", parameters(node)),
            value: InterpolatedString::new(&field(node, "value").to_str(), parameters(node)),
            types: value_types(node),
            create: flag(node, "create_or_update"),
            condition: condition(node),
        };
        items(resolver, "components_mapping").iter().map(one).collect()
    }

    /// Inserts the value into `node`. With `as_yaml`, the value is parsed as YAML and missing keys of the path may be created.
    fn apply(
        &self,
        node: &mut Value,
        template: &Value,
        values: &Value,
        at: &EvalContext<'_>,
        as_yaml: bool,
    ) -> Result<(), Failed> {
        let scope = at.scope_of_slice(vec![("stream_template_config", template), ("components_values", values)]);
        if let Some(condition) = &self.condition
            && !condition.eval(&scope)?
        {
            return Ok(());
        }
        if at.bounds.plain_texts && !as_yaml {
            return self.apply_plain(node, &scope);
        }
        let mut value = self.value.eval(&scope, &self.types)?;
        let path = eval_path(&self.path, &scope)?;
        if let (true, Value::Str(text)) = (as_yaml && self.types != [PyType::Str], &value)
            && let Ok(parsed) = yaml::parse(text, at.bounds, false)
        {
            value = parsed.value;
        }
        let count = dpath::set(node, &path, &value)?;
        if as_yaml && count == 0 && self.create && value.truthy() {
            dpath::new(node, &path, value, 10_000)?;
        }
        Ok(())
    }
}

/// What the value of a mapping becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Name,
    /// The path of a request.
    Path,
    /// A value of a query, a header or a body.
    Parameter,
    Other,
}

impl Target {
    fn from_path(path: &[Value]) -> Target {
        let keys: Vec<&str> = path.iter().filter_map(Value::as_str).collect();
        let is_parameter = |key: &&str| key.starts_with("request_");
        match keys.as_slice() {
            ["name"] => Target::Name,
            [.., "requester", "path"] => Target::Path,
            keys if keys.iter().any(is_parameter) => Target::Parameter,
            _ => Target::Other,
        }
    }
}

impl Mapping {
    /// Inserts the value so that the texts of the source in it stay texts when the manifest is read.
    fn apply_plain(&self, node: &mut Value, scope: &Scope<'_>) -> Result<(), Failed> {
        let path = eval_path(&self.path, scope)?;
        let value = match Target::from_path(&path) {
            Target::Other => self.value.eval(scope, &self.types)?,
            _ if !source_text::is_named_in(self.value.text()) => self.value.eval(scope, &self.types)?,
            Target::Path => match source_text::path(&self.value, scope) {
                Err(failed) if failed.is_refused_name() => {
                    refused::mark_name(node, &self.value.render(scope)?);
                    return Ok(());
                }
                path => Value::from(path?),
            },
            Target::Name => Value::from(self.value.render(scope)?),
            Target::Parameter => source_text::plain(self.value.render(scope)?),
        };
        dpath::set(node, &path, &value)?;
        Ok(())
    }
}

fn over_values(resolver: &Value, template: &Value, values: Vec<Value>, ctx: &Context<'_>) -> Result<Vec<Value>, Failed> {
    let mappings = Mapping::build_all(resolver);
    let at = ctx.eval_context();
    let one = |values: Value| {
        let mut node = template.clone();
        mappings.iter().try_for_each(|it| it.apply(&mut node, template, &values, &at, true))?;
        Ok(node)
    };
    if values.len() > ctx.bounds.streams {
        return Err(Failed::bound("streams", ctx.bounds.streams));
    }
    values.into_iter().map(one).collect()
}

/// Returns the combinations of the values that the pointers into the config select (`config_components_resolver.py`).
fn config_values(resolver: &Value, ctx: &Context<'_>) -> Result<Vec<Value>, Failed> {
    let configs = match field(resolver, "stream_config") {
        Value::List(list) => list.clone(),
        one => vec![one.clone()],
    };
    let mut combinations = vec![Dict::default()];
    for (number, config) in configs.iter().enumerate() {
        let path = eval_path(&path_of(config, "configs_pointer", parameters(config)), &ctx.eval_context().scope(Vec::new()))?;
        let mut values = match dpath::get(ctx.config.value(), &path)? {
            None => Vec::new(),
            Some(Value::List(list)) => list.clone(),
            Some(one) => vec![one.clone()],
        };
        values.extend(items(config, "default_values").iter().cloned());
        if values.len().saturating_mul(combinations.len()) > ctx.bounds.streams {
            return Err(Failed::bound("streams", ctx.bounds.streams));
        }
        let join = |before: &Dict| {
            let with = |(at, value): (usize, &Value)| {
                let mut dict = before.clone();
                match value {
                    Value::Dict(own) => dict.extend(own.clone()),
                    other => {
                        let pair = Value::List(vec![Value::Int(at as i64), other.clone()]);
                        dict.entry(format!("source_config_{number}").into()).or_insert(pair);
                    }
                }
                dict
            };
            values.iter().enumerate().map(with).collect::<Vec<_>>()
        };
        combinations = combinations.iter().flat_map(join).collect();
    }
    Ok(combinations.into_iter().map(Value::Dict).collect())
}

async fn over_http(
    resolver: &Value,
    template: &Value,
    name: Option<&str>,
    ctx: &Context<'_>,
    run: &Run<'_>,
) -> Result<Vec<Value>, Failed> {
    if items(resolver, "components_mapping").iter().any(|it| set_field(it, "condition").is_some_and(Value::truthy)) {
        return Err(Failed::system("ValueError", "`condition` is only supported for     `ConfigComponentsResolver`"));
    }
    let node = field(resolver, "retriever");
    let router = Arc::new(Router::build(field(node, "partition_router"), ctx, 0, stream::parent)?);
    let slicer = SlicerOptions { router: Some(router.clone()), interval: None };
    let options = RetrieverOptions { slicer, use_cache: true, ..RetrieverOptions::default() };
    let retriever = Retriever::build(node, name.unwrap_or("__http_components_resolver"), options, ctx)?;
    let mappings = Mapping::build_all(resolver);
    let schema = Arc::new(Value::Dict(Dict::default()));
    let mut made = Vec::new();
    let mut partitions = router.slices(run)?;
    while let Some(slice) = partitions.next().await? {
        let mut records = retriever.read(run, slice.clone(), schema.clone());
        while let Some(values) = records.next().await? {
            made.push(resolved(&mappings, template, &values, &slice, run)?);
            if made.len() > ctx.bounds.streams {
                return Err(Failed::bound("streams", ctx.bounds.streams));
            }
        }
    }
    Ok(made)
}

fn resolved(mappings: &[Mapping], template: &Value, values: &Value, slice: &Slice, run: &Run<'_>) -> Result<Value, Failed> {
    let at = run.eval_context(Some(slice));
    let mut node = template.clone();
    mappings.iter().try_for_each(|it| it.apply(&mut node, template, values, &at, false))?;
    Ok(node)
}
