//! AAM from outside: the built binary over real sockets and files, engines against servers that
//! AAM did not write. `scripts/with_peers.sh` starts those.

mod daemon_api;
mod daemon_browser;
mod daemon_demo;
mod daemon_disk;
mod daemon_faults;
mod daemon_folder;
mod daemon_hangs;
mod daemon_hostile;
mod daemon_peers;
mod daemon_races;
mod daemon_support;
mod daemon_texts;
mod daemon_trust;
mod daemon_vendor;
mod exec_summary;
mod lowcode_command;
mod lowcode_hostile;
mod lowcode_live;
mod lowcode_shop;
mod object_faults;
mod object_peers;
mod object_wire;
mod openapi_peers;
mod openapi_support;
mod saas_daemon;
mod saas_engine;
mod saas_hostile;
mod saas_prism;
mod saas_support;
mod session_support;
mod sql_peers;
