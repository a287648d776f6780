//! The sandbox over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

mod access;
mod assertions;
mod binary;
mod chance;
mod dpop;
mod files;
mod fuzz;
mod moods;
mod oauth1;
mod paging;
mod proxy;
mod support;
mod tokens;
