//! Egress over real sockets: servers on 127.0.0.1 that answer from a script, a clock and a resolver of
//! the test's own.

mod budgets;
mod http;
mod network;
mod posts;
mod rig;
mod tls;
