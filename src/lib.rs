//! AAM.
pub mod clock;
pub mod connectors;
pub mod credentials;
pub mod egress;
pub mod funnel;
pub mod intake;
pub mod model;
pub mod policy;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod server;
pub mod world;
