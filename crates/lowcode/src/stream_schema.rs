//! The schema of a stream: written in the manifest, or derived from a response (`dynamic_schema_loader.py`).

use crate::context::{Context, Run};
use crate::error::Failed;
use crate::extraction::transform::{eval_path, path_of};
use crate::extraction::{Transformation, dpath};
use crate::interpolation::{InterpolatedBoolean, InterpolatedString};
use crate::node::{field, items, kind, pair, parameters, set_field, text};
use crate::retriever::{Retriever, RetrieverOptions};
use crate::schema;
use crate::slice::Slice;
use crate::slicing::{BuildParent, Router, SlicerOptions};
use crate::value::{Dict, Value};
use futures_util::future::BoxFuture;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

/// A schema, or the loaders that request it.
pub enum StreamSchema {
    /// A schema that needs no request. A failure of the loader is reported when the schema is needed, not when the
    /// stream is built.
    Static(Result<Arc<Value>, Failed>),
    Dynamic(Box<Dynamic>),
}

/// The loaders of a schema, at least one of which makes a request. The schemas of several loaders are merged.
pub struct Dynamic {
    parts: Vec<Part>,
    /// Whether the manifest has more than one loader.
    merged: bool,
    known: Mutex<Option<Arc<Value>>>,
}

enum Part {
    Known(Value),
    Asked(Box<Loader>),
}

impl Default for StreamSchema {
    fn default() -> StreamSchema {
        StreamSchema::Static(Ok(Arc::new(Value::Dict(Dict::default()))))
    }
}

impl StreamSchema {
    /// Builds the loaders. `parent` builds the parent streams that the retriever of a schema may have.
    ///
    /// # Errors
    /// Fails if the retriever of a schema cannot be built.
    pub fn build(stream: &Value, ctx: &Context<'_>, parent: BuildParent) -> Result<StreamSchema, Failed> {
        match schema::of_stream(stream) {
            Err(failed) => return Ok(StreamSchema::Static(Err(failed))),
            Ok(Some(schema)) => return Ok(StreamSchema::Static(Ok(Arc::new(schema.into_owned())))),
            Ok(None) => {}
        }
        let loader = field(stream, "schema_loader");
        let (loaders, merged) = match loader {
            Value::List(list) => (list.as_slice(), true),
            one => (std::slice::from_ref(one), false),
        };
        let mut parts = Vec::with_capacity(loaders.len());
        for loader in loaders {
            parts.push(match schema::of_loader(loader)? {
                Some(schema) => Part::Known(Cow::into_owned(schema)),
                None => Part::Asked(Box::new(Loader::build(loader, ctx, parent)?)),
            });
        }
        Ok(StreamSchema::Dynamic(Box::new(Dynamic { parts, merged, known: Mutex::new(None) })))
    }

    /// Returns the schema. It is requested only once.
    ///
    /// # Errors
    /// Fails if the request for the schema fails.
    pub fn get<'s>(&'s self, run: &'s Run<'_>) -> BoxFuture<'s, Result<Arc<Value>, Failed>> {
        // The future is boxed because a schema has a retriever, which may have parents with schemas of their own.
        Box::pin(async move {
            match self {
                StreamSchema::Static(schema) => schema.clone(),
                StreamSchema::Dynamic(dynamic) => dynamic.get(run).await,
            }
        })
    }
}

impl Dynamic {
    async fn get(&self, run: &Run<'_>) -> Result<Arc<Value>, Failed> {
        if let Some(known) = &*self.known.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(known.clone());
        }
        let mut schemas = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            schemas.push(match part {
                Part::Known(schema) => schema.clone(),
                Part::Asked(loader) => loader.load(run).await?,
            });
        }
        let whole = match self.merged {
            true => schema::merge(schemas.iter())?,
            false => schemas.pop().unwrap_or_default(),
        };
        let whole = Arc::new(whole);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(whole.clone());
        Ok(whole)
    }
}

/// A `DynamicSchemaLoader`.
struct Loader {
    retriever: Retriever,
    schema_pointer: Vec<InterpolatedString>,
    key_pointer: Vec<InterpolatedString>,
    type_pointer: Option<Vec<InterpolatedString>>,
    mappings: Vec<TypesMap>,
    /// `aam_default_type`: the type of fields whose own type is neither mapped nor one of the CDK's. Without it, the schema
    /// fails, as in the CDK. For vendors whose customers add types.
    default_type: Option<Value>,
    /// `aam_nested_pointer`: where the definition of a field has the definitions of its own fields. Without it, the fields of
    /// objects are not described, as in the CDK.
    nested_pointer: Vec<InterpolatedString>,
    /// `aam_key_field`: for a schema whose properties are an object, as in JSON Schema, the field of each definition that
    /// gets the name of its property. Without it, the names are the definitions, as in the CDK.
    key_field: Option<String>,
    filter: Option<InterpolatedBoolean>,
    transformations: Vec<Transformation>,
    /// `aam_into`: the name of the object that has the fields, if a record does not have them at its top.
    into: Option<String>,
}

/// A `TypesMap`: replaces one type with another if a condition is true.
struct TypesMap {
    current: Value,
    target: Value,
    condition: InterpolatedBoolean,
}

/// The maximum depth of the fields of objects in a schema.
const MAX_DEPTH: usize = 16;

impl Loader {
    fn build(node: &Value, ctx: &Context<'_>, parent: BuildParent) -> Result<Loader, Failed> {
        let identifier = field(node, "schema_type_identifier");
        // The identifier uses the loader's parameters instead of its own (create_dynamic_schema_loader).
        let path = |key: &str| path_of(identifier, key, parameters(node));
        let reader = field(node, "retriever");
        let router = Arc::new(Router::build(field(reader, "partition_router"), ctx, 0, parent)?);
        let slicer = SlicerOptions { router: Some(router), interval: None };
        let options = RetrieverOptions { slicer, use_cache: true, ..RetrieverOptions::default() };
        let one = |map: &Value| TypesMap {
            current: field(map, "current_type").clone(),
            target: field(map, "target_type").clone(),
            condition: InterpolatedBoolean::new(text(map, "condition").unwrap_or("True"), &Value::None),
        };
        let transformations = items(node, "schema_transformations").iter().map(|it| Transformation::build(it, ctx));
        Ok(Loader {
            retriever: Retriever::build(reader, "dynamic_properties", options, ctx)?,
            schema_pointer: path("schema_pointer"),
            key_pointer: path("key_pointer"),
            type_pointer: set_field(identifier, "type_pointer").filter(|it| it.truthy()).map(|_| path("type_pointer")),
            mappings: items(identifier, "types_mapping").iter().map(one).collect(),
            default_type: set_field(identifier, "aam_default_type").cloned(),
            nested_pointer: set_field(identifier, "aam_nested_pointer").map(|_| path("aam_nested_pointer")).unwrap_or_default(),
            key_field: text(identifier, "aam_key_field").map(str::to_owned),
            filter: set_field(node, "schema_filter")
                .map(|it| InterpolatedBoolean::new(text(it, "condition").unwrap_or_default(), parameters(it))),
            transformations: transformations.collect::<Result<_, _>>()?,
            into: set_field(node, "aam_into").and_then(Value::as_str).map(str::to_owned),
        })
    }

    async fn load(&self, run: &Run<'_>) -> Result<Value, Failed> {
        let record = self.retriever.read(run, Slice::empty(), Arc::new(Value::Dict(Dict::default()))).next().await?;
        let mut properties = Dict::default();
        let missing = || {
            let path: Vec<String> = self.schema_pointer.iter().map(|part| part.text().to_string()).collect();
            Err(Failed::missing_list(&path.join("."), None))
        };
        let record = record.filter(Value::truthy);
        // Without a pointer, the first record is itself the description, and a list of records may be empty.
        if record.is_none() && run.needs_lists && !self.schema_pointer.is_empty() {
            return missing();
        }
        if let Some(record) = record {
            let raw = self.extract(&record, &self.schema_pointer, run)?;
            if run.needs_lists && !matches!(raw, Some(Value::List(_) | Value::Dict(_))) {
                return missing();
            }
            let definitions = match raw {
                Some(Value::List(list)) => list.clone(),
                Some(Value::Dict(dict)) if self.key_field.is_some() => {
                    dict.iter().map(|(key, own)| self.keyed(key, own)).collect()
                }
                Some(Value::Dict(dict)) => dict.keys().map(|key| Value::Str(key.clone())).collect(),
                other => {
                    let kind = other.map_or("NoneType", Value::type_name);
                    return Err(Failed::system("TypeError", format!("'{kind}' object is not iterable")));
                }
            };
            properties = self.properties(&definitions, run, 0)?;
        }
        self.finish(properties, run)
    }

    /// Returns the schema of each field of `definitions`.
    fn properties(&self, definitions: &[Value], run: &Run<'_>, depth: usize) -> Result<Dict, Failed> {
        let mut properties = Dict::default();
        for definition in definitions {
            let key = match self.extract(definition, &self.key_pointer, run)? {
                Some(Value::Str(key)) => key.clone(),
                // A source may list a field without a name. It has no place in a record.
                None | Some(Value::None) if run.needs_lists => continue,
                other => {
                    let got = other.map_or_else(|| "None".to_owned(), Value::to_str);
                    return Err(Failed::system("ValueError", format!("Expected key to be a string. Got {got}")));
                }
            };
            let mut schema = self.type_of(definition, run)?;
            if !self.nested_pointer.is_empty()
                && depth < MAX_DEPTH
                && let Some(Value::List(fields)) = self.extract(definition, &self.nested_pointer, run)?
            {
                add_properties(&mut schema, self.properties(fields, run, depth + 1)?);
            }
            properties.insert(key, schema);
        }
        Ok(properties)
    }

    /// Returns the definition of a property with its name.
    fn keyed(&self, key: &Arc<str>, definition: &Value) -> Value {
        let mut definition = definition.as_dict().cloned().unwrap_or_default();
        definition.insert(self.key_field.as_deref().unwrap_or_default().into(), Value::Str(key.clone()));
        Value::Dict(definition)
    }

    fn extract<'v>(&self, body: &'v Value, path: &[InterpolatedString], run: &Run<'_>) -> Result<Option<&'v Value>, Failed> {
        dpath::get(body, &eval_path(path, &run.eval_context(None).scope(Vec::new()))?)
    }

    fn type_of(&self, definition: &Value, run: &Run<'_>) -> Result<Value, Failed> {
        let default = Value::str("string");
        let raw = match &self.type_pointer {
            Some(path) => self.extract(definition, path, run)?.unwrap_or(&default),
            None => &default,
        };
        let mut found = raw;
        for map in &self.mappings {
            if *raw == map.current && map.condition.eval(&run.eval_context(None).scope(vec![("raw_schema", definition)]))? {
                found = &map.target;
                break;
            }
        }
        match &self.default_type {
            Some(default) => mapped_type(found).or_else(|_| mapped_type(default)),
            None => mapped_type(found),
        }
    }

    fn finish(&self, properties: Dict, run: &Run<'_>) -> Result<Value, Failed> {
        let at = run.eval_context(None);
        let mut kept = Dict::default();
        for (key, item) in properties {
            let keep = match &self.filter {
                None => true,
                Some(filter) => {
                    let record = Value::Dict(pair(key.clone(), item.clone()));
                    filter.eval(&at.scope_of_slice(vec![("record", &record)]))?
                }
            };
            if keep {
                kept.insert(key, item);
            }
        }
        let mut properties = Value::Dict(kept);
        self.transformations.iter().try_for_each(|it| it.apply(&mut properties, &at))?;
        if let Some(name) = &self.into {
            let mut object = pair("type", Value::List(vec![Value::str("null"), Value::str("object")]));
            object.insert("properties".into(), properties);
            properties = Value::Dict(pair(name.as_str(), Value::Dict(object)));
        }
        let mut schema = pair("$schema", Value::str("https://json-schema.org/draft-07/schema#"));
        schema.insert("type".into(), Value::str("object"));
        schema.insert("additionalProperties".into(), Value::Bool(true));
        schema.insert("properties".into(), properties);
        Ok(Value::Dict(schema))
    }
}

/// Adds the fields of an object to its schema, or to that of the items of a list of objects.
fn add_properties(schema: &mut Value, properties: Dict) {
    let Value::Dict(schema) = schema else { return };
    match schema.get_mut("items") {
        Some(items) => add_properties(items, properties),
        None => drop(schema.insert("properties".into(), Value::Dict(properties))),
    }
}

/// Returns the schema of a mapped type: one name, two names (`oneOf`), or a `ComplexFieldType`.
fn mapped_type(found: &Value) -> Result<Value, Failed> {
    match found {
        Value::Str(name) => schema::airbyte_type(name),
        Value::List(pair_of) if pair_of.len() == 2 && pair_of.iter().all(|it| it.as_str().is_some()) => {
            let types = pair_of.iter().map(|it| schema::airbyte_type(&it.to_str())).collect::<Result<_, _>>()?;
            Ok(Value::Dict(pair("oneOf", Value::List(types))))
        }
        Value::Dict(_) if kind(found) == "ComplexFieldType" || found.get("field_type").is_some() => {
            let mut outer = schema::airbyte_type(&field(found, "field_type").to_str())?;
            if let (Value::Dict(dict), Some(inner)) = (&mut outer, set_field(found, "items")) {
                dict.insert("items".into(), mapped_type(inner)?);
            }
            Ok(outer)
        }
        other => {
            let message = format!("Invalid data type. Available string or two items list of string. Got {}.", other.repr());
            Err(Failed::system("ValueError", message))
        }
    }
}
