//! Tests over real sockets, files and servers.

mod object_faults;
mod object_peers;
mod object_wire;
