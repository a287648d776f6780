//! The schema of a stream: written in the manifest, or made of an answer.

use crate::connectors::lowcode::context::{Context, Run};
use crate::connectors::lowcode::error::Failed;
use crate::connectors::lowcode::node::{field, kind};
use crate::connectors::lowcode::value::{Dict, Value};
use std::sync::Arc;

/// A schema, or how to get it.
pub enum StreamSchema {
    Static(Arc<Value>),
}

impl StreamSchema {
    /// # Errors
    /// A loader that this engine does not know.
    pub fn build(stream: &Value, _ctx: &Context<'_>) -> Result<StreamSchema, Failed> {
        let loader = field(stream, "schema_loader");
        Ok(match kind(loader) {
            "InlineSchemaLoader" => StreamSchema::Static(Arc::new(field(loader, "schema").clone())),
            _ => StreamSchema::Static(Arc::new(Value::Dict(Dict::new()))),
        })
    }

    /// The schema.
    ///
    /// # Errors
    /// What its request fails with.
    pub async fn get(&self, _run: &Run<'_>) -> Result<Arc<Value>, Failed> {
        match self {
            StreamSchema::Static(schema) => Ok(schema.clone()),
        }
    }
}
