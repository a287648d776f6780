//! AAM.
pub mod connectors;
pub mod credentials;
pub mod egress;
pub mod intake;
pub mod model;
pub mod policy;
