//! The limits on what one command may use. Everything that a manifest or a server can make large is bounded.

use std::time::Duration;

/// The limits of one command. A command that reaches a limit ends with an error, never with an incomplete result.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The maximum size of the manifest's text, in bytes.
    pub manifest_bytes: usize,
    /// The maximum number of values in the manifest after `$ref` is resolved. A part that is referenced several times counts
    /// once, unless parameters change it in each place.
    pub manifest_values: usize,
    /// The maximum nesting depth of the manifest, of an expression in a template, and of a response.
    pub depth: usize,
    /// The maximum number of streams, including those that dynamic streams generate.
    pub streams: usize,
    /// The maximum number of records of one stream.
    pub records: usize,
    /// The maximum number of slices of one stream.
    pub slices: usize,
    /// The maximum number of records of a parent stream that become slices.
    pub parent_records: usize,
    /// The maximum number of pages of one slice.
    pub pages: usize,
    /// The maximum number of HTTP requests of one command, including those for tokens and parent streams.
    pub calls: usize,
    /// The maximum size of one decoded body (after gzip or zip), in bytes.
    pub body_bytes: usize,
    /// The maximum size of all bodies of one command together, in bytes.
    pub total_bytes: usize,
    /// The maximum number of steps of one template evaluation. Each visited node and each produced item counts as a step.
    pub template_steps: u64,
    /// The maximum size of what one template evaluation may produce, in bytes.
    pub template_bytes: usize,
    /// The maximum duration of the whole command.
    pub time: Duration,
    /// Whether a text of the source stays a text in a request: one segment of a path, one value of a query or a body. The CDK
    /// evaluates it as a template and as a literal.
    pub plain_texts: bool,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            manifest_bytes: 8 << 20,
            manifest_values: 2_000_000,
            depth: 100,
            streams: 2_000,
            records: 20,
            slices: 20,
            parent_records: 20,
            pages: 20,
            calls: 200,
            body_bytes: 16 << 20,
            total_bytes: 64 << 20,
            template_steps: 50_000,
            template_bytes: 1 << 20,
            time: Duration::from_secs(60),
            plain_texts: false,
        }
    }
}
