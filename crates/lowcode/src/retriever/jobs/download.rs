//! The records of a job that is complete: those of each target of its download.

use super::{AsyncRetriever, slice_with, variables};
use crate::context::Run;
use crate::error::Failed;
use crate::requester::RequestParts;
use crate::response::Response;
use crate::retriever::Records;
use crate::slice::{FinishedJob, Slice};
use crate::value::{Dict, Value};
use std::collections::VecDeque;
use std::sync::Arc;

/// The remaining records of one slice.
pub struct JobRecords<'r> {
    retriever: &'r AsyncRetriever,
    run: &'r Run<'r>,
    slice: Slice,
    schema: Arc<Value>,
    /// The targets that are not downloaded yet. `None` before the first record.
    targets: Option<VecDeque<Value>>,
    open: Option<Box<Records<'r>>>,
    done: bool,
}

impl<'r> JobRecords<'r> {
    pub(super) fn new(retriever: &'r AsyncRetriever, run: &'r Run<'r>, slice: Slice, schema: Arc<Value>) -> JobRecords<'r> {
        let done = slice.job.is_none();
        JobRecords { retriever, run, slice, schema, targets: None, open: None, done }
    }

    /// Returns the next record, or `None` at the end and after an error.
    ///
    /// # Errors
    /// Fails if a request, a template or a path fails, or if a bound is reached.
    pub async fn next(&mut self) -> Result<Option<Value>, Failed> {
        while !self.done {
            match self.step().await {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(failed) => {
                    self.done = true;
                    return Err(failed);
                }
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Option<Value>, Failed> {
        let (retriever, run) = (self.retriever, self.run);
        if let Some(records) = &mut self.open {
            let Some(record) = records.next().await? else {
                self.open = None;
                return Ok(None);
            };
            return retriever.selector.select(record, &self.schema, &run.eval_context(Some(&self.slice)));
        }
        let Some(job) = self.slice.job.clone() else {
            self.done = true;
            return Ok(None);
        };
        let targets = match &mut self.targets {
            Some(targets) => targets,
            None => self.targets.insert(retriever.find_targets(run, &job).await?),
        };
        match targets.pop_front() {
            Some(target) => {
                let slice = retriever.download_slice(run, &job, target)?;
                let schema = Arc::new(Value::Dict(Dict::default()));
                self.open = Some(Box::new(retriever.download.read(run, slice, schema)));
            }
            None => {
                self.done = true;
                retriever.remove(run, &job).await?;
            }
        }
        Ok(None)
    }
}

impl AsyncRetriever {
    /// Returns what is downloaded. Without an extractor, it is one request that needs no target.
    async fn find_targets(&self, run: &Run<'_>, job: &FinishedJob) -> Result<VecDeque<Value>, Failed> {
        let Some(extractor) = &self.target else { return Ok(VecDeque::from([Value::str("")])) };
        let polled = Response::new(Arc::clone(&job.polled), run.bounds)?;
        let response = match &self.targets {
            None => polled,
            Some(requester) => {
                let slice = slice_with(&Slice::empty(), vec![("polling_response", variables(&polled)?)])?;
                let parts = RequestParts { slice: Some(&slice), ..RequestParts::default() };
                requester.send(run, &parts).await?.ok_or_else(|| {
                    let internal = "Always expect a response or an exception from download_target_requester";
                    let message = "Something went wrong in the connector. See the logs for more details.";
                    Failed::system("AirbyteTracedException", message).with(|it| it.internal = Some(internal.to_owned()))
                })?
            }
        };
        Ok(self.extract(extractor, &response, &run.eval_context(None))?.into())
    }

    fn download_slice(&self, run: &Run<'_>, job: &FinishedJob, target: Value) -> Result<Slice, Failed> {
        let of = |response: &Arc<_>| variables(&Response::new(Arc::clone(response), run.bounds)?);
        let more =
            vec![("download_target", target), ("creation_response", of(&job.created)?), ("polling_response", of(&job.polled)?)];
        slice_with(&job.slice, more)
    }
}
