//! The life of a job: it is made, polled until it ends, and made again if it fails (`job_orchestrator.py`).

use super::{AsyncRetriever, Status, slice_with, variables};
use crate::context::Run;
use crate::error::{Failed, FailureType};
use crate::host::PauseReason;
use crate::node::pair;
use crate::requester::{RequestParts, Requester};
use crate::response::Response;
use crate::slice::{FinishedJob, Slice};
use crate::value::Value;
use jiff::Timestamp;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

const TRACED: &str = "AirbyteTracedException";
/// The wait before a job is looked at again.
const POLL_WAIT: Duration = Duration::from_secs(5);
/// How often the job of a slice is made.
const MAX_ATTEMPTS: u32 = 3;

/// The jobs of a stream that failed. The stream fails after the last slice.
#[derive(Debug, Default)]
pub struct JobFailures(Vec<Failed>);

impl JobFailures {
    /// Notes a failure of the slices themselves.
    ///
    /// # Errors
    /// Fails if the failure ends the stream at once.
    pub fn note(&mut self, failed: Failed) -> Result<(), Failed> {
        if is_final(&failed) {
            return Err(failed);
        }
        self.0.push(failed);
        Ok(())
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// Fails if a job failed.
    pub fn end(&mut self) -> Result<(), Failed> {
        let failures = std::mem::take(&mut self.0);
        if failures.is_empty() {
            return Ok(());
        }
        let message = "One or more async jobs failed after exhausting all retry attempts.";
        let internal: Vec<String> = failures.iter().map(Failed::exception_repr).collect();
        Err(Failed::system(TRACED, message).with(|it| it.internal = Some(internal.join("\n"))))
    }
}

/// Whether the failure ends the stream: a wrong configuration, and what the host or a bound does not allow.
fn is_final(failed: &Failed) -> bool {
    let is_own = matches!(failed.class, "Bound" | "Refused") || failed.host_error.is_some();
    is_own || (failed.class == TRACED && failed.failure_type == FailureType::ConfigError)
}

/// A job of the source.
struct Job {
    id: String,
    status: Status,
    started: Timestamp,
    /// `None` if the job could not be made.
    created: Option<Response>,
    polled: Option<Response>,
}

impl AsyncRetriever {
    /// Lets the source prepare the records of a slice. Returns the slice with its job, or `None` if the source has nothing for
    /// it, or if the job failed, which `failures` then contains.
    ///
    /// # Errors
    /// Fails if the host does not send a request, if the configuration is wrong, or if a job cannot be polled.
    pub async fn prepare(&self, run: &Run<'_>, slice: &Slice, failures: &mut JobFailures) -> Result<Option<Slice>, Failed> {
        let mut job = self.start(run, slice).await?;
        let mut attempts = 1;
        loop {
            if job.status == Status::Running {
                self.poll(run, slice, &mut job).await?;
            }
            match (job.status, &job.created, &job.polled) {
                (Status::Completed, Some(created), Some(polled)) => return finished(slice, created, polled).map(Some),
                (Status::Skipped, ..) => return Ok(None),
                (Status::Running, ..) => pause(run, POLL_WAIT).await?,
                _ => {
                    if job.status == Status::TimedOut {
                        self.abort(run, slice, &job).await;
                    }
                    if attempts >= MAX_ATTEMPTS {
                        failures.0.push(exhausted(slice, &job));
                        return Ok(None);
                    }
                    pause(run, POLL_WAIT).await?;
                    let is_made = job.created.is_some() && job.status == Status::Failed;
                    if let Some(seconds) = self.retry_wait.filter(|_| is_made) {
                        pause(run, Duration::from_secs(seconds)).await?;
                    }
                    job = self.start(run, slice).await?;
                    attempts += 1;
                }
            }
        }
    }

    /// Makes the job. A job that cannot be made is a failed one.
    async fn start(&self, run: &Run<'_>, slice: &Slice) -> Result<Job, Failed> {
        let parts = RequestParts { slice: Some(slice), is_repeated: true, ..RequestParts::default() };
        let (id, started) = (run.host.uuid(), run.host.now());
        let failed = match self.creation.send(run, &parts).await {
            Ok(Some(response)) => {
                return Ok(Job { id, status: Status::Running, started, created: Some(response), polled: None });
            }
            Ok(None) => no_response("Always expect a response or an exception from creation_requester"),
            Err(failed) => failed,
        };
        if is_final(&failed) {
            return Err(failed);
        }
        run.reported.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
        let id = format!("{id} - Job that could not start");
        Ok(Job { id, status: Status::Failed, started, created: None, polled: None })
    }

    async fn poll(&self, run: &Run<'_>, slice: &Slice, job: &mut Job) -> Result<(), Failed> {
        let Some(created) = &job.created else { return Ok(()) };
        let response = self.ask(&self.polling, run, slice, created).await?;
        let response = response.ok_or_else(|| no_response("Polling Requester received an empty Response."))?;
        let found = self.extract(&self.status, &response, &run.eval_context(None))?;
        let name = found.first().map_or_else(|| "None".to_owned(), Value::to_str);
        job.status = *self.statuses.get(&name).ok_or_else(|| {
            let message =
                format!("API status `{name}` is unknown. Contact the connector developer to make sure this status is supported.");
            Failed::system("ValueError", message)
        })?;
        job.polled = Some(response);
        if run.host.now().duration_since(job.started).as_secs() > self.timeout {
            job.status = Status::TimedOut;
        }
        Ok(())
    }

    /// Sends a request about a job.
    async fn ask(
        &self,
        requester: &Requester,
        run: &Run<'_>,
        slice: &Slice,
        created: &Response,
    ) -> Result<Option<Response>, Failed> {
        let slice = slice_with(slice, vec![("creation_response", variables(created)?)])?;
        // The status of a job changes, so no earlier response takes the place of this one.
        let parts = RequestParts { slice: Some(&slice), is_repeated: true, ..RequestParts::default() };
        requester.send_raw(run, &parts).await
    }

    /// Stops a job. The stream does not depend on whether that succeeds.
    async fn abort(&self, run: &Run<'_>, slice: &Slice, job: &Job) {
        if let (Some(abort), Some(created)) = (&self.abort, &job.created) {
            let _ = self.ask(abort, run, slice, created).await;
        }
    }

    /// Deletes a job whose records were read. A host that only reads does not send the request; the source then deletes the
    /// job itself.
    pub(super) async fn remove(&self, run: &Run<'_>, job: &FinishedJob) -> Result<(), Failed> {
        let Some(delete) = &self.delete else { return Ok(()) };
        let created = Response::new(Arc::clone(&job.created), run.bounds)?;
        match self.ask(delete, run, &job.slice, &created).await {
            Err(failed) if failed.host_error.is_none() => Err(failed),
            _ => Ok(()),
        }
    }
}

async fn pause(run: &Run<'_>, wait: Duration) -> Result<(), Failed> {
    run.host.pause_for(wait, PauseReason::Job).await.map_err(Failed::host)
}

fn no_response(internal: &str) -> Failed {
    let message = "Something went wrong in the connector. See the logs for more details.";
    Failed::system(TRACED, message).with(|it| it.internal = Some(internal.to_owned()))
}

fn exhausted(slice: &Slice, job: &Job) -> Failed {
    let status = job.status.as_str();
    let id = Value::str(job.id.as_str()).repr();
    Failed::system(TRACED, "Async job failed after exhausting all retry attempts.").with(|it| {
        it.internal = Some(format!(
            "At least one job could not be completed for slice {}. Job statuses were: {{{id}: <AsyncJobStatus.{status}: \
             ('{status}', True)>}}. See warning logs for more information.",
            slice.value.repr()
        ));
    })
}

/// Returns the slice with its job in place of its extra fields.
fn finished(slice: &Slice, created: &Response, polled: &Response) -> Result<Slice, Failed> {
    let dict = |value: &Value| value.as_dict().cloned().unwrap_or_default();
    let mut done = Slice::new(dict(&slice.partition), dict(&slice.cursor_slice), pair("jobs", Value::List(Vec::new())))?;
    let job = FinishedJob { slice: slice.clone(), created: created.received(), polled: polled.received() };
    done.job = Some(Arc::new(job));
    Ok(done)
}
