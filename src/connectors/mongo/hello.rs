//! What a server says about itself in the handshake (specification "Server Discovery and Monitoring" of the MongoDB drivers).

use super::reply::integer;
use super::uri::{Member, member};
use crate::credentials::redact;
use bson::RawDocument;

/// Limit on the members of a replica set that are read.
const MAX_MEMBERS: usize = 50;
/// Limit on the mechanisms of a user that are read.
const MAX_MECHANISMS: usize = 16;
/// Limit on the name of a replica set, in characters.
const MAX_SET_NAME_CHARS: usize = 128;

/// The part of a server in its deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Standalone,
    /// `mongos`, the router of a sharded cluster.
    Router,
    LoadBalancer,
    Primary,
    Secondary,
    Arbiter,
    /// A member that cannot be read now, for example while it starts or recovers, or that is hidden.
    Unreadable,
    /// A server that was started as a member of a replica set which was not initiated.
    Uninitialized,
}

impl Role {
    /// The name that appears in evidence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Standalone => "standalone",
            Role::Router => "router",
            Role::LoadBalancer => "load balancer",
            Role::Primary => "primary",
            Role::Secondary => "secondary",
            Role::Arbiter => "arbiter",
            Role::Unreadable => "unreadable member",
            Role::Uninitialized => "member of a replica set that was not initiated",
        }
    }
}

/// The response to the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub role: Role,
    pub set_name: Option<String>,
    /// The members that can hold data, as the server announces them.
    pub members: Vec<Member>,
    /// The highest version of the protocol that the server speaks.
    pub max_wire_version: i64,
    /// The mechanisms of the user that was asked for. `None` if the server does not know the user, or does not say.
    pub mechanisms: Option<Vec<String>>,
}

impl Hello {
    /// Reads the response. `load_balanced` says that the handshake announced a load balancer.
    ///
    /// # Errors
    /// A server behind a load balancer that does not confirm it: reads could then reach different servers.
    pub fn parse(document: &RawDocument, load_balanced: bool) -> Result<Hello, &'static str> {
        let yes = |name: &str| document.get_bool(name).unwrap_or(false);
        let text = |name: &str| document.get_str(name).ok().map(str::to_string);
        let set_name = text("setName").filter(|name| !name.is_empty());
        let is_primary = yes("isWritablePrimary") || yes("ismaster");
        let role = if load_balanced {
            if document.get_object_id("serviceId").is_err() {
                return Err("the server does not answer as one behind a load balancer (serviceId is missing)");
            }
            Role::LoadBalancer
        } else if document.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
            Role::Router
        } else if yes("isreplicaset") {
            Role::Uninitialized
        } else if set_name.is_none() {
            Role::Standalone
        } else if yes("hidden") {
            Role::Unreadable
        } else if is_primary {
            Role::Primary
        } else if yes("secondary") {
            Role::Secondary
        } else if yes("arbiterOnly") {
            Role::Arbiter
        } else {
            Role::Unreadable
        };
        let mechanisms = document.get_array("saslSupportedMechs").ok().map(|names| {
            let names = names.into_iter().take(MAX_MECHANISMS).filter_map(|name| name.ok()?.as_str());
            names.map(str::to_string).collect()
        });
        Ok(Hello {
            role,
            set_name: set_name.map(|name| match name.len() <= MAX_SET_NAME_CHARS {
                true => name,
                false => redact::scrub_and_cut(&name, MAX_SET_NAME_CHARS),
            }),
            members: members(document),
            max_wire_version: integer(document, "maxWireVersion").unwrap_or(0),
            mechanisms,
        })
    }
}

/// Hosts and passive members hold data; arbiters do not.
fn members(document: &RawDocument) -> Vec<Member> {
    let mut found: Vec<Member> = Vec::new();
    for list in ["hosts", "passives"] {
        let Ok(names) = document.get_array(list) else { continue };
        for name in names.into_iter().take(MAX_MEMBERS) {
            let parsed = name.ok().and_then(|name| member(name.as_str()?, "").ok());
            found.extend(parsed.filter(|member| !found.contains(member)));
        }
    }
    found.truncate(MAX_MEMBERS);
    found
}

/// The first version of MongoDB with this version of the protocol (specification "Wire Version" of the drivers).
#[must_use]
pub fn version(max_wire_version: i64) -> &'static str {
    match max_wire_version {
        i64::MIN..=5 => "before 3.6",
        6 => "3.6",
        7 => "4.0",
        8 => "4.2",
        9..=12 => "4.4",
        13 => "5.0",
        14..=16 => "5.1 to 5.3",
        17 => "6.0",
        18..=20 => "6.1 to 6.3",
        21 => "7.0",
        22..=24 => "7.1 to 7.3",
        25 => "8.0",
        _ => "8.1 or later",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::oid::ObjectId;
    use bson::rawdoc;

    #[test]
    fn every_role_is_recognized() {
        for (document, role) in [
            (rawdoc! {"ismaster": true}, Role::Standalone),
            (rawdoc! {"isWritablePrimary": true, "msg": "isdbgrid"}, Role::Router),
            (rawdoc! {"isWritablePrimary": true, "setName": "rs0"}, Role::Primary),
            (rawdoc! {"secondary": true, "setName": "rs0"}, Role::Secondary),
            (rawdoc! {"secondary": true, "setName": "rs0", "hidden": true}, Role::Unreadable),
            (rawdoc! {"arbiterOnly": true, "setName": "rs0"}, Role::Arbiter),
            (rawdoc! {"setName": "rs0"}, Role::Unreadable),
            (rawdoc! {"isreplicaset": true}, Role::Uninitialized),
        ] {
            assert_eq!(Hello::parse(&document, false).unwrap().role, role, "{document:?}");
        }
        let behind = rawdoc! {"isWritablePrimary": true, "msg": "isdbgrid", "serviceId": ObjectId::from_bytes([1; 12])};
        assert_eq!(Hello::parse(&behind, true).unwrap().role, Role::LoadBalancer);
        assert!(Hello::parse(&rawdoc! {"msg": "isdbgrid"}, true).is_err());
    }

    #[test]
    fn members_and_mechanisms_are_read() {
        let document = rawdoc! {
            "setName": "rs0", "secondary": true, "maxWireVersion": 21,
            "hosts": ["A.example:27017", "b.example:27018", "b.example:27018", "no host at all", 7],
            "passives": ["c.example"], "arbiters": ["d.example:27017"], "saslSupportedMechs": ["SCRAM-SHA-1", "SCRAM-SHA-256"],
        };
        let hello = Hello::parse(&document, false).unwrap();
        let names: Vec<String> = hello.members.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.example:27017", "b.example:27018", "c.example:27017"]);
        assert_eq!(hello.mechanisms.unwrap(), ["SCRAM-SHA-1", "SCRAM-SHA-256"]);
        assert_eq!(version(hello.max_wire_version), "7.0");
    }
}
