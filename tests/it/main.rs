//! Scenario tests against real servers and files.

mod sql_peers;
