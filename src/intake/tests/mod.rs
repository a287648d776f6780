//! Tests over whole texts and real files.

mod wire;
