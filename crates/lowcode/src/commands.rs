//! The commands of a connector. Each command emits its messages in order and returns whether it succeeded.
//!
//! The messages are those of the CDK (entrypoint.py, abstract_source.py, concurrent_read_processor.py), except that
//! streams are read one after the other.

use super::bounds::Bounds;
use super::catalog::{self, AirbyteCatalog};
use super::check;
use super::config_rules;
use super::context::{Context, Run};
use super::error::Failed;
use super::host::Host;
use super::load::Manifest;
use super::protocol::{ConnectionStatus, Level, Message, Out};
use super::reading::Reading;
use super::source::{Source, SourceBuilder};
use super::spec;
use super::value::Value;
use std::borrow::Cow;
use std::collections::HashMap;

/// A manifest and the user's config, with the host and the bounds to run them with.
#[derive(Clone, Copy)]
pub struct Commands<'a> {
    pub manifest: &'a Manifest,
    /// The config after migrations and transformations.
    pub config: &'a Value,
    pub host: &'a dyn Host,
    pub bounds: &'a Bounds,
}

/// How a command ended. It determines the exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandResult {
    Succeeded,
    Failed,
}

/// Which streams `read` reads.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The streams of a configured catalog, in its order. `None` selects all streams.
    pub catalog: Option<Vec<String>>,
    /// If this is not empty, only these streams are read.
    pub only: Vec<String>,
    /// The `properties` of the schemas in the catalog, by stream. The caller puts them into `Run::selected`.
    pub properties: HashMap<String, Value>,
}

/// Runs `spec`.
pub fn spec(manifest: &Manifest, host: &dyn Host, out: &mut Out<'_>) -> CommandResult {
    match spec::message(manifest) {
        Ok(spec) => {
            out(Message::Spec(spec));
            CommandResult::Succeeded
        }
        Err(failed) => uncaught(&failed, host, out),
    }
}

impl<'a> Commands<'a> {
    /// Returns the context from which the source is built.
    #[must_use]
    pub fn context(&self) -> Context<'a> {
        Context::new(&self.manifest.root, self.config, self.host, self.bounds)
    }

    /// Runs `check`. A source that cannot be reached is a result of the check, not a failure of the command.
    pub async fn check(&self, run: &Run<'_>, out: &mut Out<'_>) -> CommandResult {
        if let Err(failed) = spec::validate_config(self.manifest, self.config) {
            return match failed.class {
                "ValidationError" => report(ConnectionStatus::Failed(failed.message.clone()), out),
                _ => uncaught(&failed, self.host, out),
            };
        }
        if let Err(failed) = config_rules::validate(self.manifest, self.config, self.host, self.bounds) {
            let reason = format!("Encountered an error while discovering streams. Error: {}", failed.message);
            return report(ConnectionStatus::Failed(Value::from(reason).repr()), out);
        }
        let checked = self.manifest.checked_streams();
        if !checked.left_out.is_empty() {
            let (left_out, streams) = (checked.left_out.join(", "), checked.streams.join(", "));
            let message = format!("the check reads {streams} and leaves out {left_out}, which cannot be read here");
            out(Message::log(Level::Warn, message));
        }
        match check::check(&self.context(), run).await {
            Ok(Ok(())) => {
                out(Message::log(Level::Info, "Check succeeded"));
                report(ConnectionStatus::Succeeded, out)
            }
            Ok(Err(reason)) => {
                out(Message::log(Level::Error, "Check failed"));
                report(ConnectionStatus::Failed(Value::from(reason).repr()), out)
            }
            Err(failed) => uncaught(&failed, self.host, out),
        }
    }

    /// Runs `discover`.
    pub async fn discover(&self, run: &Run<'_>, out: &mut Out<'_>) -> CommandResult {
        let described = async {
            spec::validate_config(self.manifest, self.config)?;
            config_rules::validate(self.manifest, self.config, self.host, self.bounds)?;
            let source = SourceBuilder::new(self.context()).all_streams(run).await?;
            self.catalog(&source, run, out).await
        };
        match described.await {
            Ok(()) => CommandResult::Succeeded,
            Err(failed) => uncaught(&failed, self.host, out),
        }
    }

    async fn catalog(&self, source: &Source, run: &Run<'_>, out: &mut Out<'_>) -> Result<(), Failed> {
        let mut schemas = Vec::with_capacity(source.streams.len());
        for stream in &source.streams {
            schemas.push(stream.schema.get(run).await?);
        }
        let mut streams = Vec::with_capacity(schemas.len());
        for (stream, schema) in source.streams.iter().zip(&schemas) {
            let cursor = catalog::cursor_field(&stream.node, &self.context())?;
            streams.push(catalog::describe(&stream.node, Cow::Borrowed(&**schema), cursor)?);
        }
        out(Message::Catalog(AirbyteCatalog { streams }));
        Ok(())
    }

    /// Runs `read`: reads a sample of each stream, within the limits of `run`.
    pub async fn read(&self, selection: &Selection, run: &Run<'_>, out: &mut Out<'_>) -> CommandResult {
        let valid = spec::validate_config(self.manifest, self.config);
        let valid = valid.and_then(|()| config_rules::validate(self.manifest, self.config, self.host, self.bounds));
        if let Err(failed) = valid {
            return uncaught(&failed, self.host, out);
        }
        out(Message::log(Level::Info, "Starting syncing"));
        let source = match SourceBuilder::new(self.context()).all_streams(run).await {
            Ok(source) => source,
            Err(failed) => return uncaught(&failed, self.host, out),
        };
        let mut reading = Reading::new(run, out);
        for name in selection.names(&source) {
            match source.stream(&name) {
                Some(stream) => reading.stream(stream).await,
                None => reading.missing(&name),
            }
        }
        match reading.end() {
            None => {
                out(Message::log(Level::Info, "Finished syncing"));
                CommandResult::Succeeded
            }
            Some(failed) => uncaught(&failed, self.host, out),
        }
    }
}

impl Selection {
    fn names(&self, source: &Source) -> Vec<String> {
        let all = || source.streams.iter().map(|stream| stream.name.clone()).collect();
        let mut names: Vec<String> = self.catalog.clone().unwrap_or_else(all);
        if !self.only.is_empty() {
            names.retain(|name| self.only.contains(name));
            // These streams were requested by name, so missing ones are reported.
            names.extend(self.only.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        }
        names
    }
}

fn report(status: ConnectionStatus, out: &mut Out<'_>) -> CommandResult {
    out(Message::ConnectionStatus(status));
    CommandResult::Succeeded
}

/// Ends the command with a trace, because no caller handled the error (exception_handler.py).
pub fn uncaught(failed: &Failed, host: &dyn Host, out: &mut Out<'_>) -> CommandResult {
    out(Message::log(Level::Fatal, failed.internal.clone().unwrap_or_else(|| failed.message.clone())));
    out(Message::error(&failed.for_users(None), None, host.now().as_millisecond()));
    CommandResult::Failed
}
