//! Tests over whole texts and real files.

mod folder;
mod glance;
mod many;
mod properties;
mod secrets;
mod wire;
