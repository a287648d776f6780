//! What a slicer adds to the requests of its slices (`requesters/request_options`, and `get_request_*` of the routers).

use super::router::Router;
use crate::context::EvalContext;
use crate::error::Failed;
use crate::interpolation::InterpolatedString;
use crate::node::{parameters, set_field, text};
use crate::request::option::{OptionPlace, RequestOption};
use crate::slice::Slice;
use crate::value::{Dict, Value};
use std::sync::Arc;

/// The request options that the slices of a stream add.
#[derive(Clone, Default)]
pub struct SlicerOptions {
    pub router: Option<Arc<Router>>,
    pub interval: Option<Arc<IntervalOptions>>,
}

impl SlicerOptions {
    /// Returns the options for `place`: first those of the router, then those of the cursor.
    ///
    /// # Errors
    /// Fails if a template fails.
    pub fn options(&self, place: OptionPlace, slice: &Slice, at: &EvalContext<'_>) -> Result<Dict, Failed> {
        let mut options = match &self.router {
            Some(router) => router.options(place, slice, at)?,
            None => Dict::default(),
        };
        if let Some(interval) = &self.interval {
            options.extend(interval.options(place, slice, at)?);
        }
        Ok(options)
    }
}

/// The start and the end of a slice as request options (`datetime_based_request_options_provider.py`).
pub struct IntervalOptions {
    start: Option<RequestOption>,
    end: Option<RequestOption>,
    start_field: InterpolatedString,
    end_field: InterpolatedString,
}

impl IntervalOptions {
    /// Builds the options. As in the CDK, the field names use the parameters of `stream`, and the options use those of
    /// the cursor.
    ///
    /// # Errors
    /// Fails with ValueError if an option has no name.
    pub fn build(cursor: &Value, stream: &Value) -> Result<IntervalOptions, Failed> {
        let option = |key: &str| set_field(cursor, key).map(|it| RequestOption::build(it, parameters(cursor))).transpose();
        let name = |key: &str, default: &str| {
            let text = text(cursor, key).filter(|it| !it.is_empty()).unwrap_or(default);
            InterpolatedString::new(text, parameters(stream))
        };
        if crate::node::kind(cursor) == "IncrementingCountCursor" {
            let start_field = InterpolatedString::new("start", &Value::None);
            return Ok(IntervalOptions {
                start: option("start_value_option")?,
                end: None,
                end_field: start_field.clone(),
                start_field,
            });
        }
        Ok(IntervalOptions {
            start: option("start_time_option")?,
            end: option("end_time_option")?,
            start_field: name("partition_field_start", "start_time"),
            end_field: name("partition_field_end", "end_time"),
        })
    }

    fn options(&self, place: OptionPlace, slice: &Slice, at: &EvalContext<'_>) -> Result<Dict, Failed> {
        let mut options = Dict::default();
        if !slice.cursor_slice.truthy() {
            return Ok(options);
        }
        let scope = at.scope(Vec::new());
        for (option, name) in [(&self.start, &self.start_field), (&self.end, &self.end_field)] {
            if let Some(option) = option.as_ref().filter(|it| it.place == place) {
                let value = slice.cursor_slice.get(&name.eval_str(&scope)?).cloned().unwrap_or_default();
                option.inject(&mut options, value, &scope)?;
            }
        }
        Ok(options)
    }
}
