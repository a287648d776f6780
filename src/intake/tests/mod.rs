//! Tests over whole texts and real files.

mod folder;
mod hints;
mod many;
mod mounts;
mod normalize;
mod properties;
mod reread;
mod secrets;
mod wire;
