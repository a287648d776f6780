//! Tests over whole texts and real files.

mod folder;
mod many;
mod properties;
mod secrets;
mod wire;
