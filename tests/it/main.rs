//! Tests that meet software which AAM did not write. `scripts/peers/*.sh` start it.

mod openapi_peers;
mod openapi_support;
