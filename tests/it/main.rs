//! AAM from outside: the built binary over real sockets and files, engines against servers that
//! AAM did not write. `scripts/with_peers.sh` starts those.

mod daemon_folder;
mod daemon_peers;
mod daemon_support;
mod exec_summary;
mod object_faults;
mod object_peers;
mod object_wire;
mod openapi_peers;
mod openapi_support;
mod session_support;
mod sql_peers;
