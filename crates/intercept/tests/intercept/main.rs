//! Real clients and hand-written bytes against the proxy, over real sockets. The upstream is a function of the test,
//! so nothing leaves this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

mod bounds;
mod curl;
mod harness;
mod python;
mod raw;
