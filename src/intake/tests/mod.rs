//! Tests over whole texts and real files.

mod folder;
mod wire;
