//! Decoders: the records of a body (`declarative/decoders/`).

pub mod inflate;
pub mod json;
