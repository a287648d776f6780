//! The names under which AAM keeps a source in a workspace.

use crate::model::{ConnectionId, Digest};

/// The longest part of a resource id in a name, in characters.
const MAX_RESOURCE_CHARS: usize = 60;

/// Returns the name of the source of one resource: `AAM okta acme.okta.com (CONNECTION, installation MARK)`. It is the same at
/// each attempt. Two resources of one connection never have the same name, and neither have two installations of AAM.
#[must_use]
pub fn source_name(family: &str, resource_id: &str, connection: ConnectionId, mark: &str) -> String {
    format!("{} ({connection}, installation {mark})", start(family, resource_id))
}

/// Returns the name that earlier versions of AAM gave: `AAM okta acme.okta.com (CONNECTION)`.
#[must_use]
pub fn earlier_name(family: &str, resource_id: &str, connection: ConnectionId) -> String {
    format!("{} ({connection})", start(family, resource_id))
}

fn start(family: &str, resource_id: &str) -> String {
    let printable: String = resource_id.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown = if printable == resource_id && printable.chars().count() <= MAX_RESOURCE_CHARS {
        printable
    } else {
        let cut: String = printable.chars().take(MAX_RESOURCE_CHARS).collect();
        format!("{cut} #{}", Digest::from_bytes(resource_id.as_bytes()).short())
    };
    format!("AAM {family} {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_carries_the_connection_and_differs_for_each_resource_and_installation() {
        let id = ConnectionId::derive("autonomy", "okta", &["acme.okta.com".to_string()]);
        let name = |mark| source_name("okta", "acme.okta.com", id, mark);
        assert_eq!(name("3f9c"), format!("AAM okta acme.okta.com ({id}, installation 3f9c)"));
        assert_ne!(name("3f9c"), name("3f9d"));
        assert_eq!(earlier_name("okta", "acme.okta.com", id), format!("AAM okta acme.okta.com ({id})"));
        let long = "a".repeat(90);
        let (one, other) =
            (source_name("s3", &format!("{long}1"), id, "3f9c"), source_name("s3", &format!("{long}2"), id, "3f9c"));
        assert!(one != other && one.chars().count() < 160, "{one}");
        assert!(!source_name("s3", "a\nb", id, "3f9c").contains('\n'));
    }
}
