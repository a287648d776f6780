//! AAM.
pub mod clock;
pub mod connectors;
pub mod credentials;
pub mod egress;
pub mod model;
pub mod policy;
