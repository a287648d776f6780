//! `check`: verifies that the streams that the manifest names can be read (`declarative/checks`).

use super::context::{Context, Run};
use super::error::Failed;
use super::node::{field, flag, items, kind, set_field, text};
use super::refused;
use super::source::{Source, SourceBuilder};
use super::stream::Stream;
use super::value::Value;

/// The config key with which a caller selects the streams to check.
const NAMES_KEY: &str = "__airbyte_check_stream_names";

/// Checks whether the source can be reached. The inner error is the CDK's message that explains why it cannot.
///
/// # Errors
/// Fails with the errors that the CDK does not catch: a stream that is not in the catalog, or a manifest without `check`.
pub async fn check(ctx: &Context<'_>, run: &Run<'_>) -> Result<Result<(), String>, Failed> {
    let Some(node) = set_field(ctx.manifest, "check").filter(|it| it.truthy()) else {
        return Err(Failed::system("ValueError", "Missing 'check' component definition within the manifest."));
    };
    let Some(Value::Dict(overrides)) = set_field(node, "config_overrides").filter(|it| it.truthy()) else {
        return with_config(node, ctx, run).await;
    };
    refuse_overrides(overrides.keys().map(|key| &**key), ctx.manifest)?;
    let mut config = ctx.config.value().as_dict().cloned().unwrap_or_default();
    config.extend(overrides.clone());
    let config = Value::Dict(config);
    let ctx = ctx.with(&config);
    let mut inner = Run::new(&ctx);
    inner.limits = run.limits;
    with_config(node, &ctx, &inner).await
}

/// # Errors
/// Fails if the overrides set keys that are reserved for the platform. Also fails if the manifest rotates refresh
/// tokens, because the overrides would then be stored together with the new tokens.
fn refuse_overrides<'k>(keys: impl Iterator<Item = &'k str>, manifest: &Value) -> Result<(), Failed> {
    let reserved: Vec<Value> = keys.filter(|key| key.starts_with("__airbyte")).map(Value::from).collect();
    if !reserved.is_empty() {
        let message = format!("The check component overrides the reserved config key(s) {}.", Value::List(reserved).repr());
        return Err(Failed::system("AirbyteTracedException", message));
    }
    if writes_back(manifest, 0) {
        let message = "`config_overrides` cannot be used by a manifest that declares a `refresh_token_updater`.";
        return Err(Failed::system("AirbyteTracedException", message));
    }
    Ok(())
}

fn writes_back(value: &Value, depth: usize) -> bool {
    match value {
        _ if depth > 200 => false,
        Value::Dict(dict) => {
            set_field(value, "refresh_token_updater").is_some() || dict.values().any(|it| writes_back(it, depth + 1))
        }
        Value::List(list) => list.iter().any(|it| writes_back(it, depth + 1)),
        _ => false,
    }
}

async fn with_config(node: &Value, ctx: &Context<'_>, run: &Run<'_>) -> Result<Result<(), String>, Failed> {
    match kind(node) {
        "CheckDynamicStream" => first_streams(node, ctx, run).await,
        "CheckStream" | "" => named_streams(node, ctx, run).await,
        other => Err(Failed::config("UnsupportedComponent", format!("check {other} is not supported"))),
    }
}

async fn named_streams(node: &Value, ctx: &Context<'_>, run: &Run<'_>) -> Result<Result<(), String>, Failed> {
    let configs = items(node, "dynamic_streams_check_configs");
    if set_field(node, "stream_names").is_none() && set_field(node, "dynamic_streams_check_configs").is_none() {
        let message = "Expected either stream_names or dynamic_streams_check_configs to be set for CheckStream";
        return Err(Failed::system("ValueError", message));
    }
    let names = names(node, ctx)?;
    let built = match configs.is_empty() {
        true => match SourceBuilder::new(*ctx).named_streams(&names) {
            Ok(Some(source)) => Ok(source),
            Ok(None) => SourceBuilder::new(*ctx).all_streams(run).await,
            Err(failed) => Err(failed),
        },
        false => SourceBuilder::new(*ctx).all_streams(run).await,
    };
    let source = match built {
        Ok(source) if source.streams.is_empty() => return Ok(Err("No streams to connect to from source".to_owned())),
        Ok(source) => source,
        Err(failed) => return caught("discovering streams", failed),
    };
    // Checked before the first request, because a check of a refused stream cannot succeed.
    let refused = names.iter().filter_map(|name| source.stream(name)).find_map(|it| Some((&it.name, it.refused()?)));
    if let Some((name, failed)) = refused {
        return Ok(Err(format!("Stream {name} is not available: {failed}")));
    }
    for name in &names {
        let Some(stream) = source.stream(name) else {
            let known = source.streams.iter().map(|it| Value::from(it.name.as_str())).collect();
            let message = format!("{name} is not part of the catalog. Expected one of {}.", Value::List(known).repr());
            return Err(Failed::system("ValueError", message));
        };
        match available(stream, run).await {
            Ok(None) => {}
            Ok(Some(reason)) => return Ok(Err(format!("Stream {name} is not available: {reason}"))),
            Err(failed) => return caught(&format!("checking availability of stream {name}"), failed),
        }
    }
    generated_streams(configs, &source, ctx, run).await
}

/// Returns the streams to check. Those that the caller selects are never replaced by others.
fn names(node: &Value, ctx: &Context<'_>) -> Result<Vec<String>, Failed> {
    let texts = |list: &[Value]| -> Vec<String> { list.iter().map(Value::to_str).collect() };
    let of_manifest = || {
        let named = texts(items(node, "stream_names"));
        refused::to_check(ctx.manifest, &named.iter().map(String::as_str).collect::<Vec<_>>()).streams
    };
    match set_field(ctx.config.value(), NAMES_KEY) {
        None => Ok(of_manifest()),
        Some(Value::List(list)) if list.is_empty() => Ok(of_manifest()),
        Some(Value::List(list)) if list.iter().all(|it| it.as_str().is_some()) => Ok(texts(list)),
        Some(_) => Err(Failed::system("ValueError", format!("{NAMES_KEY} must be a list of strings."))),
    }
}

/// Implements `dynamic_streams_check_configs`.
async fn generated_streams(
    configs: &[Value],
    source: &Source,
    ctx: &Context<'_>,
    run: &Run<'_>,
) -> Result<Result<(), String>, Failed> {
    let definitions = items(ctx.manifest, "dynamic_streams");
    for config in configs {
        let wanted = text(config, "dynamic_stream_name").unwrap_or_default();
        let named = |(at, it): (usize, &Value)| {
            text(it, "name").map_or_else(|| wanted == format!("dynamic_stream_{at}"), |name| name == wanted)
        };
        if !definitions.iter().enumerate().any(named) {
            return Ok(Err(format!("Dynamic stream {wanted} is not found in manifest.")));
        }
        let most = field(config, "stream_count").as_i64().map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(0));
        for (name, _) in source.generated.iter().filter(|(_, of)| of == wanted).take(most) {
            let Some(stream) = source.stream(name) else { continue };
            match available(stream, run).await {
                Ok(None) => {}
                Ok(Some(reason)) => return Ok(Err(format!("Dynamic Stream {name} is not available: {reason}"))),
                Err(failed) => return caught(&format!("checking availability of dynamic stream {name}"), failed),
            }
        }
    }
    Ok(Ok(()))
}

async fn first_streams(node: &Value, ctx: &Context<'_>, run: &Run<'_>) -> Result<Result<(), String>, Failed> {
    let count = usize::try_from(field(node, "stream_count").as_i64().unwrap_or(0)).unwrap_or(0);
    let availability = set_field(node, "use_check_availability").is_none() || flag(node, "use_check_availability");
    let source = match availability && count >= 1 {
        true => SourceBuilder::new(*ctx).first_streams(run, count, &[]).await?,
        false => SourceBuilder::new(*ctx).all_streams(run).await?,
    };
    if source.streams.is_empty() {
        return Ok(Err("No streams to connect to from source".to_owned()));
    }
    if !availability {
        return Ok(Ok(()));
    }
    for stream in source.streams.iter().take(count) {
        match available(stream, run).await {
            Ok(None) => {}
            Ok(Some(reason)) => return Ok(Err(format!("Stream {} is not available: {reason}", stream.name))),
            Err(failed) => {
                let what = format!("trying to connect to stream {}", stream.name);
                return Ok(Err(format!("Encountered an error {what}. Error: {failed}")));
            }
        }
    }
    Ok(Ok(()))
}

/// Reads the first record of the first slice. Returns `None` if that succeeds, even if there is no record. Otherwise
/// returns the reason, if the failure has a message that is meant for users.
///
/// # Errors
/// Fails with every failure that has no such message.
pub async fn available(stream: &Stream, run: &Run<'_>) -> Result<Option<String>, Failed> {
    let first = async {
        match stream.slices(run)?.next().await? {
            None => Ok(false),
            Some(slice) => stream.records(run, slice).await?.next().await.map(|_| true),
        }
    };
    match first.await {
        Ok(true) => Ok(None),
        Ok(false) => {
            let name = &stream.name;
            Ok(Some(format!("Cannot attempt to connect to stream {name} - no stream slices were found")))
        }
        Err(failed) if traced(&failed) => Ok(Some(failed.message.clone())),
        Err(failed) => Err(failed),
    }
}

/// Whether the failure has a message for users: the CDK's traced exceptions, and the failures that only this engine has.
fn traced(failed: &Failed) -> bool {
    let ours = matches!(failed.class, "Bound" | "Refused" | "UnsupportedComponent");
    ours || failed.host_error.is_some()
        || matches!(
            failed.class,
            "AirbyteTracedException"
                | "ResponseKeysMaxRecurtionReached"
                | "PageSizeReductionRequiredException"
                | "PageSizeReductionNotSupportedException"
                | "RequestWindowSplitRequiredException"
                | "RequestWindowSplitNotSupportedException"
        )
}

fn caught(action: &str, failed: Failed) -> Result<Result<(), String>, Failed> {
    Ok(Err(format!("Encountered an error while {action}. Error: {failed}")))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
