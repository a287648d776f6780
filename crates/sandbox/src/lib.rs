//! Plays vendors on loopback from the files of `sandbox/`. `docs/sandbox.md` describes the files.

mod access;
pub mod assertions;
pub mod calls;
pub mod config;
pub mod dpop;
mod exchange;
pub mod jwt;
pub mod kept;
pub mod keys;
pub mod lists;
pub mod minted;
pub mod moods;
pub mod oauth1;
pub mod pattern;
pub mod reply;
pub mod request;
mod respond;
pub mod sandbox;
pub mod server;
pub mod signature;
pub mod state;
pub mod template;
pub mod tls;
mod tokens;
pub mod yaml;
