//! Tests of egress over real sockets. Servers on 127.0.0.1 respond from a script, and the clock and the resolver are
//! fakes.

mod budgets;
mod http;
mod network;
mod posts;
mod rig;
mod signing;
mod tls;
