//! The section `registry`.

use super::super::RegistryPolicy;
use super::super::read::{Fields, Reader};
use super::{evidence, section};

/// Reads the section.
pub fn registry(r: &mut Reader, fields: &Fields<'_>) -> RegistryPolicy {
    let Some(fields) = section(r, fields, "registry", &["keep"]) else {
        return RegistryPolicy::default();
    };
    RegistryPolicy { keep: r.optional(&fields, "keep", evidence::days) }
}
