//! The `lowcode` engine: families whose source is a manifest of Airbyte's, over the egress of one attempt.
//!
//! The form of such a family is [`form`]. The way of an attempt: [`address`] (resource id -> base address and
//! parts) -> the interpreter with a host of ours -> [`identity`] -> [`privilege`]. What an answer that is no
//! data means is said by [`errors`], what a vendor's budget leaves by [`limits`].

pub mod address;
pub mod errors;
pub mod form;
pub mod host;
pub mod identity;
pub mod limits;
pub mod privilege;
pub mod spec;
