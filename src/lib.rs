//! AAM.
pub mod cli;
pub mod clock;
pub mod connectors;
pub mod credentials;
pub mod daemon;
pub mod egress;
pub mod funnel;
pub mod intake;
pub mod model;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod telemetry;
pub mod world;
