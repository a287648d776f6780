//! What reads the records of a stream: one of the retrievers.

use super::context::{Context, Run};
use super::error::Failed;
use super::node::kind;
use super::retriever::jobs::{AsyncRetriever, JobRecords};
use super::retriever::{Records, Retriever, RetrieverOptions};
use super::slice::Slice;
use super::value::Value;
use std::sync::Arc;

/// The retriever of a stream.
pub enum Reader {
    Simple(Box<Retriever>),
    Async(Box<AsyncRetriever>),
}

impl Reader {
    /// # Errors
    /// Fails with the error that the CDK raises when it builds the component, or if this engine does not know the component.
    pub fn build(node: &Value, name: &str, options: RetrieverOptions, ctx: &Context<'_>) -> Result<Reader, Failed> {
        Ok(match kind(node) {
            "AsyncRetriever" => Reader::Async(Box::new(AsyncRetriever::build(node, name, options.selector, ctx)?)),
            _ => Reader::Simple(Box::new(Retriever::build(node, name, options, ctx)?)),
        })
    }

    /// Whether the retriever stores nothing between requests.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        match self {
            Reader::Simple(retriever) => retriever.keeps_nothing(),
            Reader::Async(_) => false,
        }
    }

    /// Returns what prepares the slices in jobs, if the source does so.
    #[must_use]
    pub fn jobs(&self) -> Option<&AsyncRetriever> {
        match self {
            Reader::Simple(_) => None,
            Reader::Async(retriever) => Some(retriever),
        }
    }

    /// Returns the records of `slice`.
    #[must_use]
    pub fn read<'r>(&'r self, run: &'r Run<'r>, slice: Slice, schema: Arc<Value>) -> StreamRecords<'r> {
        match self {
            Reader::Simple(retriever) => StreamRecords::Simple(Box::new(retriever.read(run, slice, schema))),
            Reader::Async(retriever) => StreamRecords::Async(Box::new(retriever.read(run, slice, schema))),
        }
    }
}

/// The remaining records of one slice.
pub enum StreamRecords<'r> {
    Simple(Box<Records<'r>>),
    Async(Box<JobRecords<'r>>),
}

impl StreamRecords<'_> {
    /// Returns the next record, or `None` at the end and after an error.
    ///
    /// # Errors
    /// Fails if a request, a template or a path fails, or if a bound is reached.
    pub async fn next(&mut self) -> Result<Option<Value>, Failed> {
        match self {
            StreamRecords::Simple(records) => records.next().await,
            StreamRecords::Async(records) => records.next().await,
        }
    }
}
