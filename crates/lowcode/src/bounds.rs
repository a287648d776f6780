//! What a command may cost. Everything that a manifest or a server can make large has a bound.

use std::time::Duration;

/// The bounds of one command. A command that reaches one ends with an error, never with a wrong result.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Bytes of the manifest's text.
    pub manifest_bytes: usize,
    /// Values of the manifest after `$ref` was resolved.
    pub manifest_values: usize,
    /// Nesting of the manifest, of a template's expression and of a response.
    pub depth: usize,
    /// Streams after dynamic streams were made.
    pub streams: usize,
    /// Records of one stream.
    pub records: usize,
    /// Slices of one stream.
    pub slices: usize,
    /// Records of a parent stream that become slices.
    pub parent_records: usize,
    /// Pages of one slice.
    pub pages: usize,
    /// Calls of one command, token calls and parents included.
    pub calls: usize,
    /// Bytes of one decoded body (after gzip or zip).
    pub body_bytes: usize,
    /// Bytes of all bodies of one command.
    pub total_bytes: usize,
    /// Steps of one template evaluation: one for each node visited and each item made.
    pub template_steps: u64,
    /// Bytes of what one template evaluation may make.
    pub template_bytes: usize,
    /// The whole command.
    pub time: Duration,
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
        }
    }
}
