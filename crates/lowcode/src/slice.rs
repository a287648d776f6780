//! One slice of a stream: the part of the stream for which a request is made.

use crate::error::Failed;
use crate::host::HostResponse;
use crate::value::{Dict, Value};
use std::sync::Arc;

/// A slice: the partition of a router, combined with the interval of a cursor.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// The partition from a router, for example `{"id": 3, "parent_slice": {}}`.
    pub partition: Value,
    /// The interval from a cursor, for example `{"start_time": ..., "end_time": ...}`.
    pub cursor_slice: Value,
    /// Fields of the parent record, available to templates as `stream_slice.extra_fields`.
    pub extra_fields: Value,
    /// The partition and the cursor slice in one dict, available to templates as `stream_slice`.
    pub value: Value,
    /// The response that is embedded in the record of a lazy parent. It replaces the response to the first request.
    pub child_response: Option<Value>,
    /// The job in which the source prepared the records of the slice.
    pub job: Option<Arc<FinishedJob>>,
}

/// A job that is complete.
#[derive(Debug)]
pub struct FinishedJob {
    /// The slice for which the job was made.
    pub slice: Slice,
    /// The response that made the job.
    pub created: Arc<HostResponse>,
    /// The response that said that the job is complete.
    pub polled: Arc<HostResponse>,
}

impl Slice {
    /// Returns the slice of a stream that is not divided into slices.
    #[must_use]
    pub fn empty() -> Slice {
        let none = || Value::Dict(Dict::default());
        Slice { partition: none(), cursor_slice: none(), extra_fields: none(), value: none(), child_response: None, job: None }
    }

    /// # Errors
    /// Fails if a key occurs in both the partition and the cursor slice.
    pub fn new(partition: Dict, cursor_slice: Dict, extra_fields: Dict) -> Result<Slice, Failed> {
        let mut value = partition.clone();
        for (key, item) in &cursor_slice {
            if value.insert(key.clone(), item.clone()).is_some() {
                return Err(Failed::system("ValueError", "Keys for partition and incremental sync cursor should not overlap"));
            }
        }
        Ok(Slice {
            partition: Value::Dict(partition),
            cursor_slice: Value::Dict(cursor_slice),
            extra_fields: Value::Dict(extra_fields),
            value: Value::Dict(value),
            child_response: None,
            job: None,
        })
    }

    /// Adds `stream_slice` and its attributes to the variables of a template.
    pub fn add_to<'a>(&'a self, vars: &mut Vec<(&'a str, &'a Value)>) {
        // Enough for these four and for those that most callers add.
        vars.reserve(6);
        vars.push(("stream_slice", &self.value));
        vars.push(("stream_slice.partition", &self.partition));
        vars.push(("stream_slice.cursor_slice", &self.cursor_slice));
        vars.push(("stream_slice.extra_fields", &self.extra_fields));
    }

    /// Implements Python's `bool(slice)`.
    #[must_use]
    pub fn truthy(&self) -> bool {
        self.value.truthy() || self.extra_fields.truthy()
    }
}
