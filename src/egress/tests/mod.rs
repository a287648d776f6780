//! Tests of egress over real sockets. Servers on 127.0.0.1 respond from a script, and the clock and the resolver are
//! fakes.

mod budgets;
mod gate;
mod http;
mod network;
mod posts;
pub(super) mod rig;
mod shares;
mod signing;
mod tls;
